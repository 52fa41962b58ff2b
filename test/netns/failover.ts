/**
 * `npm run failover [-- --save] [--sessions 3,10] [--repeats N] [--only NAME,NAME]`: what a fault costs steady clients, on three
 * daemons and an etcd in network namespaces. A producer sends to one partition every 10 ms and never waits for an answer, a consumer
 * follows; the figure is the longest time between two acknowledgements, or two records read, from the fault on. With --save the table
 * goes to test/netns/FAILOVER.md.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { repository } from '../support/program.ts'
import { ClientHistory } from './client-events.ts'
import { type FailoverFault, failoverFaults } from './failover-faults.ts'
import { HostsCluster, noHosts } from './hosts-cluster.ts'
import { isHealthy, startClients } from './round.ts'

const STEADY_MS = 2500
const SETTLED_MS = 3000
const OUTAGE_MS_MAX = 60_000
const HEALTHY_MS = 60_000

const { values } = parseArgs({
  options: {
    sessions: { type: 'string', default: '10,3' },
    repeats: { type: 'string', default: '3' },
    only: { type: 'string' },
    save: { type: 'boolean', default: false },
  },
})

/** Longest gaps in ms, by who. */
type Gaps = Map<string, number>

interface Row {
  readonly fault: FailoverFault
  readonly sessionMs: number
  readonly gaps: Gaps
}

const why = noHosts()
if (why !== undefined) {
  process.stderr.write(`failover: cannot run here: ${why}\n`)
  process.exit(1)
}
const sessions = values.sessions.split(',').map((text) => Number(text) * 1000)
const chosen = failoverFaults.filter(
  ({ name }) => values.only === undefined || values.only.split(',').includes(name),
)
const rows: Row[] = []
let cluster: HostsCluster | undefined
process.once('SIGINT', () => void cluster?.stop().finally(() => process.exit(130)))
process.once('SIGTERM', () => void cluster?.stop().finally(() => process.exit(143)))
for (const sessionMs of sessions) {
  try {
    cluster = await HostsCluster.start({ config: [`broker.session.timeout.ms=${sessionMs}`] })
    for (const fault of chosen) {
      const gaps: Gaps = new Map()
      for (let repeat = 0; repeat < Number(values.repeats); repeat++) {
        for (const [who, gapMs] of await tryMeasure(cluster, fault, sessionMs))
          gaps.set(who, Math.max(gapMs, gaps.get(who) ?? 0))
      }
      rows.push({ fault, sessionMs, gaps })
      const shown = [...gaps].map(([who, gapMs]) => `${who} ${Math.round(gapMs)} ms`)
      process.stdout.write(`session ${sessionMs / 1000} s, ${fault.what}: ${shown.join(', ')}\n`)
      if (values.save) writeFileSync(join(repository, 'test/netns/FAILOVER.md'), table())
    }
  } finally {
    await cluster?.stop()
  }
}

async function measure(
  hosts: HostsCluster,
  fault: FailoverFault,
  sessionMs: number,
): Promise<Gaps> {
  const topic = `steady-${Date.now()}`
  const create = `topics create ${topic} --if-not-exists --partitions 3 -r 3`
  const creates = async (): Promise<boolean> =>
    (await hosts.shell(`stream --broker ${hosts.addresses('tcp')} ${create}`)).status === 0
  await hosts.until(creates, 'a topic is made')
  // The internal topics come with their first use; then it is known who coordinates what.
  const address = `stream --broker ${hosts.addresses('tcp')}`
  if (fault.withGroup) await hosts.ok(`${address} consume ${topic} -g first --until-end`)
  if (fault.withTransactions) await hosts.ok(`echo 0 | ${address} produce ${topic} --atomic`)
  const history = new ClientHistory()
  const group = `group-${topic}`
  const names = { topic, group, transactionalId: `pay-${topic}` }
  const { nodeId, partition } = await fault.find(hosts, names)
  const clients = startClients(hosts, history, {
    native: hosts.addresses('tcp'),
    kafka: hosts.addresses('kafka').slice('kafka://'.length).split(','),
    topic,
    partitions: 3,
    producers: [
      { kind: 'native', name: 'producer', burst: 1, pauseMs: 10, partition },
      { kind: 'kafkajs', name: 'kafkajs', burst: 1, pauseMs: 10, partition },
    ],
    readers: [{ kind: 'native', name: 'consumer' }],
    transactions: fault.withTransactions
      ? [{ name: `pay-${topic}`, topic, partitions: 1, pauseMs: 10 }]
      : [],
  })
  const member = fault.withGroup ? startMember(hosts, topic, group, history) : undefined
  try {
    await hosts.until(
      async () => (history.times.get('consumer')?.length ?? 0) > 50,
      `${fault.what}: clients are at work`,
    )
    const daemon = hosts.daemon(nodeId)
    await pause(STEADY_MS)
    const strikeMs = now()
    const undo = await fault.strike(hosts, daemon, sessionMs)
    await untilSteady(history, strikeMs)
    const endMs = now()
    await undo()
    clients.process.stdin?.write('end\n')
    for (const text of new Set(history.errors)) process.stdout.write(`  ${text}\n`)
    return longestGaps(history, strikeMs, endMs)
  } finally {
    clients.process.kill('SIGKILL')
    member?.kill('SIGKILL')
    await repair(hosts)
  }
}

