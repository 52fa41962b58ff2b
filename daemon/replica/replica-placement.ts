/**
 * Which brokers hold the partitions of a topic: round robin, each topic beginning one broker further. Where all brokers name
 * their racks, the brokers are taken in an order that alternates racks, and the replicas of a partition come from different
 * racks as far as there are any (Kafka's rule, KIP-36).
 */

export interface PlacementOptions {
  readonly partitions: number
  /** At most the number of brokers. */
  readonly replicationFactor: number
  readonly startAt: number
  /** By broker; rack-aware only where each broker has one. */
  readonly racks?: ReadonlyMap<number, string | null>
}

export function assignReplicas(
  brokers: readonly number[],
  options: PlacementOptions,
): readonly (readonly number[])[] {
  const count = Math.min(options.replicationFactor, brokers.length)
  const racks = new Map<number, string>()
  for (const broker of brokers) {
    const rack = options.racks?.get(broker)
    if (rack !== undefined && rack !== null) racks.set(broker, rack)
  }
  const isRackAware = racks.size === brokers.length && new Set(racks.values()).size > 1
  const order = isRackAware ? alternateRacks(brokers, racks) : brokers
  return Array.from({ length: options.partitions }, (_, partition) => {
    const first = (options.startAt + partition) % order.length
    const inTurn = Array.from(order, (__, at) => order[(first + at) % order.length] as number)
    return isRackAware ? takeByRack(inTurn, racks, count) : inTurn.slice(0, count)
  })
}

/** One broker of each rack in turn: a1 b1 c1 a2 b2 c2. */
function alternateRacks(
  brokers: readonly number[],
  racks: ReadonlyMap<number, string>,
): readonly number[] {
  const byRack = new Map<string, number[]>()
  for (const broker of brokers) {
    const rack = racks.get(broker) as string
    const members = byRack.get(rack) ?? []
    byRack.set(rack, members)
    members.push(broker)
  }
  const columns = [...byRack.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, ids]) => ids)
  const order: number[] = []
  for (let row = 0; order.length < brokers.length; row += 1) {
    for (const column of columns) {
      const broker = column[row]
      if (broker !== undefined) order.push(broker)
    }
  }
  return order
}

/** The first broker, then always the next one of the racks used least so far. */
function takeByRack(
  inTurn: readonly number[],
  racks: ReadonlyMap<number, string>,
  count: number,
): readonly number[] {
  const taken: number[] = []
  const uses = new Map<string, number>()
  const usesOf = (broker: number): number => uses.get(racks.get(broker) as string) ?? 0
  while (taken.length < count) {
    let best: number | undefined
    for (const broker of inTurn) {
      if (taken.includes(broker)) continue
      if (best === undefined || usesOf(broker) < usesOf(best)) best = broker
    }
    if (best === undefined) break
    taken.push(best)
    uses.set(racks.get(best) as string, usesOf(best) + 1)
  }
  return taken
}

/**
 * Why a hand-made assignment is refused; undefined when it is one.
 * @param assignments  in order of partitions
 */
export function findAssignmentDefect(
  assignments: readonly (readonly number[])[],
  brokers: readonly number[],
): string | undefined {
  const factor = assignments[0]?.length ?? 0
  for (const replicas of assignments) {
    if (replicas.length === 0) return 'a partition without replicas'
    if (replicas.length !== factor) return 'partitions with different numbers of replicas'
    if (new Set(replicas).size !== replicas.length) return 'a broker twice in one partition'
    const unknown = replicas.find((id) => !brokers.includes(id))
    if (unknown !== undefined) return `no broker ${unknown}`
  }
  return undefined
}
