/**
 * Judges every transaction that the store applies in a run of the control plane, as it is applied (replication.md section 6):
 *
 * - I2: leader and partition epochs of a record never fall, and the partition epoch rises with every write;
 * - I11: who is newly named as leader is live under that incarnation, active, and in sync with its current data epoch; in a clean
 *   election it was a whole member before;
 * - I12: elections and topics are written under the epoch of the controller of that moment, other writes of a partition by its
 *   leader of that moment; no write is without guard;
 * - I4: a clean election takes only a replica that holds everything that may have been committed. What that is, a ghost knows:
 *   while a partition is led and has its minimum, everything may be committed by all in sync, and by nobody else;
 * - T6: a broker is let in only when no record names it as leader or in sync any more.
 */
import type { MetadataKeys } from '../../daemon/metadata/metadata-keys.ts'
import {
  decodeController,
  decodeLive,
  decodePartition,
  decodeRegistration,
  type Member,
  type PartitionValue,
} from '../../daemon/metadata/metadata-values.ts'
import type { StoreEntry, StoreTxn, StoreTxnResult } from '../../src/ports/metadata-store.ts'
import type { SimStoreServer } from './sim-store.ts'

export class ControlHistory {
  readonly anomalies: string[] = []
  /** How often what was judged took place. */
  readonly seen = { elections: 0, unclean: 0, activations: 0, expansions: 0, completions: 0 }
  /** What the leaders of the run count with, to judge I5; by partition key. */
  maximalInSync: ((key: string, value: PartitionValue) => readonly number[] | undefined) | undefined
  private readonly server: SimStoreServer
  private readonly keys: MetadataKeys
  private readonly holders = new Map<string, readonly Member[]>()

  constructor(server: SimStoreServer, keys: MetadataKeys) {
    this.server = server
    this.keys = keys
    const apply = server.apply.bind(server)
    server.apply = (txn) => {
      const before = new Map<string, StoreEntry | undefined>()
      for (const { key } of txn.then) before.set(key, server.image.get(key))
      const controller = server.image.get(keys.controller())
      const result = apply(txn)
      if (result.succeeded) this.judge(txn, result, before, controller)
      return result
    }
  }

  /** Every partition record there is now. */
  *partitions(): Iterable<{ readonly key: string; readonly value: PartitionValue }> {
    for (const { key, value } of this.server.image.list(`${this.keys.prefix}part/`).entries) {
      yield { key, value: decodePartition(key, value) }
    }
  }

  private judge(
    txn: StoreTxn,
    result: StoreTxnResult,
    before: ReadonlyMap<string, StoreEntry | undefined>,
    controller: StoreEntry | undefined,
  ): void {
    const writes = txn.then.filter((operation) => operation.kind !== 'get')
    const byController =
      controller !== undefined &&
      txn.compare.some(
        (compare) =>
          compare.kind === 'createRevision' &&
          compare.key === this.keys.controller() &&
          compare.equals === controller.createRevision,
      )
    for (const operation of writes) {
      const { key } = operation
      const parsed = this.keys.parse(key)
      const isExpiry = operation.kind === 'delete' && txn.compare.length === 0
      if (isExpiry && parsed?.kind !== 'live' && parsed?.kind !== 'controller') {
        this.report('I12', `${key} was deleted without a guard`)
      }
      if (!isExpiry && txn.compare.length === 0) this.report('I12', `${key} without a guard`)
      const isControllers =
        parsed?.kind === 'topic' || parsed?.kind === 'deleted' || parsed?.kind === 'config'
      if (isControllers && !byController) {
        this.report('I12', `${key} was written by somebody who is not the controller`)
      }
      if (operation.kind !== 'put') continue
      if (parsed?.kind === 'partition') {
        const old = before.get(key)
        const value = decodePartition(key, operation.value)
        if (old === undefined) this.judgeNew(key, value, byController)
        else this.judgePartition(key, decodePartition(key, old.value), value, controller)
      }
      if (parsed?.kind === 'registration') this.judgeRegistration(key, parsed.nodeId, before)
    }
    if (result.revision % 50 === 0) this.forget()
  }

  private judgeNew(key: string, value: PartitionValue, byController: boolean): void {
    if (!byController) this.report('I12', `${key} was made by somebody who is not the controller`)
    this.holders.set(key, value.inSyncReplicas)
  }

