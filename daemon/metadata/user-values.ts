/**
 * A user as the metadata store has it (`scram/<name>`): for each mechanism what proves its password (RFC 5802), never the
 * password itself. JSON; byte strings are base64. Field names are permanent.
 *
 *     {"SCRAM-SHA-256":{"salt":…,"iterations":8192,"storedKey":…,"serverKey":…},"SCRAM-SHA-512":{…}}
 */

import { StreamError } from '../../src/base/errors.ts'
import {
  isScramMechanism,
  type ScramCredential,
  type ScramMechanism,
} from '../../src/protocol/scram.ts'

export type UserValue = Readonly<Partial<Record<ScramMechanism, ScramCredential>>>

const NAME_BYTES_MAX = 200

/** Why `name` is none for a user; undefined when it is one. */
export function findUserNameDefect(name: string): string | undefined {
  if (name === '') return 'a user needs a name'
  if (/\p{Cc}/u.test(name)) return 'the name of a user holds no control characters'
  if (Buffer.byteLength(name) > NAME_BYTES_MAX) {
    return `the name of a user is at most ${NAME_BYTES_MAX} bytes long`
  }
  return undefined
}

export function encodeUser(value: UserValue): Uint8Array {
  const object = Object.fromEntries(
    Object.entries(value).map(([mechanism, { salt, iterations, storedKey, serverKey }]) => [
      mechanism,
      {
        salt: base64(salt),
        iterations,
        storedKey: base64(storedKey),
        serverKey: base64(serverKey),
      },
    ]),
  )
  return Buffer.from(JSON.stringify(object))
}

/** Mechanisms of later versions are left out. @throws StreamError STORE_DAMAGED naming the key, never its value */
export function decodeUser(key: string, bytes: Uint8Array): UserValue {
  let read: unknown
  try {
    read = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    throw damaged(key)
  }
  if (typeof read !== 'object' || read === null) throw damaged(key)
  const value: Partial<Record<ScramMechanism, ScramCredential>> = {}
  for (const [mechanism, part] of Object.entries(read)) {
    if (isScramMechanism(mechanism)) value[mechanism] = decodeCredential(key, part)
  }
  return value
}

function decodeCredential(key: string, part: unknown): ScramCredential {
  if (typeof part !== 'object' || part === null) throw damaged(key)
  const { salt, iterations, storedKey, serverKey } = part as Record<string, unknown>
  if (!Number.isInteger(iterations) || (iterations as number) < 1) throw damaged(key)
  const bytes = (text: unknown): Uint8Array => {
    if (typeof text !== 'string' || text === '') throw damaged(key)
    return Buffer.from(text, 'base64')
  }
  return {
    salt: bytes(salt),
    iterations: iterations as number,
    storedKey: bytes(storedKey),
    serverKey: bytes(serverKey),
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}

function damaged(key: string): StreamError {
  return new StreamError('STORE_DAMAGED', `metadata ${key}: no credentials of a user`, {
    target: key,
  })
}
