/**
 * The compacted internal topic in which commands keep what Kafka has no place for (commands.md, section 2): small values
 * under a key, made on first use. A key is a JSON array, a value a JSON object with `v`.
 *
 * Each use reads what is there of its keys and writes single records; the last of a key counts.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import { walkRecords } from '../src/client/walk-records.ts'
import { sleep } from '../src/ports/time.ts'
import { partitionForKey } from '../src/record/partitioner.ts'
import type { RecordCursor } from '../src/record/record-cursor.ts'
import type { Broker } from './broker.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { ANSWER_MS_MAX } from './unanswered.ts'

const STATE_TOPIC = '__stream_state'
/** Jobs do not wait for each other's open transactions where their keys stand in different partitions. */
const PARTITIONS = 16
/** How long a reader waits for transactions of others, each of which ends by itself: the longest that brokers allow. */
const UNSETTLED_MS_MAX = 960_000
const SETTLED_POLL_MS = 50
const SAID_AFTER_MS = 2000

export type StateKey = readonly (string | number)[]

/**
 * Whether the partition of `prefix` answers, for who would rather do without than wait.
 * @returns what is in the way; undefined: it can be read, or was never made
 */
export async function findStateTrouble(
  deps: CommandDeps,
  broker: Broker,
  prefix: StateKey,
): Promise<StreamError | undefined> {
  const { cluster } = broker
  const topic = stateTopic(broker)
  const [info] = await cluster.describeTopics([topic])
  if (info === undefined || info.errorCode !== 0) return undefined
  const partition = placeOf(prefix, info.partitions.length)
  const admin = await deps.clients.admin(cluster)
  const question = { topic, partition, at: 'earliest' } as const
  const [outcome] = await admin.listOffsetsEach([question], { timeoutMs: ANSWER_MS_MAX })
  return outcome?.error
}

/** All values whose key begins with `prefix`, by the JSON text of their keys. @throws StreamError of the broker */
export async function readState(
  deps: CommandDeps,
  broker: Broker,
  prefix: StateKey,
): Promise<ReadonlyMap<string, unknown>> {
  const found = new Map<string, unknown>()
  for (const [key, bytes] of await readStateBytes(deps, broker, prefix)) {
    try {
      found.set(key, JSON.parse(Buffer.from(bytes).toString('utf8')))
    } catch {
      // Written by something else: no value of ours.
    }
  }
  return found
}

/** The same as bytes. @throws StreamError of the broker; TIMED_OUT where a transaction stays open */
export async function readStateBytes(
  deps: CommandDeps,
  broker: Broker,
  prefix: StateKey,
): Promise<ReadonlyMap<string, Uint8Array>> {
  const { cluster } = broker
  const found = new Map<string, Uint8Array>()
  const name = stateTopic(broker)
  const [topic] = await cluster.describeTopics([name])
  if (topic === undefined || topic.errorCode !== 0) return found
  const partition = placeOf(prefix, topic.partitions.length)
  const [start] = await deps.clients.listOffsets(cluster, [
    { topic: name, partition, at: 'earliest' },
  ])
  const startOffset = start?.offset ?? 0
  const endOffset = await settledEnd(deps, broker, name, partition)
  if (endOffset <= startOffset) return found
  const consumer = await deps.clients.consumer(cluster, {})
  const head = JSON.stringify(prefix).slice(0, -1)
  try {
    consumer.assign([{ topic: name, partition, startOffset, endOffset }])
    await walkRecords(consumer, (cursor) => take(cursor, head, found))
  } finally {
    consumer.close()
  }
  return found
}

/**
 * The end of the partition, once no transaction holds back anything before it: whoever goes on from a value must not miss
 * one that is committed behind a transaction of somebody else.
 */
async function settledEnd(
  deps: CommandDeps,
  { cluster }: Broker,
  topic: string,
  partition: number,
): Promise<number> {
  const { clients, console, time } = deps
  const ask = async (isolation: 'read_committed' | 'read_uncommitted'): Promise<number> => {
    const question = { topic, partition, at: 'latest' } as const
    const [answer] = await clients.listOffsets(cluster, [question], { isolation })
    return answer?.offset ?? 0
  }
  const end = await ask('read_uncommitted')
  const startMs = time.monotonicMs()
  let hasSaid = false
  while ((await ask('read_committed')) < end) {
    const waitedMs = time.monotonicMs() - startMs
    if (waitedMs > UNSETTLED_MS_MAX) {
      throw new StreamError('TIMED_OUT', `${topic}: a transaction stays open`, {
        target: topic,
        hint: 'which one: stream txn list',
      })
    }
    if (waitedMs > SAID_AFTER_MS && !hasSaid) {
      hasSaid = true
      console.warn(`${topic}: waiting for another job's transaction to end`)
    }
    await sleep(time, SETTLED_POLL_MS)
  }
  return end
}

