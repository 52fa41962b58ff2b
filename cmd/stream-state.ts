/**
 * The compacted internal topic in which commands keep what Kafka has no place for (commands.md, section 2): small values
 * under a key, made on first use. A key is a JSON array, a value a JSON object with `v`.
 *
 * Each use reads what is there of its keys and writes single records; the last of a key counts.
 */

import { isStreamError, type StreamError } from '../src/base/errors.ts'
import { partitionForKey } from '../src/record/partitioner.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import type { Broker } from './broker.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'

const TOPIC = '__stream_state'

export type StateKey = readonly (string | number)[]

/** All values whose key begins with `prefix`, by the JSON text of their keys. @throws StreamError of the broker */
export async function readState(
  deps: CommandDeps,
  { cluster }: Broker,
  prefix: StateKey,
): Promise<ReadonlyMap<string, unknown>> {
  const found = new Map<string, unknown>()
  const [topic] = await cluster.describeTopics([TOPIC])
  if (topic === undefined || topic.errorCode !== 0) return found
  const partition = placeOf(prefix, topic.partitions.length)
  // What another transaction still holds back is waited for: behind it there may be values that are committed.
  const [start, end] = await deps.clients.listOffsets(
    cluster,
    [
      { topic: TOPIC, partition, at: 'earliest' },
      { topic: TOPIC, partition, at: 'latest' },
    ],
    { isolation: 'read_uncommitted' },
  )
  const startOffset = start?.offset ?? 0
  const endOffset = end?.offset ?? 0
  if (endOffset <= startOffset) return found
  const consumer = await deps.clients.consumer(cluster, {})
  const cursor = new RecordCursor()
  const head = JSON.stringify(prefix).slice(0, -1)
  let failure: StreamError | undefined
  try {
    consumer.assign([{ topic: TOPIC, partition, startOffset, endOffset }])
    while (!consumer.isDone) {
      const event = consumer.poll()
      if (event === undefined) await consumer.wait()
      else if (event.kind === 'failed') failure = event.error
      else if (event.kind === 'records') {
        for (const at of event.batches) {
          cursor.reset(event.bytes, at)
          while (cursor.next()) if (cursor.offset >= event.fromOffset) take(cursor, head, found)
        }
      }
    }
  } finally {
    consumer.close()
  }
  if (failure !== undefined) throw failure
  return found
}

function take(cursor: RecordCursor, head: string, found: Map<string, unknown>): void {
  const { bytes, keyStart, keyEnd, valueStart, valueEnd } = cursor
  if (keyStart < 0) return
  const key = Buffer.from(bytes.subarray(keyStart, keyEnd)).toString('utf8')
  if (!key.startsWith(head)) return
  if (valueStart < 0) {
    found.delete(key)
    return
  }
  try {
    found.set(key, JSON.parse(Buffer.from(bytes.subarray(valueStart, valueEnd)).toString('utf8')))
  } catch {
    // Written by something else: no value of ours.
    found.delete(key)
  }
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

/**
 * Makes the topic where it is missing, so that values can be appended.
 * @throws StreamError as ProducerClient.prepare, and what making the topic may end with
 */
export async function prepareState(
  deps: CommandDeps,
  broker: Broker,
  producer: Pick<ProducerClient, 'prepare'>,
): Promise<void> {
  try {
    await producer.prepare(TOPIC)
  } catch (error) {
    if (!isStreamError(error, 'TOPIC_UNKNOWN')) throw error
    await createTopic(deps, broker)
    await producer.prepare(TOPIC)
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
  const keyBytes = Buffer.from(JSON.stringify(key))
  const valueBytes = value === undefined ? null : Buffer.from(JSON.stringify(value))
  return producer.append(TOPIC, placeOf(prefix, producer.partitionCount(TOPIC)), {
    key: rangeOf(keyBytes),
    value: valueBytes === null ? null : rangeOf(valueBytes),
    timestampMs,
  })
}

async function createTopic(deps: CommandDeps, { cluster }: Broker): Promise<void> {
  const admin = await deps.clients.admin(cluster)
  const [outcome] = await admin.createTopics([
    { name: TOPIC, partitions: 1, configs: { 'cleanup.policy': 'compact' } },
  ])
  if (outcome?.error !== undefined && !isStreamError(outcome.error, 'TOPIC_EXISTS')) {
    throw outcome.error
  }
  await admin.awaitTopic(TOPIC)
}

function placeOf(prefix: StateKey, count: number): number {
  return partitionForKey('murmur2', Math.max(1, count), Buffer.from(JSON.stringify(prefix)))
}

function rangeOf(bytes: Uint8Array) {
  return { bytes, start: 0, end: bytes.length }
}
