/** The links' part of what this process knows of the store (metadata-image.ts). */

import type { StoreEntry } from '../../src/ports/metadata-store.ts'
import {
  decodeLink,
  decodeMirror,
  decodeMirrored,
  type LinkValue,
  type MirroredValue,
  type MirrorValue,
} from './link-values.ts'
import type { MetadataKey } from './metadata-keys.ts'

export interface Stored<T> {
  readonly revision: number
  readonly value: T
}

type LinkKey = Extract<MetadataKey, { readonly kind: 'link' | 'mirror' | 'mirrored' }>

export class LinkImage {
  readonly #links = new Map<string, Stored<LinkValue>>()
  readonly #mirrors = new Map<string, Stored<MirrorValue>>()
  readonly #mirrored = new Map<string, Map<number, Stored<MirroredValue>>>()

  link(name: string): Stored<LinkValue> | undefined {
    return this.#links.get(name)
  }

  /** By name. */
  links(): ReadonlyMap<string, Stored<LinkValue>> {
    return this.#links
  }

  mirror(topic: string): Stored<MirrorValue> | undefined {
    return this.#mirrors.get(topic)
  }

  /** By topic. */
  mirrors(): ReadonlyMap<string, Stored<MirrorValue>> {
    return this.#mirrors
  }

  mirrored(topicId: string, partition: number): Stored<MirroredValue> | undefined {
    return this.#mirrored.get(topicId)?.get(partition)
  }

  mirroredTopicIds(): Iterable<string> {
    return this.#mirrored.keys()
  }

  mirroredPartitions(topicId: string): Iterable<number> {
    return this.#mirrored.get(topicId)?.keys() ?? []
  }

  /** The link that alone may write this partition; undefined: it belongs to whoever produces. */
  writerOf(topic: string, topicId: string, partition: number): string | undefined {
    const mirror = this.#mirrors.get(topic)?.value
    if (mirror === undefined) return undefined
    const state = this.mirrored(topicId, partition)?.value
    const isPromoted = state?.state === 'PROMOTED' && state.linkId === mirror.linkId
    return isPromoted ? undefined : mirror.link
  }

  /** Whether what is there came by a link. What a failback has fenced and not cut yet is still its own producers'. */
  isMirrored(topic: string, topicId: string, partition: number): boolean {
    if (this.writerOf(topic, topicId, partition) === undefined) return false
    const mirror = this.#mirrors.get(topic)?.value
    const isOfLink = this.mirrored(topicId, partition)?.value.linkId === mirror?.linkId
    return isOfLink || mirror?.cutAt[partition] === undefined
  }

  apply(key: string, parsed: LinkKey, entry: StoreEntry | undefined): void {
    switch (parsed.kind) {
      case 'link':
        put(this.#links, parsed.name, entry, (bytes) => decodeLink(key, bytes))
        break
      case 'mirror':
        put(this.#mirrors, parsed.topic, entry, (bytes) => decodeMirror(key, bytes))
        break
      case 'mirrored': {
        const { topicId, partition } = parsed
        const rows = this.#mirrored.get(topicId) ?? new Map<number, Stored<MirroredValue>>()
        this.#mirrored.set(topicId, rows)
        put(rows, partition, entry, (bytes) => decodeMirrored(key, bytes))
        if (rows.size === 0) this.#mirrored.delete(topicId)
      }
    }
  }
}

function put<K, T>(
  map: Map<K, Stored<T>>,
  name: K,
  entry: StoreEntry | undefined,
  decode: (bytes: Uint8Array) => T,
): void {
  if (entry === undefined) map.delete(name)
  else map.set(name, { revision: entry.modRevision, value: decode(entry.value) })
}
