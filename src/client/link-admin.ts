/**
 * Links of a cluster of ours: making, changing, and how they do. Only at the native door. Every broker tells of the partitions
 * that it leads; here they are put together.
 */

import { type ErrorCode, errorTable, StreamError } from '../base/errors.ts'
import type { Response } from '../protocol/api-table.ts'
import type { Cluster } from './cluster.ts'

type LinkRow = Response<'DescribeLinks'>['links'][number]
type TopicRow = LinkRow['topics'][number]

export type MirrorPartition = TopicRow['partitions'][number]
export type MirrorTopic = TopicRow
export type LinkDescription = LinkRow

export interface NewLink {
  readonly name: string
  readonly source: readonly string[]
  /** Of the daemon's own user, with what protects the way to the source. */
  readonly context?: string | undefined
  readonly topics: readonly string[]
  readonly syncConfigs: boolean
  readonly syncGroups: boolean
  readonly rate: { readonly kind: 'bytes' | 'records'; readonly perSecond: number } | undefined
  /** Topics that are there already, and are to follow from these offsets (by partition) on; the link is paused then. */
  readonly failback?: readonly FailbackTopic[]
}

export interface FailbackTopic {
  readonly topic: string
  readonly topicId: string
  readonly sourceTopicId: string
  readonly cutAt: readonly number[]
}

export type LinkAction = 'pause' | 'resume' | 'promote' | 'unlink'

export class LinkAdmin {
  readonly #cluster: Cluster

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  /**
   * @param timeoutMs  how long the daemon may look for the source
   * @returns the source's topics that match now
   * @throws StreamError CONFLICT, TOPIC_EXISTS, UNREACHABLE (the source), CONFIG_INVALID; UNSUPPORTED_BY_BROKER; as Cluster.call
   */
  async create(link: NewLink, timeoutMs: number): Promise<readonly string[]> {
    const answer = await this.#cluster.call('controller', 'CreateLink', {
      name: link.name,
      source: [...link.source],
      context: link.context ?? null,
      topics: [...link.topics],
      syncConfigs: link.syncConfigs,
      syncGroups: link.syncGroups,
      rateKind: link.rate?.kind ?? 'bytes',
      ratePerSecond: Math.max(
        link.rate === undefined ? 0 : 1,
        Math.round(link.rate?.perSecond ?? 0),
      ),
      timeoutMs,
      failback: link.failback?.map((entry) => ({ ...entry, cutAt: [...entry.cutAt] })) ?? [],
    })
    return taken(answer)
  }

  /**
   * @param topics  undefined: all, and the link itself
   * @returns the topics whose state is changed
   * @throws StreamError NAME_UNKNOWN, TOPIC_UNKNOWN, CONFLICT; as Cluster.call
   */
  async alter(
    name: string,
    action: LinkAction,
    topics: readonly string[] | undefined,
  ): Promise<readonly string[]> {
    const body = { name, action, topics: topics === undefined ? null : [...topics] }
    return taken(await this.#cluster.call('controller', 'AlterLink', body))
  }

  /** @throws StreamError UNSUPPORTED_BY_BROKER; as Cluster.call */
  async describe(names?: readonly string[]): Promise<readonly LinkDescription[]> {
    const answers = await this.#cluster.ofEachBroker((nodeId) =>
      this.#cluster.call(nodeId, 'DescribeLinks', {
        names: names === undefined ? null : [...names],
      }),
    )
    const merged = new Map<string, LinkDescription>()
    for (const { links } of answers) {
      for (const link of links) merged.set(link.name, merge(merged.get(link.name), link))
    }
    return [...merged.values()]
  }

  /** @throws StreamError NAME_UNKNOWN; as describe */
  async describeOne(name: string): Promise<LinkDescription> {
    const [found] = await this.describe([name])
    if (found !== undefined) return found
    throw new StreamError('NAME_UNKNOWN', `${name}: no such link`, {
      target: name,
      hint: 'to see what there is: stream mirror status',
    })
  }
}

function merge(known: LinkDescription | undefined, found: LinkDescription): LinkDescription {
  if (known === undefined) return found
  const topics = new Map(known.topics.map((topic) => [topic.name, topic]))
  for (const topic of found.topics) {
    const before = topics.get(topic.name)
    if (before === undefined) topics.set(topic.name, topic)
    else {
      const partitions = [...before.partitions, ...topic.partitions]
      partitions.sort((a, b) => a.partition - b.partition)
      topics.set(topic.name, { ...before, problem: before.problem ?? topic.problem, partitions })
    }
  }
  const isTakenUp = known.isTakenUp || found.isTakenUp
  const problem = known.problem ?? found.problem
  return { ...known, isTakenUp, problem, topics: [...topics.values()] }
}

function taken(answer: {
  readonly failure: string | null
  readonly message: string | null
  readonly topics: readonly string[]
}): readonly string[] {
  const { failure, message, topics } = answer
  if (failure === null) return topics
  const code = Object.hasOwn(errorTable, failure) ? (failure as ErrorCode) : 'BROKER_ERROR'
  throw new StreamError(code, message ?? failure)
}
