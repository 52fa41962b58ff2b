/**
 * One partition through its life, for property tests: what the controller's functions make of it while brokers die, come back with
 * and without their data, drain and lose their leases, and an operator moves it about. Logs are lists of records, and what has
 * been committed is remembered: `check()` asserts replication.md section 6 after every step.
 *
 * Metadata are never late here and messages are never lost: that is what test/model walks through.
 */
import { expect } from 'vitest'
import {
  type BrokerView,
  beginReassignment,
  cancelReassignment,
  isReassigning,
  type LogView,
  next,
  preferLeader,
  settledReplicas,
  withMinInSync,
} from '../../../daemon/metadata/controller.ts'
import type { Member, PartitionValue } from '../../../daemon/metadata/metadata-values.ts'

export interface Step {
  readonly what: (typeof steps)[number]
  readonly broker: number
  readonly number: number
  readonly order: readonly number[]
}

export const steps = [
  'control',
  'control',
  'control',
  'produce',
  'produce',
  'copy',
  'copy',
  'commit',
  'expand',
  'expand',
  'shrink',
  'recovered',
  'die',
  'restart',
  'restart',
  'restartLossy',
  'activate',
  'activate',
  'drain',
  'loseLease',
  'begin',
  'begin',
  'cancel',
  'prefer',
  'configure',
  'electUncleanly',
] as const

interface Rec {
  readonly id: number
  readonly epoch: number
}

interface Host extends BrokerView {
  isUp: boolean
  live: boolean
  state: BrokerView['state']
  incarnation: string
  dataEpoch: number
  log: Rec[]
}

export class PartitionLife {
  part: PartitionValue
  readonly seen: Record<string, number> = {}
  readonly #hosts = new Map<number, Host>()
  readonly #commitFlush: boolean
  #minInSync: number
  /** What any leader has shown to readers. */
  #committed: readonly Rec[] = []
  /** Where the leader's log stood when its epoch began. */
  #epochStart = 0
  #counter = 100

