/**
 * `produce` inside of `stream txn`: its records go into batches as always, and the batches into a file, from which the
 * transaction takes them when the whole pipeline has ended well.
 *
 * The spool is a sequence of: uint32 number of the topic · int32 partition · one record batch v2, which tells its length.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { ProducerOptions } from '../src/client/producer.ts'
import type { ByteOutput } from '../src/ports/stdio.ts'
import { BatchBuilder, type RecordInput } from '../src/record/batch-builder.ts'
import type { Broker } from './broker.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { QueuedOutput } from './queued-output.ts'
import { refuseFlags, TxnClient } from './txn-client.ts'

export const SPOOL_HEAD_BYTES = 8
const BATCH_BYTES = 1000 * 1024
const BUFFER_BYTES_MAX = 64 * 1024 * 1024
/** The one who spools says so often how much it is. */
const GROWTH_BYTES = 1024 * 1024

const ownEnds = ['atomic', 'txn-per-file', 'resume', 'receipts', 'expect-offset']

/** @throws UsageError, StreamError */
export async function openSpool(
  deps: CommandDeps,
  flags: Flags,
  broker: Broker,
  address: string,
  options: ProducerOptions,
): Promise<SpoolProducer> {
  const client = new TxnClient(deps, address)
  try {
    return await openWith(client, deps, flags, broker, options)
  } catch (error) {
    client.close()
    throw error
  }
}

async function openWith(
  client: TxnClient,
  deps: CommandDeps,
  flags: Flags,
  broker: Broker,
  options: ProducerOptions,
): Promise<SpoolProducer> {
  const acks = flags.text('acks')
  const isWeak = acks !== undefined && acks !== 'all'
  await refuseFlags(client, flags, isWeak ? [...ownEnds, 'acks'] : ownEnds)
  // Who is asked for topics tells the id of the cluster too.
  await broker.cluster.describeTopics([])
  const cluster = broker.cluster.metadata.clusterId ?? ''
  const { spool } = await client.call({ kind: 'produce', cluster })
  // It looks topics up and chooses partitions; nothing is sent by it.
  const lookup = await deps.clients.producer(broker.cluster, { ...options, acks: 1 })
  const output = new QueuedOutput(openSpoolFile(deps, spool))
  // It is open at both ends now, and loses its name.
  await client.call({ kind: 'grew', bytes: 0 })
  return new SpoolProducer(deps, client, lookup, output, options)
}

/** It was made by the transaction, which takes it away again at its end: made anew it would stay for ever. */
function openSpoolFile({ stdio }: CommandDeps, path: string): ByteOutput {
  try {
    return stdio.openOutput(path, { append: true, mustExist: true })
  } catch (error) {
    if (!isStreamError(error, 'FILE_NOT_FOUND')) throw error
    throw new StreamError('CLOSED', 'the transaction has ended; nothing was committed')
  }
}

interface OpenBatch {
  readonly topic: string
  readonly partition: number
  readonly builder: BatchBuilder
}

export class SpoolProducer implements ProducerClient {
  appendedCount = 0
  consumedBytes = 0
  isFull = false
  failure: StreamError | undefined
  readonly #deps: CommandDeps
  readonly #client: TxnClient
  readonly #lookup: ProducerClient
  readonly #output: QueuedOutput
  readonly #options: ProducerOptions
  readonly #topics: string[] = []
  readonly #numbers = new Map<string, number>()
  readonly #sticky = new Map<string, number>()
  readonly #open = new Map<string, OpenBatch>()
  readonly #free: BatchBuilder[] = []
  readonly #batchBytes: number
  #bytes = 0
  #toldBytes = 0
  #spooledCount = 0

  constructor(
    deps: CommandDeps,
    client: TxnClient,
    lookup: ProducerClient,
    output: QueuedOutput,
    options: ProducerOptions,
  ) {
    this.#deps = deps
    this.#client = client
    this.#lookup = lookup
    this.#output = output
    this.#options = options
    this.#batchBytes = options.batchBytes ?? BATCH_BYTES
  }

  async prepare(topic: string): Promise<TopicInfo> {
    const info = await this.#lookup.prepare(topic)
    if (!this.#numbers.has(topic)) {
      this.#numbers.set(topic, this.#topics.length)
      this.#topics.push(topic)
      this.#sticky.set(topic, Math.floor(this.#deps.random.fraction() * info.partitions.length))
    }
    return info
  }

  partitionCount(topic: string): number {
    return this.#lookup.partitionCount(topic)
  }

