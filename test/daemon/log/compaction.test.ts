import { describe, expect, it } from 'vitest'
import type { LogConfig } from '../../../daemon/log/log-config.ts'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { StreamError } from '../../../src/base/errors.ts'
import {
  attributesAt,
  baseOffsetAt,
  batchBytesAt,
  isControl,
  isTransactional,
  producerIdAt,
  recordCountAt,
} from '../../../src/record/batch-layout.ts'
import type { Codec } from '../../../src/record/compression.ts'
import { buildControlBatch } from '../../../src/record/control-batch.ts'
import { SimCrash } from '../../sim/sim-disk.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { batchOf, type TestRecord } from '../batches.ts'
import { LOG_PATH, LogWorld } from './log-world.ts'
import { findFaults } from './segment-check.ts'

const DAY_MS = 86_400_000
const CONFIG: Partial<LogConfig> = {
  cleanupCompact: true,
  cleanupDelete: false,
  segmentBytes: 700,
  indexIntervalBytes: 150,
  fileDeleteDelayMs: 0,
  deleteRetentionMs: DAY_MS,
}

type Pair = readonly [key: string | null, value: string | null]

function put(log: PartitionLog, pairs: readonly Pair[], codec: Codec = 'none'): void {
  const records: TestRecord[] = pairs.map(([key, value]) => ({ key, value }))
  log.append([batchOf(records, { codec })], { leaderEpoch: 0 })
}

/** Enough of other keys for the segments before to be closed. */
async function pushOut(world: LogWorld, log: PartitionLog): Promise<void> {
  const count = log.segmentCount
  while (log.segmentCount < count + 1) put(log, [[`filler`, 'x'.repeat(300)]])
  await world.settle(log.flush())
}

async function compact(world: LogWorld, log: PartitionLog, afterMs = 0, mapBytesMax?: number) {
  const nowMs = world.time.wallMs() + afterMs
  const lastStableOffset = log.lastStableOffset(log.durableOffset)
  const limit = mapBytesMax === undefined ? {} : { mapBytesMax }
  return world.settle(log.compact({ nowMs, lastStableOffset, ...limit }))
}

async function keyed(world: LogWorld, log: PartitionLog) {
  return (await world.records(log)).map(({ offset, key, value }) => [offset, key, value])
}

/** The state a reader builds: the latest value of each key. */
function latest(records: readonly (readonly unknown[])[]): Map<unknown, unknown> {
  return new Map(records.map(([, key, value]) => [key, value]))
}

