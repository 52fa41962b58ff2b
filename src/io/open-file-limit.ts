/** How many files, sockets included, this process may have open at once. */
import { readFileSync } from 'node:fs'

/** Node raises the soft limit to the hard one as it starts. undefined: no limit, or not known (systems without /proc). */
export function readOpenFileLimit(): number | undefined {
  let limits: string
  try {
    limits = readFileSync('/proc/self/limits', 'latin1')
  } catch {
    return undefined
  }
  const soft = /^Max open files +(\d+)/m.exec(limits)?.[1]
  return soft === undefined ? undefined : Number(soft)
}
