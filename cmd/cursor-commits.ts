/**
 * What a reading run stores in its cursor file, and when (`--commit`, commands.md, section 6).
 *
 * Invariant: a position is stored only after what lies before it was wholly written (with `ack`: acknowledged), and
 * after a file that it was written to has been synced. Before the first record it is where the run begins.
 */

import { StreamError } from '../src/base/errors.ts'
import type { ByteOutput } from '../src/ports/stdio.ts'
import type { Time, Timer } from '../src/ports/time.ts'
import { Acknowledgements } from './acknowledgements.ts'
import type { CursorFile } from './cursor-file.ts'
import type { CommandDeps } from './deps.ts'
import type { CursorPlan } from './read-options.ts'

export interface CursorPosition {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

export class CursorCommits {
  readonly acknowledgements: Acknowledgements | undefined
  readonly #plan: CursorPlan
  readonly #file: CursorFile
  readonly #time: Time
  readonly #output: ByteOutput
  readonly #onFailure: (error: unknown) => void
  /** Of what was read and is in the output's buffer or behind it. */
  readonly #taken = new Map<string, CursorPosition>()
  /** Of what was wholly written, and is not stored. */
  #written = new Map<string, CursorPosition>()
  #timer: Timer | undefined
  #wake: () => void = () => undefined

  constructor(
    deps: CommandDeps,
    plan: CursorPlan,
    file: CursorFile,
    onFailure: (error: unknown) => void,
  ) {
    this.#plan = plan
    this.#file = file
    this.#time = deps.time
    this.#output = deps.stdio.output
    this.#onFailure = onFailure
    if (plan.ackDescriptor === undefined) return
    const input = deps.stdio.openInput(
      plan.ackDescriptor === 0 ? '-' : `/dev/fd/${plan.ackDescriptor}`,
    )
    this.acknowledgements = new Acknowledgements(input, () => this.#onAcknowledged())
  }

  /**
   * Where the run begins is stored before anything is read: the next one must not begin later, though nothing comes to this one.
   * With `eof` that, too, is stored at the end alone. @throws StreamError of storing
   */
  begin(starts: readonly CursorPosition[]): void {
    const { commit } = this.#plan
    if (commit === 'none') return
    const news = starts.filter(
      ({ topic, partition, offset }) => this.#file.position(topic, partition) !== offset,
    )
    if (news.length === 0) return
    if (commit === 'eof') {
      for (const { topic, partition, offset } of news) this.take(topic, partition, offset)
      return
    }
    for (const { topic, partition, offset } of news) {
      this.#file.setPosition(topic, partition, offset)
    }
    this.#file.store()
  }

  /** Everything of a partition below `offset` was read. */
  take(topic: string, partition: number, offset: number): void {
    this.#taken.set(`${topic}/${partition}`, { topic, partition, offset })
  }

  /** All that was taken has been written. */
  onWritten(): void {
    if (this.#taken.size === 0) return
    for (const [name, position] of this.#taken) this.#written.set(name, position)
    this.#taken.clear()
    if (this.#plan.commit === 'written') this.#storeSoon()
  }

  /** Whether the run must wait for acknowledgements before it may end. */
  get isWaiting(): boolean {
    const { acknowledgements: acks } = this
    return acks !== undefined && acks.openCount > 0 && !acks.hasEnded
  }

  /** Resolves when something was acknowledged, or nothing more can be. */
  changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  /**
   * The run is over. @param isProper  it came to its end, and no write met a hang-up
   * @throws StreamError of storing; RECORD_INVALID for acknowledgements that are none
   */
  end(isProper: boolean): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.acknowledgements?.close()
    const { commit } = this.#plan
    if (commit === 'none') return
    if (commit === 'eof' && !isProper) return
    this.#store(isProper)
    const failure = this.acknowledgements?.error
    if (failure !== undefined) throw failure
    const open = this.acknowledgements?.openCount ?? 0
    if (open === 0) return
    throw new StreamError('NOT_DELIVERED', `${open} records were not acknowledged`)
  }

  #onAcknowledged(): void {
    this.#storeSoon()
    const error = this.acknowledgements?.error
    if (error !== undefined) this.#onFailure(error)
    this.#wake()
  }

  #storeSoon(): void {
    this.#timer ??= this.#time.setTimer(this.#plan.intervalMs, () => {
      this.#timer = undefined
      try {
        this.#store(false)
      } catch (error) {
        this.#onFailure(error)
      }
    })
  }

  #store(isProper: boolean): void {
    const acks = this.acknowledgements
    // With everything acknowledged, filtered records behind the last one are done too.
    const isAllDone = acks === undefined || (isProper && acks.openCount === 0)
    let count = 0
    for (const { topic, partition, offset } of acks?.positions() ?? []) {
      this.#file.setPosition(topic, partition, offset)
      count += 1
    }
    if (isAllDone) {
      for (const { topic, partition, offset } of this.#written.values()) {
        this.#file.setPosition(topic, partition, offset)
        count += 1
      }
      this.#written = new Map()
    }
    if (count === 0) return
    this.#output.sync()
    this.#file.store()
  }
}
