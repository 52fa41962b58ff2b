import { describe, expect, it } from 'vitest'
import { isStreamError } from '../../../src/base/errors.ts'
import { baseOffsetAt, leaderEpochAt, stampBatch } from '../../../src/record/batch-layout.ts'
import { batchOf, recordsOf } from '../batches.ts'
import { append, batchCount, LogWorld, values } from './log-world.ts'

async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'no error',
    (error: unknown) => (isStreamError(error) ? error.code : String(error)),
  )
}

function codeOf(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    if (isStreamError(error)) return error.code
    throw error
  }
  return 'no error'
}

describe('append', () => {
  it('assigns offsets from the log end and stamps them with the leader epoch, in place', async () => {
    const world = new LogWorld()
    const log = await world.log()
    const first = batchOf(['a', 'b'])
    const second = batchOf(['c'])
    expect(log.append([first, second], { leaderEpoch: 3 })).toEqual({
      firstOffset: 0,
      lastOffset: 2,
      nextOffset: 3,
    })
    expect([baseOffsetAt(first, 0), baseOffsetAt(second, 0)]).toEqual([0, 2])
    expect(leaderEpochAt(second, 0)).toBe(3)
    expect(log.logEndOffset).toBe(3)
    expect(log.latestEpoch).toBe(3)
    expect(Buffer.from(world.file(0) ?? [])).toEqual(Buffer.concat([first, second]))
  })

  it('is not durable before its sync has ended, then the listener hears of it', async () => {
    const world = new LogWorld()
    const log = await world.log()
    const heard: number[] = []
    log.onDurable((offset) => heard.push(offset))
    append(log, ['a'])
    expect(log.durableOffset).toBe(0)
    append(log, ['b'])
    await world.settle(log.flush())
    expect(log.durableOffset).toBe(2)
    // The first sync covers what was there when it began, the second one the rest.
    expect(heard).toEqual([1, 2])
  })

  it('with flush.messages above 1 waits for the number or the time', async () => {
    const world = new LogWorld()
    const log = await world.log({ flushMessages: 3, flushMs: 100 })
    append(log, ['a'])
    await world.run(50)
    expect(log.durableOffset).toBe(0)
    await world.run(60)
    expect(log.durableOffset).toBe(1)
    append(log, ['b', 'c', 'd'])
    await world.run(5)
    expect(log.durableOffset).toBe(4)
  })

  it('from async to commit nothing counts before everything is synced (O5)', async () => {
    const world = new LogWorld()
    const config = { flushMessages: 1000, flushMs: 1_000_000, segmentBytes: 200 }
    const log = await world.log(config)
    for (let index = 0; index < 5; index++) append(log, values(index * 2, 2, 40))
    log.applyConfig({ ...log.config, flushMessages: 1 })
    expect(log.durableOffset).toBe(0)
    await world.settle(log.flush())
    expect(log.durableOffset).toBe(10)
    world.crash('power')
    expect(await world.values(await world.reopened(config))).toEqual(values(0, 10, 40))
  })

  it('rolls a segment when it would exceed segment.bytes, named after the log end', async () => {
    const world = new LogWorld()
    const log = await world.log({ segmentBytes: 300 })
    for (let index = 0; index < 10; index++) append(log, values(index, 1, 100))
    expect(log.segmentCount).toBe(10 / 1)
    expect(world.file(9)?.length).toBeGreaterThan(100)
    expect(await world.values(log)).toEqual(values(0, 10, 100))
  })

  it('rolls by the time of the batches (segment.ms), and by the wall clock without timestamps', async () => {
    const world = new LogWorld()
    const log = await world.log({ segmentMs: 1000 })
    log.append([batchOf(['a'], { timestampMs: 5000 })], { leaderEpoch: 0 })
    log.append([batchOf(['b'], { timestampMs: 6000 })], { leaderEpoch: 0 })
    expect(log.segmentCount).toBe(1)
    log.append([batchOf(['c'], { timestampMs: 6001 })], { leaderEpoch: 0 })
    expect(log.segmentCount).toBe(2)
    log.append([batchOf(['d'], { timestampMs: -1 })], { leaderEpoch: 0 })
    await world.run(2000)
    log.append([batchOf(['e'], { timestampMs: -1 })], { leaderEpoch: 0 })
    expect(log.segmentCount).toBe(3)
  })

  it('one call that exceeds a segment fills several', async () => {
    const world = new LogWorld()
    const log = await world.log({ segmentBytes: 250 })
    const batches = values(0, 5, 100).map((value) => batchOf([value]))
    log.append(batches, { leaderEpoch: 0 })
    expect(log.segmentCount).toBe(5)
    expect(await world.values(log)).toEqual(values(0, 5, 100))
  })

  it('a full disk refuses, keeps the file whole, and takes again when there is space', async () => {
    const world = new LogWorld()
    await world.open({ reserveBytesMax: 0 })
    const log = await world.log()
    append(log, ['kept'])
    await world.settle(log.flush())
    world.disk.totalBytes = world.disk.files().reduce((sum, file) => sum + file.sizeBytes, 0) + 50
    expect(codeOf(() => append(log, values(0, 10, 100)))).toBe('DISK_FULL')
    expect(log.logEndOffset).toBe(1)
    expect(world.file(0)?.length).toBe(log.sizeBytes)
    expect(world.directory?.refusesWrites()?.code).toBe('DISK_FULL')
    expect(await world.values(log)).toEqual(['kept'])
    world.disk.totalBytes = 2 ** 40
    await world.run(2000)
    append(log, ['again'])
    await world.settle(log.flush())
    expect(await world.values(log)).toEqual(['kept', 'again'])
  })

  it('keeps a reserve free, and opens again by itself (D1)', async () => {
    const world = new LogWorld()
    await world.open({ reserveBytesMax: 1 << 20 })
    const log = await world.log()
    world.disk.totalBytes = 100 << 20
    await world.run(1500)
    append(log, ['fine'])
    world.disk.totalBytes = 200_000
    world.disk.totalBytes = world.disk.files().reduce((sum, file) => sum + file.sizeBytes, 0) + 9
    await world.run(1500)
    expect(codeOf(() => append(log, ['refused']))).toBe('DISK_FULL')
    world.disk.totalBytes = 2 ** 40
    await world.run(1500)
    append(log, ['again'])
    expect(log.logEndOffset).toBe(2)
  })

  it('of a small disk a reserve stays, however fast it is filled', async () => {
    const world = new LogWorld()
    world.disk.totalBytes = 8 << 20
    await world.open()
    const log = await world.log()
    const batch = values(0, 1, 100_000)
    let code = 'no error'
    // In one moment: no time passes for another look.
    for (let round = 0; round < 100 && code !== 'DISK_FULL'; round += 1)
      code = codeOf(() => append(log, batch))
    expect(code).toBe('DISK_FULL')
    const { freeBytes, totalBytes } = world.disk.space('/')
    expect(freeBytes).toBeGreaterThan(totalBytes * 0.05 - 2 * 100_100)
    expect(freeBytes).toBeLessThan(totalBytes * 0.1)
  })

  it('after a failed sync nothing is durable any more, nothing is appended, nothing is synced (D2)', async () => {
    const world = new LogWorld()
    const directory = await world.open()
    const log = await world.log()
    append(log, ['a'])
    await world.settle(log.flush())
    const failures: string[] = []
    directory.onFailure((error) => failures.push(error.code))
    let syncs = 0
    world.disk.failsSync = () => {
      syncs++
      return true
    }
    append(log, ['b'])
    const flush = failure(log.flush())
    expect(await world.settle(flush)).toBe('DISK_FAILED')
    expect(failures).toEqual(['DISK_FAILED'])
    expect(codeOf(() => append(log, ['c']))).toBe('DISK_FAILED')
    world.disk.failsSync = () => false
    const before = syncs
    await world.run(10_000)
    expect(syncs).toBe(before)
    expect(log.durableOffset).toBe(1)
    expect(await world.values(log)).toEqual(['a', 'b'])
    // The next start knows, writes the tail again, and only then counts it.
    await world.close(true)
    expect(world.disk.stat('/data/.kafka_cleanshutdown')).toBeUndefined()
    const again = await world.reopened()
    expect(world.directory?.failedBefore).toBe(true)
    expect(await world.values(again)).toEqual(['a', 'b'])
    world.crash('power')
    expect(await world.values(await world.reopened())).toEqual(['a', 'b'])
  })

  it('appendPlaced keeps offsets, allows gaps, refuses what does not rise', async () => {
    const world = new LogWorld()
    const log = await world.log()
    const placed = (offset: number, epoch: number, value: string): Uint8Array => {
      const batch = batchOf([value])
      stampBatch(batch, 0, { baseOffset: offset, leaderEpoch: epoch })
      return batch
    }
    log.appendPlaced([placed(5, 1, 'five'), placed(9, 1, 'nine')])
    expect(log.logEndOffset).toBe(10)
    expect(codeOf(() => log.appendPlaced([placed(9, 1, 'again')]))).toBe('CORRUPT_BATCH')
    expect(codeOf(() => log.appendPlaced([placed(11, 0, 'old')]))).toBe('CORRUPT_BATCH')
    log.appendPlaced([placed(20, 7, 'twenty')], { leaderEpoch: 8 })
    await world.settle(log.flush())
    const seen = await world.records(log, 0)
    expect(seen.map(({ offset, value }) => [offset, value])).toEqual([
      [5, 'five'],
      [9, 'nine'],
      [20, 'twenty'],
    ])
    expect(log.latestEpoch).toBe(8)
    for (const kind of ['process', 'power'] as const) {
      world.crash(kind)
      const again = await world.reopened()
      expect(again.damage).toEqual([])
      expect((await world.records(again, 0)).map(({ offset }) => offset)).toEqual([5, 9, 20])
      expect((await world.records(again, 10)).map(({ offset }) => offset)).toEqual([20])
    }
  })
})

