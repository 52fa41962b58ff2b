/**
 * The simulated disk: files with a page cache that a crash loses, names that are not durable until their directory was
 * synced, a space that fills up, syncs that fail as a kernel lets them fail, bits that flip.
 *
 * What survives `restart('power')`: of every file its durable bytes and a random subset of the 512-byte sectors written
 * since, with some size between the durable and the last one; of every directory its durable names and a prefix of the
 * changes since (a journal keeps their order), or any of them. `restart('process')` keeps all that was written: the kernel lives on.
 *
 * A sync covers what was written before it began. A failed sync forgets which pages were dirty, so that a later one
 * succeeds without having written them: the trap of a retried fsync. It does so too when the process dies meanwhile, and
 * nobody learns of it.
 */
import { StreamError } from '../../src/base/errors.ts'
import type { Disk, DiskFile, DiskLock, DiskSpace, DiskStat } from '../../src/ports/disk.ts'
import type { Time } from '../../src/ports/time.ts'
import type { SimRandom } from './sim-random.ts'

const SECTOR_BYTES = 512
/** What the kernel reads at one time, also in order to write a part of it. */
const PAGE_BYTES = 4096

/** What every call of a dead disk throws: the process that made it no longer exists. */
export class SimCrash extends Error {
  override readonly name = 'SimCrash'
}

export interface SimDiskOptions {
  readonly totalBytes?: number
  /** Bounds of the virtual time a sync takes. */
  readonly syncMsMin?: number
  readonly syncMsMax?: number
  /** Odds that a sync fails with EIO. */
  readonly syncFailure?: number
  /**
   * What a power cut leaves of the unsynced changes of a directory: a prefix of them, as a journal does (the default), or
   * any of them. A rename is whole or not at all either way.
   */
  readonly directoryChanges?: 'prefix' | 'any'
  /** After a power cut some sectors of the last writes are kept, others not; 0: none, 1: all. Drawn per file if absent. */
  readonly keptSectors?: number
}

class FileNode {
  kind = 'file' as const
  data = new Uint8Array(0)
  size = 0
  durable = new Uint8Array(0)
  durableSize = 0
  /** Sectors that differ from `durable`, or may, each with the number of the write that touched it last. */
  readonly dirty = new Map<number, number>()
  writes = 0
  /** The last write that is durable. */
  durableWrites = 0
  modifiedMs = 0
  /** Numbers of the pages that the medium does not give back, until they are written as a whole. */
  readonly spoiled = new Set<number>()
}

class DirectoryNode {
  kind = 'directory' as const
  names = new Map<string, Node>()
  durableNames = new Map<string, Node>()
  /** The last change that is durable. */
  durableStep = 0
  /** Since the last sync, in order; undefined: removed. */
  changes: { readonly name: string; readonly node: Node | undefined; readonly step: number }[] = []
}

type Node = FileNode | DirectoryNode

export class SimDisk implements Disk {
  readonly #ids = new WeakMap<object, string>()
  #idCount = 0
  readonly random: SimRandom
  readonly #time: Time
  readonly #options: SimDiskOptions
  #root = new DirectoryNode()
  readonly #locks = new Set<string>()
  /** What the failing syncs under way do to the page cache. */
  readonly #failing = new Set<() => void>()
  #dead = false
  /** Rises with each crash in place. */
  #generation = 0
  #step = 0
  #usedBytes = 0
  /** May be changed at any time: less than what is used makes every growing write fail. */
  totalBytes: number
  /** Calls that change something or wait for the medium, so far. */
  operations = 0
  /** The disk dies in the middle of this operation. */
  crashAtOperation = Infinity
  /** Makes a sync fail; asked with the path before each one. */
  failsSync: (path: string) => boolean
  /** Told of each operation: for tests that look for a place to crash. */
  onOperation: ((name: string, path: string) => void) | undefined
  /** Called at once when crashAtOperation is reached: whoever runs the process takes its network away, too. */
  onDeath: (() => void) | undefined

