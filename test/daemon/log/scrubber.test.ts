/** Damage where nobody reads is found by the scrubber, slowly, and whatever goes on meanwhile. */
import { describe, expect, it } from 'vitest'
import { encodeScrub, parseScrub, SCRUB_NAME } from '../../../daemon/log/directory-files.ts'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { Scrubber, ScrubPace, type ScrubSettings } from '../../../daemon/log/scrubber.ts'
import type { DiskFile } from '../../../src/ports/disk.ts'
import { append, LOG_PATH, LogWorld, PATH } from './log-world.ts'

const SMALL = { segmentBytes: 4000, indexIntervalBytes: 500 }
const SETTINGS: ScrubSettings = { intervalMs: 10_000, bytesPerSecondMax: 1_000_000 }

async function filled(world: LogWorld, batches = 60, partition = 0): Promise<PartitionLog> {
  const log = await world.log(SMALL, partition)
  for (let at = 0; at < batches; at += 1) append(log, [`${at}`.padStart(300, 'v')])
  await world.settle(log.flush())
  return log
}

function scrubberOf(world: LogWorld, settings: Partial<ScrubSettings> = {}): Scrubber {
  const say = (level: string) => (message: string, fields?: object) => {
    world.said.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`)
  }
  const log = { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') }
  const { time, disk, directory } = world
  if (directory === undefined) throw new Error('no directory is open')
  return new Scrubber({
    time,
    disk,
    log,
    directory,
    settings: () => ({ ...SETTINGS, ...settings }),
  })
}

function segments(world: LogWorld): string[] {
  return world.disk
    .files()
    .map(({ path }) => path)
    .filter((path) => path.startsWith(LOG_PATH) && path.endsWith('.log'))
}

function flip(world: LogWorld, segment: number, position = 1000): void {
  world.disk.flipBit(segments(world)[segment] as string, position, 3)
}

async function pass(world: LogWorld, settings: Partial<ScrubSettings> = {}): Promise<Scrubber> {
  const scrubber = scrubberOf(world, { intervalMs: 1000, ...settings })
  scrubber.start()
  await world.run(1900)
  await world.settle(scrubber.stop())
  return scrubber
}

describe('a pass', () => {
  it('finds a flipped byte in a sealed segment that nobody reads, though its records are in memory', async () => {
    const world = new LogWorld()
    const log = await filled(world)
    flip(world, 2)
    const scrubber = await pass(world)
    expect(log.damage).toHaveLength(1)
    expect(log.damage[0]?.file).toBe(segments(world)[2])
    expect(world.said.filter((line) => line.includes('damaged bytes in a log'))).toHaveLength(1)
    expect(scrubber.status).toEqual({ endedMs: expect.any(Number), percent: undefined })
    const { startOffset, endOffset } = log.damage[0] as { startOffset: number; endOffset: number }
    expect(endOffset - startOffset).toBe(1)
    await expect(world.settle(log.read({ offset: endOffset, maxBytes: 1 }))).resolves.toMatchObject(
      { firstOffset: endOffset },
    )
  })

  it('finds every damage of a log, also in the active segment, and says each once', async () => {
    const world = new LogWorld()
    const log = await filled(world)
    const count = segments(world).length
    for (let segment = 0; segment < count; segment += 1) flip(world, segment, 200)
    await pass(world)
    await pass(world)
    expect(log.damage).toHaveLength(count)
    expect(world.said.filter((line) => line.includes('damaged bytes in a log'))).toHaveLength(count)
  })

  it('finds a leader epoch that has flipped, and records that are missing at the end of a segment', async () => {
    const world = new LogWorld()
    const log = await filled(world)
    // The leader epoch stands behind base offset and length, outside the checksum.
    world.disk.flipBit(segments(world)[1] as string, 15, 0)
    const path = segments(world)[3] as string
    const whole = world.disk.stat(path)?.sizeBytes ?? 0
    const file = world.disk.open(path, 'write')
    file.truncate(whole - 300)
    file.close()
    await pass(world)
    expect(log.damage.map(({ detail }) => detail)).toEqual([
      expect.stringContaining('leader epoch 1 where 0 was in force'),
      expect.any(String),
    ])
    expect(log.damage[1]?.file).toBe(path)
  })

  it('finds nothing where nothing is wrong, while the log is written, cut, trimmed and compacted', async () => {
    for (let seed = 1; seed <= 20; seed += 1) {
      const world = new LogWorld(seed)
      const log = await filled(world)
      log.applyConfig({ ...log.config, cleanupCompact: seed % 2 === 0 })
      const scrubber = scrubberOf(world, { intervalMs: 100, bytesPerSecondMax: 50_000 })
      scrubber.start()
      const random = world.world.random.fork('work')
      for (let step = 0; step < 60; step += 1) {
        await world.run(random.integer(20))
        for (let at = random.integer(4); at > 0; at -= 1)
          append(log, ['w'.repeat(random.integer(900))])
        if (random.chance(0.1)) await world.settle(log.flush())
        if (random.chance(0.1)) {
          const least = Math.max(log.logStartOffset, log.logEndOffset - 20)
          await world.settle(log.truncateTo(least + random.integer(log.logEndOffset - least + 1)))
        }
        if (random.chance(0.1)) {
          const span = log.durableOffset - log.logStartOffset
          await world.settle(log.deleteRecordsBefore(log.logStartOffset + random.integer(span + 1)))
        }
        if (random.chance(0.2)) {
          await world.settle(
            log.compact({ nowMs: world.time.wallMs(), lastStableOffset: log.durableOffset }),
          )
        }
      }
      await world.settle(scrubber.stop())
      expect(log.damage).toEqual([])
      expect(scrubber.status.endedMs).toBeDefined()
      expect(world.said.filter((line) => /^(error|warn)/.test(line))).toEqual([])
    }
  })

  it('looks twice: bytes that were wrong on their way only are no damage', async () => {
    const world = new LogWorld()
    const log = await filled(world)
    const { disk } = world
    const open = disk.open.bind(disk)
    let faults = 0
    disk.open = (path, mode) => {
      const file = open(path, mode)
      if (path !== segments(world)[2]) return file
      const { readAsync } = file
      file.readAsync = async (position: number, target: Uint8Array) => {
        const count = await readAsync.call(file, position, target)
        if (faults++ === 0) target[200] = (target[200] ?? 0) ^ 1
        return count
      }
      return file as DiskFile
    }
    await world.close()
    const again = await world.reopened(SMALL)
    faults = 0
    await pass(world)
    expect(faults).toBeGreaterThan(1)
    expect(world.directory?.log('t', 0)?.damage).toEqual([])
    // So does a reader, which judges what the scrubber suspects.
    faults = 0
    const offset = (again.core.segments[2] as { baseOffset: number }).baseOffset
    const slice = await world.settle(again.read({ offset, maxBytes: 1 }))
    expect(slice.firstOffset).toBe(offset)
    expect(again.damage).toEqual([])
    expect(log).not.toBe(world.directory?.log('t', 0))
  })

  it('finds a page that the disk cannot read, and says which', async () => {
    const world = new LogWorld()
    const log = await filled(world)
    const path = segments(world)[2] as string
    world.disk.spoilPage(path, 1000)
    await pass(world)
    expect(log.damage.map(({ file }) => file)).toEqual([path])
    const said = world.said.filter((line) => line.includes('the disk cannot read'))
    expect(said.length).toBeGreaterThan(0)
    expect(said[0]).toContain(path)
  })

  it('leaves a segment that the disk cannot read, says so, and reads on behind it', async () => {
    const world = new LogWorld()
    const log = await filled(world)
    const paths = segments(world)
    const { disk } = world
    const open = disk.open.bind(disk)
    disk.open = (path, mode) => {
      const file = open(path, mode)
      if (path === paths[1]) file.readAsync = () => Promise.reject(new Error('EIO'))
      return file
    }
    await world.close()
    const again = await world.reopened(SMALL)
    expect(again).not.toBe(log)
    flip(world, 2)
    await pass(world)
    expect(again.damage.map(({ file }) => file)).toEqual([paths[2]])
    expect(world.said.some((line) => /^error a log could not be scrubbed .*EIO/.test(line))).toBe(
      true,
    )
  })
})

describe('its pace', () => {
  it('keeps the rate over all logs', async () => {
    const world = new LogWorld()
    let bytes = 0
    for (const partition of [0, 1, 2]) bytes += (await filled(world, 60, partition)).sizeBytes
    const beganMs = world.world.now
    const scrubber = scrubberOf(world, { intervalMs: 0, bytesPerSecondMax: 10_000 })
    scrubber.start()
    const percents: number[] = []
    while (scrubber.status.endedMs === undefined) {
      await world.run(500)
      if (scrubber.status.endedMs === undefined) percents.push(scrubber.status.percent ?? 0)
    }
    await world.settle(scrubber.stop())
    const tookMs = world.world.now - beganMs
    expect(tookMs).toBeGreaterThan((bytes * 1000) / 10_000 - 500)
    expect(tookMs).toBeLessThan((bytes * 1100) / 10_000 + 1500)
    expect(percents).toEqual(percents.toSorted((a, b) => a - b))
    expect(percents.some((percent) => percent > 20 && percent < 80)).toBe(true)
  })

  it('rests nine times as long as a read took, and never less than the rate asks for', () => {
    const pace = new ScrubPace()
    const piece = { bytes: 1000, readMs: 2, bytesPerSecondMax: 1_000_000 }
    expect(pace.pauseAfter(piece)).toBe(18)
    expect(pace.pauseAfter({ ...piece, bytes: 1_000_000 })).toBe(998)
    expect(pace.pauseAfter({ ...piece, bytes: 0, readMs: 0 })).toBe(1)
  })

  it('lets others go first while the loop is late, longer and longer, but never for good', () => {
    const pace = new ScrubPace()
    expect(pace.yieldFor(5)).toBe(0)
    const pauses = Array.from({ length: 9 }, () => pace.yieldFor(50))
    expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 0, 100])
    expect(pace.yieldFor(1)).toBe(0)
    expect(pace.yieldFor(50)).toBe(100)
  })

  it('begins passes an interval apart, none where it is off; settings count at once', async () => {
    const world = new LogWorld()
    await filled(world, 3)
    let intervalMs = -1
    const scrubber = scrubberOf(world)
    const changing = new Scrubber({
      time: world.time,
      disk: world.disk,
      log: {
        debug: () => {},
        info: (what) => world.said.push(what),
        warn: () => {},
        error: () => {},
      },
      directory: world.directory as NonNullable<typeof world.directory>,
      settings: () => ({ ...SETTINGS, intervalMs }),
    })
    await world.settle(scrubber.stop())
    changing.start()
    await world.run(3_600_000)
    expect(changing.status).toEqual({ endedMs: undefined, percent: undefined })
    intervalMs = 100_000
    await world.run(1_000_000)
    await world.settle(changing.stop())
    expect(world.said.filter((line) => line.includes('have been scrubbed'))).toHaveLength(10)
    await world.run(1_000_000)
    expect(world.said.filter((line) => line.includes('have been scrubbed'))).toHaveLength(10)
  })
})

describe('its place', () => {
  it('is kept over a restart: what was read is not read again in this pass', async () => {
    const world = new LogWorld()
    for (const partition of [0, 1, 2]) await filled(world, 60, partition)
    const before = scrubberOf(world, { intervalMs: 0, bytesPerSecondMax: 10_000 })
    before.start()
    await world.run(2700)
    await world.settle(before.stop())
    const written = parseScrub(world.disk.readFile(`${PATH}/${SCRUB_NAME}`) ?? new Uint8Array(0))
    expect(written?.place?.name).toBe('t-1')
    expect(written?.place?.offset).toBeGreaterThan(0)
    await world.close()
    for (const partition of [0, 1, 2]) await world.log(SMALL, partition)
    const after = scrubberOf(world, { intervalMs: 0, bytesPerSecondMax: 10_000 })
    after.start()
    const beganMs = world.world.now
    while (after.status.endedMs === undefined) await world.run(100)
    await world.settle(after.stop())
    expect(world.world.now - beganMs).toBeLessThan(4500)
  })

  it('that cannot be read begins the pass anew; a damaged record is none', async () => {
    const record = { beganMs: 5, endedMs: 3, place: { name: 't-1', offset: 77 } }
    const bytes = encodeScrub(record)
    expect(parseScrub(bytes)).toEqual(record)
    expect(parseScrub(encodeScrub({ beganMs: 5, endedMs: 0, place: undefined }))).toEqual({
      beganMs: 5,
      endedMs: 0,
      place: undefined,
    })
    for (let at = 0; at < bytes.length; at += 1) {
      const torn = bytes.slice()
      torn[at] = (torn[at] ?? 0) ^ 4
      expect(parseScrub(torn)).toBeUndefined()
      expect(parseScrub(bytes.subarray(0, at))).toBeUndefined()
    }
  })

  it('is given up with a log that is closed or deleted under it; the next one is read', async () => {
    const world = new LogWorld()
    for (const partition of [0, 1]) await filled(world, 60, partition)
    const scrubber = scrubberOf(world, { intervalMs: 0, bytesPerSecondMax: 10_000 })
    scrubber.start()
    await world.run(500)
    const id = { topic: 't', topicId: world.directory?.log('t', 0)?.topicId ?? '', partition: 0 }
    await world.settle(
      (world.directory as NonNullable<typeof world.directory>).deletePartitionLog(id),
    )
    while (scrubber.status.endedMs === undefined) await world.run(100)
    await world.settle(scrubber.stop())
    expect(world.said.filter((line) => /^(error|warn)/.test(line))).toEqual([])
  })
})
