/** What is usually wrong with a cluster, found in what it says of itself: a pure function, with a cure for each finding. */

import type {
  BrokerIntroduction,
  BrokerProbe,
  BrokerStorage,
  StoredPartition,
} from '../src/client/cluster-admin.ts'
import {
  isLedByOther,
  isUnderMinInSync,
  isUnderReplicated,
} from '../src/client/partition-health.ts'
import { formatSize } from '../src/text/units.ts'
import type { ClusterView } from './cluster-shared.ts'
import { someNames, type UnansweredPartitions } from './unanswered.ts'

/** `crit`: something does not work; `warn`: something is about to; `note`: it could be better. */
export type TroubleState = 'crit' | 'warn' | 'note'

export interface Trouble {
  readonly state: TroubleState
  readonly check: string
  readonly target: string
  readonly finding: string
  readonly cure: string
}

export interface ClusterFacts {
  readonly view: ClusterView
  /** Of the live brokers. */
  readonly probes: readonly BrokerProbe[]
  readonly storage: readonly BrokerStorage[]
  /** The same a moment later, to see who catches up; empty where nothing is behind. */
  readonly later: readonly BrokerStorage[]
  readonly pauseMs: number
  /** What each broker says of itself, where they tell. */
  readonly introductions: ReadonlyMap<number, BrokerIntroduction>
  /** The latest timestamp of each topic that has one. */
  readonly latestMs: ReadonlyMap<string, number>
  /** Partitions whose leader was reached, and did not answer for them. */
  readonly unanswered: readonly UnansweredPartitions[]
  readonly nowMs: number
  /** Whether the broker that was asked is on this machine. */
  readonly isLocal: boolean
}

const NAMED_MAX = 5
const DISK_WARN = 0.15
const DISK_CRIT = 0.05
const CLOCK_MS_MAX = 60_000
/** Beyond this share of partitions that others lead, some brokers do the work of others. */
const UNPREFERRED_SHARE = 0.1

type Look = (facts: ClusterFacts) => readonly Trouble[]

/** Worst first. */
export function findTroubles(facts: ClusterFacts): Trouble[] {
  const order = { crit: 0, warn: 1, note: 2 }
  return looks.flatMap((look) => look(facts)).sort((a, b) => order[a.state] - order[b.state])
}

/** Without a session a broker names no controller: that is no finding of its own then. */
const store: Look = ({ view }) =>
  view.store?.trouble === undefined
    ? []
    : [
        {
          state: view.store.isLost ? 'crit' : 'warn',
          check: 'store',
          target: 'cluster',
          finding: `the metadata store is ${view.store.trouble}${view.store.isLost ? '; what follows may be old' : ''}`,
          cure: view.store.isReadOnly
            ? 'until then no topic can be made and no lead can move: compact and defragment etcd or raise its --quota-backend-bytes, then: etcdctl alarm disarm'
            : 'look whether etcd runs, has a majority, and is reached from the brokers; they go on by themselves when it is back',
        },
      ]

const controller: Look = ({ view }) =>
  view.overview.controllerId >= 0 || view.store?.isLost === true
    ? []
    : [
        {
          state: 'crit',
          check: 'controller',
          target: 'cluster',
          finding: 'no broker is the controller: nothing is created, elected or moved',
          cure: 'look whether the metadata store (etcd, or the KRaft quorum) has a majority',
        },
      ]

const brokersDown: Look = ({ view }) =>
  view.brokers.flatMap(({ nodeId, state }): Trouble[] => {
    if (state === 'live') return []
    const has = view.topics
      .flatMap(({ partitions }) => partitions)
      .filter(({ replicas }) => replicas.includes(nodeId)).length
    return [
      {
        state: has > 0 ? 'crit' : 'warn',
        check: 'broker',
        target: `broker ${nodeId}`,
        finding: `${state === 'fenced' ? 'down, or still starting' : 'not registered'}, and has ${has} replicas`,
        cure:
          has > 0
            ? `start it; if it will not come back: stream cluster drain ${nodeId}`
            : `start it; if it will not come back: stream cluster forget ${nodeId}`,
      },
    ]
  })

