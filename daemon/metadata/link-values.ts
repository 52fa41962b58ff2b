/**
 * What the store holds of links to other clusters, JSON as all its values (metadata-values.ts). Field names are permanent.
 *
 * `link/<name>` is the order, written by the controller; `mirror/<topic>` what the link makes of a topic, written by the
 * controller, before the topic exists; `mirrored/<topicId>/<p>` what a partition has of its source, written by its leader.
 * A topic is writable here when its mirror record is gone, or the record of each partition says PROMOTED for that link.
 */

import {
  array,
  asInteger,
  damaged,
  decodeObject,
  encodeObject,
  integer,
  integers,
  type JsonObject,
  text,
  texts,
} from './metadata-values.ts'

export type LinkState = 'ACTIVE' | 'PAUSED' | 'UNLINKING'

export interface LinkRate {
  readonly kind: 'bytes' | 'records'
  readonly perSecond: number
}

export interface LinkValue {
  /** Of this order: a link of the same name that is made later is another one. */
  readonly id: string
  /** Addresses of the source, as Net.connect takes them. */
  readonly source: readonly string[]
  /** Of the daemon's own user, with what protects the way to the source; null: nothing does. */
  readonly context: string | null
  readonly sourceClusterId: string
  /** Globs of topic names. */
  readonly topics: readonly string[]
  readonly syncConfigs: boolean
  readonly syncGroups: boolean
  readonly rate: LinkRate | null
  readonly state: LinkState
  /** Wall clock, milliseconds since 1970. */
  readonly at: number
}

/** PROMOTING: ordered, and on its way; PROMOTED: all partitions are. */
export type MirrorState = 'MIRROR' | 'PAUSED' | 'PROMOTING' | 'PROMOTED'

export interface MirrorValue {
  readonly link: string
  readonly linkId: string
  /** All `A`: the source is too old to tell. */
  readonly sourceTopicId: string
  /** Ids of the clusters it came through, the first one first. One of this cluster: a ring, nothing is followed. */
  readonly path: readonly string[]
  /** Those of them whose records say their origin (mirror-hops.ts). */
  readonly tagged: readonly string[]
  readonly state: MirrorState
  /**
   * Of a topic that was there before: by partition, where its records and the source's part. What is beyond is cut before
   * anything is appended.
   */
  readonly cutAt: readonly number[]
}

/** FENCED: nothing of the source is appended any more, and not everything is settled that came. */
export type MirroredState = 'MIRROR' | 'FENCED' | 'PROMOTED'

export interface SourceEpoch {
  readonly epoch: number
  readonly startOffset: number
}

export interface MirroredValue {
  readonly linkId: string
  readonly state: MirroredState
  /** Leader epochs of the source: a batch was never appended before its epoch was here. */
  readonly epochs: readonly SourceEpoch[]
  /** Where the source's records end and this cluster's begin; −1 while it is a mirror. */
  readonly promotedOffset: number
  /** Leader epoch here at that time; −1 while it is a mirror. */
  readonly promotedEpoch: number
  /** Below it nothing was open at that time; what was open between it and promotedOffset was aborted. −1 while it is a mirror. */
  readonly settledOffset: number
  /** Behind the markers that aborted what was open: producer ids in batches below it are the source's. −1 until it is promoted. */
  readonly ownOffset: number
}

export function encodeLink(value: LinkValue): Uint8Array {
  return encodeObject(value)
}

export function decodeLink(key: string, bytes: Uint8Array): LinkValue {
  const object = decodeObject(key, bytes)
  return {
    id: text(key, object, 'id'),
    source: texts(key, object, 'source'),
    context: typeof object['context'] === 'string' ? object['context'] : null,
    sourceClusterId: text(key, object, 'sourceClusterId'),
    topics: texts(key, object, 'topics'),
    syncConfigs: object['syncConfigs'] === true,
    syncGroups: object['syncGroups'] === true,
    rate: decodeRate(key, object['rate']),
    state: oneOf(key, object, ['ACTIVE', 'PAUSED', 'UNLINKING']),
    at: integer(key, object, 'at'),
  }
}

export function encodeMirror(value: MirrorValue): Uint8Array {
  return encodeObject(value)
}

export function decodeMirror(key: string, bytes: Uint8Array): MirrorValue {
  const object = decodeObject(key, bytes)
  return {
    link: text(key, object, 'link'),
    linkId: text(key, object, 'linkId'),
    sourceTopicId: text(key, object, 'sourceTopicId'),
    path: texts(key, object, 'path'),
    tagged: object['tagged'] === undefined ? [] : texts(key, object, 'tagged'),
    state: oneOf(key, object, ['MIRROR', 'PAUSED', 'PROMOTING', 'PROMOTED']),
    cutAt: integers(key, object, 'cutAt'),
  }
}

export function encodeMirrored(value: MirroredValue): Uint8Array {
  const { epochs, ...rest } = value
  return encodeObject({
    ...rest,
    epochs: epochs.map(({ epoch, startOffset }) => [epoch, startOffset]),
  })
}

export function decodeMirrored(key: string, bytes: Uint8Array): MirroredValue {
  const object = decodeObject(key, bytes)
  const epochs = array(key, object, 'epochs').map((pair): SourceEpoch => {
    if (!Array.isArray(pair)) throw damaged(key, 'an epoch that is no pair')
    const [epoch, startOffset] = pair as readonly unknown[]
    return {
      epoch: asInteger(key, 'epoch', epoch),
      startOffset: asInteger(key, 'startOffset', startOffset),
    }
  })
  return {
    linkId: text(key, object, 'linkId'),
    state: oneOf(key, object, ['MIRROR', 'FENCED', 'PROMOTED']),
    epochs,
    promotedOffset: integer(key, object, 'promotedOffset'),
    promotedEpoch: integer(key, object, 'promotedEpoch'),
    settledOffset: integer(
      key,
      object,
      object['settledOffset'] === undefined ? 'promotedOffset' : 'settledOffset',
    ),
    ownOffset: integer(
      key,
      object,
      object['ownOffset'] === undefined ? 'promotedOffset' : 'ownOffset',
    ),
  }
}

function decodeRate(key: string, value: unknown): LinkRate | null {
  if (value === null || value === undefined) return null
  const object = value as JsonObject
  return {
    kind: oneOf(key, object, ['bytes', 'records']),
    perSecond: integer(key, object, 'perSecond'),
  }
}

function oneOf<T extends string>(key: string, object: JsonObject, allowed: readonly T[]): T {
  const name = allowed.includes('bytes' as T) ? 'kind' : 'state'
  const found = text(key, object, name)
  const known = allowed.find((value) => value === found)
  if (known === undefined) throw damaged(key, `unknown ${name} ${found}`)
  return known
}
