/**
 * The library's producer over src/client/producer.ts: one promise for each record.
 *
 * Invariants:
 * - Records are appended in the order of the calls; a call that must wait (topic not looked up, no room) holds back the
 *   ones behind it.
 * - Each send is settled once: by its delivery, by the failure of its append, or by the close.
 * - No partition is refused on what was heard before the call: it may have been added since.
 */
import { isStreamError, StreamError } from '../base/errors.ts'
import type { Admin } from '../client/admin.ts'
import type { Delivery } from '../client/delivery.ts'
import type { Producer as Client } from '../client/producer.ts'
import { sleep, type Time } from '../ports/time.ts'
import { lookUpTopic } from './admin.ts'
import { rangeOf, toRecord } from './bytes.ts'
import { checkRecords } from './option-checks.ts'
import type { Bytes, Producer, Receipt, RecordInput } from './public.d.ts'

interface Waiting {
  readonly resolve: (receipt: Receipt) => void
  readonly reject: (error: unknown) => void
}

/** When a topic's partitions were last asked for, and how many calls had been made by then that had to wait. */
interface Look {
  readonly atMs: number
  readonly calls: number
}

export interface LibraryProducerOptions {
  readonly time: Time
  readonly create: boolean
  readonly admin: () => Admin
  readonly onClose: () => void
}

/** Unacknowledged records of one sendAll: enough to fill batches, little enough to bound its promises. */
const SEND_ALL_MAX = 20_000
/** Whoever names partitions that are not there makes the broker be asked so often, and no oftener. */
const LOOK_AGAIN_MS = 100

export class LibraryProducer implements Producer {
  readonly #client: Client
  readonly #options: LibraryProducerOptions
  readonly #waiting = new Map<number, Waiting>()
  readonly #prepared = new Map<string, Promise<void>>()
  readonly #ready = new Set<string>()
  readonly #looks = new Map<string, Look>()
  /** The last call that had to wait; the ones behind it queue up here. */
  #turn: Promise<void> | undefined
  /** That had to wait, so far. */
  #calls = 0
  #isFlushDue = false
  #closing: Promise<void> | undefined

  /** @param make  is given what to call for each delivery */
  constructor(
    make: (onDelivery: (delivery: Delivery) => void) => Client,
    options: LibraryProducerOptions,
  ) {
    this.#client = make((delivery) => this.#onDelivery(delivery))
    this.#options = options
  }

