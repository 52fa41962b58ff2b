/**
 * What operators order of links, carried out by the controller: each order is one guarded transaction on the records of the
 * link and its topics; leaders and director follow from the image.
 */

import { StreamError } from '../../src/base/errors.ts'
import { globPattern } from '../../src/base/glob.ts'
import { Cluster } from '../../src/client/cluster.ts'
import type { Hop } from '../../src/client/mirror-hops.ts'
import type { Net } from '../../src/ports/net.ts'
import { type LinkChange, writeLinks } from '../metadata/link-transactions.ts'
import type { LinkRate, LinkState, MirrorState as MirrorOrder } from '../metadata/link-values.ts'
import { newUuid } from '../metadata/topic-names.ts'
import type { Broker } from '../replica/broker.ts'
import { pathThrough, refuseRing, SourcePaths, storedHops } from './mirror-paths.ts'
import type { SourceAccesses, SourcePlace } from './source-access.ts'

export interface LinkOrder {
  readonly name: string
  readonly source: readonly string[]
  readonly context: string | null
  readonly topics: readonly string[]
  readonly syncConfigs: boolean
  readonly syncGroups: boolean
  readonly rate: LinkRate | null
  /** Topics that are here already, and what they are to follow from where on. */
  readonly failback: readonly FailbackOrder[]
}

export interface FailbackOrder {
  readonly topic: string
  readonly topicId: string
  readonly sourceTopicId: string
  /** By partition. */
  readonly cutAt: readonly number[]
}

export type LinkAction = 'pause' | 'resume' | 'promote' | 'unlink'

const NAME = /^[A-Za-z0-9._-]{1,100}$/
const ATTEMPTS_MAX = 10
const CONNECT_MS_MAX = 20_000

export class LinkOrders {
  readonly #broker: Broker
  readonly #net: Net
  readonly #sources: SourceAccesses

  constructor(broker: Broker, net: Net, sources: SourceAccesses) {
    this.#broker = broker
    this.#net = net
    this.#sources = sources
  }

  /**
   * @returns the source's topics that match now
   * @throws StreamError CONFLICT (exists, a ring, the source is this cluster), TOPIC_EXISTS, UNREACHABLE and what first contact
   *   may end with, and its protection (source-access.ts), NOT_CONTROLLER; UsageError for a bad glob
   */
  async create(order: LinkOrder, timeoutMs: number): Promise<readonly string[]> {
    const { name } = order
    if (!NAME.test(name)) {
      throw new StreamError(
        'CONFIG_INVALID',
        `${name}: not a name for a link: letters, digits, dots, dashes and underscores, at most 100`,
      )
    }
    const patterns = order.topics.map((glob) => globPattern(glob))
    const { image, random, time } = this.#broker
    const before = image.links.link(name)
    if (before !== undefined && !this.#mayReplace(before.value.id, order)) throw exists(name)
    const source = await this.#lookAt(this.#sources.access(order), timeoutMs)
    if (source.clusterId === this.#broker.clusterId) {
      throw new StreamError('CONFLICT', `link ${name}: the source is this cluster itself`)
    }
    const matching = source.topics.filter((topic) => patterns.some((regex) => regex.test(topic)))
    for (const topic of matching) {
      refuseRing(topic, source.paths.get(topic) ?? [], this.#broker.clusterId)
      if (!order.topics.includes(topic) || order.failback.length > 0) continue
      if (image.topic(topic) !== undefined || image.links.mirror(topic) !== undefined) {
        throw new StreamError(
          'TOPIC_EXISTS',
          `${topic}: a topic of this name exists here already; a link makes its topics itself`,
          { target: topic },
        )
      }
    }
    const { name: _name, failback, ...rest } = order
    const value = {
      ...rest,
      id: newUuid(random),
      sourceClusterId: source.clusterId,
      state: failback.length > 0 ? ('PAUSED' as const) : ('ACTIVE' as const),
      at: time.wallMs(),
    }
    const changes: LinkChange[] = failback.map((entry) =>
      this.#fence(entry, name, value.id, source.paths.get(entry.topic) ?? [], source.clusterId),
    )
    changes.push({ kind: 'link', name, revision: before?.revision ?? 0, value })
    await this.#write(changes, () => exists(name))
    return matching
  }

  /**
   * @param topics  names; null: all of the link, and those to come
   * @returns the topics that are changed
   * @throws StreamError NAME_UNKNOWN (no such link), TOPIC_UNKNOWN, CONFLICT, NOT_CONTROLLER
   */
  async alter(
    name: string,
    action: LinkAction,
    topics: readonly string[] | null,
  ): Promise<readonly string[]> {
    for (let attempt = 1; ; attempt += 1) {
      const changes = this.#changesOf(name, action, topics)
      const hold = this.#broker.reign()
      const { store, keys, image } = this.#broker
      const revision =
        changes.length === 0 ? image.revision : await writeLinks(store, keys, hold, changes)
      if (revision !== undefined) {
        await image.catchUp(revision)
        return changes.flatMap((change) => (change.kind === 'mirror' ? [change.name] : []))
      }
      if (attempt === ATTEMPTS_MAX) throw changed(name)
      await image.refresh()
    }
  }

  /** A link of which everything is promoted has done its work: its name may be had by the way back. */
  #mayReplace(linkId: string, order: LinkOrder): boolean {
    const mirrors = [...this.#broker.image.links.mirrors()]
    const own = mirrors.filter(([, { value }]) => value.linkId === linkId)
    return order.failback.length > 0 && own.every(([, { value }]) => value.state === 'PROMOTED')
  }

  /** @throws StreamError TOPIC_UNKNOWN, CONFLICT */
  #fence(
    { topic, topicId, sourceTopicId, cutAt }: FailbackOrder,
    link: string,
    linkId: string,
    hops: readonly Hop[],
    sourceClusterId: string,
  ): LinkChange {
    const { image } = this.#broker
    const found = image.topic(topic)
    if (found === undefined) {
      throw new StreamError('TOPIC_UNKNOWN', `${topic}: no such topic here`, { target: topic })
    }
    const refuse = (why: string): StreamError =>
      new StreamError('CONFLICT', `${topic}: ${why}`, { target: topic })
    if (found.topicId !== topicId)
      throw refuse('it was deleted and made again since it was mirrored')
    if (found.value.partitions !== cutAt.length) throw refuse('it has another number of partitions')
    const mirror = image.links.mirror(topic)
    if (mirror !== undefined && mirror.value.state !== 'PROMOTED') {
      throw refuse(`it is a mirror, kept by link ${mirror.value.link}`)
    }
    return {
      kind: 'mirror',
      name: topic,
      revision: mirror?.revision ?? 0,
      value: {
        link,
        linkId,
        sourceTopicId,
        ...storedHops(pathThrough(hops, sourceClusterId)),
        state: 'PAUSED',
        cutAt,
      },
    }
  }

  #changesOf(name: string, action: LinkAction, topics: readonly string[] | null): LinkChange[] {
    const { links } = this.#broker.image
    const link = links.link(name)
    if (link === undefined) {
      throw new StreamError('NAME_UNKNOWN', `${name}: no such link`, { target: name })
    }
    for (const topic of topics ?? []) {
      if (links.mirror(topic)?.value.linkId === link.value.id) continue
      throw new StreamError('TOPIC_UNKNOWN', `${topic}: not a topic of link ${name}`, {
        target: topic,
      })
    }
    const changes: LinkChange[] = []
    const state = linkStateOf(action)
    if (topics === null && link.value.state !== 'UNLINKING') {
      const { revision, value } = link
      if (value.state !== state) {
        changes.push({ kind: 'link', name, revision, value: { ...value, state } })
      }
    }
    for (const [topic, { revision, value }] of links.mirrors()) {
      if (value.linkId !== link.value.id) continue
      if (topics !== null && !topics.includes(topic)) continue
      const next = mirrorStateOf(action, value.state, topics !== null)
      if (next === undefined || next === value.state) continue
      changes.push({ kind: 'mirror', name: topic, revision, value: { ...value, state: next } })
    }
    return changes
  }

