/** The simulator's own tests: one seed, one trace; each fault fires; planted bugs are seen. */
import { describe, expect, it } from 'vitest'
import type { Net } from '../../src/ports/net.ts'
import { sleep } from '../../src/ports/time.ts'
import { put, txn } from '../ports/metadata-store-conformance.ts'
import { Ear, textFrame } from '../ports/net-conformance.ts'
import { SimNetwork } from './sim-net.ts'
import { SimRandom } from './sim-random.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimTime } from './sim-time.ts'
import { SimWorld } from './sim-world.ts'

const limits = { messageBytesMax: 1_000_000, linksMax: 100 }

/** A small cluster: clients that ask over links that are lost, delayed, repeated, and write to a store. */
async function runCluster(seed: number): Promise<SimWorld> {
  const world = new SimWorld(seed)
  const network = new SimNetwork(world)
  Object.assign(network.faults, { loseLink: 0.02, duplicate: 0.02, spike: 0.05 })
  const server = new SimStoreServer(world)
  Object.assign(server.faults, { answerLost: 0.05, requestLost: 0.05, appliedLate: 0.05 })
  const store = server.connect()
  await network.host('server').listen('tcp://server:1', limits, (link) => ({
    onMessage: (frames) => {
      const key = new TextDecoder().decode(Buffer.concat(frames as Uint8Array[]))
      store.txn(txn([], [put(key, 'x')])).then(
        (result) => link.send([textFrame(`${result.revision}`)]),
        () => link.send([textFrame('unknown')]),
      )
    },
    onClose: () => undefined,
  }))
  for (let client = 0; client < 5; client++) {
    const time = new SimTime(world, { name: `client${client}` })
    void runClient(`client${client}`, network.host(`client${client}`), time, world)
  }
  await world.run({ untilMs: 3000 })
  return world
}

async function runClient(name: string, net: Net, time: SimTime, world: SimWorld): Promise<void> {
  const random = world.random.fork(name)
  for (;;) {
    const ear = new Ear()
    const link = net.connect('tcp://server:1', ear)
    for (let request = 0; request < 20; request++) {
      link.send([textFrame(`${name}/${random.integer(10)}`)])
      const answered = ear.messages.length + 1
      await ear.until(() => ear.isClosed || ear.messages.length >= answered)
      if (ear.isClosed) break
    }
    link.close()
    await sleep(time, random.between(0, 20))
  }
}

describe('SimWorld', () => {
  it('one seed twice gives one trace, two seeds give two', async () => {
    const [first, again, other] = [await runCluster(1), await runCluster(1), await runCluster(2)]
    expect(first.eventCount).toBeGreaterThan(900)
    expect(again.traceHash).toBe(first.traceHash)
    expect(again.eventCount).toBe(first.eventCount)
    expect(other.traceHash).not.toBe(first.traceHash)
  })

  it('runs in the order of time, then of scheduling, and drains promises in between', async () => {
    const world = new SimWorld(1)
    const order: string[] = []
    const chain = async (name: string): Promise<void> => {
      for (let step = 0; step < 20; step++) await Promise.resolve()
      order.push(`${name} drained`)
    }
    world.schedule(2, 'c', () => order.push('c'))
    world.schedule(1, 'a', () => {
      order.push('a')
      void chain('a')
    })
    world.schedule(1, 'b', () => order.push('b'))
    world.schedule(1, 'never', () => order.push('never')).cancel()
    await world.run()
    expect(order).toEqual(['a', 'a drained', 'b', 'c'])
    expect(world.now).toBe(2)
  })

  it('pops in order whatever was pushed', async () => {
    const world = new SimWorld(3)
    const random = new SimRandom(3)
    const times: number[] = []
    for (let index = 0; index < 500; index++) {
      world.schedule(random.integer(50), 'x', () => times.push(world.now))
    }
    await world.run()
    expect(times).toHaveLength(500)
    expect(times).toEqual(times.toSorted((left, right) => left - right))
  })

  it('an error of an event names the seed; a run without end is one', async () => {
    const world = new SimWorld(99)
    world.schedule(5, 'bad', () => {
      throw new Error('boom')
    })
    await expect(world.run()).rejects.toThrow(/seed 99, 5.000 ms.*boom/)
    const endless = new SimWorld(98)
    const again = (): void => {
      endless.schedule(1, 'again', again)
    }
    again()
    await expect(endless.run({ eventsMax: 100 })).rejects.toThrow(/seed 98.*no end/)
    await expect(new SimWorld(97).run({ until: () => false })).rejects.toThrow(/nothing is left/)
  })
})

