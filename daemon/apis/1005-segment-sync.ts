/**
 * SegmentSync (1005), versions 0 to 1: batches for a replica whose own are damaged (replication.md section 7.3). Only what
 * is committed here, by a replica that is in sync, in the leader epoch that the asker knows. Each batch has been checked
 * against its checksum by the read. From version 1 on it is read from the files, and there is the hash of a range without
 * its records (daemon/log/range-hash.ts), for a replica that compares its copy with this one; of a log that was compacted
 * nothing can be told so. At most 4 MiB are read for a request, or one batch.
 * Errors: 1 (below the log start, which is told), 2 (damaged here, too), 3, 6, 31, 56,
 * 74, 75, 104, 107 (not in sync).
 */
import { Buffer } from 'node:buffer'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { crc32c } from '../../src/record/crc32c.ts'
import type { Broker } from '../replica/broker.ts'
import type { Partition } from '../replica/partition.ts'
import type { Handler, RequestContext } from './handler.ts'
import { codeOfError } from './kafka-codes.ts'

type Answer = ResponseInput<'SegmentSync'>
type Asked = Request<'SegmentSync'>

const PIECE_BYTES_MAX = 4 * 1024 * 1024

export const segmentSync: Handler<'SegmentSync'> = async ({ broker }, context, request) => {
  const partition = broker.table.get(request.topicId, request.partition)
  const refused = refusalOf(broker, context, request, partition)
  if (refused !== 0 || partition === undefined) return failed(refused)
  const { log, highWatermark } = partition
  const { startOffset, maxBytes } = request
  const { logStartOffset } = log
  const endOffset = Math.min(request.endOffset, highWatermark)
  const place = { highWatermark, logStartOffset }
  if (startOffset < logStartOffset) return { ...failed(KafkaError.OFFSET_OUT_OF_RANGE), ...place }
  if (startOffset >= endOffset) return { ...failed(0), ...place, nextOffset: startOffset }
  try {
    const bytesMax = Math.max(1, Math.min(maxBytes, PIECE_BYTES_MAX))
    if (request.hashOnly) {
      if (log.wasCompacted) return { ...failed(0), ...place, nextOffset: startOffset }
      const { generation } = log
      const hash = await log.hashRange({ startOffset, endOffset, maxBytes: bytesMax })
      // What was cut or handed over meanwhile may be another history.
      const late = refusalOf(broker, context, request, partition)
      if (late !== 0) return failed(late)
      if (log.generation !== generation) return failed(KafkaError.FENCED_LEADER_EPOCH)
      return { ...failed(0), ...place, ...hash }
    }
    const wanted = { offset: startOffset, endOffset, maxBytes: bytesMax }
    const slice = await (context.apiVersion < 1 ? log.read(wanted) : log.readStored(wanted))
    const records = Buffer.concat(slice.bytes as Uint8Array[])
    const nextOffset = Math.min(slice.nextOffset, endOffset)
    const checksum = crc32c(records)
    return { errorCode: 0, ...place, nextOffset, checksum, sizeBytes: records.length, records }
  } catch (error) {
    return { ...failed(codeOfError(error)), ...place }
  }
}

function refusalOf(
  broker: Broker,
  context: RequestContext,
  request: Asked,
  partition: Partition | undefined,
): number {
  const { replication, image } = broker
  if (context.door !== 'zmq' || replication === undefined)
    return KafkaError.CLUSTER_AUTHORIZATION_FAILED
  if (image.registration(request.replicaId) === undefined)
    return KafkaError.CLUSTER_AUTHORIZATION_FAILED
  if (request.clusterId !== broker.clusterId) return KafkaError.INCONSISTENT_CLUSTER_ID
  if (broker.directory.failure !== undefined) return KafkaError.KAFKA_STORAGE_ERROR
  if (partition === undefined) return KafkaError.UNKNOWN_TOPIC_OR_PARTITION
  const record = image.partition(request.topicId, request.partition)?.value
  const isInSync = record?.inSyncReplicas.some(
    (member) => member.broker === broker.nodeId && member.dataEpoch === broker.dataEpoch,
  )
  if (isInSync !== true) return KafkaError.INELIGIBLE_REPLICA
  if (request.currentLeaderEpoch < partition.leaderEpoch) return KafkaError.FENCED_LEADER_EPOCH
  if (request.currentLeaderEpoch > partition.leaderEpoch) return KafkaError.UNKNOWN_LEADER_EPOCH
  return 0
}

function failed(errorCode: number): Answer {
  return {
    errorCode,
    highWatermark: -1,
    logStartOffset: -1,
    nextOffset: -1,
    checksum: 0,
    sizeBytes: 0,
    records: new Uint8Array(0),
  }
}
