/**
 * Through which clusters a topic comes, so that no ring is closed: each mirror records the path of its source and the source
 * itself. Only our own clusters tell it, at their native door; of another source only its own id is known.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Cluster } from '../../src/client/cluster.ts'

/** Paths of the source's topics that are mirrors themselves, by name. @throws StreamError as Cluster.call */
export async function pathsOf(cluster: Cluster): Promise<ReadonlyMap<string, readonly string[]>> {
  const paths = new Map<string, readonly string[]>()
  if (!cluster.isNative) return paths
  try {
    const { links } = await cluster.call('any', 'DescribeLinks', { names: null })
    for (const { topics } of links) {
      for (const { name, path } of topics) if (path.length > 0) paths.set(name, path)
    }
  } catch (error) {
    // An older daemon has no links.
    if (!isStreamError(error, 'UNSUPPORTED_BY_BROKER')) throw error
  }
  return paths
}

/** @throws StreamError CONFLICT */
export function refuseRing(topic: string, path: readonly string[], clusterId: string): void {
  if (!path.includes(clusterId)) return
  throw new StreamError(
    'CONFLICT',
    `${topic}: it comes from this cluster itself (${[...path, 'here'].join(' → ')}): the ring is not closed`,
    { target: topic },
  )
}
