/** Asking partitions' leaders for offsets: ends, starts, places in time. */
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time } from '../ports/time.ts'
import type { Response } from '../protocol/api-table.ts'
import { KafkaError, kafkaErrorIsRetriable } from '../protocol/errors.ts'
import { backoffMs } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import { kafkaFailure } from './kafka-failure.ts'

export type Isolation = 'read_committed' | 'read_uncommitted'

/** `latest` is the end: the last stable offset, or with read_uncommitted the high watermark. A number: milliseconds. */
export type OffsetPlace = 'earliest' | 'latest' | 'maxTimestamp' | number

export interface OffsetQuestion {
  readonly topic: string
  readonly partition: number
  readonly at: OffsetPlace
}

export interface OffsetAnswer extends OffsetQuestion {
  /** -1: no record has a timestamp so late, or there is none at all (maxTimestamp). */
  readonly offset: number
  /** Of the record at `offset`; -1 for earliest and latest. */
  readonly timestampMs: number
}

const LATEST = -1
const EARLIEST = -2
const MAX_TIMESTAMP = -3
const LEADER_PATIENCE_MS = 5000
/** The first version that knows it. */
const MAX_TIMESTAMP_VERSION = 7

export interface ListOffsetsOptions {
  /** Default read_committed. */
  readonly isolation?: Isolation
  /** On the monotonic clock; default: the cluster's requestTimeoutMs from now. */
  readonly deadlineMs?: number
}

/**
 * @param questions  any mix of topics, partitions and places
 * @returns  an answer per question, in the same order
 * @throws StreamError TOPIC_UNKNOWN (no such topic or partition), NOT_ALLOWED, UNSUPPORTED_BY_BROKER (maxTimestamp),
 *   TIMED_OUT, UNREACHABLE
 */
export async function listOffsets(
  time: Time,
  random: Random,
  cluster: Cluster,
  questions: readonly OffsetQuestion[],
  options: ListOffsetsOptions = {},
): Promise<readonly OffsetAnswer[]> {
  const deadlineMs = options.deadlineMs ?? time.monotonicMs() + cluster.requestTimeoutMs
  const answers = new Array<OffsetAnswer | undefined>(questions.length)
  let open = questions.map((_, index) => index)
  for (let attempt = 1; open.length > 0; attempt++) {
    await learnTopics(cluster, questions, open, deadlineMs)
    const groups = groupByRequest(cluster, questions, open)
    await Promise.all(
      groups.map(({ leaderId, indexes }) =>
        askLeader(cluster, leaderId, questions, indexes, answers, {
          ...options,
          // A leader that is gone must not use up the time in which another one takes over.
          deadlineMs: Math.min(deadlineMs, time.monotonicMs() + LEADER_PATIENCE_MS),
        }),
      ),
    )
    const before = open.length
    open = open.filter((index) => answers[index] === undefined)
    if (open.length === 0 || open.length < before) continue
    const delayMs = backoffMs(random, cluster.backoff, attempt)
    if (time.monotonicMs() + delayMs > deadlineMs) {
      const target = nameOf(questions[open[0] ?? 0])
      throw new StreamError('TIMED_OUT', `${target}: no leader answers for its offsets`, { target })
    }
    await sleep(time, delayMs)
    await cluster.describeTopics([...topicsOf(questions, open)], { deadlineMs })
  }
  return answers.flatMap((answer) => answer ?? [])
}

function nameOf(question: OffsetQuestion | undefined): string {
  return question === undefined ? '' : `${question.topic} partition ${question.partition}`
}

function topicsOf(questions: readonly OffsetQuestion[], open: readonly number[]): Set<string> {
  return new Set(open.flatMap((index) => questions[index]?.topic ?? []))
}

async function learnTopics(
  cluster: Cluster,
  questions: readonly OffsetQuestion[],
  open: readonly number[],
  deadlineMs: number,
): Promise<void> {
  const unknown = [...topicsOf(questions, open)].filter(
    (name) => (cluster.metadata.topic(name)?.partitions.length ?? 0) === 0,
  )
  if (unknown.length > 0) await cluster.describeTopics(unknown, { deadlineMs })
  for (const index of open) {
    const question = questions[index]
    if (question === undefined) continue
    const topic = cluster.metadata.topic(question.topic)
    const code = topic?.errorCode ?? 0
    const isHopeless = code !== 0 && (code === 3 || !kafkaErrorIsRetriable(code))
    if (isHopeless) throw kafkaFailure(code, { target: question.topic })
    const count = topic?.partitions.length ?? 0
    if (count > 0 && question.partition >= count) {
      const target = nameOf(question)
      throw new StreamError('TOPIC_UNKNOWN', `${target}: no such partition`, { target })
    }
  }
}

