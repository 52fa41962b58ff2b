/**
 * What the controller does to topics: create, grow, configure, delete; and what it finishes after a crash. Each step is
 * a guarded transaction of daemon/metadata; logs on disk follow through the partition table.
 *
 * Invariants:
 * - A topic becomes visible (READY, or its larger partition count) only when the logs of all its partitions exist and
 *   their directories are synced. So a log that is missing for a visible partition was lost.
 * - Actions run one after the other, so that two names that collide cannot be created at once.
 * - Only the controller acts (I12): the epoch that guards a write is taken when the action begins.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Random } from '../../src/ports/random.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Store } from '../metadata/commit.ts'
import { settledReplicas, withMinInSync } from '../metadata/controller.ts'
import type { MetadataImage, TopicImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import type { Member, PartitionValue } from '../metadata/metadata-values.ts'
import { collisionName, newUuid } from '../metadata/topic-names.ts'
import {
  addPartitions,
  createTopic,
  deleteKey,
  deletePartitionRecords,
  deleteTopic,
  initialPartition,
  type PartitionChange,
  writeConfig,
  writeTopic,
} from '../metadata/topic-transactions.ts'
import { type UserEdit, writeUser } from '../metadata/user-transactions.ts'
import type { BrokerConfig, Texts } from './broker-config.ts'
import { type BrokerRemoval, forgetBroker } from './broker-removal.ts'
import type { LogInquiry, Reign } from './controller-pass.ts'
import {
  type ElectionKind,
  type PartitionName,
  PartitionOrders,
  type PartitionOutcome,
  type ReplicaOrder,
  type RunningReassignment,
} from './partition-orders.ts'
import type { PartitionTable } from './partition-table.ts'
import { assignReplicas } from './replica-placement.ts'

const ATTEMPTS_MAX = 10
/** So long is waited for the next controller to finish a topic. */
const SUCCESSOR_MS = 20_000
const TOMBSTONE_KEPT_MS = 30 * 24 * 3_600_000

export interface TopicControllerPorts {
  readonly nodeId: number
  readonly store: Store
  readonly keys: MetadataKeys
  readonly image: MetadataImage
  readonly table: Pick<PartitionTable, 'reconcile'>
  readonly config: BrokerConfig
  readonly random: Random
  readonly log: Log
  readonly inquire: LogInquiry
  /** What writes are guarded and signed with now. @throws StreamError NOT_CONTROLLER */
  readonly reign: () => Reign
  /** Largest transaction of the store. */
  readonly operationsMax: number
}

export interface TopicRequest {
  readonly name: string
  /** Replicas of each partition, the preferred leader first. */
  readonly assignments: readonly (readonly number[])[]
  readonly config: Texts
}

export class TopicController {
  readonly #ports: TopicControllerPorts
  readonly #orders: PartitionOrders
  #queue: Promise<unknown> = Promise.resolve()

  constructor(ports: TopicControllerPorts) {
    this.#ports = ports
    this.#orders = new PartitionOrders(ports)
  }

