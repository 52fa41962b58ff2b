/**
 * What the controller does in one pass over the partitions: decide with `next()`, write with T3, let brokers in with T6, ask
 * replicas about their logs where a recovery needs it, and from time to time give leaderships back to preferred replicas.
 *
 * Invariants:
 * - A broker is let in only when every partition that mentions it has been evaluated against this registration, and what that
 *   changed is written (T6).
 * - A decision stands on one state of the image; what it stood on is guarded in the transaction.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Store } from '../metadata/commit.ts'
import {
  type BrokerView,
  type Cause,
  type LogView,
  next,
  preferLeader,
  settledReplicas,
  withMinInSync,
} from '../metadata/controller.ts'
import type { MetadataImage, PartitionImage, TopicImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import type { PartitionValue } from '../metadata/metadata-values.ts'
import { type PlannedChange, planChange, takeWrite } from '../metadata/partition-plan.ts'
import { activateBroker } from '../metadata/session.ts'
import { isInternalTopic } from '../metadata/topic-names.ts'
import { type WriterCounter, writePartitions } from '../metadata/topic-transactions.ts'

/** What replicas hold of partitions: by `topicId/partition`; one that does not answer for a partition leaves it out. */
export type LogInquiry = (
  nodeId: number,
  partitions: readonly { readonly topicId: string; readonly partition: number }[],
) => Promise<ReadonlyMap<string, LogView>>

/** What a controller's writes are guarded and signed with. */
export interface Reign {
  readonly controllerEpoch: number
  readonly writers: WriterCounter
}

export interface TopicSettings {
  readonly uncleanElection: boolean
  readonly commitFlush: boolean
  /** Effective min.insync.replicas for so many replicas; absent: as the records have it. */
  readonly minInSync?: (replicas: number) => number
}

export interface ControllerSettings {
  readonly topic: (topic: TopicImage) => TopicSettings
  /** How long a partition waits for a better copy before an unclean election, where its topic allows one. */
  readonly uncleanTimeoutMs: () => number
  readonly imbalancePauseMs: () => number
  readonly imbalancePercentage: () => number
}

export interface PassPorts {
  readonly store: Store
  readonly keys: MetadataKeys
  readonly image: MetadataImage
  readonly log: Log
  readonly settings: ControllerSettings
  readonly inquire: LogInquiry
  readonly operationsMax: number
  readonly reign: () => Reign | undefined
  readonly wake: () => void
}

interface KnownLog {
  readonly view: LogView
  readonly sessionEpoch: number
  readonly atMs: number
}

interface Decided {
  readonly value: PartitionValue
  readonly changed: boolean
  readonly wantsLogs: readonly number[]
}

const LOG_KNOWN_MS = 10_000
const ASK_TIMEOUT_MS = 5_000
const WRITE_PARTITIONS_MAX = 120

export class ControllerPass {
  readonly #ports: PassPorts
  #isAllMarked = true
  readonly #marked = new Set<string>()
  /** Records that are as they should be while brokers and configs stay, and the topic with which that was found. */
  #settled = new WeakMap<PartitionImage, TopicImage>()
  /** Topics that wait for time or answers, looked at again in the next pass. */
  #waiting = new Set<string>()
  readonly #logs = new Map<string, Map<number, KnownLog>>()
  readonly #asked = new Set<number>()
  readonly #leaderlessSince = new Map<string, number>()
  #writeMax = WRITE_PARTITIONS_MAX
  #balanceAtMs = 0

  constructor(ports: PassPorts) {
    this.#ports = ports
  }

  /** Something will be due without anything being written: an answer, or the end of a wait. */
  get isWaiting(): boolean {
    return this.#waiting.size > 0 || this.#asked.size > 0
  }

  /** A reign begins: nothing of an earlier one counts. */
  begin(): void {
    this.markAll()
    this.#logs.clear()
    this.#leaderlessSince.clear()
    this.#writeMax = WRITE_PARTITIONS_MAX
    this.#balanceAtMs = this.#nowMs() + this.#ports.settings.imbalancePauseMs()
  }

  mark(topicIds: Iterable<string>): void {
    for (const topicId of topicIds) this.#marked.add(topicId)
  }

  markAll(): void {
    this.#isAllMarked = true
    this.#settled = new WeakMap()
  }

  /**
   * @returns whether nothing is marked any more
   * @throws StreamError STORE_UNAVAILABLE, CLOSED
   */
  async run(): Promise<boolean> {
    const reign = this.#ports.reign()
    if (reign === undefined) return true
    const { changes, wants } = this.#evaluate(reign)
    if (changes.length > 0) {
      await this.#write(reign, changes)
      return false
    }
    await this.#activate(reign)
    this.#ask(wants)
    await this.#balance(reign)
    return !this.#isAllMarked && this.#marked.size === 0
  }

