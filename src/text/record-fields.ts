/**
 * The fields of one record as byte ranges, between a reader of text and the batch builder: one object, used again for
 * every record, so that a record costs no allocation. It has the shape that the batch builder
 * takes (RecordInput).
 *
 * Invariants: null is never an empty range; the ranges stay valid until the next record is read into the same object.
 */

/** A timestamp that the record does not carry. */
export const NO_TIMESTAMP = -1

/** A range of bytes that can be moved; `start` −1: null. */
export class RangeSlot {
  bytes: Uint8Array = new Uint8Array(0)
  start = -1
  end = -1

  set(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = bytes
    this.start = start
    this.end = end
  }

  setNull(): void {
    this.start = -1
    this.end = -1
  }

  orNull(): this | null {
    return this.start < 0 ? null : this
  }

  /** A view, empty for null. */
  view(): Uint8Array {
    return this.start < 0 ? this.bytes.subarray(0, 0) : this.bytes.subarray(this.start, this.end)
  }
}

/** A header; names are never null. */
export class HeaderSlot {
  readonly key = new RangeSlot()
  readonly valueSlot = new RangeSlot()

  get value(): RangeSlot | null {
    return this.valueSlot.orNull()
  }
}

export class RecordFields {
  readonly keySlot = new RangeSlot()
  readonly valueSlot = new RangeSlot()
  readonly headers: HeaderSlot[] = []
  /** undefined: the input does not say; NO_TIMESTAMP: it has none. */
  timestampMs: number | undefined = undefined
  topic: string | undefined = undefined
  partition: number | undefined = undefined
  /** Only where a reader was asked to keep it. */
  offset: number | undefined = undefined
  /** Whether the input said anything about the key (an envelope's `"key":null` does). */
  hasKey = false
  readonly #pool: HeaderSlot[] = []

  get key(): RangeSlot | null {
    return this.keySlot.orNull()
  }

  get value(): RangeSlot | null {
    return this.valueSlot.orNull()
  }

  reset(): void {
    this.keySlot.setNull()
    this.valueSlot.setNull()
    this.headers.length = 0
    this.timestampMs = undefined
    this.topic = undefined
    this.partition = undefined
    this.offset = undefined
    this.hasKey = false
  }

  addHeader(): HeaderSlot {
    const index = this.headers.length
    let header = this.#pool[index]
    if (header === undefined) {
      header = new HeaderSlot()
      this.#pool.push(header)
    }
    this.headers.push(header)
    return header
  }
}
