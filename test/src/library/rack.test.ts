/** Where a script says that it stands goes with its fetches. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RealNet } from '../../../src/io/real-net.ts'
import { connect } from '../../../src/library/index.ts'
import type { Link, LinkEvents, Listener } from '../../../src/ports/net.ts'
import { freePorts } from '../../support/etcd.ts'
import { batchOf } from '../client/client-fixture.ts'
import type { ClientWorld } from '../client/client-world.ts'
import { FakeCluster } from '../client/fake-cluster.ts'

describe('rack', () => {
  const listeners: Promise<Listener>[] = []
  let broker = ''
  let brokers: FakeCluster
  beforeAll(async () => {
    const [port] = await freePorts(1)
    broker = `kafka://127.0.0.1:${port}`
    const net = new RealNet()
    const limits = { messageBytesMax: 1 << 20, linksMax: 10 }
    const world = {
      accept: async (address: string, onLink: (link: Link) => LinkEvents) => {
        listeners.push(net.listen(address, limits, onLink))
      },
      schedule: (delayMs: number, run: () => void) => setTimeout(run, delayMs),
    }
    brokers = new FakeCluster(world as unknown as ClientWorld, [broker])
    const [partition] = brokers.addTopic('t')
    partition?.append(batchOf(['hello']))
    await Promise.all(listeners)
  })
  afterAll(async () => {
    for (const listener of listeners) await (await listener).close(0)
  })

  it.each([
    [undefined, undefined, ''],
    ['here', undefined, 'here'],
    ['here', 'there', 'there'],
  ])('of the connection %s, of the consumer %s', async (ofAll, ofOne, expected) => {
    const rack = (name: string | undefined) => (name === undefined ? {} : { rack: name })
    const stream = await connect({ broker, ...rack(ofAll) })
    brokers.fetches.length = 0
    const consumer = stream.consumer({ topics: 't', from: 'start', ...rack(ofOne) })
    for await (const message of consumer) {
      expect(message.text()).toBe('hello')
      break
    }
    await stream.close()
    expect(brokers.fetches[0]?.rackId ?? '').toBe(expected)
  })
})
