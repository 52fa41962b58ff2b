/**
 * Through which clusters the records of a topic came: one value in `__stream_state` for each topic that something is mirrored
 * into, so that no ring is closed (commands.md, mirror).
 *
 * A hop is tagged where each record says its origin: such a ring is harmless, since records end where they began.
 */

import { StreamError } from '../src/base/errors.ts'
import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import { isSameTopic } from './mirror-positions.ts'
import { readState, type StateKey, writeState } from './stream-state.ts'

export interface Hop {
  readonly cluster: string
  readonly isTagged: boolean
}

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

const PREFIX: StateKey = ['mirror-path']

/** By topic. @throws StreamError of the broker */
export async function readPaths(
  deps: CommandDeps,
  broker: Broker,
): Promise<ReadonlyMap<string, TopicPath>> {
  const paths = new Map<string, TopicPath>()
  for (const [key, value] of await readState(deps, broker, PREFIX)) {
    const [, topic] = JSON.parse(key) as unknown[]
    const stored = value as Partial<StoredPath> | null
    if (typeof topic !== 'string' || stored?.v !== 1 || !Array.isArray(stored.through)) continue
    const hops = stored.through.map(({ cluster, tagged }) => ({ cluster, isTagged: tagged }))
    paths.set(topic, { topicId: stored.id ?? '', hops })
  }
  return paths
}

/** @param path  undefined: nothing is mirrored into the topic any more */
export function writePath(
  deps: CommandDeps,
  broker: Broker,
  topic: string,
  path: TopicPath | undefined,
): Promise<void> {
  const through = path?.hops.map(({ cluster, isTagged }) => ({ cluster, tagged: isTagged })) ?? []
  const value = path === undefined ? undefined : { v: 1, id: path.topicId, through }
  return writeState(deps, broker, PREFIX, [...PREFIX, topic], value)
}

/** What is known of a topic that may have been made anew since. */
export function hopsOf(
  paths: ReadonlyMap<string, TopicPath>,
  topic: string,
  topicId: string,
): readonly Hop[] {
  const path = paths.get(topic)
  return path === undefined || !isSameTopic(path.topicId, topicId) ? [] : path.hops
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

/** @throws StreamError CONFLICT: the records of `topic` have been in the target's cluster already */
export function refuseRing(
  topic: string,
  hops: readonly Hop[],
  to: { readonly clusterId: string; readonly isTagged: boolean },
): void {
  const hop = hops.find(({ cluster }) => cluster === to.clusterId)
  if (hop === undefined || (hop.isTagged && to.isTagged)) return
  throw new StreamError(
    'CONFLICT',
    `${topic}: its records come from the target already (cluster ${hop.cluster}): that would be a ring`,
    {
      target: topic,
      hint: to.isTagged
        ? 'they came without their origin: copy into a topic of its own, or begin both ways anew with --tag-origin'
        : 'copies both ways need --tag-origin, each of them',
    },
  )
}
