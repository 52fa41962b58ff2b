/** Bits that flip in the log of one replica, below its durable mark and among what is committed. */
import { batchesOf, type ClusterTruth, logFiles, lowestMark, partitionOf } from './cluster-truth.ts'
import type { SimBroker } from './sim-broker.ts'
import type { SimRandom } from './sim-random.ts'

/** @returns false where none may flip now: a majority of the replicas in sync has to stay unharmed */
export function flipBit(
  truth: ClusterTruth,
  brokers: readonly SimBroker[],
  partitions: number,
  random: SimRandom,
): boolean {
  const broker = random.pick(brokers)
  const index = random.integer(partitions)
  const partition = partitionOf(broker, index)
  if (partition === undefined || !truth.mayHarm(broker, index)) return false
  const { disk } = broker
  const committed = Math.min(
    lowestMark(disk, partition.topicId, index),
    ...brokers.map((other) => partitionOf(other, index)?.highWatermark ?? Number.POSITIVE_INFINITY),
  )
  const batches = logFiles(disk, partition.log.directory)
    .flatMap((path) => batchesOf(path, disk.readFile(path) ?? new Uint8Array(0)))
    .filter(({ lastOffset }) => lastOffset < committed)
  if (batches.length === 0) return false
  const { path, position, bytes } = random.pick(batches)
  disk.flipBit(path, position + random.integer(bytes), random.integer(8))
  return true
}
