/**
 * Brokers that keep logs in memory and judge producers as replication.md section 8 says: real duplicates, real gaps,
 * "any first sequence of an unknown producer". Faults are planted by tests. Batches are checked on arrival, so a client
 * that touches bytes on their way is found out.
 */

import { IN_FLIGHT_MAX } from '../../../src/client/partition-queue.ts'
import type { Link } from '../../../src/ports/net.ts'
import type { ApiName, Request, Response, ResponseInput } from '../../../src/protocol/api-table.ts'
import { apiTable } from '../../../src/protocol/api-table.ts'
import {
  type DecodedRequest,
  decodeRequest,
  encodeNotice,
  encodeResponse,
  readRequestHeader,
} from '../../../src/protocol/codec.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { type Field, ZERO_UUID } from '../../../src/protocol/schema.ts'
import {
  findBatchDefect,
  isControl,
  lastOffsetAt,
  readBatchHeader,
  stampBatch,
} from '../../../src/record/batch-layout.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import type { ClientWorld } from './client-world.ts'

interface Remembered {
  readonly firstSequence: number
  readonly lastSequence: number
  readonly baseOffset: number
}

interface ProducerState {
  epoch: number
  batches: Remembered[]
}

interface Parked {
  readonly retry: () => void
}

interface RecordError {
  readonly batchIndex: number
  readonly batchIndexErrorMessage: string
}

export class FakePartition {
  leaderId = 0
  leaderEpoch = 0
  logStart = 0
  logEnd = 0
  /** undefined: the log end. */
  lastStableOffset: number | undefined
  highWatermark: number | undefined
  batches: Uint8Array[] = []
  readonly producers = new Map<number, ProducerState>()
  aborted: { producerId: number; firstOffset: number; lastOffset: number }[] = []
  parked: Parked[] = []
  /** Replicas that consumers may read from too; the leader names one to whoever says its rack (KIP-392). */
  readonly followers = new Set<number>()
  /** undefined: the leader alone. */
  replicas: readonly number[] | undefined

  /** Appends as a broker does, checks done. */
  append(batch: Uint8Array): number {
    const baseOffset = this.logEnd
    stampBatch(batch, 0, { baseOffset, leaderEpoch: this.leaderEpoch })
    this.batches.push(batch)
    this.logEnd = lastOffsetAt(batch, 0) + 1
    const parked = this.parked
    this.parked = []
    for (const { retry } of parked) retry()
    return baseOffset
  }

  get stableEnd(): number {
    return this.lastStableOffset ?? this.visibleEnd
  }

  get visibleEnd(): number {
    return this.highWatermark ?? this.logEnd
  }

  /** All values in offset order, as text. */
  values(): string[] {
    const values: string[] = []
    const cursor = new RecordCursor()
    for (const batch of this.batches) {
      if (isControl(readBatchHeader(batch).attributes)) continue
      cursor.reset(batch)
      while (cursor.next()) values.push(text(cursor.bytes, cursor.valueStart, cursor.valueEnd))
    }
    return values
  }
}

export interface ProduceFault {
  /** Error number for every partition of the request; nothing is appended unless `appends`. */
  readonly code?: number
  readonly appends?: boolean
  /** Break the link instead of answering: before the append, or after it. */
  readonly breaks?: 'before' | 'after'
  /** Never answer: the append is done. */
  readonly hangs?: boolean
  /** Answer so much later. */
  readonly delayMs?: number
  /** Refuse by a notice instead of an answer. */
  readonly notice?: number
}

export class FakeCluster {
  readonly world: ClientWorld
  readonly addresses: readonly string[]
  readonly topics = new Map<string, FakePartition[]>()
  /** Absent: the brokers are too old to tell. */
  readonly topicIds = new Map<string, string>()
  /** Metadata does not name them. */
  readonly dead = new Set<number>()
  controllerId = 0
  /** They greet, and answer nothing else. */
  readonly mute = new Set<number>()
  /** Decides the fault of each Produce request. */
  produceFault: (request: Request<'Produce'>, nodeId: number) => ProduceFault | undefined = () =>
    undefined
  /** Answers in the place of the cluster, for single APIs. */
  override: Partial<{ [A in ApiName]: (body: Request<A>) => object | undefined }> = {}
  readonly ranges = new Map<number, { min: number; max: number }>()
  maxMessageBytes = 1_048_588
  /** Records that are refused, and named in the answer. */
  refusesValue: (value: string) => boolean = () => false
  requests: { readonly nodeId: number; readonly api: ApiName; readonly version: number }[] = []
  fetches: Request<'Fetch'>[] = []
  /** Fetches by the node that was asked. */
  readonly fetchesOf = new Map<number, number>()
  readonly racks = new Map<string, number>()
  defects: string[] = []
  /** Highest number of unanswered Produce requests of one partition seen. */
  producesInFlightMax = 0
  #producesInFlight = 0
  /** Of a producer, per partition. */
  readonly #rememberedBatches: number
  #nextProducerId = 1000

