/** The flags of `stream txn` as one plan. */

import { UsageError } from '../src/base/errors.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'

const TRANSACTION_TIMEOUT_MS = 900_000
/** An int32 on the wire. */
const PROTOCOL_MS_MAX = 2 ** 31 - 1
const SPOOL_BYTES_MAX = 10 * 1024 * 1024 * 1024
const GRACE_MS = 10_000
const DEFAULT_SHELL = 'bash'

export interface TxnPlan {
  readonly name: string
  /** By -j: the name is kept, and counts. */
  readonly isNamed: boolean
  readonly words: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly isFixed: boolean
  readonly isPartial: boolean
  readonly failsEmpty: boolean
  readonly timeoutMs: number | undefined
  readonly graceMs: number
  readonly transactionTimeoutMs: number
  /** The user has named it: the broker must allow it, whatever the run will need. */
  readonly isTransactionTimeoutGiven: boolean
  readonly spoolDirectory: string | undefined
  readonly spoolBytesMax: number
}

/** @throws UsageError */
export function readTxnPlan(deps: CommandDeps, { flags, operands }: CommandArgs): TxnPlan {
  const [first, ...more] = operands
  if (first === undefined) {
    throw new UsageError('PIPELINE is missing', "try: stream txn -- 'PIPELINE'")
  }
  const name = flags.text('job')
  if (name === '') throw new UsageError('--job: the name must not be empty')
  if (name === undefined && flags.has('fixed')) throw new UsageError('--fixed needs --job NAME')
  if (more.length > 0 && flags.has('shell')) {
    throw new UsageError('--shell is for a PIPELINE of one argument')
  }
  const shell = flags.text('shell') ?? DEFAULT_SHELL
  const transactionTimeoutMs = flags.durationMs('txn-timeout') ?? TRANSACTION_TIMEOUT_MS
  if (transactionTimeoutMs < 1 || transactionTimeoutMs > PROTOCOL_MS_MAX) {
    throw new UsageError('--txn-timeout: must be from 1ms to 24d', 'try: --txn-timeout 15m')
  }
  return {
    name: name ?? Buffer.from(deps.random.bytes(9)).toString('base64url'),
    isNamed: name !== undefined,
    words: more.length > 0 ? operands : [shell, '-o', 'pipefail', '-c', first],
    environment: {},
    isFixed: flags.has('fixed'),
    isPartial: flags.has('partial'),
    failsEmpty: flags.has('fail-empty'),
    timeoutMs: flags.durationMs('timeout'),
    graceMs: flags.durationMs('grace') ?? GRACE_MS,
    transactionTimeoutMs,
    isTransactionTimeoutGiven: flags.has('txn-timeout'),
    spoolDirectory: flags.text('spool-dir'),
    spoolBytesMax: flags.sizeBytes('spool-max') ?? SPOOL_BYTES_MAX,
  }
}
