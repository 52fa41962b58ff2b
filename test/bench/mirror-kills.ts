/**
 * `npm run mirror-kills [-- SECONDS]`: a link into a cluster and a copy from cron, under kill -9 of every daemon and of the copies, and
 * with a network that is cut (test/support/mirror-kill.ts); 300 seconds without a number. The result goes to
 * test/bench/MIRROR-KILLS.md. Needs etcd.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runMirrorKills } from '../support/mirror-kill.ts'
import { repository } from '../support/program.ts'

const wanted = Number(process.argv[2] ?? 300)
const result = await runMirrorKills(wanted, (line) => process.stdout.write(`${line}\n`))
const { kills, copies, records, seconds, differences } = result
const verdict = differences === '' ? 'verify clean, the group went on' : differences
const row = `| ${wanted} s | ${kills.source} | ${kills.cluster} | ${kills.copyTarget} | ${kills.copy} | ${kills.cuts} | ${copies} | ${records} | ${Math.round(seconds)} s | ${verdict} |`
process.stdout.write(`${row}\n`)
if (differences !== '') process.exitCode = 1
const text = [
  '# Last run of `npm run mirror-kills`',
  '',
  `${new Date().toISOString().slice(0, 10)}, Node ${process.version}. One source behind a relay that is cut; \`stream mirror link\` into a cluster of three (etcd), and \`stream mirror\` run again and again into a daemon. Plain records, transactions, and transactions that never end; SIGKILL at random moments.`,
  '',
  '| trouble | source killed | cluster daemons killed | copy target killed | copies killed | network cut | copies run | records | time | in the end |',
  '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
  row,
  '',
].join('\n')
writeFileSync(join(repository, 'test/bench/MIRROR-KILLS.md'), text)
