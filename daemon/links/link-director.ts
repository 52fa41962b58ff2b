/**
 * What the controller does for links, again and again until all is as ordered: takes up topics of the source that match, lets
 * them grow, keeps their configs, and concludes promotions and unlinkings. Level-triggered; every write is guarded, so two of
 * them at once do no harm.
 *
 * Invariants:
 * - The record that makes a topic a mirror is in the store before the topic exists: it was never writable here before.
 * - A topic that exists here already is never taken up, nor one that comes from this cluster. Where it turns out later that one
 *   does, since the ring was closed elsewhere, its record says so, and it is not followed any more.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import { globPattern } from '../../src/base/glob.ts'
import type { TopicInfo } from '../../src/client/metadata-cache.ts'
import type { Hop } from '../../src/client/mirror-hops.ts'
import { type LinkChange, writeLinks } from '../metadata/link-transactions.ts'
import type { LinkValue, MirrorValue } from '../metadata/link-values.ts'
import type { Broker } from '../replica/broker.ts'
import { copiedConfig, sourceConfigs } from './config-sync.ts'
import { LevelLoop } from './level-loop.ts'
import { isOrdinary } from './link-orders.ts'
import type { LinkRun } from './link-run.ts'
import { isRing, pathThrough, refuseRing, storedHops } from './mirror-paths.ts'

const PAUSE_MS = 5000

export interface DirectorPorts {
  readonly broker: Broker
  readonly runs: ReadonlyMap<string, LinkRun>
}

/** What is known of one link, and what keeps it so. */
interface Directed {
  readonly loop: LevelLoop
  /** What is wrong with it as a whole (undefined), and by topic. */
  problems: ReadonlyMap<string | undefined, string>
  /** A whole pass has been made. */
  isTakenUp: boolean
}

export class LinkDirector {
  readonly #ports: DirectorPorts
  /** By link id. Each has a loop of its own: a source that does not answer holds up nothing but itself. */
  readonly #directed = new Map<string, Directed>()
  /** Asks no source: promotions end whether it is there or not. */
  readonly #conclusions: LevelLoop

  constructor(ports: DirectorPorts) {
    this.#ports = ports
    this.#conclusions = new LevelLoop(ports.broker.time, PAUSE_MS, () => this.#concludeAll())
  }

  /** Of the link as a whole (undefined), and of topics that cannot be taken up. Only on the controller. */
  problemsOf(linkId: string): ReadonlyMap<string | undefined, string> {
    return this.#directed.get(linkId)?.problems ?? new Map()
  }

  /** All topics that were at the source in some pass are listed. Only on the controller. */
  isTakenUp(linkId: string): boolean {
    return this.#directed.get(linkId)?.isTakenUp ?? false
  }

  /** As soon as may be. */
  wake(): void {
    const { image } = this.#ports.broker
    const ids = new Set([...image.links.links().values()].map(({ value }) => value.id))
    for (const [id, { loop }] of this.#directed) {
      if (ids.has(id)) continue
      void loop.stop()
      this.#directed.delete(id)
    }
    for (const [name, { value }] of image.links.links()) this.#loopOf(name, value.id).wake()
    this.#conclusions.wake()
  }

  stop(): void {
    void this.#conclusions.stop()
    for (const { loop } of this.#directed.values()) void loop.stop()
  }

  #loopOf(name: string, linkId: string): LevelLoop {
    const known = this.#directed.get(linkId)
    if (known !== undefined) return known.loop
    const directed: Directed = {
      loop: new LevelLoop(this.#ports.broker.time, PAUSE_MS, () => this.#pass(name, directed)),
      problems: new Map(),
      isTakenUp: false,
    }
    this.#directed.set(linkId, directed)
    return directed.loop
  }

  async #pass(name: string, directed: Directed): Promise<void> {
    const { broker, runs } = this.#ports
    const problems = new Map<string | undefined, string>()
    const run = runs.get(name)
    const link = broker.image.links.link(name)?.value
    // A link of the same name may have come in its place.
    const isOwn = link !== undefined && this.#directed.get(link.id) === directed
    if (broker.isController && isOwn && link.state === 'ACTIVE' && run?.value.id === link.id) {
      try {
        await this.#direct(name, link, run, problems)
        directed.isTakenUp = true
      } catch (error) {
        if (!isStreamError(error)) {
          broker.log.error('a link could not be looked after', { link: name, error: String(error) })
        } else if (error.code === 'NOT_CONTROLLER') return
        else problems.set(undefined, error.message)
      }
    }
    directed.problems = problems
  }