  constructor(random: SimRandom, time: Time, options: SimDiskOptions = {}) {
    this.random = random
    this.#time = time
    this.#options = options
    this.totalBytes = options.totalBytes ?? 2 ** 40
    this.failsSync = () => random.chance(options.syncFailure ?? 0)
  }

  /** True after a crash: every call throws SimCrash, and no promise of it settles any more. */
  get isDead(): boolean {
    return this.#dead
  }

  /** The process or the machine ends now. */
  kill(): void {
    this.#dead = true
  }

  /** The disk as the next process finds it. This one is dead from here on. */
  restart(kind: 'process' | 'power', time: Time = this.#time): SimDisk {
    this.kill()
    for (const failed of this.#failing) failed()
    this.#failing.clear()
    const next = new SimDisk(this.random, time, { ...this.#options, totalBytes: this.totalBytes })
    const copies = new Map<Node, Node>()
    next.#step = this.#step
    next.#root = this.#survivor(this.#root, kind, copies) as DirectoryNode
    next.#usedBytes = next.#countBytes(next.#root, new Set())
    return next
  }

  /**
   * As restart, in place: the next process uses this same object, and what the dead one had open stays dead. For
   * drivers that stop the dead process's timers, so that nothing of it can call again.
   */
  crash(kind: 'process' | 'power' = 'power'): void {
    const next = this.restart(kind)
    this.#root = next.#root
    this.#usedBytes = next.#usedBytes
    this.#locks.clear()
    this.crashAtOperation = Infinity
    this.#generation++
    this.#dead = false
  }

  // --- Disk

  open(path: string, mode: 'read' | 'write'): DiskFile {
    this.#alive()
    const { directory, name } = this.#parent(path)
    let node = directory.names.get(name)
    if (node === undefined) {
      if (mode === 'read') throw notFound(path)
      this.#begin('create', path)
      node = new FileNode()
      node.modifiedMs = this.#time.wallMs()
      this.#set(directory, name, node)
    }
    if (node.kind !== 'file') throw new StreamError('DISK_FAILED', `${path}: is a directory`)
    return new SimFile(this, path, node)
  }

  readFile(path: string): Uint8Array | undefined {
    this.#alive()
    const node = this.#find(path)
    return node?.kind === 'file' ? node.data.slice(0, node.size) : undefined
  }

  list(path: string): readonly string[] {
    this.#alive()
    const node = this.#find(path)
    return node?.kind === 'directory' ? [...node.names.keys()].sort() : []
  }

  stat(path: string): DiskStat | undefined {
    this.#alive()
    const node = this.#find(path)
    if (node === undefined) return undefined
    return node.kind === 'file'
      ? { sizeBytes: node.size, isDirectory: false, modifiedMs: node.modifiedMs }
      : { sizeBytes: 0, isDirectory: true, modifiedMs: 0 }
  }

  makeDirectory(path: string): void {
    this.#begin('makeDirectory', path)
    let directory = this.#root
    for (const name of parts(path)) {
      let node = directory.names.get(name)
      if (node === undefined) {
        node = new DirectoryNode()
        this.#set(directory, name, node)
      }
      if (node.kind !== 'directory') throw new StreamError('DISK_FAILED', `${path}: is a file`)
      directory = node
    }
  }

  rename(from: string, to: string): void {
    this.#begin('rename', `${from} → ${to}`)
    const source = this.#parent(from)
    const target = this.#parent(to)
    const node = source.directory.names.get(source.name)
    if (node === undefined) throw notFound(from)
    const step = ++this.#step
    this.#set(target.directory, target.name, node, step)
    this.#set(source.directory, source.name, undefined, step)
  }

  unlink(path: string): void {
    this.#begin('unlink', path)
    const node = this.#find(path)
    if (node === undefined) return
    const { directory, name } = this.#parent(path)
    this.#set(directory, name, undefined)
    if (node.kind === 'file') this.#usedBytes -= node.size
  }

  removeTree(path: string): void {
    this.#begin('removeTree', path)
    const node = this.#find(path)
    if (node === undefined) return
    const { directory, name } = this.#parent(path)
    this.#set(directory, name, undefined)
    this.#usedBytes -= this.#countBytes(node, new Set())
  }

  syncDirectory(path: string): Promise<void> {
    this.#begin('syncDirectory', path)
    const node = this.#find(path)
    if (node?.kind !== 'directory') return Promise.reject(notFound(path))
    const names = new Map(node.names)
    const step = this.#step
    return this.#wait(
      path,
      () => undefined,
      () => {
        // One that began later may have ended before: what is durable stays so.
        if (step < node.durableStep) return
        node.durableStep = step
        node.durableNames = names
        node.changes = node.changes.filter((change) => change.step > step)
      },
    )
  }

  space(path: string): DiskSpace {
    this.#alive()
    if (this.#find(path) === undefined) throw notFound(path)
    return {
      freeBytes: Math.max(0, this.totalBytes - this.#usedBytes),
      totalBytes: this.totalBytes,
    }
  }

  lock(path: string): DiskLock {
    this.#alive()
    if (this.#locks.has(path)) {
      throw new StreamError('DIRECTORY_LOCKED', `${path}: another process holds it`)
    }
    this.open(path, 'write').close()
    this.#locks.add(path)
    return { release: () => this.#locks.delete(path) }
  }

  // --- faults

  /** Flips one bit of what is stored, in the cache and on the medium. */
  flipBit(path: string, position: number, bit: number): void {
    const node = this.#find(path)
    if (node?.kind !== 'file' || position >= node.size) throw notFound(`${path}@${position}`)
    node.data[position] = (node.data[position] ?? 0) ^ (1 << bit)
    if (position < node.durableSize) {
      node.durable[position] = (node.durable[position] ?? 0) ^ (1 << bit)
    }
  }

  /** The medium does not give back the page at `position` any more, until it is written as a whole. */
  spoilPage(path: string, position: number): void {
    const node = this.#find(path)
    if (node?.kind !== 'file' || position >= node.size) throw notFound(`${path}@${position}`)
    node.spoiled.add(Math.floor(position / PAGE_BYTES))
  }

  /** What the medium holds of a file, whatever the page cache does. */
  durableFile(path: string): Uint8Array {
    const node = this.#find(path)
    return node?.kind === 'file' ? node.durable.slice(0, node.durableSize) : new Uint8Array(0)
  }

  /** Every file, with its size. */
  files(): { readonly path: string; readonly sizeBytes: number }[] {
    const found: { path: string; sizeBytes: number }[] = []
    const visit = (node: Node, path: string): void => {
      if (node.kind === 'file') found.push({ path, sizeBytes: node.size })
      else for (const [name, child] of [...node.names].sort()) visit(child, `${path}/${name}`)
    }
    visit(this.#root, '')
    return found
  }

  // --- used by SimFile

  /** @internal */ writeNode(
    node: FileNode,
    path: string,
    position: number,
    bytes: readonly Uint8Array[],
  ): void {
    const total = bytes.reduce((sum, part) => sum + part.length, 0)
    let allowed = total
    let failure: Error | undefined
    const crashes = this.#beginOrCrash('write', path)
    if (crashes) {
      // Dies in the middle: a prefix has reached the page cache.
      allowed = this.random.integer(total + 1)
      failure = new SimCrash('the process died in a write')
    } else {
      const growth = Math.max(0, position + total - node.size)
      const free = Math.max(0, this.totalBytes - this.#usedBytes)
      if (growth > free) {
        allowed = Math.max(0, total - growth + this.random.integer(free + 1))
        failure = new StreamError('DISK_FULL', `${path}: no space left`, { target: path })
      }
    }
    refillPages(node, path, position, position + allowed)
    let at = position
    let left = allowed
    for (const part of bytes) {
      const count = Math.min(part.length, left)
      this.#put(node, at, part.subarray(0, count))
      at += count
      left -= count
    }
    node.modifiedMs = this.#time.wallMs()
    if (failure !== undefined) throw failure
  }

  /** @internal */ truncateNode(node: FileNode, path: string, size: number): void {
    this.#begin('truncate', path)
    if (size > node.size) {
      grow(node, size)
      node.data.fill(0, node.size, size)
      markDirty(node, node.size, size)
    } else markDirty(node, size, node.size)
    this.#usedBytes += size - node.size
    node.size = size
  }

  /** @internal */ syncNode(node: FileNode, path: string): Promise<void> {
    this.#begin('sync', path)
    const sectors = [...node.dirty.keys()]
    const versions = new Map(node.dirty)
    const { writes } = node
    // Done or failed, the kernel takes these pages for clean, unless they were written again meanwhile.
    const markClean = (): void => {
      for (const [sector, version] of versions) {
        if (node.dirty.get(sector) === version) node.dirty.delete(sector)
      }
    }
    const size = node.size
    const copy = new Uint8Array(sectors.length * SECTOR_BYTES)
    for (const [index, sector] of sectors.entries()) {
      const start = sector * SECTOR_BYTES
      copy.set(
        node.data.subarray(start, Math.min(start + SECTOR_BYTES, size)),
        index * SECTOR_BYTES,
      )
    }
    return this.#wait(path, markClean, () => {
      markClean()
      // One that began later may have ended before: what is durable stays so.
      if (writes < node.durableWrites) return
      node.durableWrites = writes
      if (node.durable.length < size) {
        const grown = new Uint8Array(Math.max(size, node.durable.length * 2))
        grown.set(node.durable)
        node.durable = grown
      }
      for (const [index, sector] of sectors.entries()) {
        const start = sector * SECTOR_BYTES
        const end = Math.min(start + SECTOR_BYTES, size)
        if (end > start) {
          node.durable.set(
            copy.subarray(index * SECTOR_BYTES, index * SECTOR_BYTES + end - start),
            start,
          )
        }
      }
      if (size < node.durableSize) node.durable.fill(0, size, node.durableSize)
      node.durableSize = size
    })
  }

  /** @internal */ asyncRead(read: () => number): Promise<number> {
    this.#alive()
    const generation = this.#generation
    return new Promise((resolve, reject) => {
      this.#time.setTimer(this.random.between(0.01, 0.2), () => {
        if (this.#dead || generation !== this.#generation) return
        try {
          resolve(read())
        } catch (error) {
          reject(error as Error)
        }
      })
    })
  }

  /** @internal */ get generation(): number {
    return this.#generation
  }

  /** @internal */ checkAlive(generation: number): void {
    this.#alive()
    if (generation !== this.#generation) throw new SimCrash('the process that opened this is dead')
  }

  // --- inside

  #put(node: FileNode, position: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return
    const end = position + bytes.length
    grow(node, end)
    if (position > node.size) {
      node.data.fill(0, node.size, position)
      markDirty(node, node.size, position)
    }
    node.data.set(bytes, position)
    markDirty(node, position, end)
    if (end > node.size) {
      this.#usedBytes += end - node.size
      node.size = end
    }
  }

  #wait(path: string, failed: () => void, done: () => void): Promise<void> {
    const fails = this.failsSync(path)
    const { syncMsMin = 0.1, syncMsMax = 2 } = this.#options
    const generation = this.#generation
    if (fails) this.#failing.add(failed)
    return new Promise((resolve, reject) => {
      this.#time.setTimer(this.random.between(syncMsMin, syncMsMax), () => {
        if (this.#dead || generation !== this.#generation) return
        if (fails) {
          this.#failing.delete(failed)
          failed()
          reject(new StreamError('DISK_FAILED', `${path}: EIO from a sync`, { target: path }))
          return
        }
        done()
        resolve()
      })
    })
  }

  #alive(): void {
    if (this.#dead) throw new SimCrash('the process that owned this disk is dead')
  }

  #begin(name: string, path: string): void {
    if (this.#beginOrCrash(name, path))
      throw new SimCrash(`the process died before ${name} ${path}`)
  }

  #beginOrCrash(name: string, path: string): boolean {
    this.#alive()
    this.onOperation?.(name, path)
    this.#alive()
    this.operations++
    if (this.operations < this.crashAtOperation) return false
    this.#dead = true
    this.onDeath?.()
    return true
  }

  #set(directory: DirectoryNode, name: string, node: Node | undefined, step = ++this.#step): void {
    if (node === undefined) directory.names.delete(name)
    else directory.names.set(name, node)
    directory.changes.push({ name, node, step })
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root
    for (const name of parts(path)) {
      if (node?.kind !== 'directory') return undefined
      node = node.names.get(name)
    }
    return node
  }

