/**
 * Records one by one into a producer: keys, envelopes, sized values, everything that needs a look at each record.
 * No object is made per record: readers set ranges of the input in one RecordFields, which the batch builder copies.
 *
 * Invariant: a record that finds no room stays in the fields, whose ranges lie in the chunk in hand or in the splitter's
 * own buffer, and is the first thing that the next feed appends.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { RecordInput } from '../src/record/batch-builder.ts'
import { EnvelopeReader } from '../src/text/envelope-reader.ts'
import { equalBytes, findShort } from '../src/text/find-bytes.ts'
import type { FormatReader } from '../src/text/format-reader.ts'
import { decodeString, JsonScanner, NOT_JSON, type PathName } from '../src/text/json-scanner.ts'
import { RecordFields } from '../src/text/record-fields.ts'
import type { HeaderMatch } from '../src/text/record-filter.ts'
import { NULL_RECORD, type RecordSplitter, TOO_LONG } from '../src/text/record-splitter.ts'
import { parseTime } from '../src/text/time.ts'
import { isUtf8Range } from '../src/text/utf8.ts'
import type { ProducerClient } from './clients.ts'
import type { ChunkSink } from './input-pump.ts'
import { tooLarge } from './line-sink.ts'
import type { Pacer } from './pacer.ts'
import { type RecordErrors, withLine } from './record-errors.ts'

export interface RecordSinkOptions {
  /** Where records go that do not say; undefined: each must say. */
  readonly topic: string | undefined
  readonly partition: number | undefined
  /** Which topics the input may name; undefined: its topic is ignored. */
  readonly allowTopic?: (topic: string) => boolean
  readonly keepPartition?: boolean
  /** Looks a topic up before its first record. */
  readonly prepareTopic: (topic: string) => Promise<void>
  readonly form: 'value' | 'json' | 'sized' | 'raw' | 'format'
  /** Of `format`: the splitter, which sets the fields as well. */
  readonly format?: FormatReader
  readonly recordBytesMax: number
  readonly stripCarriageReturn?: boolean
  readonly nullValue?: Uint8Array
  readonly key?: Uint8Array
  readonly keySeparator?: Uint8Array
  /** For messages: the separator as it was given. */
  readonly keySeparatorText?: string
  readonly keyPath?: readonly PathName[]
  readonly timestampPath?: readonly PathName[]
  /** Of records that do not say; undefined: now. */
  readonly timestampMs?: number
  /** Added to each record. */
  readonly headers?: readonly HeaderMatch[]
  readonly require?: 'json' | 'utf8'
  readonly pacer?: Pacer
  /** Resolves after so many milliseconds. */
  readonly sleep: (delayMs: number) => Promise<void>
  readonly nowMs: () => number
}

export class RecordSink implements ChunkSink {
  readonly #producer: ProducerClient
  readonly #errors: RecordErrors
  readonly #splitter: RecordSplitter
  readonly #options: RecordSinkOptions
  readonly #fields: RecordFields
  readonly #scanner = new JsonScanner()
  readonly #envelopes: EnvelopeReader | undefined
  readonly #consume = (bytes: Uint8Array, start: number, end: number): boolean =>
    this.#take(bytes, start, end)
  readonly #prepared = new Set<string>()
  #scratch = new Uint8Array(1024)
  #isFirst = true
  /** The splitter has given its last record of this input. */
  #isInputOver = false
  /** The fields hold a record that has not been appended. */
  #hasPending = false
  #topic: string
  #partition: number | undefined
  #toPrepare: string | undefined
  #rawBytes: Uint8Array = this.#scratch
  #rawStart = -1
  #rawEnd = -1

