/**
 * One child of the ack barrier: what it was fed, what it has acknowledged, what it printed before.
 *
 * Invariants:
 * - What was printed before an acknowledgement, its state, and exactly the records that it covers are committed together.
 * - Acknowledgements are cumulative: of lines in the order in which they were fed, of a partition in that of its offsets.
 * - When the child ends, or says something that makes no sense, what it has not acknowledged is undone, once.
 */

import { isStreamError } from '../src/base/errors.ts'
import type { Child, ChildEnd, ChildOutput } from '../src/ports/children.ts'
import { sleep, type Time, type Timer } from '../src/ports/time.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { formatDuration } from '../src/text/units.ts'
import type { ProducerClient } from './clients.ts'
import { type AckWord, type OffsetAck, parseAckWord } from './pipe-ack-words.ts'
import { childFailed, cureOf, type EpochFailure, failedBecause } from './pipe-child.ts'
import type { Epoch } from './pipe-epochs.ts'
import { tellIdleEnd } from './pipe-idle-end.ts'
import type { EpochOutcome, LaneEvents } from './pipe-lane.ts'
import type { PipeOutput } from './pipe-output.ts'
import { type Piece, PieceCursor, splitPieceAt } from './pipe-pieces.ts'
import type { PipePlan } from './pipe-plan.ts'
import type { SourceState } from './pipe-state.ts'
import type { FinishedEpoch } from './pipe-transactions.ts'
import { describeFailure, judgeEnd } from './retry-policy.ts'

const CONTROL = 0x1e
const WRITE_BYTES = 64 * 1024
const ENDING_MS = 200
/** What may be printed before an acknowledgement. */
const PRINTED_BYTES_MAX = 256 * 1024 * 1024

export interface AckChildOptions {
  /** Undefined: a sink. */
  readonly output: PipeOutput | undefined
  /** Undefined: there is no one place for a state. */
  readonly state: SourceState | undefined
  readonly events: LaneEvents
}

/** An epoch with the child, not wholly acknowledged. */
interface Fed {
  readonly epoch: Epoch
  /** Records at its start that the child has by its own word (`ready`), and was not given. */
  readonly skipped: number
  /** Number of its first line, from 1, and how many there are. */
  readonly firstLine: number
  readonly lines: number
  isWritten: boolean
}

export class AckChild {
  readonly #time: Time
  readonly #plan: PipePlan
  readonly #options: AckChildOptions
  readonly #child: Child
  readonly #ended: Promise<void>
  #fed: Fed[] = []
  #lines = 0
  #ackedLines = 0
  readonly #ackedOffsets = new Map<string, number>()
  /** Lines that the child gives up, and why. */
  readonly #dead = new Map<number, string>()
  /** Next offsets that the child wants. */
  readonly #resume = new Map<string, number>()
  readonly #seen = new Set<string>()
  /** Printed since the last acknowledgement, and before it. */
  readonly #printed = new OutputBuffer(WRITE_BYTES)
  readonly #acked = new OutputBuffer(WRITE_BYTES)
  #state: Uint8Array | undefined
  /** What came behind the last delimiter. */
  #restBytes = 0
  #failure: EpochFailure | undefined
  #isStopped = false
  #isOver = false
  #hasUndone = false
  #isTelling = false
  #isReady = false
  #onReady: () => void = () => undefined
  /** One acknowledgement after the other, and one write. */
  #settling: Promise<void> = Promise.resolve()
  #writing: Promise<boolean> = Promise.resolve(true)
  #stallTimer: Timer | undefined
  #settleTimer: Timer | undefined
  #flushTimer: Timer | undefined

  constructor(
    time: Time,
    plan: PipePlan,
    options: AckChildOptions,
    child: Child,
    facts: { readonly lane: number; readonly fence: number; readonly state: unknown },
  ) {
    this.#time = time
    this.#plan = plan
    this.#options = options
    this.#child = child
    const reading = Promise.all([
      this.#readAll(child.output, true),
      this.#readAll(child.control, false),
    ])
    this.#ended = this.#end(reading)
    this.#say(`open ${JSON.stringify({ v: 1, job: plan.job ?? null, ...facts })}`)
  }

  get isUsable(): boolean {
    return this.#failure === undefined && !this.#isOver && !this.#isStopped
  }