  /** Brokers that may hold new partitions: the active ones; a broker that is alone and going still counts. */
  placeable(): readonly number[] {
    const views = [...this.#ports.image.brokers().values()].filter((broker) => broker.live)
    const active = views.filter((broker) => broker.state === 'ACTIVE')
    const usable = active.length > 0 ? active : views.filter(({ state }) => state !== 'FENCED')
    return usable.map((broker) => broker.nodeId).sort((a, b) => a - b)
  }

  /**
   * Brokers for new partitions, alternating racks; one without room only where the others are too few.
   * @param replicas  at most the number of placeable brokers
   * @param startAt  of a topic that grows: its partitions so far
   */
  place(
    partitions: number,
    replicas: number,
    startAt = this.#ports.image.topicCount,
  ): readonly (readonly number[])[] {
    const { image } = this.#ports
    const placeable = this.placeable()
    const roomy = placeable.filter((nodeId) => image.broker(nodeId)?.isFull !== true)
    const brokers = roomy.length >= replicas ? roomy : placeable
    const racks = new Map(
      brokers.map((nodeId) => [nodeId, image.registration(nodeId)?.value.rack ?? null]),
    )
    return assignReplicas(brokers, { partitions, replicationFactor: replicas, startAt, racks })
  }

  /**
   * @returns the topic, visible and served
   * @throws StreamError TOPIC_EXISTS, TOPIC_NAME_INVALID (collides with another), NOT_CONTROLLER: it was not made; DISK_*,
   *   STORE_UNAVAILABLE; TIMED_OUT: another controller has it in hand, what becomes of it is not known yet
   */
  async create(request: TopicRequest): Promise<TopicImage> {
    const topicId = newUuid(this.#ports.random)
    try {
      return await this.#inTurn((reign) => this.#create(reign, topicId, request))
    } catch (error) {
      const isOvertaken = isStreamError(error, 'NOT_CONTROLLER') || isStreamError(error, 'CONFLICT')
      if (!isOvertaken) throw error
      // Not in turn: should this broker lead again, it is itself who finishes the topic.
      return this.#finishedByAnother(topicId, request.name, error)
    }
  }

  async #create(reign: Reign, topicId: string, request: TopicRequest): Promise<TopicImage> {
    const { store, keys, image, log, operationsMax } = this.#ports
    this.checkNewName(request.name)
    const partitions = request.assignments.map((replicas) =>
      this.#newPartition(replicas, request.config, reign),
    )
    const topic = { name: request.name, topicId, config: request.config, partitions }
    const revision = await createTopic(store, keys, reign, topic, operationsMax)
    await image.catchUp(revision)
    try {
      await this.#makeHere(topicId)
    } catch (error) {
      log.error('a topic could not be created', { topic: request.name, error: String(error) })
      await this.#remove(reign, request.name)
      throw error
    }
    return this.#finish(reign, request.name)
  }

  /**
   * The controller has changed while a topic was made. What its successor finds is finished or taken back; "ask the new
   * controller" would send the client to meet its own topic there, and be told that somebody else has made it.
   */
  async #finishedByAnother(topicId: string, name: string, why: StreamError): Promise<TopicImage> {
    const { image, store } = this.#ports
    await image.refresh()
    const isKnown = (): boolean =>
      image.topicById(topicId) !== undefined || image.deletedTopic(topicId) !== undefined
    if (!isKnown()) throw why
    return new Promise((resolve, reject) => {
      const end = (act: () => void): void => {
        remove()
        timer.cancel()
        act()
      }
      const look = (): void => {
        const topic = image.topicById(topicId)
        if (topic?.value.state === 'READY') end(() => resolve(topic))
        else if (topic === undefined) end(() => reject(why))
      }
      const timer = store.time.setTimer(SUCCESSOR_MS, () => {
        const message = `${name}: the controller has changed, and its successor has not finished the topic`
        end(() => reject(new StreamError('TIMED_OUT', message, { target: name })))
      })
      const remove = image.onChange(look)
      look()
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

  /** @throws StreamError TOPIC_UNKNOWN, CONFLICT, NOT_CONTROLLER, DISK_* */
  grow(name: string, assignments: readonly (readonly number[])[]): Promise<void> {
    return this.#inTurn(async (reign) => {
      const { store, keys, image, operationsMax } = this.#ports
      const topic = this.#expect(name)
      if (image.partitions(topic.topicId).size > topic.value.partitions) {
        await this.#finish(reign, name)
        throw new StreamError('CONFLICT', `${name}: an earlier growth was finished first`, {
          target: name,
          hint: 'look at the number of partitions, and try again',
        })
      }
      const partitions = assignments.map((replicas) =>
        this.#newPartition(replicas, topic.value.config, reign),
      )
      const revision = await addPartitions(store, keys, reign, topic, partitions, operationsMax)
      await image.catchUp(revision)
      await this.#makeHere(topic.topicId)
      await this.#finish(reign, name)
    })
  }

  /** @throws StreamError TOPIC_UNKNOWN, CONFLICT, NOT_CONTROLLER */
  delete(name: string): Promise<void> {
    return this.#inTurn(async (reign) => {
      this.#expect(name)
      await this.#again(() => this.#remove(reign, name))
    })
  }

  /**
   * Replaces a topic's configs, as `edit` makes them of those in force when its turn comes. Where the partitions do not fit
   * into one transaction the topic is written first, and the controller's next pass brings their minima in line.
   * @throws StreamError TOPIC_UNKNOWN, CONFIG_INVALID, CONFLICT, NOT_CONTROLLER
   */
  configure(name: string, edit: (before: Texts) => Texts): Promise<void> {
    return this.#inTurn((reign) => this.#again(() => this.#configure(reign, name, edit)))
  }

  /** Moves under way, of these partitions, absent: of all; as far as this broker knows, controller or not. */
  reassignments(names?: readonly PartitionName[]): readonly RunningReassignment[] {
    return this.#orders.reassignments(names)
  }

  /**
   * @param mayResize  a partition may get another number of replicas than it has
   * @returns an outcome per partition
   * @throws StreamError NOT_CONTROLLER, STORE_UNAVAILABLE
   */
  reassign(
    orders: readonly ReplicaOrder[],
    options: { readonly mayResize: boolean } = { mayResize: true },
  ): Promise<readonly PartitionOutcome[]> {
    return this.#inTurn(() => this.#orders.reassign(orders, options))
  }

  /**
   * @param names  undefined: all partitions
   * @returns an outcome per partition; without names only of those that needed an election
   * @throws StreamError NOT_CONTROLLER, STORE_UNAVAILABLE
   */
  async electLeaders(
    kind: ElectionKind,
    names?: readonly PartitionName[],
  ): Promise<readonly PartitionOutcome[]> {
    this.#ports.reign()
    const wanted = names ?? [...this.#orders.allPartitions()]
    const logs = kind === 'unclean' ? await this.#orders.askForLogs(wanted) : new Map()
    const outcomes = await this.#inTurn(() => this.#orders.electLeaders(kind, wanted, logs))
    if (names !== undefined) return outcomes
    return outcomes.filter(({ code }) => code !== KafkaError.ELECTION_NOT_NEEDED)
  }

  /**
   * Takes a broker out of the cluster for good, unless it is alive or holds replicas.
   * @throws StreamError CONFLICT, NOT_CONTROLLER, STORE_UNAVAILABLE
   */
  forgetBroker(nodeId: number): Promise<BrokerRemoval> {
    return this.#inTurn((reign) => forgetBroker(this.#ports, reign, nodeId))
  }

  async #configure(reign: Reign, name: string, edit: (before: Texts) => Texts): Promise<void> {
    const { store, keys, image, operationsMax } = this.#ports
    const topic = this.#expect(name)
    const config = edit(topic.value.config)
    const changes: PartitionChange[] = []
    for (const { partition, revision, value } of image.partitions(topic.topicId).values()) {
      const changed = withMinInSync(value, this.#minInSync(config, settledReplicas(value)))
      if (changed === value) continue
      const signed = { ...changed, writer: reign.writers.next() }
      changes.push({ topicId: topic.topicId, partition, revision, value: signed })
    }
    const value = { ...topic.value, config }
    const { revision } = topic
    const together = changes.length + 2 <= operationsMax ? changes : []
    const written = await writeTopic(store, keys, reign, { name, revision, value }, together)
    await image.catchUp(written)
  }

  /**
   * Replaces broker configs. `scope`: `broker` for all, `broker/<id>` for one.
   * @throws StreamError CONFIG_INVALID, CONFLICT, NOT_CONTROLLER
   */
  configureBroker(scope: string, edit: (before: Texts) => Texts): Promise<void> {
    return this.#inTurn((reign) =>
      this.#again(async () => {
        const { store, keys, image } = this.#ports
        const before = image.config(scope)
        const config = { scope, revision: before.revision, value: edit(before.value) }
        await image.catchUp(await writeConfig(store, keys, reign, config))
      }),
    )
  }

  /** Changes what proves a user's passwords. @throws StreamError NAME_UNKNOWN, NOT_CONTROLLER, STORE_UNAVAILABLE */
  changeUser(name: string, edit: UserEdit): Promise<void> {
    return this.#inTurn((reign) =>
      this.#again(async () => {
        const { store, keys, image } = this.#ports
        await image.catchUp(await writeUser(store, keys, reign, { name, image, edit }))
      }),
    )
  }

  /**
   * What a crash or a lost controller left in the middle: growths are finished, and creations whose records are all there;
   * others are taken back, for nobody was told of them. Deletions are finished too, old tombstones forgotten.
   */
  finishInterrupted(wallMs: number): Promise<void> {
    return this.#inTurn(async (reign) => {
      const { store, keys, image, log, operationsMax } = this.#ports
      for (const topic of [...image.topics()]) {
        const records = image.partitions(topic.topicId).size
        const isCreating = topic.value.state === 'CREATING'
        if (!isCreating && records <= topic.value.partitions) continue
        if (isCreating && records < topic.value.partitions) {
          log.info('taking back a topic whose creation was broken off', { topic: topic.name })
          await this.#remove(reign, topic.name)
          continue
        }
        log.info('finishing a topic that was being created', { topic: topic.name })
        await this.#finish(reign, topic.name)
      }
      for (const topicId of [...image.partitionTopicIds()]) {
        if (image.topicById(topicId) !== undefined) continue
        if (image.deletedTopic(topicId) === undefined) continue
        const deletes = [...image.partitions(topicId).keys()].map((number) => ({
          kind: 'delete' as const,
          key: keys.partition(topicId, number),
        }))
        await deletePartitionRecords(store, keys, reign, deletes, operationsMax)
      }
      await this.#forgetTombstones(reign, wallMs)
    })
  }

  forgetTombstones(wallMs: number): Promise<void> {
    return this.#inTurn((reign) => this.#forgetTombstones(reign, wallMs))
  }

  /** Resolves when the actions begun so far have ended, however. */
  async settled(): Promise<void> {
    await this.#queue.catch(() => undefined)
  }

  async #forgetTombstones(reign: Reign, wallMs: number): Promise<void> {
    const { store, keys, image } = this.#ports
    for (const tombstone of [...image.deletedTopics()]) {
      if (wallMs - tombstone.value.at < TOMBSTONE_KEPT_MS) continue
      if (image.partitions(tombstone.topicId).size > 0) continue
      const key = keys.deleted(tombstone.topicId)
      await deleteKey(store, keys, reign, key, tombstone.revision)
    }
  }

  /**
   * Makes the logs that lie here. Whether others could make theirs nobody waits for, so a full disk is no more of a reason here
   * to refuse a topic that others lead: what is missing is made when there is room (PartitionTable.retry), and counts for nothing
   * until then.
   * @throws StreamError DISK_*
   */
  async #makeHere(topicId: string): Promise<void> {
    const { nodeId, image, table, log } = this.#ports
    try {
      await table.reconcile(topicId)
    } catch (error) {
      if (!isStreamError(error, 'DISK_FULL')) throw error
      // The leaderships were given away meanwhile.
      await image.refresh()
      for (const { value } of image.partitions(topicId).values()) {
        if (value.leader < 0 || value.leader === nodeId) throw error
      }
      log.warn('a topic is made without this broker: its disk is full', { topicId })
    }
  }

  async #finish(reign: Reign, name: string): Promise<TopicImage> {
    const { store, keys, image } = this.#ports
    const topic = this.#expect(name)
    const partitions = image.partitions(topic.topicId).size
    const value = { ...topic.value, partitions, state: 'READY' as const }
    const { revision } = topic
    await image.catchUp(await writeTopic(store, keys, reign, { name, revision, value }))
    return this.#expect(name)
  }

  async #remove(reign: Reign, name: string): Promise<void> {
    const { store, keys, image, table, operationsMax } = this.#ports
    const topic = this.#expect(name)
    const revision = await deleteTopic(
      store,
      keys,
      reign,
      {
        name,
        topicId: topic.topicId,
        revision: topic.revision,
        partitions: [...image.partitions(topic.topicId).keys()],
      },
      store.time.wallMs(),
      operationsMax,
    )
    await image.catchUp(revision)
    await table.reconcile(topic.topicId)
  }

  /** In sync from the begin on are the replicas that are live and have room, with their data epochs; the first of them leads. */
  #newPartition(replicas: readonly number[], config: Texts, reign: Reign): PartitionValue {
    const { image } = this.#ports
    const live: Member[] = []
    const members: Member[] = []
    for (const broker of replicas) {
      const view = image.broker(broker)
      if (view?.live !== true || view.state === 'FENCED' || view.dataEpoch === 0) continue
      live.push({ broker, dataEpoch: view.dataEpoch })
      if (view.isFull !== true) members.push({ broker, dataEpoch: view.dataEpoch })
    }
    if (members.length === 0) members.push(...live)
    return initialPartition({
      replicas: members,
      assigned: replicas,
      leaderIncarnation: image.session(members[0]?.broker ?? -1)?.incarnation ?? '',
      minInSync: this.#minInSync(config, replicas.length),
      writer: reign.writers.next(),
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

  /** A leader or another action was faster: once more, with what is there now. */
  async #again<T>(action: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await action()
      } catch (error) {
        if (!isStreamError(error, 'CONFLICT') || attempt === ATTEMPTS_MAX) throw error
        // The controller's own key may be what has changed.
        await this.#ports.image.refresh()
        this.#ports.reign()
      }
    }
  }

  #inTurn<T>(action: (reign: Reign) => Promise<T>): Promise<T> {
    const run = this.#queue.catch(() => undefined).then(() => action(this.#ports.reign()))
    this.#queue = run
    run.catch(() => undefined)
    return run
  }
}
