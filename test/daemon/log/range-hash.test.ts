/** What the scrubber hands over of a log, and what a log says of a range, are the hashes of the same batches. */
import { describe, expect, it } from 'vitest'
import type { DamagedRange } from '../../../daemon/log/log-types.ts'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import type { SoundRange } from '../../../daemon/log/range-hash.ts'
import { type RangeComparer, Scrubber } from '../../../daemon/log/scrubber.ts'
import { batchOf } from '../batches.ts'
import { append, LOG_PATH, LogWorld } from './log-world.ts'

const SMALL = { segmentBytes: 4000, indexIntervalBytes: 500 }

async function filled(world: LogWorld, batches = 60): Promise<PartitionLog> {
  const log = await world.log(SMALL)
  for (let at = 0; at < batches; at += 1) append(log, [`${at}`.padStart(300, 'v')])
  await world.settle(log.flush())
  return log
}

async function scrubbed(
  world: LogWorld,
  log: PartitionLog,
  { from = 0, wants = () => true }: { from?: number; wants?: (piece: number) => boolean } = {},
): Promise<SoundRange[]> {
  const ranges: SoundRange[] = []
  const pieces = log.scrub(from, (range) => ranges.push(range))
  for (let piece = 0; !(await world.settle(pieces.next(wants(piece)))).isDone; piece += 1);
  return ranges
}

/** Each is what the log itself says of those offsets; none lies across another. */
async function expectTrue(world: LogWorld, log: PartitionLog, ranges: readonly SoundRange[]) {
  let before = 0
  for (const { startOffset, endOffset, sizeBytes, checksum, generation } of ranges) {
    expect(startOffset).toBeGreaterThanOrEqual(before)
    before = endOffset
    const wanted = { startOffset, endOffset, maxBytes: 1 << 30 }
    const told = { sizeBytes, checksum, nextOffset: endOffset }
    expect(await world.settle(log.hashRange(wanted))).toEqual(told)
    expect(generation).toBe(log.generation)
  }
}

function spansOf(ranges: readonly SoundRange[]): number[][] {
  return ranges.map(({ startOffset, endOffset }) => [startOffset, endOffset])
}

