/**
 * The records in hand of `consume --exec`, in the order in which children get them: partitions, their lanes, and the work of
 * one child. Nothing here waits or starts anything.
 *
 * Invariants:
 * - Records of one lane are worked on one after the other, in offset order. With -P a lane is a key (batches: a share of
 *   the keys), or all records of a partition without one; else it is the partition.
 * - All records below a partition's position are done, or are dead letters that position() has been asked to include.
 */

import type { RecordsEvent } from '../src/client/consumer-events.ts'
import type { Child } from '../src/ports/children.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import type { RecordCursor } from '../src/record/record-cursor.ts'
import type { DeadFailure } from './dlq-records.ts'
import type { Attempts } from './retry-policy.ts'

export type LaneKey = string | number

/** A stored batch, kept as long as work of it is in hand. */
export interface Source {
  readonly bytes: Uint8Array
  readonly at: number
}

/** What one child gets. */
export class Work {
  readonly lane: Lane
  readonly input: OutputBuffer
  readonly sources: Source[] = []
  readonly attempts: Attempts
  firstOffset = -1
  lastOffset = -1
  count = 0
  /** Beside what all children get. */
  environment: Readonly<Record<string, string | undefined>> = {}
  /** A part of a batch that failed: tried once, while it holds more than one record. */
  readonly isPart: boolean
  child: Child | undefined
  /** No child has had it yet. */
  isWaiting = true
  /** Of the batch that it is a part of. */
  attemptsBefore = 0
  /** Given up, and to be put aside. */
  failure: DeadFailure | undefined

  constructor(lane: Lane, attempts: Attempts, isPart = false) {
    this.lane = lane
    this.attempts = attempts
    this.isPart = isPart
    this.input = new OutputBuffer(256)
  }

  get part(): Part {
    return this.lane.part
  }

  /** Takes the record the cursor stands on; its bytes for the child are in `input` already. */
  add(bytes: Uint8Array, at: number, offset: number): void {
    if (this.count === 0) this.firstOffset = offset
    this.lastOffset = offset
    this.count += 1
    const last = this.sources[this.sources.length - 1]
    if (last?.bytes !== bytes || last.at !== at) this.sources.push({ bytes, at })
  }

  /** `mails: partition 0: offset 17`, `…: offsets 17 to 20`. */
  get name(): string {
    const { topic, partition } = this.part
    const { firstOffset: first, lastOffset: last } = this
    const offsets = first === last ? `offset ${first}` : `offsets ${first} to ${last}`
    return `${topic}: partition ${partition}: ${offsets}`
  }
}

/** Work that must keep its order. */
export class Lane {
  readonly part: Part
  readonly key: LaneKey
  readonly queue: Work[] = []
  /** The first of the queue is with a child, or waits to be tried again. */
  isBusy = false

  constructor(part: Part, key: LaneKey) {
    this.part = part
    this.key = key
  }
}

export type PartEvent =
  | RecordsEvent
  | { readonly kind: 'gap'; readonly to: number }
  | { readonly kind: 'end'; readonly offset: number }

/** A partition. */
export class Part {
  readonly topic: string
  readonly partition: number
  /** From the broker, not yet taken apart. */
  readonly events: PartEvent[] = []
  readonly lanes = new Map<LaneKey, Lane>()
  /** Neither done nor dead. */
  readonly open = new Set<Work>()
  /** Given up, to be committed with their dead letters. */
  readonly dead = new Set<Work>()
  /** All below was taken. */
  taken: number
  /** Some position of before. */
  knownPosition: number
  /** Records taken that no child has had. */
  waiting = 0
  /** Its end was reached, or it was told to take no more. */
  hasEnded = false
  isPaused = false
  /** It goes to another member, or nothing is done any more. */
  isReleased = false
  /** Of the first event. */
  batchIndex = 0
  cursor: RecordCursor | undefined

  constructor(topic: string, partition: number, startOffset: number) {
    this.topic = topic
    this.partition = partition
    this.taken = startOffset
    this.knownPosition = startOffset
  }

  get isIdle(): boolean {
    return this.events.length === 0 && this.open.size === 0
  }

  /** All below is done, or among `dead`. Dead work is behind it as a whole, or not at all. */
  position(): number {
    let position = this.taken
    for (const { firstOffset } of this.open) if (firstOffset < position) position = firstOffset
    // Each turn goes before one more of them.
    for (let isSettled = false; !isSettled; ) {
      isSettled = true
      for (const { firstOffset, lastOffset } of this.dead) {
        if (firstOffset >= position || lastOffset < position) continue
        position = firstOffset
        isSettled = false
      }
    }
    return position
  }

  /** Dead work below a position, in order. */
  deadBelow(offset: number): Work[] {
    return [...this.dead]
      .filter(({ lastOffset }) => lastOffset < offset)
      .sort((left, right) => left.firstOffset - right.firstOffset)
  }

  lane(key: LaneKey): Lane {
    let lane = this.lanes.get(key)
    if (lane === undefined) {
      lane = new Lane(this, key)
      this.lanes.set(key, lane)
    }
    return lane
  }

  /** No child has it, and none will. @returns bytes of what was waiting */
  dropWaiting(): number {
    this.events.length = 0
    this.cursor = undefined
    this.hasEnded = true
    this.isReleased = true
    let bytes = 0
    for (const lane of this.lanes.values()) {
      for (const work of lane.queue) {
        if (work.isWaiting) bytes += work.input.length
        if (work.child === undefined) this.abandon(work)
      }
      lane.queue.length = 0
    }
    this.waiting = 0
    return bytes
  }

  /** It is not done, and will not be here: the position stays before it. */
  abandon(work: Work): void {
    this.taken = Math.min(this.taken, work.firstOffset)
    this.open.delete(work)
  }
}
