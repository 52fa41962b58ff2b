import { describe, expect, it } from 'vitest'
import type { StreamError } from '../../../src/base/errors.ts'
import { Connection, CorrelationIds } from '../../../src/client/connection.ts'
import type { Link } from '../../../src/ports/net.ts'
import {
  encodeNotice,
  encodeResponse,
  readCorrelationId,
  readRequestHeader,
} from '../../../src/protocol/codec.ts'
import { ClientWorld } from './client-world.ts'
import { FakeCluster } from './fake-cluster.ts'

const ADDRESS = 'ipc:///one'

function connect(world: ClientWorld): {
  connection: Connection
  opened: Promise<void>
  closed: Promise<StreamError>
} {
  let connection: Connection | undefined
  let onClose: (reason: StreamError) => void = () => {}
  const closed = new Promise<StreamError>((resolve) => {
    onClose = resolve
  })
  const opened = new Promise<void>((resolve) => {
    connection = new Connection(
      world.time,
      world.net,
      {
        address: ADDRESS,
        clientId: 'test',
        correlationIds: new CorrelationIds(),
        connectTimeoutMs: 5000,
        requestTimeoutMs: 2000,
      },
      { onOpen: resolve, onClose },
    )
  })
  return { connection: connection!, opened, closed }
}

const metadataBody = {
  topics: [],
  allowAutoTopicCreation: false,
  includeClusterAuthorizedOperations: false,
  includeTopicAuthorizedOperations: false,
}

describe('connection: negotiation', () => {
  it('takes the highest version both sides know', async () => {
    const world = new ClientWorld()
    const brokers = new FakeCluster(world, [ADDRESS])
    brokers.ranges.set(3, { min: 2, max: 7 })
    brokers.ranges.set(1, { min: 4, max: 40 })
    const { connection, opened } = connect(world)
    await world.run(opened)
    expect(connection.versionOf('Metadata')).toBe(7)
    expect(connection.versionOf('Metadata', 5)).toBe(5)
    expect(connection.versionOf('Fetch')).toBe(13)
    expect(connection.supports('ListGroups')).toBe(false)
    expect(() => connection.versionOf('ListGroups')).toThrow(/does not offer/)
  })

  it('no common version is named', async () => {
    const world = new ClientWorld()
    const brokers = new FakeCluster(world, [ADDRESS])
    brokers.ranges.set(0, { min: 90, max: 99 })
    const { connection, opened } = connect(world)
    await world.run(opened)
    const call = connection.call('Produce', { acks: 1, timeoutMs: 1, topicData: [] })
    await expect(call).rejects.toMatchObject({ code: 'UNSUPPORTED_BY_BROKER' })
  })

  for (const max of [0, 1, 2]) {
    it(`goes down to ApiVersions v${max} when the broker says that 3 is too new`, async () => {
      const world = new ClientWorld()
      const brokers = new FakeCluster(world, [ADDRESS])
      brokers.ranges.set(18, { min: 0, max })
      const { connection, opened } = connect(world)
      await world.run(opened)
      expect(brokers.requests.map(({ version }) => version)).toEqual([max])
      expect(connection.isOpen).toBe(true)
    })
  }

  it('nobody there: UNREACHABLE, naming the address', async () => {
    const world = new ClientWorld()
    const { closed } = connect(world)
    expect(await world.run(closed)).toMatchObject({ code: 'UNREACHABLE', target: ADDRESS })
  })

  it('somebody who never answers: UNREACHABLE after connectTimeoutMs', async () => {
    const world = new ClientWorld()
    await world.accept(ADDRESS, () => ({ onMessage: () => {}, onClose: () => {} }))
    const { closed } = connect(world)
    expect(await world.run(closed)).toMatchObject({ code: 'UNREACHABLE' })
    expect(world.nowMs).toBeGreaterThanOrEqual(4999)
    expect(world.nowMs).toBeLessThan(5100)
  })
})

