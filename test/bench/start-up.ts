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
    // Through a shell, since what `spawnSync` gives as input is a socket, and users have a pipe.
    const contenders: [name: string, line: string][] = [
      ['echo x | node empty.cjs', `echo x | '${nodeBinary}' '${empty}'`],
      ['echo x | stream produce t', 'echo x | stream produce start'],
      ['stream topics list', 'echo x | stream topics list'],
      ['stream --help', 'echo x | stream --help'],
    ]
    const results = new Map<string, number[]>(contenders.map(([name]) => [name, []]))
    for (let round = -3; round < options.rounds; round++) {
      for (const [name, line] of contenders) {
        const begin = process.hrtime.bigint()
        const result = spawnSync('sh', ['-c', line], {
          env: scratch.environment,
          stdio: ['ignore', 'ignore', 'pipe'],
        })
        const ms = Number(process.hrtime.bigint() - begin) / 1e6
        if (result.status !== 0) throw new Error(`${name} failed: ${result.stderr.toString()}`)
        if (round >= 0) results.get(name)?.push(ms)
      }
    }
    const empties = results.get('echo x | node empty.cjs') ?? []
    const base = median(empties)
    const rows: Row[] = [
      {
        measure: 'echo x \\| node empty.cjs',
        value: `${base.toFixed(1)} ms`,
        must: '',
        aim: '',
        holds: undefined,
      },
    ]
    for (const [name] of contenders.slice(1)) {
      const over = median((results.get(name) ?? []).map((ms, index) => ms - (empties[index] ?? 0)))
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
