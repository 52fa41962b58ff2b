/** What a consumer knows of one partition that it reads. */
import type { Timer } from '../ports/time.ts'
import { baseOffsetAt, leaderEpochAt } from '../record/batch-layout.ts'
import type { Assignment } from './consumer-events.ts'
import { knownTopicId, type TopicIdentity } from './topic-identity.ts'

export interface Part extends TopicIdentity {
  readonly topic: string
  readonly partition: number
  /** For messages. */
  readonly target: string
  endOffset: number
  /** Next offset to ask for. */
  fetchOffset: number
  /** Position after the last event handed out. */
  position: number
  /** Rises when answers under way have lost their meaning. */
  generation: number
  state: 'reading' | 'resolving' | 'ended' | 'failed'
  isPaused: boolean
  /** Whether events of it are still queued. */
  queued: number
  /** An answer has shown that the log reaches endOffset: an empty one asked for after that is the last word. */
  isEndWritten: boolean
  /** Its last answer held all that was committed, or nothing. */
  isAtEnd: boolean
  failures: number
  /** When a replica answered for it last; when it was assigned, before that. */
  heardMs: number
  damagedReads: number
  /** Of the first of them. */
  damagedSinceMs: number
  beyondEnd: number
  unknownSinceMs: number | undefined
  notBeforeMs: number
  retryTimer: Timer | undefined
  /** Leader epoch of the last batch before fetchOffset; −1: unknown. */
  lastEpoch: number
  /** Where the leader epochs of what was read begin, rising; the oldest are forgotten. */
  readonly epochs: { readonly fromOffset: number; readonly epoch: number }[]
  /** The replica that the leader has named; undefined: the leader. */
  nearest: { readonly nodeId: number; readonly untilMs: number } | undefined
  /** Not asked for before: the last one named was of no use. */
  notNearestBeforeMs: number
  /** Read from files at present. */
  isLocal: boolean
  /** Not read from files before: something was not as expected. */
  notLocalBeforeMs: number
}

/** A commit that lies behind so many changes of leaders says nothing of its epoch. */
const EPOCHS_MAX = 16

export function makePart(assignment: Assignment, nowMs: number): Part {
  const { topic, partition, startOffset, endOffset, leaderEpoch = -1 } = assignment
  return {
    topic,
    partition,
    target: `${topic} partition ${partition}`,
    topicId: knownTopicId(assignment.topicId),
    doubted: undefined,
    endOffset: endOffset ?? Number.POSITIVE_INFINITY,
    fetchOffset: startOffset,
    position: startOffset,
    generation: 0,
    state: 'reading',
    isPaused: false,
    queued: 0,
    isEndWritten: false,
    isAtEnd: false,
    failures: 0,
    heardMs: nowMs,
    damagedReads: 0,
    damagedSinceMs: 0,
    beyondEnd: 0,
    unknownSinceMs: undefined,
    notBeforeMs: Number.NEGATIVE_INFINITY,
    retryTimer: undefined,
    lastEpoch: leaderEpoch,
    epochs: leaderEpoch < 0 ? [] : [{ fromOffset: startOffset - 1, epoch: leaderEpoch }],
    nearest: undefined,
    notNearestBeforeMs: Number.NEGATIVE_INFINITY,
    isLocal: false,
    notLocalBeforeMs: Number.NEGATIVE_INFINITY,
  }
}

/** What was read last is in the last of these batches. */
export function noteEpochs(part: Part, bytes: Uint8Array, starts: readonly number[]): void {
  part.lastEpoch = -1
  for (const at of starts) {
    const epoch = leaderEpochAt(bytes, at)
    part.lastEpoch = epoch
    if (part.epochs.at(-1)?.epoch === epoch) continue
    part.epochs.push({ fromOffset: baseOffsetAt(bytes, at), epoch })
    if (part.epochs.length > EPOCHS_MAX) part.epochs.shift()
  }
}
