/** Small files replaced as the daemon replaces them, for a repair that runs alone and waits for each sync. */
import type { Disk } from '../../src/ports/disk.ts'
import { directoryOf } from '../log/file-writes.ts'

/** After a crash the path holds the old content or the new one. @throws StreamError of the disk */
export async function replaceNow(disk: Disk, path: string, content: Uint8Array): Promise<void> {
  const temporary = `${path}.tmp`
  const file = disk.open(temporary, 'write')
  try {
    file.truncate(0)
    if (content.length > 0) file.write(0, [content])
    await file.sync()
  } finally {
    file.close()
  }
  disk.rename(temporary, path)
  await disk.syncDirectory(directoryOf(path))
}

/** Fine when there is no such file. */
export async function syncFile(disk: Disk, path: string): Promise<void> {
  if (disk.stat(path) === undefined) return
  const file = disk.open(path, 'write')
  try {
    await file.sync()
  } finally {
    file.close()
  }
}
