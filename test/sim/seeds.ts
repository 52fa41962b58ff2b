/** Simulated runs, many in a row, of a single daemon or of a cluster; for the normal test run and for `npm run sim`. */

/** What every kind of run tells. */
export interface SeedResult {
  readonly traceHash: string
  readonly anomalies: readonly { readonly kind: string; readonly detail: string }[]
  readonly fired: Readonly<Record<string, number>>
  readonly records: number
  readonly events: number
  readonly trace: readonly string[]
}

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
export async function runSeeds(
  play: (seed: number) => Promise<SeedResult>,
  first: number,
  count: number,
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
      const result = await play(seed)
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
