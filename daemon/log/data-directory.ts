/**
 * One data directory: its lock, its identity, what the last run left, its partition logs, its checkpoints, its end.
 *
 * Invariants:
 * - One process at a time (the lock). Nothing is created or deleted because metadata is missing or unreadable.
 * - The clean marker is removed, durably, before anything is appended, and written last.
 * - After a failed sync the directory is FAILED until the process ends: no append, no checkpoint, no clean marker.
 * - The boot in which the logs were last whole is recorded only when all of them were recovered, so that a second crash
 *   during a start after a power cut is still judged as a power cut.
 */
import { assert } from '../../src/base/assert.ts'
import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Disk, DiskLock } from '../../src/ports/disk.ts'
import { Ballast } from './ballast.ts'
import { BatchCache } from './batch-cache.ts'
import { BoundedWork } from './bounded-work.ts'
import { type LoadedCheckpoint, loadCheckpoint } from './checkpoint.ts'
import { CheckpointWriter } from './checkpoint-writer.ts'
import { DelayedRemovals, removeOrTell } from './delayed-removals.ts'
import {
  BOOT_NAME,
  type BootRecord,
  CLEAN_NAME,
  type CleanShutdown,
  type DirectoryMeta,
  encodeBoot,
  encodeCleanShutdown,
  encodeMeta,
  encodePartitionMetadata,
  FAILED_NAME,
  holdsData,
  isDeletedDirectory,
  isStrayDirectory,
  META_NAME,
  parseBoot,
  parseCleanShutdown,
  parseMeta,
  parsePartitionDirectory,
  parsePartitionMetadata,
  parsePartitionSince,
} from './directory-files.ts'
import { ballastOf, DiskGuard } from './disk-guard.ts'
import { DurableMarks } from './durable-marks.ts'
import { directoryOf, overwriteFile, replaceFile } from './file-writes.ts'
import { IndexMemory } from './index-memory.ts'
import type { LogConfig } from './log-config.ts'
import type { LogContext, LogPorts } from './log-context.ts'
import { LogCore } from './log-core.ts'
import { OpenFiles } from './open-files.ts'
import { PartitionLog } from './partition-log.ts'
import { type RecoveryFacts, recoverLog } from './recovery.ts'
import { segmentName } from './segment.ts'
import { SyncScheduler } from './sync-scheduler.ts'
import { parseOffsetFile } from './text-checkpoint.ts'
import { isTopicId, randomId } from './topic-id.ts'

export type { CleanShutdown } from './directory-files.ts'
export type { LogPorts } from './log-context.ts'

export interface DataDirectoryOptions {
  readonly path: string
  /** /proc/sys/kernel/random/boot_id; undefined where it is unknown: every crash is then judged as a power cut. */
  readonly bootId: string | undefined
  /** For a new directory, made up when absent; a directory that names another one is refused. */
  readonly clusterId?: string
  readonly nodeId?: number
  /** log.dir.reserve.bytes; the reserve is the smaller of it and 5 % of the file system. Default 1 GiB. */
  readonly reserveBytesMax?: number
  /** A part of the reserve lies in a file of its own, where nobody else can use it up. Default: none does. */
  readonly hasBallast?: boolean
  /** Recent batches kept in memory, over all logs. Default 16 MiB: half of what comes between two minor collections, so that
   * received memory dies young and is used again (performance.md §4). */
  readonly cacheBytesMax?: number
  /** Loaded indexes, over all logs. Default 32 MiB. */
  readonly indexBytesMax?: number
  /** Default 512. */
  readonly openFilesMax?: number
  /** Syncs at one time. Default 4. */
  readonly syncsMax?: number
  /** Logs opened at one time. Default 16. */
  readonly recoveriesMax?: number
  /** producer.id.expiration.ms. Default 24 h. */
  readonly producerIdExpirationMs?: number
}

export interface PartitionId {
  readonly topic: string
  /** 22 characters of base64url. */
  readonly topicId: string
  readonly partition: number
}

export interface PartitionOptions extends PartitionId {
  readonly config: LogConfig
  /** For a new log: partition epoch at which the replica was given to this broker. Default 0: with the partition itself. */
  readonly since?: number
}

