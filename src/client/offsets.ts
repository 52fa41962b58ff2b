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

/** What became of one question of several. */
export interface OffsetOutcome extends OffsetQuestion {
  readonly answer: OffsetAnswer | undefined
  /** Absent where it was answered. */
  readonly error: StreamError | undefined
  /** Who was taken for the leader last; -1: nobody. */
  readonly leaderId: number
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
  const survey = new Survey(questions, (error) => {
    throw error
  })
  await answerAll(time, random, cluster, survey, { ...options, deadlineMs })
  return survey.answers.flatMap((answer) => answer ?? [])
}

/**
 * As listOffsets, for who can do without some of the answers: a partition whose leader does not answer costs the others nothing
 * but the time until the deadline.
 * @returns  an outcome per question, in the same order
 * @throws as Cluster.call, where nobody could be asked who leads
 */
export async function listOffsetsEach(
  time: Time,
  random: Random,
  cluster: Cluster,
  questions: readonly OffsetQuestion[],
  options: ListOffsetsOptions = {},
): Promise<readonly OffsetOutcome[]> {
  const deadlineMs = options.deadlineMs ?? time.monotonicMs() + cluster.requestTimeoutMs
  const errors = new Map<number, StreamError>()
  const survey = new Survey(questions, (error, index) => errors.set(index, error))
  await answerAll(time, random, cluster, survey, { ...options, deadlineMs })
  return questions.map((question, index) => ({
    ...question,
    answer: survey.answers[index],
    error: errors.get(index),
    leaderId: cluster.leaderOf(question.topic, question.partition)?.leaderId ?? -1,
  }))
}

/** Questions on their way, by their index. */
class Survey {
  readonly questions: readonly OffsetQuestion[]
  readonly answers: (OffsetAnswer | undefined)[]
  /** Neither answered nor given up. */
  readonly #open: Set<number>
  /** What the leader last had instead of an answer, where asking again may help. */
  readonly #troubles = new Map<number, StreamError>()
  readonly #onFailure: (error: StreamError, index: number) => void

  /** @param onFailure  may throw, where one failure is that of all */
  constructor(
    questions: readonly OffsetQuestion[],
    onFailure: (error: StreamError, index: number) => void,
  ) {
    this.questions = questions
    this.answers = new Array<OffsetAnswer | undefined>(questions.length)
    this.#open = new Set(questions.keys())
    this.#onFailure = onFailure
  }

