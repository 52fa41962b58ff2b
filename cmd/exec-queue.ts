/**
 * From fetched batches to work for children: takes records as long as there is room, filters them, puts them into lanes, and
 * says which work is next. Synchronous; exec-run.ts starts what it gives out.
 *
 * Bounds: of each partition a few records for each child wait (`waitingMax`), and no record is taken that lies further than
 * SPAN_BATCHES batches behind the first that is not done; over all partitions WAITING_BYTES_MAX wait, and HELD_BYTES_MAX of
 * events are in hand.
 */

import { assert } from '../src/base/assert.ts'
import type { RecordsEvent } from '../src/client/consumer-events.ts'
import type { Random } from '../src/ports/random.ts'
import { partitionForKey } from '../src/record/partitioner.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import { RecordFilter } from '../src/text/record-filter.ts'
import type { RecordWriter } from '../src/text/record-writer.ts'
import { batchEnvironment, recordEnvironment } from './exec-environment.ts'
import type { ExecPlan } from './exec-plan.ts'
import { type Lane, type LaneKey, Part, type PartEvent, Work } from './exec-work.ts'
import type { Taken } from './group-read.ts'
import type { ReadPlan } from './read-options.ts'
import { Attempts } from './retry-policy.ts'

/** Events in hand of one partition: one being taken apart, one behind it. */
const EVENTS_MAX = 2
const SPAN_BATCHES = 1000
const WAITING_BYTES_MAX = 16 * 1024 * 1024
/** A batch closes when it holds so much. */
const BATCH_BYTES_MAX = 8 * 1024 * 1024
const HELD_BYTES_MAX = 32 * 1024 * 1024
/** Look-ahead for lanes that are free, per child. */
const WAITING_PER_CHILD = 16
const WAITING_BATCHES_PER_CHILD = 2
const KEYLESS = -1
const PARTITION = 0

export interface QueueHooks {
  /** A record stamped at or after the end in time was met: the partition is over. */
  readonly onPassedTime: (part: Part) => void
  readonly onTaken: (bytes: number) => void
}

export class ExecQueue {
  /** Records taken, those that the filter dropped left out, and their bytes for the children. */
  taken = 0
  bytes = 0
  readonly parts = new Map<string, Part>()
  /** Lanes with work that may begin. */
  readonly #ready: Lane[] = []
  readonly #exec: ExecPlan
  readonly #read: ReadPlan
  readonly #writer: RecordWriter
  readonly #filter: RecordFilter
  readonly #random: Random
  readonly #hooks: QueueHooks
  readonly #waitingMax: number
  readonly #spanMax: number
  readonly #walker = new RecordCursor()
  #waitingBytes = 0
  #heldBytes = 0
  #hasStopped = false
  /** Of the writer and the filter. */
  #current: Part | undefined

  constructor(
    exec: ExecPlan,
    read: ReadPlan,
    writer: RecordWriter,
    random: Random,
    hooks: QueueHooks,
  ) {
    this.#exec = exec
    this.#read = read
    this.#writer = writer
    this.#filter = new RecordFilter(read.filter)
    this.#random = random
    this.#hooks = hooks
    const { batch, parallel } = exec
    this.#waitingMax =
      batch === 1 ? WAITING_PER_CHILD * parallel : WAITING_BATCHES_PER_CHILD * parallel * batch
    this.#spanMax = SPAN_BATCHES * batch
  }

  // --- partitions

  add(topic: string, partition: number, startOffset: number): void {
    this.parts.set(nameOf(topic, partition), new Part(topic, partition, startOffset))
  }

  part(topic: string, partition: number): Part | undefined {
    return this.parts.get(nameOf(topic, partition))
  }

  remove(topic: string, partition: number): void {
    const part = this.part(topic, partition)
    if (part === undefined) return
    this.drop(part)
    this.parts.delete(nameOf(topic, partition))
  }

  /** What no child has of it is forgotten; it takes no more. */
  drop(part: Part): void {
    this.#letGo(part)
    this.#waitingBytes -= part.dropWaiting()
    const left = this.#ready.filter((lane) => lane.part !== part)
    this.#ready.splice(0, this.#ready.length, ...left)
  }

  *positions(): Generator<Taken> {
    for (const part of this.parts.values()) {
      yield { topic: part.topic, partition: part.partition, offset: part.position() }
    }
  }

  /** Nothing is in hand. */
  get isIdle(): boolean {
    for (const part of this.parts.values()) if (!part.isIdle) return false
    return true
  }