export interface PartitionOnDisk {
  readonly topic: string
  readonly partition: number
  /** undefined: partition.metadata is missing (half-made) or unreadable. */
  readonly topicId: string | undefined
  /** Partition epoch at which the replica was given here; 0: with the partition itself, or not known. */
  readonly since: number
  readonly path: string
  readonly metadata: 'valid' | 'missing' | 'unreadable'
}

/** A log that was set aside. */
export interface StrayOnDisk {
  readonly name: string
  /** undefined: unreadable. */
  readonly topicId: string | undefined
  /** undefined: its long name was cut short. */
  readonly partition: number | undefined
}

const DEFAULTS = {
  reserveBytesMax: 1024 ** 3,
  cacheBytesMax: 16 * 1024 ** 2,
  indexBytesMax: 32 * 1024 ** 2,
  openFilesMax: 512,
  syncsMax: 4,
  recoveriesMax: 16,
  producerIdExpirationMs: 86_400_000,
}

/** log.flush.offset.checkpoint.interval.ms is as long; a checkpoint of high watermarks comes more often. */
const RECOVERY_POINT_MS = 50_000

const CLOSINGS_MAX = 16

export class DataDirectory {
  readonly path: string
  readonly clusterId: string
  readonly nodeId: number
  readonly directoryId: string
  /** It was created by this open. */
  readonly isNew: boolean
  /** What the last run left when it ended cleanly; undefined after a crash, and for a new directory. */
  readonly cleanShutdown: CleanShutdown | undefined
  /** Whether page cache of the last run survived; undefined: not known. */
  readonly sameBoot: boolean | undefined
  /** The last run ended with a failed sync. */
  readonly failedBefore: boolean

  readonly #ports: LogPorts
  readonly #options: DataDirectoryOptions
  readonly #lock: DiskLock
  readonly #context: LogContext
  readonly #marks: DurableMarks
  readonly #loaded: LoadedCheckpoint
  /** Of logs that were not opened yet. */
  readonly #cleanOffsets: Map<string, number>
  readonly #checkpoints: CheckpointWriter
  readonly #logs = new Map<string, PartitionLog>()
  readonly #opening = new Map<string, Promise<PartitionLog>>()
  readonly #openings: BoundedWork
  /** Directories found at open whose logs were not recovered yet. */
  readonly #unrecovered: Set<string>
  #recoveryPointsAtMs = -Infinity
  #isCacheDistrusted = false
  #isClosed = false

