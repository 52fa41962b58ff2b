/**
 * What a coordinator's assignors are given and give (KIP-848). They are deterministic: the same input, the same answer,
 * in whatever order its members stand.
 */

import type { Partitions } from './partition-sets.ts'

export interface AssignedMember {
  readonly memberId: string
  readonly instanceId: string | null
  /** Topics that there are. */
  readonly topicIds: ReadonlySet<string>
  /** The target before. */
  readonly previous: Partitions
}

export interface AssignorInput {
  readonly members: readonly AssignedMember[]
  /** Partition counts of all topics that some member reads. */
  readonly topics: ReadonlyMap<string, number>
}

/** By member id; every member is in it. */
export type Assignments = ReadonlyMap<string, Partitions>

export type Assignor = (input: AssignorInput) => Assignments
