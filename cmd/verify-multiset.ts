/**
 * `verify --any-order`: two sides as multisets, whatever the order and the partition, in bounded memory. Records are
 * counted by a hash of 64 bits: up in A, down in B. What does not fit the table is done in further passes, each over a
 * share of the hashes.
 *
 * That two different records have one hash is so unlikely (n² / 2⁶⁵) that equal counts are taken for equal multisets.
 */

import {
  type ComparedRecord,
  ComparedRecord as CompareRecord,
  type Comparison,
} from './verify-record.ts'
import type { VerifySide } from './verify-side.ts'

export interface MultisetResult {
  readonly a: number
  readonly b: number
  readonly equal: number
  /** The first in A that B lacks, and the first in B that A lacks. */
  readonly onlyInA: ComparedRecord | undefined
  readonly onlyInB: ComparedRecord | undefined
}

/** 2²¹ places of 12 bytes. */
const PLACES = 1 << 21
const ENTRIES_MAX = Math.floor(PLACES * 0.7)

export async function compareMultisets(
  a: VerifySide,
  b: VerifySide,
  what: Comparison,
  places = PLACES,
): Promise<MultisetResult> {
  for (let passes = 1; ; passes *= 4) {
    const result = await tryPasses(a, b, what, { passes, places })
    if (result !== undefined) return result
  }
}

async function tryPasses(
  a: VerifySide,
  b: VerifySide,
  what: Comparison,
  options: { readonly passes: number; readonly places: number },
): Promise<MultisetResult | undefined> {
  const { passes, places } = options
  let countA = 0
  let countB = 0
  let leftover = 0
  let onlyInA: ComparedRecord | undefined
  let onlyInB: ComparedRecord | undefined
  for (let pass = 0; pass < passes; pass += 1) {
    const table = new HashCounts(places)
    const share = { pass, passes }
    const inA = await countInto(table, a, 1, what, share)
    const inB = inA === undefined ? undefined : await countInto(table, b, -1, what, share)
    if (inA === undefined || inB === undefined) return undefined
    countA += inA
    countB += inB
    leftover += table.positiveSum()
    onlyInA ??= await findFirst(table, a, 1, what, share)
    onlyInB ??= await findFirst(table, b, -1, what, share)
  }
  return { a: countA, b: countB, equal: countA - leftover, onlyInA, onlyInB }
}

interface Share {
  readonly pass: number
  readonly passes: number
}

/** @returns how many records fell to this share; undefined: the table is full */
async function countInto(
  table: HashCounts,
  side: VerifySide,
  step: 1 | -1,
  what: Comparison,
  share: Share,
): Promise<number | undefined> {
  let count = 0
  const isWhole = await eachRecord(side, what, share, (_record, high, low) => {
    count += 1
    return table.add(high, low, step)
  })
  return isWhole ? count : undefined
}

/** The first record of a side that the other has fewer of. */
async function findFirst(
  table: HashCounts,
  side: VerifySide,
  sign: 1 | -1,
  what: Comparison,
  share: Share,
): Promise<ComparedRecord | undefined> {
  if (!table.hasSign(sign)) return undefined
  let found: ComparedRecord | undefined
  await eachRecord(side, what, share, (record, high, low) => {
    if (Math.sign(table.count(high, low)) !== sign) return true
    found = new CompareRecord()
    found.copyFrom(record)
    return false
  })
  return found
}

/** @returns false if `take` said to stop */
async function eachRecord(
  side: VerifySide,
  what: Comparison,
  { pass, passes }: Share,
  take: (record: ComparedRecord, high: number, low: number) => boolean,
): Promise<boolean> {
  const stream = await side.read(undefined)
  const record = new CompareRecord()
  const hash = new Int32Array(2)
  try {
    for (;;) {
      const next = stream.next(record)
      if (!(typeof next === 'boolean' ? next : await next)) return true
      record.hash(what, hash)
      const high = hash[0] as number
      if ((high >>> 0) % passes !== pass) continue
      if (!take(record, high, hash[1] as number)) return false
    }
  } finally {
    stream.close()
  }
}

/** Counts by hash: open addressing in three arrays. */
class HashCounts {
  readonly #highs: Int32Array
  readonly #lows: Int32Array
  readonly #counts: Int32Array
  readonly #used: Uint8Array
  #entries = 0

  constructor(places: number) {
    this.#highs = new Int32Array(places)
    this.#lows = new Int32Array(places)
    this.#counts = new Int32Array(places)
    this.#used = new Uint8Array(places)
  }

  /** @returns false if there is no room for another hash */
  add(high: number, low: number, step: number): boolean {
    const place = this.#find(high, low)
    if (this.#used[place] === 0) {
      const entriesMax = Math.min(ENTRIES_MAX, Math.floor(this.#used.length * 0.7))
      if (this.#entries >= entriesMax) return false
      this.#entries += 1
      this.#used[place] = 1
      this.#highs[place] = high
      this.#lows[place] = low
    }
    this.#counts[place] = (this.#counts[place] as number) + step
    return true
  }

  count(high: number, low: number): number {
    return this.#counts[this.#find(high, low)] as number
  }

  positiveSum(): number {
    let sum = 0
    for (const count of this.#counts) if (count > 0) sum += count
    return sum
  }

  hasSign(sign: 1 | -1): boolean {
    return this.#counts.some((count) => count * sign > 0)
  }

  /** The place of a hash, or the free one where it would go. */
  #find(high: number, low: number): number {
    const mask = this.#used.length - 1
    let place = low & mask
    while (this.#used[place] === 1) {
      if (this.#highs[place] === high && this.#lows[place] === low) break
      place = (place + 1) & mask
    }
    return place
  }
}
