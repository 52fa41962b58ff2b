/**
 * Reading as a member of a group (`consume -g`, commands.md, sections 5 and 6): which partitions, from where, and what is
 * committed when.
 *
 * Invariants:
 * - A position is committed only after what lies before it was wholly written (with `ack`: acknowledged), and only of
 *   partitions that this member owns, and of the topic that it was read from.
 * - Before partitions go to another member, what was printed of them is written and, where the mode allows, committed.
 * - The ends of a bounded run are asked once, of all partitions, before the first is read.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { GroupEvent } from '../src/client/group-member.ts'
import type { GroupOffset, GroupPartition } from '../src/client/group-offsets.ts'
import { sleep, type Timer } from '../src/ports/time.ts'
import { KafkaError } from '../src/protocol/errors.ts'
import type { PartitionPosition, Positions } from '../src/text/position.ts'
import { Acknowledgements } from './acknowledgements.ts'
import type { Broker } from './broker.ts'
import type { ClusterClient, ConsumerClient, GroupMemberClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { openMembership } from './group-membership.ts'
import type { GroupPlan, ReadPlan } from './read-options.ts'
import {
  type AskOffsets,
  type PartitionName,
  type PartitionRange,
  resolveRanges,
  seekHint,
} from './read-range.ts'

/** A rebalance in the way of the last commit is waited for so long. */
const LAST_COMMIT_MS = 10_000
const LAST_COMMIT_PAUSE_MS = 100
const RETRY_PAUSE_MS = 500
const NONE_STORED = -1

/** What the reading loop lends to a change of partitions. */
export interface GroupTools {
  readonly consumer: Pick<ConsumerClient, 'assign' | 'unassign' | 'epochBefore' | 'isTopicLost'>
  /** Before partitions go: writes what was taken, or ends what is being done with it. */
  readonly write: (event: RevokedEvent) => void | Promise<void>
  readonly onGap: (range: PartitionRange) => void
  readonly isStopped: () => boolean
}

export type RevokedEvent = Extract<GroupEvent, { kind: 'revoked' }>

export interface Taken extends GroupPartition {
  readonly offset: number
}

/** What decides about commits where having been written is not enough: acknowledgements, children. */
export interface DoneSource {
  /** All before these offsets is done with. */
  positions(): Iterable<Taken>
  readonly openCount: number
  readonly hasEnded: boolean
  readonly error: StreamError | undefined
  close(): void
}

export interface GroupReadHooks {
  /** Of a topic as it was found first: another one of its name is not read in its place. */
  readonly topicId: (topic: string) => string
  /** Called when committing fails for good, or an acknowledgement is none, while the run goes on. */
  readonly onFailure: (error: unknown) => void
  /** In place of acknowledgements on a descriptor. */
  readonly done?: DoneSource
  /** In place of a plain commit by the member. */
  readonly commit?: (offsets: readonly GroupOffset[], member: GroupMemberClient) => Promise<void>
}

export class GroupRead {
  readonly acknowledgements: Acknowledgements | undefined
  readonly #deps: CommandDeps
  readonly #plan: GroupPlan
  readonly #read: ReadPlan
  readonly #ask: AskOffsets
  readonly #hooks: GroupReadHooks
  readonly #done: DoneSource | undefined
  readonly #member: GroupMemberClient
  /** Connections of the membership alone; undefined: it shares those of the records. */
  readonly #ownCluster: ClusterClient | undefined
  readonly #taken = new Map<string, Taken>()
  readonly #written = new Map<string, Taken>()
  /** Where partitions were begun that the group had no position of: whoever comes next must not begin later. */
  readonly #starts = new Map<string, Taken>()
  /** With `eof`: how far partitions that went were written, and what the group had of them. */
  readonly #left = new Map<string, { readonly offset: number; readonly stored: number }>()
  readonly #committed = new Map<string, number>()
  readonly #lostTopics = new Set<string>()
  /** Partitions that were there at the start. */
  readonly #initial = new Set<string>()
  /** Knows in which leader epochs records were read. */
  #consumer: GroupTools['consumer'] | undefined
  #ends: readonly PartitionPosition[] | undefined
  #timer: Timer | undefined
  #committing: Promise<void> = Promise.resolve()
  #wake: () => void = () => undefined

  private constructor(
    deps: CommandDeps,
    read: ReadPlan,
    plan: GroupPlan,
    ask: AskOffsets,
    member: GroupMemberClient,
    ownCluster: ClusterClient | undefined,
    hooks: GroupReadHooks,
  ) {
    this.#deps = deps
    this.#read = read
    this.#plan = plan
    this.#ask = ask
    this.#member = member
    this.#ownCluster = ownCluster
    this.#hooks = hooks
    this.#done = hooks.done
    if (plan.ackDescriptor === undefined) return
    const path = plan.ackDescriptor === 0 ? '-' : `/dev/fd/${plan.ackDescriptor}`
    this.acknowledgements = new Acknowledgements(deps.stdio.openInput(path), () =>
      this.#onAcknowledged(),
    )
    this.#done = this.acknowledgements
  }

