import { describe, expect, it } from 'vitest'
import { LOG_PATH, PATH } from '../log/log-world.ts'
import { OfflineWorld } from './offline-world.ts'

async function closed(): Promise<OfflineWorld> {
  const world = new OfflineWorld()
  await world.filled()
  await world.close()
  return world
}

describe('dump', () => {
  it('gives what a committed reader sees, in order', async () => {
    const world = new OfflineWorld()
    const log = await world.filled()
    const all = await world.records(log)
    const { records, states, damage } = await world.dump()
    expect(records).toEqual(all.filter(({ value }) => value !== 'p7:0'))
    expect(damage).toEqual([])
    expect(states.filter((state) => state === 'control')).toHaveLength(2)
    expect(states.filter((state) => state === 'aborted')).toHaveLength(1)
    expect((await world.dump(undefined, { isUncommitted: true })).records).toEqual(all)
  })

  it('an open transaction holds back what follows it, but not from uncommitted readers', async () => {
    const world = new OfflineWorld()
    const log = await world.filled()
    const openAt = log.logEndOffset
    world.send(log, 8, 0, 1)
    await world.settle(log.flush())
    const { records, heldBackFrom } = await world.dump()
    expect(heldBackFrom).toBe(openAt)
    expect(records.at(-1)?.offset).toBe(openAt - 1)
    const all = await world.dump(undefined, { isUncommitted: true })
    expect(all.records.at(-1)).toMatchObject({ offset: openAt, value: 'p8:0' })
    expect(all.heldBackFrom).toBeUndefined()
    expect(all.states.at(-1)).toBe('open')
  })

  it('positions: offsets, counts from both ends, times', async () => {
    const world = await closed()
    const { records } = await world.dump()
    const last = records.at(-1)?.offset ?? 0
    const read = async (from: object | undefined, until?: object) => {
      const found = await world.dump(undefined, {
        from: () => from as never,
        until: () => until as never,
      })
      return [found.records[0]?.offset, found.records.at(-1)?.offset]
    }
    expect(await read({ kind: 'offset', offset: 7 }, { kind: 'offset', offset: 11 })).toEqual([
      7, 10,
    ])
    expect(await read({ kind: 'before-end', count: 5 })).toEqual([last - 4, last])
    expect(
      await read({ kind: 'after-start', count: 4 }, { kind: 'after-start', count: 2 }),
    ).toEqual([4, 5])
    expect(await read({ kind: 'end' })).toEqual([undefined, undefined])
    expect(await read({ kind: 'time', timeMs: 1_790_000_000_000 })).toEqual([0, last])
    expect(await read({ kind: 'time', timeMs: 1_890_000_000_000 })).toEqual([undefined, undefined])
  })

  it('a damaged batch is told with its place, and the rest is given', async () => {
    const world = await closed()
    const before = (await world.dump()).records
    const path = `${LOG_PATH}/${world.names('.log')[3]}`
    world.damage(path, -20)
    const { records, damage } = await world.dump()
    expect(damage).toMatchObject([{ file: path, isTorn: false }])
    expect(damage[0]?.detail).toContain('CRC')
    const { startOffset = 0, endOffset = 0 } = damage[0] ?? {}
    expect(records).toEqual(
      before.filter(({ offset }) => offset < startOffset || offset >= endOffset),
    )
    const behind = { from: () => ({ kind: 'offset', offset: endOffset }) as const }
    expect((await world.dump(undefined, behind)).damage).toEqual([])
  })

  it('a single file is read by what its directory says of transactions', async () => {
    const world = await closed()
    const all = (await world.dump()).records
    const parts = []
    for (const name of world.names('.log')) {
      parts.push(...(await world.dump(`${LOG_PATH}/${name}`)).records)
    }
    expect(parts).toEqual(all)
  })

  it('a file with any name stands alone', async () => {
    const world = await closed()
    const name = world.names('.log')[2] ?? ''
    world.disk.makeDirectory('/elsewhere')
    world.put('/elsewhere/copy.bin', world.disk.readFile(`${LOG_PATH}/${name}`) ?? Buffer.alloc(0))
    const { records } = await world.dump('/elsewhere/copy.bin')
    expect(records).toEqual((await world.dump(`${LOG_PATH}/${name}`)).records)
  })

  it('a data directory is refused with the name of a partition in it; nothing there is 3', async () => {
    const world = await closed()
    await expect(world.dump(PATH)).rejects.toMatchObject({
      name: 'UsageError',
      hint: 'try: stream dump /data/t-0',
    })
    await expect(world.dump('/nowhere')).rejects.toMatchObject({ code: 'FILE_NOT_FOUND', exit: 3 })
  })

  it('changes nothing', async () => {
    const world = await closed()
    world.damage(`${LOG_PATH}/${world.names('.index')[1]}`, 0, [0x40])
    world.damage(`${LOG_PATH}/${world.names('.log')[1]}`, 0)
    const before = world.image()
    await world.dump()
    expect(world.image()).toEqual(before)
  })
})
