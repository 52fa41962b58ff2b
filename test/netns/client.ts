/**
 * Clients as one process on their host: `node client.ts PLAN`, a plan being JSON. Producers send until a line `end` comes on
 * standard input and all is delivered; readers go on until the process is killed. What they were told goes to standard output
 * (client-events.ts).
 */
import { createInterface } from 'node:readline'
import type { Producer as KafkaProducer } from 'kafkajs'
import { CompressionTypes, Kafka, logLevel } from 'kafkajs'
import { connect } from '../../src/library/index.ts'
import type { Connection, ConsumerOptions } from '../../src/library/public.d.ts'

export interface ProducerPlan {
  readonly kind: 'native' | 'kafkajs'
  readonly name: string
  /** Records at a time, to one partition. */
  readonly burst: number
  readonly pauseMs: number
  /** Default: all in turn. */
  readonly partition?: number
}

export interface ReaderPlan {
  readonly kind: 'native' | 'kafkajs-group'
  readonly name: string
}

export interface TransactionPlan {
  readonly name: string
  readonly topic: string
  readonly partitions: number
  readonly pauseMs: number
}

export interface ClientPlan {
  readonly native: string
  readonly kafka: readonly string[]
  readonly topic: string
  readonly partitions: number
  readonly producers: readonly ProducerPlan[]
  readonly readers: readonly ReaderPlan[]
  readonly transactions: readonly TransactionPlan[]
}

/** Longer than any run: what is sent is delivered in the end, or it is a finding. */
const DELIVERY_MS = 3_600_000
const WINDOW_MAX = 2000
const GROUP_SESSION_MS = 6000
/** After a timeout kafkajs sends to the same broker again, until its metadata have expired; its default is 5 minutes. */
const METADATA_MS = 1000

const plan = JSON.parse(process.argv[2] ?? '') as ClientPlan
let isEnding = false

const tell = (...words: readonly (string | number)[]): void => {
  process.stdout.write(`${words.join(' ')}\n`)
}
const nowMs = (): number => Math.round((performance.timeOrigin + performance.now()) * 10) / 10
const pause = (delayMs: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, delayMs))
const complain = (who: string, error: unknown): void => {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  tell('error', who, text.replaceAll('\n', ' '))
}

const kafka = new Kafka({
  brokers: [...plan.kafka],
  clientId: 'netns',
  logLevel: logLevel.NOTHING,
  connectionTimeout: 2000,
  requestTimeout: 5000,
  retry: { retries: 1_000_000, initialRetryTime: 50, maxRetryTime: 500 },
})

/** However long nobody answers. */
async function contact(): Promise<Connection> {
  for (;;) {
    try {
      return await connect({ broker: plan.native })
    } catch (error) {
      complain('contact', error)
      await pause(100)
    }
  }
}

/** A producer that has failed is replaced by one of a new name: what the old one left behind may still arrive. */
async function produceNative({ name, burst, pauseMs, ...fixed }: ProducerPlan): Promise<void> {
  await using stream = await contact()
  for (let life = 0; !isEnding; life++) {
    const own = `${name}.${life}`
    const producer = stream.producer({
      deliveryTimeoutMs: DELIVERY_MS,
      lingerMs: 1,
      // kafkajs reads them too, and knows no other codec by itself.
      compression: burst > 10 ? 'gzip' : 'none',
    })
    let ordinal = 0
    let outstanding = 0
    let failure: unknown
    let turn = 0
    while (!isEnding && failure === undefined) {
      const partition = fixed.partition ?? turn++ % plan.partitions
      for (let index = 0; index < burst && outstanding < WINDOW_MAX; index++) {
        const number = ordinal++
        outstanding += 1
        producer.send(plan.topic, { value: `${own}-${number}`, partition }).then(
          (receipt) => {
            outstanding -= 1
            tell('ack', own, number, receipt.partition, receipt.offset, 1, nowMs())
          },
          (error: unknown) => {
            outstanding -= 1
            failure ??= error
          },
        )
      }
      await pause(pauseMs)
    }
    while (outstanding > 0) await pause(20)
    tell('sent', own, ordinal)
    if (failure !== undefined) complain(own, failure)
    await producer.close().catch(() => undefined)
  }
}

