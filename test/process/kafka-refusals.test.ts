/**
 * What is not let in at our Kafka door, and whom our client does not trust: half-spoken, outdated, oversized and dishonest peers.
 * (Wrong passwords, names, authorities and clear text: kafka-security.test.ts.)
 */
import { readFileSync, writeFileSync } from 'node:fs'
import {
  createServer as createPlainServer,
  connect as dial,
  type Server,
  type Socket,
} from 'node:net'
import { createServer as createTlsServer, connect as dialTls } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FrameReader } from '../../src/io/frame-reader.ts'
import type { ApiName, RequestInput, ResponseInput } from '../../src/protocol/api-table.ts'
import {
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
} from '../../src/protocol/codec.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import { KafkaCertificates } from '../support/kafka-certificates.ts'
import { type KafkaDoor, startKafkaDoor } from '../support/kafka-door.ts'
import { ended, eventually, type Outcome, Program } from '../support/program.ts'

const PASSWORD = 'correct=horse,battery staple'
const LOGIN_MS = 1500
/** node has them no more unless it is told to. */
const outdated = {
  minVersion: 'TLSv1',
  maxVersion: 'TLSv1.1',
  ciphers: 'DEFAULT@SECLEVEL=0',
} as const

let program: Program
let certificates: KafkaCertificates

beforeAll(() => {
  program = new Program()
  certificates = new KafkaCertificates(program.directory)
  writeFileSync(program.path('pw'), PASSWORD, { mode: 0o600 })
})
afterAll(() => program?.stop())

function frame(bytes: readonly Uint8Array[]): Buffer {
  const message = Buffer.concat(bytes)
  const size = Buffer.alloc(4)
  size.writeInt32BE(message.length)
  return Buffer.concat([size, message])
}

describe('at our door', () => {
  let door: KafkaDoor
  let mutual: KafkaDoor
  beforeAll(async () => {
    const { certificate, key } = certificates.issue('server')
    const tls = [
      `stream.kafka.tls.certificate.file=${certificate}`,
      `stream.kafka.tls.key.file=${key}`,
    ]
    door = await startKafkaDoor(program, 'login', [
      ...tls,
      'sasl.enabled.mechanisms=SCRAM-SHA-512',
      `stream.login.timeout.ms=${LOGIN_MS}`,
    ])
    mutual = await startKafkaDoor(program, 'mutual', [
      ...tls,
      `stream.kafka.tls.client.ca.file=${certificates.ca}`,
    ])
  }, 60_000)

  const place = (): { host: string; port: number } => {
    const [host = '', port] = door.address.split(':')
    return { host, port: Number(port) }
  }
  const over = (socket: Socket): Promise<string> =>
    new Promise((resolve) => {
      socket.on('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? ''))
      socket.once('close', () => resolve('closed'))
      socket.resume()
    })
  /** TLS, but nothing said yet. */
  const handshake = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = dialTls({ ...place(), rejectUnauthorized: false }, () => resolve(socket))
      socket.once('error', reject)
    })
  const isTold = (words: RegExp): Promise<boolean> =>
    eventually(`the log says ${words}`, () => (words.test(door.said()) ? true : undefined))

  it('TLS below 1.2', async () => {
    const socket = dialTls({ ...place(), rejectUnauthorized: false, ...outdated })
    expect(await over(socket)).toMatch(/PROTOCOL/)
    await isTold(/refused a peer: the TLS handshake failed \(ERR_SSL_UNSUPPORTED_PROTOCOL\)/)
  })

  it('clear text, and a handshake that is none', async () => {
    const header = { correlationId: 1, clientId: 'test' }
    const body = { clientSoftwareName: 'test', clientSoftwareVersion: '1' }
    const greeting = frame(encodeRequest('ApiVersions', 3, header, body))
    const oversized = Buffer.concat([Buffer.from('160301ffff', 'hex'), Buffer.alloc(200_000)])
    for (const bytes of [greeting, oversized]) {
      const socket = dial(place(), () => socket.write(bytes))
      await over(socket)
    }
    await isTold(/refused a peer: it does not speak TLS/)
  })

  it('a mechanism that is not offered: told which are, and hung up on', async () => {
    const socket = await handshake()
    const reader = new FrameReader(65_536)
    const answered = new Promise<Buffer>((resolve) =>
      socket.on('data', (bytes) => {
        reader.push(bytes)
        const message = reader.next()
        if (message !== undefined) resolve(Buffer.from(message))
      }),
    )
    const header = { correlationId: 1, clientId: 'test' }
    socket.write(frame(encodeRequest('SaslHandshake', 1, header, { mechanism: 'GSSAPI' })))
    const { body } = decodeResponse('SaslHandshake', 1, [await answered])
    expect(body).toEqual({
      errorCode: KafkaError.UNSUPPORTED_SASL_MECHANISM,
      mechanisms: ['SCRAM-SHA-512'],
    })
    await over(socket)
  })

  it('messages of a login that are too long, or none', async () => {
    const ask = <A extends ApiName>(api: A, body: RequestInput<A>): Buffer =>
      frame(encodeRequest(api, 1, { correlationId: 1, clientId: 'test' }, body))
    const begin = ask('SaslHandshake', { mechanism: 'SCRAM-SHA-512' })
    for (const bytes of [
      Buffer.from('7fffffff', 'hex'),
      Buffer.concat([begin, ask('SaslAuthenticate', { authBytes: Buffer.alloc(100_000, 97) })]),
      Buffer.concat([begin, ask('SaslAuthenticate', { authBytes: Buffer.alloc(60_000, 97) })]),
      Buffer.concat([begin, ask('SaslAuthenticate', { authBytes: Buffer.from('p,,n=x,r=y') })]),
    ]) {
      const socket = await handshake()
      const end = over(socket)
      socket.write(bytes)
      await end
    }
    await isTold(/what it sends before a login is no greeting: a frame of 2147483647 bytes/)
  })

  it('who takes too long: silent, or byte by byte', async () => {
    const begun = performance.now()
    const silent = await handshake()
    const slow = await handshake()
    const timer = setInterval(() => slow.write(Buffer.from([0])), 100)
    await Promise.all([over(silent), over(slow)])
    clearInterval(timer)
    expect(performance.now() - begun).toBeGreaterThan(LOGIN_MS - 100)
    await isTold(/refused a peer: no login in time/)
  })

  it('a certificate of a client that has expired, or is of another authority', () => {
    for (const [name, options] of [
      ['late', { days: -1 }],
      ['foreign', { by: 'other' }],
    ] as const) {
      const { certificate, key } = certificates.issue(name, options)
      program.ok(
        `stream context set ${name} --broker kafka://${mutual.address} -X ssl.ca.location=${certificates.ca} -X ssl.certificate.location=${certificate} -X ssl.key.location=${key}`,
      )
      expectRefused(
        program.shell(`stream --context ${name} topics list`),
        /does not accept the certificate of this client.*ssl\.certificate\.location/,
      )
    }
  })
})

