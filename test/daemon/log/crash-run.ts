/**
 * One run against one log: appends, flushes, rolls, truncations, deletions, checkpoints, restarts; a crash in the middle
 * of any operation of the disk; a recovery, itself perhaps crashed; and the judgement:
 *
 *   - everything that was reported durable is there, byte for byte, in order, once;
 *   - the offsets from the log start to the log end are dense, and every record is one that was appended there;
 *   - after the mere death of the process everything is there whose append returned;
 *   - nothing is taken for damage; recovering twice is recovering once; Kafka's tool finds nothing wrong.
 */
import type { LogConfig } from '../../../daemon/log/log-config.ts'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { SimCrash } from '../../sim/sim-disk.ts'
import { SimRandom } from '../../sim/sim-random.ts'
import { batchOf } from '../batches.ts'
import { LOG_PATH, LogWorld } from './log-world.ts'
import { findFaults } from './segment-check.ts'

export interface CrashPlan {
  readonly seed: number | string
  /** The disk dies in this operation after the log was created; Infinity: no crash. */
  readonly crashAt: number
  readonly kind: 'process' | 'power'
  readonly steps: number
  /** Operations into the recovery at which it dies too. */
  readonly crashRecoveryAt?: number
  /** A planted bug. */
  readonly plant?: (log: PartitionLog, world: LogWorld) => void
}

export interface CrashOutcome {
  readonly problems: readonly string[]
  readonly operations: number
  readonly crashed: boolean
}

export async function runCrash(plan: CrashPlan): Promise<CrashOutcome> {
  return await new CrashRun(plan).run()
}

const KINDS = ['process', 'power'] as const

class CrashRun {
  readonly #plan: CrashPlan
  readonly #random: SimRandom
  readonly #world: LogWorld
  readonly #config: Partial<LogConfig>
  readonly #problems: string[] = []
  /** What was appended, by offset; after a truncation began, what may still be there. */
  readonly #appended = new Map<number, string>()
  #appendedEnd = 0
  /** Everything below was reported durable, and no cut below it was begun since. */
  #durable = 0
  #logStart = 0
  #logStartAsked = 0
  /** Where a truncation was begun that has not ended. */
  #cutAt: number | undefined
  #epoch = 1
  #value = 0
  #createdAt = 0
  #powerWasCut = false

