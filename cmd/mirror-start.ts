/**
 * How a copy of a topic begins: no ring, a target to copy into, the pair's transactional id, the positions where the last run
 * ended, no records of something else.
 *
 * Order: the id is taken before positions are read, so that nobody moves them any more.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import { type Hop, isSameTopic, joinHops } from '../src/client/mirror-hops.ts'
import type { OffsetQuestion } from '../src/client/offsets.ts'
import { encodeHeader } from '../src/record/batch-builder.ts'
import { BatchCopier, type CopierOptions } from '../src/record/batch-copier.ts'
import type { RecordCursor } from '../src/record/record-cursor.ts'
import { equalBytes } from '../src/text/find-bytes.ts'
import type { PartitionPosition } from '../src/text/position.ts'
import { RecordFilter } from '../src/text/record-filter.ts'
import type { Broker } from './broker.ts'
import type { ConsumerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { type LanePartition, MirrorLane } from './mirror-lane.ts'
import { hopsOf, readPaths, refuseRing, type TopicPaths, writePath } from './mirror-path.ts'
import type { MirrorPlan } from './mirror-plan.ts'
import {
  type FoundPosition,
  type MirrorPosition,
  type MirrorTrait,
  NONE_YET,
  ofPair,
  readPositions,
  type TopicPair,
} from './mirror-positions.ts'
import { livePositions, prepareTarget, refuseForeign, type TargetTopic } from './mirror-topics.ts'
import { Pacer } from './pacer.ts'
import { tellGap } from './read-gap.ts'
import { askOffsets } from './read-open.ts'
import { type PartitionName, type PartitionRange, resolveRanges } from './read-range.ts'
import type { Report } from './report.ts'

export const ORIGIN_HEADER = 'stream.origin'
/** Topics that are begun at the same time. */
const AT_ONCE_MAX = 8

interface Opened {
  readonly lane: MirrorLane
  readonly from: TopicInfo
  readonly to: TargetTopic
}

/** What is stored on both sides. */
interface Found {
  readonly positions: readonly FoundPosition[]
  readonly sourcePaths: TopicPaths
  /** What is stored; nothing is copied into a mirror of a link. */
  readonly targetPaths: TopicPaths
}

export interface StartOptions {
  /** Of the clusters. */
  readonly sourceId: string
  readonly targetId: string
  readonly report: Report
  readonly onFailure: (error: unknown, target: string) => void
  readonly onReading: () => void
  /** A lane is about to get its first records. */
  readonly onLane: (lane: MirrorLane) => void
}

export class MirrorStart {
  readonly #deps: CommandDeps
  readonly #plan: MirrorPlan
  readonly #source: Broker
  readonly #target: Broker
  readonly #consumer: ConsumerClient
  readonly #options: StartOptions
  readonly #sourceId: string
  readonly #targetId: string
  readonly #pacer: Pacer | undefined
  /** Source topic by target topic. */
  readonly #taken = new Map<string, string>()
  readonly #ids = new Map<string, { readonly source: string; readonly target: string }>()

  constructor(
    deps: CommandDeps,
    plan: MirrorPlan,
    source: Broker,
    target: Broker,
    consumer: ConsumerClient,
    options: StartOptions,
  ) {
    this.#deps = deps
    this.#plan = plan
    this.#source = source
    this.#target = target
    this.#consumer = consumer
    this.#options = options
    this.#sourceId = options.sourceId
    this.#targetId = options.targetId
    const { rate } = plan.read
    this.#pacer = rate === undefined ? undefined : new Pacer(deps.time, rate)
  }

