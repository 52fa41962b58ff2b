/**
 * What happens to input that makes no record (`--on-error`), and which input line a record came from.
 *
 * Invariants: the number of a line is the number of records seen so far, those in error included; the producer counts
 * only what was appended (ordinals). The lines in error, by the ordinal at which they came, translate between the two.
 */

import { StreamError } from '../src/base/errors.ts'
import type { Delivery } from '../src/client/delivery.ts'
import type { Console } from './console.ts'
import type { DeadLetters } from './dead-letters.ts'

export type ErrorPolicy =
  | { readonly kind: 'stop' }
  | { readonly kind: 'skip' }
  | { readonly kind: 'dead-letter'; readonly letters: DeadLetters }

export class RecordErrors {
  count = 0
  readonly #policy: ErrorPolicy
  readonly #console: Console
  /** Of each line in error how many records had been appended before it. Rising. */
  readonly #ordinals: number[] = []
  /** Batches that the broker refused, and that were left out. */
  readonly #refused: { readonly firstOrdinal: number; readonly recordCount: number }[] = []
  /** Lines of the input that an earlier run has dealt with. */
  #linesBefore = 0

  constructor(policy: ErrorPolicy, console: Console) {
    this.#policy = policy
    this.#console = console
  }

  /** The first `lines` lines of the input are not of this run. */
  startAt(lines: number): void {
    this.#linesBefore = lines
  }

  get isFull(): boolean {
    return this.#policy.kind === 'dead-letter' && this.#policy.letters.isFull
  }

  drained(): Promise<void> {
    return this.#policy.kind === 'dead-letter' ? this.#policy.letters.drained() : Promise.resolve()
  }

  async finish(): Promise<void> {
    if (this.#policy.kind === 'dead-letter') await this.#policy.letters.finish()
  }

  /**
   * The input at hand makes no record.
   * @param ordinal  records appended before it
   * @param raw  its bytes; undefined where they are not kept (too long)
   * @throws StreamError with the line's number, under `stop`
   */
  reject(error: unknown, ordinal: number, raw: Uint8Array | undefined): void {
    if (!(error instanceof StreamError)) throw error
    const placed = withLine(error, this.lineOf(ordinal))
    this.count += 1
    if (this.#policy.kind === 'stop') throw placed
    this.#ordinals.push(ordinal)
    this.#console.error(placed)
    if (this.#policy.kind === 'dead-letter' && raw !== undefined) {
      this.#policy.letters.addInput(raw)
    }
  }

  /**
   * A batch was refused for what is in it.
   * @returns whether to go on
   * @throws what the dead letters' output throws
   */
  refuse(error: StreamError, delivery: Delivery): boolean {
    const { topic, partition, firstOrdinal, recordCount, batch, refusedIndexes } = delivery
    const line = this.lineOf(firstRefused(delivery))
    this.count += refusedIndexes?.length ?? recordCount
    if (this.#policy.kind === 'stop') return false
    this.#refused.push({ firstOrdinal, recordCount })
    this.#console.error(withLine(error, line))
    if (this.#policy.kind === 'dead-letter' && batch !== undefined) {
      this.#policy.letters.addBatch(topic, partition, batch)
    }
    return true
  }

  /** The input line, from 1, of the record with this ordinal. */
  lineOf(ordinal: number): number {
    return this.#linesBefore + ordinal + 1 + this.#errorsUpTo(ordinal)
  }

  /** All input lines up to this one are delivered (or were in error), when all records below `ordinal` are. */
  linesThrough(ordinal: number): number {
    return this.#linesBefore + ordinal + this.#errorsUpTo(ordinal)
  }

  /** How many of the records below `ordinal` were left out. */
  refusedBelow(ordinal: number): number {
    let count = 0
    for (const { firstOrdinal, recordCount } of this.#refused) {
      if (firstOrdinal < ordinal) count += Math.min(recordCount, ordinal - firstOrdinal)
    }
    return count
  }

  #errorsUpTo(ordinal: number): number {
    let low = 0
    let high = this.#ordinals.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#ordinals[middle] as number) <= ordinal) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** The ordinal of the first record that is to blame, as far as it is known. */
export function firstRefused(delivery: Delivery): number {
  const { firstOrdinal, lastOrdinal, recordCount, ordinals, refusedIndexes } = delivery
  const index = refusedIndexes?.[0] ?? 0
  const isGapless = lastOrdinal - firstOrdinal === recordCount - 1
  return ordinals?.[index] ?? (isGapless ? firstOrdinal + index : firstOrdinal)
}

export function withLine(error: StreamError, line: number): StreamError {
  return new StreamError(error.code, error.message, {
    line,
    cause: error,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.target === undefined ? {} : { target: error.target }),
    ...(error.kafkaError === undefined ? {} : { kafkaError: error.kafkaError }),
  })
}
