/**
 * One mirrored partition while this broker leads it in one epoch: what the store says of it, what the link is to do with it,
 * and its promotion. Ends with the epoch.
 *
 * Invariants:
 * - Nothing is appended before the partition's record was read linearizably in this epoch, and nothing after it is FENCED: a
 *   leader that has been left behind can write neither the record (its guards) nor anything that is committed.
 * - Promotion: all that is here is committed; FENCED with the offset where the source's part ends is in the store; what is beyond is
 *   cut, on all replicas in sync; what is open below it is aborted; only then PROMOTED, and only then anybody else may write.
 * - No transaction that is decided here is cut in two, and nobody has read what is cut: of a mirror only what is below its last
 *   stable offset is shown (apis/read-only.ts).
 * - What is committed is cut only in an epoch that is marked as unclean in the partition's record, so that replicas follow.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import { attributesAt, batchBytesAt, isControl } from '../../src/record/batch-layout.ts'
import { buildControlBatch } from '../../src/record/control-batch.ts'
import { passProducerIds, writeMirrored } from '../metadata/link-transactions.ts'
import {
  decodeMirrored,
  type MirroredValue,
  type MirrorValue,
  type SourceEpoch,
} from '../metadata/link-values.ts'
import type { PartitionImage } from '../metadata/metadata-image.ts'
import { writeOwnPartition } from '../metadata/topic-transactions.ts'
import type { Broker } from '../replica/broker.ts'
import type { Partition } from '../replica/partition.ts'
import { MirrorState, type MirrorStep } from './mirror-state.ts'

const RETRY_MS = 1000
const EVEN_MS = 50
const READ_BYTES = 1024 * 1024
/** Above whatever else numbers writes of a session (in-sync-keeper.ts). */
const WRITER_COUNTER_START = 1_000_000_000

/** `fenced`: nobody writes it, and what parts it from its source is not cut yet. */
export type SessionRole = 'starting' | 'fenced' | 'mirror' | 'promoting' | 'promoted' | 'ended'

export class MirrorSession {
  readonly partition: Partition
  readonly leaderEpoch: number
  readonly linkId: string
  readonly state: MirrorState
  readonly #broker: Broker
  readonly #onReady: () => void
  #role: SessionRole = 'starting'
  #record: MirroredValue | undefined
  #revision = 0
  #trouble: string | undefined
  #isTrimming = false
  /** Cut, and nothing is open, in this epoch. */
  #isSettled = false
  /** Where it is to be cut before it follows; undefined: nowhere, or it is done. */
  #cutAt: number | undefined

  /** @param onReady  it may be asked for again */
  constructor(broker: Broker, partition: Partition, linkId: string, onReady: () => void) {
    this.partition = partition
    this.leaderEpoch = partition.leaderEpoch
    this.linkId = linkId
    this.#broker = broker
    this.#onReady = onReady
    this.state = new MirrorState([], broker.time.monotonicMs())
  }

  get role(): SessionRole {
    return this.#role
  }

  get record(): MirroredValue | undefined {
    return this.#record
  }

  /** Trouble of its own: with the store, or while it is promoted. */
  get trouble(): string | undefined {
    return this.#trouble
  }

  /** It leads on in the epoch it was made for. */
  get isCurrent(): boolean {
    const { partition } = this
    return (
      this.#role !== 'ended' &&
      partition.notServing === undefined &&
      partition.leaderEpoch === this.leaderEpoch
    )
  }

  end(): void {
    this.#role = 'ended'
  }

