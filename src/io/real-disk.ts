/**
 * The disk of the machine.
 *
 * Writes are synchronous system calls on the caller's thread: a copy into the page cache costs less than a hop to a worker
 * thread (performance.md, section 4). Syncs and cold reads run on libuv's threads.
 */
import {
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  fsync,
  ftruncateSync,
  mkdirSync,
  open as openCallback,
  openSync,
  read as readCallback,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  unlinkSync,
  writevSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { StreamError } from '../base/errors.ts'
import type { Disk, DiskFile, DiskLock, DiskSpace, DiskStat } from '../ports/disk.ts'
import { lockFile } from './file-lock.ts'
import { diskError, systemCode, systemText } from './system-errors.ts'

/** The most parts one writev takes (IOV_MAX). */
const PARTS_MAX = 1024
const FILE_MODE = 0o644

export class RealDisk implements Disk {
  open(path: string, mode: 'read' | 'write'): DiskFile {
    const flags = mode === 'read' ? constants.O_RDONLY : constants.O_RDWR | constants.O_CREAT
    try {
      return new RealFile(path, openSync(path, flags, FILE_MODE))
    } catch (error) {
      throw diskError(error, 'open', path)
    }
  }

  readFile(path: string): Uint8Array | undefined {
    try {
      return readFileSync(path)
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined
      throw diskError(error, 'read', path)
    }
  }

  list(path: string): readonly string[] {
    try {
      return readdirSync(path).sort()
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return []
      throw diskError(error, 'list', path)
    }
  }

  stat(path: string): DiskStat | undefined {
    try {
      const stat = statSync(path, { throwIfNoEntry: false })
      if (stat === undefined) return undefined
      return {
        sizeBytes: stat.size,
        isDirectory: stat.isDirectory(),
        modifiedMs: stat.mtimeMs,
      }
    } catch (error) {
      throw diskError(error, 'look at', path)
    }
  }

  makeDirectory(path: string, mode = 0o755): void {
    try {
      makeWithParents(path, mode)
    } catch (error) {
      throw diskError(error, 'make the directory', path)
    }
  }

  rename(from: string, to: string): void {
    try {
      renameSync(from, to)
    } catch (error) {
      throw diskError(error, 'rename', from)
    }
  }

  unlink(path: string): void {
    try {
      unlinkSync(path)
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return
      throw diskError(error, 'delete', path)
    }
  }

  removeTree(path: string): void {
    try {
      rmSync(path, { recursive: true, force: true })
    } catch (error) {
      throw diskError(error, 'delete', path)
    }
  }

  syncDirectory(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      openCallback(path, constants.O_RDONLY | constants.O_DIRECTORY, (openError, descriptor) => {
        if (openError !== null) {
          reject(diskError(openError, 'open', path))
          return
        }
        fsync(descriptor, (error) => {
          closeSync(descriptor)
          if (error === null) resolve()
          else reject(syncError(error, path))
        })
      })
    })
  }

  space(path: string): DiskSpace {
    try {
      const stat = statfsSync(path)
      return { freeBytes: stat.bavail * stat.bsize, totalBytes: stat.blocks * stat.bsize }
    } catch (error) {
      throw diskError(error, 'look at', path)
    }
  }

  lock(path: string): DiskLock {
    return lockFile(path, lockedError)
  }
}

function lockedError(path: string): StreamError {
  return new StreamError('DIRECTORY_LOCKED', `${path} is locked by another process`, {
    target: path,
    hint: 'another daemon uses this data directory: stop it, or give this one its own with --data',
  })
}

/** A failed sync is DISK_FAILED whatever the reason: what was written may be lost, even if there is space again. */
function syncError(error: unknown, path: string): StreamError {
  return new StreamError('DISK_FAILED', `cannot sync ${path}: ${systemText(error)}`, {
    target: path,
    cause: error,
  })
}

class RealFile implements DiskFile {
  readonly path: string
  private descriptor: number
  /** Reads and syncs on other threads; the descriptor must not be closed, and its number given away, under them. */
  private inFlight = 0
  private isClosed = false

  constructor(path: string, descriptor: number) {
    this.path = path
    this.descriptor = descriptor
  }

