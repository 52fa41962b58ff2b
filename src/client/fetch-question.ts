/** One Fetch: what a broker is asked for, and what is remembered of the question until its answer comes. */
import { ZERO_UUID } from '../protocol/schema.ts'
import type { Part } from './consumer-part.ts'
import type { Asked, Fetch } from './fetches-under-way.ts'

/** From here on Fetch names topics by id. */
export const TOPIC_ID_VERSION = 13

interface AskedRow {
  readonly partition: number
  readonly currentLeaderEpoch: number
  readonly fetchOffset: number
  readonly lastFetchedEpoch: number
  readonly partitionMaxBytes: number
}

interface AskedTopic {
  readonly topic: string
  readonly topicId: string
  readonly partitions: AskedRow[]
}

export interface FetchQuestion {
  readonly fetch: Fetch
  readonly topics: readonly AskedTopic[]
  /** How long the broker may wait for records. */
  readonly maxWaitMs: number
}

export interface FetchSource {
  readonly nodeId: number
  /** It takes TOPIC_ID_VERSION. */
  readonly takesIds: boolean
  /** Answers do not keep the order of questions: one that waits holds up no other. */
  readonly isNative: boolean
  readonly maxWaitMs: number
  readonly leaderEpochOf: (part: Part) => number
  readonly bytesMaxOf: (part: Part) => number
}

/** @param parts  not empty */
export function makeFetchQuestion(parts: readonly Part[], source: FetchSource): FetchQuestion {
  const { nodeId } = source
  const isById = source.takesIds && parts.every(({ topicId }) => topicId !== undefined)
  // Whoever may be at its end goes first: the first partition of a request is never starved by the others.
  const ordered = parts.toSorted((a, b) => Number(b.isEndWritten) - Number(a.isEndWritten))
  const asked: Asked[] = []
  const topics = new Map<string, AskedTopic>()
  let isClosing = false
  for (const part of ordered) {
    const { topic, generation, fetchOffset: offset, isEndWritten: wasEndWritten } = part
    const isNearest = part.nearest?.nodeId === nodeId
    const isFirst = asked.length === 0
    asked.push({ part, generation, offset, isFirst, wasEndWritten, isNearest })
    isClosing ||= wasEndWritten
    const name = nameIn(part, isById)
    const row: AskedRow = {
      partition: part.partition,
      currentLeaderEpoch: source.leaderEpochOf(part),
      fetchOffset: part.fetchOffset,
      lastFetchedEpoch: part.lastEpoch,
      partitionMaxBytes: source.bytesMaxOf(part),
    }
    const of = topics.get(name)
    if (of !== undefined) of.partitions.push(row)
    else topics.set(name, { topic, topicId: part.topicId ?? ZERO_UUID, partitions: [row] })
  }
  const maxWaitMs = isClosing ? 0 : source.maxWaitMs
  // A Kafka broker answers in order: behind one that waits a second one would wait too, and hold up the next of the first.
  const isQuiet = source.isNative && maxWaitMs > 0 && parts.every(({ isAtEnd }) => isAtEnd)
  return { fetch: { nodeId, isQuiet, isById, asked }, topics: [...topics.values()], maxWaitMs }
}

/** What the topic of a partition is called in a question, and in its answer. */
export function nameIn(part: Part, isById: boolean): string {
  return isById ? (part.topicId ?? ZERO_UUID) : part.topic
}
