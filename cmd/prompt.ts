/**
 * Asking before something is destroyed (commands.md, section 1): needs standard input and standard error to be
 * terminals, the default answer is no, and without a terminal and -y nothing is done.
 */

import { UsageError } from '../src/base/errors.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'

/**
 * @param expected  what has to be typed; default `y`
 * @returns whether the user agrees
 * @throws UsageError without a terminal and without -y
 */
export async function confirm(
  deps: CommandDeps,
  flags: Flags,
  question: string,
  expected = 'y',
): Promise<boolean> {
  if (flags.has('yes')) return true
  const { host } = deps
  const canAsk = host.isTerminal('input') && host.isTerminal('error') && !flags.has('no-input')
  if (!canAsk) throw new UsageError('refused: nobody can be asked here', 'to agree beforehand: -y')
  deps.console.print(`${question} [${expected}/N] `)
  const answer = await readLine(deps)
  return answer.trim().toLowerCase() === expected.toLowerCase()
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
