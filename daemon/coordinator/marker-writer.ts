/**
 * Puts the marker of a decided transaction into a partition that is led here, and tells who waits for it
 * (replication.md section 9.3, rule 5). Whoever decided may be another daemon (WriteTxnMarkers) or this one.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time } from '../../src/ports/time.ts'
import { buildControlBatch } from '../../src/record/control-batch.ts'
import type { Partition } from '../replica/partition.ts'
import { whenCommitted } from './shard-log.ts'

export interface TransactionMarker {
  readonly producerId: number
  /** Of version 2: one above the transaction's. */
  readonly producerEpoch: number
  readonly coordinatorEpoch: number
  readonly transactionVersion: number
  readonly isCommit: boolean
}

/** A marker that is in a partition, committed. */
export interface WrittenMarker {
  readonly topic: string
  readonly partition: number
  readonly producerId: number
  readonly producerEpoch: number
  readonly isCommit: boolean
}

/** `refused`: its epoch says that it is late. `failed`: not committed here and now; to be tried again. */
export type MarkerOutcome = 'written' | 'refused' | 'failed'

export interface MarkerWriterPorts {
  readonly time: Time
  readonly log: Log
  readonly onMarker: (marker: WrittenMarker) => void
  /** `theirs`: only its source ends transactions in it. `fenced`: it may become so, or go on as it was. */
  readonly mirrorStateOf?: (partition: Partition) => 'theirs' | 'fenced' | undefined
}

export class MarkerWriter {
  readonly #ports: MarkerWriterPorts
  readonly #listeners: ((producerId: number, topic: string, partition: number) => void)[] = []

  constructor(ports: MarkerWriterPorts) {
    this.#ports = ports
  }

  /** Called in the turn in which a marker is appended, before it is committed. */
  onAppend(listener: (producerId: number, topic: string, partition: number) => void): void {
    this.#listeners.push(listener)
  }

  async write(partition: Partition, marker: TransactionMarker): Promise<MarkerOutcome> {
    if (partition.notServing !== undefined) return 'failed'
    const mirror = this.#ports.mirrorStateOf?.(partition)
    if (mirror === 'fenced') return 'failed'
    // What was written in the transaction was cut with everything that the source does not have.
    if (mirror === 'theirs') return 'written'
    const { producerId, producerEpoch, coordinatorEpoch, transactionVersion, isCommit } = marker
    const identity = { producerId, producerEpoch, coordinatorEpoch }
    const check = partition.log.checkMarker({ ...identity, transactionVersion })
    if (check === 'refused') return 'refused'
    let endOffset = partition.log.logEndOffset
    if (check === 'append') {
      const appended = this.#append(partition, marker)
      if (appended === undefined) return 'failed'
      endOffset = appended
    }
    if (!(await whenCommitted(partition, endOffset))) return 'failed'
    const { topic, partition: index } = partition
    this.#ports.onMarker({ topic, partition: index, producerId, producerEpoch, isCommit })
    return 'written'
  }

  /** @returns what the high watermark must reach; undefined: nothing was appended */
  #append(partition: Partition, marker: TransactionMarker): number | undefined {
    const { time, log } = this.#ports
    const { topic, partition: index } = partition
    try {
      const type = marker.isCommit ? 'commit' : 'abort'
      const batch = buildControlBatch({ ...marker, type, timestampMs: time.wallMs() })
      const { nextOffset } = partition.append(Uint8Array.from(batch))
      for (const listener of this.#listeners) listener(marker.producerId, topic, index)
      return nextOffset
    } catch (error) {
      if (!isStreamError(error)) throw error
      log.warn('a transaction marker could not be written; it is tried again', {
        partition: `${topic}-${index}`,
        error: error.message,
      })
      return undefined
    }
  }
}
