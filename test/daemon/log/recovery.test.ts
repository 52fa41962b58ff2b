/** The rules of replication.md section 7.3, one by one, and what a flipped bit anywhere may do. */
import { describe, expect, it } from 'vitest'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { isStreamError } from '../../../src/base/errors.ts'
import { batchOf, recordsOf } from '../batches.ts'
import { append, LOG_PATH, LogWorld, PATH, values } from './log-world.ts'

const SEGMENT = `${LOG_PATH}/00000000000000000000.log`
const MARKS = [`${PATH}/durable-marks.a`, `${PATH}/durable-marks.b`]

/** A log of batches of one record, the first `durable` of them synced and marked. */
async function logOf(world: LogWorld, durable: number, more: number, config = {}) {
  const log = await world.log(config)
  for (let index = 0; index < durable; index++) append(log, values(index, 1, 40))
  await world.settle(log.flush())
  // The mark reaches the medium.
  await world.run(200)
  const at: number[] = [log.sizeBytes]
  for (let index = 0; index < more; index++) {
    append(log, values(durable + index, 1, 40))
    at.push(log.sizeBytes)
  }
  return { log, at }
}

function damage(world: LogWorld, path: string, position: number): void {
  world.disk.flipBit(path, position, 4)
}

function torn(world: LogWorld): string[] {
  return world.disk
    .files()
    .map(({ path }) => path)
    .filter((path) => path.endsWith('.torn'))
}

/** Another boot, and by chance everything had reached the medium. */
function powerCutThatLosesNothing(world: LogWorld): void {
  world.crash('process')
  world.boot++
}

async function readError(world: LogWorld, log: PartitionLog, offset: number) {
  return world.settle(log.read({ offset, maxBytes: 1 })).then(
    () => undefined,
    (error: unknown) => (isStreamError(error) ? error : undefined),
  )
}

describe('recovery: an epoch that has flipped above the mark', () => {
  const ASYNC = { flushMessages: 1000, flushMs: 1_000_000 }
  const crashes = {
    'a power cut': powerCutThatLosesNothing,
    'the death of the process': (world: LogWorld) => world.crash('process'),
  }

  for (const [name, crash] of Object.entries(crashes)) {
    it(`after ${name}: the batch is quarantined, the epoch never was, what stands behind it is kept`, async () => {
      const world = new LogWorld()
      const { at } = await logOf(world, 3, 4, ASYNC)
      // The leader epoch stands behind base offset and length; its checksum does not cover it.
      world.disk.flipBit(SEGMENT, (at[1] ?? 0) + 14, 4)
      crash(world)
      const log = await world.reopened()
      expect(log.latestEpoch).toBe(0)
      expect(log.logEndOffset).toBe(7)
      expect(log.recovery.cutBytes).toBe(0)
      expect(log.damage).toEqual([
        expect.objectContaining({ startOffset: 4, endOffset: 5, foundAtStart: true }),
      ])
      expect(log.damage[0]?.detail).toBe('leader epoch 4096 before batches of 0')
      expect(await readError(world, log, 4)).toMatchObject({ code: 'DATA_DAMAGED' })
      expect(await world.values(log, 5)).toHaveLength(2)
      // Starting twice is starting once.
      world.crash('process')
      const again = await world.reopened()
      expect([again.latestEpoch, again.logEndOffset, again.damage.length]).toEqual([0, 7, 1])
    })
  }

  it('epochs that have begun there are taken as they are', async () => {
    const world = new LogWorld()
    const { log } = await logOf(world, 3, 0, ASYNC)
    for (const epoch of [3, 3, 8, 9, 9]) append(log, ['more'], epoch)
    world.crash('process')
    const again = await world.reopened()
    expect(again.damage).toEqual([])
    expect([4, 5, 6, 7].map((offset) => again.epochAt(offset))).toEqual([3, 8, 9, 9])
    expect(await world.values(again)).toHaveLength(8)
  })
})

