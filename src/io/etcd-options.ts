/**
 * Where etcd is and how it is spoken to: from texts to options. The password comes from a file or from a variable, never from a
 * flag or an address, which other users of the host can read.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { StreamError, UsageError } from '../base/errors.ts'

export interface EtcdAddress {
  /** As it is shown. */
  readonly url: string
  /** As gRPC takes it. */
  readonly target: string
  readonly isTls: boolean
}

/** PEM. */
export interface EtcdTls {
  /** Whom the server's certificate must come from; absent: whom Node trusts. */
  readonly ca?: Uint8Array
  readonly certificate?: Uint8Array
  readonly key?: Uint8Array
  /** The name in the server's certificate, where it is not that of the address. */
  readonly serverName?: string
}

/** Plain data: it goes to other threads too. */
export interface EtcdAuth {
  readonly user: string
  readonly password: string
  /** Where the password came from, and comes from again: it may be changed while a daemon runs. */
  readonly passwordFile?: string
}

export interface EtcdOptions {
  readonly endpoints: readonly EtcdAddress[]
  readonly tls?: EtcdTls
  readonly auth?: EtcdAuth
  /** A call that has no answer by then is given up. */
  readonly requestTimeoutMs: number
}

/** What the daemon's configuration has; files are paths. */
export interface EtcdSettings {
  /** `http://h1:2379,http://h2:2379` or `https://…` */
  readonly endpoints: string
  readonly caFile?: string | undefined
  readonly certificateFile?: string | undefined
  readonly keyFile?: string | undefined
  readonly serverName?: string | undefined
  readonly user?: string | undefined
  readonly passwordFile?: string | undefined
  /** What the variable for it holds; the file counts first. */
  readonly password?: string | undefined
  readonly requestTimeoutMs?: number | undefined
}

export const ETCD_REQUEST_TIMEOUT_MS = 5000
export const ETCD_PASSWORD_VARIABLE = 'STREAM_ETCD_PASSWORD'
const DEFAULT_PORT = 2379

/** @throws UsageError (an address, settings that do not go together), StreamError SECRET_UNAVAILABLE, FILE_NOT_FOUND, CONFIG_INVALID */
export function readEtcdOptions(settings: EtcdSettings): EtcdOptions {
  const endpoints = parseEtcdEndpoints(settings.endpoints)
  const tls = readTls(settings)
  if (tls !== undefined && !endpoints.some(({ isTls }) => isTls)) {
    throw new UsageError(
      'certificates are set for etcd, but its addresses begin with http://',
      'write https:// for an etcd with TLS',
    )
  }
  const auth = readAuth(settings)
  return {
    endpoints,
    requestTimeoutMs: settings.requestTimeoutMs ?? ETCD_REQUEST_TIMEOUT_MS,
    ...(tls === undefined ? {} : { tls }),
    ...(auth === undefined ? {} : { auth }),
  }
}

/** What the broker's keys say (`stream.etcd.*`), all but the addresses. */
export function etcdSettingsOf(
  endpoints: string,
  config: ReadonlyMap<string, string>,
  environment: Readonly<Record<string, string | undefined>>,
): EtcdSettings {
  const key = (name: string): string | undefined => config.get(`stream.etcd.${name}`) || undefined
  const timeout = key('request.timeout.ms')
  return {
    endpoints,
    caFile: key('tls.ca.file'),
    certificateFile: key('tls.certificate.file'),
    keyFile: key('tls.key.file'),
    serverName: key('tls.server.name'),
    user: key('user'),
    passwordFile: key('password.file'),
    password: environment[ETCD_PASSWORD_VARIABLE],
    requestTimeoutMs: timeout === undefined ? undefined : Number(timeout),
  }
}

/** @throws UsageError; it does not repeat what may be a password */
export function parseEtcdEndpoints(text: string): readonly EtcdAddress[] {
  const words = text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '')
  if (words.length === 0) {
    throw new UsageError('no address of etcd', 'for example http://127.0.0.1:2379')
  }
  const found = words.map(parseAddress)
  const addresses = found.filter(
    ({ url }, index) => found.findIndex((other) => other.url === url) === index,
  )
  return addresses
}

