/**
 * The cluster as its operator sees it: brokers, replicas, elections, moves. One method per question or order; orders name
 * many partitions at once and each has its own outcome.
 *
 * Orders go to the controller, and again to the next one where the answer says that it has moved. An order whose answer
 * is lost is sent again: elections and moves name the state that is wanted, so a repeat changes nothing.
 */
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time } from '../ports/time.ts'
import { type ApiName, apiNames, type RequestInput, type Response } from '../protocol/api-table.ts'
import { KafkaError } from '../protocol/errors.ts'
import type { AdminOptions } from './admin.ts'
import { backoffMs } from './backoff.ts'
import type { Cluster, Target } from './cluster.ts'
import { kafkaFailure } from './kafka-failure.ts'
import type { BrokerInfo } from './metadata-cache.ts'

export interface ClusterBroker extends BrokerInfo {
  /** Registered, but taking no part now; undefined where the cluster is too old to list such brokers. */
  readonly isFenced: boolean | undefined
}

export interface ClusterOverview {
  readonly clusterId: string | undefined
  /** -1: none at present. */
  readonly controllerId: number
  /** By rising number. */
  readonly brokers: readonly ClusterBroker[]
}

export interface PartitionName {
  readonly topic: string
  readonly partition: number
}

export interface PartitionOutcome extends PartitionName {
  /** Absent: done, or begun. */
  readonly error: StreamError | undefined
}

export interface ElectionOutcome extends PartitionOutcome {
  /** The leader was the right one already. */
  readonly wasNeeded: boolean
}

export interface ReplicaOrder extends PartitionName {
  /** In order of preference; null: go back from the move under way. */
  readonly replicas: readonly number[] | null
}

/** A move under way. */
export interface Reassignment extends PartitionName {
  /** All that hold it now: the former, the new, and those on their way. */
  readonly replicas: readonly number[]
  readonly adding: readonly number[]
  readonly removing: readonly number[]
}

export interface EligibleReplicas extends PartitionName {
  readonly eligible: readonly number[]
  readonly lastKnownEligible: readonly number[]
}

export interface BrokerStorage {
  readonly nodeId: number
  /** Why nothing is known of it. */
  readonly error: StreamError | undefined
  readonly directories: readonly LogDirectory[]
}

export interface LogDirectory {
  readonly path: string
  /** The directory has failed. */
  readonly error: StreamError | undefined
  /** undefined: the broker does not tell. */
  readonly totalBytes: number | undefined
  readonly usableBytes: number | undefined
  readonly partitions: readonly StoredPartition[]
}

export interface StoredPartition extends PartitionName {
  readonly bytes: number
  /** Records that the replica is behind. */
  readonly lag: number
}

export interface BrokerProbe {
  readonly nodeId: number
  readonly address: string
  readonly error: StreamError | undefined
  /** Equal for brokers that offer the same; undefined where it was not reached. */
  readonly signature: string | undefined
}

/** What a daemon says of itself. */
export interface BrokerIntroduction {
  readonly version: string
  /** Its clock before the one here, to within the time the answer took; undefined: a daemon that does not tell. */
  readonly aheadMs: number | undefined
  /** RUNNING, DISK_FULL, FAILED, STOPPING. */
  readonly state?: string
}

export type ElectionKind = 'preferred' | 'unclean'

const electionTypes = { preferred: 0, unclean: 1 } as const
const ENDPOINTS_VERSION = 1
const FENCED_VERSION = 2
/** Kafka refuses larger questions. */
const PARTITIONS_PER_ANSWER = 2000

export class ClusterAdmin {
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

