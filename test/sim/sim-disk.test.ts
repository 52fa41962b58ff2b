import { describe, expect, it } from 'vitest'
import { isStreamError } from '../../src/base/errors.ts'
import { describeDisk } from '../ports/disk-conformance.ts'
import { SimCrash, SimDisk, type SimDiskOptions } from './sim-disk.ts'
import { SimTime } from './sim-time.ts'
import { SimWorld } from './sim-world.ts'

function make(seed: number | string, options: SimDiskOptions = {}) {
  const world = new SimWorld(seed)
  const disk = new SimDisk(world.random.fork('disk'), new SimTime(world, { name: 'host' }), options)
  disk.makeDirectory('/d')
  return { world, disk }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (content: Uint8Array | undefined): string | undefined =>
  content && new TextDecoder().decode(content)

describeDisk('simulated', () => {
  const { world, disk } = make('conformance')
  return { disk, directory: '/d', settle: (promise) => world.settle(promise) }
})

async function syncedFile(seed: number | string, options: SimDiskOptions = {}) {
  const { world, disk } = make(seed, options)
  const file = disk.open('/d/f', 'write')
  file.write(0, [bytes('synced')])
  await world.settle(file.dataSync())
  await world.settle(disk.syncDirectory('/d'))
  await world.settle(disk.syncDirectory('/'))
  return { world, disk, file }
}

describe('SimDisk: a power cut', () => {
  it('keeps what was synced, whatever the seed', async () => {
    for (let seed = 0; seed < 50; seed++) {
      const { disk, file } = await syncedFile(seed)
      file.write(6, [bytes(' and not')])
      expect(text(disk.restart('power').readFile('/d/f'))?.slice(0, 6)).toBe('synced')
    }
  })

  it('keeps what either of two syncs at one time covered, whichever ends first', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const { world, disk, file } = await syncedFile(seed)
      file.write(6, [bytes(' one')])
      const first = file.dataSync()
      file.write(10, [bytes(' two')])
      await world.settle(Promise.all([first, file.dataSync()]))
      disk.open('/d/one', 'write').close()
      const names = disk.syncDirectory('/d')
      disk.open('/d/two', 'write').close()
      await world.settle(Promise.all([names, disk.syncDirectory('/d')]))
      const after = disk.restart('power')
      expect(text(after.readFile('/d/f'))).toBe('synced one two')
      expect(after.list('/d')).toEqual(['f', 'one', 'two'])
    }
  })

  it('keeps names that a process synced after the one before it had died', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const { world, disk } = await syncedFile(seed)
      disk.rename('/d/f', '/d/g')
      const next = disk.restart('process')
      next.rename('/d/g', '/d/f')
      await world.settle(next.syncDirectory('/d'))
      expect(next.restart('power').list('/d')).toEqual(['f'])
    }
  })

  it('loses unsynced bytes in some runs, keeps them in others, and tears them in others', async () => {
    const seen = new Set<string>()
    for (let seed = 0; seed < 60; seed++) {
      const { disk, file } = await syncedFile(seed)
      file.write(6, [new Uint8Array(3000).fill(1)])
      const content = disk.restart('power').readFile('/d/f')
      const ones = content?.filter((byte) => byte === 1).length ?? 0
      seen.add(ones === 0 ? 'lost' : ones === 3000 ? 'kept' : 'torn')
    }
    expect([...seen].sort()).toEqual(['kept', 'lost', 'torn'])
  })

  it('a name that was not synced may be gone; a rename is whole or not at all', async () => {
    const seen = new Set<string>()
    for (let seed = 0; seed < 60; seed++) {
      const { disk } = await syncedFile(seed)
      disk.rename('/d/f', '/d/g')
      seen.add(disk.restart('power').list('/d').join())
    }
    expect([...seen].sort()).toEqual(['f', 'g'])
  })

  it('a sync covers only what was written before it began', async () => {
    let lost = 0
    for (let seed = 0; seed < 40; seed++) {
      const { world, disk, file } = await syncedFile(seed)
      const sync = file.dataSync()
      file.write(6, [bytes('late')])
      await world.settle(sync)
      if (text(disk.restart('power').readFile('/d/f')) !== 'syncedlate') lost++
    }
    expect(lost).toBeGreaterThan(0)
  })
})

describe('SimDisk: other faults', () => {
  it('a dead process leaves everything it wrote, and its calls throw', async () => {
    const { disk, file } = await syncedFile(1)
    file.write(6, [bytes('!')])
    const next = disk.restart('process')
    expect(text(next.readFile('/d/f'))).toBe('synced!')
    expect(() => file.write(7, [bytes('?')])).toThrow(SimCrash)
    expect(() => disk.list('/d')).toThrow(SimCrash)
  })

  it('a crash in the middle of a write leaves a prefix', async () => {
    const sizes = new Set<number>()
    for (let seed = 0; seed < 30; seed++) {
      const { disk, file } = await syncedFile(seed)
      disk.crashAtOperation = disk.operations + 1
      expect(() => file.write(6, [new Uint8Array(100)])).toThrow(SimCrash)
      sizes.add(disk.restart('process').stat('/d/f')?.sizeBytes ?? -1)
    }
    expect(sizes.size).toBeGreaterThan(5)
    expect(Math.min(...sizes)).toBeGreaterThanOrEqual(6)
    expect(Math.max(...sizes)).toBeLessThanOrEqual(106)
  })

  it('a failed sync is the trap it is: the next one succeeds, and the bytes are not there after a power cut', async () => {
    let lost = 0
    for (let seed = 0; seed < 20; seed++) {
      const { world, disk, file } = await syncedFile(seed)
      file.write(6, [bytes(' lost')])
      disk.failsSync = () => true
      await expect(world.settle(file.dataSync())).rejects.toSatisfy((error) =>
        isStreamError(error, 'DISK_FAILED'),
      )
      disk.failsSync = () => false
      await world.settle(file.dataSync())
      if (text(disk.restart('power').readFile('/d/f')) !== 'synced lost') lost++
    }
    expect(lost).toBe(20)
  })

  it('a full disk refuses what grows, and takes it when there is space again', async () => {
    const { disk, file } = await syncedFile(1)
    disk.totalBytes = 10
    expect(() => file.write(6, [bytes('too long')])).toThrowError(/no space/)
    file.truncate(6)
    disk.totalBytes = 100
    file.write(6, [bytes('too long')])
    expect(text(disk.readFile('/d/f'))).toBe('syncedtoo long')
  })

  it('a flipped bit is on the medium', async () => {
    const { disk } = await syncedFile(1)
    disk.flipBit('/d/f', 0, 0)
    expect(text(disk.restart('power').readFile('/d/f'))).toBe('rynced')
  })
})