const unreachable: Look = ({ view, probes, isLocal }) =>
  probes.flatMap(({ nodeId, address, error }): Trouble[] => {
    if (error === undefined) return []
    const isLoopback = /:\/\/(localhost|127\.|\[::1\])/.test(address)
    const led = view.topics
      .flatMap(({ partitions }) => partitions)
      .filter(({ leaderId }) => leaderId === nodeId).length
    const leads = led === 0 ? '' : `; it leads ${countOf(led, 'partition')}`
    return [
      {
        state: 'crit',
        check: 'address',
        target: `broker ${nodeId}`,
        finding: `the cluster says that it lives, but ${address} does not answer from here${leads}`,
        cure:
          isLoopback && !isLocal
            ? 'it advertises an address of its own machine: let it advertise one that clients can reach'
            : 'start it if it is down; else let it advertise an address that clients can reach, or open the way to it',
      },
    ]
  })

const leaderless: Look = ({ view }) => {
  const down = new Set(
    view.brokers.filter(({ state }) => state !== 'live').map(({ nodeId }) => nodeId),
  )
  return perTopic(view, ({ leaderId }) => leaderId < 0).map(({ topic, names, rows }) => {
    const waits = [
      ...new Set(
        rows.flatMap(({ inSyncReplicas, replicas }) =>
          inSyncReplicas.length > 0 ? inSyncReplicas : replicas,
        ),
      ),
    ].filter((nodeId) => down.has(nodeId))
    const start =
      waits.length === 0
        ? 'look into the log of the controller'
        : `start broker ${waits.join(', ')}`
    return {
      state: 'crit' as const,
      check: 'leader',
      target: topic,
      finding: `nobody leads ${names}`,
      cure: `${start}; if it is lost for good: stream cluster elect --unclean --topics ${quoted(topic)}`,
    }
  })
}

/** Reached, and no answer for what it leads: it cannot tell whether it still does, or hangs. */
const unanswered: Look = ({ unanswered: groups }) =>
  groups.map(({ leaderId, topics, isSilent, error }) => {
    const count = [...topics.values()].reduce((sum, { size }) => sum + size, 0)
    const what = `${countOf(count, 'partition')} of ${someNames([...topics.keys()])}`
    const refusal = error.exit === 6 ? error.message : 'it does not serve what it led'
    const why = isSilent ? 'does not answer for its offsets' : refusal
    return {
      state: 'crit' as const,
      check: 'leader',
      target: leaderId < 0 ? 'partitions' : `broker ${leaderId}`,
      finding: `${what}: ${leaderId < 0 ? 'nobody leads them any more' : why}`,
      cure: 'ask again; if it stays so, look into the log of the broker: the metadata store, its disk',
    }
  })