  get open(): readonly number[] {
    return [...this.#open]
  }

  answer(index: number, answer: OffsetAnswer): void {
    this.answers[index] = answer
    this.#open.delete(index)
  }

  troubleOf(index: number): StreamError | undefined {
    return this.#troubles.get(index)
  }

  keepOpen(indexes: readonly number[], trouble: StreamError): void {
    for (const index of indexes) this.#troubles.set(index, trouble)
  }

  fail(indexes: readonly number[], error: (index: number) => StreamError): void {
    for (const index of indexes) {
      this.#open.delete(index)
      this.#onFailure(error(index), index)
    }
  }
}

type SurveyOptions = ListOffsetsOptions & { readonly deadlineMs: number }

async function answerAll(
  time: Time,
  random: Random,
  cluster: Cluster,
  survey: Survey,
  options: SurveyOptions,
): Promise<void> {
  const { questions } = survey
  const { deadlineMs } = options
  for (let attempt = 1; survey.open.length > 0; attempt++) {
    await learnTopics(cluster, survey, deadlineMs)
    const before = survey.open.length
    const groups = groupByRequest(cluster, questions, survey.open)
    await Promise.all(
      groups.map(({ leaderId, indexes }) =>
        askLeader(cluster, leaderId, survey, indexes, {
          ...options,
          // A leader that is gone must not use up the time in which another one takes over.
          deadlineMs: Math.min(deadlineMs, time.monotonicMs() + LEADER_PATIENCE_MS),
        }),
      ),
    )
    const { open } = survey
    if (open.length === 0 || open.length < before) continue
    const delayMs = backoffMs(random, cluster.backoff, attempt)
    if (time.monotonicMs() + delayMs > deadlineMs) {
      survey.fail(open, (index) => noAnswer(questions[index], survey.troubleOf(index)))
      return
    }
    await sleep(time, delayMs)
    await learnAgain(cluster, survey, deadlineMs)
  }
}

function noAnswer(
  question: OffsetQuestion | undefined,
  cause: StreamError | undefined,
): StreamError {
  const target = nameOf(question)
  const words = `${target}: no leader answers for its offsets`
  return new StreamError('TIMED_OUT', words, { target, ...(cause === undefined ? {} : { cause }) })
}

/** Who leads them by now. */
async function learnAgain(cluster: Cluster, survey: Survey, deadlineMs: number): Promise<void> {
  const { open } = survey
  try {
    await cluster.describeTopics([...topicsOf(survey.questions, open)], { deadlineMs })
  } catch (error) {
    if (!(error instanceof StreamError) || cluster.isClosed) throw error
    survey.fail(open, () => error)
  }
}

function nameOf(question: OffsetQuestion | undefined): string {
  return question === undefined ? '' : `${question.topic} partition ${question.partition}`
}

function topicsOf(questions: readonly OffsetQuestion[], open: readonly number[]): Set<string> {
  return new Set(open.flatMap((index) => questions[index]?.topic ?? []))
}

async function learnTopics(cluster: Cluster, survey: Survey, deadlineMs: number): Promise<void> {
  const { questions, open } = survey
  // Also where it had fewer partitions when it was last heard of: more may have been added.
  const unknown = open.filter((index) => !isKnown(cluster, questions[index]))
  if (unknown.length > 0) {
    await cluster.describeTopics([...topicsOf(questions, unknown)], { deadlineMs })
  }
  for (const index of open) {
    const question = questions[index]
    const defect = question === undefined ? undefined : findDefect(cluster, question)
    if (defect !== undefined) survey.fail([index], () => defect)
  }
}

function isKnown(cluster: Cluster, question: OffsetQuestion | undefined): boolean {
  if (question === undefined) return true
  return question.partition < (cluster.metadata.topic(question.topic)?.partitions.length ?? 0)
}

/** What waiting cannot cure, as far as the metadata tell. */
function findDefect(cluster: Cluster, question: OffsetQuestion): StreamError | undefined {
  const topic = cluster.metadata.topic(question.topic)
  const code = topic?.errorCode ?? 0
  const isHopeless = code !== 0 && (code === 3 || !kafkaErrorIsRetriable(code))
  if (isHopeless) return kafkaFailure(code, { target: question.topic })
  const count = topic?.partitions.length ?? 0
  if (count === 0 || question.partition < count) return undefined
  const target = nameOf(question)
  return new StreamError('TOPIC_UNKNOWN', `${target}: no such partition`, { target })
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
  survey: Survey,
  indexes: readonly number[],
  options: SurveyOptions,
): Promise<void> {
  const { questions } = survey
  const asksMaxTimestamp = indexes.some((index) => questions[index]?.at === 'maxTimestamp')
  const connection = cluster.connectionTo(leaderId)
  if (asksMaxTimestamp && connection?.supports('ListOffsets', MAX_TIMESTAMP_VERSION) === false) {
    const words = 'the broker is too old to tell the offset of the largest timestamp'
    const error = new StreamError('UNSUPPORTED_BY_BROKER', words)
    return survey.fail(indexes, () => error)
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
    if (!(error instanceof StreamError) || cluster.isClosed) throw error
    if (error.retriable) survey.keepOpen(indexes, error)
    else survey.fail(indexes, () => error)
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
      survey.answer(index, { ...question, offset: row.offset, timestampMs: row.timestamp })
      continue
    }
    const error = kafkaFailure(row.errorCode, { target: nameOf(question) })
    const mayPass =
      row.errorCode === KafkaError.UNKNOWN_TOPIC_OR_PARTITION ||
      kafkaErrorIsRetriable(row.errorCode)
    if (mayPass) survey.keepOpen([index], error)
    else survey.fail([index], () => error)
  }
}

function timestampOf(at: OffsetPlace): number {
  if (at === 'latest') return LATEST
  if (at === 'earliest') return EARLIEST
  if (at === 'maxTimestamp') return MAX_TIMESTAMP
  return at
}
