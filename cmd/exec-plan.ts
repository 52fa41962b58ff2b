/** What `consume --exec` is to do, from its flags (commands.md, section 5). */

import { UsageError } from '../src/base/errors.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import type { ReadPlan } from './read-options.ts'
import { type RetryPolicy, readRetry, readSuccess } from './retry-policy.ts'

export interface ExecPlan {
  /** For `sh -c`. */
  readonly command: string
  /** The group. */
  readonly job: string
  /** Records for one child at most; 1: one record each, described by its environment. */
  readonly batch: number
  readonly parallel: number
  readonly success: ReadonlySet<number>
  readonly retry: RetryPolicy
  readonly onFail: 'stop' | 'dlq' | 'bisect'
  readonly childTimeoutMs: number | undefined
  readonly graceMs: number
}

const GRACE_MS = 10_000
/** Few records are done again after a crash, and a commit for each would cost more than many a command. */
const COMMIT_INTERVAL_MS = 100
const PARALLEL_MAX = 1024
const BATCH_MAX = 1_000_000

/** @throws UsageError */
export function readExecPlan(deps: CommandDeps, flags: Flags, read: ReadPlan): ExecPlan {
  const command = flags.text('exec') ?? ''
  if (command.trim() === '') throw new UsageError('--exec: the command must not be empty')
  if (read.group === undefined) throw new UsageError('--exec needs --group NAME')
  for (const name of ['commit', 'ack-fd'] as const) {
    if (flags.has(name)) throw new UsageError(`--${name} and --exec cannot be used together`)
  }
  if (deps.host.environment['STREAM_TXN'] !== undefined) {
    throw new UsageError('--exec: what it does is in no transaction', 'take it out of stream txn')
  }
  const batch = flags.wholeNumber('batch') ?? 1
  if (batch < 1 || batch > BATCH_MAX) {
    throw new UsageError(`--batch ${batch}: must be 1 to ${BATCH_MAX}`)
  }
  const parallel = flags.wholeNumber('parallel') ?? 1
  if (parallel < 1 || parallel > PARALLEL_MAX) {
    throw new UsageError(`--parallel ${parallel}: must be 1 to ${PARALLEL_MAX}`)
  }
  const onFail = flags.choice('on-fail', ['stop', 'dlq', 'bisect'] as const) ?? 'stop'
  if (onFail === 'bisect' && batch === 1) {
    throw new UsageError('--on-fail bisect halves batches', 'give --batch N, or --on-fail dlq')
  }
  return {
    command,
    job: read.group.group,
    batch,
    parallel,
    success: readSuccess(flags),
    retry: readRetry(flags),
    onFail,
    childTimeoutMs: flags.durationMs('child-timeout'),
    graceMs: flags.durationMs('grace') ?? GRACE_MS,
  }
}

/** The same read, committed by what children have done. */
export function execReadPlan(flags: Flags, plan: ReadPlan): ReadPlan {
  if (plan.group === undefined) return plan
  const intervalMs = flags.durationMs('commit-interval') ?? COMMIT_INTERVAL_MS
  return { ...plan, group: { ...plan.group, commit: 'ack', intervalMs } }
}
