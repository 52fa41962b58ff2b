/**
 * Partition logs and data directories read from their files, without a daemon: what `stream dump` and `stream fsck` work
 * with. Real: daemon/offline/main.ts, which cmd/main.ts loads by its path when one of the two runs.
 *
 * Nothing is changed but by `repair`. Paths may be relative. Bytes of files are foreign: damage is told, never thrown.
 */
export interface Offline {
  /**
   * Gives the batches of a partition directory, or of single segment files, in order.
   * @throws StreamError FILE_NOT_FOUND, PERMISSION_DENIED, DISK_FAILED; UsageError for a path that is no partition; what
   *   the sink throws
   */
  dump(request: DumpRequest, sink: DumpSink): Promise<DumpSummary>
  /**
   * Checks a data directory. Findings come as they are made.
   * @throws StreamError as dump; UsageError for a path that is no data directory
   */
  check(path: string, onFinding: (finding: OfflineFinding) => void): Promise<CheckSummary>
  /**
   * As check, and mends what it finds: each finding comes with what became of it. Killed at any point it may be run again.
   * @throws StreamError DIRECTORY_LOCKED while a daemon has the directory, and as check
   */
  repair(path: string, onFinding: (finding: OfflineFinding) => void): Promise<CheckSummary>
}

/** A place in a partition, as positions of commands.md section 4 say it. */
export type OfflinePlace =
  | { readonly kind: 'start' }
  | { readonly kind: 'end' }
  | { readonly kind: 'offset'; readonly offset: number }
  | { readonly kind: 'after-start'; readonly count: number }
  | { readonly kind: 'before-end'; readonly count: number }
  | { readonly kind: 'time'; readonly timeMs: number }

export interface DumpRequest {
  /** A partition directory or a segment file. */
  readonly path: string
  /** Of the partition with this number; undefined: its start. */
  readonly from: (topic: string, partition: number) => OfflinePlace | undefined
  readonly until: (topic: string, partition: number) => OfflinePlace | undefined
  /** Records of open and aborted transactions too. */
  readonly isUncommitted: boolean
}

export type OfflineBatchState = 'ok' | 'aborted' | 'open' | 'control'

export interface OfflineBatch {
  readonly file: string
  readonly topic: string
  readonly partition: number
  /** Of the batch in the file. */
  readonly position: number
  readonly state: OfflineBatchState
  /** The batch is at `at`; valid until the sink's promise resolves. */
  readonly bytes: Uint8Array
  readonly at: number
  /** Only offsets fromOffset ≤ offset < untilOffset were asked for. */
  readonly fromOffset: number
  readonly untilOffset: number
}

/** Bytes that are no batch of the log here. */
export interface OfflineDamage {
  readonly file: string
  readonly position: number
  /** Exclusive. */
  readonly endPosition: number
  /** First offset that is missing with it. */
  readonly startOffset: number
  /** Exclusive; undefined: nothing is known to follow. */
  readonly endOffset: number | undefined
  readonly detail: string
  /** A tail that nobody was promised, as a crash leaves it. */
  readonly isTorn: boolean
}

export interface DumpSink {
  onBatch(batch: OfflineBatch): void | Promise<void>
  onDamage(damage: OfflineDamage): void | Promise<void>
}

export interface DumpSummary {
  /** Offsets at and beyond it wait for the end of a transaction and were left out; undefined: none. */
  readonly heldBackFrom: number | undefined
}

export type FindingState =
  /** Bytes that were written are not what was written; records are lost. */
  | 'damaged'
  /** It is wrong, and the log can give it back. */
  | 'bad'
  | 'missing'
  /** No part of a data directory. */
  | 'stray'
  /** What a crash leaves, and the next start settles: nothing is wrong. */
  | 'torn'
  | 'note'
  /** After a repair. */
  | 'repaired'
  | 'set-aside'
  | 'gone'
  | 'left'

export interface OfflineFinding {
  readonly file: string
  readonly offset: number | null
  /** What was looked at: `checksum`, `index` … */
  readonly check: string
  readonly state: FindingState
  readonly detail: string
}

export interface CheckSummary {
  readonly partitions: number
  readonly segments: number
  readonly batches: number
  readonly bytes: number
  /** A daemon has the directory: what it is writing may look torn. */
  readonly isInUse: boolean
}
