/**
 * Small files of a data directory that are replaced whole: `<path>.tmp`, fsync, atomic rename, fsync of the directory.
 * After a crash the path holds the old content or the new one, never a mixture.
 */
import type { Disk } from '../../src/ports/disk.ts'
import type { SyncScheduler } from './sync-scheduler.ts'

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
  const file = disk.open(temporary, 'write')
  try {
    file.truncate(0)
    file.write(0, [content])
    await syncs.sync(file)
  } finally {
    file.close()
  }
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

export async function syncPath(disk: Disk, syncs: SyncScheduler, path: string): Promise<void> {
  if (disk.stat(path) === undefined) return
  const file = disk.open(path, 'write')
  try {
    await syncs.dataSync(file)
  } finally {
    file.close()
  }
}
