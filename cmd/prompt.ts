/**
 * Asking before something is destroyed (commands.md, section 1): needs standard input and standard error to be
 * terminals, the default answer is no, and without a terminal and -y nothing is done.
 */

import { UsageError } from '../src/base/errors.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { printPlan } from './row-output.ts'

export interface Plan {
  readonly shape: RowShape
  readonly rows: readonly Row[]
}

/**
 * @param expected  what has to be typed; default `y`
 * @param plan  shown to whoever is asked
 * @returns whether the user agrees
 * @throws UsageError without a terminal and without -y
 */
export async function confirm(
  deps: CommandDeps,
  flags: Flags,
  question: string,
  expected = 'y',
  plan?: Plan,
): Promise<boolean> {
  if (flags.has('yes')) return true
  const { host } = deps
  const canAsk = host.isTerminal('input') && host.isTerminal('error') && !flags.has('no-input')
  if (!canAsk) throw new UsageError('refused: nobody can be asked here', 'to agree beforehand: -y')
  if (plan !== undefined) await printPlan(deps, plan.shape, plan.rows)
  deps.console.print(`${question} [${expected}/N] `)
  const answer = await readLine(deps)
  const typed = answer.trim().toLowerCase()
  return typed === expected.toLowerCase() || (expected === 'y' && typed === 'yes')
}

function readLine(deps: CommandDeps): Promise<string> {
  const input = deps.stdio.openInput('-')
  return new Promise((resolve, reject) => {
    let text = ''
    input.start({
      onBytes: (chunk, start, end) => {
        text += Buffer.from(chunk.subarray(start, end)).toString('utf8')
        if (!text.includes('\n')) return
        input.close()
        resolve(text)
      },
      onEnd: (error) => {
        if (error === undefined) resolve(text)
        else reject(error)
      },
    })
  })
}
