/**
 * `stream get`: of all records that match only the latest is printed, once everything is read. Within a partition that
 * is the one with the highest offset, of several partitions the one with the latest timestamp.
 */

import type { RecordsEvent } from '../src/client/consumer-events.ts'
import type { ByteOutput } from '../src/ports/stdio.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import { RecordFilter } from '../src/text/record-filter.ts'
import type { PartitionEnds, RecordWriter } from '../src/text/record-writer.ts'
import { BrokenPipe } from './exit-code.ts'
import type { ReadPlan } from './read-options.ts'
import type { Printed } from './read-output.ts'
import type { VariantOutput } from './read-variant.ts'

export class LatestOutput implements VariantOutput {
  records = 0
  bytes = 0
  readonly isAmbiguous = false
  readonly isFull = false
  readonly isDone = false
  readonly #output: ByteOutput
  readonly #writer: RecordWriter
  readonly #filter: RecordFilter
  readonly #cursor = new RecordCursor()
  /** The latest so far as it is printed. */
  readonly #printed = new OutputBuffer(4096)
  #place = ''
  #latestPlace = ''
  #latestMs = Number.NEGATIVE_INFINITY
  #isFound = false
  #isTombstone = false
  #isFinished = false

  constructor(output: ByteOutput, plan: ReadPlan, writer: RecordWriter) {
    this.#output = output
    this.#writer = writer
    this.#filter = new RecordFilter(plan.filter)
  }

  setPartition(topic: string, partition: number): void {
    this.#place = `${topic}/${partition}`
    this.#writer.setPartition(topic, partition)
    this.#filter.setTopic(topic)
  }

  setEnds(ends: PartitionEnds): void {
    this.#writer.setEnds?.(ends)
  }

  addBatch(event: RecordsEvent, index: number, fromOffset: number): Printed {
    this.setPartition(event.topic, event.partition)
    this.setEnds(event)
    const cursor = this.#cursor
    cursor.reset(event.bytes, event.batches[index] as number)
    while (cursor.next()) {
      if (cursor.offset < fromOffset) continue
      if (cursor.offset >= event.untilOffset) {
        return { nextOffset: event.untilOffset, isWhole: true, isDone: false, hasPassedTime: false }
      }
      this.addRecord(cursor)
    }
    return {
      nextOffset: cursor.batchLastOffset + 1,
      isWhole: true,
      isDone: false,
      hasPassedTime: false,
    }
  }

  addRecord(cursor: RecordCursor): boolean {
    if (!this.#filter.matches(cursor)) return false
    const isNewer = this.#place === this.#latestPlace || cursor.timestampMs >= this.#latestMs
    if (!isNewer) return false
    this.#latestPlace = this.#place
    this.#latestMs = cursor.timestampMs
    this.#isFound = true
    this.#isTombstone = cursor.valueStart < 0
    this.#printed.clear()
    this.#writer.write(cursor, this.#printed)
    return true
  }

  finish(): void {
    this.#isFinished = true
    if (!this.#isFound || this.#isTombstone) return
    this.records = 1
    this.bytes = this.#printed.length
  }

  write(): void | Promise<void> {
    if (!this.#isFinished || this.records === 0) return undefined
    const outcome = this.#output.write(this.#printed.filled())
    this.#isFinished = false
    if (outcome === 'written') return undefined
    return Promise.resolve(outcome).then((later) => {
      if (later === 'broken') throw new BrokenPipe()
    })
  }
}
