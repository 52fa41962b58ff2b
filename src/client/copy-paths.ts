/**
 * The paths of copies (mirror-hops.ts) as a cluster's `__stream_state` has them, for somebody who asks again and again: only what
 * has come since is read. They are written outside of transactions, so nothing has to be waited for.
 */

import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import type { Time } from '../ports/time.ts'
import { partitionForKey } from '../record/partitioner.ts'
import type { RecordCursor } from '../record/record-cursor.ts'
import type { Cluster } from './cluster.ts'
import { Consumer } from './consumer.ts'
import { PATH_WORD, parsePath, type TopicPath } from './mirror-hops.ts'
import { listOffsets } from './offsets.ts'
import { walkRecords } from './walk-records.ts'

export const STATE_TOPIC = '__stream_state'
/** How long one reading may take. */
const READ_MS_MAX = 20_000

export class CopyPaths {
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #paths = new Map<string, TopicPath>()
  /** Of the state topic: made anew it begins anew. */
  #topicId = ''
  #nextOffset = 0

  constructor(time: Time, random: Random, cluster: Cluster) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
  }

  /** By topic. @throws StreamError of the broker; TIMED_OUT */
  async read(): Promise<ReadonlyMap<string, TopicPath>> {
    const [topic] = await this.#cluster.describeTopics([STATE_TOPIC])
    if (topic === undefined || topic.errorCode !== 0 || topic.partitions.length === 0) {
      this.#paths.clear()
      this.#nextOffset = 0
      return this.#paths
    }
    if (topic.topicId !== this.#topicId) {
      this.#paths.clear()
      this.#topicId = topic.topicId
      this.#nextOffset = 0
    }
    const prefix = Buffer.from(JSON.stringify([PATH_WORD]))
    const partition = partitionForKey('murmur2', topic.partitions.length, prefix)
    const [start, end] = await listOffsets(
      this.#time,
      this.#random,
      this.#cluster,
      [
        { topic: STATE_TOPIC, partition, at: 'earliest' },
        { topic: STATE_TOPIC, partition, at: 'latest' },
      ],
      { isolation: 'read_uncommitted' },
    )
    const endOffset = end?.offset ?? 0
    // The log was cut back: what was read of it may be gone.
    if (endOffset < this.#nextOffset) {
      this.#paths.clear()
      this.#nextOffset = 0
    }
    const startOffset = Math.max(start?.offset ?? 0, this.#nextOffset)
    if (endOffset > startOffset) await this.#readRange(partition, startOffset, endOffset)
    return this.#paths
  }

  async #readRange(partition: number, startOffset: number, endOffset: number): Promise<void> {
    const consumer = new Consumer(this.#time, this.#random, this.#cluster, {
      isolation: 'read_uncommitted',
    })
    let isLate = false
    const timer = this.#time.setTimer(READ_MS_MAX, () => {
      isLate = true
      consumer.close()
    })
    try {
      consumer.assign([{ topic: STATE_TOPIC, partition, startOffset, endOffset }])
      await walkRecords(consumer, (cursor) => this.#take(cursor))
    } finally {
      timer.cancel()
      consumer.close()
    }
    if (isLate) throw new StreamError('TIMED_OUT', `${STATE_TOPIC}: could not be read in time`)
    this.#nextOffset = endOffset
  }

  #take({ bytes, keyStart, keyEnd, valueStart, valueEnd }: RecordCursor): void {
    if (keyStart < 0) return
    const key = textOf(bytes, keyStart, keyEnd)
    if (!key.startsWith(`["${PATH_WORD}",`)) return
    try {
      if (valueStart < 0) {
        const [, topic] = JSON.parse(key) as unknown[]
        this.#paths.delete(String(topic))
        return
      }
      const found = parsePath(key, JSON.parse(textOf(bytes, valueStart, valueEnd)))
      if (found !== undefined) this.#paths.set(found.topic, found.path)
    } catch {
      // Written by something else: no value of ours.
    }
  }
}

function textOf(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8')
}
