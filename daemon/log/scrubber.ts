/**
 * Reads all logs of a data directory slowly, again and again, so that damage is found while other copies are whole
 * (replication.md section 7.3). What is found is quarantined and said as what a reader finds (log-scrub.ts); where there
 * are other replicas, daemon/replica/repairer.ts sees it there and fetches it from them.
 *
 *  1. a pass begins an interval after the one before began: logs in order of their names, segment by segment
 *  2. a turn reads one piece of one log, then pauses: as the rate asks for, nine times as long as the read took, and
 *     longer while the loop is late, so that whoever waits for disk or processor goes first
 *  3. the place is written down now and then, unsynced, so that restarts do not begin the pass anew
 *  4. what was sound goes to the comparer, where there are other replicas (daemon/replica/comparer.ts); while that has
 *     enough to do nothing is read, so that the pace of the scrubber is what comparing costs everybody
 *
 * The kernel may answer from its cache: what it read or wrote lately is not looked at on the medium, old data are.
 */
import { isStreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { Log } from '../../src/ports/log.ts'
import type { Time, Timer } from '../../src/ports/time.ts'
import { encodeScrub, parseScrub, SCRUB_NAME, type ScrubRecord } from './directory-files.ts'
import { overwriteFile } from './file-writes.ts'
import type { LogScrub } from './log-scrub.ts'
import type { PartitionLog } from './partition-log.ts'
import type { SoundRange } from './range-hash.ts'

/** After a start there is other work; a pass goes on, or the first one begins, only then. */
const START_PAUSE_MS = 300_000
/** While nothing is due, settings and clock are looked at again. */
const LOOK_MS = 60_000
const SAVE_MS = 60_000
/** Between two passes at least, however short the interval. */
const PASS_PAUSE_MS = 1000
/** While ranges wait to be compared. */
const COMPARER_PAUSE_MS = 50

/** Before every name. */
const BEGINNING = { name: '!', offset: 0 }

export interface ScrubSettings {
  /** From the beginning of a pass to that of the next one; below 0: none is begun. */
  readonly intervalMs: number
  readonly bytesPerSecondMax: number
}

export interface ScrubStatus {
  /** Wall time at which the last whole pass ended; undefined: there was none. */
  readonly endedMs: number | undefined
  /** Of the pass under way, by bytes, 0 to 100; undefined: none is. */
  readonly percent: number | undefined
}

/** Compares what was found sound with another replica. */
export interface RangeComparer {
  /** There is enough to compare for now. */
  readonly isBusy: boolean
  /** Whether ranges of this log can be compared now. */
  wants(log: PartitionLog): boolean
  take(log: PartitionLog, range: SoundRange): void
}

export interface ScrubberPorts {
  readonly time: Time
  readonly disk: Disk
  readonly log: Log
  /** The data directory: where it is, the logs that are open, whether its disk has failed. */
  readonly directory: {
    readonly path: string
    readonly failure: unknown
    logs(): Iterable<PartitionLog>
  }
  /** Asked for at every turn. */
  readonly settings: () => ScrubSettings
  /** undefined: there are no other replicas, or not yet. */
  readonly comparer?: () => RangeComparer | undefined
}

export class Scrubber {
  readonly #ports: ScrubberPorts
  readonly #pace = new ScrubPace()
  #record: ScrubRecord
  #current: { readonly name: string; readonly scrub: LogScrub } | undefined
  #savedMs: number
  #timer: Timer | undefined
  #running: Promise<void> | undefined
  #isStopped = false

  constructor(ports: ScrubberPorts) {
    this.#ports = ports
    this.#savedMs = ports.time.monotonicMs()
    const bytes = ports.disk.readFile(`${ports.directory.path}/${SCRUB_NAME}`)
    const record = bytes && parseScrub(bytes)
    this.#record = record ?? { beganMs: 0, endedMs: 0, place: undefined }
  }

  start(): void {
    const { intervalMs } = this.#ports.settings()
    this.#arm(intervalMs < 0 ? START_PAUSE_MS : Math.min(intervalMs, START_PAUSE_MS))
  }

  /** Ends what is under way, and writes its place down. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#timer?.cancel()
    await this.#running
    if (this.#record.place !== undefined) this.#save()
  }

  get status(): ScrubStatus {
    const { endedMs, place } = this.#record
    return {
      endedMs: endedMs === 0 ? undefined : endedMs,
      percent: place === undefined ? undefined : this.#percentAt(place),
    }
  }

  #arm(delayMs: number): void {
    if (this.#isStopped) return
    const { time, log } = this.#ports
    const dueMs = time.monotonicMs() + delayMs
    this.#timer = time.setTimer(delayMs, () => {
      const lateMs = time.monotonicMs() - dueMs
      const turn = this.#turn(lateMs).catch((error: unknown) => {
        log.error('scrubbing failed', { error: String(error) })
        return LOOK_MS
      })
      this.#running = turn.then((pauseMs) => {
        this.#running = undefined
        this.#arm(pauseMs)
      })
    })
  }

  /** @returns how long to pause now */
  async #turn(lateMs: number): Promise<number> {
    const { directory, settings } = this.#ports
    const { intervalMs, bytesPerSecondMax } = settings()
    if (directory.failure !== undefined || intervalMs < 0) return LOOK_MS
    if (this.#record.place === undefined) {
      const waitMs = this.#beginIfDue(intervalMs)
      if (waitMs > 0) return Math.min(waitMs, LOOK_MS)
    }
    if (this.#ports.comparer?.()?.isBusy === true) return COMPARER_PAUSE_MS
    const yieldMs = this.#pace.yieldFor(lateMs)
    if (yieldMs > 0) return yieldMs
    const beganMs = this.#ports.time.monotonicMs()
    const bytes = await this.#read()
    if (this.#record.place === undefined) return PASS_PAUSE_MS
    const readMs = this.#ports.time.monotonicMs() - beganMs
    return this.#pace.pauseAfter({ bytes, readMs, bytesPerSecondMax })
  }

  /** @returns how long until a pass is due; 0: it has begun */
  #beginIfDue(intervalMs: number): number {
    const nowMs = this.#ports.time.wallMs()
    const { beganMs } = this.#record
    // Somebody may have set the clock back meanwhile.
    const waitMs = beganMs === 0 ? 0 : Math.min(beganMs + intervalMs - nowMs, intervalMs)
    if (waitMs > 0) return waitMs
    this.#record = { ...this.#record, beganMs: nowMs, place: BEGINNING }
    return 0
  }

  /** One piece of the log that is next. @returns the bytes read */
  async #read(): Promise<number> {
    const place = this.#record.place ?? BEGINNING
    const partition = this.#nextLog(place.name)
    if (partition === undefined) {
      this.#end()
      return 0
    }
    const name = nameOf(partition)
    const { log, comparer } = this.#ports
    if (this.#current?.name !== name) {
      const offset = name === place.name ? place.offset : 0
      const scrub = partition.scrub(offset, (range) => comparer?.()?.take(partition, range))
      this.#current = { name, scrub }
    }
    const { scrub } = this.#current
    try {
      const { bytes, isDone } = await scrub.next(comparer?.()?.wants(partition))
      if (isDone) this.#leave(name)
      else this.#moveTo(name, scrub.offset)
      return bytes
    } catch (error) {
      // It was closed, deleted or moved away: the next one. What the disk could not read is said; the segment is left.
      if (isStreamError(error, 'CLOSED')) this.#leave(name)
      else log.error('a log could not be scrubbed', { partition: name, error: String(error) })
      return 0
    }
  }

  /** The one with the first name at or behind `name`. */
  #nextLog(name: string): PartitionLog | undefined {
    let found: PartitionLog | undefined
    let least = ''
    for (const log of this.#ports.directory.logs()) {
      const each = nameOf(log)
      if (each < name || (found !== undefined && each >= least)) continue
      found = log
      least = each
    }
    return found
  }

  #leave(name: string): void {
    this.#current = undefined
    // No name lies between.
    this.#moveTo(`${name}!`, 0)
  }

  #moveTo(name: string, offset: number): void {
    this.#record = { ...this.#record, place: { name, offset } }
    if (this.#ports.time.monotonicMs() - this.#savedMs >= SAVE_MS) this.#save()
  }

  #end(): void {
    const { time, log } = this.#ports
    const endedMs = time.wallMs()
    const { beganMs } = this.#record
    this.#record = { beganMs, endedMs, place: undefined }
    this.#save()
    log.info('all logs have been scrubbed', { tookMs: Math.max(0, endedMs - beganMs) })
  }

  #save(): void {
    const { time, disk, log, directory } = this.#ports
    this.#savedMs = time.monotonicMs()
    if (directory.failure !== undefined) return
    try {
      overwriteFile(disk, `${directory.path}/${SCRUB_NAME}`, encodeScrub(this.#record))
    } catch (error) {
      // A restart begins the pass anew.
      log.warn('the place of the scrubber could not be written down', { error: String(error) })
    }
  }

  #percentAt(place: { readonly name: string; readonly offset: number }): number {
    let bytes = 0
    let doneBytes = 0
    for (const log of this.#ports.directory.logs()) {
      const name = nameOf(log)
      bytes += log.sizeBytes
      if (name < place.name) doneBytes += log.sizeBytes
      else if (name === place.name) doneBytes += log.sizeBytesBelow(place.offset)
    }
    return bytes === 0 ? 0 : Math.floor((100 * doneBytes) / bytes)
  }
}

