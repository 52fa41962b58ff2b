/**
 * Records that a job could not deal with, in the topic `JOB.dlq` (commands.md, section 5, dlq): key, value and headers
 * as they were, and headers that say where the record stood and what happened.
 *
 *     dlq.topic dlq.partition dlq.offset dlq.ts    where it was read first, and its timestamp
 *     dlq.job dlq.batch dlq.attempts               whose work it was, in which batch, how often it was tried
 *     dlq.error dlq.exit dlq.stderr                one line; exit code or signal; the last 2 KiB
 *     dlq.replays                                  how often it was given back to the job
 *
 * A record on its way back, in `JOB.retry`, carries the first four and the last, so that its origin is never lost.
 * All values are text in UTF-8, but dlq.stderr, which is as it was. These names are permanent.
 */

import { isStreamError } from '../src/base/errors.ts'
import type { ChildEnd } from '../src/ports/children.ts'
import type { HeaderInput, RecordInput } from '../src/record/batch-builder.ts'
import type { RecordCursor } from '../src/record/record-cursor.ts'
import type { Broker } from './broker.ts'
import type { AdminClient, ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { describeFailure } from './retry-policy.ts'

const PREFIX = 'dlq.'
const STDERR_BYTES_MAX = 2048
/** Room for the headers above what a record of the job's own topics may take. */
const HEADER_ROOM_BYTES = 64 * 1024
const RECORD_BYTES_DEFAULT = 1_048_588

export function dlqTopicOf(job: string): string {
  return `${job}.dlq`
}

/** Read by the job itself, and by nobody else. */
export function retryTopicOf(job: string): string {
  return `${job}.retry`
}

/** The jobs that have a topic for dead letters. */
export function jobsOf(topics: readonly { readonly name: string }[]): string[] {
  const suffix = dlqTopicOf('')
  return topics.flatMap(({ name }) =>
    name.endsWith(suffix) && name.length > suffix.length ? [name.slice(0, -suffix.length)] : [],
  )
}

/** Where a record was read. */
export interface RecordPlace {
  readonly topic: string
  readonly partition: number
}

/** Why a record is given up. */
export interface DeadFailure {
  readonly job: string
  /** `JOB/TOPIC/PARTITION/FIRST-LAST`. */
  readonly batch: string
  readonly attempts: number
  /** One line. */
  readonly error: string
  /** Exit code, or the name of a signal; empty: neither. */
  readonly exit: string
  readonly stderr: Uint8Array
}

export function failureOf(
  end: ChildEnd,
  work: Pick<DeadFailure, 'job' | 'batch' | 'attempts'>,
): DeadFailure {
  const { job, batch, attempts } = work
  const exit = end.exit === undefined ? (end.signal ?? '') : String(end.exit)
  const error = describeFailure(end)
  return { job, batch, attempts, error, exit, stderr: end.errorTail }
}

/** The same for a failure that is not the end of a child. */
export function plainFailure(
  error: string,
  work: Pick<DeadFailure, 'job' | 'batch' | 'attempts'>,
): DeadFailure {
  const { job, batch, attempts } = work
  return { job, batch, attempts, error, exit: '', stderr: new Uint8Array(0) }
}

/**
 * The record for `JOB.dlq`. It refers to the cursor's bytes, and is stamped by whoever appends it: retention counts from
 * the failure.
 * @param cursor  on the record; its headers are moved
 */
export function deadRecord(
  cursor: RecordCursor,
  place: RecordPlace,
  failure: DeadFailure,
  timestampMs: number,
): RecordInput {
  const isReplayed = place.topic === retryTopicOf(failure.job)
  const origin = isReplayed ? originOf(cursor) : undefined
  return {
    ...bodyOf(cursor),
    timestampMs,
    headers: [
      ...headersOf(cursor, isReplayed),
      header('dlq.topic', origin?.topic ?? place.topic),
      header('dlq.partition', origin?.partition ?? String(place.partition)),
      header('dlq.offset', origin?.offset ?? String(cursor.offset)),
      header('dlq.ts', origin?.ts ?? String(cursor.timestampMs)),
      header('dlq.job', failure.job),
      header('dlq.batch', failure.batch),
      header('dlq.attempts', String(failure.attempts)),
      header('dlq.error', failure.error),
      header('dlq.exit', failure.exit),
      headerBytes('dlq.stderr', failure.stderr.subarray(-STDERR_BYTES_MAX)),
      header('dlq.replays', origin?.replays ?? '0'),
    ],
  }
}

/** A dead letter's own headers, as text; absent ones are empty. */
export interface DeadFacts {
  readonly topic: string
  readonly partition: string
  readonly offset: string
  readonly ts: string
  readonly error: string
  readonly replays: string
}

/** Of repeated names the last counts. @param cursor  on a record of `JOB.dlq` or `JOB.retry`; its headers are moved */
export function originOf(cursor: RecordCursor): DeadFacts {
  const facts = { topic: '', partition: '', offset: '', ts: '', error: '', replays: '' }
  cursor.rewindHeaders()
  while (cursor.nextHeader()) {
    const name = textOf(cursor.bytes, cursor.headerKeyStart, cursor.headerKeyEnd)
    if (!name.startsWith(PREFIX)) continue
    const key = name.slice(PREFIX.length) as keyof typeof facts
    if (!Object.hasOwn(facts, key) || cursor.headerValueStart < 0) continue
    facts[key] = textOf(cursor.bytes, cursor.headerValueStart, cursor.headerValueEnd)
  }
  return facts
}

/** The headers of a dead letter on its way back, beside its own. */
export function replayHeaders(facts: DeadFacts): readonly HeaderInput[] {
  return [
    header('dlq.topic', facts.topic),
    header('dlq.partition', facts.partition),
    header('dlq.offset', facts.offset),
    header('dlq.ts', facts.ts),
    header('dlq.replays', String(replaysOf(facts) + 1)),
  ]
}

export function replaysOf({ replays }: DeadFacts): number {
  return /^\d{1,9}$/.test(replays) ? Number(replays) : 0
}

/** The dead letter as it goes to `JOB.retry`. @param cursor  on it; its headers are moved */
export function replayRecord(cursor: RecordCursor, timestampMs: number): RecordInput {
  const back = replayHeaders(originOf(cursor))
  return { ...bodyOf(cursor), timestampMs, headers: [...headersOf(cursor, true), ...back] }
}

export function isDlqHeader(name: string): boolean {
  return name.startsWith(PREFIX)
}

/**
 * Makes `JOB.dlq` or `JOB.retry` where it is missing: one partition, with room for a record of `sources` and the headers
 * beside it. The producer may append to it afterwards.
 * @returns the size of the largest record that it takes, in bytes
 * @throws StreamError NOT_ALLOWED …
 */
export async function prepareDeadTopic(
  deps: CommandDeps,
  { cluster }: Broker,
  name: string,
  sources: readonly string[],
): Promise<number> {
  const admin = await deps.clients.admin(cluster)
  const [known] = await cluster.describeTopics([name])
  if (known !== undefined && known.errorCode === 0) {
    return (await recordBytesMax(admin, [name])) ?? RECORD_BYTES_DEFAULT
  }
  const bytesMax =
    ((await recordBytesMax(admin, sources)) ?? RECORD_BYTES_DEFAULT) + HEADER_ROOM_BYTES
  const configs = { 'max.message.bytes': String(bytesMax) }
  const [outcome] = await admin.createTopics([{ name, partitions: 1, configs }])
  if (outcome?.error !== undefined && !isStreamError(outcome.error, 'TOPIC_EXISTS')) {
    throw outcome.error
  }
  await admin.awaitTopic(name)
  return bytesMax
}

/** The largest of the topics' max.message.bytes; undefined where the broker does not tell. */
export async function recordBytesMax(
  admin: AdminClient,
  topics: readonly string[],
): Promise<number | undefined> {
  const key = 'max.message.bytes'
  const resources = topics.map((name) => ({ kind: 'topic', name }) as const)
  try {
    const described = await admin.describeConfigs(resources, { keys: [key] })
    const sizes = described.flatMap(({ configs }) =>
      configs.flatMap(({ name, value }) => (name === key && value !== null ? [Number(value)] : [])),
    )
    return sizes.length === 0 ? undefined : Math.max(...sizes)
  } catch (error) {
    const isUntold =
      isStreamError(error, 'NOT_ALLOWED') || isStreamError(error, 'UNSUPPORTED_BY_BROKER')
    if (!isUntold) throw error
    return undefined
  }
}

/** Waits for room. @throws as append */
export async function appendWhenRoom(
  producer: Pick<ProducerClient, 'append' | 'writable'>,
  topic: string,
  record: RecordInput,
): Promise<void> {
  while (!producer.append(topic, undefined, record)) await producer.writable()
}

function bodyOf(cursor: RecordCursor): Pick<RecordInput, 'key' | 'value'> {
  const { bytes, keyStart, keyEnd, valueStart, valueEnd } = cursor
  return {
    key: keyStart < 0 ? null : { bytes, start: keyStart, end: keyEnd },
    value: valueStart < 0 ? null : { bytes, start: valueStart, end: valueEnd },
  }
}

function headersOf(cursor: RecordCursor, isReplayed: boolean): HeaderInput[] {
  const headers: HeaderInput[] = []
  cursor.rewindHeaders()
  while (cursor.nextHeader()) {
    const { bytes, headerKeyStart, headerKeyEnd, headerValueStart, headerValueEnd } = cursor
    // Those of an earlier failure give way.
    if (isReplayed && isDlqHeader(textOf(bytes, headerKeyStart, headerKeyEnd))) continue
    headers.push({
      key: { bytes, start: headerKeyStart, end: headerKeyEnd },
      value: headerValueStart < 0 ? null : { bytes, start: headerValueStart, end: headerValueEnd },
    })
  }
  return headers
}

function header(name: string, value: string): HeaderInput {
  return headerBytes(name, Buffer.from(value, 'utf8'))
}

function headerBytes(name: string, value: Uint8Array): HeaderInput {
  const key = Buffer.from(name, 'utf8')
  return {
    key: { bytes: key, start: 0, end: key.length },
    value: { bytes: value, start: 0, end: value.length },
  }
}

function textOf(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8')
}
