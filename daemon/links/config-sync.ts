/**
 * Configs of a source's topics as this cluster can have them: what is set on the topic there, and known here. What speaks of
 * the source's own replicas and storage is left out.
 */

import { isStreamError } from '../../src/base/errors.ts'
import { Admin } from '../../src/client/admin.ts'
import type { Cluster } from '../../src/client/cluster.ts'
import type { TopicInfo } from '../../src/client/metadata-cache.ts'
import { findConfigDefect } from '../../src/config/config-key.ts'
import { findKey } from '../../src/config/keys.ts'
import type { Broker } from '../replica/broker.ts'
import type { Texts } from '../replica/broker-config.ts'

const OWN_KEYS: ReadonlySet<string> = new Set([
  'min.insync.replicas',
  'unclean.leader.election.enable',
  'leader.replication.throttled.replicas',
  'follower.replication.throttled.replicas',
  'flush.messages',
  'flush.ms',
  // Where the source keeps its old segments is its own affair.
  'remote.storage.enable',
  'local.retention.ms',
  'local.retention.bytes',
])

/** By topic; only those of topics that told. @throws StreamError as Admin.describeConfigs */
export async function sourceConfigs(
  broker: Broker,
  cluster: Cluster,
  topics: readonly TopicInfo[],
): Promise<ReadonlyMap<string, ReadonlyMap<string, string>>> {
  const found = new Map<string, ReadonlyMap<string, string>>()
  if (topics.length === 0) return found
  const admin = new Admin(broker.time, broker.random, cluster)
  const resources = topics.map(({ name }) => ({ kind: 'topic', name }) as const)
  try {
    for (const { name, configs, error } of await admin.describeConfigs(resources)) {
      if (error !== undefined) {
        // Hidden from us, or deleted just now. Nothing is known of it, which is not that nothing is set.
        broker.log.debug('the source does not tell the configs of a topic', {
          topic: name,
          error: error.message,
        })
        continue
      }
      const own = configs.filter(({ origin }) => origin === 'topic')
      found.set(
        name,
        new Map(
          own.flatMap(({ name: key, value }): [string, string][] =>
            value === null || !isCopied(key) || !isPossible(key, value) ? [] : [[key, value]],
          ),
        ),
      )
    }
  } catch (error) {
    if (!isStreamError(error, 'NOT_ALLOWED')) throw error
    broker.log.warn('the source does not tell the configs of its topics', { error: error.message })
  }
  return found
}

/** A broker of another kind or age may allow what a log here cannot have: the topic is mirrored without it. */
function isPossible(key: string, value: string): boolean {
  const found = findKey('topic', key)
  return found !== undefined && findConfigDefect(found, value) === undefined
}

/** What is set here, with what is copied in the place of what was. */
export function copiedConfig(before: Texts, source: ReadonlyMap<string, string>): Texts {
  const next: Record<string, string> = {}
  for (const [key, value] of Object.entries(before)) if (!isCopied(key)) next[key] = value
  for (const [key, value] of source) next[key] = value
  return next
}

function isCopied(key: string): boolean {
  return findKey('topic', key) !== undefined && !OWN_KEYS.has(key)
}
