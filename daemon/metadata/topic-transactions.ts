/**
 * Writes of the controller and of partition leaders: T3, T4, T5, T6, T8, T9, T10 of replication.md section 5.4.
 *
 * Invariants:
 * - Every write has a guard (I12): the controller's names C, a leader's names the revision of the partition record.
 * - A partition record carries its writer, so that one's own write is known again after an unknown outcome.
 * - One transaction stays below the store's limit of operations (`operationsMax`; etcd: 128, the embedded home: none).
 */

import { assert } from '../../src/base/assert.ts'
import { StreamError } from '../../src/base/errors.ts'
import type {
  StoreCompare,
  StoreEntry,
  StoreOperation,
  StoreTxnResult,
} from '../../src/ports/metadata-store.ts'
import { type CommitOptions, commit, type Store } from './commit.ts'
import type { MetadataKeys } from './metadata-keys.ts'
import {
  type ConfigValue,
  decodePartition,
  decodeProducerIds,
  decodeTopic,
  encodeConfig,
  encodeDeleted,
  encodePartition,
  encodeProducerIds,
  encodeRegistration,
  encodeTopic,
  type Member,
  type PartitionValue,
  type RegistrationValue,
  type TopicValue,
  type Writer,
} from './metadata-values.ts'

export const PRODUCER_ID_BLOCK = 1000

/** One partition record to be written, against the revision it was read at (0: it must not exist yet). */
export interface PartitionChange {
  readonly topicId: string
  readonly partition: number
  readonly revision: number
  readonly value: PartitionValue
}

/** What T3 must still find of a broker that it makes a leader. */
export interface LeaderGuard {
  readonly nodeId: number
  readonly sessionEpoch: number
  readonly dataEpoch: number
}

export interface ControllerHold {
  /** C */
  readonly controllerEpoch: number
}

/** Numbers the writes of one epoch. */
export class WriterCounter {
  readonly #epoch: number
  #counter = 0

  constructor(epoch: number) {
    this.#epoch = epoch
  }

