/**
 * The loop of `consume --exec`: (1) follow the changes of the group; (2) take what has been fetched; (3) start children where
 * there is a place; (4) wait for the next of: an event, a change of the group, the end of a child, a timer, a stop.
 */

import type { ConsumerEvent } from '../src/client/consumer-events.ts'
import type { Time } from '../src/ports/time.ts'
import type { ConsumerClient } from './clients.ts'
import type { ExecQueue } from './exec-queue.ts'
import type { ExecRunner } from './exec-run.ts'
import type { ExecStop } from './exec-stop.ts'
import type { Part } from './exec-work.ts'
import type { GroupRead, GroupTools, RevokedEvent } from './group-read.ts'
import type { Pacer } from './pacer.ts'
import type { ReadPlan } from './read-options.ts'
import { type AskOffsets, type PartitionRange, resolveRanges } from './read-range.ts'
import type { WakeUp } from './wake-up.ts'

/** How often a following run looks for new topics and partitions, and for records to be done again. */
const LOOK_AGAIN_MS = 5000

export interface LoopParts {
  readonly time: Time
  readonly plan: ReadPlan
  readonly queue: ExecQueue
  readonly runner: ExecRunner
  readonly group: GroupRead
  readonly consumer: ConsumerClient
  readonly stop: ExecStop
  readonly wake: WakeUp
  readonly ask: AskOffsets
  readonly pacer: Pacer | undefined
  /** Tells the group of what has been added. */
  readonly lookForMore: () => Promise<void>
  readonly onEnd: (topic: string, partition: number, offset: number) => void
  readonly onGap: (
    gap: Pick<PartitionRange, 'topic' | 'partition'> & {
      readonly from: number
      readonly to: number
    },
  ) => void
  /** A partition cannot be read. @throws where the run is over by that */
  readonly onFailed: (event: Extract<ConsumerEvent, { kind: 'failed' }>) => void
  /** How many partitions there are. */
  readonly partitionCount: () => number
}

export class ExecLoop {
  readonly #parts: LoopParts
  readonly #tools: GroupTools
  #lastRecordMs: number
  /** The group has told once what is its own, if anything: until then the run is not idle. */
  #hasShare = false
  #lookedMs: number
  #hasPassedFuture = false
  #passedPartitions = 0
  #hasTold = false

