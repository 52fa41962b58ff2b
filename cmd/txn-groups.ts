/**
 * The groups that a transaction reads for: it is the only member of each, from the first question on to the commit, so that
 * nobody else reads or commits there meanwhile, and offsets are committed in the name of its generation.
 */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { GroupOffset, GroupPartition } from '../src/client/group-offsets.ts'
import { sleep } from '../src/ports/time.ts'
import type { Broker } from './broker.ts'
import type {
  ClusterClient,
  GroupAdminClient,
  GroupMemberClient,
  TransactionClient,
} from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { refuseLive } from './groups-shared.ts'
import { sessionMsOf, type TxnLock, waitOut } from './txn-lock.ts'
import type { TxnOffset } from './txn-protocol.ts'

const POLL_MS = 10

interface OwnGroup {
  readonly member: GroupMemberClient
  readonly cluster: ClusterClient | undefined
  readonly topics: Set<string>
  /** Why nothing can be committed in its name any more. */
  loss: StreamError | undefined
}

export class TxnGroups {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #groups: GroupAdminClient
  readonly #own = new Map<string, OwnGroup>()
  /** Of the same group one after the other. */
  #joining: Promise<unknown> = Promise.resolve()

  readonly #lock: TxnLock | undefined
  readonly #onLost: (error: StreamError) => void
  #isClosed = false

  /**
   * @param lock  of a run with a name: it knows what a killed run has left behind
   * @param onLost  called when it is the only member of a group no longer, at most once a group: nothing can be committed
   */
  constructor(
    deps: CommandDeps,
    broker: Broker,
    groups: GroupAdminClient,
    lock: TxnLock | undefined,
    onLost: (error: StreamError) => void,
  ) {
    this.#onLost = onLost
    this.#deps = deps
    this.#broker = broker
    this.#groups = groups
    this.#lock = lock
  }

  /**
   * Becomes the member of a group, for these topics too.
   * @returns what the group has committed of the partitions, once no transaction is about to change it
   * @throws StreamError CONFLICT: it has members; UsageError: the topic is read already
   */
  join(name: string, partitions: readonly GroupPartition[]): Promise<readonly GroupOffset[]> {
    const run = this.#joining.then(() => this.#join(name, partitions))
    this.#joining = run.catch(() => undefined)
    return run
  }

