/**
 * `--commit ack`: what the reader of our output says it is done with, as lines on a descriptor (commands.md, section 6):
 *
 *     N                        the first N records of this run
 *     TOPIC PARTITION OFFSET   this record and all before it in its partition
 *
 * Invariants: only what was printed can be acknowledged, in order within each partition; memory is eight bytes a
 * printed record that is not acknowledged.
 */

import { StreamError } from '../src/base/errors.ts'
import type { ByteInput } from '../src/ports/stdio.ts'

const NEWLINE = 0x0a
const LINE_BYTES_MAX = 4096
/** Runs of acknowledged records are let go when so many have gathered. */
const COMPACT_FROM = 4096

interface Lane {
  readonly topic: string
  readonly partition: number
  /** Of printed records, rising; those before `done` are acknowledged. */
  readonly offsets: number[]
  done: number
}

export class Acknowledgements {
  readonly #lanes = new Map<string, Lane>()
  /** The lane of each printed record, from the first that is not acknowledged by count. */
  readonly #order: Lane[] = []
  #orderFirst = 0
  #orderDone = 0
  #printed = 0
  #open = 0
  #line = ''
  #hasEnded = false
  #error: StreamError | undefined
  readonly #input: ByteInput
  #onChange: () => void = () => undefined

  /** Begins to read. @param onChange  called when something was acknowledged, and at the end */
  constructor(input: ByteInput, onChange: () => void) {
    this.#input = input
    this.#onChange = onChange
    input.start({
      onBytes: (chunk, start, end) => this.#onBytes(chunk, start, end),
      onEnd: (error) => {
        this.#hasEnded = true
        if (error instanceof StreamError) this.#error ??= error
        this.#onChange()
      },
    })
  }

  /** Printed and not acknowledged. */
  get openCount(): number {
    return this.#open
  }

  /** No further acknowledgements can come. */
  get hasEnded(): boolean {
    return this.#hasEnded || this.#error !== undefined
  }

  /** What a line was that is none; or why reading failed. */
  get error(): StreamError | undefined {
    return this.#error
  }

  close(): void {
    this.#hasEnded = true
    this.#input.close()
  }

  /** A record was printed. */
  add(topic: string, partition: number, offset: number): void {
    const name = `${topic}/${partition}`
    let lane = this.#lanes.get(name)
    if (lane === undefined) {
      lane = { topic, partition, offsets: [], done: 0 }
      this.#lanes.set(name, lane)
    }
    lane.offsets.push(offset)
    this.#order.push(lane)
    this.#printed += 1
    this.#open += 1
  }

  /** Where each partition may be read on: after its last acknowledged record. Only those with any. */
  *positions(): Generator<{ topic: string; partition: number; offset: number }> {
    for (const { topic, partition, offsets, done } of this.#lanes.values()) {
      if (done > 0) yield { topic, partition, offset: (offsets[done - 1] as number) + 1 }
    }
  }

  #onBytes(chunk: Uint8Array, start: number, end: number): void {
    let at = start
    while (at < end && this.#error === undefined) {
      const found = chunk.indexOf(NEWLINE, at)
      const lineEnd = found < 0 || found >= end ? end : found
      this.#line += Buffer.from(chunk.subarray(at, lineEnd)).toString('utf8')
      if (lineEnd === end) break
      this.#take(this.#line)
      this.#line = ''
      at = lineEnd + 1
    }
    if (this.#line.length > LINE_BYTES_MAX) this.#refuse(this.#line.slice(0, 40))
    this.#onChange()
  }

  #take(line: string): void {
    const [first = '', second, third, ...more] = line.trim().split(/\s+/)
    if (first === '') return
    const isNumber = (text: string | undefined): text is string => /^\d{1,16}$/.test(text ?? '')
    if (second === undefined && isNumber(first)) this.#takeCount(Number(first), line)
    else if (isNumber(second) && isNumber(third) && more.length === 0) {
      this.#takeOffset(this.#lanes.get(`${first}/${second}`), Number(third), line)
    } else this.#refuse(line)
  }

  #takeCount(count: number, line: string): void {
    if (count > this.#printed) {
      this.#refuse(line)
      return
    }
    while (this.#orderDone < count) {
      const lane = this.#order[this.#orderDone - this.#orderFirst] as Lane
      this.#orderDone += 1
      // Of a partition the first so many: those named by offset are among them.
      this.#counted.set(lane, (this.#counted.get(lane) ?? 0) + 1)
      const wanted = this.#counted.get(lane) ?? 0
      if (wanted > lane.done + (this.#dropped.get(lane) ?? 0)) {
        lane.done += 1
        this.#open -= 1
      }
    }
    this.#compact()
  }

  readonly #counted = new Map<Lane, number>()
  readonly #dropped = new Map<Lane, number>()

  #takeOffset(lane: Lane | undefined, offset: number, line: string): void {
    const last = lane?.offsets.at(-1)
    if (lane === undefined || last === undefined || offset > last) {
      this.#refuse(line)
      return
    }
    while (lane.done < lane.offsets.length && (lane.offsets[lane.done] as number) <= offset) {
      lane.done += 1
      this.#open -= 1
    }
    this.#compact()
  }

  #compact(): void {
    const finished = this.#orderDone - this.#orderFirst
    if (finished >= COMPACT_FROM) {
      this.#order.splice(0, finished)
      this.#orderFirst = this.#orderDone
    }
    for (const lane of this.#lanes.values()) {
      // The last one stays: it is the position.
      if (lane.done < COMPACT_FROM) continue
      const count = lane.done - 1
      lane.offsets.splice(0, count)
      lane.done = 1
      this.#dropped.set(lane, (this.#dropped.get(lane) ?? 0) + count)
    }
  }

  #refuse(line: string): void {
    this.#error ??= new StreamError(
      'RECORD_INVALID',
      `acknowledgement ${JSON.stringify(line)}: must be a number of printed records, or TOPIC PARTITION OFFSET of one`,
    )
  }
}
