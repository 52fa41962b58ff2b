/**
 * `npm run sim:cluster -- [--brokers N] [--seeds N] [--first N] [--seed N]`: simulated clusters beyond those of the test suite.
 * With --seed one run with its whole trace; else a line for each failing seed and a summary.
 */
import { parseArgs } from 'node:util'
import { runCluster } from './cluster-run.ts'
import { runClusterSeeds } from './cluster-seeds.ts'

const { values } = parseArgs({
  options: {
    brokers: { type: 'string', default: '3' },
    seeds: { type: 'string', default: '10000' },
    first: { type: 'string', default: '0' },
    seed: { type: 'string' },
  },
})
const brokers = Number(values.brokers)

if (values.seed !== undefined) {
  const result = await runCluster(Number(values.seed), { brokers, keepsTrace: true })
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
  const begin = performance.now()
  const seeds = Number(values.seeds)
  const result = await runClusterSeeds(Number(values.first), seeds, { brokers }, seeds)
  for (const failure of result.failures) process.stdout.write(`${failure}\n`)
  const seconds = ((performance.now() - begin) / 1000).toFixed(0)
  process.stdout.write(
    `${result.seeds} seeds from ${values.first} with ${brokers} daemons, ${result.failures.length} failing, ${result.events} events, ${result.records} records, ${seconds} s; faults: ${JSON.stringify(result.fired)}\n`,
  )
  process.exitCode = result.failures.length === 0 ? 0 : 1
}