function parseAddress(word: string): EtcdAddress {
  const hint = 'an address of etcd is http://HOST:PORT or https://HOST:PORT'
  if (word.includes('@')) {
    throw new UsageError(
      'an address of etcd holds a user or a password',
      `set stream.etcd.user, and stream.etcd.password.file or ${ETCD_PASSWORD_VARIABLE}`,
    )
  }
  const url = URL.canParse(word) ? new URL(word) : undefined
  const isTls = url?.protocol === 'https:'
  if (url === undefined || url.hostname === '' || !(isTls || url.protocol === 'http:')) {
    throw new UsageError(`${word}: not an address of etcd`, hint)
  }
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw new UsageError(`${word}: an address of etcd has nothing behind the port`, hint)
  }
  // URL leaves out the port that is usual for its scheme.
  const written = /:(\d+)\/?$/.exec(word)?.[1]
  const place = `${url.hostname}:${written ?? DEFAULT_PORT}`
  return { url: `${url.protocol}//${place}`, target: `dns:${place}`, isTls }
}

function readTls(settings: EtcdSettings): EtcdTls | undefined {
  const { caFile, certificateFile, keyFile, serverName } = settings
  if ((certificateFile === undefined) !== (keyFile === undefined)) {
    throw new UsageError(
      'a client of etcd needs a certificate and its key',
      'set stream.etcd.tls.certificate.file and stream.etcd.tls.key.file',
    )
  }
  if (caFile === undefined && certificateFile === undefined && serverName === undefined) {
    return undefined
  }
  return {
    ...(caFile === undefined ? {} : { ca: readPem(caFile, checkCertificate) }),
    ...(certificateFile === undefined
      ? {}
      : { certificate: readPem(certificateFile, checkCertificate) }),
    ...(keyFile === undefined ? {} : { key: readPem(keyFile, checkKey) }),
    ...(serverName === undefined ? {} : { serverName }),
  }
}

function readAuth(settings: EtcdSettings): EtcdAuth | undefined {
  const { user, passwordFile, password } = settings
  if (user === undefined) {
    if (passwordFile === undefined) return undefined
    throw new UsageError('a password is set for etcd, but no user', 'set stream.etcd.user')
  }
  const found = passwordFile === undefined ? password : readPassword(passwordFile)
  if (found === undefined || found === '') {
    throw new StreamError('SECRET_UNAVAILABLE', `no password for the user ${user} of etcd`, {
      ...(passwordFile === undefined ? {} : { target: passwordFile }),
      hint: `set stream.etcd.password.file, or the variable ${ETCD_PASSWORD_VARIABLE}`,
    })
  }
  return { user, password: found, ...(passwordFile === undefined ? {} : { passwordFile }) }
}

/** What its file holds at this moment; where that cannot be read, or is just being written, what it held at the start. */
export function currentPassword({ password, passwordFile }: EtcdAuth): string {
  if (passwordFile === undefined) return password
  try {
    return readPassword(passwordFile) || password
  } catch {
    return password
  }
}

function readPassword(path: string): string {
  return Buffer.from(readSecretFile(path))
    .toString('utf8')
    .replace(/\r?\n$/, '')
}

function readSecretFile(path: string): Uint8Array {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new StreamError('SECRET_UNAVAILABLE', `${path}: ${reasonOf(error)}`, {
      target: path,
      cause: error,
    })
  }
}

function readPem(path: string, check: (pem: Uint8Array) => unknown): Uint8Array {
  let pem: Uint8Array
  try {
    pem = readFileSync(path)
  } catch (error) {
    throw new StreamError('FILE_NOT_FOUND', `${path}: ${reasonOf(error)}`, {
      target: path,
      cause: error,
    })
  }
  try {
    check(pem)
  } catch (error) {
    throw new StreamError('CONFIG_INVALID', `${path}: not a PEM file of the kind that is needed`, {
      target: path,
      cause: error,
    })
  }
  return pem
}

const checkCertificate = (pem: Uint8Array): unknown => new X509Certificate(pem)
const checkKey = (pem: Uint8Array): unknown => createPrivateKey(Buffer.from(pem))

function reasonOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException
  if (code === 'ENOENT') return 'no such file'
  if (code === 'EACCES') return 'permission denied'
  return code ?? String(error)
}
