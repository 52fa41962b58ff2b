/**
 * Owns every fsync and fdatasync of one data directory, and what a failed one means.
 *
 * Invariants:
 * - At most `syncsMax` run at one time; the others wait in order.
 * - After the first failure the directory is FAILED for good: nothing is synced again, since a kernel marks pages clean
 *   after a failed sync and a later success would say nothing ("Can Applications Recover from fsync Failures?",
 *   USENIX ATC 2020). Everyone who waits is told.
 */
import { StreamError } from '../../src/base/errors.ts'
import type { Disk, DiskFile } from '../../src/ports/disk.ts'

export interface OpenedSync {
  /** May write to it too. undefined: it has gone by now, and there is nothing to sync. */
  open(): DiskFile | undefined
  sync(file: DiskFile): Promise<void>
  close(file: DiskFile): void
}

interface Waiting {
  readonly run: () => Promise<void>
  readonly resolve: () => void
  readonly reject: (error: StreamError) => void
}

export class SyncScheduler {
  readonly #disk: Disk
  readonly #syncsMax: number
  readonly #waiting: Waiting[] = []
  readonly #directorySyncs = new Map<string, Promise<void>>()
  readonly #listeners = new Set<(failure: StreamError) => void>()
  #running = 0
  #failure: StreamError | undefined

  constructor(disk: Disk, options: { readonly syncsMax: number }) {
    this.#disk = disk
    this.#syncsMax = options.syncsMax
  }

  get failure(): StreamError | undefined {
    return this.#failure
  }

  onFailure(listener: (failure: StreamError) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** @throws StreamError DISK_FAILED */
  dataSync(file: DiskFile): Promise<void> {
    return this.#enqueue(() => file.dataSync(), file.path)
  }

  /**
   * Of a file that is open only while its turn lasts: as many logs may wait as there are, and not all of them can have a
   * descriptor.
   * @throws StreamError DISK_FAILED; whatever `open` throws, and then nothing has failed but this call
   */
  async syncOpened(path: string, steps: OpenedSync): Promise<void> {
    let unopened: { readonly error: unknown } | undefined
    await this.#enqueue(async () => {
      let file: DiskFile | undefined
      try {
        file = steps.open()
      } catch (error) {
        unopened = { error }
      }
      if (file === undefined) return
      try {
        await steps.sync(file)
      } finally {
        steps.close(file)
      }
    }, path)
    if (unopened !== undefined) throw unopened.error
  }

  /** @throws StreamError DISK_FAILED */
  sync(file: DiskFile): Promise<void> {
    return this.#enqueue(() => file.sync(), file.path)
  }

  /** Callers that come while one for the same directory still waits share it. @throws StreamError DISK_FAILED */
  syncDirectory(path: string): Promise<void> {
    const pending = this.#directorySyncs.get(path)
    if (pending !== undefined) return pending
    let started = false
    const promise = this.#enqueue(() => {
      started = true
      this.#directorySyncs.delete(path)
      return this.#disk.syncDirectory(path)
    }, path)
    if (!started && this.#failure === undefined) {
      this.#directorySyncs.set(path, promise)
      promise.catch(() => this.#directorySyncs.delete(path))
    }
    return promise
  }

  /** Declares the directory failed, for errors other than of a sync after which its state is unknown. */
  fail(cause: unknown, target: string): StreamError {
    if (this.#failure !== undefined) return this.#failure
    const message = cause instanceof Error ? cause.message : String(cause)
    const failure = new StreamError('DISK_FAILED', `${target}: ${message}`, { target, cause })
    this.#failure = failure
    for (const waiting of this.#waiting.splice(0)) waiting.reject(failure)
    for (const listener of [...this.#listeners]) listener(failure)
    return failure
  }

  #enqueue(run: () => Promise<void>, target: string): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#running < this.#syncsMax) return this.#start(run, target)
    return new Promise((resolve, reject) => {
      this.#waiting.push({
        run: () => this.#start(run, target).then(resolve, reject),
        resolve,
        reject,
      })
    })
  }

  #start(run: () => Promise<void>, target: string): Promise<void> {
    this.#running++
    let started: Promise<void>
    try {
      started = run()
    } catch (error) {
      started = Promise.reject(error)
    }
    return started.then(
      () => this.#ended(),
      (error: unknown) => {
        this.#running--
        throw this.fail(error, target)
      },
    )
  }

  #ended(): void {
    this.#running--
    // A sync that ends after another one failed proves nothing about the directory as a whole.
    if (this.#failure !== undefined) throw this.#failure
    void this.#waiting.shift()?.run()
  }
}
