/**
 * A leader that cannot open its log gives the lead to a replica in sync (T5): nothing else would, for its session lives.
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

export class LeadershipResignation {
  readonly #ports: ResignationPorts
  /** Told once for each leader epoch. */
  readonly #told = new Map<string, number>()
  #counter = COUNTER_START

  constructor(ports: ResignationPorts) {
    this.#ports = ports
  }

  /**
   * @param hold  this broker's session, which leads by the record
   * @throws StreamError STORE_UNAVAILABLE
   */
  async resign(hold: LeaderHold, topic: string, record: PartitionImage): Promise<void> {
    const { store, keys, log } = this.#ports
    const { topicId, partition, revision } = record
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
    this.#counter += 1
    const value = {
      ...successor.value,
      writer: { epoch: hold.sessionEpoch, counter: this.#counter },
    }
    const change = { topicId, partition, revision, value }
    const result = await writeOwnPartition(store, keys, hold, change, successor.guard)
    if (!result.succeeded) return
    log.error('a leadership was given away: the log cannot be opened here', {
      ...fields,
      leader: value.leader,
    })
  }

  #successorOf(
    value: PartitionValue,
    nodeId: number,
  ): { readonly value: PartitionValue; readonly guard: FollowerGuard } | undefined {
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