function startMember(hosts: HostsCluster, topic: string, group: string, history: ClientHistory) {
  const words = `stream --broker ${hosts.addresses('tcp')} consume ${topic} -g ${group} --from start`
  const child = hosts.startOnClients(['bash', '-c', `exec ${words} -F '%p %o\\n'`])
  if (child.stdout === null) throw new Error('no output')
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [partition, offset] = line.split(' ')
    history.take(`read group ${partition} ${offset} ${now()} x`)
  })
  return child
}

/** Everybody gets something again, for a while on end. */
async function untilSteady(history: ClientHistory, strikeMs: number): Promise<void> {
  const giveUpMs = strikeMs + OUTAGE_MS_MAX
  // A fault takes its time to be felt.
  let calmSinceMs = now() + 2000
  while (now() < giveUpMs && now() - calmSinceMs < SETTLED_MS) {
    await pause(100)
    for (const times of history.times.values()) {
      if (now() - (times.at(-1) ?? 0) > 800) calmSinceMs = now()
    }
  }
}

function longestGaps(history: ClientHistory, strikeMs: number, endMs: number): Gaps {
  const gaps: Gaps = new Map()
  for (const [who, times] of history.times) {
    const before = times.findLast((at) => at < strikeMs) ?? strikeMs
    const near = [before, ...times.filter((at) => at >= strikeMs && at <= endMs), endMs]
    let longest = 0
    for (let index = 1; index < near.length; index++)
      longest = Math.max(longest, (near[index] ?? 0) - (near[index - 1] ?? 0))
    const [name = who] = who.split('.')
    const shown = name.startsWith('pay-') ? 'transactions' : name
    gaps.set(shown, Math.max(longest, gaps.get(shown) ?? 0))
  }
  return gaps
}

/** A fault that could not be measured leaves its place empty; the others go on. */
async function tryMeasure(
  hosts: HostsCluster,
  fault: FailoverFault,
  sessionMs: number,
): Promise<Gaps> {
  try {
    return await measure(hosts, fault, sessionMs)
  } catch (error) {
    process.stdout.write(`${fault.what} could not be measured: ${String(error).slice(0, 500)}\n`)
    process.exitCode = 1
    return new Map()
  }
}

async function repair(hosts: HostsCluster): Promise<void> {
  hosts.network.heal()
  hosts.signalEtcd('SIGCONT')
  await hosts.startEtcd()
  for (const daemon of hosts.daemons) {
    hosts.signal(daemon, 'SIGCONT')
    hosts.run(daemon)
  }
  await hosts.untilLive()
  await hosts.until(() => isHealthy(hosts), 'all is well again', HEALTHY_MS)
}

function now(): number {
  return performance.timeOrigin + performance.now()
}

function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs))
}

function table(): string {
  const who = ['producer', 'consumer', 'kafkajs', 'group', 'transactions'] as const
  const titles = ['our producer', 'our consumer', "kafkajs's producer", 'our group', 'transactions']
  const show = (row: Row, name: string): string => {
    const gapMs = row.gaps.get(name)
    if (gapMs === undefined) return ''
    return gapMs < 1000 ? `${Math.round(gapMs)} ms` : `${(gapMs / 1000).toFixed(1)} s`
  }
  const lines = rows.map(
    (row) =>
      `| ${row.fault.what} | ${row.sessionMs / 1000} s | ${who.map((name) => show(row, name)).join(' | ')} |`,
  )
  return [
    '# Last run of `npm run failover`',
    '',
    `${new Date().toISOString().slice(0, 10)}, Node ${process.version}, two cores for all: three daemons, an etcd, the clients. A topic with three replicas, \`min.insync.replicas\` 2,`,
    `acks=all. A producer sends to the partition that is struck every 10 ms; the longest time between two acknowledgements (two records`,
    `read, two transactions committed) of ${values.repeats} tries. The session is \`broker.session.timeout.ms\`.`,
    '',
    `| fault | session | ${titles.join(' | ')} |`,
    `| --- | --- | ${titles.map(() => '---').join(' | ')} |`,
    ...lines,
    '',
  ].join('\n')
}
