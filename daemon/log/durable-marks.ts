/**
 * The durable mark of every log of a directory: the offset below which everything was fdatasync'ed
 * (replication.md section 7.3). Two files, durable-marks.a and .b, of fixed slots; a slot belongs to one partition.
 *
 * Slot, 64 bytes (these numbers are permanent):
 *
 *     0   4  "STDM"
 *     4   2  version = 1
 *     6   2  zero
 *     8  16  topic id
 *    24   4  partition
 *    28   8  durable offset
 *    36   8  generation, rising over the whole file pair
 *    44   8  dense end: below it offsets follow one another without gaps
 *    52   8  zero
 *    60   4  CRC-32C over bytes 0 to 59
 *
 * Invariants:
 * - A mark never lies above the truth: it is raised after the sync it stands for, and lowered in both files, and synced,
 *   before a truncation.
 * - Between two syncs only one of the files is written, so that a torn sector never takes both copies of a slot.
 * - A mark that is lost is unknown, never zero.
 */
import { assert } from '../../src/base/assert.ts'
import { StreamError } from '../../src/base/errors.ts'
import type { Disk, DiskFile } from '../../src/ports/disk.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import { int32At, int64At, putInt16, putInt32, putInt64 } from '../../src/record/batch-layout.ts'
import { crc32c } from '../../src/record/crc32c.ts'
import { rewriteInPlace } from './file-writes.ts'
import type { SyncScheduler } from './sync-scheduler.ts'
import { topicIdBytes, topicIdText } from './topic-id.ts'

export const SLOT_BYTES = 64
const MAGIC = 0x5354444d
const VERSION = 1
/** A mark is on the medium at the latest so long after it was raised. */
export const MARK_SYNC_MS = 100

export interface DurableMark {
  readonly topicId: string
  readonly partition: number
  readonly durableOffset: number
  readonly denseEndOffset: number
  readonly generation: number
}

export function encodeMark(mark: DurableMark): Uint8Array {
  const bytes = new Uint8Array(SLOT_BYTES)
  putInt32(bytes, 0, MAGIC)
  putInt16(bytes, 4, VERSION)
  bytes.set(topicIdBytes(mark.topicId), 8)
  putInt32(bytes, 24, mark.partition)
  putInt64(bytes, 28, mark.durableOffset)
  putInt64(bytes, 36, mark.generation)
  putInt64(bytes, 44, mark.denseEndOffset)
  putInt32(bytes, 60, crc32c(bytes, 0, 60))
  return bytes
}

/** @returns undefined for a slot that was never written, or is damaged */
export function decodeMark(bytes: Uint8Array, at: number): DurableMark | undefined {
  if (at < 0 || at + SLOT_BYTES > bytes.length) return undefined
  if (int32At(bytes, at) !== MAGIC || int32At(bytes, at + 4) >> 16 !== VERSION) return undefined
  if (crc32c(bytes, at, at + 60) !== int32At(bytes, at + 60) >>> 0) return undefined
  const durableOffset = int64At(bytes, at + 28)
  const generation = int64At(bytes, at + 36)
  const denseEndOffset = int64At(bytes, at + 44)
  if (!Number.isSafeInteger(durableOffset) || durableOffset < 0) return undefined
  if (!Number.isSafeInteger(generation) || generation < 0) return undefined
  if (!Number.isSafeInteger(denseEndOffset) || denseEndOffset < 0) return undefined
  return {
    topicId: topicIdText(bytes.subarray(at + 8, at + 24)),
    partition: int32At(bytes, at + 24),
    durableOffset,
    denseEndOffset,
    generation,
  }
}

/** The slot of one partition. `durableOffset` is undefined where no valid copy was found at open. */
export class MarkSlot {
  readonly topicId: string
  readonly partition: number
  /** @internal */ readonly index: number
  /** @internal */ durableOffset: number
  /** @internal */ denseEndOffset: number
  /** @internal Rounds in which it must still be written (both files are needed). */ roundsOwed = 0
  /** @internal */ released = false

  constructor(topicId: string, partition: number, index: number) {
    this.topicId = topicId
    this.partition = partition
    this.index = index
    this.durableOffset = 0
    this.denseEndOffset = 0
  }
}

export class DurableMarks {
  readonly #time: Time
  readonly #syncs: SyncScheduler
  readonly #files: readonly [DiskFile, DiskFile]
  readonly #found: Map<string, DurableMark>
  readonly #freeIndexes: number[]
  readonly #slots = new Set<MarkSlot>()
  #slotsCount: number
  #generation: number
  /** The file written now; the other one has no unsynced bytes. */
  #current = 0
  /** Slots to be written when the sync under way has ended. */
  readonly #pending = new Set<MarkSlot>()
  /** Slots raised since the last sync, and those whose turn it is and whose write has failed. */
  readonly #unwritten = new Set<MarkSlot>()
  #currentDirty = false
  #syncing: Promise<void> | undefined
  #timer: Timer | undefined
  #closed = false

