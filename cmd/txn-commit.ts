/**
 * The one transaction of `stream txn`: all records of the spools, as the batches that they were made as, and the offsets of
 * all groups. It is open from its first batch to its commit, and no longer.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { DiskFile } from '../src/ports/disk.ts'
import { sleep } from '../src/ports/time.ts'
import { batchBytesAt, findBatchDefect, HEADER_BYTES } from '../src/record/batch-layout.ts'
import type { Broker } from './broker.ts'
import type { BatchProducerClient, TransactionClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { appendState, prepareState } from './stream-state.ts'
import type { TxnGroups } from './txn-groups.ts'
import { SPOOL_HEAD_BYTES } from './txn-produce.ts'
import type { TxnOffset } from './txn-protocol.ts'
import { type TxnState, txnPrefix } from './txn-state.ts'

const READ_BYTES = 4 * 1024 * 1024
/** A transaction is given the time that its bytes take at this speed, beyond the least. */
const BYTES_PER_MS = 2000
const TIMEOUT_MS_MIN = 60_000
const ABORT_MS_MAX = 5000

/** What a producer of the pipeline has left. */
export interface SpoolFile {
  readonly file: DiskFile
  /** By the numbers in the file. */
  readonly topics: readonly string[]
}

export interface TxnContent {
  readonly spools: readonly SpoolFile[]
  readonly offsets: ReadonlyMap<string, readonly TxnOffset[]>
  /** Of a run with a name of its own. */
  readonly state: { readonly name: string; readonly value: TxnState } | undefined
}

/** So long may a transaction be open that carries so many bytes. */
export function timeoutFor(bytes: number, timeoutMsMax: number): number {
  return Math.min(timeoutMsMax, TIMEOUT_MS_MIN + Math.ceil(bytes / BYTES_PER_MS))
}

/** The answer to the decision did not come: it may be either. */
export class OutcomeUnknown extends Error {
  override readonly name = 'OutcomeUnknown'
}

/**
 * @returns the records that were committed
 * @throws OutcomeUnknown; StreamError: nothing was committed
 */
export async function commitContent(
  deps: CommandDeps,
  broker: Broker,
  transaction: TransactionClient,
  groups: TxnGroups,
  content: TxnContent,
  deadlineMs: number,
): Promise<number> {
  const { time } = deps
  const producer = (await transaction.begin()) as BatchProducerClient
  try {
    for (const { file, topics } of content.spools) {
      for (const topic of topics) await producer.prepare(topic)
      await sendSpool(producer, file, topics)
    }
    const records = producer.appendedCount
    if (content.state !== undefined) {
      const { name, value } = content.state
      const prefix = txnPrefix(name)
      await prepareState(deps, broker, producer)
      while (!appendState(producer, prefix, prefix, value, time.wallMs())) await producer.writable()
    }
    await producer.flush()
    for (const [group, offsets] of content.offsets) {
      await groups.commit(transaction, group, offsets, deadlineMs)
    }
    await end(transaction)
    return records
  } catch (error) {
    if (error instanceof OutcomeUnknown) throw error
    // Where the broker is away the transaction's own time ends it, or the next run of the name.
    const abort = transaction.abort().catch(() => undefined)
    await Promise.race([abort, sleep(time, ABORT_MS_MAX)])
    throw error
  }
}

async function end(transaction: TransactionClient): Promise<void> {
  try {
    await transaction.commit()
  } catch (error) {
    const isUnknown =
      isStreamError(error, 'TIMED_OUT') ||
      isStreamError(error, 'CONNECTION_LOST') ||
      isStreamError(error, 'UNREACHABLE')
    if (isUnknown)
      throw new OutcomeUnknown('the outcome of a commit is not known', { cause: error })
    throw error
  }
}

async function sendSpool(
  producer: BatchProducerClient,
  file: DiskFile,
  topics: readonly string[],
): Promise<void> {
  const sizeBytes = file.sizeBytes()
  const head = new Uint8Array(SPOOL_HEAD_BYTES + HEADER_BYTES)
  for (let position = 0; position < sizeBytes; ) {
    // Fresh memory: a batch belongs to the producer until it is delivered.
    let block = new Uint8Array(Math.min(READ_BYTES, sizeBytes - position))
    let got = await file.readAsync(position, block)
    const first = wholeBytes(block, 0, got)
    if (first === undefined) {
      await file.readAsync(position, head)
      const bytes = SPOOL_HEAD_BYTES + batchBytesAt(head, SPOOL_HEAD_BYTES)
      if (bytes > sizeBytes - position) throw damaged(file)
      block = new Uint8Array(bytes)
      got = await file.readAsync(position, block)
    }
    let at = 0
    for (let next = wholeBytes(block, at, got); next !== undefined; ) {
      await sendBatch(producer, file, topics, block, at, next)
      at += next
      next = wholeBytes(block, at, got)
    }
    if (at === 0) throw damaged(file)
    position += at
  }
}

async function sendBatch(
  producer: BatchProducerClient,
  file: DiskFile,
  topics: readonly string[],
  block: Uint8Array,
  at: number,
  bytes: number,
): Promise<void> {
  const view = new DataView(block.buffer, block.byteOffset + at, SPOOL_HEAD_BYTES)
  const topic = topics[view.getUint32(0)]
  const partition = view.getInt32(4)
  const batch = block.subarray(at + SPOOL_HEAD_BYTES, at + bytes)
  if (topic === undefined || findBatchDefect(batch) !== undefined) throw damaged(file)
  while (!producer.appendBatch(topic, partition, batch)) await producer.writable()
}

/** Of the batch at `at` with its head; undefined: not all of it is there. */
function wholeBytes(block: Uint8Array, at: number, end: number): number | undefined {
  if (end - at < SPOOL_HEAD_BYTES + HEADER_BYTES) return undefined
  const bytes = SPOOL_HEAD_BYTES + batchBytesAt(block, at + SPOOL_HEAD_BYTES)
  return bytes <= end - at ? bytes : undefined
}

function damaged(file: DiskFile): StreamError {
  return new StreamError(
    'DATA_DAMAGED',
    `${file.path}: the spool has changed since it was written`,
    {
      target: file.path,
      hint: 'nothing was committed; run the transaction again',
    },
  )
}
