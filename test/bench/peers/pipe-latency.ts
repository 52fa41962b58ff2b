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
  /** Not counted, once, before the first round: all compile what is hot. Whoever needs longer than WARM_MS for them has had enough. */
  readonly warmLines: number
  readonly lineBytes: number
  readonly rounds: number
  readonly scratch: Scratch
}

const WARM_MS = 20_000
/** Of one round. */
const ROUND_MS_MAX = 45_000

interface State {
  readonly contender: LatencyContender
  readonly p50: number[]
  readonly p99: number[]
  session: Session | undefined
  failure: string | undefined
}

/** Each contender's pipe is opened and warmed once; then all are measured in turn, the others' standing by without work. */
export async function raceLatency(
  contenders: readonly LatencyContender[],
  options: LatencyOptions,
): Promise<Latency[]> {
  const states = contenders.map(
    (contender): State => ({ contender, p50: [], p99: [], session: undefined, failure: undefined }),
  )
  const each = async (run: (state: State) => Promise<void>): Promise<void> => {
    for (const state of states) {
      if (state.failure !== undefined) continue
      await goOn()
      try {
        await run(state)
      } catch (error) {
        state.failure = firstLine(error)
        report(`${state.contender.name}: ${String(error)}`)
      }
    }
  }
  try {
    await each(async (state) => {
      await state.contender.prepare?.()
      state.session = new Session(state.contender, options)
      await state.session.measure(options.warmLines, WARM_MS)
    })
    for (let round = 0; round < options.rounds; round++)
      await each(async ({ contender, session, p50, p99 }) => {
        const samples = (await session?.measure(options.lines, ROUND_MS_MAX)) ?? []
        if (samples.length < options.lines) throw new Error(`no end after ${ROUND_MS_MAX} ms`)
        p50.push(quantile(samples, 0.5))
        p99.push(quantile(samples, 0.99))
        report(
          `${contender.name}, ${contender.flush}: p50 ${p50.at(-1)?.toFixed(2)} ms, p99 ${p99.at(-1)?.toFixed(2)} ms`,
        )
      })
  } finally {
    for (const { session } of states) await session?.close()
  }
  return states.map(({ contender, p50, p99, failure }) =>
    failure === undefined ? { contender, p50, p99 } : { contender, p50, p99, failure },
  )
}

/** A producer and a consumer that run until the end. */
class Session {
  readonly #producer: Piped
  readonly #consumer: Piped
  readonly #arrivals: Arrivals
  readonly #lineBytes: number
  readonly #failed: Promise<never>
  #isReady = false
  #count = 0

  constructor(contender: LatencyContender, { scratch, lineBytes }: LatencyOptions) {
    const begin = ({ command, args }: LatencyContender['producer']): Piped =>
      spawn(command, args, {
        env: scratch.environment,
        cwd: scratch.directory,
        stdio: ['pipe', 'pipe', 'ignore'],
      })
    this.#lineBytes = lineBytes
    this.#producer = begin(contender.producer)
    this.#consumer = begin(contender.consumer)
    // What a tool prints for itself (prompts, delivery reports) must not fill its pipe.
    this.#producer.stdout.resume()
    this.#producer.stdin.on('error', () => {})
    this.#failed = new Promise<never>((_, reject) => {
      for (const [what, child] of [
        ['producer', this.#producer],
        ['consumer', this.#consumer],
      ] as const) {
        child.once('error', reject)
        child.once('exit', (code, signal) =>
          reject(new Error(`the ${what} ended early (${code ?? signal})`)),
        )
      }
    })
    this.#failed.catch(() => {})
    this.#arrivals = new Arrivals(this.#consumer.stdout)
  }

  /** Milliseconds of each line; fewer than `lines` when the time is over. @throws Error when one of the two has ended */
  measure(lines: number, msMax: number): Promise<number[]> {
    return Promise.race([this.#failed, this.#samples(lines, msMax)])
  }

  async close(): Promise<void> {
    for (const child of [this.#producer, this.#consumer]) {
      if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
        const gone = once(child, 'close')
        child.kill('SIGKILL')
        await gone
      }
    }
  }

  async #samples(lines: number, msMax: number): Promise<number[]> {
    const end = performance.now() + msMax
    await this.#begin(end)
    const samples: number[] = []
    while (samples.length < lines && performance.now() < end) {
      // Ends in a mark of its own, so that a late first line is not taken for it.
      const mark = `<${this.#count++}>\n`
      const line = `${'x'.repeat(this.#lineBytes - mark.length)}${mark}`
      const arrived = this.#arrivals.wait(mark)
      const begin = process.hrtime.bigint()
      this.#producer.stdin.write(line)
      if (!(await inTime(arrived, end))) break
      samples.push(Number(process.hrtime.bigint() - begin) / 1e6)
    }
    return samples
  }

  /** The consumer starts at the end of the topic: a first line is repeated until it is seen. */
  async #begin(end: number): Promise<void> {
    if (this.#isReady) return
    for (let attempt = 0; ; attempt++) {
      const seen = this.#arrivals.wait('hello')
      this.#producer.stdin.write(`hello-${attempt}\n`)
      if (await inTime(seen, performance.now() + 100)) break
      if (performance.now() > end) throw new Error('no line came through')
    }
    this.#isReady = true
    await pause(500)
  }
}

/** @returns whether it came before the time on performance's clock */
async function inTime(event: Promise<void>, end: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const over = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), Math.max(0, end - performance.now()))
  })
  const isThere = await Promise.race([event.then(() => true), over])
  clearTimeout(timer)
  return isThere
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
