/** What tells a running process from all others (src/ports/host.ts, processMark). */
import { readFileSync } from 'node:fs'
import { systemCode } from './system-errors.ts'

const STATE_FIELD = 0
const START_TIME_FIELD = 19

export function processMark(processId: number): string | undefined {
  try {
    process.kill(processId, 0)
  } catch (error) {
    // EPERM: it is there, and somebody else's.
    if (systemCode(error) !== 'EPERM') return undefined
  }
  if (process.platform !== 'linux') return String(processId)
  let stat: string
  try {
    stat = readFileSync(`/proc/${processId}/stat`, 'latin1')
  } catch {
    return undefined
  }
  const fields = processFields(stat)
  const state = fields[STATE_FIELD] ?? 'X'
  return 'ZX'.includes(state) ? undefined : `${processId}@${fields[START_TIME_FIELD]}`
}

/** The fields of /proc/PID/stat behind the name, which may itself hold blanks and parentheses. */
function processFields(stat: string): readonly string[] {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}
