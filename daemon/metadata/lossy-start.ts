/**
 * Whether a start is lossy, that is, whether the data directory may lack records it once acknowledged: a pure decision
 * (replication.md section 5.3, cases a to f). A lossy start raises the data epoch, which ends every membership of the
 * former one.
 */

export interface RecordedIncarnation {
  readonly incarnation: string
  readonly registered: boolean
}

export interface StartFacts {
  /** (b) */
  readonly directoryIsNew: boolean
  /** Of the clean-shutdown marker; undefined: the last run did not end cleanly. */
  readonly cleanDataEpoch: number | undefined
  /** As recorded in the directory; undefined: never. */
  readonly recordedDataEpoch: number | undefined
  /** Oldest first. Each is recorded before it registers, and marked once it has. */
  readonly recordedIncarnations: readonly RecordedIncarnation[]
  /** The host has not booted since: its page cache survived the process. */
  readonly sameBoot: boolean
  /** A hosted topic acknowledges before the sync. */
  readonly hostsAsyncFlush: boolean
  /** (c) Recovery cut below a durable mark, found damage below it, or a log that should be there is not. */
  readonly recoveryLoss: string | undefined
  /** (d) */
  readonly syncFailed: boolean
  /** Of the store; undefined: none. */
  readonly storedDataEpoch: number | undefined
  readonly storedIncarnation: string | undefined
  /** The largest revision the directory has seen, and that of the store now. */
  readonly recordedRevision: number
  readonly storeRevision: number
  /** (f) */
  readonly restored: boolean
  /** Other brokers have the store too: it is not a part of the directory. */
  readonly sharesStore: boolean
  /** A log that knows a later leader epoch than the store, and which; undefined: none. */
  readonly epochAhead: string | undefined
  /** Since this directory's last run the operator has said that the store counts although it is an old copy. */
  readonly storeDeclared: boolean
}

export type StartVerdict =
  | { readonly kind: 'whole' }
  | { readonly kind: 'lossy'; readonly reason: string }
  /** The store is the old copy: do not register. */
  | { readonly kind: 'storeRegressed'; readonly reason: string }

const SYNC_FAILED = 'a sync failed in the last run'
const STORE_IS_OLD = 'the metadata store is older than the data directory'

/** Why the store must be an older copy of itself (section 5.8); undefined: nothing says so. */
export function findRegression(facts: StartFacts): string | undefined {
  const { recordedDataEpoch, storedDataEpoch, storedIncarnation } = facts
  if (storedDataEpoch === undefined && !facts.sharesStore) return undefined
  if (facts.recordedRevision > facts.storeRevision) return STORE_IS_OLD
  if (facts.epochAhead !== undefined) return `${STORE_IS_OLD}: ${facts.epochAhead}`
  if (recordedDataEpoch === undefined || storedDataEpoch === undefined) return undefined
  if (recordedDataEpoch > storedDataEpoch) return STORE_IS_OLD
  if (recordedDataEpoch < storedDataEpoch || storedIncarnation === undefined) return undefined
  const at = facts.recordedIncarnations.findIndex(
    (entry) => entry.incarnation === storedIncarnation,
  )
  const isForgotten =
    at >= 0 && facts.recordedIncarnations.slice(at + 1).some((entry) => entry.registered)
  return isForgotten ? 'the metadata store has forgotten the last run' : undefined
}

export function judgeStart(facts: StartFacts): StartVerdict {
  const lossy = (reason: string): StartVerdict => ({ kind: 'lossy', reason })
  if (!facts.storeDeclared && !facts.restored) {
    const reason = findRegression(facts)
    if (reason !== undefined) return { kind: 'storeRegressed', reason }
  }
  if (facts.storedDataEpoch === undefined) {
    const isKnown = facts.sharesStore && facts.recordedDataEpoch !== undefined
    return lossy(isKnown ? 'the cluster has forgotten this broker' : 'first start of this broker')
  }
  // Before what was said of the store: a directory without a past has followed no such word, and that is not what it lacks.
  if (facts.directoryIsNew) return lossy('the data directory is new')
  if (facts.recordedDataEpoch === undefined) {
    return lossy('the data directory does not know its data epoch')
  }
  if (facts.storeDeclared) return lossy('the metadata store was restored')
  if (facts.restored) return lossy('restored by the operator')
  if (facts.recordedDataEpoch < facts.storedDataEpoch) {
    return lossy(
      facts.syncFailed
        ? SYNC_FAILED
        : 'its data epoch is behind: the data directory is an old copy, or a sync failed in the last run',
    )
  }
  if (facts.storedIncarnation !== undefined) {
    const isKnown = facts.recordedIncarnations.some(
      (entry) => entry.incarnation === facts.storedIncarnation,
    )
    if (!isKnown) return lossy('the data directory is an old copy: it does not know its last run')
  }
  if (facts.syncFailed) return lossy(SYNC_FAILED)
  if (facts.recoveryLoss !== undefined) return lossy(facts.recoveryLoss)
  const wasClean = facts.cleanDataEpoch === facts.recordedDataEpoch
  if (!wasClean && facts.hostsAsyncFlush && !facts.sameBoot) {
    return lossy('unclean end, with topics that acknowledge before the sync')
  }
  return { kind: 'whole' }
}