describe('read', () => {
  it('answers the tail from memory, and the same bytes from the file', async () => {
    const world = new LogWorld()
    const log = await world.log()
    for (let index = 0; index < 20; index++) append(log, values(index * 3, 3))
    const cached = log.readCached({ offset: 0, maxBytes: 1 << 20 })
    await world.settle(log.flush())
    await world.close()
    const cold = await world.reopened()
    expect(cold.readCached({ offset: 0, maxBytes: 1 << 20 })).toBeUndefined()
    const slice = await world.settle(cold.read({ offset: 0, maxBytes: 1 << 20 }))
    expect(Buffer.concat([...slice.bytes])).toEqual(Buffer.concat([...(cached?.bytes ?? [])]))
    expect(slice.nextOffset).toBe(60)
  })

  it.each(['cached', 'cold'])(
    'whole batches, at least one, within the limits (%s, P5)',
    async (how) => {
      const world = new LogWorld()
      let log = await world.log()
      for (let index = 0; index < 10; index++) append(log, values(index * 2, 2, 50))
      await world.settle(log.flush())
      if (how === 'cold') {
        await world.close()
        log = await world.reopened()
      }
      const read = (offset: number, maxBytes: number, endOffset?: number, minOneBatch?: boolean) =>
        world.settle(
          log.read({
            offset,
            maxBytes,
            ...(endOffset === undefined ? {} : { endOffset }),
            ...(minOneBatch === undefined ? {} : { minOneBatch }),
          }),
        )
      // In the middle of a batch: the whole batch.
      expect(await read(3, 1)).toMatchObject({ firstOffset: 2, nextOffset: 4 })
      expect((await read(3, 1, undefined, false)).bytes).toEqual([])
      const batchBytes = (await read(0, 1)).sizeBytes
      expect(batchCount((await read(0, batchBytes * 3 + 10)).bytes)).toBe(3)
      // Nothing at or beyond the end given.
      expect(await read(0, 1 << 20, 6)).toMatchObject({ firstOffset: 0, nextOffset: 6 })
      expect((await read(5, 1 << 20, 6)).nextOffset).toBe(6)
      expect((await read(4, 1 << 20, 5)).bytes).toEqual([])
      expect(await read(20, 1 << 20)).toEqual({
        bytes: [],
        sizeBytes: 0,
        firstOffset: 20,
        nextOffset: 20,
      })
      expect(await failure(read(21, 1))).toBe('OFFSET_OUT_OF_RANGE')
    },
  )

  it('a batch larger than a block comes whole', async () => {
    const world = new LogWorld()
    const log = await world.log()
    append(log, ['small'])
    append(log, ['x'.repeat(900_000), 'y'.repeat(100_000)])
    append(log, ['after'])
    await world.settle(log.flush())
    await world.close()
    const cold = await world.reopened()
    expect((await world.values(cold, 1, 100)).map((value) => value.length)).toEqual([
      900_000, 100_000, 5,
    ])
  })

  it('finds every offset in every segment, with and without its indexes', async () => {
    const world = new LogWorld()
    const config = { segmentBytes: 2000, indexIntervalBytes: 200 }
    const log = await world.log(config)
    for (let index = 0; index < 100; index++) append(log, values(index * 2, 2, 30))
    await world.settle(log.flush())
    await world.close()
    const check = async () => {
      const cold = await world.reopened(config)
      for (let offset = 0; offset < 200; offset += 7) {
        const slice = await world.settle(cold.read({ offset, maxBytes: 1 }))
        const found = recordsOf(slice.bytes[0] ?? null)
        expect(found.some((record) => record.offset === offset)).toBe(true)
      }
      await world.close()
    }
    await check()
    for (const { path } of world.disk.files()) if (path.endsWith('index')) world.disk.unlink(path)
    await check()
    for (const { path, sizeBytes } of world.disk.files()) {
      if (path.endsWith('index') && sizeBytes > 5) world.disk.flipBit(path, 5, 3)
    }
    await check()
  })

  it('reads on while segments are appended, rolled and removed', async () => {
    const world = new LogWorld()
    const config = { segmentBytes: 500, fileDeleteDelayMs: 10 }
    const log = await world.log(config)
    for (let index = 0; index < 30; index++) append(log, values(index, 1, 50))
    await world.settle(log.flush())
    await world.close()
    const cold = await world.reopened(config)
    const reading = cold.read({ offset: 2, maxBytes: 300 })
    const deleting = cold.deleteRecordsBefore(20)
    const outcome = await world.settle(failure(reading))
    await world.settle(deleting)
    expect(['no error', 'OFFSET_OUT_OF_RANGE']).toContain(outcome)
    expect(await failure(world.settle(cold.read({ offset: 2, maxBytes: 1 })))).toBe(
      'OFFSET_OUT_OF_RANGE',
    )
    expect(await world.values(cold)).toEqual(values(20, 10, 50))
    await world.run(100)
    expect(world.disk.files().filter(({ path }) => path.endsWith('.deleted'))).toEqual([])
  })
})

