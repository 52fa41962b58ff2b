/**
 * One broker of a simulated control plane: session, controller and topics are the real ones; its data plane is played. As a leader
 * it takes followers in and out (T4, T5) as if they kept up or fell behind, and remembers what it counts with meanwhile.
 */
import type { Store } from '../../daemon/metadata/commit.ts'
import { completeReassignment } from '../../daemon/metadata/controller.ts'
import { MetadataImage, type PartitionImage } from '../../daemon/metadata/metadata-image.ts'
import type { MetadataKeys } from '../../daemon/metadata/metadata-keys.ts'
import type { Member, PartitionValue } from '../../daemon/metadata/metadata-values.ts'
import { drain } from '../../daemon/metadata/session.ts'
import {
  type FollowerGuard,
  WriterCounter,
  withoutRecovering,
  writeOwnPartition,
} from '../../daemon/metadata/topic-transactions.ts'
import { BrokerConfig } from '../../daemon/replica/broker-config.ts'
import { ControllerService, notController } from '../../daemon/replica/controller-service.ts'
import { openSession, SessionKeeper } from '../../daemon/replica/session-keeper.ts'
import { TopicController } from '../../daemon/replica/topic-controller.ts'
import { StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { MetadataStore } from '../../src/ports/metadata-store.ts'
import { sleep } from '../../src/ports/time.ts'
import { Gate, GatedStore, GatedTime } from './gate.ts'
import type { SimRandom } from './sim-random.ts'
import type { SimStore, SimStoreServer } from './sim-store.ts'
import { SimTime } from './sim-time.ts'
import type { SimWorld } from './sim-world.ts'

export interface ControlBrokerOptions {
  readonly world: SimWorld
  readonly server: SimStoreServer
  readonly keys: MetadataKeys
  readonly nodeId: number
  readonly rack: string | null
  readonly wrapStore: (store: MetadataStore, keys: MetadataKeys) => MetadataStore
  readonly peers: () => readonly ControlBroker[]
}

const quiet: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}
const OPERATIONS_MAX = 24

/** Of one process. */
interface Life {
  readonly store: Store
  readonly image: MetadataImage
  readonly session: SessionKeeper
  readonly controller: ControllerService
  readonly topics: TopicController
}

export class ControlBroker {
  readonly nodeId: number
  gate = new Gate()
  /** No follower falls behind any more. */
  isCalm = false
  /** Of the session: what the directory remembers. */
  leaseId: string | undefined
  failure: string | undefined
  readonly #options: ControlBrokerOptions
  readonly #random: SimRandom
  #starts = 0
  #home: SimStore | undefined
  #time: SimTime | undefined
  #life: Life | undefined
  #isRegistered = false
  readonly #pending = new Map<string, readonly number[]>()

  constructor(options: ControlBrokerOptions) {
    this.#options = options
    this.nodeId = options.nodeId
    this.#random = options.world.random.fork(`broker ${options.nodeId}`)
  }

  get isUp(): boolean {
    return this.#life !== undefined
  }

  get isActive(): boolean {
    const life = this.#life
    if (life === undefined) return false
    const view = life.image.broker(this.nodeId)
    return view?.state === 'ACTIVE' && view.incarnation === life.session.incarnation
  }

  get isController(): boolean {
    return this.#life?.controller.isController === true && !this.gate.isShut
  }

  get topics(): TopicController {
    return this.#living().topics
  }

  get image(): MetadataImage {
    return this.#living().image
  }

