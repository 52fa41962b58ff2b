/**
 * SCRAM (RFC 5802, RFC 7677) as both sides know it: attributes of messages, and what a password becomes. The messages
 * themselves are made in src/client/scram-client.ts and daemon/doors/scram-server.ts.
 *
 * As in Kafka, names and passwords are taken as UTF-8 bytes, without SASLprep; there is no channel binding.
 */
import { StreamError } from '../base/errors.ts'
import type { Hashes, HashName } from '../ports/hashes.ts'

export type ScramMechanism = 'SCRAM-SHA-256' | 'SCRAM-SHA-512'

export interface ScramKind {
  readonly hash: HashName
  /** Kafka's number in DescribeUserScramCredentials and AlterUserScramCredentials. */
  readonly number: number
  readonly hashBytes: number
}

export const scramKinds: Readonly<Record<ScramMechanism, ScramKind>> = {
  'SCRAM-SHA-256': { hash: 'sha256', number: 1, hashBytes: 32 },
  'SCRAM-SHA-512': { hash: 'sha512', number: 2, hashBytes: 64 },
}

export const scramMechanisms = Object.keys(scramKinds) as readonly ScramMechanism[]

/** Fewer would make a stolen message or credential cheap to guess from (RFC 7677; Kafka's clients refuse them too). */
export const SCRAM_ITERATIONS_MIN = 4096
/** Kafka's limit for credentials that a broker keeps. */
export const SCRAM_ITERATIONS_MAX = 16_384

export function isScramMechanism(name: string): name is ScramMechanism {
  return Object.hasOwn(scramKinds, name)
}

export function scramMechanismOf(number: number): ScramMechanism | undefined {
  return scramMechanisms.find((name) => scramKinds[name].number === number)
}

/** What a server keeps of a password: it can check a proof with it, not make one. */
export interface ScramCredential {
  readonly salt: Uint8Array
  readonly iterations: number
  readonly storedKey: Uint8Array
  readonly serverKey: Uint8Array
}

const CLIENT_KEY = Buffer.from('Client Key')
const SERVER_KEY = Buffer.from('Server Key')

export function clientKeyOf(
  hashes: Hashes,
  hash: HashName,
  saltedPassword: Uint8Array,
): Uint8Array {
  return hashes.hmac(hash, saltedPassword, CLIENT_KEY)
}

export function serverKeyOf(
  hashes: Hashes,
  hash: HashName,
  saltedPassword: Uint8Array,
): Uint8Array {
  return hashes.hmac(hash, saltedPassword, SERVER_KEY)
}

export function storedKeyOf(
  hashes: Hashes,
  hash: HashName,
  saltedPassword: Uint8Array,
): Uint8Array {
  return hashes.digest(hash, clientKeyOf(hashes, hash, saltedPassword))
}

export function credentialOf(
  hashes: Hashes,
  mechanism: ScramMechanism,
  saltedPassword: Uint8Array,
  { salt, iterations }: { readonly salt: Uint8Array; readonly iterations: number },
): ScramCredential {
  const { hash } = scramKinds[mechanism]
  return {
    salt,
    iterations,
    storedKey: storedKeyOf(hashes, hash, saltedPassword),
    serverKey: serverKeyOf(hashes, hash, saltedPassword),
  }
}

export function xor(left: Uint8Array, right: Uint8Array): Uint8Array {
  return left.map((byte, index) => byte ^ (right[index] ?? 0))
}

/** `=` and `,` separate attributes, so a name has them escaped. */
export function escapeName(name: string): string {
  return name.replaceAll('=', '=3D').replaceAll(',', '=2C')
}

/** @throws StreamError MALFORMED_MESSAGE */
export function unescapeName(text: string): string {
  if (/=(?!2C|3D)/.test(text)) throw malformed('a name is escaped wrongly')
  return text.replaceAll('=2C', ',').replaceAll('=3D', '=')
}

/**
 * A message as its attributes, in order: `r=…,s=…` is [['r', …], ['s', …]].
 * @throws StreamError MALFORMED_MESSAGE for bytes that are no UTF-8, or parts that are no attributes
 */
export function parseAttributes(text: string): readonly (readonly [string, string])[] {
  return text.split(',').map((part) => {
    if (!/^[A-Za-z]=/.test(part)) throw malformed('a part is no attribute')
    return [part.charAt(0), part.slice(2)] as const
  })
}

/** @throws StreamError MALFORMED_MESSAGE */
export function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    throw malformed('it is no UTF-8', error)
  }
}

/** @throws StreamError MALFORMED_MESSAGE */
export function decodeBase64(text: string): Uint8Array {
  const isBase64 = text !== '' && text.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(text)
  if (!isBase64) throw malformed('a value is no base64')
  return Buffer.from(text, 'base64')
}

export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}

/** Printable ASCII without the comma, as a nonce has to be. */
export function isNonce(text: string): boolean {
  return /^[\x21-\x2b\x2d-\x7e]+$/.test(text)
}

/** Never holds what was read: it may be secret. */
export function malformed(why: string, cause?: unknown): StreamError {
  return new StreamError('MALFORMED_MESSAGE', `a message of the login cannot be read: ${why}`, {
    ...(cause === undefined ? {} : { cause }),
  })
}
