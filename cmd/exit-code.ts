/**
 * Exit codes (commands.md, section 7): what one error means, and which of several counts.
 *
 * A signal comes first and is no code at all: the command dies by it (main.ts).
 */

import { StreamError, UsageError } from '../src/base/errors.ts'

/** Before any work: 2, 4, 6; then 8, 9, 5, 7, 3, 1. */
const precedence: readonly number[] = [2, 4, 6, 8, 9, 5, 7, 3, 1]

/** Of the codes that apply the one to exit with; 0 if none does. */
export function joinExitCodes(codes: readonly number[]): number {
  return precedence.find((code) => codes.includes(code)) ?? 0
}

/** Of several targets that failed: their common code, or 1. */
export function commonExitCode(codes: readonly number[]): number {
  const failed = codes.filter((code) => code !== 0)
  const [first] = failed
  if (first === undefined) return 0
  return failed.every((code) => code === first) ? first : 1
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return 2
  if (error instanceof StreamError) return error.exit
  return 1
}

/** What an exit code means, for help and manual. */
export const exitCodes: readonly (readonly [code: number, meaning: string])[] = [
  [0, 'done: nothing lost, skipped or left undone'],
  [1, 'failed; or a comparison or limit says no'],
  [2, 'usage, bad config, not supported by this broker, or refused for want of -y'],
  [3, 'not found; with --fail-empty nothing to do, nothing matched'],
  [4, 'broker or daemon unreachable or not running'],
  [5, 'some records not delivered, not parsed, dead-lettered, damaged or gone'],
  [6, 'not allowed: authentication, access rules, permissions of socket or directory'],
  [7, 'timed out (--idle is no timeout)'],
  [8, 'conflict: fenced, exists already, running already, locked'],
  [9, 'child failed'],
  [128, 'plus n: ended by signal n (130 SIGINT, 141 SIGPIPE, 143 SIGTERM, 129 SIGHUP)'],
]

/** The output's reader has gone: the command dies by SIGPIPE, silently. */
export class BrokenPipe extends Error {
  override readonly name = 'BrokenPipe'
}
