/**
 * TLS at the daemon's Kafka door: certificate, key and the authority of clients, read from files, and the server that
 * shakes hands with them. Changed files count with the next connection; files that cannot be used change nothing.
 *
 * Invariants:
 * - Handshakes end within a bounded time, and their number is bounded: a new one takes the place of the oldest, so a flood
 *   of half handshakes shuts nobody out for good.
 * - A key that others may read is refused.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import type { Server, Socket } from 'node:net'
import { createServer, type SecureContextOptions, type TLSSocket } from 'node:tls'
import { assertPrivate } from '../base/curve-keys.ts'
import { StreamError } from '../base/errors.ts'
import type { Log } from '../ports/log.ts'
import type { LinkRefusal } from '../ports/net.ts'
import { systemCode } from './system-errors.ts'

export interface TlsServerFiles {
  readonly certificate: string
  readonly key: string
  /** With it only clients are let in that show a certificate of this authority. */
  readonly clientCa?: string | undefined
}

export interface TlsServerEvents {
  /** Handshakes under way. */
  readonly newcomersMax: number
  readonly mayAccept: () => boolean
  readonly onRefused: (refusal: LinkRefusal) => void
}

const HANDSHAKE_MS_MAX = 10_000
const PERMISSION_BITS = 0o777
const WARN_MS = 14 * 24 * 3_600_000

export class TlsServerKeys {
  private readonly files: TlsServerFiles
  private readonly log: Log
  private current: SecureContextOptions
  private mark: string
  /** Counts changes, for servers to see that theirs are old. */
  private version = 0

  /** @throws StreamError FILE_NOT_FOUND, PERMISSION_DENIED, CONFIG_INVALID */
  constructor(files: TlsServerFiles, log: Log) {
    this.files = files
    this.log = log
    this.mark = this.readMark()
    this.current = readKeys(files)
    this.tellExpiry()
  }

  createServer(accept: (socket: Socket) => void, events: TlsServerEvents): Server {
    const server = createServer({
      ...this.current,
      minVersion: 'TLSv1.2',
      handshakeTimeout: HANDSHAKE_MS_MAX,
      requestCert: this.files.clientCa !== undefined,
      rejectUnauthorized: this.files.clientCa !== undefined,
    })
    let version = this.version
    const newcomers = new Map<string, Socket>()
    // Before the server's own listener takes a certificate for the handshake.
    server.prependListener('connection', () => {
      this.refresh()
      if (version === this.version) return
      version = this.version
      server.setSecureContext({ ...this.current, minVersion: 'TLSv1.2' })
    })
    server.on('connection', (socket: Socket) => {
      if (!events.mayAccept()) {
        socket.destroy()
        return
      }
      const [oldest] = newcomers.values()
      if (newcomers.size >= events.newcomersMax) oldest?.destroy()
      const place = placeOf(socket)
      newcomers.set(place, socket)
      socket.once('close', () => newcomers.delete(place))
    })
    server.on('secureConnection', (socket) => {
      newcomers.delete(placeOf(socket))
      accept(socket)
    })
    server.on('tlsClientError', (error, socket) => {
      const why = refusalOfCertificate(socket) ?? refusalOf(error)
      if (why === undefined) return
      events.onRefused({
        why,
        ...(socket.remoteAddress === undefined ? {} : { peer: socket.remoteAddress }),
      })
    })
    return server
  }

  private refresh(): void {
    const mark = this.readMark()
    if (mark === this.mark) return
    this.mark = mark
    try {
      this.current = readKeys(this.files)
      this.version += 1
      this.log.info('read the certificate of the Kafka door again', {
        file: this.files.certificate,
      })
      this.tellExpiry()
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      this.log.error('the new certificate or key cannot be used; the former still is', { why })
    }
  }

  private tellExpiry(): void {
    const { certificate } = this.files
    const leaf = new X509Certificate(this.current.cert as Buffer)
    const until = Date.parse(leaf.validTo)
    const leftMs = until - Date.now()
    if (leftMs > WARN_MS) return
    const message =
      leftMs > 0
        ? 'the certificate of the Kafka door ends soon'
        : 'the certificate of the Kafka door has expired: clients refuse it'
    this.log.warn(message, { file: certificate, until: new Date(until).toISOString() })
  }

  private readMark(): string {
    const { certificate, key, clientCa } = this.files
    return [certificate, key, ...(clientCa === undefined ? [] : [clientCa])].map(markOf).join(' ')
  }
}

function placeOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`
}

function markOf(path: string): string {
  try {
    const { ino, size, mtimeMs, mode } = statSync(path)
    return `${ino} ${size} ${mtimeMs} ${mode}`
  } catch {
    return 'gone'
  }
}

function readKeys({ certificate, key, clientCa }: TlsServerFiles): SecureContextOptions {
  const cert = readPem(certificate)
  const keyPem = readPem(key)
  assertPrivate(key, statSync(key).mode & PERMISSION_BITS)
  const ca = clientCa === undefined ? undefined : readPem(clientCa)
  const leaf = parsed(certificate, () => new X509Certificate(cert))
  const privateKey = parsed(key, () => createPrivateKey(keyPem))
  if (clientCa !== undefined && ca !== undefined) parsed(clientCa, () => new X509Certificate(ca))
  if (!leaf.checkPrivateKey(privateKey)) {
    throw new StreamError('CONFIG_INVALID', `${key}: not the key of ${certificate}`, {
      target: key,
    })
  }
  return { cert, key: keyPem, ...(ca === undefined ? {} : { ca }) }
}

function readPem(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    const code = systemCode(error)
    const isDenied = code === 'EACCES' || code === 'EPERM'
    throw new StreamError(
      isDenied ? 'PERMISSION_DENIED' : 'FILE_NOT_FOUND',
      `${path}: ${code === 'ENOENT' ? 'no such file' : isDenied ? 'not allowed to read it' : (code ?? String(error))}`,
      { target: path, cause: error },
    )
  }
}

function parsed<T>(path: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw new StreamError('CONFIG_INVALID', `${path}: not a PEM file of the kind that is needed`, {
      target: path,
      cause: error,
      hint: 'a certificate with its chain, or a key without a password',
    })
  }
}

/** node:tls judges a client's certificate behind the handshake, and then hangs up. */
function refusalOfCertificate({ authorizationError }: TLSSocket): string | undefined {
  const code = systemCode(authorizationError) ?? authorizationError
  return code === undefined || code === null ? undefined : `its certificate is refused (${code})`
}

/** For operators; undefined: a peer that just went away. */
function refusalOf(error: Error): string | undefined {
  const code = systemCode(error) ?? ''
  switch (code) {
    case 'ERR_SSL_HTTP_REQUEST':
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
      return 'it does not speak TLS: its client needs security.protocol=SSL or SASL_SSL'
    case 'ERR_TLS_HANDSHAKE_TIMEOUT':
      return 'its TLS handshake took too long'
    case 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE':
      return 'it has shown no certificate'
    case '':
    case 'ECONNRESET':
    case 'EPIPE':
      return undefined
    default:
      if (/_ALERT_(UNKNOWN_CA|\w*CERTIFICATE\w*)$/.test(code)) {
        return `it does not trust the certificate of this door (${code})`
      }
      return /^ERR_SSL|CERT/.test(code) ? `the TLS handshake failed (${code})` : undefined
  }
}
