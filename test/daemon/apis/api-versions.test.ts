import { describe, expect, it } from 'vitest'
import { type HandledApi, listedRanges } from '../../../daemon/apis/listed-ranges.ts'
import { codecRange } from '../../../src/protocol/api-table.ts'
import { decodeResponse, encodeRequest } from '../../../src/protocol/codec.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { DaemonWorld, KAFKA, ZMQ } from '../daemon-world.ts'

const software = { clientSoftwareName: 'test-client', clientSoftwareVersion: '1.0' }

describe('ApiVersions', () => {
  it.each([
    ['zmq', ZMQ],
    ['kafka', KAFKA],
  ] as const)('lists on the %s door exactly what has a handler', async (door, address) => {
    const w = new DaemonWorld()
    await w.start()
    const answer = await w.client(address).call('ApiVersions', 3, software)
    expect(
      answer.apiKeys.map(({ apiKey, minVersion, maxVersion }) => [apiKey, minVersion, maxVersion]),
    ).toEqual(listedRanges(door, 'A').map(({ apiKey, min, max }) => [apiKey, min, max]))
    const keys = answer.apiKeys.map((row) => row.apiKey)
    expect(keys.includes(1000)).toBe(door === 'zmq')
    // Logins are for Kafka's clients.
    for (const login of [17, 36]) expect(keys.includes(login)).toBe(door === 'kafka')
  })

  it('every listed version that is answered can be read and written', () => {
    for (const { api, acceptedMin, max } of listedRanges('zmq', 'A')) {
      const range = codecRange(api as HandledApi)
      expect(acceptedMin).toBeGreaterThanOrEqual(range.min)
      expect(max).toBeLessThanOrEqual(range.max)
    }
  })

  it('a version that is too new is answered in a v0 body with error 35', async () => {
    const w = new DaemonWorld()
    await w.start()
    for (const address of [ZMQ, KAFKA]) {
      const client = w.client(address)
      const frames = encodeRequest(
        'ApiVersions',
        4,
        { correlationId: 7, clientId: 'new' },
        software,
      )
      const bytes = Buffer.concat(frames)
      bytes.writeInt16BE(9, 2)
      const answers: Uint8Array[][] = []
      const raw = w.network.host('raw').connect(address, {
        onMessage: (received) => answers.push([...received]),
        onClose: () => undefined,
      })
      raw.send([bytes])
      await w.run(100)
      const { correlationId, body } = decodeResponse('ApiVersions', 0, answers[0]!)
      expect(correlationId).toBe(7)
      expect(body.errorCode).toBe(KafkaError.UNSUPPORTED_VERSION)
      expect(body.apiKeys.map((row) => row.apiKey)).toContain(18)
      // The connection goes on.
      expect((await client.call('ApiVersions', 4, software)).errorCode).toBe(0)
    }
  })

  it('a software name that is none is refused', async () => {
    const w = new DaemonWorld()
    await w.start()
    const answer = await w.client().call('ApiVersions', 3, {
      clientSoftwareName: '-x-',
      clientSoftwareVersion: '1',
    })
    expect(answer.errorCode).toBe(KafkaError.INVALID_REQUEST)
  })
})

describe('P1 Produce is listed from 0, v0 to v2 are refused', () => {
  it('the Kafka door closes, the other sends a notice', async () => {
    const w = new DaemonWorld()
    await w.start()
    const listed = (await w.client().call('ApiVersions', 0, {})).apiKeys
    expect(listed.find((row) => row.apiKey === 0)).toMatchObject({ minVersion: 0, maxVersion: 12 })
    for (const address of [ZMQ, KAFKA]) {
      const client = w.client(address)
      const frames = encodeRequest(
        'Produce',
        3,
        { correlationId: 5, clientId: 'old' },
        { acks: 1, timeoutMs: 1, topicData: [] },
      )
      const bytes = Buffer.concat(frames)
      bytes.writeInt16BE(2, 2)
      client.send(bytes)
      await w.run(100)
      if (address === KAFKA) expect(client.isClosed).toBe(true)
      else {
        expect(client.notices).toEqual([
          {
            errorCode: KafkaError.UNSUPPORTED_VERSION,
            correlationId: 5,
            message: expect.stringContaining('not served'),
          },
        ])
      }
    }
  })
})

it('P2 transactions of version 2 and consumer groups are finalised features; a range from 0 is not shown to Java clients of old', async () => {
  const w = new DaemonWorld()
  await w.start()
  for (const version of [0, 1, 2, 3, 4]) {
    const answer = await w.client().call('ApiVersions', version, version >= 3 ? software : {})
    expect(answer).toMatchObject({
      supportedFeatures:
        version < 4
          ? []
          : [
              { name: 'group.version', minVersion: 0, maxVersion: 1 },
              { name: 'transaction.version', minVersion: 0, maxVersion: 2 },
            ],
      finalizedFeatures:
        version < 3
          ? []
          : [
              { name: 'group.version', maxVersionLevel: 1 },
              { name: 'transaction.version', maxVersionLevel: 2 },
            ],
      finalizedFeaturesEpoch: version < 3 ? -1 : 0,
    })
  }
})
