/**
 * `stream pipe` with jq under kill -9 of the daemon, of the command, of its child, at random and again and again, until all has
 * gone through: the output must be exactly the filtered input, in order per partition.
 */
import { type ChildProcess, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { ended, type Program } from './program.ts'

export interface KillPlan {
  readonly records: number
  /** Stops killing after so many, so that the run ends. */
  readonly killsMax: number
  readonly pauseMs: { readonly min: number; readonly max: number }
  readonly partitions: number
  readonly barrier: 'exit' | 'line'
  readonly epoch: string
}

export interface KillResult {
  readonly kills: { daemon: number; command: number; child: number }
  readonly runs: number
  readonly seconds: number
  /** What is wrong with the output; empty: nothing. */
  readonly differences: string
  readonly expected: number
}

export async function runUnderKills(program: Program, plan: KillPlan): Promise<KillResult> {
  const startMs = performance.now()
  const { records, partitions, barrier, epoch } = plan
  program.ok('stream daemon start')
  program.ok(`stream topics create in out --partitions ${partitions}`)
  program.ok(
    `seq ${records} | sed 's/.*/{"n":&,"t":"some more text that makes it longer"}/' | stream produce in --batch-size 16KiB`,
    { timeoutMs: 300_000 },
  )
  const select = 'select(.n % 3 > 0)'
  const words =
    barrier === 'exit' ? ['jq', '-c', select] : ['sed', '-u', 's/^{"n":[0-9]*[369],.*$//']
  const kills = { daemon: 0, command: 0, child: 0 }
  let over = false
  let runs = 0
  let command: ChildProcess | undefined
  let errors = ''
  const running = (async () => {
    for (;;) {
      runs += 1
      command = program.start(program.stream, [
        'pipe',
        '--in',
        'in',
        '--out',
        'out',
        '-j',
        'killed',
        '--until-end',
        '--from',
        'start',
        '--same-partition',
        '--epoch',
        epoch,
        '--barrier',
        barrier,
        '--retry',
        '1000,10ms..100ms',
        '--grace',
        '1s',
        '-q',
        '--',
        ...words,
      ])
      command.stdin?.end()
      command.stderr?.on('data', (chunk: Buffer) => {
        errors += chunk.toString()
      })
      const status = await ended(command)
      if (status === 0) break
      if (
        status !== 137 &&
        !/UNREACHABLE|no broker|not start|CONNECTION|no answer|cannot lock/.test(errors)
      ) {
        throw new Error(`exit ${status}: ${errors}`)
      }
      errors = ''
    }
    over = true
  })()
  running.catch(() => {
    over = true
  })
  while (!over && kills.daemon + kills.command + kills.child < plan.killsMax) {
    const { min, max } = plan.pauseMs
    await new Promise((resolve) => setTimeout(resolve, min + Math.random() * (max - min)))
    const chance = Math.random()
    if (chance < 0.25) {
      const shown = program.shell('STREAM_AUTOSTART=0 stream daemon status --json')
      if (shown.status === 0) {
        kill((JSON.parse(shown.stdout) as { pid: number }).pid)
        kills.daemon += 1
      }
      program.shell('stream daemon start')
    } else if (chance < 0.6) {
      if (command?.pid !== undefined && command.exitCode === null && kill(command.pid)) {
        kills.command += 1
      }
    } else if (command?.pid !== undefined) {
      for (let look = 0; look < 50; look += 1) {
        const child = childrenOf(command.pid)[0]
        if (child !== undefined && kill(child)) {
          kills.child += 1
          break
        }
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
  }
  await running
  let differences = ''
  for (let partition = 0; partition < partitions; partition += 1) {
    const input = `stream cat in -p ${partition} | ${barrier === 'exit' ? `jq -c '${select}'` : 'grep -v \'^{"n":[0-9]*[369],\''}`
    const compared = spawnSync(
      'bash',
      ['-c', `cmp <(${input}) <(stream cat out -p ${partition}) 2>&1`],
      { cwd: program.directory, env: program.environment, encoding: 'utf8' },
    )
    if (compared.status !== 0) differences += `partition ${partition}: ${compared.stdout}`
  }
  const expected = Number(program.ok('stream cat out | wc -l', { timeoutMs: 300_000 }))
  const seconds = (performance.now() - startMs) / 1000
  return { kills, runs, seconds, differences, expected }
}

function kill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL')
    return true
  } catch {
    return false
  }
}

function childrenOf(parent: number): number[] {
  const found: number[] = []
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (Number(fields[1]) === parent && fields[0] !== 'Z') found.push(Number(name))
    } catch {
      // It has ended meanwhile.
    }
  }
  return found
}
