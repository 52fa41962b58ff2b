/**
 * Logins at the Kafka door (kafka-protocol.md P15): what one connection may do before it has logged in, while it does, and after.
 *
 * Invariants:
 * - Before a login nothing but ApiVersions, SaslHandshake and SaslAuthenticate is served; while one is renewed only the latter two.
 * - A failure is told in the same words and at the same place whether the user exists or not, then the connection ends.
 * - A login counts as long as what proved it is what the metadata has: who is deleted, or has another password, is cut off.
 * - Neither log nor answer holds a password, or anything made of one.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Hashes } from '../../src/ports/hashes.ts'
import type { Random } from '../../src/ports/random.ts'
import type { Time } from '../../src/ports/time.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import {
  encodeBase64,
  isScramMechanism,
  malformed,
  type ScramCredential,
  type ScramMechanism,
} from '../../src/protocol/scram.ts'
import type { UserValue } from '../metadata/user-values.ts'
import type { LoginDelays } from './login-delays.ts'
import type { Passwords } from './passwords.ts'
import { ScramServer } from './scram-server.ts'

export type DoorMechanism = 'PLAIN' | ScramMechanism

/** What all connections of a door share. */
export interface Logins {
  readonly mechanisms: readonly DoorMechanism[]
  readonly user: (name: string) => UserValue | undefined
  readonly time: Time
  readonly random: Random
  readonly hashes: Hashes
  readonly passwords: Passwords
  readonly delays: LoginDelays
  readonly newcomers: Newcomers
  /** How long a connection may take to log in. */
  readonly timeoutMs: number
  /** Messages of those who have not. */
  readonly messageBytesMax: number
  /** Of all others. */
  readonly requestBytesMax: number
  /** Life of a login; 0: no limit. */
  readonly lifetimeMs: number
  /** For the operator. */
  readonly onRefused: (why: string, peer: string) => void
}

/** Connections that have not logged in: when there are too many the oldest is ended, so that a flood shuts nobody out. */
export class Newcomers {
  readonly #max: number
  readonly #ends = new Map<object, () => void>()

  constructor(max: number) {
    this.#max = max
  }

  get size(): number {
    return this.#ends.size
  }

  add(newcomer: object, end: () => void): void {
    if (this.#ends.size >= this.#max) {
      const [oldest] = this.#ends
      if (oldest !== undefined) {
        this.#ends.delete(oldest[0])
        oldest[1]()
      }
    }
    this.#ends.set(newcomer, end)
  }

  remove(newcomer: object): void {
    this.#ends.delete(newcomer)
  }
}

interface Identity {
  readonly user: string
  /** What has proven it. */
  readonly mechanism: ScramMechanism
  readonly storedKey: Uint8Array
}

type Exchange =
  | { readonly kind: 'PLAIN' }
  | { readonly kind: 'SCRAM'; readonly mechanism: ScramMechanism; readonly server: ScramServer }

type HandshakeAnswer = ResponseInput<'SaslHandshake'>
type AuthenticateAnswer = ResponseInput<'SaslAuthenticate'>

const API_VERSIONS = 18
const SASL_HANDSHAKE = 17
const SASL_AUTHENTICATE = 36
const NONCE_BYTES = 18
const FAILED = 'the user or the password is wrong'
const TOO_MANY = 'too many logins of this user from this address have failed: try again later'

export class DoorLogin {
  readonly #logins: Logins
  /** Address of the peer, without its port. */
  readonly #address: string
  #identity: Identity | undefined
  #exchange: Exchange | undefined
  #expiresMs = Number.POSITIVE_INFINITY
  #isRefused = false

  constructor(logins: Logins, peer: string) {
    this.#logins = logins
    this.#address = peer.replace(/^kafka:\/\//, '').replace(/:\d+$/, '')
  }

  get isIn(): boolean {
    return this.#identity !== undefined
  }

  /** The connection ends once this is told. */
  get isRefused(): boolean {
    return this.#isRefused
  }

  get user(): string | undefined {
    return this.#identity?.user
  }

