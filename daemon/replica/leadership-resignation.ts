/**
 * A leader that cannot open its log, or whose disk is full, gives the lead to a replica in sync (T5): nothing else would, for
 * its session lives.
 *
 * Invariants:
 * - Who leads next is what the controller's own function says of a broker without a directory; an election that could lose records
 *   is left to the controller.
 * - Whoever resigns leaves the in-sync replicas in the same write, so that two that cannot lead do not hand it to and fro.
 */
import type { Log } from '../../src/ports/log.ts'
import type { Store } from '../metadata/commit.ts'
import { next } from '../metadata/controller.ts'
import type { MetadataImage, PartitionImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import type { PartitionValue } from '../metadata/metadata-values.ts'
import {
  type FollowerGuard,
  type LeaderHold,
  writeOwnPartition,
} from '../metadata/topic-transactions.ts'

/** Above what else numbers writes of a session (in-sync-keeper.ts). */
const COUNTER_START = 1_000_000_000

export interface ResignationPorts {
  readonly store: Store
  readonly keys: MetadataKeys
  readonly image: MetadataImage
  readonly log: Log
}

interface Successor {
  readonly value: PartitionValue
  readonly guard: FollowerGuard
}

export class LeadershipResignation {
  readonly #ports: ResignationPorts
  /** Told once for each leader epoch. */
  readonly #told = new Map<string, number>()
  #counter = COUNTER_START

  constructor(ports: ResignationPorts) {
    this.#ports = ports
  }

  /**
   * Its log cannot be opened: whoever leads next is better.
   * @param hold  this broker's session, which leads by the record
   * @throws StreamError STORE_UNAVAILABLE
   */
  async resign(hold: LeaderHold, topic: string, record: PartitionImage): Promise<void> {
    const { log } = this.#ports
    const { topicId, partition } = record
    const successor = this.#successorOf(record.value, hold.nodeId)
    const fields = { partition: `${topic}-${partition}`, topicId }
    if (successor === undefined) {
      if (this.#told.get(`${topicId}/${partition}`) === record.value.leaderEpoch) return
      this.#told.set(`${topicId}/${partition}`, record.value.leaderEpoch)
      const message =
        'nobody leads a partition: its log cannot be opened here, and no other replica is in sync'
      log.error(message, fields)
      return
    }
    if (!(await this.#write(hold, record, successor))) return
    log.error('a leadership was given away: the log cannot be opened here', {
      ...fields,
      leader: successor.value.leader,
    })
  }

  /**
   * Nothing can be written here for a while.
   * @param isForWrites  it leads all the same: only a leader with enough others in sync could do more
   * @returns whether it was given away
   * @throws StreamError STORE_UNAVAILABLE
   */
  async resignFull(
    hold: LeaderHold,
    record: PartitionImage,
    isForWrites: boolean,
  ): Promise<boolean> {
    const successor = this.#successorOf(record.value, hold.nodeId)
    if (successor === undefined) return false
    const { inSyncReplicas, minInSync } = successor.value
    if (isForWrites && inSyncReplicas.length < minInSync) return false
    return this.#write(hold, record, successor)
  }

  async #write(
    hold: LeaderHold,
    { topicId, partition, revision }: PartitionImage,
    { value: next, guard }: Successor,
  ): Promise<boolean> {
    const { store, keys } = this.#ports
    this.#counter += 1
    const value = { ...next, writer: { epoch: hold.sessionEpoch, counter: this.#counter } }
    const change = { topicId, partition, revision, value }
    return (await writeOwnPartition(store, keys, hold, change, guard)).succeeded
  }

  #successorOf(value: PartitionValue, nodeId: number): Successor | undefined {
    const { image } = this.#ports
    const brokers = new Map(image.brokers())
    const own = brokers.get(nodeId)
    if (own === undefined) return undefined
    brokers.set(nodeId, { ...own, directoryOnline: false })
    const config = { uncleanElection: false, commitFlush: false }
    const { partition } = next(value, brokers, new Map(), config, 'event')
    const { leader } = partition
    const session = image.session(leader)
    const registration = image.registration(leader)
    // An eligible replica that is not in sync may be one that has resigned.
    const isInSync = value.inSyncReplicas.some(({ broker }) => broker === leader)
    if (!isInSync || leader === nodeId || partition.uncleanEpoch !== value.uncleanEpoch) {
      return undefined
    }
    if (session === undefined || registration === undefined) return undefined
    const guard = {
      nodeId: leader,
      sessionEpoch: session.sessionEpoch,
      dataEpoch: image.broker(leader)?.dataEpoch ?? 0,
      registrationRevision: registration.revision,
    }
    return { value: partition, guard }
  }
}
