/**
 * `pipe` without an input: a program that makes records (commands.md, section 6, "`pipe`, a source").
 *
 * - `line`: what was read is durable before more is read.
 * - `exit`: all of it at once, when the child exits well.
 * - `ack`: what lies before a line `state JSON` (begun by byte 0x1E) is stored with that state, in one transaction.
 *
 * With a job everything goes through transactions under the job's one id, so that a newer run fences the older.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { Child, ChildEnd } from '../src/ports/children.ts'
import { sleep } from '../src/ports/time.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import type { Broker } from './broker.ts'
import { openBroker } from './broker.ts'
import type { ProducerClient, TransactionClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { exitCodeOf, joinExitCodes } from './exit-code.ts'
import {
  childFailed,
  commonEnvironment,
  type EpochFailure,
  failedBecause,
  takenOver,
} from './pipe-child.ts'
import { type EpochOutput, PipeOutput, producerOptionsOf } from './pipe-output.ts'
import type { PipeOutPlan, PipePlan } from './pipe-plan.ts'
import { PipeSlot } from './pipe-slot.ts'
import { SourceState } from './pipe-state.ts'
import { Progress } from './progress.ts'
import { Report } from './report.ts'
import { Attempts, describeFailure, judgeEnd } from './retry-policy.ts'
import { absolutePath } from './settings.ts'
import { spoolDirectory } from './spool.ts'

const CONTROL = 0x1e
const TRANSACTION_TIMEOUT_MS = 60_000
/** What is gathered before a `state` that never comes. */
const PENDING_BYTES_MAX = 256 * 1024 * 1024

export async function runSource(
  deps: CommandDeps,
  args: CommandArgs,
  plan: PipePlan,
): Promise<number> {
  const { out } = plan
  if (out === undefined) throw new Error('a source has an output')
  const broker = await openBroker(deps, args)
  try {
    return await new SourceJob(deps, args, plan, out, broker).run()
  } finally {
    broker.cluster.close()
  }
}

class SourceJob {
  readonly #deps: CommandDeps
  readonly #args: CommandArgs
  readonly #plan: PipePlan
  readonly #out: PipeOutPlan
  readonly #broker: Broker
  readonly #output: PipeOutput
  readonly #report: Report
  readonly #state: SourceState | undefined
  readonly #filePrefix: string
  #transactions: TransactionClient | undefined
  #plain: ProducerClient | undefined
  #child: Child | undefined
  #isStopped = false
  #isLate = false
  /** Something was stored since the child was started. */
  #hasProgress = false

  constructor(
    deps: CommandDeps,
    args: CommandArgs,
    plan: PipePlan,
    out: PipeOutPlan,
    broker: Broker,
  ) {
    this.#deps = deps
    this.#args = args
    this.#plan = plan
    this.#out = out
    this.#broker = broker
    this.#output = new PipeOutput(deps, args.flags, broker, plan, out)
    this.#report = new Report('pipe', deps.time)
    const { job } = plan
    if (job !== undefined) this.#state = new SourceState(deps, broker, job)
    const directory = args.flags.text('spool-dir') ?? spoolDirectory(deps.host)
    deps.host.makeDirectory(directory)
    const slot = PipeSlot.open(deps, undefined, { clusterId: '', isSingleton: false })
    this.#filePrefix = absolutePath(deps.host, `${directory}/${slot.filePrefix}`)
  }

