/**
 * What the client believes about the cluster: brokers, topics, leaders. A plain value updated by Metadata answers.
 *
 * Invariant: within one topic (same topic id) a partition's leader epoch never falls; an answer from a broker that
 * lags behind cannot bring an old leader back (KIP-320).
 */
import type { Response } from '../protocol/api-table.ts'
import { KafkaError } from '../protocol/errors.ts'

export interface BrokerInfo {
  readonly nodeId: number
  /** As Net.connect takes it. */
  readonly address: string
  readonly host: string
  readonly port: number
  readonly rack: string | null
}

export interface PartitionInfo {
  readonly partition: number
  /** -1: no leader at present. */
  readonly leaderId: number
  /** -1: the broker is too old to tell. */
  readonly leaderEpoch: number
  readonly replicas: readonly number[]
  readonly inSyncReplicas: readonly number[]
  readonly offlineReplicas: readonly number[]
  readonly errorCode: number
}

export interface TopicInfo {
  readonly name: string
  /** 22 characters of base64url; all `A` where the broker is too old to tell. */
  readonly topicId: string
  readonly isInternal: boolean
  /** 0, or Kafka's error number, with no partitions then. */
  readonly errorCode: number
  /** Index = partition number. */
  readonly partitions: readonly PartitionInfo[]
}

export class MetadataCache {
  readonly brokers = new Map<number, BrokerInfo>()
  readonly topics = new Map<string, TopicInfo>()
  clusterId: string | undefined
  controllerId = -1
  /** How often an answer has named the live brokers. */
  brokersHeard = 0
  readonly scheme: string

  /** `scheme` of the bootstrap addresses: with `kafka` an address is made of host and port, else host is the address. */
  constructor(scheme: string) {
    this.scheme = scheme
  }

  topic(name: string): TopicInfo | undefined {
    return this.topics.get(name)
  }

  partition(topic: string, partition: number): PartitionInfo | undefined {
    return this.topics.get(topic)?.partitions[partition]
  }

  /**
   * What an answer said of a leader in passing (KIP-951).
   * @returns whether it is news, of a broker that is known
   */
  learnLeader(topic: string, partition: number, leaderId: number, leaderEpoch: number): boolean {
    const known = this.topics.get(topic)
    const before = known?.partitions[partition]
    if (known === undefined || before === undefined || !this.brokers.has(leaderId)) return false
    if (leaderEpoch <= before.leaderEpoch) return false
    const partitions = known.partitions.with(partition, { ...before, leaderId, leaderEpoch })
    this.topics.set(topic, { ...known, partitions })
    return true
  }

  /** `all`: topics missing from the answer do not exist. */
  update(response: Response<'Metadata'>, all: boolean): void {
    if (response.brokers.length > 0) {
      this.brokersHeard += 1
      this.brokers.clear()
      for (const { nodeId, host, port, rack } of response.brokers) {
        const address = this.addressOf(host, port)
        this.brokers.set(nodeId, { nodeId, address, host, port, rack })
      }
    }
    this.clusterId = response.clusterId ?? this.clusterId
    this.controllerId = response.controllerId
    if (all) {
      const named = new Set(response.topics.map((topic) => topic.name))
      for (const name of this.topics.keys()) if (!named.has(name)) this.topics.delete(name)
    }
    for (const topic of response.topics) {
      if (topic.name === null) continue
      this.topics.set(topic.name, this.#merge(topic.name, topic))
    }
  }

  #merge(name: string, topic: Response<'Metadata'>['topics'][number]): TopicInfo {
    const known = this.topics.get(name)
    // Partitions that a broker knows of but cannot serve now come with an error; the topic itself is fine then.
    const transient =
      topic.errorCode === KafkaError.LEADER_NOT_AVAILABLE && topic.partitions.length === 0
    if (transient && known !== undefined && known.errorCode === 0) return known
    const sameTopic = known !== undefined && known.topicId === topic.topicId
    const partitions: PartitionInfo[] = []
    const sorted = topic.partitions.toSorted((a, b) => a.partitionIndex - b.partitionIndex)
    for (const row of sorted) {
      const before = sameTopic ? known.partitions[row.partitionIndex] : undefined
      // Answers with holes in the numbering are nonsense; what follows a hole is not used.
      if (row.partitionIndex !== partitions.length) break
      if (before !== undefined && row.leaderEpoch >= 0 && row.leaderEpoch < before.leaderEpoch) {
        partitions.push(before)
        continue
      }
      partitions.push({
        partition: row.partitionIndex,
        leaderId: row.leaderId,
        leaderEpoch: row.leaderEpoch,
        replicas: row.replicaNodes,
        inSyncReplicas: row.isrNodes,
        offlineReplicas: row.offlineReplicas,
        errorCode: row.errorCode,
      })
    }
    return {
      name,
      topicId: topic.topicId,
      isInternal: topic.isInternal,
      errorCode: topic.errorCode,
      partitions,
    }
  }

  /** As Net.connect takes it. */
  addressOf(host: string, port: number): string {
    if (host.includes('://')) return host
    const bracketed = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host
    return `${this.scheme}://${bracketed}:${port}`
  }
}
