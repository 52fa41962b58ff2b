/** What all logs of one data directory share. */
import type { StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Random } from '../../src/ports/random.ts'
import type { Time } from '../../src/ports/time.ts'
import type { Ballast } from './ballast.ts'
import type { BatchCache } from './batch-cache.ts'
import type { DelayedRemovals } from './delayed-removals.ts'
import type { DiskGuard } from './disk-guard.ts'
import type { DurableMarks } from './durable-marks.ts'
import type { IndexMemory } from './index-memory.ts'
import type { OpenFiles } from './open-files.ts'
import type { SyncScheduler } from './sync-scheduler.ts'

export interface LogPorts {
  readonly time: Time
  readonly random: Random
  readonly disk: Disk
  readonly log: Log
}

export interface LogContext extends LogPorts {
  readonly syncs: SyncScheduler
  readonly files: OpenFiles
  readonly indexes: IndexMemory
  readonly cache: BatchCache
  readonly marks: DurableMarks
  readonly guard: DiskGuard
  readonly ballast: Ballast
  readonly removals: DelayedRemovals
  readonly producerIdExpirationMs: number
  /** Writes all logs' log start offsets and recovery points; resolves when they are durable. Calls are joined. */
  saveCheckpoint(): Promise<void>
  /** Writes how far all logs are compacted; resolves when it is durable. */
  saveCleanOffsets(): Promise<void>
  /** Why appends are refused now. */
  refusesWrites(appendBytes?: number): StreamError | undefined
}