  private constructor(ports: LogPorts, options: DataDirectoryOptions, found: Found) {
    const { time, disk } = ports
    this.#ports = ports
    this.#options = options
    this.path = options.path
    this.clusterId = found.meta.clusterId
    this.nodeId = found.meta.nodeId
    this.directoryId = found.meta.directoryId
    this.isNew = found.isNew
    this.cleanShutdown = found.cleanShutdown
    this.sameBoot = found.sameBoot
    this.failedBefore = found.failedBefore
    this.#lock = found.lock
    this.#marks = found.marks
    this.#loaded = found.checkpoint
    this.#cleanOffsets = new Map(found.cleanOffsets)
    this.#unrecovered = found.unrecovered
    this.#openings = new BoundedWork(options.recoveriesMax ?? DEFAULTS.recoveriesMax)
    const removals = new DelayedRemovals(time, ports.log)
    const { ballast } = found
    const guard = new DiskGuard(time, disk, {
      path: options.path,
      ballast,
      log: ports.log,
      reclaim: () => removals.runAll(),
      reserveBytesMax: options.reserveBytesMax ?? DEFAULTS.reserveBytesMax,
    })
    const { syncs } = found
    this.#context = {
      ...ports,
      syncs,
      guard,
      ballast,
      removals,
      marks: found.marks,
      files: new OpenFiles(disk, { filesMax: options.openFilesMax ?? DEFAULTS.openFilesMax }),
      indexes: new IndexMemory(disk, { bytesMax: options.indexBytesMax ?? DEFAULTS.indexBytesMax }),
      cache: new BatchCache({ bytesMax: options.cacheBytesMax ?? DEFAULTS.cacheBytesMax }),
      producerIdExpirationMs: options.producerIdExpirationMs ?? DEFAULTS.producerIdExpirationMs,
      saveCheckpoint: () => ballast.during(() => this.#checkpoints.save()),
      saveCleanOffsets: () => this.#checkpoints.saveCleanOffsets(),
      refusesWrites: (appendBytes = 0) => syncs.failure ?? guard.refuses(appendBytes),
    }
    this.#checkpoints = new CheckpointWriter(disk, syncs, {
      directory: options.path,
      loaded: found.checkpoint,
      cleanNames: found.cleanOffsets.keys(),
      logs: () => this.#logs.values(),
    })
    syncs.onFailure((failure) => this.#noteFailure(failure))
  }

  /**
   * Locks, reads and checks the directory; creates it when it is new.
   * @throws StreamError DIRECTORY_LOCKED, DATA_DIRECTORY_INVALID, DISK_*, PERMISSION_DENIED
   */
  static async open(ports: LogPorts, options: DataDirectoryOptions): Promise<DataDirectory> {
    const { disk } = ports
    await makeDurably(disk, options.path)
    const lock = disk.lock(`${options.path}/.lock`)
    const ballast = findBallast(disk, options)
    try {
      return await ballast.during(async () => {
        const found = await find(ports, options, lock, ballast)
        const directory = new DataDirectory(ports, options, found)
        if (directory.#unrecovered.size === 0) await directory.#noteRecovered()
        return directory
      })
    } catch (error) {
      lock.release()
      throw error
    }
  }

  /**
   * For logs that are opened from now on: what the page cache says of indexes is believed no more than after a power cut. The
   * last run's disk has failed, though the mark of that is not here; a file system that was shut down and mounted again in the
   * same boot has lost its cache.
   */
  distrustPageCache(): void {
    this.#isCacheDistrusted = true
  }

  get failure(): StreamError | undefined {
    return this.#context.syncs.failure
  }

  /** @returns a function that removes the listener */
  onFailure(listener: (failure: StreamError) => void): () => void {
    return this.#context.syncs.onFailure(listener)
  }

  /** Why appends are refused now: DISK_FULL or DISK_FAILED. */
  refusesWrites(): StreamError | undefined {
    return this.#context.refusesWrites()
  }

  /** For what must be written even on a full disk: meanwhile the ballast makes room for it. Records are none of it. */
  withRoom<T>(work: () => Promise<T>): Promise<T> {
    return this.#context.ballast.during(work)
  }

  /** As withRoom, until the function that is returned is called. */
  lendRoom(): () => void {
    return this.#context.ballast.lend()
  }

  /** Looks at the space of the disk, and fills again what of the reserve was given up. For a timer. */
  keepReserve(): void {
    if (this.#isClosed || this.failure !== undefined) return
    this.#context.ballast.restore()
    this.#context.guard.refuses()
  }

  /** The directories of partitions, in order of their names; not those of deleted and stray ones. */
  partitionsOnDisk(): readonly PartitionOnDisk[] {
    const { disk } = this.#ports
    const found: PartitionOnDisk[] = []
    for (const name of disk.list(this.path)) {
      const parsed = parsePartitionDirectory(name)
      const path = `${this.path}/${name}`
      if (parsed === undefined || disk.stat(path)?.isDirectory !== true) continue
      const bytes = disk.readFile(`${path}/partition.metadata`)
      const topicId = bytes && parsePartitionMetadata(bytes)
      const metadata =
        bytes === undefined ? 'missing' : topicId === undefined ? 'unreadable' : 'valid'
      const since = bytes === undefined ? 0 : parsePartitionSince(bytes)
      found.push({ ...parsed, topicId, since, path, metadata })
    }
    return found
  }

  /** As PartitionOnDisk says it; undefined: there is no log of this partition. */
  sinceOf(id: PartitionId): number | undefined {
    const path = `${this.path}/${id.topic}-${id.partition}/partition.metadata`
    const bytes = this.#ports.disk.readFile(path)
    if (bytes === undefined || parsePartitionMetadata(bytes) !== id.topicId) return undefined
    return parsePartitionSince(bytes)
  }

  /** Whose log lies there, open or not; undefined: there is none, or it does not say. */
  topicIdAt(topic: string, partition: number): string | undefined {
    const path = `${this.path}/${topic}-${partition}/partition.metadata`
    const bytes = this.#ports.disk.readFile(path)
    return bytes && parsePartitionMetadata(bytes)
  }

  /** Of the logs that are open. */
  logs(): Iterable<PartitionLog> {
    return this.#logs.values()
  }

  log(topic: string, partition: number): PartitionLog | undefined {
    return this.#logs.get(`${topic}-${partition}`)
  }

  /**
   * Makes an empty log, or opens the one that is there already with this topic id. Durable when it resolves.
   * @throws StreamError DATA_DIRECTORY_INVALID when another topic's log has the name; DISK_*, CLOSED
   */
  createPartitionLog(options: PartitionOptions): Promise<PartitionLog> {
    return this.#once(options, () => this.#create(options))
  }

  /**
   * Opens and recovers a log (its `recovery` says what that meant). Logs open at most recoveriesMax at a time.
   * @throws StreamError FILE_NOT_FOUND; DATA_DIRECTORY_INVALID when its metadata is unreadable or names another topic;
   *   DATA_DAMAGED when an interrupted compaction cannot be ended; DISK_*, CLOSED
   */
  openPartitionLog(options: PartitionOptions): Promise<PartitionLog> {
    return this.#once(options, async () => {
      this.#checkMetadata(options)
      return await this.#recover(options)
    })
  }

  /** Closes the log if it is open and takes its directory away; the files go after file.delete.delay.ms. */
  async deletePartitionLog(id: PartitionId): Promise<void> {
    const { disk } = this.#ports
    const delayMs = this.#logs.get(`${id.topic}-${id.partition}`)?.config.fileDeleteDelayMs ?? 0
    const removed = await this.#takeAway(id, '-delete')
    if (removed === undefined) return
    this.#context.removals.add(this, delayMs, removed, () => disk.removeTree(removed))
  }

  /**
   * Closes the log if it is open and renames its directory: this broker holds the partition no more. It is never opened
   * again; a replica that returns starts empty (replication.md sections 5.7, 11).
   * @returns where it is now; undefined: there was none
   */
  setAside(id: PartitionId): Promise<string | undefined> {
    return this.#takeAway(id, '-stray')
  }

  /** What was set aside, now or by an earlier run. */
  strays(): readonly StrayOnDisk[] {
    const { disk } = this.#ports
    const found: StrayOnDisk[] = []
    for (const name of disk.list(this.path)) {
      if (!isStrayDirectory(name)) continue
      const bytes = disk.readFile(`${this.path}/${name}/partition.metadata`)
      const partition = parsePartitionDirectory(name.slice(0, name.lastIndexOf('.')))?.partition
      found.push({ name, topicId: bytes && parsePartitionMetadata(bytes), partition })
    }
    return found
  }

  /** @param name  of one of strays() */
  removeStray(name: string): void {
    this.#assertOpen()
    assert(isStrayDirectory(name), 'only what was set aside is removed')
    this.#ports.disk.removeTree(`${this.path}/${name}`)
  }

  /** @returns where the directory is now; undefined: there was none */
  async #takeAway(id: PartitionId, ending: '-delete' | '-stray'): Promise<string | undefined> {
    this.#assertOpen()
    const { disk, random } = this.#ports
    const name = `${id.topic}-${id.partition}`
    const path = `${this.path}/${name}`
    const log = this.#logs.get(name)
    await log?.close({ clean: false })
    this.#logs.delete(name)
    let removed: string | undefined
    if (disk.stat(path) !== undefined) {
      this.#checkMetadata(id)
      const suffix = `.${hex(random.bytes(16))}${ending}`
      removed = `${this.path}/${name.slice(0, 255 - suffix.length)}${suffix}`
      disk.rename(path, removed)
      await this.#context.syncs.syncDirectory(this.path)
    }
    // Only now may another partition have its slot: the directory cannot come back any more.
    if (log !== undefined) this.#marks.release(log.core.mark)
    else this.#marks.release(this.#marks.slot(id.topicId, id.partition))
    this.#checkpoints.forget(id)
    await this.#noteOpened(name)
    return removed
  }

  /** Removes what a creation left half-made. @throws StreamError DATA_DIRECTORY_INVALID when it holds records */
  async removePartial(topic: string, partition: number): Promise<void> {
    this.#assertOpen()
    const { disk } = this.#ports
    const name = `${topic}-${partition}`
    const path = `${this.path}/${name}`
    assert(!this.#logs.has(name), 'an open log is deleted, not removed')
    const files = disk.list(path)
    const holdsRecords = files.some(
      (file) => file.endsWith('.log') && (disk.stat(`${path}/${file}`)?.sizeBytes ?? 0) > 0,
    )
    if (files.includes('partition.metadata') || holdsRecords) {
      throw new StreamError('DATA_DIRECTORY_INVALID', `${path}: holds data, it is not half-made`, {
        target: path,
      })
    }
    disk.removeTree(path)
    await this.#context.syncs.syncDirectory(this.path)
    await this.#noteOpened(name)
  }

  /**
   * Log start offsets and high watermarks, on the medium when it resolves. Recovery points rise with it at most every
   * RECOVERY_POINT_MS, since that means to sync the indexes of every log that was written to.
   * @param options.recoveryPoints  true: now
   * @throws StreamError DISK_*, CLOSED
   */
  async writeCheckpoint(options: { readonly recoveryPoints?: boolean } = {}): Promise<void> {
    this.#assertOpen()
    const nowMs = this.#ports.time.monotonicMs()
    if (options.recoveryPoints ?? nowMs - this.#recoveryPointsAtMs >= RECOVERY_POINT_MS) {
      this.#recoveryPointsAtMs = nowMs
      const work = new BoundedWork(this.#options.syncsMax ?? DEFAULTS.syncsMax)
      await Promise.all(
        [...this.#logs.values()].map((log) => work.run(() => log.prepareCheckpoint())),
      )
    }
    await this.#checkpoints.save()
    await this.#checkpoints.saveTexts()
  }

  /**
   * Ends all logs. Cleanly: everything is durable, and the next start scans nothing.
   * @throws StreamError DISK_* when the clean end was not reached; everything is closed all the same
   */
  async close(options: { readonly clean: boolean; readonly dataEpoch?: number }): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    const { disk } = this.#ports
    const { syncs } = this.#context
    const clean = options.clean && syncs.failure === undefined
    const giveBack = this.lendRoom()
    try {
      await Promise.allSettled([...this.#opening.values()])
      this.#context.removals.cancel(this)
      // Few at a time: each has files open while it ends.
      const work = new BoundedWork(CLOSINGS_MAX)
      const ends = [...this.#logs.values()].map((log) => work.run(() => log.close({ clean })))
      const failed = (await Promise.allSettled(ends)).find((end) => end.status === 'rejected')
      if (failed !== undefined) throw failed.reason
      if (!clean) return
      await this.#checkpoints.save()
      await this.#checkpoints.saveTexts()
      await this.#marks.close()
      const marker = { dataEpoch: options.dataEpoch ?? -1, bootId: this.#options.bootId }
      await replaceFile(disk, syncs, `${this.path}/${CLEAN_NAME}`, encodeCleanShutdown(marker))
    } finally {
      await this.#marks.abandon()
      giveBack()
      if (clean) this.#context.ballast.restore()
      this.#lock.release()
    }
  }

  // --- opening

  #once(id: PartitionId, work: () => Promise<PartitionLog>): Promise<PartitionLog> {
    const name = `${id.topic}-${id.partition}`
    const open = this.#logs.get(name)
    if (open !== undefined) {
      if (open.topicId === id.topicId) return Promise.resolve(open)
      return Promise.reject(this.#foreign(name, open.topicId))
    }
    const pending = this.#opening.get(name)
    if (pending !== undefined) return pending
    const opening = this.#openings
      .run(async () => {
        this.#assertOpen()
        const log = await this.withRoom(work)
        this.#logs.set(name, log)
        await this.#noteOpened(name)
        return log
      })
      .finally(() => this.#opening.delete(name))
    this.#opening.set(name, opening)
    return opening
  }

  async #create(options: PartitionOptions): Promise<PartitionLog> {
    const { disk } = this.#ports
    const { syncs } = this.#context
    assert(isTopicId(options.topicId), 'a topic id is 22 characters of base64url')
    const name = `${options.topic}-${options.partition}`
    const path = `${this.path}/${name}`
    if (disk.stat(`${path}/partition.metadata`) !== undefined) {
      this.#checkMetadata(options)
      return await this.#recover(options)
    }
    const refusal = this.#context.refusesWrites()
    if (refusal !== undefined) throw refusal
    if (disk.stat(path) !== undefined) await this.removePartial(options.topic, options.partition)
    disk.makeDirectory(path)
    disk.open(`${path}/${segmentName(0)}.log`, 'write').close()
    const slot = this.#marks.slot(options.topicId, options.partition)
    await this.#marks.lower(slot, 0, 0)
    // What was said of an earlier partition of this name is not true of this one.
    this.#cleanOffsets.delete(name)
    if (this.#checkpoints.saysClean(name)) await this.#checkpoints.saveCleanOffsets()
    // Last, since it is what makes the directory a partition.
    const metadata = encodePartitionMetadata(options.topicId, options.since)
    await replaceFile(disk, syncs, `${path}/partition.metadata`, metadata)
    await syncs.syncDirectory(this.path)
    const core = new LogCore(this.#context, { ...options, directory: path }, options.config, slot)
    const facts: RecoveryFacts = {
      clean: true,
      sameBoot: true,
      failedBefore: false,
      mark: { durableOffset: 0, denseEndOffset: 0 },
      checkpoint: undefined,
      cleanOffset: 0,
    }
    return new PartitionLog(core, await recoverLog(core, facts))
  }

  async #recover(options: PartitionOptions): Promise<PartitionLog> {
    const { topic, topicId, partition } = options
    const path = `${this.path}/${topic}-${partition}`
    const mark = this.#marks.find(topicId, partition)
    const slot = this.#marks.slot(topicId, partition)
    const core = new LogCore(this.#context, { ...options, directory: path }, options.config, slot)
    const cleanOffset = this.#cleanOffsets.get(`${topic}-${partition}`) ?? 0
    const failedBefore = this.failedBefore || this.#isCacheDistrusted
    const report = await recoverLog(core, {
      clean: this.cleanShutdown !== undefined && !failedBefore,
      sameBoot: this.sameBoot,
      failedBefore,
      mark,
      checkpoint: this.#loaded.find(topicId, topic, partition),
      cleanOffset,
    })
    // It lost what it had been compacted to: what is written there next is not.
    if (core.cleanOffset < cleanOffset) await this.#checkpoints.saveCleanOffsets()
    return new PartitionLog(core, report)
  }

  /** @throws StreamError FILE_NOT_FOUND, DATA_DIRECTORY_INVALID */
  #checkMetadata(id: PartitionId): void {
    const name = `${id.topic}-${id.partition}`
    const path = `${this.path}/${name}`
    const bytes = this.#ports.disk.readFile(`${path}/partition.metadata`)
    if (bytes === undefined) {
      throw new StreamError('FILE_NOT_FOUND', `${path}: no such partition`, { target: path })
    }
    const topicId = parsePartitionMetadata(bytes)
    if (topicId === undefined) {
      throw new StreamError('DATA_DIRECTORY_INVALID', `${path}/partition.metadata: unreadable`, {
        target: `${path}/partition.metadata`,
        hint: `it must read "version: 0" and "topic_id: ${id.topicId}"`,
      })
    }
    if (topicId !== id.topicId) throw this.#foreign(name, topicId)
  }

  #foreign(name: string, topicId: string): StreamError {
    const path = `${this.path}/${name}`
    return new StreamError(
      'DATA_DIRECTORY_INVALID',
      `${path}: belongs to the topic id ${topicId}`,
      {
        target: path,
      },
    )
  }

  async #noteOpened(name: string): Promise<void> {
    if (this.#unrecovered.delete(name) && this.#unrecovered.size === 0) await this.#noteRecovered()
  }

  /** From now on a crash in this boot is the death of a process. */
  async #noteRecovered(): Promise<void> {
    const { disk } = this.#ports
    const boot = { bootId: this.#options.bootId ?? '', recovered: true }
    await this.#marks.sync()
    await this.withRoom(() => writeBoot(disk, this.#context.syncs, this.path, boot))
    if (this.failedBefore) {
      disk.unlink(`${this.path}/${FAILED_NAME}`)
      await this.#context.syncs.syncDirectory(this.path)
    }
  }

  #noteFailure(failure: StreamError): void {
    this.#ports.log.error('the data directory has failed: appends are refused until a restart', {
      directory: this.path,
      error: failure.message,
    })
    try {
      // For the next start. Not synced: nothing is, from here on.
      overwriteFile(this.#ports.disk, `${this.path}/${FAILED_NAME}`, new Uint8Array(0))
    } catch {
      // Then the start judges by the marks alone.
    }
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new StreamError('CLOSED', `${this.path} is closed`)
  }
}

/** What an open found and made. */
interface Found {
  readonly lock: DiskLock
  readonly ballast: Ballast
  readonly syncs: SyncScheduler
  readonly marks: DurableMarks
  readonly meta: DirectoryMeta
  readonly isNew: boolean
  readonly cleanShutdown: CleanShutdown | undefined
  readonly sameBoot: boolean | undefined
  readonly failedBefore: boolean
  readonly checkpoint: LoadedCheckpoint
  readonly cleanOffsets: ReadonlyMap<string, number>
  readonly unrecovered: Set<string>
}

/**
 * Creates the directory and those above it that are missing, and makes their names durable: whoever needs it first must do it so.
 * @returns whether it was missing
 */
export async function makeDurably(disk: Disk, path: string): Promise<boolean> {
  const missing: string[] = []
  for (let each = path; disk.stat(each) === undefined; each = directoryOf(each)) missing.push(each)
  if (missing.length === 0) return false
  disk.makeDirectory(path, 0o700)
  for (const each of missing) await disk.syncDirectory(directoryOf(each))
  return true
}

async function find(
  ports: LogPorts,
  options: DataDirectoryOptions,
  lock: DiskLock,
  ballast: Ballast,
): Promise<Found> {
  const { time, disk, log } = ports
  const { path, bootId } = options
  const syncs = new SyncScheduler(disk, { syncsMax: options.syncsMax ?? DEFAULTS.syncsMax })
  const { meta, isNew } = await findMeta(ports, syncs, options)
  const cleanShutdown = await takeCleanMarker(ports, syncs, path)
  const failedBefore = disk.stat(`${path}/${FAILED_NAME}`) !== undefined
  const boot = parseBoot(disk.readFile(`${path}/${BOOT_NAME}`) ?? new Uint8Array(0))
  const isKnown = bootId !== undefined && boot !== undefined && boot.bootId !== ''
  const sameBoot = isKnown ? boot.bootId === bootId && boot.recovered : undefined
  // First, since it makes room.
  for (const name of disk.list(path)) {
    const whole = `${path}/${name}`
    if (isDeletedDirectory(name)) removeOrTell(log, whole, () => disk.removeTree(whole))
    else if (name.endsWith('.tmp')) disk.unlink(whole)
  }
  const unrecovered = new Set(
    disk.list(path).filter((name) => parsePartitionDirectory(name) !== undefined),
  )
  if (unrecovered.size > 0) {
    // After a clean end all logs were whole: they need no second judgement in this boot.
    const recovered = sameBoot === true || cleanShutdown !== undefined
    await writeBoot(disk, syncs, path, { bootId: bootId ?? '', recovered })
  }
  const checkpoint = loadCheckpoint(disk, path)
  if (!checkpoint.known) {
    log.warn('both checkpoints are unreadable: logs are scanned as a whole', { directory: path })
  }
  return {
    lock,
    ballast,
    syncs,
    marks: await DurableMarks.open(time, disk, syncs, path),
    meta,
    isNew,
    cleanShutdown,
    sameBoot,
    failedBefore,
    checkpoint,
    cleanOffsets: readCleanOffsets(ports, path),
    unrecovered,
  }
}

function findBallast(disk: Disk, options: DataDirectoryOptions): Ballast {
  const { path, hasBallast = false, reserveBytesMax = DEFAULTS.reserveBytesMax } = options
  return new Ballast(disk, {
    directory: path,
    bytesWanted: hasBallast ? ballastOf(disk.space(path), reserveBytesMax) : 0,
  })
}

/**
 * Where there is no room for a copy it is written over the old record: torn, its checksum makes it unknown, and the start after
 * that judges as after a power cut.
 */
async function writeBoot(
  disk: Disk,
  syncs: SyncScheduler,
  directory: string,
  boot: BootRecord,
): Promise<void> {
  const path = `${directory}/${BOOT_NAME}`
  const content = encodeBoot(boot)
  try {
    await replaceFile(disk, syncs, path, content)
  } catch (error) {
    const oldBytes = disk.stat(path)?.sizeBytes ?? 0
    if (!isStreamError(error, 'DISK_FULL') || oldBytes === 0) throw error
    disk.unlink(`${path}.tmp`)
    await syncs.syncOpened(path, {
      open: () => {
        const file = disk.open(path, 'write')
        file.write(0, [content])
        file.truncate(content.length)
        return file
      },
      sync: (file) => file.sync(),
      close: (file) => file.close(),
    })
  }
}

async function findMeta(
  ports: LogPorts,
  syncs: SyncScheduler,
  options: DataDirectoryOptions,
): Promise<{ readonly meta: DirectoryMeta; readonly isNew: boolean }> {
  const { disk, random } = ports
  const path = `${options.path}/${META_NAME}`
  const bytes = disk.readFile(path)
  if (bytes !== undefined) {
    const meta = parseMeta(path, bytes)
    refuseOther(path, 'cluster.id', meta.clusterId, options.clusterId)
    refuseOther(path, 'node.id', meta.nodeId, options.nodeId)
    return { meta, isNew: false }
  }
  if (holdsData(disk, options.path)) {
    throw new StreamError('DATA_DIRECTORY_INVALID', `${path} is missing, but there are data`, {
      target: path,
      hint: 'restore it from a backup: it says to which cluster these data belong',
    })
  }
  const meta = {
    clusterId: options.clusterId ?? randomId(random),
    nodeId: options.nodeId ?? 0,
    directoryId: randomId(random),
  }
  await replaceFile(disk, syncs, path, encodeMeta(meta))
  return { meta, isNew: true }
}

function refuseOther<T>(path: string, name: string, found: T, wanted: T | undefined): void {
  if (wanted === undefined || wanted === found) return
  throw new StreamError('DATA_DIRECTORY_INVALID', `${path}: ${name} is ${found}, not ${wanted}`, {
    target: path,
    hint: 'this directory belongs to another daemon or cluster',
  })
}

/** Reads the clean marker and removes it, durably. */
async function takeCleanMarker(
  ports: LogPorts,
  syncs: SyncScheduler,
  directory: string,
): Promise<CleanShutdown | undefined> {
  const { disk, log } = ports
  const path = `${directory}/${CLEAN_NAME}`
  const bytes = disk.readFile(path)
  if (bytes === undefined) return undefined
  const clean = parseCleanShutdown(bytes)
  if (clean === undefined)
    log.warn('the clean-shutdown marker is damaged; logs are scanned', { path })
  disk.unlink(path)
  await syncs.syncDirectory(directory)
  return clean
}

function readCleanOffsets(ports: LogPorts, directory: string): ReadonlyMap<string, number> {
  const bytes = ports.disk.readFile(`${directory}/cleaner-offset-checkpoint`)
  const entries = (bytes && parseOffsetFile(new TextDecoder().decode(bytes))) ?? []
  return new Map(entries.map((entry) => [`${entry.topic}-${entry.partition}`, entry.offset]))
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
