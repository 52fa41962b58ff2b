/**
 * What a transactional id may do next: the pure rules of replication.md section 9.2 and 9.3. A function of the id's state
 * and a request; it changes nothing. The coordinator (transaction-coordinator.ts) writes `next` to the log, applies it,
 * and answers when that is durable.
 *
 * Invariants:
 * - The decision is the Prepare state: from it only its own Complete state follows.
 * - With transaction version 2 every transaction has an epoch of its own: Prepare raises it, and the markers carry the
 *   raised one. A server that aborts (timeout, a new owner of the id) raises it at any version: the old owner is fenced.
 * - The epoch rises once for each transaction that ends (KAFKA-19367), and never beyond 32767.
 *
 * Source: Kafka TransactionState.java, TransactionMetadata, TransactionCoordinator.scala.
 */

import { assert } from '../../src/base/assert.ts'
import { KafkaError } from '../../src/protocol/errors.ts'

export type TransactionState =
  | 'Empty'
  | 'Ongoing'
  | 'PrepareCommit'
  | 'PrepareAbort'
  | 'CompleteCommit'
  | 'CompleteAbort'

/** Classic clients add partitions by themselves and keep their epoch (1); the others are KIP-890's (2). */
export type TransactionVersion = 1 | 2

/** Partitions of a transaction: topic to indexes. */
export type TransactionPartitions = ReadonlyMap<string, ReadonlySet<number>>

/** Everything that is kept of a transactional id; what its record in the log says. */
export interface TransactionValue {
  readonly transactionalId: string
  readonly producerId: number
  /** The id before the last rotation; -1: none. */
  readonly previousProducerId: number
  /** Allocated at Prepare, in force from Complete on; -1: none. */
  readonly nextProducerId: number
  readonly epoch: number
  /** The epoch of a request whose answer may have been lost: sent again it is no stranger's. -1: none. */
  readonly lastEpoch: number
  readonly timeoutMs: number
  readonly state: TransactionState
  readonly partitions: TransactionPartitions
  /** Of the transaction; -1 outside of one. */
  readonly startMs: number
  readonly updateMs: number
  readonly version: TransactionVersion
}

export interface ProducerIdentity {
  readonly producerId: number
  readonly epoch: number
}

export type Decision =
  /** Refused, or right as it is. */
  | { readonly kind: 'answer'; readonly code: number; readonly identity: ProducerIdentity }
  /** `next` is written, then answered with `identity`. */
  | { readonly kind: 'write'; readonly next: TransactionValue; readonly identity: ProducerIdentity }
  /** `next` ends the transaction that stands in the way; the request is then decided anew. */
  | { readonly kind: 'fence'; readonly next: TransactionValue }
  /** A transaction is being ended: the request is decided anew when that is done. */
  | { readonly kind: 'busy' }
  /** The request needs a fresh producer id to be decided. */
  | { readonly kind: 'needsProducerId' }

export const EPOCH_MAX = 32_767
/** From here on a producer gets a new id: one epoch is left to fence it with. */
const EPOCH_EXHAUSTED = EPOCH_MAX - 1
const NOBODY: ProducerIdentity = { producerId: -1, epoch: -1 }
const NO_PARTITIONS: TransactionPartitions = new Map()

export interface InitRequest {
  readonly transactionalId: string
  readonly timeoutMs: number
  /** What the producer believes to be (KIP-360); undefined: it begins. */
  readonly expected: ProducerIdentity | undefined
  readonly nowMs: number
  /** A fresh one, when it was asked for. */
  readonly freshProducerId: number | undefined
}

