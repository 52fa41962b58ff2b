/**
 * Small files of a data directory that are replaced whole: `<path>.tmp`, fsync, atomic rename, fsync of the directory.
 * After a crash the path holds the old content or the new one, never a mixture.
 */
import type { Disk, DiskFile } from '../../src/ports/disk.ts'
import type { SyncScheduler } from './sync-scheduler.ts'

const COPY_BYTES = 1024 * 1024

export function directoryOf(path: string): string {
  const slash = path.lastIndexOf('/')
  if (slash < 0) return '.'
  return slash === 0 ? '/' : path.slice(0, slash)
}

/** @throws StreamError DISK_FULL and its like (the old content stands), DISK_FAILED when a sync failed */
export async function replaceFile(
  disk: Disk,
  syncs: SyncScheduler,
  path: string,
  content: Uint8Array,
): Promise<void> {
  const temporary = `${path}.tmp`
  await syncs.syncOpened(temporary, {
    open: () => {
      const file = disk.open(temporary, 'write')
      try {
        file.truncate(0)
        file.write(0, [content])
        return file
      } catch (error) {
        file.close()
        throw error
      }
    },
    sync: (file) => file.sync(),
    close: (file) => file.close(),
  })
  disk.rename(temporary, path)
  await syncs.syncDirectory(directoryOf(path))
}

/** Writes the whole file without syncing it: for what can be rebuilt or carries its own checksum. */
export function overwriteFile(disk: Disk, path: string, content: Uint8Array): void {
  const file = disk.open(path, 'write')
  try {
    file.truncate(0)
    if (content.length > 0) file.write(0, [content])
  } finally {
    file.close()
  }
}

/**
 * Writes what is read of [start, end) to where it stands: pages that a failed sync left marked clean are dirty again, so
 * that the next sync does not skip them.
 */
export function rewriteInPlace(file: DiskFile, start: number, end: number): void {
  const buffer = new Uint8Array(Math.min(COPY_BYTES, Math.max(0, end - start)))
  for (let at = start; at < end; ) {
    const part = buffer.subarray(0, Math.min(buffer.length, end - at))
    const count = file.read(at, part)
    if (count === 0) return
    file.write(at, [part.subarray(0, count)])
    at += count
  }
}

/** What is not there needs no sync. */
export async function syncPath(disk: Disk, syncs: SyncScheduler, path: string): Promise<void> {
  await syncs.syncOpened(path, {
    open: () => (disk.stat(path) === undefined ? undefined : disk.open(path, 'write')),
    sync: (file) => file.dataSync(),
    close: (file) => file.close(),
  })
}