  async run(): Promise<number> {
    const { interruption, time } = this.#deps
    const { flags } = this.#args
    const stop = (): void => {
      this.#isStopped = true
      this.#child?.stop()
    }
    const stopListening = interruption.onRaised(stop)
    const timeoutMs = flags.durationMs('timeout')
    const timer =
      timeoutMs === undefined
        ? undefined
        : time.setTimer(timeoutMs, () => {
            this.#isLate = true
            stop()
          })
    const progress = new Progress(this.#deps, flags, { report: this.#report })
    const failures: unknown[] = []
    try {
      await this.#output.prepareTopic(1)
      await this.#openProducer()
      await this.#runChildren()
    } catch (error) {
      failures.push(takenOver(error, this.#plan))
      this.#child?.stop()
      await this.#child?.ended
    } finally {
      timer?.cancel()
      progress.end()
      stopListening()
      this.#plain?.close()
    }
    if (this.#isLate) failures.push(new StreamError('TIMED_OUT', `not done within ${timeoutMs} ms`))
    return this.#conclude(failures)
  }

  async #openProducer(): Promise<void> {
    const { clients } = this.#deps
    const { job, barrier } = this.#plan
    const { cluster } = this.#broker
    const options = producerOptionsOf(this.#args.flags, this.#broker, this.#plan)
    if (job === undefined && barrier === 'line') {
      this.#plain = await clients.producer(cluster, options)
      await this.#plain.prepare(this.#out.topic)
      return
    }
    const name = job ?? Buffer.from(this.#deps.random.bytes(12)).toString('hex')
    const transaction = {
      transactionalId: `stream.pipe.source.${name}`,
      timeoutMs: TRANSACTION_TIMEOUT_MS,
    }
    this.#transactions = await clients.transactionalProducer(cluster, transaction, options)
    await this.#transactions.init()
  }

  /** The child, and again after failures, as --retry says. @throws StreamError CHILD_FAILED, and of the broker */
  async #runChildren(): Promise<void> {
    let attempts = new Attempts(this.#plan.retry, this.#deps.random)
    for (let attempt = 1; ; attempt += 1) {
      this.#hasProgress = false
      const failure = await this.#runChild(attempt)
      if (failure === undefined || this.#isStopped) return
      // What it brought since the last failure is stored: it is not the same failure again.
      if (this.#hasProgress) attempts = new Attempts(this.#plan.retry, this.#deps.random)
      const pauseMs = failure.verdict === 'stop' ? undefined : attempts.next(failure.verdict)
      if (pauseMs === undefined) throw childFailed(this.#plan, failure, '')
      const seconds = (pauseMs / 1000).toFixed(1)
      this.#deps.console.warn(`${failure.words}; starting again in ${seconds}s`)
      await sleep(this.#deps.time, pauseMs)
    }
  }

  async #runChild(attempt: number): Promise<EpochFailure | undefined> {
    const { words, barrier, graceMs, spoolBytesMax } = this.#plan
    const { host } = this.#deps
    const path = `${this.#filePrefix}.out`
    const carryPath = `${this.#filePrefix}.state`
    const state = barrier === 'ack' ? await this.#state?.read() : undefined
    if (barrier === 'ack') host.writeFile(carryPath, state ?? new Uint8Array(0))
    const child = this.#deps.openChildren().start({
      words,
      environment: {
        ...commonEnvironment(this.#deps, this.#args.flags, this.#broker, this.#plan),
        STREAM_LANE: '0',
        STREAM_ATTEMPT: String(attempt),
        STREAM_FENCE: '0',
        STREAM_CARRY_FILE: barrier === 'ack' ? carryPath : undefined,
      },
      input: 'none',
      output: barrier === 'exit' ? { path, bytesMax: spoolBytesMax } : 'pipe',
      graceMs,
    })
    this.#child = child
    if (this.#isStopped) child.stop()
    try {
      const rest = barrier === 'exit' ? undefined : await this.#takeLines(child)
      const end = await child.ended
      const failure = this.#judge(end)
      if (failure !== undefined || this.#isStopped) return failure
      if (rest !== undefined && rest.length > 0) await this.#takeRest(rest)
      if (barrier === 'exit') await this.#storeFile(path)
      return undefined
    } catch (error) {
      if (!isStreamError(error, 'RECORD_INVALID') && !isStreamError(error, 'RECORD_TOO_LARGE')) {
        throw error
      }
      child.stop()
      await child.ended
      return failedBecause(`printed what makes no record: ${error.message}`, error.hint, {
        verdict: 'stop',
      })
    } finally {
      host.removeFile(path)
      if (barrier === 'ack') host.removeFile(carryPath)
    }
  }

  /** A last line without a delimiter is a record; behind the last state there are none. */
  async #takeRest(rest: Uint8Array): Promise<void> {
    if (this.#plan.barrier === 'line') await this.#store(rest, undefined)
    else this.#deps.console.warn(`${rest.length} bytes behind the last state were not stored`)
  }

  #judge(end: ChildEnd): EpochFailure | undefined {
    const verdict = judgeEnd(end, this.#plan.success)
    if (verdict === 'done') return undefined
    const exit = end.exit === undefined ? (end.signal ?? '') : String(end.exit)
    return failedBecause(describeFailure(end), undefined, {
      verdict,
      exit,
      stderr: end.errorTail,
    })
  }

  /** Stores what comes, as the barrier says. @returns what came after the last delimiter, or the last state */
  async #takeLines(child: Child): Promise<Uint8Array> {
    const pending = new OutputBuffer()
    const isAck = this.#plan.barrier === 'ack'
    const { output } = child
    let scannedAt = 0
    for (let chunk = await output?.read(); chunk !== undefined; chunk = await output?.read()) {
      pending.append(chunk)
      if (isAck) scannedAt = await this.#takeStates(pending, scannedAt)
      else {
        const end = lastEnd(pending, this.#plan.delimiter)
        if (end === 0) continue
        await this.#store(pending.bytes.subarray(0, end), undefined)
        keepRest(pending, end)
      }
      if (pending.length <= PENDING_BYTES_MAX) continue
      throw childFailed(
        this.#plan,
        failedBecause(
          `printed ${pending.length} bytes without ${isAck ? 'a state' : 'a delimiter'}`,
          isAck ? 'a line `state JSON`, begun by byte 0x1E, stores what lies before it' : undefined,
        ),
        '',
      )
    }
    return pending.filled()
  }

  /** Each `state` closes a transaction over what lies before it. @returns up to where there is none */
  async #takeStates(pending: OutputBuffer, from: number): Promise<number> {
    const { delimiter } = this.#plan
    let lineAt = from
    for (;;) {
      const bytes = Buffer.from(pending.bytes.buffer, pending.bytes.byteOffset, pending.length)
      const found = bytes.indexOf(delimiter, lineAt)
      if (found < 0) return lineAt
      const next = found + delimiter.length
      if (bytes[lineAt] !== CONTROL) {
        lineAt = next
        continue
      }
      const line = bytes.subarray(lineAt + 1, found).toString('utf8')
      const state = this.#readControl(line)
      if (state !== undefined) await this.#store(pending.bytes.subarray(0, lineAt), state)
      else pending.bytes.copyWithin(lineAt, next, pending.length)
      if (state !== undefined) {
        keepRest(pending, next)
        lineAt = 0
      } else pending.length -= next - lineAt
    }
  }

  /** @returns the bytes of a state. @throws StreamError CHILD_FAILED */
  #readControl(line: string): Uint8Array | undefined {
    const [, word = '', rest = ''] = /^(\w+) ?(.*)$/s.exec(line) ?? []
    if (word === 'state') {
      try {
        JSON.parse(rest)
      } catch {
        throw this.#failed(`state is no JSON: ${rest.slice(0, 80)}`)
      }
      return Buffer.from(rest, 'utf8')
    }
    if (word === 'error') throw this.#failed(rest.replace(/^(fatal|retry) /, ''))
    if (word !== 'beat' && word !== 'ready') {
      throw this.#failed(`a control line that is none of a source: ${line.slice(0, 80)}`)
    }
    return undefined
  }

  #failed(words: string): StreamError {
    return childFailed(this.#plan, failedBecause(words, undefined), '')
  }

  /** Durable when it resolves. @throws StreamError RECORD_INVALID …; of the broker */
  async #store(bytes: Uint8Array, state: Uint8Array | undefined): Promise<void> {
    if (bytes.length === 0 && state === undefined) return
    const output: EpochOutput = {
      bytes: bytes.length,
      memory: bytes,
      open: () => undefined,
      drop: () => undefined,
    }
    await this.#storeOutput(output, state)
  }

  async #storeFile(path: string): Promise<void> {
    const { host, stdio } = this.#deps
    const bytes = host.stat(path)?.sizeBytes ?? 0
    if (bytes === 0) return
    const inputs: { close(): void }[] = []
    const open = () => {
      const input = stdio.openInput(path)
      inputs.push(input)
      return input
    }
    await this.#storeOutput({ bytes, memory: undefined, open, drop: () => undefined }, undefined)
    for (const input of inputs) input.close()
  }

  async #storeOutput(output: EpochOutput, state: Uint8Array | undefined): Promise<void> {
    await this.#output.check(output, 0)
    const plain = this.#plain
    if (plain !== undefined) {
      const before = plain.appendedCount
      await this.#output.append(plain, output, 0)
      await plain.flush()
      this.#note(plain.appendedCount - before, output.bytes)
      return
    }
    const transactions = this.#transactions as TransactionClient
    const producer = await transactions.begin()
    try {
      if (!this.#out.keepTopic) await producer.prepare(this.#out.topic)
      await this.#output.append(producer, output, 0)
      const count = producer.appendedCount
      if (state !== undefined) await this.#state?.append(producer, state)
      await transactions.commit()
      this.#note(count, output.bytes)
    } catch (error) {
      producer.close()
      // Of a commit without an answer nobody knows what it came to, and a newer owner of the id has ended it. Else what stays open would
      // hold back the readers until its time is over; that this fails too says no more than the first error.
      const isOpen = !isStreamError(error, 'TIMED_OUT') && !isStreamError(error, 'FENCED')
      if (isOpen) await transactions.abort().catch(() => undefined)
      throw error
    }
  }

  #note(records: number, bytes: number): void {
    this.#report.records += records
    this.#report.bytes += bytes
    this.#hasProgress = true
  }

  async #conclude(failures: readonly unknown[]): Promise<number> {
    const { console } = this.#deps
    const { flags } = this.#args
    const codes = failures.map(exitCodeOf)
    if (flags.has('fail-empty') && this.#report.records === 0) codes.push(3)
    const exit = joinExitCodes(codes)
    for (const failure of failures) console.error(failure)
    const path = flags.text('report')
    if (path !== undefined) await this.#report.write(this.#deps, path, exit)
    if (console.wantsSummary) console.print(`stream: ${this.#report.summary('stored')}\n`)
    return exit
  }
}

/** After the last delimiter; 0: there is none. */
function lastEnd({ bytes, length }: OutputBuffer, delimiter: Uint8Array): number {
  const filled = Buffer.from(bytes.buffer, bytes.byteOffset, length)
  const found = filled.lastIndexOf(delimiter)
  return found < 0 ? 0 : found + delimiter.length
}

function keepRest(buffer: OutputBuffer, from: number): void {
  buffer.bytes.copyWithin(0, from, buffer.length)
  buffer.length -= from
}
