/**
 * A data directory as a whole: who it is, its marks and checkpoints, its partitions, and what else lies in it.
 *
 * With `repair` each finding is mended, in the order in which they were made, partition by partition, and told with what
 * became of it. Otherwise `disk` is one that refuses every write.
 *
 * The metadata store has checksums and a recovery of its own (lmdb) and is only looked for.
 */
import { Buffer } from 'node:buffer'
import { isStreamError, UsageError } from '../../src/base/errors.ts'
import { STARTING_NAME } from '../../src/ports/daemon-launcher.ts'
import type { Disk } from '../../src/ports/disk.ts'
import type { CheckSummary, OfflineFinding } from '../../src/ports/offline.ts'
import { decodeCheckpoint, encodeCheckpoint, loadCheckpoint } from '../log/checkpoint.ts'
import {
  BALLAST_NAME,
  BOOT_NAME,
  CLEAN_NAME,
  FAILED_NAME,
  isDeletedDirectory,
  META_NAME,
  parseBoot,
  parseCleanShutdown,
  parseMeta,
  parsePartitionDirectory,
  parsePartitionMetadata,
  SCRUB_NAME,
} from '../log/directory-files.ts'
import { baseOffsetOfName } from '../log/segment.ts'
import { parseSwapPlan } from '../log/segment-swap.ts'
import { parseOffsetFile } from '../log/text-checkpoint.ts'
import { MOVED_NAME } from '../metadata/moved-home.ts'
import { SessionFile } from '../metadata/session-file.ts'
import { checkPartition, type PartitionTotals } from './check-partition.ts'
import { type Finding, isHarmless, Mend } from './findings.ts'
import { mendMarks, readMarks, writeMark } from './marks.ts'
import { SET_ASIDE } from './mend-partition.ts'
import {
  type PartitionFiles,
  readPartitionFiles,
  readSurroundings,
  type Surroundings,
} from './partition-files.ts'
import { replaceNow, syncFile } from './write-files.ts'

const TEXT_CHECKPOINTS = [
  'log-start-offset-checkpoint',
  'recovery-point-offset-checkpoint',
  'replication-offset-checkpoint',
  'cleaner-offset-checkpoint',
]
const CHECKPOINTS = ['stream-checkpoint.a', 'stream-checkpoint.b']
const SESSIONS = ['stream-session.a', 'stream-session.b']
const MARKS = ['durable-marks.a', 'durable-marks.b']
const KNOWN = new Set([
  ...TEXT_CHECKPOINTS,
  ...CHECKPOINTS,
  ...SESSIONS,
  ...MARKS,
  META_NAME,
  BALLAST_NAME,
  BOOT_NAME,
  CLEAN_NAME,
  FAILED_NAME,
  SCRUB_NAME,
  SET_ASIDE,
  MOVED_NAME,
  '.lock',
  'daemon.pid',
  STARTING_NAME,
  'metadata',
])
const SEGMENT_ENDINGS = ['.log', '.index', '.timeindex', '.txnindex', '.snapshot', '.torn']
const INDEX_ENDINGS = ['.index', '.timeindex', '.txnindex']
/** What an interrupted compaction leaves, and the next start ends. */
const COMPACTION_ENDINGS = ['.cleaned', '.swap', '.deleted']
const PARTITION_FILES = new Set(['partition.metadata', 'leader-epoch-checkpoint'])

export interface CheckOptions {
  readonly repair: boolean
}

/** @throws UsageError for a path that is no data directory; StreamError of the disk */
export async function checkDirectory(
  disk: Disk,
  path: string,
  options: CheckOptions,
  onFinding: (finding: OfflineFinding) => void,
): Promise<Omit<CheckSummary, 'isInUse'>> {
  return await new DirectoryCheck(disk, path, options, onFinding).run()
}

export function assertDataDirectory(disk: Disk, path: string): void {
  const stat = disk.stat(path)
  if (stat === undefined) {
    // Says what is wrong with it.
    disk.open(path, 'read').close()
  }
  // Names that look like partitions are not enough: /tmp may hold such, and a repair moves what it does not know.
  const marks = [META_NAME, ...MARKS, ...CHECKPOINTS]
  const isOne =
    stat?.isDirectory === true &&
    marks.some((name) => disk.stat(`${path}/${name}`)?.isDirectory === false)
  if (!isOne) {
    throw new UsageError(
      `${path}: no data directory: no ${META_NAME} is in it`,
      'name the directory that a daemon was given with --data',
    )
  }
}