  private constructor(
    time: Time,
    syncs: SyncScheduler,
    files: readonly [DiskFile, DiskFile],
    loaded: Loaded,
  ) {
    this.#time = time
    this.#syncs = syncs
    this.#files = files
    this.#found = loaded.found
    this.#freeIndexes = loaded.freeIndexes
    this.#slotsCount = loaded.slotsCount
    this.#generation = loaded.generation
  }

  /** @throws StreamError of the disk; damaged slots are unknown marks, not errors */
  static async open(
    time: Time,
    disk: Disk,
    syncs: SyncScheduler,
    directory: string,
  ): Promise<DurableMarks> {
    const paths = [`${directory}/durable-marks.a`, `${directory}/durable-marks.b`]
    const created = paths.some((path) => disk.stat(path) === undefined)
    const [a, b] = paths.map((path) => disk.open(path, 'write')) as [DiskFile, DiskFile]
    if (created) await syncs.syncDirectory(directory)
    const loaded = load(readWhole(a), readWhole(b))
    // The last run may have died between the two writes of a lowered mark, with unsynced bytes in either file, or with
    // pages that a failed sync left marked clean.
    for (const file of [a, b]) {
      rewriteInPlace(file, 0, file.sizeBytes())
      await syncs.dataSync(file)
    }
    for (const file of [b, a]) {
      if (repair(file, loaded.found)) await syncs.dataSync(file)
    }
    return new DurableMarks(time, syncs, [a, b], loaded)
  }

  /** What the last run left for a partition; undefined: unknown. */
  find(topicId: string, partition: number): DurableMark | undefined {
    return this.#found.get(markKey(topicId, partition))
  }

  /**
   * The slot of a partition, a new one where it had none. A new slot is written with the first raise or lower.
   * Both are remembered until release().
   */
  slot(topicId: string, partition: number): MarkSlot {
    const key = markKey(topicId, partition)
    const found = this.#found.get(key)
    const index = found === undefined ? this.#takeIndex() : this.#indexOf(found)
    const slot = new MarkSlot(topicId, partition, index)
    this.#slots.add(slot)
    if (found !== undefined) {
      slot.durableOffset = found.durableOffset
      slot.denseEndOffset = found.denseEndOffset
    }
    return slot
  }

