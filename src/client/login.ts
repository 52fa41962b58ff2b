/**
 * Logins over SASL (kafka-protocol.md P15): SaslHandshake v1, then SaslAuthenticate with the messages of the mechanism. Loaded
 * only where a login is asked for.
 *
 * Invariants:
 * - The mechanism is the one that was set; there is no falling back to another.
 * - No error holds a password, a token, or what was made of them.
 */
import { isStreamError, StreamError } from '../base/errors.ts'
import type { Hashes } from '../ports/hashes.ts'
import type { Random } from '../ports/random.ts'
import type { ApiName, RequestInput, Response } from '../protocol/api-table.ts'
import { KafkaError, kafkaErrorIsRetriable, kafkaErrorName } from '../protocol/errors.ts'
import { isScramMechanism } from '../protocol/scram.ts'
import type { SaslExchange } from './sasl-exchange.ts'
import { type SaltedPasswords, ScramClient } from './scram-client.ts'

export type SaslMechanism = 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512' | 'OAUTHBEARER'

export type LoginRequest =
  | {
      readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512'
      readonly username: string
      /** Asked again for each login. */
      readonly password: () => Promise<string>
    }
  | {
      readonly mechanism: 'OAUTHBEARER'
      /** Asked again for each login, since tokens end. */
      readonly token: () => Promise<string>
    }

export type SaslCall = <A extends ApiName>(api: A, body: RequestInput<A>) => Promise<Response<A>>

const ROUNDS_MAX = 8

export class Login {
  readonly #hashes: Hashes
  readonly #random: Random
  readonly #request: LoginRequest
  readonly #salted: SaltedPasswords = new Map()
  #saltedOf = ''

  constructor(hashes: Hashes, random: Random, request: LoginRequest) {
    this.#hashes = hashes
    this.#random = random
    this.#request = request
  }

  /**
   * @param call  sends one request on the connection that logs in
   * @param target  its address, for errors
   * @returns for how long the broker holds the login good, in milliseconds; 0: without end (KIP-368)
   * @throws StreamError NOT_ALLOWED, SECRET_UNAVAILABLE, UNREACHABLE if the broker has put it off; what `call` throws
   */
  async logIn(call: SaslCall, target: string): Promise<number> {
    const { mechanism } = this.#request
    const exchange = await this.#begin()
    const handshake = await call('SaslHandshake', { mechanism }).catch((error: unknown) => {
      throw isStreamError(error, 'UNSUPPORTED_BY_BROKER') ? wantsNoLogin(target) : error
    })
    if (handshake.errorCode !== 0) {
      throw handshakeFailure(handshake.errorCode, handshake.mechanisms, mechanism, target)
    }
    let lifetimeMs = 0
    let challenge: Uint8Array | undefined
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const authBytes = await this.#next(exchange, challenge, target)
      if (authBytes === undefined) return lifetimeMs
      const answer = await call('SaslAuthenticate', { authBytes })
      if (answer.errorCode !== 0) throw this.#refused(answer.errorCode, answer.errorMessage, target)
      challenge = answer.authBytes
      lifetimeMs = Math.max(0, Number(answer.sessionLifetimeMs ?? 0))
    }
    throw new StreamError('NOT_ALLOWED', `${target}: the login does not come to its end`, {
      target,
    })
  }

  async #begin(): Promise<SaslExchange> {
    const request = this.#request
    if (request.mechanism === 'OAUTHBEARER') return new BearerExchange(await request.token())
    const { mechanism, username } = request
    const password = await request.password()
    if (!isScramMechanism(mechanism)) return new PlainExchange(username, password)
    if (password !== this.#saltedOf) this.#salted.clear()
    this.#saltedOf = password
    const secret = { username, password }
    return new ScramClient(this.#hashes, this.#random, mechanism, secret, this.#salted)
  }

  async #next(
    exchange: SaslExchange,
    challenge: Uint8Array | undefined,
    target: string,
  ): Promise<Uint8Array | undefined> {
    try {
      return await exchange.next(challenge)
    } catch (error) {
      if (!isStreamError(error)) throw error
      const { hint } = error
      throw new StreamError('NOT_ALLOWED', `${target}: ${error.message}`, {
        target,
        cause: error,
        ...(hint === undefined ? {} : { hint }),
      })
    }
  }

  #refused(code: number, message: string | null, target: string): StreamError {
    const isBearer = this.#request.mechanism === 'OAUTHBEARER'
    const words = brokerWords(message)
    const name = JSON.stringify(this.#username)
    const why = `${words === '' ? '' : `: ${words}`} (${kafkaErrorName(code)})`
    if (kafkaErrorIsRetriable(code)) {
      // It has not judged: as a broker that is not reached, it may yet.
      const whose = isBearer ? '' : ` of ${name}`
      return new StreamError(
        'UNREACHABLE',
        `${target}: the broker puts the login${whose} off${why}`,
        {
          target,
          kafkaError: code,
        },
      )
    }
    const who = isBearer
      ? 'the broker does not accept the token'
      : `the broker does not let ${name} in with ${this.#request.mechanism}`
    return new StreamError('NOT_ALLOWED', `${target}: ${who}${why}`, {
      target,
      kafkaError: code,
      hint: isBearer
        ? 'get a new one: sasl.oauthbearer.token of the context says where it is'
        : 'check sasl.username and the secret sasl.password of the context, and that the broker keeps the user for this sasl.mechanism',
    })
  }

  get #username(): string {
    return 'username' in this.#request ? this.#request.username : ''
  }
}

