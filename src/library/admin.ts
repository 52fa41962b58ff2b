/** The library's admin over src/client/admin.ts: one topic a call, failures as errors. */
import { StreamError } from '../base/errors.ts'
import type { Admin as Client, Outcome } from '../client/admin.ts'
import { kafkaFailure } from '../client/kafka-failure.ts'
import type { TopicInfo } from '../client/metadata-cache.ts'
import {
  checkCount,
  checkOffset,
  checkPartition,
  checkTopicPlace,
  timeOf,
} from './option-checks.ts'
import type { Admin, ConfigValue, Position, TopicDescription, TopicSummary } from './public.d.ts'

type CreateOptions = NonNullable<Parameters<Admin['createTopic']>[1]>

/** Kafka's error number. */
const UNKNOWN_TOPIC_OR_PARTITION = 3

export class LibraryAdmin implements Admin {
  readonly #client: () => Client

  constructor(client: () => Client) {
    this.#client = client
  }

  async listTopics(): Promise<readonly TopicSummary[]> {
    return (await this.#client().listTopics()).map(summaryOf)
  }

  async describeTopic(name: string): Promise<TopicDescription> {
    const client = this.#client()
    const info = await lookUpTopic(client, name)
    const questions = info.partitions.map(({ partition }) => ({ topic: name, partition }))
    const [starts, ends] = await Promise.all(
      (['earliest', 'latest'] as const).map((at) =>
        client.listOffsets(questions.map((each) => ({ ...each, at }))),
      ),
    )
    return {
      ...summaryOf(info),
      partitions: info.partitions.map((row, index) => ({
        partition: row.partition,
        leader: row.leaderId,
        replicas: row.replicas,
        inSyncReplicas: row.inSyncReplicas,
        start: starts?.[index]?.offset ?? 0,
        end: ends?.[index]?.offset ?? 0,
      })),
    }
  }

  async createTopic(name: string, options: CreateOptions = {}): Promise<void> {
    const client = this.#client()
    const { partitions, replicas, config, ifNotExists } = options
    checkCount('partitions', partitions)
    checkCount('replicas', replicas)
    const [outcome] = await client.createTopics([
      {
        name,
        ...(partitions === undefined ? {} : { partitions }),
        ...(replicas === undefined ? {} : { replicas }),
        ...(config === undefined ? {} : { configs: textsOf(config) }),
      },
    ])
    const isThere = outcome?.error?.code === 'TOPIC_EXISTS' && ifNotExists === true
    if (!isThere) throwOutcome(outcome)
    await client.awaitTopic(name)
  }

  async deleteTopic(name: string, options: { readonly ifExists?: boolean } = {}): Promise<void> {
    const [outcome] = await this.#client().deleteTopics([name])
    const isGone = outcome?.error?.code === 'TOPIC_UNKNOWN' && options.ifExists === true
    if (!isGone) throwOutcome(outcome)
  }

  async addPartitions(name: string, count: number): Promise<void> {
    const client = this.#client()
    checkCount('count', count)
    throwOutcome((await client.createPartitions([{ name, count }]))[0])
    await client.awaitTopic(name)
  }

  async topicConfig(name: string): Promise<Readonly<Record<string, ConfigValue>>> {
    const [found] = await this.#client().describeConfigs([{ kind: 'topic', name }])
    if (found?.error !== undefined) throw found.error
    const rows = found?.configs ?? []
    return Object.fromEntries(rows.map(({ name: key, value, origin }) => [key, { value, origin }]))
  }

  async setTopicConfig(
    name: string,
    changes: Readonly<Record<string, string | number | boolean | null>>,
  ): Promise<void> {
    const set: Record<string, string> = {}
    const unset: string[] = []
    for (const [key, value] of Object.entries(changes)) {
      if (value === null) unset.push(key)
      else set[key] = String(value)
    }
    const [outcome] = await this.#client().alterConfigs([{ kind: 'topic', name, set, unset }])
    throwOutcome(outcome)
  }

  async offsets(topic: string, place: 'start' | 'end' | Date): Promise<readonly Position[]> {
    const client = this.#client()
    checkTopicPlace('place', place)
    const { partitions } = await lookUpTopic(client, topic)
    const ask = (at: 'earliest' | 'latest' | number) =>
      client.listOffsets(partitions.map(({ partition }) => ({ topic, partition, at })))
    const at = place === 'start' ? 'earliest' : place === 'end' ? 'latest' : timeOf(place)
    const [answers, ends] = await Promise.all([ask(at), ask('latest')])
    return answers.map(({ partition, offset }, index) => ({
      topic,
      partition,
      offset: offset < 0 ? (ends[index]?.offset ?? 0) : offset,
    }))
  }

  async trim(topic: string, partition: number, beforeOffset: number): Promise<number> {
    checkPartition(topic, partition)
    checkOffset('beforeOffset', beforeOffset)
    const [outcome] = await this.#client().deleteRecords([{ topic, partition, beforeOffset }])
    if (outcome === undefined) throw new StreamError('BROKER_ERROR', `${topic}: no answer`)
    if (outcome.error !== undefined) throw outcome.error
    return outcome.logStartOffset
  }

  async cluster(): ReturnType<Admin['cluster']> {
    const { clusterId, controllerId, brokers } = await this.#client().describeCluster()
    return {
      clusterId,
      controller: controllerId,
      brokers: brokers.map(({ nodeId, address }) => ({ id: nodeId, address })),
    }
  }
}

function summaryOf({ name, topicId, isInternal, partitions }: TopicInfo): TopicSummary {
  return {
    name,
    topicId,
    isInternal,
    partitions: partitions.length,
    replicas: partitions[0]?.replicas.length ?? 0,
  }
}

function textsOf(config: NonNullable<CreateOptions['config']>): Record<string, string> {
  return Object.fromEntries(Object.entries(config).map(([key, value]) => [key, String(value)]))
}

function throwOutcome(outcome: Outcome | undefined): void {
  if (outcome?.error !== undefined) throw outcome.error
}

/** As the brokers know it now, without waiting for it. @throws StreamError TOPIC_UNKNOWN, TOPIC_NAME_INVALID, NOT_ALLOWED */
export async function lookUpTopic(
  client: Pick<Client, 'describeTopics'>,
  name: string,
): Promise<TopicInfo> {
  const [info] = await client.describeTopics([name])
  if (info !== undefined && info.errorCode === 0) return info
  throw kafkaFailure(info?.errorCode ?? UNKNOWN_TOPIC_OR_PARTITION, { target: name })
}