  /** @param print  pieces as lines */
  async feed(epoch: Epoch, print: (pieces: readonly Piece[]) => Uint8Array): Promise<EpochOutcome> {
    if (this.#plan.hasControl && !this.#isReady) await this.#awaitReady()
    const wanted = this.#wantedOf(epoch)
    if (wanted.length === 0 && epoch.records > 0 && this.isUsable) return { kind: 'done' }
    const lines = wanted.reduce((sum, { records }) => sum + records, 0)
    const skipped = epoch.records - lines
    const fed: Fed = { epoch, skipped, firstLine: this.#lines + 1, lines, isWritten: false }
    this.#lines += lines
    this.#fed.push(fed)
    this.#flushTimer?.cancel()
    if (this.#fed.length === 1) this.#restartStall()
    const isTaken = this.isUsable && (await this.#write(print(wanted)))
    if (isTaken) {
      fed.isWritten = true
      this.#flushTimer = this.#time.setTimer(this.#plan.limits.ms, () => this.#flush())
      // Whoever called knows of it first.
      this.#settleLater(0)
      return { kind: 'fed' }
    }
    this.#fed = this.#fed.filter((each) => each !== fed)
    // feed() itself tells of this failure.
    this.#isTelling = true
    // One that reads no more has ended, or soon will.
    await Promise.race([this.#ended, sleep(this.#time, ENDING_MS)])
    this.#child.stop()
    await this.#ended
    if (this.#isStopped) return { kind: 'stopped' }
    if (this.#hasUndone) return { kind: 'undone' }
    return { kind: 'failed', failure: this.#failure ?? failedBecause('ended', undefined) }
  }

  stop(): void {
    this.#isStopped = true
    this.#child.stop()
  }

  /** Its input ends behind what was written. */
  drain(): void {
    this.#say('drain')
    void this.#writing.then(() => this.#child.input?.end())
  }

  revoke(name: string): void {
    this.#say(`revoke ${name}`)
  }

  /** It has the grace for its last words. */
  async finish(): Promise<void> {
    void this.#writing.then(() => this.#child.input?.end())
    const timer = this.#time.setTimer(this.#plan.graceMs, () => this.#child.stop())
    await this.#child.ended
    timer.cancel()
    await this.#ended
  }

  // --- to the child

  /** The records of an epoch that the child has not by its own word. */
  #wantedOf(epoch: Epoch): readonly Piece[] {
    const name = nameOf(epoch)
    const resume = this.#resume.get(name) ?? this.#resume.get(String(epoch.partition))
    const isFirst = !this.#seen.has(name)
    this.#seen.add(name)
    if (resume === undefined || resume <= epoch.first) {
      if (isFirst && resume !== undefined && resume < epoch.startOffset) {
        const words = `wants ${name} from offset ${resume} on, which ${this.#plan.job ?? 'the job'} has behind it (${epoch.startOffset})`
        const cure = `to give it again: stream groups seek ${this.#plan.job ?? 'JOB'} -t ${epoch.topic} --to ${epoch.partition}=${resume}`
        this.#fail(failedBecause(words, cure, { verdict: 'stop' }))
      }
      return epoch.pieces
    }
    return epoch.pieces
      .map((piece) => splitPieceAt(piece, resume)[1])
      .filter((piece) => piece !== undefined)
  }

  async #awaitReady(): Promise<void> {
    const ready = new Promise<void>((resolve) => {
      this.#onReady = resolve
    })
    const timer = this.#time.setTimer(this.#plan.stallMs, () => {
      const words = `not ready for ${formatDuration(this.#plan.stallMs)}`
      const cure = 'with --ctl it begins by a line `ready`; or more time: --stall DUR'
      this.#fail(failedBecause(words, cure, { verdict: 'stop' }))
    })
    await Promise.race([ready, this.#ended])
    timer.cancel()
  }

  #say(words: string): void {
    if (!this.#plan.hasControl || this.#isOver) return
    const { delimiter } = this.#plan
    void this.#write(Buffer.concat([Buffer.from(`\x1e${words}`, 'utf8'), delimiter]))
  }

  /** @returns whether it was taken */
  #write(bytes: Uint8Array): Promise<boolean> {
    this.#writing = this.#writing.then(async (wasTaken) => {
      for (let at = 0; wasTaken && at < bytes.length; at += WRITE_BYTES) {
        const chunk = bytes.subarray(at, at + WRITE_BYTES)
        if ((await this.#child.input?.write(chunk)) !== true) return false
      }
      return wasTaken
    })
    return this.#writing
  }

  #flush(): void {
    if (this.#fed.length > 0) this.#say(`flush ${this.#lines}`)
  }

  // --- from the child

  async #readAll(output: ChildOutput | undefined, isInBand: boolean): Promise<void> {
    const { delimiter } = this.#plan
    const pending = new OutputBuffer(WRITE_BYTES)
    for (let chunk = await output?.read(); chunk !== undefined; chunk = await output?.read()) {
      if (this.#failure !== undefined || this.#isStopped) continue
      pending.append(chunk)
      const bytes = Buffer.from(pending.bytes.buffer, pending.bytes.byteOffset, pending.length)
      let at = 0
      for (;;) {
        const found = bytes.indexOf(delimiter, at)
        if (found < 0) break
        this.#onLine(bytes, at, found, isInBand)
        at = found + delimiter.length
        // What stands behind a word that failed the child counts no more.
        if (this.#failure !== undefined || this.#isStopped) break
      }
      pending.bytes.copyWithin(0, at, pending.length)
      pending.length -= at
    }
    if (isInBand && this.#options.output !== undefined) this.#restBytes = pending.length
  }

  #onLine(bytes: Buffer, start: number, end: number, isInBand: boolean): void {
    if (!isInBand || bytes[start] === CONTROL) {
      const line = bytes.subarray(isInBand ? start + 1 : start, end).toString('utf8')
      const word = parseAckWord(line)
      if (word === undefined) this.#misspoke(`said what is no control line: ${line.slice(0, 80)}`)
      else this.#onWord(word)
      return
    }
    if (this.#options.output === undefined) return
    this.#printed.append(bytes, start, end + this.#plan.delimiter.length)
    if (this.#printed.length > PRINTED_BYTES_MAX) {
      this.#misspoke(`printed ${this.#printed.length} bytes without acknowledging anything`)
    }
  }

  #onWord(word: AckWord): void {
    this.#restartStall()
    switch (word.kind) {
      case 'lines':
        if (word.count > this.#lines) {
          this.#misspoke(`acknowledged line ${word.count} of ${this.#lines}`)
          return
        }
        this.#ackedLines = Math.max(this.#ackedLines, word.count)
        this.#onAck()
        return
      case 'offsets':
        for (const each of word.offsets) this.#ackOffset(each)
        this.#onAck()
        return
      case 'nack':
        this.#onNack(word)
        return
      case 'state':
        if (this.#options.state === undefined) {
          const cure = 'a state needs one place: --singleton -P 1, with --job'
          this.#fail(failedBecause('told a state', cure, { verdict: 'stop' }))
          return
        }
        this.#state = Buffer.from(word.json, 'utf8')
        return
      case 'ready':
        for (const { topic, partition, offset } of word.resume) {
          const name = topic === undefined ? String(partition) : `${topic}/${partition}`
          this.#resume.set(name, offset)
        }
        this.#isReady = true
        this.#onReady()
        return
      case 'error': {
        const verdict = word.isFatal ? 'stop' : 'failed'
        this.#fail(failedBecause(word.text, undefined, { verdict }))
        return
      }
      case 'beat':
        return
    }
  }

  #ackOffset({ topic, partition, offset }: OffsetAck): void {
    const only = this.#fed.find(({ epoch }) => epoch.partition === partition)?.epoch.topic
    const name = `${topic ?? only ?? ''}/${partition}`
    this.#ackedOffsets.set(name, Math.max(this.#ackedOffsets.get(name) ?? -1, offset))
  }

  #onNack({ line, isDead, reason }: Extract<AckWord, { kind: 'nack' }>): void {
    if (line > this.#lines || line <= this.#ackedLines) {
      this.#misspoke(`gave back line ${line}, of those open up to ${this.#lines}`)
      return
    }
    const words = reason === '' ? `gave back line ${line}` : reason
    if (!isDead) {
      this.#fail(failedBecause(words, undefined))
      return
    }
    this.#dead.set(line, words)
    if (line !== this.#ackedLines + 1) return
    this.#ackedLines = line
    this.#onAck()
  }

  /** What was printed before it belongs to it. */
  #onAck(): void {
    this.#acked.append(this.#printed.bytes, 0, this.#printed.length)
    this.#printed.clear()
    this.#settleLater(this.#ackedLines === this.#lines ? 0 : this.#plan.limits.ms)
  }

  // --- accounts

  #settleLater(delayMs: number): void {
    if (delayMs === 0) {
      this.#settleTimer?.cancel()
      this.#settleTimer = undefined
    }
    this.#settleTimer ??= this.#time.setTimer(delayMs, () => {
      this.#settleTimer = undefined
      void this.#settle()
    })
  }

  /** All that is acknowledged goes to a transaction. */
  #settle(): Promise<void> {
    this.#settling = this.#settling.then(async () => {
      try {
        await this.#settleNow()
      } catch (error) {
        this.#options.events.onFailed(error)
      }
    })
    return this.#settling
  }

  async #settleNow(): Promise<void> {
    const { events } = this.#options
    const printed = Uint8Array.from(this.#acked.filled())
    const state = this.#state
    const ackedLines = this.#ackedLines
    const finished: FinishedEpoch[] = []
    const group = {}
    const left: Fed[] = []
    const dead: { readonly epoch: Epoch; readonly words: string }[] = []
    // What is being written is not known to the driver yet: then the whole acknowledgement waits.
    if (this.#fed.some((fed) => !fed.isWritten && this.#ackedOf(fed) > fed.skipped)) return
    for (const fed of this.#fed) {
      const count = fed.isWritten ? this.#ackedOf(fed) : 0
      if (count === 0) {
        left.push(fed)
        continue
      }
      let { epoch } = fed
      if (count < epoch.records) {
        const [done, rest] = events.divide(epoch, count)
        epoch = done
        const taken = count - fed.skipped
        const lines = fed.lines - taken
        left.push({ ...fed, epoch: rest, skipped: 0, firstLine: fed.firstLine + taken, lines })
      }
      const firstLine = fed.firstLine - fed.skipped
      for (const part of this.#withoutDead(epoch, firstLine, dead))
        finished.push({ epoch: part, group })
    }
    if (finished.length === 0 && dead.length === 0) return
    this.#fed = left
    this.#acked.clear()
    this.#state = undefined
    if (left.length === 0) this.#stallTimer?.cancel()
    const buried = await this.#bury(dead, group)
    const all = [...finished, ...buried].sort(
      ({ epoch: a }, { epoch: b }) => (a?.startOffset ?? 0) - (b?.startOffset ?? 0),
    )
    const first = all[0]
    if (first === undefined || !(await this.#isSound(printed, first))) return
    all[0] = {
      ...first,
      ...this.#appendOf(printed, state, first),
      drop: () => this.#say(`committed ${ackedLines}`),
    }
    events.emit(all)
  }

  /** How many records of it are done. */
  #ackedOf({ epoch, skipped, firstLine, lines }: Fed): number {
    const byLine = Math.min(lines, Math.max(0, this.#ackedLines - firstLine + 1))
    const offset = this.#ackedOffsets.get(nameOf(epoch)) ?? -1
    return Math.max(skipped + byLine, countThrough(epoch, offset))
  }

  /** The parts of an epoch around the records that the child gives up. */
  #withoutDead(
    whole: Epoch,
    firstLine: number,
    dead: { readonly epoch: Epoch; readonly words: string }[],
  ): readonly Epoch[] {
    const parts: Epoch[] = []
    const { events } = this.#options
    let epoch: Epoch | undefined = whole
    let line = firstLine
    for (const [at, words] of [...this.#dead].sort(([a], [b]) => a - b)) {
      if (epoch === undefined || at < line || at >= line + epoch.records) continue
      this.#dead.delete(at)
      if (at > line) {
        const [before, rest] = events.divide(epoch, at - line)
        parts.push(before)
        epoch = rest
        line = at
      }
      let record = epoch
      if (epoch.records > 1) [record, epoch] = events.divide(epoch, 1)
      else epoch = undefined
      dead.push({ epoch: record, words })
      line += 1
    }
    return epoch === undefined ? parts : [...parts, epoch]
  }

  async #bury(
    dead: readonly { readonly epoch: Epoch; readonly words: string }[],
    group: object,
  ): Promise<FinishedEpoch[]> {
    const buried: FinishedEpoch[] = []
    for (const { epoch, words } of dead) {
      const failure = failedBecause(words, undefined)
      const finished = await this.#options.events.bury(epoch, failure)
      if (finished !== undefined) buried.push({ ...finished, group })
      else {
        const cure = 'dead letters need a place: --job, or --dlq TOPIC'
        throw childFailed(this.#plan, { ...failure, cure }, '')
      }
    }
    return buried
  }

  async #isSound(printed: Uint8Array, first: FinishedEpoch): Promise<boolean> {
    const { output, events } = this.#options
    if (output === undefined || printed.length === 0) return true
    try {
      await output.check(inMemory(printed), first.epoch?.partition ?? 0)
      return true
    } catch (error) {
      if (!isStreamError(error)) throw error
      const words = `printed what makes no record: ${error.message}`
      const failure = failedBecause(words, cureOf(error, this.#plan))
      events.onFailed(childFailed(this.#plan, failure, ''))
      return false
    }
  }

  #appendOf(
    printed: Uint8Array,
    state: Uint8Array | undefined,
    first: FinishedEpoch,
  ): { append?: (producer: ProducerClient) => Promise<void> } {
    const { output, state: place } = this.#options
    const hasOutput = output !== undefined && printed.length > 0
    if (!hasOutput && state === undefined) return {}
    return {
      append: async (producer) => {
        if (hasOutput) await output.append(producer, inMemory(printed), first.epoch?.partition ?? 0)
        if (state !== undefined) await place?.append(producer, state)
      },
    }
  }

  // --- the end

  #misspoke(words: string): void {
    this.#fail(failedBecause(words, 'what it may say: stream help pipe', { verdict: 'stop' }))
  }

  #fail(failure: EpochFailure): void {
    this.#failure ??= failure
    this.#child.stop()
  }

  #restartStall(): void {
    this.#stallTimer?.cancel()
    this.#stallTimer = this.#time.setTimer(this.#plan.stallMs, () => {
      if (this.#fed.length === 0) return
      const open = this.#lines - this.#ackedLines
      const words = `acknowledged nothing for ${formatDuration(this.#plan.stallMs)}, with ${open} lines open`
      const cure =
        'flush `ack N` (begun by byte 0x1E) when line N is done; --ctl tells when (flush N); to gain time: beat, or --stall DUR'
      this.#fail(failedBecause(words, cure, { verdict: 'stop' }))
    })
  }

  async #end(reading: Promise<unknown>): Promise<void> {
    const end = await this.#child.ended
    await reading
    this.#isOver = true
    for (const timer of [this.#stallTimer, this.#settleTimer, this.#flushTimer]) timer?.cancel()
    // What it said last counts, and so does what the driver is still being told.
    await new Promise<void>((resolve) => {
      this.#time.setTimer(0, resolve)
    })
    await this.#settle()
    const saidWrong = this.#failure
    this.#failure ??= this.#judge(end)
    const open = this.#fed.filter(({ isWritten }) => isWritten).map(({ epoch }) => epoch)
    if (open.length === 0) {
      const isTold = this.#isTelling || this.#isStopped || this.#fed.length > 0
      if (!isTold) this.#tellIdleEnd(end, saidWrong ?? this.#judgeRest())
      return
    }
    this.#hasUndone = true
    this.#fed = []
    if (!this.#isStopped) this.#options.events.undo(open, this.#failure)
  }

  #tellIdleEnd(end: ChildEnd, failure: EpochFailure | undefined): void {
    const { events } = this.#options
    if (failure === undefined) tellIdleEnd(end, this.#plan, events)
    else events.onFailed(childFailed(this.#plan, failure, ''))
  }

  /** All is acknowledged and committed: what was printed after that would be lost without a word. */
  #judgeRest(): EpochFailure | undefined {
    const bytes = this.#printed.length + this.#restBytes
    if (bytes === 0 && this.#state === undefined) return undefined
    const words =
      bytes === 0
        ? 'told a state behind its last ack'
        : `printed ${bytes} bytes behind its last ack`
    const cure =
      'what belongs to a line is printed before it is acknowledged; hold the last ack back until the input ends'
    return failedBecause(`${words}, not stored`, cure)
  }

  #judge(end: ChildEnd): EpochFailure {
    const open = this.#lines - this.#ackedLines
    const exit = end.exit === undefined ? (end.signal ?? '') : String(end.exit)
    const facts = { exit, stderr: end.errorTail }
    const verdict = judgeEnd(end, this.#plan.success)
    if (verdict === 'done') {
      return failedBecause(`exited with ${open} lines not acknowledged`, undefined, facts)
    }
    return failedBecause(describeFailure(end), undefined, { ...facts, verdict })
  }
}

function nameOf({ topic, partition }: Epoch): string {
  return `${topic}/${partition}`
}

function countThrough(epoch: Epoch, offset: number): number {
  if (offset >= epoch.last) return epoch.records
  if (offset < epoch.first) return 0
  const cursor = new PieceCursor()
  cursor.reset(epoch.pieces)
  let count = 0
  while (cursor.next() && cursor.record.offset <= offset) count += 1
  return count
}

function inMemory(memory: Uint8Array) {
  return { bytes: memory.length, memory, open: () => undefined, drop: () => undefined }
}
