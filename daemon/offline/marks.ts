/**
 * The two files of durable marks, read and mended without a daemon (layout and meaning: daemon/log/durable-marks.ts).
 *
 * Invariant: writeMark leaves the other slots as they are, and each file is synced before the other one is touched.
 */
import type { Disk } from '../../src/ports/disk.ts'
import { type DurableMark, decodeMark, encodeMark, SLOT_BYTES } from '../log/durable-marks.ts'

export interface MarkCopy {
  readonly path: string
  readonly exists: boolean
  readonly bytes: Uint8Array
  /** Slots that hold something which is no mark. */
  readonly badSlots: readonly number[]
  /** Bytes behind the last whole slot. */
  readonly surplusBytes: number
}

export interface Marks {
  readonly copies: readonly [MarkCopy, MarkCopy]
  /** Slots of which no copy is sound although one holds something. */
  readonly lostSlots: readonly number[]
  /** What counts: of two copies the newer. */
  readonly all: readonly (DurableMark & { readonly slot: number })[]
  find(topicId: string, partition: number): DurableMark | undefined
}

export function readMarks(disk: Disk, directory: string): Marks {
  const copies = [`${directory}/durable-marks.a`, `${directory}/durable-marks.b`].map((path) =>
    readCopy(disk, path),
  ) as [MarkCopy, MarkCopy]
  const [a, b] = copies
  const slots = Math.floor(Math.max(a.bytes.length, b.bytes.length) / SLOT_BYTES)
  const newest = new Map<string, DurableMark & { readonly slot: number }>()
  const lostSlots: number[] = []
  for (let slot = 0; slot < slots; slot += 1) {
    const mark = newer(
      decodeMark(a.bytes, slot * SLOT_BYTES),
      decodeMark(b.bytes, slot * SLOT_BYTES),
    )
    if (mark === undefined) {
      if (a.badSlots.includes(slot) || b.badSlots.includes(slot)) lostSlots.push(slot)
      continue
    }
    const key = `${mark.topicId}-${mark.partition}`
    if ((newest.get(key)?.generation ?? -1) < mark.generation) newest.set(key, { ...mark, slot })
  }
  return {
    copies,
    lostSlots,
    all: [...newest.values()],
    find: (topicId, partition) => newest.get(`${topicId}-${partition}`),
  }
}

function readCopy(disk: Disk, path: string): MarkCopy {
  const found = disk.readFile(path)
  const bytes = found ?? new Uint8Array(0)
  const badSlots: number[] = []
  for (let at = 0; at + SLOT_BYTES <= bytes.length; at += SLOT_BYTES) {
    const isWiped = bytes.subarray(at, at + SLOT_BYTES).every((byte) => byte === 0)
    if (!isWiped && decodeMark(bytes, at) === undefined) badSlots.push(at / SLOT_BYTES)
  }
  const surplusBytes = bytes.length % SLOT_BYTES
  return { path, exists: found !== undefined, bytes, badSlots, surplusBytes }
}

function newer(a: DurableMark | undefined, b: DurableMark | undefined): DurableMark | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return a.generation > b.generation ? a : b
}

/** Sets a partition's mark in both files. @throws StreamError of the disk */
export async function writeMark(
  disk: Disk,
  directory: string,
  mark: Omit<DurableMark, 'generation'>,
): Promise<void> {
  const marks = readMarks(disk, directory)
  const found = marks.all.find(
    (each) => each.topicId === mark.topicId && each.partition === mark.partition,
  )
  const generation = Math.max(0, ...marks.all.map((each) => each.generation)) + 1
  const taken = new Set(marks.all.map((each) => each.slot))
  let slot = found?.slot ?? 0
  while (found === undefined && taken.has(slot)) slot += 1
  const bytes = encodeMark({ ...mark, generation })
  for (const copy of marks.copies) await writeSlots(disk, copy.path, [{ slot, bytes }])
  await disk.syncDirectory(directory)
}

/** Makes both files hold every mark there is, and nothing else. @throws StreamError of the disk */
export async function mendMarks(disk: Disk, directory: string): Promise<void> {
  const marks = readMarks(disk, directory)
  for (const copy of marks.copies) {
    const kept = new Map(marks.all.map((mark) => [mark.slot, encodeMark(mark)]))
    for (const slot of copy.badSlots) {
      if (!kept.has(slot)) kept.set(slot, new Uint8Array(SLOT_BYTES))
    }
    const slots = [...kept].map(([slot, bytes]) => ({ slot, bytes }))
    await writeSlots(disk, copy.path, slots, copy.bytes.length - copy.surplusBytes)
  }
  await disk.syncDirectory(directory)
}

async function writeSlots(
  disk: Disk,
  path: string,
  slots: readonly { readonly slot: number; readonly bytes: Uint8Array }[],
  wholeBytes?: number,
): Promise<void> {
  const file = disk.open(path, 'write')
  try {
    if (wholeBytes !== undefined && file.sizeBytes() > wholeBytes) file.truncate(wholeBytes)
    for (const { slot, bytes } of slots) file.write(slot * SLOT_BYTES, [bytes])
    await file.sync()
  } finally {
    file.close()
  }
}
