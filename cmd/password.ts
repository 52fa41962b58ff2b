/**
 * A new password: of a file, of standard input, or typed twice at a terminal that does not show it. Never of a flag: flags are seen
 * in the list of processes and kept by shells.
 */

import { UsageError } from '../src/base/errors.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { OptionSpec } from './option-table.ts'
import { readWholeInput } from './whole-input.ts'

// biome-ignore format: one row, one line
export const passwordFileOption: OptionSpec = { long: 'password-file', argument: 'FILE', help: 'where the password is, on one line; - is standard input. Default: standard input, or a prompt if that is a terminal' }

const BYTES_MAX = 1024
const CONTROL_C = 3
const CONTROL_D = 4
const BACKSPACE = 8
const NEWLINE = 10
const RETURN = 13
const CONTROL_U = 21
const DELETE = 127

/** @throws UsageError for what is no password, and where nobody can be asked; StreamError for a file that cannot be read */
export async function readNewPassword(
  deps: CommandDeps,
  flags: Flags,
  user: string,
): Promise<string> {
  const path = flags.text('password-file')
  const { host } = deps
  if (path !== undefined || !host.isTerminal('input')) {
    return checked((await readWholeInput(deps, path ?? '-')).replace(/\r?\n$/, ''))
  }
  if (!host.isTerminal('error') || flags.has('no-input')) {
    throw new UsageError(
      'nobody can be asked for the password here',
      'give it on standard input, or name a file: --password-file FILE',
    )
  }
  const password = checked(await ask(deps, `new password of ${user}: `))
  if ((await ask(deps, 'once more: ')) === password) return password
  throw new UsageError('the two passwords differ', 'nothing was changed; try again')
}

function checked(password: string): string {
  if (password === '') throw new UsageError('an empty password is none')
  if (/\p{Cc}/u.test(password)) {
    throw new UsageError('a password is one line, without control characters')
  }
  if (password.includes('\ufffd')) throw new UsageError('a password is UTF-8')
  if (Buffer.byteLength(password) > BYTES_MAX) {
    throw new UsageError(`a password is at most ${BYTES_MAX} bytes long`)
  }
  return password
}

/** The terminal is in raw mode, so the keys that correct a line, and those that end it, are read here. */
function ask(deps: CommandDeps, question: string): Promise<string> {
  deps.console.print(question)
  const input = deps.stdio.openInput('-', { isHidden: true })
  const typed: number[] = []
  return new Promise((resolve, reject) => {
    const end = (finish: () => void): void => {
      input.close()
      deps.console.print('\n')
      finish()
    }
    const taken = (): void => resolve(Buffer.from(typed).toString('utf8'))
    input.start({
      onBytes: (chunk, start, stop) => {
        for (const byte of chunk.subarray(start, stop)) {
          if (byte === CONTROL_C) return end(() => deps.host.dieBySignal('SIGINT'))
          if (byte === NEWLINE || byte === RETURN || byte === CONTROL_D) return end(taken)
          if (byte === CONTROL_U) typed.length = 0
          else if (byte === BACKSPACE || byte === DELETE) eraseLast(typed)
          else if (typed.length <= BYTES_MAX) typed.push(byte)
        }
      },
      onEnd: (error) => end(error === undefined ? taken : () => reject(error)),
    })
  })
}

/** A character of UTF-8: its last bytes begin with the bits 10. */
function eraseLast(typed: number[]): void {
  while (((typed.pop() ?? 0) & 0xc0) === 0x80);
}
