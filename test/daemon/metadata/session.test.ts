import { describe, expect, it } from 'vitest'
import { decodeRegistration } from '../../../daemon/metadata/metadata-values.ts'
import { drain, ensureMeta, registerAgain, removeBroker } from '../../../daemon/metadata/session.ts'
import { StoreWorld } from './store-world.ts'

describe('T1, T7: registering a session', () => {
  it('gives E, and D with the first, lossy start', async () => {
    const w = new StoreWorld(1)
    const session = await w.settle(w.register({ lossyReason: 'new' }))
    const live = await w.settle(w.home.get(w.keys.live(1)))
    const data = await w.settle(w.home.get(w.keys.data(1)))
    expect(session.sessionEpoch).toBe(live?.createRevision)
    expect(session.dataEpoch).toBe(data?.modRevision)
  })

  it('keeps D at a whole start and raises it at a lossy one', async () => {
    const w = new StoreWorld(2)
    const first = await w.settle(w.register({ lossyReason: 'new' }))
    w.server.crash(w.home)
    const second = await w.settle(w.register({ incarnation: 'second', home: w.server.connect() }))
    expect(second.dataEpoch).toBe(first.dataEpoch)
    expect(second.sessionEpoch).toBeGreaterThan(first.sessionEpoch)
  })

  it('P8 refuses while another incarnation lives, and leaves its data epoch alone', async () => {
    const w = new StoreWorld(3)
    const first = await w.settle(w.register({ lossyReason: 'new' }))
    const other = w.server.connect()
    await expect(
      w.settle(w.register({ incarnation: 'intruder', lossyReason: 'new', home: other })),
    ).rejects.toMatchObject({ code: 'FENCED' })
    const data = await w.settle(w.home.get(w.keys.data(1)))
    expect(data?.modRevision).toBe(first.dataEpoch)
  })

  it('adopts its own session when the answer was lost', async () => {
    for (let seed = 0; seed < 30; seed += 1) {
      const w = new StoreWorld(`lost ${seed}`)
      w.server.faults.answerLost = 0.5
      w.server.faults.requestLost = 0.2
      const session = await w.settle(w.register({ lossyReason: 'new' }))
      w.server.calm()
      const live = await w.settle(w.home.get(w.keys.live(1)))
      expect(session.sessionEpoch).toBe(live?.createRevision)
    }
  })

  it('T1f: a process that lost its lease keeps D and its incarnation', async () => {
    const w = new StoreWorld(4, 'time')
    const session = await w.settle(w.register({ lossyReason: 'new' }))
    // The lease runs out.
    await w.world.run({ untilMs: w.world.now + 20_000 })
    expect(await w.settle(w.home.get(w.keys.live(1)))).toBeUndefined()
    const lease = await w.settle(w.home.lease(10_000))
    const again = await w.settle(registerAgain(w.store, w.keys, session, lease))
    expect(again.dataEpoch).toBe(session.dataEpoch)
    expect(again.sessionEpoch).toBeGreaterThan(session.sessionEpoch)
    await expect(
      w.settle(registerAgain(w.store, w.keys, { ...session, incarnation: 'other' }, lease)),
    ).rejects.toMatchObject({ code: 'FENCED' })
  })
})

describe('forgetting a broker', () => {
  it('is refused while it has a session; one that was only away is told', async () => {
    const w = new StoreWorld(8)
    const { controllerEpoch } = await w.settle(w.begin())
    const second = await w.settle(w.register({ nodeId: 2, lossyReason: 'new' }))
    const broker = { nodeId: 2, revision: second.registrationRevision }
    const remove = () => w.settle(removeBroker(w.store, w.keys, controllerEpoch, broker))
    expect(await remove()).toMatchObject({ succeeded: false })
    const live = w.server.image.leaseOf(w.keys.live(2)) ?? ''
    w.server.expire(live)
    expect(await remove()).toMatchObject({ succeeded: true })
    for (const key of [w.keys.registration(2), w.keys.data(2)]) {
      expect(await w.settle(w.home.get(key))).toBeUndefined()
    }
    const lease = await w.settle(w.home.lease(10_000))
    await expect(w.settle(registerAgain(w.store, w.keys, second, lease))).rejects.toMatchObject({
      code: 'FENCED',
      message: 'the cluster has forgotten broker 2 while it was away',
    })
  })
})

describe('T2: becoming the controller', () => {
  it('is for one session at a time, and C is the revision of the election', async () => {
    const w = new StoreWorld(5)
    const { session, controllerEpoch } = await w.settle(w.begin())
    const entry = await w.settle(w.home.get(w.keys.controller()))
    expect(controllerEpoch).toBe(entry?.createRevision)
    expect(await w.settle(w.control(session))).toBe(controllerEpoch)
    const second = await w.settle(w.register({ nodeId: 2, lossyReason: 'new' }))
    await expect(w.settle(w.control(second))).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  it('fails without a session', async () => {
    const w = new StoreWorld(6)
    const { session } = await w.settle(w.begin())
    const stale = { ...session, nodeId: 2 }
    await expect(w.settle(w.control(stale))).rejects.toMatchObject({ code: 'CONFLICT' })
  })
})

it('meta is created once and then kept', async () => {
  const w = new StoreWorld(7)
  await w.settle(ensureMeta(w.store, w.keys))
  const before = await w.settle(w.home.get(w.keys.meta()))
  await w.settle(ensureMeta(w.store, w.keys))
  expect((await w.settle(w.home.get(w.keys.meta())))?.modRevision).toBe(before?.modRevision)
})

it('T6 drain marks only its own registration', async () => {
  const w = new StoreWorld(8)
  const session = await w.settle(w.register({ lossyReason: 'new' }))
  const read = async () => {
    const entry = await w.settle(w.home.get(w.keys.registration(1)))
    return entry === undefined ? undefined : decodeRegistration('k', entry.value).state
  }
  await w.settle(drain(w.store, w.keys, { ...session, incarnation: 'other' }))
  expect(await read()).toBe('FENCED')
  await w.settle(drain(w.store, w.keys, session))
  expect(await read()).toBe('DRAINING')
})
