/**
 * Through which clusters the records of a topic came (src/client/mirror-hops.ts): of copies one value in `__stream_state` for each
 * topic that something is copied into, of links what the daemon says; so that no ring is closed (commands.md, mirror).
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import {
  type Hop,
  isSameTopic,
  joinHops,
  PATH_WORD,
  parsePath,
  readLinkHops,
  storedPath,
  type TopicPath,
} from '../src/client/mirror-hops.ts'
import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import { readState, type StateKey, writeState } from './stream-state.ts'

export interface TopicPaths {
  /** By topic. */
  readonly copies: ReadonlyMap<string, TopicPath>
  /** Of topics that are mirrors of a link. */
  readonly links: ReadonlyMap<string, readonly Hop[]>
}

const PREFIX: StateKey = [PATH_WORD]

/** @param topics  those that links are asked for. @throws StreamError of the broker */
export async function readPaths(
  deps: CommandDeps,
  broker: Broker,
  topics: readonly string[],
): Promise<TopicPaths> {
  const copies = new Map<string, TopicPath>()
  for (const [key, value] of await readState(deps, broker, PREFIX)) {
    const found = parsePath(key, value)
    if (found !== undefined) copies.set(found.topic, found.path)
  }
  return { copies, links: await linkHops(deps, broker, topics) }
}

async function linkHops(
  deps: CommandDeps,
  broker: Broker,
  topics: readonly string[],
): Promise<ReadonlyMap<string, readonly Hop[]>> {
  const admin = await deps.clients.admin(broker.cluster)
  try {
    return await readLinkHops(admin, topics)
  } catch (error) {
    // Ours have no such right: it is a Kafka cluster, which has no links.
    if (!isStreamError(error, 'NOT_ALLOWED')) throw error
    return new Map()
  }
}

/** @param path  undefined: nothing is copied into the topic any more */
export function writePath(
  deps: CommandDeps,
  broker: Broker,
  topic: string,
  path: TopicPath | undefined,
): Promise<void> {
  const value = path === undefined ? undefined : storedPath(path)
  return writeState(deps, broker, PREFIX, [...PREFIX, topic], value)
}

/** What is known of a topic that may have been made anew since. */
export function hopsOf(paths: TopicPaths, topic: string, topicId: string): readonly Hop[] {
  const path = paths.copies.get(topic)
  const copied = path === undefined || !isSameTopic(path.topicId, topicId) ? [] : path.hops
  return joinHops(copied, paths.links.get(topic) ?? [])
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