function expectRefused(outcome: Outcome, words: RegExp): void {
  expect(outcome.stdout).toBe('')
  expect(outcome.stderr).toMatch(/^[^\n]+\n$/)
  expect(outcome.stderr).toMatch(words)
  expect(outcome.stderr).not.toContain(PASSWORD)
  expect(outcome.status, outcome.stderr).toBe(6)
}

describe('our client', () => {
  const servers: Server[] = []
  /** What the peers have heard. */
  let heard = ''
  afterAll(() => {
    for (const server of servers) server.close()
  })

  const listen = (server: Server): Promise<string> =>
    new Promise((resolve) => {
      servers.push(server)
      server.listen(0, '127.0.0.1', () => {
        const place = server.address()
        resolve(`127.0.0.1:${typeof place === 'object' ? place?.port : ''}`)
      })
    })
  /** A broker that answers as `answer` says: a body, raw bytes, or nothing at all. */
  const pose = (answer: (api: ApiName, count: number) => object | Buffer | undefined) =>
    listen(
      createPlainServer((socket) => {
        const reader = new FrameReader(1 << 20)
        socket.on('error', () => undefined)
        let count = 0
        socket.on('data', (bytes) => {
          heard += bytes.toString('latin1')
          reader.push(bytes)
          for (let message = reader.next(); message !== undefined; message = reader.next()) {
            const { api, apiVersion, correlationId } = decodeRequest([message])
            const said = answer(api, count)
            if (api !== 'ApiVersions') count += 1
            if (Buffer.isBuffer(said)) socket.write(said)
            else if (said !== undefined) {
              const body = said as ResponseInput<ApiName>
              socket.write(frame(encodeResponse(api, apiVersion, correlationId, body)))
            }
          }
        })
      }),
    )
  const apiVersions = {
    errorCode: 0,
    apiKeys: [3, 17, 18, 36].map((apiKey) => ({ apiKey, minVersion: 0, maxVersion: 1 })),
  }
  const run = async (address: string, options = '', mechanism = 'SCRAM-SHA-512') => {
    const secret = '--secret sasl.password=file:pw'
    program.ok(
      `stream context set posed --broker kafka://${address} -X sasl.username=etl -X sasl.mechanism=${mechanism} ${secret} ${options}`,
    )
    // The servers are in this process: it must not stand still meanwhile.
    const child = program.start('bash', ['-c', 'exec stream --context posed topics list'])
    let [stdout, stderr] = ['', '']
    child.stdout?.on('data', (text) => {
      stdout += text
    })
    child.stderr?.on('data', (text) => {
      stderr += text
    })
    const status = await ended(child)
    program.ok('stream context delete posed')
    return { status, stdout, stderr, stdoutBytes: Buffer.from(stdout) }
  }

  it('does not speak TLS below 1.2', async () => {
    const { certificate, key } = certificates.issue('outdated')
    const server = createTlsServer({
      cert: readFileSync(certificate),
      key: readFileSync(key),
      ...outdated,
    })
    server.on('tlsClientError', () => undefined)
    const address = await listen(server)
    expectRefused(
      await run(address, `-X ssl.ca.location=${certificates.ca}`),
      /no version or cipher of TLS that is safe enough/,
    )
  })

  it('takes no oversized greeting, nor what is none', async () => {
    for (const hello of [Buffer.from('7fffffff', 'hex'), Buffer.from('SSH-2.0-OpenSSH_9.6\r\n')]) {
      const address = await pose(() => hello)
      expectRefused(await run(address), /does not greet as a broker does: a frame of \d+ bytes/)
    }
  })

  it('takes no oversized message of a login', async () => {
    const address = await pose((api) =>
      api === 'ApiVersions'
        ? apiVersions
        : api === 'SaslHandshake'
          ? { errorCode: 0, mechanisms: ['SCRAM-SHA-512'] }
          : { errorCode: 0, errorMessage: null, authBytes: Buffer.alloc(2 << 20, 97) },
    )
    expectRefused(await run(address), /a frame of 20971\d\d bytes/)
  })

  it.each([
    ['a challenge that is cheap to guess from', 'i=1', /4096/],
    ['a challenge without end', 'i=2000000000', /4096/],
  ])('answers no %s', async (_, iterations, words) => {
    const address = await pose((api, count) => {
      if (api === 'ApiVersions') return apiVersions
      if (api === 'SaslHandshake') return { errorCode: 0, mechanisms: ['SCRAM-SHA-512'] }
      const nonce = /r=([^,\0]+)/.exec(heard.slice(heard.lastIndexOf('n,,n=etl')))?.[1] ?? ''
      const words = `r=${nonce}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,${iterations}`
      return count < 9
        ? { errorCode: 0, errorMessage: null, authBytes: Buffer.from(words) }
        : undefined
    })
    expectRefused(await run(address), words)
  })

  it('shows its password to nobody who offers only PLAIN where it was not asked for', async () => {
    const address = await pose((api) =>
      api === 'ApiVersions'
        ? apiVersions
        : { errorCode: KafkaError.UNSUPPORTED_SASL_MECHANISM, mechanisms: ['PLAIN'] },
    )
    expectRefused(await run(address), /does not offer SCRAM-SHA-512; it offers PLAIN/)
    expect(heard).toContain('etl')
    expect(heard).not.toContain(PASSWORD)
  })

  it('prints what a broker says in one line, without what is no text', async () => {
    const evil = `\x1b[2J${'no\n'.repeat(5000)}`
    const address = await pose((api) =>
      api === 'ApiVersions'
        ? apiVersions
        : api === 'SaslHandshake'
          ? { errorCode: 0, mechanisms: ['PLAIN'] }
          : { errorCode: 58, errorMessage: evil, authBytes: new Uint8Array(0) },
    )
    const refused = await run(address, '', 'PLAIN')
    expectRefused(refused, /does not let "etl" in/)
    expect(refused.stderr).not.toContain('\x1b')
    expect(refused.stderr.length).toBeLessThan(800)
  })

  it('waits for a silent one no longer than it was told to', async () => {
    const address = await pose(() => undefined)
    const silent = await run(address, '-X connect.timeout.ms=1000')
    expect(silent).toMatchObject({ status: 4, stdout: '' })
    expect(silent.stderr).toMatch(/no answer|no broker reached/)
  })
})