describe('recovery: torn tail', () => {
  it('after a power cut a bad batch above the mark is cut, whatever stands behind it, and kept aside', async () => {
    const world = new LogWorld()
    // Async flush: nothing above is synced, and the cut keeps all of it but one flipped bit.
    const { at } = await logOf(world, 3, 3, { flushMessages: 1000, flushMs: 1_000_000 })
    damage(world, SEGMENT, (at[1] ?? 0) + 70)
    powerCutThatLosesNothing(world)
    const log = await world.reopened()
    expect(log.logEndOffset).toBe(4)
    expect(log.recovery).toMatchObject({ clean: false, damagedBelowMark: false, damage: [] })
    expect(log.recovery.cutBytes).toBeGreaterThan(0)
    expect(torn(world)).toEqual([`${LOG_PATH}/00000000000000000004.torn`])
    expect(world.said.join()).toContain('a torn tail was cut off')
    append(log, ['next'])
    await world.settle(log.flush())
    expect(await world.values(log)).toEqual([...values(0, 4, 40), 'next'])
  })

  it('after the death of the process only what nothing follows is a torn tail', async () => {
    const world = new LogWorld()
    const { at } = await logOf(world, 3, 2, { flushMessages: 1000, flushMs: 1_000_000 })
    damage(world, SEGMENT, (at[1] ?? 0) + 70)
    world.crash('process')
    const log = await world.reopened()
    expect(log.logEndOffset).toBe(4)
    expect(log.damage).toEqual([])
    expect(torn(world)).toHaveLength(1)
  })

  it('after the death of the process a bad batch with good ones behind is corruption: nothing is cut', async () => {
    const world = new LogWorld()
    const { at } = await logOf(world, 3, 3, { flushMessages: 1000, flushMs: 1_000_000 })
    damage(world, SEGMENT, (at[1] ?? 0) + 70)
    world.crash('process')
    const log = await world.reopened()
    expect(log.logEndOffset).toBe(6)
    expect(log.damage).toMatchObject([
      { startOffset: 4, endOffset: 5, startPosition: at[1], endPosition: at[2] },
    ])
    expect(log.recovery.damagedBelowMark).toBe(false)
    expect(torn(world)).toEqual([])
    const error = await readError(world, log, 4)
    expect(error?.code).toBe('DATA_DAMAGED')
    expect(error?.target).toBe(SEGMENT)
    expect(error?.message).toContain(`byte ${at[1]} (offset 4)`)
    expect((await world.records(log, 5)).map(({ offset }) => offset)).toEqual([5])
    expect((await world.settle(log.read({ offset: 0, maxBytes: 1 << 20 }))).nextOffset).toBe(4)
  })

  it('with the mark lost the same holds even after a power cut', async () => {
    const world = new LogWorld()
    const { at } = await logOf(world, 3, 3, { flushMessages: 1000, flushMs: 1_000_000 })
    damage(world, SEGMENT, (at[1] ?? 0) + 70)
    for (const path of MARKS) damage(world, path, 30)
    powerCutThatLosesNothing(world)
    const log = await world.reopened()
    expect(log.logEndOffset).toBe(6)
    expect(log.damage).toMatchObject([{ startOffset: 4, endOffset: 5 }])
  })

  it('one damaged copy of the mark does no harm', async () => {
    for (const path of MARKS) {
      const world = new LogWorld(path)
      const { log } = await logOf(world, 5, 0)
      append(log, ['more'])
      await world.settle(log.flush())
      await world.run(200)
      if (world.disk.stat(path)?.sizeBytes !== 0) damage(world, path, 30)
      world.crash('power')
      expect((await world.reopened()).logEndOffset).toBe(6)
    }
  })
})

