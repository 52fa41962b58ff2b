/** The cases of `stream bench`: each drives the client as the commands do, on a topic of its own. */

import { StreamError } from '../src/base/errors.ts'
import type { ProducerOptions } from '../src/client/producer.ts'
import { sleep } from '../src/ports/time.ts'
import { LineDecoder } from '../src/record/line-decoder.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import type { Rate } from '../src/text/units.ts'
import type { ClusterClient, ConsumerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { LatencyHistogram } from './latency-histogram.ts'
import { Pacer } from './pacer.ts'

export interface BenchPlan {
  readonly topic: string
  readonly records: number
  /** Of a value, without its newline. */
  readonly sizeBytes: number
  readonly partitions: number
  readonly rate: Rate | undefined
  /** As the settings have them. */
  readonly producer: ProducerOptions
  /** Whether somebody asked to stop. */
  readonly isStopped: () => boolean
  /** Called as records are done, with how many more. */
  readonly onProgress: (records: number, bytes: number) => void
}

export interface BenchResult {
  readonly records: number
  readonly elapsedMs: number
  /** Empty where a case has no latencies. */
  readonly latencies: LatencyHistogram
}

const CHUNK_BYTES = 64 * 1024
const NEWLINE = 10
/** How soon a wish to stop is noticed. */
const POLL_MS = 100
/** Without a record for so long something is wrong. */
const IDLE_MS_MAX = 30_000
/** Digits of a time in microseconds, at the beginning of a value. */
const STAMP_DIGITS = 16
export const LATENCY_BYTES_MIN = STAMP_DIGITS

/** Lines as a pipe would bring them; latency is from a line's append to its acknowledgement. */
export async function benchProduce(
  deps: CommandDeps,
  cluster: ClusterClient,
  plan: BenchPlan,
): Promise<BenchResult> {
  const { time } = deps
  const latencies = new LatencyHistogram()
  const appends = new AppendTimes()
  const producer = await deps.clients.producer(cluster, {
    ...plan.producer,
    onDelivery: ({ firstOrdinal, recordCount, error }) => {
      if (error !== undefined) return
      latencies.add(time.monotonicMs() - appends.timeOf(firstOrdinal), recordCount)
      plan.onProgress(recordCount, recordCount * plan.sizeBytes)
    },
  })
  try {
    await producer.prepare(plan.topic)
    const lineBytes = plan.sizeBytes + 1
    const chunk = makeLines(deps, plan)
    const pacer = plan.rate === undefined ? undefined : new Pacer(time, plan.rate)
    const startMs = time.monotonicMs()
    while (producer.appendedCount < plan.records && !plan.isStopped()) {
      const left = (plan.records - producer.appendedCount) * lineBytes
      const before = producer.appendedCount
      appends.add(before, time.monotonicMs())
      producer.appendLines(plan.topic, undefined, chunk, 0, Math.min(chunk.length, left))
      pacer?.take(producer.appendedCount - before, (producer.appendedCount - before) * lineBytes)
      if (producer.isFull) await producer.writable()
      if (producer.failure !== undefined) throw producer.failure
      const waitMs = pacer?.waitMs ?? 0
      if (waitMs > 0) {
        producer.flushSoon()
        await sleep(time, waitMs)
      }
    }
    await producer.flush()
    return {
      records: producer.deliveredThrough(),
      elapsedMs: time.monotonicMs() - startMs,
      latencies,
    }
  } finally {
    producer.close()
  }
}

/** Everything that is in the topic, decoded to lines as `consume` prints them. */
export async function benchConsume(
  deps: CommandDeps,
  cluster: ClusterClient,
  plan: BenchPlan,
): Promise<BenchResult> {
  const { time } = deps
  const ends = await deps.clients.listOffsets(cluster, partitionsOf(plan, 'latest'))
  const consumer = await deps.clients.consumer(cluster, {})
  try {
    const startMs = time.monotonicMs()
    consumer.assign(
      ends.map(({ topic, partition, offset }) => ({
        topic,
        partition,
        startOffset: 0,
        endOffset: offset,
      })),
    )
    let records = 0
    const out = new OutputBuffer()
    await readAll(consumer, plan, out, (count) => {
      records += count
      plan.onProgress(count, count * plan.sizeBytes)
      return true
    })
    return { records, elapsedMs: time.monotonicMs() - startMs, latencies: new LatencyHistogram() }
  } finally {
    consumer.close()
  }
}

/**
 * One process writes records at a steady rate and reads them back; latency is from append to the reader having it.
 * @param reader  connections of its own: on one of Kafka's a Produce would wait behind the Fetch that waits for it
 */
export async function benchLatency(
  deps: CommandDeps,
  cluster: ClusterClient,
  reader: ClusterClient,
  plan: BenchPlan & { readonly rate: Rate },
): Promise<BenchResult> {
  const { time } = deps
  const latencies = new LatencyHistogram()
  const ends = await deps.clients.listOffsets(cluster, partitionsOf(plan, 'latest'))
  const consumer = await deps.clients.consumer(reader, {})
  const producer = await deps.clients.producer(cluster, { ...plan.producer, lingerMs: 0 })
  try {
    consumer.assign(
      ends.map(({ topic, partition, offset }) => ({ topic, partition, startOffset: offset })),
    )
    await producer.prepare(plan.topic)
    const startMs = time.monotonicMs()
    let sent = 0
    let received = 0
    let isSending = true
    let readFailure: unknown
    const out = new OutputBuffer()
    const reading = readAll(consumer, plan, out, (count) => {
      const nowUs = time.monotonicMs() * 1000
      const lineBytes = plan.sizeBytes + 1
      for (let at = 0; at < count; at += 1) {
        latencies.add((nowUs - stampAt(out.bytes, at * lineBytes)) / 1000)
      }
      received += count
      plan.onProgress(count, count * plan.sizeBytes)
      return isSending || received < sent
    }).catch((error: unknown) => {
      readFailure = error
    })
    const value = makeLines(deps, plan).subarray(0, plan.sizeBytes)
    const pacer = new Pacer(time, plan.rate)
    while (sent < plan.records && !plan.isStopped()) {
      putStamp(value, time.monotonicMs() * 1000)
      const record = { value: { bytes: value, start: 0, end: value.length } }
      // The stamp stays: a record that waits for room is late.
      while (!producer.append(plan.topic, sent % plan.partitions, record)) await producer.writable()
      sent += 1
      pacer.take(1, plan.sizeBytes + 1)
      if (producer.failure !== undefined) throw producer.failure
      if (readFailure !== undefined) throw readFailure
      if (pacer.waitMs > 0) await sleep(time, pacer.waitMs)
    }
    await producer.flush()
    isSending = false
    if (received < sent) await reading
    if (readFailure !== undefined) throw readFailure
    return { records: received, elapsedMs: time.monotonicMs() - startMs, latencies }
  } finally {
    producer.close()
    consumer.close()
  }
}

function partitionsOf(plan: BenchPlan, at: 'latest') {
  return Array.from({ length: plan.partitions }, (_, partition) => ({
    topic: plan.topic,
    partition,
    at,
  }))
}

/** Decodes events into `out`, from its beginning, until the consumer is done or `onRecords` says no. */
async function readAll(
  consumer: ConsumerClient,
  plan: BenchPlan,
  out: OutputBuffer,
  onRecords: (count: number) => boolean,
): Promise<void> {
  const decoder = new LineDecoder()
  let idleMs = 0
  while (!consumer.isDone && !plan.isStopped()) {
    const event = consumer.poll()
    if (event === undefined) {
      idleMs = (await consumer.wait(POLL_MS)) ? 0 : idleMs + POLL_MS
      if (idleMs < IDLE_MS_MAX) continue
      throw new StreamError('TIMED_OUT', `no record for ${IDLE_MS_MAX} ms`, { target: plan.topic })
    }
    if (event.kind === 'failed') throw event.error
    if (event.kind !== 'records') continue
    for (const at of event.batches) {
      out.length = 0
      const count = decoder.decode(
        event.bytes,
        at,
        { fromOffset: event.fromOffset, endOffset: event.untilOffset },
        out,
      )
      if (count > 0 && !onRecords(count)) return
    }
  }
}

/** Letters without pattern, so that a codec finds nothing that real data would not have. */
function makeLines(deps: CommandDeps, { sizeBytes }: BenchPlan): Uint8Array {
  const lineBytes = sizeBytes + 1
  const count = Math.max(1, Math.floor(CHUNK_BYTES / lineBytes))
  const lines = new Uint8Array(deps.random.bytes(count * lineBytes))
  for (const [at, byte] of lines.entries()) lines[at] = 97 + (byte % 26)
  for (let line = 1; line <= count; line += 1) lines[line * lineBytes - 1] = NEWLINE
  return lines
}

function putStamp(bytes: Uint8Array, us: number): void {
  let rest = Math.floor(us)
  for (let at = STAMP_DIGITS - 1; at >= 0; at -= 1) {
    bytes[at] = 48 + (rest % 10)
    rest = Math.floor(rest / 10)
  }
}

function stampAt(bytes: Uint8Array, start: number): number {
  let us = 0
  for (let at = start; at < start + STAMP_DIGITS; at += 1) us = us * 10 + (bytes[at] ?? 48) - 48
  return us
}

/** When records were appended, by their ordinals; acknowledged ones are forgotten as they are asked for. */
class AppendTimes {
  readonly #ordinals: number[] = []
  readonly #timesMs: number[] = []

  add(firstOrdinal: number, timeMs: number): void {
    this.#ordinals.push(firstOrdinal)
    this.#timesMs.push(timeMs)
  }

  timeOf(ordinal: number): number {
    let low = 0
    let high = this.#ordinals.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if ((this.#ordinals[middle] ?? 0) <= ordinal) low = middle
      else high = middle - 1
    }
    return this.#timesMs[low] ?? 0
  }
}
