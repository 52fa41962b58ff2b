/** Who waits for records holds up nobody: at `kafka://` a broker answers the requests of a connection one by one. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect } from '../../../src/library/index.ts'
import { LoopbackBrokers } from './loopback-brokers.ts'

describe('consumers at kafka://', () => {
  let loopback: LoopbackBrokers
  beforeAll(async () => {
    loopback = await LoopbackBrokers.start()
    loopback.brokers.addTopic('t')
  })
  afterAll(() => loopback.stop())

  it('have connections of their own, which end with them', async () => {
    const stream = await connect({ broker: loopback.broker })
    expect(loopback.links).toBe(1)
    const consumers = [1, 2].map(() => stream.consumer({ topics: 't' }))
    const ended = consumers.map(async (consumer) => {
      for await (const _ of consumer) return
    })
    await expect.poll(() => loopback.brokers.fetches.length).toBeGreaterThan(1)
    expect(loopback.links).toBe(3)
    for (const consumer of consumers) await consumer.close()
    await Promise.all(ended)
    await expect.poll(() => loopback.links).toBe(1)
    await stream.close()
    await expect.poll(() => loopback.links).toBe(0)
  })
})