describe('recovery: corruption below the mark', () => {
  it('cuts nothing, serves the rest, names file and offset, and says that the start was lossy', async () => {
    for (const kind of ['process', 'power'] as const) {
      const world = new LogWorld(kind)
      const { log } = await logOf(world, 8, 0)
      const batchBytes = log.sizeBytes / 8
      damage(world, SEGMENT, batchBytes * 3 + 70)
      world.crash(kind)
      const again = await world.reopened()
      expect(again.logEndOffset).toBe(8)
      expect(torn(world)).toEqual([])
      expect((await readError(world, again, 3))?.code).toBe('DATA_DAMAGED')
      expect(again.damage).toMatchObject([{ startOffset: 3, endOffset: 4 }])
      for (const offset of [0, 1, 2, 4, 5, 6, 7]) {
        expect((await world.settle(again.read({ offset, maxBytes: 1 }))).firstOffset).toBe(offset)
      }
      expect(world.said.join()).toContain('damaged bytes in a log')
    }
  })

  it('a log shorter than its mark keeps its end: offsets are never given twice', async () => {
    const world = new LogWorld()
    const { log } = await logOf(world, 6, 0)
    const file = world.disk.open(SEGMENT, 'write')
    file.truncate(log.sizeBytes / 2 + 10)
    powerCutThatLosesNothing(world)
    const again = await world.reopened()
    expect(again.logEndOffset).toBe(6)
    expect(again.recovery.damagedBelowMark).toBe(true)
    expect((await readError(world, again, 4))?.code).toBe('DATA_DAMAGED')
    append(again, ['seventh'])
    await world.settle(again.flush())
    expect((await world.records(again, 6)).map(({ value }) => value)).toEqual(['seventh'])
    world.crash('power')
    const third = await world.reopened()
    expect(third.logEndOffset).toBe(7)
    expect((await world.settle(third.read({ offset: 0, maxBytes: 1 << 20 }))).nextOffset).toBe(3)
    expect((await world.records(third, 6)).map(({ value }) => value)).toEqual(['seventh'])
  })

  it('a missing segment in the middle is damage, not a gap', async () => {
    const config = { segmentBytes: 250 }
    const world = new LogWorld()
    await logOf(world, 8, 0, config)
    world.disk.unlink(`${LOG_PATH}/00000000000000000004.log`)
    world.crash('process')
    const log = await world.reopened(config)
    expect(log.logEndOffset).toBe(8)
    expect((await readError(world, log, 4))?.code).toBe('DATA_DAMAGED')
    expect((await world.records(log, 6)).map(({ offset }) => offset)).toEqual([6, 7])
  })

  it('two segments swapped are found out (D6)', async () => {
    const config = { segmentBytes: 250 }
    const world = new LogWorld()
    await logOf(world, 8, 0, config)
    const name = (base: number): string => `${LOG_PATH}/0000000000000000000${base}.log`
    world.disk.rename(name(2), `${LOG_PATH}/x`)
    world.disk.rename(name(4), name(2))
    world.disk.rename(`${LOG_PATH}/x`, name(4))
    world.crash('process')
    const log = await world.reopened(config)
    for (const offset of [2, 3, 4, 5]) {
      expect((await readError(world, log, offset))?.code).toBe('DATA_DAMAGED')
    }
    expect((await world.records(log, 6)).map(({ offset }) => offset)).toEqual([6, 7])
  })

  it('a clean end says that all is durable: a changed file is damage', async () => {
    const world = new LogWorld()
    const { log } = await logOf(world, 4, 0)
    const size = log.sizeBytes
    await world.close()
    world.disk.open(SEGMENT, 'write').truncate(size - 5)
    const again = await world.reopened()
    expect(again.recovery).toMatchObject({ clean: false, damagedBelowMark: true })
    expect(again.logEndOffset).toBe(4)
  })
})

