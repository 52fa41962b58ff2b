/**
 * What may go wrong, and a plan of it drawn from a seed. The plan is made before the run: the same seed gives the same plan, though
 * not the same run, since real processes have their own pace.
 *
 * | fault | what it does |
 * | --- | --- |
 * | cut | two hosts do not hear each other: two daemons, a daemon and etcd, a daemon and the clients |
 * | one-way | the same, in one direction |
 * | isolate | a daemon hears none of the other daemons, or no host at all |
 * | pause | SIGSTOP of a daemon, SIGCONT later: before its session ends, or after |
 * | pause-etcd | the same with etcd |
 * | kill, kill-all | SIGKILL of a daemon, of all of them |
 * | kill-etcd | SIGKILL of etcd |
 * | stop | SIGTERM of a daemon |
 * | full | no space on a daemon's disk |
 * | sync | syncs of a daemon's disk fail, with ENOSPC and EIO from the device or with EIO from everything |
 * | power | power cut of one daemon's host, of two, of all daemons, of all with etcd: what was not synced is gone |
 *
 * A daemon whose sync failed has lost its word (replication.md, section 5.3 (d)). With min.insync.replicas=2 one such loss at a time
 * is what the cluster promises to bear, so `sync` strikes one daemon of a plan only.
 */
import type { SimRandom } from '../sim/sim-random.ts'

export const faultKinds = [
  'cut',
  'one-way',
  'isolate',
  'pause',
  'pause-etcd',
  'kill',
  'kill-all',
  'kill-etcd',
  'stop',
  'full',
  'sync',
  'power',
] as const

export type FaultKind = (typeof faultKinds)[number]

/** A daemon's number, or another host. */
export type Place = number | 'etcd' | 'clients'

export interface Fault {
  readonly kind: FaultKind
  readonly atMs: number
  /** Until it is undone; 0 for what is over at once. */
  readonly lastsMs: number
  /** Daemons it strikes. */
  readonly daemons: readonly number[]
  /** Directions that are cut, for cut, one-way and isolate. */
  readonly cuts: readonly (readonly [from: Place, to: Place])[]
  readonly variant: 'device' | 'shutdown' | 'with-etcd' | undefined
}

export interface PlanOptions {
  readonly daemons: number
  readonly lengthMs: number
  readonly kinds: readonly FaultKind[]
  readonly sessionMs: number
}

/** Faults one after the other, some over each other, in the order of their times. */
export function planFaults(random: SimRandom, options: PlanOptions): Fault[] {
  const faults: Fault[] = []
  const failing = 1 + random.integer(options.daemons)
  let atMs = random.between(500, 2000)
  while (atMs < options.lengthMs) {
    const fault = draw(random, options, atMs, failing)
    faults.push(fault)
    // A third of them meet the one before.
    atMs += random.chance(0.33)
      ? random.between(200, 2000)
      : fault.lastsMs + random.between(1000, 6000)
  }
  return faults
}

function draw(random: SimRandom, options: PlanOptions, atMs: number, failing: number): Fault {
  const { daemons: count, sessionMs } = options
  const kind = random.pick(options.kinds)
  const all = Array.from({ length: count }, (_, index) => index + 1)
  const one = random.pick(all)
  const plain = { kind, atMs, daemons: [one], cuts: [], variant: undefined }
  /** Short of a session's end, or beyond it. */
  const spanMs = random.chance(0.4)
    ? random.between(200, sessionMs * 0.8)
    : random.between(sessionMs, sessionMs * 2.5)
  switch (kind) {
    case 'cut':
    case 'one-way': {
      const others: Place[] = [...all.filter((each) => each !== one), 'etcd', 'clients']
      const other = random.pick(others)
      const ways: (readonly [Place, Place])[] = [
        [one, other],
        [other, one],
      ]
      const cuts = kind === 'cut' ? ways : [random.pick(ways)]
      return { ...plain, lastsMs: spanMs, cuts }
    }
    case 'isolate': {
      const isWhole = random.chance(0.5)
      const others: Place[] = all.filter((each) => each !== one)
      if (isWhole) others.push('etcd', 'clients')
      const cuts = others.flatMap((other): [Place, Place][] => [
        [one, other],
        [other, one],
      ])
      return { ...plain, lastsMs: spanMs, cuts }
    }
    case 'pause':
      return { ...plain, lastsMs: spanMs }
    case 'pause-etcd':
      return { ...plain, daemons: [], lastsMs: spanMs }
    case 'kill':
    case 'stop':
      return { ...plain, lastsMs: random.pick([0, 500, spanMs]) }
    case 'kill-all':
      return { ...plain, daemons: all, lastsMs: random.pick([0, 500, 3000]) }
    case 'kill-etcd':
      return { ...plain, daemons: [], lastsMs: random.pick([0, 1000, spanMs]) }
    case 'full':
      return { ...plain, lastsMs: random.between(1000, 8000) }
    case 'sync': {
      const variant = random.pick(['device', 'shutdown'] as const)
      return { ...plain, daemons: [failing], lastsMs: random.between(1000, 5000), variant }
    }
    case 'power': {
      const size = random.pick([1, 1, 2, count, count])
      const rest = [...all]
      const daemons = Array.from(
        { length: size },
        () => rest.splice(random.integer(rest.length), 1)[0] ?? one,
      )
      const variant = size === count && random.chance(0.5) ? 'with-etcd' : undefined
      return { ...plain, daemons, variant, lastsMs: random.pick([0, 1000, spanMs]) }
    }
  }
}

/** For a line of the record, such as `cut 1>2 2>1`. */
export function describeFault({ kind, daemons, cuts, lastsMs, variant }: Fault): string {
  const where = cuts.length > 0 ? cuts.map(([from, to]) => `${from}>${to}`) : daemons.map(String)
  const what = variant === undefined ? kind : `${kind}(${variant})`
  return `${what} ${where.join(' ')}${where.length > 0 ? ' ' : ''}for ${Math.round(lastsMs)} ms`
}