async function produceKafkajs({ name, burst, pauseMs, ...fixed }: ProducerPlan): Promise<void> {
  let turn = 0
  for (let life = 0; !isEnding; life++) {
    const own = `${name}.${life}`
    const producer = kafka.producer({
      idempotent: true,
      maxInFlightRequests: 1,
      metadataMaxAge: METADATA_MS,
    })
    let ordinal = 0
    try {
      await producer.connect()
      while (!isEnding) {
        const partition = fixed.partition ?? turn++ % plan.partitions
        const first = ordinal
        ordinal += burst
        const messages = Array.from({ length: burst }, (_, index) => ({
          value: `${own}-${first + index}`,
          partition,
        }))
        // One partition a request: with several, kafkajs counts the sequences of all back when one is refused.
        const [row] = await producer.send({
          topic: plan.topic,
          acks: -1,
          compression: CompressionTypes.None,
          messages,
        })
        tell('ack', own, first, partition, row?.baseOffset ?? -1, burst, nowMs())
        await pause(pauseMs)
      }
    } catch (error) {
      complain(own, error)
    }
    tell('sent', own, ordinal)
    await producer.disconnect().catch(() => undefined)
  }
}

async function readNative({ name }: ReaderPlan): Promise<void> {
  let from: NonNullable<ConsumerOptions['from']> = 'start'
  for (;;) {
    try {
      await using stream = await contact()
      const consumer = stream.consumer({ topics: plan.topic, from })
      for await (const message of consumer) {
        tell('read', name, message.partition, message.offset, nowMs(), message.text() ?? '')
        from = consumer.positions()
      }
    } catch (error) {
      complain(name, error)
      await pause(200)
    }
  }
}

/** kafkajs gives a consumer up for good where it takes an error for one that trying again does not help: a new one follows. */
async function readGroup(reader: ReaderPlan): Promise<void> {
  for (;;) {
    try {
      await readGroupOnce(reader)
    } catch (error) {
      complain(reader.name, error)
    }
    await pause(500)
  }
}

/** Resolves when the consumer has given up. */
async function readGroupOnce({ name }: ReaderPlan): Promise<void> {
  const consumer = kafka.consumer({
    groupId: name,
    sessionTimeout: GROUP_SESSION_MS,
    rebalanceTimeout: 10_000,
    heartbeatInterval: 500,
    maxWaitTimeInMs: 500,
  })
  const hasEnded = new Promise<void>((resolve) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      complain(name, payload.error)
      if (!payload.restart) resolve()
    })
  })
  await consumer.connect()
  await consumer.subscribe({ topic: plan.topic, fromBeginning: true })
  await consumer.run({
    autoCommitInterval: 500,
    eachBatch: async ({ batch, resolveOffset, heartbeat, commitOffsetsIfNecessary }) => {
      const atMs = nowMs()
      for (const { offset, value } of batch.messages) {
        tell('read', name, batch.partition, Number(offset), atMs, value?.toString() ?? '')
        resolveOffset(offset)
      }
      await heartbeat()
      await commitOffsetsIfNecessary()
    },
  })
  await hasEnded
  await consumer.disconnect().catch(() => undefined)
}

/** Each transaction writes its number to every partition, and every seventh is aborted. */
async function transact({ name, topic, partitions, pauseMs }: TransactionPlan): Promise<void> {
  let number = 0
  while (!isEnding) {
    let producer: KafkaProducer | undefined
    try {
      producer = kafka.producer({
        transactionalId: name,
        idempotent: true,
        maxInFlightRequests: 1,
        metadataMaxAge: METADATA_MS,
        transactionTimeout: 15_000,
        retry: { retries: 8, initialRetryTime: 50, maxRetryTime: 1000 },
      })
      await producer.connect()
      while (!isEnding) {
        number += 1
        let isDecided = false
        try {
          const transaction = await producer.transaction()
          for (let partition = 0; partition < partitions; partition++) {
            const messages = [{ value: `${name}-${number}`, partition }]
            await transaction.send({ topic, acks: -1, messages })
          }
          const aborts = number % 7 === 0
          await (aborts ? transaction.abort() : transaction.commit())
          isDecided = true
          tell('txn', name, number, aborts ? 'aborted' : 'committed', nowMs())
        } finally {
          if (!isDecided) tell('txn', name, number, 'unknown', nowMs())
        }
        await pause(pauseMs)
      }
    } catch (error) {
      complain(name, error)
    }
    await producer?.disconnect().catch(() => undefined)
    await pause(100)
  }
}

for (const reader of plan.readers) {
  const work = reader.kind === 'native' ? readNative(reader) : readGroup(reader)
  work.catch((error: unknown) => complain(reader.name, error))
}
createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'end') isEnding = true
})
await Promise.all([
  ...plan.producers.map((each) =>
    each.kind === 'native' ? produceNative(each) : produceKafkajs(each),
  ),
  ...plan.transactions.map(transact),
])
tell('idle')