describe('what a scrub hands over', () => {
  it('is all that is durable, over the bounds of segments, in ranges of a megabyte', async () => {
    const world = new LogWorld()
    const log = await filled(world)
    const ranges = await scrubbed(world, log)
    expect(spansOf(ranges)).toEqual([[0, 60]])
    await expectTrue(world, log, ranges)
    for (let at = 0; at < 25; at += 1) append(log, ['x'.repeat(100_000)])
    append(log, ['y'.repeat(1_040_000)])
    append(log, ['z'])
    await world.settle(log.flush())
    const more = await scrubbed(world, log)
    expect(spansOf(more)).toEqual([
      [0, 70],
      [70, 80],
      [80, 85],
      [85, 87],
    ])
    await expectTrue(world, log, more)
  })

  it('begins where the scrub does, at a batch, and above the log start', async () => {
    const world = new LogWorld()
    const log = await filled(world, 30)
    log.append([batchOf(['a', 'b', 'c'])], { leaderEpoch: 0 })
    log.append([batchOf(['d'])], { leaderEpoch: 0 })
    await world.settle(log.flush())
    expect(spansOf(await scrubbed(world, log, { from: 7 }))).toEqual([[7, 34]])
    expect(spansOf(await scrubbed(world, log, { from: 31 }))).toEqual([[33, 34]])
    await world.settle(log.deleteRecordsBefore(32))
    expect(spansOf(await scrubbed(world, log))).toEqual([[33, 34]])
  })

  it('ends at damage, and goes on behind it', async () => {
    const world = new LogWorld()
    const log = await filled(world)
    const path = world.disk
      .files()
      .map((file) => file.path)
      .filter((each) => each.startsWith(LOG_PATH) && each.endsWith('.log'))[2] as string
    world.disk.flipBit(path, 1000, 3)
    await scrubbed(world, log)
    const [damage] = log.damage as readonly [DamagedRange]
    const ranges = await scrubbed(world, log)
    expect(spansOf(ranges)).toEqual([
      [0, damage.startOffset],
      [damage.endOffset, 60],
    ])
    await expectTrue(world, log, ranges)
  })

  it('leaves out what compaction has made, and gaps', async () => {
    const world = new LogWorld()
    const log = await world.log({ ...SMALL, segmentBytes: 600, cleanupCompact: true })
    for (let at = 0; at < 40; at += 1) {
      const records = [
        { key: `k${at % 7}`, value: 'v'.repeat(60) },
        { key: `own ${at}`, value: at % 5 === 0 ? null : 'w' },
      ]
      log.append([batchOf(records)], { leaderEpoch: 0 })
    }
    await world.settle(log.flush())
    expect(spansOf(await scrubbed(world, log))).toEqual([[0, 80]])
    const lastStableOffset = log.durableOffset
    await world.settle(log.compact({ nowMs: world.time.wallMs(), lastStableOffset }))
    const ranges = await scrubbed(world, log)
    await expectTrue(world, log, ranges)
    const kept = ranges.reduce((sum, range) => sum + range.endOffset - range.startOffset, 0)
    expect(kept).toBeGreaterThan(0)
    expect(kept).toBeLessThan(30)
  })

  it('is what nobody wanted in between only where it was read anew', async () => {
    const world = new LogWorld()
    const log = await filled(world)
    expect(await scrubbed(world, log, { wants: () => false })).toEqual([])
    const ranges = await scrubbed(world, log, { wants: (piece) => piece > 3 })
    expect(ranges).toHaveLength(1)
    expect(ranges[0]?.startOffset).toBeGreaterThan(0)
    expect(ranges[0]?.endOffset).toBe(60)
    await expectTrue(world, log, ranges)
  })

  it('is true of the log whatever goes on meanwhile', async () => {
    for (let seed = 1; seed <= 30; seed += 1) {
      const world = new LogWorld(seed)
      const log = await filled(world)
      log.applyConfig({ ...log.config, cleanupCompact: seed % 3 === 0 })
      const random = world.world.random.fork('work')
      const ranges: SoundRange[] = []
      const pieces = log.scrub(0, (range) => ranges.push(range))
      for (let isDone = false; !isDone; ) {
        isDone = (await world.settle(pieces.next(true))).isDone
        if (random.chance(0.1)) append(log, ['w'.repeat(random.integer(900))])
        if (random.chance(0.05)) {
          const least = Math.max(log.logStartOffset, log.logEndOffset - 20)
          await world.settle(log.truncateTo(least + random.integer(log.logEndOffset - least + 1)))
        }
        if (random.chance(0.05)) {
          const span = log.durableOffset - log.logStartOffset
          await world.settle(log.deleteRecordsBefore(log.logStartOffset + random.integer(span + 1)))
        }
        if (random.chance(0.05)) {
          const lastStableOffset = log.durableOffset
          await world.settle(log.compact({ nowMs: world.time.wallMs(), lastStableOffset }))
        }
        const now = ranges.filter(
          (range) => range.generation === log.generation && range.startOffset >= log.logStartOffset,
        )
        await expectTrue(world, log, now)
      }
    }
  })
})

describe('the scrubber', () => {
  it('reads nothing while there is enough to compare, and hands over what is wanted', async () => {
    const world = new LogWorld()
    const log = await filled(world)
    const taken: [PartitionLog, SoundRange][] = []
    let isBusy = true
    const comparer: RangeComparer = {
      get isBusy() {
        return isBusy
      },
      wants: () => true,
      take: (...given) => taken.push(given),
    }
    let isThere = false
    const { time, disk, directory } = world
    const none = () => {}
    const scrubber = new Scrubber({
      time,
      disk,
      log: { debug: none, info: none, warn: none, error: none },
      directory: directory as NonNullable<typeof directory>,
      settings: () => ({ intervalMs: 1000, bytesPerSecondMax: 1_000_000 }),
      comparer: () => (isThere ? comparer : undefined),
    })
    scrubber.start()
    await world.run(2500)
    expect(scrubber.status.endedMs).toBeDefined()
    expect(taken).toEqual([])
    isThere = true
    const { endedMs } = scrubber.status
    await world.run(10_000)
    expect(scrubber.status.endedMs).toBe(endedMs)
    isBusy = false
    await world.run(2000)
    await world.settle(scrubber.stop())
    expect(scrubber.status.endedMs).toBeGreaterThan(endedMs as number)
    expect(taken[0]?.[0]).toBe(log)
    expect(taken[0]?.[1]).toMatchObject({ startOffset: 0, endOffset: 60 })
  })
})
