import { describe, expect, it } from 'vitest'
import { StreamError } from '../../../src/base/errors.ts'
import { append, LogWorld, TOPIC_ID, values } from './log-world.ts'

const DELAY_MS = 60_000
const CONFIG = { segmentBytes: 20_000, fileDeleteDelayMs: DELAY_MS }

function broken(): never {
  throw new StreamError('DISK_FAILED', 'operation not permitted')
}

function isDeleted(path: string): boolean {
  return path.includes('-delete') || path.endsWith('.deleted')
}

function bytesOf(world: LogWorld, matches: (path: string) => boolean): number {
  let sum = 0
  for (const { path, sizeBytes } of world.disk.files()) if (matches(path)) sum += sizeBytes
  return sum
}

/** Only so many bytes are free, less than the reserve, and the next append looks. */
async function leave(world: LogWorld, freeBytes: number): Promise<void> {
  world.disk.totalBytes = bytesOf(world, () => true) + freeBytes
  await world.run(1500)
}

/** Two logs, of which the first is the large one. */
async function stage(seed: string) {
  const world = new LogWorld(seed)
  const directory = await world.open()
  const large = await world.log(CONFIG)
  const other = await world.log(CONFIG, 1)
  for (let count = 0; count < 20; count++) append(large, values(count, 10, 1000))
  await world.settle(large.flush())
  const takeAway = async (how: 'topic' | 'segments'): Promise<void> => {
    if (how === 'segments') await world.settle(large.deleteRecordsBefore(200))
    else
      await world.settle(
        directory.deletePartitionLog({ topic: 't', topicId: TOPIC_ID, partition: 0 }),
      )
  }
  return { world, directory, other, takeAway }
}

describe.each(['topic', 'segments'] as const)('deleted and still on the disk (%s)', (how) => {
  it('goes after file.delete.delay.ms', async () => {
    const { world, takeAway } = await stage(how)
    await takeAway(how)
    await world.run(DELAY_MS - 1000)
    expect(bytesOf(world, isDeleted)).toBeGreaterThan(100_000)
    await world.run(2000)
    expect(bytesOf(world, isDeleted)).toBe(0)
  })

  it('goes before an append is refused for want of space', async () => {
    const { world, other, takeAway } = await stage(how)
    await takeAway(how)
    await leave(world, 2000)
    append(other, values(0, 10, 1000))
    expect(bytesOf(world, isDeleted)).toBe(0)
    await world.settle(other.flush())
    expect(await world.values(other, 0, 20_000)).toEqual(values(0, 10, 1000))
  })

  it('a refusal names what has to be free for it to end', async () => {
    const { world, other } = await stage(how)
    await leave(world, 5000)
    const refusal = () => append(other, values(0, 10, 1000))
    expect(refusal).toThrow(/in reserve/)
    // Above the reserve by less than would let it open again.
    for (let free = 5000; ; free += 100) {
      await leave(world, free)
      let words = ''
      try {
        refusal()
      } catch (error) {
        words = (error as Error).message
      }
      const [, has, kept] = /: (\d+) bytes free, (\d+) are kept/.exec(words) ?? []
      if (has === undefined) break
      expect(Number(has)).toBeLessThan(Number(kept))
    }
  })

  it('makes room when it is deleted while appends are refused', async () => {
    const { world, other, takeAway } = await stage(how)
    await leave(world, 5000)
    expect(() => append(other, values(0, 10, 1000))).toThrow(/in reserve/)
    await takeAway(how)
    await world.run(1001)
    append(other, values(0, 10, 1000))
    expect(other.logEndOffset).toBe(10)
  })

  it('stays, and is told, where the disk cannot remove it; the next start tries again', async () => {
    const { world, other, takeAway } = await stage(how)
    await takeAway(how)
    const { disk } = world
    Object.assign(disk, { unlink: broken, removeTree: broken })
    await world.run(DELAY_MS + 1000)
    expect(world.said.filter((line) => line.startsWith('warn what was deleted'))).not.toEqual([])
    expect(bytesOf(world, isDeleted)).toBeGreaterThan(100_000)
    append(other, values(0, 10, 1000))
    world.crash('process')
    if (how === 'topic') {
      Object.assign(world.disk, { removeTree: broken })
      await world.open()
      world.crash('process')
    }
    await world.open()
    await world.log(CONFIG)
    expect(bytesOf(world, isDeleted)).toBe(0)
  })
})

describe('a segment that the disk does not let go', () => {
  it('keeps neither the others nor its log', async () => {
    const { world, takeAway } = await stage('stuck')
    const stuck = '/data/t-0/00000000000000000000.log'
    const refuseStuck = (): void => {
      const { disk } = world
      const rename = disk.rename.bind(disk)
      const unlink = disk.unlink.bind(disk)
      disk.rename = (from, to) => (from === stuck ? broken() : rename(from, to))
      disk.unlink = (path) => (path === stuck ? broken() : unlink(path))
    }
    const segments = (): string[] =>
      world.disk.files().flatMap(({ path }) => (/t-0.*[.]log/.test(path) ? [path] : []))
    refuseStuck()
    await takeAway('segments')
    await world.run(DELAY_MS + 1000)
    expect(segments()).toEqual([stuck, expect.stringMatching(/[.]log$/)])
    for (const kind of ['process', 'power'] as const) {
      world.crash(kind)
      refuseStuck()
      const log = await world.reopened(CONFIG)
      expect([log.logStartOffset, log.logEndOffset]).toEqual([200, 200])
    }
    expect(segments()).toContain(stuck)
    world.crash('process')
    append(await world.reopened(CONFIG), ['on'])
    expect(segments()).toHaveLength(1)
  })
})
