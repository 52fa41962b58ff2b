/**
 * Topic configs as the log reads them: the texts of a topic, on top of the broker's defaults, as typed values.
 *
 * Invariants:
 * - Numbers are exact; "no limit" (2^63−1) is Infinity; −1 keeps Kafka's meaning (no limit) for the two retentions.
 * - What is described to clients is the text that was set, never a text made from these values.
 */

import { StreamError } from '../base/errors.ts'
import { ConfigSet, checkConfigValue, readBoolean, readNumber, splitList } from './config-key.ts'
import { type BrokerKeyName, brokerKeys, findKey, topicKeys, unknownKeyMessage } from './keys.ts'

export type TimestampType = 'CreateTime' | 'LogAppendTime'
export type StoredCompression = 'producer' | 'uncompressed' | 'gzip' | 'snappy' | 'lz4' | 'zstd'

export interface TopicConfig {
  readonly cleanupDelete: boolean
  readonly cleanupCompact: boolean
  /** −1: no limit. */
  readonly retentionMs: number
  /** −1: no limit. */
  readonly retentionBytes: number
  readonly segmentBytes: number
  readonly segmentMs: number
  readonly segmentJitterMs: number
  readonly segmentIndexBytes: number
  readonly indexIntervalBytes: number
  /** 1: durable before it is acknowledged. */
  readonly flushMessages: number
  readonly flushMs: number
  readonly maxMessageBytes: number
  readonly messageTimestampType: TimestampType
  readonly messageTimestampBeforeMaxMs: number
  readonly messageTimestampAfterMaxMs: number
  readonly compressionType: StoredCompression
  readonly compressionGzipLevel: number
  readonly compressionLz4Level: number
  readonly compressionZstdLevel: number
  readonly minInsyncReplicas: number
  readonly uncleanLeaderElectionEnable: boolean
  readonly minCleanableDirtyRatio: number
  readonly minCompactionLagMs: number
  readonly maxCompactionLagMs: number
  readonly deleteRetentionMs: number
  readonly fileDeleteDelayMs: number
  /** `partition:broker`, or `*`: what the limit on copying replicas holds for. */
  readonly leaderThrottledReplicas: readonly string[]
  readonly followerThrottledReplicas: readonly string[]
}

export type ConfigTexts = ReadonlyMap<string, string> | Readonly<Record<string, string>>

function asMap(texts: ConfigTexts): ReadonlyMap<string, string> {
  return texts instanceof Map ? texts : new Map(Object.entries(texts))
}

/**
 * Refuses what no topic may have: unknown names, values outside their limits, combinations that contradict themselves.
 * @throws StreamError CONFIG_INVALID
 */
export function validateTopicConfig(texts: ConfigTexts): void {
  const map = asMap(texts)
  for (const [name, text] of map) {
    const key = findKey('topic', name)
    if (key === undefined) {
      throw new StreamError('CONFIG_INVALID', unknownKeyMessage('topic', name), { target: name })
    }
    checkConfigValue(key, text)
    if (name.endsWith('.replication.throttled.replicas')) checkThrottled(name, text)
  }
  if (readBoolean(map.get('remote.storage.enable') ?? 'false')) {
    throw new StreamError(
      'CONFIG_INVALID',
      'remote.storage.enable: tiered storage is not available',
    )
  }
  const config = readTopicConfig(map, new Map(), 1)
  if (config.minCompactionLagMs > config.maxCompactionLagMs) {
    throw new StreamError(
      'CONFIG_INVALID',
      'min.compaction.lag.ms: must not be above max.compaction.lag.ms',
    )
  }
}

function checkThrottled(name: string, text: string): void {
  const list = splitList(text)
  if (list.length === 1 && list[0] === '*') return
  if (list.every((entry) => /^\d+:\d+$/.test(entry))) return
  throw new StreamError(
    'CONFIG_INVALID',
    `${name}: must be PARTITION:BROKER,… or *, not ${JSON.stringify(text)}`,
    { target: name },
  )
}

/**
 * @param texts  what the topic sets
 * @param options.broker  what the broker sets (its synonyms give the defaults)
 * @param options.replicationFactor  min.insync.replicas is 2 by default where it is above 1
 * @throws StreamError CONFIG_INVALID
 */
export function parseTopicConfig(
  texts: ConfigTexts,
  options: { readonly broker?: ConfigTexts; readonly replicationFactor?: number } = {},
): TopicConfig {
  validateTopicConfig(texts)
  return readTopicConfig(asMap(texts), asMap(options.broker ?? {}), options.replicationFactor ?? 1)
}

/**
 * The text in force of every visible topic key and where it comes from, in the order of the table; for DescribeConfigs.
 */