  constructor(parts: LoopParts) {
    this.#parts = parts
    const { time, queue, consumer, stop } = parts
    this.#lastRecordMs = time.monotonicMs()
    this.#lookedMs = this.#lastRecordMs
    this.#tools = {
      consumer: {
        assign: (assignments) => {
          for (const { topic, partition, startOffset } of assignments) {
            queue.add(topic, partition, startOffset)
          }
          consumer.assign(assignments)
        },
        unassign: (topic, partition) => {
          queue.remove(topic, partition)
          consumer.unassign(topic, partition)
        },
        epochBefore: (topic, partition, offset) => consumer.epochBefore(topic, partition, offset),
        isTopicLost: (topic, partition) => consumer.isTopicLost(topic, partition),
      },
      write: (event) => this.#release(event),
      isStopped: () => stop.reason !== undefined,
      onGap: ({ topic, partition, gap }) => {
        if (gap !== undefined) parts.onGap({ topic, partition, ...gap })
      },
    }
  }

  /** A record was taken or done: the run is not idle. */
  touch(): void {
    this.#lastRecordMs = this.#parts.time.monotonicMs()
  }

  /** Of a partition whose end in time has come. */
  passed(part: Part): void {
    this.#parts.consumer.unassign(part.topic, part.partition)
    this.#passedPartitions += 1
  }

  /** Until all is done, or it was stopped and no child runs. @throws StreamError of the group and of reading */
  async run(): Promise<void> {
    const { group, queue, runner, wake } = this.#parts
    for (;;) {
      if (group.hasEvents) await group.follow(this.#tools)
      this.#obeyStop()
      this.#takeEvents()
      queue.fill(() => this.#mayTake())
      this.#resume()
      runner.pump()
      if (queue.isDone) this.#parts.stop.stop('done')
      if (await this.#isOver()) return
      this.#arm()
      await wake.wait(this.#waitMs())
    }
  }

  #obeyStop(): void {
    const { stop, queue, runner } = this.#parts
    if (stop.reason === undefined || this.#hasTold) return
    queue.stopTaking()
    // A failure comes later, perhaps: the children are told then.
    if (stop.isProper) return
    this.#hasTold = true
    runner.stop()
  }

  #takeEvents(): void {
    const { consumer, queue } = this.#parts
    while (queue.wantsEvents) {
      const event = consumer.poll()
      if (event === undefined) return
      this.#onEvent(event)
    }
  }

  #onEvent(event: ConsumerEvent): void {
    const { queue, consumer, onGap, onFailed } = this.#parts
    const { topic, partition } = event
    const part = queue.part(topic, partition)
    if (event.kind === 'failed') onFailed(event)
    if (event.kind === 'gap') onGap(event)
    if (event.kind === 'end') {
      this.#passedPartitions += 1
      this.#parts.onEnd(topic, partition, event.offset)
    }
    if (event.kind === 'failed' || part === undefined) return
    if (event.kind === 'records') this.touch()
    queue.push(part, event)
    if (queue.hasRoomForEvents(part) || part.isPaused) return
    part.isPaused = true
    consumer.pause(topic, partition)
  }

  #resume(): void {
    const { queue, consumer } = this.#parts
    for (const part of queue.parts.values()) {
      if (!part.isPaused || !queue.hasRoomForEvents(part)) continue
      part.isPaused = false
      consumer.resume(part.topic, part.partition)
    }
  }

  #mayTake(): boolean {
    return this.#parts.pacer === undefined || this.#parts.pacer.waitMs === 0
  }

  async #release({ partitions, isLost }: RevokedEvent): Promise<void> {
    const { queue, runner } = this.#parts
    const parts = partitions.flatMap(({ topic, partition }) => queue.part(topic, partition) ?? [])
    await runner.release(parts, isLost)
  }

  async #isOver(): Promise<boolean> {
    const { stop, runner, queue, consumer, group, plan, time } = this.#parts
    if (!runner.isIdle) return false
    if (!stop.isProper) return true
    if (!queue.isIdle) return false
    if (stop.reason !== undefined) return true
    const { idleMs, untilFutureMs } = plan
    const follows = !plan.isBounded && !this.#hasPassedFuture
    if (consumer.isDone && group.isSettled && (!follows || this.#isAllPassed())) return true
    if (group.isSettled) this.#hasShare = true
    if (idleMs !== undefined && (consumer.isOutOfTouch || !this.#hasShare)) this.touch()
    const idleForMs = time.monotonicMs() - this.#lastRecordMs
    if (idleMs !== undefined && idleForMs >= idleMs) {
      stop.stop('idle')
      return true
    }
    if (untilFutureMs !== undefined && !this.#hasPassedFuture && time.wallMs() >= untilFutureMs) {
      await this.#boundAtNow()
    }
    return false
  }

  /** With a future end: every partition has shown a record stamped so late. */
  #isAllPassed(): boolean {
    const { plan, partitionCount } = this.#parts
    return plan.untilFutureMs !== undefined && this.#passedPartitions >= partitionCount()
  }

  /** The moment of --until has come: what is there now is read, and no more. */
  async #boundAtNow(): Promise<void> {
    const { queue, consumer, ask } = this.#parts
    this.#hasPassedFuture = true
    const parts = [...queue.parts.values()].filter(({ hasEnded }) => !hasEnded)
    const end = { all: { kind: 'end' }, places: [] } as const
    const ranges = await resolveRanges(parts, end, end, ask)
    for (const { topic, partition, endOffset } of ranges) {
      const startOffset = consumer.position(topic, partition)
      if (startOffset === undefined || endOffset === undefined) continue
      consumer.assign([
        { topic, partition, startOffset, endOffset: Math.max(startOffset, endOffset) },
      ])
      if (queue.part(topic, partition)?.isPaused === true) consumer.pause(topic, partition)
    }
  }

  #arm(): void {
    const { consumer, group, queue, stop, wake } = this.#parts
    wake.arm('group', () => group.changed())
    if (stop.reason !== undefined || !queue.wantsEvents || consumer.isDone) return
    wake.arm('consumer', () => consumer.wait())
  }

  #waitMs(): number {
    const { plan, stop, pacer, time, wake, lookForMore } = this.#parts
    let waitMs = Number.POSITIVE_INFINITY
    if (stop.reason !== undefined) return waitMs
    const nowMs = time.monotonicMs()
    const { idleMs, untilFutureMs, isBounded } = plan
    if (idleMs !== undefined) waitMs = Math.max(1, this.#lastRecordMs + idleMs - nowMs)
    if (untilFutureMs !== undefined && !this.#hasPassedFuture) {
      waitMs = Math.min(waitMs, Math.max(1, untilFutureMs - time.wallMs()))
    }
    const pauseMs = pacer?.waitMs ?? 0
    if (pauseMs > 0) waitMs = Math.min(waitMs, pauseMs)
    if (isBounded) return waitMs
    if (nowMs - this.#lookedMs >= LOOK_AGAIN_MS) {
      this.#lookedMs = nowMs
      wake.arm('topics', lookForMore)
    }
    return Math.min(waitMs, this.#lookedMs + LOOK_AGAIN_MS - nowMs)
  }
}
