/**
 * How a client speaks to a broker behind `kafka://`: over TLS or not, with a login or not, from the settings and the secrets of
 * the context. Loaded only where settings ask for either.
 *
 * Invariants:
 * - What asks for protection is never passed over, and nothing weaker is tried when it fails.
 * - A password or a token leaves this host in clear text only where `security.protocol` says so in so many words.
 * - No error holds a secret.
 */
import { StreamError, UsageError } from '../base/errors.ts'
import type { ConfigSet } from '../config/config-key.ts'
import type { ClientKeyName } from '../config/keys.ts'
import type { TlsClient } from '../ports/net.ts'
import type { ClusterOptions } from './cluster.ts'
import type { LoginRequest, SaslMechanism } from './login.ts'
import { resolveSecret, type SecretSource, type SecurityPorts } from './secrets.ts'
import { filePath, isOfThisHost, type UserHost } from './user-places.ts'

type Settings = ConfigSet<ClientKeyName>
type Secrets = ReadonlyMap<string, SecretSource>

const PASSWORD = 'sasl.password'
const TOKEN = 'sasl.oauthbearer.token'
const KEY_PASSWORD = 'ssl.key.password'

/**
 * @param addresses  all `kafka://`
 * @throws UsageError for settings that contradict each other or are not all there; StreamError FILE_NOT_FOUND,
 *   PERMISSION_DENIED, CONFIG_INVALID, NOT_ALLOWED (files of TLS), SECRET_UNAVAILABLE
 */
export async function kafkaSecurity(
  deps: SecurityPorts,
  addresses: readonly string[],
  settings: Settings,
  secrets: Secrets,
): Promise<Pick<ClusterOptions, 'security' | 'login'>> {
  const protocol = wanted(settings, secrets)
  const isTls = protocol === 'SSL' || protocol === 'SASL_SSL'
  const hasLogin = protocol === 'SASL_SSL' || protocol === 'SASL_PLAINTEXT'
  // First all that is wrong in words, then what has to be read.
  const request = hasLogin ? loginRequest(deps, settings, secrets) : undefined
  if (request !== undefined && !isTls && settings.text('security.protocol') === null) {
    refuseClearText(request.mechanism, addresses)
  }
  const tls = isTls ? await tlsClient(deps, settings, secrets) : undefined
  const login = request === undefined ? undefined : await makeLogin(deps, request)
  return {
    ...(tls === undefined ? {} : { security: { tls } }),
    ...(login === undefined ? {} : { login }),
  }
}

type Protocol = 'PLAINTEXT' | 'SSL' | 'SASL_PLAINTEXT' | 'SASL_SSL'

const tlsKeys = [
  'ssl.ca.location',
  'ssl.certificate.location',
  'ssl.key.location',
  'ssl.server.name',
] as const
const loginKeys = ['sasl.mechanism', 'sasl.username'] as const

/** `security.protocol` alone decides where it is set, as in Kafka's clients; else what else is set. */
function wanted(settings: Settings, secrets: Secrets): Protocol {
  const said = settings.text('security.protocol')
  if (said !== null) return said as Protocol
  const isTls = tlsKeys.some((name) => settings.text(name) !== null)
  const isLogin =
    loginKeys.some((name) => settings.text(name) !== null) ||
    secrets.has(PASSWORD) ||
    secrets.has(TOKEN)
  if (isLogin) return isTls ? 'SASL_SSL' : 'SASL_PLAINTEXT'
  return isTls ? 'SSL' : 'PLAINTEXT'
}

