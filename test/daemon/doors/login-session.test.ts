/** Logins at a whole daemon on simulated ports: what those get who have not logged in. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Daemon } from '../../../daemon/doors/daemon.ts'
import { RealHashes } from '../../../src/io/real-hashes.ts'
import type { Link } from '../../../src/ports/net.ts'
import type { ApiName, RequestInput } from '../../../src/protocol/api-table.ts'
import { decodeResponse, encodeRequest } from '../../../src/protocol/codec.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { DaemonWorld, KAFKA, ZMQ } from '../daemon-world.ts'

const hashes = new RealHashes()
const texts = {
  'sasl.enabled.mechanisms': 'SCRAM-SHA-256',
  'stream.login.timeout.ms': '5000',
  'stream.newcomers.max': '5',
}

/** A raw connection to the Kafka door. */
class Raw {
  isClosed = false
  readonly answers: (readonly Uint8Array[])[] = []
  readonly #link: Link

  constructor(w: DaemonWorld) {
    this.#link = w.network.host('raw').connect(KAFKA, {
      onMessage: (frames) => this.answers.push(frames),
      onClose: () => {
        this.isClosed = true
      },
    })
  }

  sendBytes(bytes: Uint8Array): void {
    this.#link.send([bytes])
  }

  send<A extends ApiName>(api: A, version: number, body: RequestInput<A>): void {
    this.#link.send(encodeRequest(api, version, { correlationId: 1, clientId: 'raw' }, body))
  }
}

async function started(): Promise<{ w: DaemonWorld; daemon: Daemon }> {
  const w = new DaemonWorld()
  const daemon = await w.start({ texts, hashes })
  return { w, daemon }
}

describe('who has not logged in', () => {
  it('is told the versions, and nothing else', async () => {
    const { w } = await started()
    const raw = new Raw(w)
    raw.send('ApiVersions', 3, { clientSoftwareName: 'c', clientSoftwareVersion: '1' })
    await w.run(50)
    expect(raw.answers).toHaveLength(1)
    expect(raw.isClosed).toBe(false)
    raw.send('Metadata', 9, { topics: null, allowAutoTopicCreation: false })
    await w.run(50)
    expect(raw.answers).toHaveLength(1)
    expect(raw.isClosed).toBe(true)
    expect(w.said.join('\n')).toContain('before a login')
  })

  it('has not much time', async () => {
    const { w } = await started()
    const raw = new Raw(w)
    raw.send('SaslHandshake', 1, { mechanism: 'SCRAM-SHA-256' })
    await w.run(4900)
    expect(raw.isClosed).toBe(false)
    await w.run(200)
    expect(raw.isClosed).toBe(true)
  })

  it('makes room for who comes later', async () => {
    const { w } = await started()
    const raws: Raw[] = []
    for (let count = 0; count < 8; count += 1) {
      const raw = new Raw(w)
      raw.send('SaslHandshake', 1, { mechanism: 'SCRAM-SHA-256' })
      raws.push(raw)
      await w.run(10)
    }
    expect(raws.map(({ isClosed }) => isClosed)).toEqual([
      ...[true, true, true],
      ...[false, false, false, false, false],
    ])
  })

  it('sends what it likes: it is answered or ended, and others do not notice', async () => {
    const { w, daemon } = await started()
    const handshake = Buffer.concat(
      encodeRequest(
        'SaslHandshake',
        1,
        { correlationId: 1, clientId: 'c' },
        {
          mechanism: 'SCRAM-SHA-256',
        },
      ),
    )
    const message = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 64 }),
      fc.constant(new Uint8Array(handshake)),
      fc
        .tuple(fc.nat(handshake.length - 1), fc.nat(255))
        .map(([at, byte]) => new Uint8Array(handshake).with(at, byte)),
      fc.string().map((text) =>
        Buffer.concat(
          encodeRequest(
            'SaslAuthenticate',
            1,
            { correlationId: 2, clientId: null },
            {
              authBytes: Buffer.from(`n,,n=${text},r=${text}`),
            },
          ),
        ),
      ),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 6 }), async (messages) => {
        const raw = new Raw(w)
        for (const bytes of messages) raw.sendBytes(bytes)
        await w.run(20)
        for (const frames of raw.answers) expect(Buffer.concat(frames).length).toBeGreaterThan(3)
      }),
      { numRuns: 150 },
    )
    await w.run(10_000)
    expect(w.said.filter((line) => line.startsWith('error'))).toEqual([])
    expect(daemon.requests).toBe(0)
    const native = w.client(ZMQ)
    await native.create('t')
  })

  it('a mechanism that is not offered: the list, then the end', async () => {
    const { w } = await started()
    const raw = new Raw(w)
    raw.send('SaslHandshake', 1, { mechanism: 'PLAIN' })
    await w.run(50)
    expect(decodeResponse('SaslHandshake', 1, raw.answers[0] ?? []).body).toEqual({
      errorCode: KafkaError.UNSUPPORTED_SASL_MECHANISM,
      mechanisms: ['SCRAM-SHA-256'],
    })
    expect(raw.isClosed).toBe(true)
  })
})