  partitionForKey(topic: string, bytes: Uint8Array, start = 0, end = bytes.length): number {
    return this.#lookup.partitionForKey(topic, bytes, start, end)
  }

  appendLines(
    topic: string,
    partition: number | undefined,
    chunk: Uint8Array,
    start: number,
    end: number,
  ): number {
    this.consumedBytes = 0
    let at = start
    const delimiter = this.#options.delimiter ?? 10
    while (at < end && this.#hasRoom()) {
      const open = this.#batchOf(topic, partition)
      const before = open.builder.recordCount
      at += open.builder.appendLines(chunk, at, end, { delimiter })
      this.consumedBytes = at - start
      this.appendedCount += open.builder.recordCount - before
      if (!open.builder.isFull) break
      this.#emit(open)
    }
    return at - start
  }

  append(topic: string, partition: number | undefined, record: RecordInput): boolean {
    while (this.#hasRoom()) {
      const open = this.#batchOf(topic, partition)
      if (open.builder.append(record)) {
        this.appendedCount += 1
        return true
      }
      this.#emit(open)
    }
    return false
  }

  deliveredThrough(): number {
    return this.#spooledCount
  }

  /** A spool has no reader yet: nothing is gained by small batches. */
  flushSoon(): void {}

  async writable(): Promise<void> {
    await this.#output.drained()
    this.isFull = false
  }

  /** All is in the file. @throws StreamError OUTPUT_FAILED; what the transaction says to it */
  async flush(): Promise<void> {
    for (const open of [...this.#open.values()]) if (!open.builder.isEmpty) this.#emit(open)
    await this.#output.drained()
    await this.#tell()
    if (this.failure !== undefined) throw this.failure
    this.#spooledCount = this.appendedCount
  }

  /** The command has ended as it should. @throws StreamError CLOSED */
  async done(): Promise<void> {
    await this.#client.call({ kind: 'done', topics: this.#topics })
  }

  close(): void {
    this.#lookup.close()
    this.#client.close()
  }

  #hasRoom(): boolean {
    if (this.failure !== undefined) throw this.failure
    this.isFull = this.#output.isFull
    return !this.isFull
  }

  #batchOf(topic: string, wanted: number | undefined): OpenBatch {
    const partition = wanted ?? (this.#sticky.get(topic) ?? 0) % this.partitionCount(topic)
    const count = this.partitionCount(topic)
    if (partition >= count) {
      const target = `${topic} partition ${partition}`
      throw new StreamError('TOPIC_UNKNOWN', `${target}: no such partition`, { target })
    }
    const key = `${partition}/${topic}`
    const known = this.#open.get(key)
    if (known !== undefined) return known
    if (this.#free.length === 0 && (this.#open.size + 1) * this.#batchBytes > BUFFER_BYTES_MAX) {
      for (const other of [...this.#open.values()]) this.#emit(other)
    }
    const bytesMax = this.#options.recordBytesMax
    const builder =
      this.#free.pop() ??
      new BatchBuilder(this.#batchBytes, bytesMax === undefined ? {} : { bytesMax })
    builder.reset({ timestampMs: this.#deps.time.wallMs() })
    const open = { topic, partition, builder }
    this.#open.set(key, open)
    return open
  }

  #emit(open: OpenBatch): void {
    const { builder, partition, topic } = open
    this.#open.delete(`${partition}/${topic}`)
    this.#free.push(builder)
    if (builder.isEmpty) return
    const level = this.#options.compressionLevel
    const codec = this.#options.codec ?? 'none'
    const batch = builder.finish({ codec, ...(level === undefined ? {} : { level }) })
    const head = Buffer.alloc(SPOOL_HEAD_BYTES)
    head.writeUInt32BE(this.#numbers.get(topic) ?? 0, 0)
    head.writeInt32BE(partition, 4)
    this.#output.write(head)
    this.#output.write(batch)
    this.#bytes += SPOOL_HEAD_BYTES + batch.length
    const count = this.partitionCount(topic)
    const step = count > 1 ? 1 + Math.floor(this.#deps.random.fraction() * (count - 1)) : 0
    if (this.#sticky.get(topic) === partition) this.#sticky.set(topic, (partition + step) % count)
    if (this.#bytes - this.#toldBytes >= GROWTH_BYTES) void this.#tell()
  }

  async #tell(): Promise<void> {
    this.#toldBytes = this.#bytes
    try {
      await this.#client.call({ kind: 'grew', bytes: this.#bytes })
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      this.failure ??= error
    }
  }
}
