/** Consumers that read segment files, against a whole daemon on simulated ports. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { StreamError } from '../../../src/base/errors.ts'
import { Cluster } from '../../../src/client/cluster.ts'
import { Consumer } from '../../../src/client/consumer.ts'
import type {
  Assignment,
  ConsumerEvent,
  ConsumerOptions,
  RecordsEvent,
} from '../../../src/client/consumer-events.ts'
import type { LocalReadOptions } from '../../../src/client/local-reads.ts'
import type { Disk } from '../../../src/ports/disk.ts'
import type { Log } from '../../../src/ports/log.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'
import { batchOf } from '../../daemon/batches.ts'
import { DaemonWorld, ZMQ } from '../../daemon/daemon-world.ts'
import { SimTime } from '../../sim/sim-time.ts'

const quiet: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

interface Started {
  readonly w: DaemonWorld
  readonly produce: (count: number, batches: number, partition?: number) => Promise<void>
  readonly log: (partition?: number) => Awaited<ReturnType<typeof logOf>>
}

function logOf(daemon: Awaited<ReturnType<DaemonWorld['start']>>, partition: number) {
  const found = daemon.broker.table.find('t', partition)
  if (found === undefined) throw new Error('no such partition')
  return found.log
}

async function started(
  options: {
    readonly partitions?: number
    readonly segmentBytes?: number
    readonly config?: Readonly<Record<string, string>>
  } = {},
): Promise<Started> {
  const w = new DaemonWorld()
  const daemon = await w.start()
  const client = w.client()
  const { partitions = 1, config = {} } = options
  await client.create('t', { partitions, config })
  const sent = new Map<number, number>()
  for (let partition = 0; partition < partitions; partition++) {
    const log = logOf(daemon, partition)
    const { segmentBytes = 3000 } = options
    log.applyConfig({ ...log.config, segmentBytes, indexIntervalBytes: 1 })
  }
  return {
    w,
    log: (partition = 0) => logOf(daemon, partition),
    produce: async (count, batches, partition = 0) => {
      for (let batch = 0; batch < batches; batch++) {
        const first = sent.get(partition) ?? 0
        const records = Array.from({ length: count }, (_, index) => ({
          key: `k${(first + index) % 5}`,
          value: `p${partition}-${first + index}-${'x'.repeat((first + index) % 40)}`,
        }))
        sent.set(partition, first + count)
        const answer = await client.produce('t', batchOf(records), { partition })
        expect(answer.errorCode).toBe(0)
      }
    },
  }
}

interface Reader {
  readonly consumer: Consumer
  readonly opened: string[]
  readonly blocks: readonly Uint8Array[]
}

function reader(
  { w }: Started,
  assignments: readonly Assignment[],
  local: Partial<LocalReadOptions> | undefined = {},
  options: ConsumerOptions = {},
): Reader {
  const time = new SimTime(w.world, { name: 'reader' })
  const random = w.world.random.fork('reader')
  const cluster = new Cluster(time, random, w.network.host('reader'), quiet, {
    addresses: [ZMQ],
  })
  const opened: string[] = []
  const disk: Pick<Disk, 'open'> = {
    open: (path, mode) => {
      opened.push(path)
      return w.disk.open(path, mode)
    },
  }
  const blocks = Array.from({ length: 3 }, () => new Uint8Array(2000))
  const consumer = new Consumer(time, random, cluster, {
    ...options,
    ...(local === undefined
      ? {}
      : {
          localReads: {
            disk,
            blocks: () => blocks,
            bytesMin: 200,
            readBytes: 1000,
            grantBytes: 5000,
            isLocal: () => true,
            ...local,
          },
        }),
  })
  void cluster.connect().catch(() => undefined)
  consumer.assign(assignments)
  return { consumer, opened, blocks }
}

function offsetsAndValues(event: RecordsEvent): [number, string][] {
  const cursor = new RecordCursor()
  const found: [number, string][] = []
  for (const at of event.batches) {
    cursor.reset(event.bytes, at)
    while (cursor.next()) {
      if (cursor.offset < event.fromOffset || cursor.offset >= event.untilOffset) continue
      const value = Buffer.from(cursor.bytes.subarray(cursor.valueStart, cursor.valueEnd))
      found.push([cursor.offset, `${event.partition}:${value}`])
    }
  }
  return found
}

interface Read {
  readonly records: [number, string][]
  readonly events: ConsumerEvent[]
  readonly localBytes: number
}

/** Reads until it is done; `between` is called after each event that was printed and before it is released. */
async function readAll(
  s: Started,
  { consumer }: Reader,
  between: (count: number) => Promise<void> | void = () => undefined,
): Promise<Read> {
  const records: [number, string][] = []
  const events: ConsumerEvent[] = []
  let localBytes = 0
  const work = async (): Promise<void> => {
    for (;;) {
      const event = await consumer.next()
      if (event === undefined) return
      events.push(event)
      if (event.kind === 'records') {
        const before = offsetsAndValues(event)
        records.push(...before)
        if (event.release !== undefined) localBytes += event.bytes.length
        await between(events.length)
        // Nothing is read into the memory before its release.
        expect(offsetsAndValues(event)).toEqual(before)
        event.release?.()
      } else await between(events.length)
    }
  }
  await s.w.settle(work())
  return { records, events, localBytes }
}

