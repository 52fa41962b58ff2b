/**
 * One round: topics of its own, clients through both doors, faults for a while, then calm. Every partition must come to have all its
 * replicas in sync and every producer to be told about all it sent; then everything is judged (verdict.ts), on running and on stopped
 * daemons. The daemons run again when it ends.
 */
import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { SimRandom } from '../sim/sim-random.ts'
import { repository } from '../support/program.ts'
import type { ClientPlan } from './client.ts'
import { ClientHistory } from './client-events.ts'
import { type FaultKind, faultKinds, planFaults } from './faults.ts'
import type { HostsCluster } from './hosts-cluster.ts'
import { Nemesis } from './nemesis.ts'
import {
  checkDirectories,
  compareReplicas,
  judgeRecords,
  judgeTransactions,
  readAll,
} from './verdict.ts'

const PARTITIONS = 3
const TRANSACTION_PARTITIONS = 2
/** After the last fault: how long the cluster may take until all is well. */
const HEALTHY_MS = 60_000
const DELIVERED_MS = 90_000

export interface RoundOptions {
  readonly seed: string
  readonly lengthMs: number
  readonly sessionMs: number
  /** Leaves out every fault but these; a selection by the seed when absent. */
  readonly only?: readonly FaultKind[]
  readonly say: (text: string) => void
}

export interface RoundResult {
  readonly seed: string
  readonly faults: ReadonlyMap<FaultKind, number>
  readonly acknowledged: number
  readonly transactions: number
  readonly comparedBytes: number
  readonly anomalies: readonly string[]
  /** Ends of daemons that nobody asked for, and what clients complained of: told, not judged. */
  readonly remarks: readonly string[]
  readonly recoveryMs: number
}

export async function playRound(
  cluster: HostsCluster,
  { seed, lengthMs, sessionMs, only, say }: RoundOptions,
): Promise<RoundResult> {
  const random = new SimRandom(seed)
  // Each round has its own selection: all faults at once hide each other.
  const kinds = only ?? faultKinds.filter(() => random.chance(0.5))
  const faults = planFaults(random, {
    daemons: cluster.daemons.length,
    lengthMs,
    kinds: kinds.length === 0 ? faultKinds : kinds,
    sessionMs,
  })
  const topic = `numbers-${seed.replace(/[^\w.-]/g, '-')}`
  const paid = `paid-${seed.replace(/[^\w.-]/g, '-')}`
  await createTopics(cluster, topic, paid, random)
  const endsBefore = cluster.ownEnds.length
  const history = new ClientHistory()
  const plan = planOf(cluster, topic, paid)
  const readers = plan.readers.map(({ name }) => name)
  const clients = startClients(cluster, history, plan)
  const anomalies: string[] = []
  const remarks: string[] = []
  const nemesis = new Nemesis(cluster, say)
  let recoveryMs = 0
  try {
    await nemesis.play(faults, lengthMs)
    const calmMs = performance.now()
    await cluster.until(() => isHealthy(cluster), `seed ${seed}: healthy`, HEALTHY_MS)
    recoveryMs = performance.now() - calmMs
    clients.process.stdin?.write('end\n')
    await within(clients.idle, DELIVERED_MS, `seed ${seed}: all producers have ended`)
    const found = await readAll(cluster, topic, 'tcp')
    const again = await readAll(cluster, topic, 'kafka')
    if (JSON.stringify(found) !== JSON.stringify(again))
      anomalies.push('the two doors do not read the same records')
    await untilReadersAreThrough(history, readers, found.length)
    anomalies.push(...judgeRecords(history, topic, found, readers))
    const paidFound = await readAll(cluster, paid, 'kafka')
    anomalies.push(...judgeTransactions(history, paidFound, TRANSACTION_PARTITIONS))
  } catch (error) {
    anomalies.push(`stuck: ${error instanceof Error ? error.message : String(error)}`)
  } finally {
    clients.process.kill('SIGKILL')
    await nemesis.calm()
  }
  for (const daemon of cluster.daemons) {
    const status = await cluster.end(daemon, 'SIGTERM')
    if (status !== 0) anomalies.push(`daemon ${daemon.nodeId} ended with ${status} at SIGTERM`)
  }
  const { anomalies: differences, bytes } = compareReplicas(cluster)
  anomalies.push(...differences, ...(await checkDirectories(cluster)))
  for (const { nodeId, status, lastLine } of cluster.ownEnds.slice(endsBefore))
    remarks.push(`daemon ${nodeId} ended by itself with ${status}: ${lastLine}`)
  anomalies.push(...crashes(cluster))
  for (const daemon of cluster.daemons) {
    daemon.log = ''
    cluster.run(daemon)
  }
  await cluster.untilLive()
  remarks.push(...new Set(history.errors.map((text) => `client: ${text}`)))
  return {
    seed,
    faults: nemesis.applied,
    acknowledged: history.acknowledged(),
    transactions: history.transactions.filter(({ outcome }) => outcome === 'committed').length,
    comparedBytes: bytes,
    anomalies,
    remarks,
    recoveryMs,
  }
}

