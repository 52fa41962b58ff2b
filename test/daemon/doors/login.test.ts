import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DoorLogin, type Logins, Newcomers } from '../../../daemon/doors/login.ts'
import { LoginDelays } from '../../../daemon/doors/login-delays.ts'
import { Passwords } from '../../../daemon/doors/passwords.ts'
import { ScramServer } from '../../../daemon/doors/scram-server.ts'
import type { UserValue } from '../../../daemon/metadata/user-values.ts'
import { Login, type SaslCall } from '../../../src/client/login.ts'
import { ScramClient } from '../../../src/client/scram-client.ts'
import { RealHashes } from '../../../src/io/real-hashes.ts'
import { RealRandom } from '../../../src/io/real-random.ts'
import { RealTime } from '../../../src/io/real-time.ts'
import type { Time } from '../../../src/ports/time.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import {
  credentialOf,
  type ScramCredential,
  type ScramMechanism,
  scramKinds,
  scramMechanisms,
} from '../../../src/protocol/scram.ts'

const hashes = new RealHashes()
const random = new RealRandom()
const time = new RealTime()
const PEER = 'kafka://10.0.0.9:4711'

async function credential(
  mechanism: ScramMechanism,
  password: string,
  salt: Uint8Array = random.bytes(24),
): Promise<ScramCredential> {
  const { hash } = scramKinds[mechanism]
  const salted = await hashes.stretch(hash, Buffer.from(password), salt, 4096)
  return credentialOf(hashes, mechanism, salted, { salt, iterations: 4096 })
}

async function userWith(password: string): Promise<UserValue> {
  const made: Partial<Record<ScramMechanism, ScramCredential>> = {}
  for (const mechanism of scramMechanisms) made[mechanism] = await credential(mechanism, password)
  return made
}

async function world(changes: Partial<Logins> = {}) {
  const users = new Map([
    ['etl', await userWith('s3cret')],
    ['other', await userWith('0ther')],
  ])
  const told: string[] = []
  const logins: Logins = {
    mechanisms: ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'],
    user: (name) => users.get(name),
    time,
    random,
    hashes,
    passwords: new Passwords(hashes, random),
    delays: new LoginDelays(time, 1),
    newcomers: new Newcomers(10),
    timeoutMs: 1000,
    messageBytesMax: 1000,
    requestBytesMax: 1000,
    lifetimeMs: 0,
    onRefused: (why, peer) => told.push(`${peer}: ${why}`),
    ...changes,
  }
  return { users, logins, told, login: new DoorLogin(logins, PEER) }
}

/** As a client's connection: what the door admits is answered. */
function callOf(login: DoorLogin): SaslCall {
  return (async (api: string, body: never) => {
    if (api === 'SaslHandshake') {
      if (!login.admits(17)) throw new Error('closed')
      return login.handshake(body)
    }
    if (!login.admits(36)) throw new Error('closed')
    return await login.authenticate(body)
  }) as unknown as SaslCall
}

function logIn(
  login: DoorLogin,
  mechanism: 'PLAIN' | ScramMechanism,
  password: string,
  username = 'etl',
) {
  const request = { mechanism, username, password: async () => password }
  return new Login(hashes, random, request).logIn(callOf(login), 'door')
}