describe('SimTime', () => {
  it('C1, C3: the wall clock jumps, the monotonic one does not; a fast clock gains', async () => {
    const world = new SimWorld(1)
    const time = new SimTime(world, { wallStartMs: 1000, rate: 1.05 })
    await world.settle(sleep(time, 105))
    expect(time.monotonicMs()).toBeCloseTo(105)
    expect(world.now).toBeCloseTo(100)
    time.jumpWall(-3_600_000)
    expect(time.wallMs()).toBe(1105 - 3_600_000)
    expect(time.monotonicMs()).toBeCloseTo(105)
  })

  it('timers of a process that has ended never fire', async () => {
    const world = new SimWorld(1)
    const time = new SimTime(world)
    time.setTimer(1, () => expect.unreachable())
    time.halt()
    time.setTimer(1, () => expect.unreachable())
    await world.run()
  })
})

describe('SimNetwork', () => {
  async function pair(seed: number) {
    const world = new SimWorld(seed)
    const network = new SimNetwork(world)
    const server: Ear[] = []
    await network.host('server').listen('tcp://server:1', limits, (link) => {
      const ear = new Ear()
      server.push(ear)
      return {
        onMessage: (frames) => {
          ear.onMessage(frames)
          link.send(frames)
        },
        onClose: (reason) => ear.onClose(reason),
      }
    })
    const ear = new Ear()
    const link = network.host('client').connect('tcp://server:1', ear)
    await world.settle(ear.until(() => ear.isOpen))
    return { world, network, server, ear, link }
  }

  it('N6: a lost link loses a suffix, and both ends learn of it', async () => {
    let losses = 0
    for (let seed = 0; seed < 30; seed++) {
      const { world, network, server, ear, link } = await pair(seed)
      network.faults.loseLink = 0.1
      for (let index = 0; index < 20; index++) link.send([textFrame(`${index}`)])
      await world.run({ untilMs: world.now + 60_000 })
      const heard = server[0]?.messages.map((message) => Number(new TextDecoder().decode(message)))
      expect(heard ?? []).toEqual(Array.from({ length: heard?.length ?? 0 }, (_, index) => index))
      if (network.fired.loseLink === 0) continue
      losses += 1
      expect(ear.reason).toMatchObject({ code: 'CONNECTION_LOST' })
      if (server[0] !== undefined) expect(server[0].isClosed).toBe(true)
    }
    expect(losses).toBeGreaterThan(10)
  })

  it('N8: a request delivered twice comes on a link of its own, and its answer goes nowhere', async () => {
    const { world, network, server, ear, link } = await pair(4)
    network.faults.duplicate = 1
    link.send([textFrame('twice')])
    await world.run({ untilMs: world.now + 60_000 })
    expect(network.fired.duplicate).toBe(1)
    expect(server.map((side) => side.text(0))).toEqual(['twice', 'twice'])
    expect(ear.messages).toHaveLength(1)
    expect(server[1]?.isClosed).toBe(true)
  })

  it('N2: one way blocked is silence, then the end of the link; nothing after a gap', async () => {
    const { world, network, server, ear, link } = await pair(5)
    link.send([textFrame('before')])
    await world.settle(ear.until(() => ear.messages.length === 1))
    network.block('server', 'client')
    link.send([textFrame('heard, never answered')])
    await world.run({ untilMs: world.now + 1000 })
    expect(server[0]?.messages).toHaveLength(2)
    expect(ear.messages).toHaveLength(1)
    network.heal()
    link.send([textFrame('after')])
    await world.run({ untilMs: world.now + 30_000 })
    expect(ear.messages).toHaveLength(1)
    expect(ear.reason).toMatchObject({ code: 'CONNECTION_LOST' })
  })

  it('N5: no link comes to be across a block', async () => {
    const { world, network } = await pair(6)
    network.block('client', 'server')
    const ear = new Ear()
    network.host('client').connect('tcp://server:1', ear)
    await world.settle(ear.until(() => ear.isClosed))
    expect(ear.reason).toMatchObject({ code: 'UNREACHABLE' })
  })

  it('P1: a crashed process hears nothing more, the others learn; its address is free again', async () => {
    const { world, network, server, ear, link } = await pair(7)
    link.send([textFrame('x')])
    await world.settle(ear.until(() => ear.messages.length === 1))
    link.send([textFrame('in flight')])
    network.crash('server')
    await world.run()
    expect(server[0]).toMatchObject({ isClosed: false })
    expect(server[0]?.messages).toHaveLength(1)
    expect(ear.reason).toMatchObject({ code: 'CONNECTION_LOST' })
    await network.host('server').listen('tcp://server:1', limits, () => new Ear())
  })

  it('sees a sender that changes its frames too early', async () => {
    const { world, link } = await pair(8)
    const frame = textFrame('changing')
    link.send([frame])
    frame[0] = 0
    await expect(world.run()).rejects.toThrow(/were changed before they arrived/)
  })
})