describe('offsets by time (P7)', () => {
  it('is the first record at or behind the time, with its own timestamp', async () => {
    const world = new LogWorld()
    const config = { segmentBytes: 600, indexIntervalBytes: 100 }
    const log = await world.log(config)
    const times = [10, 30, 20, 40, 40, 90, 60, 70, 80, 100]
    for (const timestampMs of times) {
      log.append(
        [
          batchOf([
            { value: 'x'.repeat(40), timestampMs: timestampMs - 5 },
            { value: 'y'.repeat(40), timestampMs },
          ]),
        ],
        { leaderEpoch: 2 },
      )
    }
    await world.settle(log.flush())
    const all = await world.records(log)
    const check = async (from: typeof log) => {
      for (let at = 0; at <= 105; at += 5) {
        const expected = all.find((record) => record.timestampMs >= at)
        const found = await world.settle(from.offsetForTimestamp(at))
        expect([at, found?.offset, found?.timestampMs]).toEqual([
          at,
          expected?.offset,
          expected?.timestampMs,
        ])
      }
      expect(await world.settle(from.offsetOfMaxTimestamp())).toEqual({
        offset: 19,
        timestampMs: 100,
        leaderEpoch: 2,
      })
      expect((await world.settle(from.offsetOfMaxTimestamp(19)))?.timestampMs).toBe(90)
      expect(await world.settle(from.offsetForTimestamp(100, 19))).toBeUndefined()
    }
    await check(log)
    await world.close()
    await check(await world.reopened(config))
    await world.close()
    for (const { path } of world.disk.files())
      if (path.endsWith('timeindex')) world.disk.unlink(path)
    await check(await world.reopened(config))
  })

  it('an empty log has none', async () => {
    const world = new LogWorld()
    const log = await world.log()
    expect(await world.settle(log.offsetForTimestamp(0))).toBeUndefined()
    expect(await world.settle(log.offsetOfMaxTimestamp())).toBeUndefined()
  })
})

