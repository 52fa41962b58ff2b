/**
 * Links of this daemon: a run for each link, a session for each partition of a mirrored topic that this broker leads. Both
 * follow the metadata image and the partition table, so a link moves with the leaderships.
 */

import type { OpenContext } from '../../src/client/source-context.ts'
import type { Net } from '../../src/ports/net.ts'
import type { Timer } from '../../src/ports/time.ts'
import type { ResponseInput } from '../../src/protocol/api-table.ts'
import type { GroupCoordinator } from '../coordinator/group-coordinator.ts'
import type { LinkValue, MirrorValue } from '../metadata/link-values.ts'
import type { Broker } from '../replica/broker.ts'
import type { Partition } from '../replica/partition.ts'
import { GroupSync } from './group-sync.ts'
import { LinkDirector } from './link-director.ts'
import { LinkOrders } from './link-orders.ts'
import { LinkRun } from './link-run.ts'
import { MirrorSession } from './mirror-session.ts'
import { SourceAccesses } from './source-access.ts'

export type { OpenContext }

type LinkRow = ResponseInput<'DescribeLinks'>['links'][number]
type TopicRow = LinkRow['topics'][number]
type PartitionRow = TopicRow['partitions'][number]

export class LinkService {
  readonly orders: LinkOrders
  readonly #broker: Broker
  readonly #net: Net
  readonly #runs = new Map<string, LinkRun>()
  readonly #sessions = new Map<Partition, MirrorSession>()
  readonly #director: LinkDirector
  readonly #groups: GroupSync
  readonly #sources: SourceAccesses
  readonly #stopListening: (() => void)[] = []
  #timer: Timer | undefined
  #isStopped = false

