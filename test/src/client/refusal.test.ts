/**
 * Whoever is not let in any more: at first contact that is final at once; in mid-life, where passwords are being exchanged, at the
 * second refusal.
 */
import { describe, expect, it } from 'vitest'
import { StreamError } from '../../../src/base/errors.ts'
import { Cluster } from '../../../src/client/cluster.ts'
import type { Login } from '../../../src/client/login.ts'
import {
  batchOf,
  consumerOf,
  type Fixture,
  fixture,
  producerOf,
  valuesOf,
} from './client-fixture.ts'

const ADDRESS = 'kafka://one:9092'
const REFUSAL = { code: 'NOT_ALLOWED', message: 'the password is wrong' }
/** The pause after a refusal, and what it takes to come again. */
const SOON_MS = 7000

/** Brokers that let in as `isRefused` says, at the addresses for which it does. */
function guarded(addresses = [ADDRESS]) {
  const state = { isRefused: (_address: string): boolean => false, asked: 0 }
  const login = {
    logIn: async (_call: unknown, target: string) => {
      state.asked++
      if (state.isRefused(target)) throw new StreamError('NOT_ALLOWED', REFUSAL.message)
      return 0
    },
  } as unknown as Login
  return { state, login, f: fixture({ addresses, cluster: { login } }) }
}

function cutOff({ world, brokers }: Fixture): void {
  for (const address of brokers.addresses) world.breakLinks(address)
}

describe('a client that is not let in', () => {
  it('any more: a reader fails at the second refusal', async () => {
    const { state, f } = guarded()
    f.brokers.addTopic('t')
    await f.world.run(f.cluster.connect())
    await f.world.run(f.cluster.awaitTopic('t'))
    const consumer = consumerOf(f)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
    await f.world.pass(100)
    state.asked = 0
    state.isRefused = () => true
    cutOff(f)
    await f.world.pass(1000)
    expect(consumer.poll()).toBeUndefined()
    await f.world.pass(SOON_MS)
    expect(consumer.poll()).toMatchObject({ kind: 'failed', error: REFUSAL })
    expect(state.asked).toBe(2)
    expect(f.cluster.refusal).toMatchObject(REFUSAL)
  })

  it('any more: what is heard between two refusals does not hide them', async () => {
    const { state, f } = guarded()
    f.brokers.addTopic('t')
    await f.world.run(f.cluster.connect())
    await f.world.run(f.cluster.awaitTopic('t'))
    const consumer = consumerOf(f)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
    await f.world.pass(100)
    state.isRefused = () => true
    cutOff(f)
    await f.world.pass(1000)
    f.brokers.stop(0)
    await f.world.pass(SOON_MS)
    expect(f.cluster.refusal).toBeUndefined()
    f.brokers.start(0)
    expect(await f.world.run(consumer.next())).toMatchObject({ kind: 'failed', error: REFUSAL })
  })

  it('once only: a reader goes on', async () => {
    const { state, f } = guarded()
    const [partition] = f.brokers.addTopic('t')
    await f.world.run(f.cluster.connect())
    await f.world.run(f.cluster.awaitTopic('t'))
    const consumer = consumerOf(f)
    consumer.assign([{ topic: 't', partition: 0, startOffset: 0 }])
    await f.world.pass(100)
    state.isRefused = () => true
    cutOff(f)
    await f.world.pass(1000)
    state.isRefused = () => false
    await f.world.pass(SOON_MS)
    expect(f.cluster.refusal).toBeUndefined()
    partition?.append(batchOf(['hello']))
    const event = await f.world.run(consumer.next())
    expect(event?.kind === 'records' && valuesOf(event)).toEqual(['hello'])
  })

  it('any more: what a producer has fails, and nothing more is taken', async () => {
    const { state, f } = guarded()
    f.brokers.addTopic('t')
    const { producer, deliveries } = await producerOf(f, 't')
    const line = Buffer.from('a\n')
    producer.appendLines('t', 0, line, 0, line.length)
    await f.world.run(producer.flush())
    state.isRefused = () => true
    cutOff(f)
    producer.appendLines('t', 0, line, 0, line.length)
    await expect(f.world.run(producer.flush())).rejects.toMatchObject(REFUSAL)
    expect(f.world.nowMs).toBeLessThan(2 * SOON_MS)
    expect(deliveries.map(({ error }) => error?.code)).toEqual([undefined, 'NOT_ALLOWED'])
    expect(() => producer.appendLines('t', 0, line, 0, line.length)).toThrow(REFUSAL.message)
  })

  it('any more: a producer without work is told as well, once', async () => {
    const { state, f } = guarded()
    f.brokers.addTopic('t')
    const failures: StreamError[] = []
    await producerOf(f, 't', { onFailure: (error) => failures.push(error) })
    await f.world.pass(100)
    state.isRefused = () => true
    cutOff(f)
    await f.world.pass(5 * SOON_MS)
    expect(failures).toMatchObject([REFUSAL])
  })

  it('by one broker of several: its partitions fail, the others are read', async () => {
    const addresses = [ADDRESS, 'kafka://two:9092']
    const { state, f } = guarded(addresses)
    const partitions = f.brokers.addTopic('t', 2)
    await f.world.run(f.cluster.connect())
    await f.world.run(f.cluster.awaitTopic('t'))
    const consumer = consumerOf(f)
    for (const partition of [0, 1]) consumer.assign([{ topic: 't', partition, startOffset: 0 }])
    await f.world.pass(100)
    state.isRefused = (address) => address === addresses[1]
    cutOff(f)
    const failed = await f.world.run(consumer.next())
    expect(failed).toMatchObject({ kind: 'failed', partition: 1, error: REFUSAL })
    partitions[0]?.append(batchOf(['hello']))
    expect(await f.world.run(consumer.next())).toMatchObject({ kind: 'records', partition: 0 })
    expect(f.cluster.refusal).toBeUndefined()
  })

  it('calls wait for the second refusal as well', async () => {
    const { state, f } = guarded()
    f.brokers.addTopic('t')
    await f.world.run(f.cluster.connect())
    state.isRefused = () => true
    cutOff(f)
    const startMs = f.world.nowMs
    await expect(f.world.run(f.cluster.describeTopics(['t']))).rejects.toMatchObject(REFUSAL)
    expect(f.world.nowMs - startMs).toBeGreaterThan(4000)
    expect(f.world.nowMs - startMs).toBeLessThan(SOON_MS)
  })

  it('at first contact: at once, and at each address that says so', async () => {
    const { state, login, f } = guarded()
    state.isRefused = () => true
    await expect(f.world.run(f.cluster.connect())).rejects.toMatchObject(REFUSAL)
    expect(f.world.nowMs).toBeLessThan(1000)
    const other = new Cluster(f.world.time, f.world.random, f.world.net, f.world.log, {
      addresses: [ADDRESS],
      login,
    })
    state.isRefused = () => false
    await f.world.run(other.connect())
  })
})
