/**
 * The client's side of one SCRAM login: it proves that it knows the password without showing it, and makes the broker prove
 * that it knows it too.
 */
import { StreamError } from '../base/errors.ts'
import type { Hashes } from '../ports/hashes.ts'
import type { Random } from '../ports/random.ts'
import {
  clientKeyOf,
  decodeBase64,
  decodeText,
  encodeBase64,
  escapeName,
  isNonce,
  malformed,
  parseAttributes,
  SCRAM_ITERATIONS_MIN,
  type ScramMechanism,
  scramKinds,
  serverKeyOf,
  xor,
} from '../protocol/scram.ts'
import type { SaslExchange } from './sasl-exchange.ts'

const NONCE_BYTES = 24
/** A broker that asks for more only wants our time: Kafka's own limit is 16 384. */
const ITERATIONS_MAX = 1_000_000
const NO_CHANNEL_BINDING = 'n,,'

export interface ScramSecret {
  readonly username: string
  readonly password: string
}

/** Salted passwords by salt and iterations: a client logs in at every broker of a cluster, which all have the same. */
export type SaltedPasswords = Map<string, Uint8Array>

const SALTED_MAX = 4

export class ScramClient implements SaslExchange {
  readonly #hashes: Hashes
  readonly #mechanism: ScramMechanism
  readonly #secret: ScramSecret
  readonly #nonce: string
  readonly #salted: SaltedPasswords
  #state: 'first' | 'challenged' | 'proven' = 'first'
  #serverSignature: Uint8Array | undefined

  /** @param nonce  of tests with known answers; else a fresh one */
  constructor(
    hashes: Hashes,
    random: Random,
    mechanism: ScramMechanism,
    secret: ScramSecret,
    salted: SaltedPasswords,
    nonce: string = encodeBase64(random.bytes(NONCE_BYTES)),
  ) {
    this.#hashes = hashes
    this.#mechanism = mechanism
    this.#secret = secret
    this.#salted = salted
    this.#nonce = nonce
  }

  async next(challenge: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    switch (this.#state) {
      case 'first':
        this.#state = 'challenged'
        return Buffer.from(`${NO_CHANNEL_BINDING}${this.#firstBare()}`)
      case 'challenged':
        this.#state = 'proven'
        return this.#prove(decodeText(challenge ?? new Uint8Array(0)))
      case 'proven':
        this.#checkServer(decodeText(challenge ?? new Uint8Array(0)))
        return undefined
    }
  }

  #firstBare(): string {
    return `n=${escapeName(this.#secret.username)},r=${this.#nonce}`
  }

  async #prove(serverFirst: string): Promise<Uint8Array> {
    const [nonce, salt, iterations] = parseAttributes(serverFirst)
    if (nonce?.[0] !== 'r' || salt?.[0] !== 's' || iterations?.[0] !== 'i') {
      throw malformed('it is no challenge of SCRAM')
    }
    const isOurs = nonce[1].startsWith(this.#nonce) && nonce[1].length > this.#nonce.length
    if (!isOurs || !isNonce(nonce[1])) throw malformed('the challenge answers another login')
    const count = /^[1-9]\d{0,8}$/.test(iterations[1]) ? Number(iterations[1]) : 0
    if (count < SCRAM_ITERATIONS_MIN || count > ITERATIONS_MAX) {
      throw new StreamError(
        'NOT_ALLOWED',
        `the broker asks for ${iterations[1].slice(0, 12)} iterations of ${this.#mechanism}, and only ${SCRAM_ITERATIONS_MIN} to ${ITERATIONS_MAX} are safe`,
        { hint: 'is it the right broker? Its administrator sets the password of the user anew' },
      )
    }
    const { hash } = scramKinds[this.#mechanism]
    const hashes = this.#hashes
    const salted = await this.#saltedPassword(salt[1], count)
    const withoutProof = `c=${encodeBase64(Buffer.from(NO_CHANNEL_BINDING))},r=${nonce[1]}`
    const authMessage = Buffer.from(`${this.#firstBare()},${serverFirst},${withoutProof}`)
    const clientKey = clientKeyOf(hashes, hash, salted)
    const signature = hashes.hmac(hash, hashes.digest(hash, clientKey), authMessage)
    this.#serverSignature = hashes.hmac(hash, serverKeyOf(hashes, hash, salted), authMessage)
    return Buffer.from(`${withoutProof},p=${encodeBase64(xor(clientKey, signature))}`)
  }

  async #saltedPassword(saltText: string, iterations: number): Promise<Uint8Array> {
    const key = `${iterations} ${saltText}`
    const known = this.#salted.get(key)
    if (known !== undefined) return known
    const salt = decodeBase64(saltText)
    const { hash } = scramKinds[this.#mechanism]
    const password = Buffer.from(this.#secret.password)
    const salted = await this.#hashes.stretch(hash, password, salt, iterations)
    if (this.#salted.size >= SALTED_MAX) this.#salted.clear()
    this.#salted.set(key, salted)
    return salted
  }

  #checkServer(serverFinal: string): void {
    const [first] = parseAttributes(serverFinal)
    if (first?.[0] === 'e') {
      throw new StreamError('NOT_ALLOWED', `the login failed: ${shown(first[1])}`)
    }
    const isProven =
      first?.[0] === 'v' &&
      this.#serverSignature !== undefined &&
      this.#hashes.isEqual(decodeBase64(first[1]), this.#serverSignature)
    if (isProven) return
    throw new StreamError('NOT_ALLOWED', 'the broker has not proven that it knows the password', {
      hint: 'somebody may stand between: check the address, and use TLS (security.protocol=SASL_SSL)',
    })
  }
}

/** Words of a peer that nobody trusts yet, on a line of ours. */
function shown(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 100)
}