  sizeBytes(): number {
    try {
      return fstatSync(this.usable()).size
    } catch (error) {
      throw diskError(error, 'look at', this.path)
    }
  }

  fileId(): string {
    try {
      const { dev, ino } = fstatSync(this.usable(), { bigint: true })
      return `${dev}:${ino}`
    } catch (error) {
      throw diskError(error, 'look at', this.path)
    }
  }

  read(position: number, target: Uint8Array): number {
    const descriptor = this.usable()
    let filled = 0
    try {
      while (filled < target.length) {
        const count = readSync(
          descriptor,
          target,
          filled,
          target.length - filled,
          position + filled,
        )
        if (count === 0) break
        filled += count
      }
    } catch (error) {
      throw diskError(error, 'read', this.path)
    }
    return filled
  }

  readAsync(position: number, target: Uint8Array): Promise<number> {
    const descriptor = this.usable()
    this.inFlight += 1
    return new Promise((resolve, reject) => {
      let filled = 0
      const step = (): void => {
        const length = target.length - filled
        readCallback(descriptor, target, filled, length, position + filled, (error, count) => {
          if (error === null && count > 0) {
            filled += count
            if (filled < target.length) {
              step()
              return
            }
          }
          this.landed()
          if (error === null) resolve(filled)
          else reject(diskError(error, 'read', this.path))
        })
      }
      step()
    })
  }

  write(position: number, parts: readonly Uint8Array[]): void {
    const descriptor = this.usable()
    try {
      let at = position
      for (let from = 0; from < parts.length; from += PARTS_MAX) {
        const some = parts.length <= PARTS_MAX ? parts : parts.slice(from, from + PARTS_MAX)
        at += writeWhole(descriptor, at, some)
      }
    } catch (error) {
      throw diskError(error, 'write', this.path)
    }
  }

  truncate(sizeBytes: number): void {
    try {
      ftruncateSync(this.usable(), sizeBytes)
    } catch (error) {
      throw diskError(error, 'truncate', this.path)
    }
  }

  dataSync(): Promise<void> {
    return this.syncWith(fdatasync)
  }

  sync(): Promise<void> {
    return this.syncWith(fsync)
  }

  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    if (this.inFlight === 0) closeSync(this.descriptor)
  }

  private syncWith(
    call: (descriptor: number, done: (error: Error | null) => void) => void,
  ): Promise<void> {
    const descriptor = this.usable()
    this.inFlight += 1
    return new Promise((resolve, reject) => {
      call(descriptor, (error) => {
        this.landed()
        if (error === null) resolve()
        else reject(syncError(error, this.path))
      })
    })
  }

  private usable(): number {
    if (this.isClosed) throw new StreamError('CLOSED', `${this.path} is closed`)
    return this.descriptor
  }

  private landed(): void {
    this.inFlight -= 1
    if (this.isClosed && this.inFlight === 0) closeSync(this.descriptor)
  }
}

/** writev may take less than it was given; the rest follows until all is written or a call fails. */
function writeWhole(descriptor: number, position: number, parts: readonly Uint8Array[]): number {
  let total = 0
  for (const part of parts) total += part.length
  let written = writevSync(descriptor, parts as Uint8Array[], position)
  while (written < total) {
    const count = writevSync(descriptor, restOf(parts, written), position + written)
    if (count === 0) throw Object.assign(new Error('nothing was written'), { code: 'EIO' })
    written += count
  }
  return total
}

function restOf(parts: readonly Uint8Array[], skip: number): Uint8Array[] {
  const rest: Uint8Array[] = []
  let left = skip
  for (const part of parts) {
    if (left < part.length) rest.push(left === 0 ? part : part.subarray(left))
    left = Math.max(0, left - part.length)
  }
  return rest
}

/** Not `recursive: true`: where a parent exists and still refuses with ENOENT (/proc), Node's own loop never ends. */
function makeWithParents(path: string, mode: number): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return
  const parent = dirname(path)
  if (parent !== path) makeWithParents(parent, 0o755)
  try {
    mkdirSync(path, { mode })
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error
  }
}