  /** Reads what the store has of it, and goes on from there; tried again until it is known. */
  async start(wanted: () => MirrorValue | undefined): Promise<void> {
    await this.#untilDone(async () => {
      const { keys, store } = this.#broker
      const { topicId, partition: index } = this.partition
      const key = keys.mirrored(topicId, index)
      const entry = await store.store.get(key)
      if (entry !== undefined) {
        this.#record = decodeMirrored(key, entry.value)
        this.#revision = entry.modRevision
      }
      const cutAt = wanted()?.cutAt[index]
      if (this.#record?.linkId !== this.linkId && cutAt !== undefined) {
        await this.#committed(this.partition.log.logEndOffset)
        this.#cutAt = cutAt
      } else if (this.#record?.linkId !== this.linkId) {
        await this.#write({ ...UNPROMOTED, linkId: this.linkId, state: 'MIRROR', epochs: [] })
      }
    })
    if (!this.isCurrent) return
    if (this.#cutAt !== undefined) {
      this.#role = 'fenced'
      this.obey(wanted())
      return
    }
    this.state.learned(this.#record?.epochs ?? [])
    if (this.#record?.state === 'PROMOTED') this.#becomePromoted()
    else if (this.#record?.state === 'FENCED' || wanted()?.state === 'PROMOTING') this.promote()
    else {
      this.#role = 'mirror'
      this.#onReady()
    }
  }

  /** What is ordered of its topic may have changed. */
  obey(wanted: MirrorValue | undefined): void {
    if (wanted?.state === 'PROMOTING' && (this.#role === 'mirror' || this.#role === 'fenced')) {
      this.promote()
    } else if (wanted?.state === 'MIRROR' && this.#role === 'fenced') {
      this.#role = 'starting'
      void this.#untilDone(() => this.#cut()).then(() => {
        if (!this.isCurrent || this.#cutAt !== undefined) return
        this.#role = 'mirror'
        this.#onReady()
      })
    }
  }

  async #cut(): Promise<void> {
    const { linkId } = this
    if (this.#cutAt === undefined || !(await this.#cutTo(this.#cutAt))) return
    await this.#write({ ...UNPROMOTED, linkId, state: 'MIRROR', epochs: [] })
    this.#cutAt = undefined
  }

  /**
   * Drops what is at `offset` and beyond, here and on all replicas in sync.
   * @returns false: it takes another epoch, and what mirrors here ends with this one
   * @throws StreamError CONFLICT, STORE_UNAVAILABLE, DISK_FAILED, CLOSED
   */
  async #cutTo(offset: number): Promise<boolean> {
    const { topic, topicId, partition: index, log } = this.partition
    const { image, log: diagnostics } = this.#broker
    if (log.logEndOffset > offset) {
      const led = image.partition(topicId, index)
      const isAlone = led?.value.replicas.length === 1
      const lastEpoch = log.epochAt(log.logEndOffset - 1) ?? 0
      if (!isAlone && (led?.value.uncleanEpoch ?? 0) <= lastEpoch) {
        await this.#beginUnclean()
        return false
      }
      const fields = { partition: `${topic}-${index}`, offset, end: log.logEndOffset }
      diagnostics.warn('a mirror is cut', fields)
      await this.partition.cutMirrored(offset)
    }
    await this.#committed(Math.min(offset, log.logEndOffset))
    // Also where there was nothing to cut: a leader before this one may have done so, and not all have heard of it.
    while (!this.partition.isEven) {
      if (!this.isCurrent) throw new StreamError('CLOSED', 'the partition is not led here any more')
      await this.#pause(EVEN_MS)
    }
    return true
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#broker.time.setTimer(ms, resolve)
    })
  }

  /** Leads on in an epoch of its own, in which followers let go of what the leader has not, committed or not (I10). */
  async #beginUnclean(): Promise<void> {
    const { image, store, keys, nodeId, session } = this.#broker
    const { topicId, partition: index } = this.partition
    const led = this.#ledRecord()
    const { sessionEpoch } = session
    const leaderEpoch = this.leaderEpoch + 1
    const value = {
      ...led.value,
      leaderEpoch,
      partitionEpoch: led.value.partitionEpoch + 1,
      uncleanEpoch: leaderEpoch,
      writer: { epoch: sessionEpoch, counter: WRITER_COUNTER_START + leaderEpoch },
    }
    const change = { topicId, partition: index, revision: led.revision, value }
    const result = await writeOwnPartition(store, keys, { nodeId, sessionEpoch }, change)
    if (!result.succeeded) {
      throw new StreamError('CONFLICT', "the partition's record has changed meanwhile")
    }
    await image.waitFor(result.revision)
  }

  /** Does what the state machine says. The answer counts until something is awaited. */
  async carryOut(step: MirrorStep): Promise<void> {
    const { partition, state } = this
    const { time } = this.#broker
    try {
      if (step.kind === 'append' || step.kind === 'restart') {
        if (step.epochs !== undefined) await this.#learn(step.epochs)
        if (!this.isCurrent || this.#role !== 'mirror') return
        if (step.kind === 'restart') await partition.restartMirrored(step.offset)
        if (!this.isCurrent || this.#role !== 'mirror') return
        if (step.batches.length > 0) this.#append(step.batches, step.bytes)
        else state.done(0, partition.log, time.monotonicMs())
      }
    } catch (error) {
      if (!isStreamError(error)) throw error
      state.fail(error, time.monotonicMs())
    }
    this.#onReady()
  }

  /** The source's log starts later than this one. */
  trim(): void {
    const { partition, state } = this
    const start = Math.min(state.sourceStart, partition.highWatermark)
    if (start <= partition.log.logStartOffset || this.#isTrimming) return
    this.#isTrimming = true
    partition
      .deleteRecordsBefore(start)
      .catch((error: unknown) => state.fail(error, this.#broker.time.monotonicMs()))
      .finally(() => {
        this.#isTrimming = false
      })
  }

  promote(): void {
    if (this.#role === 'promoting' || this.#role === 'promoted' || this.#role === 'ended') return
    this.#role = 'promoting'
    void this.#untilDone(() => this.#promote()).then(() => {
      if (this.isCurrent && this.#record?.state === 'PROMOTED') this.#becomePromoted()
    })
  }

  #becomePromoted(): void {
    this.#role = 'promoted'
    this.partition.log.forgetProducersBelow(this.#record?.ownOffset ?? 0)
  }

  #append(batches: readonly Uint8Array[], bytes: number): void {
    const { partition, state } = this
    const { time, directory } = this.#broker
    if (partition.isUnderMinInSync) {
      throw new StreamError('BROKER_ERROR', 'too few replicas are in sync here')
    }
    const full = directory.refusesWrites()
    if (full !== undefined) throw full
    const { nextOffset } = partition.appendMirrored(batches)
    state.done(bytes, partition.log, time.monotonicMs())
    const settled = (): void => {
      state.committed(bytes)
      this.#onReady()
    }
    partition.whenCommitted({ endOffset: nextOffset, onCommitted: settled, onLost: settled })
  }

  async #learn(all: readonly SourceEpoch[]): Promise<void> {
    const record = this.#record
    if (record === undefined) return
    const start = this.partition.log.logStartOffset
    // Of what is before the log start only the epoch in force there counts.
    const first = all.findLastIndex(({ startOffset }) => startOffset <= start)
    await this.#write({ ...record, epochs: all.slice(Math.max(0, first)) })
    this.state.learned(this.#record?.epochs ?? [])
  }

  async #promote(): Promise<void> {
    const { partition } = this
    const record = this.#record
    if (this.#cutAt !== undefined) {
      // It was never a mirror: what is here stays, and nothing of it is anybody else's.
      const promotedEpoch = this.leaderEpoch
      const { linkId } = this
      await this.#write({
        linkId,
        state: 'PROMOTED',
        epochs: [],
        promotedOffset: 0,
        promotedEpoch,
        settledOffset: 0,
        ownOffset: 0,
      })
      return
    }
    if (record === undefined) return
    if (record.state === 'MIRROR') {
      await this.#committed(partition.log.logEndOffset)
      const settledOffset = partition.lastStableOffset
      const promotedOffset = await this.#endOfWhole(settledOffset)
      const promotedEpoch = this.leaderEpoch
      await this.#write({
        ...record,
        state: 'FENCED',
        promotedOffset,
        promotedEpoch,
        settledOffset,
      })
    }
    const fenced = this.#record
    if (fenced === undefined) return
    if (!this.#isSettled) {
      if (!(await this.#cutTo(fenced.promotedOffset))) return
      await this.#abortOpen()
      this.#isSettled = true
    }
    const { store, keys, producerIds } = this.#broker
    const producers = partition.log.activeProducers()
    const last = producers.reduce((most, { producerId }) => Math.max(most, producerId), -1)
    if (last >= 0) {
      await passProducerIds(store, keys, last)
      producerIds.passOver(last)
    }
    const ownOffset = partition.log.logEndOffset
    await this.#write({ ...fenced, state: 'PROMOTED', ownOffset })
  }

  /**
   * Where the source's part ends. The last stable offset, unless a transaction has ended beyond it: it may have records before, which
   * would be open for ever without its marker, or alone without the rest. Then all stays.
   */
  async #endOfWhole(stableOffset: number): Promise<number> {
    const { log } = this.partition
    const endOffset = log.logEndOffset
    for (let offset = stableOffset; offset < endOffset; ) {
      const slice = await log.read({ offset, endOffset, maxBytes: READ_BYTES })
      if (slice.nextOffset <= offset || hasMarker(Buffer.concat(slice.bytes))) return endOffset
      offset = slice.nextOffset
    }
    return stableOffset
  }

  /** Its end, if it comes to one, is the source's, and lost: as of a producer that has died. */
  async #abortOpen(): Promise<void> {
    const { partition } = this
    const timestampMs = this.#broker.time.wallMs()
    for (const producer of partition.log.activeProducers()) {
      if (producer.currentTransactionFirstOffset < 0) continue
      const { producerId, producerEpoch } = producer
      const coordinatorEpoch = Math.max(0, producer.coordinatorEpoch)
      const marker = { producerId, producerEpoch, coordinatorEpoch, timestampMs }
      partition.append(Uint8Array.from(buildControlBatch({ ...marker, type: 'abort' })))
    }
    await this.#committed(partition.log.logEndOffset)
  }

  /** @throws StreamError CLOSED when it does not lead any more */
  #committed(endOffset: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const onLost = (): void =>
        reject(new StreamError('CLOSED', 'the partition is not led here any more'))
      this.partition.whenCommitted({ endOffset, onCommitted: resolve, onLost })
    })
  }

  /** The partition's record, of the epoch that is led here. @throws StreamError CONFLICT */
  #ledRecord(): PartitionImage {
    const { topicId, partition: index } = this.partition
    const led = this.#broker.image.partition(topicId, index)
    if (led === undefined || led.value.leaderEpoch !== this.leaderEpoch || !this.isCurrent) {
      throw new StreamError('CONFLICT', 'the partition is not led here any more')
    }
    return led
  }

  /** @throws StreamError CONFLICT (somebody else leads, or it was written meanwhile), STORE_UNAVAILABLE */
  async #write(value: MirroredValue): Promise<void> {
    const { image, store, keys, nodeId, session } = this.#broker
    const { topicId, partition: index } = this.partition
    const led = this.#ledRecord()
    const { sessionEpoch } = session
    const leader = { nodeId, sessionEpoch }
    const change = {
      topicId,
      partition: index,
      partitionRevision: led.revision,
      revision: this.#revision,
      value,
      leader,
    }
    const revision = await writeMirrored(store, keys, change)
    if (revision === undefined) {
      throw new StreamError('CONFLICT', "the partition's record has changed meanwhile")
    }
    this.#record = value
    this.#revision = revision
    await image.waitFor(revision)
  }

  async #untilDone(work: () => Promise<void>): Promise<void> {
    while (this.isCurrent) {
      try {
        await work()
        this.#trouble = undefined
        return
      } catch (error) {
        if (!isStreamError(error)) throw error
        if (error.code === 'CLOSED') return
        this.#trouble = error.message
      }
      await this.#pause(RETRY_MS)
    }
  }
}

const UNPROMOTED = {
  promotedOffset: -1,
  promotedEpoch: -1,
  settledOffset: -1,
  ownOffset: -1,
} as const

function hasMarker(batches: Uint8Array): boolean {
  for (let at = 0; at < batches.length; at += batchBytesAt(batches, at)) {
    if (isControl(attributesAt(batches, at))) return true
  }
  return false
}
