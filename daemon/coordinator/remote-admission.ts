/**
 * Batches of transactions that another daemon coordinates (replication.md section 9.3, rule 1): the leader of the partition
 * asks the coordinator to add or to verify the partition before the first batch of a transaction, and appends only when
 * no marker of that producer has come into the partition since it asked (the verification guard).
 */

import { isStreamError } from '../../src/base/errors.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { PartitionTable } from '../replica/partition-table.ts'
import type { MarkerWriter } from './marker-writer.ts'
import type { PeerCaller } from './peer-caller.ts'
import type { TransactionalBatch } from './transactional-batch.ts'

const ASK_TIMEOUT_MS = 5000
/** The first in which the partition leader adds partitions itself (KIP-890). */
const ADD_VERSION = 5

export class RemoteAdmission {
  readonly #table: PartitionTable
  readonly #peers: PeerCaller
  /** By partition and producer: of the question that is on its way. */
  readonly #guards = new Map<string, object>()

  constructor(table: PartitionTable, peers: PeerCaller, markers: MarkerWriter) {
    this.#table = table
    this.#peers = peers
    markers.onAppend((producerId, topic, partition) => {
      this.#guards.delete(keyOf({ producerId, topic, partition }))
    })
  }

  /** Whether the log itself says that the transaction is open: its batches then need no question. */
  isOpen({ topic, partition, producerId, epoch }: TransactionalBatch): boolean {
    const log = this.#table.find(topic, partition)?.log
    return log?.isInTransaction(producerId, epoch) === true
  }

  /** Asks the coordinator, then calls `append` with its answer, in the turn in which the guard is looked at. */
  async ask(
    coordinator: number,
    batch: TransactionalBatch,
    append: (code: number) => void,
  ): Promise<void> {
    const key = keyOf(batch)
    const guard = {}
    this.#guards.set(key, guard)
    const leaderEpoch = this.#epochOf(batch)
    const code = await this.#question(coordinator, batch)
    const isUnchanged = this.#guards.get(key) === guard && this.#epochOf(batch) === leaderEpoch
    if (isUnchanged) this.#guards.delete(key)
    append(code === 0 && !isUnchanged ? KafkaError.NOT_COORDINATOR : code)
  }

  #epochOf({ topic, partition }: TransactionalBatch): number | undefined {
    return this.#table.find(topic, partition)?.leaderEpoch
  }

  async #question(
    coordinator: number,
    { transactionalId, producerId, epoch, topic, partition, isImplicit }: TransactionalBatch,
  ): Promise<number> {
    if (coordinator < 0) return KafkaError.COORDINATOR_NOT_AVAILABLE
    try {
      const answer = await this.#peers.call(
        coordinator,
        'AddPartitionsToTxn',
        ADD_VERSION,
        {
          transactions: [
            {
              transactionalId,
              producerId,
              producerEpoch: epoch,
              verifyOnly: !isImplicit,
              topics: [{ name: topic, partitions: [partition] }],
            },
          ],
        },
        { timeoutMs: ASK_TIMEOUT_MS },
      )
      if (answer.errorCode !== 0) return answer.errorCode
      const row = answer.resultsByTransaction[0]?.topicResults[0]?.resultsByPartition[0]
      return row?.partitionErrorCode ?? KafkaError.COORDINATOR_NOT_AVAILABLE
    } catch (error) {
      if (!isStreamError(error)) throw error
      return KafkaError.COORDINATOR_NOT_AVAILABLE
    }
  }
}

function keyOf(batch: Pick<TransactionalBatch, 'topic' | 'partition' | 'producerId'>): string {
  return `${batch.topic}/${batch.partition}/${batch.producerId}`
}
