/**
 * What operators order of links, carried out by the controller: each order is one guarded transaction on the records of the
 * link and its topics; leaders and director follow from the image.
 */

import { StreamError } from '../../src/base/errors.ts'
import { globPattern } from '../../src/base/glob.ts'
import { Cluster } from '../../src/client/cluster.ts'
import type { Net } from '../../src/ports/net.ts'
import { type LinkChange, writeLinks } from '../metadata/link-transactions.ts'
import type { LinkRate, LinkState, MirrorState as MirrorOrder } from '../metadata/link-values.ts'
import { newUuid } from '../metadata/topic-names.ts'
import type { Broker } from '../replica/broker.ts'
import { pathsOf, refuseRing } from './mirror-paths.ts'

export interface LinkOrder {
  readonly name: string
  readonly source: readonly string[]
  readonly topics: readonly string[]
  readonly syncConfigs: boolean
  readonly syncGroups: boolean
  readonly rate: LinkRate | null
}

export type LinkAction = 'pause' | 'resume' | 'promote' | 'unlink'

const NAME = /^[A-Za-z0-9._-]{1,100}$/
const ATTEMPTS_MAX = 10
const CONNECT_MS_MAX = 20_000

export class LinkOrders {
  readonly #broker: Broker
  readonly #net: Net

  constructor(broker: Broker, net: Net) {
    this.#broker = broker
    this.#net = net
  }

  /**
   * @returns the source's topics that match now
   * @throws StreamError CONFLICT (exists, a ring, the source is this cluster), TOPIC_EXISTS, UNREACHABLE and what first contact
   *   may end with, NOT_CONTROLLER; UsageError for a bad glob
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
    if (image.links.link(name) !== undefined) throw exists(name)
    const source = await this.#lookAt(order.source, timeoutMs)
    if (source.clusterId === this.#broker.clusterId) {
      throw new StreamError('CONFLICT', `link ${name}: the source is this cluster itself`)
    }
    const matching = source.topics.filter((topic) => patterns.some((regex) => regex.test(topic)))
    for (const topic of matching) {
      refuseRing(topic, source.paths.get(topic) ?? [], this.#broker.clusterId)
      if (!order.topics.includes(topic)) continue
      if (image.topic(topic) !== undefined || image.links.mirror(topic) !== undefined) {
        throw new StreamError(
          'TOPIC_EXISTS',
          `${topic}: a topic of this name exists here already; a link makes its topics itself`,
          { target: topic },
        )
      }
    }
    const { name: _name, ...rest } = order
    const value = {
      ...rest,
      id: newUuid(random),
      sourceClusterId: source.clusterId,
      state: 'ACTIVE' as const,
      at: time.wallMs(),
    }
    await this.#write([{ kind: 'link', name, revision: 0, value }], () => exists(name))
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
    addresses: readonly string[],
    timeoutMs: number,
  ): Promise<{
    readonly clusterId: string
    readonly topics: readonly string[]
    readonly paths: ReadonlyMap<string, readonly string[]>
  }> {
    const { time, random, log } = this.#broker
    const connectTimeoutMs = Math.max(1, Math.min(CONNECT_MS_MAX, timeoutMs))
    const cluster = new Cluster(time, random, this.#net, log, {
      addresses,
      clientId: 'stream-link',
      connectTimeoutMs,
      requestTimeoutMs: connectTimeoutMs,
    })
    try {
      await cluster.connect()
      const topics = await cluster.describeTopics(undefined)
      const { clusterId } = cluster.metadata
      const names = topics.flatMap((topic) => (isOrdinary(topic) ? [topic.name] : []))
      if (clusterId === undefined) {
        throw new StreamError('UNSUPPORTED_BY_BROKER', 'the source does not tell its cluster id')
      }
      return { clusterId, topics: names, paths: await pathsOf(cluster) }
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
