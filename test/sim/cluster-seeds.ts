/** Runs of the simulated cluster, many in a row; for the normal test run and for `npm run sim:cluster`. */
import { type ClusterRunOptions, runCluster } from './cluster-run.ts'

export interface SeedsResult {
  readonly seeds: number
  readonly events: number
  readonly records: number
  /** How often each fault took effect. */
  readonly fired: Readonly<Record<string, number>>
  /** A line for each seed that failed. */
  readonly failures: readonly string[]
}

const FAILURES_MAX = 3

/** @param failuresMax  ends after so many failing seeds */
export async function runClusterSeeds(
  first: number,
  count: number,
  options: ClusterRunOptions = {},
  failuresMax = FAILURES_MAX,
): Promise<SeedsResult> {
  const fired: Record<string, number> = {}
  const failures: string[] = []
  let seeds = 0
  let events = 0
  let records = 0
  for (let seed = first; seed < first + count && failures.length < failuresMax; seed += 1) {
    seeds += 1
    try {
      const result = await runCluster(seed, options)
      events += result.events
      records += result.records
      for (const [name, times] of Object.entries(result.fired)) {
        fired[name] = (fired[name] ?? 0) + times
      }
      const [anomaly] = result.anomalies
      if (anomaly !== undefined) failures.push(`seed ${seed}: ${anomaly.kind}: ${anomaly.detail}`)
    } catch (error) {
      failures.push(`seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`)
    }
  }
  return { seeds, events, records, fired, failures }
}