/** InitProducerId. */
export function initProducer(value: TransactionValue | undefined, request: InitRequest): Decision {
  const { expected, freshProducerId, nowMs, timeoutMs, transactionalId } = request
  if (value === undefined) {
    if (freshProducerId === undefined) return { kind: 'needsProducerId' }
    const identity = { producerId: freshProducerId, epoch: 0 }
    return write(
      {
        transactionalId,
        ...identity,
        previousProducerId: -1,
        nextProducerId: -1,
        lastEpoch: -1,
        timeoutMs,
        state: 'Empty',
        partitions: NO_PARTITIONS,
        startMs: -1,
        updateMs: nowMs,
        version: 1,
      },
      identity,
    )
  }
  if (expected !== undefined && !mayBe(value, expected)) return refuse(KafkaError.PRODUCER_FENCED)
  if (isPrepared(value)) return { kind: 'busy' }
  if (value.state === 'Ongoing') {
    if (expected !== undefined && expected.epoch !== value.epoch) {
      return refuse(KafkaError.PRODUCER_FENCED)
    }
    const lastEpoch = expected === undefined ? -1 : value.epoch
    return { kind: 'fence', next: { ...fencingAbort(value, nowMs), lastEpoch } }
  }
  const begun = { ...value, timeoutMs, state: 'Empty', partitions: NO_PARTITIONS } as const
  const empty = { ...begun, startMs: -1, updateMs: nowMs, nextProducerId: -1 } as const
  const isCurrent =
    expected === undefined ||
    (expected.producerId === value.producerId && expected.epoch === value.epoch)
  if (value.epoch >= EPOCH_EXHAUSTED && isCurrent) {
    if (freshProducerId === undefined) return { kind: 'needsProducerId' }
    const identity = { producerId: freshProducerId, epoch: 0 }
    const lastEpoch = expected === undefined ? -1 : value.epoch
    return write(
      { ...empty, ...identity, previousProducerId: value.producerId, lastEpoch },
      identity,
    )
  }
  if (!isCurrent) {
    // Its answer was lost: the epoch has been raised for it already.
    const isRetry = expected.epoch === value.lastEpoch || expected.producerId !== value.producerId
    if (!isRetry) return refuse(KafkaError.PRODUCER_FENCED)
    return write(empty, identityOf(value))
  }
  const next = {
    ...empty,
    epoch: value.epoch + 1,
    lastEpoch: expected === undefined ? -1 : value.epoch,
  }
  return write(next, identityOf(next))
}

/** Whether a request may come from a producer with this state, as far as the id tells. */
function mayBe(value: TransactionValue, expected: ProducerIdentity): boolean {
  if (expected.producerId === value.producerId) return true
  // A rotation whose answer was lost.
  return expected.producerId === value.previousProducerId && expected.epoch >= EPOCH_EXHAUSTED
}

export interface AddRequest extends ProducerIdentity {
  readonly partitions: TransactionPartitions
  readonly version: TransactionVersion
  readonly nowMs: number
}

/** AddPartitionsToTxn, AddOffsetsToTxn, and the first batch of a transaction for a partition. */
export function addPartitions(value: TransactionValue | undefined, request: AddRequest): Decision {
  const refusal = findStranger(value, request)
  if (refusal !== undefined) return refusal
  assert(value !== undefined, 'a stranger is refused')
  if (isPrepared(value)) return { kind: 'busy' }
  const isOngoing = value.state === 'Ongoing'
  if (isOngoing && holdsAll(value.partitions, request.partitions)) {
    return { kind: 'answer', code: 0, identity: identityOf(value) }
  }
  const partitions = isOngoing ? united(value.partitions, request.partitions) : request.partitions
  const next: TransactionValue = {
    ...value,
    state: 'Ongoing',
    partitions,
    startMs: isOngoing ? value.startMs : request.nowMs,
    updateMs: request.nowMs,
    version: request.version,
  }
  return write(next, identityOf(next))
}

/** Whether a transaction of this producer is open and holds the partition. */
export function verifyPartition(
  value: TransactionValue | undefined,
  request: ProducerIdentity & { readonly topic: string; readonly partition: number },
): Decision {
  const refusal = findStranger(value, request)
  if (refusal !== undefined) return refusal
  assert(value !== undefined, 'a stranger is refused')
  if (isPrepared(value)) return { kind: 'busy' }
  const isIn =
    value.state === 'Ongoing' &&
    value.partitions.get(request.topic)?.has(request.partition) === true
  const code = isIn ? 0 : KafkaError.TRANSACTION_ABORTABLE
  return { kind: 'answer', code, identity: identityOf(value) }
}

export interface EndRequest extends ProducerIdentity {
  readonly isCommit: boolean
  readonly version: TransactionVersion
  readonly nowMs: number
  readonly freshProducerId: number | undefined
}

/** EndTxn of a client. */
export function endTransaction(value: TransactionValue | undefined, request: EndRequest): Decision {
  if (value === undefined) return refuse(KafkaError.INVALID_PRODUCER_ID_MAPPING)
  if (request.version === 2 && isRetryOfEnd(value, request)) return repeatedEnd(value, request)
  const refusal = findStranger(value, request)
  if (refusal !== undefined) return refusal
  if (value.state === 'Ongoing') return prepare(value, request)
  if (request.version === 2) {
    // Its client need not know how the server stands: it may always abort, and has a new epoch afterwards.
    if (request.isCommit || isPrepared(value)) return refuse(KafkaError.INVALID_TXN_STATE)
    return prepare(value, request)
  }
  return repeatedEnd(value, request)
}

/** Named by the epoch before, which it has given up itself: the answer to its first try was lost. */
function isRetryOfEnd(value: TransactionValue, { producerId, epoch }: ProducerIdentity): boolean {
  if (value.version !== 2 || value.state === 'Empty' || value.state === 'Ongoing') return false
  if (epoch !== value.lastEpoch) return false
  if (producerId === value.producerId && epoch === value.epoch - 1) return true
  return producerId === value.previousProducerId && value.epoch === 0
}

