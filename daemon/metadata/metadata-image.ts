/**
 * What this process knows of the metadata store: one listing, then all changes in revision order (replication.md
 * section 5.7). Only the watch changes it; who writes waits until its own revision has arrived (`waitFor`).
 *
 * Invariants:
 * - `revision` never falls; everything of revisions up to it is applied, nothing of later ones.
 * - Listeners are told after a whole revision is applied, in order of revisions.
 * - When the watch ends the image lists again and tells listeners about everything that differs: level-triggered.
 * - Once the store has shown that it is an older copy of itself nothing of it is taken any more, not even its revision: what is written down
 *   of an older copy would make the newer one look old at the next start.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import type {
  StoreChange,
  StoreEntry,
  StoreListing,
  StoreWatch,
} from '../../src/ports/metadata-store.ts'
import { sleep, type Timer } from '../../src/ports/time.ts'
import type { Store } from './commit.ts'
import type { BrokerView } from './controller.ts'
import { LinkImage } from './link-image.ts'
import type { MetadataKeys } from './metadata-keys.ts'
import {
  type ConfigValue,
  type ControllerValue,
  type DeletedValue,
  decodeConfig,
  decodeController,
  decodeData,
  decodeDeleted,
  decodeFull,
  decodeLive,
  decodePartition,
  decodeRegistration,
  decodeRestored,
  decodeTopic,
  type PartitionValue,
  type RegistrationValue,
  type TopicValue,
} from './metadata-values.ts'
import { RepeatedWarning } from './repeated-warning.ts'
import { decodeUser, type UserValue } from './user-values.ts'

const RELIST_PAUSE_MS = 200
const REFRESH_ATTEMPTS = 5
const CATCH_UP_MS = 1000
const LOOK_UP_MS = 1000

export interface PartitionImage {
  readonly topicId: string
  readonly partition: number
  readonly revision: number
  readonly value: PartitionValue
}

export interface TopicImage {
  readonly name: string
  readonly topicId: string
  readonly revision: number
  readonly createRevision: number
  readonly value: TopicValue
}

export interface DeletedImage {
  readonly topicId: string
  readonly revision: number
  readonly value: DeletedValue
}

export interface ConfigImage {
  readonly revision: number
  readonly value: ConfigValue
}

export interface UserImage {
  readonly name: string
  readonly revision: number
  readonly value: UserValue
}

interface BrokerImage {
  live?: { incarnation: string; sessionEpoch: number }
  registration?: { revision: number; value: RegistrationValue }
  dataEpoch?: number
  /** Session that has said that its disk is full. */
  fullSessionEpoch?: number
}

/** What changed in one revision, or by listing again. */
export interface ImageChange {
  readonly revision: number
  /** Ids of topics whose topic or partition records changed, came or went. */
  readonly topicIds: ReadonlySet<string>
  readonly deletedTopicIds: ReadonlySet<string>
  readonly brokersChanged: boolean
  readonly controllerChanged: boolean
  readonly configScopes: ReadonlySet<string>
  /** Links, or what they have made of topics and partitions. */
  readonly linksChanged: boolean
  /** Users that came, went, or have other passwords. */
  readonly userNames: ReadonlySet<string>
}

const NO_PARTITIONS: ReadonlyMap<number, PartitionImage> = new Map()

export class MetadataImage {
  /** Links to other clusters. */
  readonly links = new LinkImage()
  readonly #store: Store
  readonly #keys: MetadataKeys
  readonly #log: Log
  readonly #listTrouble: RepeatedWarning
  readonly #topics = new Map<string, TopicImage>()
  readonly #topicNames = new Map<string, string>()
  readonly #partitions = new Map<string, Map<number, PartitionImage>>()
  readonly #deleted = new Map<string, DeletedImage>()
  readonly #brokers = new Map<number, BrokerImage>()
  readonly #configs = new Map<string, ConfigImage>()
  readonly #users = new Map<string, UserImage>()
  readonly #listeners = new Set<(change: ImageChange) => void>()
  #waiting: { revision: number; resolve: () => void; reject: (error: Error) => void }[] = []
  /** Every key seen and its mod revision: what a further listing is compared with. */
  readonly #modRevisions = new Map<string, number>()
  #restored: { readonly id: string; readonly revision: number } | undefined
  #controller: (ControllerValue & { controllerEpoch: number }) | undefined
  #watch: StoreWatch | undefined
  readonly #regressions = new Set<(reason: string) => void>()
  #regressed: string | undefined
  #closed = false
  #revision = 0