function countOf(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

const underMinInSync: Look = ({ view }) =>
  perTopic(
    view,
    (row, topic) => row.leaderId >= 0 && isUnderMinInSync(row, view.minInSync.get(topic) ?? 1),
  ).map(({ topic, names, rows }) => {
    const least = view.minInSync.get(topic) ?? 1
    const live = view.brokers.filter(({ state }) => state === 'live').length
    const isHopeless = live < Math.min(least, rows[0]?.replicas.length ?? least)
    return {
      state: 'crit' as const,
      check: 'min_isr',
      target: topic,
      finding: `${names} ${rows.length === 1 ? 'refuses' : 'refuse'} records with acks=all: fewer than ${least} replicas in sync`,
      cure: isHopeless
        ? `only ${live === 1 ? '1 broker lives' : `${live} brokers live`}: start the others, or lower it: stream topics alter ${quoted(topic)} --set min.insync.replicas=${live}`
        : 'wait for its replicas to catch up, or start their brokers',
    }
  })

/** With how far it is behind, and whether that gets less. */
const behind: Look = ({ view, storage, later, pauseMs }) => {
  const lagOf = (rows: readonly BrokerStorage[]) =>
    new Map<string, StoredPartition>(
      rows.flatMap(({ nodeId, directories }) =>
        directories.flatMap(({ partitions }) =>
          partitions.map((row) => [`${row.topic}/${row.partition} ${nodeId}`, row] as const),
        ),
      ),
    )
  const [before, after] = [lagOf(storage), lagOf(later)]
  return perTopic(view, isUnderReplicated).map(({ topic, names, rows }) => {
    const missing = rows.flatMap(({ partition, replicas, inSyncReplicas }) =>
      replicas
        .filter((nodeId) => !inSyncReplicas.includes(nodeId))
        .map((nodeId) => ({ nodeId, key: `${topic}/${partition} ${nodeId}` })),
    )
    const brokers = [...new Set(missing.map(({ nodeId }) => nodeId))].sort((a, b) => a - b)
    const lag = missing.reduce((sum, { key }) => sum + (before.get(key)?.lag ?? 0), 0)
    const grown = missing.reduce(
      (sum, { key }) => sum + (after.get(key)?.bytes ?? 0) - (before.get(key)?.bytes ?? 0),
      0,
    )
    const down = brokers.filter(
      (id) => view.brokers.find(({ nodeId }) => nodeId === id)?.state !== 'live',
    )
    const isDown = down.length > 0
    const pace =
      grown > 0
        ? `, catching up with ${formatSize(Math.round((grown * 1000) / pauseMs))}/s`
        : ', and nothing comes in there'
    return {
      state: 'warn' as const,
      check: 'in_sync',
      target: topic,
      finding: `${names} ${rows.length === 1 ? 'lacks' : 'lack'} broker ${brokers.join(', ')} in sync${lag > 0 ? `, ${lag} records behind` : ''}${isDown ? '' : pace}`,
      cure: isDown
        ? `start broker ${down.join(', ')}`
        : grown > 0
          ? `wait: stream topics wait ${quoted(topic)} --in-sync`
          : `look into the log of broker ${brokers.join(', ')}: disk, network, the address of the leader; where it says that a replica has lost records: start it anew with --restored`,
    }
  })
}

const tightMinInSync: Look = ({ view }) => {
  const tight = view.topics.filter(({ name, partitions }) => {
    const factor = partitions[0]?.replicas.length ?? 0
    return factor > 1 && (view.minInSync.get(name) ?? 1) >= factor
  })
  return tight.map(({ name, partitions }) => ({
    state: 'warn' as const,
    check: 'min_isr',
    target: name,
    finding: `min.insync.replicas ${view.minInSync.get(name)} with ${partitions[0]?.replicas.length} replicas: it takes no records while any broker restarts`,
    cure: `stream topics alter ${quoted(name)} --set min.insync.replicas=${Math.max(1, (partitions[0]?.replicas.length ?? 2) - 1)}`,
  }))
}

const singleReplicas: Look = ({ view }) => {
  if (view.brokers.length < 2) return []
  const single = view.topics.filter(({ partitions }) =>
    partitions.some((row) => row.replicas.length < 2),
  )
  if (single.length === 0) return []
  const wanted = Math.min(3, view.brokers.length)
  const own = single.filter(({ name }) => !name.startsWith('__'))
  const globs =
    own.length < single.length ? (own.length > 0 ? ["'*'", "'__*'"] : ["'__*'"]) : ["'*'"]
  return [
    {
      state: 'note',
      check: 'replicas',
      target: 'topics',
      finding: `${single.length} topics with one replica are lost with one disk: ${someNames(single.map(({ name }) => name))}`,
      cure: globs
        .map((glob) => `stream cluster reassign --topics ${glob} --replicas ${wanted}`)
        .join('; '),
    },
  ]
}

const disks: Look = ({ storage, view }) =>
  storage.flatMap(({ nodeId, directories, error }): Trouble[] => {
    const target = `broker ${nodeId}`
    if (error !== undefined && error.code !== 'UNREACHABLE') {
      const cure = 'ask as a user who may describe the cluster'
      return [{ state: 'note', check: 'disk', target, finding: error.message, cure }]
    }
    return directories.flatMap((directory): Trouble[] => {
      const { path, totalBytes, usableBytes } = directory
      if (directory.error !== undefined) {
        return [
          {
            state: 'crit',
            check: 'disk',
            target,
            finding: `${path} has failed: ${directory.error.message}`,
            cure: `replace the disk, then start the broker with an empty directory`,
          },
        ]
      }
      if (totalBytes === undefined || usableBytes === undefined || totalBytes === 0) return []
      const share = usableBytes / totalBytes
      if (share >= DISK_WARN) return []
      const room =
        'keep less (stream topics alter NAME --set retention.ms=N), or add disk or brokers'
      const leads = view.topics.some(({ partitions }) =>
        partitions.some(({ leaderId, replicas }) => leaderId === nodeId && replicas.length > 1),
      )
      // What it leads takes no records then, although the others have room.
      const untilThen =
        leads && share < DISK_CRIT
          ? `; until then let others lead: stream cluster drain ${nodeId} --leaders-only`
          : ''
      return [
        {
          state: share < DISK_CRIT ? 'crit' : 'warn',
          check: 'disk',
          target,
          finding: `${formatSize(usableBytes)} of ${formatSize(totalBytes)} left at ${path}`,
          cure: `${room}${untilThen}`,
        },
      ]
    })
  })

const clocks: Look = ({ latestMs, nowMs }) =>
  [...latestMs]
    .filter(([, timeMs]) => timeMs > nowMs + CLOCK_MS_MAX)
    .map(([topic, timeMs]) => ({
      state: 'warn' as const,
      check: 'clock',
      target: topic,
      finding: `its newest record is stamped ${Math.round((timeMs - nowMs) / 1000)} s in the future as seen from here`,
      cure: 'set the clocks (chrony, ntpd) of its producers, of the brokers and of this machine',
    }))

/** Where a leader's clock is wrong retention deletes too early or too late, and LogAppendTime is wrong. */
const brokerClocks: Look = ({ introductions }) =>
  [...introductions].flatMap(([nodeId, { aheadMs = 0 }]): Trouble[] => {
    if (Math.abs(aheadMs) <= CLOCK_MS_MAX) return []
    const seconds = Math.round(Math.abs(aheadMs) / 1000)
    return [
      {
        state: 'warn',
        check: 'clock',
        target: `broker ${nodeId}`,
        finding: `its clock is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} that of this machine; where it leads, retention.ms goes by it`,
        cure: 'set the clock (chrony, ntpd) of its host, or of this machine',
      },
    ]
  })

const mixedVersions: Look = ({ introductions, probes }) => {
  const groups = new Map<string, number[]>()
  for (const { nodeId, signature } of probes) {
    const version = introductions.get(nodeId)?.version ?? signature
    if (version !== undefined) groups.set(version, [...(groups.get(version) ?? []), nodeId])
  }
  if (groups.size < 2) return []
  const words = [...groups].map(([version, ids]) =>
    introductions.size > 0 ? `${version} at ${ids.join(', ')}` : ids.join(', '),
  )
  return [
    {
      state: 'warn',
      check: 'version',
      target: 'brokers',
      finding: `of different versions: ${words.join(' | ')}`,
      cure: 'fine during an upgrade; finish it, one broker at a time',
    },
  ]
}

const unpreferred: Look = ({ view }) => {
  const all = view.topics.flatMap(({ partitions }) => partitions)
  const count = all.filter(isLedByOther).length
  if (count === 0 || count / all.length <= UNPREFERRED_SHARE) return []
  return [
    {
      state: 'note',
      check: 'preferred',
      target: 'partitions',
      finding: `${count} of ${all.length} are led by another than their preferred replica`,
      cure: 'stream cluster elect',
    },
  ]
}

const moving: Look = ({ view }) =>
  view.moves === undefined || view.moves.length === 0
    ? []
    : [
        {
          state: 'note',
          check: 'moving',
          target: 'partitions',
          finding: `${view.moves.length} are on their way to other brokers`,
          cure: "stream cluster reassign --topics '*' --wait, or --cancel",
        },
      ]

const looks: readonly Look[] = [
  store,
  controller,
  brokersDown,
  unreachable,
  leaderless,
  unanswered,
  underMinInSync,
  disks,
  behind,
  tightMinInSync,
  clocks,
  brokerClocks,
  mixedVersions,
  singleReplicas,
  unpreferred,
  moving,
]

interface TopicRows {
  readonly topic: string
  readonly names: string
  readonly rows: readonly ClusterView['topics'][number]['partitions'][number][]
}

function perTopic(
  { topics }: ClusterView,
  holds: (row: TopicRows['rows'][number], topic: string) => boolean,
): TopicRows[] {
  return topics.flatMap(({ name, partitions }): TopicRows[] => {
    const rows = partitions.filter((row) => holds(row, name))
    if (rows.length === 0) return []
    const all = rows.length === partitions.length && rows.length > NAMED_MAX
    const list = someNames(rows.map(({ partition }) => String(partition)))
    const names = all
      ? `all ${rows.length} partitions`
      : `partition${rows.length > 1 ? 's' : ''} ${list}`
    return [{ topic: name, names, rows }]
  })
}

function quoted(name: string): string {
  return /^[\w.-]+$/.test(name) ? name : `'${name}'`
}
