import { describe, expect, it } from 'vitest'
import type { Response } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { batchOf, recordsOf } from '../batches.ts'
import { type Client, DaemonWorld, KAFKA, type StartOptions } from '../daemon-world.ts'

const texts = { 'transaction.state.log.num.partitions': '3' }

async function started(options: StartOptions = {}, seed = 1) {
  const w = new DaemonWorld(seed)
  const daemon = await w.start({ texts, ...options })
  const client = w.client()
  await client.create('t', { partitions: 2 })
  return { w, daemon, client }
}

interface Producer {
  id: string
  producerId: number
  epoch: number
}

async function init(client: Client, id = 'x', timeoutMs = 60_000): Promise<Producer> {
  const answer = await client.call('InitProducerId', 5, {
    transactionalId: id,
    transactionTimeoutMs: timeoutMs,
  })
  expect(answer.errorCode).toBe(0)
  return { id, producerId: answer.producerId, epoch: answer.producerEpoch }
}

async function add(client: Client, producer: Producer, topic = 't', partitions = [0]) {
  const answer = await client.call('AddPartitionsToTxn', 3, {
    v3AndBelowTransactionalId: producer.id,
    v3AndBelowProducerId: producer.producerId,
    v3AndBelowProducerEpoch: producer.epoch,
    v3AndBelowTopics: [{ name: topic, partitions }],
  })
  return answer.resultsByTopicV3AndBelow[0]!.resultsByPartition.map((row) => row.partitionErrorCode)
}

function beginSend(
  client: Client,
  producer: Producer,
  value: string,
  options: { sequence?: number; partition?: number; version?: number } = {},
) {
  const records = batchOf([value], {
    producerId: producer.producerId,
    producerEpoch: producer.epoch,
    baseSequence: options.sequence ?? 0,
    isTransactional: true,
  })
  return client.begin('Produce', options.version ?? 12, {
    transactionalId: producer.id,
    acks: -1,
    timeoutMs: 5000,
    topicData: [{ name: 't', partitionData: [{ index: options.partition ?? 0, records }] }],
  })
}

async function send(w: DaemonWorld, ...args: Parameters<typeof beginSend>) {
  const answer = await w.settle(beginSend(...args))
  return answer.responses[0]!.partitionResponses[0]!.errorCode
}

/** With version 5 the producer goes on with the epoch of the answer. */
async function end(client: Client, producer: Producer, committed: boolean, version = 5) {
  const answer = await client.call('EndTxn', version, {
    transactionalId: producer.id,
    producerId: producer.producerId,
    producerEpoch: producer.epoch,
    committed,
  })
  if (answer.errorCode === 0 && version >= 5) {
    producer.producerId = answer.producerId
    producer.epoch = answer.producerEpoch
  }
  return answer.errorCode
}

async function committed(client: Client, partition = 0) {
  const answer = await client.fetch('t', { isolationLevel: 1, partition })
  const aborted = answer.abortedTransactions ?? []
  const all = recordsOf(answer.records)
  return { values: all.map((record) => record.value), aborted, lso: answer.lastStableOffset }
}

