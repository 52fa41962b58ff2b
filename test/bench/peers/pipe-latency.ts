/** One line at a time into a producer's pipe, timed until it comes out of a consumer's pipe. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { quantile, type Scratch } from '../harness.ts'
import type { LatencyContender } from './contender.ts'
import { firstLine, goOn, report } from './race.ts'

type Piped = ChildProcessByStdio<Writable, Readable, null>

export interface Latency {
  readonly contender: LatencyContender
  /** Milliseconds, one of each round. */
  readonly p50: readonly number[]
  readonly p99: readonly number[]
  readonly failure?: string
}

export interface LatencyOptions {
  readonly lines: number
  readonly lineBytes: number
  readonly rounds: number
  readonly scratch: Scratch
}

export async function raceLatency(
  contenders: readonly LatencyContender[],
  options: LatencyOptions,
): Promise<Latency[]> {
  const states = contenders.map((contender) => ({
    contender,
    p50: [] as number[],
    p99: [] as number[],
    failure: undefined as string | undefined,
  }))
  for (let round = 0; round < options.rounds; round++)
    for (const state of states) {
      if (state.failure !== undefined) continue
      await goOn()
      const { contender } = state
      try {
        await contender.prepare?.()
        const samples = await roundTrips(contender, options)
        state.p50.push(quantile(samples, 0.5))
        state.p99.push(quantile(samples, 0.99))
        report(
          `${contender.name}, ${contender.flush}: p50 ${state.p50.at(-1)?.toFixed(2)} ms, p99 ${state.p99.at(-1)?.toFixed(2)} ms`,
        )
      } catch (error) {
        state.failure = firstLine(error)
        report(`${contender.name}: ${String(error)}`)
      }
    }
  return states.map(({ failure, ...state }) =>
    failure === undefined ? state : { ...state, failure },
  )
}

async function roundTrips(
  contender: LatencyContender,
  options: LatencyOptions,
): Promise<readonly number[]> {
  const begin = ({ command, args }: LatencyContender['producer']): Piped =>
    spawn(command, args, {
      env: options.scratch.environment,
      cwd: options.scratch.directory,
      stdio: ['pipe', 'pipe', 'ignore'],
    })
  const producer = begin(contender.producer)
  const consumer = begin(contender.consumer)
  // What a tool prints for itself (prompts, delivery reports) must not fill its pipe.
  producer.stdout.resume()
  producer.stdin.on('error', () => {})
  const failed = new Promise<never>((_, reject) => {
    for (const [what, child] of [
      ['producer', producer],
      ['consumer', consumer],
    ] as const) {
      child.once('error', reject)
      child.once('exit', (code, signal) =>
        reject(new Error(`the ${what} ended early (${code ?? signal})`)),
      )
    }
  })
  failed.catch(() => {})
  const arrivals = new Arrivals(consumer.stdout)
  try {
    return await Promise.race([failed, samplesOf(producer, arrivals, options), tooLong()])
  } finally {
    for (const child of [producer, consumer]) {
      if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
        const gone = once(child, 'close')
        child.kill('SIGKILL')
        await gone
      }
    }
  }
}

async function samplesOf(
  producer: Piped,
  arrivals: Arrivals,
  options: LatencyOptions,
): Promise<number[]> {
  // The consumer starts at the end of the topic: a first line is repeated until it is seen.
  let attempts = 0
  for (;;) {
    const seen = arrivals.wait('hello')
    producer.stdin.write(`hello-${attempts++}\n`)
    const isSeen = await Promise.race([seen.then(() => true), pause(100).then(() => false)])
    if (isSeen) break
  }
  await pause(500)
  const samples: number[] = []
  for (let index = 0; index < options.lines; index++) {
    // Ends in a mark of its own, so that a late first line is not taken for it.
    const mark = `<${index}>\n`
    const line = `${'x'.repeat(options.lineBytes - mark.length)}${mark}`
    const arrived = arrivals.wait(mark)
    const begin = process.hrtime.bigint()
    producer.stdin.write(line)
    await arrived
    samples.push(Number(process.hrtime.bigint() - begin) / 1e6)
  }
  // The first tenth warms up both processes.
  return samples.slice(Math.floor(samples.length / 10))
}

/** Resolves a wait when its text has come by. */
class Arrivals {
  #wanted = ''
  #tail = ''
  #resolve: (() => void) | undefined

  constructor(source: Readable) {
    source.on('data', (chunk: Buffer) => {
      this.#tail += chunk.toString('latin1')
      if (this.#resolve !== undefined && this.#tail.includes(this.#wanted)) {
        this.#tail = ''
        this.#resolve()
        this.#resolve = undefined
      } else if (this.#tail.length > 100_000) this.#tail = this.#tail.slice(-5000)
    })
  }

  wait(text: string): Promise<void> {
    this.#wanted = text
    return new Promise((resolve) => {
      this.#resolve = resolve
    })
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

function tooLong(): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error('no end after 45 s')), 45_000).unref()
  })
}
