/**
 * Bounds the descriptors that all logs of a directory hold open.
 *
 * Invariants:
 * - A pinned handle (a read or a sync is under way) is never closed by the bound; more than `filesMax` stay open only
 *   while so many are pinned.
 * - A handle costs no descriptor until it is used, and may be used again after it was closed.
 */
import { assert } from '../../src/base/assert.ts'
import type { Disk, DiskFile } from '../../src/ports/disk.ts'

export class FileHandle {
  path: string
  /** @internal */ file: DiskFile | undefined
  /** @internal */ pins = 0
  /** Deleted or replaced: it is not opened again. */
  retired = false

  constructor(path: string) {
    this.path = path
  }
}

export class OpenFiles {
  readonly #disk: Disk
  readonly #filesMax: number
  /** In the order of their last use, oldest first. */
  readonly #open = new Set<FileHandle>()
  #latest: FileHandle | undefined

  constructor(disk: Disk, options: { readonly filesMax: number }) {
    this.#disk = disk
    this.#filesMax = options.filesMax
  }

  get count(): number {
    return this.#open.size
  }

  /** The open file of a handle; valid until control returns to the caller's caller unless pinned. */
  use(handle: FileHandle): DiskFile {
    const file = handle.file
    if (file !== undefined) {
      if (this.#latest !== handle) {
        this.#open.delete(handle)
        this.#open.add(handle)
        this.#latest = handle
      }
      return file
    }
    assert(!handle.retired, 'a retired file is not opened again')
    this.#closeOldest(this.#filesMax - 1)
    let opened: DiskFile
    try {
      opened = this.#disk.open(handle.path, 'write')
    } catch (error) {
      // Perhaps the process has no descriptor left: give back what can be given back, and try once more.
      if (this.#closeOldest(0) === 0) throw error
      opened = this.#disk.open(handle.path, 'write')
    }
    handle.file = opened
    this.#open.add(handle)
    this.#latest = handle
    return opened
  }

  pin(handle: FileHandle): DiskFile {
    const file = this.use(handle)
    handle.pins++
    return file
  }

  unpin(handle: FileHandle): void {
    assert(handle.pins > 0, 'a handle is unpinned as often as it was pinned')
    handle.pins--
    if (handle.retired && handle.pins === 0) this.#close(handle)
  }

  /** Closes the descriptor as soon as nobody uses it; the handle may be used again unless it is retired. */
  close(handle: FileHandle): void {
    if (handle.pins === 0) this.#close(handle)
  }

  /** The file is deleted or replaced: close it after the last reader. */
  retire(handle: FileHandle): void {
    handle.retired = true
    if (handle.pins === 0) this.#close(handle)
  }

  #closeOldest(keep: number): number {
    let closed = 0
    for (const handle of this.#open) {
      if (this.#open.size <= Math.max(keep, 0)) break
      if (handle.pins > 0) continue
      this.#close(handle)
      closed++
    }
    return closed
  }

  #close(handle: FileHandle): void {
    this.#open.delete(handle)
    if (this.#latest === handle) this.#latest = undefined
    handle.file?.close()
    handle.file = undefined
  }
}