describe('a transaction of version 2 (KIP-890)', () => {
  it('is seen by read_committed readers from its commit on, whole', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    expect(producer.epoch).toBe(0)
    expect(await send(w, client, producer, 'a')).toBe(0)
    expect(await send(w, client, producer, 'b', { sequence: 1 })).toBe(0)
    expect(await send(w, client, producer, 'c', { partition: 1 })).toBe(0)
    expect(await committed(client)).toMatchObject({ values: [], lso: 0 })
    expect(recordsOf((await client.fetch('t')).records)).toHaveLength(2)
    expect(await end(client, producer, true)).toBe(0)
    expect(producer.epoch).toBe(1)
    expect(await committed(client)).toMatchObject({ values: ['a', 'b'], aborted: [], lso: 3 })
    expect((await committed(client, 1)).values).toEqual(['c'])
    expect(w.said.filter((line) => line.startsWith('error'))).toEqual([])
  })

  it('begins while a request beside it makes the topic of transactions', async () => {
    const { w, client } = await started()
    let isMade = false
    const first = w.client().begin('InitProducerId', 5, {
      transactionalId: 'first',
      transactionTimeoutMs: 60_000,
    })
    void first.then(() => {
      isMade = true
    })
    const answers: Promise<Response<'InitProducerId'>>[] = []
    while (!isMade) {
      answers.push(
        client.begin('InitProducerId', 5, {
          transactionalId: `x${answers.length}`,
          transactionTimeoutMs: 60_000,
        }),
      )
      await w.run(1)
    }
    expect(answers.length).toBeGreaterThan(2)
    for (const answer of answers) expect((await w.settle(answer)).errorCode).toBe(0)
  })

  it('that is aborted is named to the reader', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    await send(w, client, producer, 'a')
    expect(await end(client, producer, false)).toBe(0)
    await send(w, client, producer, 'b')
    expect(await end(client, producer, true)).toBe(0)
    const { aborted, lso } = await committed(client)
    expect(aborted).toEqual([{ producerId: producer.producerId, firstOffset: 0 }])
    expect(lso).toBe(4)
  })

  it('a late batch of the transaction before is fenced, by its epoch', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    const old = { ...producer }
    await send(w, client, producer, 'a')
    await end(client, producer, true)
    expect(await send(w, client, old, 'late', { sequence: 1 })).toBe(
      KafkaError.INVALID_PRODUCER_EPOCH,
    )
    await send(w, client, producer, 'b')
    // Its end of the first transaction is a repeat, not the end of the second one.
    expect(await end(client, { ...old }, true)).toBe(KafkaError.PRODUCER_FENCED)
    expect(await end(client, producer, false)).toBe(0)
    expect(await committed(client)).toMatchObject({ aborted: [{ firstOffset: 2 }] })
  })

  it('an end whose answer was lost is answered again, and ends nothing else', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    await send(w, client, producer, 'a')
    const retry = { ...producer }
    await end(client, producer, true)
    expect(await end(client, retry, true)).toBe(0)
    expect(retry).toEqual(producer)
    expect(await end(client, { ...producer, epoch: 0 }, false)).toBe(KafkaError.INVALID_TXN_STATE)
  })

  it('batches sent together keep their order while the first one waits to be let in', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    const all = [0, 1, 2, 3].map((sequence) =>
      beginSend(client, producer, `v${sequence}`, { sequence }),
    )
    for (const one of all) {
      const answer = await w.settle(one)
      expect(answer.responses[0]!.partitionResponses[0]!.errorCode).toBe(0)
    }
    await end(client, producer, true)
    expect((await committed(client)).values).toEqual(['v0', 'v1', 'v2', 'v3'])
  })

  it('nothing enters a partition before its transaction is durable there', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    void beginSend(client, producer, 'a')
    for (let step = 0; step < 50; step++) {
      await w.run(0.05)
      const log = (await client.fetch('t')).records
      const { transactionStates } = await client.call('DescribeTransactions', 0, {
        transactionalIds: ['x'],
      })
      if (recordsOf(log).length > 0) expect(transactionStates[0]!.topics).toHaveLength(1)
    }
  })

  it('abort of what was never begun raises the epoch all the same', async () => {
    const { client } = await started()
    const producer = await init(client)
    expect(await end(client, producer, true)).toBe(KafkaError.INVALID_TXN_STATE)
    expect(await end(client, producer, false)).toBe(0)
    expect(producer.epoch).toBe(1)
  })
})