function take(cursor: RecordCursor, head: string, found: Map<string, Uint8Array>): void {
  const { bytes, keyStart, keyEnd, valueStart, valueEnd } = cursor
  if (keyStart < 0) return
  const key = Buffer.from(bytes.subarray(keyStart, keyEnd)).toString('utf8')
  if (!key.startsWith(head)) return
  // Deleted and set again it is the newest.
  found.delete(key)
  if (valueStart >= 0) found.set(key, Uint8Array.from(bytes.subarray(valueStart, valueEnd)))
}

/**
 * Durable when it resolves.
 * @param prefix  what readState is asked for: its records stand in one partition
 * @param value  undefined: deletes it
 * @throws StreamError NOT_DELIVERED, and what making the topic may end with
 */
export async function writeState(
  deps: CommandDeps,
  broker: Broker,
  prefix: StateKey,
  key: StateKey,
  value: object | undefined,
): Promise<void> {
  const producer = await deps.clients.producer(broker.cluster, { acks: 'all' })
  try {
    await prepareState(deps, broker, producer)
    appendState(producer, prefix, key, value, deps.time.wallMs())
    await producer.flush()
    if (producer.failure !== undefined) throw producer.failure
  } finally {
    producer.close()
  }
}

/** Which topic a producer was prepared for, where the settings name another than the usual one. */
const topics = new WeakMap<object, string>()

/**
 * Makes the topic where it is missing, so that values can be appended.
 * @throws StreamError as ProducerClient.prepare, and what making the topic may end with
 */
export async function prepareState(
  deps: CommandDeps,
  broker: Broker,
  producer: Pick<ProducerClient, 'prepare'>,
): Promise<void> {
  const topic = stateTopic(broker)
  topics.set(producer, topic)
  try {
    await producer.prepare(topic)
  } catch (error) {
    if (!isStreamError(error, 'TOPIC_UNKNOWN')) throw error
    await createTopic(deps, broker, topic)
    await producer.prepare(topic)
  }
}

/**
 * As a part of what a producer sends, perhaps in a transaction; after prepareState.
 * @param prefix  as of writeState
 * @param value  undefined: deletes it
 * @returns false: there is no room now (ProducerClient.writable)
 * @throws as ProducerClient.append
 */
export function appendState(
  producer: Pick<ProducerClient, 'append' | 'partitionCount'>,
  prefix: StateKey,
  key: StateKey,
  value: object | undefined,
  timestampMs: number,
): boolean {
  const bytes = value === undefined ? undefined : Buffer.from(JSON.stringify(value))
  return appendStateBytes(producer, prefix, key, bytes, timestampMs)
}

/** As appendState, of a value that is bytes (readStateBytes). */
export function appendStateBytes(
  producer: Pick<ProducerClient, 'append' | 'partitionCount'>,
  prefix: StateKey,
  key: StateKey,
  value: Uint8Array | undefined,
  timestampMs: number,
): boolean {
  const topic = topics.get(producer) ?? STATE_TOPIC
  return producer.append(topic, placeOf(prefix, producer.partitionCount(topic)), {
    key: rangeOf(Buffer.from(JSON.stringify(key))),
    value: value === undefined ? null : rangeOf(value),
    timestampMs,
  })
}

export function stateTopic({ settings }: Broker): string {
  return settings.text('state.topic') ?? STATE_TOPIC
}

async function createTopic(deps: CommandDeps, { cluster }: Broker, name: string): Promise<void> {
  const admin = await deps.clients.admin(cluster)
  const [outcome] = await admin.createTopics([
    { name, partitions: PARTITIONS, configs: { 'cleanup.policy': 'compact' } },
  ])
  if (outcome?.error !== undefined && !isStreamError(outcome.error, 'TOPIC_EXISTS')) {
    throw outcome.error
  }
  await admin.awaitTopic(name)
}

function placeOf(prefix: StateKey, count: number): number {
  return partitionForKey('murmur2', Math.max(1, count), Buffer.from(JSON.stringify(prefix)))
}

function rangeOf(bytes: Uint8Array) {
  return { bytes, start: 0, end: bytes.length }
}