  /** @throws StreamError as first contact */
  static async open(
    deps: CommandDeps,
    broker: Broker,
    read: ReadPlan,
    plan: GroupPlan,
    ask: AskOffsets,
    hooks: GroupReadHooks,
  ): Promise<GroupRead> {
    const { group: groupId, instanceId } = plan
    const { member, ownCluster } = await openMembership(deps, broker, { groupId, instanceId })
    return new GroupRead(deps, read, plan, ask, member, ownCluster, hooks)
  }

  /**
   * Takes the snapshot of a bounded run, and joins.
   * @param whole  read from their start, whatever the flags say of the others
   * @throws StreamError as the questions
   */
  async start(
    partitions: readonly PartitionName[],
    whole: readonly PartitionName[] = [],
  ): Promise<void> {
    for (const each of partitions) this.#initial.add(nameOf(each))
    const { from, until } = this.#read
    if (until !== undefined) {
      const end = { all: { kind: 'end' }, places: [] } as const
      const ranges = [
        ...(await resolveRanges(partitions, from, until, this.#ask)),
        ...(await resolveRanges(whole, end, end, this.#ask)),
      ]
      this.#ends = ranges.map(({ topic, partition, endOffset }) => ({
        topic,
        partition,
        position: { kind: 'offset', offset: endOffset ?? 0 },
      }))
    }
    this.setTopics([...partitions, ...whole])
    this.#member.start()
  }

  setTopics(partitions: readonly PartitionName[]): void {
    this.#member.setTopics([...new Set(partitions.map(({ topic }) => topic))])
  }

  get hasEvents(): boolean {
    return this.#member.hasEvents
  }

  /** It has its share, and no rebalance is known of. */
  get isSettled(): boolean {
    return this.#member.isSettled
  }

  /** Resolves when there is an event. */
  changed(): Promise<void> {
    return this.#member.changed()
  }

  /** Follows the changes of the group. @throws StreamError when the membership is over, and as the questions */
  async follow(tools: GroupTools): Promise<void> {
    this.#consumer = tools.consumer
    for (let event = this.#member.poll(); event !== undefined; event = this.#member.poll()) {
      if (event.kind === 'failed') throw this.#explain(event.error)
      if (event.kind === 'revoked') await this.#giveBack(event, tools)
      else await this.#take(event.partitions, tools)
    }
  }

  async #giveBack(event: RevokedEvent, { consumer, write }: GroupTools): Promise<void> {
    await write(event)
    if (!event.isLost && this.#plan.commit !== 'eof') await this.#commitQuietly()
    for (const each of event.partitions) {
      this.#tellLost(each, consumer)
      this.#remember(each, consumer)
      consumer.unassign(each.topic, each.partition)
      const name = nameOf(each)
      this.#taken.delete(name)
      this.#written.delete(name)
      this.#starts.delete(name)
      this.#committed.delete(name)
    }
    this.#member.released()
  }

  /** It may come back as it went: what is printed is not to be printed again. */
  #remember(each: GroupPartition, consumer: GroupTools['consumer']): void {
    const name = nameOf(each)
    const offset = this.#written.get(name)?.offset
    const isWanted = this.#plan.commit === 'eof' && this.#done === undefined
    if (!isWanted || offset === undefined) return
    if (consumer.isTopicLost(each.topic, each.partition)) return
    this.#left.set(name, { offset, stored: this.#committed.get(name) ?? NONE_STORED })
  }