  #parent(path: string): { readonly directory: DirectoryNode; readonly name: string } {
    const names = parts(path)
    const name = names.pop()
    const directory = this.#find(names.join('/'))
    if (name === undefined || directory?.kind !== 'directory') throw notFound(path)
    return { directory, name }
  }

  /** What a crash leaves of a node. A name that two directories hold (a rename half kept) shares its content. */
  #survivor(node: Node, kind: 'process' | 'power', copies: Map<Node, Node>): Node {
    const known = copies.get(node)
    if (known !== undefined) return known
    if (node.kind === 'file') {
      const file = kind === 'process' ? copyOf(node) : this.#torn(node)
      copies.set(node, file)
      return file
    }
    const directory = new DirectoryNode()
    copies.set(node, directory)
    const names = kind === 'process' ? node.names : this.#keptNames(node)
    for (const [name, child] of names) {
      directory.names.set(name, this.#survivor(child, kind, copies))
    }
    // After a power cut what is found is what the medium holds; a dead process leaves its changes in the cache.
    if (kind === 'power') directory.durableNames = new Map(directory.names)
    else {
      for (const [name, child] of node.durableNames) {
        directory.durableNames.set(name, this.#survivor(child, kind, copies))
      }
      directory.changes = node.changes.map((change) => ({
        ...change,
        node: change.node && this.#survivor(change.node, kind, copies),
      }))
    }
    return directory
  }

  #keptNames(node: DirectoryNode): Map<string, Node> {
    const names = new Map(node.durableNames)
    if (this.#options.directoryChanges === 'any') {
      const keptSteps = new Set<number>()
      for (const { step } of node.changes) if (this.random.chance(0.5)) keptSteps.add(step)
      for (const change of node.changes) {
        if (!keptSteps.has(change.step)) continue
        if (change.node === undefined) names.delete(change.name)
        else names.set(change.name, change.node)
      }
      return names
    }
    const kept = this.random.integer(node.changes.length + 1)
    // A rename inside one directory is one step: both of its changes or none.
    const lastStep = node.changes[kept - 1]?.step ?? -1
    for (const change of node.changes) {
      if (change.step > lastStep) break
      if (change.node === undefined) names.delete(change.name)
      else names.set(change.name, change.node)
    }
    return names
  }

  #torn(node: FileNode): FileNode {
    const file = new FileNode()
    for (const page of node.spoiled) file.spoiled.add(page)
    const odds = this.#options.keptSectors ?? this.random.pick([0, 0.1, 0.5, 0.9, 1])
    const low = Math.min(node.durableSize, node.size)
    const high = Math.max(node.durableSize, node.size)
    const size = this.random.pick([
      node.durableSize,
      node.size,
      low + this.random.integer(high - low + 1),
    ])
    file.data = new Uint8Array(size)
    file.data.set(node.durable.subarray(0, Math.min(size, node.durableSize)))
    for (const sector of [...node.dirty.keys()].sort((left, right) => left - right)) {
      if (!this.random.chance(odds)) continue
      const start = sector * SECTOR_BYTES
      const end = Math.min(start + SECTOR_BYTES, size, node.size)
      if (end > start) file.data.set(node.data.subarray(start, end), start)
    }
    file.size = size
    file.durable = file.data.slice()
    file.durableSize = size
    file.modifiedMs = node.modifiedMs
    return file
  }

  /** As inode numbers: a node keeps its own, whatever it is called. */
  idOf(node: object): string {
    let id = this.#ids.get(node)
    if (id === undefined) {
      this.#idCount += 1
      id = `sim:${this.#idCount}`
      this.#ids.set(node, id)
    }
    return id
  }

  #countBytes(node: Node, seen: Set<Node>): number {
    if (seen.has(node)) return 0
    seen.add(node)
    if (node.kind === 'file') return node.size
    let total = 0
    for (const child of node.names.values()) total += this.#countBytes(child, seen)
    return total
  }
}

