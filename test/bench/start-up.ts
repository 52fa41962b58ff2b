/** How long a command takes from fork to exit, against an empty Node script in the same loop. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeScratch, median, nodeBinary, type Row, run } from './harness.ts'

export function benchStartUp(options: { readonly rounds: number }): Row[] {
  const scratch = makeScratch()
  try {
    const empty = join(scratch.directory, 'empty.cjs')
    writeFileSync(empty, '')
    run('stream topics create start', scratch)
    const contenders: [string, string, string[], string | undefined][] = [
      ['node empty.cjs', nodeBinary, [empty], undefined],
      ['echo x | stream produce t', 'stream', ['produce', 'start'], 'x\n'],
      ['stream --help', 'stream', ['--help'], undefined],
    ]
    const results = new Map<string, number[]>(contenders.map(([name]) => [name, []]))
    for (let round = -3; round < options.rounds; round++) {
      for (const [name, command, args, input] of contenders) {
        const begin = process.hrtime.bigint()
        const result = spawnSync(command, args, {
          env: scratch.environment,
          ...(input === undefined ? { stdio: 'ignore' as const } : { input }),
        })
        const ms = Number(process.hrtime.bigint() - begin) / 1e6
        if (result.status !== 0) throw new Error(`${name} failed: ${result.stderr?.toString()}`)
        if (round >= 0) results.get(name)?.push(ms)
      }
    }
    const base = median(results.get('node empty.cjs') ?? [])
    const rows: Row[] = [
      {
        measure: 'node empty.cjs',
        value: `${base.toFixed(1)} ms`,
        must: '',
        aim: '',
        holds: undefined,
      },
    ]
    for (const [name] of contenders.slice(1)) {
      const over = median(
        (results.get(name) ?? []).map(
          (ms, index) => ms - (results.get('node empty.cjs')?.[index] ?? 0),
        ),
      )
      rows.push({
        measure: `${name.replace('|', '\\|')}, over it`,
        value: `+${over.toFixed(1)} ms`,
        must: '+15 ms',
        aim: '+6 ms',
        holds: over <= 15,
      })
    }
    return rows
  } finally {
    scratch.stop()
  }
}
