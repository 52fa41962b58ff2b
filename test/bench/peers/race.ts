/** Takes the figures: contenders in turn, memory warmed before each, failures kept as failures of one row. */
import { spawn, spawnSync } from 'node:child_process'
import { nodeBinary, type Scratch, settleDisk, warmMemory } from '../harness.ts'
import type { Contender, MemoryContender, StartUpContender } from './contender.ts'
import { descendants, peakMegabytes } from './server.ts'

const lineLimitMs = 180_000

/** Wall time and standard output of a bash line. @throws Error with what a failing line printed */
export function timeLine(line: string, scratch: Scratch): { ms: number; stdout: string } {
  const begin = process.hrtime.bigint()
  const result = spawnSync('bash', ['-o', 'pipefail', '-c', line], {
    env: scratch.environment,
    cwd: scratch.directory,
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 26,
    timeout: lineLimitMs,
  })
  const ms = Number(process.hrtime.bigint() - begin) / 1e6
  if (result.status !== 0)
    throw new Error(
      `exit ${result.status ?? result.signal}: ${line}: ${result.stderr.toString().trim().slice(-500)}`,
    )
  return { ms, stdout: result.stdout.toString() }
}

let isInterrupted = false

/** From now on a signal ends the run at the next contender, so that all servers are stopped. */
export function stopOnSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      isInterrupted = true
    })
}

/** @throws Error after a signal */
export async function goOn(): Promise<void> {
  // Signals are delivered between turns of the event loop.
  await new Promise((resolve) => setImmediate(resolve))
  if (isInterrupted) throw new Error('interrupted')
}

export interface Raced<T> {
  readonly contender: T
  /** Records a second of each round. */
  readonly rates: readonly number[]
  readonly records: number
  /** Why it has no figures. */
  readonly failure?: string
}

/** `rounds` of each, in turn; with `warmUp` one before them that does not count. */
export async function race(
  contenders: readonly Contender[],
  options: { readonly rounds: number; readonly warmUp: boolean; readonly warmBytes: number },
): Promise<Raced<Contender>[]> {
  const states = contenders.map((contender) => ({
    contender,
    rates: [] as number[],
    records: 0,
    failure: undefined as string | undefined,
  }))
  for (let round = options.warmUp ? -1 : 0; round < options.rounds; round++)
    for (const state of states) {
      if (state.failure !== undefined) continue
      await goOn()
      const { contender } = state
      try {
        await contender.prepare?.(round)
        settleDisk()
        warmMemory(options.warmBytes)
        const { ms, records } = await contender.run(round)
        await contender.check?.(round)
        state.records = records
        const rate = (records / ms) * 1e3
        if (round >= 0) state.rates.push(rate)
        report(`${contender.name}, ${contender.flush}: ${(rate / 1e6).toFixed(3)} M rec/s`)
      } catch (error) {
        state.failure = firstLine(error)
        report(`${contender.name}, ${contender.flush}: ${String(error)}`)
      }
    }
  return states.map(({ failure, ...state }) =>
    failure === undefined ? state : { ...state, failure },
  )
}

export interface StartUp {
  readonly contender: StartUpContender
  readonly ms: readonly number[]
  readonly failure?: string
}

/** From fork to exit, each command `rounds` times, in turn; an empty Node script is the first of them. */
export function raceStartUp(
  contenders: readonly StartUpContender[],
  options: { readonly rounds: number; readonly scratch: Scratch },
): StartUp[] {
  const all: StartUpContender[] = [
    { name: '`node -e 0`', command: nodeBinary, args: ['-e', '0'], input: '' },
    ...contenders,
  ]
  const states = all.map((contender) => ({
    contender,
    ms: [] as number[],
    failure: undefined as string | undefined,
  }))
  for (let round = -1; round < options.rounds; round++)
    for (const state of states) {
      if (state.failure !== undefined) continue
      const { command, args, input } = state.contender
      const begin = process.hrtime.bigint()
      const result = spawnSync(command, args, {
        env: options.scratch.environment,
        cwd: options.scratch.directory,
        input,
        timeout: lineLimitMs,
      })
      const ms = Number(process.hrtime.bigint() - begin) / 1e6
      if (result.status !== 0) state.failure = firstLine(result.error ?? result.stderr)
      else if (round >= 0) state.ms.push(ms)
    }
  return states.map(({ failure, ...state }) =>
    failure === undefined ? state : { ...state, failure },
  )
}

export interface Memory {
  readonly name: string
  readonly megabytes: number
  readonly failure?: string
}

/** Most resident memory of the commands of a line, looked at every 10 ms: the peak as the kernel keeps it. */
export async function measureMemory(contender: MemoryContender, scratch: Scratch): Promise<Memory> {
  const child = spawn('bash', ['-o', 'pipefail', '-c', contender.line], {
    env: scratch.environment,
    cwd: scratch.directory,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString()
  })
  let most = 0
  const timer = setInterval(() => {
    for (const { pid, name } of descendants(child.pid ?? 0))
      if (name !== 'cat' && name !== 'bash') most = Math.max(most, peakMegabytes(pid))
  }, 10)
  const status = await new Promise((resolve) => child.once('close', resolve))
  clearInterval(timer)
  return status === 0
    ? { name: contender.name, megabytes: most }
    : { name: contender.name, megabytes: 0, failure: firstLine(errors) }
}

/** A word of progress on standard error, with the seconds since the run began. */
export function report(line: string): void {
  process.stderr.write(`bench: ${(performance.now() / 1e3).toFixed(0)} s: ${line.trim()}\n`)
}

export function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  // No path of the machine it ran on: the table stands in the repository.
  const [line = ''] = text.trim().replaceAll(`${process.cwd()}/`, '').split('\n')
  return line.replaceAll('|', '\\|').slice(0, 200) || 'failed without a word'
}
