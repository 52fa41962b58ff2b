/**
 * Topics, configs, offsets, brokers: one method per question or order. Orders for several targets are one request, and
 * each target has its own outcome; a method throws only when nothing could be asked at all.
 *
 * Orders go to the controller. An order whose answer is lost is not sent again: its outcome is unknown, and the caller
 * is told so (CONNECTION_LOST). Questions are sent again until the deadline.
 */
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time } from '../ports/time.ts'
import type { ApiName, RequestInput, Response } from '../protocol/api-table.ts'
import { KafkaError } from '../protocol/errors.ts'
import { ZERO_UUID } from '../protocol/schema.ts'
import { backoffMs } from './backoff.ts'
import type { Cluster, Target } from './cluster.ts'
import { kafkaFailure } from './kafka-failure.ts'
import type { BrokerInfo, TopicInfo } from './metadata-cache.ts'
import {
  type ListOffsetsOptions,
  listOffsets,
  listOffsetsEach,
  type OffsetAnswer,
  type OffsetOutcome,
  type OffsetQuestion,
} from './offsets.ts'

export interface AdminOptions {
  /** How long the broker may take for an order, and the client for each call. Default: the cluster's requestTimeoutMs. */
  readonly timeoutMs?: number
}

/** What became of one target of an order. */
export interface Outcome {
  readonly name: string
  /** Absent: done. */
  readonly error: StreamError | undefined
}

export interface NewTopic {
  readonly name: string
  /** Absent: the broker's default (Kafka 2.4 and later). */
  readonly partitions?: number
  /** Absent: the broker's default. */
  readonly replicas?: number
  readonly configs?: Readonly<Record<string, string>>
}

export interface ConfigEntry {
  readonly name: string
  /** null where it is secret, or unset. */
  readonly value: string | null
  readonly origin: ConfigOrigin
  readonly isReadOnly: boolean
  readonly isSensitive: boolean
  readonly documentation: string | null
}

export type ConfigOrigin =
  | 'topic'
  | 'broker'
  | 'broker-default'
  | 'static'
  | 'default'
  | 'logger'
  | 'unknown'

export interface ConfigResource {
  readonly kind: 'topic' | 'broker'
  /** Topic name; a broker's number as text. */
  readonly name: string
}

export interface ConfigDescription extends ConfigResource {
  readonly configs: readonly ConfigEntry[]
  readonly error: StreamError | undefined
}

export interface ConfigChange extends ConfigResource {
  readonly set?: Readonly<Record<string, string>>
  readonly unset?: readonly string[]
}

export interface TrimOrder {
  readonly topic: string
  readonly partition: number
  /** First offset that stays; -1: the high watermark. */
  readonly beforeOffset: number
}

export interface TrimOutcome extends TrimOrder {
  readonly logStartOffset: number
  readonly error: StreamError | undefined
}

export interface LogDirectoryPartition {
  readonly nodeId: number
  readonly directory: string
  readonly topic: string
  readonly partition: number
  readonly bytes: number
}

export interface ClusterDescription {
  readonly clusterId: string | undefined
  readonly controllerId: number
  readonly brokers: readonly BrokerInfo[]
}

type ControllerOrder =
  | 'CreateTopics'
  | 'DeleteTopics'
  | 'CreatePartitions'
  | 'IncrementalAlterConfigs'
  | 'AlterConfigs'

const RESOURCE_TOPIC = 2
const RESOURCE_BROKER = 4
const OPERATION_SET = 0
const OPERATION_DELETE = 1
/** CreateTopics knows "the broker's default" from this version on. */
const CREATE_DEFAULTS_VERSION = 4

const origins: Readonly<Record<number, ConfigOrigin>> = {
  1: 'topic',
  2: 'broker',
  3: 'broker-default',
  4: 'static',
  5: 'default',
  6: 'logger',
}

export class Admin {
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #timeoutMs: number