describe('compaction', () => {
  it.each(['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const)(
    'keeps the latest record of every key, at its offset (%s)',
    async (codec) => {
      const world = new LogWorld(codec)
      const log = await world.log(CONFIG)
      for (let round = 0; round < 12; round++) {
        put(
          log,
          [0, 1, 2, 3].map((key) => [`k${key}`, `v${round}.${key}`.padEnd(30, 'x')]),
          codec,
        )
      }
      await pushOut(world, log)
      const before = await keyed(world, log)
      const end = log.logEndOffset
      const result = await compact(world, log)
      expect(result.kind).toBe('done')
      expect(result.bytesAfter).toBeLessThan(result.bytesBefore)
      const after = await keyed(world, log)
      expect(latest(after)).toEqual(latest(before))
      const kept = new Set(before.map((record) => JSON.stringify(record)))
      expect(after.every((record) => kept.has(JSON.stringify(record)))).toBe(true)
      expect(after.length).toBeLessThan(before.length / 2)
      expect(log.logEndOffset).toBe(end)
      for (const kind of ['process', 'power'] as const) {
        world.crash(kind)
        const again = await world.reopened(CONFIG)
        expect(await keyed(world, again)).toEqual(after)
        expect([again.damage, again.logEndOffset]).toEqual([[], end])
      }
      await world.close()
      expect(findFaults(world.disk, LOG_PATH)).toEqual([])
    },
  )

  it('a tombstone goes only after its delete horizon, and not in the run that sets it', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    put(log, [
      ['a', '1'],
      ['b', '1'],
      ['a', null],
    ])
    await pushOut(world, log)
    await compact(world, log)
    expect((await keyed(world, log)).slice(0, 2)).toEqual([
      [1, 'b', '1'],
      [2, 'a', null],
    ])
    await pushOut(world, log)
    await compact(world, log, DAY_MS / 2)
    expect((await keyed(world, log)).some(([, key]) => key === 'a')).toBe(true)
    await pushOut(world, log)
    await compact(world, log, 2 * DAY_MS)
    expect((await keyed(world, log)).some(([, key]) => key === 'a')).toBe(false)
    await world.close()
    const again = await world.reopened(CONFIG)
    expect((await keyed(world, again))[0]).toEqual([1, 'b', '1'])
  })

  it('keeps timestamps, headers and records without key', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    log.append(
      [
        batchOf([
          { key: 'a', value: 'old', timestampMs: 1000 },
          { key: null, value: 'no key', timestampMs: 5000 },
          { key: 'b', value: null, timestampMs: 3000 },
          { key: 'c', value: 'c', timestampMs: 2000 },
        ]),
      ],
      { leaderEpoch: 0 },
    )
    put(log, [['a', 'new']])
    await pushOut(world, log)
    await compact(world, log)
    expect((await world.records(log)).slice(0, 3)).toMatchObject([
      { offset: 1, key: null, value: 'no key', timestampMs: 5000 },
      { offset: 2, key: 'b', value: null, timestampMs: 3000 },
      { offset: 3, key: 'c', value: 'c', timestampMs: 2000 },
    ])
    expect((await world.settle(log.offsetForTimestamp(4000)))?.offset).toBe(1)
  })

  it('keeps the last batch of every active producer, empty if need be', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    const send = (baseSequence: number, key: string): void => {
      const options = { producerId: 5, producerEpoch: 2, baseSequence }
      log.append([batchOf([{ key, value: 'x'.repeat(40) }], options)], { leaderEpoch: 0 })
    }
    for (let index = 0; index < 5; index++) send(index, 'k')
    put(log, [['k', 'later']])
    await pushOut(world, log)
    await compact(world, log)
    expect((await keyed(world, log))[0]).toEqual([5, 'k', 'later'])
    await world.close()
    for (const { path } of world.disk.files()) {
      if (path.endsWith('.snapshot')) world.disk.unlink(path)
    }
    const again = await world.reopened(CONFIG)
    expect(again.activeProducers()).toMatchObject([
      { producerId: 5, producerEpoch: 2, lastSequence: 4 },
    ])
  })

  it('drops the records of aborted transactions, keeps committed ones, and their markers for as long as need be', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    const send = (producerId: number, baseSequence: number, key: string, value: string): void => {
      const options = { producerId, producerEpoch: 0, baseSequence, isTransactional: true }
      log.append([batchOf([{ key, value }], options)], { leaderEpoch: 0 })
    }
    const end = (producerId: number, type: 'commit' | 'abort'): void => {
      const marker = { type, producerId, producerEpoch: 0, coordinatorEpoch: 0, timestampMs: 1 }
      log.append([buildControlBatch(marker)], { leaderEpoch: 0 })
    }
    put(log, [['a', 'good']])
    send(1, 0, 'a', 'aborted')
    send(2, 0, 'b', 'committed')
    end(1, 'abort')
    end(2, 'commit')
    send(1, 1, 'c', 'second')
    end(1, 'commit')
    send(2, 1, 'd', 'third')
    end(2, 'commit')
    await pushOut(world, log)
    await compact(world, log)
    const state = latest(await keyed(world, log))
    const kept = ['good', 'committed', 'second', 'third']
    expect(['a', 'b', 'c', 'd'].map((key) => state.get(key))).toEqual(kept)
    // What was committed is plain, so the markers have nothing left to end: they get a horizon, and go after it.
    const markers = async (): Promise<number[]> => {
      const found: number[] = []
      const slice = await world.settle(log.read({ offset: 0, maxBytes: 1 << 20 }))
      for (const bytes of slice.bytes) {
        for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
          const attributes = attributesAt(bytes, at)
          if (isControl(attributes)) found.push(bytes[at + 7] ?? -1)
          else expect(isTransactional(attributes)).toBe(false)
        }
      }
      return found
    }
    expect(await markers()).toEqual([3, 4, 6, 8])
    await pushOut(world, log)
    await compact(world, log, 3 * DAY_MS)
    expect(await markers()).toEqual([])
    const later = latest(await keyed(world, log))
    expect(['a', 'b', 'c', 'd'].map((key) => later.get(key))).toEqual(kept)
    await world.close()
    const again = await world.reopened(CONFIG)
    expect(again.lastStableOffset(again.logEndOffset)).toBe(again.logEndOffset)
  })

  it('knows what was aborted by a marker that lies in the active segment', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    const options = { producerId: 1, producerEpoch: 0, baseSequence: 0, isTransactional: true }
    put(log, [['a', 'good']])
    log.append([batchOf([{ key: 'a', value: 'aborted' }], options)], { leaderEpoch: 0 })
    await pushOut(world, log)
    const marker = { type: 'abort', producerId: 1, producerEpoch: 0, coordinatorEpoch: 0 } as const
    log.append([buildControlBatch({ ...marker, timestampMs: 1 })], { leaderEpoch: 0 })
    await world.settle(log.flush())
    expect((await compact(world, log)).kind).toBe('done')
    expect(latest(await keyed(world, log)).get('a')).toBe('good')
  })

  it('an empty batch that is left of a transaction begins none', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    const options = { producerId: 1, producerEpoch: 0, baseSequence: 0, isTransactional: true }
    log.append([batchOf([{ key: 'a', value: 'aborted' }], options)], { leaderEpoch: 0 })
    const marker = { type: 'abort', producerId: 1, producerEpoch: 0, coordinatorEpoch: 0 } as const
    log.append([buildControlBatch({ ...marker, timestampMs: 1 })], { leaderEpoch: 0 })
    for (const afterMs of [0, 3 * DAY_MS, 6 * DAY_MS]) {
      await pushOut(world, log)
      await compact(world, log, afterMs)
    }
    const slice = await world.settle(log.read({ offset: 0, maxBytes: 1 << 20 }))
    const found: [offset: number, transactional: boolean, records: number][] = []
    for (const bytes of slice.bytes) {
      for (let at = 0; at < bytes.length; at += batchBytesAt(bytes, at)) {
        if (producerIdAt(bytes, at) < 0) continue
        const transactional = isTransactional(attributesAt(bytes, at))
        found.push([baseOffsetAt(bytes, at), transactional, recordCountAt(bytes, at)])
      }
    }
    expect(found).toEqual([[0, false, 0]])
  })

  it('what it says of itself falls on the medium before anything else is written there', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    const write = async (): Promise<void> => {
      for (let round = 0; round < 30; round++) put(log, [['k', `${round}`.padEnd(100, 'x')]])
      await world.settle(log.flush())
    }
    await write()
    await compact(world, log)
    expect(log.cleanOffset).toBeGreaterThan(10)
    log.raiseTombstoneFloor(log.logEndOffset + 5)
    log.limitTombstoneFloor()
    expect(log.tombstoneFloor).toBe(log.logEndOffset)
    await world.settle(world.directory?.writeCheckpoint() ?? Promise.reject())
    await world.settle(log.truncateTo(2))
    expect(Math.max(log.cleanOffset, log.tombstoneFloor)).toBeLessThanOrEqual(2)
    await write()
    world.crash('power')
    expect((await world.reopened(CONFIG)).cleanOffset).toBeLessThanOrEqual(2)
  })

  it('where there are other replicas, keeps tombstones and markers that they have not agreed on', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    put(log, [['a', 'old']])
    put(log, [['a', null]])
    await pushOut(world, log)
    const run = async (removalFloor: number, afterMs: number): Promise<unknown[]> => {
      const nowMs = world.time.wallMs() + afterMs
      const lastStableOffset = log.durableOffset
      await pushOut(world, log)
      await world.settle(log.compact({ nowMs, lastStableOffset, removalFloor }))
      return (await keyed(world, log)).filter(([, key]) => key === 'a')
    }
    expect(await run(9, 0)).toEqual([[1, 'a', null]])
    expect(await run(1, 3 * DAY_MS)).toEqual([[1, 'a', null]])
    expect(await run(2, 3 * DAY_MS)).toEqual([])
  })

  it('never touches the active segment, what is not durable, or what is beyond the last stable offset', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    for (let round = 0; round < 10; round++) put(log, [['k', `${round}`.padEnd(100, 'x')]])
    await world.settle(log.flush())
    const nowMs = world.time.wallMs()
    const limited = await world.settle(log.compact({ nowMs, lastStableOffset: 4 }))
    expect(limited.cleanOffset).toBeLessThanOrEqual(4)
    expect((await keyed(world, log)).map(([offset]) => offset).slice(-6)).toEqual([
      4, 5, 6, 7, 8, 9,
    ])
  })

  it('min.compaction.lag.ms holds it back', async () => {
    const config = { ...CONFIG, minCompactionLagMs: 10 * DAY_MS }
    const world = new LogWorld()
    const log = await world.log(config)
    for (let round = 0; round < 10; round++) put(log, [['k', `${round}`.padEnd(100, 'x')]])
    await pushOut(world, log)
    expect((await compact(world, log)).kind).toBe('nothing')
    expect((await compact(world, log, 1000 * DAY_MS)).kind).toBe('done')
  })

  it('a map that is too small does a part, and the next run goes on', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    for (let round = 0; round < 30; round++) {
      put(log, [[`k${round % 15}`, `${round}`.padEnd(60, 'x')]])
    }
    await pushOut(world, log)
    const before = latest(await keyed(world, log))
    let runs = 0
    for (;;) {
      const { kind, cleanOffset } = await compact(world, log, 0, 500)
      if (kind !== 'done') break
      runs++
      expect(log.cleanOffset).toBe(cleanOffset)
      expect(latest(await keyed(world, log))).toEqual(before)
    }
    expect(runs).toBeGreaterThan(2)
  })

  it('says when it is due', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    const need = () => log.compactionNeed(world.time.wallMs(), log.durableOffset)
    expect(need()).toEqual({ dirtyRatio: 0, dirtyBytes: 0, due: false })
    for (let round = 0; round < 12; round++) put(log, [['k', 'x'.repeat(100)]])
    await world.settle(log.flush())
    expect(need().due).toBe(true)
    await compact(world, log)
    expect(need().due).toBe(false)
    log.applyConfig({ ...log.config, cleanupCompact: false })
    for (let round = 0; round < 30; round++) put(log, [['k', 'x'.repeat(100)]])
    await world.settle(log.flush())
    expect(need().due).toBe(false)
  })

  it('produce goes on while it runs; a truncation underneath ends it', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    for (let round = 0; round < 40; round++) put(log, [[`k${round % 5}`, 'x'.repeat(60)]])
    await world.settle(log.flush())
    const nowMs = world.time.wallMs()
    const running = log.compact({ nowMs, lastStableOffset: log.durableOffset })
    put(log, [['during', 'run']])
    const cut = log.truncateTo(20)
    const [outcome] = await world.settle(Promise.all([running, cut]))
    expect(outcome.kind).toBe('aborted')
    expect(await keyed(world, log)).toHaveLength(20)
    expect(world.disk.files().filter(({ path }) => path.endsWith('.cleaned'))).toEqual([])
    const again = log.compact({ nowMs, lastStableOffset: log.durableOffset })
    put(log, [['during', 'again']])
    expect((await world.settle(again)).kind).toBe('done')
    await world.settle(log.flush())
    expect(latest(await keyed(world, log)).get('during')).toBe('again')
  })

  it('damage stops it: nothing is cleaned away', async () => {
    const world = new LogWorld()
    const log = await world.log(CONFIG)
    for (let round = 0; round < 20; round++) put(log, [['k', `${round}`.padEnd(100, 'x')]])
    await world.settle(log.flush())
    world.disk.flipBit(`${LOG_PATH}/00000000000000000000.log`, 100, 1)
    expect((await compact(world, log)).kind).toBe('aborted')
    await world.close()
    const again = await world.reopened(CONFIG)
    await expect(world.settle(again.read({ offset: 0, maxBytes: 1 }))).rejects.toSatisfy(
      (error) => error instanceof StreamError && error.code === 'DATA_DAMAGED',
    )
    expect((await compact(world, again)).kind).toBe('nothing')
  })

  it('a full disk leaves the log as it was', async () => {
    const world = new LogWorld()
    await world.open({ reserveBytesMax: 0 })
    const log = await world.log(CONFIG)
    for (let round = 0; round < 30; round++) put(log, [[`k${round % 9}`, 'x'.repeat(60)]])
    await world.settle(log.flush())
    const before = await keyed(world, log)
    world.disk.totalBytes =
      world.disk.files().reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) + 30
    await expect(compact(world, log)).rejects.toSatisfy(
      (error) => error instanceof StreamError && error.code === 'DISK_FULL',
    )
    expect(await keyed(world, log)).toEqual(before)
    world.disk.totalBytes = 2 ** 40
    await world.run(2000)
    expect((await compact(world, log)).kind).toBe('done')
    expect(latest(await keyed(world, log))).toEqual(latest(before))
  })
})