function nameOf({ topic, partition }: PartitionLog): string {
  return `${topic}-${partition}`
}

/** Beyond this a timer that comes late means that the loop has work. */
const LATE_MS = 20
const YIELD_MS_MIN = 100
/** After a pause of this length a piece is read, however busy it is: slowly is better than never. */
const YIELD_MS_MAX = 5_000
/** Share of the time in which the disk works for the scrubber: at most one tenth. */
const REST = 9
const PAUSE_MS_MIN = 1

/** How fast to go: synchronous, it is told what has happened. */
export class ScrubPace {
  #yieldMs = 0

  /** @param lateMs  by how much the turn came late @returns how long to let others go first; 0: read now */
  yieldFor(lateMs: number): number {
    if (lateMs <= LATE_MS || this.#yieldMs >= YIELD_MS_MAX) {
      this.#yieldMs = 0
      return 0
    }
    this.#yieldMs = Math.min(Math.max(YIELD_MS_MIN, this.#yieldMs * 2), YIELD_MS_MAX)
    return this.#yieldMs
  }

  /** @returns how long to pause after a piece */
  pauseAfter(piece: {
    readonly bytes: number
    readonly readMs: number
    readonly bytesPerSecondMax: number
  }): number {
    const rateMs = (piece.bytes * 1000) / piece.bytesPerSecondMax - piece.readMs
    return Math.max(PAUSE_MS_MIN, rateMs, REST * piece.readMs)
  }
}