  constructor(time: Time, random: Random, cluster: Cluster, options: AdminOptions = {}) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
    this.#timeoutMs = options.timeoutMs ?? cluster.requestTimeoutMs
  }

  // --- topics

  /** All topics, internal ones too, sorted by name. @throws as Cluster.call */
  async listTopics(): Promise<readonly TopicInfo[]> {
    const topics = await this.#cluster.describeTopics(undefined, { deadlineMs: this.#deadlineMs() })
    return topics.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  }

  /** One row per name; `errorCode` stays in the row (kafkaFailure puts it into words). Never creates a topic. */
  describeTopics(names: readonly string[]): Promise<readonly TopicInfo[]> {
    return this.#cluster.describeTopics(names, { deadlineMs: this.#deadlineMs() })
  }

  /**
   * @param options.isTrial  validate only
   * @returns  an outcome per topic, in order. TOPIC_EXISTS, TOPIC_NAME_INVALID, CONFIG_INVALID, NOT_ALLOWED
   */
  async createTopics(
    topics: readonly NewTopic[],
    options: { readonly isTrial?: boolean } = {},
  ): Promise<readonly Outcome[]> {
    const version = await this.#controllerVersion('CreateTopics')
    const fallback = version < CREATE_DEFAULTS_VERSION ? 1 : -1
    const response = await this.#order('CreateTopics', {
      topics: topics.map(({ name, partitions, replicas, configs }) => ({
        name,
        numPartitions: partitions ?? fallback,
        replicationFactor: replicas ?? fallback,
        assignments: [],
        configs: Object.entries(configs ?? {}).map(([key, value]) => ({ name: key, value })),
      })),
      timeoutMs: this.#timeoutMs,
      validateOnly: options.isTrial ?? false,
    })
    return topics.map(({ name }) => {
      const row = response.topics.find((topic) => topic.name === name)
      return outcomeOf(name, row?.errorCode, row?.errorMessage)
    })
  }

  /** Resolves when every partition has a leader. @throws StreamError TIMED_OUT, as Cluster.awaitTopic otherwise */
  async awaitTopic(name: string): Promise<TopicInfo> {
    const deadlineMs = this.#deadlineMs()
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#cluster.awaitTopic(name, { deadlineMs })
      } catch (error) {
        // Another broker than the controller may not have heard of it yet.
        const isUnknown = error instanceof StreamError && error.code === 'TOPIC_UNKNOWN'
        const delayMs = backoffMs(this.#random, this.#cluster.backoff, attempt)
        if (!isUnknown || this.#time.monotonicMs() + delayMs > deadlineMs) throw error
        await sleep(this.#time, delayMs)
      }
    }
  }

  /** @returns  an outcome per name, in order. TOPIC_UNKNOWN, NOT_ALLOWED */
  async deleteTopics(names: readonly string[]): Promise<readonly Outcome[]> {
    const version = await this.#controllerVersion('DeleteTopics')
    const response = await this.#order('DeleteTopics', {
      ...(version >= 6
        ? { topics: names.map((name) => ({ name, topicId: ZERO_UUID })) }
        : { topicNames: [...names] }),
      timeoutMs: this.#timeoutMs,
    })
    for (const name of names) this.#cluster.removeTopic(name)
    return names.map((name) => {
      const row = response.responses.find((topic) => topic.name === name)
      return outcomeOf(name, row?.errorCode, row?.errorMessage)
    })
  }

  /** `count` is the new total. @returns  an outcome per topic, in order */
  async createPartitions(
    topics: readonly { readonly name: string; readonly count: number }[],
    options: { readonly isTrial?: boolean } = {},
  ): Promise<readonly Outcome[]> {
    const response = await this.#order('CreatePartitions', {
      topics: topics.map(({ name, count }) => ({ name, count, assignments: null })),
      timeoutMs: this.#timeoutMs,
      validateOnly: options.isTrial ?? false,
    })
    return topics.map(({ name }) => {
      const row = response.results.find((result) => result.name === name)
      return outcomeOf(name, row?.errorCode, row?.errorMessage)
    })
  }

  // --- configs

  /** @param keys  absent: all. @returns  a description per resource, in order */
  async describeConfigs(
    resources: readonly ConfigResource[],
    options: { readonly keys?: readonly string[]; readonly documentation?: boolean } = {},
  ): Promise<readonly ConfigDescription[]> {
    const descriptions = new Map<ConfigResource, ConfigDescription>()
    for (const [target, group] of this.#byBroker(resources)) {
      const version = await this.#version(target, 'DescribeConfigs')
      const response = await this.#ask(target, 'DescribeConfigs', {
        resources: group.map(({ kind, name }) => ({
          resourceType: kind === 'topic' ? RESOURCE_TOPIC : RESOURCE_BROKER,
          resourceName: name,
          configurationKeys: options.keys === undefined ? null : [...options.keys],
        })),
        includeSynonyms: false,
        ...(version >= 3 ? { includeDocumentation: options.documentation ?? false } : {}),
      })
      for (const resource of group) {
        descriptions.set(resource, describeResource(resource, response))
      }
    }
    return resources.flatMap((resource) => descriptions.get(resource) ?? [])
  }

  /**
   * Sets and unsets single keys. Brokers without IncrementalAlterConfigs (Kafka before 2.3) get the whole set of changed
   * configs anew, read just before: two such changes at once may undo each other there.
   * @returns  an outcome per change, in order. CONFIG_INVALID, TOPIC_UNKNOWN, NOT_ALLOWED
   */
  async alterConfigs(
    changes: readonly ConfigChange[],
    options: { readonly isTrial?: boolean } = {},
  ): Promise<readonly Outcome[]> {
    const outcomes = new Map<ConfigChange, Outcome>()
    for (const [target, group] of this.#byBroker(changes)) {
      const isIncremental = await this.#supports(target, 'IncrementalAlterConfigs')
      const response = isIncremental
        ? await this.#orderAt(target, 'IncrementalAlterConfigs', {
            resources: group.map((change) => ({
              ...resourceFields(change),
              configs: [
                ...Object.entries(change.set ?? {}).map(([name, value]) => ({
                  name,
                  configOperation: OPERATION_SET,
                  value,
                })),
                ...(change.unset ?? []).map((name) => ({
                  name,
                  configOperation: OPERATION_DELETE,
                  value: null,
                })),
              ],
            })),
            validateOnly: options.isTrial ?? false,
          })
        : await this.#replaceConfigs(target, group, options.isTrial ?? false)
      for (const change of group) {
        const { resourceType, resourceName } = resourceFields(change)
        const row = response.responses.find(
          (result) => result.resourceType === resourceType && result.resourceName === resourceName,
        )
        outcomes.set(change, outcomeOf(change.name, row?.errorCode, row?.errorMessage))
      }
    }
    return changes.flatMap((change) => outcomes.get(change) ?? [])
  }

  async #replaceConfigs(
    target: Target,
    changes: readonly ConfigChange[],
    isTrial: boolean,
  ): Promise<Response<'AlterConfigs'>> {
    const described = await this.describeConfigs(changes)
    return this.#orderAt(target, 'AlterConfigs', {
      resources: changes.map((change, index) => {
        const own: ConfigOrigin = change.kind === 'topic' ? 'topic' : 'broker'
        const configs = new Map<string, string | null>()
        for (const { name, value, origin } of described[index]?.configs ?? []) {
          if (origin === own) configs.set(name, value)
        }
        for (const name of change.unset ?? []) configs.delete(name)
        for (const [name, value] of Object.entries(change.set ?? {})) configs.set(name, value)
        return {
          ...resourceFields(change),
          configs: [...configs].map(([name, value]) => ({ name, value })),
        }
      }),
      validateOnly: isTrial,
    })
  }

  // --- offsets and records

  /** As offsets.ts. */
  listOffsets(
    questions: readonly OffsetQuestion[],
    options: ListOffsetsOptions = {},
  ): Promise<readonly OffsetAnswer[]> {
    const deadlineMs = options.deadlineMs ?? this.#deadlineMs()
    return listOffsets(this.#time, this.#random, this.#cluster, questions, {
      ...options,
      deadlineMs,
    })
  }

  /** As offsets.ts: those that nobody answers within `timeoutMs` keep nothing from the others. */
  listOffsetsEach(
    questions: readonly OffsetQuestion[],
    options: Omit<ListOffsetsOptions, 'deadlineMs'> & { readonly timeoutMs: number },
  ): Promise<readonly OffsetOutcome[]> {
    const { timeoutMs, ...rest } = options
    const deadlineMs = this.#time.monotonicMs() + Math.min(timeoutMs, this.#timeoutMs)
    return listOffsetsEach(this.#time, this.#random, this.#cluster, questions, {
      ...rest,
      deadlineMs,
    })
  }

  /** Deletes the records before an offset. @returns  an outcome per order, in order. OFFSET_OUT_OF_RANGE … */
  async deleteRecords(orders: readonly TrimOrder[]): Promise<readonly TrimOutcome[]> {
    const deadlineMs = this.#deadlineMs()
    const outcomes = new Map<TrimOrder, TrimOutcome>()
    for (let attempt = 1; outcomes.size < orders.length; attempt++) {
      const open = orders.filter((order) => !outcomes.has(order))
      const isLast = this.#time.monotonicMs() >= deadlineMs
      await this.#cluster.describeTopics([...new Set(open.map(({ topic }) => topic))])
      for (const [leaderId, group] of this.#byLeader(open, outcomes)) {
        await this.#trimAt(leaderId, group, outcomes, isLast)
      }
      if (isLast) {
        for (const order of open) {
          if (!outcomes.has(order)) outcomes.set(order, refusedTrim(order, 5))
        }
      } else if (outcomes.size < orders.length) {
        await sleep(this.#time, backoffMs(this.#random, this.#cluster.backoff, attempt))
      }
    }
    return orders.flatMap((order) => outcomes.get(order) ?? [])
  }

  #byLeader(
    orders: readonly TrimOrder[],
    outcomes: Map<TrimOrder, TrimOutcome>,
  ): Map<number, TrimOrder[]> {
    const groups = new Map<number, TrimOrder[]>()
    for (const order of orders) {
      const topic = this.#cluster.metadata.topic(order.topic)
      if (topic?.errorCode === 0 && order.partition >= topic.partitions.length) {
        outcomes.set(order, unknownPartitionTrim(order))
        continue
      }
      if (topic?.errorCode === KafkaError.UNKNOWN_TOPIC_OR_PARTITION) {
        outcomes.set(order, refusedTrim(order, KafkaError.UNKNOWN_TOPIC_OR_PARTITION))
        continue
      }
      const leader = this.#cluster.leaderOf(order.topic, order.partition)
      if (leader === undefined) continue
      const group = groups.get(leader.leaderId)
      if (group === undefined) groups.set(leader.leaderId, [order])
      else group.push(order)
    }
    return groups
  }

  async #trimAt(
    leaderId: number,
    orders: readonly TrimOrder[],
    outcomes: Map<TrimOrder, TrimOutcome>,
    isLast: boolean,
  ): Promise<void> {
    const names = new Set(orders.map(({ topic }) => topic))
    // To delete again what is deleted does nothing, so a lost answer is no reason to stop.
    const body = {
      topics: [...names].map((name) => ({
        name,
        partitions: orders
          .filter(({ topic }) => topic === name)
          .map(({ partition, beforeOffset }) => ({
            partitionIndex: partition,
            offset: beforeOffset,
          })),
      })),
      timeoutMs: this.#timeoutMs,
    }
    const deadlineMs = this.#deadlineMs()
    const response = await this.#cluster.callUnlessGone(leaderId, 'DeleteRecords', body, {
      deadlineMs,
    })
    if (response === undefined) return
    for (const order of orders) {
      const row = response.topics
        .find(({ name }) => name === order.topic)
        ?.partitions.find(({ partitionIndex }) => partitionIndex === order.partition)
      if (row === undefined) continue
      if (row.errorCode === 0) {
        outcomes.set(order, { ...order, logStartOffset: row.lowWatermark, error: undefined })
      } else if (isLast || row.errorCode !== KafkaError.NOT_LEADER_OR_FOLLOWER) {
        outcomes.set(order, refusedTrim(order, row.errorCode))
      }
    }
  }

  // --- brokers

  /**
   * What each live broker stores of `topics` (absent: of all).
   * @param options.onUnanswered  told of each broker that does not answer within `timeoutMs`; absent: it is the failure of all
   * @throws StreamError NOT_ALLOWED, UNSUPPORTED_BY_BROKER
   */
  async describeLogDirectories(
    topics?: readonly TopicInfo[],
    options: {
      readonly onUnanswered?: (nodeId: number, error: StreamError) => void
      readonly timeoutMs?: number
    } = {},
  ): Promise<readonly LogDirectoryPartition[]> {
    if (this.#cluster.metadata.brokers.size === 0) await this.describeTopics([])
    const wanted =
      topics?.map(({ name, partitions }) => ({
        topic: name,
        partitions: partitions.map(({ partition }) => partition),
      })) ?? null
    const timeoutMs = Math.min(options.timeoutMs ?? this.#timeoutMs, this.#timeoutMs)
    const deadlineMs = this.#time.monotonicMs() + timeoutMs
    const nodeIds = [...this.#cluster.metadata.brokers.keys()].toSorted((a, b) => a - b)
    const stored = await Promise.all(
      nodeIds.map(async (nodeId) => {
        try {
          return await this.#storedBy(nodeId, wanted, deadlineMs)
        } catch (error) {
          const isSilent = error instanceof StreamError && error.retriable
          if (!isSilent || options.onUnanswered === undefined || this.#cluster.isClosed) throw error
          options.onUnanswered(nodeId, error)
          return []
        }
      }),
    )
    return stored.flat()
  }

  async #storedBy(
    nodeId: number,
    topics: RequestInput<'DescribeLogDirs'>['topics'],
    deadlineMs: number,
  ): Promise<LogDirectoryPartition[]> {
    const body = { topics }
    const response = await this.#cluster.callUnlessGone(nodeId, 'DescribeLogDirs', body, {
      deadlineMs,
    })
    if (response === undefined) return []
    const code = response.errorCode || response.results.find((row) => row.errorCode)?.errorCode
    if (code !== undefined && code !== 0) throw kafkaFailure(code, { target: `broker ${nodeId}` })
    return response.results.flatMap(({ logDir: directory, topics: found }) =>
      found.flatMap(({ name: topic, partitions }) =>
        partitions.flatMap(({ partitionIndex: partition, partitionSize: bytes, isFutureKey }) =>
          isFutureKey ? [] : [{ nodeId, directory, topic, partition, bytes }],
        ),
      ),
    )
  }

  async describeCluster(): Promise<ClusterDescription> {
    await this.describeTopics([])
    const { metadata } = this.#cluster
    return {
      clusterId: metadata.clusterId,
      controllerId: metadata.controllerId,
      brokers: [...metadata.brokers.values()].toSorted((a, b) => a.nodeId - b.nodeId),
    }
  }

  /** @throws StreamError UNSUPPORTED_BY_BROKER when it is no stream daemon, or its Kafka door */
  async daemonStatus(): Promise<Response<'DaemonStatus'>> {
    const response = await this.#ask('any', 'DaemonStatus', {})
    if (response.errorCode !== 0) throw kafkaFailure(response.errorCode, { target: 'daemon' })
    return response
  }

  /** Asks the daemon to end cleanly; it answers first. @throws as daemonStatus */
  async daemonStop(): Promise<void> {
    const response = await this.#call('any', 'DaemonStop', {})
    if (response.errorCode !== 0) throw kafkaFailure(response.errorCode, { target: 'daemon' })
  }

  // --- calls

  #deadlineMs(): number {
    return this.#time.monotonicMs() + this.#timeoutMs
  }

  /** A question: sent again when its answer is lost. */
  #ask<A extends ApiName>(target: Target, api: A, body: RequestInput<A>): Promise<Response<A>> {
    return this.#cluster.call(target, api, body, { deadlineMs: this.#deadlineMs() })
  }

  /** An order: sent once. */
  #call<A extends ApiName>(target: Target, api: A, body: RequestInput<A>): Promise<Response<A>> {
    return this.#cluster.call(target, api, body, { deadlineMs: this.#deadlineMs(), resend: false })
  }

  /** An order to the controller, wherever it is by now. */
  #order<A extends 'CreateTopics' | 'DeleteTopics' | 'CreatePartitions'>(
    api: A,
    body: RequestInput<A>,
  ): Promise<Response<A>> {
    return this.#orderAt('controller', api, body)
  }

  /**
   * An order for the controller, by way of whom it takes: a refusal because it has moved, or because there is none just now, is
   * certain, so it goes again.
   */
  async #orderAt<A extends ControllerOrder>(
    target: Target,
    api: A,
    body: RequestInput<A>,
  ): Promise<Response<A>> {
    const deadlineMs = this.#deadlineMs()
    for (let attempt = 1; ; attempt++) {
      const response = await this.#call(target, api, body)
      if (!isFromFormerController(response)) return response
      const delayMs = backoffMs(this.#random, this.#cluster.backoff, attempt)
      if (this.#time.monotonicMs() + delayMs > deadlineMs) return response
      await sleep(this.#time, delayMs)
      await this.describeTopics([])
    }
  }

  async #controllerVersion(api: ApiName): Promise<number> {
    if (this.#cluster.metadata.brokers.size === 0) await this.describeTopics([])
    return this.#version('controller', api)
  }

  async #version(target: Target, api: ApiName): Promise<number> {
    return (await this.#cluster.connection(target, this.#deadlineMs())).versionOf(api)
  }

  async #supports(target: Target, api: ApiName): Promise<boolean> {
    return (await this.#cluster.connection(target, this.#deadlineMs())).supports(api)
  }

  /** A broker's configs are known to itself; a topic's to all. */
  #byBroker<R extends ConfigResource>(resources: readonly R[]): Map<Target, R[]> {
    const groups = new Map<Target, R[]>()
    for (const resource of resources) {
      const nodeId = resource.kind === 'broker' ? Number.parseInt(resource.name, 10) : Number.NaN
      const target: Target = Number.isNaN(nodeId) ? 'any' : nodeId
      const group = groups.get(target)
      if (group === undefined) groups.set(target, [resource])
      else group.push(resource)
    }
    return groups
  }
}

function isFromFormerController(response: object): boolean {
  const lists: readonly unknown[] = Object.values(response).filter(Array.isArray)
  return lists.flat().some((row) => {
    const isRow = typeof row === 'object' && row !== null && 'errorCode' in row
    return isRow && row.errorCode === KafkaError.NOT_CONTROLLER
  })
}

function resourceFields({ kind, name }: ConfigResource): {
  resourceType: number
  resourceName: string
} {
  return { resourceType: kind === 'topic' ? RESOURCE_TOPIC : RESOURCE_BROKER, resourceName: name }
}

function describeResource(
  resource: ConfigResource,
  response: Response<'DescribeConfigs'>,
): ConfigDescription {
  const { resourceType, resourceName } = resourceFields(resource)
  const row = response.results.find(
    (result) => result.resourceType === resourceType && result.resourceName === resourceName,
  )
  const { error } = outcomeOf(resource.name, row?.errorCode, row?.errorMessage)
  const configs = (row?.configs ?? []).map((config) => ({
    name: config.name,
    value: config.value,
    origin: origins[config.configSource] ?? 'unknown',
    isReadOnly: config.readOnly,
    isSensitive: config.isSensitive,
    documentation: config.documentation,
  }))
  return { kind: resource.kind, name: resource.name, configs, error }
}

function outcomeOf(
  name: string,
  code: number | undefined,
  brokerMessage: string | null | undefined,
): Outcome {
  if (code === 0) return { name, error: undefined }
  if (code === undefined) {
    const words = `${name}: missing from the broker's answer`
    return { name, error: new StreamError('MALFORMED_MESSAGE', words, { target: name }) }
  }
  return { name, error: kafkaFailure(code, { target: name, brokerMessage }) }
}

/** The error of Kafka is the same as of a topic that there is none of. */
function unknownPartitionTrim(order: TrimOrder): TrimOutcome {
  const target = `${order.topic} partition ${order.partition}`
  const error = new StreamError('TOPIC_UNKNOWN', `${target}: no such partition`, {
    target,
    kafkaError: KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
  })
  return { ...order, logStartOffset: -1, error }
}

function refusedTrim(order: TrimOrder, code: number): TrimOutcome {
  const target = `${order.topic} partition ${order.partition}`
  return { ...order, logStartOffset: -1, error: kafkaFailure(code, { target }) }
}
