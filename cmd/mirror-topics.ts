/**
 * The topics that copies go into: made with the source's partitions and settings where they are missing, given more partitions
 * where the source has got more, and refused where they hold records of something else.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { ConfigEntry } from '../src/client/admin.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import { isSameTopic } from '../src/client/mirror-hops.ts'
import { walkRecords } from '../src/client/walk-records.ts'
import { BATCH_BYTES_MAX } from '../src/record/batch-builder.ts'
import type { Broker } from './broker.ts'
import type { AdminClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { type MirrorPosition, NOT_TOLD, type TopicPair } from './mirror-positions.ts'

const MAX_BYTES_KEY = 'max.message.bytes'

/** Settings that are of the source's cluster, or would change what is copied. */
const keptBack: ReadonlySet<string> = new Set([
  'leader.replication.throttled.replicas',
  'follower.replication.throttled.replicas',
  'remote.storage.enable',
])

export interface TargetTopic {
  readonly info: TopicInfo
  /** The most that it takes as one batch. */
  readonly batchBytesMax: number
}

/**
 * The topic to copy into, led and with a partition for each of the source's.
 * @param mayGrow  it is this copy's own: it gets the partitions that the source has got
 * @throws StreamError CONFLICT, and what the brokers say
 */
export async function prepareTarget(
  deps: CommandDeps,
  brokers: { readonly source: Broker; readonly target: Broker },
  pair: TopicPair,
  from: TopicInfo,
  options: { readonly mayGrow: (info: TopicInfo) => Promise<boolean> },
): Promise<TargetTopic> {
  const admin = await deps.clients.admin(brokers.target.cluster)
  const count = from.partitions.length
  let info = await findTopic(admin, pair.target)
  if (info === undefined) {
    await createLike(deps, brokers, admin, pair, count)
    info = await admin.awaitTopic(pair.target)
  } else if (info.partitions.length < count) {
    if (!(await options.mayGrow(info))) throw tooFew(pair, info.partitions.length, count)
    const [grown] = await admin.createPartitions([{ name: pair.target, count }])
    if (grown?.error !== undefined) throw grown.error
    info = await awaitPartitions(deps, admin, pair.target, count)
  } else info = await admin.awaitTopic(pair.target)
  return { info, batchBytesMax: await batchBytesMaxOf(admin, pair.target) }
}

async function findTopic(admin: AdminClient, name: string): Promise<TopicInfo | undefined> {
  const [info] = await admin.describeTopics([name])
  return info === undefined || info.errorCode !== 0 ? undefined : info
}

function tooFew({ source, target }: TopicPair, has: number, needs: number): StreamError {
  return new StreamError(
    'CONFLICT',
    `${target}: ${has} partitions, where ${source} has ${needs} at the source`,
    { target, hint: `stream topics alter ${target} --partitions ${needs}` },
  )
}

async function awaitPartitions(
  deps: CommandDeps,
  admin: AdminClient,
  name: string,
  count: number,
): Promise<TopicInfo> {
  const { sleep } = await import('../src/ports/time.ts')
  const deadlineMs = deps.time.monotonicMs() + 10_000
  for (;;) {
    const info = await admin.awaitTopic(name)
    const isThere =
      info.partitions.length >= count && info.partitions.every(({ leaderId }) => leaderId >= 0)
    if (isThere || deps.time.monotonicMs() > deadlineMs) return info
    await sleep(deps.time, 50)
  }
}

async function createLike(
  deps: CommandDeps,
  brokers: { readonly source: Broker },
  admin: AdminClient,
  { source, target }: TopicPair,
  partitions: number,
): Promise<void> {
  const sourceAdmin = await deps.clients.admin(brokers.source.cluster)
  const [described] = await sourceAdmin.describeConfigs([{ kind: 'topic', name: source }])
  const configs = copiedSettings(described?.configs ?? [])
  const create = async (isTrial: boolean, settings: Readonly<Record<string, string>>) => {
    const topic = { name: target, partitions, configs: settings }
    const [outcome] = await admin.createTopics([topic], { isTrial })
    return outcome?.error
  }
  let error = await create(false, configs)
  if (isStreamError(error, 'CONFIG_INVALID')) {
    const taken: Record<string, string> = {}
    for (const [key, value] of Object.entries(configs)) {
      const refusal = await create(true, { [key]: value })
      if (isStreamError(refusal, 'CONFIG_INVALID')) {
        deps.console.warn(`${target}: made without ${key}=${value}: ${refusal.message}`)
      } else taken[key] = value
    }
    error = await create(false, taken)
  }
  if (error !== undefined && !isStreamError(error, 'TOPIC_EXISTS')) throw error
}

