/**
 * What an operator orders of single partitions: which brokers hold them (KIP-455), who leads them (KIP-460). Decided with the
 * controller's own functions and written as its decisions are (T3); each partition has an outcome of its own.
 *
 * Invariants:
 * - An order is decided anew whenever its partition has changed before it was written.
 * - Records are put at risk by one order alone, the unclean election, and then only where no whole member could lead.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import { sleep } from '../../src/ports/time.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Store } from '../metadata/commit.ts'
import {
  beginReassignment,
  cancelReassignment,
  isReassigning,
  type LogView,
  next,
  preferLeader,
} from '../metadata/controller.ts'
import type { MetadataImage, PartitionImage, TopicImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import type { PartitionValue } from '../metadata/metadata-values.ts'
import { type PlannedChange, planChange, takeWrite } from '../metadata/partition-plan.ts'
import { writePartitions } from '../metadata/topic-transactions.ts'
import type { BrokerConfig } from './broker-config.ts'
import type { LogInquiry, Reign, TopicSettings } from './controller-pass.ts'
import { topicSettings } from './controller-settings.ts'
import { findAssignmentDefect } from './replica-placement.ts'

const ATTEMPTS_MAX = 10
const WRITE_PARTITIONS_MAX = 120
const ASK_TIMEOUT_MS = 5_000
const RETRY_PAUSE_MS = 20

export interface PartitionName {
  readonly topic: string
  readonly partition: number
}

export interface ReplicaOrder extends PartitionName {
  /** Preferred leader first; null: back to where it was before the reassignment under way. */
  readonly replicas: readonly number[] | null
}

export interface PartitionOutcome extends PartitionName {
  /** Kafka's number; 0: done, or begun. */
  readonly code: number
  readonly message: string | null
}

export interface RunningReassignment extends PartitionName {
  readonly replicas: readonly number[]
  readonly adding: readonly number[]
  readonly removing: readonly number[]
}

/** `unclean`: where nobody leads, whoever is alive and reaches farthest, though records may be lost. */
export type ElectionKind = 'preferred' | 'unclean'

export interface OrderPorts {
  readonly store: Store
  readonly keys: MetadataKeys
  readonly image: MetadataImage
  readonly config: BrokerConfig
  readonly log: Log
  readonly inquire: LogInquiry
  /** @throws StreamError NOT_CONTROLLER */
  readonly reign: () => Reign
  /** Largest transaction of the store. */
  readonly operationsMax: number
}

/** What replicas said of their logs, with the session they said it in. */
type AskedLogs = ReadonlyMap<
  string,
  ReadonlyMap<number, { readonly view: LogView; readonly sessionEpoch: number }>
>

type Verdict =
  | { readonly kind: 'refused'; readonly code: number; readonly message: string }
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'change'; readonly value: PartitionValue }

const UNCHANGED: Verdict = { kind: 'unchanged' }

export class PartitionOrders {
  readonly #ports: OrderPorts

  constructor(ports: OrderPorts) {
    this.#ports = ports
  }

  /** Of these partitions, absent: of all. */
  reassignments(names?: readonly PartitionName[]): readonly RunningReassignment[] {
    const found: RunningReassignment[] = []
    for (const { topic, partition } of names ?? this.allPartitions()) {
      const value = this.#find(topic, partition)?.value
      if (value === undefined || !isReassigning(value)) continue
      const { replicas, adding, removing } = value
      found.push({ topic, partition, replicas, adding, removing })
    }
    return found
  }

  /** Of all topics that are served. */
  *allPartitions(): Iterable<PartitionName> {
    for (const { name, value } of this.#ports.image.topics()) {
      if (value.state !== 'READY') continue
      for (let partition = 0; partition < value.partitions; partition += 1) {
        yield { topic: name, partition }
      }
    }
  }