export function describeTopicConfig(
  texts: ConfigTexts,
  options: { readonly broker?: ConfigTexts; readonly replicationFactor?: number } = {},
): {
  readonly name: string
  readonly text: string
  readonly origin: 'topic' | 'broker' | 'default'
}[] {
  const topic = asMap(texts)
  const broker = asMap(options.broker ?? {})
  return topicKeys
    .filter((key) => !('hidden' in key) || topic.has(key.name))
    .map(({ name }) => {
      const text = topic.get(name)
      if (text !== undefined) return { name, text, origin: 'topic' }
      const inherited = brokerText(name, broker)
      if (inherited !== undefined) return { name, text: inherited, origin: 'broker' }
      return { name, text: defaultText(name, options.replicationFactor ?? 1), origin: 'default' }
    })
}

function defaultText(name: string, replicationFactor: number): string {
  if (name === 'min.insync.replicas') return replicationFactor > 1 ? '2' : '1'
  return findKey('topic', name)?.default ?? ''
}

const HOUR_MS = 3_600_000
const MINUTE_MS = 60_000

/** What the broker's config says about a topic key, its synonyms in hours and minutes included. */
function brokerText(name: string, broker: ReadonlyMap<string, string>): string | undefined {
  const synonym = findKey('topic', name)?.synonym
  const direct = synonym === undefined ? undefined : broker.get(synonym)
  if (direct !== undefined) return direct
  switch (name) {
    case 'retention.ms':
      return (
        scaled(broker.get('log.retention.minutes'), MINUTE_MS) ??
        scaled(broker.get('log.retention.hours'), HOUR_MS)
      )
    case 'segment.ms':
      return scaled(broker.get('log.roll.hours'), HOUR_MS)
    case 'segment.jitter.ms':
      return scaled(broker.get('log.roll.jitter.hours'), HOUR_MS)
    default:
      return undefined
  }
}

function scaled(text: string | undefined, factor: number): string | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  return value < 0 ? '-1' : String(value * factor)
}

function readTopicConfig(
  topic: ReadonlyMap<string, string>,
  broker: ReadonlyMap<string, string>,
  replicationFactor: number,
): TopicConfig {
  const text = (name: (typeof topicKeys)[number]['name']): string =>
    topic.get(name) ?? brokerText(name, broker) ?? defaultText(name, replicationFactor)
  const number = (name: (typeof topicKeys)[number]['name']): number => readNumber(text(name))
  const flag = (name: (typeof topicKeys)[number]['name']): boolean =>
    readBoolean(text(name)) ?? false
  const policies = splitList(text('cleanup.policy'))
  const internalSegmentBytes = topic.get('internal.segment.bytes')
  return {
    cleanupDelete: policies.includes('delete'),
    cleanupCompact: policies.includes('compact'),
    retentionMs: number('retention.ms'),
    retentionBytes: number('retention.bytes'),
    segmentBytes:
      internalSegmentBytes === undefined
        ? number('segment.bytes')
        : readNumber(internalSegmentBytes),
    segmentMs: number('segment.ms'),
    segmentJitterMs: number('segment.jitter.ms'),
    segmentIndexBytes: number('segment.index.bytes'),
    indexIntervalBytes: number('index.interval.bytes'),
    flushMessages: number('flush.messages'),
    flushMs: number('flush.ms'),
    maxMessageBytes: number('max.message.bytes'),
    messageTimestampType: text('message.timestamp.type') as TimestampType,
    messageTimestampBeforeMaxMs: number('message.timestamp.before.max.ms'),
    messageTimestampAfterMaxMs: number('message.timestamp.after.max.ms'),
    compressionType: text('compression.type') as StoredCompression,
    compressionGzipLevel: number('compression.gzip.level'),
    compressionLz4Level: number('compression.lz4.level'),
    compressionZstdLevel: number('compression.zstd.level'),
    minInsyncReplicas: number('min.insync.replicas'),
    uncleanLeaderElectionEnable: flag('unclean.leader.election.enable'),
    minCleanableDirtyRatio: number('min.cleanable.dirty.ratio'),
    minCompactionLagMs: number('min.compaction.lag.ms'),
    maxCompactionLagMs: number('max.compaction.lag.ms'),
    deleteRetentionMs: number('delete.retention.ms'),
    fileDeleteDelayMs: number('file.delete.delay.ms'),
    leaderThrottledReplicas: splitList(text('leader.replication.throttled.replicas')),
    followerThrottledReplicas: splitList(text('follower.replication.throttled.replicas')),
  }
}

/** The broker's keys in force. @throws StreamError CONFIG_INVALID */
export function parseBrokerConfig(texts: ConfigTexts): ConfigSet<BrokerKeyName> {
  const map = asMap(texts)
  for (const name of map.keys()) {
    if (findKey('broker', name) === undefined) {
      throw new StreamError('CONFIG_INVALID', unknownKeyMessage('broker', name), { target: name })
    }
  }
  return new ConfigSet(brokerKeys, map)
}
