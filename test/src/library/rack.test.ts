/** Where a script says that it stands goes with its fetches. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect } from '../../../src/library/index.ts'
import { batchOf } from '../client/client-fixture.ts'
import { LoopbackBrokers } from './loopback-brokers.ts'

describe('rack', () => {
  let loopback: LoopbackBrokers
  beforeAll(async () => {
    loopback = await LoopbackBrokers.start()
    const [partition] = loopback.brokers.addTopic('t')
    partition?.append(batchOf(['hello']))
  })
  afterAll(() => loopback.stop())

  it.each([
    [undefined, undefined, ''],
    ['here', undefined, 'here'],
    ['here', 'there', 'there'],
  ])('of the connection %s, of the consumer %s', async (ofAll, ofOne, expected) => {
    const { brokers, broker } = loopback
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
