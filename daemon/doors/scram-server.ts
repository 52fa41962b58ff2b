/**
 * The server's side of one SCRAM login (RFC 5802): a challenge, then the proof. librdkafka before 2.6.1 repeats its own nonce
 * before the whole one in its proof; that very form is taken too, for it holds all that makes a login fresh. A user that does not exist is challenged as
 * one that does, and fails at the same place, so that nobody learns who has an account.
 */

import type { Hashes } from '../../src/ports/hashes.ts'
import {
  decodeBase64,
  decodeText,
  encodeBase64,
  isNonce,
  malformed,
  parseAttributes,
  type ScramCredential,
  type ScramMechanism,
  scramKinds,
  unescapeName,
  xor,
} from '../../src/protocol/scram.ts'

const NONCE_BYTES_MAX = 256

export type ScramStep =
  | { readonly kind: 'challenge'; readonly message: Uint8Array }
  | { readonly kind: 'proven'; readonly message: Uint8Array; readonly user: string }
  | { readonly kind: 'refused'; readonly user: string }

export interface ScramServerOptions {
  /** Fresh, printable, without commas. */
  readonly nonce: string
  /** Of a user; for one that does not exist, something that no password fits. */
  readonly credentialOf: (user: string) => ScramCredential
}

export class ScramServer {
  readonly #hashes: Hashes
  readonly #mechanism: ScramMechanism
  readonly #options: ScramServerOptions
  #user = ''
  #gs2Header = ''
  #clientFirstBare = ''
  #serverFirst = ''
  #clientNonce = ''
  #nonce = ''
  #credential: ScramCredential | undefined

  constructor(hashes: Hashes, mechanism: ScramMechanism, options: ScramServerOptions) {
    this.#hashes = hashes
    this.#mechanism = mechanism
    this.#options = options
  }

  /** @throws StreamError MALFORMED_MESSAGE */
  next(message: Uint8Array): ScramStep {
    const text = decodeText(message)
    if (this.#credential === undefined) return this.#challenge(text)
    return this.#judge(text, this.#credential)
  }

  #challenge(text: string): ScramStep {
    const match = /^([ny],(?:a=([^,]*))?,)(n=([^,]*),r=([^,]*)(?:,.*)?)$/s.exec(text)
    if (match === null) throw malformed('it does not begin as a login with SCRAM does')
    const [, gs2Header = '', actsAs, bare = '', name = '', clientNonce = ''] = match
    const user = unescapeName(name)
    if (actsAs !== undefined && actsAs !== '' && unescapeName(actsAs) !== user) {
      throw malformed('nobody may act as another user')
    }
    if (user === '' || !isNonce(clientNonce) || clientNonce.length > NONCE_BYTES_MAX) {
      throw malformed('it has no name or no nonce')
    }
    const credential = this.#options.credentialOf(user)
    this.#user = user
    this.#gs2Header = gs2Header
    this.#clientFirstBare = bare
    this.#clientNonce = clientNonce
    this.#nonce = `${clientNonce}${this.#options.nonce}`
    this.#serverFirst = `r=${this.#nonce},s=${encodeBase64(credential.salt)},i=${credential.iterations}`
    this.#credential = credential
    return { kind: 'challenge', message: Buffer.from(this.#serverFirst) }
  }

  #judge(text: string, { storedKey, serverKey }: ScramCredential): ScramStep {
    const cut = text.lastIndexOf(',p=')
    if (cut < 0) throw malformed('it has no proof')
    const withoutProof = text.slice(0, cut)
    const [binding, nonce] = parseAttributes(withoutProof)
    const isOfThisLogin =
      binding?.[0] === 'c' &&
      binding[1] === encodeBase64(Buffer.from(this.#gs2Header)) &&
      nonce?.[0] === 'r' &&
      (nonce[1] === this.#nonce || nonce[1] === `${this.#clientNonce}${this.#nonce}`)
    if (!isOfThisLogin) throw malformed('it answers another login')
    const { hash, hashBytes } = scramKinds[this.#mechanism]
    const proof = decodeBase64(text.slice(cut + 3))
    if (proof.length !== hashBytes) throw malformed('its proof has the wrong length')
    const authMessage = Buffer.from(`${this.#clientFirstBare},${this.#serverFirst},${withoutProof}`)
    const hashes = this.#hashes
    const clientKey = xor(proof, hashes.hmac(hash, storedKey, authMessage))
    const user = this.#user
    if (!hashes.isEqual(hashes.digest(hash, clientKey), storedKey)) return { kind: 'refused', user }
    const signature = hashes.hmac(hash, serverKey, authMessage)
    return { kind: 'proven', user, message: Buffer.from(`v=${encodeBase64(signature)}`) }
  }
}
