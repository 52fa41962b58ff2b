/**
 * `npm run bench [-- CASE…] [--quick] [--save]`: prints the table; --save also writes it to test/bench/RESULTS.md.
 * Cases: throughput, latency, start-up, memory, restart, pipe, groups; all without a name.
 */
import { writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { benchGroups } from './groups.ts'
import { type Row, repository } from './harness.ts'
import { benchLatency } from './latency.ts'
import { benchMemory } from './memory.ts'
import { benchPipe } from './pipe.ts'
import { benchRestart } from './restart.ts'
import { benchStartUp } from './start-up.ts'
import { benchThroughput } from './throughput.ts'

const names = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const quick = process.argv.includes('--quick')
const cases: Record<string, () => Row[] | Promise<Row[]>> = {
  throughput: () =>
    benchThroughput({
      megabytes: quick ? 100 : 300,
      longMegabytes: quick ? 300 : 1200,
      lineBytes: 100,
      rounds: quick ? 3 : 7,
    }),
  latency: () =>
    benchLatency({
      firstLines: quick ? 500 : 2000,
      rounds: quick ? 1 : 5,
      warmLines: quick ? 5000 : 30_000,
      steadyLines: quick ? 2000 : 10_000,
      restedLines: quick ? 500 : 2000,
    }),
  'start-up': () => benchStartUp({ rounds: quick ? 9 : 25 }),
  memory: () => benchMemory({ gigabytes: quick ? 1 : 10, lines: quick ? 20_000 : 200_000 }),
  pipe: () => benchPipe({ records: quick ? 300_000 : 1_000_000, rounds: quick ? 2 : 3 }),
  restart: () => benchRestart({ partitions: quick ? 100 : 1000, gigabytes: quick ? 0.5 : 10 }),
  groups: () => benchGroups({ members: 100, commits: quick ? 500 : 2000 }),
}
for (const name of names)
  if (!(name in cases))
    throw new Error(`no such case: ${name}; there are ${Object.keys(cases).join(', ')}`)

const rows: Row[] = []
for (const [name, measure] of Object.entries(cases)) {
  if (names.length > 0 && !names.includes(name)) continue
  process.stderr.write(`bench: ${name}\n`)
  rows.push(...(await measure()))
}
const mark = (holds: boolean | undefined) => (holds === undefined ? '' : holds ? 'yes' : '**no**')
const table = [
  '| measure | result | must | aim | holds |',
  '| --- | --- | --- | --- | --- |',
  ...rows.map(
    (row) => `| ${row.measure} | ${row.value} | ${row.must} | ${row.aim} | ${mark(row.holds)} |`,
  ),
].join('\n')
process.stdout.write(`${table}\n`)
if (process.argv.includes('--save')) {
  const command = [
    'npm run bench --',
    ...process.argv.slice(2).filter((argument) => argument !== '--save'),
  ].join(' ')
  writeFileSync(
    join(repository, 'test/bench/RESULTS.md'),
    `# Last benchmark\n\n${new Date().toISOString().slice(0, 10)}, \`${command}\`, ${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}.\nMedians; ratios are medians of the ratios of neighbouring runs. The machine is shared: absolute figures drift, ratios hold.\n\n${table}\n`,
  )
}
