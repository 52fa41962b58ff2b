/**
 * Which batches of one Fetch answer a read_committed reader may see. The broker sends all data below the last stable
 * offset and a list of the aborted transactions that overlap it; leaving their batches out is the client's work.
 *
 * Invariant: batches are shown in offset order, each once; the state is of one answer only, since every answer lists
 * all aborted transactions of its range (kafka-protocol.md, P6). Source: Kafka CompletedFetch.java.
 */
import {
  attributesAt,
  isControl,
  isTransactional,
  lastOffsetAt,
  producerIdAt,
} from './batch-layout.ts'
import { readControlBatch } from './control-batch.ts'

export interface AbortedTransaction {
  readonly producerId: number
  readonly firstOffset: number
}

export class AbortedTransactions {
  readonly #waiting: readonly AbortedTransaction[]
  readonly #aborting = new Set<number>()
  #next = 0

  constructor(aborted: readonly AbortedTransaction[]) {
    this.#waiting = aborted.toSorted((a, b) => a.firstOffset - b.firstOffset)
  }

  /**
   * Whether the batch at `at` holds records for the reader. Control batches never do.
   * @throws StreamError CORRUPT_BATCH for a control batch that cannot be read
   */
  isVisible(bytes: Uint8Array, at: number): boolean {
    const attributes = attributesAt(bytes, at)
    const producerId = producerIdAt(bytes, at)
    const lastOffset = lastOffsetAt(bytes, at)
    for (; this.#next < this.#waiting.length; this.#next++) {
      const transaction = this.#waiting[this.#next]
      if (transaction === undefined || transaction.firstOffset > lastOffset) break
      this.#aborting.add(transaction.producerId)
    }
    if (isControl(attributes)) {
      if (this.#aborting.has(producerId)) {
        const record = readControlBatch(bytes, at)
        if (record?.kind === 'marker' && record.type === 'abort') this.#aborting.delete(producerId)
      }
      return false
    }
    return !(isTransactional(attributes) && this.#aborting.has(producerId))
  }
}
