/** Putting another replica's bytes in the place of damaged ones: every way it is done, and what is refused. */
import { describe, expect, it } from 'vitest'
import type { DamagedRange } from '../../../daemon/log/log-types.ts'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import type { FetchPiece } from '../../../daemon/log/repair.ts'
import { isStreamError, StreamError } from '../../../src/base/errors.ts'
import { baseOffsetAt, lastOffsetAt } from '../../../src/record/batch-layout.ts'
import { batchOf } from '../batches.ts'
import { append, LOG_PATH, LogWorld, values } from './log-world.ts'

const CONFIG = { segmentBytes: 1500, indexIntervalBytes: 300 }
const COUNT = 40

/** Two replicas with the same batches, as replication leaves them; `world` is the one that will be damaged. */
async function twins(count = COUNT, config = CONFIG) {
  const [world, other] = [new LogWorld(1), new LogWorld(2)]
  const [log, copy] = [await world.log(config), await other.log(config)]
  for (let index = 0; index < count; index += 1) {
    const epoch = index < count / 2 ? 0 : 3
    append(log, values(index, 1, 40), epoch)
    append(copy, values(index, 1, 40), epoch)
  }
  await world.settle(log.flush())
  await other.settle(copy.flush())
  await world.run(200)
  return { world, other, log, copy }
}

/** Pieces of the sound replica, of about `maxBytes`. All is read now: two worlds do not run at one time. */
async function from(other: LogWorld, copy: PartitionLog, maxBytes = 500): Promise<FetchPiece> {
  const batches: Uint8Array[] = []
  for (let offset = copy.logStartOffset; offset < copy.logEndOffset; ) {
    const slice = await other.settle(copy.read({ offset, maxBytes: 1 }))
    batches.push(...slice.bytes)
    offset = slice.nextOffset
  }
  return (offset, endOffset) => {
    const parts: Uint8Array[] = []
    let nextOffset = endOffset
    let bytes = 0
    for (const batch of batches) {
      if (lastOffsetAt(batch, 0) < offset) continue
      if (baseOffsetAt(batch, 0) >= endOffset) break
      if (bytes > 0 && bytes + batch.length > maxBytes) {
        nextOffset = baseOffsetAt(batch, 0)
        break
      }
      parts.push(batch)
      bytes += batch.length
    }
    return Promise.resolve({ records: Buffer.concat(parts), nextOffset })
  }
}

async function errorOf(world: LogWorld, promise: Promise<unknown>): Promise<string> {
  return world.settle(
    promise.then(
      () => 'none',
      (error: unknown) => (isStreamError(error) ? error.code : String(error)),
    ),
  )
}

function segmentFiles(world: LogWorld): string[] {
  return world.disk
    .files()
    .map(({ path }) => path)
    .filter((path) => path.startsWith(LOG_PATH) && path.endsWith('.log'))
}

function content(world: LogWorld): string {
  return segmentFiles(world)
    .map((path) => Buffer.from(world.disk.readFile(path) ?? []).toString('latin1'))
    .join('')
}

/** Reads everything until nothing new is found to be damaged. */
async function findDamage(world: LogWorld, log: PartitionLog): Promise<readonly DamagedRange[]> {
  for (let offset = log.logStartOffset; offset < log.logEndOffset; offset += 1) {
    await errorOf(world, log.read({ offset, maxBytes: 1 }))
  }
  return log.damage
}

async function repairAll(world: LogWorld, log: PartitionLog, fetch: FetchPiece): Promise<string[]> {
  const hows: string[] = []
  for (let round = 0; log.damage.length > 0 && round < 50; round += 1) {
    const range = log.damage[0] as DamagedRange
    hows.push((await world.settle(log.repair(range, fetch))).how)
  }
  return hows
}

function epochsOf(log: PartitionLog): unknown[] {
  return values(0, COUNT).map((_, offset) => log.epochAt(offset))
}