  /**
   * Begins reassignments, changes their targets, or goes back from them.
   * @param mayResize  the target may have another number of replicas than the one before
   * @throws StreamError NOT_CONTROLLER, STORE_UNAVAILABLE
   */
  reassign(
    orders: readonly ReplicaOrder[],
    { mayResize }: { readonly mayResize: boolean },
  ): Promise<readonly PartitionOutcome[]> {
    const wanted = new Map(orders.map((order) => [nameOf(order), order]))
    return this.#write(orders, (name, record, settings) => {
      const order = wanted.get(nameOf(name))
      return order === undefined ? UNCHANGED : this.#move(order, record, settings, mayResize)
    })
  }

  /**
   * What replicas hold of the partitions that nobody leads, for an unclean election; those that do not say are left out.
   */
  async askForLogs(names: readonly PartitionName[]): Promise<AskedLogs> {
    const { image, inquire, log, store } = this.#ports
    const brokers = image.brokers()
    const asked = new Map<number, { topicId: string; partition: number }[]>()
    for (const { topic, partition } of names) {
      const record = this.#find(topic, partition)
      if (record === undefined || record.value.leader >= 0) continue
      for (const nodeId of record.value.replicas) {
        const broker = brokers.get(nodeId)
        if (broker?.live !== true || broker.state === 'FENCED') continue
        const list = asked.get(nodeId) ?? []
        asked.set(nodeId, list)
        list.push({ topicId: record.topicId, partition })
      }
    }
    const logs = new Map<string, Map<number, { view: LogView; sessionEpoch: number }>>()
    const answers = [...asked].map(async ([nodeId, partitions]) => {
      const sessionEpoch = image.session(nodeId)?.sessionEpoch ?? 0
      try {
        for (const [key, view] of await inquire(nodeId, partitions)) {
          const views = logs.get(key) ?? new Map()
          logs.set(key, views)
          views.set(nodeId, { view, sessionEpoch })
        }
      } catch (error) {
        if (!isStreamError(error)) throw error
        log.warn('a replica did not say what it holds', { nodeId, error: error.message })
      }
    })
    if (answers.length > 0) {
      await Promise.race([Promise.all(answers), sleep(store.time, ASK_TIMEOUT_MS)])
    }
    return logs
  }

  /**
   * @param logs  as askForLogs said, for unclean elections
   * @throws StreamError NOT_CONTROLLER, STORE_UNAVAILABLE
   */
  electLeaders(
    kind: ElectionKind,
    names: readonly PartitionName[],
    logs: AskedLogs,
  ): Promise<readonly PartitionOutcome[]> {
    return this.#write(names, (_, record, settings) =>
      kind === 'preferred'
        ? this.#prefer(record.value)
        : this.#electUncleanly(record, settings, logs),
    )
  }

  #move(
    { replicas: target }: ReplicaOrder,
    { value }: PartitionImage,
    settings: TopicSettings,
    mayResize: boolean,
  ): Verdict {
    if (target === null) {
      if (!isReassigning(value)) {
        return refuse(KafkaError.NO_REASSIGNMENT_IN_PROGRESS, 'no reassignment is under way')
      }
      const back = cancelReassignment(value)
      if (back !== undefined) return this.#settled(back, settings)
      const message = 'too few of the former replicas are in sync to go back to them'
      return refuse(KafkaError.INVALID_REPLICA_ASSIGNMENT, message)
    }
    const { image } = this.#ports
    const known = [...image.brokers().keys()].filter((id) => image.registration(id) !== undefined)
    const defect = findAssignmentDefect([target], known)
    if (defect !== undefined) return refuse(KafkaError.INVALID_REPLICA_ASSIGNMENT, defect)
    const now = value.replicas.filter((id) => !value.removing.includes(id))
    if (!mayResize && now.length !== target.length) {
      const message = `${now.length} replicas were to stay ${now.length}, not ${target.length}`
      return refuse(KafkaError.INVALID_REPLICATION_FACTOR, message)
    }
    const isSame = now.length === target.length && now.every((id, at) => id === target[at])
    return isSame ? UNCHANGED : this.#settled(beginReassignment(value, target), settings)
  }

  /** With what the controller's next look at it would do: a move that copies nothing ends in the write that begins it. */
  #settled(value: PartitionValue, settings: TopicSettings): Verdict {
    const brokers = this.#ports.image.brokers()
    const decision = next(
      value,
      brokers,
      new Map(),
      { ...settings, uncleanElection: false },
      'event',
    )
    return { kind: 'change', value: decision.partition }
  }

  #prefer(value: PartitionValue): Verdict {
    const [preferred = -1] = value.replicas
    if (value.leader === preferred) {
      return refuse(KafkaError.ELECTION_NOT_NEEDED, 'the preferred replica leads already')
    }
    const brokers = this.#ports.image.brokers()
    const elected = preferLeader(value, brokers)
    if (elected !== undefined) return { kind: 'change', value: elected }
    const broker = brokers.get(preferred)
    const isAway = broker?.live !== true || broker.state === 'FENCED'
    const isMember = value.inSyncReplicas.some((m) => m.broker === preferred)
    const why = isAway
      ? 'is not alive'
      : broker.state === 'DRAINING'
        ? 'is going'
        : isMember
          ? 'cannot take it over now'
          : 'is not in sync'
    const message = `the preferred replica, broker ${preferred}, ${why}`
    return refuse(KafkaError.PREFERRED_LEADER_NOT_AVAILABLE, message)
  }

  #electUncleanly(
    { value, topicId, partition }: PartitionImage,
    settings: TopicSettings,
    logs: AskedLogs,
  ): Verdict {
    if (value.leader >= 0) {
      return refuse(KafkaError.ELECTION_NOT_NEEDED, `broker ${value.leader} leads it`)
    }
    const { image } = this.#ports
    const views = new Map<number, LogView>()
    for (const [nodeId, { view, sessionEpoch }] of logs.get(`${topicId}/${partition}`) ?? []) {
      if (image.session(nodeId)?.sessionEpoch === sessionEpoch) views.set(nodeId, view)
    }
    const config = { ...settings, uncleanElection: true }
    const decision = next(value, image.brokers(), views, config, 'timeout')
    if (decision.partition.leader >= 0) return { kind: 'change', value: decision.partition }
    const list = value.replicas.join(', ')
    const message = `none of its replicas (${list}) is alive and says what it holds`
    return refuse(KafkaError.ELIGIBLE_LEADERS_NOT_AVAILABLE, message)
  }

  /** Decides, writes, and decides again what had changed meanwhile. */
  async #write(
    names: readonly PartitionName[],
    decide: (name: PartitionName, record: PartitionImage, settings: TopicSettings) => Verdict,
  ): Promise<readonly PartitionOutcome[]> {
    const { image } = this.#ports
    const outcomes = new Map<string, PartitionOutcome>()
    const settle = ({ topic, partition }: PartitionName, code = 0, message?: string): void => {
      outcomes.set(nameOf({ topic, partition }), {
        topic,
        partition,
        code,
        message: message ?? null,
      })
    }
    const wanted = [...new Map(names.map((name) => [nameOf(name), name])).values()]
    let open = wanted
    let writeMax = WRITE_PARTITIONS_MAX
    for (let attempt = 1; open.length > 0; attempt += 1) {
      const reign = this.#ports.reign()
      const queue: PlannedChange[] = []
      const planned = new Map<string, PartitionName>()
      for (const name of open) {
        const record = this.#find(name.topic, name.partition)
        const topic = image.topic(name.topic)
        if (record === undefined || topic === undefined) {
          settle(name, KafkaError.UNKNOWN_TOPIC_OR_PARTITION, 'no such partition')
          continue
        }
        const verdict = decide(name, record, this.#settingsOf(topic))
        if (verdict.kind === 'refused') settle(name, verdict.code, verdict.message)
        else if (verdict.kind === 'unchanged') settle(name)
        else {
          const value = { ...verdict.value, writer: reign.writers.next() }
          const change = planChange(record, value, image)
          if (change === undefined) continue
          queue.push(change)
          planned.set(`${record.topicId}/${record.partition}`, name)
        }
      }
      const written = await this.#apply(reign, queue, writeMax)
      for (const { topicId, partition } of written) {
        const name = planned.get(`${topicId}/${partition}`)
        if (name !== undefined) settle(name)
      }
      open = open.filter((name) => !outcomes.has(nameOf(name)))
      if (open.length === 0) break
      if (attempt === ATTEMPTS_MAX) {
        for (const name of open) {
          settle(name, KafkaError.REQUEST_TIMED_OUT, 'it changed whenever this was to be written')
        }
        break
      }
      // One partition that has changed spoils a transaction: alone they tell which.
      writeMax = Math.max(1, writeMax >> 2)
      await sleep(this.#ports.store.time, RETRY_PAUSE_MS)
      await image.refresh()
    }
    return wanted.flatMap((name) => outcomes.get(nameOf(name)) ?? [])
  }

  /** @returns what was written */
  async #apply(
    reign: Reign,
    queue: PlannedChange[],
    writeMax: number,
  ): Promise<readonly PlannedChange[]> {
    const { store, keys, image, operationsMax } = this.#ports
    const isOver = (): boolean => {
      try {
        return this.#ports.reign() !== reign
      } catch {
        return true
      }
    }
    const written: PlannedChange[] = []
    let revision = 0
    while (queue.length > 0) {
      const { changes, guards } = takeWrite(queue, operationsMax, writeMax)
      const result = await writePartitions(store, keys, reign, changes, guards, undefined, {
        isOver,
      })
      if (!result.succeeded) continue
      revision = result.revision
      written.push(...changes)
    }
    await image.catchUp(revision)
    return written
  }

  /** A partition that clients may see. */
  #find(topic: string, partition: number): PartitionImage | undefined {
    const { image } = this.#ports
    const found = image.topic(topic)
    if (found === undefined || found.value.state !== 'READY') return undefined
    if (partition >= found.value.partitions) return undefined
    return image.partition(found.topicId, partition)
  }

  #settingsOf(topic: TopicImage): TopicSettings {
    try {
      return topicSettings(this.#ports.config, topic.value)
    } catch (error) {
      if (!isStreamError(error)) throw error
      return { uncleanElection: false, commitFlush: false }
    }
  }
}

function refuse(code: number, message: string): Verdict {
  return { kind: 'refused', code, message }
}

function nameOf({ topic, partition }: PartitionName): string {
  return `${topic}/${partition}`
}
