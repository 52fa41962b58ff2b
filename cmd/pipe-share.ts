/**
 * Which partitions a run of `pipe` has, and from where: those that the group JOB gives it, or without a job all of them.
 *
 * Invariants:
 * - A partition is begun where the group has committed, once nothing is pending there; else where the plan says, and
 *   that place is committed before anything else, so that whoever comes next does not begin later.
 * - The ends of a bounded run are asked once, of all partitions, before the first is read.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { GroupOffset, GroupPartition } from '../src/client/group-offsets.ts'
import type { TransactionOffsets } from '../src/client/transactional-producer.ts'
import { sleep } from '../src/ports/time.ts'
import { KafkaError } from '../src/protocol/errors.ts'
import type { PartitionPosition, Positions } from '../src/text/position.ts'
import type { Broker } from './broker.ts'
import type { ClusterClient, GroupMemberClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { openMembership } from './group-membership.ts'
import type { PipeSlot } from './pipe-slot.ts'
import { askOffsets } from './read-open.ts'
import type { ReadPlan } from './read-options.ts'
import {
  type AskOffsets,
  type PartitionName,
  type PartitionRange,
  resolveRanges,
  seekHint,
} from './read-range.ts'

const RETRY_PAUSE_MS = 500

export type ShareEvent =
  | { readonly kind: 'taken'; readonly ranges: readonly PartitionRange[] }
  | {
      readonly kind: 'leaving'
      readonly partitions: readonly GroupPartition[]
      /** They may be another's already. */
      readonly isLost: boolean
    }

export class PipeShare {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #read: ReadPlan
  readonly #job: string | undefined
  readonly #slot: PipeSlot
  readonly #member: GroupMemberClient | undefined
  /** Connections of the membership alone; undefined: it shares those of the records. */
  readonly #ownCluster: ClusterClient | undefined
  /** Partitions that were there at the start. */
  readonly #initial = new Set<string>()
  /** As last asked for, by name. */
  readonly #stored = new Map<string, GroupOffset>()
  readonly #topics = new Set<string>()
  #ends: readonly PartitionPosition[] | undefined
  /** Without a job: what is still to be told. */
  #untold: readonly GroupPartition[] | undefined
  #isStopped = false

  private constructor(
    deps: CommandDeps,
    broker: Broker,
    read: ReadPlan,
    job: string | undefined,
    slot: PipeSlot,
    member: GroupMemberClient | undefined,
    ownCluster: ClusterClient | undefined,
  ) {
    this.#deps = deps
    this.#broker = broker
    this.#read = read
    this.#job = job
    this.#slot = slot
    this.#member = member
    this.#ownCluster = ownCluster
  }

  /** @param startsAnew  what an earlier run of this slot still has is taken from it, and the generation rises */
  static async open(
    deps: CommandDeps,
    broker: Broker,
    read: ReadPlan,
    options: {
      readonly job: string | undefined
      readonly slot: PipeSlot
      readonly startsAnew: boolean
    },
  ): Promise<PipeShare> {
    const { job, slot } = options
    if (job === undefined) {
      return new PipeShare(deps, broker, read, job, slot, undefined, undefined)
    }
    const { member, ownCluster } = await openMembership(deps, broker, {
      groupId: job,
      instanceId: slot.instanceId,
      leavesForGood: true,
      startsAnew: options.startsAnew,
    })
    return new PipeShare(deps, broker, read, job, slot, member, ownCluster)
  }

