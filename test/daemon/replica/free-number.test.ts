import { describe, expect, it } from 'vitest'
import { MetadataKeys } from '../../../daemon/metadata/metadata-keys.ts'
import { encodeLive, encodeRegistration } from '../../../daemon/metadata/metadata-values.ts'
import { SessionFile } from '../../../daemon/metadata/session-file.ts'
import { awaitFreeNumber } from '../../../daemon/replica/free-number.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { DaemonWorld, ZMQ } from '../daemon-world.ts'
import { silent } from '../metadata/store-world.ts'

const WAIT_MS = 25_000

/** A daemon with node id 1, and a store that says who has which number. */
async function started() {
  const w = new DaemonWorld('free number')
  const daemon = await w.start()
  const { clusterId } = daemon.broker
  const keys = new MetadataKeys(clusterId)
  const disk = new SimDisk(w.world.random.fork('new'), new SimTime(w.world, { name: 'new' }))
  const own = { time: w.time, random: w.world.random, disk, log: silent }
  const ask = (nodeId: number): Promise<void> =>
    awaitFreeNumber({ ...own, store: w.store, net: w.network.host('other') }, w.store, {
      nodeId,
      clusterId,
      dataDirectory: '/new',
      waitMs: WAIT_MS,
    })
  const hold = (nodeId: number, state: 'ACTIVE' | 'DRAINING' = 'ACTIVE', endpoint = ZMQ): void => {
    const incarnation = 'a life'
    const value = { incarnation, endpoints: [endpoint], rack: null, directories: [], state }
    w.stores.apply({
      compare: [],
      then: [
        { kind: 'put', key: keys.live(nodeId), value: encodeLive({ incarnation }) },
        { kind: 'put', key: keys.registration(nodeId), value: encodeRegistration(value) },
      ],
    })
  }
  const release = (nodeId: number): void => {
    w.stores.apply({ compare: [], then: [{ kind: 'delete', key: keys.live(nodeId) }] })
  }
  return { w, own, ask, hold, release }
}

type World = Awaited<ReturnType<typeof started>>

/** @returns how long it took, and the error's message; undefined: it is free */
async function outcome({ w, ask }: World, nodeId: number) {
  const beginMs = w.world.now
  const message = await w.settle(
    ask(nodeId).then(
      () => undefined,
      (error: Error) => error.message,
    ),
  )
  return { message, tookMs: w.world.now - beginMs }
}

/** It waits, and is free as soon as the session has ended. */
async function expectPatience(world: World, nodeId: number): Promise<void> {
  const { w, ask, release } = world
  let isFree = false
  const asking = ask(nodeId).then(() => {
    isFree = true
  })
  await w.run(WAIT_MS - 5000)
  expect(isFree).toBe(false)
  release(nodeId)
  await w.settle(asking)
}

describe('the number of a broker', () => {
  it('is free where no session has it', async () => {
    expect(await outcome(await started(), 7)).toMatchObject({ message: undefined })
  })

  it('is refused at once when the daemon that has it answers; nothing is written', async () => {
    const world = await started()
    world.hold(1)
    const { revision } = world.w.stores.image
    const { message, tookMs } = await outcome(world, 1)
    expect(message).toBe(`another daemon with node id 1 holds the session, and answers at ${ZMQ}`)
    expect(tookMs).toBeLessThan(1000)
    expect(world.w.stores.image.revision).toBe(revision)
    expect(world.own.disk.stat('/new')).toBeUndefined()
  })

  it('is waited for where a dead daemon may have it, as long as its lease can last', async () => {
    const world = await started()
    world.hold(1, 'ACTIVE', 'tcp://nobody:7000')
    await expectPatience(world, 1)
    world.hold(1, 'ACTIVE', 'tcp://nobody:7000')
    const { message, tookMs } = await outcome(world, 1)
    expect(message).toBe('another daemon with node id 1 holds the session')
    expect(tookMs).toBeGreaterThanOrEqual(WAIT_MS)
    expect(tookMs).toBeLessThan(WAIT_MS + 5000)
  })

  it('is waited for where a daemon of another number answers, or one that is going', async () => {
    const world = await started()
    world.hold(2)
    await expectPatience(world, 2)
    world.hold(1, 'DRAINING')
    await expectPatience(world, 1)
  })

  it('is not waited for where a former process of this directory has it', async () => {
    const world = await started()
    world.own.disk.makeDirectory('/new')
    const file = new SessionFile(world.own.disk, '/new')
    const incarnations = [{ incarnation: 'a life', registered: true }]
    await world.w.settle(file.write({ incarnations, dataEpoch: 3, revision: 4 }))
    world.hold(1)
    const { message, tookMs } = await outcome(world, 1)
    expect(message).toBeUndefined()
    expect(tookMs).toBeLessThan(1000)
  })
})
