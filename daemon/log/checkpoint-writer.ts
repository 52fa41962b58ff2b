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
  #cleaning: Promise<void> | undefined
  /** Whom the file of clean offsets names. */
  #cleanNames: Set<string>
  #next: Promise<void> | undefined

  constructor(
    disk: Disk,
    syncs: SyncScheduler,
    options: {
      readonly directory: string
      readonly loaded: LoadedCheckpoint
      /** Of the partitions that the file of clean offsets names. */
      readonly cleanNames: Iterable<string>
      readonly logs: () => Iterable<PartitionLog>
    },
  ) {
    this.#disk = disk
    this.#syncs = syncs
    this.#directory = options.directory
    this.#logs = options.logs
    this.#generation = options.loaded.generation
    this.#copy = options.loaded.nextCopy
    this.#cleanNames = new Set(options.cleanNames)
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
    for (const { topic, topicId, partition, checkpoint } of this.#logs()) {
      entries.push({ topic, topicId, partition, ...checkpoint })
    }
    await writeTextCheckpoints(this.#disk, this.#syncs, this.#directory, entries)
    await this.saveCleanOffsets()
  }

  /** How far each open log is compacted, in Kafka's file; one write at a time, each of what holds then. @throws StreamError DISK_* */
  async saveCleanOffsets(): Promise<void> {
    while (this.#cleaning !== undefined) await this.#cleaning.catch(() => undefined)
    const cleaning = this.#writeCleanOffsets().finally(() => {
      if (this.#cleaning === cleaning) this.#cleaning = undefined
    })
    this.#cleaning = cleaning
    await cleaning
  }

  /** Whether the file may say something of a partition of this name. */
  saysClean(name: string): boolean {
    return this.#cleanNames.has(name)
  }

  async #writeCleanOffsets(): Promise<void> {
    const cleaned: { topic: string; partition: number; offset: number }[] = []
    for (const { topic, partition, checkpoint } of this.#logs()) {
      if (checkpoint.cleanOffset > 0) {
        cleaned.push({ topic, partition, offset: checkpoint.cleanOffset })
      }
    }
    const names = cleaned.map(({ topic, partition }) => `${topic}-${partition}`)
    for (const name of names) this.#cleanNames.add(name)
    const path = `${this.#directory}/cleaner-offset-checkpoint`
    await replaceFile(this.#disk, this.#syncs, path, encodeOffsetFile(cleaned))
    this.#cleanNames = new Set(names)
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
