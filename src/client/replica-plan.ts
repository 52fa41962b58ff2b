/**
 * Where replicas should be: the plan behind `stream cluster reassign` and `drain`. A pure function of what is there; the
 * same input gives the same plan.
 *
 * What it holds to, in this order:
 * 1. Every partition has as many replicas as asked for, on different brokers, all of them among those allowed.
 * 2. New replicas go to racks that have none yet; with `balances` every partition spans as many racks as brokers and
 *    replicas allow. A broker without a rack is a rack of its own.
 * 3. A replica that is where it may be stays there.
 * 4. With `balances`: brokers hold the same number of replicas of each topic, and come first in the same number of its
 *    partitions, as far as 1 and 2 allow; of what has to move the smallest moves. A topic is work, and a broker that has
 *    as many partitions as the others, but of topics that nobody uses, does none of it.
 * 5. With `balances`: the same over all topics, as far as 4 allows; who comes first is even over all of them even where
 *    a topic suffers, if no partition stays out of the plan.
 *
 * The first replica is the preferred leader. It changes only when it has to, or for 4 and 5.
 */

export interface PlanBroker {
  readonly nodeId: number
  readonly rack: string | null
}

export interface PlanPartition {
  readonly topic: string
  readonly partition: number
  /** Now, in order of preference. */
  readonly replicas: readonly number[]
  /** What one replica takes; decides which ones move. */
  readonly bytes: number
  /** In sync now: of them the next leader is taken. Absent: all. */
  readonly inSync?: readonly number[]
}

export interface PlanRequest {
  /** That may have replicas. */
  readonly brokers: readonly PlanBroker[]
  readonly partitions: readonly PlanPartition[]
  /** Absent: as many as each partition has. */
  readonly replicas?: number
  readonly balances: boolean
  /** What the brokers have of partitions that stay out of this. */
  readonly others?: readonly PlanPartition[]
}

export interface PlannedPartition extends PlanPartition {
  readonly planned: readonly number[]
}

interface Slot {
  readonly source: PlanPartition
  readonly replicas: number[]
}

interface Loads {
  readonly replicas: Counts
  readonly leads: Counts
}

interface TopicSlots {
  readonly slots: Slot[]
  /** What the brokers have of this topic, in this plan. */
  readonly loads: Loads
}

/** By broker. */
type Counts = Map<number, number>

/** Whether a replica, or the lead, may go from one broker to another. */
type Allows = (slot: Slot, from: number, to: number) => boolean

/**
 * @returns every partition of the request, in order; those whose `planned` equals `replicas` need nothing
 * @throws RangeError where there are fewer brokers than replicas asked for; callers check before
 */
export function planReplicas(request: PlanRequest): PlannedPartition[] {
  const planner = new Planner(request)
  return planner.plan()
}

class Planner {
  readonly #request: PlanRequest
  readonly #racks = new Map<number, string>()
  readonly #allowed: readonly number[]
  readonly #slots: Slot[] = []
  readonly #loads: Loads = { replicas: new Map(), leads: new Map() }
  readonly #topics = new Map<string, TopicSlots>()

