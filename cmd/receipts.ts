/**
 * `--receipts`: `topic⇥partition⇥offset` for each record once it is durable, in input order. Batches are acknowledged
 * in any order over partitions, so a receipt waits for those of the records before it.
 */

import type { Delivery } from '../src/client/delivery.ts'
import type { QueuedOutput } from './queued-output.ts'

export class Receipts {
  readonly #output: QueuedOutput
  /** By ordinal, from `#nextOrdinal` on: a line, or '' for a record that was not delivered. */
  readonly #waiting = new Map<number, string>()
  #nextOrdinal = 0

  constructor(output: QueuedOutput) {
    this.#output = output
  }

  get isFull(): boolean {
    return this.#output.isFull
  }

  /** @throws what the output throws */
  add(delivery: Delivery): void {
    const { topic, partition, baseOffset, recordCount, error } = delivery
    for (let index = 0; index < recordCount; index += 1) {
      const ordinal = delivery.ordinals?.[index] ?? delivery.firstOrdinal + index
      const offset = baseOffset < 0 ? '-' : String(baseOffset + index)
      const line = error === undefined ? `${topic}\t${partition}\t${offset}\n` : ''
      this.#waiting.set(ordinal, line)
    }
    const lines: string[] = []
    for (;;) {
      const line = this.#waiting.get(this.#nextOrdinal)
      if (line === undefined) break
      this.#waiting.delete(this.#nextOrdinal)
      this.#nextOrdinal += 1
      lines.push(line)
    }
    this.#output.write(Buffer.from(lines.join('')))
  }

  drained(): Promise<void> {
    return this.#output.drained()
  }

  finish(): Promise<void> {
    return this.#output.finish()
  }
}