  send(topic: string, record: Bytes | RecordInput): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const waiting = { resolve, reject }
      if (this.#closing !== undefined) {
        reject(new StreamError('CLOSED', 'the producer is closed'))
        return
      }
      const isReady = this.#turn === undefined && this.#ready.has(topic)
      if (isReady && !this.#isUnheardOf(topic, record)) {
        if (this.#tryAppend(topic, record, waiting)) return
      }
      this.#calls += 1
      const call = this.#calls
      const turn = (this.#turn ?? Promise.resolve()).then(() =>
        this.#appendLater(topic, record, waiting, call),
      )
      this.#turn = turn
      void turn.then(() => {
        if (this.#turn === turn) this.#turn = undefined
      })
    })
  }

  async sendAll(
    topic: string,
    records: Iterable<Bytes | RecordInput> | AsyncIterable<Bytes | RecordInput>,
  ): Promise<number> {
    checkRecords(records)
    let count = 0
    let open = 0
    let failure: { readonly error: unknown } | undefined
    let wake: (() => void) | undefined
    const settled = (): void => {
      open -= 1
      wake?.()
    }
    for await (const record of records) {
      if (failure !== undefined) break
      count += 1
      open += 1
      this.send(topic, record).then(settled, (error: unknown) => {
        failure ??= { error }
        settled()
      })
      while (open >= SEND_ALL_MAX) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
    while (open > 0) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    if (failure !== undefined) throw failure.error
    return count
  }

  async flush(): Promise<void> {
    await this.#turn
    try {
      await this.#client.flush()
    } catch {
      // Each send has been told.
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#end()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #end(): Promise<void> {
    await this.flush()
    this.#client.close()
    for (const waiting of this.#waiting.values()) {
      waiting.reject(new StreamError('CLOSED', 'the producer was closed'))
    }
    this.#waiting.clear()
    this.#options.onClose()
  }

  /** @returns false: there is no room */
  #tryAppend(topic: string, input: Bytes | RecordInput, waiting: Waiting): boolean {
    try {
      const record = toRecord(input)
      const partition = this.#choose(topic, input)
      const ordinal = this.#client.appendedCount
      this.#waiting.set(ordinal, waiting)
      if (!this.#client.append(topic, partition, record)) {
        this.#waiting.delete(ordinal)
        return false
      }
      this.#flushSoon()
    } catch (error) {
      if (this.#waiting.get(this.#client.appendedCount) === waiting) {
        this.#waiting.delete(this.#client.appendedCount)
      }
      waiting.reject(error)
    }
    return true
  }

  async #appendLater(
    topic: string,
    input: Bytes | RecordInput,
    waiting: Waiting,
    call: number,
  ): Promise<void> {
    try {
      await this.#prepare(topic)
      if (this.#isUnheardOf(topic, input)) await this.#lookAgain(topic, call)
    } catch (error) {
      waiting.reject(error)
      return
    }
    while (!this.#tryAppend(topic, input, waiting)) await this.#client.writable()
  }

  /** A partition behind the last one that is known. */
  #isUnheardOf(topic: string, input: Bytes | RecordInput): boolean {
    const partition = (input as Partial<RecordInput> | null | undefined)?.partition
    return Number.isInteger(partition) && Number(partition) >= this.#client.partitionCount(topic)
  }

  /** Asks for the topic's partitions anew, unless that was done since the call. @throws StreamError of the lookup */
  async #lookAgain(topic: string, call: number): Promise<void> {
    const { time, admin } = this.#options
    const last = this.#looks.get(topic)
    if (last !== undefined && last.calls >= call) return
    const waitMs = (last?.atMs ?? Number.NEGATIVE_INFINITY) + LOOK_AGAIN_MS - time.monotonicMs()
    if (waitMs > 0) await sleep(time, waitMs)
    this.#noteLook(topic)
    await lookUpTopic(admin(), topic)
  }

  #noteLook(topic: string): void {
    this.#looks.set(topic, { atMs: this.#options.time.monotonicMs(), calls: this.#calls })
  }

  #choose(topic: string, input: Bytes | RecordInput): number | undefined {
    if (typeof input === 'string' || input instanceof Uint8Array) return undefined
    const { partition, key } = input
    if (partition !== undefined) {
      if (Number.isInteger(partition) && partition >= 0) return partition
      throw new StreamError('RECORD_INVALID', `${partition} is no partition's number`)
    }
    if (key === undefined || key === null) return undefined
    const { bytes, start, end } = rangeOf(key)
    return this.#client.partitionForKey(topic, bytes, start, end)
  }

  /** Looked up once; a failure is not remembered. */
  #prepare(topic: string): Promise<void> {
    let prepared = this.#prepared.get(topic)
    if (prepared === undefined) {
      prepared = this.#lookUp(topic).then(() => {
        this.#ready.add(topic)
      })
      prepared.catch(() => this.#prepared.delete(topic))
      this.#prepared.set(topic, prepared)
    }
    return prepared
  }

  async #lookUp(topic: string): Promise<void> {
    this.#noteLook(topic)
    try {
      await this.#client.prepare(topic)
    } catch (error) {
      if (!this.#options.create || !isStreamError(error, 'TOPIC_UNKNOWN')) throw error
      const admin = this.#options.admin()
      const [outcome] = await admin.createTopics([{ name: topic }])
      // Another producer may have been faster.
      if (outcome?.error !== undefined && outcome.error.code !== 'TOPIC_EXISTS') throw outcome.error
      await admin.awaitTopic(topic)
      await this.#client.prepare(topic)
    }
  }

  /** Records sent in one turn of the loop leave together, and need not wait for more. */
  #flushSoon(): void {
    if (this.#isFlushDue) return
    this.#isFlushDue = true
    void Promise.resolve().then(() => {
      this.#isFlushDue = false
      this.#client.flushSoon()
    })
  }

  #onDelivery({ topic, partition, baseOffset, ordinals, error }: Delivery): void {
    for (const [index, ordinal] of (ordinals ?? []).entries()) {
      const waiting = this.#waiting.get(ordinal)
      this.#waiting.delete(ordinal)
      if (error !== undefined) waiting?.reject(error)
      else {
        const offset = baseOffset < 0 ? -1 : baseOffset + index
        waiting?.resolve({ topic, partition, offset })
      }
    }
  }
}
