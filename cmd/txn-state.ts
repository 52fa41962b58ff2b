/**
 * What `stream txn -j NAME` keeps in the state topic: how often it has committed, and with --fixed the ranges of a run that
 * did not commit. Written within transactions of its own id, so that a run that was fenced writes nothing.
 */

import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import { readState } from './stream-state.ts'
import type { TxnRange } from './txn-protocol.ts'

/** One group's part of a frozen range, and what it had committed then (-1: nothing). */
export interface FixedRange extends TxnRange {
  readonly group: string
  readonly committed: number
  /** Came later; absent or empty: not known. */
  readonly topicId?: string
}

export interface TxnState {
  readonly v: 1
  readonly commits: number
  readonly ranges: readonly FixedRange[]
}

const nothing: TxnState = { v: 1, commits: 0, ranges: [] }

export function txnPrefix(name: string): readonly string[] {
  return ['txn', name]
}

/** @throws as readState */
export async function readTxnState(
  deps: CommandDeps,
  broker: Broker,
  name: string,
): Promise<TxnState> {
  const prefix = txnPrefix(name)
  const values = await readState(deps, broker, prefix)
  const stored = values.get(JSON.stringify(prefix)) as TxnState | undefined
  return stored?.v === 1 && Array.isArray(stored.ranges) ? stored : nothing
}

const ID_PREFIX = 'stream.txn.'

export function transactionalIdOf(name: string): string {
  return `${ID_PREFIX}${name}`
}

/** undefined: it is none of stream txn. */
export function nameOfTransaction(transactionalId: string): string | undefined {
  return transactionalId.startsWith(ID_PREFIX) ? transactionalId.slice(ID_PREFIX.length) : undefined
}