describe('a classic transaction', () => {
  it('needs its partitions added; its epoch stays', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    expect(await send(w, client, producer, 'a', { version: 9 })).toBe(KafkaError.INVALID_TXN_STATE)
    expect(await send(w, client, producer, 'a', { version: 11 })).toBe(
      KafkaError.TRANSACTION_ABORTABLE,
    )
    expect(await add(client, producer)).toEqual([0])
    expect(await send(w, client, producer, 'a', { version: 9 })).toBe(0)
    expect(await end(client, producer, true, 3)).toBe(0)
    expect(await end(client, producer, true, 3)).toBe(0)
    expect(await end(client, producer, false, 3)).toBe(KafkaError.INVALID_TXN_STATE)
    await add(client, producer)
    expect(await send(w, client, producer, 'b', { version: 9, sequence: 1 })).toBe(0)
    expect(await end(client, producer, true, 3)).toBe(0)
    expect((await committed(client)).values).toEqual(['a', 'b'])
  })

  it('an unknown partition is refused, and none is added', async () => {
    const { client } = await started()
    const producer = await init(client)
    expect(await add(client, producer, 't', [0, 7])).toEqual([
      KafkaError.OPERATION_NOT_ATTEMPTED,
      KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
    ])
    expect(await add(client, producer, '__transaction_state', [0])).toEqual([
      KafkaError.UNKNOWN_TOPIC_OR_PARTITION,
    ])
    expect(await add(client, { ...producer, producerId: 99 })).toEqual([
      KafkaError.INVALID_PRODUCER_ID_MAPPING,
    ])
    expect(await add(client, { ...producer, epoch: 9 })).toEqual([KafkaError.PRODUCER_FENCED])
  })
})

describe('the owner of a transactional id', () => {
  it('a new one aborts what the old one left open, and fences it', async () => {
    const { w, client } = await started()
    const old = await init(client)
    await send(w, client, old, 'a')
    const young = await init(client)
    expect(young).toMatchObject({ producerId: old.producerId, epoch: 2 })
    expect(await committed(client)).toMatchObject({ aborted: [{ firstOffset: 0 }], lso: 2 })
    expect(await send(w, client, old, 'b', { sequence: 1 })).toBe(KafkaError.INVALID_PRODUCER_EPOCH)
    expect(await end(client, old, true)).toBe(KafkaError.PRODUCER_FENCED)
    expect(await end(client, old, true, 3)).toBe(KafkaError.PRODUCER_FENCED)
    // Versions that do not know the error are told the older one.
    expect(await end(client, old, true, 1)).toBe(KafkaError.INVALID_PRODUCER_EPOCH)
    await send(w, client, young, 'c')
    expect(await end(client, young, true)).toBe(0)
  })

  it('that is silent beyond its timeout is fenced and its transaction aborted', async () => {
    const { w, client } = await started()
    const producer = await init(client, 'x', 5000)
    await send(w, client, producer, 'a')
    await w.run(16_000)
    expect(await committed(client)).toMatchObject({ lso: 2, aborted: [{ firstOffset: 0 }] })
    expect(await end(client, producer, true)).toBe(KafkaError.PRODUCER_FENCED)
  })

  it('is refused a timeout that is too long, and an empty id', async () => {
    const { client } = await started()
    const ask = (transactionalId: string, transactionTimeoutMs: number) =>
      client.call('InitProducerId', 5, { transactionalId, transactionTimeoutMs })
    expect((await ask('x', 900_001)).errorCode).toBe(KafkaError.INVALID_TRANSACTION_TIMEOUT)
    expect((await ask('x', 0)).errorCode).toBe(KafkaError.INVALID_TRANSACTION_TIMEOUT)
    expect((await ask('', 1000)).errorCode).toBe(KafkaError.INVALID_REQUEST)
  })

  it('is forgotten after a week', async () => {
    const { w, client } = await started()
    await init(client)
    await w.run(8 * 24 * 3_600_000)
    const answer = await client.call('DescribeTransactions', 0, { transactionalIds: ['x'] })
    expect(answer.transactionStates[0]!.errorCode).toBe(KafkaError.TRANSACTIONAL_ID_NOT_FOUND)
  })
})

describe('what clients may not do', () => {
  it('write a transactional batch without transactional id, or into the coordinators’ topics', async () => {
    const { client } = await started()
    const producer = await init(client)
    const records = batchOf(['x'], {
      ...producer,
      producerEpoch: 0,
      baseSequence: 0,
      isTransactional: true,
    })
    expect((await client.produce('t', records)).errorCode).toBe(
      KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    )
    expect((await client.produce('__transaction_state', batchOf(['x']))).errorCode).toBe(
      KafkaError.INVALID_TOPIC_EXCEPTION,
    )
  })

  it('write beside an open transaction of the same producer', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    await send(w, client, producer, 'a')
    const plain = batchOf(['x'], {
      producerId: producer.producerId,
      producerEpoch: 0,
      baseSequence: 1,
    })
    expect((await client.produce('t', plain)).errorCode).toBe(KafkaError.INVALID_TXN_STATE)
  })
})

