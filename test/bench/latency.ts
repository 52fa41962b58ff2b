/**
 * One line at a time through `stream produce` and a following `stream consume`, both behind pipes, durable.
 *
 * The first lines of processes that have just started are slower: V8 compiles what has become hot in the background, and on two
 * cores a woken thread waits behind that for up to a tick of the scheduler. So the first lines and those of pipes that have run for
 * a while are rows of their own, and so are those after a rest, in which V8 likes to tidy up. What measures is warmed first, with
 * `cat` in the place of the product, and that figure is told too.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { makeScratch, median, quantile, type Row, run, type Scratch, start } from './harness.ts'

interface LatencyOptions {
  /** Of one round, from the start of both commands. */
  readonly firstLines: number
  readonly rounds: number
  /** After the last round, in the same processes: not counted, then counted. */
  readonly warmLines: number
  readonly steadyLines: number
  /** After that, once nothing has come for REST_MS. */
  readonly restedLines: number
}

/** Longer than V8 waits until it calls a process idle (8 s) and has collected its garbage twice. */
const REST_MS = 12_000

type Piped = ChildProcessByStdio<Writable, Readable, null>

export async function benchLatency(options: LatencyOptions): Promise<Row[]> {
  const scratch = makeScratch()
  try {
    run('stream topics create latency', scratch)
    const relay = await relayLatencies(options.warmLines)
    const first: number[][] = []
    let steady: number[] = []
    let rested: number[] = []
    for (let round = 0; round < options.rounds; round++) {
      const pipe = await openPipe(scratch)
      const samples = await pipe.measure(options.firstLines)
      first.push(samples.slice(Math.floor(samples.length / 10)))
      if (round === options.rounds - 1) {
        await pipe.measure(options.warmLines)
        steady = await pipe.measure(options.steadyLines)
        await new Promise((resolve) => setTimeout(resolve, REST_MS))
        rested = await pipe.measure(options.restedLines)
      }
      await pipe.close()
    }
    const of = (samples: readonly number[][], q: number) =>
      median(samples.map((round) => quantile(round, q)))
    return [
      {
        measure: '`cat` in the place of produce and consume, one line, p50 / p99',
        value: `${quantile(relay, 0.5).toFixed(2)} / ${quantile(relay, 0.99).toFixed(2)} ms`,
        must: '',
        aim: '',
        holds: undefined,
      },
      ...rowsOf('one line, pipe to pipe, durable', of([steady], 0.5), of([steady], 0.99)),
      {
        measure: `the same, ${options.restedLines} lines after a rest of ${REST_MS / 1e3} s, p50 / p99`,
        value: `${quantile(rested, 0.5).toFixed(2)} / ${quantile(rested, 0.99).toFixed(2)} ms`,
        must: '',
        aim: '',
        holds: undefined,
      },
      ...rowsOf(
        `the same, first ${options.firstLines} lines of new commands`,
        of(first, 0.5),
        of(first, 0.99),
      ),
    ]
  } finally {
    scratch.stop()
  }
}

function rowsOf(name: string, middle: number, tail: number): Row[] {
  return [
    {
      measure: `${name}, p50`,
      value: `${middle.toFixed(2)} ms`,
      must: '0.7 ms',
      aim: '0.4 ms',
      holds: middle <= 0.7,
    },
    {
      measure: `${name}, p99`,
      value: `${tail.toFixed(2)} ms`,
      must: '1.5 ms',
      aim: '0.8 ms',
      holds: tail <= 1.5,
    },
  ]
}

/** Milliseconds a line, from the write into one program to the read from the other. */
class LinePipe {
  readonly #input: Writable
  #pending = ''
  #arrived: (() => void) | undefined

  constructor(input: Writable, output: Readable) {
    this.#input = input
    output.on('data', (chunk: Buffer) => {
      this.#pending += chunk.toString('latin1')
      if (!this.#pending.endsWith('\n')) return
      this.#pending = ''
      this.#arrived?.()
    })
  }

  async measure(lines: number): Promise<number[]> {
    const samples: number[] = []
    for (let index = 0; index < lines; index++) {
      const begin = process.hrtime.bigint()
      await this.roundTrip(`line ${index} ${'x'.repeat(80)}\n`)
      samples.push(Number(process.hrtime.bigint() - begin) / 1e6)
    }
    return samples
  }

  roundTrip(line: string): Promise<void> {
    return new Promise((resolve) => {
      this.#arrived = resolve
      this.#input.write(line)
    })
  }
}

export interface OpenPipe {
  readonly producerPid: number
  readonly consumerPid: number
  /** Milliseconds of each line. */
  measure(lines: number): Promise<number[]>
  close(): Promise<void>
}

/** From `produce` to a following `consume` of the topic `latency`. */
export async function openPipe(scratch: Scratch): Promise<OpenPipe> {
  const producer = start('stream', ['produce', 'latency'], scratch)
  const consumer = start('stream', ['consume', 'latency'], scratch)
  const pipe = new LinePipe(producer.stdin, consumer.stdout)
  // The consumer starts at the end of the topic: a first line is repeated until one is seen.
  let seen = false
  while (!seen) {
    const first = pipe.roundTrip('hello\n').then(() => {
      seen = true
    })
    await Promise.race([first, new Promise((resolve) => setTimeout(resolve, 100))])
  }
  await new Promise((resolve) => setTimeout(resolve, 300))
  return {
    producerPid: producer.pid ?? 0,
    consumerPid: consumer.pid ?? 0,
    measure: (lines) => pipe.measure(lines),
    close: async () => {
      await ended(producer, () => producer.stdin.end())
      await ended(consumer, () => consumer.kill('SIGTERM'))
    },
  }
}

async function relayLatencies(lines: number): Promise<number[]> {
  const relay = spawn('cat', [], { stdio: ['pipe', 'pipe', 'inherit'] })
  const pipe = new LinePipe(relay.stdin, relay.stdout)
  await pipe.measure(lines)
  const samples = await pipe.measure(lines)
  await ended(relay, () => relay.stdin.end())
  return samples
}

async function ended(child: Piped, end: () => void): Promise<void> {
  const closed = new Promise((resolve) => child.once('close', resolve))
  end()
  await closed
}
