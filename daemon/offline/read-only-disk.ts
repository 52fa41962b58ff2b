/** A disk that cannot be written to: what only looks is given this one, so that it changes nothing whatever it does. */
import { AssertionError } from '../../src/base/assert.ts'
import type { Disk, DiskFile } from '../../src/ports/disk.ts'

export function readOnlyDisk(disk: Disk): Disk {
  const refuse = (): never => {
    throw new AssertionError('invariant broken: nothing is changed without --repair')
  }
  return {
    open: (path, mode) =>
      mode === 'read' ? readOnlyFile(disk.open(path, 'read'), refuse) : refuse(),
    readFile: (path) => disk.readFile(path),
    list: (path) => disk.list(path),
    stat: (path) => disk.stat(path),
    space: (path) => disk.space(path),
    makeDirectory: refuse,
    rename: refuse,
    unlink: refuse,
    removeTree: refuse,
    syncDirectory: refuse,
    lock: refuse,
  }
}

function readOnlyFile(file: DiskFile, refuse: () => never): DiskFile {
  return {
    path: file.path,
    sizeBytes: () => file.sizeBytes(),
    fileId: () => file.fileId(),
    read: (position, target) => file.read(position, target),
    readAsync: (position, target) => file.readAsync(position, target),
    close: () => file.close(),
    write: refuse,
    truncate: refuse,
    dataSync: refuse,
    sync: refuse,
  }
}
