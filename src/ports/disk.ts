/**
 * The disk as the core sees it. Real: src/io/real-disk.ts; simulated, with lost caches, torn writes, bit flips, ENOSPC
 * and failing syncs: test/sim/sim-disk.ts. Both pass test/ports/disk-conformance.ts.
 *
 * Writes and small reads are synchronous, because a thread hop costs more than a copy into the page cache; what waits
 * for the medium (sync) or may wait for it (readAsync) returns a promise.
 *
 * What is written is durable only after dataSync or sync of the file; a created, renamed or unlinked name only after
 * syncDirectory of its directory. All errors are StreamErrors: DISK_FULL (nothing usable was written: the caller must
 * truncate back to its own end), DISK_FAILED, DISK_READ_ONLY, PERMISSION_DENIED, FILE_NOT_FOUND.
 */
import { isStreamError } from '../base/errors.ts'

export interface Disk {
  /** `read`: the file must exist. `write`: read and write, created when absent, never truncated. */
  open(path: string, mode: 'read' | 'write'): DiskFile
  /** Whole content, or undefined when there is no such file. */
  readFile(path: string): Uint8Array | undefined
  /** Sorted names, without `.` and `..`; empty when there is no such directory. */
  list(path: string): readonly string[]
  stat(path: string): DiskStat | undefined
  /** Creates the directory and its parents; fine when it exists. `mode` defaults to 0o755. */
  makeDirectory(path: string, mode?: number): void
  /** Atomic; replaces an existing file `to`. */
  rename(from: string, to: string): void
  /** Fine when there is no such file. */
  unlink(path: string): void
  /** With everything below it; fine when there is none. */
  removeTree(path: string): void
  syncDirectory(path: string): Promise<void>
  /** Space of the file system that holds `path`. */
  space(path: string): DiskSpace
  /**
   * Takes an exclusive lock on `path` (a file, created when absent), which ends with the process.
   * @throws StreamError DIRECTORY_LOCKED when another process holds it
   */
  lock(path: string): DiskLock
}

/** Whether a read failed because the medium does not give back what is there (DISK_FAILED whose cause is an EIO). */
export function isUnreadable(error: unknown): boolean {
  if (!isStreamError(error, 'DISK_FAILED')) return false
  return (error.cause as { readonly code?: unknown } | undefined)?.code === 'EIO'
}

export interface DiskStat {
  readonly sizeBytes: number
  readonly isDirectory: boolean
  /** Milliseconds since 1970. */
  readonly modifiedMs: number
}

export interface DiskSpace {
  readonly freeBytes: number
  readonly totalBytes: number
}

export interface DiskLock {
  release(): void
}

export interface DiskFile {
  readonly path: string
  sizeBytes(): number
  /** Names the file itself on this machine, whatever path leads to it; another file never has it at the same time. */
  fileId(): string
  /** Fills `target` from `position`; returns the bytes read, fewer than asked only at the end of the file. */
  read(position: number, target: Uint8Array): number
  /** As read, without blocking the loop: for reads that may be cold. */
  readAsync(position: number, target: Uint8Array): Promise<number>
  /** Writes all parts one after the other from `position`, wholly or it throws. */
  write(position: number, parts: readonly Uint8Array[]): void
  truncate(sizeBytes: number): void
  /** fdatasync: data and what is needed to read it back (size). A failure must never be retried. */
  dataSync(): Promise<void>
  /** fsync. */
  sync(): Promise<void>
  /** Idempotent. */
  close(): void
}
