/**
 * Running a guarded transaction under the unknown-outcome rule (replication.md section 5.4): after STORE_UNAVAILABLE
 * the identical transaction is sent again until the store answers, since concluding "not applied" from a read would
 * race with the copy on its way. An answer "guard failed" after an unknown outcome may be one's own write: callers
 * recognise that by the content they read back.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type {
  MetadataStore,
  StoreCompare,
  StoreOperation,
  StoreTxn,
  StoreTxnResult,
} from '../../src/ports/metadata-store.ts'
import { sleep, type Time } from '../../src/ports/time.ts'

const ATTEMPTS_MAX = 20
const BACK_OFF_MS_MIN = 20
const BACK_OFF_MS_MAX = 1000

export interface Store {
  readonly store: MetadataStore
  readonly time: Time
}

export interface CommitOptions {
  /** Asked before the transaction is sent again: true ends the attempts, with the outcome unknown. */
  readonly isOver?: () => boolean
}

/** A transaction: if all of `compare` hold, `writes` are applied, else `otherwise` is answered. */
export interface GuardedWrite {
  readonly compare: readonly StoreCompare[]
  readonly writes: readonly StoreOperation[]
  readonly otherwise?: readonly StoreOperation[]
}

/** @throws StreamError STORE_UNAVAILABLE when the outcome stays unknown; others of the store */
export async function commit(
  { store, time }: Store,
  { compare, writes, otherwise = [] }: GuardedWrite,
  { isOver }: CommitOptions = {},
): Promise<StoreTxnResult> {
  const txn: StoreTxn = { compare, then: writes, otherwise }
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await store.txn(txn)
    } catch (error) {
      if (!isStreamError(error, 'STORE_UNAVAILABLE') || attempt === ATTEMPTS_MAX) throw error
      await sleep(time, Math.min(BACK_OFF_MS_MAX, BACK_OFF_MS_MIN * 2 ** attempt))
      if (isOver?.() === true) throw error
    }
  }
}