describe('leader epochs', () => {
  it('answers where an epoch ended, over a restart too (KIP-101)', async () => {
    const world = new LogWorld()
    const log = await world.log()
    await world.settle(log.beginEpoch(1))
    append(log, ['a', 'b'], 1)
    await world.settle(log.beginEpoch(4))
    append(log, ['c'], 4)
    await world.settle(log.flush())
    const check = (from: typeof log) => {
      expect(from.endOffsetForEpoch(4)).toEqual({ epoch: 4, endOffset: 3 })
      expect(from.endOffsetForEpoch(3)).toEqual({ epoch: 1, endOffset: 2 })
      expect(from.endOffsetForEpoch(1)).toEqual({ epoch: 1, endOffset: 2 })
      expect(from.endOffsetForEpoch(0)).toEqual({ epoch: 0, endOffset: 0 })
      expect(from.endOffsetForEpoch(5)).toBeUndefined()
    }
    check(log)
    world.crash('power')
    check(await world.reopened())
    world.crash('process')
    world.disk.unlink('/data/t-0/leader-epoch-checkpoint')
    check(await world.reopened())
  })
})

describe('truncateTo', () => {
  const config = { segmentBytes: 400, indexIntervalBytes: 100 }

  it.each([0, 1, 7, 12, 19, 20])('leaves what lies below %i, over any crash', async (cut) => {
    for (const kind of ['process', 'power'] as const) {
      const world = new LogWorld(`${cut}${kind}`)
      const log = await world.log(config)
      for (let index = 0; index < 20; index++) append(log, values(index, 1, 40), index < 10 ? 1 : 2)
      await world.settle(log.flush())
      await world.settle(log.truncateTo(cut))
      expect(log.logEndOffset).toBe(cut)
      expect(log.durableOffset).toBeLessThanOrEqual(cut)
      expect(await world.values(log)).toEqual(values(0, cut, 40))
      expect(log.latestEpoch).toBe(cut === 0 ? undefined : cut <= 10 ? 1 : 2)
      log.verify()
      for (let index = 0; index < 3; index++) append(log, values(100 + index, 1, 40), 3)
      await world.settle(log.flush())
      expect(log.durableOffset).toBe(cut + 3)
      const expected = [...values(0, cut, 40), ...values(100, 3, 40)]
      expect(await world.values(log)).toEqual(expected)
      world.crash(kind)
      const again = await world.reopened(config)
      expect(again.damage).toEqual([])
      expect(await world.values(again)).toEqual(expected)
    }
  })

  it('takes a whole batch when the offset lies inside it', async () => {
    const world = new LogWorld()
    const log = await world.log()
    append(log, values(0, 5))
    append(log, values(5, 5))
    await world.settle(log.truncateTo(7))
    expect(log.logEndOffset).toBe(5)
  })

  it('never ends below the log start', async () => {
    const world = new LogWorld()
    const log = await world.log()
    append(log, values(0, 3))
    append(log, values(3, 3))
    await world.settle(log.flush())
    await world.settle(log.deleteRecordsBefore(4))
    await world.settle(log.truncateTo(5))
    expect([log.logStartOffset, log.logEndOffset]).toEqual([4, 4])
    append(log, ['next'])
    await world.settle(log.flush())
    world.crash('power')
    const again = await world.reopened()
    expect(await world.records(again)).toMatchObject([{ offset: 4, value: 'next' }])
  })

  it('a sync that began before it does not raise the durable offset', async () => {
    const world = new LogWorld()
    const log = await world.log()
    append(log, ['a'])
    await world.settle(log.flush())
    append(log, ['b'])
    // The sync of 'b' is under way.
    const cut = log.truncateTo(1)
    await world.settle(cut)
    expect(log.durableOffset).toBe(1)
    append(log, ['c'])
    expect(log.durableOffset).toBe(1)
    await world.settle(log.flush())
    expect(await world.values(log)).toEqual(['a', 'c'])
  })

  it('resetTo starts anew at an offset', async () => {
    const world = new LogWorld()
    const log = await world.log(config)
    for (let index = 0; index < 10; index++) append(log, values(index, 1, 40))
    await world.settle(log.resetTo(500))
    expect([log.logStartOffset, log.logEndOffset]).toEqual([500, 500])
    append(log, ['first'])
    await world.settle(log.flush())
    world.crash('power')
    const again = await world.reopened(config)
    expect([again.logStartOffset, again.logEndOffset]).toEqual([500, 501])
    expect(await world.values(again)).toEqual(['first'])
  })
})

