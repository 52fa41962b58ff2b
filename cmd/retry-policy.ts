/**
 * What the end of a child means, and whether it is tried again: `--retry`, `--success` and the exit codes 75 and 255
 * (commands.md, section 5, of `consume --exec` and `pipe`).
 */

import { UsageError } from '../src/base/errors.ts'
import { backoffMs } from '../src/client/backoff.ts'
import type { ChildEnd } from '../src/ports/children.ts'
import type { Random } from '../src/ports/random.ts'
import { parseCount, parseDuration } from '../src/text/units.ts'
import type { Flags } from './flags.ts'

export interface RetryPolicy {
  /** Attempts after the first. */
  readonly times: number
  /** The first pause, and the longest; each is twice the one before, jittered. */
  readonly firstMs: number
  readonly maxMs: number
}

const defaultRetry: RetryPolicy = { times: 5, firstMs: 1000, maxMs: 60_000 }
/** sysexits.h: a failure that will pass. */
const TRY_LATER = 75
/** As for xargs: nothing more is to be done. */
const STOP_ALL = 255
/** A shell that finds no such command, or may not run it: that is no fault of a record. */
const NOT_RUNNABLE: ReadonlySet<number> = new Set([126, 127])
const EXIT_MAX = 255

/**
 * - `later`: is tried again without end.
 * - `stop`: nothing more is started; what waits for another attempt is given up.
 */
export type Verdict = 'done' | 'failed' | 'later' | 'stop'

/** @param success  exit codes that mean that it is done */
export function judgeEnd(end: ChildEnd, success: ReadonlySet<number>): Verdict {
  const { exit, cannotStart, stopped } = end
  if (cannotStart !== undefined) return isMissing(cannotStart) ? 'stop' : 'failed'
  if (stopped !== undefined || exit === undefined) return 'failed'
  if (success.has(exit)) return 'done'
  if (exit === TRY_LATER) return 'later'
  return exit === STOP_ALL || NOT_RUNNABLE.has(exit) ? 'stop' : 'failed'
}

function isMissing(code: string): boolean {
  return code === 'ENOENT' || code === 'EACCES' || code === 'ENOTDIR' || code === 'ENOEXEC'
}

/** The attempts at one piece of work. */
export class Attempts {
  /** Of the attempt under way, or of the last one. */
  number = 1
  /** Those that count. */
  #failures = 0
  readonly #policy: RetryPolicy
  readonly #random: Random

  constructor(policy: RetryPolicy, random: Random) {
    this.#policy = policy
    this.#random = random
  }

  /** How many of the counted retries were used. */
  get retries(): number {
    return this.#failures
  }

  /**
   * An attempt has failed; the next one begins after the pause.
   * @returns milliseconds; undefined: there is none, it is given up
   */
  next(verdict: 'failed' | 'later'): number | undefined {
    if (verdict === 'failed') {
      if (this.#failures >= this.#policy.times) return undefined
      this.#failures += 1
    }
    const pauseMs = backoffMs(this.#random, this.#policy, this.number)
    this.number += 1
    return pauseMs
  }
}

/** `5`, `5,1s`, `5,1s..1m`. @returns undefined if it is of no such form */
export function parseRetry(text: string): RetryPolicy | undefined {
  const match = /^(\d+)(?:,([^.]+(?:\.\d+[^.]*)?)(?:\.\.(.+))?)?$/.exec(text)
  const times = parseCount(match?.[1] ?? '')
  if (match === null || times === undefined) return undefined
  if (match[2] === undefined) return { ...defaultRetry, times }
  const firstMs = parseDuration(match[2])
  const maxMs = match[3] === undefined ? undefined : parseDuration(match[3])
  if (firstMs === undefined || (match[3] !== undefined && maxMs === undefined)) return undefined
  if (maxMs !== undefined && maxMs < firstMs) return undefined
  return { times, firstMs, maxMs: maxMs ?? Math.max(firstMs, defaultRetry.maxMs) }
}

/** `--retry`. @throws UsageError */
export function readRetry(flags: Flags): RetryPolicy {
  const text = flags.text('retry')
  const policy = text === undefined ? defaultRetry : parseRetry(text)
  if (policy !== undefined) return policy
  throw new UsageError(`--retry ${text}: must be times and pauses such as 0, 5, 5,1s..1m`)
}

/** `--success`. @throws UsageError */
export function readSuccess(flags: Flags): ReadonlySet<number> {
  const text = flags.text('success') ?? '0'
  const codes = text.split(',').map(parseCount)
  const valid = codes.filter((code) => code !== undefined && code <= EXIT_MAX)
  if (valid.length < codes.length) {
    throw new UsageError(`--success ${text}: must be exit codes such as 0,1`)
  }
  return new Set(valid as number[])
}

/** `exit 3`, `killed by SIGKILL`, `not found`; for messages and `dlq.error`. */
export function describeEnd(end: ChildEnd): string {
  const { exit, signal, stopped, cannotStart } = end
  if (cannotStart !== undefined) return cannotStartWords[cannotStart] ?? `not run (${cannotStart})`
  if (stopped === 'timed-out') return 'stopped for taking too long'
  if (stopped === 'output-limit') return 'stopped for printing too much'
  if (stopped === 'asked') return 'stopped'
  if (exit === undefined) return `killed by ${signal ?? 'a signal'}`
  if (exit === 127) return 'exit 127 (command not found)'
  if (exit === 126) return 'exit 126 (command not executable)'
  // A shell tells the death of what it ran so.
  const number = exit - 128
  return number > 0 && number < 65 ? `exit ${exit} (signal ${number})` : `exit ${exit}`
}

const cannotStartWords: Readonly<Record<string, string>> = {
  ENOENT: 'not found',
  EACCES: 'not executable',
  E2BIG: 'key or headers too long for an environment',
}

const ERROR_CHARACTERS_MAX = 200

/** The same with the last line that it printed on standard error: what a person wants to read first. */
export function describeFailure(end: ChildEnd): string {
  const lines = Buffer.from(end.errorTail).toString('utf8').trimEnd().split('\n')
  const last = lines.at(-1)?.trim() ?? ''
  const words = describeEnd(end)
  return last === '' ? words : `${words}: ${last.slice(0, ERROR_CHARACTERS_MAX)}`
}
