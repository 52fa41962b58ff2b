/**
 * Through which clusters the records of a topic came, so that no ring is closed: of copies a value in `__stream_state` of the
 * cluster that they are in, of links what its daemon says of its mirrors. Both are joined here, for copies and links alike.
 *
 * A hop is tagged where each record says its origin: such a ring is harmless between copies, since records end where they began.
 * Links keep records as they are, so they never tag.
 */

import type { StreamError } from '../base/errors.ts'

export interface Hop {
  readonly cluster: string
  readonly isTagged: boolean
}

/** A config that every daemon of ours tells of a topic that is a mirror, when it is asked for by name: through any door. */
export const PATH_KEY = 'mirror.path'
const TAGGED = '+tagged'
/** Topics in one question. */
const TOPICS_AT_ONCE = 1000

/** As the value of PATH_KEY. */
export function formatHops(hops: readonly Hop[]): string {
  return hops.map(({ cluster, isTagged }) => (isTagged ? cluster + TAGGED : cluster)).join(',')
}

export function parseHops(text: string): readonly Hop[] {
  return text
    .split(',')
    .filter((word) => word !== '')
    .map((word) =>
      word.endsWith(TAGGED)
        ? { cluster: word.slice(0, -TAGGED.length), isTagged: true }
        : { cluster: word, isTagged: false },
    )
}

/** The hops of a topic once records come into it by another hop too; the same array where that is no news. */
export function joinHops(known: readonly Hop[], added: readonly Hop[]): readonly Hop[] {
  const all = new Map(known.map((hop) => [hop.cluster, hop]))
  let hasChanged = false
  for (const hop of added) {
    const before = all.get(hop.cluster)
    // One way without tags is enough to make a ring.
    if (before !== undefined && (!before.isTagged || hop.isTagged)) continue
    all.set(hop.cluster, hop)
    hasChanged = true
  }
  return hasChanged ? [...all.values()] : known
}

interface ConfigAsker {
  describeConfigs(
    resources: readonly { readonly kind: 'topic'; readonly name: string }[],
    options: { readonly keys: readonly string[] },
  ): Promise<
    readonly {
      readonly name: string
      readonly configs: readonly { readonly name: string; readonly value: string | null }[]
      readonly error: StreamError | undefined
    }[]
  >
}

/** Of those of these topics that are mirrors of a link, by name. @throws StreamError as Admin.describeConfigs */
export async function readLinkHops(
  admin: ConfigAsker,
  topics: readonly string[],
): Promise<ReadonlyMap<string, readonly Hop[]>> {
  const found = new Map<string, readonly Hop[]>()
  for (let at = 0; at < topics.length; at += TOPICS_AT_ONCE) {
    const part = topics.slice(at, at + TOPICS_AT_ONCE)
    const resources = part.map((name) => ({ kind: 'topic', name }) as const)
    for (const { name, configs } of await admin.describeConfigs(resources, { keys: [PATH_KEY] })) {
      const value = configs.find((config) => config.name === PATH_KEY)?.value ?? ''
      if (value !== '') found.set(name, parseHops(value))
    }
  }
  return found
}

// --- paths of copies, as `stream mirror` stores them

export interface TopicPath {
  /** Of the topic that it is about. */
  readonly topicId: string
  readonly hops: readonly Hop[]
}

/** As it is stored, under `["mirror-path", TOPIC]`. */
interface StoredPath {
  readonly v: 1
  readonly id: string
  readonly through: readonly { readonly cluster: string; readonly tagged: boolean }[]
}

/** The first word of the keys. */
export const PATH_WORD = 'mirror-path'

export function storedPath({ topicId, hops }: TopicPath): StoredPath {
  const through = hops.map(({ cluster, isTagged }) => ({ cluster, tagged: isTagged }))
  return { v: 1, id: topicId, through }
}

/** undefined: no path, or nothing that is known here. */
export function parsePath(
  key: string,
  value: unknown,
): { readonly topic: string; readonly path: TopicPath } | undefined {
  const [word, topic] = JSON.parse(key) as unknown[]
  const stored = value as Partial<StoredPath> | null
  if (word !== PATH_WORD || typeof topic !== 'string') return undefined
  if (stored?.v !== 1 || !Array.isArray(stored.through)) return undefined
  const hops = stored.through.map(({ cluster, tagged }) => ({ cluster, isTagged: tagged }))
  return { topic, path: { topicId: stored.id ?? '', hops } }
}

/** Two ids of one topic; a broker that is too old to tell has none. */
export function isSameTopic(idA: string, idB: string): boolean {
  return isUnknownId(idA) || isUnknownId(idB) || idA === idB
}

function isUnknownId(id: string): boolean {
  return id === '' || /^A+$/.test(id)
}