  constructor(brokers: number, replicas: number, minInSync: number, commitFlush: boolean) {
    this.#minInSync = minInSync
    this.#commitFlush = commitFlush
    for (let nodeId = 1; nodeId <= brokers; nodeId += 1) {
      this.#hosts.set(nodeId, {
        nodeId,
        isUp: true,
        live: true,
        incarnation: `${nodeId}-0`,
        state: 'ACTIVE',
        dataEpoch: nodeId,
        directoryOnline: true,
        log: [],
      })
    }
    const ids = [...this.#hosts.keys()].slice(0, replicas)
    this.part = {
      replicas: ids,
      adding: [],
      removing: [],
      leader: 1,
      leaderIncarnation: '1-0',
      leaderEpoch: 0,
      partitionEpoch: 0,
      inSyncReplicas: ids.map((broker) => ({ broker, dataEpoch: broker })),
      eligibleReplicas: [],
      known: [],
      lastLeader: null,
      minInSync: Math.min(minInSync, replicas),
      uncleanEpoch: 0,
      recovering: false,
      writer: { epoch: 0, counter: 0 },
    }
  }

  take(step: Step): void {
    const before = this.part
    const after = this.#apply(step)
    if (after !== undefined && after !== before) this.#change(before, after)
    this.check()
  }

  /** Everybody comes back and keeps up: the partition must be led and whole, and nothing be under way (I15). */
  heal(): void {
    for (const host of this.#hosts.values()) {
      if (!host.isUp || host.state === 'DRAINING') this.#restart(host, false)
      else host.live = true
    }
    const step = (what: Step['what'], broker = 1): void =>
      this.take({ what, broker, number: 200, order: [] })
    for (let round = 0; round < 12; round += 1) {
      step('control')
      for (const nodeId of this.#hosts.keys()) step('activate', nodeId)
      step('recovered')
      for (const nodeId of this.#hosts.keys()) step('copy', nodeId)
      step('commit')
      for (const nodeId of this.#hosts.keys()) step('expand', nodeId)
    }
    const { part } = this
    const anybody = [...part.inSyncReplicas, ...part.eligibleReplicas].length > 0
    // With async flush and several replicas nobody is elected after a loss, unless an operator says so.
    if (!this.#commitFlush && part.leader < 0 && !anybody) return
    expect(part.leader).toBeGreaterThanOrEqual(0)
    expect(isReassigning(part)).toBe(false)
    expect(part.inSyncReplicas.map((m) => m.broker).sort()).toEqual([...part.replicas].sort())
    expect(part.minInSync).toBe(Math.min(this.#minInSync, part.replicas.length))
  }

  check(): void {
    const { part } = this
    const { replicas, adding, removing, inSyncReplicas, eligibleReplicas } = part
    const isReplica = (id: number): boolean => replicas.includes(id)
    for (const ids of [replicas, adding, removing, inSyncReplicas.map((m) => m.broker)]) {
      expect(new Set(ids).size).toBe(ids.length)
      expect(ids.every(isReplica)).toBe(true)
    }
    expect(adding.some((id) => removing.includes(id))).toBe(false)
    expect(replicas.some((id) => !removing.includes(id))).toBe(true)
    expect(settledReplicas(part)).toBeGreaterThan(0)
    expect(eligibleReplicas.every((m) => isReplica(m.broker))).toBe(true)
    expect(eligibleReplicas.some((m) => has(inSyncReplicas, m.broker))).toBe(false)
    if (inSyncReplicas.length >= part.minInSync && !part.recovering) {
      expect(eligibleReplicas).toEqual([])
    }
    if (part.leader >= 0) expect(has(inSyncReplicas, part.leader)).toBe(true)
    else expect(part.leaderIncarnation).toBe('')
    // I4: whoever may be elected cleanly has all that was committed.
    for (const member of [...inSyncReplicas, ...eligibleReplicas]) {
      const host = this.#host(member.broker)
      if (host.dataEpoch !== member.dataEpoch) continue
      expect(commonLength(host.log, this.#committed)).toBe(this.#committed.length)
    }
  }

  #host(nodeId: number): Host {
    return this.#hosts.get(nodeId) as Host
  }

  /** The process that leads by the record, with its session where `needsSession`. */
  #leader(needsSession: boolean): Host | undefined {
    const host = this.#hosts.get(this.part.leader)
    if (host === undefined || !host.isUp) return undefined
    if (host.incarnation !== this.part.leaderIncarnation) return undefined
    return needsSession && !host.live ? undefined : host
  }

  #apply({ what, broker, number, order }: Step): PartitionValue | undefined {
    const { part } = this
    const host = this.#host(broker)
    const leader = this.#leader(false)
    const count = (): void => {
      this.seen[what] = (this.seen[what] ?? 0) + 1
    }
    switch (what) {
      case 'control':
        return this.#control('event', false)
      case 'electUncleanly':
        if (part.leader >= 0) return undefined
        count()
        return this.#control('timeout', true)
      case 'produce':
        this.#counter += 1
        leader?.log.push({ id: this.#counter, epoch: part.leaderEpoch })
        return undefined
      case 'copy':
        if (leader === undefined || host === leader || !host.isUp) return undefined
        if (part.replicas.includes(broker)) copy(leader, host, number)
        return undefined
      case 'commit':
        if (leader !== undefined) this.#commit(leader)
        return undefined
      case 'expand':
        return this.#expand(host)
      case 'shrink':
        if (this.#leader(true) === undefined || host === leader) return undefined
        if (!has(part.inSyncReplicas, broker)) return undefined
        count()
        return this.#withMembers(part.inSyncReplicas.filter((m) => m.broker !== broker))
      case 'recovered':
        if (!part.recovering || this.#leader(true) === undefined) return undefined
        return { ...part, recovering: false, partitionEpoch: part.partitionEpoch + 1 }
      case 'die':
        host.isUp = false
        host.live = false
        return undefined
      case 'restart':
      case 'restartLossy':
        if (host.isUp) return undefined
        this.#restart(host, what === 'restartLossy')
        return undefined
      case 'activate':
        return this.#activate(host)
      case 'drain':
        if (host.live && host.state === 'ACTIVE') host.state = 'DRAINING'
        return undefined
      case 'loseLease':
        if (host.isUp) host.live = !host.live
        return undefined
      case 'begin': {
        const target = order.slice(0, 1 + (number % 3))
        count()
        return this.#settle(beginReassignment(part, target))
      }
      case 'cancel': {
        if (!isReassigning(part)) return undefined
        const back = cancelReassignment(part)
        if (back === undefined) return undefined
        count()
        expect([...back.replicas].sort()).toEqual(
          part.replicas.filter((id) => !part.adding.includes(id)).sort(),
        )
        return this.#settle(back)
      }
      case 'prefer': {
        const preferred = preferLeader(part, this.#hosts)
        if (preferred !== undefined) count()
        return preferred
      }
      case 'configure':
        this.#minInSync = 1 + (number % 3)
        return undefined
    }
  }

  #change(before: PartitionValue, after: PartitionValue): void {
    // I2
    expect(after.leaderEpoch).toBeGreaterThanOrEqual(before.leaderEpoch)
    expect(after.partitionEpoch).toBeGreaterThan(before.partitionEpoch)
    this.part = after
    const isElection =
      after.leader !== before.leader ||
      after.leaderIncarnation !== before.leaderIncarnation ||
      after.replicas.length < before.replicas.length
    if (isElection) expect(after.leaderEpoch).toBeGreaterThan(before.leaderEpoch)
    if (isReassigning(before) && !isReassigning(after)) {
      this.seen['ended'] = (this.seen['ended'] ?? 0) + 1
    }
    if (after.leaderEpoch === before.leaderEpoch || after.leader < 0) return
    const host = this.#host(after.leader)
    // I11, and what T3 guards.
    expect(host.live && host.state !== 'FENCED').toBe(true)
    expect(after.leaderIncarnation).toBe(host.incarnation)
    expect(after.inSyncReplicas).toContainEqual({
      broker: host.nodeId,
      dataEpoch: host.dataEpoch,
    })
    if (after.uncleanEpoch === before.uncleanEpoch) {
      // I4
      expect(commonLength(host.log, this.#committed)).toBe(this.#committed.length)
    } else {
      expect(after).toMatchObject({ uncleanEpoch: after.leaderEpoch, recovering: true })
      this.seen['unclean'] = (this.seen['unclean'] ?? 0) + 1
      this.#committed = this.#committed.slice(0, commonLength(host.log, this.#committed))
    }
    this.#epochStart = host.log.length
  }

  #control(cause: 'event' | 'timeout', uncleanElection: boolean): PartitionValue | undefined {
    const settled = settledReplicas(this.part)
    const base = withMinInSync(this.part, Math.min(this.#minInSync, settled))
    const logs = new Map<number, LogView>()
    for (const { nodeId, isUp, live, log } of this.#hosts.values()) {
      if (!isUp || !live) continue
      logs.set(nodeId, { lastEpoch: log.at(-1)?.epoch ?? -1, logEndOffset: log.length })
    }
    const config = {
      uncleanElection,
      commitFlush: this.#commitFlush,
      minInSync: (replicas: number) => Math.min(this.#minInSync, replicas),
    }
    const decision = next(base, this.#hosts, logs, config, cause)
    const again = next(decision.partition, this.#hosts, logs, config, cause)
    // Level-triggered: the same views change nothing more.
    expect(again.changed).toBe(false)
    if (decision.changed) this.seen['decided'] = (this.seen['decided'] ?? 0) + 1
    return decision.partition
  }

  /** As an order is written: with what the controller would do next, but for recoveries. */
  #settle(value: PartitionValue): PartitionValue {
    const config = {
      uncleanElection: false,
      commitFlush: this.#commitFlush,
      minInSync: (replicas: number) => Math.min(this.#minInSync, replicas),
    }
    return next(value, this.#hosts, new Map(), config, 'event').partition
  }

  /** T6: only when no decision is open against the new registration. */
  #activate(host: Host): PartitionValue | undefined {
    if (!host.live || host.state !== 'FENCED') return undefined
    const decided = this.#control('event', false)
    if (decided !== this.part) return decided
    host.state = 'ACTIVE'
    return undefined
  }

  #restart(host: Host, isLossy: boolean): void {
    this.#counter += 1
    host.isUp = true
    host.live = true
    host.state = 'FENCED'
    host.incarnation = `${host.nodeId}-${this.#counter}`
    if (!isLossy) return
    host.dataEpoch = this.#counter
    host.log = host.log.slice(0, host.log.length >> 1)
  }

  #commit(leader: Host): void {
    const { inSyncReplicas, minInSync } = this.part
    if (inSyncReplicas.length < minInSync) return
    let least = leader.log.length
    for (const { broker, dataEpoch } of inSyncReplicas) {
      const host = this.#host(broker)
      const counts = host.dataEpoch === dataEpoch
      least = Math.min(least, counts ? commonLength(host.log, leader.log) : 0)
    }
    if (least <= this.#committed.length) return
    this.seen['committed'] = (this.seen['committed'] ?? 0) + 1
    this.#committed = leader.log.slice(0, least)
  }

  /** T4. */
  #expand(host: Host): PartitionValue | undefined {
    const { part } = this
    const leader = this.#leader(true)
    const isFit =
      leader !== undefined &&
      host !== leader &&
      host.live &&
      host.state === 'ACTIVE' &&
      !part.recovering &&
      part.replicas.includes(host.nodeId) &&
      !has(part.inSyncReplicas, host.nodeId)
    if (!isFit || leader === undefined) return undefined
    const reach = commonLength(host.log, leader.log)
    if (reach < host.log.length || reach < this.#epochStart) return undefined
    if (reach < this.#committed.length) return undefined
    this.seen['expand'] = (this.seen['expand'] ?? 0) + 1
    const member = { broker: host.nodeId, dataEpoch: host.dataEpoch }
    return this.#withMembers([...part.inSyncReplicas, member])
  }

  #withMembers(inSyncReplicas: readonly Member[]): PartitionValue {
    const { part } = this
    const isEnough = inSyncReplicas.length >= part.minInSync
    const former = [...part.eligibleReplicas, ...part.inSyncReplicas]
    return {
      ...part,
      inSyncReplicas,
      eligibleReplicas: isEnough ? [] : former.filter((m) => !has(inSyncReplicas, m.broker)),
      known: isEnough ? [] : part.known,
      partitionEpoch: part.partitionEpoch + 1,
    }
  }
}

function has(members: readonly Member[], broker: number): boolean {
  return members.some((m) => m.broker === broker)
}

function commonLength(a: readonly Rec[], b: readonly Rec[]): number {
  let length = 0
  while (length < a.length && length < b.length && a[length]?.id === b[length]?.id) length += 1
  return length
}

/** Truncates to what both have, and takes up to `count` records more. */
function copy(leader: Host, follower: Host, count: number): void {
  const common = commonLength(leader.log, follower.log)
  follower.log = leader.log.slice(0, common + count)
}
