/**
 * `npm run netns [-- --minutes N --seed S --only KIND,KIND]`: rounds of faults over three daemons and an etcd in network namespaces,
 * a seed each, until the time is over. With --save the result goes to test/netns/RESULTS.md. Exit 1 if anything was found.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { repository } from '../support/program.ts'
import { type FaultKind, faultKinds } from './faults.ts'
import { HostsCluster, noHosts } from './hosts-cluster.ts'
import { playRound, type RoundResult } from './round.ts'
import { shorten } from './verdict.ts'

const ROUND_MS = 40_000
const SESSIONS_MS = [3000, 10_000]
/** A cluster lives so many rounds. */
const ROUNDS_OF_CLUSTER = 4

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '2' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
    save: { type: 'boolean', default: false },
  },
})
const why = noHosts()
if (why !== undefined) {
  process.stderr.write(`netns: cannot run here: ${why}\n`)
  process.exit(1)
}
const only = values.only?.split(',').map((name) => {
  const kind = faultKinds.find((each) => each === name)
  if (kind === undefined) throw new Error(`--only ${name}: one of ${faultKinds.join(', ')}`)
  return kind
})
const say = (text: string): void => {
  process.stdout.write(`${new Date().toISOString().slice(11, 23)} ${text}\n`)
}

const endMs = performance.now() + Number(values.minutes) * 60_000
const startedMs = performance.now()
const results: RoundResult[] = []
const broken: string[] = []
let cluster: HostsCluster | undefined
process.once('SIGINT', () => void cluster?.stop().finally(() => process.exit(130)))
process.once('SIGTERM', () => void cluster?.stop().finally(() => process.exit(143)))
try {
  for (let round = 0; performance.now() < endMs; round++) {
    const sessionMs = SESSIONS_MS[Math.floor(round / ROUNDS_OF_CLUSTER) % 2] ?? 3000
    if (cluster === undefined || round % ROUNDS_OF_CLUSTER === 0) {
      await cluster?.stop()
      const config = [`broker.session.timeout.ms=${sessionMs}`, 'replica.lag.time.max.ms=5000']
      cluster = await HostsCluster.start({ config })
    }
    const seed = `${values.seed}.${round}`
    say(`round ${seed}, session ${sessionMs} ms`)
    const options = { seed, lengthMs: ROUND_MS, sessionMs, say }
    try {
      const result = await playRound(cluster, only === undefined ? options : { ...options, only })
      results.push(result)
      say(describe(result))
      for (const text of shorten(result.remarks)) say(`  remark: ${text}`)
      for (const text of shorten(result.anomalies)) say(`  ANOMALY ${text}`)
      if (result.anomalies.length > 0) process.exitCode = 1
    } catch (error) {
      // The round could not be played to its end: that is a finding, and the next one begins with a new cluster.
      say(`  ANOMALY round ${seed}: ${String(error)}`)
      broken.push(`- round ${seed}: ${String(error).split('\n').slice(0, 3).join(' ')}`)
      process.exitCode = 1
      await cluster.stop()
      cluster = undefined
    }
    if (values.save) save()
  }
} finally {
  await cluster?.stop()
}

function describe(result: RoundResult): string {
  const faults = [...result.faults].map(([kind, count]) => `${kind} ${count}`).join(', ')
  return [
    `${result.seed}: ${result.acknowledged} records acknowledged`,
    `${result.transactions} transactions, ${result.comparedBytes} bytes the same on all replicas`,
    `healthy after ${Math.round(result.recoveryMs)} ms; ${faults}`,
    `${result.anomalies.length} anomalies`,
  ].join('; ')
}

function save(): void {
  const sum = (of: (result: RoundResult) => number): number =>
    results.reduce((total, result) => total + of(result), 0)
  const faults = new Map<FaultKind, number>()
  for (const result of results) {
    for (const [kind, count] of result.faults) faults.set(kind, (faults.get(kind) ?? 0) + count)
  }
  const found = results.flatMap(({ seed, anomalies: rows }) =>
    shorten(rows).map((text) => `- round ${seed}: ${text}`),
  )
  const anomalies = [...found, ...broken]
  const minutes = Math.round((performance.now() - startedMs) / 60_000)
  const command = `npm run netns -- --minutes ${values.minutes} --seed ${values.seed} --save`
  const text = `# Last run of \`npm run netns\`

${new Date().toISOString().slice(0, 10)}, Node ${process.version}, \`${command}\`: ${results.length} rounds in ${minutes} minutes, three daemons and an etcd
as processes in network namespaces, clients of the native door (our library and commands) and of Kafka's door (kafkajs: producer,
group, transactions). Faults for ${ROUND_MS / 1000} s a round, then calm; sessions of ${SESSIONS_MS.map((each) => `${each / 1000} s`).join(' and ')} in turn.

| what | so many |
| --- | --- |
| records acknowledged | ${sum(({ acknowledged }) => acknowledged)} |
| transactions committed | ${sum(({ transactions }) => transactions)} |
| bytes of logs compared on all replicas | ${sum(({ comparedBytes }) => comparedBytes)} |
| longest time from the last fault until all replicas were in sync | ${Math.round(Math.max(0, ...results.map(({ recoveryMs }) => recoveryMs)))} ms |
${[...faults].map(([kind, count]) => `| fault: ${kind} | ${count} |`).join('\n')}

Findings: ${anomalies.length === 0 ? 'none. Nothing acknowledged was lost, nothing stood twice, order held, the replicas had the same bytes.' : `\n\n${anomalies.join('\n')}`}

What is injected and how: \`test/netns/faults.ts\`, \`test/netns/loop-disk.ts\`; what is judged: \`test/netns/verdict.ts\`.
`
  writeFileSync(join(repository, 'test/netns/RESULTS.md'), text)
}
