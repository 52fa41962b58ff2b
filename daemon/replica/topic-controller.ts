/**
 * What the controller does to topics: create, grow, configure, delete; and what it finishes after a crash. Each step is
 * a guarded transaction of daemon/metadata; logs on disk follow through the partition table.
 *
 * Invariants:
 * - A topic becomes visible (READY, or its larger partition count) only when the logs of all its partitions exist and
 *   their directories are synced. So a log that is missing for a visible partition was lost.
 * - Actions run one after the other, so that two names that collide cannot be created at once.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Random } from '../../src/ports/random.ts'
import type { Store } from '../metadata/commit.ts'
import type { MetadataImage, TopicImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import type { PartitionValue } from '../metadata/metadata-values.ts'
import type { Session } from '../metadata/session.ts'
import { collisionName, newUuid } from '../metadata/topic-names.ts'
import {
  addPartitions,
  type ControllerHold,
  createTopic,
  deleteKey,
  deletePartitionRecords,
  deleteTopic,
  initialPartition,
  type PartitionChange,
  type WriterCounter,
  writeConfig,
  writeTopic,
} from '../metadata/topic-transactions.ts'
import type { BrokerConfig, Texts } from './broker-config.ts'
import type { PartitionTable } from './partition-table.ts'

const TOMBSTONE_KEPT_MS = 30 * 24 * 3_600_000

export interface TopicControllerPorts {
  readonly store: Store
  readonly keys: MetadataKeys
  readonly image: MetadataImage
  readonly table: PartitionTable
  readonly config: BrokerConfig
  readonly random: Random
  readonly log: Log
}

export interface TopicRequest {
  readonly name: string
  /** Replicas of each partition, the preferred leader first. */
  readonly assignments: readonly (readonly number[])[]
  readonly config: Texts
}

export class TopicController {
  readonly #ports: TopicControllerPorts
  readonly #hold: ControllerHold
  readonly #writers: WriterCounter
  readonly #session: Session
  readonly #operationsMax: number
  #queue: Promise<unknown> = Promise.resolve()

  constructor(
    ports: TopicControllerPorts,
    hold: ControllerHold,
    writers: WriterCounter,
    session: Session,
    operationsMax: number,
  ) {
    this.#ports = ports
    this.#hold = hold
    this.#writers = writers
    this.#session = session
    this.#operationsMax = operationsMax
  }

