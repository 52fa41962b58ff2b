/**
 * `npm run sim -- [--brokers N [--scrub] | --links | --operations] [--seeds N] [--first N] [--seed N] [--only FAULT,FAULT]`:
 * simulated runs beyond those of the test suite, of a single daemon, with --brokers of a cluster, with --links of a mirror between
 * two, with --operations of a daemon's transactions and groups. With --scrub the daemons of a cluster read their logs, and compare
 * them with their leaders', all the time. With --seed one run with its whole trace (of links: what became of it); else a line for
 * each failing seed and a summary.
 */
import { parseArgs } from 'node:util'
import { runCluster } from './cluster-run.ts'
import type { ClusterFault } from './cluster-trouble.ts'
import { type FaultName, runDaemon } from './daemon-run.ts'
import { runLink } from './link-run.ts'
import { runOperations } from './operations-run.ts'
import { runSeeds, type SeedResult } from './seeds.ts'

const { values } = parseArgs({
  options: {
    brokers: { type: 'string', default: '1' },
    links: { type: 'boolean', default: false },
    seeds: { type: 'string', default: '10000' },
    first: { type: 'string', default: '0' },
    seed: { type: 'string' },
    only: { type: 'string' },
    operations: { type: 'boolean', default: false },
    scrub: { type: 'boolean', default: false },
  },
})
const brokers = Number(values.brokers)
const faults = values.only?.split(',')

async function playLink(seed: number): Promise<SeedResult> {
  const { trace, failure, kills, records } = await runLink(seed)
  const anomalies = failure === undefined ? [] : [{ kind: 'mirror', detail: failure }]
  return { traceHash: trace, anomalies, fired: { kills }, records, events: 0, trace: [] }
}

function play(seed: number, keepsTrace: boolean): Promise<SeedResult> {
  if (values.links) return playLink(seed)
  if (values.operations) return runOperations(seed, { keepsTrace })
  if (brokers === 1) {
    const only = faults as FaultName[] | undefined
    return runDaemon(seed, { keepsTrace, ...(only && { only }) })
  }
  const only = faults as ClusterFault[] | undefined
  return runCluster(seed, { brokers, keepsTrace, scrubs: values.scrub, ...(only && { only }) })
}

if (values.seed !== undefined) {
  const result = await play(Number(values.seed), true)
  for (const line of result.trace) process.stdout.write(`${line}\n`)
  for (const { kind, detail } of result.anomalies) {
    process.stdout.write(`ANOMALY ${kind}: ${detail}\n`)
  }
  const { anomalies, events, records, traceHash } = result
  process.stdout.write(
    `seed ${values.seed}: ${anomalies.length} anomalies, ${events} events, ${records} records, trace ${traceHash}\n`,
  )
  process.exitCode = anomalies.length === 0 ? 0 : 1
} else {
  // Stacks cost a tenth of the time; the replay of a seed has them.
  Error.stackTraceLimit = 0
  const begin = performance.now()
  const seeds = Number(values.seeds)
  const result = await runSeeds((seed) => play(seed, false), Number(values.first), seeds, seeds)
  for (const failure of result.failures) process.stdout.write(`${failure}\n`)
  const seconds = ((performance.now() - begin) / 1000).toFixed(0)
  const many = brokers === 1 ? 'a single daemon' : `${brokers} daemons`
  const who = values.links ? 'a mirror' : many
  process.stdout.write(
    `${result.seeds} seeds from ${values.first} with ${who}, ${result.failures.length} failing, ${result.events} events, ${result.records} records, ${seconds} s; faults: ${JSON.stringify(result.fired)}\n`,
  )
  process.exitCode = result.failures.length === 0 ? 0 : 1
}
