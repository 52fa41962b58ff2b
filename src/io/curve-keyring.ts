/**
 * The cluster's key file as a daemon uses it: read at the start, and looked at again whenever a peer shows a key, so that a
 * client that is added or revoked counts at once. (The server's own pair is that of the start.)
 *
 * A file that has become unreadable, foreign or damaged changes nothing: the last good list stays in force, and the log says so.
 */
import { closeSync, fstatSync, openSync, readFileSync, type Stats, statSync } from 'node:fs'
import {
  assertPrivate,
  type ClusterKeys,
  type CurveClientKeys,
  parseClientKeys,
  parseClusterKeys,
} from '../base/curve-keys.ts'
import { StreamError } from '../base/errors.ts'
import type { Log } from '../ports/log.ts'

const PERMISSION_BITS = 0o777

export class CurveKeyring {
  readonly publicKey: string
  readonly secretKey: string
  private readonly path: string
  private readonly log: Log
  private allowed: ReadonlySet<string>
  private mark: string

  /** @throws StreamError FILE_NOT_FOUND, PERMISSION_DENIED, CONFIG_INVALID */
  constructor(path: string, log: Log) {
    const { text, mark } = readKeyFile(path)
    const keys = parseClusterKeys(text, path)
    this.path = path
    this.log = log
    this.publicKey = keys.server.publicKey
    this.secretKey = keys.server.secretKey
    this.allowed = allowedOf(keys)
    this.mark = mark
  }

  /** What this daemon shows to its peers, which have the same file. */
  get client(): CurveClientKeys {
    return { publicKey: this.publicKey, secretKey: this.secretKey, serverKey: this.publicKey }
  }

  /** Whether who has this public key may come in: the cluster's daemons, and its clients. */
  isAllowed(publicKey: string): boolean {
    this.refresh()
    return publicKey === this.publicKey || this.allowed.has(publicKey)
  }

  private refresh(): void {
    let mark: string
    try {
      mark = markOf(statSync(this.path))
    } catch {
      mark = 'gone'
    }
    if (mark === this.mark) return
    this.mark = mark
    try {
      const read = readKeyFile(this.path)
      const keys = parseClusterKeys(read.text, this.path)
      if (keys.server.publicKey !== this.publicKey) {
        throw new StreamError('CONFIG_INVALID', `${this.path}: holds another cluster's key now`, {
          hint: 'the daemon takes a new key when it starts again',
        })
      }
      this.allowed = allowedOf(keys)
      this.mark = read.mark
      this.log.info('read the keys of clients again', { clients: this.allowed.size })
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      this.log.error('the key file cannot be used; who was let in before still is', { why })
    }
  }
}

/** @throws StreamError FILE_NOT_FOUND, PERMISSION_DENIED, CONFIG_INVALID */
export function readClientKeyFile(path: string): CurveClientKeys {
  return parseClientKeys(readKeyFile(path).text, path)
}

function allowedOf(keys: ClusterKeys): ReadonlySet<string> {
  return new Set(keys.clients.map(({ publicKey }) => publicKey))
}

/** The mode is that of the very file that is read. */
function readKeyFile(path: string): { readonly text: string; readonly mark: string } {
  let descriptor: number | undefined
  try {
    descriptor = openSync(path, 'r')
    const stat = fstatSync(descriptor)
    assertPrivate(path, stat.mode & PERMISSION_BITS)
    return { text: readFileSync(descriptor, 'utf8'), mark: markOf(stat) }
  } catch (error) {
    throw error instanceof StreamError ? error : unreadable(path, error)
  } finally {
    if (descriptor !== undefined) closeSync(descriptor)
  }
}

function markOf(stat: Stats): string {
  return `${stat.ino} ${stat.size} ${stat.mtimeMs} ${stat.mode}`
}

function unreadable(path: string, cause: unknown): StreamError {
  const { code } = cause as NodeJS.ErrnoException
  const details = { target: path, cause }
  return code === 'EACCES' || code === 'EPERM'
    ? new StreamError('PERMISSION_DENIED', `${path}: not allowed to read it`, details)
    : new StreamError(
        'FILE_NOT_FOUND',
        `${path}: ${code === 'ENOENT' ? 'no such file' : (code ?? String(cause))}`,
        { ...details, hint: 'make the keys of a cluster: stream cluster keys' },
      )
}