describe('who looks', () => {
  it('finds transactions listed and described, and producers by partition', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    await init(client, 'idle')
    await send(w, client, producer, 'a', { partition: 1 })
    const found = await client.call('FindCoordinator', 4, { keyType: 1, coordinatorKeys: ['x'] })
    expect(found.coordinators[0]).toMatchObject({ key: 'x', nodeId: 1, errorCode: 0 })
    const list = async (filter: object) => {
      const answer = await client.call('ListTransactions', 2, {
        stateFilters: [],
        producerIdFilters: [],
        ...filter,
      })
      return answer.transactionStates.map((row) => row.transactionalId).sort()
    }
    expect(await list({})).toEqual(['idle', 'x'])
    expect(await list({ stateFilters: ['Ongoing'] })).toEqual(['x'])
    expect(await list({ transactionalIdPattern: 'i.*' })).toEqual(['idle'])
    expect(await list({ producerIdFilters: [producer.producerId] })).toEqual(['x'])
    expect(await list({ durationFilter: 60_000 })).toEqual([])
    const described = await client.call('DescribeTransactions', 0, { transactionalIds: ['x', 'y'] })
    expect(described.transactionStates).toMatchObject([
      { transactionState: 'Ongoing', topics: [{ topic: 't', partitions: [1] }] },
      { errorCode: KafkaError.TRANSACTIONAL_ID_NOT_FOUND },
    ])
    const producers = await client.call('DescribeProducers', 0, {
      topics: [{ name: 't', partitionIndexes: [1, 9] }],
    })
    expect(producers.topics[0]!.partitions).toMatchObject([
      { activeProducers: [{ producerId: producer.producerId, currentTxnStartOffset: 0 }] },
      { errorCode: KafkaError.UNKNOWN_TOPIC_OR_PARTITION },
    ])
  })

  it('a deleted topic is no obstacle to its transaction', async () => {
    const { w, client } = await started()
    const producer = await init(client)
    await send(w, client, producer, 'a')
    await client.call('DeleteTopics', 5, { topicNames: ['t'], timeoutMs: 1000 })
    expect(await end(client, producer, true)).toBe(0)
  })
})

describe('a crash', () => {
  it.each(['power', 'process'] as const)(
    '%s: an open transaction stays open, a decided one is carried out',
    async (kind) => {
      const { w, client } = await started()
      const open = await init(client, 'open')
      const done = await init(client, 'done')
      await send(w, client, open, 'a')
      await send(w, client, done, 'b', { partition: 1 })
      // The decision is sent, and the daemon dies at some moment while it is carried out.
      void client
        .begin('EndTxn', 5, {
          transactionalId: 'done',
          producerId: done.producerId,
          producerEpoch: done.epoch,
          committed: true,
        })
        .catch(() => undefined)
      await w.run(1.2)
      const again = await w.crashAndRestart({ texts }, kind)
      await w.run(2000)
      const { transactionStates } = await again.client.call('DescribeTransactions', 0, {
        transactionalIds: ['done'],
      })
      // Wholly one or the other, and never half done.
      const state = transactionStates[0]!.transactionState
      expect(['Ongoing', 'CompleteCommit']).toContain(state)
      const { values } = await committed(again.client, 1)
      expect(values).toEqual(state === 'CompleteCommit' ? ['b'] : [])
      // Its owner goes on where it was.
      expect(await send(w, again.client, open, 'c', { sequence: 1 })).toBe(0)
      expect(await end(again.client, open, true)).toBe(0)
      expect((await committed(again.client)).values).toEqual(['a', 'c'])
      expect(w.said.filter((line) => line.startsWith('error'))).toEqual([])
    },
  )
})

it('transactions run through the Kafka door', async () => {
  const { w } = await started()
  const client = w.client(KAFKA)
  const producer = await init(client)
  await send(w, client, producer, 'a')
  expect(await end(client, producer, true)).toBe(0)
  expect((await committed(client)).values).toEqual(['a'])
})
