/**
 * Writes the changes of in-sync replicas that leaders propose: T4, T5 of replication.md section 5.4, one at a time per
 * partition.
 *
 * Invariants:
 * - While the outcome of a write is unknown the very same transaction is sent again; nothing else is concluded.
 * - A guard that has failed once fails for ever (every token only rises), so the proposal is then over, and the record
 *   that was found is taken instead.
 * - A broker that is self-fenced proposes nothing.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Log } from '../../src/ports/log.ts'
import { sleep, type Time, type Timer } from '../../src/ports/time.ts'
import type { Store } from '../metadata/commit.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import { decodePartition, type PartitionValue, type Writer } from '../metadata/metadata-values.ts'
import { RepeatedWarning } from '../metadata/repeated-warning.ts'
import { writeOwnPartition } from '../metadata/topic-transactions.ts'
import type { Partition } from './partition.ts'
import type { Proposal } from './replica-set.ts'
import type { SessionView } from './session-keeper.ts'

export interface InSyncKeeperPorts {
  readonly store: Store
  readonly keys: MetadataKeys
  readonly time: Time
  readonly log: Log
  readonly session: SessionView
  readonly partitions: () => Iterable<Partition>
  readonly lagMsMax: () => number
}

const RETRY_MS = 500
/** After a failed guard the image may still be behind. */
const PAUSE_MS = 50
/** Above whatever else numbers writes of a session. */
const COUNTER_START = 1_000_000

export class InSyncKeeper {
  readonly #ports: InSyncKeeperPorts
  readonly #trouble: RepeatedWarning
  readonly #busy = new Set<Partition>()
  #counter = COUNTER_START
  #timer: Timer | undefined
  #isStopped = false

  constructor(ports: InSyncKeeperPorts) {
    this.#ports = ports
    const message = 'in-sync replicas cannot be changed; tried again'
    this.#trouble = new RepeatedWarning(ports.time, ports.log, message)
  }

  start(): void {
    this.#tick()
  }

  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
  }

  /** Looks whether the partition has something to propose, and sees it through. */
  consider(partition: Partition): void {
    if (this.#isStopped || this.#busy.has(partition)) return
    if (this.#ports.session.isSelfFenced()) return
    const proposal = partition.propose()
    if (proposal === undefined) return
    this.#busy.add(partition)
    this.#write(partition, proposal).then(
      () => this.#settled(partition),
      (error: unknown) => {
        this.#busy.delete(partition)
        if (this.#isStopped) return
        this.#ports.log.error('a change of in-sync replicas was given up', {
          partition: `${partition.topic}-${partition.partition}`,
          error: String(error),
        })
      },
    )
  }

  /** Half of the lag that is allowed, so that a laggard is seen in time. */
  #tick(): void {
    if (this.#isStopped) return
    for (const partition of this.#ports.partitions()) this.consider(partition)
    const delayMs = Math.max(10, this.#ports.lagMsMax() / 2)
    this.#timer = this.#ports.time.setTimer(delayMs, () => this.#tick())
  }

  #settled(partition: Partition): void {
    this.#busy.delete(partition)
    this.consider(partition)
  }

  async #write(partition: Partition, proposal: Proposal): Promise<void> {
    const { store, keys, session, time } = this.#ports
    const { nodeId, sessionEpoch } = session
    const hold = { nodeId, sessionEpoch }
    const { topicId, partition: index } = partition
    const value = { ...proposal.value, writer: this.#writer(sessionEpoch) }
    const change = { topicId, partition: index, revision: proposal.revision, value }
    for (;;) {
      try {
        const result = await writeOwnPartition(store, keys, hold, change, proposal.follower)
        const found = result.gets[0]
        if (result.succeeded) {
          partition.adopt(value, found?.modRevision ?? result.revision)
          this.#report(partition, proposal.kind, value)
          return
        }
        this.#refused(partition, proposal, found)
        await sleep(time, PAUSE_MS)
        return
      } catch (error) {
        // A store that refuses it now (full, without the right) may take it later; and an earlier copy may be on its way.
        const isRefused = isStreamError(error, 'DISK_FULL') || isStreamError(error, 'NOT_ALLOWED')
        if (!isRefused && !isStreamError(error, 'STORE_UNAVAILABLE')) throw error
        if (isRefused) this.#trouble.tell(error)
        // Unknown: it may still be applied. A later record of the store, or another epoch, ends this as well.
        if (this.#isStopped || partition.replicas?.pending !== proposal) return
        await sleep(time, RETRY_MS)
        if (this.#isStopped || partition.replicas?.pending !== proposal) return
      }
    }
  }

  #report(partition: Partition, change: Proposal['kind'], value: PartitionValue): void {
    const { log } = this.#ports
    const { inSyncReplicas, minInSync, replicas } = value
    const fields = {
      partition: `${partition.topic}-${partition.partition}`,
      change,
      inSync: inSyncReplicas.map((member) => member.broker).join(','),
    }
    if (change === 'recovered' && replicas.length > 1) {
      log.warn('a partition has a leader that may lack acknowledged records', {
        ...fields,
        epoch: value.uncleanEpoch,
        endOffset: partition.log.logEndOffset,
      })
    } else if (inSyncReplicas.length < minInSync) {
      log.warn('a partition has too few in-sync replicas: acks=all is refused', fields)
    } else if (change === 'shrink') {
      log.warn('a partition is under-replicated', { ...fields, replicas: replicas.join(',') })
    } else log.info('in-sync replicas changed', fields)
  }

  #refused(
    partition: Partition,
    proposal: Proposal,
    found: { readonly modRevision: number; readonly value: Uint8Array } | undefined,
  ): void {
    const { keys, session } = this.#ports
    const { replicas } = partition
    replicas?.refused(proposal)
    if (found === undefined) return
    const key = keys.partition(partition.topicId, partition.partition)
    const value = decodePartition(key, found.value)
    const isOurs =
      value.leader === session.nodeId && value.leaderIncarnation === session.incarnation
    if (isOurs) partition.adopt(value, found.modRevision)
    // Another one leads: the image will say whom to follow.
    else if (value.leaderEpoch > partition.leaderEpoch) partition.stopServing('notLeader')
  }

  #writer(epoch: number): Writer {
    this.#counter += 1
    return { epoch, counter: this.#counter }
  }
}