  async #concludeAll(): Promise<void> {
    const { broker } = this.#ports
    if (!broker.isController) return
    for (const [name, { value }] of [...broker.image.links.links()]) {
      try {
        await this.#conclude(name, value)
      } catch (error) {
        if (isStreamError(error) && error.code === 'NOT_CONTROLLER') return
        // Most often somebody else has written it meanwhile; the next pass sees what is left to do.
        broker.log.warn('what was ordered of a link is not concluded yet', {
          link: name,
          error: String(error),
        })
      }
    }
  }

  /** Promotions that are done everywhere, and links that nothing hangs on any more. */
  async #conclude(name: string, link: LinkValue): Promise<void> {
    const { image } = this.#ports.broker
    const changes: LinkChange[] = []
    let isOver = true
    for (const [topic, { revision, value }] of image.links.mirrors()) {
      if (value.linkId !== link.id) continue
      const isPromoted = value.state === 'PROMOTED' || this.#isPromoted(topic, value)
      const isGone = image.topic(topic) === undefined
      if (link.state === 'UNLINKING' && (isPromoted || isGone)) {
        changes.push({ kind: 'mirror', name: topic, revision, value: undefined })
      } else if (link.state === 'UNLINKING' && value.state !== 'PROMOTING') {
        isOver = false
        const next = { ...value, state: 'PROMOTING' as const }
        changes.push({ kind: 'mirror', name: topic, revision, value: next })
      } else if (isPromoted && value.state === 'PROMOTING') {
        const next = { ...value, state: 'PROMOTED' as const }
        changes.push({ kind: 'mirror', name: topic, revision, value: next })
      } else isOver = false
    }
    const own = image.links.link(name)
    if (link.state === 'UNLINKING' && isOver && own !== undefined) {
      changes.push({ kind: 'link', name, revision: own.revision, value: undefined })
    }
    for (const part of chunks(changes)) await this.#write(part)
  }

  #isPromoted(topic: string, { linkId, state }: MirrorValue): boolean {
    const { image } = this.#ports.broker
    const found = image.topic(topic)
    if (state !== 'PROMOTING' || found === undefined) return false
    for (let index = 0; index < found.value.partitions; index += 1) {
      const record = image.links.mirrored(found.topicId, index)?.value
      if (record?.state !== 'PROMOTED' || record.linkId !== linkId) return false
    }
    return true
  }

  async #direct(
    name: string,
    link: LinkValue,
    run: LinkRun,
    problems: Map<string | undefined, string>,
  ): Promise<void> {
    const { broker } = this.#ports
    const { cluster } = run
    const found = await cluster.describeTopics(undefined)
    const { clusterId } = cluster.metadata
    if (clusterId !== undefined && clusterId !== link.sourceClusterId) {
      throw new StreamError(
        'CONFLICT',
        `the source is cluster ${clusterId} now, and was ${link.sourceClusterId}`,
      )
    }
    const patterns = link.topics.map((glob) => globPattern(glob))
    const topics = found.filter(
      (topic) => isOrdinary(topic) && patterns.some((pattern) => pattern.test(topic.name)),
    )
    const paths = await run.paths.read(topics)
    const configs = await sourceConfigs(broker, cluster, topics)
    for (const topic of topics) {
      try {
        const path = pathThrough(paths.get(topic.name) ?? [], link.sourceClusterId)
        await this.#notePath(link, topic.name, path)
        refuseRing(topic.name, path, broker.clusterId)
        await this.#takeUp(name, link, topic, path, configs.get(topic.name))
      } catch (error) {
        if (!isStreamError(error) || error.code === 'NOT_CONTROLLER') throw error
        problems.set(topic.name, error.message)
      }
    }
  }

  /** Its records may come through other clusters than when it was taken up: whoever mirrors it from here has to know. */
  async #notePath(link: LinkValue, topic: string, path: readonly Hop[]): Promise<void> {
    const { broker } = this.#ports
    const known = broker.image.links.mirror(topic)
    if (known === undefined || known.value.linkId !== link.id) return
    if (known.value.state !== 'MIRROR' && known.value.state !== 'PAUSED') return
    const { revision } = known
    const value = { ...known.value, ...storedHops(path) }
    const isNews =
      value.path.join() !== known.value.path.join() ||
      value.tagged.join() !== known.value.tagged.join()
    if (!isNews) return
    if (isRing(path, broker.clusterId)) {
      broker.log.warn('a mirror is not followed any more: it comes from this cluster itself', {
        link: known.value.link,
        topic,
        path: value.path.join(','),
      })
    }
    await this.#write([{ kind: 'mirror', name: topic, revision, value }])
  }

  async #takeUp(
    name: string,
    link: LinkValue,
    source: TopicInfo,
    path: readonly Hop[],
    config: ReadonlyMap<string, string> | undefined,
  ): Promise<void> {
    const { broker } = this.#ports
    const { image } = broker
    const topic = source.name
    let mirror = image.links.mirror(topic)?.value
    if (mirror === undefined) {
      if (image.topic(topic) !== undefined) {
        throw new StreamError('TOPIC_EXISTS', 'a topic of this name exists here already')
      }
      mirror = {
        link: name,
        linkId: link.id,
        sourceTopicId: source.topicId,
        ...storedHops(path),
        state: 'MIRROR',
        cutAt: [],
      }
      await this.#write([{ kind: 'mirror', name: topic, revision: 0, value: mirror }])
    }
    if (mirror.linkId !== link.id) {
      throw new StreamError('TOPIC_EXISTS', `it is a topic of link ${mirror.link}`)
    }
    if (mirror.state === 'PROMOTING' || mirror.state === 'PROMOTED') return
    const existing = image.topic(topic)
    const partitions = source.partitions.length
    if (existing === undefined) {
      const replicas = Math.min(
        broker.config.replicationFactor(broker.topics.placeable().length),
        broker.topics.placeable().length,
      )
      const assignments = broker.topics.place(partitions, replicas)
      await broker.topics.create({
        name: topic,
        assignments,
        config: Object.fromEntries(config ?? []),
      })
      return
    }
    if (source.topicId !== mirror.sourceTopicId) return
    if (existing.value.partitions < partitions) {
      const replicas = image.partition(existing.topicId, 0)?.value.replicas.length ?? 1
      const missing = partitions - existing.value.partitions
      await broker.topics.grow(
        topic,
        broker.topics.place(missing, replicas, existing.value.partitions),
      )
    }
    if (link.syncConfigs && config !== undefined) {
      await broker.topics.configure(topic, (before) => copiedConfig(before, config))
    }
  }

  async #write(changes: readonly LinkChange[]): Promise<void> {
    const { broker } = this.#ports
    if (changes.length === 0) return
    const revision = await writeLinks(broker.store, broker.keys, broker.reign(), changes)
    if (revision === undefined) {
      throw new StreamError('CONFLICT', 'the records of the link have changed meanwhile')
    }
    await broker.image.catchUp(revision)
  }
}

const CHANGES_AT_ONCE = 100

/** Within what one transaction of a store may hold. */
function chunks(changes: readonly LinkChange[]): LinkChange[][] {
  const parts: LinkChange[][] = []
  for (let at = 0; at < changes.length; at += CHANGES_AT_ONCE) {
    parts.push(changes.slice(at, at + CHANGES_AT_ONCE))
  }
  return parts
}