/** What the topic itself sets. Its records keep their times, so a topic that stamps its own is copied into one that does not. */
function copiedSettings(entries: readonly ConfigEntry[]): Record<string, string> {
  const settings: Record<string, string> = {}
  for (const { name, value, origin, isSensitive, isReadOnly } of entries) {
    if (origin !== 'topic' || isSensitive || isReadOnly || value === null) continue
    if (keptBack.has(name) || name === 'message.timestamp.type') continue
    settings[name] = value
  }
  return settings
}

async function batchBytesMaxOf(admin: AdminClient, name: string): Promise<number> {
  try {
    const [described] = await admin.describeConfigs([{ kind: 'topic', name }])
    const text = described?.configs.find((entry) => entry.name === MAX_BYTES_KEY)?.value
    const bytes = Number(text)
    return text === null || !Number.isSafeInteger(bytes) || bytes < 1024 ? BATCH_BYTES_MAX : bytes
  } catch (error) {
    const isUntold =
      isStreamError(error, 'NOT_ALLOWED') || isStreamError(error, 'UNSUPPORTED_BY_BROKER')
    if (!isUntold) throw error
    return BATCH_BYTES_MAX
  }
}

/** Positions that are about these very topics. @throws StreamError CONFLICT: the source's was made anew since */
export function livePositions(
  pair: TopicPair,
  positions: ReadonlyMap<number, MirrorPosition>,
  ids: { readonly source: string; readonly target: string },
  options: { readonly mayAppend: boolean },
): Map<number, MirrorPosition> {
  const live = new Map<number, MirrorPosition>()
  for (const [partition, position] of positions) {
    // What was copied went with the topic: it is copied anew.
    if (!isSameTopic(position.targetId, ids.target)) continue
    if (isSameTopic(position.sourceId, ids.source)) live.set(partition, position)
    else if (!options.mayAppend)
      throw recreated(pair, 'to add the new records to the old ones: --append')
  }
  return live
}

export function recreated({ source, target }: TopicPair, hint: string): StreamError {
  const words = `${source}: deleted and made anew since it was copied into ${target}`
  return new StreamError('CONFLICT', words, { target: source, hint })
}

/**
 * Looks for records that this copy did not write: in partitions without a position from their start, in others behind its last.
 * @throws StreamError CONFLICT: there are some
 */
export async function refuseForeign(
  deps: CommandDeps,
  target: Broker,
  info: TopicInfo,
  positions: ReadonlyMap<number, MirrorPosition>,
): Promise<void> {
  const topic = info.name
  const partitions = info.partitions.map(({ partition }) => partition)
  const ask = async (at: 'earliest' | 'latest') => {
    const answers = await deps.clients.listOffsets(
      target.cluster,
      partitions.map((partition) => ({ topic, partition, at })),
    )
    return answers.map(({ offset }) => offset)
  }
  const starts = await ask('earliest')
  const ends = await ask('latest')
  const wanted = partitions.flatMap((partition, index) => {
    const position = positions.get(partition)
    if (position?.here === NOT_TOLD) return []
    const startOffset = Math.max(starts[index] ?? 0, position?.here ?? 0)
    const endOffset = ends[index] ?? 0
    return endOffset > startOffset ? [{ topic, partition, startOffset, endOffset }] : []
  })
  if (wanted.length === 0) return
  const consumer = await deps.clients.consumer(target.cluster, {})
  try {
    consumer.assign(wanted)
    await walkRecords(consumer, ({ offset }, partition) => {
      throw foreign(topic, partition, offset)
    })
  } finally {
    consumer.close()
  }
}

function foreign(topic: string, partition: number, offset: number): StreamError {
  return new StreamError(
    'CONFLICT',
    `${topic}: has records that are not from this source (partition ${partition}, offset ${offset})`,
    { target: topic, hint: 'to add the copy to them: --append; into another topic: --rename' },
  )
}