  /** With the brokers that are registered and take no part, where the cluster tells (Kafka 4.0). @throws as Cluster.call */
  async describe(): Promise<ClusterOverview> {
    await this.#cluster.describeTopics([])
    const { metadata } = this.#cluster
    const connection = await this.#cluster.connection('any', this.#deadlineMs())
    const known = [...metadata.brokers.values()]
    if (!connection.supports('DescribeCluster')) {
      return overview(metadata.clusterId, metadata.controllerId, known)
    }
    const version = connection.versionOf('DescribeCluster')
    const response = await this.#ask('any', 'DescribeCluster', {
      includeClusterAuthorizedOperations: false,
      ...(version >= ENDPOINTS_VERSION ? { endpointType: 1 } : {}),
      ...(version >= FENCED_VERSION ? { includeFencedBrokers: true } : {}),
    })
    if (response.errorCode !== 0) {
      throw kafkaFailure(response.errorCode, {
        target: 'cluster',
        brokerMessage: response.errorMessage,
      })
    }
    const brokers = response.brokers.map(({ brokerId: nodeId, host, port, rack, isFenced }) => ({
      nodeId,
      host,
      port,
      rack,
      address: metadata.addressOf(host, port),
      isFenced: version >= FENCED_VERSION ? isFenced : undefined,
    }))
    return overview(response.clusterId, response.controllerId, brokers)
  }

  /** Whether each broker answers at the address that it advertises. Never throws. */
  probe(brokers: readonly BrokerInfo[], timeoutMs: number): Promise<readonly BrokerProbe[]> {
    return Promise.all(
      brokers.map(async ({ nodeId, address }) => {
        try {
          const deadlineMs = this.#time.monotonicMs() + timeoutMs
          const connection = await this.#cluster.connection(nodeId, deadlineMs)
          const offered = apiNames.filter((api) => connection.supports(api))
          const signature = offered.map((api) => `${api}=${connection.versionOf(api)}`).join(' ')
          return { nodeId, address, error: undefined, signature }
        } catch (cause) {
          const words = `broker ${nodeId} does not answer at ${address}`
          const error = new StreamError('UNREACHABLE', words, { target: address, cause })
          return { nodeId, address, error, signature: undefined }
        }
      }),
    )
  }

  /** What our daemons say of themselves; others do not tell, nor do those that cannot be asked. Never throws. */
  async introductions(
    nodeIds: readonly number[],
    timeoutMs: number,
  ): Promise<ReadonlyMap<number, BrokerIntroduction>> {
    const found = new Map<number, BrokerIntroduction>()
    if (!this.#cluster.isNative) return found
    await Promise.all(
      nodeIds.map(async (nodeId) => {
        try {
          const deadlineMs = this.#time.monotonicMs() + timeoutMs
          const options = { deadlineMs }
          await this.#cluster.connection(nodeId, deadlineMs)
          const askedMs = this.#time.wallMs()
          const status = await this.#cluster.call(nodeId, 'DaemonStatus', {}, options)
          if (status.errorCode !== 0) return
          // It looked at its clock at some moment in between.
          const halfwayMs = (askedMs + this.#time.wallMs()) / 2
          const aheadMs = status.wallMs > 0 ? status.wallMs - halfwayMs : undefined
          found.set(nodeId, { version: status.version, aheadMs, state: status.state })
        } catch {
          // Whether it can be reached is told by probe.
        }
      }),
    )
    return found
  }

  /**
   * What each broker stores, and where. A broker that cannot be asked is told in its row.
   * @param timeoutMs  for each broker
   */
  storage(nodeIds: readonly number[], timeoutMs: number): Promise<readonly BrokerStorage[]> {
    return Promise.all(
      nodeIds.map(async (nodeId): Promise<BrokerStorage> => {
        try {
          const deadlineMs = this.#time.monotonicMs() + timeoutMs
          const body = { topics: null }
          const options = { deadlineMs }
          const response = await this.#cluster.call(nodeId, 'DescribeLogDirs', body, options)
          if (response.errorCode !== 0) throw kafkaFailure(response.errorCode)
          return { nodeId, error: undefined, directories: response.results.map(directoryOf) }
        } catch (cause) {
          const error =
            cause instanceof StreamError && cause.code !== 'UNREACHABLE'
              ? cause
              : new StreamError('UNREACHABLE', `broker ${nodeId} does not answer`, { cause })
          return { nodeId, error, directories: [] }
        }
      }),
    )
  }

  /**
   * Replicas outside the in-sync set that are complete all the same (KIP-966).
   * @returns undefined where the cluster does not know such
   */
  async eligibleReplicas(
    topics: readonly string[],
  ): Promise<readonly EligibleReplicas[] | undefined> {
    const connection = await this.#cluster.connection('any', this.#deadlineMs())
    if (!connection.supports('DescribeTopicPartitions')) return undefined
    const rows: EligibleReplicas[] = []
    let cursor: TopicCursor | null = null
    const names = topics.toSorted()
    while (names.length > 0) {
      const response: Response<'DescribeTopicPartitions'> = await this.#ask(
        'any',
        'DescribeTopicPartitions',
        {
          topics: names.map((name) => ({ name })),
          responsePartitionLimit: PARTITIONS_PER_ANSWER,
          cursor,
        },
      )
      for (const { name, partitions } of response.topics) {
        for (const row of partitions) {
          rows.push({
            topic: name ?? '',
            partition: row.partitionIndex,
            eligible: row.eligibleLeaderReplicas ?? [],
            lastKnownEligible: row.lastKnownElr ?? [],
          })
        }
      }
      const next: TopicCursor | null = response.nextCursor
      if (next === null || isSamePlace(next, cursor)) break
      cursor = next
    }
    return rows
  }

  /**
   * Elects the preferred replica, or with `unclean` any that lives, though records may be lost by it.
   * @returns an outcome per partition, in order. PREFERRED_LEADER_NOT_AVAILABLE and ELIGIBLE_LEADERS_NOT_AVAILABLE of
   *   Kafka as BROKER_ERROR; TOPIC_UNKNOWN, NOT_ALLOWED
   * @throws StreamError UNSUPPORTED_BY_BROKER, and as Cluster.call
   */
  async electLeaders(
    kind: ElectionKind,
    partitions: readonly PartitionName[],
  ): Promise<readonly ElectionOutcome[]> {
    if (partitions.length === 0) return []
    const version = await this.#controllerVersion('ElectLeaders')
    if (version === 0 && kind !== 'preferred') throw tooOld('unclean elections')
    const response = await this.#order(
      'ElectLeaders',
      {
        ...(version >= 1 ? { electionType: electionTypes[kind] } : {}),
        topicPartitions: [...groupByTopic(partitions)].map(([topic, group]) => ({
          topic,
          partitions: group.map(({ partition }) => partition),
        })),
        timeoutMs: this.#timeoutMs,
      },
      (answer) => [
        answer.errorCode,
        ...answer.replicaElectionResults.flatMap((row) =>
          row.partitionResult.map(({ errorCode }) => errorCode),
        ),
      ],
    )
    assertNone(response.errorCode, undefined)
    const results = new Map(
      response.replicaElectionResults.flatMap(({ topic, partitionResult }) =>
        partitionResult.map((row) => [nameOf(topic, row.partitionId), row] as const),
      ),
    )
    return partitions.map((name) => {
      const row = results.get(nameOf(name.topic, name.partition))
      // Of what needs none Kafka's controller may say nothing at all.
      const wasNeeded = row !== undefined && row.errorCode !== KafkaError.ELECTION_NOT_NEEDED
      const error = wasNeeded ? failureOf(name, row.errorCode, row.errorMessage) : undefined
      return { ...name, error, wasNeeded }
    })
  }

  /**
   * Begins to move partitions to other replicas, or goes back from moves under way.
   * @returns an outcome per order, in order: CONFLICT where none is under way, CONFIG_INVALID, TOPIC_UNKNOWN, NOT_ALLOWED
   * @throws StreamError UNSUPPORTED_BY_BROKER, and as Cluster.call
   */
  async reassign(orders: readonly ReplicaOrder[]): Promise<readonly PartitionOutcome[]> {
    if (orders.length === 0) return []
    const response = await this.#order(
      'AlterPartitionReassignments',
      {
        timeoutMs: this.#timeoutMs,
        topics: [...groupByTopic(orders)].map(([name, group]) => ({
          name,
          partitions: group.map(({ partition, replicas }) => ({
            partitionIndex: partition,
            replicas: replicas === null ? null : [...replicas],
          })),
        })),
      },
      (answer) => [
        answer.errorCode,
        ...answer.responses.flatMap((row) => row.partitions.map(({ errorCode }) => errorCode)),
      ],
    )
    assertNone(response.errorCode, response.errorMessage)
    const results = new Map(
      response.responses.flatMap(({ name, partitions }) =>
        partitions.map((row) => [nameOf(name, row.partitionIndex), row] as const),
      ),
    )
    return orders.map(({ topic, partition }) => {
      const row = results.get(nameOf(topic, partition))
      const error = failureOf({ topic, partition }, row?.errorCode, row?.errorMessage)
      return { topic, partition, error }
    })
  }

  /** The moves under way, by topic and partition. @throws StreamError UNSUPPORTED_BY_BROKER, and as Cluster.call */
  async reassignments(): Promise<readonly Reassignment[]> {
    const response = await this.#order(
      'ListPartitionReassignments',
      { timeoutMs: this.#timeoutMs, topics: null },
      ({ errorCode }) => [errorCode],
    )
    assertNone(response.errorCode, response.errorMessage)
    return response.topics
      .flatMap(({ name, partitions }) =>
        partitions.map((row) => ({
          topic: name,
          partition: row.partitionIndex,
          replicas: row.replicas,
          adding: row.addingReplicas,
          removing: row.removingReplicas,
        })),
      )
      .sort((a, b) => (a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : a.partition - b.partition))
  }

  /**
   * Forgets a broker that is gone for good.
   * @throws StreamError NAME_UNKNOWN, CONFLICT (it lives, or holds replicas), UNSUPPORTED_BY_BROKER, NOT_ALLOWED
   */
  async unregister(nodeId: number): Promise<void> {
    const response = await this.#order(
      'UnregisterBroker',
      { brokerId: nodeId },
      ({ errorCode }) => [errorCode],
    )
    if (response.errorCode === 0) return
    const target = `broker ${nodeId}`
    const { errorCode, errorMessage } = response
    if (errorCode === KafkaError.INVALID_REQUEST && errorMessage !== null) {
      throw new StreamError('CONFLICT', `${target}: ${errorMessage}`, {
        target,
        kafkaError: errorCode,
      })
    }
    throw kafkaFailure(errorCode, { target, brokerMessage: errorMessage })
  }

  // --- calls

  #deadlineMs(): number {
    return this.#time.monotonicMs() + this.#timeoutMs
  }

  #ask<A extends ApiName>(target: Target, api: A, body: RequestInput<A>): Promise<Response<A>> {
    return this.#cluster.call(target, api, body, { deadlineMs: this.#deadlineMs() })
  }

  async #controllerVersion(api: ApiName): Promise<number> {
    if (this.#cluster.metadata.brokers.size === 0) await this.#cluster.describeTopics([])
    return (await this.#cluster.connection('controller', this.#deadlineMs())).versionOf(api)
  }

  /** @param codesOf  all error numbers of an answer */
  async #order<A extends ApiName>(
    api: A,
    body: RequestInput<A>,
    codesOf: (response: Response<A>) => readonly number[],
  ): Promise<Response<A>> {
    if (this.#cluster.metadata.brokers.size === 0) await this.#cluster.describeTopics([])
    const deadlineMs = this.#deadlineMs()
    for (let attempt = 1; ; attempt++) {
      const response = await this.#cluster.call('controller', api, body, { deadlineMs })
      if (!codesOf(response).includes(KafkaError.NOT_CONTROLLER)) return response
      const delayMs = backoffMs(this.#random, this.#cluster.backoff, attempt)
      if (this.#time.monotonicMs() + delayMs > deadlineMs) return response
      await sleep(this.#time, delayMs)
      await this.#cluster.describeTopics([])
    }
  }
}

interface TopicCursor {
  readonly topicName: string
  readonly partitionIndex: number
}

function isSamePlace(next: TopicCursor, before: TopicCursor | null): boolean {
  return (
    before !== null &&
    next.topicName === before.topicName &&
    next.partitionIndex === before.partitionIndex
  )
}

function overview(
  clusterId: string | undefined,
  controllerId: number,
  brokers: readonly (BrokerInfo & { readonly isFenced?: boolean | undefined })[],
): ClusterOverview {
  return {
    clusterId,
    controllerId,
    brokers: brokers
      .map((broker) => ({ isFenced: undefined, ...broker }))
      .sort((a, b) => a.nodeId - b.nodeId),
  }
}

function directoryOf(row: Response<'DescribeLogDirs'>['results'][number]): LogDirectory {
  const told = (bytes: number): number | undefined => (bytes < 0 ? undefined : bytes)
  return {
    path: row.logDir,
    error: row.errorCode === 0 ? undefined : kafkaFailure(row.errorCode, { target: row.logDir }),
    totalBytes: told(row.totalBytes),
    usableBytes: told(row.usableBytes),
    partitions: row.topics.flatMap(({ name, partitions }) =>
      partitions.flatMap(({ partitionIndex, partitionSize, offsetLag, isFutureKey }) =>
        isFutureKey
          ? []
          : [{ topic: name, partition: partitionIndex, bytes: partitionSize, lag: offsetLag }],
      ),
    ),
  }
}

function groupByTopic<N extends PartitionName>(names: readonly N[]): Map<string, N[]> {
  const groups = new Map<string, N[]>()
  for (const name of names) {
    const group = groups.get(name.topic)
    if (group === undefined) groups.set(name.topic, [name])
    else group.push(name)
  }
  return groups
}

function nameOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}

function failureOf(
  { topic, partition }: PartitionName,
  code: number | undefined,
  brokerMessage: string | null | undefined,
): StreamError | undefined {
  if (code === 0) return undefined
  const target = `${topic} partition ${partition}`
  if (code !== undefined) return kafkaFailure(code, { target, brokerMessage })
  return new StreamError('MALFORMED_MESSAGE', `${target}: missing from the broker's answer`, {
    target,
  })
}

function assertNone(code: number, brokerMessage: string | null | undefined): void {
  if (code !== 0) throw kafkaFailure(code, { target: 'cluster', brokerMessage })
}

function tooOld(what: string): StreamError {
  return new StreamError('UNSUPPORTED_BY_BROKER', `the broker is too old for ${what}`)
}