describe('recovery: bit flips anywhere', () => {
  /** What a reader may see: the right records, or an error; never other bytes. */
  async function readAll(world: LogWorld, log: PartitionLog, expected: readonly string[]) {
    let served = 0
    for (let offset = log.logStartOffset; offset < log.logEndOffset; offset++) {
      let slice: Awaited<ReturnType<PartitionLog['read']>>
      try {
        slice = await world.settle(log.read({ offset, maxBytes: 1 }))
      } catch (error) {
        if (!isStreamError(error, 'DATA_DAMAGED')) throw error
        continue
      }
      for (const record of recordsOf(slice.bytes[0] ?? null)) {
        expect([record.offset, record.value]).toEqual([record.offset, expected[record.offset]])
        if (record.offset === offset) served++
      }
    }
    return served
  }

  it.each(['process', 'power', 'clean'] as const)(
    'a flipped bit in a segment costs its batch, and only that one (%s)',
    async (how) => {
      const expected = values(0, 12, 20)
      const config = { segmentBytes: 500, indexIntervalBytes: 100 }
      const first = new LogWorld('flips')
      const log = await first.log(config)
      for (const value of expected) append(log, [value])
      await first.settle(log.flush())
      await first.run(200)
      if (how === 'clean') await first.close()
      const sizes = first.disk.files().filter(({ path }) => path.endsWith('.log'))
      for (const { path, sizeBytes } of sizes) {
        for (let position = 0; position < sizeBytes; position += 3) {
          const world = new LogWorld(`${path}${position}`)
          world.disk = first.disk.restart('process', world.time)
          world.disk.flipBit(path, position, position % 8)
          if (how === 'power') world.boot = 2
          const opened = await world.reopened(config)
          expect(opened.logEndOffset).toBe(12)
          expect(await readAll(world, opened, expected)).toBeGreaterThanOrEqual(11)
          first.disk = first.disk.restart('process', first.time)
        }
      }
    },
  )

  it('a flipped bit in any other file costs nothing, or names the file', async () => {
    const expected = values(0, 12, 20)
    const config = { segmentBytes: 500, indexIntervalBytes: 100 }
    const first = new LogWorld('others')
    const log = await first.log(config)
    await first.settle(log.beginEpoch(1))
    for (const value of expected) {
      log.append(
        [
          batchOf([value], {
            producerId: 7,
            producerEpoch: 0,
            baseSequence: Number(value.slice(1, 3).replace('.', '')),
          }),
        ],
        { leaderEpoch: 1 },
      )
    }
    await first.settle(log.flush())
    await first.settle(
      first.directory?.writeCheckpoint({ recoveryPoints: true }) ?? Promise.resolve(),
    )
    await first.run(200)
    const files = first.disk
      .files()
      .filter(({ path, sizeBytes }) => !path.endsWith('.log') && sizeBytes > 0)
    expect(files.length).toBeGreaterThan(8)
    for (const { path, sizeBytes } of files) {
      for (let position = 0; position < sizeBytes; position += path.includes('index') ? 1 : 3) {
        const world = new LogWorld(`${path}${position}`)
        world.disk = first.disk.restart('process', world.time)
        world.disk.flipBit(path, position, position % 8)
        try {
          const opened = await world.reopened(config)
          expect(opened.logEndOffset).toBe(12)
          expect(await readAll(world, opened, expected)).toBe(12)
          opened.verify()
        } catch (error) {
          if (!isStreamError(error, 'DATA_DIRECTORY_INVALID')) throw error
          expect(path).toMatch(/meta.properties|partition.metadata/)
        }
        first.disk = first.disk.restart('process', first.time)
      }
    }
  })
})