  /**
   * The partition is gone and its directory durably renamed: its slot is wiped, and may then serve another.
   * Idempotent.
   */
  release(slot: MarkSlot): void {
    if (slot.released) return
    slot.released = true
    this.#slots.delete(slot)
    this.#found.delete(markKey(slot.topicId, slot.partition))
    if (this.#closed || this.#syncs.failure !== undefined) return
    slot.roundsOwed = 2
    this.#put(slot)
    this.#syncSoon()
  }

  /**
   * Onto the medium within MARK_SYNC_MS. The caller has synced what the mark stands for. Not written before that: the
   * write would stand between each group's sync and its acknowledgements, and a process that dies within that time
   * leaves every group whole in the page cache, where recovery needs no mark to keep them.
   */
  raise(slot: MarkSlot, durableOffset: number, denseEndOffset: number): void {
    if (this.#closed || slot.released || this.#syncs.failure !== undefined) return
    assert(durableOffset >= slot.durableOffset, 'a durable mark is lowered only by lower()')
    slot.durableOffset = durableOffset
    slot.denseEndOffset = denseEndOffset
    this.#unwritten.add(slot)
    this.#syncSoon()
  }

  /**
   * Sets the mark in both files and syncs them: before a truncation, and for a new partition.
   * @throws StreamError DISK_FAILED, DISK_FULL, CLOSED: it is not so, or not on the medium
   */
  async lower(slot: MarkSlot, durableOffset: number, denseEndOffset: number): Promise<void> {
    if (this.#closed || slot.released) return
    slot.durableOffset = durableOffset
    slot.denseEndOffset = denseEndOffset
    slot.roundsOwed = 2
    this.#put(slot)
    while (slot.roundsOwed > 0) {
      if (this.#closed) throw new StreamError('CLOSED', 'the durable marks are closed')
      await this.sync()
    }
    await this.sync()
  }

  /** One round: everything written so far is durable when it resolves. @throws StreamError DISK_FAILED, DISK_FULL */
  async sync(): Promise<void> {
    // A sync under way may have begun before the last write: its end starts a round that covers it.
    while (this.#syncing !== undefined) await this.#syncing
    this.#write()
    if (!this.#currentDirty) return
    const written = this.#current
    this.#syncing = this.#round(written)
    try {
      await this.#syncing
    } finally {
      this.#syncing = undefined
    }
    this.#flushPending()
  }

  /** Both copies of every mark are written and durable when it resolves. @throws StreamError DISK_FAILED */
  async close(): Promise<void> {
    await this.sync()
    // Both copies equal: the next run can lose either file.
    for (const slot of this.#slots) {
      slot.roundsOwed = 2
      this.#put(slot)
    }
    await this.sync()
    await this.sync()
    await this.abandon()
  }

  /** Closes the files as they are. Idempotent. */
  async abandon(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#timer?.cancel()
    this.#timer = undefined
    await this.#syncing?.catch(() => {})
    for (const file of this.#files) file.close()
  }

  #syncSoon(): void {
    this.#timer ??= this.#time.setTimer(MARK_SYNC_MS, () => {
      this.#timer = undefined
      this.sync().catch(() => {
        // A failed sync has failed the directory, and everybody was told. A write that failed is tried again.
        if (!this.#closed && this.#syncs.failure === undefined) this.#syncSoon()
      })
    })
  }

  async #round(written: number): Promise<void> {
    const file = this.#files[written] as DiskFile
    await this.#syncs.dataSync(file)
    this.#currentDirty = false
    this.#current = 1 - written
  }

  #flushPending(): void {
    if (this.#pending.size === 0) return
    for (const slot of this.#pending) this.#unwritten.add(slot)
    this.#pending.clear()
    this.#write()
  }

  /** @throws StreamError DISK_FULL, DISK_FAILED: what was not written is tried again by the next sync */
  #write(): void {
    if (this.#closed) return
    for (const slot of [...this.#unwritten]) this.#put(slot)
  }

  #put(slot: MarkSlot): void {
    if (this.#syncing !== undefined) {
      this.#pending.add(slot)
      return
    }
    // A failed write leaves it here: the next sync tries again.
    this.#unwritten.add(slot)
    const file = this.#files[this.#current] as DiskFile
    const generation = ++this.#generation
    const { topicId, partition, durableOffset, denseEndOffset } = slot
    const mark = { topicId, partition, durableOffset, denseEndOffset, generation }
    file.write(slot.index * SLOT_BYTES, [slot.released ? WIPED : encodeMark(mark)])
    this.#currentDirty = true
    this.#unwritten.delete(slot)
    if (slot.roundsOwed > 0) {
      slot.roundsOwed--
      if (slot.roundsOwed > 0) this.#pending.add(slot)
      else if (slot.released) this.#freeIndexes.push(slot.index)
    }
    // The other copy is written when this one is durable.
    if (this.#pending.size > 0) this.#syncSoon()
  }

  #takeIndex(): number {
    const free = this.#freeIndexes.pop()
    if (free !== undefined) return free
    return this.#slotsCount++
  }

  #indexOf(found: DurableMark): number {
    return (found as FoundMark).index
  }
}

interface FoundMark extends DurableMark {
  readonly index: number
}

interface Loaded {
  readonly found: Map<string, DurableMark>
  readonly freeIndexes: number[]
  readonly slotsCount: number
  readonly generation: number
}

function load(a: Uint8Array, b: Uint8Array): Loaded {
  const found = new Map<string, DurableMark>()
  const slotsCount = Math.ceil(Math.max(a.length, b.length) / SLOT_BYTES)
  const taken = new Uint8Array(slotsCount)
  let generation = 0
  for (let index = 0; index < slotsCount; index++) {
    for (const bytes of [a, b]) {
      const mark = decodeMark(bytes, index * SLOT_BYTES)
      if (mark !== undefined && mark.generation > generation) generation = mark.generation
    }
    const mark = newer(decodeMark(a, index * SLOT_BYTES), decodeMark(b, index * SLOT_BYTES))
    if (mark === undefined) continue
    const key = markKey(mark.topicId, mark.partition)
    const other = found.get(key) as FoundMark | undefined
    if (other !== undefined && other.generation > mark.generation) continue
    if (other !== undefined) taken[other.index] = 0
    found.set(key, { ...mark, index } as FoundMark)
    taken[index] = 1
  }
  const freeIndexes: number[] = []
  for (let index = slotsCount - 1; index >= 0; index--) {
    if (taken[index] === 0) freeIndexes.push(index)
  }
  return { found, freeIndexes, slotsCount, generation }
}

/** Writes into a file what it lacks of the marks found. @returns whether anything was written */
function repair(file: DiskFile, found: ReadonlyMap<string, DurableMark>): boolean {
  const bytes = readWhole(file)
  let written = false
  for (const mark of found.values()) {
    const at = (mark as FoundMark).index * SLOT_BYTES
    if (decodeMark(bytes, at)?.generation === mark.generation) continue
    file.write(at, [encodeMark(mark)])
    written = true
  }
  return written
}

function newer(a: DurableMark | undefined, b: DurableMark | undefined): DurableMark | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return a.generation > b.generation ? a : b
}

const WIPED = new Uint8Array(SLOT_BYTES)

function markKey(topicId: string, partition: number): string {
  return `${topicId}-${partition}`
}

function readWhole(file: DiskFile): Uint8Array {
  const bytes = new Uint8Array(file.sizeBytes())
  return bytes.subarray(0, file.read(0, bytes))
}