class SimFile implements DiskFile {
  readonly path: string
  readonly #disk: SimDisk
  readonly #node: FileNode
  readonly #generation: number
  #closed = false

  constructor(disk: SimDisk, path: string, node: FileNode) {
    this.#disk = disk
    this.#generation = disk.generation
    this.path = path
    this.#node = node
  }

  sizeBytes(): number {
    this.#open()
    return this.#node.size
  }

  fileId(): string {
    this.#open()
    return this.#disk.idOf(this.#node)
  }

  read(position: number, target: Uint8Array): number {
    this.#open()
    return this.#read(position, target)
  }

  readAsync(position: number, target: Uint8Array): Promise<number> {
    this.#open()
    return this.#disk.asyncRead(() => this.#read(position, target))
  }

  write(position: number, bytes: readonly Uint8Array[]): void {
    this.#open()
    this.#disk.writeNode(this.#node, this.path, position, bytes)
  }

  truncate(sizeBytes: number): void {
    this.#open()
    this.#disk.truncateNode(this.#node, this.path, sizeBytes)
  }

  dataSync(): Promise<void> {
    this.#open()
    return this.#disk.syncNode(this.#node, this.path)
  }

  sync(): Promise<void> {
    return this.dataSync()
  }

  close(): void {
    this.#closed = true
  }

