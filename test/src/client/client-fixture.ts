/** A world, brokers and a connected client, as most tests of the client begin. */
import { Cluster, type ClusterOptions } from '../../../src/client/cluster.ts'
import { Consumer } from '../../../src/client/consumer.ts'
import type { ConsumerEvent, ConsumerOptions } from '../../../src/client/consumer-events.ts'
import type { Delivery } from '../../../src/client/delivery.ts'
import { Producer, type ProducerOptions } from '../../../src/client/producer.ts'
import { BatchBuilder } from '../../../src/record/batch-builder.ts'
import { lastOffsetAt } from '../../../src/record/batch-layout.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import { ClientWorld } from './client-world.ts'
import { FakeCluster, text } from './fake-cluster.ts'

export interface Fixture {
  readonly world: ClientWorld
  readonly brokers: FakeCluster
  readonly cluster: Cluster
}

export function fixture(
  options: {
    readonly seed?: number | string
    readonly addresses?: readonly string[]
    readonly cluster?: Partial<ClusterOptions>
  } = {},
): Fixture {
  const world = new ClientWorld(options.seed ?? 1)
  const addresses = options.addresses ?? ['ipc:///one']
  const brokers = new FakeCluster(world, addresses)
  const cluster = new Cluster(world.time, world.random, world.net, world.log, {
    addresses,
    ...options.cluster,
  })
  return { world, brokers, cluster }
}

export async function producerOf(
  { world, cluster }: Fixture,
  topic: string,
  options: ProducerOptions = {},
): Promise<{ producer: Producer; deliveries: Delivery[] }> {
  const deliveries: Delivery[] = []
  const producer = new Producer(world.time, world.random, cluster, {
    onDelivery: (delivery) => deliveries.push(delivery),
    ...options,
  })
  await world.run(producer.prepare(topic))
  return { producer, deliveries }
}

/** Appends whole lines, waiting for room as a command does. */
export async function appendAll(
  producer: Producer,
  topic: string,
  partition: number | undefined,
  lines: readonly string[],
): Promise<void> {
  const chunk = Buffer.from(lines.map((line) => `${line}\n`).join(''))
  let at = 0
  while (at < chunk.length) {
    at += producer.appendLines(topic, partition, chunk, at, chunk.length)
    if (producer.isFull) await producer.writable()
  }
}

export function linesOf(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index}`)
}

/** A finished batch of text values, offsets from 0. */
export function batchOf(
  values: readonly string[],
  producer?: { readonly producerId: number; readonly baseSequence: number },
): Uint8Array {
  const builder = new BatchBuilder(64 * 1024)
  builder.reset({ timestampMs: 1_700_000_000_000 })
  for (const value of values) {
    const bytes = Buffer.from(value)
    builder.append({ value: { bytes, start: 0, end: bytes.length } })
  }
  const identity =
    producer === undefined ? {} : { ...producer, producerEpoch: 0, isTransactional: true }
  return builder.finish(identity).slice()
}

export function consumerOf({ world, cluster }: Fixture, options: ConsumerOptions = {}): Consumer {
  return new Consumer(world.time, world.random, cluster, options)
}

/** Values of a records event inside its range, as a command would print them. */
export function valuesOf(event: Extract<ConsumerEvent, { kind: 'records' }>): string[] {
  const values: string[] = []
  const cursor = new RecordCursor()
  for (const at of event.batches) {
    cursor.reset(event.bytes, at)
    while (cursor.next()) {
      if (cursor.offset < event.fromOffset || cursor.offset >= event.untilOffset) continue
      values.push(text(cursor.bytes, cursor.valueStart, cursor.valueEnd))
    }
    if (lastOffsetAt(event.bytes, at) >= event.untilOffset) break
  }
  return values
}

/** All events until the consumer is done, and the values in them. */
export async function readAll(
  consumer: Consumer,
): Promise<{ values: string[]; events: ConsumerEvent[] }> {
  const values: string[] = []
  const events: ConsumerEvent[] = []
  for (;;) {
    const event = await consumer.next()
    if (event === undefined) return { values, events }
    events.push(event)
    if (event.kind === 'records') values.push(...valuesOf(event))
  }
}