/** RFC 4616. The password itself goes to the broker: only over TLS, or on this host. */
class PlainExchange implements SaslExchange {
  readonly #message: Uint8Array
  #isSent = false

  constructor(username: string, password: string) {
    this.#message = Buffer.from(`\0${username}\0${password}`)
  }

  async next(): Promise<Uint8Array | undefined> {
    if (this.#isSent) return undefined
    this.#isSent = true
    return this.#message
  }
}

/** RFC 7628. A broker that refuses tells why in JSON, waits for an empty answer, and only then ends the login. */
class BearerExchange implements SaslExchange {
  readonly #token: string
  #isSent = false

  constructor(token: string) {
    if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(token)) {
      throw new StreamError(
        'SECRET_UNAVAILABLE',
        'sasl.oauthbearer.token: what was found is no bearer token',
        { hint: 'it is one line of letters, digits and - . _ ~ + / =, as the issuer gives it' },
      )
    }
    this.#token = token
  }

  async next(challenge: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    if (!this.#isSent) {
      this.#isSent = true
      return Buffer.from(`n,,\x01auth=Bearer ${this.#token}\x01\x01`)
    }
    return challenge === undefined || challenge.length === 0 ? undefined : Buffer.from([1])
  }
}

function handshakeFailure(
  code: number,
  offered: readonly string[],
  mechanism: string,
  target: string,
): StreamError {
  if (code === KafkaError.ILLEGAL_SASL_STATE) return wantsNoLogin(target)
  const list = offered.map(brokerWords).join(', ')
  if (code !== KafkaError.UNSUPPORTED_SASL_MECHANISM) {
    return new StreamError('NOT_ALLOWED', `${target}: no login here (${kafkaErrorName(code)})`, {
      target,
      kafkaError: code,
    })
  }
  return new StreamError(
    'NOT_ALLOWED',
    `${target}: the broker does not offer ${mechanism}; it offers ${list === '' ? 'nothing' : list} (${kafkaErrorName(code)})`,
    {
      target,
      kafkaError: code,
      hint: 'set sasl.mechanism to one of those, if you trust this broker with it',
    },
  )
}

function wantsNoLogin(target: string): StreamError {
  return new StreamError('NOT_ALLOWED', `${target}: the broker takes no logins there`, {
    target,
    hint: 'name another port of it, or leave out sasl.… (security.protocol=PLAINTEXT or SSL)',
  })
}

function brokerWords(text: string | null): string {
  return (text ?? '').replace(/[^\x20-\x7e]/g, '?').slice(0, 200)
}
