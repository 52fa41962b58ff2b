/**
 * `npm run pipe-kills [-- RECORDS]`: `stream pipe` under kill -9 of the daemon, of the command and of its child, a million records
 * without a number. The result goes to test/bench/PIPE-KILLS.md.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runUnderKills } from '../support/pipe-kill.ts'
import { Program, repository } from '../support/program.ts'

const records = Number(process.argv[2] ?? 1_000_000)
const lines: string[] = []
for (const [barrier, epoch] of [
  ['exit', '2000,1MiB,100ms'],
  ['line', '2000,1MiB,100ms'],
] as const) {
  const program = new Program()
  try {
    const result = await runUnderKills(program, {
      records,
      killsMax: 10_000,
      pauseMs: { min: 100, max: 1200 },
      partitions: 4,
      barrier,
      epoch,
    })
    const { kills, runs, seconds, differences, expected } = result
    const verdict = differences === '' ? 'exactly the filtered input, in order' : differences
    lines.push(
      `| ${barrier} | ${records} | ${kills.daemon} | ${kills.command} | ${kills.child} | ${runs} | ${expected} | ${Math.round(seconds)} s | ${verdict} |`,
    )
    process.stdout.write(`${lines.at(-1)}\n`)
    if (differences !== '') process.exitCode = 1
  } finally {
    program.stop()
  }
}
const head = [
  '# Last run of `npm run pipe-kills`',
  '',
  `${new Date().toISOString().slice(0, 10)}, Node ${process.version}. \`stream pipe --in in --out out -j killed --same-partition\` with a filter, killed by SIGKILL at random moments and started again until it exits 0.`,
  '',
  '| barrier | records | daemon killed | command killed | child killed | runs | records out | time | output |',
  '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
]
writeFileSync(join(repository, 'test/bench/PIPE-KILLS.md'), `${[...head, ...lines].join('\n')}\n`)