describe('repair of a damaged range', () => {
  it('bits flipped while it runs: overwritten with the same bytes, in every place of a segment', async () => {
    const { world, other, log, copy } = await twins()
    const before = content(world)
    await world.close()
    const reopened = await world.reopened(CONFIG)
    const paths = segmentFiles(world)
    let flips = 0
    for (const path of paths.slice(0, 4)) {
      const size = world.disk.stat(path)?.sizeBytes ?? 0
      for (const position of [3, 8, 12, 15, 16, 21, 60, Math.floor(size / 2), size - 5]) {
        world.disk.flipBit(path, position, position % 8)
        const damage = await findDamage(world, reopened)
        if (damage.length === 0) continue
        flips += 1
        expect(
          await errorOf(world, reopened.read({ offset: damage[0]?.startOffset ?? 0, maxBytes: 1 })),
        ).toBe('DATA_DAMAGED')
        expect(new Set(await repairAll(world, reopened, await from(other, copy)))).toEqual(
          new Set(['overwritten']),
        )
        expect(content(world)).toBe(before)
      }
    }
    expect(flips).toBeGreaterThan(20)
    expect(await world.values(reopened)).toEqual(values(0, COUNT, 40))
    reopened.verify()
    void log
  })

  it('what the disk cannot read is damage: written again in place, at the end of a file as a new one', async () => {
    const config = { segmentBytes: 20_000, indexIntervalBytes: 1000 }
    const count = 500
    const { world, other, copy } = await twins(count, config)
    const before = content(world)
    await world.close()
    const log = await world.reopened(config)
    const [path, ...others] = segmentFiles(world) as [string, ...string[]]
    expect(others.length).toBeGreaterThan(1)
    const size = world.disk.stat(path)?.sizeBytes ?? 0
    for (const [position, how] of [
      [6000, 'overwritten'],
      [0, 'overwritten'],
      [size - 1, 'rewritten'],
    ] as const) {
      world.disk.spoilPage(path, position)
      world.said.length = 0
      const damage = await findDamage(world, log)
      expect(damage).toHaveLength(1)
      const { startPosition, endPosition } = damage[0] as DamagedRange
      expect(startPosition).toBeLessThanOrEqual(position)
      expect(Math.min(endPosition, size)).toBeGreaterThan(position)
      expect(world.said.join('\n')).toMatch(/error the disk cannot read a part of a segment/)
      expect(await repairAll(world, log, await from(other, copy))).toEqual([how])
      expect(content(world)).toBe(before)
      expect(await world.values(log)).toEqual(values(0, count, 40))
      log.verify()
    }
  })

  it('a disk that reads nothing any more is no damage: the error stands', async () => {
    const config = { segmentBytes: 200_000, indexIntervalBytes: 1000 }
    const { world } = await twins(1500, config)
    await world.close()
    const log = await world.reopened(config)
    const path = segmentFiles(world)[0] as string
    const size = world.disk.stat(path)?.sizeBytes ?? 0
    expect(size).toBeGreaterThan(100_000)
    for (let position = 0; position < size; position += 4096) world.disk.spoilPage(path, position)
    expect(await errorOf(world, log.read({ offset: 0, maxBytes: 1_000_000 }))).toBe('DISK_FAILED')
    expect(log.damage).toEqual([])
  })

  it('found by the scan of a start, below the mark: the same, and producers are known again', async () => {
    const { world, other, copy } = await twins(6)
    const path = `${LOG_PATH}/00000000000000000000.log`
    world.crash('power')
    world.disk.flipBit(path, 200, 2)
    // Without the mark everything is scanned.
    world.disk.unlink('/data/durable-marks.a')
    world.disk.unlink('/data/durable-marks.b')
    const log = await world.reopened(CONFIG)
    expect(log.damage).toHaveLength(1)
    expect(await repairAll(world, log, await from(other, copy))).toEqual(['overwritten'])
    expect(await world.values(log)).toEqual(values(0, 6, 40))
    await world.close()
    expect(await world.values(await world.reopened(CONFIG))).toEqual(values(0, 6, 40))
  })

  it('without the file of the epochs: what is sound is read, and once it is whole they are known again', async () => {
    const { world, other, copy } = await twins()
    const known = epochsOf(copy)
    const paths = segmentFiles(world)
    const sizes = paths.map((path) => world.disk.stat(path)?.sizeBytes ?? 0)
    await world.close()
    world.disk.unlink(`${LOG_PATH}/leader-epoch-checkpoint`)
    // In the first segment, and where the second epoch begins: behind both nothing of a segment is seen.
    const middle = paths[Math.floor(paths.length / 2)] as string
    world.disk.flipBit(paths[0] as string, 16, 0)
    world.disk.flipBit(middle, 16, 0)
    const reopened = await world.reopened(CONFIG)
    const damage = await findDamage(world, reopened)
    expect(damage).toHaveLength(2)
    expect(Math.max(...damage.map(({ endPosition }) => endPosition))).toBeLessThan(
      Math.max(...sizes),
    )
    await repairAll(world, reopened, await from(other, copy))
    expect(await world.values(reopened)).toEqual(values(0, COUNT, 40))
    expect(epochsOf(reopened)).toEqual(known)
    await world.close()
    expect(epochsOf(await world.reopened(CONFIG))).toEqual(known)
  })

  it('a header that is wrong below the mark is found by a start as what it is, not the batch behind it', async () => {
    // Of the first batch: its offset, its length, its last offset.
    for (const position of [7, 11, 26]) {
      const { world, other, copy } = await twins(4, { ...CONFIG, segmentBytes: 100_000 })
      const before = content(world)
      world.crash('process')
      world.disk.flipBit(segmentFiles(world)[0] as string, position, 3)
      const reopened = await world.reopened({ ...CONFIG, segmentBytes: 100_000 })
      expect((await findDamage(world, reopened)).map(({ startOffset }) => startOffset)).toEqual([0])
      await repairAll(world, reopened, await from(other, copy))
      expect(content(world)).toBe(before)
      expect(await world.values(reopened)).toEqual(values(0, 4, 40))
    }
  })

  it('a leader epoch that was changed below the mark is found by a start in its own batch', async () => {
    // Upwards and downwards, in the first batch, in the last of an epoch, in the first and in the last of the next one.
    for (const at of [0, 1, 2, 3]) {
      for (const bit of [0, 3]) {
        const { world, other, copy } = await twins(4, { ...CONFIG, segmentBytes: 100_000 })
        const before = content(world)
        const batchBytes = before.length / 4
        world.crash('process')
        world.disk.flipBit(segmentFiles(world)[0] as string, at * batchBytes + 15, bit)
        const reopened = await world.reopened({ ...CONFIG, segmentBytes: 100_000 })
        expect(
          reopened.damage.map(({ startOffset, endOffset }) => [startOffset, endOffset]),
        ).toEqual([[at, at + 1]])
        await repairAll(world, reopened, await from(other, copy))
        expect(content(world)).toBe(before)
        expect(epochsOf(reopened)).toEqual(epochsOf(copy))
        await world.close()
        expect((await world.reopened({ ...CONFIG, segmentBytes: 100_000 })).damage).toEqual([])
      }
    }
  })

  it('what a producer is said to have written is not believed of a header whose bits have changed', async () => {
    // The id's, the epoch's and the sequence's bytes, of the first batch, of one between and of the last; whether it is transactional.
    for (const at of [0, 2, 3]) {
      for (const [position, bit] of [
        [22, 4],
        [43, 2],
        [43, 7],
        [50, 2],
        [51, 2],
        [52, 0],
        [53, 7],
        [56, 1],
      ] as const) {
        const { world, other } = { world: new LogWorld(1), other: new LogWorld(2) }
        const [log, copy] = [await world.log(CONFIG), await other.log(CONFIG)]
        for (const each of [log, copy]) {
          for (let baseSequence = 0; baseSequence < 4; baseSequence += 1) {
            const producer = { producerId: 7, producerEpoch: 0, baseSequence }
            each.append([batchOf([`value ${baseSequence}`], producer)], { leaderEpoch: 0 })
          }
        }
        await world.settle(log.flush())
        await other.settle(copy.flush())
        await world.run(200)
        const known = log.activeProducers()
        const batchBytes = content(world).length / 4
        world.crash('process')
        const path = segmentFiles(world)[0] as string
        world.disk.flipBit(path, at * batchBytes + position, bit)
        const reopened = await world.reopened(CONFIG)
        expect(reopened.damage.map(({ startOffset }) => startOffset)).toEqual([at])
        expect(reopened.activeProducers().map(({ producerId }) => producerId)).toEqual([7])
        await repairAll(world, reopened, await from(other, copy))
        expect(reopened.activeProducers()).toEqual(known)
      }
    }
  })

  it('a log that is gone with its epochs comes back with them', async () => {
    const { world, other, copy } = await twins()
    const known = epochsOf(copy)
    await world.close()
    for (const { path } of world.disk.files()) {
      if (path.startsWith(LOG_PATH) && !path.endsWith('partition.metadata')) world.disk.unlink(path)
    }
    const reopened = await world.reopened(CONFIG)
    expect(reopened.damage).toHaveLength(1)
    await repairAll(world, reopened, await from(other, copy))
    expect(await world.values(reopened)).toEqual(values(0, COUNT, 40))
    expect(epochsOf(reopened)).toEqual(known)
  })

  it('an epoch that was changed in one batch does not outlaw the others where their file is missing', async () => {
    const { world, other, copy } = await twins()
    const known = epochsOf(copy)
    await world.close()
    world.disk.unlink(`${LOG_PATH}/leader-epoch-checkpoint`)
    world.disk.flipBit(segmentFiles(world)[0] as string, 12, 5)
    const reopened = await world.reopened(CONFIG)
    expect(epochsOf(reopened)).toEqual(known)
    expect(await findDamage(world, reopened)).toHaveLength(1)
    await repairAll(world, reopened, await from(other, copy))
    expect(await world.values(reopened)).toEqual(values(0, COUNT, 40))
  })

  it('a segment that is missing, or cut short, is put back; the next start finds nothing', async () => {
    const { world, other, copy } = await twins()
    await world.close()
    const [, second, third] = segmentFiles(world) as [string, string, string]
    world.disk.unlink(second)
    const file = world.disk.open(third, 'write')
    file.truncate(Math.floor(file.sizeBytes() / 2))
    file.close()
    const log = await world.reopened(CONFIG)
    const damage = await findDamage(world, log)
    expect(damage.length).toBeGreaterThan(1)
    const hows = await repairAll(world, log, await from(other, copy))
    expect(hows).toContain('inserted')
    expect(await world.values(log)).toEqual(values(0, COUNT, 40))
    log.verify()
    world.crash('power')
    const again = await world.reopened(CONFIG)
    expect(await findDamage(world, again)).toEqual([])
    expect(await world.values(again)).toEqual(values(0, COUNT, 40))
  })

  it('a tail that was durable and is gone comes back in pieces of a segment', async () => {
    const { world, other, copy } = await twins()
    await world.close(false)
    for (const path of segmentFiles(world).slice(1)) world.disk.unlink(path)
    const log = await world.reopened(CONFIG)
    expect(log.logEndOffset).toBe(COUNT)
    append(log, ['next'], 3)
    const hows = await repairAll(world, log, await from(other, copy))
    expect(hows.length).toBeGreaterThan(1)
    expect(await world.values(log)).toEqual([...values(0, COUNT, 40), 'next'])
  })

  it('a copy that was compacted meanwhile does not fit byte for byte: the segment is written anew', async () => {
    const config = { ...CONFIG, cleanupCompact: true, minCleanableDirtyRatio: 0 }
    const [world, other] = [new LogWorld(1), new LogWorld(2)]
    const [log, copy] = [await world.log(config), await other.log(config)]
    for (const each of [log, copy]) {
      for (let index = 0; index < COUNT; index += 1) {
        const pairs = [0, 1, 2].map((at) => ({
          key: `k${(index + at) % 5}`,
          value: `v${index}.${at}`,
        }))
        each.append([batchOf(pairs)], { leaderEpoch: 0 })
      }
    }
    await world.settle(log.flush())
    await other.settle(copy.flush())
    const options = (each: LogWorld) => ({ nowMs: each.time.wallMs(), lastStableOffset: COUNT * 3 })
    await other.settle(copy.compact(options(other)))
    await world.settle(log.compact(options(world)))
    await world.close()
    const reopened = await world.reopened(config)
    // This replica has another idea of what a segment is: its batches are cut otherwise.
    const first = segmentFiles(world).find((path) => (world.disk.stat(path)?.sizeBytes ?? 0) > 70)
    world.disk.flipBit(first as string, 70, 1)
    const damage = await findDamage(world, reopened)
    expect(damage).toHaveLength(1)
    const { startOffset, endOffset } = damage[0] as DamagedRange
    const fetch: FetchPiece = () =>
      Promise.resolve({ records: new Uint8Array(0), nextOffset: endOffset })
    const result = await world.settle(reopened.repair(damage[0] as DamagedRange, fetch))
    expect(result.how).toBe('rewritten')
    expect(reopened.damage).toEqual([])
    const offsets = (await world.records(reopened)).map((record) => record.offset)
    expect(offsets.every((offset) => offset < startOffset || offset >= endOffset)).toBe(true)
    expect(offsets.length).toBeGreaterThan(0)
    await world.close()
    expect((await world.records(await world.reopened(config))).map(({ offset }) => offset)).toEqual(
      offsets,
    )
  })

  it('what does not fit is refused and the range stays quarantined', async () => {
    const { world, other, log, copy } = await twins()
    await world.close()
    const reopened = await world.reopened(CONFIG)
    world.disk.flipBit(segmentFiles(world)[0] as string, 70, 1)
    const [range] = (await findDamage(world, reopened)) as [DamagedRange]
    const good = await from(other, copy)
    const spoilt =
      (spoil: (bytes: Uint8Array) => Uint8Array): FetchPiece =>
      async (offset, endOffset) => {
        const piece = await good(offset, endOffset)
        return { ...piece, records: spoil(piece.records.slice()) }
      }
    const bad: FetchPiece[] = [
      spoilt((bytes) => bytes.fill(bytes[80] === 1 ? 2 : 1, 80, 81)),
      spoilt((bytes) => bytes.subarray(0, bytes.length - 3)),
      // Of another epoch: outside of the checksum, and known here.
      spoilt((bytes) => bytes.fill(9, 15, 16)),
      (offset, endOffset) => good(offset + 1, endOffset + 1),
      spoilt(() => new Uint8Array(0)),
    ]
    for (const fetch of bad) {
      expect(await errorOf(world, reopened.repair(range, fetch))).toBe('CORRUPT_BATCH')
      expect(reopened.damage).toEqual([range])
    }
    const unreachable: FetchPiece = () => Promise.reject(new StreamError('UNREACHABLE', 'away'))
    expect(await errorOf(world, reopened.repair(range, unreachable))).toBe('UNREACHABLE')
    expect(world.disk.files().some(({ path }) => path.endsWith('.repair'))).toBe(false)
    expect(await errorOf(world, reopened.read({ offset: range.startOffset, maxBytes: 1 }))).toBe(
      'DATA_DAMAGED',
    )
    void log
  })

  it('a power cut at any operation of a repair: damage, or the right bytes', async () => {
    for (let at = 1; at < 40; at += 1) {
      const { world, other, copy } = await twins(20)
      await world.close()
      const [first, second] = segmentFiles(world) as [string, string]
      world.disk.flipBit(first, 100, 1)
      world.disk.unlink(second)
      const log = await world.reopened(CONFIG)
      await findDamage(world, log)
      world.disk.crashAtOperation = world.disk.operations + at
      const fetch = await from(other, copy)
      let isDone = false
      const repairInside = async (): Promise<void> => {
        while (log.damage.length > 0) await log.repair(log.damage[0] as DamagedRange, fetch)
      }
      repairInside().then(
        () => {
          isDone = true
        },
        () => undefined,
      )
      await world.world.run({ until: () => isDone || world.disk.isDead })
      if (!world.disk.isDead) break
      world.crash('power')
      const again = await world.reopened(CONFIG)
      await findDamage(world, again)
      for (const range of again.damage) expect(range.endOffset).toBeGreaterThan(range.startOffset)
      await repairAll(world, again, await from(other, copy))
      expect(await world.values(again)).toEqual(values(0, 20, 40))
    }
  })
})