describe('compaction and crashes', () => {
  async function prepared(seed: number): Promise<{ world: LogWorld; log: PartitionLog }> {
    const random = new SimRandom(`compaction ${seed}`)
    const world = new LogWorld(`compaction ${seed}`, {
      directoryChanges: seed % 2 === 0 ? 'any' : 'prefix',
    })
    const log = await world.log({ ...CONFIG, fileDeleteDelayMs: random.pick([0, 1000]) })
    for (let round = 0; round < 16; round++) {
      const pairs = Array.from({ length: 1 + random.integer(3) }, (): Pair => {
        const value = random.chance(0.1) ? null : `${round}`.padEnd(random.integer(80), 'x')
        return [`k${random.integer(8)}`, value]
      })
      put(log, pairs, random.pick(['none', 'none', 'gzip']))
    }
    await world.settle(log.flush())
    await world.run(200)
    return { world, log }
  }

  /** Runs two compactions with appends between; the disk may die in any operation. */
  async function work(world: LogWorld, log: PartitionLog): Promise<void> {
    const nowMs = world.time.wallMs()
    await log.compact({ nowMs, lastStableOffset: log.durableOffset })
    for (let round = 0; round < 8; round++) put(log, [[`k${round}`, 'again'.padEnd(90, 'x')]])
    await log.flush()
    await log.compact({ nowMs: nowMs + 2 * DAY_MS, lastStableOffset: log.durableOffset })
  }

  async function crashIn(
    seed: number,
    crashAt: number,
    kind: 'process' | 'power',
  ): Promise<number> {
    const { world, log } = await prepared(seed)
    const before = world.disk.operations
    const values = new Map<unknown, unknown>()
    for (const [offset, key, value] of await keyed(world, log))
      values.set(`${offset}/${key}`, value)
    const promised = latest(await keyed(world, log))
    world.disk.crashAtOperation = before + crashAt
    let isDone = false
    let failure: unknown
    work(world, log).then(
      () => {
        isDone = true
      },
      (error: unknown) => {
        isDone = true
        failure = error
      },
    )
    try {
      await world.world.run({ until: () => isDone || world.disk.isDead })
    } catch (error) {
      if (!world.disk.isDead) throw error
    }
    if (!world.disk.isDead && failure !== undefined && !(failure instanceof SimCrash)) throw failure
    const operations = world.disk.operations - before
    world.crash(kind)
    const again = await world.reopened(CONFIG)
    const records = await keyed(world, again)
    const found = latest(records)
    const name = `seed ${seed}, crash at ${crashAt}, ${kind}`
    expect([name, again.damage]).toEqual([name, []])
    for (const [key, value] of promised) {
      const now = found.get(key)
      // Superseded by the second round, or a tombstone whose time had come.
      const isRight =
        now === value || String(now).startsWith('again') || (value === null && now === undefined)
      if (!isRight) expect([name, key, now]).toEqual([name, key, value])
    }
    for (const [offset, key, value] of records) {
      const original = values.get(`${offset}/${key}`)
      if (original !== undefined) expect([name, offset, value]).toEqual([name, offset, original])
    }
    world.crash('process')
    expect([name, await keyed(world, await world.reopened(CONFIG))]).toEqual([name, records])
    await world.close()
    expect([name, findFaults(world.disk, LOG_PATH)]).toEqual([name, []])
    return operations
  }

  it.each(['process', 'power'] as const)(
    'at every operation (%s)',
    async (kind) => {
      const operations = await crashIn(1, Infinity, kind)
      expect(operations).toBeGreaterThan(60)
      // The death of a process leaves less to chance: every third operation will do.
      const step = kind === 'power' ? 1 : 3
      for (let crashAt = 1; crashAt <= operations; crashAt += step) await crashIn(1, crashAt, kind)
    },
    120_000,
  )

  it('anywhere, in many logs', async () => {
    const seeds = Number(process.env['LOG_CRASH_SEEDS'] ?? 30)
    for (let seed = 2; seed < seeds; seed++) {
      await crashIn(seed, 1 + ((seed * 29) % 170), seed % 3 === 0 ? 'process' : 'power')
    }
  })
})