  constructor(world: ClientWorld, addresses: readonly string[] = ['ipc://one']) {
    this.world = world
    this.addresses = addresses
    const isKafka = addresses[0]?.startsWith('kafka://') === true
    this.#rememberedBatches = IN_FLIGHT_MAX[isKafka ? 'kafka' : 'native']
    for (const api of listed) {
      const { key, min, max } = apiTable[api]
      this.ranges.set(key, { min, max })
    }
    for (const nodeId of addresses.keys()) this.start(nodeId)
  }

  start(nodeId: number): void {
    void this.world.accept(this.addresses[nodeId]!, (link) => {
      const state = { isOpen: true }
      return {
        onMessage: (frames) => this.#onMessage(nodeId, link, state, frames),
        onClose: () => {
          state.isOpen = false
        },
      }
    })
  }

  stop(nodeId: number): void {
    this.world.refuse(this.addresses[nodeId]!)
  }

  addTopic(name: string, partitions = 1): FakePartition[] {
    const rows = Array.from({ length: partitions }, (_, index) => {
      const partition = new FakePartition()
      partition.leaderId = index % this.addresses.length
      return partition
    })
    this.topics.set(name, rows)
    return rows
  }

  deleteTopic(name: string): void {
    const rows = this.topics.get(name) ?? []
    this.topics.delete(name)
    for (const partition of rows) {
      for (const { retry } of partition.parked.splice(0)) retry()
    }
  }

  partition(topic: string, index = 0): FakePartition {
    return this.topics.get(topic)![index]!
  }

  moveLeader(topic: string, index: number, nodeId: number): void {
    const partition = this.partition(topic, index)
    partition.leaderId = nodeId
    partition.leaderEpoch++
    const parked = partition.parked
    partition.parked = []
    for (const { retry } of parked) retry()
  }

