/**
 * What a command says on standard error: errors, warnings, notes, progress. One line each.
 *
 *     stream: consume: orders: no such topic (UNKNOWN_TOPIC_OR_PARTITION); to wait for it: --wait-topic
 *
 * With --json errors are objects. Control bytes that came from elsewhere are shown escaped; secrets never get here.
 */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { Log, LogFields } from '../src/ports/log.ts'
import type { Stdio } from '../src/ports/stdio.ts'
import { visibleText } from '../src/text/record-writer.ts'
import { pointIntoWords } from './error-place.ts'
import { exitCodeOf } from './exit-code.ts'

export interface ConsoleOptions {
  /** `produce`, `topics create`; undefined before a command is known. */
  readonly command?: string
  readonly isJson?: boolean
  readonly isQuiet?: boolean
  /** How often -v was given. */
  readonly verbosity?: number
  readonly isTerminal?: boolean
  /** The command line, so that what is wrong in it can be pointed at on a terminal. */
  readonly words?: readonly string[]
}

export class Console {
  readonly #stdio: Stdio
  #options: ConsoleOptions

  constructor(stdio: Stdio, options: ConsoleOptions = {}) {
    this.#stdio = stdio
    this.#options = options
  }

  /** Once the flags are known. */
  configure(options: ConsoleOptions): void {
    this.#options = { ...this.#options, ...options }
  }

  get isTerminal(): boolean {
    return this.#options.isTerminal ?? false
  }

  get isQuiet(): boolean {
    return this.#options.isQuiet ?? false
  }

  get verbosity(): number {
    return this.#options.verbosity ?? 0
  }

  /** Summaries are for people: on a terminal, or when they were asked for. */
  get wantsSummary(): boolean {
    return !this.isQuiet && (this.isTerminal || this.verbosity > 0)
  }

  /** @param target  what it is about, when the error itself does not say */
  error(error: unknown, target?: string): void {
    if (this.#options.isJson === true) this.#stdio.printError(this.#errorObject(error, target))
    else {
      this.#line(describeError(error, target))
      this.#pointAt(error)
    }
    if (this.verbosity >= 2 && error instanceof Error && error.stack !== undefined) {
      this.#stdio.printError(`${error.stack}\n`)
      if (error.cause instanceof Error) this.#stdio.printError(`cause: ${error.cause.stack}\n`)
    }
  }

  /** The command line with a mark under what is wrong in it; only on a terminal, where lines are read by people. */
  #pointAt(error: unknown): void {
    const { words } = this.#options
    if (!this.isTerminal || words === undefined || !(error instanceof UsageError)) return
    const lines = pointIntoWords(words, error)
    if (lines !== undefined) this.#stdio.printError(lines)
  }

  warn(text: string): void {
    if (!this.isQuiet) this.#line(text)
  }

  /** Only with -v. */
  note(text: string): void {
    if (!this.isQuiet && this.verbosity > 0) this.#line(text)
  }

  /** As it is, for prompts and what a terminal redraws. */
  print(text: string): void {
    this.#stdio.printError(text)
  }

  /** Diagnostics of the client: warnings always, the rest with -vv. */
  readonly log: Log = {
    debug: (message, fields) => this.#diagnose(2, message, fields),
    info: (message, fields) => this.#diagnose(2, message, fields),
    warn: (message, fields) => this.#diagnose(1, message, fields),
    error: (message, fields) => this.#diagnose(0, message, fields),
  }

  #diagnose(level: number, message: string, fields: LogFields | undefined): void {
    if (this.verbosity < level || this.isQuiet) return
    const words = Object.entries(fields ?? {})
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => ` ${name}=${value}`)
    this.#line(`${message}${words.join('')}`)
  }

  #line(text: string): void {
    const { command } = this.#options
    const prefix = command === undefined ? 'stream: ' : `stream: ${command}: `
    this.#stdio.printError(`${prefix}${oneLine(text)}\n`)
  }

  #errorObject(error: unknown, target: string | undefined): string {
    const isKnown = error instanceof StreamError
    const object = {
      v: 1,
      kind: 'error',
      code: isKnown ? error.code : error instanceof UsageError ? 'USAGE' : 'INTERNAL',
      exit: exitCodeOf(error),
      target: (isKnown ? error.target : undefined) ?? target ?? null,
      line: (isKnown ? error.line : undefined) ?? null,
      message: describeError(error, target),
    }
    return `${JSON.stringify(object)}\n`
  }
}

/** `target: line N: message; hint` without repeating what the message says already. */
export function describeError(error: unknown, target?: string): string {
  if (!(error instanceof Error)) return String(error)
  if (!(error instanceof StreamError) && !(error instanceof UsageError)) {
    return `internal error: ${error.message}`
  }
  const parts: string[] = []
  const named = error instanceof StreamError ? (error.target ?? target) : target
  const about = named === '-' ? undefined : named
  if (about !== undefined && !names(error.message, about)) parts.push(`${about}: `)
  if (error instanceof StreamError && error.line !== undefined) {
    const line = `line ${error.line}`
    if (!error.message.includes(line)) parts.push(`${line}: `)
  }
  parts.push(error.message)
  if (error.hint !== undefined) parts.push(`; ${error.hint}`)
  return parts.join('')
}

/** Whether a message says what it is about: at its beginning, or as a word that cannot be there by chance. */
function names(message: string, about: string): boolean {
  if (message.startsWith(`${about}:`) || message.startsWith(`${about} `)) return true
  if (about.length < 4) return about === ''
  for (let at = message.indexOf(about); at >= 0; at = message.indexOf(about, at + 1)) {
    const around = `${message[at - 1] ?? ' '}${message[at + about.length] ?? ' '}`
    if (!/[\w.-]/.test(around)) return true
  }
  return false
}

/** Line ends become spaces: hints may quote a log. */
function oneLine(text: string): string {
  return visibleText(text.trimEnd().replaceAll(/\s*\n\s*/g, ' | '))
}
