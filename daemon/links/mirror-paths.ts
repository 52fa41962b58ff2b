/**
 * Through which clusters a topic comes, so that no ring is closed, of links and copies alike: each mirror records the path of its
 * source and the source itself. Links tell theirs with the topic's configs, copies have them in `__stream_state`; both are to be had
 * through any door, of a Kafka cluster as well.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import { Admin } from '../../src/client/admin.ts'
import type { Cluster } from '../../src/client/cluster.ts'
import { CopyPaths } from '../../src/client/copy-paths.ts'
import type { TopicInfo } from '../../src/client/metadata-cache.ts'
import {
  formatHops,
  type Hop,
  isSameTopic,
  joinHops,
  PATH_KEY,
  readLinkHops,
} from '../../src/client/mirror-hops.ts'
import type { Random } from '../../src/ports/random.ts'
import type { Time } from '../../src/ports/time.ts'
import type { MirrorValue } from '../metadata/link-values.ts'
import type { MetadataImage } from '../metadata/metadata-image.ts'

export { PATH_KEY }

export class SourcePaths {
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #copies: CopyPaths

  constructor({ time, random }: { time: Time; random: Random }, cluster: Cluster) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
    this.#copies = new CopyPaths(time, random, cluster)
  }

  /** Of those of these topics whose records come from elsewhere, by name. @throws StreamError as Cluster.call */
  async read(topics: readonly TopicInfo[]): Promise<ReadonlyMap<string, readonly Hop[]>> {
    const copies = await this.#copies.read()
    const links = await this.#links(topics)
    const found = new Map<string, readonly Hop[]>()
    for (const { name, topicId } of topics) {
      const path = copies.get(name)
      const copied = path === undefined || !isSameTopic(path.topicId, topicId) ? [] : path.hops
      const hops = joinHops(copied, links.get(name) ?? [])
      if (hops.length > 0) found.set(name, hops)
    }
    return found
  }

  async #links(topics: readonly TopicInfo[]): Promise<ReadonlyMap<string, readonly Hop[]>> {
    const admin = new Admin(this.#time, this.#random, this.#cluster)
    try {
      return await readLinkHops(
        admin,
        topics.map(({ name }) => name),
      )
    } catch (error) {
      // Ours have no such right: it is a Kafka cluster, which has no links.
      if (!isStreamError(error, 'NOT_ALLOWED')) throw error
      return new Map()
    }
  }
}

/** The path of a mirror: what its source has come through, and the source. A link tags nothing. */
export function pathThrough(hops: readonly Hop[], sourceClusterId: string): readonly Hop[] {
  return joinHops(hops, [{ cluster: sourceClusterId, isTagged: false }])
}

export function isRing(hops: readonly Hop[], clusterId: string): boolean {
  return hops.some(({ cluster }) => cluster === clusterId)
}

/** @throws StreamError CONFLICT */
export function refuseRing(topic: string, hops: readonly Hop[], clusterId: string): void {
  if (!isRing(hops, clusterId)) return
  const way = [...hops.map(({ cluster }) => cluster), 'here'].join(' → ')
  throw new StreamError(
    'CONFLICT',
    `${topic}: it comes from this cluster itself (${way}): the ring is not closed`,
    { target: topic },
  )
}

/** As a mirror's record has them. */
export function storedHops(hops: readonly Hop[]): Pick<MirrorValue, 'path' | 'tagged'> {
  const tagged = hops.filter(({ isTagged }) => isTagged)
  return {
    path: hops.map(({ cluster }) => cluster),
    tagged: tagged.map(({ cluster }) => cluster),
  }
}

/** What other clusters are told of it (PATH_KEY); undefined: what is here is this cluster's own. */
export function shownPath(
  image: Pick<MetadataImage, 'links' | 'topic'>,
  topic: string,
): string | undefined {
  const { links } = image
  const mirror = links.mirror(topic)?.value
  const found = image.topic(topic)
  if (mirror === undefined || mirror.state === 'PROMOTED') return undefined
  const parts = Array.from({ length: found?.value.partitions ?? 0 }, (_, index) => index)
  const isMirror = (index: number): boolean =>
    found !== undefined && links.writerOf(topic, found.topicId, index) !== undefined
  if (!parts.some(isMirror)) return undefined
  const { path, tagged } = mirror
  return formatHops(path.map((cluster) => ({ cluster, isTagged: tagged.includes(cluster) })))
}
