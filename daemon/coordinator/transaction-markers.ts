/**
 * Brings the markers of a decided transaction into its partitions, whoever leads them (replication.md section 9.2). It does
 * not give up: a decision is carried out for ever, over full disks and lost leaderships, until every partition has its
 * marker or is deleted, or until another daemon has become the coordinator and does it.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import { sleep, type Time } from '../../src/ports/time.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { PartitionTable } from '../replica/partition-table.ts'
import type { MarkerOutcome, MarkerWriter, TransactionMarker } from './marker-writer.ts'
import type { PeerCaller } from './peer-caller.ts'
import type { TransactionValue } from './transaction-machine.ts'

const RETRY_MS_MIN = 20
const RETRY_MS_MAX = 1000
const PEER_TIMEOUT_MS = 10_000
/** The first that carries the transaction's version. */
const MARKERS_VERSION = 2

export interface MarkerPorts {
  readonly time: Time
  readonly log: Log
  readonly table: PartitionTable
  readonly writer: MarkerWriter
  /** undefined: the single daemon. */
  readonly peers: PeerCaller | undefined
  /** Who leads the partition; −1: nobody now; undefined: it is deleted and needs no marker. */
  readonly leaderOf: (topic: string, partition: number) => number | undefined
  readonly nodeId: number
  /** The coordinator is still that, and not stopping. */
  readonly isWanted: () => boolean
}

/** @returns whether all partitions have their markers, committed; false: it is no longer wanted here */
export async function writeMarkers(
  value: TransactionValue,
  coordinatorEpoch: number,
  ports: MarkerPorts,
): Promise<boolean> {
  const marker: TransactionMarker = {
    producerId: value.producerId,
    producerEpoch: value.epoch,
    coordinatorEpoch,
    transactionVersion: value.version,
    isCommit: value.state === 'PrepareCommit',
  }
  const each: Promise<boolean>[] = []
  for (const [topic, indexes] of value.partitions) {
    for (const index of indexes) each.push(writeOne(value, marker, topic, index, ports))
  }
  return (await Promise.all(each)).every((isWritten) => isWritten)
}

async function writeOne(
  value: TransactionValue,
  marker: TransactionMarker,
  topic: string,
  index: number,
  ports: MarkerPorts,
): Promise<boolean> {
  for (
    let pauseMs = RETRY_MS_MIN;
    ports.isWanted();
    pauseMs = Math.min(RETRY_MS_MAX, pauseMs * 2)
  ) {
    const leader = ports.leaderOf(topic, index)
    if (leader === undefined) return true
    const outcome = await tryOne(marker, topic, index, leader, ports)
    if (outcome === 'written') return true
    if (outcome === 'refused') {
      // The coordinator is current, so this is a broken invariant: never silent, and not to be forced.
      ports.log.error(
        'a transaction marker was refused: the transaction stays undecided in a partition',
        {
          transactionalId: value.transactionalId,
          partition: `${topic}-${index}`,
          producerId: value.producerId,
          epoch: value.epoch,
        },
      )
    }
    await sleep(ports.time, pauseMs)
  }
  return false
}

function tryOne(
  marker: TransactionMarker,
  topic: string,
  index: number,
  leader: number,
  { table, writer, peers, nodeId }: MarkerPorts,
): Promise<MarkerOutcome> {
  if (leader !== nodeId && peers !== undefined) {
    return leader < 0 ? Promise.resolve('failed') : askLeader(marker, topic, index, leader, peers)
  }
  const partition = table.find(topic, index)
  return partition === undefined ? Promise.resolve('failed') : writer.write(partition, marker)
}

async function askLeader(
  marker: TransactionMarker,
  topic: string,
  index: number,
  leader: number,
  peers: PeerCaller,
): Promise<MarkerOutcome> {
  const { producerId, producerEpoch, coordinatorEpoch, transactionVersion, isCommit } = marker
  try {
    const answer = await peers.call(
      leader,
      'WriteTxnMarkers',
      MARKERS_VERSION,
      {
        markers: [
          {
            producerId,
            producerEpoch,
            transactionResult: isCommit,
            topics: [{ name: topic, partitionIndexes: [index] }],
            coordinatorEpoch,
            transactionVersion,
          },
        ],
      },
      { timeoutMs: PEER_TIMEOUT_MS },
    )
    const code = answer.markers[0]?.topics[0]?.partitions[0]?.errorCode
    if (code === 0) return 'written'
    return code === KafkaError.INVALID_PRODUCER_EPOCH ? 'refused' : 'failed'
  } catch (error) {
    if (!isStreamError(error)) throw error
    return 'failed'
  }
}