function loginRequest(deps: SecurityPorts, settings: Settings, secrets: Secrets): LoginRequest {
  const token = secrets.get(TOKEN)
  const password = secrets.get(PASSWORD)
  const mechanism = (settings.text('sasl.mechanism') ??
    (token !== undefined && password === undefined
      ? 'OAUTHBEARER'
      : 'SCRAM-SHA-512')) as SaslMechanism
  if (mechanism === 'OAUTHBEARER') {
    if (token === undefined) throw missingSecret(TOKEN, mechanism)
    return { mechanism, token: () => resolveSecret(deps, TOKEN, token) }
  }
  const username = settings.text('sasl.username')
  if (username === null || username === '') {
    throw new UsageError(
      `sasl.username is missing: a login with ${mechanism} needs it`,
      'set it in the context: stream context set NAME -X sasl.username=USER',
    )
  }
  if (username.includes('\0')) throw new UsageError('sasl.username: no name holds a NUL')
  if (password === undefined) throw missingSecret(PASSWORD, mechanism)
  return {
    mechanism,
    username,
    password: async () => {
      const secret = await resolveSecret(deps, PASSWORD, password)
      if (!secret.includes('\0')) return secret
      throw new StreamError('SECRET_UNAVAILABLE', `${PASSWORD}: no password holds a NUL`)
    },
  }
}

function missingSecret(name: string, mechanism: string): UsageError {
  return new UsageError(
    `${name} is missing: a login with ${mechanism} needs it`,
    `say in a context where it is: stream context set NAME --secret ${name}=file:PATH`,
  )
}

/** SCRAM shows no password; the other two show theirs to whoever listens on the way. */
function refuseClearText(mechanism: SaslMechanism, addresses: readonly string[]): void {
  if (mechanism.startsWith('SCRAM')) return
  const distant = addresses.find((address) => !isOfThisHost(address))
  if (distant === undefined) return
  const what = mechanism === 'PLAIN' ? 'the password' : 'the token'
  throw new UsageError(
    `${distant}: ${mechanism} would send ${what} in clear text`,
    'use TLS: -X security.protocol=SASL_SSL; or, for a network that you trust: SASL_PLAINTEXT',
  )
}

async function makeLogin(
  deps: SecurityPorts,
  request: LoginRequest,
): Promise<ClusterOptions['login']> {
  const { Login } = await import('./login.ts')
  return new Login(await deps.loadHashes(), deps.random, request)
}

async function tlsClient(
  deps: SecurityPorts,
  settings: Settings,
  secrets: Secrets,
): Promise<TlsClient> {
  const { host } = deps
  const ca = readFile(host, settings, 'ssl.ca.location')
  const certificate = readFile(host, settings, 'ssl.certificate.location')
  const key = readFile(host, settings, 'ssl.key.location')
  if ((certificate === undefined) !== (key === undefined)) {
    const [has, lacks] =
      key === undefined
        ? ['ssl.certificate.location', 'ssl.key.location']
        : ['ssl.key.location', 'ssl.certificate.location']
    throw new UsageError(`${lacks} is missing: ${has} is set, and is of no use without it`)
  }
  const source = secrets.get(KEY_PASSWORD)
  const keyPassword =
    source === undefined || key === undefined
      ? undefined
      : await resolveSecret(deps, KEY_PASSWORD, source)
  const serverName = settings.text('ssl.server.name')
  const isNamed = settings.text('ssl.endpoint.identification.algorithm') !== 'none'
  const verifies = !settings.boolean('enable.ssl.certificate.verification')
    ? 'none'
    : isNamed
      ? 'all'
      : 'chain'
  if (verifies === 'none') {
    deps.console.warn(
      'enable.ssl.certificate.verification=false: anybody on the way can pose as the broker',
    )
  }
  return deps.makeTls({
    verifies,
    ...(ca === undefined ? {} : { ca }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(key === undefined ? {} : { key }),
    ...(keyPassword === undefined ? {} : { keyPassword }),
    ...(serverName === null || serverName === '' ? {} : { serverName }),
  })
}

type FileKey = Extract<ClientKeyName, `ssl.${string}.location`>

function readFile(host: UserHost, settings: Settings, name: FileKey): Uint8Array | undefined {
  const word = settings.text(name)
  if (word === null || word === '') return undefined
  const path = filePath(host, word)
  const bytes = host.readFile(path)
  if (bytes !== undefined) return bytes
  throw new StreamError('FILE_NOT_FOUND', `${name}: ${path}: no such file`, { target: path })
}
