/** What is so, whatever each daemon believes: the store's records of partitions, and the bytes that disks hold. */
import { decodeMark, SLOT_BYTES } from '../../daemon/log/durable-marks.ts'
import { decodePartition, type PartitionValue } from '../../daemon/metadata/metadata-values.ts'
import type { Partition } from '../../daemon/replica/partition.ts'
import {
  baseOffsetAt,
  batchBytesAt,
  findBatchDefect,
  HEADER_BYTES,
  lastOffsetAt,
} from '../../src/record/batch-layout.ts'
import type { SimBroker } from './sim-broker.ts'
import type { SimDisk } from './sim-disk.ts'
import type { SimStoreServer } from './sim-store.ts'

export const TOPIC = 'numbers'
const MARK_FILES = ['/data/durable-marks.a', '/data/durable-marks.b']

export interface StoredBatch {
  readonly path: string
  readonly position: number
  readonly bytes: number
  readonly lastOffset: number
}

export class ClusterTruth {
  readonly #stores: SimStoreServer
  readonly #brokers: readonly SimBroker[]

  constructor(stores: SimStoreServer, brokers: readonly SimBroker[]) {
    this.#stores = stores
    this.#brokers = brokers
  }

  /** By number of the partition. */
  partitions(): PartitionValue[] {
    return this.#stores.image
      .list('')
      .entries.filter(({ key }) => key.includes('/part/'))
      .map(({ key, value }) => decodePartition(key, value))
  }

  /**
   * All replicas of a partition are in sync, live, and hold their data in the epoch that the store knows; the logs of all but one
   * are sound on their disks. So that one may be harmed, and a majority is left.
   */
  mayHarm(broker: SimBroker, index: number): boolean {
    const record = this.partitions()[index]
    if (record === undefined || record.adding.length + record.removing.length > 0) return false
    const { replicas, inSyncReplicas } = record
    if (replicas.length < 3 || inSyncReplicas.length < replicas.length) return false
    return inSyncReplicas.every(({ broker: nodeId, dataEpoch }) => {
      const member = this.#brokers[nodeId - 1]
      const partition = member && partitionOf(member, index)
      if (member === undefined || partition === undefined) return false
      if (this.#dataEpoch(nodeId) !== dataEpoch) return false
      return member === broker || isSound(member.disk, partition.log.directory)
    })
  }

  #dataEpoch(nodeId: number): number {
    const { entries } = this.#stores.image.list('')
    return entries.find(({ key }) => key.endsWith(`/data/${nodeId}`))?.modRevision ?? 0
  }
}

export function partitionOf({ daemon }: SimBroker, index: number): Partition | undefined {
  const topicId = daemon?.broker.image.topic(TOPIC)?.topicId
  return topicId === undefined ? undefined : daemon?.broker.table.get(topicId, index)
}

export function logFiles(disk: SimDisk, directory: string): string[] {
  const names = disk.list(directory).filter((name) => name.endsWith('.log'))
  return names.map((name) => `${directory}/${name}`)
}

/** Every byte of the logs on this disk stands in a sound batch. Of one whose process is just dying nobody knows. */
export function isSound(disk: SimDisk, directory: string): boolean {
  if (disk.isDead) return false
  return logFiles(disk, directory).every((path) => {
    const bytes = disk.readFile(path) ?? new Uint8Array(0)
    const batches = batchesOf(path, bytes)
    const last = batches.at(-1)
    const end = last === undefined ? 0 : last.position + last.bytes
    return end === bytes.length && batches.every((batch) => isSoundBatch(bytes, batch))
  })
}

function isSoundBatch(bytes: Uint8Array, { position, bytes: size }: StoredBatch): boolean {
  return findBatchDefect(bytes, position, position + size) === undefined
}

/** Until the first place that is none. */
export function batchesOf(path: string, bytes: Uint8Array): StoredBatch[] {
  const found: StoredBatch[] = []
  for (let position = 0; position + HEADER_BYTES <= bytes.length; ) {
    const size = batchBytesAt(bytes, position)
    if (size < HEADER_BYTES || position + size > bytes.length) break
    // A last offset below the first is none.
    if (lastOffsetAt(bytes, position) < baseOffsetAt(bytes, position)) break
    found.push({ path, position, bytes: size, lastOffset: lastOffsetAt(bytes, position) })
    position += size
  }
  return found
}

/** The lower of the two copies of a log's durable mark, as the medium has them; 0 where one is not there. */
export function lowestMark(disk: SimDisk, topicId: string, partition: number): number {
  const offsets = MARK_FILES.map((path) => {
    const bytes = disk.durableFile(path)
    for (let at = 0; at + SLOT_BYTES <= bytes.length; at += SLOT_BYTES) {
      const mark = decodeMark(bytes, at)
      if (mark?.topicId === topicId && mark.partition === partition) return mark.durableOffset
    }
    return 0
  })
  return Math.min(...offsets)
}
