/** How a script's connection is protected: what `connect` was given, for the client. Loaded only where something was. */
import { StreamError } from '../base/errors.ts'
import type { ClusterOptions } from '../client/cluster.ts'
import { Login, type LoginRequest } from '../client/login.ts'
import { RealHashes } from '../io/real-hashes.ts'
import { RealRandom } from '../io/real-random.ts'
import { RealTlsClient } from '../io/tls-client.ts'
import type { Bytes, ConnectOptions, LoginOptions, TlsOptions } from './public.d.ts'

/**
 * @param addresses  of the broker
 * @throws StreamError CONFIG_INVALID for what asks for protection that this address cannot have, or for files that are none
 */
export function securityOf(
  addresses: readonly string[],
  { tls, login }: Pick<ConnectOptions, 'tls' | 'login'>,
): Pick<ClusterOptions, 'security' | 'login'> {
  const other = addresses.find((address) => !address.startsWith('kafka://'))
  if (other !== undefined) {
    throw new StreamError('CONFIG_INVALID', `${other}: tls and login are for kafka://`, {
      target: other,
    })
  }
  return {
    ...(tls === undefined || tls === false ? {} : { security: { tls: tlsOf(tls) } }),
    ...(login === undefined
      ? {}
      : { login: new Login(new RealHashes(), new RealRandom(), requestOf(login)) }),
  }
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
    return { mechanism, token: async () => (typeof token === 'string' ? token : await token()) }
  }
  const { mechanism, username, password } = login
  const text = async (): Promise<string> =>
    typeof password === 'string' ? password : await password()
  return { mechanism, username, password: text }
}