class DirectoryCheck {
  readonly #disk: Disk
  readonly #path: string
  readonly #isRepair: boolean
  readonly #onFinding: (finding: OfflineFinding) => void
  #found: Finding[] = []
  /** Its meta.properties says that it is a data directory. */
  #isIdentified = false
  readonly #totals = { partitions: 0, segments: 0, batches: 0, bytes: 0 }

  constructor(
    disk: Disk,
    path: string,
    options: CheckOptions,
    onFinding: (finding: OfflineFinding) => void,
  ) {
    this.#disk = disk
    this.#path = path
    this.#isRepair = options.repair
    this.#onFinding = onFinding
  }

  async run(): Promise<Omit<CheckSummary, 'isInUse'>> {
    this.#checkIdentity()
    this.#checkMarkers()
    this.#checkSessions()
    this.#checkCheckpoints()
    this.#checkMarks()
    this.#checkNames()
    await this.#settle()
    const topicIds = new Map<string, string>()
    const surroundings = readSurroundings(this.#disk, this.#path)
    for (const name of this.#disk.list(this.#path)) {
      const parsed = parsePartitionDirectory(name)
      if (parsed === undefined || this.#disk.stat(`${this.#path}/${name}`)?.isDirectory !== true) {
        continue
      }
      await this.#checkPartition(name, parsed.topic, topicIds, surroundings)
      await this.#settle()
    }
    return this.#totals
  }

  /** Tells what was found, mended first where that was asked for. */
  async #settle(): Promise<void> {
    const found = this.#found
    this.#found = []
    for (const { mend, ...finding } of found) {
      if (!this.#isRepair || isHarmless(finding)) {
        this.#onFinding(finding)
        continue
      }
      const state = mend === undefined ? 'left' : await mend.run()
      this.#onFinding({ ...finding, state })
    }
  }