  /**
   * @returns the topic, visible and served
   * @throws StreamError TOPIC_EXISTS, TOPIC_NAME_INVALID (collides with another), DISK_*, STORE_UNAVAILABLE
   */
  create(request: TopicRequest): Promise<TopicImage> {
    return this.#inTurn(async () => {
      const { store, keys, image, random, table, log } = this.#ports
      this.checkNewName(request.name)
      const topicId = newUuid(random)
      const partitions = request.assignments.map((replicas) =>
        this.#newPartition(replicas, request.config),
      )
      const topic = { name: request.name, topicId, config: request.config, partitions }
      const revision = await createTopic(store, keys, this.#hold, topic, this.#operationsMax)
      await image.waitFor(revision)
      try {
        await table.reconcile(topicId)
      } catch (error) {
        log.error('a topic could not be created', { topic: request.name, error: String(error) })
        await this.#remove(request.name)
        throw error
      }
      return this.#finish(request.name)
    })
  }

  /** @throws StreamError TOPIC_EXISTS, TOPIC_NAME_INVALID */
  checkNewName(name: string): void {
    const { image } = this.#ports
    if (image.topic(name) !== undefined) {
      throw new StreamError('TOPIC_EXISTS', `Topic '${name}' already exists.`, { target: name })
    }
    if (!name.includes('.') && !name.includes('_')) return
    const collision = collisionName(name)
    for (const topic of image.topics()) {
      if (collisionName(topic.name) === collision) {
        throw new StreamError('TOPIC_NAME_INVALID', `${name}: collides with ${topic.name}`, {
          target: name,
        })
      }
    }
  }

  /** @throws StreamError TOPIC_UNKNOWN, CONFLICT, DISK_* */
  grow(name: string, assignments: readonly (readonly number[])[]): Promise<void> {
    return this.#inTurn(async () => {
      const { store, keys, image, table } = this.#ports
      const topic = this.#expect(name)
      const partitions = assignments.map((replicas) =>
        this.#newPartition(replicas, topic.value.config),
      )
      const revision = await addPartitions(
        store,
        keys,
        this.#hold,
        topic,
        partitions,
        this.#operationsMax,
      )
      await image.waitFor(revision)
      await table.reconcile(topic.topicId)
      await this.#finish(name)
    })
  }

  /** @throws StreamError TOPIC_UNKNOWN, CONFLICT */
  delete(name: string): Promise<void> {
    return this.#inTurn(() => {
      this.#expect(name)
      return this.#remove(name)
    })
  }

  /**
   * Replaces a topic's configs, as `edit` makes them of those in force when its turn comes.
   * @throws StreamError TOPIC_UNKNOWN, CONFIG_INVALID, CONFLICT
   */
  configure(name: string, edit: (before: Texts) => Texts): Promise<void> {
    return this.#inTurn(async () => {
      const { store, keys, image } = this.#ports
      const topic = this.#expect(name)
      const config = edit(topic.value.config)
      const changes: PartitionChange[] = []
      for (const partition of image.partitions(topic.topicId).values()) {
        const minInSync = this.#minInSync(config, partition.value.replicas.length)
        if (minInSync === partition.value.minInSync) continue
        changes.push({
          topicId: topic.topicId,
          partition: partition.partition,
          revision: partition.revision,
          value: {
            ...partition.value,
            minInSync,
            eligibleReplicas: [],
            known: [],
            partitionEpoch: partition.value.partitionEpoch + 1,
            writer: this.#writers.next(),
          },
        })
      }
      const value = { ...topic.value, config }
      const { revision } = topic
      const written = await writeTopic(store, keys, this.#hold, { name, revision, value }, changes)
      await image.waitFor(written)
    })
  }

  /**
   * Replaces broker configs. `scope`: `broker` for all, `broker/<id>` for one.
   * @throws StreamError CONFIG_INVALID, CONFLICT
   */
  configureBroker(scope: string, edit: (before: Texts) => Texts): Promise<void> {
    return this.#inTurn(async () => {
      const { store, keys, image } = this.#ports
      const before = image.config(scope)
      const config = { scope, revision: before.revision, value: edit(before.value) }
      await image.waitFor(await writeConfig(store, keys, this.#hold, config))
    })
  }

  /** What a crash left in the middle: creations and growths are finished, deletions too, old tombstones forgotten. */
  finishInterrupted(wallMs: number): Promise<void> {
    return this.#inTurn(async () => {
      const { store, keys, image, log } = this.#ports
      for (const topic of [...image.topics()]) {
        const grows = image.partitions(topic.topicId).size > topic.value.partitions
        if (topic.value.state === 'READY' && !grows) continue
        log.info('finishing a topic that was being created', { topic: topic.name })
        await this.#finish(topic.name)
      }
      for (const topicId of [...image.partitionTopicIds()]) {
        if (image.topicById(topicId) !== undefined) continue
        if (image.deletedTopic(topicId) === undefined) continue
        const deletes = [...image.partitions(topicId).keys()].map((number) => ({
          kind: 'delete' as const,
          key: keys.partition(topicId, number),
        }))
        await deletePartitionRecords(store, keys, this.#hold, deletes, this.#operationsMax)
      }
      await this.#forgetTombstones(wallMs)
    })
  }

  forgetTombstones(wallMs: number): Promise<void> {
    return this.#inTurn(() => this.#forgetTombstones(wallMs))
  }

  /** Resolves when the actions begun so far have ended, however. */
  async settled(): Promise<void> {
    await this.#queue.catch(() => undefined)
  }

  async #forgetTombstones(wallMs: number): Promise<void> {
    const { store, keys, image } = this.#ports
    for (const tombstone of [...image.deletedTopics()]) {
      if (wallMs - tombstone.value.at < TOMBSTONE_KEPT_MS) continue
      if (image.partitions(tombstone.topicId).size > 0) continue
      const key = keys.deleted(tombstone.topicId)
      await deleteKey(store, keys, this.#hold, key, tombstone.revision)
    }
  }

  async #finish(name: string): Promise<TopicImage> {
    const { store, keys, image } = this.#ports
    const topic = this.#expect(name)
    const partitions = image.partitions(topic.topicId).size
    const value = { ...topic.value, partitions, state: 'READY' as const }
    const { revision } = topic
    await image.waitFor(await writeTopic(store, keys, this.#hold, { name, revision, value }))
    return this.#expect(name)
  }

  async #remove(name: string): Promise<void> {
    const { store, keys, image, table } = this.#ports
    const topic = this.#expect(name)
    const revision = await deleteTopic(
      store,
      keys,
      this.#hold,
      {
        name,
        topicId: topic.topicId,
        revision: topic.revision,
        partitions: [...image.partitions(topic.topicId).keys()],
      },
      store.time.wallMs(),
      this.#operationsMax,
    )
    await image.waitFor(revision)
    await table.reconcile(topic.topicId)
  }

  #newPartition(replicas: readonly number[], config: Texts): PartitionValue {
    const { image } = this.#ports
    return initialPartition({
      replicas: replicas.map((broker) => ({
        broker,
        dataEpoch: image.broker(broker)?.dataEpoch ?? 0,
      })),
      leaderIncarnation: image.broker(replicas[0] ?? -1)?.incarnation ?? this.#session.incarnation,
      minInSync: this.#minInSync(config, replicas.length),
      writer: this.#writers.next(),
    })
  }

  /** Effective minimum: never above the replicas. */
  #minInSync(config: Texts, replicas: number): number {
    const wanted = this.#ports.config.topicConfig(config, replicas).minInsyncReplicas
    return Math.min(wanted, replicas)
  }

  #expect(name: string): TopicImage {
    const topic = this.#ports.image.topic(name)
    if (topic === undefined) {
      throw new StreamError('TOPIC_UNKNOWN', `${name}: no such topic`, { target: name })
    }
    return topic
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const run = this.#queue.catch(() => undefined).then(action)
    this.#queue = run
    run.catch(() => undefined)
    return run
  }
}