  /** @param openContext  undefined: this daemon has no contexts */
  constructor(broker: Broker, net: Net, groups: GroupCoordinator, openContext?: OpenContext) {
    this.#broker = broker
    this.#net = net
    this.#sources = new SourceAccesses(openContext)
    this.orders = new LinkOrders(broker, net, this.#sources)
    this.#director = new LinkDirector({ broker, runs: this.#runs })
    this.#groups = new GroupSync(broker, groups, this.#runs)
  }

  start(): void {
    const { image, table } = this.#broker
    this.#stopListening.push(
      image.onChange((change) => {
        if (change.linksChanged) this.#reconcileRuns()
        if (change.linksChanged || change.controllerChanged) this.#director.wake()
        const isNews = change.linksChanged || change.topicIds.size > 0
        if (isNews && this.#hasWork) this.#reconcileSoon()
      }),
      table.onLeadership((partition) => {
        this.#forgetForeign(partition)
        if (this.#hasWork) this.#reconcileSoon()
      }),
    )
    for (const partition of table.all()) this.#forgetForeign(partition)
    this.#reconcile()
    this.#director.wake()
    this.#groups.start()
  }

  stop(): void {
    if (this.#isStopped) return
    this.#isStopped = true
    for (const stop of this.#stopListening) stop()
    this.#timer?.cancel()
    this.#director.stop()
    this.#groups.stop()
    for (const session of this.#sessions.values()) session.end()
    for (const run of this.#runs.values()) run.stop()
  }

  describe(names: ReadonlySet<string> | undefined): LinkRow[] {
    const { links } = this.#broker.image
    const rows: LinkRow[] = []
    for (const [name, { value }] of [...links.links()].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (names === undefined || names.has(name)) rows.push(this.#describeLink(name, value))
    }
    return rows
  }

  get #hasWork(): boolean {
    const { links } = this.#broker.image
    return links.links().size > 0 || links.mirrors().size > 0 || this.#runs.size > 0
  }

  /** Producer ids in records that came by a link, whether it is still there or not, are another cluster's. */
  #forgetForeign(partition: Partition): void {
    const { topicId, partition: index } = partition
    const record = this.#broker.image.links.mirrored(topicId, index)?.value
    if (record?.state === 'PROMOTED') partition.log.forgetProducersBelow(record.ownOffset)
  }

  #reconcileSoon(): void {
    if (this.#isStopped) return
    this.#timer ??= this.#broker.time.setTimer(0, () => {
      this.#timer = undefined
      this.#reconcile()
    })
  }

  #reconcile(): void {
    if (this.#isStopped) return
    const { image, table } = this.#broker
    this.#reconcileRuns()
    for (const [partition, session] of this.#sessions) {
      const mirror = image.links.mirror(partition.topic)?.value
      if (session.isCurrent && mirror?.linkId === session.linkId) continue
      session.end()
      for (const run of this.#runs.values()) run.remove(session)
      this.#sessions.delete(partition)
    }
    for (const [topic, { value }] of image.links.mirrors()) {
      const topicId = image.topic(topic)?.topicId
      if (topicId === undefined) continue
      for (const partition of table.ofTopic(topicId)) {
        if (partition.notServing === undefined) this.#follow(partition, value)
      }
    }
    for (const run of this.#runs.values()) run.pump()
  }

  #reconcileRuns(): void {
    const { links } = this.#broker.image
    for (const [name, run] of this.#runs) {
      if (links.link(name)?.value.id === run.value.id) continue
      run.stop()
      this.#runs.delete(name)
    }
    for (const [name, { value }] of links.links()) {
      const run = this.#runs.get(name)
      if (run === undefined) {
        const place = this.#sources.access(value)
        this.#runs.set(name, new LinkRun(this.#broker, this.#net, name, value, place))
      } else if (run.value !== value) run.change(value)
    }
  }

  #follow(partition: Partition, mirror: MirrorValue): void {
    const known = this.#sessions.get(partition)
    if (known !== undefined) {
      known.obey(mirror)
      return
    }
    const run = this.#runs.get(mirror.link)
    if (run === undefined || run.value.id !== mirror.linkId) return
    const session = new MirrorSession(this.#broker, partition, mirror.linkId, () => run.pump())
    this.#sessions.set(partition, session)
    run.add(session)
    void session.start(() => this.#broker.image.links.mirror(partition.topic)?.value)
  }

  #describeLink(name: string, value: LinkValue): LinkRow {
    const { image } = this.#broker
    const topics: TopicRow[] = []
    const problems = new Map(this.#director.problemsOf(value.id))
    for (const [topic, mirror] of image.links.mirrors()) {
      if (mirror.value.linkId !== value.id) continue
      topics.push(this.#describeTopic(topic, mirror.value, value, problems.get(topic)))
      problems.delete(topic)
    }
    for (const [topic, problem] of problems) {
      if (topic === undefined) continue
      const nothing = { sourceTopicId: NO_TOPIC_ID, path: [], partitionCount: 0, partitions: [] }
      topics.push({ ...nothing, name: topic, state: 'refused', problem })
    }
    return {
      name,
      state: value.state.toLowerCase(),
      source: value.source,
      sourceClusterId: value.sourceClusterId,
      globs: value.topics,
      syncConfigs: value.syncConfigs,
      syncGroups: value.syncGroups,
      rateKind: value.rate?.kind ?? 'bytes',
      ratePerSecond: value.rate?.perSecond ?? 0,
      context: value.context,
      isTakenUp: this.#director.isTakenUp(value.id),
      problem: this.#problemOf(name, value) ?? null,
      topics: topics.sort((a, b) => (a.name < b.name ? -1 : 1)),
    }
  }

  /** Of the link as a whole. */
  #problemOf(name: string, value: LinkValue): string | undefined {
    return this.#director.problemsOf(value.id).get(undefined) ?? this.#runs.get(name)?.contact
  }

  #describeTopic(
    name: string,
    mirror: MirrorValue,
    link: LinkValue,
    problem: string | undefined,
  ): TopicRow {
    const { image, table } = this.#broker
    const topic = image.topic(name)
    const partitions = table
      .ofTopic(topic?.topicId ?? '')
      .filter((partition) => partition.notServing === undefined)
      .map((partition) => this.#describePartition(partition, mirror, link))
    return {
      name,
      state: mirror.state.toLowerCase(),
      sourceTopicId: mirror.sourceTopicId,
      path: mirror.state === 'PROMOTED' ? [] : mirror.path,
      problem: problem ?? null,
      partitionCount: topic?.value.partitions ?? 0,
      partitions,
    }
  }

  /** What a partition has failed with is old where there is no contact any more. */
  #errorOf(session: MirrorSession | undefined, mirror: MirrorValue, link: LinkValue) {
    const { error, phase } = session?.state ?? {}
    if (phase === 'diverged') return error
    return this.#problemOf(mirror.link, link) ?? error
  }

  #describePartition(partition: Partition, mirror: MirrorValue, link: LinkValue): PartitionRow {
    const session = this.#sessions.get(partition)
    const { log } = partition
    const nowMs = this.#broker.time.monotonicMs()
    const record = this.#broker.image.links.mirrored(partition.topicId, partition.partition)?.value
    const isOwn = record?.linkId === mirror.linkId && record.state === 'PROMOTED'
    // What cannot be read here is not here yet.
    const end = isOwn ? log.logEndOffset : partition.lastStableOffset
    const since = session?.state.levelSinceMs(end, nowMs) ?? nowMs
    const isPaused = mirror.state === 'PAUSED' || link.state === 'PAUSED'
    const isOpen = session === undefined || session.role === 'mirror'
    const error = session?.trouble ?? (isOpen ? this.#errorOf(session, mirror, link) : undefined)
    const state = stateOf(session, isPaused, error)
    const { clusterId } = this.#broker
    return {
      partition: partition.partition,
      state: mirror.path.includes(clusterId) && session?.role === 'mirror' ? 'ring' : state,
      sourceEnd: session?.state.sourceEnd ?? -1,
      logStart: log.logStartOffset,
      logEnd: end,
      highWatermark: isOwn ? partition.highWatermark : end,
      behindMs: Math.round(nowMs - since),
      heardMs: session === undefined ? -1 : session.state.heardAgoMs(nowMs),
      promotedOffset: record?.linkId === mirror.linkId ? record.promotedOffset : -1,
      promotedEpoch: record?.linkId === mirror.linkId ? record.promotedEpoch : -1,
      error: error ?? null,
      received: isOwn ? -1 : partition.highWatermark,
      settledOffset: record?.linkId === mirror.linkId ? record.settledOffset : -1,
    }
  }
}

const NO_TOPIC_ID = 'AAAAAAAAAAAAAAAAAAAAAA'

function stateOf(
  session: MirrorSession | undefined,
  isPaused: boolean,
  error: string | undefined,
): string {
  switch (session?.role) {
    case 'promoting':
      return 'promoting'
    case 'fenced':
      return 'fenced'
    case 'promoted':
      return 'promoted'
    case 'mirror':
      if (isPaused) return 'paused'
      if (session.state.phase === 'diverged') return 'diverged'
      return error === undefined ? 'following' : 'retrying'
    case 'starting':
    case 'ended':
    case undefined:
      return 'starting'
  }
}