  /** All that --count and --bytes ask for is taken. */
  get isDone(): boolean {
    return this.taken >= this.#read.countMax || this.bytes >= this.#read.bytesMax
  }

  /** Takes no more; what is taken is still given out. */
  stopTaking(): void {
    this.#hasStopped = true
    for (const part of this.parts.values()) this.#letGo(part)
  }

  /** What it has of events is not taken apart any more. */
  #letGo(part: Part): void {
    for (const event of part.events) this.#heldBytes -= bytesOf(event)
    part.events.length = 0
    part.cursor = undefined
    part.batchIndex = 0
  }

  // --- events

  push(part: Part, event: PartEvent): void {
    if (part.hasEnded || this.#hasStopped) return
    part.events.push(event)
    this.#heldBytes += bytesOf(event)
  }

  get wantsEvents(): boolean {
    return this.#heldBytes < HELD_BYTES_MAX && !this.#hasStopped
  }

  hasRoomForEvents(part: Part): boolean {
    return part.events.length < EVENTS_MAX
  }

  /**
   * Takes records while there is room. @param mayTake  asked before each
   * @throws StreamError CORRUPT_BATCH …
   */
  fill(mayTake: () => boolean): void {
    for (const part of this.parts.values()) {
      while (this.#hasRoom(part) && mayTake()) if (!this.#step(part)) break
    }
  }

  #hasRoom(part: Part): boolean {
    if (this.#hasStopped || this.isDone || part.events.length === 0) return false
    if (part.waiting >= this.#waitingMax) return false
    if (this.#waitingBytes >= WAITING_BYTES_MAX && part.waiting > 0) return false
    if (part.taken - part.knownPosition < this.#spanMax) return true
    part.knownPosition = part.position()
    return part.taken - part.knownPosition < this.#spanMax
  }

  /** @returns whether to go on with this partition */
  #step(part: Part): boolean {
    const [event] = part.events
    if (event === undefined) return false
    if (event.kind !== 'records') {
      part.taken = Math.max(part.taken, event.kind === 'gap' ? event.to : event.offset)
      part.events.shift()
      return true
    }
    const cursor = part.cursor ?? this.#openBatch(part, event)
    if (cursor === undefined) return true
    if (!cursor.next()) {
      part.taken = Math.max(part.taken, cursor.batchLastOffset + 1)
      part.cursor = undefined
      part.batchIndex += 1
      return true
    }
    if (cursor.offset < part.taken || cursor.offset < event.fromOffset) return true
    if (cursor.offset >= event.untilOffset) {
      this.#endEvent(part, event.untilOffset)
      return true
    }
    const { untilFutureMs } = this.#read
    if (untilFutureMs !== undefined && cursor.timestampMs >= untilFutureMs) {
      this.#letGo(part)
      part.hasEnded = true
      this.#hooks.onPassedTime(part)
      return false
    }
    this.#take(part, event, cursor)
    return true
  }

  #openBatch(part: Part, event: RecordsEvent): RecordCursor | undefined {
    const at = event.batches[part.batchIndex]
    if (at === undefined) {
      this.#endEvent(part, event.nextOffset)
      return undefined
    }
    const cursor = new RecordCursor()
    cursor.reset(event.bytes, at)
    part.cursor = cursor
    return cursor
  }

  #endEvent(part: Part, nextOffset: number): void {
    part.taken = Math.max(part.taken, nextOffset)
    part.cursor = undefined
    part.batchIndex = 0
    const event = part.events.shift()
    if (event !== undefined) this.#heldBytes -= bytesOf(event)
  }

  #take(part: Part, event: RecordsEvent, cursor: RecordCursor): void {
    this.#setPart(part)
    part.taken = cursor.offset + 1
    if (!this.#filter.isEmpty && !this.#filter.matches(cursor)) return
    this.#writer.setEnds?.(event)
    const lane = part.lane(this.#laneKey(cursor))
    const at = event.batches[part.batchIndex]
    assert(at !== undefined, 'a record that is taken lies in a batch of its event')
    const work = this.#formingWork(lane)
    const before = work.input.length
    this.#writer.write(cursor, work.input)
    const bytes = work.input.length - before
    work.add(event.bytes, at, cursor.offset)
    if (this.#exec.batch === 1) {
      work.environment = recordEnvironment(part.topic, part.partition, cursor)
    }
    part.waiting += 1
    this.taken += 1
    this.bytes += bytes
    this.#waitingBytes += bytes
    this.#hooks.onTaken(bytes)
  }

  /** The last work of a lane, as long as it has room and no child has it; else a new one. */
  #formingWork(lane: Lane): Work {
    const last = lane.queue.at(-1)
    const isForming =
      last !== undefined &&
      !(lane.isBusy && lane.queue.length === 1) &&
      !last.isPart &&
      last.count < this.#exec.batch &&
      last.input.length < BATCH_BYTES_MAX
    if (isForming) return last
    const work = new Work(lane, new Attempts(this.#exec.retry, this.#random))
    lane.part.open.add(work)
    lane.queue.push(work)
    if (!lane.isBusy && lane.queue.length === 1) this.#ready.push(lane)
    return work
  }

  #setPart(part: Part): void {
    if (this.#current === part) return
    this.#current = part
    this.#writer.setPartition(part.topic, part.partition)
    this.#filter.setTopic(part.topic)
  }

  #laneKey({ bytes, keyStart, keyEnd }: RecordCursor): LaneKey {
    const { batch, parallel } = this.#exec
    if (parallel === 1) return PARTITION
    if (keyStart < 0) return KEYLESS
    if (batch > 1) return partitionForKey('murmur2', parallel, bytes, keyStart, keyEnd)
    return Buffer.from(bytes.buffer, bytes.byteOffset + keyStart, keyEnd - keyStart).toString(
      'latin1',
    )
  }

  // --- giving out

  /** The next work for a child, which has it until done, retry, split, giveUp or abandon. */
  next(): Work | undefined {
    const lane = this.#ready.shift()
    const work = lane?.queue[0]
    if (lane === undefined || work === undefined) return undefined
    lane.isBusy = true
    if (this.#exec.batch > 1) work.environment = batchEnvironment(work)
    if (work.isWaiting) {
      work.isWaiting = false
      lane.part.waiting -= work.count
      this.#waitingBytes -= work.input.length
    }
    return work
  }

  get hasReady(): boolean {
    return this.#ready.length > 0
  }

  /** It is to be given out again, before what is behind it. */
  retry(work: Work): void {
    const { lane } = work
    if (lane.queue[0] !== work) return
    this.#ready.push(lane)
  }

  done(work: Work): void {
    work.part.open.delete(work)
    this.#leave(work)
  }

  /** It is not done, and will not be here. */
  abandon(work: Work): void {
    work.part.abandon(work)
    this.#leave(work)
  }

  /** Its records are dead letters from now on. */
  giveUp(work: Work): void {
    work.part.open.delete(work)
    work.part.dead.add(work)
    this.#leave(work)
  }

  /** In its place come its halves. */
  split(work: Work): void {
    const { lane, part } = work
    const half = Math.ceil(work.count / 2)
    const first = this.#halfOf(work)
    const second = this.#halfOf(work)
    this.#setPart(part)
    this.walk(work, (cursor, source) => {
      const target = first.count < half ? first : second
      this.#writer.write(cursor, target.input)
      target.add(source.bytes, source.at, cursor.offset)
    })
    part.open.delete(work)
    part.open.add(first)
    part.open.add(second)
    if (lane.queue[0] === work) lane.queue.splice(0, 1, first, second)
    lane.isBusy = false
    this.#ready.push(lane)
  }

  #halfOf({ lane, attempts, attemptsBefore }: Work): Work {
    const half = new Work(lane, new Attempts(this.#exec.retry, this.#random), true)
    half.isWaiting = false
    half.attemptsBefore = attemptsBefore + attempts.number
    return half
  }

  #leave({ lane }: Work): void {
    lane.queue.shift()
    lane.isBusy = false
    if (lane.queue.length > 0) this.#ready.push(lane)
    else if (lane.part.lanes.get(lane.key) === lane) lane.part.lanes.delete(lane.key)
  }

  /** The records of a work again. @param visit  the cursor is on one */
  walk(work: Work, visit: (cursor: RecordCursor, source: Work['sources'][number]) => void): void {
    const cursor = this.#walker
    this.#filter.setTopic(work.part.topic)
    this.#current = undefined
    for (const source of work.sources) {
      cursor.reset(source.bytes, source.at)
      while (cursor.next()) {
        if (cursor.offset < work.firstOffset || cursor.offset > work.lastOffset) continue
        if (!this.#filter.isEmpty && !this.#filter.matches(cursor)) continue
        if (this.#laneKey(cursor) === work.lane.key) visit(cursor, source)
      }
    }
  }
}

function bytesOf(event: PartEvent): number {
  return event.kind === 'records' ? event.bytes.length : 0
}

function nameOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}