  next(): Writer {
    this.#counter += 1
    return { epoch: this.#epoch, counter: this.#counter }
  }
}

/** A broker that may lead, with the T6 write that makes it so in the same transaction. */
export interface Activation {
  readonly nodeId: number
  readonly sessionEpoch: number
  readonly registrationRevision: number
  readonly registration: RegistrationValue
}

/**
 * T3, together with T6 where `activate` is given: elections and registration become visible at once.
 * The caller keeps within the limit of operations; see chunkPartitionChanges.
 * @returns whether it was applied; false: something moved, read again
 */
export async function writePartitions(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  changes: readonly PartitionChange[],
  leaders: readonly LeaderGuard[],
  activate?: Activation,
  options: CommitOptions = {},
): Promise<StoreTxnResult> {
  const compare: StoreCompare[] = [
    { kind: 'createRevision', key: keys.controller(), equals: hold.controllerEpoch },
  ]
  const writes: StoreOperation[] = []
  if (activate !== undefined) {
    const key = keys.registration(activate.nodeId)
    compare.push(
      { kind: 'createRevision', key: keys.live(activate.nodeId), equals: activate.sessionEpoch },
      { kind: 'modRevision', key, equals: activate.registrationRevision },
    )
    const value = encodeRegistration({ ...activate.registration, state: 'ACTIVE' })
    writes.push({ kind: 'put', key, value })
  }
  for (const leader of leaders) {
    if (leader.nodeId !== activate?.nodeId) {
      const key = keys.live(leader.nodeId)
      compare.push({ kind: 'createRevision', key, equals: leader.sessionEpoch })
    }
    const key = keys.data(leader.nodeId)
    compare.push({ kind: 'modRevision', key, equals: leader.dataEpoch })
  }
  for (const change of changes) {
    const key = keys.partition(change.topicId, change.partition)
    compare.push({ kind: 'modRevision', key, equals: change.revision })
    writes.push({ kind: 'put', key, value: encodePartition(change.value) })
  }
  const otherwise = changes.map(
    (change): StoreOperation => ({
      kind: 'get',
      key: keys.partition(change.topicId, change.partition),
    }),
  )
  const result = await commit(store, { compare, writes, otherwise }, options)
  if (result.succeeded || !isOwnWrite(keys, changes, result.gets)) return result
  return { ...result, succeeded: true }
}

/** Splits so that each piece, with its guards, stays within `operationsMax`. */
export function chunkPartitionChanges(
  changes: readonly PartitionChange[],
  operationsMax: number,
): readonly (readonly PartitionChange[])[] {
  assert(operationsMax > 8, 'a transaction has room for its guards and some partitions')
  const perChunk = operationsMax - 8
  const chunks: PartitionChange[][] = []
  for (let at = 0; at < changes.length; at += perChunk)
    chunks.push(changes.slice(at, at + perChunk))
  return chunks
}

function isOwnWrite(
  keys: MetadataKeys,
  changes: readonly PartitionChange[],
  found: readonly (StoreEntry | undefined)[],
): boolean {
  if (changes.length === 0) return false
  return changes.every((change, at) => {
    const entry = found[at]
    if (entry === undefined) return false
    const { writer } = decodePartition(
      keys.partition(change.topicId, change.partition),
      entry.value,
    )
    return (
      writer.epoch === change.value.writer.epoch && writer.counter === change.value.writer.counter
    )
  })
}

export interface LeaderHold {
  readonly nodeId: number
  /** E */
  readonly sessionEpoch: number
}

/** What T4 must still find of the follower that joins. */
export interface FollowerGuard {
  readonly nodeId: number
  readonly sessionEpoch: number
  readonly dataEpoch: number
  readonly registrationRevision: number
}

/** T4 with `follower`, else T5. @returns as writePartitions */
export async function writeOwnPartition(
  store: Store,
  keys: MetadataKeys,
  hold: LeaderHold,
  change: PartitionChange,
  follower?: FollowerGuard,
): Promise<StoreTxnResult> {
  const key = keys.partition(change.topicId, change.partition)
  const compare: StoreCompare[] = [
    { kind: 'modRevision', key, equals: change.revision },
    { kind: 'createRevision', key: keys.live(hold.nodeId), equals: hold.sessionEpoch },
  ]
  if (follower !== undefined) {
    compare.push(
      {
        kind: 'createRevision',
        key: keys.live(follower.nodeId),
        equals: follower.sessionEpoch,
      },
      { kind: 'modRevision', key: keys.data(follower.nodeId), equals: follower.dataEpoch },
      {
        kind: 'modRevision',
        key: keys.registration(follower.nodeId),
        equals: follower.registrationRevision,
      },
    )
  }
  const result = await commit(store, {
    compare,
    writes: [{ kind: 'put', key, value: encodePartition(change.value) }],
    otherwise: [{ kind: 'get', key }],
  })
  if (result.succeeded || !isOwnWrite(keys, [change], result.gets)) return result
  return { ...result, succeeded: true }
}

/** The record after the leader has cleared `recovering` (T5). */
export function withoutRecovering(value: PartitionValue, writer: Writer): PartitionValue {
  return { ...value, recovering: false, partitionEpoch: value.partitionEpoch + 1, writer }
}

/** The first record of a partition: led by the first replica in sync, epoch 0; by nobody while none is. */
export function initialPartition(options: {
  /** Those in sync, in order. */
  readonly replicas: readonly Member[]
  /** All of them, where some are not in sync. */
  readonly assigned?: readonly number[]
  /** Of the first one in sync. */
  readonly leaderIncarnation: string
  readonly minInSync: number
  readonly writer: Writer
}): PartitionValue {
  const replicas = options.assigned ?? options.replicas.map((member) => member.broker)
  assert(replicas.length > 0, 'a partition has replicas')
  const leader = options.replicas[0]
  return {
    replicas,
    adding: [],
    removing: [],
    leader: leader?.broker ?? -1,
    leaderIncarnation: leader === undefined ? '' : options.leaderIncarnation,
    leaderEpoch: 0,
    partitionEpoch: 0,
    inSyncReplicas: options.replicas,
    eligibleReplicas: [],
    known: [],
    lastLeader: null,
    minInSync: options.minInSync,
    uncleanEpoch: 0,
    recovering: false,
    writer: options.writer,
  }
}

export interface NewTopic {
  readonly name: string
  readonly topicId: string
  readonly config: Readonly<Record<string, string>>
  readonly partitions: readonly PartitionValue[]
}

/**
 * T8: the topic in state CREATING with its partition records; it is served only after finishTopic.
 * @returns the revision of the last write
 * @throws StreamError TOPIC_EXISTS, NOT_CONTROLLER
 */
export async function createTopic(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  topic: NewTopic,
  operationsMax: number,
): Promise<number> {
  const topicKey = keys.topic(topic.name)
  const value: TopicValue = {
    topicId: topic.topicId,
    partitions: topic.partitions.length,
    config: topic.config,
    state: 'CREATING',
  }
  const puts = topic.partitions.map(
    (partition, number): StoreOperation => ({
      kind: 'put',
      key: keys.partition(topic.topicId, number),
      value: encodePartition(partition),
    }),
  )
  const isOneWrite = puts.length + 2 <= operationsMax
  const result = await commit(store, {
    compare: [
      { kind: 'createRevision', key: topicKey, equals: 0 },
      // A copy of this transaction that arrives late must not bring a deleted topic back.
      { kind: 'createRevision', key: keys.deleted(topic.topicId), equals: 0 },
      { kind: 'createRevision', key: keys.controller(), equals: hold.controllerEpoch },
    ],
    writes: [
      { kind: 'put', key: topicKey, value: encodeTopic(value) },
      ...(isOneWrite ? puts : []),
    ],
    otherwise: [{ kind: 'get', key: topicKey }],
  })
  let topicRevision = result.revision
  if (!result.succeeded) {
    const found = result.gets[0]
    if (found === undefined) throw notController()
    topicRevision = found.modRevision
    if (decodeTopic(topicKey, found.value).topicId !== topic.topicId) {
      throw new StreamError('TOPIC_EXISTS', `${topic.name}: topic exists`, { target: topic.name })
    }
  }
  if (isOneWrite) return result.revision
  return putPartitions(store, keys, hold, topicKey, topicRevision, puts, operationsMax)
}

/** New partition records in pieces; one that is there already stays as it is, for its leader may have changed it since. */
async function putPartitions(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  topicKey: string,
  topicRevision: number,
  puts: readonly StoreOperation[],
  operationsMax: number,
): Promise<number> {
  let revision = topicRevision
  for (let at = 0; at < puts.length; at += operationsMax - 2) {
    const writes = puts.slice(at, at + operationsMax - 2)
    const result = await commit(store, {
      compare: [
        { kind: 'createRevision', key: keys.controller(), equals: hold.controllerEpoch },
        { kind: 'modRevision', key: topicKey, equals: topicRevision },
        ...writes.map(({ key }): StoreCompare => ({ kind: 'createRevision', key, equals: 0 })),
      ],
      writes,
      otherwise: [
        { kind: 'get', key: topicKey },
        ...writes.map(({ key }): StoreOperation => ({ kind: 'get', key })),
      ],
    })
    revision = result.revision
    if (result.succeeded) continue
    const [topic, ...records] = result.gets
    if (topic?.modRevision !== topicRevision) {
      throw new StreamError('CONFLICT', 'the topic was changed by somebody else meanwhile', {
        target: topicKey,
      })
    }
    // All there: this very transaction took effect, and its answer was lost.
    if (!records.every((record) => record !== undefined)) throw notController()
  }
  return revision
}

/**
 * Adds partition records behind those the topic shows; they are served only after finishTopic.
 * @throws StreamError CONFLICT when the topic has changed meanwhile
 */
export function addPartitions(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  topic: { readonly name: string; readonly revision: number; readonly value: TopicValue },
  partitions: readonly PartitionValue[],
  operationsMax: number,
): Promise<number> {
  const puts = partitions.map(
    (partition, at): StoreOperation => ({
      kind: 'put',
      key: keys.partition(topic.value.topicId, topic.value.partitions + at),
      value: encodePartition(partition),
    }),
  )
  const topicKey = keys.topic(topic.name)
  return putPartitions(store, keys, hold, topicKey, topic.revision, puts, operationsMax)
}

/**
 * Writes the topic record: the end of a creation or growth (state READY), or a change of its config with the
 * partition records whose minInSync follows from it.
 * @returns the new revision
 * @throws StreamError CONFLICT when the topic has changed meanwhile
 */
export async function writeTopic(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  topic: { readonly name: string; readonly revision: number; readonly value: TopicValue },
  changes: readonly PartitionChange[] = [],
): Promise<number> {
  const key = keys.topic(topic.name)
  const result = await commit(store, {
    compare: [
      { kind: 'createRevision', key: keys.controller(), equals: hold.controllerEpoch },
      { kind: 'modRevision', key, equals: topic.revision },
      ...changes.map(
        (change): StoreCompare => ({
          kind: 'modRevision',
          key: keys.partition(change.topicId, change.partition),
          equals: change.revision,
        }),
      ),
    ],
    writes: [
      { kind: 'put', key, value: encodeTopic(topic.value) },
      ...changes.map(
        (change): StoreOperation => ({
          kind: 'put',
          key: keys.partition(change.topicId, change.partition),
          value: encodePartition(change.value),
        }),
      ),
    ],
    otherwise: [{ kind: 'get', key }],
  })
  if (result.succeeded) return result.revision
  const found = result.gets[0]
  if (found !== undefined && Buffer.compare(found.value, encodeTopic(topic.value)) === 0) {
    return found.modRevision
  }
  throw new StreamError('CONFLICT', `${topic.name}: changed by somebody else meanwhile`, {
    target: topic.name,
  })
}

/**
 * T9: tombstone and topic key first, then the partition records in pieces.
 * @throws StreamError CONFLICT when the topic has changed meanwhile
 */
export async function deleteTopic(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  topic: {
    readonly name: string
    readonly topicId: string
    readonly revision: number
    readonly partitions: readonly number[]
  },
  wallMs: number,
  operationsMax: number,
): Promise<number> {
  const topicKey = keys.topic(topic.name)
  const deletedKey = keys.deleted(topic.topicId)
  const isController: StoreCompare = {
    kind: 'createRevision',
    key: keys.controller(),
    equals: hold.controllerEpoch,
  }
  const deletes = topic.partitions.map(
    (number): StoreOperation => ({
      kind: 'delete',
      key: keys.partition(topic.topicId, number),
    }),
  )
  const isOneWrite = deletes.length + 2 <= operationsMax
  const result = await commit(store, {
    compare: [isController, { kind: 'modRevision', key: topicKey, equals: topic.revision }],
    writes: [
      { kind: 'put', key: deletedKey, value: encodeDeleted({ name: topic.name, at: wallMs }) },
      { kind: 'delete', key: topicKey },
      ...(isOneWrite ? deletes : []),
    ],
    otherwise: [{ kind: 'get', key: deletedKey }],
  })
  if (!result.succeeded && result.gets[0] === undefined) {
    throw new StreamError('CONFLICT', `${topic.name}: changed by somebody else meanwhile`, {
      target: topic.name,
    })
  }
  if (isOneWrite) return result.revision
  return deletePartitionRecords(store, keys, hold, deletes, operationsMax)
}

/** What is left of deleted topics after a crash in the middle of T9. */
export async function deletePartitionRecords(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  deletes: readonly StoreOperation[],
  operationsMax: number,
): Promise<number> {
  let revision = 0
  for (let at = 0; at < deletes.length; at += operationsMax - 1) {
    const result = await commit(store, {
      compare: [{ kind: 'createRevision', key: keys.controller(), equals: hold.controllerEpoch }],
      writes: deletes.slice(at, at + operationsMax - 1),
    })
    if (!result.succeeded) throw notController()
    revision = result.revision
  }
  return revision
}

/** Forgets tombstones and other keys whose time has passed. */
export async function deleteKey(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  key: string,
  revision: number,
): Promise<void> {
  await commit(store, {
    compare: [
      { kind: 'createRevision', key: keys.controller(), equals: hold.controllerEpoch },
      { kind: 'modRevision', key, equals: revision },
    ],
    writes: [{ kind: 'delete', key }],
  })
}

/**
 * Writes a set of broker configs.
 * @throws StreamError CONFLICT when it has changed meanwhile
 */
export async function writeConfig(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  config: { readonly scope: string; readonly revision: number; readonly value: ConfigValue },
): Promise<number> {
  const key = keys.config(config.scope)
  const result = await commit(store, {
    compare: [
      { kind: 'createRevision', key: keys.controller(), equals: hold.controllerEpoch },
      { kind: 'modRevision', key, equals: config.revision },
    ],
    writes: [{ kind: 'put', key, value: encodeConfig(config.value) }],
  })
  if (!result.succeeded) {
    throw new StreamError('CONFLICT', 'the broker configs were changed by somebody else meanwhile')
  }
  return result.revision
}

/**
 * T10: takes the next block of producer ids. Blocks are never used twice; gaps are fine, so an unknown outcome is
 * answered by taking another one.
 * @returns the first id of PRODUCER_ID_BLOCK
 */
export async function takeProducerIds(store: Store, keys: MetadataKeys): Promise<number> {
  const key = keys.producerIds()
  let entry = await store.store.get(key)
  for (;;) {
    const first = entry === undefined ? 0 : decodeProducerIds(key, entry.value)
    const result = await commit(store, {
      compare: [{ kind: 'modRevision', key, equals: entry?.modRevision ?? 0 }],
      writes: [{ kind: 'put', key, value: encodeProducerIds(first + PRODUCER_ID_BLOCK) }],
      otherwise: [{ kind: 'get', key }],
    })
    if (result.succeeded) return first
    entry = result.gets[0]
  }
}

function notController(): StreamError {
  return new StreamError('NOT_CONTROLLER', 'this broker is no longer the controller')
}
