/**
 * A command's surroundings in memory: host, standard streams, clock, and a broker behind the client's interfaces.
 * `run` gives what a shell would see: exit code or signal, standard output, standard error, files.
 */

import type {
  AdminClient,
  Clients,
  ClusterAdminClient,
  ClusterClient,
  ConsumerClient,
  GroupAdminClient,
  GroupMemberClient,
  LinkAdminClient,
  ProducerClient,
  TransactionAdminClient,
  TransactionClient,
  UserAdminClient,
} from '../../cmd/clients.ts'
import { commands } from '../../cmd/commands.ts'
import { Console } from '../../cmd/console.ts'
import type { CommandDeps } from '../../cmd/deps.ts'
import { dispatch } from '../../cmd/dispatch.ts'
import { BrokenPipe, exitCodeOf } from '../../cmd/exit-code.ts'
import { Interruption } from '../../cmd/interruption.ts'
import type { CurveKeyPair } from '../../src/base/curve-keys.ts'
import { StreamError } from '../../src/base/errors.ts'
import type { Admin, NewTopic, Outcome } from '../../src/client/admin.ts'
import type { ClusterOptions } from '../../src/client/cluster.ts'
import type { Assignment, ConsumerEvent } from '../../src/client/consumer-events.ts'
import type { Delivery } from '../../src/client/delivery.ts'
import type { MetadataCache, TopicInfo } from '../../src/client/metadata-cache.ts'
import type { OffsetAnswer, OffsetOutcome, OffsetQuestion } from '../../src/client/offsets.ts'
import { partitionForKey } from '../../src/client/partitioner.ts'
import type { ProducerOptions } from '../../src/client/producer.ts'
import { RealHashes } from '../../src/io/real-hashes.ts'
import type { Adoption } from '../../src/ports/adoption.ts'
import type { Children } from '../../src/ports/children.ts'
import type { DaemonLauncher, LaunchOptions } from '../../src/ports/daemon-launcher.ts'
import type { DeathSignal, Host, HostSignal, HostStat } from '../../src/ports/host.ts'
import type { LinkSecurity, Net, TlsOptions } from '../../src/ports/net.ts'
import type { Offline } from '../../src/ports/offline.ts'
import type { Screens } from '../../src/ports/screen.ts'
import type { Servers } from '../../src/ports/servers.ts'
import type {
  ByteInput,
  ByteOutput,
  InputEvents,
  Stdio,
  WriteOutcome,
} from '../../src/ports/stdio.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import type { Response } from '../../src/protocol/api-table.ts'
import { BatchBuilder, type ByteRange, type RecordInput } from '../../src/record/batch-builder.ts'
import { putInt64 } from '../../src/record/batch-layout.ts'
import { FakeClusterAdmin, FakeNodes } from './fake-nodes.ts'

const NOW_MS = Date.UTC(2026, 2, 15, 12, 0, 0)

/** Timers run when nothing else is left to do, each at its time. */
export class FakeTime implements Time {
  #nowMs = 0
  readonly #timers = new Set<{ readonly dueMs: number; readonly callback: () => void }>()