  constructor(request: PlanRequest) {
    this.#request = request
    const brokers = request.brokers.toSorted((a, b) => a.nodeId - b.nodeId)
    for (const { nodeId, rack } of brokers) this.#racks.set(nodeId, rackName(nodeId, rack))
    this.#allowed = brokers.map(({ nodeId }) => nodeId)
    for (const nodeId of this.#allowed) {
      this.#loads.replicas.set(nodeId, 0)
      this.#loads.leads.set(nodeId, 0)
    }
    for (const { replicas } of request.others ?? []) {
      this.#count(replicas)
      const [first = -1] = replicas
      if (this.#racks.has(first)) add(this.#loads.leads, first, 1)
    }
  }

  plan(): PlannedPartition[] {
    const { partitions, balances } = this.#request
    for (const source of partitions) this.#slots.push(this.#keep(source))
    for (const slot of this.#slots) this.#fill(slot)
    for (const slot of this.#slots) this.#addToTopic(slot)
    if (balances) this.#balanceReplicas()
    this.#orderLeaders()
    if (balances) this.#balanceLeaders()
    return this.#slots.map(({ source, replicas }) => ({ ...source, planned: replicas }))
  }

  #factorOf(source: PlanPartition): number {
    const factor = this.#request.replicas ?? source.replicas.length
    if (factor > this.#allowed.length) throw new RangeError('more replicas than brokers')
    return factor
  }

  /** Who may stay: not beyond the factor, and with `balances` no two of a rack while another rack has none. */
  #keep(source: PlanPartition): Slot {
    const replicas = source.replicas.filter((nodeId) => this.#racks.has(nodeId))
    const factor = this.#factorOf(source)
    const rackCount = Math.min(factor, new Set(this.#racks.values()).size)
    while (replicas.length > factor) replicas.splice(this.#worst(replicas), 1)
    if (this.#request.balances) {
      // Each of them makes room for one in a rack that has none.
      while (replicas.length + rackCount - this.#rackCount(replicas) > factor) {
        const doubled = this.#worst(replicas)
        if (!this.#sharesRack(replicas, doubled)) break
        replicas.splice(doubled, 1)
      }
    }
    this.#count(replicas)
    return { source, replicas }
  }

  /** Index of the replica that is missed least: of a rack with another one, then of the fullest broker, then the last. */
  #worst(replicas: readonly number[]): number {
    let worst = replicas.length - 1
    let worstScore = -1
    for (let index = replicas.length - 1; index >= 0; index -= 1) {
      const shares = this.#sharesRack(replicas, index) ? 1 : 0
      // The preferred leader goes last of all.
      const isFirst = index === 0 ? 0 : 1
      const load = this.#replicaLoad(replicas[index] ?? -1)
      const score = shares * 1e12 + isFirst * 1e9 + load
      if (score > worstScore) {
        worst = index
        worstScore = score
      }
    }
    return worst
  }

  #sharesRack(replicas: readonly number[], index: number): boolean {
    const rack = this.#racks.get(replicas[index] ?? -1)
    return replicas.some((nodeId, other) => other !== index && this.#racks.get(nodeId) === rack)
  }

  #rackCount(replicas: readonly number[]): number {
    return new Set(replicas.map((nodeId) => this.#racks.get(nodeId))).size
  }

  #fill({ source, replicas }: Slot): void {
    const factor = this.#factorOf(source)
    while (replicas.length < factor) {
      const racks = new Set(replicas.map((nodeId) => this.#racks.get(nodeId)))
      let best = -1
      let bestScore = Number.POSITIVE_INFINITY
      for (const nodeId of this.#allowed) {
        if (replicas.includes(nodeId)) continue
        const doubles = racks.has(this.#racks.get(nodeId)) ? 1e9 : 0
        const score = doubles + this.#replicaLoad(nodeId)
        if (score < bestScore) {
          best = nodeId
          bestScore = score
        }
      }
      replicas.push(best)
      add(this.#loads.replicas, best, 1)
    }
  }

  #addToTopic(slot: Slot): void {
    const { topic } = slot.source
    const found = this.#topics.get(topic)
    const { slots, loads } = found ?? {
      slots: [],
      loads: { replicas: new Map<number, number>(), leads: new Map<number, number>() },
    }
    if (found === undefined) this.#topics.set(topic, { slots, loads })
    slots.push(slot)
    for (const nodeId of slot.replicas) add(loads.replicas, nodeId, 1)
  }

  #loadsOf({ source }: Slot): Loads {
    return this.#topics.get(source.topic)?.loads ?? this.#loads
  }

  #balanceReplicas(): void {
    for (const { slots, loads } of this.#topics.values()) {
      this.#evenReplicas(slots, loads.replicas, () => true)
    }
    this.#evenReplicas(this.#slots, this.#loads.replicas, (slot, from, to) => {
      const { replicas } = this.#loadsOf(slot)
      return at(replicas, from) > at(replicas, to)
    })
  }

  /**
   * One replica at a time goes from a full broker to an empty one, on the way of others only where racks ask for it.
   * @param loads  by which brokers are full or empty
   */
  #evenReplicas(slots: readonly Slot[], loads: Counts, allows: Allows): void {
    const total = this.#loads.replicas
    const holders = this.#holders(slots)
    const blocked = new Set<string>()
    const mayMove: Allows = (slot, from, to) =>
      allows(slot, from, to) && this.#mayMove(slot, from, to)
    for (;;) {
      const byLoad = this.#allowed.toSorted(
        (a, b) => at(loads, a) - at(loads, b) || at(total, a) - at(total, b),
      )
      const direct = findMove(byLoad, loads, holders, mayMove, blocked)
      const moves = direct === undefined ? findDetour(byLoad, loads, holders, mayMove) : [direct]
      if (moves === undefined) return
      for (const { slot, from, to } of moves) {
        const touched = new Set([...slot.replicas, to])
        slot.replicas[slot.replicas.indexOf(from)] = to
        holders.get(from)?.delete(slot)
        holders.get(to)?.add(slot)
        for (const counts of [total, this.#loadsOf(slot).replicas]) {
          add(counts, from, -1)
          add(counts, to, 1)
        }
        for (const pair of blocked) {
          const [one, other] = pair.split(' ')
          if (touched.has(Number(one)) || touched.has(Number(other))) blocked.delete(pair)
        }
      }
    }
  }

  /** What each broker has, in the order in which it may leave: preferred leaders last, small ones first. */
  #holders(slots: readonly Slot[]): Map<number, Set<Slot>> {
    const bySize = slots.toSorted((a, b) => a.source.bytes - b.source.bytes)
    return new Map(
      this.#allowed.map((nodeId) => {
        const mine = bySize.filter(({ replicas }) => replicas.includes(nodeId))
        const isLead = ({ replicas }: Slot): boolean => replicas[0] === nodeId
        return [nodeId, new Set([...mine.filter((slot) => !isLead(slot)), ...mine.filter(isLead)])]
      }),
    )
  }

  #mayMove({ replicas }: Slot, from: number, to: number): boolean {
    if (replicas.includes(to)) return false
    const rackOf = (nodeId: number): string | undefined => this.#racks.get(nodeId)
    const others = replicas.filter((nodeId) => nodeId !== from)
    const isNew = !others.some((nodeId) => rackOf(nodeId) === rackOf(to))
    return isNew || others.some((nodeId) => rackOf(nodeId) === rackOf(from))
  }

