/** How a script's connection is protected: what `connect` was given, for the client. Loaded only where something was. */
import {
  assertPrivate,
  type CurveClientKeys,
  isCurveKey,
  parseClientKeys,
} from '../base/curve-keys.ts'
import { StreamError } from '../base/errors.ts'
import type { ClusterOptions } from '../client/cluster.ts'
import { Login, type LoginRequest } from '../client/login.ts'
import { RealHashes } from '../io/real-hashes.ts'
import { RealRandom } from '../io/real-random.ts'
import { RealTlsClient } from '../io/tls-client.ts'
import type { Host } from '../ports/host.ts'
import type { Bytes, ConnectOptions, CurveOptions, LoginOptions, TlsOptions } from './public.d.ts'

/**
 * @param addresses  of the broker
 * @throws StreamError CONFIG_INVALID for what asks for protection that this address cannot have, or for files that are none;
 *   FILE_NOT_FOUND, PERMISSION_DENIED for a key file
 */
export function securityOf(
  host: Host,
  addresses: readonly string[],
  { tls, login, curve }: Pick<ConnectOptions, 'tls' | 'login' | 'curve'>,
): Pick<ClusterOptions, 'security' | 'login'> {
  if (tls || login !== undefined) assertScheme(addresses, 'kafka://', 'tls and login are')
  if (curve !== undefined) assertScheme(addresses, 'tcp://', 'curve is')
  return {
    ...(tls ? { security: { tls: tlsOf(tls) } } : {}),
    ...(curve === undefined ? {} : { security: { curve: keysOf(host, curve) } }),
    ...(login === undefined
      ? {}
      : { login: new Login(new RealHashes(), new RealRandom(), requestOf(login)) }),
  }
}

function assertScheme(addresses: readonly string[], scheme: string, what: string): void {
  const other = addresses.find((address) => !address.startsWith(scheme))
  if (other === undefined) return
  throw new StreamError('CONFIG_INVALID', `${other}: ${what} for ${scheme}`, { target: other })
}

function keysOf(host: Host, curve: CurveOptions): CurveClientKeys {
  if (!('keyFile' in curve)) {
    for (const name of ['serverKey', 'publicKey', 'secretKey'] as const) {
      if (isCurveKey(curve[name])) continue
      throw new StreamError('CONFIG_INVALID', `curve.${name}: not a key of 40 characters in Z85`)
    }
    return curve
  }
  const { keyFile } = curve
  const bytes = host.readFile(keyFile)
  if (bytes === undefined) {
    throw new StreamError('FILE_NOT_FOUND', `${keyFile}: no such file`, {
      target: keyFile,
      hint: 'make one where the cluster has its keys: stream cluster keys add NAME',
    })
  }
  assertPrivate(keyFile, host.stat(keyFile)?.mode ?? 0)
  return parseClientKeys(Buffer.from(bytes).toString('utf8'), keyFile)
}

function tlsOf(options: TlsOptions | true): RealTlsClient {
  if (options === true) return new RealTlsClient({ verifies: 'all' })
  const { ca, certificate, key, keyPassword, serverName } = options
  return new RealTlsClient({
    verifies: 'all',
    ...(ca === undefined ? {} : { ca: pem(ca) }),
    ...(certificate === undefined ? {} : { certificate: pem(certificate) }),
    ...(key === undefined ? {} : { key: pem(key) }),
    ...(keyPassword === undefined ? {} : { keyPassword }),
    ...(serverName === undefined ? {} : { serverName }),
  })
}

function pem(bytes: Bytes): Uint8Array {
  return typeof bytes === 'string' ? Buffer.from(bytes) : bytes
}

function requestOf(login: LoginOptions): LoginRequest {
  if (login.mechanism === 'OAUTHBEARER') {
    const { mechanism, token } = login
    return { mechanism, token: () => secretOf('login.token', token) }
  }
  const { mechanism, username, password } = login
  return { mechanism, username, password: () => secretOf('login.password', password) }
}

/**
 * What the caller's function throws is the cause only: it may hold what nobody should see in a message.
 * @throws StreamError SECRET_UNAVAILABLE, which ends the login at once
 */
async function secretOf(
  name: string,
  given: string | (() => string | Promise<string>),
): Promise<string> {
  if (typeof given === 'string') return given
  let secret: unknown
  try {
    secret = await given()
  } catch (cause) {
    throw new StreamError('SECRET_UNAVAILABLE', `${name}: the function given for it failed`, {
      target: name,
      hint: 'what it has thrown is the cause of this error',
      cause,
    })
  }
  if (typeof secret === 'string') return secret
  throw new StreamError('SECRET_UNAVAILABLE', `${name}: the function given for it gave no text`, {
    target: name,
    hint: 'it gives a string, or a promise of one',
  })
}
