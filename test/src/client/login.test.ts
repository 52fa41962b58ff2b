import { describe, expect, it } from 'vitest'
import { Login, type LoginRequest, type SaslCall } from '../../../src/client/login.ts'
import { ScramClient } from '../../../src/client/scram-client.ts'
import { RealHashes } from '../../../src/io/real-hashes.ts'
import { RealRandom } from '../../../src/io/real-random.ts'
import type { ScramMechanism } from '../../../src/protocol/scram.ts'

const hashes = new RealHashes()
const random = new RealRandom()
const text = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString()

function scram(mechanism: ScramMechanism, nonce: string, password = 'pencil', username = 'user') {
  return new ScramClient(hashes, random, mechanism, { username, password }, new Map(), nonce)
}

describe('SCRAM, the client', () => {
  // RFC 7677, section 3.
  const NONCE = 'rOprNGfwEbeRWgbNEkqO'
  const FIRST =
    'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096'
  const FINAL = 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4='

  it('makes the messages of RFC 7677 and takes the proof of its server', async () => {
    const client = scram('SCRAM-SHA-256', NONCE)
    expect(text(await client.next(undefined))).toBe(`n,,n=user,r=${NONCE}`)
    expect(text(await client.next(Buffer.from(FIRST)))).toBe(
      'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
    )
    expect(await client.next(Buffer.from(FINAL))).toBeUndefined()
  })

  it('refuses a server that does not know the password, or says so', async () => {
    for (const [final, why] of [
      ['v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=', 'has not proven'],
      ['v=6rriTRBi', 'has not proven'],
      ['x=1', 'has not proven'],
      ['e=invalid-proof', 'the login failed: invalid-proof'],
      ['', 'cannot be read'],
    ] as const) {
      const client = scram('SCRAM-SHA-256', NONCE)
      await client.next(undefined)
      await client.next(Buffer.from(FIRST))
      await expect(client.next(Buffer.from(final))).rejects.toThrow(why)
    }
  })

  it('refuses challenges that are cheap to guess from, endless, of another login, or no challenges', async () => {
    for (const [first, why] of [
      [FIRST.replace('i=4096', 'i=1'), 'only 4096 to'],
      [FIRST.replace('i=4096', 'i=999999999'), 'only 4096 to'],
      [FIRST.replace('i=4096', 'i=99999999999999'), 'only 4096 to'],
      [FIRST.replace('r=rOpr', 'r=xOpr'), 'another login'],
      [`r=${NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`, 'another login'],
      [FIRST.replace('s=W22', 's=!!!'), 'base64'],
      [`m=ext,${FIRST}`, 'no challenge'],
      ['', 'cannot be read'],
      ['\xff', 'cannot be read'],
    ] as const) {
      const client = scram('SCRAM-SHA-256', NONCE)
      await client.next(undefined)
      await expect(client.next(Buffer.from(first, 'latin1'))).rejects.toThrow(why)
    }
  })

  it('escapes what separates attributes in a name', async () => {
    const client = scram('SCRAM-SHA-512', 'n', 'p', 'a=b,c')
    expect(text(await client.next(undefined))).toBe('n,,n=a=3Db=2Cc,r=n')
  })
})

/** A broker that gives these answers, in turn. */
function broker(...answers: readonly object[]) {
  const asked: unknown[] = []
  const call = (async (api: string, body: unknown) => {
    asked.push([api, body])
    return answers[asked.length - 1]
  }) as unknown as SaslCall
  return { asked, call }
}

const handshake = { errorCode: 0, mechanisms: ['PLAIN'] }
const accepted = (authBytes = '', sessionLifetimeMs = 0) => ({
  errorCode: 0,
  errorMessage: null,
  authBytes: Buffer.from(authBytes),
  sessionLifetimeMs,
})
const plain: LoginRequest = {
  mechanism: 'PLAIN',
  username: 'etl',
  password: async () => 's3cret',
}

describe('Login', () => {
  it('PLAIN: one message; the life of the login is what the broker says', async () => {
    const { asked, call } = broker(handshake, accepted('', 5000))
    expect(await new Login(hashes, random, plain).logIn(call, 'b')).toBe(5000)
    expect(asked).toEqual([
      ['SaslHandshake', { mechanism: 'PLAIN' }],
      ['SaslAuthenticate', { authBytes: Buffer.from('\0etl\0s3cret') }],
    ])
  })

  it('OAUTHBEARER: the token, asked for anew each time; a refusal is answered before it ends', async () => {
    let asks = 0
    const token = async (): Promise<string> => `tok.${++asks}`
    const login = new Login(hashes, random, { mechanism: 'OAUTHBEARER', token })
    const first = broker(handshake, accepted())
    await login.logIn(first.call, 'b')
    expect(first.asked[1]).toEqual([
      'SaslAuthenticate',
      { authBytes: Buffer.from('n,,\x01auth=Bearer tok.1\x01\x01') },
    ])
    const refused = broker(handshake, accepted('{"status":"invalid_token"}'), {
      errorCode: 58,
      errorMessage: 'invalid_token',
      authBytes: Buffer.alloc(0),
    })
    await expect(login.logIn(refused.call, 'b')).rejects.toMatchObject({
      code: 'NOT_ALLOWED',
      message:
        'b: the broker does not accept the token: invalid_token (SASL_AUTHENTICATION_FAILED)',
    })
    expect(refused.asked[2]).toEqual(['SaslAuthenticate', { authBytes: Buffer.from([1]) }])
  })

  it.each([
    [
      [{ errorCode: 33, mechanisms: ['SCRAM-SHA-256'] }],
      /does not offer PLAIN; it offers SCRAM-SHA-256/,
    ],
    [[{ errorCode: 34, mechanisms: [] }], /takes no logins there/],
    [
      [handshake, { errorCode: 58, errorMessage: 'no\nway', authBytes: Buffer.alloc(0) }],
      /let "etl" in with PLAIN: no\?way \(SASL_AUTHENTICATION_FAILED\)$/,
    ],
  ])('a refusal is NOT_ALLOWED, one line, and without the secret: %j', async (answers, words) => {
    const failure = await new Login(hashes, random, plain)
      .logIn(broker(...answers).call, 'kafka://b:9092')
      .catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'NOT_ALLOWED', message: expect.stringMatching(words) })
    expect((failure as { hint?: string }).hint).not.toBe('')
    expect(JSON.stringify(failure) + String(failure)).not.toContain('s3cret')
  })

  it('what is no token is refused before anything is sent', async () => {
    const { asked, call } = broker(handshake)
    const login = new Login(hashes, random, {
      mechanism: 'OAUTHBEARER',
      token: async () => 'a\x01b',
    })
    await expect(login.logIn(call, 'b')).rejects.toMatchObject({ code: 'SECRET_UNAVAILABLE' })
    expect(asked).toEqual([])
  })

  it('a broker that never comes to an end is left', async () => {
    const login = new Login(hashes, random, { mechanism: 'OAUTHBEARER', token: async () => 't' })
    const { call } = broker(handshake, ...Array.from({ length: 20 }, () => accepted('more')))
    await expect(login.logIn(call, 'b')).rejects.toThrow('does not come to its end')
  })
})