/** The transaction has ended or is about to: fine if it ends as asked. */
function repeatedEnd(value: TransactionValue, { isCommit }: EndRequest): Decision {
  const wanted = isCommit ? 'Commit' : 'Abort'
  if (value.state === `Prepare${wanted}`) return { kind: 'busy' }
  if (value.state === `Complete${wanted}`) {
    return { kind: 'answer', code: 0, identity: identityOf(value) }
  }
  return refuse(KafkaError.INVALID_TXN_STATE)
}

function prepare(value: TransactionValue, request: EndRequest): Decision {
  const state = request.isCommit ? 'PrepareCommit' : 'PrepareAbort'
  const common = { ...value, state, updateMs: request.nowMs, version: request.version } as const
  const partitions = value.state === 'Ongoing' ? value.partitions : NO_PARTITIONS
  const startMs = value.state === 'Ongoing' ? value.startMs : request.nowMs
  if (request.version === 1) {
    const next = { ...common, partitions, startMs }
    return write(next, identityOf(next))
  }
  const next = { ...common, partitions, startMs, epoch: value.epoch + 1, lastEpoch: value.epoch }
  if (value.epoch < EPOCH_EXHAUSTED) return write(next, identityOf(next))
  if (request.freshProducerId === undefined) return { kind: 'needsProducerId' }
  const nextProducerId = request.freshProducerId
  return write({ ...next, nextProducerId }, { producerId: nextProducerId, epoch: 0 })
}

/** The server ends an open transaction, and its owner with it. */
export function fencingAbort(value: TransactionValue, nowMs: number): TransactionValue {
  assert(value.state === 'Ongoing', 'only an open transaction is aborted')
  assert(value.epoch < EPOCH_MAX, 'the last epoch is kept for fencing')
  return {
    ...value,
    state: 'PrepareAbort',
    epoch: value.epoch + 1,
    lastEpoch: -1,
    updateMs: nowMs,
  }
}

/** All markers are in the partitions. */
export function complete(value: TransactionValue, nowMs: number): TransactionValue {
  assert(isPrepared(value), 'a transaction is decided before it is complete')
  const state = value.state === 'PrepareCommit' ? 'CompleteCommit' : 'CompleteAbort'
  const rotated =
    value.nextProducerId < 0
      ? {}
      : { producerId: value.nextProducerId, previousProducerId: value.producerId, epoch: 0 }
  return {
    ...value,
    ...rotated,
    nextProducerId: -1,
    state,
    partitions: NO_PARTITIONS,
    updateMs: nowMs,
  }
}

export function isPrepared(value: TransactionValue): boolean {
  return value.state === 'PrepareCommit' || value.state === 'PrepareAbort'
}

export function isTimedOut(value: TransactionValue, nowMs: number): boolean {
  return value.state === 'Ongoing' && nowMs - value.startMs > value.timeoutMs
}

/** An id that nobody has used for so long is forgotten. */
export function isExpired(value: TransactionValue, nowMs: number, expirationMs: number): boolean {
  if (value.state === 'Ongoing' || isPrepared(value)) return false
  return nowMs - value.updateMs >= expirationMs
}

/** The producer as it goes on: what an answer hands out. */
export function identityOf(value: TransactionValue): ProducerIdentity {
  if (value.nextProducerId >= 0) return { producerId: value.nextProducerId, epoch: 0 }
  return { producerId: value.producerId, epoch: value.epoch }
}

function findStranger(
  value: TransactionValue | undefined,
  { producerId, epoch }: ProducerIdentity,
): Decision | undefined {
  if (value === undefined || value.producerId !== producerId) {
    return refuse(KafkaError.INVALID_PRODUCER_ID_MAPPING)
  }
  return value.epoch === epoch ? undefined : refuse(KafkaError.PRODUCER_FENCED)
}

function holdsAll(held: TransactionPartitions, wanted: TransactionPartitions): boolean {
  for (const [topic, indexes] of wanted) {
    const known = held.get(topic)
    if (known === undefined) return false
    for (const index of indexes) if (!known.has(index)) return false
  }
  return true
}

function united(left: TransactionPartitions, right: TransactionPartitions): TransactionPartitions {
  const all = new Map(left)
  for (const [topic, indexes] of right) {
    all.set(topic, new Set([...(all.get(topic) ?? []), ...indexes]))
  }
  return all
}

function write(next: TransactionValue, identity: ProducerIdentity): Decision {
  return { kind: 'write', next, identity }
}

function refuse(code: number): Decision {
  return { kind: 'answer', code, identity: NOBODY }
}