describe('connection: answers', () => {
  it('are matched by correlation id, in any order', async () => {
    const world = new ClientWorld()
    const brokers = new FakeCluster(world, [ADDRESS])
    const [partition] = brokers.addTopic('t')
    const { connection, opened } = connect(world)
    await world.run(opened)
    const partitions = [{ partition: 0, fetchOffset: 0, partitionMaxBytes: 10 }]
    const fetch = connection.call(
      'Fetch',
      {
        maxWaitMs: 500,
        minBytes: 1,
        topics: [{ topic: 't', partitions }],
        forgottenTopicsData: [],
      },
      { versionMax: 12 },
    )
    const metadata = await world.run(connection.call('Metadata', metadataBody))
    expect(metadata.clusterId).toBe('fake')
    expect(connection.requestsInFlight).toBe(1)
    expect((await world.run(fetch)).responses[0]?.partitions[0]?.errorCode).toBe(0)
    expect(partition?.logEnd).toBe(0)
  })

  /** A broker that negotiates and then does as told. */
  async function scripted(onRequest: (link: Link, correlationId: number) => void) {
    const world = new ClientWorld()
    await world.accept(ADDRESS, (link) => ({
      onMessage: (frames) => {
        const { apiKey, correlationId } = readRequestHeader(frames)
        if (apiKey !== 18) {
          onRequest(link, correlationId)
          return
        }
        const apiKeys = [{ apiKey: 3, minVersion: 0, maxVersion: 12 }]
        const body = { errorCode: 0, apiKeys, throttleTimeMs: 0 }
        link.send(encodeResponse('ApiVersions', 3, correlationId, body))
      },
      onClose: () => {},
    }))
    const session = connect(world)
    await world.run(session.opened)
    return { world, ...session }
  }

  it('a missed deadline ends the connection, and everything in flight with it', async () => {
    const { world, connection, closed } = await scripted(() => {})
    const first = connection.call('Metadata', metadataBody, { timeoutMs: 500 })
    const second = connection.call('Metadata', metadataBody)
    const outcomes = await world.run(Promise.allSettled([first, second]))
    expect(outcomes).toMatchObject([
      { reason: { code: 'TIMED_OUT' } },
      { reason: { code: 'CONNECTION_LOST' } },
    ])
    expect(await closed).toMatchObject({ code: 'TIMED_OUT' })
    await expect(connection.call('Metadata', metadataBody)).rejects.toMatchObject({
      code: 'CONNECTION_LOST',
    })
  })

  it('a notice ends the request it names', async () => {
    const { world, connection } = await scripted((link, correlationId) =>
      link.send(encodeNotice({ errorCode: 42, correlationId, message: 'bad request' })),
    )
    const call = connection.call('Metadata', metadataBody)
    await expect(world.run(call)).rejects.toMatchObject({ kafkaError: 42, code: 'BROKER_ERROR' })
    expect(connection.isOpen).toBe(true)
  })

  it('a notice without a request ends all of them', async () => {
    const waiting: Link[] = []
    const { world, connection } = await scripted((link) => {
      waiting.push(link)
      if (waiting.length < 3) return
      link.send(encodeNotice({ errorCode: 7, correlationId: -1, message: 'going away' }))
    })
    const calls = [1, 2, 3].map(() => connection.call('Metadata', metadataBody))
    const outcomes = await world.run(Promise.allSettled(calls))
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
  })

  it('an answer that cannot be read fails the request and ends the connection', async () => {
    const { world, connection, closed } = await scripted((link, correlationId) => {
      const bytes = new Uint8Array(9).fill(0xff)
      new DataView(bytes.buffer).setInt32(0, correlationId)
      expect(readCorrelationId([bytes])).toBe(correlationId)
      link.send([bytes])
    })
    const call = connection.call('Metadata', metadataBody)
    await expect(world.run(call)).rejects.toMatchObject({ code: 'MALFORMED_MESSAGE' })
    expect(await world.run(closed)).toMatchObject({ code: 'MALFORMED_MESSAGE' })
  })

  it('answers to nobody are ignored, however short', async () => {
    const { world, connection } = await scripted((link, correlationId) => {
      link.send(encodeResponse('Heartbeat', 0, 77_777, { throttleTimeMs: 0, errorCode: 0 }))
      link.send(encodeNotice({ errorCode: 1, correlationId, message: '' }))
    })
    await expect(world.run(connection.call('Metadata', metadataBody))).rejects.toMatchObject({
      kafkaError: 1,
    })
  })

  it('closing ends what is in flight with CLOSED', async () => {
    const { connection } = await scripted(() => {})
    const call = connection.call('Metadata', metadataBody)
    connection.close()
    connection.close()
    await expect(call).rejects.toMatchObject({ code: 'CLOSED' })
  })
})