  #nowMs(): number {
    return this.#ports.store.time.monotonicMs()
  }

  #takeMarked(): Iterable<TopicImage> {
    const { image } = this.#ports
    const topicIds = new Set([...this.#marked, ...this.#waiting])
    this.#marked.clear()
    this.#waiting = new Set()
    if (this.#isAllMarked) {
      this.#isAllMarked = false
      return image.topics()
    }
    return [...topicIds].flatMap((topicId) => image.topicById(topicId) ?? [])
  }

  #evaluate(reign: Reign): {
    changes: PlannedChange[]
    wants: Map<number, { topicId: string; partition: number }[]>
  } {
    const { image } = this.#ports
    const brokers = image.brokers()
    const changes: PlannedChange[] = []
    const internal: PlannedChange[] = []
    const wants = new Map<number, { topicId: string; partition: number }[]>()
    for (const topic of this.#takeMarked()) {
      const settings = this.#settingsOf(topic)
      for (const record of image.partitions(topic.topicId).values()) {
        if (this.#settled.get(record) === topic) continue
        const decided = this.#decide(record, brokers, settings)
        for (const nodeId of decided.wantsLogs) {
          const partitions = wants.get(nodeId) ?? []
          wants.set(nodeId, partitions)
          partitions.push({ topicId: topic.topicId, partition: record.partition })
        }
        if (!decided.changed) {
          if (isSettled(decided)) this.#settled.set(record, topic)
          continue
        }
        const value = { ...decided.value, writer: reign.writers.next() }
        const planned = planChange(record, value, image)
        if (planned === undefined) this.#waiting.add(topic.topicId)
        else if (isInternalTopic(topic.name)) internal.push(planned)
        else changes.push(planned)
      }
    }
    return { changes: [...internal, ...changes], wants }
  }

  #settingsOf(topic: TopicImage): TopicSettings {
    try {
      return this.#ports.settings.topic(topic)
    } catch (error) {
      if (!isStreamError(error)) throw error
      this.#ports.log.error('a topic has a config that this broker does not understand', {
        topic: topic.name,
        error: error.message,
      })
      return { uncleanElection: false, commitFlush: false }
    }
  }

  #decide(
    record: PartitionImage,
    brokers: ReadonlyMap<number, BrokerView>,
    settings: TopicSettings,
  ): Decided {
    const { value, topicId, partition } = record
    const key = keyOf(topicId, partition)
    const cause = this.#causeOf(record, settings)
    const minInSync = settings.minInSync?.(settledReplicas(value)) ?? value.minInSync
    const base = withMinInSync(value, minInSync)
    const decision = next(base, brokers, this.#logsOf(key), settings, cause)
    if (decision.partition.leader >= 0) {
      this.#leaderlessSince.delete(key)
    } else if (settings.uncleanElection || decision.wantsLogs.length > 0) {
      this.#waiting.add(topicId)
    }
    return {
      value: decision.partition,
      changed: decision.changed || base !== value,
      wantsLogs: decision.wantsLogs,
    }
  }

  #causeOf({ topicId, partition, value }: PartitionImage, settings: TopicSettings): Cause {
    if (value.leader >= 0) return 'event'
    const key = keyOf(topicId, partition)
    const since = this.#leaderlessSince.get(key)
    if (since === undefined) {
      this.#leaderlessSince.set(key, this.#nowMs())
      return 'event'
    }
    if (!settings.uncleanElection) return 'event'
    return this.#nowMs() - since >= this.#ports.settings.uncleanTimeoutMs() ? 'timeout' : 'event'
  }

  /** What replicas have said not long ago, in the sessions they still have. */
  #logsOf(key: string): ReadonlyMap<number, LogView> {
    const found = new Map<number, LogView>()
    const known = this.#logs.get(key)
    if (known === undefined) return found
    for (const [nodeId, { view, sessionEpoch, atMs }] of known) {
      const isSame = this.#ports.image.session(nodeId)?.sessionEpoch === sessionEpoch
      if (isSame && this.#nowMs() - atMs < LOG_KNOWN_MS) found.set(nodeId, view)
      else known.delete(nodeId)
    }
    if (known.size === 0) this.#logs.delete(key)
    return found
  }

  async #write(reign: Reign, changes: readonly PlannedChange[]): Promise<void> {
    const { store, keys, image, operationsMax } = this.#ports
    const isOver = (): boolean => this.#ports.reign() !== reign
    const queue = [...changes]
    let revision = 0
    while (queue.length > 0) {
      if (isOver()) return
      const write = takeWrite(queue, operationsMax, this.#writeMax)
      const result = await writePartitions(
        store,
        keys,
        reign,
        write.changes,
        write.guards,
        undefined,
        { isOver },
      )
      revision = result.revision
      if (result.succeeded) {
        this.#writeMax = Math.min(WRITE_PARTITIONS_MAX, this.#writeMax * 2)
        continue
      }
      // Somebody was faster; smaller transactions find out with which partition, and spare the others.
      this.mark(write.changes.map((change) => change.topicId))
      this.#writeMax = Math.max(1, write.changes.length >> 1)
    }
    await image.catchUp(revision)
  }

  /** T6 for every broker that has registered and stands in no record any more that its registration would change. */
  async #activate(reign: Reign): Promise<void> {
    const { store, keys, image, log } = this.#ports
    for (const { nodeId, live, state } of image.brokers().values()) {
      if (!live || state !== 'FENCED') continue
      if (this.#ports.reign() !== reign) return
      const session = image.session(nodeId)
      const registration = image.registration(nodeId)
      if (session === undefined || registration === undefined) continue
      if (session.incarnation !== registration.value.incarnation) continue
      if (this.#isOpen(nodeId)) {
        this.#isAllMarked = true
        return
      }
      const broker = {
        nodeId,
        sessionEpoch: session.sessionEpoch,
        registrationRevision: registration.revision,
        registration: registration.value,
      }
      const result = await activateBroker(store, keys, reign.controllerEpoch, broker, {
        isOver: () => this.#ports.reign() !== reign,
      })
      if (result.succeeded) log.info('a broker is in', { nodeId })
      await image.catchUp(result.revision)
      this.#isAllMarked = true
    }
  }

  /** A partition that mentions the broker would be changed by an evaluation now. */
  #isOpen(nodeId: number): boolean {
    const { image } = this.#ports
    const brokers = image.brokers()
    for (const topic of image.topics()) {
      let settings: TopicSettings | undefined
      for (const record of image.partitions(topic.topicId).values()) {
        if (!mentions(record.value, nodeId)) continue
        settings ??= this.#settingsOf(topic)
        if (this.#decide(record, brokers, settings).changed) return true
      }
    }
    return false
  }

  #ask(wants: ReadonlyMap<number, readonly { topicId: string; partition: number }[]>): void {
    const { image, inquire, log, store } = this.#ports
    for (const [nodeId, partitions] of wants) {
      const session = image.session(nodeId)
      if (session === undefined || this.#asked.has(nodeId)) continue
      this.#asked.add(nodeId)
      const timer = store.time.setTimer(ASK_TIMEOUT_MS, () => this.#asked.delete(nodeId))
      const known = (logs: ReadonlyMap<string, LogView>): void => {
        const atMs = this.#nowMs()
        for (const { topicId, partition } of partitions) {
          const key = keyOf(topicId, partition)
          const view = logs.get(key)
          if (view === undefined) continue
          const entries = this.#logs.get(key) ?? new Map<number, KnownLog>()
          entries.set(nodeId, { view, sessionEpoch: session.sessionEpoch, atMs })
          this.#logs.set(key, entries)
          this.#marked.add(topicId)
        }
      }
      inquire(nodeId, partitions)
        .then(known, (error: unknown) => {
          log.debug('a replica did not say what it holds', { nodeId, error: String(error) })
        })
        .finally(() => {
          timer.cancel()
          this.#asked.delete(nodeId)
          if (this.#marked.size > 0) this.#ports.wake()
        })
        .catch(() => undefined)
    }
  }

  /** Back to the preferred leaders, where too many of a broker's partitions are led by others. */
  async #balance(reign: Reign): Promise<void> {
    const { image, settings, log } = this.#ports
    if (this.#nowMs() < this.#balanceAtMs) return
    this.#balanceAtMs = this.#nowMs() + settings.imbalancePauseMs()
    const share = settings.imbalancePercentage() / 100
    const preferring = new Map<number, PartitionImage[]>()
    for (const topic of image.topics()) {
      for (const record of image.partitions(topic.topicId).values()) {
        const preferred = record.value.replicas[0] ?? -1
        const records = preferring.get(preferred) ?? []
        preferring.set(preferred, records)
        records.push(record)
      }
    }
    const brokers = image.brokers()
    const changes: PlannedChange[] = []
    for (const [nodeId, records] of preferring) {
      const elsewhere = records.filter(({ value }) => value.leader !== nodeId)
      if (elsewhere.length <= share * records.length) continue
      for (const record of elsewhere) {
        const value = preferLeader(record.value, brokers)
        if (value === undefined) continue
        const signed = { ...value, writer: reign.writers.next() }
        const planned = planChange(record, signed, image)
        if (planned !== undefined) changes.push(planned)
      }
    }
    if (changes.length === 0) return
    log.info('leaderships go back to the preferred replicas', { partitions: changes.length })
    await this.#write(reign, changes)
  }
}

/** Neither time nor an answer would change it. */
function isSettled({ value, wantsLogs }: Decided): boolean {
  return value.leader >= 0 && wantsLogs.length === 0
}

function keyOf(topicId: string, partition: number): string {
  return `${topicId}/${partition}`
}

function mentions(value: PartitionValue, nodeId: number): boolean {
  return (
    value.leader === nodeId ||
    value.replicas.includes(nodeId) ||
    value.inSyncReplicas.some((m) => m.broker === nodeId) ||
    value.eligibleReplicas.some((m) => m.broker === nodeId)
  )
}
