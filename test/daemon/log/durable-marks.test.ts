import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  DurableMarks,
  decodeMark,
  encodeMark,
  MARK_SYNC_MS,
  SLOT_BYTES,
} from '../../../daemon/log/durable-marks.ts'
import { SyncScheduler } from '../../../daemon/log/sync-scheduler.ts'
import { topicIdText } from '../../../daemon/log/topic-id.ts'
import { StreamError } from '../../../src/base/errors.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { SimWorld } from '../../sim/sim-world.ts'
import { append, LogWorld, PATH } from './log-world.ts'

const IDS = Array.from({ length: 12 }, (_, index) =>
  topicIdText(new Uint8Array(16).fill(index + 1)),
)

class MarksWorld {
  readonly world: SimWorld
  disk: SimDisk
  time: SimTime

  constructor(seed: number | string) {
    this.world = new SimWorld(seed)
    this.time = new SimTime(this.world)
    this.disk = new SimDisk(this.world.random.fork('disk'), new SimTime(this.world))
    this.disk.makeDirectory('/d')
  }

  async open(): Promise<DurableMarks> {
    const syncs = new SyncScheduler(this.disk, { syncsMax: 2 })
    const marks = await this.world.settle(DurableMarks.open(this.time, this.disk, syncs, '/d'))
    await this.world.settle(this.disk.syncDirectory('/'))
    return marks
  }

  crash(kind: 'process' | 'power'): void {
    this.time.halt()
    this.time = new SimTime(this.world)
    this.disk = this.disk.restart(kind, new SimTime(this.world))
  }
}

const mark = fc.record({
  topicId: fc.uint8Array({ minLength: 16, maxLength: 16 }).map(topicIdText),
  partition: fc.nat(),
  durableOffset: fc.maxSafeNat(),
  denseEndOffset: fc.maxSafeNat(),
  generation: fc.maxSafeNat(),
})

describe('a slot', () => {
  it('decode(encode(x)) = x', () => {
    fc.assert(
      fc.property(mark, (each) => {
        expect(decodeMark(encodeMark(each), 0)).toEqual(each)
      }),
    )
  })

  it('one flipped bit makes it unknown', () => {
    fc.assert(
      fc.property(mark, fc.nat(SLOT_BYTES * 8 - 1), (each, bit) => {
        const bytes = encodeMark(each)
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        expect(decodeMark(bytes, 0)).toBeUndefined()
      }),
    )
  })

  it('zeros and the end of the file are unknown, not offset 0', () => {
    expect(decodeMark(new Uint8Array(64), 0)).toBeUndefined()
    expect(decodeMark(new Uint8Array(10), 0)).toBeUndefined()
  })
})