  #onMessage(
    nodeId: number,
    link: Link,
    state: { isOpen: boolean },
    frames: readonly Uint8Array[],
  ): void {
    const header = readRequestHeader(frames)
    const range = this.ranges.get(header.apiKey)
    if (header.apiKey === apiTable.ApiVersions.key && header.apiVersion > (range?.max ?? 0)) {
      const body = { errorCode: KafkaError.UNSUPPORTED_VERSION, apiKeys: this.#apiKeys() }
      link.send(encodeResponse('ApiVersions', 0, header.correlationId, body))
      return
    }
    if (range === undefined || header.apiVersion < range.min || header.apiVersion > range.max) {
      const { correlationId } = header
      const errorCode = KafkaError.UNSUPPORTED_VERSION
      link.send(encodeNotice({ errorCode, correlationId, message: 'not listed' }))
      return
    }
    const request = decodeRequest(frames)
    this.requests.push({ nodeId, api: request.api, version: request.apiVersion })
    if (this.mute.has(nodeId) && request.api !== 'ApiVersions') return
    const answer = (body: object) => {
      if (!state.isOpen) return
      link.send(
        encodeResponse(
          request.api,
          request.apiVersion,
          request.correlationId,
          complete(apiTable[request.api].response, body) as ResponseInput<ApiName>,
        ),
      )
    }
    const override = this.override[request.api] as
      | ((body: object) => object | undefined)
      | undefined
    const overridden = override?.(request.body)
    if (overridden !== undefined) answer(overridden)
    else this.#handle(nodeId, link, request, answer)
  }

  #handle(
    nodeId: number,
    link: Link,
    request: DecodedRequest,
    answer: (body: object) => void,
  ): void {
    switch (request.api) {
      case 'ApiVersions':
        answer({ errorCode: 0, apiKeys: this.#apiKeys() })
        break
      case 'Metadata':
        answer(this.#metadata(request.body))
        break
      case 'InitProducerId':
        answer({ errorCode: 0, producerId: this.#nextProducerId++, producerEpoch: 0 })
        break
      case 'Produce':
        this.#produce(nodeId, link, request.correlationId, request.body, answer)
        break
      case 'Fetch':
        this.fetches.push(request.body)
        this.fetchesOf.set(nodeId, (this.fetchesOf.get(nodeId) ?? 0) + 1)
        this.#fetch(nodeId, request.body, answer, false)
        break
      case 'ListOffsets':
        answer(this.#listOffsets(nodeId, request.body))
        break
      default:
        throw new Error(`the fake cluster does not answer ${request.api}`)
    }
  }

  #apiKeys(): { apiKey: number; minVersion: number; maxVersion: number }[] {
    return [...this.ranges].map(([apiKey, { min, max }]) => ({
      apiKey,
      minVersion: min,
      maxVersion: max,
    }))
  }

  #metadata(body: Request<'Metadata'>): ResponseInput<'Metadata'> {
    const names = body.topics?.flatMap(({ name }) => name ?? []) ?? [...this.topics.keys()]
    return {
      brokers: this.addresses
        .map((address, nodeId) => endpointOf(address, nodeId))
        .filter(({ nodeId }) => !this.dead.has(nodeId)),
      clusterId: 'fake',
      controllerId: this.controllerId,
      topics: names.map((name) => {
        const partitions = this.topics.get(name)
        if (partitions === undefined) {
          return { errorCode: KafkaError.UNKNOWN_TOPIC_OR_PARTITION, name, partitions: [] }
        }
        return {
          errorCode: 0,
          name,
          topicId: this.topicIds.get(name) ?? ZERO_UUID,
          partitions: partitions.map(({ leaderId, leaderEpoch, replicas }, partitionIndex) => ({
            errorCode: 0,
            partitionIndex,
            leaderId,
            leaderEpoch,
            replicaNodes: replicas ?? [leaderId],
            isrNodes: [leaderId],
          })),
        }
      }),
    } as ResponseInput<'Metadata'>
  }

  #produce(
    nodeId: number,
    link: Link,
    correlationId: number,
    body: Request<'Produce'>,
    answer: (body: object) => void,
  ): void {
    const fault = this.produceFault(body, nodeId) ?? {}
    if (fault.notice !== undefined) {
      link.send(encodeNotice({ errorCode: fault.notice, correlationId, message: 'refused' }))
      return
    }
    if (fault.breaks === 'before') {
      this.world.breakLinks(this.addresses[nodeId]!)
      return
    }
    this.#producesInFlight++
    this.producesInFlightMax = Math.max(this.producesInFlightMax, this.#producesInFlight)
    const responses = body.topicData.map(({ name, partitionData }) => ({
      name,
      partitionResponses: partitionData.map(({ index, records }) => {
        const isRefused = fault.code !== undefined && fault.appends !== true
        const result = isRefused
          ? { errorCode: fault.code ?? 0, baseOffset: -1 }
          : this.#appendChecked(nodeId, name, index, records)
        const errorCode = result.errorCode === 0 ? (fault.code ?? 0) : result.errorCode
        const recordErrors = result.recordErrors ?? []
        return {
          index,
          errorCode,
          baseOffset: errorCode === 0 ? result.baseOffset : -1,
          recordErrors,
        }
      }),
    }))
    const finish = () => {
      this.#producesInFlight--
      if (fault.breaks === 'after') this.world.breakLinks(this.addresses[nodeId]!)
      else if (fault.hangs !== true && body.acks !== 0) answer({ responses })
    }
    // An answer takes its time, so that more than one request is in flight at the broker.
    this.world.schedule((fault.delayMs ?? 0) + this.world.random.fraction(), finish)
  }

  #appendChecked(
    nodeId: number,
    topic: string,
    index: number,
    records: Uint8Array | null,
  ): { errorCode: number; baseOffset: number; recordErrors?: RecordError[] } {
    const partition = this.topics.get(topic)?.[index]
    const refuse = (errorCode: number) => ({ errorCode, baseOffset: -1 })
    if (partition === undefined) return refuse(KafkaError.UNKNOWN_TOPIC_OR_PARTITION)
    if (partition.leaderId !== nodeId) return refuse(KafkaError.NOT_LEADER_OR_FOLLOWER)
    if (records === null) return refuse(KafkaError.INVALID_RECORD)
    const defect = findBatchDefect(records)
    if (defect !== undefined) {
      this.defects.push(`${defect.kind}: ${defect.detail}`)
      return refuse(KafkaError.CORRUPT_MESSAGE)
    }
    const header = readBatchHeader(records)
    if (header.batchBytes !== records.length) this.defects.push('more than one batch')
    if (records.length > this.maxMessageBytes) return refuse(KafkaError.MESSAGE_TOO_LARGE)
    const recordErrors = this.#recordErrors(records)
    if (recordErrors.length > 0) return { ...refuse(KafkaError.INVALID_RECORD), recordErrors }
    if (header.producerId === -1) return { errorCode: 0, baseOffset: partition.append(records) }
    const span = 2 ** 31
    const firstSequence = header.baseSequence
    const lastSequence = (firstSequence + header.recordCount - 1) % span
    const state = partition.producers.get(header.producerId)
    if (state !== undefined) {
      const known = state.batches.find(
        (row) => row.firstSequence === firstSequence && row.lastSequence === lastSequence,
      )
      if (known !== undefined) return { errorCode: 0, baseOffset: known.baseOffset }
      const last = state.batches.at(-1)
      if (last !== undefined && (last.lastSequence + 1) % span !== firstSequence) {
        return refuse(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
      }
    }
    const baseOffset = partition.append(records)
    const batches = [...(state?.batches ?? []), { firstSequence, lastSequence, baseOffset }]
    partition.producers.set(header.producerId, {
      epoch: header.producerEpoch,
      batches: batches.slice(-this.#rememberedBatches),
    })
    return { errorCode: 0, baseOffset }
  }

  #recordErrors(records: Uint8Array): RecordError[] {
    const errors: RecordError[] = []
    const cursor = new RecordCursor()
    cursor.reset(records)
    for (let batchIndex = 0; cursor.next(); batchIndex += 1) {
      const value = text(cursor.bytes, cursor.valueStart, cursor.valueEnd)
      if (this.refusesValue(value)) errors.push({ batchIndex, batchIndexErrorMessage: 'refused' })
    }
    return errors
  }

  #fetch(
    nodeId: number,
    body: Request<'Fetch'>,
    answer: (body: object) => void,
    isFinal: boolean,
  ): void {
    let budget = body.maxBytes
    let bytesTotal = 0
    let hasError = false
    const parts: FakePartition[] = []
    const responses = body.topics.map(({ topic: name, topicId, partitions }) => ({
      topic: name,
      topicId,
      partitions: partitions.map((row) => {
        const isById = topicId !== ZERO_UUID
        const [topic] = isById
          ? ([...this.topicIds].find(([, id]) => id === topicId) ?? [])
          : [name]
        const partition = this.topics.get(topic ?? '')?.[row.partition]
        const isUnknownId = isById && partition === undefined
        const refused = isUnknownId
          ? KafkaError.UNKNOWN_TOPIC_ID
          : this.#fetchRefusal(nodeId, partition, row)
        if (partition === undefined || refused !== 0) {
          hasError = true
          return {
            partitionIndex: row.partition,
            errorCode: refused,
            highWatermark: partition?.visibleEnd ?? -1,
            records: null,
          }
        }
        const nearest = nodeId === partition.leaderId ? this.racks.get(body.rackId) : undefined
        if (nearest !== undefined && partition.followers.has(nearest)) {
          hasError = true
          const { visibleEnd: highWatermark } = partition
          const { partition: partitionIndex } = row
          return { partitionIndex, highWatermark, preferredReadReplica: nearest, records: [] }
        }
        parts.push(partition)
        const isCommitted = body.isolationLevel === 1
        const end = isCommitted ? partition.stableEnd : partition.visibleEnd
        const limit = Math.min(budget, row.partitionMaxBytes)
        const slice = sliceOf(partition, row.fetchOffset, end, limit, bytesTotal === 0)
        bytesTotal += slice.bytes
        budget -= slice.bytes
        return {
          partitionIndex: row.partition,
          errorCode: 0,
          highWatermark: partition.visibleEnd,
          lastStableOffset: partition.stableEnd,
          logStartOffset: partition.logStart,
          abortedTransactions: isCommitted
            ? partition.aborted.filter(
                ({ firstOffset, lastOffset }) =>
                  firstOffset < slice.nextOffset && lastOffset >= row.fetchOffset,
              )
            : null,
          records: slice.parts,
        }
      }),
    }))
    if (isFinal || hasError || bytesTotal >= body.minBytes || body.maxWaitMs === 0) {
      answer({ errorCode: 0, sessionId: 0, responses })
      return
    }
    let isDone = false
    const retry = (isLast: boolean) => {
      if (isDone) return
      isDone = true
      this.#fetch(nodeId, body, answer, isLast)
    }
    for (const partition of parts) partition.parked.push({ retry: () => retry(false) })
    this.world.schedule(body.maxWaitMs, () => retry(true))
  }

  #fetchRefusal(
    nodeId: number,
    partition: FakePartition | undefined,
    row: { readonly fetchOffset: number; readonly currentLeaderEpoch: number },
  ): number {
    if (partition === undefined) return KafkaError.UNKNOWN_TOPIC_OR_PARTITION
    if (partition.leaderId !== nodeId && !partition.followers.has(nodeId)) {
      return KafkaError.NOT_LEADER_OR_FOLLOWER
    }
    if (row.currentLeaderEpoch >= 0 && row.currentLeaderEpoch < partition.leaderEpoch) {
      return KafkaError.FENCED_LEADER_EPOCH
    }
    const isOutside = row.fetchOffset < partition.logStart || row.fetchOffset > partition.logEnd
    return isOutside ? KafkaError.OFFSET_OUT_OF_RANGE : 0
  }

  #listOffsets(nodeId: number, body: Request<'ListOffsets'>): object {
    return {
      topics: body.topics.map(({ name, partitions }) => ({
        name,
        partitions: partitions.map(({ partitionIndex, timestamp }) => {
          const partition = this.topics.get(name)?.[partitionIndex]
          if (partition === undefined || partition.leaderId !== nodeId) {
            const errorCode =
              partition === undefined
                ? KafkaError.UNKNOWN_TOPIC_OR_PARTITION
                : KafkaError.NOT_LEADER_OR_FOLLOWER
            return { partitionIndex, errorCode, timestamp: -1, offset: -1 }
          }
          const end = body.isolationLevel === 1 ? partition.stableEnd : partition.visibleEnd
          const offset = timestamp === -1 ? end : timestamp === -2 ? partition.logStart : -1
          return { partitionIndex, errorCode: 0, timestamp: -1, offset }
        }),
      })),
    }
  }
}

