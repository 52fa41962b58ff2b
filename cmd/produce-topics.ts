/** The topics that a run of `produce` writes to: looked up before the first record, created where that is wanted. */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { Broker } from './broker.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { ProducePlan } from './produce-plan.ts'
import { unknownPartition } from './topic-names.ts'

export class ProduceTopics {
  readonly #deps: CommandDeps
  readonly #flags: Flags
  readonly #plan: ProducePlan
  readonly #broker: Broker
  readonly #producer: ProducerClient

  constructor(
    deps: CommandDeps,
    flags: Flags,
    plan: ProducePlan,
    broker: Broker,
    producer: ProducerClient,
  ) {
    this.#deps = deps
    this.#flags = flags
    this.#plan = plan
    this.#broker = broker
    this.#producer = producer
  }

  /**
   * @param partitions  of a topic that is created; default: the broker's
   * @throws StreamError TOPIC_UNKNOWN, and what creating it may end with
   */
  async prepare(topic: string, partitions?: number): Promise<void> {
    const producer = this.#producer
    try {
      const info = await producer.prepare(topic)
      this.#checkPartition(topic, info.partitions.length)
    } catch (error) {
      if (!isStreamError(error, 'TOPIC_UNKNOWN')) throw error
      if (!this.#mayCreate()) {
        throw new StreamError(error.code, error.message, {
          target: topic,
          hint: `to create it: --create, or stream topics create ${topic}`,
          cause: error,
          ...(error.kafkaError === undefined ? {} : { kafkaError: error.kafkaError }),
        })
      }
      const admin = await this.#deps.clients.admin(this.#broker.cluster)
      const [outcome] = await admin.createTopics([
        { name: topic, ...(partitions === undefined ? {} : { partitions }) },
      ])
      // Another producer may have been faster.
      if (outcome?.error !== undefined && !isStreamError(outcome.error, 'TOPIC_EXISTS')) {
        throw outcome.error
      }
      await admin.awaitTopic(topic)
      const info = await producer.prepare(topic)
      this.#checkPartition(topic, info.partitions.length)
    }
  }

  #checkPartition(topic: string, count: number): void {
    const { partition } = this.#plan
    if (partition === undefined || partition < count) return
    throw unknownPartition(topic, partition, count)
  }

  #mayCreate(): boolean {
    const flag = this.#flags.either('create', 'no-create')
    if (flag !== undefined) return flag
    const { settings, scheme } = this.#broker
    const setting = settings.text('produce.create')
    if (setting === 'auto') return scheme === 'ipc'
    return setting === 'yes' || setting === 'true'
  }
}
