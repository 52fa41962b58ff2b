/** Which partitions a read is of: topics by name or pattern, waited for where that is wanted, and those added later. */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import type { Time } from '../src/ports/time.ts'
import type { ClusterClient } from './clients.ts'
import type { ReadPlan } from './read-options.ts'
import type { PartitionName } from './read-range.ts'
import { chooseTopics, unknownPartition } from './topic-names.ts'
import { WakeUp } from './wake-up.ts'

const WAIT_TOPIC_FIRST_MS = 50
const WAIT_TOPIC_MAX_MS = 1000

export class ReadPartitions {
  /** `TOPIC/PARTITION` of all that were found so far. */
  readonly known = new Set<string>()
  readonly #time: Time
  readonly #plan: ReadPlan
  readonly #cluster: ClusterClient
  readonly #ids = new Map<string, string>()

  constructor(time: Time, plan: ReadPlan, cluster: ClusterClient) {
    this.#time = time
    this.#plan = plan
    this.#cluster = cluster
  }

  /** All that were found so far. */
  all(): readonly PartitionName[] {
    return [...this.known].map((name) => {
      const split = name.lastIndexOf('/')
      return { topic: name.slice(0, split), partition: Number(name.slice(split + 1)) }
    })
  }

  /** Of a topic that was found, as it was then: one that was created again has another, and is not read in its place. */
  topicId(topic: string): string {
    return this.#ids.get(topic) ?? ''
  }

  /** What has come since; nothing if it cannot be told now: the consumer itself says what is wrong with what is read. */
  async findMore(): Promise<PartitionName[]> {
    const known = new Set(this.known)
    try {
      const found = await this.#lookUp()
      return found.filter(({ topic, partition }) => !known.has(`${topic}/${partition}`))
    } catch {
      return []
    }
  }

  /**
   * Waits for topics that do not exist, where that is wanted.
   * @returns undefined when `stopped` came first
   * @throws StreamError TOPIC_UNKNOWN
   */
  async find(stopped: Promise<void>): Promise<PartitionName[] | undefined> {
    let isStopped = false
    const wake = new WakeUp(this.#time)
    void stopped.then(() => {
      isStopped = true
      wake.wake()
    })
    for (let delayMs = WAIT_TOPIC_FIRST_MS; ; delayMs = Math.min(delayMs * 2, WAIT_TOPIC_MAX_MS)) {
      try {
        return await this.#lookUp()
      } catch (error) {
        if (!isStreamError(error, 'TOPIC_UNKNOWN') || !this.#plan.waitTopic) throw error
      }
      await wake.wait(delayMs)
      if (isStopped) return undefined
    }
  }

  /** @throws StreamError TOPIC_UNKNOWN */
  async #lookUp(): Promise<PartitionName[]> {
    const cluster = this.#cluster
    const { names, empty } = await chooseTopics(
      this.#plan.topics,
      { isRegex: this.#plan.isRegex },
      async () => {
        const topics = await cluster.describeTopics(undefined)
        return topics.map((topic) => topic.name)
      },
    )
    if (names.length === 0 && (this.#plan.waitTopic || this.#plan.isBounded)) {
      throw new StreamError('TOPIC_UNKNOWN', `${empty.join(', ')}: no such topic`)
    }
    const found: PartitionName[] = []
    for (const name of names) {
      const info = await this.#awaitTopic(name)
      if (!this.#ids.has(name)) this.#ids.set(name, info.topicId)
      for (const { partition } of info.partitions) {
        if (this.#plan.partitions?.includes(partition) ?? true) {
          found.push({ topic: name, partition })
        }
      }
      for (const partition of this.#plan.partitions ?? []) {
        if (partition < info.partitions.length) continue
        throw unknownPartition(name, partition, info.partitions.length)
      }
    }
    for (const { topic, partition } of found) this.known.add(`${topic}/${partition}`)
    return found
  }

  async #awaitTopic(name: string) {
    try {
      return await this.#cluster.awaitTopic(name)
    } catch (error) {
      if (!isStreamError(error, 'TOPIC_UNKNOWN')) throw error
      const topics = await this.#cluster.describeTopics(undefined).catch(() => [])
      const nearest = nearestName(
        name,
        topics.map((topic) => topic.name),
      )
      const toWait = 'to wait for it: --wait-topic'
      throw new StreamError(error.code, error.message, {
        target: name,
        hint: nearest === undefined ? toWait : `did you mean ${nearest}? ${toWait}`,
        cause: error,
        ...(error.kafkaError === undefined ? {} : { kafkaError: error.kafkaError }),
      })
    }
  }
}
