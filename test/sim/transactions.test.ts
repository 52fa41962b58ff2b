/**
 * Transactions over crashes: a transactional producer writes into two partitions while the daemon dies at any moment.
 * At the end a read_committed reader finds each transaction wholly or not at all: every one whose commit was
 * acknowledged, none that was aborted, each record once and in order.
 */
import { describe, expect, it } from 'vitest'
import { Cluster } from '../../src/client/cluster.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import {
  attributesAt,
  batchBytesAt,
  isControl,
  producerIdAt,
} from '../../src/record/batch-layout.ts'
import { readControlBatch } from '../../src/record/control-batch.ts'
import { recordsOf } from '../daemon/batches.ts'
import { DaemonWorld, KAFKA, ZMQ } from '../daemon/daemon-world.ts'
import { SimTime } from './sim-time.ts'

const texts = { 'transaction.state.log.num.partitions': '2' }
const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

interface Planned {
  readonly name: string
  outcome: 'committed' | 'aborted' | 'unknown'
}

async function run(seed: number, isClassic: boolean) {
  const w = new DaemonWorld(`transactions ${seed} ${isClassic}`)
  const random = w.world.random.fork('test')
  const pick = (count: number): number => Math.floor(random.fraction() * count)
  let daemon = await w.start({ texts })
  await w.client().create('t', { partitions: 2 })
  const planned: Planned[] = []
  const clientTime = new SimTime(w.world)
  const address = seed % 2 === 0 ? ZMQ : KAFKA
  const cluster = new Cluster(clientTime, random, w.network.host('producer'), quiet, {
    addresses: [address],
    connectTimeoutMs: 60_000,
  })
  let isDone = false
  const work = async (): Promise<void> => {
    while (planned.length < 12) {
      const producer = new TransactionalProducer(clientTime, random, cluster, {
        transactionalId: 'x',
        timeoutMs: 60_000,
        classic: isClassic,
      })
      await producer.init()
      // Now and then its process ends, in the middle of a transaction or between two.
      const lives = 1 + pick(6)
      for (let each = 0; each < lives && planned.length < 12; each++) {
        const one: Planned = { name: `${planned.length}`, outcome: 'unknown' }
        planned.push(one)
        try {
          const sink = await producer.begin()
          await sink.prepare('t')
          for (let index = 0; index < 6; index++) {
            const value = Buffer.from(`${one.name}:${index}`)
            sink.append('t', index % 2, { value: { bytes: value, start: 0, end: value.length } })
            if (index === 2) await sink.flush()
          }
          if (pick(4) === 0) {
            await producer.abort()
            one.outcome = 'aborted'
          } else if (each === lives - 1 && pick(2) === 0) {
            sink.close()
          } else {
            await producer.commit()
            one.outcome = 'committed'
          }
        } catch {
          break
        }
      }
    }
    isDone = true
  }
  const working = work()
  working.catch(() => undefined)
  for (let crash = 0; crash < 4 && !isDone; crash++) {
    await w.run(random.fraction() * 60)
    const kind = pick(2) === 0 ? 'power' : 'process'
    await w.crash(kind)
    daemon = await w.start({ texts })
  }
  await w.settle(working)
  cluster.close()
  // What the last owner left open is aborted by the next.
  const last = w.client()
  const answer = await last.call('InitProducerId', 5, {
    transactionalId: 'x',
    transactionTimeoutMs: 60_000,
  })
  expect(answer.errorCode).toBe(0)
  void daemon
  return { w, planned, client: last }
}

/** What a read_committed client makes of a partition, and whether anything is still open. */
async function committedValues(
  client: Awaited<ReturnType<typeof run>>['client'],
  partition: number,
) {
  const answer = await client.fetch('t', { isolationLevel: 1, partition, maxBytes: 1 << 26 })
  expect(answer.lastStableOffset).toBe(answer.highWatermark)
  const bytes = answer.records!
  const aborted = [...(answer.abortedTransactions ?? [])].sort(
    (a, b) => a.firstOffset - b.firstOffset,
  )
  const dropping = new Set<number>()
  const values: string[] = []
  for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
    const producerId = producerIdAt(bytes, at)
    if (isControl(attributesAt(bytes, at))) {
      const marker = readControlBatch(bytes, at)
      if (marker?.kind === 'marker' && marker.type === 'abort') dropping.delete(producerId)
      continue
    }
    const batch = bytes.subarray(at, at + batchBytesAt(bytes, at))
    const records = recordsOf(batch)
    while (aborted[0] !== undefined && aborted[0].firstOffset <= records[0]!.offset) {
      dropping.add(aborted.shift()!.producerId)
    }
    if (!dropping.has(producerId)) values.push(...records.map((record) => record.value!))
  }
  return values
}

describe.each([
  ['version 2', false],
  ['classic', true],
] as const)('transactions of %s over crashes', (_name, isClassic) => {
  it.each(Array.from({ length: 15 }, (_, seed) => seed))('seed %i', async (seed) => {
    const { planned, client } = await run(seed, isClassic)
    const found = [await committedValues(client, 0), await committedValues(client, 1)]
    const expected: string[][] = [[], []]
    for (const { name, outcome } of planned) {
      const inLog = found.flat().filter((value) => value.startsWith(`${name}:`)).length
      // Whole or not at all; and as the producer was told, where it was told.
      expect([0, 6]).toContain(inLog)
      if (outcome === 'committed') expect(inLog).toBe(6)
      if (outcome === 'aborted') expect(inLog).toBe(0)
      if (inLog === 0) continue
      for (let index = 0; index < 6; index++) expected[index % 2]!.push(`${name}:${index}`)
    }
    expect(found).toEqual(expected)
    expect(planned.some((one) => one.outcome === 'committed')).toBe(true)
  })
})
