/**
 * Key files for `tcp://` with CURVE (libzmq's zmq_curve): `key = value` lines, `#` begins a comment line, keys in Z85. Both
 * hold a secret, and so are their owner's alone (mode 0600).
 *
 *     # the cluster's: the same file on every daemon; made by `stream cluster keys`
 *     server.public.key = …
 *     server.secret.key = …
 *     client.NAME = …            the public key of a client that is let in; one line each
 *
 *     # a client's: made by `stream cluster keys add NAME`
 *     curve.server.key = …       the public key of the cluster
 *     curve.public.key = …
 *     curve.secret.key = …
 *
 * Invariant: no error repeats a value, for it may be the secret.
 */
import { StreamError } from './errors.ts'

export interface CurveKeyPair {
  readonly publicKey: string
  readonly secretKey: string
}

/** What a client shows, and whom it wants to see. */
export interface CurveClientKeys extends CurveKeyPair {
  readonly serverKey: string
}

export interface AllowedClient {
  readonly name: string
  readonly publicKey: string
}

export interface ClusterKeys {
  readonly server: CurveKeyPair
  readonly clients: readonly AllowedClient[]
}

const alphabet =
  '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#'
const KEY_CHARACTERS = 40
const KEY_BYTES = 32
const UINT32_END = 0x1_0000_0000
const CLIENT_PREFIX = 'client.'

/** Names of clients: what a file's name may be. */
export const clientNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

/** @param bytes  a multiple of 4 */
export function encodeZ85(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let text = ''
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    let rest = view.getUint32(at)
    let group = ''
    for (let digit = 0; digit < 5; digit++) {
      group = `${alphabet[rest % 85]}${group}`
      rest = Math.floor(rest / 85)
    }
    text += group
  }
  return text
}

/** Whether a text is a key: 32 bytes in Z85. */
export function isCurveKey(text: string): boolean {
  if (text.length !== KEY_CHARACTERS) return false
  for (let at = 0; at < text.length; at += 5) {
    let value = 0
    for (const character of text.slice(at, at + 5)) {
      const digit = alphabet.indexOf(character)
      if (digit < 0) return false
      value = value * 85 + digit
    }
    if (value >= UINT32_END) return false
  }
  return true
}

/** The key of a credential as ZAP carries it; undefined for what is none. */
export function curveKeyOf(credential: Uint8Array): string | undefined {
  return credential.length === KEY_BYTES ? encodeZ85(credential) : undefined
}

/** @throws StreamError CONFIG_INVALID naming file and line */
export function parseClusterKeys(text: string, path: string): ClusterKeys {
  const lines = readLines(text, path)
  if (lines.has('curve.secret.key')) {
    throw invalid(
      path,
      'the key file of a client, not of a cluster',
      'make one: stream cluster keys',
    )
  }
  const server = {
    publicKey: take(lines, 'server.public.key', path),
    secretKey: take(lines, 'server.secret.key', path),
  }
  const clients: AllowedClient[] = []
  for (const [name, { value, place }] of lines) {
    if (!name.startsWith(CLIENT_PREFIX)) continue
    const client = name.slice(CLIENT_PREFIX.length)
    if (!clientNamePattern.test(client)) throw invalid(place, 'no name for a client')
    clients.push({ name: client, publicKey: value })
  }
  return { server, clients }
}

/** Of a client's file, or of the cluster's: its holders may connect too. @throws StreamError CONFIG_INVALID */
export function parseClientKeys(text: string, path: string): CurveClientKeys {
  const lines = readLines(text, path)
  if (lines.has('server.secret.key')) {
    const { server } = parseClusterKeys(text, path)
    return { ...server, serverKey: server.publicKey }
  }
  return {
    serverKey: take(lines, 'curve.server.key', path),
    publicKey: take(lines, 'curve.public.key', path),
    secretKey: take(lines, 'curve.secret.key', path),
  }
}

export function formatClusterKeys({ server, clients }: ClusterKeys): string {
  return [
    '# Keys of a cluster: the same file on every daemon (stream.curve.key.file), mode 0600. SECRET.',
    `server.public.key = ${server.publicKey}`,
    `server.secret.key = ${server.secretKey}`,
    '# Public keys of the clients that are let in. Made and taken out by: stream cluster keys add | revoke NAME',
    ...clients.map(({ name, publicKey }) => `${CLIENT_PREFIX}${name} = ${publicKey}`),
    '',
  ].join('\n')
}

export function formatClientKeys(name: string, keys: CurveClientKeys): string {
  return [
    `# Keys of the client ${name} (curve.key.file), mode 0600. SECRET.`,
    `curve.server.key = ${keys.serverKey}`,
    `curve.public.key = ${keys.publicKey}`,
    `curve.secret.key = ${keys.secretKey}`,
    '',
  ].join('\n')
}

interface KeyLine {
  readonly value: string
  readonly place: string
}

function readLines(text: string, path: string): ReadonlyMap<string, KeyLine> {
  const known = /^(server\.(public|secret)\.key|curve\.(server|public|secret)\.key|client\..+)$/
  const lines = new Map<string, KeyLine>()
  for (const [index, line] of text.split('\n').entries()) {
    const trimmed = line.trim()
    if (trimmed === '' || trimmed.startsWith('#')) continue
    const place = `${path}:${index + 1}`
    // Z85 has = among its characters, names have not.
    const cut = trimmed.indexOf('=')
    const name = trimmed.slice(0, Math.max(0, cut)).trim()
    if (!known.test(name)) throw invalid(place, 'not a line of a key file')
    const value = trimmed.slice(cut + 1).trim()
    if (!isCurveKey(value)) throw invalid(place, `${name}: not a key of 40 characters in Z85`)
    if (lines.has(name)) throw invalid(place, `${name} stands there twice`)
    lines.set(name, { value, place })
  }
  return lines
}

function take(lines: ReadonlyMap<string, KeyLine>, name: string, path: string): string {
  const line = lines.get(name)
  if (line === undefined) throw invalid(path, `no ${name} in it`)
  return line.value
}

function invalid(place: string, why: string, hint?: string): StreamError {
  return new StreamError('CONFIG_INVALID', `${place}: ${why}`, {
    target: place,
    ...(hint === undefined ? {} : { hint }),
  })
}

const GROUP_AND_OTHERS = 0o077

/** A secret that others of the host can read is none. @param mode  permission bits @throws StreamError PERMISSION_DENIED */
export function assertPrivate(path: string, mode: number): void {
  if ((mode & GROUP_AND_OTHERS) === 0) return
  const shown = mode.toString(8).padStart(4, '0')
  throw new StreamError(
    'PERMISSION_DENIED',
    `${path}: others may read or write it (mode ${shown})`,
    {
      target: path,
      hint: `chmod 600 ${path}; if others have seen it, make new keys`,
    },
  )
}