async function createTopics(
  cluster: HostsCluster,
  topic: string,
  paid: string,
  random: SimRandom,
): Promise<void> {
  const segment = random.pick([20_000, 200_000, 100_000_000])
  const words = `--if-not-exists --replicas 3 --set internal.segment.bytes=${segment}`
  await cluster.stream(`topics create ${topic} --partitions ${PARTITIONS} ${words}`)
  await cluster.stream(`topics create ${paid} --partitions ${TRANSACTION_PARTITIONS} ${words}`)
}

function planOf(cluster: HostsCluster, topic: string, paid: string): ClientPlan {
  return {
    native: cluster.addresses('tcp'),
    kafka: cluster.addresses('kafka').slice('kafka://'.length).split(','),
    topic,
    partitions: PARTITIONS,
    producers: [
      { kind: 'native', name: 'n0', burst: 3, pauseMs: 20 },
      { kind: 'native', name: 'n1', burst: 40, pauseMs: 400 },
      { kind: 'kafkajs', name: 'k0', burst: 5, pauseMs: 20 },
    ],
    readers: [
      { kind: 'native', name: 'reader' },
      { kind: 'kafkajs-group', name: `group-${topic}` },
    ],
    transactions: [
      { name: `pay-${topic}`, topic: paid, partitions: TRANSACTION_PARTITIONS, pauseMs: 50 },
    ],
  }
}

export interface Clients {
  readonly process: ChildProcess
  /** Resolves when all producers have ended. */
  readonly idle: Promise<void>
}

export function startClients(
  cluster: HostsCluster,
  history: ClientHistory,
  plan: ClientPlan,
): Clients {
  const script = join(repository, 'test/netns/client.ts')
  const child = cluster.startOnClients([process.execPath, script, JSON.stringify(plan)])
  let said = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-5000)
  })
  const idle = new Promise<void>((resolve, reject) => {
    if (child.stdout === null) throw new Error('no output of the clients')
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line === 'idle') resolve()
      else history.take(line)
    })
    child.once('close', (status) => reject(new Error(`the clients ended with ${status}: ${said}`)))
  })
  idle.catch(() => undefined)
  return { process: child, idle }
}

/** Every replica of every partition, internal ones too, is in sync. */
export async function isHealthy(cluster: HostsCluster): Promise<boolean> {
  const shown = await cluster.shell(
    `stream --broker ${cluster.addresses('tcp')} cluster status --json`,
    20_000,
  )
  if (shown.status !== 0) return false
  const status = JSON.parse(shown.stdout) as Record<string, number>
  return ['under_replicated', 'unavailable', 'moving'].every((key) => status[key] === 0)
}

/** Readers have no end; they are given a while to come to it. */
async function untilReadersAreThrough(
  history: ClientHistory,
  readers: readonly string[],
  count: number,
): Promise<void> {
  const deadlineMs = performance.now() + DELIVERED_MS
  while (readers.some((reader) => (history.read.get(reader)?.size ?? 0) < count)) {
    if (performance.now() > deadlineMs) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

async function within<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${timeoutMs} ms: ${what}`)), timeoutMs)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** A stack trace in a daemon's log is a programmer's error. */
function crashes(cluster: HostsCluster): string[] {
  return cluster.daemons.flatMap(({ nodeId, log }) => {
    const at = log.search(/\n {4}at /)
    return at < 0 ? [] : [`daemon ${nodeId} broke: ${log.slice(Math.max(0, at - 400), at + 300)}`]
  })
}