  /** Lanes with their partitions, ready to run; what may not be copied is told. @throws StreamError of the brokers */
  async lanes(topics: readonly TopicInfo[]): Promise<MirrorLane[]> {
    if (topics.length === 0) return []
    const clusterId = this.#sourceId
    const names = topics.map(({ name }) => name)
    const paths = await readPaths(this.#deps, this.#source, names)
    const opened: Opened[] = []
    await this.#each(topics, async (from) => {
      this.#refuseRing(from, hopsOf(paths, from.name, from.topicId))
      const lane = await this.#open(from)
      if (lane !== undefined) opened.push(lane)
    })
    if (opened.length === 0) return []
    const found: Found = {
      positions: await readPositions(this.#deps, this.#target, clusterId),
      sourcePaths: await readPaths(this.#deps, this.#source, names),
      targetPaths: await readPaths(this.#deps, this.#target, []),
    }
    const lanes: MirrorLane[] = []
    await this.#each(
      opened.map(({ from }) => from),
      async (from) => {
        const each = opened.find((row) => row.from === from)
        if (each === undefined) return
        await this.#begin(each, found)
        lanes.push(each.lane)
      },
    )
    return lanes
  }

  /** Those that the topic has got since, from their start. */
  async addPartitions(lane: MirrorLane, from: TopicInfo): Promise<void> {
    const fresh = from.partitions.filter(({ partition }) => !lane.partitions.has(partition))
    if (this.#plan.read.partitions !== undefined || fresh.length === 0) return
    const ids = this.#ids.get(from.name)
    if (ids === undefined || !isSameTopic(ids.source, from.topicId)) return
    await prepareTarget(this.#deps, this.#brokers, lane.pair, from, { mayGrow: async () => true })
    const start = { all: { kind: 'start' }, places: [] } as const
    const names = fresh.map(({ partition }) => ({ topic: from.name, partition }))
    const ranges = await resolveRanges(names, start, undefined, (questions) =>
      askOffsets(this.#deps, this.#source, this.#plan.read, questions),
    )
    for (const range of ranges) lane.add(partitionOf(range, undefined, ids))
  }

  /** A ring may be closed elsewhere while this copy runs: it is stopped then. */
  async checkRings(lanes: readonly MirrorLane[]): Promise<void> {
    if (lanes.length === 0) return
    const names = lanes.map(({ pair }) => pair.source)
    const sourcePaths = await readPaths(this.#deps, this.#source, names)
    const targetPaths = await readPaths(this.#deps, this.#target, [])
    for (const lane of lanes) {
      const { source } = lane.pair
      const ids = this.#ids.get(source)
      if (ids === undefined) continue
      try {
        refuseRing(source, hopsOf(sourcePaths, source, ids.source), this.#here)
        await this.#recordPath(lane.pair, ids, { sourcePaths, targetPaths })
      } catch (error) {
        if (!isStreamError(error, 'CONFLICT')) throw error
        this.#options.onFailure(error, source)
        lane.stop()
      }
    }
  }

  get #brokers() {
    return { source: this.#source, target: this.#target }
  }

  get #here() {
    return { clusterId: this.#targetId, isTagged: this.#plan.isTagged }
  }

  /** A failure is of one topic. */
  async #each(
    topics: readonly TopicInfo[],
    run: (topic: TopicInfo) => Promise<void>,
  ): Promise<void> {
    const waiting = [...topics]
    const work = async (): Promise<void> => {
      for (let topic = waiting.shift(); topic !== undefined; topic = waiting.shift()) {
        try {
          await run(topic)
        } catch (error) {
          if (!(error instanceof StreamError)) throw error
          this.#options.onFailure(error, topic.name)
        }
      }
    }
    await Promise.all(Array.from({ length: Math.min(AT_ONCE_MAX, topics.length) }, work))
  }

  #refuseRing(from: TopicInfo, hops: readonly Hop[]): void {
    if (this.#sourceId === this.#targetId) {
      throw new StreamError('CONFLICT', `${from.name}: source and target are one cluster`, {
        target: from.name,
        hint: 'within a cluster: stream pipe --in A --out B -j NAME -- cat',
      })
    }
    refuseRing(from.name, hops, this.#here)
  }

  async #open(from: TopicInfo): Promise<Opened | undefined> {
    const clusterId = this.#sourceId
    const pair = { source: from.name, target: this.#plan.rename(from.name, clusterId) }
    const other = this.#taken.get(pair.target)
    if (other !== undefined && other !== pair.source && !this.#plan.mayAppend) {
      throw new StreamError('CONFLICT', `${pair.source}: ${other} is copied into ${pair.target}`, {
        target: pair.source,
        hint: 'several topics into one need --append',
      })
    }
    this.#taken.set(pair.target, pair.source)
    // Asked for where it matters only: a run that was killed has left its transaction open, and whoever reads waits for that, until the
    // id is taken again.
    const mayGrow = async (info: TopicInfo): Promise<boolean> => {
      const known = ofPair(await readPositions(this.#deps, this.#target, clusterId), pair)
      return [...known.values()].some(({ targetId }) => isSameTopic(targetId, info.topicId))
    }
    const to = await prepareTarget(this.#deps, this.#brokers, pair, from, { mayGrow })
    const lane = this.#makeLane(pair, clusterId, to)
    await lane.open()
    return { lane, from, to }
  }

  async #begin(opened: Opened, found: Found): Promise<void> {
    const { lane, from, to } = opened
    const { pair } = lane
    const ids = { source: from.topicId, target: to.info.topicId }
    this.#ids.set(pair.source, ids)
    const { mayAppend } = this.#plan
    const live = livePositions(pair, ofPair(found.positions, pair), ids, { mayAppend })
    if (!mayAppend) await refuseForeign(this.#deps, this.#target, to.info, live)
    await this.#recordPath(pair, ids, found)
    const ranges = await this.#rangesOf(from, live)
    for (const { topic, partition, gap } of ranges) {
      if (gap !== undefined) this.#onGap(topic, partition, gap.from, gap.to)
    }
    // From the first partition on its records may come at any moment.
    this.#options.onLane(lane)
    for (const range of ranges) lane.add(partitionOf(range, live.get(range.partition), ids))
  }

  /** @throws StreamError CONFLICT: a ring was closed meanwhile */
  async #recordPath(
    pair: TopicPair,
    ids: { readonly source: string; readonly target: string },
    found: Pick<Found, 'sourcePaths' | 'targetPaths'>,
  ): Promise<void> {
    const own: Hop = { cluster: this.#sourceId, isTagged: this.#plan.isTagged }
    const topicId = ids.target
    const known = hopsOf(found.targetPaths, pair.target, topicId)
    const hops = joinHops(known, [...hopsOf(found.sourcePaths, pair.source, ids.source), own])
    if (hops === known) return
    await writePath(this.#deps, this.#target, pair.target, { topicId, hops })
    // Two that begin at the same time, each the other's way: at least one of them sees it now.
    const paths = await readPaths(this.#deps, this.#source, [pair.source])
    try {
      refuseRing(pair.source, hopsOf(paths, pair.source, ids.source), this.#here)
    } catch (error) {
      const before = known.length === 0 ? undefined : { topicId, hops: known }
      await writePath(this.#deps, this.#target, pair.target, before)
      throw error
    }
  }

  async #rangesOf(
    from: TopicInfo,
    live: ReadonlyMap<number, MirrorPosition>,
  ): Promise<readonly PartitionRange[]> {
    const { read } = this.#plan
    const topic = from.name
    const chosen = from.partitions.filter(
      ({ partition }) => read.partitions?.includes(partition) ?? true,
    )
    for (const { partition, leaderId } of chosen) {
      if (leaderId >= 0) continue
      const target = `${topic} partition ${partition}`
      const error = new StreamError('TIMED_OUT', `${target}: nobody leads it`, { target })
      this.#options.onFailure(error, target)
    }
    const names = chosen
      .filter(({ leaderId }) => leaderId >= 0)
      .map(({ partition }) => ({ topic, partition }))
    const places = [...live].map(
      ([partition, { next: offset }]): PartitionPosition => ({
        topic,
        partition,
        position: { kind: 'offset', offset },
      }),
    )
    const wanted = await this.#refuseCutBack(names, live)
    // The later place counts: what was copied wins over --from.
    const start = { ...read.from, places: [...read.from.places, ...places] }
    const ask = (questions: readonly OffsetQuestion[]) =>
      askOffsets(this.#deps, this.#source, read, questions)
    try {
      return await resolveRanges(wanted, start, read.until, ask)
    } catch (error) {
      if (!isStreamError(error, 'OFFSET_OUT_OF_RANGE')) throw error
    }
    // One of them has no such place.
    const ranges: PartitionRange[] = []
    for (const name of wanted) {
      try {
        ranges.push(...(await resolveRanges([name], start, read.until, ask)))
      } catch (error) {
        if (!isStreamError(error)) throw error
        this.#options.onFailure(error, `${topic} partition ${name.partition}`)
      }
    }
    return ranges
  }

  /** A source that has lost what was copied of it may get other records in their place. */
  async #refuseCutBack(
    names: readonly PartitionName[],
    live: ReadonlyMap<number, MirrorPosition>,
  ): Promise<readonly PartitionName[]> {
    const questions = names
      .filter(({ partition }) => live.has(partition))
      .map((name) => ({ ...name, at: 'latest' as const }))
    if (questions.length === 0) return names
    const answers = await askOffsets(this.#deps, this.#source, this.#plan.read, questions)
    const lost = new Set<number>()
    for (const { topic, partition, offset } of answers) {
      const next = live.get(partition)?.next ?? 0
      if (offset >= next) continue
      lost.add(partition)
      const target = `${topic} partition ${partition}`
      const words = `${target}: ends at ${offset} at the source, where ${next} were copied already`
      const hint =
        'the source was cut back: compare both (stream verify), and copy into a new topic'
      this.#options.onFailure(new StreamError('CONFLICT', words, { target, hint }), target)
    }
    return names.filter(({ partition }) => !lost.has(partition))
  }

  #onGap(topic: string, partition: number, from: number, to: number): void {
    tellGap(
      this.#deps.console,
      this.#options.report,
      { topic, partition, from, to },
      this.#plan.read,
    )
  }

  #traits(filter: RecordFilter): readonly MirrorTrait[] {
    const { isTagged, mayAppend } = this.#plan
    return [
      ...(filter.isEmpty ? [] : (['filtered'] as const)),
      ...(isTagged ? (['tagged'] as const) : mayAppend ? (['mixed'] as const) : []),
    ]
  }

  #makeLane(pair: TopicPair, clusterId: string, to: TargetTopic): MirrorLane {
    const filter = new RecordFilter(this.#plan.read.filter)
    const { settings } = this.#target
    const copier = new BatchCopier({
      batchBytesMax: to.batchBytesMax,
      ...recordRules(filter, this.#plan.isTagged, clusterId, this.#targetId),
    })
    return new MirrorLane(this.#deps, this.#target, this.#consumer, {
      clusterId,
      pair,
      copier,
      producerOptions: {
        deliveryTimeoutMs: settings.number('delivery.timeout.ms'),
        requestTimeoutMs: settings.number('request.timeout.ms'),
        bufferBytesMax: settings.number('buffer.memory'),
      },
      pacer: this.#pacer,
      report: this.#options.report,
      follows: this.#plan.follows,
      traits: this.#traits(filter),
      onPartition: (partition) => filter.setTopic(pair.source, partition),
      onGap: (topic, partition, from, end) => this.#onGap(topic, partition, from, end),
      onFailure: this.#options.onFailure,
      onReading: this.#options.onReading,
    })
  }
}

function partitionOf(
  { partition, startOffset, endOffset }: PartitionRange,
  live: MirrorPosition | undefined,
  ids: { readonly source: string; readonly target: string },
): LanePartition {
  const position = live ?? {
    sourceId: ids.source,
    targetId: ids.target,
    first: startOffset,
    next: startOffset,
    hereFirst: NONE_YET,
    here: NONE_YET,
    traits: [],
    error: undefined,
  }
  return {
    partition,
    startOffset,
    endOffset,
    position,
    taken: startOffset,
    state: 'reading',
    isUnstored: live === undefined,
  }
}

/** @throws StreamError UNSUPPORTED_BY_BROKER: rings could not be told; as Cluster.describeTopics */
export async function askClusterId({ cluster }: Broker, name: string): Promise<string> {
  if (cluster.metadata.clusterId === undefined) await cluster.describeTopics([])
  const { clusterId } = cluster.metadata
  if (clusterId !== undefined && clusterId !== '') return clusterId
  throw new StreamError('UNSUPPORTED_BY_BROKER', `${name}: the broker does not tell its cluster id`)
}

/** Nothing, where all records are copied as they are: their batches are not looked into then. */
function recordRules(
  filter: RecordFilter,
  isTagged: boolean,
  sourceId: string,
  targetId: string,
): Pick<CopierOptions, 'wants' | 'tag'> {
  const matches = (cursor: RecordCursor): boolean => filter.matches(cursor)
  if (!isTagged) return filter.isEmpty ? {} : { wants: matches }
  const name = Buffer.from(ORIGIN_HEADER)
  const here = Buffer.from(targetId)
  const header = encodeHeader(name, Buffer.from(sourceId))
  return {
    wants: (cursor) =>
      !(findHeader(cursor, name) && isValue(cursor, here)) && (filter.isEmpty || matches(cursor)),
    tag: (cursor) => (findHeader(cursor, name) ? undefined : header),
  }
}

/** Moves the cursor's headers to the first of that name. */
function findHeader(cursor: RecordCursor, name: Uint8Array): boolean {
  cursor.rewindHeaders()
  while (cursor.nextHeader()) {
    if (equalBytes(cursor.bytes, cursor.headerKeyStart, cursor.headerKeyEnd, name)) return true
  }
  return false
}

function isValue(cursor: RecordCursor, value: Uint8Array): boolean {
  if (cursor.headerValueStart < 0) return false
  return equalBytes(cursor.bytes, cursor.headerValueStart, cursor.headerValueEnd, value)
}
