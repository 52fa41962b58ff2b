/** What a listing could not learn because a broker does not answer: told once for each broker, not for each partition. */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { OffsetOutcome } from '../src/client/offsets.ts'

/** For one broker's answer, where a listing can do without it. */
export const ANSWER_MS_MAX = 5000

const NAMED_MAX = 5

/** Partitions that one broker, or nobody, answers for. */
export interface UnansweredPartitions {
  /** Who is said to lead them; -1: nobody by now. */
  readonly leaderId: number
  /** Nothing comes from it; false: it answers, and not for these. */
  readonly isSilent: boolean
  readonly error: StreamError
  /** Partitions by topic. */
  readonly topics: ReadonlyMap<string, ReadonlySet<number>>
}

interface Group extends UnansweredPartitions {
  readonly topics: Map<string, Set<number>>
}

export class Unanswered {
  readonly #groups = new Map<string, Group>()
  /** That did not say what they store. */
  readonly #brokers = new Set<number>()
  readonly #partitions = new Set<string>()

  /** An outcome with an answer is none of it. */
  addOffset({ topic, partition, leaderId, error }: OffsetOutcome): void {
    if (error === undefined) return
    this.#partitions.add(`${topic}/${partition}`)
    const refusal = refusalIn(error)
    const key = `${leaderId} ${refusal?.code} ${refusal?.kafkaError}`
    const group = this.#groups.get(key) ?? {
      leaderId,
      isSilent: leaderId >= 0 && refusal === undefined,
      error: refusal ?? error,
      topics: new Map(),
    }
    this.#groups.set(key, group)
    const partitions = group.topics.get(topic) ?? new Set()
    group.topics.set(topic, partitions.add(partition))
  }

  /** Known before anybody was asked. */
  addLeaderless(topic: string, partition: number): void {
    const error = new StreamError('TIMED_OUT', `${topic} partition ${partition}: nobody leads it`)
    this.addOffset({ topic, partition, at: 'latest', answer: undefined, leaderId: -1, error })
  }

  addBroker(nodeId: number): void {
    this.#brokers.add(nodeId)
  }

  has(topic: string, partition: number): boolean {
    return this.#partitions.has(`${topic}/${partition}`)
  }

  get groups(): readonly UnansweredPartitions[] {
    return [...this.#groups.values()]
  }

  /** One for each broker. */
  errors(): readonly StreamError[] {
    const errors = this.groups.map((group) =>
      group.error.exit === 6 ? group.error : new StreamError('TIMED_OUT', wordsOf(group)),
    )
    const told = new Set(this.groups.map(({ leaderId }) => leaderId))
    const silent = [...this.#brokers].filter((nodeId) => !told.has(nodeId))
    const untold = silent.map(
      (nodeId) =>
        new StreamError('TIMED_OUT', `broker ${nodeId} does not answer: what it stores is unknown`),
    )
    return [...errors, ...untold]
  }
}

/** What the leader answered instead of an offset; undefined: no answer came from it. */
function refusalIn(error: StreamError): StreamError | undefined {
  const last = isStreamError(error, 'TIMED_OUT') ? error.cause : error
  return last instanceof StreamError && last.kafkaError !== undefined ? last : undefined
}

function wordsOf(group: UnansweredPartitions): string {
  const count = [...group.topics.values()].reduce((sum, { size }) => sum + size, 0)
  const what = `the offsets of ${count} ${count === 1 ? 'partition' : 'partitions'} are unknown`
  const names = someNames([...group.topics.keys()])
  if (group.leaderId < 0) return `nobody leads them: ${what}: ${names}`
  if (group.isSilent) return `broker ${group.leaderId} does not answer: ${what}: ${names}`
  return `broker ${group.leaderId} does not serve what it led: ${what}: ${names}`
}

export function someNames(names: readonly string[]): string {
  const more = names.length - NAMED_MAX
  const shown = names.slice(0, NAMED_MAX).join(', ')
  return more > 0 ? `${shown} and ${more} more` : shown
}