  #report(finding: Finding): void {
    this.#found.push(finding)
  }

  #bad(name: string, check: string, detail: string, mend?: Mend): void {
    this.#report({
      file: `${this.#path}/${name}`,
      offset: null,
      check,
      state: 'bad',
      detail,
      ...(mend === undefined ? {} : { mend }),
    })
  }

  #note(name: string, check: string, detail: string): void {
    this.#report({ file: `${this.#path}/${name}`, offset: null, check, state: 'note', detail })
  }

  #read(name: string): Uint8Array | undefined {
    return this.#disk.readFile(`${this.#path}/${name}`)
  }

  #remove(name: string): Mend {
    return new Mend('repaired', async () => {
      this.#disk.unlink(`${this.#path}/${name}`)
      await this.#disk.syncDirectory(this.#path)
    })
  }

  // --- the directory's own files

  #checkIdentity(): void {
    const path = `${this.#path}/${META_NAME}`
    const bytes = this.#read(META_NAME)
    if (bytes === undefined) {
      const detail = 'no such file: it says to which cluster the data belong; restore it'
      this.#report({ file: path, offset: null, check: 'identity', state: 'missing', detail })
      return
    }
    try {
      parseMeta(path, bytes)
      this.#isIdentified = true
    } catch (error) {
      if (!isStreamError(error)) throw error
      this.#bad(META_NAME, 'identity', 'cannot be read; restore it from a backup')
    }
  }

  #checkMarkers(): void {
    const clean = this.#read(CLEAN_NAME)
    if (clean !== undefined && parseCleanShutdown(clean) === undefined) {
      this.#bad(CLEAN_NAME, 'marker', 'cannot be read', this.#remove(CLEAN_NAME))
    }
    const boot = this.#read(BOOT_NAME)
    if (boot !== undefined && parseBoot(boot) === undefined) {
      this.#bad(BOOT_NAME, 'marker', 'cannot be read', this.#remove(BOOT_NAME))
    }
    if (this.#read(FAILED_NAME) !== undefined) {
      this.#note(FAILED_NAME, 'marker', 'the last run ended with a failed sync')
    }
    if (this.#disk.stat(`${this.#path}/metadata/metadata.lmdb`) === undefined) {
      this.#note('metadata', 'store', 'no embedded metadata store is here')
    }
  }

  #checkSessions(): void {
    const state = new SessionFile(this.#disk, this.#path).read()
    if (state.kind !== 'damaged') return
    this.#bad(
      SESSIONS[0] ?? '',
      'session',
      'neither copy can be read: the next start counts as lossy',
    )
  }

  #checkCheckpoints(): void {
    const copies = CHECKPOINTS.map((name) => {
      const bytes = this.#read(name)
      return { name, bytes, decoded: bytes && decodeCheckpoint(bytes) }
    })
    const isOneSound = copies.some(({ decoded }) => decoded !== undefined)
    for (const { name, bytes, decoded } of copies) {
      if (bytes === undefined || decoded !== undefined) continue
      const detail = isOneSound
        ? 'its checksum is wrong; the other copy counts'
        : 'its checksum is wrong, and no other copy is sound: log starts are taken from the text files'
      const mend = isOneSound ? this.#remove(name) : this.#makeCheckpoint(name)
      this.#bad(name, 'checkpoint', detail, mend)
    }
    for (const name of TEXT_CHECKPOINTS) {
      const bytes = this.#read(name)
      if (bytes === undefined) continue
      if (parseOffsetFile(Buffer.from(bytes).toString('utf8')) !== undefined) continue
      this.#bad(
        name,
        'checkpoint',
        'cannot be read; the next checkpoint replaces it',
        this.#remove(name),
      )
    }
  }

  /** From the text files and the logs themselves; recovery points are not known any more. */
  #makeCheckpoint(name: string): Mend {
    return new Mend('repaired', async () => {
      const loaded = loadCheckpoint(this.#disk, this.#path)
      const entries = this.#partitions().flatMap(({ topic, topicId, partition, segments }) => {
        if (topicId === undefined) return []
        const found = loaded.find(topicId, topic, partition)
        const logStartOffset = Math.max(found?.logStartOffset ?? 0, segments[0]?.baseOffset ?? 0)
        const highWatermark = found?.highWatermark ?? 0
        return [{ topicId, partition, logStartOffset, recoveryPoint: 0, highWatermark }]
      })
      const generation = loaded.generation + 1
      await replaceNow(this.#disk, `${this.#path}/${name}`, encodeCheckpoint(generation, entries))
    })
  }

  #partitions(): PartitionFiles[] {
    const surroundings = readSurroundings(this.#disk, this.#path)
    return this.#disk
      .list(this.#path)
      .filter((name) => parsePartitionDirectory(name) !== undefined)
      .map((name) => readPartitionFiles(this.#disk, `${this.#path}/${name}`, surroundings))
  }

  #checkMarks(): void {
    const marks = readMarks(this.#disk, this.#path)
    const mend = new Mend('repaired', () => mendMarks(this.#disk, this.#path))
    const isNeeded = this.#partitions().some(({ topicId }) => topicId !== undefined)
    for (const [index, copy] of marks.copies.entries()) {
      const name = MARKS[index] ?? ''
      if (!copy.exists && isNeeded) {
        const file = copy.path
        this.#report({
          file,
          offset: null,
          check: 'marks',
          state: 'missing',
          detail: 'no such file',
          mend,
        })
      }
      for (const slot of copy.badSlots) {
        const isLost = marks.lostSlots.includes(slot)
        const detail = isLost
          ? `slot ${slot}: its checksum is wrong, and no other copy is sound`
          : `slot ${slot}: its checksum is wrong; the other copy counts`
        this.#bad(name, 'marks', detail, mend)
      }
      if (copy.surplusBytes > 0) {
        this.#bad(name, 'marks', `${copy.surplusBytes} bytes behind the last slot`, mend)
      }
    }
  }

  /** What lies in the directory that nobody put there. */
  #checkNames(): void {
    for (const name of this.#disk.list(this.#path)) {
      const isDirectory = this.#disk.stat(`${this.#path}/${name}`)?.isDirectory === true
      if (KNOWN.has(name)) continue
      if (isDirectory && parsePartitionDirectory(name) !== undefined) continue
      if (isDirectory && isDeletedDirectory(name)) {
        this.#note(name, 'stray', 'a deleted partition; the next start removes it')
      } else if (isDirectory && name.endsWith('-stray')) {
        this.#note(
          name,
          'stray',
          'a log that was set aside; the daemon serves and reads it no more',
        )
      } else if (!isDirectory && name.endsWith('.tmp')) {
        this.#note(name, 'stray', 'left by a write that did not end; the next start removes it')
      } else this.#stray(name)
    }
  }

  #stray(name: string): void {
    const file = `${this.#path}/${name}`
    const detail = 'no part of a data directory'
    const finding = { file, offset: null, check: 'stray', state: 'stray', detail } as const
    // Where it is not certain what the directory is, nothing is moved.
    if (!this.#isIdentified) this.#report(finding)
    else this.#report({ ...finding, mend: new Mend('set-aside', () => this.#moveAside(name)) })
  }

  /** @param name  below the data directory */
  async #moveAside(name: string): Promise<void> {
    const target = `${this.#path}/${SET_ASIDE}/${name}`
    const directory = target.slice(0, target.lastIndexOf('/'))
    this.#disk.makeDirectory(directory, 0o700)
    let free = target
    for (let count = 1; this.#disk.stat(free) !== undefined; count += 1) free = `${target}.${count}`
    this.#disk.rename(`${this.#path}/${name}`, free)
    await this.#disk.syncDirectory(directory)
    await this.#disk.syncDirectory(this.#path)
  }

  // --- partitions

  async #checkPartition(
    name: string,
    topic: string,
    topicIds: Map<string, string>,
    surroundings: Surroundings,
  ): Promise<void> {
    const directory = `${this.#path}/${name}`
    const files = readPartitionFiles(this.#disk, directory, surroundings)
    if (!this.#checkMetadata(name, topic, files, topicIds)) return
    this.#totals.partitions += 1
    if (!this.#checkPartitionNames(name)) return
    const totals = await checkPartition(this.#disk, this.#path, files, (finding) =>
      this.#report(finding),
    )
    this.#totals.segments += totals.segments
    this.#totals.batches += totals.batches
    this.#totals.bytes += totals.bytes
    if (files.durableOffset === undefined) this.#checkUnmarked(name, files, totals)
  }

  /** @returns false: it is no partition yet */
  #checkMetadata(
    name: string,
    topic: string,
    files: PartitionFiles,
    topicIds: Map<string, string>,
  ): boolean {
    const path = `${name}/partition.metadata`
    const bytes = this.#read(path)
    const topicId = bytes && parsePartitionMetadata(bytes)
    if (bytes === undefined) {
      const isEmpty = files.segments.every((segment) => segment.sizeBytes === 0)
      if (isEmpty) {
        this.#note(name, 'metadata', 'a half-made partition; the next start removes it')
        return false
      }
      const file = `${this.#path}/${path}`
      const detail = 'no such file: the daemon does not open the partition'
      this.#report({ file, offset: null, check: 'metadata', state: 'missing', detail })
    } else if (topicId === undefined) {
      this.#bad(path, 'metadata', 'cannot be read: the daemon does not open the partition')
    } else {
      const other = topicIds.get(topic)
      if (other !== undefined && other !== topicId) {
        this.#bad(
          path,
          'metadata',
          `topic id ${topicId}, other partitions of ${topic} say ${other}`,
        )
      }
      topicIds.set(topic, topicId)
    }
    return true
  }

  /** @returns false: nobody knows which files are the log */
  #checkPartitionNames(name: string): boolean {
    const names = this.#disk.list(`${this.#path}/${name}`)
    const plan = names.includes('compaction-swap')
      ? this.#read(`${name}/compaction-swap`)
      : undefined
    if (plan !== undefined && parseSwapPlan(plan) === undefined) {
      const detail =
        'cannot be read: an interrupted compaction cannot be ended; the files beside it hold all records'
      this.#bad(`${name}/compaction-swap`, 'compaction', detail)
      return false
    }
    for (const file of names) this.#checkPartitionName(name, file, names)
    return true
  }

  #checkPartitionName(partition: string, name: string, names: readonly string[]): void {
    const path = `${partition}/${name}`
    if (PARTITION_FILES.has(name)) return
    const isCompaction =
      name === 'compaction-swap' || COMPACTION_ENDINGS.some((ending) => name.endsWith(ending))
    if (isCompaction) {
      this.#note(
        path,
        'compaction',
        'left by a compaction that did not end; the next start ends it',
      )
      return
    }
    if (name.endsWith('.tmp')) {
      this.#note(path, 'stray', 'left by a write that did not end; the next start removes it')
      return
    }
    const ending = SEGMENT_ENDINGS.find((each) => baseOffsetOfName(name, each) !== undefined)
    if (ending === undefined) {
      this.#stray(path)
      return
    }
    const isExplained =
      names.includes(`${name.slice(0, 20)}.log`) || names.includes('compaction-swap')
    const isOrphan = INDEX_ENDINGS.includes(ending) && !isExplained
    if (isOrphan) this.#bad(path, 'stray', 'an index without its segment', this.#remove(path))
  }

  /** What is there is read and sound, so it may count as durable once it is synced. */
  #checkUnmarked(name: string, files: PartitionFiles, totals: PartitionTotals): void {
    const { topicId, partition, segments } = files
    if (topicId === undefined) return
    const mend = new Mend('repaired', async () => {
      for (const segment of segments) await syncFile(this.#disk, segment.path)
      const durableOffset = totals.endOffset
      const denseEndOffset = Math.min(durableOffset, segments[0]?.baseOffset ?? 0)
      const mark = { topicId, partition, durableOffset, denseEndOffset }
      await writeMark(this.#disk, this.#path, mark)
    })
    const detail = 'the partition has no durable mark: what it has acknowledged is not known'
    this.#bad(name, 'marks', detail, mend)
  }
}
