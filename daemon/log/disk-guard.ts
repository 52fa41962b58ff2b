/**
 * Refuses appends before the disk is full (reliability.md D1): a reserve stays free for checkpoints, indexes, deletion
 * and the metadata store. Reads go on. Before it refuses, what is deleted already and waits to be removed goes at once. It
 * opens again by itself when space returns. The ballast is a part of the reserve that nobody else can use up.
 */
import { StreamError } from '../../src/base/errors.ts'
import type { Disk, DiskSpace } from '../../src/ports/disk.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time } from '../../src/ports/time.ts'
import type { Ballast } from './ballast.ts'

const RESERVE_SHARE = 0.05
/** Of the reserve at most so much is ballast, and at most half of it. */
const BALLAST_BYTES_MAX = 4 * 1024 * 1024
/** Appends between two looks at the file system; fewer where the reserve is near. */
const LOOK_BYTES = 16 * 1024 * 1024
const LOOK_MS = 1000
/** Opens again only with so much more than the reserve free, so that it does not flap. */
const REOPEN_FACTOR = 1.05

export class DiskGuard {
  readonly #time: Time
  readonly #disk: Disk
  readonly #path: string
  readonly #reserveBytesMax: number
  readonly #reclaim: () => boolean
  readonly #ballast: Ballast
  readonly #log: Log
  #isToldFull = false
  #bytesSinceLook = 0
  #bytesToLook = 0
  #lookedAtMs = -Infinity
  #refusal: StreamError | undefined

  constructor(
    time: Time,
    disk: Disk,
    options: {
      readonly path: string
      readonly reserveBytesMax: number
      /** Frees what can be freed. @returns whether there was anything */
      readonly reclaim: () => boolean
      readonly ballast: Ballast
      readonly log: Log
    },
  ) {
    this.#time = time
    this.#disk = disk
    this.#path = options.path
    this.#reserveBytesMax = options.reserveBytesMax
    this.#reclaim = options.reclaim
    this.#ballast = options.ballast
    this.#log = options.log
  }

  /** Why `appendBytes` more must not be written now. */
  refuses(appendBytes = 0): StreamError | undefined {
    this.#bytesSinceLook += appendBytes
    const nowMs = this.#time.monotonicMs()
    if (this.#bytesSinceLook >= this.#bytesToLook || nowMs - this.#lookedAtMs >= LOOK_MS)
      this.#look(nowMs)
    this.#tell()
    return this.#refusal
  }

  /** A write found no space, whatever the file system says of itself: refuse until the next look. */
  noteFull(error: StreamError): void {
    this.#refusal = error
    this.#lookedAtMs = this.#reclaim() ? -Infinity : this.#time.monotonicMs()
    this.#bytesSinceLook = 0
  }

  #look(nowMs: number): void {
    this.#lookedAtMs = nowMs
    this.#bytesSinceLook = 0
    let space = this.#disk.space(this.#path)
    const wholeBytes = reserveOf(space, this.#reserveBytesMax)
    const reserveBytes = wholeBytes - this.#ballast.bytes
    const reopenBytes = Math.ceil(wholeBytes * REOPEN_FACTOR) - this.#ballast.bytes
    const needed = this.#refusal === undefined ? reserveBytes : reopenBytes
    if (space.freeBytes < needed && this.#reclaim()) space = this.#disk.space(this.#path)
    this.#refusal = space.freeBytes >= needed ? undefined : this.#full(space, needed)
    this.#bytesToLook = Math.min(LOOK_BYTES, Math.max(0, space.freeBytes - reserveBytes) / 2)
  }

  #tell(): void {
    const refusal = this.#refusal
    if ((refusal !== undefined) === this.#isToldFull) return
    this.#isToldFull = refusal !== undefined
    if (refusal === undefined)
      this.#log.info('there is room again: writes are taken', { directory: this.#path })
    else
      this.#log.warn('the disk is full: writes are refused, reads go on', {
        directory: this.#path,
        error: refusal.message,
      })
  }

  /**
   * The ballast counts as free in what is told, too: it comes and goes, and whoever tells of a new reason alone would tell of each.
   * @param needed  what has to be free beside the ballast for writes to be taken
   */
  #full(space: DiskSpace, needed: number): StreamError {
    const ballastBytes = this.#ballast.bytes
    const freeBytes = space.freeBytes + ballastBytes
    return new StreamError(
      'DISK_FULL',
      `${this.#path}: ${freeBytes} bytes free, ${Math.ceil(needed + ballastBytes)} are kept in reserve`,
      { target: this.#path, hint: 'free space, or lower retention.bytes of a topic' },
    )
  }
}

function reserveOf(space: DiskSpace, reserveBytesMax: number): number {
  return Math.min(reserveBytesMax, Math.floor(space.totalBytes * RESERVE_SHARE))
}

/** How much of the reserve the ballast is to hold. */
export function ballastOf(space: DiskSpace, reserveBytesMax: number): number {
  return Math.min(BALLAST_BYTES_MAX, Math.floor(reserveOf(space, reserveBytesMax) / 2))
}
