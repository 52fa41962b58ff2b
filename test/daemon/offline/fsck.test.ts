/** What fsck finds and mends: each kind of damage is planted, named, mended, and the daemon's own log opens the result. */
import { describe, expect, it } from 'vitest'
import { LOG_PATH, PATH } from '../log/log-world.ts'
import { config, OfflineWorld } from './offline-world.ts'

async function closed(): Promise<OfflineWorld> {
  const world = new OfflineWorld()
  await world.filled()
  await world.close()
  return world
}

const states = (findings: readonly { readonly state: string }[]): string[] =>
  findings.map(({ state }) => state).filter((state) => state !== 'note')

describe('fsck', () => {
  it('finds nothing in a directory after a clean end, a crash of the process, and a power cut', async () => {
    const world = new OfflineWorld()
    const log = await world.filled()
    expect(log.segmentCount).toBeGreaterThan(5)
    await world.close()
    expect(states(await world.check())).toEqual([])
    for (const kind of ['process', 'power'] as const) {
      await world.reopened(config)
      await world.run(200)
      world.crash(kind)
      const found = states(await world.check())
      expect(found.filter((state) => state !== 'torn')).toEqual([])
    }
  })

  it('finds nothing where records were deleted, between batches and within one', async () => {
    const world = new OfflineWorld()
    let log = await world.filled()
    const end = log.logEndOffset
    for (const offset of [30, 31, 32, 50, end - 1, end]) {
      await world.settle(log.deleteRecordsBefore(offset))
      await world.close()
      expect(states(await world.check()), `from offset ${offset}`).toEqual([])
      log = await world.reopened(config)
    }
  })

  it('changes nothing, not even a lock file', async () => {
    const world = await closed()
    world.damage(`${LOG_PATH}/${world.names('.log')[1]}`, 100)
    world.disk.unlink(`${PATH}/.lock`)
    const before = world.image()
    expect(states(await world.check())).toEqual(['damaged'])
    expect(world.image()).toEqual(before)
  })

  const plants: readonly {
    readonly name: string
    readonly plant: (world: OfflineWorld) => void
    readonly check: string
    readonly state: string
    readonly after: string
    readonly lost?: boolean
  }[] = [
    {
      name: 'a flipped byte in the records of a batch',
      plant: (w) => w.damage(`${LOG_PATH}/${w.names('.log')[1]}`, 100),
      check: 'checksum',
      state: 'damaged',
      after: 'set-aside',
      lost: true,
    },
    {
      name: 'a length that leads nowhere',
      plant: (w) => w.damage(`${LOG_PATH}/${w.names('.log')[2]}`, 8, [0x7f, 0xff]),
      check: 'structure',
      state: 'damaged',
      after: 'set-aside',
      lost: true,
    },
    {
      name: 'a damaged first segment',
      plant: (w) => w.damage(`${LOG_PATH}/${w.names('.log')[0]}`, 0, new Array(5000).fill(0x55)),
      check: 'structure',
      state: 'damaged',
      after: 'set-aside',
      lost: true,
    },
    {
      name: 'a damaged end of the last segment, below the durable mark',
      plant: (w) => w.damage(`${LOG_PATH}/${w.names('.log').at(-1)}`, -10),
      check: 'checksum',
      state: 'damaged',
      after: 'set-aside',
      lost: true,
    },
    {
      name: 'a last segment that was cut short',
      plant: (w) => {
        const path = `${LOG_PATH}/${w.names('.log').at(-1)}`
        w.put(path, new Uint8Array(0))
      },
      check: 'offsets',
      state: 'damaged',
      after: 'gone',
      lost: true,
    },
    {
      name: 'a segment that is gone from the middle',
      plant: (w) => w.disk.unlink(`${LOG_PATH}/${w.names('.log')[2]}`),
      check: 'offsets',
      state: 'damaged',
      after: 'gone',
      lost: true,
    },
    {
      name: 'a wrong offset index',
      plant: (w) => w.damage(`${LOG_PATH}/${w.names('.index')[1]}`, 7, [0x01]),
      check: 'index',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'an offset index that does not rise',
      plant: (w) => w.damage(`${LOG_PATH}/${w.names('.index')[1]}`, 0, [0x40]),
      check: 'index',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'an offset index that is gone',
      plant: (w) => w.disk.unlink(`${LOG_PATH}/${w.names('.index')[1]}`),
      check: 'index',
      state: 'missing',
      after: 'repaired',
    },
    {
      name: 'a wrong time index',
      plant: (w) => w.damage(`${LOG_PATH}/${w.names('.timeindex')[1]}`, 7, [0x02]),
      check: 'time',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'a wrong transaction index',
      plant: (w) => w.damage(`${LOG_PATH}/${w.names('.txnindex')[0]}`, 9, [0x01]),
      check: 'transactions',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'a transaction index that is gone',
      plant: (w) => w.disk.unlink(`${LOG_PATH}/${w.names('.txnindex')[0]}`),
      check: 'transactions',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'a damaged producer snapshot',
      plant: (w) => w.damage(`${LOG_PATH}/${w.names('.snapshot').at(-1)}`, 5),
      check: 'snapshot',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'a leader epoch file that cannot be read',
      plant: (w) => w.put(`${LOG_PATH}/leader-epoch-checkpoint`, Buffer.from('0\n9\n')),
      check: 'epochs',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'a leader epoch file that says something else',
      plant: (w) => w.put(`${LOG_PATH}/leader-epoch-checkpoint`, Buffer.from('0\n1\n0 0\n')),
      check: 'epochs',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'a damaged slot of a durable mark',
      plant: (w) => w.damage(`${PATH}/durable-marks.a`, 30),
      check: 'marks',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'a damaged checkpoint',
      plant: (w) => {
        for (const copy of ['a', 'b']) {
          const path = `${PATH}/stream-checkpoint.${copy}`
          if (w.disk.stat(path) !== undefined) w.damage(path, 20)
        }
      },
      check: 'checkpoint',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'a clean-shutdown marker that cannot be read',
      plant: (w) => w.damage(`${PATH}/.kafka_cleanshutdown`, 0),
      check: 'marker',
      state: 'bad',
      after: 'repaired',
    },
    {
      name: 'a stray file beside the segments',
      plant: (w) => w.put(`${LOG_PATH}/notes.txt`, Buffer.from('mine')),
      check: 'stray',
      state: 'stray',
      after: 'set-aside',
    },
    {
      name: 'a stray file in the data directory',
      plant: (w) => w.put(`${PATH}/core.1234`, Buffer.from('mine')),
      check: 'stray',
      state: 'stray',
      after: 'set-aside',
    },
    {
      name: 'an index without its segment',
      plant: (w) => w.put(`${LOG_PATH}/00000000000000009999.index`, Buffer.from('')),
      check: 'stray',
      state: 'bad',
      after: 'repaired',
    },
  ]

  for (const { name, plant, check, state, after, lost } of plants) {
    it(`${name}: found as ${check}, ${after} by a repair, then nothing is wrong`, async () => {
      const world = await closed()
      const before = await world.dump()
      plant(world)
      const found = (await world.check()).filter((each) => each.state !== 'note')
      expect(found).toContainEqual(expect.objectContaining({ check, state }))
      // Nothing else is told but the indexes that belong to what is gone.
      const others = found.filter((each) => each.check !== check)
      if (lost !== true) expect(others).toEqual([])
      expect(others.filter((each) => !/index$/.test(each.file))).toEqual([])
      expect(found[0]?.file).toMatch(/^\/data\//)
      const mended = (await world.repair()).filter((each) => each.state !== 'note')
      expect(mended).toContainEqual(expect.objectContaining({ check, state: after }))
      expect(states(await world.check())).toEqual([])
      // What is left is what was there, but for what was damaged, and the daemon reads it.
      const left = await world.dump()
      expect(left.damage).toEqual([])
      const log = await world.reopened(config)
      expect(log.recovery.damage).toEqual([])
      const wanted = lost === true ? left.records : before.records
      expect(left.records).toEqual(wanted)
      const visible = (await world.records(log)).filter(({ value }) => value !== 'p7:0')
      expect(visible).toEqual(wanted)
      expect(before.records).toEqual(expect.arrayContaining([...left.records]))
      if (lost === true) expect(left.records.length).toBeLessThan(before.records.length)
      // Offsets are never given out twice.
      expect(log.logEndOffset).toBeGreaterThanOrEqual((before.records.at(-1)?.offset ?? 0) + 1)
      await world.close()
      expect(states(await world.check())).toEqual([])
    })
  }

  it('a damaged range lies in set-aside afterwards, byte for byte', async () => {
    const world = await closed()
    const name = world.names('.log')[1] ?? ''
    world.damage(`${LOG_PATH}/${name}`, 100)
    const damaged = world.disk.readFile(`${LOG_PATH}/${name}`) ?? new Uint8Array(0)
    const [found] = await world.dump().then(({ damage }) => damage)
    await world.repair()
    const aside = `${PATH}/set-aside/t-0/${name}.${found?.position}-${(found?.endPosition ?? 0) - 1}`
    expect(Buffer.from(world.disk.readFile(aside) ?? [])).toEqual(
      Buffer.from(damaged.subarray(found?.position, found?.endPosition)),
    )
  })

  it('a torn tail above the mark is no fault, and is cut by the next start', async () => {
    const world = new OfflineWorld()
    await world.filled()
    world.crash('process')
    const last = `${LOG_PATH}/${world.names('.log').at(-1)}`
    const size = world.disk.stat(last)?.sizeBytes ?? 0
    world.put(
      last,
      Buffer.concat([world.disk.readFile(last) ?? Buffer.alloc(0), Buffer.alloc(70, 3)]),
    )
    const found = await world.check()
    expect(states(found)).toEqual(['torn'])
    expect(found.find(({ state }) => state === 'torn')?.detail).toContain(`bytes ${size} to`)
    expect((await world.dump()).damage).toMatchObject([{ isTorn: true }])
    const before = world.image()
    await world.repair()
    before.set(`${PATH}/.lock`, '')
    expect(world.image()).toEqual(before)
    expect((await world.reopened(config)).recovery.cutBytes).toBe(70)
  })

  it('a repair is refused while a daemon has the directory; a check says so', async () => {
    const world = new OfflineWorld()
    await world.filled()
    expect((await world.checked('check')).summary.isInUse).toBe(true)
    await expect(world.repair()).rejects.toMatchObject({ code: 'DIRECTORY_LOCKED', exit: 8 })
    await world.close()
    expect((await world.checked('check')).summary.isInUse).toBe(false)
  })

  it('a path that is no data directory is refused, whatever its names look like', async () => {
    const world = new OfflineWorld()
    world.disk.makeDirectory('/home/t-0')
    world.put('/home/t-0/mine.txt', Buffer.from('mine'))
    const refused = world.settle(world.offline.repair('/home', () => undefined))
    await expect(refused).rejects.toMatchObject({ name: 'UsageError' })
  })

  it('an unreadable identity moves nothing away', async () => {
    const world = await closed()
    world.put(`${PATH}/meta.properties`, Buffer.from('nonsense'))
    world.put(`${PATH}/mine.txt`, Buffer.from('mine'))
    const mended = await world.repair()
    expect(mended).toContainEqual(expect.objectContaining({ check: 'identity', state: 'left' }))
    expect(mended).toContainEqual(expect.objectContaining({ check: 'stray', state: 'left' }))
    expect(world.disk.readFile(`${PATH}/mine.txt`)).toBeDefined()
  })

  it('killed at any write of a repair, it can be run again, and no record is lost by it', async () => {
    const world = await closed()
    const name = world.names('.log')[2] ?? ''
    world.damage(`${LOG_PATH}/${name}`, 100)
    world.damage(`${LOG_PATH}/${world.names('.index')[4]}`, 7, [1])
    const damaged = world.image()
    const left = (await world.dump()).records
    for (let writes = 1; ; writes += 1) {
      world.restore(damaged)
      const isWhole = await repairUntil(world, writes)
      expect((await world.dump()).records).toEqual(left)
      await world.repair()
      expect(states(await world.check())).toEqual([])
      expect((await world.dump()).records).toEqual(left)
      if (isWhole) {
        expect(writes).toBeGreaterThan(8)
        return
      }
    }
  })
})

class Killed extends Error {}

/** @returns whether it came to its end before so many changes were made */
async function repairUntil(world: OfflineWorld, changesMax: number): Promise<boolean> {
  const { disk } = world
  let changes = 0
  const count = (): void => {
    changes += 1
    if (changes >= changesMax) throw new Killed()
  }
  const proxy = new Proxy(disk, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown
      if (typeof value !== 'function') return value
      const call = value.bind(target) as (...args: unknown[]) => unknown
      if (['rename', 'unlink', 'syncDirectory'].includes(String(name))) {
        return (...args: unknown[]) => {
          count()
          return call(...args)
        }
      }
      return call
    },
  })
  const { offlineLogs } = await import('../../../daemon/offline/offline-logs.ts')
  try {
    await world.settle(offlineLogs(proxy, (path) => path).repair(PATH, () => undefined))
    return true
  } catch (error) {
    if (!(error instanceof Killed)) throw error
    return false
  }
}