describe('recovery: leftovers and order', () => {
  it('a torn batch that lost its first sector may keep its CRC: it is torn all the same', async () => {
    const world = new LogWorld()
    const { at } = await logOf(world, 3, 2, { flushMessages: 1000, flushMs: 1_000_000 })
    // Base offset and length lie outside the CRC; the length by chance is right.
    const file = world.disk.open(SEGMENT, 'write')
    file.write(at[0] ?? 0, [new Uint8Array(8)])
    powerCutThatLosesNothing(world)
    const log = await world.reopened()
    expect(log.logEndOffset).toBe(3)
    expect(log.damage).toEqual([])
    expect(await world.values(log)).toEqual(values(0, 3, 40))
  })

  it('deleted segments that came back, and not all of them, are no hole in the log', async () => {
    const config = { segmentBytes: 250, fileDeleteDelayMs: 1_000_000, flushMessages: 1000 }
    const world = new LogWorld()
    const { log } = await logOf(world, 12, 0, config)
    await world.settle(log.deleteRecordsBefore(9))
    // The unlinked names of some are back, and the mark is an old one.
    for (const base of ['00', '02', '06']) {
      const name = `${LOG_PATH}/000000000000000000${base}.log`
      world.disk.rename(`${name}.deleted`, name)
    }
    for (const path of MARKS) world.disk.unlink(path)
    for (const path of world.disk
      .files()
      .filter(({ path }) => path.includes('stream-checkpoint'))) {
      expect(path.sizeBytes).toBeGreaterThan(0)
    }
    powerCutThatLosesNothing(world)
    const again = await world.reopened(config)
    expect([again.logStartOffset, again.logEndOffset]).toEqual([9, 12])
    expect(await world.values(again)).toEqual(values(9, 3, 40))
    expect(again.damage).toEqual([])
  })

  it('what a dead process cut stays cut after a power cut', async () => {
    for (let seed = 0; seed < 30; seed++) {
      const world = new LogWorld(seed)
      const { log } = await logOf(world, 10, 0, { segmentBytes: 250 })
      const cut = log.truncateTo(5)
      cut.catch(() => undefined)
      // It dies between the cut of the file and its sync.
      const isCut = (): boolean => (world.file(4)?.length ?? 0) < 200
      await world.world.run({ until: isCut })
      world.crash('process')
      const again = await world.reopened({ segmentBytes: 250 })
      const end = again.logEndOffset
      world.crash('power')
      expect((await world.reopened({ segmentBytes: 250 })).logEndOffset).toBe(end)
    }
  })

  it('a failed sync that the process did not live to note: the tail is written again before it counts', async () => {
    const world = new LogWorld(1, { keptSectors: 0 })
    const { log } = await logOf(world, 3, 1, { flushMessages: 1000, flushMs: 1_000_000 })
    world.disk.failsSync = (path) => path === SEGMENT
    // Dies before it can leave the note, the next operation behind the failed sync.
    world.disk.crashAtOperation = world.disk.operations + 2
    const outcome = log.flush().catch((error: unknown) => error)
    expect(await world.settle(outcome)).toMatchObject({ code: 'DISK_FAILED' })
    expect(world.disk.isDead).toBe(true)
    world.crash('process')
    world.disk.failsSync = () => false
    const restarted = await world.reopened()
    expect(world.directory?.failedBefore).toBe(false)
    expect(restarted.durableOffset).toBe(4)
    await world.run(200)
    world.crash('power')
    const again = await world.reopened()
    expect(again.damage).toEqual([])
    expect(await world.values(again)).toEqual(values(0, 4, 40))
  })

  it('a sync that fails when nobody is left to hear of it: the same', async () => {
    const world = new LogWorld(1, { keptSectors: 0 })
    const { log } = await logOf(world, 3, 1, { flushMessages: 1000, flushMs: 1_000_000 })
    world.disk.failsSync = (path) => path === SEGMENT
    log.flush().catch(() => undefined)
    world.crash('process')
    world.disk.failsSync = () => false
    await world.reopened()
    await world.run(200)
    world.crash('power')
    expect(await world.values(await world.reopened())).toEqual(values(0, 4, 40))
  })

  it('a clean end needs no scan, and the next crash is a crash again', async () => {
    const world = new LogWorld()
    const { log } = await logOf(world, 3, 0)
    expect(log.recovery.clean).toBe(true)
    await world.close()
    expect((await world.reopened()).recovery.clean).toBe(true)
    world.crash('process')
    expect((await world.reopened()).recovery.clean).toBe(false)
  })

  it('a second crash in the start after a power cut is still judged as a power cut', async () => {
    const world = new LogWorld()
    const { at } = await logOf(world, 3, 3, { flushMessages: 1000, flushMs: 1_000_000 })
    damage(world, SEGMENT, (at[1] ?? 0) + 70)
    powerCutThatLosesNothing(world)
    // This start dies before it has looked at the log.
    await world.open()
    world.crash('process')
    const log = await world.reopened()
    expect(log.damage).toEqual([])
    expect(log.logEndOffset).toBe(4)
  })

  it('the scan is bounded by the mark', async () => {
    const world = new LogWorld()
    await logOf(world, 200, 2)
    world.crash('process')
    const log = await world.reopened()
    expect(log.logEndOffset).toBe(202)
    expect(log.recovery.scannedBytes).toBeLessThan(log.sizeBytes / 20)
  })

  it('both checkpoints unreadable: the log start is that of the first segment, and nothing is lost', async () => {
    const world = new LogWorld()
    const { log } = await logOf(world, 5, 0)
    await world.settle(log.deleteRecordsBefore(2))
    await world.settle(
      world.directory?.writeCheckpoint({ recoveryPoints: true }) ?? Promise.resolve(),
    )
    for (const { path } of world.disk.files()) {
      if (path.includes('checkpoint') && !path.includes('epoch')) damage(world, path, 3)
    }
    world.crash('process')
    const again = await world.reopened()
    expect(again.logStartOffset).toBe(0)
    expect(await world.values(again)).toEqual(values(0, 5, 40))
    expect(world.said.join()).toContain('both checkpoints are unreadable')
  })
})
