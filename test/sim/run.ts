/**
 * `npm run sim -- [--seeds N] [--first N] [--seed N]`: simulated runs beyond those of the test suite. With --seed one run with its
 * whole trace; else a line for each failing seed and a summary.
 */
import { parseArgs } from 'node:util'
import { runDaemon } from './daemon-run.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '10000' },
    first: { type: 'string', default: '0' },
    seed: { type: 'string' },
  },
})

if (values.seed !== undefined) {
  const result = await runDaemon(Number(values.seed), { keepsTrace: true })
  for (const line of result.trace) process.stdout.write(`${line}\n`)
  for (const anomaly of result.anomalies)
    process.stdout.write(`ANOMALY ${anomaly.kind}: ${anomaly.detail}\n`)
  process.stdout.write(
    `seed ${values.seed}: ${result.anomalies.length} anomalies, ${result.events} events, ${result.records} records, trace ${result.traceHash}\n`,
  )
  process.exitCode = result.anomalies.length === 0 ? 0 : 1
} else {
  const from = Number(values.first)
  const to = from + Number(values.seeds)
  const fired: Record<string, number> = {}
  let failures = 0
  let events = 0
  const begin = performance.now()
  for (let seed = from; seed < to; seed++) {
    try {
      const result = await runDaemon(seed)
      events += result.events
      for (const [name, times] of Object.entries(result.fired))
        fired[name] = (fired[name] ?? 0) + times
      if (result.anomalies.length > 0) {
        failures++
        process.stdout.write(
          `seed ${seed}: ${result.anomalies[0]?.kind}: ${result.anomalies[0]?.detail}\n`,
        )
      }
    } catch (error) {
      failures++
      process.stdout.write(
        `seed ${seed}: ${error instanceof Error ? error.message : String(error)}\n`,
      )
    }
  }
  const seconds = (performance.now() - begin) / 1000
  process.stdout.write(
    `${to - from} seeds from ${from}, ${failures} failing, ${events} events, ${seconds.toFixed(0)} s; faults: ${JSON.stringify(fired)}\n`,
  )
  process.exitCode = failures === 0 ? 0 : 1
}
