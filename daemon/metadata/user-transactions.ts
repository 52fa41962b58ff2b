/** Writes of users, guarded as all writes of the controller are. */

import { StreamError } from '../../src/base/errors.ts'
import { commit, type Store } from './commit.ts'
import type { MetadataImage } from './metadata-image.ts'
import type { MetadataKeys } from './metadata-keys.ts'
import type { ControllerHold } from './topic-transactions.ts'
import { encodeUser, type UserValue } from './user-values.ts'

/** What a user is to be, made of what it is; without any mechanism it is gone. @throws StreamError NAME_UNKNOWN */
export type UserEdit = (before: UserValue | undefined) => UserValue

/**
 * @returns the revision written
 * @throws StreamError CONFLICT when it has changed meanwhile, and what `edit` throws
 */
export async function writeUser(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  user: { readonly name: string; readonly image: MetadataImage; readonly edit: UserEdit },
): Promise<number> {
  const before = user.image.user(user.name)
  const value = user.edit(before?.value)
  const key = keys.user(user.name)
  const isGone = Object.keys(value).length === 0
  const result = await commit(store, {
    compare: [
      { kind: 'createRevision', key: keys.controller(), equals: hold.controllerEpoch },
      { kind: 'modRevision', key, equals: before?.revision ?? 0 },
    ],
    writes: [isGone ? { kind: 'delete', key } : { kind: 'put', key, value: encodeUser(value) }],
  })
  if (!result.succeeded) {
    throw new StreamError('CONFLICT', 'the user was changed by somebody else meanwhile')
  }
  return result.revision
}
