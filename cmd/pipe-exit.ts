/**
 * The exit barrier: one run of the child over one epoch, from a file and into a file, so that no pipe can fill up. It is
 * done when the child has taken all of its input and exits well.
 *
 * Invariants:
 * - Nothing of a run is seen before its end was judged; the files of a lane are used by one run at a time.
 * - The carry that a run finds is the last one of its slot that is committed, or will be before it.
 */

import { isStreamError } from '../src/base/errors.ts'
import type { Child, ChildEnd, Children } from '../src/ports/children.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { formatDuration, formatSize } from '../src/text/units.ts'
import type { CommandDeps } from './deps.ts'
import {
  cureOf,
  type Environment,
  type EpochFailure,
  epochEnvironment,
  failedBecause,
} from './pipe-child.ts'
import type { Epoch } from './pipe-epochs.ts'
import type { EpochOutcome, LaneRunner } from './pipe-lane.ts'
import type { EpochOutput, PipeOutput } from './pipe-output.ts'
import type { PipePlan } from './pipe-plan.ts'
import { PiecePrinter } from './pipe-printer.ts'
import { describeEnd, describeFailure, judgeEnd } from './retry-policy.ts'

const WRITE_BYTES = 256 * 1024
/** An output up to this is taken into memory at once; of a longer one so many openings are kept. */
const MEMORY_BYTES_MAX = 8 * 1024 * 1024
const OPENINGS = 3
export const CARRY_BYTES_MAX = 1_000_000

export interface ExitOptions {
  readonly environment: Environment
  /** Directory and beginning of the names of its files. */
  readonly filePrefix: string
  readonly output: PipeOutput | undefined
  /** Of a dry run: takes what was printed. */
  readonly print?: (bytes: Uint8Array) => Promise<void>
  /** Of each lane: where the child finds the carry. */
  readonly carryPath: ((lane: number) => string) | undefined
}

export class ExitRunner implements LaneRunner {
  readonly #deps: CommandDeps
  readonly #plan: PipePlan
  readonly #options: ExitOptions
  readonly #children: Children
  readonly #printer: PiecePrinter
  readonly #buffer = new OutputBuffer(WRITE_BYTES * 2)
  readonly #running = new Map<Epoch, Child>()

  private constructor(
    deps: CommandDeps,
    plan: PipePlan,
    options: ExitOptions,
    printer: PiecePrinter,
  ) {
    this.#deps = deps
    this.#plan = plan
    this.#options = options
    this.#children = deps.openChildren()
    this.#printer = printer
  }

  static async open(deps: CommandDeps, plan: PipePlan, options: ExitOptions): Promise<ExitRunner> {
    const printer = await PiecePrinter.open(plan.childIn, plan.delimiter)
    return new ExitRunner(deps, plan, options, printer)
  }

