/**
 * The facts of one group of the consumer protocol: what its records say, and what follows from them. It changes only by
 * `apply`, be it from the log or by the machine (consumer-group.ts), so that what is read again is what was.
 *
 * Invariants:
 * - A partition has at most one owner: the member that it is assigned to, or that has not yet given it back.
 * - An instance id stands for one member id.
 */

import { assert } from '../../src/base/assert.ts'
import {
  type ConsumerChange,
  type MemberMetadata,
  type MemberProgress,
  NO_HASH,
} from './consumer-group-records.ts'
import { has, NO_PARTITIONS, type Partitions } from './partition-sets.ts'

export interface ConsumerMember {
  readonly memberId: string
  readonly metadata: MemberMetadata
  readonly progress: MemberProgress
}

export type ConsumerGroupStateName = 'Empty' | 'Assigning' | 'Reconciling' | 'Stable'

const NEW_PROGRESS: MemberProgress = {
  epoch: 0,
  previousEpoch: 0,
  state: 'stable',
  assigned: NO_PARTITIONS,
  pendingRevocation: NO_PARTITIONS,
}

export class ConsumerGroupState {
  #epoch = 0
  #metadataHash = NO_HASH
  #targetEpoch = 0
  readonly #metadata = new Map<string, MemberMetadata>()
  /** How many of them speak the classic protocol. */
  #classicSize = 0
  readonly #progress = new Map<string, MemberProgress>()
  readonly #targets = new Map<string, Partitions>()
  readonly #instances = new Map<string, string>()
  readonly #owners = new Map<string, Map<number, string>>()

  get epoch(): number {
    return this.#epoch
  }

  /** Of the topics that the epoch was made for. */
  get metadataHash(): string {
    return this.#metadataHash
  }

  get targetEpoch(): number {
    return this.#targetEpoch
  }

  get size(): number {
    return this.#metadata.size
  }

  /** It has members, and none that speaks the consumer protocol. */
  get isAllClassic(): boolean {
    return this.size > 0 && this.#classicSize === this.size
  }

  get name(): ConsumerGroupStateName {
    if (this.#metadata.size === 0) return 'Empty'
    if (this.#epoch > this.#targetEpoch) return 'Assigning'
    for (const memberId of this.#metadata.keys()) {
      const { epoch, state } = this.progressOf(memberId)
      if (state !== 'stable' || epoch !== this.#targetEpoch) return 'Reconciling'
    }
    return 'Stable'
  }

  has(memberId: string): boolean {
    return this.#metadata.has(memberId)
  }

  get(memberId: string): ConsumerMember | undefined {
    const metadata = this.#metadata.get(memberId)
    if (metadata === undefined) return undefined
    return { memberId, metadata, progress: this.progressOf(memberId) }
  }

  /** In the order of their joining. */
  *members(): Iterable<ConsumerMember> {
    for (const [memberId, metadata] of this.#metadata) {
      yield { memberId, metadata, progress: this.progressOf(memberId) }
    }
  }

  memberIds(): string[] {
    return [...this.#metadata.keys()]
  }

  idOfInstance(instanceId: string): string | undefined {
    return this.#instances.get(instanceId)
  }

  progressOf(memberId: string): MemberProgress {
    return this.#progress.get(memberId) ?? NEW_PROGRESS
  }

  /** What a member is to have in the end. */
  targetOf(memberId: string): Partitions {
    return this.#targets.get(memberId) ?? NO_PARTITIONS
  }

  targets(): ReadonlyMap<string, Partitions> {
    return this.#targets
  }

  /** undefined: nobody has it. */
  ownerOf(topicId: string, partition: number): string | undefined {
    return this.#owners.get(topicId)?.get(partition)
  }

  apply(change: ConsumerChange): void {
    switch (change.kind) {
      case 'epoch':
        this.#epoch = change.value?.epoch ?? 0
        this.#metadataHash = change.value?.metadataHash ?? NO_HASH
        return
      case 'targetEpoch':
        this.#targetEpoch = change.value ?? 0
        return
      case 'target':
        if (change.value === undefined) this.#targets.delete(change.memberId)
        else this.#targets.set(change.memberId, change.value)
        return
      case 'member':
        this.#applyMember(change.memberId, change.value)
        return
      case 'progress':
        this.#applyProgress(change.memberId, change.value)
    }
  }

  #applyMember(memberId: string, metadata: MemberMetadata | undefined): void {
    const known = this.#metadata.get(memberId)
    const before = known?.instanceId ?? null
    if (before !== null && this.#instances.get(before) === memberId) this.#instances.delete(before)
    this.#classicSize += countClassic(metadata) - countClassic(known)
    if (metadata === undefined) {
      this.#metadata.delete(memberId)
      return
    }
    this.#metadata.set(memberId, metadata)
    if (metadata.instanceId !== null) this.#instances.set(metadata.instanceId, memberId)
  }

  #applyProgress(memberId: string, progress: MemberProgress | undefined): void {
    const before = this.#progress.get(memberId)
    if (before !== undefined) {
      this.#release(memberId, before.assigned)
      this.#release(memberId, before.pendingRevocation)
    }
    if (progress === undefined) {
      this.#progress.delete(memberId)
      return
    }
    this.#progress.set(memberId, progress)
    this.#own(memberId, progress.assigned)
    this.#own(memberId, progress.pendingRevocation)
  }

  #own(memberId: string, partitions: Partitions): void {
    for (const [topicId, set] of partitions) {
      const owners = this.#owners.get(topicId) ?? new Map<number, string>()
      this.#owners.set(topicId, owners)
      for (const partition of set) owners.set(partition, memberId)
    }
  }

  #release(memberId: string, partitions: Partitions): void {
    for (const [topicId, set] of partitions) {
      const owners = this.#owners.get(topicId)
      if (owners === undefined) continue
      for (const partition of set) {
        if (owners.get(partition) === memberId) owners.delete(partition)
      }
      if (owners.size === 0) this.#owners.delete(topicId)
    }
  }

  /** For tests: what must hold between two inputs. */
  verify(): void {
    const seen = new Set<string>()
    for (const [memberId, { assigned, pendingRevocation }] of this.#progress) {
      assert(this.#metadata.has(memberId), 'only members have partitions')
      for (const partitions of [assigned, pendingRevocation]) {
        for (const [topicId, set] of partitions) {
          for (const partition of set) {
            const place = `${topicId}/${partition}`
            assert(!seen.has(place), 'a partition has one owner')
            seen.add(place)
            assert(this.ownerOf(topicId, partition) === memberId, 'owners are known')
          }
        }
      }
    }
    const targeted = new Set<string>()
    for (const [memberId, target] of this.#targets) {
      assert(this.#metadata.has(memberId), 'only members have targets')
      for (const [topicId, set] of target) {
        for (const partition of set) {
          const place = `${topicId}/${partition}`
          assert(!targeted.has(place), 'a partition is meant for one member')
          targeted.add(place)
        }
      }
    }
    for (const [topicId, owners] of this.#owners) {
      for (const [partition, memberId] of owners) {
        const { assigned, pendingRevocation } = this.progressOf(memberId)
        assert(
          has(assigned, topicId, partition) || has(pendingRevocation, topicId, partition),
          'whoever owns a partition knows of it',
        )
      }
    }
    for (const [instanceId, memberId] of this.#instances) {
      assert(
        this.#metadata.get(memberId)?.instanceId === instanceId,
        'an instance id has its member',
      )
    }
  }
}

function countClassic(metadata: MemberMetadata | undefined): number {
  return metadata !== undefined && metadata.classic !== null ? 1 : 0
}
