/** A data directory on simulated ports, and what a test needs to say of its logs. */
import { DataDirectory, type DataDirectoryOptions } from '../../../daemon/log/data-directory.ts'
import { defaultLogConfig, type LogConfig } from '../../../daemon/log/log-config.ts'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import type { Log } from '../../../src/ports/log.ts'
import { batchBytesAt } from '../../../src/record/batch-layout.ts'
import { SimDisk, type SimDiskOptions } from '../../sim/sim-disk.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { SimWorld } from '../../sim/sim-world.ts'
import { batchOf, type ReadRecord, recordsOf } from '../batches.ts'

export const TOPIC_ID = 'AbcdefghijklmnopqrstuA'
export const PATH = '/data'
export const LOG_PATH = `${PATH}/t-0`

export type ConfigInput = Partial<LogConfig>

export class LogWorld {
  readonly world: SimWorld
  /** What the logs have said, level first. */
  readonly said: string[] = []
  time: SimTime
  disk: SimDisk
  boot = 1
  directory: DataDirectory | undefined

  constructor(seed: number | string = 1, options: SimDiskOptions = {}) {
    this.world = new SimWorld(seed)
    this.time = new SimTime(this.world)
    const diskTime = new SimTime(this.world, { name: 'disk' })
    this.disk = new SimDisk(this.world.random.fork('disk'), diskTime, options)
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.world.settle(promise)
  }

  run(ms: number): Promise<void> {
    return this.world.run({ untilMs: this.world.now + ms })
  }

  open(options: Partial<DataDirectoryOptions> = {}): Promise<DataDirectory> {
    return this.settle(this.#open(options))
  }

  /** Opens the directory if need be, and in it the log t-0. */
  log(config: ConfigInput = {}, partition = 0): Promise<PartitionLog> {
    return this.settle(this.openInside(config, partition))
  }

  /** As log, for callers that run inside the world themselves. */
  async openInside(config: ConfigInput = {}, partition = 0): Promise<PartitionLog> {
    const directory = this.directory ?? (await this.#open({}))
    return directory.createPartitionLog({
      topic: 't',
      topicId: TOPIC_ID,
      partition,
      config: { ...defaultLogConfig, ...config },
    })
  }

  async #open(options: Partial<DataDirectoryOptions>): Promise<DataDirectory> {
    const { time, disk } = this
    const ports = { time, disk, random: this.world.random.fork('log'), log: this.#log() }
    const all = { path: PATH, bootId: `boot-${this.boot}`, ...options }
    this.directory = await DataDirectory.open(ports, all)
    return this.directory
  }

  async close(clean = true): Promise<void> {
    const directory = this.directory
    this.directory = undefined
    if (directory !== undefined) await this.settle(directory.close({ clean }))
  }

  /** The process dies now; with 'power' the machine does. */
  crash(kind: 'process' | 'power'): void {
    this.directory = undefined
    this.time.halt()
    this.time = new SimTime(this.world)
    this.disk = this.disk.restart(kind, new SimTime(this.world, { name: 'disk' }))
    if (kind === 'power') this.boot++
  }

  async reopened(config: ConfigInput = {}, partition = 0): Promise<PartitionLog> {
    this.directory = undefined
    return this.log(config, partition)
  }

  /** All values from `offset` on, read as a consumer would. */
  async values(log: PartitionLog, offset = log.logStartOffset, maxBytes = 4000): Promise<string[]> {
    return (await this.records(log, offset, maxBytes)).map((record) => record.value ?? '')
  }

  async records(
    log: PartitionLog,
    offset = log.logStartOffset,
    maxBytes = 4000,
  ): Promise<ReadRecord[]> {
    const found: ReadRecord[] = []
    let next = offset
    while (next < log.logEndOffset) {
      const slice = await this.settle(log.read({ offset: next, maxBytes }))
      for (const bytes of slice.bytes) found.push(...recordsOf(bytes))
      if (slice.nextOffset <= next) break
      next = slice.nextOffset
    }
    return found.filter((record) => record.offset >= offset)
  }

  /** The stored file of a segment. */
  file(baseOffset: number, suffix = '.log', partition = 0): Uint8Array | undefined {
    const name = `${String(baseOffset).padStart(20, '0')}${suffix}`
    return this.disk.readFile(`${PATH}/t-${partition}/${name}`)
  }

  #log(): Log {
    const say =
      (level: string) =>
      (message: string, fields?: object): void => {
        this.said.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`)
      }
    return { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') }
  }
}

/** Appends one batch a value list; each list one batch. */
export function append(log: PartitionLog, values: readonly string[], epoch = 0): number {
  return log.append([batchOf(values)], { leaderEpoch: epoch }).nextOffset
}

export function batchCount(bytes: readonly Uint8Array[]): number {
  let count = 0
  for (const part of bytes) {
    for (let at = 0; at < part.length; at += batchBytesAt(part, at)) count++
  }
  return count
}

/** `count` values of about `size` bytes, numbered from `from`. */
export function values(from: number, count: number, size = 10): string[] {
  return Array.from({ length: count }, (_, index) => `v${from + index}`.padEnd(size, '.'))
}

/** Every file of the log's directory with its content, for comparing two states. */
export function snapshotOf(world: LogWorld): Record<string, string> {
  const files: Record<string, string> = {}
  for (const { path } of world.disk.files()) {
    if (!path.startsWith(LOG_PATH)) continue
    files[path] = Buffer.from(world.disk.readFile(path) ?? []).toString('latin1')
  }
  return files
}