  constructor(plan: CrashPlan) {
    this.#plan = plan
    this.#world = new LogWorld(`crash ${plan.seed}`, {
      directoryChanges: new SimRandom(`${plan.seed} names`).pick(['prefix', 'any']),
    })
    this.#random = new SimRandom(`${plan.seed} steps`)
    this.#config = {
      segmentBytes: this.#random.pick([300, 1000, 5000]),
      indexIntervalBytes: this.#random.pick([100, 400]),
      fileDeleteDelayMs: this.#random.pick([0, 50]),
      flushMessages: this.#random.pick([1, 1, 1, 5]),
      flushMs: 20,
    }
  }

  async run(): Promise<CrashOutcome> {
    const world = this.#world
    let log = await world.log(this.#config)
    this.#createdAt = world.disk.operations
    world.disk.crashAtOperation = this.#createdAt + this.#plan.crashAt
    this.#attach(log)
    for (let step = 0; step < this.#plan.steps && !world.disk.isDead; step++) {
      await this.#survive(async () => {
        log = await this.#step(log)
      })
    }
    const operations = world.disk.operations - this.#createdAt
    const crashed = world.disk.isDead
    world.crash(this.#plan.kind)
    if (this.#plan.kind === 'power') this.#powerWasCut = true
    await this.#judge()
    return { problems: this.#problems, operations, crashed }
  }

  /** Runs until the work is done or the disk is dead. */
  async #survive(work: () => Promise<void>): Promise<void> {
    const world = this.#world
    let isDone = false
    let failure: unknown
    const running = work().then(
      () => {
        isDone = true
      },
      (error: unknown) => {
        isDone = true
        failure = error
      },
    )
    try {
      await world.world.run({ until: () => isDone || world.disk.isDead })
    } catch (error) {
      if (!world.disk.isDead) throw error
    }
    if (world.disk.isDead) return
    await running
    if (failure !== undefined && !(failure instanceof SimCrash)) throw failure
  }

  #attach(log: PartitionLog): void {
    this.#plan.plant?.(log, this.#world)
    log.onDurable((offset) => {
      if (!this.#world.disk.isDead) this.#durable = Math.max(this.#durable, offset)
    })
  }

  async #step(log: PartitionLog): Promise<PartitionLog> {
    const random = this.#random
    const choice = random.integer(100)
    if (choice < 60) this.#append(log)
    else if (choice < 72) await log.flush()
    else if (choice < 80) await sleepIn(this.#world, random.integer(30))
    else if (choice < 85) await this.#world.directory?.writeCheckpoint({ recoveryPoints: true })
    else if (choice < 90) await this.#truncate(log)
    else if (choice < 94) await this.#delete(log)
    else if (choice < 97) await log.beginEpoch(++this.#epoch)
    else return await this.#restart()
    return log
  }

  #append(log: PartitionLog): void {
    const random = this.#random
    const batches: Uint8Array[] = []
    const values: string[] = []
    for (let count = 1 + random.integer(3); count > 0; count--) {
      const records = Array.from({ length: 1 + random.integer(4) }, () => {
        const value = `${this.#value++}:`.padEnd(5 + random.integer(60), 'x')
        values.push(value)
        return value
      })
      batches.push(batchOf(records))
    }
    // What was written before a crash in the middle may be there, so it is noted before.
    let offset = log.logEndOffset
    for (const value of values) this.#appended.set(offset++, value)
    this.#appendedEnd = log.append(batches, { leaderEpoch: this.#epoch }).nextOffset
  }

  async #truncate(log: PartitionLog): Promise<void> {
    const low = log.logStartOffset
    const offset = low + this.#random.integer(log.logEndOffset - low + 1)
    // The cut may fall to the start of a batch, never below the durable end of another one.
    this.#cutAt = offset
    await log.truncateTo(offset)
    this.#cutAt = undefined
    this.#durable = Math.min(this.#durable, log.logEndOffset)
    this.#appendedEnd = log.logEndOffset
    for (const old of [...this.#appended.keys()]) {
      if (old >= log.logEndOffset) this.#appended.delete(old)
    }
  }

  async #delete(log: PartitionLog): Promise<void> {
    const low = log.logStartOffset
    const offset = low + this.#random.integer(log.durableOffset - low + 1)
    this.#logStartAsked = Math.max(this.#logStartAsked, offset)
    await log.deleteRecordsBefore(offset)
    this.#logStart = Math.max(this.#logStart, offset)
  }

  async #restart(): Promise<PartitionLog> {
    const world = this.#world
    const directory = world.directory
    world.directory = undefined
    await directory?.close({ clean: true })
    this.#durable = this.#appendedEnd
    const opened = await this.#reopen()
    if (!opened.recovery.clean) this.#problems.push('a clean end, but the log was scanned')
    this.#attach(opened)
    return opened
  }

  /** As LogWorld.log, but without settling: this runs inside the world. */
  async #reopen(): Promise<PartitionLog> {
    return await this.#world.openInside(this.#config)
  }

  // --- judgement

  async #judge(): Promise<void> {
    const world = this.#world
    const { crashRecoveryAt } = this.#plan
    if (crashRecoveryAt !== undefined) {
      world.disk.crashAtOperation = world.disk.operations + crashRecoveryAt
      await this.#survive(async () => {
        await this.#reopen()
      })
      const kind = this.#random.pick(KINDS)
      if (kind === 'power') this.#powerWasCut = true
      world.crash(kind)
    }
    const log = await world.reopened(this.#config)
    await this.#check(log, 'after the crash')
    const first = await this.#state(log)
    world.crash(this.#random.pick(KINDS))
    const again = await world.reopened(this.#config)
    const second = await this.#state(again)
    if (second !== first) this.#problems.push(`recovered twice: ${first} became ${second}`)
    await this.#goOn(again)
  }

  async #check(log: PartitionLog, when: string): Promise<void> {
    const problem = (text: string): void => {
      this.#problems.push(`${when}: ${text}`)
    }
    log.verify()
    if (log.damage.length > 0) problem(`damage: ${JSON.stringify(log.damage)}`)
    const { logStartOffset: start, logEndOffset: end } = log
    if (start < this.#logStart || start > Math.max(this.#logStartAsked, this.#logStart)) {
      problem(`log start ${start}, was ${this.#logStart}, asked for ${this.#logStartAsked}`)
    }
    const cut = this.#cutAt
    const floor = this.#powerWasCut ? Math.max(this.#durable, this.#logStart) : this.#appendedEnd
    // A cut takes the batch that holds its offset with it: up to four records.
    const must = cut === undefined ? floor : Math.min(floor, Math.max(cut - 4, 0))
    if (end < must) problem(`the log ends at ${end}, ${must} were promised`)
    const found = await this.#world.records(log)
    let expected = start
    for (const record of found) {
      if (record.offset !== expected) problem(`offset ${record.offset} where ${expected} follows`)
      if (record.value !== this.#appended.get(record.offset)) {
        problem(
          `offset ${record.offset} holds ${record.value}, not ${this.#appended.get(record.offset)}`,
        )
      }
      expected = record.offset + 1
    }
    if (expected !== end) problem(`records end at ${expected}, the log at ${end}`)
  }

  async #state(log: PartitionLog): Promise<string> {
    const found = await this.#world.records(log)
    const { logStartOffset, logEndOffset } = log
    return JSON.stringify([logStartOffset, logEndOffset, found.map(({ value }) => value)])
  }

  /** The log is good for more, and Kafka's tool has nothing to say against its files. */
  async #goOn(log: PartitionLog): Promise<void> {
    const world = this.#world
    for (const old of [...this.#appended.keys()]) {
      if (old >= log.logEndOffset) this.#appended.delete(old)
    }
    this.#appendedEnd = log.logEndOffset
    this.#cutAt = undefined
    this.#epoch++
    for (let count = 0; count < 5; count++) this.#append(log)
    await world.settle(log.flush())
    this.#durable = this.#appendedEnd
    await this.#check(log, 'going on')
    await world.settle(
      world.directory?.writeCheckpoint({ recoveryPoints: true }) ?? Promise.resolve(),
    )
    await world.run(100)
    await world.close()
    this.#problems.push(...findFaults(world.disk, LOG_PATH))
    await this.#check(await world.reopened(this.#config), 'after a clean end')
  }
}

function sleepIn(world: LogWorld, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    world.time.setTimer(delayMs, resolve)
  })
}
