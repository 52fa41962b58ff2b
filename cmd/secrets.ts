/** `--secret` of contexts: it names where a secret is, and never is one. */

import { UsageError } from '../src/base/errors.ts'
import type { SecretSource } from '../src/client/secrets.ts'
import { clientKeys, findKey } from '../src/config/keys.ts'
import { nearestName } from '../src/config/nearest-name.ts'

/**
 * `--secret KEY=file:PATH|env:NAME|command:CMD`. CMD is run by `sh -c`.
 * @throws UsageError; it does not repeat what stands after KEY, for that may be a secret given by mistake
 */
export function parseSecretFlag(word: string): {
  readonly key: string
  readonly source: SecretSource
} {
  const match = /^([^=]+)=(?:(file|env|command):(.+))?/s.exec(word)
  if (match === null)
    throw new UsageError('--secret: must be KEY=file:PATH, env:NAME or command:CMD')
  const [, key = '', kind, rest = ''] = match
  const found = findKey('client', key)
  if (found?.type !== 'secret') {
    const secrets = clientKeys.filter(({ type }) => type === 'secret').map(({ name }) => name)
    const nearest = nearestName(key, secrets)
    throw new UsageError(
      found === undefined ? `--secret ${key}: no such secret` : `--secret ${key}: not a secret`,
      found !== undefined
        ? `give it with -X ${key}=VALUE`
        : nearest === undefined
          ? `one of ${secrets.join(', ')}`
          : `did you mean ${nearest}?`,
    )
  }
  switch (kind) {
    case 'file':
      return { key, source: { file: rest } }
    case 'env':
      return { key, source: { env: rest } }
    case 'command':
      return { key, source: { command: ['sh', '-c', rest] } }
    default:
      throw new UsageError(
        `--secret ${key}: the secret itself may not be given here`,
        `name where it is: ${key}=file:PATH, ${key}=env:NAME or ${key}=command:CMD`,
      )
  }
}
