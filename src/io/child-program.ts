/** Runs a small program to its end and takes what it prints: a password manager, a notifier. */
import { StreamError } from '../base/errors.ts'
import { childProcessModule } from './lazy-modules.ts'

const OUTPUT_BYTES_MAX = 1 << 20
/** What takes longer may wait for a person. */
const SLOW_MS = 5000

export interface ProgramOutcome {
  /** 128 + n where it died by a signal. */
  readonly exit: number
  readonly stdout: string
}

/**
 * Its standard input is empty, its standard error is ours.
 * @param words  the program and its arguments; no shell is in between
 * @throws StreamError RUNTIME_MISSING when it cannot be started, TIMED_OUT after `timeoutMs`, when it has been ended
 */
export function runProgram(
  words: readonly string[],
  options: { readonly timeoutMs: number; readonly onSlow?: () => void },
): Promise<ProgramOutcome> {
  const [program = '', ...args] = words
  const { timeoutMs, onSlow } = options
  return new Promise((resolve, reject) => {
    const child = childProcessModule().spawn(program, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const chunks: Buffer[] = []
    let bytes = 0
    const fail = (code: 'RUNTIME_MISSING' | 'TIMED_OUT', words: string, cause?: unknown): void => {
      reject(new StreamError(code, words, { target: program, cause }))
    }
    const slow = onSlow === undefined ? undefined : setTimeout(onSlow, SLOW_MS)
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      fail('TIMED_OUT', `${program}: not done within ${timeoutMs} ms`)
    }, timeoutMs)
    child.once('error', (cause) => {
      clearTimeout(slow)
      clearTimeout(timer)
      fail('RUNTIME_MISSING', `${program}: cannot be run`, cause)
    })
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > OUTPUT_BYTES_MAX) child.kill('SIGKILL')
      else chunks.push(chunk)
    })
    child.once('close', (code) => {
      clearTimeout(slow)
      clearTimeout(timer)
      resolve({ exit: code ?? 128, stdout: Buffer.concat(chunks).toString('utf8') })
    })
  })
}