const listed: readonly ApiName[] = [
  'Produce',
  'Fetch',
  'ListOffsets',
  'Metadata',
  'ApiVersions',
  'CreateTopics',
  'DeleteTopics',
  'DeleteRecords',
  'InitProducerId',
  'DescribeConfigs',
  'AlterConfigs',
  'IncrementalAlterConfigs',
  'DescribeLogDirs',
  'CreatePartitions',
]

/** On the native doors the host is the whole address (kafka-protocol.md section 1.4). */
function endpointOf(address: string, nodeId: number): Response<'Metadata'>['brokers'][number] {
  if (!address.startsWith('kafka://')) return { nodeId, host: address, port: 0, rack: null }
  const [host, port] = address.slice('kafka://'.length).split(':')
  return { nodeId, host: host!, port: Number(port), rack: null }
}

/** Zeros and empty things for the fields a test has nothing to say about. */
function complete(fields: readonly Field[], value: object): object {
  const struct = value as Record<string, unknown>
  return Object.fromEntries(
    fields.map(([name, type, , options]) => {
      const given = struct[name]
      if (typeof type !== 'string' && 'array' in type) {
        const rows = (given ?? []) as readonly object[]
        return [name, given === null ? null : rows.map((row) => complete(type.array, row))]
      }
      if (given !== undefined || options?.default !== undefined || typeof type !== 'string') {
        return [name, given]
      }
      if (type.endsWith('[]')) return [name, []]
      if (type === 'uuid') return [name, ZERO_UUID]
      if (type === 'string') return [name, options?.nullable === undefined ? '' : null]
      return [name, type === 'bool' ? false : type === 'records' ? null : 0]
    }),
  )
}

function sliceOf(
  partition: FakePartition,
  offset: number,
  end: number,
  bytesMax: number,
  isFirst: boolean,
): { parts: Uint8Array[]; bytes: number; nextOffset: number } {
  const parts: Uint8Array[] = []
  let bytes = 0
  let nextOffset = offset
  for (const batch of partition.batches) {
    const last = lastOffsetAt(batch, 0)
    if (last < offset) continue
    if (last >= end) break
    if (bytes + batch.length > bytesMax && !(isFirst && parts.length === 0)) break
    parts.push(batch)
    bytes += batch.length
    nextOffset = last + 1
  }
  return { parts, bytes, nextOffset }
}

export function text(bytes: Uint8Array, start = 0, end = bytes.length): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString()
}