  start(isLossy: boolean): void {
    this.#run(isLossy).catch((error: unknown) => {
      this.failure = String(error)
      // As a service manager would.
      const starts = this.#starts
      this.#options.world.schedule(1000, 'start again', () => {
        if (this.#starts === starts && this.#life === undefined) this.start(isLossy)
      })
    })
  }

  crash(): void {
    this.#time?.halt()
    if (this.#home !== undefined) this.#options.server.crash(this.#home)
    // Nothing of what was on its way arrives.
    this.gate.shut()
    this.gate = new Gate()
    this.#life = undefined
    this.#home = undefined
    this.#pending.clear()
    this.#starts += 1
  }

  /** In order: drains, waits until it leads nothing (at most 30 s), goes. */
  async stop(): Promise<void> {
    const life = this.#living()
    const starts = this.#starts
    await drain(life.store, this.#options.keys, life.session.session).catch(() => undefined)
    const deadline = life.store.time.monotonicMs() + 30_000
    while (life.store.time.monotonicMs() < deadline && this.#leads(life)) {
      await sleep(life.store.time, 100)
    }
    if (this.#starts !== starts) throw new StreamError('CLOSED', 'it died meanwhile')
    this.#life = undefined
    await life.controller.stop()
    life.image.close()
    await life.session.end()
    if (this.#starts === starts) this.crash()
  }

  /** What the leader of `value` counts with, where this process is that leader and knows this record or the one before. */
  maximalInSync(key: string, value: PartitionValue): readonly number[] | undefined {
    const life = this.#life
    if (life === undefined || life.session.incarnation !== value.leaderIncarnation) return undefined
    const parsed = this.#options.keys.parse(key)
    if (parsed?.kind !== 'partition') return undefined
    const known = life.image.partition(parsed.topicId, parsed.partition)?.value
    if (known === undefined || known.leaderEpoch !== value.leaderEpoch) return undefined
    const members = known.inSyncReplicas.map((m) => m.broker)
    return [...members, ...(this.#pending.get(key) ?? [])]
  }

  #living(): Life {
    if (this.#life === undefined) throw new StreamError('CLOSED', 'the broker is down')
    return this.#life
  }

  #leads({ image }: Life): boolean {
    for (const topic of image.topics()) {
      for (const { value } of image.partitions(topic.topicId).values()) {
        if (value.leader === this.nodeId) return true
      }
    }
    return false
  }

  async #run(isLossy: boolean): Promise<void> {
    const { world, server, keys, nodeId } = this.#options
    this.crash()
    const starts = this.#starts
    const { gate } = this
    this.#time = new SimTime(world, { name: `broker ${nodeId}` })
    this.#home = server.connect()
    const home = this.#options.wrapStore(new GatedStore(gate, this.#home), keys)
    const time = new GatedTime(gate, this.#time)
    const store: Store = { store: home, time }
    const image = await MetadataImage.open(store, keys, quiet)
    if (this.leaseId !== undefined && this.#random.chance(0.7)) {
      await home.revokeLease?.(this.leaseId)
      await image.refresh()
    }
    const incarnation = `${nodeId}-${starts}`
    const ports = {
      store,
      keys,
      image,
      log: quiet,
      recordLease: async (leaseId: string) => {
        this.leaseId = leaseId
      },
    }
    const judge = async () => {
      await image.refresh()
      return {
        nodeId,
        incarnation,
        endpoints: [],
        rack: this.#options.rack,
        directories: ['d'],
        lossyReason: isLossy || !this.#isRegistered ? 'as the run wants it' : undefined,
        judged: {
          dataEpoch: image.broker(nodeId)?.dataEpoch ?? 0,
          registrationRevision: image.registration(nodeId)?.revision ?? 0,
        },
      }
    }
    const open = await openSession(ports, judge, { ttlMs: 10_000, waitMs: 25_000 })
    if (this.#starts !== starts) return
    this.#isRegistered = true
    const session = new SessionKeeper(ports, open, true)
    session.onFenced = (error) => {
      this.failure = error.message
    }
    const config = new BrokerConfig(new Map())
    const topics: TopicController = new TopicController({
      store,
      keys,
      image,
      nodeId,
      table: { reconcile: () => Promise.resolve() },
      config,
      random: this.#random,
      log: quiet,
      operationsMax: OPERATIONS_MAX,
      inquire: (to, partitions) => this.#inquire(to, partitions),
      reign: () => {
        const { reign } = controller
        if (reign === undefined) throw notController(-1, nodeId)
        return reign
      },
    })
    const controller: ControllerService = new ControllerService({
      store,
      keys,
      image,
      session,
      random: this.#random,
      log: quiet,
      operationsMax: OPERATIONS_MAX,
      settings: {
        topic: ({ value }) => {
          const whole = config.topicConfig(value.config, 1)
          return {
            uncleanElection: whole.uncleanLeaderElectionEnable,
            commitFlush: true,
            minInSync: (replicas) =>
              Math.min(config.topicConfig(value.config, replicas).minInsyncReplicas, replicas),
          }
        },
        uncleanTimeoutMs: () => 5000,
        imbalancePauseMs: () => 10_000,
        imbalancePercentage: () => 10,
      },
      inquire: (to, partitions) => this.#inquire(to, partitions),
      finishInterrupted: () => topics.finishInterrupted(time.wallMs()),
    })
    const life: Life = { store, image, session, controller, topics }
    this.#life = life
    session.start()
    controller.start()
    this.#play(life)
  }

  async #inquire(
    nodeId: number,
    partitions: readonly { readonly topicId: string; readonly partition: number }[],
  ) {
    const peer = this.#options.peers().find((each) => each.nodeId === nodeId)
    if (peer?.isUp !== true || peer.gate.isShut) {
      throw new StreamError('UNREACHABLE', 'no answer')
    }
    return new Map(
      partitions.map(({ topicId, partition }) => [
        `${topicId}/${partition}`,
        { lastEpoch: 1, logEndOffset: this.#random.integer(100) },
      ]),
    )
  }

  /** The data plane, as far as the metadata see it. */
  #play(life: Life): void {
    const { time } = life.store
    const writers = new WriterCounter(life.session.sessionEpoch)
    const epoch = life.session.sessionEpoch
    const look = (): void => {
      if (this.#life !== life) return
      if (life.session.sessionEpoch !== epoch) {
        this.#play(life)
        return
      }
      if (!life.session.isSelfFenced()) {
        for (const topic of life.image.topics()) {
          for (const record of life.image.partitions(topic.topicId).values()) {
            this.#lead(life, record, writers)
          }
        }
      }
      time.setTimer(this.#random.between(100, 600), look)
    }
    time.setTimer(this.#random.between(1, 300), look)
  }

  #lead(life: Life, record: PartitionImage, writers: WriterCounter): void {
    const { value } = record
    const key = this.#options.keys.partition(record.topicId, record.partition)
    const leads =
      value.leader === this.nodeId && value.leaderIncarnation === life.session.incarnation
    if (!leads || this.#pending.has(key)) return
    if (value.recovering) {
      this.#propose(life, record, withoutRecovering(value, writers.next()), undefined)
      return
    }
    if (!this.isCalm && this.#random.chance(0.1)) {
      const others = value.inSyncReplicas.filter((m) => m.broker !== this.nodeId)
      if (others.length === 0) return
      const dropped = this.#random.pick(others)
      this.#propose(life, record, { ...shrink(value, dropped), writer: writers.next() }, undefined)
      return
    }
    const missing = value.replicas.filter(
      (id) => !value.inSyncReplicas.some((m) => m.broker === id),
    )
    for (const id of this.#random.shuffle(missing)) {
      const guard = followerOf(life.image, id)
      if (guard === undefined || this.#random.chance(0.3)) continue
      const joined = { ...expand(value, guard), writer: writers.next() }
      this.#propose(life, record, joined, guard)
      return
    }
  }

  #propose(
    life: Life,
    record: PartitionImage,
    value: PartitionValue,
    follower: FollowerGuard | undefined,
  ): void {
    const { topicId, partition, revision } = record
    const key = this.#options.keys.partition(topicId, partition)
    // The larger set, until the outcome is known and seen.
    this.#pending.set(key, [
      ...record.value.inSyncReplicas.map((m) => m.broker),
      ...value.inSyncReplicas.map((m) => m.broker),
    ])
    const hold = { nodeId: this.nodeId, sessionEpoch: value.writer.epoch }
    const change = { topicId, partition, revision, value }
    const { store, image } = life
    const settle = async (): Promise<void> => {
      for (;;) {
        try {
          const result = await writeOwnPartition(store, this.#options.keys, hold, change, follower)
          await image.catchUp(result.revision)
          return
        } catch (error) {
          if (error instanceof StreamError && error.code === 'CLOSED') return
          await sleep(store.time, 500)
        }
      }
    }
    settle()
      .finally(() => this.#pending.delete(key))
      .catch(() => undefined)
  }
}

function followerOf(image: MetadataImage, nodeId: number): FollowerGuard | undefined {
  const session = image.session(nodeId)
  const registration = image.registration(nodeId)
  const dataEpoch = image.broker(nodeId)?.dataEpoch ?? 0
  if (session === undefined || registration === undefined || dataEpoch === 0) return undefined
  if (registration.value.state !== 'ACTIVE') return undefined
  return {
    nodeId,
    sessionEpoch: session.sessionEpoch,
    dataEpoch,
    registrationRevision: registration.revision,
  }
}

function expand(value: PartitionValue, { nodeId, dataEpoch }: FollowerGuard): PartitionValue {
  const inSyncReplicas = [
    ...value.inSyncReplicas.filter((m) => m.broker !== nodeId),
    { broker: nodeId, dataEpoch },
  ]
  const isEnough = inSyncReplicas.length >= value.minInSync
  const joined = {
    ...value,
    inSyncReplicas,
    eligibleReplicas: isEnough ? [] : value.eligibleReplicas.filter((m) => m.broker !== nodeId),
    known: isEnough ? [] : value.known,
    partitionEpoch: value.partitionEpoch + 1,
  }
  const completed = completeReassignment(joined)
  if (completed === undefined || !completed.replicas.includes(value.leader)) return joined
  return { ...completed, leaderEpoch: value.leaderEpoch + 1 }
}

function shrink(value: PartitionValue, dropped: Member): PartitionValue {
  const inSyncReplicas = value.inSyncReplicas.filter((m) => m.broker !== dropped.broker)
  const isEnough = inSyncReplicas.length >= value.minInSync
  return {
    ...value,
    inSyncReplicas,
    eligibleReplicas: isEnough
      ? []
      : [...value.eligibleReplicas.filter((m) => m.broker !== dropped.broker), dropped],
    known: isEnough ? [] : value.known,
    partitionEpoch: value.partitionEpoch + 1,
  }
}
