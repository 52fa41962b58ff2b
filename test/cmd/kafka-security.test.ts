import { describe, expect, it } from 'vitest'
import { World } from './fake-world.ts'

const CONTEXTS = '/config/stream/contexts.json'

/** A world whose context `c` has these options and secrets; all secrets are there. */
function world(
  options: Readonly<Record<string, string>>,
  secrets: readonly string[] = [],
  broker = 'kafka://far:9092',
): World {
  const w = new World()
  const context = {
    broker,
    options,
    secrets: Object.fromEntries(secrets.map((name) => [name, { env: 'SECRET' }])),
  }
  w.environment['SECRET'] = 's3cret'
  const contexts = { v: 1, current: 'c', contexts: { c: context } }
  w.files.set(CONTEXTS, Buffer.from(JSON.stringify(contexts)))
  w.files.set('/ca.pem', Buffer.from('the authority'))
  w.files.set('/own.pem', Buffer.from('the certificate'))
  w.files.set('/own.key', Buffer.from('the key'))
  return w
}

const list = (w: World, ...words: string[]) => w.run('topics', 'list', ...words)
const login = { 'sasl.username': 'etl' }

describe('kafka:// with TLS', () => {
  it('any key of TLS asks for it; files are read, the name and the authority are checked', async () => {
    const w = world({ 'ssl.ca.location': '/ca.pem' })
    expect((await list(w)).exit).toBe(0)
    expect(w.tls).toEqual([{ verifies: 'all', ca: Buffer.from('the authority') }])
    expect(w.clients.security?.tls).toEqual({ kind: 'tls' })
    expect(w.clients.login).toBeUndefined()
  })

  it('with a certificate of its own, the password of the key from a secret, another name', async () => {
    const w = world(
      {
        'security.protocol': 'SSL',
        'ssl.certificate.location': '/own.pem',
        'ssl.key.location': '/own.key',
        'ssl.server.name': 'b1',
        'ssl.endpoint.identification.algorithm': 'none',
      },
      ['ssl.key.password'],
    )
    expect((await list(w)).exit).toBe(0)
    expect(w.tls).toEqual([
      {
        verifies: 'chain',
        certificate: Buffer.from('the certificate'),
        key: Buffer.from('the key'),
        keyPassword: 's3cret',
        serverName: 'b1',
      },
    ])
  })

  it('a check that is switched off is said at every run', async () => {
    const w = world({ 'security.protocol': 'SSL', 'enable.ssl.certificate.verification': 'false' })
    const { exit, stderr } = await list(w)
    expect(exit).toBe(0)
    expect(w.tls[0]?.verifies).toBe('none')
    expect(stderr).toContain('anybody on the way can pose as the broker')
  })

  it('half a pair, and files that are not there', async () => {
    const half = await list(world({ 'ssl.key.location': '/own.key' }))
    expect(half.exit).toBe(2)
    expect(half.stderr).toContain('ssl.certificate.location is missing')
    const gone = await list(world({ 'ssl.ca.location': '/none.pem' }))
    expect(gone.exit).toBe(3)
    expect(gone.stderr).toContain('ssl.ca.location: /none.pem: no such file')
  })

  it('in clear text nothing of it is made, and other schemes do not mind', async () => {
    for (const w of [
      world({}),
      world({ 'ssl.ca.location': '/none.pem', 'security.protocol': 'PLAINTEXT' }),
      world({ 'ssl.ca.location': '/none.pem' }, ['sasl.password'], 'tcp://far:7000'),
    ]) {
      expect((await list(w)).exit).toBe(0)
      expect(w.tls).toEqual([])
      expect(w.clients.security).toBeUndefined()
      expect(w.clients.login).toBeUndefined()
    }
  })
})

describe('kafka:// with a login', () => {
  it('SCRAM-SHA-512 is what is taken where nothing is said, and shows nothing in clear text', async () => {
    const w = world(login, ['sasl.password'])
    expect((await list(w)).exit).toBe(0)
    expect(w.tls).toEqual([])
    const asked: unknown[] = []
    const stop = new Error('enough')
    await expect(
      w.clients.login?.logIn(async (_api, body) => {
        asked.push(body)
        throw stop
      }, 'there'),
    ).rejects.toBe(stop)
    expect(asked).toEqual([{ mechanism: 'SCRAM-SHA-512' }])
  })

  it('a password in clear text over a network is refused, unless it was said in so many words', async () => {
    const plain = { ...login, 'sasl.mechanism': 'PLAIN' }
    const refused = await list(world(plain, ['sasl.password']))
    expect(refused.exit).toBe(2)
    expect(refused.stderr).toContain('would send the password in clear text')
    const token = await list(world({}, ['sasl.oauthbearer.token']))
    expect(token.exit).toBe(2)
    expect(token.stderr).toContain('would send the token in clear text')
    for (const w of [
      world(plain, ['sasl.password'], 'kafka://127.0.0.1:9092'),
      world({ ...plain, 'security.protocol': 'SASL_PLAINTEXT' }, ['sasl.password']),
      world({ ...plain, 'security.protocol': 'SASL_SSL' }, ['sasl.password']),
      world({ ...plain, 'ssl.ca.location': '/ca.pem' }, ['sasl.password']),
      world({ 'security.protocol': 'SASL_SSL' }, ['sasl.oauthbearer.token']),
    ]) {
      expect((await list(w)).exit).toBe(0)
      expect(w.clients.login).toBeDefined()
    }
  })

  it('names what is missing', async () => {
    const noName = await list(world({}, ['sasl.password']))
    expect(noName.stderr).toContain('sasl.username is missing')
    const noPassword = await list(world(login))
    expect(noPassword.stderr).toContain('sasl.password is missing')
    expect(noPassword.exit).toBe(2)
    const noToken = await list(
      world({ ...login, 'sasl.mechanism': 'OAUTHBEARER', 'security.protocol': 'SASL_SSL' }),
    )
    expect(noToken.stderr).toContain('sasl.oauthbearer.token is missing')
  })

  it('a project file cannot weaken a context that has secrets', async () => {
    const w = world({ ...login, 'security.protocol': 'SASL_SSL' }, ['sasl.password'])
    w.files.set('./.stream.conf', Buffer.from('sasl.mechanism = PLAIN\n'))
    const { exit, stderr } = await list(w)
    expect(exit).toBe(2)
    expect(stderr).toContain('sasl.mechanism may not be set there while context c is used')
    expect(w.clients.addresses).toEqual([])
  })
})
