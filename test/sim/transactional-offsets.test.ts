/**
 * Consume, transform, produce over crashes: workers take the group's offsets, send what they read there to `out` and commit
 * the offsets in the same transaction, while they and the daemon die at any moment. At the end `out` holds each record of
 * the input once and in order, and the group stands at the input's end.
 */
import { describe, expect, it } from 'vitest'
import { Cluster } from '../../src/client/cluster.ts'
import { GroupLink } from '../../src/client/group-link.ts'
import { commitGroupOffsets, fetchGroupOffsets } from '../../src/client/group-offsets.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import {
  attributesAt,
  batchBytesAt,
  isControl,
  producerIdAt,
} from '../../src/record/batch-layout.ts'
import { readControlBatch } from '../../src/record/control-batch.ts'
import { recordsOf } from '../daemon/batches.ts'
import { type Client, DaemonWorld, KAFKA, ZMQ } from '../daemon/daemon-world.ts'
import type { SimRandom } from './sim-random.ts'
import { SimTime } from './sim-time.ts'

const texts = {
  'transaction.state.log.num.partitions': '2',
  'offsets.topic.num.partitions': '2',
  'transaction.abort.timed.out.transaction.cleanup.interval.ms': '500',
}
const records = 40
const partitions = [0, 1]
const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

/** What a worker may do wrong, to prove that the check below sees it. */
type PlantedBug = 'reads what is not stable' | 'commits outside of the transaction'

interface Options {
  readonly isClassic: boolean
  readonly bug?: PlantedBug
}

interface Step extends Options {
  readonly w: DaemonWorld
  readonly time: SimTime
  readonly random: SimRandom
  readonly pick: (count: number) => number
  readonly cluster: Cluster
  readonly transactionalId: string
}

/** One worker until it dies or has nothing left to do. @returns whether nothing is left */
async function work(step: Step): Promise<boolean> {
  const { time, random, cluster, pick, bug } = step
  const link = new GroupLink(time, random, cluster, 'g')
  const producer = new TransactionalProducer(time, random, cluster, {
    transactionalId: step.transactionalId,
    timeoutMs: 3000,
    classic: step.isClassic,
  })
  await producer.init()
  for (let lives = 1 + pick(4); lives > 0; lives--) {
    const stored = await fetchGroupOffsets(
      link,
      partitions.map((partition) => ({ topic: 'in', partition })),
      { requireStable: bug !== 'reads what is not stable' },
    )
    const next = partitions.map(
      (partition) => stored.find((each) => each.partition === partition)?.offset ?? 0,
    )
    if (next.every((offset) => offset === records)) return true
    const sink = await producer.begin()
    await sink.prepare('out')
    const offsets = partitions.map((partition) => {
      const from = next[partition] as number
      const until = Math.min(records, from + 1 + pick(5))
      for (let offset = from; offset < until; offset++) {
        const value = Buffer.from(`${offset}`)
        sink.append('out', partition, { value: { bytes: value, start: 0, end: value.length } })
      }
      return { topic: 'in', partition, offset: until }
    })
    if (bug === 'commits outside of the transaction') await commitGroupOffsets(link, offsets)
    else {
      await producer.sendOffsets({
        groupId: 'g',
        generationId: -1,
        memberId: '',
        groupInstanceId: null,
        offsets,
      })
    }
    if (pick(5) === 0) {
      await producer.abort()
      continue
    }
    // It is given up for dead, and its end of the transaction is still to come.
    if (lives === 1 && pick(2) === 0) {
      await sink.flush()
      time.setTimer(pick(300), () => {
        producer.commit().catch(() => undefined)
      })
      return false
    }
    await producer.commit()
  }
  return false
}

async function run(seed: number, options: Options) {
  const w = new DaemonWorld(`transactional offsets ${seed} ${options.isClassic}`)
  const random = w.world.random.fork('test')
  const pick = (count: number): number => Math.floor(random.fraction() * count)
  await w.start({ texts })
  await w.client().create('in', { partitions: 2 })
  await w.client().create('out', { partitions: 2 })
  const time = new SimTime(w.world)
  let isDone = false
  const clusters: Cluster[] = []
  const working = (async () => {
    for (let life = 0; !isDone && life < 400; life++) {
      const cluster = new Cluster(time, random, w.network.host(`worker ${life}`), quiet, {
        addresses: [seed % 2 === 0 ? ZMQ : KAFKA],
        connectTimeoutMs: 60_000,
      })
      // A successor under another id fences nobody: it waits for the offsets instead.
      const transactionalId = pick(2) === 0 ? 'x' : `x-${life}`
      const step = { ...options, w, time, random, pick, cluster, transactionalId }
      isDone = await work(step).catch(() => false)
      clusters.push(cluster)
    }
  })()
  working.catch(() => undefined)
  for (let crash = 0; crash < 4 && !isDone; crash++) {
    await w.run(20 + random.fraction() * 400)
    await w.crash(pick(2) === 0 ? 'power' : 'process')
    await w.start({ texts })
  }
  await w.settle(working)
  // What nobody ends is aborted by then.
  await w.run(10_000)
  for (const cluster of clusters) cluster.close()
  expect(isDone).toBe(true)
  const client = w.client()
  return partitions.map((partition) => committedValues(client, partition))
}

/** What a read_committed client makes of a partition, in which nothing is open. */
async function committedValues(client: Client, partition: number) {
  const answer = await client.fetch('out', { isolationLevel: 1, partition, maxBytes: 1 << 26 })
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
    const found = recordsOf(bytes.subarray(at, at + batchBytesAt(bytes, at)))
    while (aborted[0] !== undefined && aborted[0].firstOffset <= found[0]!.offset) {
      dropping.add(aborted.shift()!.producerId)
    }
    if (!dropping.has(producerId)) values.push(...found.map((record) => record.value!))
  }
  return values
}

const all = Array.from({ length: records }, (_, offset) => `${offset}`)
const seeds = Array.from({ length: 15 }, (_, seed) => seed)

describe.each([
  ['version 2', false],
  ['classic', true],
] as const)('offsets in transactions of %s over crashes', (_name, isClassic) => {
  it.each(seeds)('seed %i', async (seed) => {
    const found = await run(seed, { isClassic })
    expect(await Promise.all(found)).toEqual([all, all])
  })
})

describe('planted bugs are caught', () => {
  const bugs: PlantedBug[] = ['reads what is not stable', 'commits outside of the transaction']
  it.each(bugs)('a worker that %s', async (bug) => {
    let caught = 0
    for (const seed of seeds) {
      const found = await run(seed, { isClassic: false, bug })
      const values = await Promise.all(found)
      if (JSON.stringify(values) !== JSON.stringify([all, all])) caught += 1
    }
    expect(caught).toBeGreaterThan(0)
  })
})
