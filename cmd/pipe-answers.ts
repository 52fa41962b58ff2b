/**
 * From answer lines to records of the output topic, beside the records that they answer: line k has the key, headers and
 * timestamp of record k, where nothing else was asked for.
 */

import { StreamError } from '../src/base/errors.ts'
import type { RecordInput } from '../src/record/batch-builder.ts'
import type { RecordCursor } from '../src/record/record-cursor.ts'
import { EnvelopeReader } from '../src/text/envelope-reader.ts'
import { findShort } from '../src/text/find-bytes.ts'
import { decodeString, JsonScanner, NOT_JSON } from '../src/text/json-scanner.ts'
import { RecordFields } from '../src/text/record-fields.ts'
import type { ProducerClient } from './clients.ts'
import { tooLarge } from './line-sink.ts'
import type { Epoch } from './pipe-epochs.ts'
import { PieceCursor } from './pipe-pieces.ts'
import type { PipeOutPlan, PipePlan } from './pipe-plan.ts'
import { topicPattern } from './topic-names.ts'

export class AnswerReader {
  readonly #out: PipeOutPlan
  readonly #delimiter: Uint8Array
  readonly #recordBytesMax: number
  readonly #prepareTopic: (producer: ProducerClient, topic: string) => Promise<void>
  readonly #key: Uint8Array | undefined
  readonly #envelopes: EnvelopeReader | undefined
  readonly #allowed: RegExp | undefined
  readonly #fields = new RecordFields()
  readonly #scanner = new JsonScanner()
  readonly #input = new PieceCursor()

  constructor(
    plan: PipePlan,
    out: PipeOutPlan,
    options: {
      readonly recordBytesMax: number
      /** Looks a topic up before its first record in a transaction. */
      readonly prepareTopic: (producer: ProducerClient, topic: string) => Promise<void>
    },
  ) {
    this.#out = out
    this.#delimiter = plan.delimiter
    this.#recordBytesMax = options.recordBytesMax
    this.#prepareTopic = options.prepareTopic
    this.#key = out.key === undefined ? undefined : Buffer.from(out.key, 'utf8')
    if (plan.childOut === 'json') {
      this.#envelopes = new EnvelopeReader({ keepTopic: out.keepTopic, keepPartition: false })
    }
    this.#allowed = out.keepTopic ? topicPattern(out.topic, false) : undefined
  }

  /** @throws StreamError RECORD_INVALID, RECORD_TOO_LARGE: a line makes no record */
  check(epoch: Epoch, lines: Uint8Array): void {
    for (const _ of this.#records(epoch, lines)) {
      // Read, and that is all.
    }
  }

  /** All that are not dropped, to the producer of the open transaction. @throws StreamError as append */
  async append(producer: ProducerClient, epoch: Epoch, lines: Uint8Array): Promise<void> {
    const { samePartition } = this.#out
    const prepared = new Set([this.#out.topic])
    for (const topic of this.#records(epoch, lines)) {
      if (!prepared.has(topic)) {
        await this.#prepareTopic(producer, topic)
        prepared.add(topic)
      }
      const { keySlot } = this.#fields
      const partition = samePartition
        ? epoch.partition
        : keySlot.start < 0
          ? undefined
          : producer.partitionForKey(topic, keySlot.bytes, keySlot.start, keySlot.end)
      while (!producer.append(topic, partition, this.#fields as RecordInput)) {
        await producer.writable()
      }
    }
  }

  /** Sets the fields to one record after the other, and gives its topic. */
  *#records(epoch: Epoch, lines: Uint8Array): Generator<string> {
    const bytes = Buffer.from(lines.buffer, lines.byteOffset, lines.byteLength)
    const input = this.#input
    input.reset(epoch.pieces)
    for (let at = 0; at < bytes.length && input.next(); ) {
      const found = bytes.indexOf(this.#delimiter, at)
      const end = found < 0 ? bytes.length : found
      const start = at
      at = end + this.#delimiter.length
      if (end === start) continue
      if (end - start > this.#recordBytesMax) throw tooLarge(this.#recordBytesMax)
      yield this.#read(bytes, start, end, input.record)
    }
  }

  #read(bytes: Uint8Array, start: number, end: number, input: RecordCursor): string {
    const fields = this.#fields
    const { keySeparator, keyPath, topic } = this.#out
    fields.reset()
    if (this.#envelopes !== undefined) this.#envelopes.read(bytes, start, end, fields)
    else if (keySeparator === undefined) fields.valueSlot.set(bytes, start, end)
    else {
      const found = findShort(bytes, start, end, keySeparator)
      if (found < 0) throw new StreamError('RECORD_INVALID', 'no key separator')
      fields.hasKey = true
      fields.keySlot.set(bytes, start, found)
      fields.valueSlot.set(bytes, found + keySeparator.length, end)
    }
    if (keyPath !== undefined) this.#readKey(keyPath)
    if (!fields.hasKey) this.#inheritKey(input)
    if (fields.headers.length === 0) this.#inheritHeaders(input)
    fields.timestampMs ??= input.timestampMs
    if (this.#allowed === undefined) return topic
    const named = fields.topic ?? ''
    if (this.#allowed.test(named)) return named
    throw new StreamError('RECORD_INVALID', `topic ${named} is not among those allowed`)
  }

  #inheritKey({ bytes, keyStart, keyEnd }: RecordCursor): void {
    const { keySlot } = this.#fields
    if (this.#key !== undefined) keySlot.set(this.#key, 0, this.#key.length)
    else if (keyStart >= 0) keySlot.set(bytes, keyStart, keyEnd)
  }

  #inheritHeaders(input: RecordCursor): void {
    while (input.nextHeader()) {
      const header = this.#fields.addHeader()
      header.key.set(input.bytes, input.headerKeyStart, input.headerKeyEnd)
      if (input.headerValueStart < 0) header.valueSlot.setNull()
      else header.valueSlot.set(input.bytes, input.headerValueStart, input.headerValueEnd)
    }
  }

  #readKey(path: NonNullable<PipeOutPlan['keyPath']>): void {
    const fields = this.#fields
    const { bytes, start, end } = fields.valueSlot
    const isFound = start >= 0 && this.#scanner.findPath(bytes, start, end, path)
    const { foundStart, foundEnd } = this.#scanner
    if (!isFound || foundStart === NOT_JSON) {
      const name = path.map(({ text }) => text).join('.')
      throw new StreamError('RECORD_INVALID', `no key .${name}`)
    }
    fields.hasKey = true
    if (bytes[foundStart] !== 0x22) {
      fields.keySlot.set(bytes, foundStart, foundEnd)
      return
    }
    const text = new Uint8Array(foundEnd - foundStart)
    const length = decodeString(bytes, foundStart + 1, foundEnd - 1, text, 0)
    if (length === NOT_JSON) throw new StreamError('RECORD_INVALID', 'key: lone surrogate')
    fields.keySlot.set(text, 0, length)
  }
}