  constructor(
    producer: ProducerClient,
    errors: RecordErrors,
    splitter: RecordSplitter,
    options: RecordSinkOptions,
  ) {
    this.#producer = producer
    this.#errors = errors
    this.#splitter = splitter
    this.#options = options
    this.#fields = options.format?.fields ?? new RecordFields()
    this.#topic = options.topic ?? ''
    this.#partition = options.partition
    if (options.topic !== undefined) this.#prepared.add(options.topic)
    if (options.form === 'json') {
      this.#envelopes = new EnvelopeReader({
        keepTopic: options.allowTopic !== undefined,
        keepPartition: options.keepPartition ?? false,
      })
    }
  }

  get openBytes(): number | undefined {
    return this.#splitter.isSkipping ? undefined : this.#splitter.heldBytes
  }

  get isRecordWaiting(): boolean {
    return this.#hasPending
  }

  get isBlocked(): boolean {
    return this.#hasPending || this.#errors.isFull || (this.#options.pacer?.waitMs ?? 0) > 0
  }

  async ready(): Promise<void> {
    if (this.#errors.isFull) await this.#errors.drained()
    const waitMs = this.#options.pacer?.waitMs ?? 0
    if (waitMs > 0) await this.#options.sleep(waitMs)
    if (!this.#hasPending) return
    const topic = this.#toPrepare
    if (topic !== undefined) {
      this.#toPrepare = undefined
      try {
        await this.#options.prepareTopic(topic)
        this.#prepared.add(topic)
      } catch (error) {
        if (!isStreamError(error, 'TOPIC_UNKNOWN')) throw error
        this.#hasPending = false
        this.#errors.reject(error, this.#producer.appendedCount, this.#raw())
      }
      return
    }
    if (this.#producer.isFull) await this.#producer.writable()
  }

  feed(chunk: Uint8Array, start: number, end: number): number {
    if (this.#hasPending && !this.#append()) return start
    if (start === end) return end
    const at = this.#splitter.feed(chunk, start, end, this.#consume)
    if (this.#splitter.isLost) {
      throw withLine(
        new StreamError('RECORD_INVALID', 'nothing tells where the next record begins'),
        this.#errors.lineOf(this.#producer.appendedCount),
      )
    }
    return at
  }

  /** One input is over. @returns false while there is no room for its last record */
  finish(): boolean {
    if (this.#hasPending && !this.#append()) return false
    if (!this.#isInputOver) {
      this.#isInputOver = true
      const defect = this.#splitter.finish(this.#consume)
      if (defect !== undefined) {
        const error = new StreamError('RECORD_INVALID', 'the input ends inside a record')
        this.#errors.reject(error, this.#producer.appendedCount, undefined)
      }
    }
    if (this.#hasPending) return false
    this.#isInputOver = false
    this.#isFirst = true
    return true
  }

  drop(): number {
    const { heldBytes } = this.#splitter
    this.#splitter.drop()
    return heldBytes
  }

  /** One record of the input. @returns whether to go on at once */
  #take(bytes: Uint8Array, start: number, end: number): boolean {
    try {
      this.#read(bytes, start, end)
    } catch (error) {
      const raw = start < 0 ? undefined : bytes.subarray(start, end)
      this.#errors.reject(error, this.#producer.appendedCount, raw)
      return !this.#errors.isFull
    }
    this.#hasPending = true
    this.#rawStart = start
    this.#rawEnd = end
    this.#rawBytes = bytes
    if (!this.#append()) return false
    const { pacer } = this.#options
    return pacer === undefined || pacer.waitMs === 0
  }

  /** @returns false if the record is still pending */
  #append(): boolean {
    if (!this.#prepared.has(this.#topic)) {
      this.#toPrepare = this.#topic
      return false
    }
    try {
      const partition = this.#choosePartition()
      // RecordFields is a RecordInput but for `undefined`, which the builder takes for absent.
      if (!this.#producer.append(this.#topic, partition, this.#fields as RecordInput)) return false
      this.#hasPending = false
    } catch (error) {
      const isOfRecord =
        isStreamError(error, 'RECORD_TOO_LARGE') || isStreamError(error, 'RECORD_INVALID')
      if (!isOfRecord) throw error
      this.#hasPending = false
      this.#errors.reject(error, this.#producer.appendedCount, this.#raw())
      return true
    }
    const { pacer } = this.#options
    if (pacer !== undefined) {
      const { start, end } = this.#fields.valueSlot
      pacer.take(1, end - start)
    }
    return true
  }

  /** The record in hand as it was read; undefined where it has no bytes of its own. */
  #raw(): Uint8Array | undefined {
    return this.#rawStart < 0 ? undefined : this.#rawBytes.subarray(this.#rawStart, this.#rawEnd)
  }

  #choosePartition(): number | undefined {
    const partition = this.#partition
    if (partition !== undefined) {
      const count = this.#producer.partitionCount(this.#topic)
      if (partition < count) return partition
      throw new StreamError(
        'RECORD_INVALID',
        `${this.#topic} has no partition ${partition}, only ${count}`,
      )
    }
    const { keySlot } = this.#fields
    if (keySlot.start < 0) return undefined
    return this.#producer.partitionForKey(this.#topic, keySlot.bytes, keySlot.start, keySlot.end)
  }

  #read(bytes: Uint8Array, start: number, end: number): void {
    const fields = this.#fields
    const options = this.#options
    if (start === TOO_LONG) throw tooLarge(options.recordBytesMax)
    const from = this.#isFirst ? this.#afterByteOrderMark(bytes, start, end) : start
    this.#isFirst = false
    const { format } = options
    if (format !== undefined) {
      if (format.defect !== undefined) throw new StreamError('RECORD_INVALID', format.defect)
      this.#readPlace(fields)
    } else if (this.#envelopes !== undefined) {
      this.#envelopes.read(bytes, from, end, fields)
      this.#readPlace(fields)
    } else {
      fields.reset()
      if (start !== NULL_RECORD) this.#readValue(bytes, start, end)
    }
    if (options.keyPath !== undefined) this.#readKeyPath(options.keyPath)
    if (options.timestampPath !== undefined) this.#readTimestampPath(options.timestampPath)
    const { key, headers, timestampMs } = options
    if (key !== undefined && !fields.hasKey) fields.keySlot.set(key, 0, key.length)
    if (timestampMs !== undefined) fields.timestampMs ??= timestampMs
    if (headers !== undefined) {
      for (const { name, value } of headers) {
        const header = fields.addHeader()
        header.key.set(name, 0, name.length)
        if (value === null) header.valueSlot.setNull()
        else header.valueSlot.set(value, 0, value.length)
      }
    }
    if (options.require !== undefined) this.#checkValue(options.require)
  }

  /** Envelopes are UTF-8 and may begin with its mark; in lines it is a part of the first value. */
  #afterByteOrderMark(bytes: Uint8Array, start: number, end: number): number {
    const isMark =
      this.#envelopes !== undefined &&
      end - start >= 3 &&
      bytes[start] === 0xef &&
      bytes[start + 1] === 0xbb &&
      bytes[start + 2] === 0xbf
    return isMark ? start + 3 : start
  }

  #readPlace(fields: RecordFields): void {
    const { allowTopic, topic, partition } = this.#options
    this.#partition = fields.partition ?? partition
    if (allowTopic === undefined) return
    const named = fields.topic ?? topic ?? ''
    if (!allowTopic(named)) {
      throw new StreamError('RECORD_INVALID', `topic ${named} is not among those allowed`)
    }
    this.#topic = named
  }

  #readValue(bytes: Uint8Array, start: number, lineEnd: number): void {
    const fields = this.#fields
    const { keySeparator, nullValue } = this.#options
    let end = lineEnd
    const strips = this.#options.stripCarriageReturn === true
    if (strips && end > start && bytes[end - 1] === 0x0d) end -= 1
    let valueStart = start
    if (keySeparator !== undefined) {
      const found = findShort(bytes, start, end, keySeparator)
      if (found < 0) {
        const shown = this.#options.keySeparatorText ?? ''
        throw new StreamError('RECORD_INVALID', `no key separator "${shown}"`)
      }
      fields.hasKey = true
      fields.keySlot.set(bytes, start, found)
      valueStart = found + keySeparator.length
    }
    if (nullValue !== undefined && equalBytes(bytes, valueStart, end, nullValue)) return
    fields.valueSlot.set(bytes, valueStart, end)
  }

  #readKeyPath(path: readonly PathName[]): void {
    const fields = this.#fields
    const { bytes, start, end } = fields.valueSlot
    const found = this.#findPath(path, 'key')
    fields.hasKey = true
    if (bytes[found] !== 0x22) {
      fields.keySlot.set(bytes, found, this.#scanner.foundEnd)
      return
    }
    const textStart = found + 1
    const textEnd = this.#scanner.foundEnd - 1
    for (let at = textStart; at < textEnd; at += 1) {
      if (bytes[at] !== 0x5c) continue
      if (this.#scratch.length < end - start) this.#scratch = new Uint8Array((end - start) * 2)
      const length = decodeString(bytes, textStart, textEnd, this.#scratch, 0)
      if (length === NOT_JSON) throw new StreamError('RECORD_INVALID', 'key: lone surrogate')
      fields.keySlot.set(this.#scratch, 0, length)
      return
    }
    fields.keySlot.set(bytes, textStart, textEnd)
  }

  #readTimestampPath(path: readonly PathName[]): void {
    const { bytes } = this.#fields.valueSlot
    const found = this.#findPath(path, 'timestamp')
    const isText = bytes[found] === 0x22
    const raw = Buffer.from(bytes.subarray(found, this.#scanner.foundEnd)).toString('utf8')
    const text = isText ? (JSON.parse(raw) as string) : raw
    const isNumber = /^\d+(\.\d+)?$/.test(text)
    const timestampMs = parseTime(isNumber ? `@${text}` : text, this.#options.nowMs())
    if (timestampMs === undefined || timestampMs < 0) {
      throw new StreamError('RECORD_INVALID', `${JSON.stringify(text)} is no timestamp`)
    }
    this.#fields.timestampMs = timestampMs
  }

  /** @returns where the member begins in the value */
  #findPath(path: readonly PathName[], what: string): number {
    const { bytes, start, end } = this.#fields.valueSlot
    if (start < 0 || !this.#scanner.findPath(bytes, start, end, path)) {
      const words = `value is no JSON, so it has no ${what} ${pathText(path)}`
      throw new StreamError('RECORD_INVALID', words)
    }
    if (this.#scanner.foundStart === NOT_JSON) {
      throw new StreamError('RECORD_INVALID', `no ${what} ${pathText(path)}`)
    }
    return this.#scanner.foundStart
  }

  #checkValue(wanted: 'json' | 'utf8'): void {
    const { bytes, start, end } = this.#fields.valueSlot
    if (start < 0) return
    if (!isUtf8Range(bytes, start, end)) {
      throw new StreamError('RECORD_INVALID', 'value is not UTF-8')
    }
    if (wanted === 'json' && !this.#scanner.isJson(bytes, start, end)) {
      throw new StreamError('RECORD_INVALID', 'value is no JSON')
    }
  }
}

function pathText(path: readonly PathName[]): string {
  return `.${path.map((name) => name.text).join('.')}`
}