describe('SimStoreServer', () => {
  it('an unknown outcome is applied, lost, or applied late', async () => {
    const outcomes = new Set<string>()
    for (let seed = 0; seed < 40; seed++) {
      const world = new SimWorld(seed)
      const server = new SimStoreServer(world)
      Object.assign(server.faults, { answerLost: 0.3, requestLost: 0.3, appliedLate: 0.3 })
      const store = server.connect()
      const failure = await world.settle(store.txn(txn([], [put('k', 'v')]))).then(
        () => undefined,
        (error: unknown) => error,
      )
      if (failure === undefined) continue
      expect(failure).toMatchObject({ code: 'STORE_UNAVAILABLE' })
      const isThere = server.image.get('k') !== undefined
      await world.run()
      const isThereLater = server.image.get('k') !== undefined
      outcomes.add(isThere ? 'applied' : isThereLater ? 'late' : 'lost')
    }
    expect([...outcomes].sort()).toEqual(['applied', 'late', 'lost'])
  })

  it('a lease by time ends when it is not renewed; one by process when the process dies', async () => {
    const world = new SimWorld(1)
    const byTime = new SimStoreServer(world, { leases: 'time' })
    const store = byTime.connect()
    const lease = await world.settle(store.lease(1000))
    const leased = { kind: 'put', key: 'live', value: textFrame('x'), lease } as const
    await world.settle(store.txn(txn([], [leased])))
    await world.run({ untilMs: world.now + 900 })
    await world.settle(lease.keepAlive())
    await world.run({ untilMs: world.now + 900 })
    expect(byTime.image.get('live')).toBeDefined()
    await world.run({ untilMs: world.now + 200 })
    expect(byTime.image.get('live')).toBeUndefined()
    await expect(world.settle(lease.keepAlive())).rejects.toMatchObject({ code: 'FENCED' })

    const byProcess = new SimStoreServer(world)
    const owner = byProcess.connect()
    const other = await world.settle(owner.lease(1))
    await world.settle(owner.txn(txn([], [{ ...leased, lease: other }])))
    await world.run({ untilMs: world.now + 100_000 })
    expect(byProcess.image.get('live')).toBeDefined()
    byProcess.crash(owner)
    expect(byProcess.image.get('live')).toBeUndefined()
  })

  it('a crashed process gets no answer, but its request may still take effect', async () => {
    const world = new SimWorld(2)
    const server = new SimStoreServer(world)
    const store = server.connect()
    store.txn(txn([], [put('k', 'v')])).then(
      () => expect.unreachable(),
      () => expect.unreachable(),
    )
    server.crash(store)
    await world.run()
    expect(server.image.get('k')).toBeDefined()
  })

  it('compaction ends watches that begin in the past', async () => {
    const world = new SimWorld(3)
    const server = new SimStoreServer(world)
    const store = server.connect()
    await world.settle(store.txn(txn([], [put('k', '1')])))
    await world.run()
    server.compact()
    await world.settle(
      new Promise<void>((resolve) => {
        store.watch('', 1, { onChanges: () => expect.unreachable(), onEnd: () => resolve() })
      }),
    )
  })
})
