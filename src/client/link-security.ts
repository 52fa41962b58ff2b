/**
 * How a command, or a daemon that is a client itself, is protected on its way to a broker. Behind `tcp://` it shows keys: of a key
 * file (`curve.key.file`), or the three one by one, the secret one from where a context says. `kafka://` is kafka-security.ts. `ipc://`
 * needs nothing itself, but the daemons that are named there are behind `tcp://`: a key file counts for them.
 *
 * Invariant: what asks for keys is never passed over, and no error holds one.
 */

import {
  assertPrivate,
  type CurveClientKeys,
  isCurveKey,
  parseClientKeys,
} from '../base/curve-keys.ts'
import { StreamError, UsageError } from '../base/errors.ts'
import type { ConfigSet } from '../config/config-key.ts'
import type { ClientKeyName } from '../config/keys.ts'
import type { Protection } from './cluster.ts'
import { resolveSecret, type SecretSource, type SecurityPorts } from './secrets.ts'
import { filePath, type UserHost } from './user-places.ts'

const FILE_KEY = 'curve.key.file'
const singleKeys = ['curve.server.key', 'curve.public.key'] as const
const SECRET_KEY = 'curve.secret.key'

const unprotected: Protection = {}
const kafkaPrefixes = ['security.', 'ssl.', 'sasl.'] as const

/**
 * @param addresses  of one broker, all of one scheme
 * @throws UsageError for keys that are not all there, or there twice; StreamError FILE_NOT_FOUND, PERMISSION_DENIED,
 *   CONFIG_INVALID (a key file), NOT_ALLOWED, SECRET_UNAVAILABLE
 */
export async function linkSecurity(
  deps: SecurityPorts,
  addresses: readonly string[],
  settings: ConfigSet<ClientKeyName>,
  secrets: ReadonlyMap<string, SecretSource>,
): Promise<Protection> {
  const [address = ''] = addresses
  if (address.startsWith('kafka://')) {
    const asks = [...settings.names(), ...secrets.keys()].some((name) =>
      kafkaPrefixes.some((prefix) => name.startsWith(prefix)),
    )
    if (!asks) return unprotected
    const { kafkaSecurity } = await import('./kafka-security.ts')
    return kafkaSecurity(deps, addresses, settings, secrets)
  }
  const path = settings.text(FILE_KEY)
  if (!address.startsWith('tcp://') && (path === null || path === '')) return unprotected
  const single = [
    ...singleKeys.filter((name) => settings.text(name) !== null),
    ...(secrets.has(SECRET_KEY) ? [SECRET_KEY] : []),
  ]
  if (path !== null && path !== '') {
    if (single.length > 0) {
      throw new UsageError(`${FILE_KEY} and ${single[0]} cannot be used together`)
    }
    return { security: { curve: readKeyFile(deps.host, path) } }
  }
  if (single.length === 0) return unprotected
  return { security: { curve: await readSingleKeys(deps, settings, secrets) } }
}

function readKeyFile(host: UserHost, word: string): CurveClientKeys {
  const path = filePath(host, word)
  const bytes = host.readFile(path)
  if (bytes === undefined) {
    throw new StreamError('FILE_NOT_FOUND', `${FILE_KEY}: ${path}: no such file`, {
      target: path,
      hint: 'make one where the cluster has its keys: stream cluster keys add NAME',
    })
  }
  assertPrivate(path, host.stat(path)?.mode ?? 0)
  return parseClientKeys(Buffer.from(bytes).toString('utf8'), path)
}

async function readSingleKeys(
  deps: SecurityPorts,
  settings: ConfigSet<ClientKeyName>,
  secrets: ReadonlyMap<string, SecretSource>,
): Promise<CurveClientKeys> {
  const take = (name: (typeof singleKeys)[number]): string => {
    const text = settings.text(name)
    if (text === null) throw missing(name)
    if (!isCurveKey(text)) throw new UsageError(`${name}: not a key of 40 characters in Z85`)
    return text
  }
  const [serverKey, publicKey] = [take('curve.server.key'), take('curve.public.key')]
  const source = secrets.get(SECRET_KEY)
  if (source === undefined) throw missing(SECRET_KEY)
  const secretKey = await resolveSecret(deps, SECRET_KEY, source)
  if (!isCurveKey(secretKey)) {
    throw new StreamError('SECRET_UNAVAILABLE', `${SECRET_KEY}: not a key of 40 characters in Z85`)
  }
  return { serverKey, publicKey, secretKey }
}

function missing(name: string): UsageError {
  return new UsageError(
    `${name} is missing: tcp:// with keys needs ${singleKeys.join(', ')} and ${SECRET_KEY}`,
    `name a key file, which has all three: ${FILE_KEY}`,
  )
}
