/** A bug for each anomaly of operations.ts: of coordinators, partitions and clients, each of which alone the judge must catch. */

import { MarkerWriter } from '../../daemon/coordinator/marker-writer.ts'
import { OffsetTable } from '../../daemon/coordinator/offset-table.ts'
import { TransactionCoordinator } from '../../daemon/coordinator/transaction-coordinator.ts'
import type { ReadRequest } from '../../daemon/log/log-types.ts'
import { PartitionLog } from '../../daemon/log/partition-log.ts'
import { Consumer } from '../../src/client/consumer.ts'
import { PartitionQueue } from '../../src/client/partition-queue.ts'
import { lyingDisk } from './lying-disk.ts'
import type { OperationAnomalyKind } from './operations.ts'
import { TOPIC } from './operations-clients.ts'
import type { OperationBug } from './operations-run.ts'

export interface PlantedOperationBug {
  readonly name: string
  readonly bug: OperationBug
  /** Each of them is seen, over the seeds. */
  readonly caught: readonly OperationAnomalyKind[]
}

/** Puts functions in the place of methods. @returns what takes them back */
function replace<T extends object>(target: T, methods: Partial<T>): () => void {
  const before: Partial<T> = {}
  for (const name of Object.keys(methods) as (keyof T)[]) before[name] = target[name]
  Object.assign(target, methods)
  return () => {
    Object.assign(target, before)
  }
}

const log = PartitionLog.prototype
const self = (each: Partial<PartitionLog>): PartitionLog => each as PartitionLog

export const plantedOperationBugs: readonly PlantedOperationBug[] = [
  {
    name: 'a log that acknowledges without a sync, and does not remember what it has acknowledged',
    bug: {
      wrapDisk: lyingDisk((file) => {
        if (file.path.includes('/durable-marks.')) return { write: () => undefined }
        const isData = file.path.includes(`/${TOPIC}-`) && file.path.endsWith('.log')
        return isData ? { dataSync: () => Promise.resolve() } : {}
      }),
    },
    caught: ['unseen', 'inconsistent-offsets'],
  },
  {
    name: 'records that no fetch finds any more',
    bug: {
      // One batch of each partition, from its append on: reads end before it, or begin behind it.
      plant: () => {
        const { append, read, readCached } = log
        const ranges = new Map<number, { readonly from: number; readonly to: number }>()
        let appends = 0
        const around = ({ partition }: PartitionLog, request: ReadRequest): ReadRequest => {
          const range = ranges.get(partition)
          const { offset, endOffset = Number.POSITIVE_INFINITY } = request
          if (range === undefined || offset >= range.to) return request
          if (offset >= range.from) return { ...request, offset: range.to }
          return { ...request, endOffset: Math.min(endOffset, range.from) }
        }
        return replace(log, {
          append(batches, options) {
            const { topic, partition } = self(this)
            const result = append.call(this, batches, options)
            if (topic === TOPIC) appends += 1
            if (topic === TOPIC && appends > 20 && !ranges.has(partition))
              ranges.set(partition, { from: result.firstOffset, to: result.nextOffset })
            return result
          },
          read(request) {
            const isOther = self(this).topic !== TOPIC
            return read.call(this, isOther ? request : around(self(this), request))
          },
          readCached(request) {
            const isOther = self(this).topic !== TOPIC
            return readCached.call(this, isOther ? request : around(self(this), request))
          },
        })
      },
    },
    caught: ['lost-write'],
  },
  {
    name: 'a producer that is not idempotent',
    bug: { producer: { acks: 1 } },
    caught: ['duplicate'],
  },
  {
    name: 'an index of aborted transactions that is empty',
    bug: { plant: () => replace(log, { abortedTransactions: () => [] }) },
    caught: ['aborted-read'],
  },
  {
    name: 'a decision that does not reach all partitions as it was made',
    bug: {
      plant: () => {
        const { write } = MarkerWriter.prototype
        return replace(MarkerWriter.prototype, {
          write(partition, marker) {
            const isOther = partition.topic === TOPIC && partition.partition === 0
            return write.call(this, partition, isOther ? { ...marker, isCommit: false } : marker)
          },
        })
      },
    },
    caught: ['torn-transaction', 'unseen'],
  },
  {
    name: 'a last stable offset that looks over open transactions',
    bug: { plant: () => replace(log, { lastStableOffset: (highWatermark) => highWatermark }) },
    caught: ['aborted-read', 'precommitted-read', 'information-cycle'],
  },
  {
    name: 'a read that begins too late',
    bug: {
      plant: () => {
        const { read, readCached } = log
        let calls = 0
        const late = ({ topic }: PartitionLog, request: ReadRequest): ReadRequest => {
          calls += 1
          const { offset, endOffset } = request
          const isLate = topic === TOPIC && calls % 7 === 0 && endOffset !== undefined
          return isLate && offset + 3 < endOffset ? { ...request, offset: offset + 3 } : request
        }
        return replace(log, {
          read(request) {
            return read.call(this, late(self(this), request))
          },
          readCached(request) {
            return readCached.call(this, late(self(this), request))
          },
        })
      },
    },
    caught: ['poll-skip', 'int-poll-skip'],
  },
  {
    name: 'a consumer that hands an answer out again',
    bug: {
      plant: () => {
        const { poll } = Consumer.prototype
        let calls = 0
        return replace(Consumer.prototype, {
          poll() {
            const event = poll.call(this)
            if (event?.kind !== 'records') return event
            calls += 1
            if (calls % 5 === 0)
              (this as Consumer).seek(event.topic, event.partition, event.fromOffset)
            return event
          },
        })
      },
    },
    caught: ['nonmonotonic-poll', 'int-nonmonotonic-poll'],
  },
  {
    name: 'a producer that sends the youngest batch first',
    bug: {
      producer: { batchBytes: 75 },
      plant: () => {
        const { add } = PartitionQueue.prototype
        return replace(PartitionQueue.prototype, {
          add(batch) {
            add.call(this, batch)
            const batches = (this as PartitionQueue<typeof batch>).batches as (typeof batch)[]
            const first = batches.findIndex(({ state }) => state === 'waiting')
            batches.splice(first, 0, ...batches.splice(-1))
          },
        })
      },
    },
    caught: ['nonmonotonic-send', 'int-nonmonotonic-send'],
  },
  {
    name: 'a table of positions that now and then takes an earlier one than was committed',
    bug: {
      plant: () => {
        const { set } = OffsetTable.prototype
        let count = 0
        return replace(OffsetTable.prototype, {
          set(topic, partition, value, position) {
            count += 1
            const offset = count % 4 === 0 ? Math.max(0, value.offset - 20) : value.offset
            set.call(this, topic, partition, { ...value, offset }, position)
          },
        })
      },
    },
    caught: ['commit-regress'],
  },
  {
    name: 'a coordinator that does not abort what has timed out',
    bug: {
      plant: () => replace(TransactionCoordinator.prototype, { abortTimedOut: () => undefined }),
    },
    caught: ['hanging-transaction'],
  },
  {
    name: 'batches that enter a partition without their transaction',
    bug: {
      plant: () =>
        replace(TransactionCoordinator.prototype, {
          enter: (_batch, append) => {
            append(0)
            return undefined
          },
        }),
    },
    caught: ['hanging-transaction'],
  },
]