  private judgePartition(
    key: string,
    old: PartitionValue,
    value: PartitionValue,
    controller: StoreEntry | undefined,
  ): void {
    if (value.leaderEpoch < old.leaderEpoch) this.report('I2', `${key}: the leader epoch fell`)
    if (value.partitionEpoch <= old.partitionEpoch) {
      this.report('I2', `${key}: the partition epoch did not rise`)
    }
    const byController = value.writer.epoch === controller?.createRevision
    const leaderLive = this.live(old.leader)
    const byLeader = leaderLive !== undefined && value.writer.epoch === leaderLive.createRevision
    if (!byController && !byLeader) {
      this.report('I12', `${key}: written by ${value.writer.epoch}, neither controller nor leader`)
    }
    const isElection =
      value.leader >= 0 &&
      (value.leader !== old.leader ||
        value.leaderIncarnation !== old.leaderIncarnation ||
        value.uncleanEpoch !== old.uncleanEpoch)
    const isUnclean = value.uncleanEpoch !== old.uncleanEpoch
    if (isElection && !byController) this.report('I12', `${key}: elected by a leader`)
    if (isElection) this.judgeElection(key, old, value, isUnclean)
    if (value.replicas.length < old.replicas.length) this.seen.completions += 1
    const joined = value.inSyncReplicas.filter(
      (m) => !old.inSyncReplicas.some((x) => x.broker === m.broker && x.dataEpoch === m.dataEpoch),
    )
    if (!isUnclean && joined.length > 0 && byLeader) this.seen.expansions += joined.length
    this.follow(key, value, isUnclean, byLeader ? joined : [])
    const maximal = this.maximalInSync?.(key, value)
    if (maximal !== undefined) {
      const missing = value.inSyncReplicas.find((m) => !maximal.includes(m.broker))
      if (missing !== undefined) {
        this.report('I5', `${key}: ${missing.broker} is in sync, and the leader does not count it`)
      }
    }
  }

  private judgeElection(
    key: string,
    old: PartitionValue,
    value: PartitionValue,
    isUnclean: boolean,
  ): void {
    this.seen.elections += 1
    if (isUnclean) this.seen.unclean += 1
    const { leader } = value
    const live = this.live(leader)
    const incarnation =
      live === undefined ? undefined : decodeLive(live.key, live.value).incarnation
    if (incarnation !== value.leaderIncarnation) {
      this.report(
        'I11',
        `${key}: ${leader} leads as ${value.leaderIncarnation}, not ${incarnation}`,
      )
    }
    const dataEpoch = this.server.image.get(this.keys.data(leader))?.modRevision
    const entry = value.inSyncReplicas.find((m) => m.broker === leader)
    if (entry === undefined || entry.dataEpoch !== dataEpoch) {
      this.report('I11', `${key}: ${leader} leads with ${entry?.dataEpoch}, has ${dataEpoch}`)
    }
    if (isUnclean) return
    const isSame = (m: Member): boolean => m.broker === leader && m.dataEpoch === dataEpoch
    if (![...old.inSyncReplicas, ...old.eligibleReplicas].some(isSame)) {
      this.report('I11', `${key}: ${leader} was no whole member and leads cleanly`)
    }
    if (!(this.holders.get(key) ?? []).some(isSame)) {
      this.report('I4', `${key}: ${leader} may lack what was committed`)
    }
  }

  /** The ghost: who holds everything that may have been committed. */
  private follow(
    key: string,
    value: PartitionValue,
    isUnclean: boolean,
    joined: readonly Member[],
  ): void {
    const isMinimum = value.leader >= 0 && value.inSyncReplicas.length >= value.minInSync
    if (isUnclean || isMinimum) this.holders.set(key, value.inSyncReplicas)
    else if (joined.length > 0) {
      this.holders.set(key, [...(this.holders.get(key) ?? []), ...joined])
    }
  }

  private judgeRegistration(
    key: string,
    nodeId: number,
    before: ReadonlyMap<string, StoreEntry | undefined>,
  ): void {
    const entry = this.server.image.get(key)
    const old = before.get(key)
    if (entry === undefined) return
    const { state } = decodeRegistration(key, entry.value)
    const was = old === undefined ? undefined : decodeRegistration(key, old.value)
    if (state !== 'ACTIVE') return
    this.seen.activations += 1
    if (was?.state !== 'FENCED') this.report('T6', `${nodeId} became active out of ${was?.state}`)
    for (const { key: part, value } of this.partitions()) {
      if (value.leader === nodeId) this.report('T6', `${nodeId} was let in while it led ${part}`)
      if (value.inSyncReplicas.some((m) => m.broker === nodeId)) {
        this.report('T6', `${nodeId} was let in while it was in sync in ${part}`)
      }
    }
  }

  private live(nodeId: number): StoreEntry | undefined {
    return nodeId < 0 ? undefined : this.server.image.get(this.keys.live(nodeId))
  }

  /** Of partitions that are gone. */
  private forget(): void {
    for (const key of [...this.holders.keys()]) {
      if (this.server.image.get(key) === undefined) this.holders.delete(key)
    }
  }

  private report(what: string, detail: string): void {
    this.anomalies.push(`${what} at ${this.server.world.now.toFixed(1)} ms: ${detail}`)
  }

  controllerNode(): number | undefined {
    const entry = this.server.image.get(this.keys.controller())
    return entry === undefined ? undefined : decodeController(entry.key, entry.value).brokerId
  }
}