  /**
   * @param carry  the slot's bytes
   * @throws StreamError of the spool; CORRUPT_BATCH …
   */
  async run(
    epoch: Epoch,
    lane: number,
    fence: number,
    carry: Uint8Array | undefined,
  ): Promise<EpochOutcome> {
    const { host } = this.#deps
    const input = `${this.#options.filePrefix}.${lane}.in`
    const output = `${this.#options.filePrefix}.${lane}.out`
    try {
      this.#write(epoch, input)
    } catch (error) {
      host.removeFile(input)
      if (!isStreamError(error, 'RECORD_INVALID')) throw error
      return {
        kind: 'failed',
        failure: failedBecause(error.message, error.hint, { isCertain: true }),
      }
    }
    const carryPath = this.#options.carryPath?.(lane)
    if (carryPath !== undefined) host.writeFile(carryPath, carry ?? new Uint8Array(0))
    const { words, graceMs, childTimeoutMs, spoolBytesMax } = this.#plan
    const child = this.#children.start({
      words,
      environment: {
        ...this.#options.environment,
        ...epochEnvironment(this.#plan.job, epoch),
        STREAM_LANE: String(lane),
        STREAM_FENCE: String(fence),
        STREAM_CARRY_FILE: carryPath,
      },
      input: { path: input },
      output: { path: output, bytesMax: spoolBytesMax },
      graceMs,
      timeoutMs: childTimeoutMs,
    })
    host.removeFile(input)
    this.#running.set(epoch, child)
    try {
      const end = await child.ended
      if (end.stopped === 'asked') return { kind: 'stopped' }
      const failure = this.#judge(end) ?? this.#judgeCarry(carryPath, carry)
      if (failure !== undefined) return { kind: 'failed', failure }
      const after = carryPath === undefined ? undefined : host.readFile(carryPath)
      const work = { carry: after ?? (carryPath === undefined ? undefined : new Uint8Array(0)) }
      return await this.#made(epoch, this.#take(output), work)
    } finally {
      this.#running.delete(epoch)
      host.removeFile(output)
    }
  }

  /** What it printed must make records before anything of it is sent. */
  async #made(
    epoch: Epoch,
    printed: EpochOutput | undefined,
    { carry }: { readonly carry: Uint8Array | undefined },
  ): Promise<EpochOutcome> {
    const { output, print } = this.#options
    if (output === undefined || printed === undefined) {
      if (printed?.memory !== undefined) await print?.(printed.memory)
      printed?.drop()
      return { kind: 'done', carry }
    }
    try {
      await output.check(printed, epoch.partition)
    } catch (error) {
      printed.drop()
      if (!isStreamError(error)) throw error
      const words = `printed what makes no record: ${error.message}`
      return { kind: 'failed', failure: failedBecause(words, cureOf(error, this.#plan)) }
    }
    return {
      kind: 'done',
      carry,
      append: (producer) => output.append(producer, printed, epoch.partition),
      drop: () => printed.drop(),
    }
  }

  /** Its run is ended; run() tells so. */
  stop(epoch: Epoch): void {
    this.#running.get(epoch)?.stop()
  }

  stopAll(): void {
    for (const child of this.#running.values()) child.stop()
  }

  async close(): Promise<void> {
    this.stopAll()
  }

  #write({ pieces, topic, partition }: Epoch, path: string): void {
    const file = this.#deps.stdio.openOutput(path)
    const buffer = this.#buffer
    buffer.clear()
    try {
      for (const piece of pieces) {
        this.#printer.print(piece, topic, partition, buffer)
        if (buffer.length < WRITE_BYTES) continue
        void file.write(buffer.filled())
        buffer.clear()
      }
      if (buffer.length > 0) void file.write(buffer.filled())
    } finally {
      file.close()
    }
  }

  #judge(end: ChildEnd): EpochFailure | undefined {
    const { childTimeoutMs, spoolBytesMax, success, isPartial } = this.#plan
    const exit = end.exit === undefined ? (end.signal ?? '') : String(end.exit)
    const facts = { exit, stderr: end.errorTail }
    if (end.stopped === 'timed-out') {
      const words = `not done within ${formatDuration(childTimeoutMs)}`
      return failedBecause(
        words,
        'allow more: --child-timeout DUR; or smaller epochs: --epoch N',
        facts,
      )
    }
    if (end.stopped === 'output-limit') {
      const words = `printed more than ${formatSize(spoolBytesMax)} over one epoch`
      return failedBecause(
        words,
        'allow more: --spool-max SIZE; or smaller epochs: --epoch N',
        facts,
      )
    }
    const verdict = judgeEnd(end, success)
    if (verdict !== 'done') {
      const words = verdict === 'stop' ? describeEnd(end) : describeFailure(end)
      const cure = end.exit === 1 ? 'if exit 1 is no failure, as of grep: --success 0,1' : undefined
      return failedBecause(words, cure, { ...facts, verdict })
    }
    if (end.hasUnreadInput && !isPartial) {
      const cure = 'if it needs no more: --partial'
      return failedBecause('exited before reading all of its input', cure, facts)
    }
    if (!end.hasLeftProcesses) return undefined
    const words = 'left processes running when it exited, whose output cannot be waited for'
    return failedBecause(words, 'let it wait for what it starts in the background', facts)
  }

  #judgeCarry(path: string | undefined, before: Uint8Array | undefined): EpochFailure | undefined {
    if (path === undefined) return undefined
    const bytes = this.#deps.host.stat(path)?.sizeBytes ?? 0
    if (bytes > CARRY_BYTES_MAX) {
      const words = `the carry is ${bytes} bytes, more than ${CARRY_BYTES_MAX}`
      const cure = 'keep less in STREAM_CARRY_FILE, or large state in a topic of its own'
      return failedBecause(words, cure, { verdict: 'stop' })
    }
    const wasEmpty = before === undefined || before.length === 0
    if (bytes > 0 || wasEmpty || this.#plan.carry?.mayEmpty === true) return undefined
    const words = 'left an empty carry where there was one'
    return failedBecause(words, 'if that is meant: --carry-may-empty', { verdict: 'stop' })
  }

  #take(path: string): EpochOutput | undefined {
    const { host, stdio } = this.#deps
    const bytes = host.stat(path)?.sizeBytes ?? 0
    if (bytes === 0) return undefined
    if (bytes <= MEMORY_BYTES_MAX) {
      const memory = host.readFile(path)
      return { bytes, memory, open: () => undefined, drop: () => undefined }
    }
    const inputs = Array.from({ length: OPENINGS }, () => stdio.openInput(path))
    return {
      bytes,
      memory: undefined,
      open: () => inputs.pop(),
      drop: () => {
        for (const input of inputs.splice(0)) input.close()
      },
    }
  }
}