  async #join(
    name: string,
    partitions: readonly GroupPartition[],
  ): Promise<readonly GroupOffset[]> {
    const topics = new Set(partitions.map(({ topic }) => topic))
    const own = this.#own.get(name) ?? (await this.#open(name))
    for (const topic of topics) {
      if (!own.topics.has(topic)) continue
      throw new UsageError(
        `group ${name} reads ${topic} already in this transaction`,
        'one consume of a group and topic is all',
      )
    }
    for (const topic of topics) own.topics.add(topic)
    own.member.setTopics([...own.topics])
    if (own.topics.size === topics.size) await this.#start(name, own)
    if (partitions.length === 0) return []
    return own.member.fetchOffsets(partitions)
  }

  async #open(name: string): Promise<OwnGroup> {
    const leftBehind = this.#lock?.leftBehind ?? new Set<string>()
    const sessionMs = sessionMsOf(this.#broker)
    if (!(await waitOut(this.#deps, this.#groups, name, leftBehind, sessionMs))) {
      const found = await this.#groups.describe(name)
      if (found !== undefined) refuseLive(found, 'run the transaction again')
    }
    const { scheme } = this.#broker
    const cluster = scheme === 'kafka' ? await this.#broker.openAnother() : undefined
    const member = await this.#deps.clients.groupMember(cluster ?? this.#broker.cluster, {
      groupId: name,
      topics: [],
      // Nothing is handed over, so a rebalance need not wait.
      sessionTimeoutMs: sessionMs,
      heartbeatIntervalMs: Math.floor(sessionMs / 3),
      rebalanceTimeoutMs: sessionMs,
    })
    const own: OwnGroup = { member, cluster, topics: new Set(), loss: undefined }
    this.#own.set(name, own)
    return own
  }

  async #start(name: string, own: OwnGroup): Promise<void> {
    const { time } = this.#deps
    own.member.start()
    const deadlineMs = time.monotonicMs() + sessionMsOf(this.#broker)
    while (own.member.memberId === '' && time.monotonicMs() < deadlineMs) {
      this.#follow(name, own)
      if (own.loss !== undefined) throw own.loss
      await sleep(time, 1)
    }
    this.#lock?.remember(own.member.memberId)
    void this.#watch(name, own)
  }

  /** Whoever joins ends the run, also one that goes again before the end: the pipeline would work for nothing. */
  async #watch(name: string, own: OwnGroup): Promise<void> {
    while (!this.#isClosed) {
      this.#follow(name, own)
      if (own.loss !== undefined) {
        this.#onLost(own.loss)
        return
      }
      await own.member.changed()
    }
  }

  /** Looks at what has happened in the group. */
  #follow(name: string, own: OwnGroup): void {
    const { member } = own
    for (let event = member.poll(); event !== undefined; event = member.poll()) {
      if (event.kind === 'failed') own.loss ??= event.error
      else if (event.kind === 'revoked') {
        if (event.partitions.length > 0) own.loss ??= event.isLost ? expired(name) : joined(name)
        member.released()
      }
    }
    if (member.hasHadCompany) own.loss ??= joined(name)
  }

  /**
   * Puts the offsets into the open transaction, in the name of the membership.
   * @throws StreamError FENCED: somebody else has joined; what sendOffsets throws
   */
  async commit(
    transaction: TransactionClient,
    name: string,
    offsets: readonly TxnOffset[],
    deadlineMs: number,
  ): Promise<void> {
    const own = this.#own.get(name)
    if (own === undefined || offsets.length === 0) return
    await this.#settled(name, own, offsets, deadlineMs)
    const { member } = own
    await transaction.sendOffsets({
      groupId: name,
      generationId: member.generation,
      memberId: member.memberId,
      groupInstanceId: null,
      offsets,
    })
    this.#follow(name, own)
    if (own.loss !== undefined) throw own.loss
  }

  /** It has all partitions, and nobody else is there. */
  async #settled(
    name: string,
    own: OwnGroup,
    offsets: readonly TxnOffset[],
    deadlineMs: number,
  ): Promise<void> {
    const { time } = this.#deps
    for (;;) {
      this.#follow(name, own)
      if (own.loss !== undefined) throw own.loss
      const { member } = own
      const owned = new Set(member.owned.map(({ topic, partition }) => `${partition}/${topic}`))
      const hasAll = offsets.every(({ topic, partition }) => owned.has(`${partition}/${topic}`))
      if (member.isSettled && hasAll) break
      if (member.isSettled && member.owned.length > 0 && !hasAll) {
        const members = (await this.#groups.describe(name))?.members ?? []
        if (members.length > 1) throw joined(name)
      }
      if (time.monotonicMs() >= deadlineMs) {
        throw new StreamError('TIMED_OUT', `group ${name}: no assignment in time`, { target: name })
      }
      await sleep(time, POLL_MS)
    }
    const members = (await this.#groups.describe(name))?.members ?? []
    if (members.length > 1) throw joined(name)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const { member, cluster } of this.#own.values()) {
      await member.leave()
      cluster?.close()
    }
  }
}

function joined(name: string): StreamError {
  return new StreamError(
    'FENCED',
    `group ${name}: another member has joined, so nothing was committed`,
    {
      target: name,
      hint: 'stop it, and run the transaction again',
    },
  )
}

function expired(name: string): StreamError {
  return new StreamError(
    'FENCED',
    `group ${name}: the broker has not heard of this run for a session's time, so nothing was committed`,
    { target: name, hint: 'run the transaction again' },
  )
}