  /** Who comes first stays first; where that one is gone, the in-sync one with the fewest leads follows. */
  #orderLeaders(): void {
    const { leads } = this.#loads
    const open: Slot[] = []
    for (const slot of this.#slots) {
      const [first] = slot.source.replicas
      const { replicas } = slot
      if (first !== undefined && replicas.includes(first)) {
        this.#lead(slot, first)
      } else open.push(slot)
    }
    for (const slot of open) {
      const { source, replicas } = slot
      const inSync = source.inSync ?? source.replicas
      const ready = replicas.filter((nodeId) => inSync.includes(nodeId))
      const [first] = (ready.length > 0 ? ready : replicas).toSorted(
        (a, b) => at(leads, a) - at(leads, b),
      )
      if (first !== undefined) this.#lead(slot, first)
    }
  }

  #lead(slot: Slot, first: number): void {
    toFront(slot.replicas, first)
    add(this.#loads.leads, first, 1)
    add(this.#loadsOf(slot).leads, first, 1)
  }

  #balanceLeaders(): void {
    const { leads } = this.#loads
    for (const { slots, loads } of this.#topics.values()) {
      this.#evenLeaders(slots, loads.leads, () => true)
    }
    this.#evenLeaders(this.#slots, leads, (slot, from, to) => {
      const own = this.#loadsOf(slot).leads
      return at(own, from) > at(own, to)
    })
    const { others = [] } = this.#request
    if (others.length === 0) this.#evenLeaders(this.#slots, leads, () => true)
  }

  /** Swaps who comes first along the shortest way from the broker with most leads to one with two fewer. */
  #evenLeaders(slots: readonly Slot[], loads: Counts, allows: Allows): void {
    const total = this.#loads.leads
    const led = new Map<number, Set<Slot>>(this.#allowed.map((nodeId) => [nodeId, new Set()]))
    for (const slot of slots) led.get(slot.replicas[0] ?? -1)?.add(slot)
    for (;;) {
      const busiest = this.#allowed.toSorted(
        (a, b) => at(loads, b) - at(loads, a) || at(total, b) - at(total, a),
      )
      let swaps: readonly Move[] | undefined
      for (const from of busiest) {
        swaps = this.#findSwaps(from, loads, led, allows)
        if (swaps !== undefined) break
      }
      if (swaps === undefined) return
      for (const { slot, from, to } of swaps) {
        toFront(slot.replicas, to)
        led.get(from)?.delete(slot)
        led.get(to)?.add(slot)
        for (const counts of [total, this.#loadsOf(slot).leads]) {
          add(counts, from, -1)
          add(counts, to, 1)
        }
      }
    }
  }

  #findSwaps(
    start: number,
    loads: Counts,
    led: ReadonlyMap<number, ReadonlySet<Slot>>,
    allows: Allows,
  ): readonly Move[] | undefined {
    const limit = at(loads, start) - 2
    if (this.#allowed.every((nodeId) => at(loads, nodeId) > limit)) return undefined
    const reached = new Map<number, Move | undefined>([[start, undefined]])
    for (const from of reached.keys()) {
      for (const slot of led.get(from) ?? []) {
        for (const to of slot.replicas) {
          if (reached.has(to) || !allows(slot, from, to)) continue
          reached.set(to, { slot, from, to })
          if (at(loads, to) <= limit) return wayTo(to, reached)
        }
      }
    }
    return undefined
  }

  #replicaLoad(nodeId: number): number {
    return at(this.#loads.replicas, nodeId)
  }

  #count(replicas: readonly number[]): void {
    for (const nodeId of replicas) {
      if (this.#racks.has(nodeId)) add(this.#loads.replicas, nodeId, 1)
    }
  }
}

