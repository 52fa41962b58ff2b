/**
 * Writes of links: the controller's are guarded by C and by the record's own revision, a leader's by the revision of its
 * partition's record and its session, so that neither can write once another has taken its place (I12).
 */

import type { StoreCompare, StoreOperation } from '../../src/ports/metadata-store.ts'
import { commit, type Store } from './commit.ts'
import {
  encodeLink,
  encodeMirror,
  encodeMirrored,
  type LinkValue,
  type MirroredValue,
  type MirrorValue,
} from './link-values.ts'
import type { MetadataKeys } from './metadata-keys.ts'
import { decodeProducerIds, encodeProducerIds } from './metadata-values.ts'
import type { ControllerHold } from './topic-transactions.ts'

export type LinkChange =
  | {
      readonly kind: 'link'
      readonly name: string
      readonly revision: number
      /** undefined: deleted. */
      readonly value: LinkValue | undefined
    }
  | {
      readonly kind: 'mirror'
      readonly name: string
      readonly revision: number
      readonly value: MirrorValue | undefined
    }

/**
 * All or nothing. @returns the revision; undefined: something moved, or this is no longer the controller
 * @throws StreamError STORE_UNAVAILABLE
 */
export async function writeLinks(
  store: Store,
  keys: MetadataKeys,
  hold: ControllerHold,
  changes: readonly LinkChange[],
): Promise<number | undefined> {
  const compare: StoreCompare[] = [
    { kind: 'createRevision', key: keys.controller(), equals: hold.controllerEpoch },
  ]
  const writes: StoreOperation[] = []
  const otherwise: StoreOperation[] = []
  for (const change of changes) {
    const key = change.kind === 'link' ? keys.link(change.name) : keys.mirror(change.name)
    compare.push({ kind: 'modRevision', key, equals: change.revision })
    otherwise.push({ kind: 'get', key })
    if (change.value === undefined) writes.push({ kind: 'delete', key })
    else writes.push({ kind: 'put', key, value: encoded(change) })
  }
  const result = await commit(store, { compare, writes, otherwise })
  if (result.succeeded) return result.revision
  // After an unknown outcome it may be one's own write.
  const isOwn = changes.every((change, index) => {
    const found = result.gets[index]
    if (change.value === undefined || found === undefined) return change.value === found
    return Buffer.from(found.value).equals(encoded(change))
  })
  return isOwn ? result.revision : undefined
}

function encoded(change: LinkChange): Uint8Array {
  if (change.kind === 'link') return encodeLink(change.value as LinkValue)
  return encodeMirror(change.value as MirrorValue)
}

export interface MirroredChange {
  readonly topicId: string
  readonly partition: number
  /** Of the partition's record, by which this broker leads. */
  readonly partitionRevision: number
  /** Of what is replaced; 0: nothing. */
  readonly revision: number
  readonly value: MirroredValue
  readonly leader: { readonly nodeId: number; readonly sessionEpoch: number }
}

/** @returns its new revision; undefined: something moved. @throws StreamError STORE_UNAVAILABLE */
export async function writeMirrored(
  store: Store,
  keys: MetadataKeys,
  change: MirroredChange,
): Promise<number | undefined> {
  const { topicId, partition, leader } = change
  const key = keys.mirrored(topicId, partition)
  const value = encodeMirrored(change.value)
  const result = await commit(store, {
    compare: [
      { kind: 'createRevision', key: keys.live(leader.nodeId), equals: leader.sessionEpoch },
      {
        kind: 'modRevision',
        key: keys.partition(topicId, partition),
        equals: change.partitionRevision,
      },
      { kind: 'modRevision', key, equals: change.revision },
    ],
    writes: [{ kind: 'put', key, value }],
    otherwise: [{ kind: 'get', key }],
  })
  if (result.succeeded) return result.revision
  const found = result.gets[0]
  const isOwn = found !== undefined && Buffer.from(found.value).equals(value)
  return isOwn ? found.modRevision : undefined
}

/** Producer ids up to `last` are in use by records of another cluster: none of them is given out here any more. */
export async function passProducerIds(
  store: Store,
  keys: MetadataKeys,
  last: number,
): Promise<void> {
  const key = keys.producerIds()
  let entry = await store.store.get(key)
  for (;;) {
    const next = entry === undefined ? 0 : decodeProducerIds(key, entry.value)
    if (next > last) return
    const result = await commit(store, {
      compare: [{ kind: 'modRevision', key, equals: entry?.modRevision ?? 0 }],
      writes: [{ kind: 'put', key, value: encodeProducerIds(last + 1) }],
      otherwise: [{ kind: 'get', key }],
    })
    if (result.succeeded) return
    entry = result.gets[0]
  }
}
