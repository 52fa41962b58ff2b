/** What a run did: counted as it goes, told at the end as one line and, with --report, as one object. */

import type { Time } from '../src/ports/time.ts'
import { formatDuration, formatSize } from '../src/text/units.ts'
import type { CommandDeps } from './deps.ts'

interface PartitionSpan {
  readonly topic: string
  readonly partition: number
  /** Offsets, both inclusive. */
  first: number
  last: number
}

export class Report {
  records = 0
  bytes = 0
  errors = 0
  /** All input lines up to this one are delivered; null where there are no lines. */
  throughLine: number | null = null
  /** Offsets that were gone before they could be read. */
  gap = 0
  readonly #command: string
  readonly #time: Time
  readonly #startMs: number
  readonly #partitions = new Map<string, PartitionSpan>()

  constructor(command: string, time: Time) {
    this.#command = command
    this.#time = time
    this.#startMs = time.monotonicMs()
  }

  get elapsedMs(): number {
    return this.#time.monotonicMs() - this.#startMs
  }

  /** Offsets `first` to `last` of a partition were read or written. */
  addSpan(topic: string, partition: number, first: number, last: number): void {
    const name = `${topic}/${partition}`
    const span = this.#partitions.get(name)
    if (span === undefined) {
      this.#partitions.set(name, { topic, partition, first, last })
      return
    }
    if (first < span.first) span.first = first
    if (last > span.last) span.last = last
  }

  /** One after the last offset of a partition that was read or written; 0 where none was. */
  nextOffset(topic: string, partition: number): number {
    return (this.#partitions.get(`${topic}/${partition}`)?.last ?? -1) + 1
  }

  /** `100000 records, 195 KiB in 0.4s (250000/s)`. */
  summary(verb: string): string {
    const seconds = Math.max(this.elapsedMs, 1) / 1000
    const rate = Math.round(this.records / seconds)
    const noun = this.records === 1 ? 'record' : 'records'
    const errors = this.errors === 0 ? '' : `, ${this.errors} in error`
    return `${this.records} ${noun} ${verb}, ${formatSize(this.bytes)} in ${formatDuration(this.elapsedMs)} (${rate}/s)${errors}`
  }

  /** @param path  `-` is standard output */
  async write(deps: CommandDeps, path: string, exit: number): Promise<void> {
    const object = {
      v: 1,
      kind: 'report',
      command: this.#command,
      records: this.records,
      bytes: this.bytes,
      errors: this.errors,
      through_line: this.throughLine,
      gap: this.gap,
      partitions: [...this.#partitions.values()].sort(
        (left, right) =>
          (left.topic < right.topic ? -1 : left.topic > right.topic ? 1 : 0) ||
          left.partition - right.partition,
      ),
      ms: Math.round(this.elapsedMs),
      exit,
    }
    const output = deps.stdio.openOutput(path)
    await output.write(Buffer.from(`${JSON.stringify(object)}\n`))
    output.close()
  }
}
