/** SIGTERM, SIGINT and SIGHUP as the daemon sees them: the first asks for a clean end, the second ends at once. */

import type { Time } from '../src/ports/time.ts'

/**
 * timeout(1) and a terminal send a signal to the process and to its whole group, so it is heard twice within a moment: the same signal
 * counts again only after this time.
 */
const REPEAT_MS = 250

/** @param end ends the process at once; the next start recovers */
export function listenForStopSignals(
  process: Pick<NodeJS.Process, 'on'>,
  time: Pick<Time, 'monotonicMs'>,
  stop: (signal: string) => void,
  end: () => void,
): void {
  let first: { signal: string; atMs: number } | undefined
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const nowMs = time.monotonicMs()
      if (first === undefined) {
        first = { signal, atMs: nowMs }
        stop(signal)
      } else if (first.signal !== signal || nowMs - first.atMs >= REPEAT_MS) {
        end()
      }
    })
  }
}
