/**
 * One link on this daemon: fetches from the source what the partitions led here want next, one fetch for each of the source's
 * brokers at a time, and gives the answers to the sessions.
 *
 * Invariants:
 * - A partition that fails is left out until its pause is over; the others go on.
 * - At most one fetch waits at a broker of the source; an answer counts only in the turn that asked for it.
 * - The rate is kept over all partitions: what came is paid for before anything more is asked for.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import { Cluster, type ClusterWarning } from '../../src/client/cluster.ts'
import { listOffsets } from '../../src/client/offsets.ts'
import type { Net } from '../../src/ports/net.ts'
import type { Timer } from '../../src/ports/time.ts'
import type { RequestInput, Response } from '../../src/protocol/api-table.ts'
import { recordCountAt } from '../../src/record/batch-layout.ts'
import type { LinkValue } from '../metadata/link-values.ts'
import type { Broker } from '../replica/broker.ts'
import { SourcePaths } from './mirror-paths.ts'
import type { MirrorSession } from './mirror-session.ts'
import type { MirrorStep } from './mirror-state.ts'
import type { SourcePlace } from './source-access.ts'

const FETCH_WAIT_MS = 500
const FETCH_BYTES_MAX = 16 * 1024 * 1024
const PARTITION_BYTES_MAX = 2 * 1024 * 1024
/** The source's topics may have been deleted and made again. */
const REFRESH_MS = 10_000
/** From here on a fetch tells where the source was cut (KIP-320). */
const DIVERGING_VERSION = 12
const NO_TOPIC_ID = /^A+$/

type Row = Response<'Fetch'>['responses'][number]['partitions'][number]
type TopicRequest = RequestInput<'Fetch'>['topics'][number]

interface Asked {
  readonly session: MirrorSession
  readonly turn: number
}

export class LinkRun {
  readonly name: string
  readonly cluster: Cluster
  /** What the director asks of the source. */
  readonly paths: SourcePaths
  #value: LinkValue
  readonly #broker: Broker
  readonly #sessions = new Map<string, MirrorSession>()
  readonly #fetching = new Set<number>()
  readonly #stopListening: () => void
  #contact: string | undefined
  #timer: Timer | undefined
  #timerMs = Number.POSITIVE_INFINITY
  #refreshTimer: Timer | undefined
  #isPumping = false
  /** What came is paid for by then. */
  #paidMs = 0
  /** Of what came last, so that a rate of records is a bound on bytes; 0: nothing came yet. */
  #bytesPerRecord = 0
  #isStopped = false

  constructor(broker: Broker, net: Net, name: string, value: LinkValue, place: SourcePlace) {
    this.name = name
    this.#broker = broker
    this.#value = value
    const { time, random, log } = broker
    this.cluster = new Cluster(time, random, net, log, {
      ...place,
      clientId: `stream-link-${name}`,
      onWarning: (warning) => {
        if (warning.kind === 'regained') this.#contact = undefined
        else if ('address' in warning) this.#contact = troubleOf(warning)
      },
    })
    this.paths = new SourcePaths(broker, this.cluster)
    this.#stopListening = this.cluster.onChange(() => this.pump())
    this.#refreshLater()
  }

  get value(): LinkValue {
    return this.#value
  }

  /** Why there is no contact with the source; undefined: there is, as far as is known. */
  get contact(): string | undefined {
    return this.#contact
  }

  change(value: LinkValue): void {
    this.#value = value
    this.pump()
  }

  add(session: MirrorSession): void {
    this.#sessions.set(keyOf(session.partition.topic, session.partition.partition), session)
    this.cluster.addTopic(session.partition.topic)
    this.pump()
  }

