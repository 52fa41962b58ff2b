/**
 * Makes a log durable (replication.md section 7.1): group commit by one fdatasync at a time per log. What is appended
 * while it runs is covered by the next one, which starts when it ends.
 *
 * Invariants:
 * - `durableOffset` is a prefix: it passes a segment's end only when that segment and its name are on the medium.
 * - A sync that began before a truncation does not raise it.
 * - After a failed sync it never rises again.
 */
import { StreamError } from '../../src/base/errors.ts'
import type { Timer } from '../../src/ports/time.ts'
import type { EpochFile } from './epoch-file.ts'
import type { LogCore } from './log-core.ts'
import type { Segment } from './segment.ts'

interface FlushWaiter {
  readonly offset: number
  readonly resolve: () => void
  readonly reject: (error: StreamError) => void
}

export class LogFlusher {
  readonly #core: LogCore
  readonly #epochFile: EpochFile
  readonly #listeners = new Set<(durableOffset: number) => void>()
  #waiters: FlushWaiter[] = []
  #running: Promise<void> | undefined
  #timer: Timer | undefined
  #recordsUnsynced = 0

  constructor(core: LogCore, epochFile: EpochFile) {
    this.#core = core
    this.#epochFile = epochFile
  }

  onDurable(listener: (durableOffset: number) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  afterAppend(records: number): void {
    const { flushMessages, flushMs } = this.#core.config
    this.#recordsUnsynced += records
    if (this.#recordsUnsynced >= flushMessages) {
      this.#start()
    } else if (this.#timer === undefined && this.#running === undefined && flushMs !== Infinity) {
      this.#timer = this.#core.context.time.setTimer(flushMs, () => {
        this.#timer = undefined
        this.#start()
      })
    }
  }

  /** Syncs what is not durable yet whatever the config says: after a change of it, and where a timer is missing. */
  startIfDirty(): void {
    if (this.#isDirty) this.#start()
  }

  /** Resolves when everything appended so far is durable. @throws StreamError DISK_FAILED, CLOSED */
  flush(): Promise<void> {
    const core = this.#core
    const failure = core.context.syncs.failure
    if (failure !== undefined) return Promise.reject(failure)
    if (!this.#isDirty) return Promise.resolve()
    const promise = new Promise<void>((resolve, reject) => {
      this.#waiters.push({ offset: core.logEndOffset, resolve, reject })
    })
    this.#start()
    return promise
  }

  /** Waits for the sync under way and starts no further one by itself; for truncation and close. */
  async quiesce(): Promise<void> {
    this.#timer?.cancel()
    this.#timer = undefined
    while (this.#running !== undefined) await this.#running
  }

  /** After a truncation: what was waited for may be gone, what is left may be durable already. */
  resume(): void {
    this.#settleWaiters()
    if (this.#isDirty) this.#start()
  }

  /** Nothing more becomes durable. */
  fail(error: StreamError): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
  }

  close(): void {
    this.fail(new StreamError('CLOSED', `${this.#core.directory} is closed`))
    this.#listeners.clear()
  }

  get #isDirty(): boolean {
    return this.#core.durableOffset < this.#core.logEndOffset || this.#core.directoryDirty
  }

  #start(): void {
    if (this.#running !== undefined || this.#core.state !== 'open') return
    if (this.#core.context.syncs.failure !== undefined) return
    this.#timer?.cancel()
    this.#timer = undefined
    this.#running = this.#run()
  }

  async #run(): Promise<void> {
    const core = this.#core
    try {
      do {
        await this.#syncOnce()
      } while (core.state === 'open' && this.#isDirty && this.#wantsAnother)
    } catch (error) {
      // SyncScheduler has told everybody about the failed directory.
      this.fail(error as StreamError)
    } finally {
      this.#running = undefined
    }
    // With flush.messages > 1 the rest waits for its number or its time.
    if (core.state === 'open' && this.#isDirty && core.context.syncs.failure === undefined) {
      this.afterAppend(0)
    }
  }

  get #wantsAnother(): boolean {
    return (
      this.#waiters.length > 0 ||
      (this.#recordsUnsynced > 0 && this.#recordsUnsynced >= this.#core.config.flushMessages)
    )
  }

  async #syncOnce(): Promise<void> {
    const core = this.#core
    const generation = core.generation
    const target = core.logEndOffset
    this.#recordsUnsynced = 0
    await this.#syncSegments(generation)
    if (core.directoryDirty) {
      core.directoryDirty = false
      await core.context.syncs.syncDirectory(core.directory)
    }
    // Recovery takes epochs from the batches above the durable mark only.
    if (core.epochsNeedSaving && core.state === 'open') await this.#epochFile.save()
    if (core.generation !== generation) return
    if (target > core.durableOffset) {
      core.durableOffset = target
      core.context.marks.raise(core.mark, target, core.markedDenseEnd)
      for (const listener of this.#listeners) listener(target)
    }
    this.#settleWaiters()
  }

  async #syncSegments(generation: number): Promise<void> {
    // The ones there are now: what is rolled to while this waits lies at or beyond the target.
    for (const segment of this.#core.segments.slice()) {
      if (segment.isDirty && !segment.detached) await this.#syncSegment(segment, generation)
    }
  }

  async #syncSegment(segment: Segment, generation: number): Promise<void> {
    const core = this.#core
    const { files, syncs } = core.context
    const sizeBytes = segment.sizeBytes
    const { handle } = segment
    await syncs.syncOpened(handle.path, {
      open: () => (handle.retired ? undefined : files.pin(handle)),
      sync: (file) => file.dataSync(),
      close: () => files.unpin(handle),
    })
    if (core.generation === generation) segment.syncedBytes = sizeBytes
  }

  #settleWaiters(): void {
    if (this.#waiters.length === 0) return
    const { durableOffset, logEndOffset } = this.#core
    const left: FlushWaiter[] = []
    for (const waiter of this.#waiters) {
      if (Math.min(waiter.offset, logEndOffset) <= durableOffset) waiter.resolve()
      else left.push(waiter)
    }
    this.#waiters = left
  }
}
