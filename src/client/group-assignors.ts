/**
 * How the leader of a group shares partitions out: `range`, as all clients know it, and `cooperative-sticky`, which moves
 * no more than it must, in two steps (KIP-429): a partition that changes hands is first given back, and handed out in
 * the rebalance after.
 *
 * Both are pure functions, deterministic in their input.
 */
import type { TopicPartitions } from '../protocol/consumer-metadata.ts'

export interface AssignorMember {
  readonly memberId: string
  readonly groupInstanceId: string | null
  readonly topics: readonly string[]
  /** What it says it owns, in `generationId`. */
  readonly ownedPartitions: readonly TopicPartitions[]
  readonly generationId: number
}

/** By member id. */
export type Assignments = ReadonlyMap<string, readonly TopicPartitions[]>

/** @param partitionsOf  0: the topic does not exist */
export type Assignor = (
  members: readonly AssignorMember[],
  partitionsOf: (topic: string) => number,
) => Assignments

/** Per topic, consecutive partitions to the members in order: static ones first, by their instance ids. */
export const assignRange: Assignor = (members, partitionsOf) => {
  const assigned = new Map<string, TopicPartitions[]>(members.map((each) => [each.memberId, []]))
  for (const topic of topicsOf(members)) {
    const takers = members.filter((each) => each.topics.includes(topic)).sort(byRangeOrder)
    const count = partitionsOf(topic)
    let next = 0
    for (const [index, taker] of takers.entries()) {
      const share = Math.floor(count / takers.length) + (index < count % takers.length ? 1 : 0)
      if (share === 0) continue
      const partitions = Array.from({ length: share }, (_, step) => next + step)
      assigned.get(taker.memberId)?.push({ topic, partitions })
      next += share
    }
  }
  return assigned
}

/** Balanced within one partition wherever the subscriptions allow it; owners keep what balance lets them keep. */
export const assignCooperatively: Assignor = (members, partitionsOf) => {
  const owners = validOwners(members, partitionsOf)
  const plan = new StickyPlan(members)
  for (const topic of topicsOf(members)) {
    for (let partition = 0; partition < partitionsOf(topic); partition += 1) {
      const owner = owners.get(keyOf(topic, partition))
      if (owner === undefined) plan.wait(topic, partition)
      else plan.keep(owner, topic, partition)
    }
  }
  plan.handOut()
  plan.balance()
  return plan.assignments((memberId, topic, partition) => {
    const owner = owners.get(keyOf(topic, partition))
    // Its owner must give it back first.
    return owner === undefined || owner === memberId
  })
}

/**
 * Without what another member has not given back: in the rebalance in which a group turns eager its cooperative members
 * still have what they had.
 */
export function withoutHeld(
  assigned: Assignments,
  members: readonly AssignorMember[],
  partitionsOf: (topic: string) => number,
): { readonly assignments: Assignments; readonly isComplete: boolean } {
  const owners = validOwners(members, partitionsOf)
  let isComplete = true
  const assignments = new Map<string, readonly TopicPartitions[]>()
  for (const [memberId, rows] of assigned) {
    const isFree = (topic: string, partition: number): boolean => {
      const owner = owners.get(keyOf(topic, partition))
      const isMine = owner === undefined || owner === memberId
      isComplete &&= isMine
      return isMine
    }
    assignments.set(
      memberId,
      rows.map(({ topic, partitions }) => ({
        topic,
        partitions: partitions.filter((partition) => isFree(topic, partition)),
      })),
    )
  }
  return { assignments, isComplete }
}

interface Held {
  readonly topic: string
  readonly partition: number
}

class StickyPlan {
  readonly #members: readonly AssignorMember[]
  readonly #held: Map<string, Held[]>
  readonly #topics: Map<string, ReadonlySet<string>>
  #waiting: Held[] = []

  constructor(members: readonly AssignorMember[]) {
    this.#members = members.toSorted(byId)
    this.#held = new Map(members.map((each) => [each.memberId, []]))
    this.#topics = new Map(members.map((each) => [each.memberId, new Set(each.topics)]))
  }

  keep(memberId: string, topic: string, partition: number): void {
    this.#held.get(memberId)?.push({ topic, partition })
  }

  wait(topic: string, partition: number): void {
    this.#waiting.push({ topic, partition })
  }