interface OffsetRequest {
  readonly leaderId: number
  /** Of questions. */
  readonly indexes: number[]
}

/** One request asks a leader for one place of each partition; two places of a partition are two requests, sent together. */
function groupByRequest(
  cluster: Cluster,
  questions: readonly OffsetQuestion[],
  open: readonly number[],
): OffsetRequest[] {
  const requests = new Map<string, OffsetRequest>()
  const placesOfPartition = new Map<string, number>()
  for (const index of open) {
    const question = questions[index]
    if (question === undefined) continue
    const leader = cluster.leaderOf(question.topic, question.partition)
    if (leader === undefined) continue
    const partition = nameOf(question)
    const place = placesOfPartition.get(partition) ?? 0
    placesOfPartition.set(partition, place + 1)
    const key = `${leader.leaderId}/${place}`
    const request = requests.get(key)
    if (request !== undefined) request.indexes.push(index)
    else requests.set(key, { leaderId: leader.leaderId, indexes: [index] })
  }
  return [...requests.values()]
}

async function askLeader(
  cluster: Cluster,
  leaderId: number,
  questions: readonly OffsetQuestion[],
  indexes: readonly number[],
  answers: (OffsetAnswer | undefined)[],
  options: ListOffsetsOptions & { readonly deadlineMs: number },
): Promise<void> {
  const asksMaxTimestamp = indexes.some((index) => questions[index]?.at === 'maxTimestamp')
  const connection = cluster.connectionTo(leaderId)
  if (asksMaxTimestamp && connection?.supports('ListOffsets', MAX_TIMESTAMP_VERSION) === false) {
    throw new StreamError(
      'UNSUPPORTED_BY_BROKER',
      'the broker is too old to tell the offset of the largest timestamp',
    )
  }
  const topics = new Map<
    string,
    { partitionIndex: number; currentLeaderEpoch: number; timestamp: number }[]
  >()
  for (const index of indexes) {
    const question = questions[index]
    if (question === undefined) continue
    const rows = topics.get(question.topic) ?? []
    topics.set(question.topic, rows)
    rows.push({
      partitionIndex: question.partition,
      currentLeaderEpoch: cluster.leaderOf(question.topic, question.partition)?.leaderEpoch ?? -1,
      timestamp: timestampOf(question.at),
    })
  }
  let response: Response<'ListOffsets'>
  try {
    response = await cluster.call(
      leaderId,
      'ListOffsets',
      {
        replicaId: -1,
        isolationLevel: options.isolation === 'read_uncommitted' ? 0 : 1,
        topics: [...topics].map(([name, partitions]) => ({ name, partitions })),
      },
      { deadlineMs: options.deadlineMs, resend: false },
    )
  } catch (error) {
    const isOver = !(error instanceof StreamError) || !error.retriable || cluster.isClosed
    if (isOver) throw error
    return
  }
  for (const index of indexes) {
    const question = questions[index]
    if (question === undefined) continue
    const row = response.topics
      .find((topic) => topic.name === question.topic)
      ?.partitions.find((partition) => partition.partitionIndex === question.partition)
    if (row === undefined) continue
    if (row.errorCode === 0) {
      answers[index] = { ...question, offset: row.offset, timestampMs: row.timestamp }
    } else if (
      row.errorCode !== KafkaError.UNKNOWN_TOPIC_OR_PARTITION &&
      !kafkaErrorIsRetriable(row.errorCode)
    ) {
      throw kafkaFailure(row.errorCode, { target: nameOf(question) })
    }
  }
}

function timestampOf(at: OffsetPlace): number {
  if (at === 'latest') return LATEST
  if (at === 'earliest') return EARLIEST
  if (at === 'maxTimestamp') return MAX_TIMESTAMP
  return at
}
