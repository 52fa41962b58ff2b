/**
 * Writes the checkpoints of a data directory, one at a time, and keeps the entries of partitions that are not open.
 *
 * Invariant: an entry is dropped only when its partition was deleted; a log that is not open yet keeps what the last run
 * said of it.
 */
import type { Disk } from '../../src/ports/disk.ts'
import {
  type CheckpointEntry,
  entryKey,
  type LoadedCheckpoint,
  type StoredEntry,
  writeCheckpointCopy,
  writeTextCheckpoints,
} from './checkpoint.ts'
import { replaceFile } from './file-writes.ts'
import type { PartitionLog } from './partition-log.ts'
import type { SyncScheduler } from './sync-scheduler.ts'
import { encodeOffsetFile } from './text-checkpoint.ts'

export class CheckpointWriter {
  readonly #disk: Disk
  readonly #syncs: SyncScheduler
  readonly #directory: string
  readonly #logs: () => Iterable<PartitionLog>
  readonly #closedEntries = new Map<string, StoredEntry>()
  #generation: number
  #copy: 'a' | 'b'
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(
    disk: Disk,
    syncs: SyncScheduler,
    options: {
      readonly directory: string
      readonly loaded: LoadedCheckpoint
      readonly logs: () => Iterable<PartitionLog>
    },
  ) {
    this.#disk = disk
    this.#syncs = syncs
    this.#directory = options.directory
    this.#logs = options.logs
    this.#generation = options.loaded.generation
    this.#copy = options.loaded.nextCopy
    for (const entry of options.loaded.entries) this.#closedEntries.set(entryKey(entry), entry)
  }

  forget(id: { readonly topicId: string; readonly partition: number }): void {
    this.#closedEntries.delete(entryKey(id))
  }

  /** What is in memory at the call is durable when it resolves; calls that wait are joined. @throws StreamError DISK_* */
  save(): Promise<void> {
    if (this.#next !== undefined) return this.#next
    if (this.#running === undefined) return this.#start()
    this.#next = this.#running.then(
      () => this.#start(),
      () => this.#start(),
    )
    return this.#next
  }

  /** Kafka's text files, for its tools and for people. @throws StreamError DISK_* */
  async saveTexts(): Promise<void> {
    const entries: CheckpointEntry[] = []
    const cleaned: { topic: string; partition: number; offset: number }[] = []
    for (const { topic, topicId, partition, checkpoint } of this.#logs()) {
      entries.push({ topic, topicId, partition, ...checkpoint })
      if (checkpoint.cleanOffset > 0) {
        cleaned.push({ topic, partition, offset: checkpoint.cleanOffset })
      }
    }
    await writeTextCheckpoints(this.#disk, this.#syncs, this.#directory, entries)
    const path = `${this.#directory}/cleaner-offset-checkpoint`
    await replaceFile(this.#disk, this.#syncs, path, encodeOffsetFile(cleaned))
  }

  #start(): Promise<void> {
    this.#next = undefined
    const running = this.#write().finally(() => {
      if (this.#running === running) this.#running = undefined
    })
    this.#running = running
    return running
  }

  async #write(): Promise<void> {
    const saved: { readonly log: PartitionLog; readonly recoveryPoint: number }[] = []
    for (const log of this.#logs()) {
      const { topicId, partition } = log
      const { logStartOffset, recoveryPoint, highWatermark } = log.checkpoint
      const entry = { topicId, partition, logStartOffset, recoveryPoint, highWatermark }
      this.#closedEntries.set(entryKey(entry), entry)
      saved.push({ log, recoveryPoint })
    }
    const generation = this.#generation + 1
    await writeCheckpointCopy(this.#disk, this.#syncs, this.#directory, {
      copy: this.#copy,
      generation,
      entries: [...this.#closedEntries.values()],
    })
    this.#generation = generation
    this.#copy = this.#copy === 'a' ? 'b' : 'a'
    for (const { log, recoveryPoint } of saved) log.noteCheckpointSaved(recoveryPoint)
  }
}