interface Move {
  readonly slot: Slot
  readonly from: number
  readonly to: number
}

/** @param blocked  pairs of brokers between which nothing may move now */
function findMove(
  byLoad: readonly number[],
  loads: Counts,
  holders: ReadonlyMap<number, ReadonlySet<Slot>>,
  mayMove: Allows,
  blocked: Set<string>,
): Move | undefined {
  for (const from of byLoad.toReversed()) {
    for (const to of byLoad) {
      if (at(loads, to) > at(loads, from) - 2) break
      const pair = `${from} ${to}`
      if (blocked.has(pair)) continue
      for (const slot of holders.get(from) ?? []) {
        if (mayMove(slot, from, to)) return { slot, from, to }
      }
      blocked.add(pair)
    }
  }
  return undefined
}

/** The shortest way over several brokers, each of which passes a replica on. */
function findDetour(
  byLoad: readonly number[],
  loads: Counts,
  holders: ReadonlyMap<number, ReadonlySet<Slot>>,
  mayMove: Allows,
): readonly Move[] | undefined {
  for (const start of byLoad.toReversed()) {
    const limit = at(loads, start) - 2
    if (at(loads, byLoad[0] ?? start) > limit) return undefined
    const reached = new Map<number, Move | undefined>([[start, undefined]])
    for (const from of reached.keys()) {
      const used = new Set(wayTo(from, reached).map(({ slot }) => slot))
      for (const slot of holders.get(from) ?? []) {
        if (used.has(slot)) continue
        for (const to of byLoad) {
          if (reached.has(to) || !mayMove(slot, from, to)) continue
          reached.set(to, { slot, from, to })
          if (at(loads, to) <= limit) return wayTo(to, reached)
        }
      }
    }
  }
  return undefined
}

function wayTo(end: number, reached: ReadonlyMap<number, Move | undefined>): Move[] {
  const way: Move[] = []
  for (let move = reached.get(end); move !== undefined; move = reached.get(move.from)) {
    way.unshift(move)
  }
  return way
}

function toFront(replicas: number[], nodeId: number): void {
  replicas.splice(replicas.indexOf(nodeId), 1)
  replicas.unshift(nodeId)
}

function rackName(nodeId: number, rack: string | null): string {
  return rack === null ? `\0${nodeId}` : rack
}

function at(counts: ReadonlyMap<number, number>, nodeId: number): number {
  return counts.get(nodeId) ?? 0
}

function add(counts: Map<number, number>, nodeId: number, by: number): void {
  counts.set(nodeId, at(counts, nodeId) + by)
}

/** Brokers that get a replica which they do not have. */
export function addedReplicas({ replicas, planned }: PlannedPartition): number[] {
  return planned.filter((nodeId) => !replicas.includes(nodeId))
}

export function isMoved({ replicas, planned }: PlannedPartition): boolean {
  return (
    replicas.length !== planned.length ||
    replicas.some((nodeId, index) => nodeId !== planned[index])
  )
}

/**
 * The same replicas in another order, so that `nodeId` is the last to lead.
 * @returns every partition that it comes first in; `planned` equals `replicas` where nobody else in sync could lead
 */
export function planDemotion(
  partitions: readonly PlanPartition[],
  nodeId: number,
): PlannedPartition[] {
  const leads = new Map<number, number>()
  for (const { replicas } of partitions) {
    if (replicas[0] !== undefined && replicas[0] !== nodeId) add(leads, replicas[0], 1)
  }
  return partitions
    .filter(({ replicas }) => replicas[0] === nodeId)
    .map((source) => {
      const { replicas, inSync = replicas } = source
      const rest = replicas.filter((each) => each !== nodeId)
      const [next] = rest
        .filter((each) => inSync.includes(each))
        .toSorted((a, b) => at(leads, a) - at(leads, b))
      if (next === undefined) return { ...source, planned: replicas }
      add(leads, next, 1)
      return { ...source, planned: [next, ...rest.filter((each) => each !== next), nodeId] }
    })
}