describe('DurableMarks', () => {
  it('the mark found is never above what was raised, and lags by less than 100 ms (death at any time)', async () => {
    for (let seed = 0; seed < 300; seed++) {
      const world = new MarksWorld(seed)
      const marks = await world.open()
      const slots = IDS.map((id) => marks.slot(id, 0))
      const history: [atMs: number, offset: number][][] = slots.map(() => [])
      for (let step = 0; step < 30; step++) {
        const index = world.world.random.integer(slots.length)
        const slot = slots[index] as (typeof slots)[number]
        const offset = step + 1
        marks.raise(slot, offset, offset)
        history[index]?.push([world.world.now, offset])
        await world.world.run({ untilMs: world.world.now + world.world.random.integer(60) })
      }
      const now = world.world.now
      world.crash(seed % 2 === 0 ? 'power' : 'process')
      const found = await world.open()
      for (const [index, id] of IDS.entries()) {
        const raised = history[index] ?? []
        const value = found.find(id, 0)?.durableOffset ?? 0
        expect([0, ...raised.map(([, offset]) => offset)]).toContain(value)
        // 100 ms, the sync before that was under way, and its own.
        const due = raised.filter(([atMs]) => atMs < now - 106).at(-1)?.[1] ?? 0
        expect([seed, value >= due]).toEqual([seed, true])
      }
    }
  })

  it('raised marks are written together by the next sync, so that no acknowledgement waits for a write', async () => {
    const world = new MarksWorld(1)
    const marks = await world.open()
    const slots = IDS.map((id) => marks.slot(id, 3))
    const begin = world.world.now
    for (const offset of [7, 8]) for (const slot of slots) marks.raise(slot, offset, offset)
    await world.world.run({ untilMs: begin + MARK_SYNC_MS - 1 })
    expect(world.disk.stat('/d/durable-marks.a')?.sizeBytes).toBe(0)
    await world.world.run({ untilMs: begin + MARK_SYNC_MS + 6 })
    world.crash('power')
    const found = await world.open()
    for (const id of IDS) expect(found.find(id, 3)).toMatchObject({ durableOffset: 8 })
  })

  it('a mark that cannot be written fails nobody whose records are durable, and is written by a later sync', async () => {
    const world = new LogWorld('no mark')
    const log = await world.log()
    const write = world.disk.writeNode.bind(world.disk)
    let refused = 0
    world.disk.writeNode = (node, path, ...rest) => {
      if (!path.includes('durable-marks')) return write(node, path, ...rest)
      refused++
      throw new StreamError('DISK_FULL', `${path}: no space left`)
    }
    append(log, ['x'])
    await world.settle(log.flush())
    expect(log.durableOffset).toBe(1)
    await world.run(1000)
    expect(refused).toBeGreaterThan(1)
    world.disk.writeNode = write
    await world.run(1000)
    world.crash('power')
    const marks = ['a', 'b'].map((copy) => {
      const bytes = world.disk.readFile(`${PATH}/durable-marks.${copy}`)
      return bytes && decodeMark(bytes, 0)?.durableOffset
    })
    expect(marks).toContain(1)
  })

  it('a lowered mark is durable when lower() resolves, and the old one cannot come back', async () => {
    for (let seed = 0; seed < 150; seed++) {
      const world = new MarksWorld(`lower ${seed}`)
      const marks = await world.open()
      const id = IDS[0] ?? ''
      const slot = marks.slot(id, 0)
      const other = marks.slot(IDS[1] ?? '', 0)
      for (let step = 0; step < seed % 5; step++) {
        marks.raise(slot, 100 + step, 1)
        marks.raise(other, step + 1, 1)
        await world.world.run({ untilMs: world.world.now + world.world.random.integer(150) })
      }
      await world.world.settle(marks.lower(slot, 5, 5))
      marks.raise(slot, 6, 6)
      marks.raise(other, 50, 1)
      await world.world.run({ untilMs: world.world.now + world.world.random.integer(150) })
      world.crash('power')
      const again = await world.open()
      expect([5, 6]).toContain(again.find(id, 0)?.durableOffset)
      // One damaged copy later too.
      const copy = seed % 2 === 0 ? '/d/durable-marks.a' : '/d/durable-marks.b'
      world.disk.flipBit(copy, 30, 2)
      world.crash('process')
      const third = (await world.open()).find(id, 0)?.durableOffset
      expect([5, 6]).toContain(third)
    }
  })

  it('a disk that is full before the second copy is told, and all is well when there is room again', async () => {
    const world = new MarksWorld('full')
    const marks = await world.open()
    const slot = marks.slot(IDS[0] ?? '', 0)
    const { freeBytes, totalBytes } = world.disk.space('/d')
    world.disk.totalBytes = totalBytes - freeBytes + SLOT_BYTES
    const outcome = world.world.settle(marks.lower(slot, 5, 5))
    await expect(outcome).rejects.toMatchObject({ code: 'DISK_FULL' })
    await expect(world.world.settle(marks.sync())).rejects.toMatchObject({ code: 'DISK_FULL' })
    world.disk.totalBytes = totalBytes
    await world.world.run({ untilMs: world.world.now + 1000 })
    world.crash('power')
    world.disk.flipBit('/d/durable-marks.a', 30, 2)
    expect((await world.open()).find(IDS[0] ?? '', 0)?.durableOffset).toBe(5)
  })

  it('a mark that is being lowered when all is closed is told', async () => {
    const world = new MarksWorld('closed')
    const marks = await world.open()
    const lowered = marks.lower(marks.slot(IDS[0] ?? '', 0), 5, 5)
    const closed = marks.abandon()
    await expect(world.world.settle(lowered)).rejects.toMatchObject({ code: 'CLOSED' })
    await world.world.settle(closed)
  })

  it('slots of deleted partitions serve others, and never speak for them', async () => {
    const world = new MarksWorld('reuse')
    const marks = await world.open()
    const slots = IDS.map((id) => marks.slot(id, 0))
    for (const slot of slots) marks.raise(slot, 99, 99)
    for (const slot of slots.slice(0, 6)) marks.release(slot)
    await world.world.run({ untilMs: world.world.now + 1000 })
    const size = world.disk.stat('/d/durable-marks.a')?.sizeBytes
    const fresh = IDS.slice(0, 6).map((id) => marks.slot(id, 1))
    for (const slot of fresh) await world.world.settle(marks.lower(slot, 0, 0))
    expect(world.disk.stat('/d/durable-marks.a')?.sizeBytes).toBe(size)
    world.crash('power')
    const found = await world.open()
    for (const id of IDS.slice(0, 6)) {
      expect(found.find(id, 0)).toBeUndefined()
      expect(found.find(id, 1)).toMatchObject({ durableOffset: 0 })
    }
    for (const id of IDS.slice(6)) expect(found.find(id, 0)).toMatchObject({ durableOffset: 99 })
  })

  it('after a clean close either copy is enough', async () => {
    for (const copy of ['a', 'b']) {
      const world = new MarksWorld(copy)
      const marks = await world.open()
      for (const id of IDS) marks.raise(marks.slot(id, 0), 42, 42)
      await world.world.settle(marks.close())
      world.disk.unlink(`/d/durable-marks.${copy}`)
      const found = await world.open()
      for (const id of IDS) expect(found.find(id, 0)).toMatchObject({ durableOffset: 42 })
    }
  })
})