  remove(session: MirrorSession): void {
    const key = keyOf(session.partition.topic, session.partition.partition)
    if (this.#sessions.get(key) === session) this.#sessions.delete(key)
  }

  stop(): void {
    if (this.#isStopped) return
    this.#isStopped = true
    this.#stopListening()
    this.#timer?.cancel()
    this.#refreshTimer?.cancel()
    this.cluster.close()
  }

  /** Asks for what may be asked for; never from inside of a caller's turn. */
  pump(): void {
    if (this.#isPumping || this.#isStopped) return
    this.#isPumping = true
    this.#broker.time.setTimer(0, () => {
      this.#isPumping = false
      if (!this.#isStopped) this.#pump()
    })
  }

  #pump(): void {
    if (this.#value.state !== 'ACTIVE') return
    const nowMs = this.#broker.time.monotonicMs()
    if (nowMs < this.#paidMs) {
      this.#pumpAt(this.#paidMs)
      return
    }
    const byLeader = new Map<number, MirrorSession[]>()
    let isLeaderless = false
    for (const [key, session] of [...this.#sessions]) {
      if (!this.#isWanted(session)) continue
      if (!session.state.isReady(nowMs)) {
        const { phase, untilMs } = session.state
        if (phase === 'waiting' || phase === 'diverged') this.#pumpAt(untilMs)
        continue
      }
      const { topic, partition } = session.partition
      if (!this.#isSameTopic(session, nowMs)) continue
      const leader = this.cluster.leaderOf(topic, partition)
      if (leader === undefined) {
        isLeaderless = true
        continue
      }
      if (this.#fetching.has(leader.leaderId)) continue
      const group = byLeader.get(leader.leaderId)
      if (group === undefined) byLeader.set(leader.leaderId, [session])
      else group.push(session)
      // To the back: the next fetch serves the others first.
      this.#sessions.delete(key)
      this.#sessions.set(key, session)
    }
    if (isLeaderless) this.cluster.requestRefresh()
    for (const [nodeId, sessions] of byLeader) this.#fetch(nodeId, sessions)
  }

  #isWanted(session: MirrorSession): boolean {
    const { image, clusterId } = this.#broker
    const mirror = image.links.mirror(session.partition.topic)?.value
    if (this.#value.state !== 'ACTIVE' || mirror?.state !== 'MIRROR') return false
    if (mirror.path.includes(clusterId)) return false
    return session.isCurrent && session.role === 'mirror'
  }

  /** What the source has under this name now may be another topic. */
  #isSameTopic(session: MirrorSession, nowMs: number): boolean {
    const { topic, partition } = session.partition
    const info = this.cluster.metadata.topic(topic)
    const expected = this.#broker.image.links.mirror(topic)?.value.sourceTopicId ?? ''
    if (info === undefined) return true
    if (info.errorCode === 3 || (info.errorCode === 0 && partition >= info.partitions.length)) {
      session.state.refuse('the source has no such topic any more', nowMs)
      this.#pumpAt(session.state.untilMs)
      return false
    }
    const isTold = !NO_TOPIC_ID.test(info.topicId) && !NO_TOPIC_ID.test(expected)
    if (info.errorCode === 0 && isTold && info.topicId !== expected) {
      session.state.refuse('the source topic was deleted and made again', nowMs)
      this.#pumpAt(session.state.untilMs)
      return false
    }
    return true
  }

  #fetch(nodeId: number, sessions: readonly MirrorSession[]): void {
    const connection = this.cluster.connectionTo(nodeId)
    if (connection === undefined) return
    if (!connection.supports('Fetch', DIVERGING_VERSION)) {
      const error = new StreamError(
        'UNSUPPORTED_BY_BROKER',
        'the source is too old to be linked: it does not tell where its log was cut (Fetch 12)',
      )
      for (const session of sessions) this.#failed(session, error)
      return
    }
    const asked = new Map<string, Asked>()
    const topics = new Map<string, TopicRequest['partitions'][number][]>()
    const bytesMax = this.#bytesAtOnce()
    for (const session of sessions) {
      const { topic, partition, log } = session.partition
      asked.set(keyOf(topic, partition), { session, turn: session.state.ask() })
      const rows = topics.get(topic) ?? []
      topics.set(topic, rows)
      rows.push({
        partition,
        currentLeaderEpoch: this.cluster.leaderOf(topic, partition)?.leaderEpoch ?? -1,
        fetchOffset: session.state.fetchOffset(log),
        lastFetchedEpoch: session.state.lastEpochAt(log.logEndOffset),
        partitionMaxBytes: Math.min(PARTITION_BYTES_MAX, bytesMax),
      })
    }
    this.#fetching.add(nodeId)
    try {
      connection.request(
        'Fetch',
        {
          replicaId: -1,
          maxWaitMs: FETCH_WAIT_MS,
          minBytes: 1,
          maxBytes: Math.min(FETCH_BYTES_MAX, bytesMax),
          isolationLevel: 1,
          sessionId: 0,
          sessionEpoch: -1,
          topics: [...topics].map(([topic, partitions]) => ({ topic, partitions })),
          forgottenTopicsData: [],
          rackId: '',
        },
        // Later versions name topics by id.
        {
          timeoutMs: FETCH_WAIT_MS + this.cluster.requestTimeoutMs,
          versionMax: DIVERGING_VERSION,
        },
        (failure, response) => this.#onAnswer(nodeId, asked, failure, response),
      )
    } catch (error) {
      if (!isStreamError(error)) throw error
      this.#fetching.delete(nodeId)
      for (const { session } of asked.values()) this.#failed(session, error)
    }
  }

  #onAnswer(
    nodeId: number,
    asked: ReadonlyMap<string, Asked>,
    failure: StreamError | undefined,
    response: Response<'Fetch'> | undefined,
  ): void {
    this.#fetching.delete(nodeId)
    if (this.#isStopped) return
    const rows = new Map<string, Row>()
    let cost = 0
    for (const { topic, partitions } of response?.responses ?? []) {
      for (const row of partitions) rows.set(keyOf(topic, row.partitionIndex), row)
    }
    if (response !== undefined) this.#contact = undefined
    for (const [key, { session, turn }] of asked) {
      if (!session.state.isTurn(turn)) continue
      const row = rows.get(key)
      if (!this.#isWanted(session)) session.state.unanswered(turn)
      else if (row === undefined || response?.errorCode !== 0) {
        this.#failed(
          session,
          failure ?? new StreamError('BROKER_ERROR', 'the source gave no answer'),
        )
      } else cost += this.#take(session, row)
    }
    this.#pay(cost)
    this.pump()
  }

  /** @returns what it costs of the rate */
  #take(session: MirrorSession, row: Row): number {
    const { time } = this.#broker
    const step = session.state.take(row, session.partition.log, time.monotonicMs())
    session.trim()
    if (step.kind === 'refresh') this.cluster.requestRefresh()
    else if (step.kind === 'askRange') void this.#askRange(session)
    else if (step.kind !== 'none') void session.carryOut(step)
    return this.#costOf(step)
  }

  /** About what one second allows, or a whole batch where that is more. */
  #bytesAtOnce(): number {
    const { rate } = this.#value
    if (rate === null) return FETCH_BYTES_MAX
    if (rate.kind === 'bytes') return Math.max(1, rate.perSecond)
    return Math.max(1, Math.round(rate.perSecond * this.#bytesPerRecord))
  }

  #costOf(step: MirrorStep): number {
    if (step.kind !== 'append' && step.kind !== 'restart') return 0
    if (this.#value.rate?.kind !== 'records') return step.bytes
    const records = step.batches.reduce((sum, batch) => sum + recordCountAt(batch, 0), 0)
    if (records > 0) this.#bytesPerRecord = step.bytes / records
    return records
  }

  #pay(cost: number): void {
    const { rate } = this.#value
    if (rate === null || cost === 0) return
    const nowMs = this.#broker.time.monotonicMs()
    this.#paidMs = Math.max(nowMs, this.#paidMs) + (cost * 1000) / rate.perSecond
  }

  async #askRange(session: MirrorSession): Promise<void> {
    const { time, random } = this.#broker
    const { topic, partition, log } = session.partition
    try {
      const [start, end] = await listOffsets(
        time,
        random,
        this.cluster,
        [
          { topic, partition, at: 'earliest' },
          { topic, partition, at: 'latest' },
        ],
        { isolation: 'read_uncommitted' },
      )
      if (start === undefined || end === undefined) return
      if (session.isCurrent && session.state.phase === 'busy') {
        session.state.ranged(start.offset, end.offset, log, time.monotonicMs())
      }
    } catch (error) {
      if (!isStreamError(error)) throw error
      session.state.fail(error, time.monotonicMs())
    }
    this.pump()
  }

  #failed(session: MirrorSession, error: StreamError): void {
    session.state.fail(error, this.#broker.time.monotonicMs())
    this.#pumpAt(session.state.untilMs)
  }

  #pumpAt(atMs: number): void {
    if (atMs >= this.#timerMs || this.#isStopped) return
    const { time } = this.#broker
    this.#timer?.cancel()
    this.#timerMs = atMs
    this.#timer = time.setTimer(Math.max(0, atMs - time.monotonicMs()), () => {
      this.#timer = undefined
      this.#timerMs = Number.POSITIVE_INFINITY
      this.pump()
    })
  }

  #refreshLater(): void {
    this.#refreshTimer = this.#broker.time.setTimer(REFRESH_MS, () => {
      if (this.#sessions.size > 0 && this.#value.state === 'ACTIVE') this.cluster.requestRefresh()
      this.#refreshLater()
    })
  }
}

type ClusterTrouble = Extract<ClusterWarning, { readonly kind: 'waiting' | 'lost' | 'notice' }>

function troubleOf({ address, error: { message } }: ClusterTrouble): string {
  return message.startsWith(address) ? message : `${address}: ${message}`
}

function keyOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}