  async #write(changes: readonly LinkChange[], refused: () => StreamError): Promise<void> {
    const { store, keys, image } = this.#broker
    const hold = this.#broker.reign()
    const revision = await writeLinks(store, keys, hold, changes)
    if (revision === undefined) throw refused()
    await image.catchUp(revision)
  }

  async #lookAt(
    place: SourcePlace,
    timeoutMs: number,
  ): Promise<{
    readonly clusterId: string
    readonly topics: readonly string[]
    readonly paths: ReadonlyMap<string, readonly Hop[]>
  }> {
    const { time, random, log } = this.#broker
    const connectTimeoutMs = Math.max(1, Math.min(CONNECT_MS_MAX, timeoutMs))
    const cluster = new Cluster(time, random, this.#net, log, {
      ...place,
      clientId: 'stream-link',
      connectTimeoutMs,
      requestTimeoutMs: connectTimeoutMs,
    })
    try {
      await cluster.connect()
      const topics = (await cluster.describeTopics(undefined)).filter(isOrdinary)
      const { clusterId } = cluster.metadata
      if (clusterId === undefined) {
        throw new StreamError('UNSUPPORTED_BY_BROKER', 'the source does not tell its cluster id')
      }
      const paths = await new SourcePaths(this.#broker, cluster).read(topics)
      return { clusterId, topics: topics.map(({ name }) => name), paths }
    } finally {
      cluster.close()
    }
  }
}

/** Internal topics are never mirrored. */
export function isOrdinary(topic: {
  readonly name: string
  readonly isInternal: boolean
  readonly errorCode: number
}): boolean {
  return topic.errorCode === 0 && !topic.isInternal && !topic.name.startsWith('__')
}

function linkStateOf(action: LinkAction): LinkState {
  switch (action) {
    case 'pause':
      return 'PAUSED'
    // Of a link that is promoted as a whole nothing new is mirrored either.
    case 'promote':
      return 'PAUSED'
    case 'resume':
      return 'ACTIVE'
    case 'unlink':
      return 'UNLINKING'
  }
}

/** undefined: it stays as it is. What is being promoted, or has been, never becomes a mirror again so. */
function mirrorStateOf(
  action: LinkAction,
  state: MirrorOrder,
  isNamed: boolean,
): MirrorOrder | undefined {
  if (state === 'PROMOTING' || state === 'PROMOTED') return undefined
  switch (action) {
    case 'pause':
      return isNamed ? 'PAUSED' : undefined
    case 'resume':
      return 'MIRROR'
    case 'promote':
    case 'unlink':
      return 'PROMOTING'
  }
}

function exists(name: string): StreamError {
  return new StreamError('CONFLICT', `${name}: a link of this name exists already`, {
    target: name,
  })
}

function changed(name: string): StreamError {
  return new StreamError('CONFLICT', `link ${name}: it is being changed by somebody else`)
}
