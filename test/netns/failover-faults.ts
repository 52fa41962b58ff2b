/** The faults whose cost `npm run failover` measures: whom each strikes, how, and how it is taken back. */
import type { DaemonHost, HostsCluster } from './hosts-cluster.ts'

const HOLD_MS = 15_000

export interface FailoverNames {
  readonly topic: string
  readonly group: string
  readonly transactionalId: string
}

export interface FailoverFault {
  readonly name: string
  readonly what: string
  readonly withGroup?: boolean
  readonly withTransactions?: boolean
  /** The daemon to strike, and the partition that the clients work on. */
  find(cluster: HostsCluster, names: FailoverNames): Promise<{ nodeId: number; partition: number }>
  /** @returns what takes it back */
  strike(cluster: HostsCluster, daemon: DaemonHost, sessionMs: number): Promise<() => Promise<void>>
}

const nothing = (): Promise<void> => Promise.resolve()

const kill: FailoverFault['strike'] = async (cluster, daemon) => {
  await cluster.end(daemon, 'SIGKILL')
  return nothing
}

export const failoverFaults: readonly FailoverFault[] = [
  { name: 'kill', what: 'leader, kill -9', find: leader('plain'), strike: kill },
  {
    name: 'kill-controller',
    what: 'leader that is the controller too, kill -9',
    find: leader('controller'),
    strike: kill,
  },
  {
    name: 'pause',
    what: 'leader, SIGSTOP',
    find: leader('plain'),
    strike: async (cluster, daemon) => {
      cluster.signal(daemon, 'SIGSTOP')
      return async () => cluster.signal(daemon, 'SIGCONT')
    },
  },
  {
    name: 'cut-etcd',
    what: 'leader cut from etcd',
    find: leader('plain'),
    strike: async (cluster, daemon, sessionMs) => {
      cluster.network.cut(daemon.host, cluster.etcdHost)
      cluster.network.cut(cluster.etcdHost, daemon.host)
      await pause(sessionMs)
      return async () => cluster.network.heal()
    },
  },
  {
    name: 'cut-peers',
    what: `leader cut from its followers for ${HOLD_MS / 1000} s`,
    find: leader('plain'),
    strike: async (cluster, daemon) => {
      for (const other of cluster.daemons) {
        if (other === daemon) continue
        cluster.network.cut(daemon.host, other.host)
        cluster.network.cut(other.host, daemon.host)
      }
      await pause(HOLD_MS)
      cluster.network.heal()
      return nothing
    },
  },
  {
    name: 'isolate',
    what: 'leader cut from everybody',
    find: leader('plain'),
    strike: async (cluster, daemon) => {
      const others = cluster.daemons.filter((other) => other !== daemon).map(({ host }) => host)
      for (const host of [...others, cluster.etcdHost, cluster.clients]) {
        cluster.network.cut(daemon.host, host)
        cluster.network.cut(host, daemon.host)
      }
      return async () => cluster.network.heal()
    },
  },
  {
    name: 'stop',
    what: 'leader, planned stop',
    find: leader('plain'),
    strike: async (cluster, daemon) => {
      await cluster.end(daemon, 'SIGTERM')
      return nothing
    },
  },
  {
    name: 'etcd',
    what: 'the only etcd, kill -9 and started again',
    find: leader('plain'),
    strike: async (cluster) => {
      await cluster.killEtcd()
      await cluster.startEtcd()
      return nothing
    },
  },
  {
    name: 'etcd-away',
    what: `the only etcd away for ${HOLD_MS / 1000} s`,
    find: leader('plain'),
    strike: async (cluster) => {
      await cluster.killEtcd()
      await pause(HOLD_MS)
      await cluster.startEtcd()
      return nothing
    },
  },
  {
    name: 'group-coordinator',
    what: "a group's coordinator, kill -9",
    withGroup: true,
    find: coordinator('__consumer_offsets', ({ group }) => group),
    strike: kill,
  },
  {
    name: 'transaction-coordinator',
    what: "a transaction's coordinator, kill -9",
    withTransactions: true,
    find: coordinator('__transaction_state', ({ transactionalId }) => transactionalId),
    strike: kill,
  },
]

interface Led {
  readonly partition: number
  readonly leader: number
}

async function leaders(cluster: HostsCluster, topic: string): Promise<readonly Led[]> {
  const shown = await cluster.shell(
    `stream --broker ${cluster.addresses('tcp')} topics describe ${topic} --json`,
  )
  if (shown.status !== 0) return []
  return (JSON.parse(shown.stdout) as { readonly detail: readonly Led[] }).detail
}

async function controllerId(cluster: HostsCluster): Promise<number> {
  const status = JSON.parse(await cluster.stream('cluster status --json')) as {
    readonly controller: number
  }
  return status.controller
}

function leader(role: 'plain' | 'controller'): FailoverFault['find'] {
  return async (cluster, { topic }) => {
    const controller = await controllerId(cluster)
    const rows = await leaders(cluster, topic)
    const row = rows.find((each) => (each.leader === controller) === (role === 'controller'))
    if (row === undefined) throw new Error(`no ${role} leader: ${JSON.stringify(rows)}`)
    return { nodeId: row.leader, partition: row.partition }
  }
}

/** The coordinator of a name; the clients work on a partition that another daemon leads. */
function coordinator(
  internal: string,
  nameOf: (names: FailoverNames) => string,
): FailoverFault['find'] {
  return async (cluster, names) => {
    const data = await leaders(cluster, names.topic)
    const shards = await leaders(cluster, internal)
    const shard = shards[Math.abs(hashOf(nameOf(names))) % shards.length]
    if (shard === undefined) throw new Error(`${internal} has no partitions yet`)
    const nodeId = shard.leader
    const other = data.find((each) => each.leader !== nodeId)
    return { nodeId, partition: other?.partition ?? 0 }
  }
}

/** Java's String.hashCode, by which Kafka spreads names over coordinators. */
function hashOf(name: string): number {
  let hash = 0
  for (const unit of name) hash = (Math.imul(hash, 31) + unit.charCodeAt(0)) | 0
  return hash === -0x80000000 ? 0 : hash
}

function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs))
}