describe('ScramServer', () => {
  // RFC 7677, section 3.
  const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64')
  const server = async () => {
    const pencil = await credential('SCRAM-SHA-256', 'pencil', salt)
    return new ScramServer(hashes, 'SCRAM-SHA-256', {
      nonce: '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0',
      credentialOf: () => pencil,
    })
  }
  const FIRST = 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO'
  const PROOF =
    'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ='

  it('says what the server of RFC 7677 says', async () => {
    const made = await server()
    const challenge = made.next(Buffer.from(FIRST))
    expect(challenge.kind === 'challenge' && String(challenge.message)).toBe(
      'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
    )
    const proven = made.next(Buffer.from(PROOF))
    expect(proven).toMatchObject({ kind: 'proven', user: 'user' })
    expect(proven.kind === 'proven' && String(proven.message)).toBe(
      'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
    )
  })

  it('refuses another proof, another nonce, channel binding, a mandatory extension, another identity', async () => {
    for (const proof of [
      PROOF.replace('p=dHzb', 'p=dHzc'),
      PROOF.replace('r=rOpr', 'r=xOpr'),
      PROOF.replace('hNlF$k0', 'hNlF$k1'),
      PROOF.replace('c=biws', 'c=eSws'),
      PROOF.replace(',p=', ',q='),
      PROOF.slice(0, -8),
      '',
    ]) {
      const made = await server()
      made.next(Buffer.from(FIRST))
      let kind = 'thrown'
      try {
        kind = made.next(Buffer.from(proof)).kind
      } catch (error) {
        expect(error).toMatchObject({ code: 'MALFORMED_MESSAGE' })
      }
      expect(kind).not.toBe('proven')
    }
    for (const first of [
      'p=tls-unique,,n=u,r=x',
      'n,a=root,n=user,r=x',
      'n,,m=1,n=user,r=x',
      'n,,n=,r=x',
      'n,,n=u,r=',
      'n,,n=u=2,r=x',
      'hello',
      '',
    ]) {
      const made = await server()
      expect(() => made.next(Buffer.from(first))).toThrow(/cannot be read/)
    }
  })

  it('takes the doubled nonce of old librdkafka, and only that one', async () => {
    const client = new ScramClient(
      hashes,
      random,
      'SCRAM-SHA-256',
      { username: 'user', password: 'pencil' },
      new Map(),
      'rOprNGfwEbeRWgbNEkqO',
    )
    const first = (await client.next(undefined)) as Uint8Array
    const made = await server()
    made.next(first)
    const { hash } = scramKinds['SCRAM-SHA-256']
    const doubled =
      'c=biws,r=rOprNGfwEbeRWgbNEkqOrOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0'
    const salted = await hashes.stretch(hash, Buffer.from('pencil'), salt, 4096)
    const clientKey = hashes.hmac(hash, salted, Buffer.from('Client Key'))
    const authMessage = `n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,${doubled}`
    const signature = hashes.hmac(hash, hashes.digest(hash, clientKey), Buffer.from(authMessage))
    const proof = Buffer.from(clientKey.map((byte, at) => byte ^ (signature[at] ?? 0))).toString(
      'base64',
    )
    expect(made.next(Buffer.from(`${doubled},p=${proof}`)).kind).toBe('proven')
  })

  it('bytes of anybody: refused, never a crash', async () => {
    const one = await credential('SCRAM-SHA-256', 'x')
    const make = () =>
      new ScramServer(hashes, 'SCRAM-SHA-256', { nonce: 'n', credentialOf: () => one })
    const step = (made: ScramServer, bytes: Uint8Array): string => {
      try {
        return made.next(bytes).kind
      } catch (error) {
        expect(error).toMatchObject({ code: 'MALFORMED_MESSAGE' })
        return 'thrown'
      }
    }
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.string({ maxLength: 60 }),
        (bytes, text) => {
          const made = make()
          step(made, bytes)
          made.next(Buffer.from('n,,n=u,r=x'))
          expect(step(made, bytes)).not.toBe('proven')
          expect(step(made, Buffer.from(`c=biws,r=xn,p=${text}`))).not.toBe('proven')
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('DoorLogin', () => {
  it.each(['PLAIN', ...scramMechanisms] as const)(
    '%s: who knows the password gets in',
    async (mechanism) => {
      const { login } = await world()
      expect([18, 17, 36, 3, 0, 999].filter((key) => login.admits(key))).toEqual([18, 17])
      expect(await logIn(login, mechanism, 's3cret')).toBe(0)
      expect(login).toMatchObject({ isIn: true, isRefused: false, user: 'etl' })
      expect([18, 3, 0].every((key) => login.admits(key))).toBe(true)
    },
  )

  it.each(['PLAIN', ...scramMechanisms] as const)(
    '%s: a wrong password and an unknown user look alike',
    async (mechanism) => {
      for (const [user, what] of [
        ['etl', 'a login of "etl" failed'],
        ['nobody', 'a login of a user that does not exist failed'],
      ] as const) {
        const { login, told } = await world()
        await expect(logIn(login, mechanism, 'wrong', user)).rejects.toMatchObject({
          message: expect.stringContaining(
            'the user or the password is wrong (SASL_AUTHENTICATION_FAILED)',
          ),
        })
        expect(login).toMatchObject({ isIn: false, isRefused: true })
        expect(told).toEqual([`10.0.0.9: ${what}`])
      }
    },
  )

  it('an unknown user is challenged alike each time', async () => {
    const { logins } = await world()
    const challenge = async (user: string): Promise<string> => {
      const login = new DoorLogin(logins, PEER)
      login.handshake({ mechanism: 'SCRAM-SHA-256' })
      const { authBytes } = await login.authenticate({ authBytes: Buffer.from(`n,,n=${user},r=x`) })
      return /s=.*$/.exec(Buffer.from(authBytes).toString())?.[0] ?? ''
    }
    expect(await challenge('nobody')).toBe(await challenge('nobody'))
    expect(await challenge('nobody')).not.toBe(await challenge('somebody'))
    expect((await challenge('nobody')).length).toBe((await challenge('etl')).length)
  })

  it('nothing but the messages of the login is admitted once it has begun', async () => {
    const { login } = await world()
    login.handshake({ mechanism: 'SCRAM-SHA-256' })
    expect([18, 17, 36, 3].filter((key) => login.admits(key))).toEqual([36])
  })

  it('a mechanism that is not offered is answered with those that are, then it is over', async () => {
    const { login } = await world({ mechanisms: ['SCRAM-SHA-512'] })
    expect(login.handshake({ mechanism: 'PLAIN' })).toEqual({
      errorCode: KafkaError.UNSUPPORTED_SASL_MECHANISM,
      mechanisms: ['SCRAM-SHA-512'],
    })
    expect(login.isRefused).toBe(true)
  })

  it('PLAIN: acting as another user, NUL in a password, too few parts', async () => {
    for (const message of [
      'other\0etl\0s3cret',
      '\0etl\0s3cret\0',
      'etl\0s3cret',
      '',
      '\0\0s3cret',
    ]) {
      const { login } = await world()
      login.handshake({ mechanism: 'PLAIN' })
      const { errorCode, errorMessage } = await login.authenticate({
        authBytes: Buffer.from(message),
      })
      expect(errorCode).toBe(KafkaError.SASL_AUTHENTICATION_FAILED)
      expect(errorMessage).not.toContain('s3cret')
      expect(login.isRefused).toBe(true)
    }
    const { login } = await world()
    login.handshake({ mechanism: 'PLAIN' })
    await login.authenticate({ authBytes: Buffer.from('etl\0etl\0s3cret') })
    expect(login.isIn).toBe(true)
  })

  it('PLAIN: of a user with two passwords it takes either', async () => {
    const { users, logins } = await world()
    const former = users.get('etl') as UserValue
    users.set('etl', { ...former, 'SCRAM-SHA-512': await credential('SCRAM-SHA-512', 'new') })
    for (const password of ['s3cret', 'new']) {
      expect(await logIn(new DoorLogin(logins, PEER), 'PLAIN', password)).toBe(0)
    }
    await expect(logIn(new DoorLogin(logins, PEER), 'PLAIN', 'newer')).rejects.toThrow('wrong')
  })

  it('PLAIN: a refusal costs the same whoever is asked for', async () => {
    let stretched = 0
    const counting = new Proxy(hashes, {
      get: (target, name) => {
        if (name === 'stretch') stretched += 1
        const found = Reflect.get(target, name)
        return typeof found === 'function' ? found.bind(target) : found
      },
    })
    const passwords = new Passwords(counting, random)
    const one = { 'SCRAM-SHA-512': await credential('SCRAM-SHA-512', 'x') }
    for (const value of [undefined, one, await userWith('x')]) {
      stretched = 0
      expect(await passwords.judge('u', value, Buffer.from('wrong'))).toBeUndefined()
      expect(stretched).toBe(2)
    }
  })

  it('who is deleted or has another password counts no more; another mechanism of his does no harm', async () => {
    const { login, users } = await world()
    await logIn(login, 'SCRAM-SHA-512', 's3cret')
    const before = users.get('etl') as UserValue
    users.set('etl', { ...before, 'SCRAM-SHA-256': await credential('SCRAM-SHA-256', 'new') })
    expect(login.isRevoked).toBe(false)
    users.set('etl', await userWith('new'))
    expect(login.isRevoked).toBe(true)
    users.set('etl', before)
    expect(login.isRevoked).toBe(false)
    users.delete('etl')
    expect(login.isRevoked).toBe(true)
  })

  it('a password that is changed while it is being judged lets nobody in', async () => {
    const { login, users } = await world()
    login.handshake({ mechanism: 'PLAIN' })
    const answer = login.authenticate({ authBytes: Buffer.from('\0etl\0s3cret') })
    users.delete('etl')
    expect((await answer).errorCode).toBe(KafkaError.SASL_AUTHENTICATION_FAILED)
    expect(login.isIn).toBe(false)
  })

  it('a login has its life: it is renewed on the same connection by the same user, or it ends', async () => {
    const { login } = await world({ lifetimeMs: 150 })
    expect(await logIn(login, 'SCRAM-SHA-256', 's3cret')).toBe(150)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(login.admits(3)).toBe(true)
    await logIn(login, 'SCRAM-SHA-256', 's3cret')
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(login.admits(3)).toBe(true)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(login.admits(3)).toBe(false)
    expect(login.admits(17)).toBe(true)
    await expect(logIn(login, 'PLAIN', '0ther', 'other')).rejects.toThrow('wrong')
    expect(login.isRefused).toBe(true)
  })

  it('without a limited life a second login is out of place', async () => {
    const { login } = await world()
    await logIn(login, 'PLAIN', 's3cret')
    expect(login.handshake({ mechanism: 'PLAIN' }).errorCode).toBe(KafkaError.ILLEGAL_SASL_STATE)
    expect(login.isRefused).toBe(true)
  })
})

describe('a login behind failed ones', () => {
  const failing = async (logins: Logins, user: string): Promise<void> => {
    for (let round = 0; round < 16; round += 1) {
      await logins.delays.failed('10.0.0.9', user)
      await logins.delays.turn('10.0.0.9', user)
    }
  }
  const impatient = async () => {
    const { monotonicMs } = time
    const setTimer = (_delayMs: number, run: () => void) => time.setTimer(0, run)
    const quick = { ...time, monotonicMs: monotonicMs.bind(time), setTimer } as unknown as Time
    return await world({ delays: new LoginDelays(quick, 100) })
  }

  it.each(['PLAIN', ...scramMechanisms] as const)(
    '%s: a neighbour who fails without end shuts nobody out',
    async (mechanism) => {
      const { logins, login } = await impatient()
      await failing(logins, 'nobody')
      await failing(logins, 'other')
      expect(await logIn(login, mechanism, 's3cret')).toBe(0)
    },
  )

  it.each(['PLAIN', ...scramMechanisms] as const)(
    '%s: of one name it is put off, which is no refusal to the client, and the operator hears of it',
    async (mechanism) => {
      const { logins, login, told } = await impatient()
      await failing(logins, 'etl')
      await expect(logIn(login, mechanism, 's3cret')).rejects.toMatchObject({
        code: 'UNREACHABLE',
        kafkaError: KafkaError.THROTTLING_QUOTA_EXCEEDED,
        message:
          'door: the broker puts the login of "etl" off: too many logins of this user from this address have failed: try again later (THROTTLING_QUOTA_EXCEEDED)',
      })
      expect(login).toMatchObject({ isIn: false, isRefused: true })
      expect(told).toEqual([
        '10.0.0.9: a login of "etl" was put off: too many of that name have failed',
      ])
    },
  )
})

describe('LoginDelays', () => {
  const virtualTime = (clock: { nowMs: number }, slept: number[]): Time =>
    ({
      monotonicMs: () => clock.nowMs,
      setTimer: (delayMs: number, run: () => void) => {
        slept.push(delayMs)
        run()
        return { cancel: () => undefined }
      },
    }) as unknown as Time

  const took = async (delays: LoginDelays, address: string, user = 'u'): Promise<number> => {
    const from = performance.now()
    await delays.turn(address, user)
    return performance.now() - from
  }

  it('each failure makes the next attempt of that name and address wait longer, others do not wait', async () => {
    const delays = new LoginDelays(time, 20)
    expect(await took(delays, 'a')).toBeLessThan(15)
    for (let round = 0; round < 4; round += 1) await delays.failed('a', 'u')
    const together = await Promise.all([took(delays, 'a'), took(delays, 'a')])
    expect(Math.max(...together)).toBeGreaterThan(150)
    expect(await took(delays, 'b')).toBeLessThan(15)
    expect(await took(delays, 'a', 'another')).toBeLessThan(15)
    delays.succeeded('a', 'u')
    expect(await took(delays, 'a')).toBeLessThan(15)
  })

  it('a login of his own does not help who guesses that of another', async () => {
    const delays = new LoginDelays(time, 20)
    for (let round = 0; round < 4; round += 1) await delays.failed('a', 'victim')
    delays.succeeded('a', 'guesser')
    expect(await took(delays, 'a', 'victim')).toBeGreaterThan(50)
  })

  it('an address that fails with many names is slowed down with all further ones', async () => {
    const slept: number[] = []
    const delays = new LoginDelays(virtualTime({ nowMs: 0 }, slept), 1)
    for (let name = 0; name < 80; name += 1) await delays.failed('a', `n${name}`)
    await delays.failed('a', 'x'.repeat(60_000))
    expect(delays.size).toBe(65)
    expect(await delays.turn('a', 'one more')).toBe(true)
    expect(slept.at(-1)).toBe(5000)
    expect(await delays.turn('a', 'one more')).toBe(false)
    expect(await delays.turn('a', 'n3')).toBe(true)
    expect(slept.at(-1)).toBe(1)
    delays.succeeded('a', 'one more')
    expect(await delays.turn('a', 'yet another')).toBe(false)
    expect(await delays.turn('b', 'one more')).toBe(true)
    expect(slept.at(-1)).toBe(1)
  })

  it('who would wait too long is put off, and makes the others wait no longer', async () => {
    const clock = { nowMs: 0 }
    const slept: number[] = []
    const delays = new LoginDelays(virtualTime(clock, slept), 100)
    for (let round = 0; round < 10; round += 1) await delays.failed('a', 'u')
    const turns = await Promise.all(Array.from({ length: 20 }, () => delays.turn('a', 'u')))
    expect(turns.filter(Boolean)).toHaveLength(1)
    expect(Math.max(...slept)).toBeLessThanOrEqual(6000)
    clock.nowMs = 10_000
    expect(await delays.turn('a', 'u')).toBe(true)
  })

  it('a stop of the daemon waits for nobody who waits', async () => {
    const delays = new LoginDelays(time, 5000)
    const from = performance.now()
    const told = delays.failed('a', 'u')
    const turn = delays.turn('a', 'u')
    delays.stop()
    await told
    expect(await turn).toBe(false)
    await delays.failed('a', 'u')
    expect(await delays.turn('a', 'new')).toBe(true)
    expect(performance.now() - from).toBeLessThan(1000)
  })

  it('forgets after ten minutes', async () => {
    const clock = { nowMs: 0 }
    const delays = new LoginDelays(virtualTime(clock, []), 100)
    for (let name = 0; name < 70; name += 1) await delays.failed('a', `n${name}`)
    clock.nowMs = 10 * 60_000
    expect(await delays.turn('a', 'n1')).toBe(true)
    expect(delays.size).toBe(0)
  })

  it('remembers a bounded number of addresses and names', async () => {
    const delays = new LoginDelays(time, 1)
    await Promise.all(Array.from({ length: 10_050 }, (_, index) => delays.failed(`a${index}`, 'u')))
    expect(delays.size).toBe(10_000)
    await Promise.all(Array.from({ length: 70 }, (_, index) => delays.failed('b', `u${index}`)))
    expect(delays.size).toBe(10_000)
  })
})

describe('Newcomers', () => {
  it('one too many ends the oldest', () => {
    const newcomers = new Newcomers(2)
    const ended: string[] = []
    for (const name of ['a', 'b', 'c']) newcomers.add({ name }, () => ended.push(name))
    expect(ended).toEqual(['a'])
    expect(newcomers.size).toBe(2)
  })
})