  #read(position: number, target: Uint8Array): number {
    const count = Math.max(0, Math.min(target.length, this.#node.size - position))
    for (const page of this.#node.spoiled) {
      if (page * PAGE_BYTES < position + count && position < (page + 1) * PAGE_BYTES)
        throw unreadable('read', this.path)
    }
    target.set(this.#node.data.subarray(position, position + count))
    return count
  }

  #open(): void {
    this.#disk.checkAlive(this.#generation)
    if (this.#closed) throw new StreamError('CLOSED', `${this.path}: the file is closed`)
  }
}

/** @throws StreamError where a part of a page is written that cannot be read */
function refillPages(node: FileNode, path: string, start: number, end: number): void {
  for (const page of node.spoiled) {
    const [first, behind] = [page * PAGE_BYTES, (page + 1) * PAGE_BYTES]
    if (behind <= start || first >= end) continue
    if (first < start || behind > end) throw unreadable('write', path)
    node.spoiled.delete(page)
  }
}

function unreadable(doing: string, path: string): StreamError {
  const cause = Object.assign(new Error('EIO'), { code: 'EIO' })
  return new StreamError('DISK_FAILED', `cannot ${doing} ${path}: EIO`, { target: path, cause })
}

function parts(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.')
}

function notFound(path: string): StreamError {
  return new StreamError('FILE_NOT_FOUND', `${path}: no such file`, { target: path })
}

function grow(node: FileNode, size: number): void {
  if (node.data.length >= size) return
  const grown = new Uint8Array(Math.max(size, node.data.length * 2, SECTOR_BYTES))
  grown.set(node.data.subarray(0, node.size))
  node.data = grown
}

function markDirty(node: FileNode, start: number, end: number): void {
  node.writes++
  for (let sector = Math.floor(start / SECTOR_BYTES); sector * SECTOR_BYTES < end; sector++) {
    node.dirty.set(sector, node.writes)
  }
}

function copyOf(node: FileNode): FileNode {
  const file = new FileNode()
  file.data = node.data.slice(0, node.size)
  file.size = node.size
  file.durable = node.durable.slice(0, node.durableSize)
  file.durableSize = node.durableSize
  for (const [sector, version] of node.dirty) file.dirty.set(sector, version)
  for (const page of node.spoiled) file.spoiled.add(page)
  file.writes = node.writes
  file.durableWrites = node.durableWrites
  file.modifiedMs = node.modifiedMs
  return file
}