  /** Whether a request may be served now. */
  admits(apiKey: number): boolean {
    if (this.#exchange !== undefined) return apiKey === SASL_AUTHENTICATE
    if (apiKey === SASL_HANDSHAKE) return true
    if (this.#identity === undefined) return apiKey === API_VERSIONS
    return apiKey !== SASL_AUTHENTICATE && this.#logins.time.monotonicMs() < this.#expiresMs
  }

  /** What has proven the login counts no more. */
  get isRevoked(): boolean {
    const identity = this.#identity
    if (identity === undefined) return false
    const now = this.#logins.user(identity.user)?.[identity.mechanism]
    return now === undefined || !this.#logins.hashes.isEqual(now.storedKey, identity.storedKey)
  }

  handshake({ mechanism }: Request<'SaslHandshake'>): HandshakeAnswer {
    const { mechanisms, lifetimeMs } = this.#logins
    const offered = mechanisms.find((name) => name === mechanism)
    if (offered === undefined) {
      this.#isRefused = true
      return { errorCode: KafkaError.UNSUPPORTED_SASL_MECHANISM, mechanisms }
    }
    if (this.isIn && lifetimeMs === 0) {
      this.#isRefused = true
      return { errorCode: KafkaError.ILLEGAL_SASL_STATE, mechanisms }
    }
    this.#exchange = isScramMechanism(offered)
      ? { kind: 'SCRAM', mechanism: offered, server: this.#scramServer(offered) }
      : { kind: 'PLAIN' }
    return { errorCode: 0, mechanisms }
  }

  async authenticate({ authBytes }: Request<'SaslAuthenticate'>): Promise<AuthenticateAnswer> {
    const exchange = this.#exchange
    if (exchange === undefined) return this.#refuse('the login has not begun')
    try {
      if (exchange.kind === 'PLAIN') return await this.#plain(authBytes)
      const step = exchange.server.next(authBytes)
      if (step.kind === 'challenge') return answer(step.message)
      if (!(await this.#logins.delays.turn(this.#address, step.user))) {
        return this.#putOff(step.user)
      }
      if (step.kind === 'refused') return await this.#failed(step.user)
      const credential = this.#logins.user(step.user)?.[exchange.mechanism]
      return await this.#proven(step.user, exchange.mechanism, credential, step.message)
    } catch (error) {
      if (!isStreamError(error, 'MALFORMED_MESSAGE')) throw error
      await this.#logins.delays.failed(this.#address, '')
      return this.#refuse(error.message)
    }
  }

  /** RFC 4616: `[who to act as] NUL user NUL password`. */
  async #plain(message: Uint8Array): Promise<AuthenticateAnswer> {
    const bytes = Buffer.from(message)
    const first = bytes.indexOf(0)
    const second = bytes.indexOf(0, first + 1)
    if (first < 0 || second < 0 || bytes.indexOf(0, second + 1) >= 0) {
      throw malformed('it is no message of PLAIN')
    }
    const actsAs = bytes.toString('utf8', 0, first)
    const user = bytes.toString('utf8', first + 1, second)
    if (user === '' || (actsAs !== '' && actsAs !== user)) {
      throw malformed('nobody may act as another user')
    }
    if (!(await this.#logins.delays.turn(this.#address, user))) return this.#putOff(user)
    const value = this.#logins.user(user)
    const password = bytes.subarray(second + 1)
    const mechanism = await this.#logins.passwords.judge(user, value, password)
    if (mechanism === undefined) return this.#failed(user)
    return this.#proven(user, mechanism, value?.[mechanism], new Uint8Array(0))
  }

  #scramServer(mechanism: ScramMechanism): ScramServer {
    const { random, hashes, passwords } = this.#logins
    return new ScramServer(hashes, mechanism, {
      nonce: encodeBase64(random.bytes(NONCE_BYTES)),
      credentialOf: (user) =>
        this.#logins.user(user)?.[mechanism] ?? passwords.fake(user, mechanism),
    })
  }

  #proven(
    user: string,
    mechanism: ScramMechanism,
    credential: ScramCredential | undefined,
    message: Uint8Array,
  ): AuthenticateAnswer | Promise<AuthenticateAnswer> {
    // Who logs in again stays who he is; and what was proven may have been revoked meanwhile.
    const isOther = this.#identity !== undefined && this.#identity.user !== user
    if (credential === undefined || isOther) return this.#failed(user)
    const { lifetimeMs, time, delays } = this.#logins
    this.#identity = { user, mechanism, storedKey: credential.storedKey }
    this.#exchange = undefined
    if (this.isRevoked) return this.#failed(user)
    if (lifetimeMs > 0) this.#expiresMs = time.monotonicMs() + lifetimeMs
    delays.succeeded(this.#address, user)
    return { ...answer(message), sessionLifetimeMs: lifetimeMs }
  }

  async #failed(user: string): Promise<AuthenticateAnswer> {
    this.#tell(user, 'failed')
    await this.#logins.delays.failed(this.#address, user)
    return this.#refuse(FAILED)
  }

  /** It was not judged, so it is told by a code that a client may try again after: to one that ends logins for good it is no refusal. */
  #putOff(user: string): AuthenticateAnswer {
    this.#tell(user, 'was put off: too many of that name have failed')
    return this.#refuse(TOO_MANY, KafkaError.THROTTLING_QUOTA_EXCEEDED)
  }

  #tell(user: string, what: string): void {
    const isKnown = this.#logins.user(user) !== undefined
    // What is typed in the place of a name may be a password.
    const who = isKnown ? `of ${JSON.stringify(user)}` : 'of a user that does not exist'
    this.#logins.onRefused(`a login ${who} ${what}`, this.#address)
  }

  #refuse(
    errorMessage: string,
    errorCode: number = KafkaError.SASL_AUTHENTICATION_FAILED,
  ): AuthenticateAnswer {
    this.#isRefused = true
    this.#identity = undefined
    this.#exchange = undefined
    return {
      errorCode,
      errorMessage,
      authBytes: new Uint8Array(0),
    }
  }
}

function answer(authBytes: Uint8Array): AuthenticateAnswer {
  return { errorCode: 0, errorMessage: null, authBytes }
}