  /**
   * Takes the snapshot of a bounded run, and joins.
   * @param fromStart  partitions that are read from their start, whatever the plan says
   * @throws StreamError as the questions
   */
  async start(
    partitions: readonly PartitionName[],
    fromStart: readonly PartitionName[] = [],
  ): Promise<void> {
    for (const each of partitions) this.#initial.add(nameOf(each))
    const all = [...partitions, ...fromStart]
    const { from, until } = this.#read
    if (until !== undefined) {
      const ranges = await resolveRanges(all, from, until, (questions) =>
        askOffsets(this.#deps, this.#broker, this.#read, questions),
      )
      this.#ends = ranges.map(({ topic, partition, endOffset }) => ({
        topic,
        partition,
        position: { kind: 'offset', offset: endOffset ?? 0 },
      }))
    }
    this.addPartitions(all)
    this.#member?.start()
  }

  /** More that the job reads. */
  addPartitions(partitions: readonly PartitionName[]): void {
    if (this.#member === undefined) {
      this.#untold = [...(this.#untold ?? []), ...partitions]
      return
    }
    for (const { topic } of partitions) this.#topics.add(topic)
    this.#member.setTopics([...this.#topics])
  }

  /** All that it will get, it has: no change is known of. */
  get isSettled(): boolean {
    return this.#member?.isSettled ?? this.#untold === undefined
  }

  get hasEvents(): boolean {
    return this.#member?.hasEvents ?? this.#untold !== undefined
  }

  /** Resolves when there is an event. */
  changed(): Promise<void> {
    if (this.#member !== undefined) return this.#member.changed()
    return this.#untold === undefined ? new Promise(() => undefined) : Promise.resolve()
  }

  /** The group's generation; 0 without a job. */
  get fence(): number {
    return Math.max(0, this.#member?.generation ?? 0)
  }

  /** The next change. @throws StreamError when the membership is over, and as the questions */
  async next(): Promise<ShareEvent | undefined> {
    const untold = this.#untold
    if (untold !== undefined) {
      this.#untold = undefined
      return { kind: 'taken', ranges: await this.#rangesOf(untold) }
    }
    const event = this.#member?.poll()
    if (event === undefined) return undefined
    if (event.kind === 'failed') throw explain(event.error)
    if (event.kind === 'revoked') {
      return { kind: 'leaving', partitions: event.partitions, isLost: event.isLost }
    }
    return { kind: 'taken', ranges: await this.#rangesOf(event.partitions) }
  }

  /** What was told to be leaving is let go. */
  released(): void {
    this.#member?.released()
  }

  /** Positions are kept. */
  get hasGroup(): boolean {
    return this.#member !== undefined
  }

  /** In whose name a transaction commits positions; undefined: at present it cannot, or there is no job. */
  offsetsOf(offsets: readonly GroupOffset[]): TransactionOffsets | undefined {
    const member = this.#member
    if (member === undefined || this.#job === undefined || member.generation < 0) return undefined
    return {
      groupId: this.#job,
      generationId: member.generation,
      memberId: member.memberId,
      groupInstanceId: this.#slot.instanceId ?? null,
      offsets,
    }
  }

  /** Without a transaction. @throws StreamError as commitGroupOffsets */
  async commit(offsets: readonly GroupOffset[]): Promise<void> {
    await this.#member?.commit(offsets)
  }

  /** What is committed, once nothing is pending there. @throws StreamError as fetchGroupOffsets */
  async committed(partitions: readonly GroupPartition[]): Promise<ReadonlyMap<string, number>> {
    const member = this.#member
    const found = new Map<string, number>()
    while (member !== undefined && !this.#isStopped) {
      try {
        const offsets = await member.fetchOffsets(partitions)
        for (const each of offsets) {
          found.set(nameOf(each), each.offset)
          this.#stored.set(nameOf(each), each)
        }
        return found
      } catch (error) {
        if (!mayPass(error)) throw error
      }
      await sleep(this.#deps.time, RETRY_PAUSE_MS)
    }
    return found
  }

  /** Leader epoch of the record before a position that is committed; −1: not known. */
  epochBefore(topic: string, partition: number, offset: number): number {
    const stored = this.#stored.get(nameOf({ topic, partition }))
    return stored?.offset === offset ? (stored.leaderEpoch ?? -1) : -1
  }

  /** Nothing is waited for any more. */
  stop(): void {
    this.#isStopped = true
  }

  async close(): Promise<void> {
    this.stop()
    await this.#member?.leave()
    this.#ownCluster?.close()
  }

  async #rangesOf(partitions: readonly GroupPartition[]): Promise<readonly PartitionRange[]> {
    while (partitions.length > 0 && !this.#isStopped) {
      try {
        return await this.#findRanges(partitions)
      } catch (error) {
        if (!mayPass(error)) throw error
      }
      await sleep(this.#deps.time, RETRY_PAUSE_MS)
    }
    return []
  }

  async #findRanges(partitions: readonly GroupPartition[]): Promise<readonly PartitionRange[]> {
    const offsets = await this.committed(partitions)
    const places: PartitionPosition[] = []
    for (const { topic, partition } of partitions) {
      const offset = offsets.get(nameOf({ topic, partition }))
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
    const ask: AskOffsets = (...asked) => askOffsets(this.#deps, this.#broker, this.#read, ...asked)
    const ranges = await resolveRanges(partitions, start, end, ask, {
      has: (each) => offsets.has(nameOf(each)),
      hint: seekHint(this.#job ?? ''),
    })
    const fresh = ranges.filter((range) => !offsets.has(nameOf(range)))
    await this.#commitStart(fresh)
    return ranges
  }

  /** In the way of a rebalance it is left to whoever gets the partitions. */
  async #commitStart(ranges: readonly PartitionRange[]): Promise<void> {
    if (ranges.length === 0 || this.#member === undefined) return
    try {
      await this.#member.commit(
        ranges.map(({ topic, partition, startOffset: offset }) => ({ topic, partition, offset })),
      )
    } catch (error) {
      if (!isOfMembership(error)) throw error
    }
  }
}

/** Refused because the member is not, or no longer, of the generation: the group says by itself what follows. */
export function isOfMembership(error: unknown): boolean {
  if (!isStreamError(error)) return false
  return (
    error.kafkaError === KafkaError.REBALANCE_IN_PROGRESS ||
    error.kafkaError === KafkaError.ILLEGAL_GENERATION ||
    error.kafkaError === KafkaError.UNKNOWN_MEMBER_ID
  )
}

/** @param error  of the broker */
export function mayPass(error: unknown): boolean {
  if (isStreamError(error, 'TIMED_OUT')) return true
  return isStreamError(error) && error.retriable && error.code !== 'TOPIC_UNKNOWN'
}

function explain(error: StreamError): StreamError {
  if (error.kafkaError !== KafkaError.FENCED_INSTANCE_ID) return error
  return new StreamError('FENCED', error.message, {
    cause: error,
    kafkaError: error.kafkaError,
    hint: 'another process has taken the place of this one',
  })
}

function nameOf({ topic, partition }: GroupPartition): string {
  return `${topic}/${partition}`
}
