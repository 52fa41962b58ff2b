/**
 * What all benchmark cases share: payload files, warm memory, timed shell pipelines in turn, medians, one table.
 *
 * Only ratios taken in the same minute mean anything on a shared machine, so every case runs its contenders in turn
 * (A B C A B C …), each preceded by touching fresh memory (the host takes free pages back) and quotes medians.
 */
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, openSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { Program } from '../support/program.ts'

export { repository } from '../support/program.ts'
export const nodeBinary = process.execPath

export interface Scratch {
  readonly directory: string
  readonly environment: NodeJS.ProcessEnv
  stop(): void
}

/** A scratch home with `stream` on PATH; its daemon starts itself and is stopped with `stop`. */
export function makeScratch(): Scratch {
  const base = process.env['STREAM_BENCH_DIR']
  return new Program(base === undefined ? {} : { base })
}

/** A file of `megabytes` × 10^6 bytes of JSON lines of `lineBytes` each, newline included. */
export function makePayload(
  directory: string,
  options: { megabytes: number; lineBytes: number },
): string {
  const path = join(directory, `payload-${options.lineBytes}-${options.megabytes}.ndjson`)
  const lines = Math.floor((options.megabytes * 1e6) / options.lineBytes)
  const file = openSync(path, 'w')
  let block: string[] = []
  for (let index = 0; index < lines; index++) {
    const head = `{"id":"user-${index % 10_007}","n":${index},"status":${200 + (index % 5)},"path":"/a/b/${index % 977}","pad":"`
    const tail = '"}\n'
    const pad = Math.max(0, options.lineBytes - head.length - tail.length)
    let filler = ''
    for (let seed = index * 2654435761; filler.length < pad; seed = (seed * 48271) % 2147483647)
      filler += (seed >>> 0).toString(36)
    block.push(head + filler.slice(0, pad) + tail)
    if (block.length === 20_000) {
      writeSync(file, block.join(''))
      block = []
    }
  }
  if (block.length > 0) writeSync(file, block.join(''))
  closeSync(file)
  return path
}

/** What others have left unwritten would be written while the next waits for its own syncs. */
export function settleDisk(): void {
  const { status } = spawnSync('sync')
  if (status !== 0) throw new Error('sync failed')
}

/** Takes memory (1.2 GB), touches it and gives it back, so that what is timed next finds pages at hand. */
export function warmMemory(bytes = 1.2e9): void {
  spawnSync(nodeBinary, [
    '-e',
    `for(let i=0;i<${Math.ceil(bytes / 1e8)};i++){const b=Buffer.alloc(1e8,1);globalThis["b"+i]=b}`,
  ])
}

export interface Timed {
  readonly ms: number
}

/** Runs a bash line and returns its wall time; a line that fails stops the benchmark with what it printed. */
export function time(line: string, scratch: Scratch): number {
  const start = process.hrtime.bigint()
  const result = spawnSync('bash', ['-o', 'pipefail', '-c', line], {
    env: scratch.environment,
    cwd: scratch.directory,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ms = Number(process.hrtime.bigint() - start) / 1e6
  if (result.status !== 0)
    throw new Error(
      `benchmark line failed (${result.status ?? result.signal}): ${line}\n${result.stderr.toString()}`,
    )
  return ms
}

export function run(line: string, scratch: Scratch): string {
  const result = spawnSync('bash', ['-o', 'pipefail', '-c', line], {
    env: scratch.environment,
    cwd: scratch.directory,
    maxBuffer: 1 << 28,
  })
  if (result.status !== 0)
    throw new Error(
      `line failed (${result.status ?? result.signal}): ${line}\n${result.stderr.toString()}`,
    )
  return result.stdout.toString()
}

export function start(command: string, args: readonly string[], scratch: Scratch) {
  return spawn(command, args, {
    env: scratch.environment,
    cwd: scratch.directory,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * q
  const low = sorted[Math.floor(at)] ?? Number.NaN
  const high = sorted[Math.ceil(at)] ?? Number.NaN
  return low + (high - low) * (at - Math.floor(at))
}

export interface Contender {
  readonly name: string
  /** Not timed, before each round. */
  prepare?(round: number): void
  /** The bash line that is timed. */
  line(round: number): string
  /** Not timed, after each round: checks that the work was really done. */
  check?(round: number): void
}

/** Wall milliseconds per contender, `rounds` each, run in turn. */
export function race(
  scratch: Scratch,
  contenders: readonly Contender[],
  rounds: number,
): Map<string, number[]> {
  const results = new Map<string, number[]>(contenders.map((contender) => [contender.name, []]))
  for (let round = -1; round < rounds; round++) {
    for (const contender of contenders) {
      contender.prepare?.(round)
      settleDisk()
      warmMemory()
      const ms = time(contender.line(round), scratch)
      contender.check?.(round)
      // Round -1 warms up files, code and the daemon.
      if (round >= 0) results.get(contender.name)?.push(ms)
    }
  }
  return results
}

export interface Row {
  readonly measure: string
  readonly value: string
  readonly must: string
  readonly aim: string
  /** undefined: information only. */
  readonly holds: boolean | undefined
}

export function fileBytes(path: string): number {
  return statSync(path).size
}

/** The median of the pairwise ratios, which shared slow minutes cancel out of. */
export function medianRatio(numerator: readonly number[], denominator: readonly number[]): number {
  return median(numerator.map((value, index) => value / (denominator[index] ?? Number.NaN)))
}
