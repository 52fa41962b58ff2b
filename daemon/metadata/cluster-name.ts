/**
 * Which cluster a name means. Several clusters may share one store; each has an id that its first daemon made up, under which all
 * of its keys stand (metadata-keys.ts).
 */

import { StreamError } from '../../src/base/errors.ts'
import type { Random } from '../../src/ports/random.ts'
import { commit, type Store } from './commit.ts'
import { newUuid } from './topic-names.ts'

const NAMES_PREFIX = '/stream-clusters/'
export const DEFAULT_CLUSTER = 'default'
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/

/**
 * @returns the id; made now where nobody has used the name before
 * @throws StreamError CONFIG_INVALID (the name), STORE_UNAVAILABLE, STORE_DAMAGED
 */
export async function clusterIdOf(store: Store, random: Random, name: string): Promise<string> {
  const key = clusterNameKey(name)
  const fresh = newUuid(random)
  const result = await commit(store, {
    compare: [{ kind: 'createRevision', key, equals: 0 }],
    writes: [{ kind: 'put', key, value: Buffer.from(fresh, 'utf8') }],
    otherwise: [{ kind: 'get', key }],
  })
  if (result.succeeded) return fresh
  const found = result.gets[0]
  const id = found === undefined ? '' : Buffer.from(found.value).toString('utf8')
  if (!/^[A-Za-z0-9_-]{22}$/.test(id)) {
    throw new StreamError('STORE_DAMAGED', `metadata key ${key}: not the id of a cluster`, {
      target: key,
    })
  }
  return id
}

/** The key whose value is the id of the cluster `name`. @throws StreamError CONFIG_INVALID */
export function clusterNameKey(name: string): string {
  if (NAME.test(name)) return `${NAMES_PREFIX}${name}`
  throw new StreamError(
    'CONFIG_INVALID',
    `cluster name ${name}: letters, digits, dot, underscore and dash, at most 100`,
    { target: name },
  )
}