  wallMs(): number {
    return NOW_MS + Math.floor(this.#nowMs)
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = { dueMs: this.#nowMs + Math.max(0, delayMs), callback }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  /** Goes to the next timer. @returns false if there is none */
  step(): boolean {
    let next: { readonly dueMs: number; readonly callback: () => void } | undefined
    for (const timer of this.#timers)
      if (next === undefined || timer.dueMs < next.dueMs) next = timer
    if (next === undefined) return false
    this.#timers.delete(next)
    this.#nowMs = Math.max(this.#nowMs, next.dueMs)
    next.callback()
    return true
  }
}

export interface StoredRecord {
  readonly key: string | null
  readonly value: string | null
  readonly headers: readonly (readonly [string, string | null])[]
  readonly timestampMs: number
}

export interface FakePartition {
  start: number
  readonly records: StoredRecord[]
}

export interface FakeTopic {
  readonly partitions: FakePartition[]
  readonly configs: Map<string, string>
}

const latin1 = (range: ByteRange | null | undefined): string | null =>
  range == null
    ? null
    : Buffer.from(range.bytes.subarray(range.start, range.end)).toString('latin1')

export class FakeBroker {
  readonly topics = new Map<string, FakeTopic>()
  clusterId = 'CCCC'
  /** Topics whose settings cannot be changed. */
  readonly refusedConfigs = new Set<string>()
  readonly listeners = new Set<() => void>()
  /** Brokers and replicas, for tests of clusters. */
  readonly nodes = new FakeNodes()
  /** Topics that nobody leads. */
  readonly leaderless = new Set<string>()
  /** What the daemon says of its metadata store; undefined: the broker is no daemon. */
  store: Pick<Response<'DaemonStatus'>, 'storeState' | 'storeSilentMs' | 'storeTrouble'> | undefined
  /** `topic/partition` whose leader does not answer. */
  readonly unanswered = new Set<string>()
  /** Appends that find room before a producer is full; then it has room again a moment later. */
  roomRecords = Number.POSITIVE_INFINITY
  /** What the broker says to a value; undefined: takes it. */
  refuse: (value: string | null) => StreamError | undefined = () => undefined
  /** Deliveries are held back. */
  isStuck = false
  isReachable = true
  /** First contact is never made, and never refused. */
  isSilent = false
  producerOptions: ProducerOptions | undefined

  addTopic(name: string, partitions = 1): FakeTopic {
    const topic: FakeTopic = {
      partitions: Array.from({ length: partitions }, () => ({ start: 0, records: [] })),
      configs: new Map(),
    }
    this.topics.set(name, topic)
    return topic
  }

  /** Values, or whole records, at the end of a partition. */
  add(name: string, partition: number, ...records: (string | Partial<StoredRecord>)[]): void {
    const topic = this.topics.get(name) ?? this.addTopic(name)
    for (const record of records) {
      const fields = typeof record === 'string' ? { value: record } : record
      topic.partitions[partition]?.records.push({
        key: null,
        value: null,
        headers: [],
        timestampMs: NOW_MS,
        ...fields,
      })
    }
    for (const listener of [...this.listeners]) listener()
  }

  values(name: string): (string | null)[] {
    return (this.topics.get(name)?.partitions ?? []).flatMap(({ records }) =>
      records.map((record) => record.value),
    )
  }

  records(name: string): StoredRecord[] {
    return (this.topics.get(name)?.partitions ?? []).flatMap(({ records }) => records)
  }

  info(name: string): TopicInfo {
    const topic = this.topics.get(name)
    return {
      name,
      topicId: 'TTTTTTTTTTTTTTTTTTTTTT',
      isInternal: name.startsWith('__'),
      errorCode: topic === undefined ? 3 : 0,
      partitions: (topic?.partitions ?? []).map((_, partition) =>
        this.nodes.partitionInfo(name, partition, this.leaderless.has(name)),
      ),
    }
  }

  partition(name: string, partition: number): FakePartition {
    const found = this.topics.get(name)?.partitions[partition]
    if (found === undefined) throw unknownTopic(name)
    return found
  }
}

function unknownTopic(name: string): StreamError {
  return new StreamError('TOPIC_UNKNOWN', `${name}: no such topic (UNKNOWN_TOPIC_OR_PARTITION)`, {
    target: name,
    kafkaError: 3,
  })
}

class FakeProducer implements ProducerClient {
  readonly #broker: FakeBroker
  readonly #options: ProducerOptions
  readonly #time: Time
  #room: number
  #waiting: { topic: string; partition: number; record: StoredRecord; ordinal: number }[] = []
  isFull = false
  appendedCount = 0
  failure: StreamError | undefined
  consumedBytes = 0
  #delivered = new Set<number>()
  #sticky = 0

  constructor(broker: FakeBroker, time: Time, options: ProducerOptions) {
    this.#broker = broker
    this.#time = time
    this.#options = options
    this.#room = broker.roomRecords
    broker.producerOptions = options
  }

  async prepare(topic: string): Promise<TopicInfo> {
    const info = this.#broker.info(topic)
    if (info.errorCode !== 0) throw unknownTopic(topic)
    return info
  }

  partitionCount(topic: string): number {
    return this.#broker.topics.get(topic)?.partitions.length ?? 1
  }

  partitionForKey(topic: string, bytes: Uint8Array, start = 0, end = bytes.length): number {
    const name = this.#options.partitioner ?? 'murmur2'
    return partitionForKey(name, this.partitionCount(topic), bytes, start, end)
  }

  append(topic: string, partition: number | undefined, record: RecordInput): boolean {
    if (this.failure !== undefined) throw this.failure
    if (this.#room <= 0) {
      this.isFull = true
      return false
    }
    const size = (record.value?.end ?? 0) - (record.value?.start ?? 0)
    if (size > (this.#options.recordBytesMax ?? Number.POSITIVE_INFINITY)) {
      throw new StreamError('RECORD_TOO_LARGE', 'a record too large')
    }
    this.isFull = false
    this.#room -= 1
    this.#waiting.push({
      topic,
      partition: partition ?? this.#sticky,
      ordinal: this.appendedCount,
      record: {
        key: latin1(record.key),
        value: latin1(record.value),
        headers: (record.headers ?? []).map((header) => [
          latin1(header.key) ?? '',
          latin1(header.value),
        ]),
        timestampMs: record.timestampMs ?? NOW_MS,
      },
    })
    this.appendedCount += 1
    return true
  }

  appendLines(
    topic: string,
    partition: number | undefined,
    chunk: Uint8Array,
    start: number,
    end: number,
  ): number {
    const delimiter = this.#options.delimiter ?? 10
    let at = start
    this.consumedBytes = 0
    this.isFull = false
    for (;;) {
      const found = chunk.indexOf(delimiter, at)
      if (found < 0 || found >= end) break
      if (!this.append(topic, partition, { value: { bytes: chunk, start: at, end: found } })) break
      at = found + 1
      this.consumedBytes = at - start
    }
    return at - start
  }

  flushSoon(): void {
    if (!this.#broker.isStuck) this.#deliver()
  }

  async writable(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#time.setTimer(1, resolve)
    })
    this.#deliver()
    this.#room = this.#broker.roomRecords
    this.isFull = false
  }

  async flush(): Promise<void> {
    if (this.#broker.isStuck) {
      await new Promise<void>((resolve) => {
        this.#time.setTimer(this.#options.deliveryTimeoutMs ?? 0, resolve)
      })
      this.failure = new StreamError(
        'NOT_DELIVERED',
        'not acknowledged within the delivery timeout',
      )
    } else this.#deliver()
    if (this.failure !== undefined) throw this.failure
  }

  deliveredThrough(): number {
    for (let ordinal = 0; ordinal < this.appendedCount; ordinal += 1) {
      if (!this.#delivered.has(ordinal)) return ordinal
    }
    return this.appendedCount
  }

  close(): void {}

  /** Each record is a batch of its own; partitions are acknowledged last to first, as they may be. */
  #deliver(): void {
    const waiting = this.#waiting
    this.#waiting = []
    const answers: Delivery[] = []
    for (const { topic, partition, record, ordinal } of waiting) {
      const error = this.#broker.refuse(record.value)
      const { records } = this.#broker.partition(topic, partition)
      const baseOffset = error === undefined ? records.length : -1
      if (error === undefined) {
        this.#broker.add(topic, partition, record)
        this.#delivered.add(ordinal)
      } else if (this.#options.afterRefusal !== 'continue') this.failure ??= error
      else this.#delivered.add(ordinal)
      answers.push({
        topic,
        partition,
        baseOffset,
        recordCount: 1,
        bytes: 0,
        firstOrdinal: ordinal,
        lastOrdinal: ordinal,
        ordinals: undefined,
        error,
        outcomeUnknown: false,
        batch: error === undefined ? undefined : batchOf([record], 0),
      })
    }
    for (const answer of answers.reverse()) this.#options.onDelivery?.(answer)
    this.#sticky = 0
  }
}

/** Looks at the end of partition 0 when all is there. */
class FakeConditionalProducer extends FakeProducer {
  readonly #end: () => number
  readonly #expectedEndOffset: number
  #topic = ''

  constructor(broker: FakeBroker, time: Time, options: ProducerOptions, expected: number) {
    super(broker, time, options)
    this.#expectedEndOffset = expected
    this.#end = () => broker.partition(this.#topic, 0).records.length
  }

  override async prepare(topic: string): Promise<TopicInfo> {
    this.#topic = topic
    return super.prepare(topic)
  }

  override flushSoon(): void {}

  override async flush(): Promise<void> {
    const end = this.#end()
    if (end === this.#expectedEndOffset) return super.flush()
    throw new StreamError('CONFLICT', `t partition 0: the partition ends at ${end}`)
  }
}

class FakeConsumer implements ConsumerClient {
  readonly #broker: FakeBroker
  readonly #parts = new Map<
    string,
    {
      topic: string
      partition: number
      next: number
      end: number
      isDone: boolean
      isPaused: boolean
    }
  >()
  readonly #events: ConsumerEvent[] = []
  #wake: (() => void) | undefined
  readonly #time: Time
  readonly #listener = (): void => this.#wake?.()
  prefetchedBytes = 0
  readonly isOutOfTouch = false

  constructor(broker: FakeBroker, time: Time) {
    this.#broker = broker
    this.#time = time
    broker.listeners.add(this.#listener)
  }

  assign(assignments: readonly Assignment[]): void {
    for (const { topic, partition, startOffset, endOffset } of assignments) {
      this.#parts.set(`${topic}/${partition}`, {
        topic,
        partition,
        next: startOffset,
        end: endOffset ?? Number.POSITIVE_INFINITY,
        isDone: false,
        isPaused: false,
      })
    }
  }

  unassign(topic: string, partition: number): void {
    this.#parts.delete(`${topic}/${partition}`)
  }

  position(topic: string, partition: number): number | undefined {
    return this.#parts.get(`${topic}/${partition}`)?.next
  }

  epochBefore(): number {
    return -1
  }

  isTopicLost(): boolean {
    return false
  }

  pause(topic: string, partition: number): void {
    const part = this.#parts.get(`${topic}/${partition}`)
    if (part !== undefined) part.isPaused = true
  }

  resume(topic: string, partition: number): void {
    const part = this.#parts.get(`${topic}/${partition}`)
    if (part !== undefined) part.isPaused = false
  }

  get isDone(): boolean {
    return this.#events.length === 0 && [...this.#parts.values()].every((part) => part.isDone)
  }

  poll(): ConsumerEvent | undefined {
    const queued = this.#events.shift()
    if (queued !== undefined) return queued
    for (const part of this.#parts.values()) {
      if (part.isDone || part.isPaused) continue
      const { topic, partition } = part
      if (part.next >= part.end) {
        part.isDone = true
        return { kind: 'end', topic, partition, offset: part.end }
      }
      const log = this.#broker.partition(topic, partition)
      if (part.next < log.start) {
        const from = part.next
        part.next = log.start
        return { kind: 'gap', topic, partition, from, to: log.start }
      }
      if (part.next >= log.records.length) continue
      return this.#recordsEvent(part, log)
    }
    return undefined
  }

  /** Batches of three, so that starts and ends lie in the middle of some. */
  #recordsEvent(
    part: { topic: string; partition: number; next: number; end: number },
    log: FakePartition,
  ): ConsumerEvent {
    const from = Math.floor(part.next / 3) * 3
    const batches: Uint8Array[] = []
    let at = from
    while (at < log.records.length && at < Math.min(part.end, from + 6)) {
      batches.push(batchOf(log.records.slice(at, at + 3), at))
      at = Math.min(at + 3, log.records.length)
    }
    const starts: number[] = []
    let bytes = 0
    for (const batch of batches) {
      starts.push(bytes)
      bytes += batch.length
    }
    const fromOffset = part.next
    part.next = Math.min(at, part.end)
    return {
      kind: 'records',
      topic: part.topic,
      partition: part.partition,
      bytes: Buffer.concat(batches),
      batches: starts,
      fromOffset,
      untilOffset: part.end,
      nextOffset: part.next,
      highWatermark: log.records.length,
      lastStableOffset: log.records.length,
      logStartOffset: log.start,
    }
  }

  wait(timeoutMs?: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer =
        timeoutMs === undefined ? undefined : this.#time.setTimer(timeoutMs, () => resolve(false))
      this.#wake = () => {
        timer?.cancel()
        resolve(true)
      }
    })
  }

  close(): void {
    this.#broker.listeners.delete(this.#listener)
  }
}