function whole(s: Started, partition = 0): Assignment {
  return { topic: 't', partition, startOffset: 0, endOffset: s.log(partition).logEndOffset }
}

/** As a consumer without files sees it. */
async function fetched(s: Started, assignments: readonly Assignment[]): Promise<Read> {
  return readAll(s, reader(s, assignments, undefined))
}

describe('local reads', () => {
  it('give what a Fetch gives, from any position to any other, over segments, in any block size', async () => {
    const s = await started()
    await s.produce(4, 60)
    const end = s.log().logEndOffset
    await fc.assert(
      fc.asyncProperty(
        fc.nat(end),
        fc.nat(end),
        fc.constantFrom(1, 300, 1000, 5000),
        fc.constantFrom(500, 5000, 1 << 20),
        async (startOffset, endOffset, readBytes, grantBytes) => {
          const assignment = { topic: 't', partition: 0, startOffset, endOffset }
          const local = reader(s, [assignment], { readBytes, grantBytes })
          const got = await readAll(s, local)
          expect(got.records).toEqual((await fetched(s, [assignment])).records)
          if (endOffset - startOffset > 100) expect(got.localBytes).toBeGreaterThan(0)
        },
      ),
      { numRuns: 40 },
    )
  })

  it('take turns over partitions, each in order, and tell each end once', async () => {
    const s = await started({ partitions: 3 })
    for (const partition of [0, 1, 2]) await s.produce(3, 30, partition)
    const assignments = [0, 1, 2].map((partition) => whole(s, partition))
    const got = await readAll(s, reader(s, assignments))
    for (const partition of [0, 1, 2]) {
      const own = got.records.filter(([, value]) => value.startsWith(`${partition}:`))
      expect(own.map(([offset]) => offset)).toEqual(Array.from({ length: 90 }, (_, at) => at))
    }
    expect(got.events.filter(({ kind }) => kind === 'end')).toHaveLength(3)
    expect(got.localBytes).toBeGreaterThan(5000)
  })

  it('go on with Fetch near the end, and with files again when much has come', async () => {
    const s = await started()
    await s.produce(4, 20)
    const assignment = { topic: 't', partition: 0, startOffset: 0 }
    const { consumer, opened } = reader(s, [assignment], {}, { prefetchBytesMax: 100 })
    let next = 0
    const readOn = async (until: number): Promise<void> => {
      while (next < until) {
        const event = await consumer.next()
        if (event?.kind !== 'records') throw new Error('records were expected')
        for (const [offset] of offsetsAndValues(event)) expect(offset).toBe(next++)
        event.release?.()
      }
    }
    await s.w.settle(readOn(80))
    expect(opened.length).toBeGreaterThan(0)
    const before = opened.length
    await s.produce(1, 1)
    await s.w.settle(readOn(81))
    expect(opened.length).toBe(before)
    await s.w.run(2000)
    // While it stands still, for nobody polls, a lot is appended.
    await s.produce(4, 60)
    await s.w.settle(readOn(321))
    expect(opened.length).toBeGreaterThan(before)
    consumer.close()
  })

  it('survive retention and trims under the reader: order holds, and what is gone is told', async () => {
    const s = await started()
    await s.produce(4, 80)
    const log = s.log()
    const end = log.logEndOffset
    const got = await readAll(s, reader(s, [whole(s)]), async (count) => {
      if (count === 3) await log.deleteRecordsBefore(200)
      // Longer than a grant is used: the rest is asked for anew.
      if (count === 3) await new Promise<void>((done) => s.w.time.setTimer(90_000, done))
    })
    const offsets = got.records.map(([offset]) => offset)
    expect(offsets).toEqual([...offsets].sort((a, b) => a - b))
    expect(new Set(offsets).size).toBe(offsets.length)
    const gap = got.events.find((event) => event.kind === 'gap')
    expect(gap).toMatchObject({ to: 200 })
    const missing = Array.from({ length: end }, (_, at) => at).filter(
      (offset) => !offsets.includes(offset),
    )
    expect(
      missing.every((offset) => offset >= (gap as { from: number }).from && offset < 200),
    ).toBe(true)
  })

  it('survive compaction under the reader: nothing comes twice, and each key ends with its last value', async () => {
    const s = await started({ config: { 'cleanup.policy': 'compact' } })
    await s.produce(4, 120)
    const log = s.log()
    const all = (await fetched(s, [whole(s)])).records
    const latest = new Map(all.map(([offset, value]) => [offset % 5, value]))
    let compactions = 0
    const got = await readAll(s, reader(s, [whole(s)]), async (count) => {
      if (count % 3 !== 2 || compactions === 3) return
      compactions += 1
      const result = await log.compact({
        nowMs: s.w.time.wallMs(),
        lastStableOffset: log.logEndOffset,
        isCancelled: () => false,
      } as unknown as Parameters<typeof log.compact>[0])
      if (compactions === 1) expect(result.kind).toBe('done')
    })
    const offsets = got.records.map(([offset]) => offset)
    expect(offsets).toEqual([...offsets].sort((a, b) => a - b))
    expect(new Set(offsets).size).toBe(offsets.length)
    const before = new Set(all.map((record) => JSON.stringify(record)))
    expect(got.records.every((record) => before.has(JSON.stringify(record)))).toBe(true)
    const seen = new Map(got.records.map(([offset, value]) => [offset % 5, value]))
    expect(seen).toEqual(latest)
    expect(compactions).toBe(3)
    expect(got.localBytes).toBeGreaterThan(0)
  })

  it('of a damaged file give all before it, and leave it to the broker to say what is damaged', async () => {
    const s = await started({ segmentBytes: 1 << 20 })
    await s.produce(4, 60)
    const path = `${s.log().directory}/00000000000000000000.log`
    const size = s.w.disk.readFile(path)?.length ?? 0
    const file = s.w.disk.open(path, 'write')
    file.write(Math.floor(size * 0.6), [Uint8Array.of(0xde, 0xad, 0xbe, 0xef, 0xde, 0xad)])
    file.close()
    s.log().core.cache.clear()
    const got = await readAll(s, reader(s, [whole(s)]))
    const failed = got.events.find((event) => event.kind === 'failed')
    expect(failed).toMatchObject({ error: { code: 'CORRUPT_BATCH' } })
    expect(s.log().damage).toHaveLength(1)
    const offsets = got.records.map(([offset]) => offset)
    expect(offsets).toEqual(Array.from({ length: offsets.length }, (_, at) => at))
    expect(offsets.length).toBe(s.log().damage[0]?.startOffset)
    expect(got.localBytes).toBeGreaterThan(0)
  })

  const allFetched: [string, (s: Started) => Partial<LocalReadOptions>][] = [
    [
      'files that may not be opened',
      () => ({
        disk: {
          open: (path) => {
            throw new StreamError('PERMISSION_DENIED', `cannot open ${path}: EACCES`)
          },
        },
      }),
    ],
    [
      'files that are gone',
      ({ w }) => ({ disk: { open: (path) => w.disk.open(`${path}.none`, 'read') } }),
    ],
    [
      'another file at the path, as in another container',
      ({ w }) => ({
        disk: {
          open: (path) => {
            const other = w.disk.open('/other', 'write')
            other.write(0, [w.disk.readFile(path) ?? new Uint8Array(0)])
            return other
          },
        },
      }),
    ],
    [
      'a file that is shorter than promised',
      ({ w }) => ({
        disk: {
          open: (path, mode) => {
            const file = w.disk.open(path, mode)
            return Object.assign(Object.create(file) as typeof file, {
              fileId: () => file.fileId(),
              close: () => file.close(),
              readAsync: (position: number, target: Uint8Array) =>
                file.readAsync(position, target.subarray(0, target.length - 1)),
            })
          },
        },
      }),
    ],
    ['no memory for blocks', () => ({ blocks: () => [] })],
    ['blocks smaller than a batch', () => ({ blocks: () => [new Uint8Array(100)] })],
    ['a broker elsewhere', () => ({ isLocal: () => false })],
  ]
  for (const [name, local] of allFetched) {
    it(`leave everything to Fetch: ${name}`, async () => {
      const s = await started()
      await s.produce(4, 60)
      const got = await readAll(s, reader(s, [whole(s)], local(s)))
      expect(got.records).toEqual((await fetched(s, [whole(s)])).records)
      expect(got.localBytes).toBe(0)
    })
  }

  it('whatever bytes stand in the file, nothing wrong is given and the consumer ends', async () => {
    const s = await started({ segmentBytes: 1 << 20 })
    await s.produce(3, 40)
    const want = (await fetched(s, [whole(s)])).records
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        async (changes) => {
          // The broker's own file is sound: only this reader sees other bytes.
          const disk: Pick<Disk, 'open'> = {
            open: (path, mode) => {
              const file = s.w.disk.open(path, mode)
              return Object.assign(Object.create(file) as typeof file, {
                fileId: () => file.fileId(),
                close: () => file.close(),
                readAsync: async (position: number, target: Uint8Array) => {
                  const count = await file.readAsync(position, target)
                  for (const [where, byte] of changes) {
                    const at = (where % file.sizeBytes()) - position
                    if (at >= 0 && at < count) target[at] = byte
                  }
                  return count
                },
              })
            },
          }
          const got = await readAll(s, reader(s, [whole(s)], { disk }))
          expect(got.records).toEqual(want)
        },
      ),
      { numRuns: 40 },
    )
  })

  it('hand their memory back when the reader has other plans', async () => {
    const s = await started({ partitions: 2 })
    for (const partition of [0, 1]) await s.produce(4, 60, partition)
    const { consumer } = reader(s, [whole(s, 0), whole(s, 1)])
    const work = async (): Promise<void> => {
      const held: RecordsEvent[] = []
      while (held.length < 2) {
        const event = await consumer.next()
        if (event?.kind === 'records' && event.release !== undefined) held.push(event)
      }
      await new Promise<void>((done) => s.w.time.setTimer(1000, done))
      // All blocks hold something now: two with us, one in the consumer.
      consumer.pause('t', 0)
      consumer.pause('t', 1)
      for (const event of held) event.release?.()
      for (const event of held) event.release?.()
      consumer.resume('t', 0)
      consumer.resume('t', 1)
      consumer.seek('t', 0, 17)
      consumer.unassign('t', 1)
    }
    await s.w.settle(work())
    const got = await readAll(s, { consumer, opened: [], blocks: [] })
    const want = (await fetched(s, [{ ...whole(s), startOffset: 17 }])).records
    expect(got.records).toEqual(want)
    expect(got.localBytes).toBeGreaterThan(0)
  })

  it('hold no file open while the reader stands still', async () => {
    const s = await started()
    await s.produce(4, 60)
    let open = 0
    const disk: Pick<Disk, 'open'> = {
      open: (path, mode) => {
        const file = s.w.disk.open(path, mode)
        open += 1
        return Object.assign(Object.create(file) as typeof file, {
          fileId: () => file.fileId(),
          readAsync: (position: number, target: Uint8Array) => file.readAsync(position, target),
          close: () => {
            open -= 1
            file.close()
          },
        })
      },
    }
    const made = reader(s, [whole(s)], { disk })
    const seen: number[] = []
    const got = await readAll(s, made, async (count) => {
      if (count !== 4) return
      seen.push(open)
      await new Promise<void>((done) => s.w.time.setTimer(20_000, done))
      seen.push(open)
    })
    expect(seen[1]).toBe(0)
    expect(open).toBe(0)
    expect(got.records).toHaveLength(240)
  })

  it('give nothing of a topic that was created again: the reader fails', async () => {
    const s = await started()
    await s.produce(4, 60)
    const other = s.w.client()
    // A grant is read whole before its first block is released: the next one is asked of the new topic.
    const grant = { grantBytes: 3000, readBytes: 2000 }
    const made = reader(s, [{ topic: 't', partition: 0, startOffset: 0 }], grant)
    const got = await readAll(s, made, async (count) => {
      if (count !== 2) return
      await other.call('DeleteTopics', 5, { topicNames: ['t'], timeoutMs: 1000 })
      await other.create('t')
      const records = Array.from({ length: 4 }, () => `new ${'x'.repeat(30)}`)
      for (let batch = 0; batch < 60; batch++) await other.produce('t', batchOf(records))
    })
    expect(got.events.at(-1)).toMatchObject({ kind: 'failed', error: { code: 'CONFLICT' } })
    expect(got.localBytes).toBeGreaterThan(0)
    expect(got.records.filter(([, value]) => value.includes('new'))).toEqual([])
    expect(got.records.map(([offset]) => offset)).toEqual(got.records.map((_, index) => index))
  })
})