  private constructor(store: Store, keys: MetadataKeys, log: Log) {
    this.#store = store
    this.#keys = keys
    this.#log = log
    this.#listTrouble = new RepeatedWarning(store.time, log, 'metadata could not be listed')
  }

  /** @throws StreamError STORE_DAMAGED, STORE_UNAVAILABLE */
  static async open(store: Store, keys: MetadataKeys, log: Log): Promise<MetadataImage> {
    const image = new MetadataImage(store, keys, log)
    await image.#list()
    return image
  }

  get revision(): number {
    return this.#revision
  }

  get controller(): (ControllerValue & { readonly controllerEpoch: number }) | undefined {
    return this.#controller
  }

  /** The operator's last word that the store counts although it is an older copy of itself. */
  get restored(): { readonly id: string; readonly revision: number } | undefined {
    return this.#restored
  }

  topic(name: string): TopicImage | undefined {
    return this.#topics.get(name)
  }

  /**
   * As topic(), but where none is known that is ready the store is asked, for a second at most: another broker may have made it this moment, and
   * whoever made it there must not hear from here that there is none.
   */
  async lookUpTopic(name: string): Promise<TopicImage | undefined> {
    const known = this.#topics.get(name)
    if (known?.value.state === 'READY' || this.#isOver) return known
    const { store, time } = this.#store
    const look = async (): Promise<void> => {
      const entry = await store.get(this.#keys.topic(name))
      if (entry !== undefined) await this.catchUp(entry.modRevision)
    }
    let timer: Timer | undefined
    const late = new Promise<void>((resolve) => {
      timer = time.setTimer(LOOK_UP_MS, resolve)
    })
    // A store that is out of reach tells nothing: what is known here counts.
    await Promise.race([look().catch(() => undefined), late])
    timer?.cancel()
    return this.#topics.get(name)
  }

  topicById(topicId: string): TopicImage | undefined {
    const name = this.#topicNames.get(topicId)
    return name === undefined ? undefined : this.#topics.get(name)
  }

  topics(): Iterable<TopicImage> {
    return this.#topics.values()
  }

  get topicCount(): number {
    return this.#topics.size
  }

  /** All partition records of a topic, those beyond its visible partition count included. */
  partitions(topicId: string): ReadonlyMap<number, PartitionImage> {
    return this.#partitions.get(topicId) ?? NO_PARTITIONS
  }

  partition(topicId: string, partition: number): PartitionImage | undefined {
    return this.#partitions.get(topicId)?.get(partition)
  }

  partitionTopicIds(): Iterable<string> {
    return this.#partitions.keys()
  }

  deletedTopic(topicId: string): DeletedImage | undefined {
    return this.#deleted.get(topicId)
  }

  deletedTopics(): Iterable<DeletedImage> {
    return this.#deleted.values()
  }

  brokers(): ReadonlyMap<number, BrokerView> {
    const views = new Map<number, BrokerView>()
    for (const nodeId of this.#brokers.keys()) {
      const view = this.broker(nodeId)
      if (view !== undefined) views.set(nodeId, view)
    }
    return views
  }

  broker(nodeId: number): BrokerView | undefined {
    const broker = this.#brokers.get(nodeId)
    if (broker === undefined) return undefined
    return {
      nodeId,
      live: broker.live !== undefined,
      incarnation: broker.live?.incarnation ?? broker.registration?.value.incarnation ?? '',
      state: broker.registration?.value.state ?? 'FENCED',
      dataEpoch: broker.dataEpoch ?? 0,
      directoryOnline: true,
      isFull: broker.live !== undefined && broker.fullSessionEpoch === broker.live.sessionEpoch,
    }
  }

  /** The session of a live broker: its incarnation and its epoch E. */
  session(
    nodeId: number,
  ): { readonly incarnation: string; readonly sessionEpoch: number } | undefined {
    return this.#brokers.get(nodeId)?.live
  }

  registration(
    nodeId: number,
  ): { readonly revision: number; readonly value: RegistrationValue } | undefined {
    return this.#brokers.get(nodeId)?.registration
  }

  config(scope: string): ConfigImage {
    return this.#configs.get(scope) ?? { revision: 0, value: {} }
  }

  user(name: string): UserImage | undefined {
    return this.#users.get(name)
  }

  users(): Iterable<UserImage> {
    return this.#users.values()
  }

  /** @returns a function that removes the listener */
  onChange(listener: (change: ImageChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Resolves once everything up to `revision` is applied. @throws StreamError CLOSED */
  waitFor(revision: number): Promise<void> {
    if (revision <= this.#revision) return Promise.resolve()
    if (this.#closed) return Promise.reject(closedError())
    return new Promise((resolve, reject) => {
      this.#waiting.push({ revision, resolve, reject })
    })
  }

  /** As waitFor, and lists where the watch does not tell. @throws StreamError CLOSED, STORE_UNAVAILABLE */
  async catchUp(revision: number): Promise<void> {
    while (this.#revision < revision) {
      let timer: Timer | undefined
      const late = new Promise<'late'>((resolve) => {
        timer = this.#store.time.setTimer(CATCH_UP_MS, () => resolve('late'))
      })
      const outcome = await Promise.race([this.waitFor(revision), late]).finally(() =>
        timer?.cancel(),
      )
      if (outcome !== 'late') return
      const before = this.#revision
      await this.refresh()
      // A store whose revisions are not all of this prefix: what a listing shows is all there is.
      if (this.#revision === before) return
    }
  }

  /**
   * Lists all of the store, linearizably, and takes over what the watch has not told: a watch may lose changes.
   * @throws StreamError STORE_UNAVAILABLE
   */
  async refresh(): Promise<void> {
    for (let attempt = 0; attempt < REFRESH_ATTEMPTS && !this.#isOver; attempt += 1) {
      const seen = this.#revision
      const listing = await this.#store.store.list(this.#keys.prefix)
      if (this.#isOver || this.#isOlder(listing, seen)) return
      // The watch may have overtaken the listing, which then is of the past.
      if (listing.revision < this.#revision) continue
      this.#take(listing)
      return
    }
  }

  /** Why the store is an older copy of itself; undefined: it is not. */
  get regressed(): string | undefined {
    return this.#regressed
  }

  onRegression(listener: (reason: string) => void): () => void {
    this.#regressions.add(listener)
    return () => this.#regressions.delete(listener)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#watch?.cancel()
    this.#listeners.clear()
    for (const waiter of this.#waiting) waiter.reject(closedError())
    this.#waiting = []
  }

  async #list(): Promise<void> {
    const seen = this.#revision
    const listing = await this.#store.store.list(this.#keys.prefix)
    if (this.#isOver || this.#isOlder(listing, seen)) return
    this.#take(listing)
    this.#watch?.cancel()
    this.#watch = this.#store.store.watch(this.#keys.prefix, listing.revision + 1, {
      onChanges: (revision, watched) => {
        // What a listing has shown already comes once more by the watch.
        if (!this.#isOver && revision > this.#revision) this.#apply(revision, watched)
      },
      // While it was away the store may have become an older copy of itself, and grown since past all that was seen.
      onResumed: () => void this.refresh().catch(() => undefined),
      onEnd: (reason) => {
        if (this.#isOver) return
        this.#log.warn('metadata watch ended, listing again', { reason: reason?.message })
        void this.#listAgain()
      },
    })
  }

  #take(listing: StoreListing): void {
    const found = new Map(listing.entries.map((entry) => [entry.key, entry]))
    const changes: StoreChange[] = []
    for (const entry of listing.entries) {
      const isSame = this.#modRevisions.get(entry.key) === entry.modRevision
      if (!isSame) changes.push({ key: entry.key, entry })
    }
    for (const key of this.#modRevisions.keys()) {
      if (!found.has(key)) changes.push({ key, entry: undefined })
    }
    this.#apply(listing.revision, changes)
  }

  async #listAgain(): Promise<void> {
    while (!this.#isOver) {
      try {
        await this.#list()
        if (this.#listTrouble.over()) this.#log.info('metadata is followed again')
        return
      } catch (error) {
        this.#listTrouble.tell(error)
        await sleep(this.#store.time, RELIST_PAUSE_MS)
      }
    }
  }

  /** What is known stays as it is: an older state would undo elections, and topics would be taken for deleted. */
  #regress(reason: string): void {
    this.#regressed = reason
    this.#watch?.cancel()
    for (const listener of this.#regressions) listener(reason)
  }

  get #isOver(): boolean {
    return this.#closed || this.#regressed !== undefined
  }

  /**
   * Whether the store has become an older copy of itself. Where its revision has risen again past all that was seen, a key betrays it
   * whose last change lies before the one that was seen: in one history of a store none does.
   * @param seen the revision known before the listing was asked for
   */
  #isOlder(listing: StoreListing, seen: number): boolean {
    if (listing.revision < seen) {
      this.#regress(`its revision ${listing.revision} is below ${seen}, which was seen before`)
      return true
    }
    // The watch may have overtaken the listing, which then is of the past.
    if (listing.revision < this.#revision) return false
    for (const { key, modRevision } of listing.entries) {
      const known = this.#modRevisions.get(key)
      if (known === undefined || modRevision >= known) continue
      this.#regress(`${key} is of revision ${modRevision}, and of ${known} was seen before`)
      return true
    }
    return false
  }

  #apply(revision: number, changes: readonly StoreChange[]): void {
    const topicIds = new Set<string>()
    const deletedTopicIds = new Set<string>()
    const configScopes = new Set<string>()
    const userNames = new Set<string>()
    let brokersChanged = false
    let controllerChanged = false
    let linksChanged = false
    for (const { key, entry } of changes) {
      if (entry === undefined) this.#modRevisions.delete(key)
      else this.#modRevisions.set(key, entry.modRevision)
      const parsed = this.#keys.parse(key)
      switch (parsed?.kind) {
        case 'topic':
          for (const id of this.#applyTopic(key, parsed.name, entry)) topicIds.add(id)
          break
        case 'partition':
          this.#applyPartition(key, parsed.topicId, parsed.partition, entry)
          topicIds.add(parsed.topicId)
          break
        case 'deleted':
          if (entry === undefined) this.#deleted.delete(parsed.topicId)
          else {
            const value = decodeDeleted(key, entry.value)
            const revision = entry.modRevision
            this.#deleted.set(parsed.topicId, { topicId: parsed.topicId, revision, value })
            deletedTopicIds.add(parsed.topicId)
          }
          break
        case 'config':
          configScopes.add(parsed.scope)
          if (entry === undefined) this.#configs.delete(parsed.scope)
          else {
            const value = decodeConfig(key, entry.value)
            this.#configs.set(parsed.scope, { revision: entry.modRevision, value })
          }
          break
        case 'user': {
          const { name } = parsed
          userNames.add(name)
          if (entry === undefined) this.#users.delete(name)
          else {
            const value = decodeUser(key, entry.value)
            this.#users.set(name, { name, revision: entry.modRevision, value })
          }
          break
        }
        case 'controller':
          controllerChanged = true
          this.#controller =
            entry === undefined
              ? undefined
              : {
                  ...decodeController(key, entry.value),
                  controllerEpoch: entry.createRevision,
                }
          break
        case 'restored':
          this.#restored =
            entry === undefined
              ? undefined
              : { id: decodeRestored(key, entry.value).id, revision: entry.modRevision }
          break
        case 'link':
        case 'mirror':
        case 'mirrored':
          this.links.apply(key, parsed, entry)
          linksChanged = true
          break
        case 'live':
        case 'registration':
        case 'data':
        case 'full':
          this.#applyBroker(key, parsed.kind, parsed.nodeId, entry)
          brokersChanged = true
          break
        case 'meta':
        case 'producerIds':
        case undefined:
          break
      }
    }
    this.#revision = Math.max(this.#revision, revision)
    for (const listener of this.#listeners) {
      listener({
        revision,
        topicIds,
        deletedTopicIds,
        brokersChanged,
        controllerChanged,
        configScopes,
        linksChanged,
        userNames,
      })
    }
    if (this.#waiting.length === 0) return
    const ready = this.#waiting.filter((waiter) => waiter.revision <= this.#revision)
    this.#waiting = this.#waiting.filter((waiter) => waiter.revision > this.#revision)
    for (const waiter of ready) waiter.resolve()
  }

  #applyTopic(key: string, name: string, entry: StoreEntry | undefined): readonly string[] {
    const before = this.#topics.get(name)
    const touched = before === undefined ? [] : [before.topicId]
    if (entry === undefined) {
      this.#topics.delete(name)
      if (before !== undefined) this.#topicNames.delete(before.topicId)
      return touched
    }
    const value = decodeTopic(key, entry.value)
    if (before !== undefined && before.topicId !== value.topicId) {
      this.#topicNames.delete(before.topicId)
    }
    this.#topicNames.set(value.topicId, name)
    this.#topics.set(name, {
      name,
      topicId: value.topicId,
      revision: entry.modRevision,
      createRevision: entry.createRevision,
      value,
    })
    return [...touched, value.topicId]
  }

  #applyPartition(
    key: string,
    topicId: string,
    partition: number,
    entry: StoreEntry | undefined,
  ): void {
    let partitions = this.#partitions.get(topicId)
    if (entry === undefined) {
      partitions?.delete(partition)
      if (partitions?.size === 0) this.#partitions.delete(topicId)
      return
    }
    if (partitions === undefined) {
      partitions = new Map()
      this.#partitions.set(topicId, partitions)
    }
    const value = decodePartition(key, entry.value)
    partitions.set(partition, { topicId, partition, revision: entry.modRevision, value })
  }

  #applyBroker(
    key: string,
    kind: 'live' | 'registration' | 'data' | 'full',
    nodeId: number,
    entry: StoreEntry | undefined,
  ): void {
    const broker = this.#brokers.get(nodeId) ?? {}
    this.#brokers.set(nodeId, broker)
    if (kind === 'live') {
      if (entry === undefined) delete broker.live
      else {
        const { incarnation } = decodeLive(key, entry.value)
        broker.live = { incarnation, sessionEpoch: entry.createRevision }
      }
    } else if (kind === 'registration') {
      if (entry === undefined) delete broker.registration
      else {
        const value = decodeRegistration(key, entry.value)
        broker.registration = { revision: entry.modRevision, value }
      }
    } else if (kind === 'full') {
      if (entry === undefined) delete broker.fullSessionEpoch
      else broker.fullSessionEpoch = decodeFull(key, entry.value).sessionEpoch
    } else if (entry === undefined) delete broker.dataEpoch
    else {
      decodeData(key, entry.value)
      broker.dataEpoch = entry.modRevision
    }
    const { live, registration, dataEpoch } = broker
    if (live === undefined && registration === undefined && dataEpoch === undefined) {
      this.#brokers.delete(nodeId)
    }
  }
}

function closedError(): StreamError {
  return new StreamError('CLOSED', 'the daemon is stopping')
}
