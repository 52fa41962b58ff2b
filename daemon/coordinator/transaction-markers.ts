/**
 * Writes the markers of a decided transaction into its partitions: the WriteTxnMarkers of one daemon, where coordinator
 * and leaders are one process (replication.md section 9.2 and 9.3, rule 5). It does not give up: a decision is carried
 * out for ever, over full disks and lost leaderships, until every partition has its marker or is deleted.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import { sleep, type Time } from '../../src/ports/time.ts'
import { buildControlBatch } from '../../src/record/control-batch.ts'
import type { Partition } from '../replica/partition.ts'
import type { PartitionTable } from '../replica/partition-table.ts'
import type { TransactionValue } from './transaction-machine.ts'

const RETRY_MS_MIN = 20
const RETRY_MS_MAX = 1000

export interface MarkerPorts {
  readonly time: Time
  readonly log: Log
  readonly table: PartitionTable
  /** Whether the partition still belongs to a topic; a deleted one needs no marker. */
  readonly exists: (topic: string, partition: number) => boolean
  /** The coordinator is still that, and not stopping. */
  readonly isWanted: () => boolean
  readonly onMarker: (marker: WrittenMarker) => void
}

/** A marker that is in a partition, committed. */
export interface WrittenMarker {
  readonly topic: string
  readonly partition: number
  readonly producerId: number
  readonly producerEpoch: number
  readonly isCommit: boolean
}

/** @returns whether all partitions have their markers, committed; false: it is no longer wanted here */
export async function writeMarkers(
  value: TransactionValue,
  coordinatorEpoch: number,
  ports: MarkerPorts,
): Promise<boolean> {
  const each: Promise<boolean>[] = []
  for (const [topic, indexes] of value.partitions) {
    for (const index of indexes) each.push(writeOne(value, coordinatorEpoch, topic, index, ports))
  }
  return (await Promise.all(each)).every((isWritten) => isWritten)
}

async function writeOne(
  value: TransactionValue,
  coordinatorEpoch: number,
  topic: string,
  index: number,
  ports: MarkerPorts,
): Promise<boolean> {
  for (
    let pauseMs = RETRY_MS_MIN;
    ports.isWanted();
    pauseMs = Math.min(RETRY_MS_MAX, pauseMs * 2)
  ) {
    if (!ports.exists(topic, index)) return true
    const partition = ports.table.find(topic, index)
    if (partition !== undefined && partition.notServing === undefined) {
      if (await tryOne(value, coordinatorEpoch, partition, ports)) return true
    }
    await sleep(ports.time, pauseMs)
  }
  return false
}

async function tryOne(
  value: TransactionValue,
  coordinatorEpoch: number,
  partition: Partition,
  { time, log, onMarker }: MarkerPorts,
): Promise<boolean> {
  const isCommit = value.state === 'PrepareCommit'
  const marker = {
    producerId: value.producerId,
    producerEpoch: value.epoch,
    coordinatorEpoch,
  }
  const check = partition.log.checkMarker({ ...marker, transactionVersion: value.version })
  if (check === 'refused') {
    // The coordinator is current, so this is a broken invariant: never silent, and not to be forced.
    log.error('a transaction marker was refused: the transaction stays undecided in a partition', {
      transactionalId: value.transactionalId,
      partition: `${partition.topic}-${partition.partition}`,
      producerId: value.producerId,
      epoch: value.epoch,
    })
    return false
  }
  let endOffset = partition.log.logEndOffset
  if (check === 'append') {
    const type = isCommit ? 'commit' : 'abort'
    try {
      const batch = buildControlBatch({ ...marker, type, timestampMs: time.wallMs() })
      endOffset = partition.append(Uint8Array.from(batch)).nextOffset
    } catch (error) {
      if (!isStreamError(error)) throw error
      log.warn('a transaction marker could not be written; it is tried again', {
        partition: `${partition.topic}-${partition.partition}`,
        error: error.message,
      })
      return false
    }
  }
  const isCommitted = await new Promise<boolean>((resolve) => {
    partition.whenCommitted({
      endOffset,
      onCommitted: () => resolve(true),
      onLost: () => resolve(false),
    })
  })
  if (isCommitted) {
    const { topic, partition: index } = partition
    const { producerId, producerEpoch } = marker
    onMarker({ topic, partition: index, producerId, producerEpoch, isCommit })
  }
  return isCommitted
}