function range(text: string | null): ByteRange | null {
  if (text === null) return null
  const bytes = Buffer.from(text, 'latin1')
  return { bytes, start: 0, end: bytes.length }
}

function batchOf(records: readonly StoredRecord[], baseOffset: number): Uint8Array {
  const builder = new BatchBuilder(1 << 20)
  builder.reset({ timestampMs: NOW_MS })
  for (const record of records) {
    builder.append({
      key: range(record.key),
      value: range(record.value),
      headers: record.headers.map(([name, value]) => ({
        key: range(name) as ByteRange,
        value: range(value),
      })),
      timestampMs: record.timestampMs,
    })
  }
  const batch = Uint8Array.from(builder.finish())
  putInt64(batch, 0, baseOffset)
  return batch
}

class FakeAdmin {
  readonly #broker: FakeBroker

  constructor(broker: FakeBroker) {
    this.#broker = broker
  }

  async listTopics(): Promise<TopicInfo[]> {
    return [...this.#broker.topics.keys()].sort().map((name) => this.#broker.info(name))
  }

  async describeTopics(names: readonly string[]): Promise<TopicInfo[]> {
    return names.map((name) => this.#broker.info(name))
  }

  async createTopics(
    topics: readonly NewTopic[],
    options: { isTrial?: boolean } = {},
  ): Promise<Outcome[]> {
    return topics.map(({ name, partitions, configs }) => {
      if (this.#broker.topics.has(name)) {
        return {
          name,
          error: new StreamError('TOPIC_EXISTS', `${name}: exists already`, { target: name }),
        }
      }
      if (options.isTrial !== true) {
        const topic = this.#broker.addTopic(name, partitions ?? 1)
        for (const [key, value] of Object.entries(configs ?? {})) topic.configs.set(key, value)
      }
      return { name, error: undefined }
    })
  }

  async awaitTopic(name: string): Promise<TopicInfo> {
    return this.#broker.info(name)
  }

  async deleteTopics(names: readonly string[]): Promise<Outcome[]> {
    for (const name of names) this.#broker.topics.delete(name)
    return names.map((name) => ({ name, error: undefined }))
  }

  async describeConfigs(resources: readonly { kind: 'topic' | 'broker'; name: string }[]) {
    return resources.map(({ kind, name }) => ({
      kind,
      name,
      error: undefined,
      configs: [
        ...[...(this.#broker.topics.get(name)?.configs ?? [])].map(([key, value]) =>
          entry(key, value, 'topic' as const),
        ),
        entry('cleanup.policy', 'delete', 'default' as const),
      ],
    }))
  }

  async alterConfigs(
    changes: readonly {
      name: string
      set?: Readonly<Record<string, string>>
      unset?: readonly string[]
    }[],
    options: { isTrial?: boolean } = {},
  ): Promise<Outcome[]> {
    return changes.map(({ name, set, unset }) => {
      if (this.#broker.refusedConfigs.has(name)) {
        const words = `${name}: the settings are refused`
        return { name, error: new StreamError('CONFIG_INVALID', words, { target: name }) }
      }
      const configs = this.#broker.topics.get(name)?.configs ?? this.#broker.nodes.configsOf(name)
      if (options.isTrial !== true) {
        for (const [key, value] of Object.entries(set ?? {})) configs?.set(key, value)
        for (const key of unset ?? []) configs?.delete(key)
      }
      return { name, error: undefined }
    })
  }

  async createPartitions(topics: readonly { name: string; count: number }[]): Promise<Outcome[]> {
    return topics.map(({ name, count }) => {
      const partitions = this.#broker.topics.get(name)?.partitions ?? []
      while (partitions.length < count) partitions.push({ start: 0, records: [] })
      return { name, error: undefined }
    })
  }

  async describeLogDirectories() {
    return [...this.#broker.topics].flatMap(([topic, { partitions }]) =>
      partitions.map(({ records }, partition) => ({
        nodeId: 1,
        directory: '/data',
        topic,
        partition,
        bytes: records.length * 10,
      })),
    )
  }

  async deleteRecords(
    orders: readonly { topic: string; partition: number; beforeOffset: number }[],
  ) {
    return orders.map((order) => {
      this.#broker.partition(order.topic, order.partition).start = order.beforeOffset
      return { ...order, logStartOffset: order.beforeOffset, error: undefined }
    })
  }

  listOffsets(questions: readonly OffsetQuestion[]): Promise<readonly OffsetAnswer[]> {
    return answerOffsets(this.#broker, questions)
  }

  async describeCluster() {
    const { nodes } = this.#broker
    const brokers = [...nodes.brokers().values()]
    return { clusterId: this.#broker.clusterId, controllerId: nodes.controllerId, brokers }
  }

  async daemonStatus() {
    const { store } = this.#broker
    if (store === undefined) throw new StreamError('UNSUPPORTED_BY_BROKER', 'it is no daemon')
    return store
  }

  async listOffsetsEach(questions: readonly OffsetQuestion[]): Promise<readonly OffsetOutcome[]> {
    return Promise.all(
      questions.map(async (question) => {
        const { leaderId } = this.#broker.nodes.placeOf(question.topic, question.partition)
        const [answer, error] = await answerOffsets(this.#broker, [question]).then(
          (answers) => [answers[0], undefined] as const,
          (reason: unknown) => [undefined, reason as StreamError] as const,
        )
        return { ...question, leaderId, answer, error }
      }),
    )
  }
}

function entry(name: string, value: string, origin: 'topic' | 'default') {
  return { name, value, origin, isReadOnly: false, isSensitive: false, documentation: null }
}

async function answerOffsets(
  broker: FakeBroker,
  questions: readonly OffsetQuestion[],
): Promise<readonly OffsetAnswer[]> {
  for (const { topic, partition } of questions) {
    const target = `${topic} partition ${partition}`
    if (!broker.unanswered.has(`${topic}/${partition}`)) continue
    throw new StreamError('TIMED_OUT', `${target}: no leader answers for its offsets`, { target })
  }
  return questions.map((question) => {
    const { start, records } = broker.partition(question.topic, question.partition)
    const { at } = question
    if (at === 'earliest') return { ...question, offset: start, timestampMs: -1 }
    if (at === 'latest') return { ...question, offset: records.length, timestampMs: -1 }
    if (at === 'maxTimestamp') {
      const newest = Math.max(-1, ...records.map((record) => record.timestampMs))
      return { ...question, offset: records.length - 1, timestampMs: newest }
    }
    const found = records.findIndex((record, offset) => offset >= start && record.timestampMs >= at)
    return {
      ...question,
      offset: found,
      timestampMs: found < 0 ? -1 : (records[found]?.timestampMs ?? -1),
    }
  })
}

class FakeClients implements Clients {
  readonly #broker: FakeBroker
  readonly #time: Time
  readonly addresses: string[] = []

  constructor(broker: FakeBroker, time: Time) {
    this.#broker = broker
    this.#time = time
  }

  /** Of the last cluster that was asked for. */
  security: LinkSecurity | undefined
  login: ClusterOptions['login']

  preload(): void {}

  async cluster(
    _log: unknown,
    options: Pick<ClusterOptions, 'addresses' | 'security' | 'login'>,
  ): Promise<ClusterClient> {
    const broker = this.#broker
    this.addresses.push(...options.addresses)
    this.security = options.security
    this.login = options.login
    let isAsked = false
    const metadata = {
      brokers: broker.nodes.brokers(),
      get clusterId() {
        return isAsked ? broker.clusterId : undefined
      },
    }
    return {
      metadata: metadata as unknown as MetadataCache,
      requestTimeoutMs: 1000,
      close: () => undefined,
      connect: async () => {
        if (broker.isSilent) await new Promise(() => undefined)
        if (!broker.isReachable) throw new StreamError('UNREACHABLE', 'no broker reached')
      },
      describeTopics: async (names) =>
        (names ?? [...broker.topics.keys()].sort()).map((name) => broker.info(name)),
      awaitTopic: async (name) => {
        isAsked = true
        const info = broker.info(name)
        if (info.errorCode !== 0) throw unknownTopic(name)
        return info
      },
    }
  }

  async producer(_cluster: ClusterClient, options: ProducerOptions): Promise<ProducerClient> {
    return new FakeProducer(this.#broker, this.#time, options)
  }

  async transactionalProducer(): Promise<TransactionClient> {
    throw new StreamError('UNSUPPORTED_BY_BROKER', 'the fake broker has no transactions')
  }

  async conditionalProducer(
    _cluster: ClusterClient,
    options: ProducerOptions,
    expectedEndOffset: number,
  ): Promise<ProducerClient> {
    return new FakeConditionalProducer(this.#broker, this.#time, options, expectedEndOffset)
  }

  async consumer(): Promise<ConsumerClient> {
    return new FakeConsumer(this.#broker, this.#time)
  }

  async groupMember(): Promise<GroupMemberClient> {
    throw new StreamError('UNSUPPORTED_BY_BROKER', 'this broker has no groups')
  }

  async linkAdmin(): Promise<LinkAdminClient> {
    throw new StreamError('UNSUPPORTED_BY_BROKER', 'the fake broker has no links')
  }

  async groupAdmin(): Promise<GroupAdminClient> {
    throw new StreamError('UNSUPPORTED_BY_BROKER', 'this broker has no groups')
  }

  /** By name: mechanisms. */
  readonly users = new Map<string, { readonly password: string; readonly mechanisms: string[] }>()

  async userAdmin(): Promise<UserAdminClient> {
    const { users } = this
    const unknown = (name: string): StreamError =>
      new StreamError('NAME_UNKNOWN', `${name}: no such user`, { target: name })
    return {
      list: async (names) =>
        (names ?? [...users.keys()]).map((name) => ({
          name,
          credentials: (users.get(name)?.mechanisms ?? []).map((mechanism) => ({
            mechanism,
            iterations: 8192,
          })),
          error: users.has(name) ? undefined : unknown(name),
        })),
      set: async (name, { password, mechanisms }) => {
        const all = new Set([...(users.get(name)?.mechanisms ?? []), ...mechanisms])
        users.set(name, { password, mechanisms: [...all].sort() })
      },
      delete: async (name, mechanisms) => {
        const left = users
          .get(name)
          ?.mechanisms.filter((each) => !mechanisms.some((m) => m === each))
        if (left === undefined) throw unknown(name)
        if (left.length === 0) users.delete(name)
        else users.set(name, { password: '', mechanisms: left })
      },
    }
  }

  async transactionAdmin(): Promise<TransactionAdminClient> {
    throw new StreamError('UNSUPPORTED_BY_BROKER', 'the fake broker has no transactions')
  }

  async admin(): Promise<AdminClient> {
    // Only what the commands under test ask for.
    return new FakeAdmin(this.#broker) as unknown as Pick<Admin, keyof Admin>
  }

  async clusterAdmin(): Promise<ClusterAdminClient> {
    return new FakeClusterAdmin(this.#broker.nodes, () => this.#broker.topics.keys())
  }

  listOffsets(
    _cluster: ClusterClient,
    questions: readonly OffsetQuestion[],
  ): Promise<readonly OffsetAnswer[]> {
    return answerOffsets(this.#broker, questions)
  }
}

export class FakeOutput implements ByteOutput {
  readonly kind = 'pipe'
  bytesWritten = 0
  isBroken = false
  readonly chunks: Buffer[] = []
  isClosed = false
  /** Writes beyond this many bytes find no reader. */
  brokenAfter = Number.POSITIVE_INFINITY
  /** Writes are taken later. */
  isSlow = false
  failure: StreamError | undefined

  write(bytes: Uint8Array): WriteOutcome | Promise<WriteOutcome> {
    if (this.failure !== undefined) throw this.failure
    if (!this.isSlow) return this.#take(bytes)
    return new Promise((resolve) => {
      setImmediate(() => resolve(this.#take(bytes)))
    })
  }

  #take(bytes: Uint8Array): WriteOutcome {
    if (this.bytesWritten + bytes.length > this.brokenAfter) {
      this.isBroken = true
      return 'broken'
    }
    this.chunks.push(Buffer.from(bytes))
    this.bytesWritten += bytes.length
    return 'written'
  }

  sync(): void {}

  close(): void {
    this.isClosed = true
  }

  hangUp(): void {
    this.isClosed = true
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1')
  }
}

/** Delivers its chunks one per turn; honours pauses, and uses one memory for all chunks as real inputs do. */
class FakeInput implements ByteInput {
  readonly kind = 'pipe'
  readonly path: string
  readonly sizeBytes = undefined
  readonly #chunks: readonly Uint8Array[]
  readonly #staysOpen: boolean
  readonly #onEmpty: () => void
  readonly #delay: Time | undefined
  #index = 0
  #isPaused = false
  #isClosed = false
  #events: InputEvents | undefined
  readonly #memory = new Uint8Array(70_000)

  constructor(
    path: string,
    chunks: readonly Uint8Array[],
    staysOpen: boolean,
    onEmpty: () => void,
    delay?: Time,
  ) {
    this.#delay = delay
    this.path = path
    this.#chunks = chunks
    this.#staysOpen = staysOpen
    this.#onEmpty = onEmpty
  }

  start(events: InputEvents): void {
    this.#events = events
    if (this.#delay === undefined) this.#next()
    else this.#delay.setTimer(10, () => this.#next())
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#next()
  }

  close(): void {
    this.#isClosed = true
  }

  #next(): void {
    setImmediate(() => {
      if (this.#isClosed || this.#isPaused) return
      const chunk = this.#chunks[this.#index]
      if (chunk === undefined) {
        if (this.#staysOpen) this.#onEmpty()
        else this.#events?.onEnd(undefined)
        return
      }
      this.#index += 1
      this.#memory.fill(0xee)
      this.#memory.set(chunk, 2)
      this.#events?.onBytes(this.#memory, 2, 2 + chunk.length)
      if (!this.#isPaused) this.#next()
    })
  }
}

export interface RunResult {
  /** Exit code, or the signal it died by. */
  readonly exit: number | DeathSignal
  readonly stdout: string
  readonly stderr: string
}

export class World {
  readonly broker = new FakeBroker()
  readonly time = new FakeTime()
  readonly output = new FakeOutput()
  readonly files = new Map<string, Uint8Array>()
  /** Permission bits of files; 0600 where nothing is said. */
  readonly modes = new Map<string, number>()
  readonly written = new Map<string, FakeOutput>()
  readonly locks = new Set<string>()
  /** Inputs that give nothing before the clock has moved. */
  readonly delayed = new Set<string>()
  readonly environment: Record<string, string | undefined> = {
    XDG_RUNTIME_DIR: '/run/me',
    XDG_CONFIG_HOME: '/config',
    XDG_DATA_HOME: '/share',
    XDG_STATE_HOME: '/state',
  }
  readonly clients = new FakeClients(this.broker, this.time)
  readonly launches: LaunchOptions[] = []
  readonly daemonRuns: string[][] = []
  /** Standard input, as chunks. */
  input: readonly (string | Uint8Array)[] = []
  inputStaysOpen = false
  /** Called when an input that stays open has given all. */
  onInputEmpty: () => void = () => undefined
  terminals: readonly ('input' | 'output' | 'error')[] = []
  sockets: readonly string[] = ['/run/me/stream/daemon.sock']
  readonly interruption = new Interruption()
  /** Marks of running processes by their number. */
  readonly processes = new Map<number, string>()
  /** What programs that commands start do. */
  runProgram: CommandDeps['runProgram'] = async () => ({ exit: 127, stdout: '' })
  /** Of the terminals. */
  terminalColumns = 80
  #stderr = ''

  async run(...words: string[]): Promise<RunResult> {
    const console = new Console(this.#stdio(), { isTerminal: this.terminals.includes('error') })
    const deps = this.#deps(console)
    let exit: number | DeathSignal | undefined
    const done = dispatch(deps, words).then(
      (code) => {
        exit = this.interruption.signal ?? code
      },
      (error: unknown) => {
        if (error instanceof BrokenPipe) {
          exit = 'SIGPIPE'
          return
        }
        if (this.interruption.signal === undefined) console.error(error)
        exit = this.interruption.signal ?? exitCodeOf(error)
      },
    )
    let idle = 0
    while (exit === undefined) {
      await new Promise((resolve) => setImmediate(resolve))
      idle += 1
      // Everything that can go on without time has done so.
      if (idle < 8) continue
      idle = 0
      if (exit === undefined && !this.time.step())
        await new Promise((resolve) => setTimeout(resolve, 1))
    }
    await done
    return { exit, stdout: this.output.text, stderr: this.#stderr }
  }

  /** What `cluster keys` makes, in this order. */
  keyPairs: CurveKeyPair[] = []
  /** What TLS was asked for with. */
  readonly tls: TlsOptions[] = []
  offline = {} as Offline
  adoption = {} as Adoption
  servers = {} as Servers
  children = {} as Children
  screen: Screens = {
    openScreen: () => {
      throw new Error('no screen in this test')
    },
  }

  fileText(path: string): string {
    return this.written.get(path)?.text ?? ''
  }

  #deps(console: Console): CommandDeps {
    const launcher: DaemonLauncher = {
      isAnswering: async () => this.broker.isReachable,
      launch: async (options) => {
        this.launches.push(options)
        this.broker.isReachable = true
        return { processId: 7 }
      },
    }
    return {
      time: this.time,
      random: { bytes: (count) => new Uint8Array(count), fraction: () => 0 },
      net: {} as Net,
      host: this.#host(),
      stdio: this.#stdio(),
      launcher,
      clients: this.clients,
      console,
      interruption: this.interruption,
      loadDisk: async () => ({
        open: () => {
          throw new Error('the fake consumer reads no files')
        },
      }),
      commands,
      runDaemon: async (args) => {
        this.daemonRuns.push([...args])
        return 0
      },
      openOffline: () => this.offline,
      openAdoption: () => this.adoption,
      loadServers: async () => this.servers,
      openChildren: () => this.children,
      loadScreens: async () => this.screen,
      runProgram: async (words, options) => this.runProgram(words, options),
      makeTls: async (options) => {
        this.tls.push(options)
        return { kind: 'tls' }
      },
      loadHashes: async () => new RealHashes(),
      makeCurveKeyPair: async () => this.keyPairs.shift() ?? { publicKey: '', secretKey: '' },
      readVersion: () => '1.2.3',
    }
  }

  #stdio(): Stdio {
    return {
      output: this.output,
      openInput: (path) => {
        const output = this.written.get(path)
        const content = output === undefined ? this.files.get(path) : Buffer.concat(output.chunks)
        if (path !== '-' && content === undefined) {
          throw new StreamError('FILE_NOT_FOUND', `${path}: no such file`, { target: path })
        }
        const chunks = path === '-' ? this.input : [content ?? '']
        return new FakeInput(
          path,
          chunks.map((chunk) => (typeof chunk === 'string' ? Buffer.from(chunk, 'latin1') : chunk)),
          path === '-' && this.inputStaysOpen,
          () => this.onInputEmpty(),
          this.delayed.has(path) ? this.time : undefined,
        )
      },
      openOutput: (path) => {
        if (path === '-') return this.output
        const output = this.written.get(path) ?? new FakeOutput()
        this.written.set(path, output)
        return output
      },
      printError: (text) => {
        this.#stderr += text
      },
    }
  }

  #host(): Host {
    const directory: HostStat = { kind: 'directory', userId: 1000, mode: 0o700, sizeBytes: 0 }
    return {
      arguments: [],
      environment: this.environment,
      processId: 1,
      userId: 1000,
      processorCount: 2,
      homeDirectory: '/home/me',
      currentDirectory: '/here',
      temporaryDirectory: '/tmp',
      isTerminal: (stream) => this.terminals.includes(stream),
      columns: (stream) => (this.terminals.includes(stream) ? this.terminalColumns : undefined),
      onSignal: (_signal: HostSignal, _listener: () => void) => () => undefined,
      exit: () => {
        throw new Error('exit is for main')
      },
      dieBySignal: () => {
        throw new Error('dying is for main')
      },
      readFile: (path) => this.files.get(path),
      writeFile: (path, bytes, mode) => {
        this.files.set(path, bytes)
        if (mode !== undefined) this.modes.set(path, mode)
      },
      makeDirectory: () => undefined,
      removeFile: (path) => {
        this.files.delete(path)
        this.written.delete(path)
      },
      lockFile: (path) => {
        if (this.locks.has(path)) {
          throw new StreamError('CONFLICT', `${path}: locked by another run`, { target: path })
        }
        this.locks.add(path)
        return () => this.locks.delete(path)
      },
      processMark: (processId) => this.processes.get(processId),
      terminate: (processId) => {
        this.processes.delete(processId)
      },
      stat: (path) => {
        if (this.sockets.includes(path)) return { ...directory, kind: 'socket' }
        if (path === '/run/me/stream') return directory
        const content = this.files.get(path)
        return content === undefined
          ? undefined
          : {
              ...directory,
              kind: 'file',
              sizeBytes: content.length,
              mode: this.modes.get(path) ?? 0o600,
            }
      },
    }
  }
}