  /** What nobody owns goes to who has least; the partitions with the fewest possible takers first. */
  handOut(): void {
    const takers = new Map<string, number>()
    for (const { topic } of this.#waiting) {
      if (!takers.has(topic)) takers.set(topic, this.#takersOf(topic).length)
    }
    const ordered = this.#waiting.toSorted(
      (a, b) => (takers.get(a.topic) ?? 0) - (takers.get(b.topic) ?? 0),
    )
    for (const held of ordered) this.#least(held.topic)?.push(held)
    this.#waiting = []
  }

  /** Moves single partitions from who has more to who has at least two fewer, until nobody has. */
  balance(): void {
    for (let moved = true; moved; ) {
      moved = false
      const byLoad = [...this.#held.values()].sort((a, b) => b.length - a.length)
      for (const from of byLoad) {
        if (this.#moveOne(from)) {
          moved = true
          break
        }
      }
    }
  }

  #moveOne(from: Held[]): boolean {
    for (let index = from.length - 1; index >= 0; index -= 1) {
      const held = from[index] as Held
      const to = this.#least(held.topic)
      if (to === undefined || to === from || to.length + 1 >= from.length) continue
      from.splice(index, 1)
      to.push(held)
      return true
    }
    return false
  }

  assignments(mayHave: (memberId: string, topic: string, partition: number) => boolean) {
    const assigned = new Map<string, readonly TopicPartitions[]>()
    for (const [memberId, held] of this.#held) {
      const topics = new Map<string, number[]>()
      for (const { topic, partition } of held) {
        if (!mayHave(memberId, topic, partition)) continue
        const partitions = topics.get(topic) ?? []
        topics.set(topic, partitions)
        partitions.push(partition)
      }
      assigned.set(
        memberId,
        [...topics].map(([topic, partitions]) => ({
          topic,
          partitions: partitions.sort((a, b) => a - b),
        })),
      )
    }
    return assigned
  }

  #takersOf(topic: string): readonly AssignorMember[] {
    return this.#members.filter((each) => this.#topics.get(each.memberId)?.has(topic) === true)
  }

  #least(topic: string): Held[] | undefined {
    let least: Held[] | undefined
    for (const { memberId } of this.#takersOf(topic)) {
      const held = this.#held.get(memberId)
      if (held !== undefined && (least === undefined || held.length < least.length)) least = held
    }
    return least
  }
}

/**
 * Who really owns each partition: of several claims the one of the youngest generation; where two members of one
 * generation claim the same, nobody. Claims on what is no longer subscribed to, or gone, do not count.
 */
function validOwners(
  members: readonly AssignorMember[],
  partitionsOf: (topic: string) => number,
): ReadonlyMap<string, string> {
  const claims = new Map<string, { memberId: string | undefined; generation: number }>()
  for (const { memberId, topics, ownedPartitions, generationId } of members) {
    for (const { topic, partitions } of ownedPartitions) {
      if (!topics.includes(topic)) continue
      for (const partition of partitions) {
        if (partition >= partitionsOf(topic)) continue
        const key = keyOf(topic, partition)
        const claim = claims.get(key)
        if (claim === undefined || claim.generation < generationId) {
          claims.set(key, { memberId, generation: generationId })
        } else if (claim.generation === generationId) claim.memberId = undefined
      }
    }
  }
  const owners = new Map<string, string>()
  for (const [key, { memberId }] of claims) if (memberId !== undefined) owners.set(key, memberId)
  return owners
}

function topicsOf(members: readonly AssignorMember[]): readonly string[] {
  return [...new Set(members.flatMap((each) => each.topics))].sort()
}

function keyOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}

/** As Kafka's range assignor: who has an instance id comes first. */
function byRangeOrder(left: AssignorMember, right: AssignorMember): number {
  const isLeftStatic = left.groupInstanceId !== null
  if (isLeftStatic !== (right.groupInstanceId !== null)) return isLeftStatic ? -1 : 1
  return byId(left, right)
}

/** A static member keeps its place when it comes back under another member id. */
function byId(left: AssignorMember, right: AssignorMember): number {
  const a = left.groupInstanceId ?? left.memberId
  const b = right.groupInstanceId ?? right.memberId
  return a < b ? -1 : a > b ? 1 : 0
}