describe('deleteRecordsBefore and retention', () => {
  const config = { segmentBytes: 300, fileDeleteDelayMs: 0 }

  it('the log start never falls back (I14)', async () => {
    for (const kind of ['process', 'power'] as const) {
      const world = new LogWorld(kind, { directoryChanges: 'any' })
      const log = await world.log(config)
      for (let index = 0; index < 10; index++) append(log, values(index, 1, 100))
      await world.settle(log.flush())
      await world.settle(log.deleteRecordsBefore(5))
      expect(log.logStartOffset).toBe(5)
      expect(await failure(world.settle(log.deleteRecordsBefore(11)))).toBe('OFFSET_OUT_OF_RANGE')
      world.crash(kind)
      const again = await world.reopened(config)
      expect(again.logStartOffset).toBe(5)
      expect(await world.values(again)).toEqual(values(5, 5, 100))
    }
  })

  it('by size: whole segments at the front, never at or above the high watermark', async () => {
    const world = new LogWorld()
    const log = await world.log({ ...config, retentionBytes: 700 })
    for (let index = 0; index < 10; index++) append(log, values(index, 1, 100))
    await world.settle(log.flush())
    const before = log.sizeBytes
    await world.settle(log.enforceRetention(world.time.wallMs(), 2))
    expect(log.logStartOffset).toBe(2)
    await world.settle(log.enforceRetention(world.time.wallMs(), 10))
    expect(log.sizeBytes).toBeLessThan(before)
    expect(log.sizeBytes).toBeGreaterThanOrEqual(700)
    expect(await world.values(log)).toEqual(
      values(log.logStartOffset, 10 - log.logStartOffset, 100),
    )
  })

  it('by time: also the last segment, and offsets go on', async () => {
    const world = new LogWorld()
    const log = await world.log({ ...config, retentionMs: 1000 })
    for (let index = 0; index < 4; index++) {
      const batch = batchOf(values(index, 1, 100), { timestampMs: 1000 * index })
      log.append([batch], { leaderEpoch: 0 })
    }
    await world.settle(log.flush())
    await world.settle(log.enforceRetention(2500, 4))
    expect(log.logStartOffset).toBe(2)
    expect(await world.settle(log.enforceRetention(1_000_000, 4))).toMatchObject({
      deletedSegments: 2,
    })
    expect([log.logStartOffset, log.logEndOffset, log.segmentCount]).toEqual([4, 4, 1])
    append(log, ['next'])
    await world.settle(log.flush())
    world.crash('power')
    const again = await world.reopened(config)
    expect(await world.records(again)).toMatchObject([{ offset: 4, value: 'next' }])
  })

  it('cleanup.policy compact keeps everything', async () => {
    const world = new LogWorld()
    const log = await world.log({ ...config, cleanupDelete: false, retentionMs: 1 })
    for (let index = 0; index < 4; index++) append(log, values(index, 1, 100))
    await world.settle(log.flush())
    await world.settle(log.enforceRetention(Number.MAX_SAFE_INTEGER, 4))
    expect(log.logStartOffset).toBe(0)
  })
})