  /** How far this run has printed a partition that comes back, where nobody has committed anything of it meanwhile. */
  #leftAt(name: string, stored: number | undefined): number | undefined {
    const left = this.#left.get(name)
    return left?.stored === (stored ?? NONE_STORED) ? left.offset : undefined
  }

  /** Once for each topic: the run goes on without it, and would else look as if nothing were written. */
  #tellLost({ topic, partition }: GroupPartition, consumer: GroupTools['consumer']): void {
    const isLost = consumer.isTopicLost(topic, partition)
    if (!isLost || this.#lostTopics.has(topic)) return
    this.#lostTopics.add(topic)
    this.#deps.console.warn(`${topic}: the topic is gone; nothing more is read of it`)
  }

  /** A broker that does not answer is waited for, as everywhere in a read. */
  async #take(partitions: readonly GroupPartition[], tools: GroupTools): Promise<void> {
    while (partitions.length > 0 && !tools.isStopped()) {
      try {
        await this.#begin(partitions, tools)
        return
      } catch (error) {
        const mayPass = isStreamError(error) && error.retriable && error.code !== 'TOPIC_UNKNOWN'
        if (!mayPass && !isStreamError(error, 'TIMED_OUT')) throw error
      }
      await sleep(this.#deps.time, RETRY_PAUSE_MS)
    }
  }

  async #begin(partitions: readonly GroupPartition[], tools: GroupTools): Promise<void> {
    const stored = await this.#member.fetchOffsets(partitions)
    const offsets = new Map(stored.map((each) => [nameOf(each), each.offset]))
    const epochs = new Map(stored.map((each) => [nameOf(each), each.leaderEpoch ?? -1]))
    const places: PartitionPosition[] = []
    for (const { topic, partition } of partitions) {
      const name = nameOf({ topic, partition })
      const offset = this.#leftAt(name, offsets.get(name)) ?? offsets.get(name)
      if (offset !== undefined) {
        places.push({ topic, partition, position: { kind: 'offset', offset } })
      } else if (!this.#initial.has(nameOf({ topic, partition }))) {
        // Added while reading: from its start.
        places.push({ topic, partition, position: { kind: 'start' } })
      }
    }
    const { from, until } = this.#read
    // The later place counts: what the group has stored wins over --from.
    const start: Positions = { all: from.all, places: [...from.places, ...places] }
    const end: Positions | undefined =
      until === undefined ? undefined : { all: { kind: 'start' }, places: this.#ends ?? [] }
    const ranges = await resolveRanges(partitions, start, end, this.#ask, {
      has: (each) => offsets.has(nameOf(each)),
      hint: seekHint(this.#plan.group),
    })
    for (const range of ranges) {
      tools.onGap(range)
      const name = nameOf(range)
      const stored = offsets.get(name)
      this.#committed.set(name, stored ?? NONE_STORED)
      const { topic, partition, startOffset } = range
      const place: Taken = { topic, partition, offset: startOffset }
      if (stored === undefined && this.#hooks.done === undefined) this.#starts.set(name, place)
      // Worth keeping too: nobody is to be told of the gap again, nor is what was printed left out of the commit.
      const isPrinted = this.#leftAt(name, stored) !== undefined
      if ((range.gap !== undefined || isPrinted) && this.#done === undefined) {
        this.#taken.set(name, place)
      }
    }
    tools.consumer.assign(
      ranges.map(({ topic, partition, startOffset, endOffset }) => {
        const name = nameOf({ topic, partition })
        const isStored = offsets.get(name) === startOffset
        return {
          topic,
          topicId: this.#hooks.topicId(topic),
          partition,
          startOffset,
          leaderEpoch: isStored ? (epochs.get(name) ?? -1) : -1,
          ...(endOffset === undefined ? {} : { endOffset }),
        }
      }),
    )
    // Before the first record is printed: a run that is killed then leaves no hole to the next one.
    if (this.#starts.size > 0 && this.#plan.commit !== 'eof') await this.#commitQuietly()
  }

  /** Everything of a partition below `offset` was read. */
  take(topic: string, partition: number, offset: number): void {
    this.#taken.set(nameOf({ topic, partition }), { topic, partition, offset })
  }

  /** All that was taken has been written. */
  onWritten(): void {
    if (this.#taken.size === 0) return
    for (const [name, each] of this.#taken) this.#written.set(name, each)
    this.#taken.clear()
    if (this.#plan.commit === 'written') this.#commitSoon()
  }

  /** The source of what is done has more. */
  onDone(): void {
    this.#commitSoon()
  }

  /** Waits for acknowledgements, where they are wanted, until all are there or none can come, or `stopped`. */
  async settle(stopped: Promise<void>, mayNotWait: () => boolean): Promise<void> {
    const acks = this.acknowledgements
    if (acks === undefined) return
    // The reader must see the end before it can acknowledge the last records.
    this.#deps.stdio.output.hangUp()
    while (acks.openCount > 0 && !acks.hasEnded && !mayNotWait()) {
      const acknowledged = new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      await Promise.race([acknowledged, stopped, this.#member.changed()])
      await this.#releaseAll()
    }
  }

  /** Nothing is read any more: what the others want they get, with what is acknowledged of it. */
  async #releaseAll(): Promise<void> {
    for (let event = this.#member.poll(); event !== undefined; event = this.#member.poll()) {
      if (event.kind === 'failed') throw this.#explain(event.error)
      if (event.kind !== 'revoked') continue
      if (!event.isLost) await this.#commitQuietly()
      this.#member.released()
    }
  }

  /**
   * The run is over; a second call does nothing. @param isProper  it came to its end, and no write met a hang-up
   * @throws StreamError of the last commit; RECORD_INVALID for acknowledgements that are none; NOT_DELIVERED for missing ones
   */
  async end(isProper: boolean): Promise<void> {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#timer?.cancel()
    this.#timer = undefined
    this.#done?.close()
    const { commit } = this.#plan
    if (commit === 'none' || (commit === 'eof' && !isProper)) return
    await this.#committing
    this.#isProperEnd = isProper
    await this.#commitAtLast()
    const failure = this.#done?.error
    if (failure !== undefined) throw failure
    const open = this.#done?.openCount ?? 0
    if (open > 0) throw new StreamError('NOT_DELIVERED', `${open} records were not acknowledged`)
  }

  /** After a failure, or a hang-up: what was written before it is still worth committing. @throws as end */
  cutShort(): Promise<void> {
    return this.end(false)
  }

  /** Leaves the group. */
  async close(): Promise<void> {
    this.#timer?.cancel()
    await this.#member.leave()
    this.#ownCluster?.close()
  }

  // --- commits

  #isProperEnd = false
  #hasEnded = false

  #onAcknowledged(): void {
    this.#commitSoon()
    const error = this.acknowledgements?.error
    if (error !== undefined) this.#hooks.onFailure(error)
    this.#wake()
  }

  #commitSoon(): void {
    this.#timer ??= this.#deps.time.setTimer(this.#plan.intervalMs, () => {
      this.#timer = undefined
      this.#committing = this.#commitQuietly()
    })
  }

  /** What may be committed now and is not. */
  #due(): readonly GroupOffset[] {
    const acks = this.#done
    const owned = new Set(this.#member.owned.map(nameOf))
    const rows: Taken[] = [...this.#starts.values(), ...(acks?.positions() ?? [])]
    // With everything acknowledged, filtered records behind the last one are done too.
    const isAllDone = acks === undefined || (this.#isProperEnd && acks.openCount === 0)
    if (isAllDone) rows.push(...this.#written.values())
    const due = new Map<string, Taken>()
    for (const row of rows) {
      const name = nameOf(row)
      const known = Math.max(
        this.#committed.get(name) ?? NONE_STORED,
        due.get(name)?.offset ?? NONE_STORED,
      )
      // Another topic that has come to the name shall not be begun where this one was left.
      if (this.#consumer?.isTopicLost(row.topic, row.partition) === true) continue
      // A committed position never goes back.
      if (owned.has(name) && row.offset > known) due.set(name, row)
    }
    return [...due.values()]
  }

  async #commit(): Promise<void> {
    const offsets = this.#due().map((row) => {
      const { topic, partition, offset } = row
      const leaderEpoch = this.#consumer?.epochBefore(topic, partition, offset) ?? -1
      return { ...row, topicId: this.#hooks.topicId(topic), leaderEpoch }
    })
    if (offsets.length === 0) return
    this.#deps.stdio.output.sync()
    if (this.#hooks.commit === undefined) await this.#member.commit(offsets)
    else await this.#hooks.commit(offsets, this.#member)
    for (const each of offsets) this.#committed.set(nameOf(each), each.offset)
  }

  /** A commit in the way of a rebalance is made again later, or by whoever gets the partitions. */
  async #commitQuietly(): Promise<void> {
    if (this.#plan.commit === 'none') return
    try {
      await this.#commit()
    } catch (error) {
      if (isOfRebalance(error) || (isStreamError(error) && error.retriable)) {
        if (this.#plan.commit === 'written' || this.#done !== undefined) {
          this.#commitSoon()
        }
      } else this.#hooks.onFailure(error)
    }
  }

  async #commitAtLast(): Promise<void> {
    const { time } = this.#deps
    const deadlineMs = time.monotonicMs() + LAST_COMMIT_MS
    for (;;) {
      try {
        await this.#commit()
        return
      } catch (error) {
        const isInTheWay =
          isStreamError(error) && error.kafkaError === KafkaError.REBALANCE_IN_PROGRESS
        if (!isInTheWay || time.monotonicMs() >= deadlineMs) throw error
      }
      await sleep(time, LAST_COMMIT_PAUSE_MS)
    }
  }

  #explain(error: StreamError): StreamError {
    if (error.kafkaError !== KafkaError.FENCED_INSTANCE_ID) return error
    return new StreamError('FENCED', error.message, {
      cause: error,
      hint: `another process runs as --instance-id ${this.#plan.instanceId ?? ''}`,
      ...(error.kafkaError === undefined ? {} : { kafkaError: error.kafkaError }),
    })
  }
}

function isOfRebalance(error: unknown): boolean {
  if (!isStreamError(error)) return false
  return (
    error.kafkaError === KafkaError.REBALANCE_IN_PROGRESS ||
    error.kafkaError === KafkaError.ILLEGAL_GENERATION ||
    error.kafkaError === KafkaError.UNKNOWN_MEMBER_ID
  )
}

function nameOf({ topic, partition }: GroupPartition): string {
  return `${topic}/${partition}`
}
