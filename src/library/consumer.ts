/**
 * The library's consumer over src/client/consumer.ts: messages one by one, as an async iterable. One that follows all partitions
 * looks for new ones as the command `consume` does, while it waits and between batches.
 */
import { isStreamError, StreamError } from '../base/errors.ts'
import type { Admin } from '../client/admin.ts'
import type { Consumer as Client } from '../client/consumer.ts'
import type { RecordsEvent } from '../client/consumer-events.ts'
import type { Isolation, OffsetQuestion } from '../client/offsets.ts'
import type { Time } from '../ports/time.ts'
import { RecordCursor } from '../record/record-cursor.ts'
import { lookUpTopic } from './admin.ts'
import { plainBytes, toMessage } from './bytes.ts'
import { checkPartition, noSuchPartition, timeOf } from './option-checks.ts'
import type { Consumer, ConsumerOptions, Message, Place, Position, Warning } from './public.d.ts'

export interface LibraryConsumerOptions extends ConsumerOptions {
  readonly time: Time
  readonly admin: () => Admin
  readonly onWarning: (warning: Warning) => void
  readonly onClose: () => void
}

interface Partition {
  readonly topic: string
  readonly partition: number
}

/** As the command. */
const LOOK_AGAIN_MS = 5000

export class LibraryConsumer implements Consumer {
  readonly #client: Client
  readonly #options: LibraryConsumerOptions
  readonly #positions = new Map<string, Position>()
  readonly #cursor = new RecordCursor()
  /** All partitions, for as long as it takes. */
  readonly #followsAll: boolean
  #lookedMs = 0
  #isLooking = false
  #isStarted = false
  #isClosed = false

  constructor(client: Client, options: LibraryConsumerOptions) {
    this.#client = client
    this.#options = options
    this.#followsAll = (options.partitions ?? options.until) === undefined
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Message, undefined, undefined> {
    if (this.#isStarted) throw new StreamError('CONFLICT', 'a consumer is iterated once')
    this.#isStarted = true
    try {
      await this.#assign()
      while (!this.#isClosed) {
        const lookInMs = this.#followsAll ? this.#lookIfDue() : undefined
        const event = this.#client.poll()
        if (event === undefined) {
          if (this.#client.isDone) return undefined
          await this.#client.wait(lookInMs)
          continue
        }
        if (event.kind === 'failed') throw event.error
        if (event.kind === 'gap') this.#options.onWarning(event)
        if (event.kind !== 'records') continue
        yield* this.#messages(event)
        // Closed in the midst: what was not given is not behind it.
        if (!this.#isClosed) this.#note(event.topic, event.partition, event.nextOffset)
      }
    } catch (error) {
      // The loop was ended from outside.
      if (!this.#isClosed || !isStreamError(error, 'CLOSED')) throw error
    } finally {
      await this.close()
    }
    return undefined
  }

  *#messages(event: RecordsEvent): Generator<Message, void, undefined> {
    const { topic, partition, bytes, batches, fromOffset, untilOffset } = event
    const cursor = this.#cursor
    for (const at of batches) {
      cursor.reset(bytes, at)
      const plain = plainBytes(cursor.bytes)
      while (!this.#isClosed && cursor.next()) {
        const { offset } = cursor
        if (offset < fromOffset) continue
        if (offset >= untilOffset) break
        const message = toMessage(cursor, plain, topic, partition)
        // Given is read: whoever stores positions with the results has this message in them.
        this.#note(topic, partition, offset + 1)
        yield message
      }
    }
  }

  positions(): readonly Position[] {
    return [...this.#positions.values()]
  }

  close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true
      this.#client.close()
      this.#options.onClose()
    }
    return Promise.resolve()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #note(topic: string, partition: number, offset: number): void {
    this.#positions.set(keyOf({ topic, partition }), { topic, partition, offset })
  }

  async #assign(): Promise<void> {
    const { from, until } = this.#options
    this.#lookedMs = this.#options.time.monotonicMs()
    const partitions = await this.#partitions()
    const ends = until === undefined ? undefined : await this.#resolve(partitions, until)
    const start = from ?? (until === undefined ? 'end' : 'start')
    const place = Array.isArray(start) ? 'start' : (start as Place)
    this.#read(partitions, await this.#resolve(partitions, place), ends)
  }

  /** From saved positions, where there are some, else from `places`. */
  #read(
    partitions: readonly Partition[],
    places: readonly number[],
    ends: readonly number[] | undefined,
  ): void {
    const { from } = this.#options
    const saved: readonly Position[] = Array.isArray(from) ? from : []
    const assignments = partitions.map(({ topic, partition }, index) => {
      const own = saved.find((each) => each.topic === topic && each.partition === partition)
      const startOffset = own?.offset ?? places[index] ?? 0
      this.#note(topic, partition, startOffset)
      const endOffset = ends?.[index]
      return { topic, partition, startOffset, ...(endOffset === undefined ? {} : { endOffset }) }
    })
    if (!this.#isClosed) this.#client.assign(assignments)
  }

  /** @returns in how many milliseconds it is due again */
  #lookIfDue(): number {
    const nowMs = this.#options.time.monotonicMs()
    if (nowMs - this.#lookedMs >= LOOK_AGAIN_MS) {
      this.#lookedMs = nowMs
      // Beside the loop: a broker that is slow to answer holds up nothing that is at hand.
      if (!this.#isLooking) void this.#lookForMore()
    }
    return this.#lookedMs + LOOK_AGAIN_MS - nowMs
  }

  /** Partitions that were added are read from their start. */
  async #lookForMore(): Promise<void> {
    this.#isLooking = true
    try {
      const found = await this.#partitions()
      const added = found.filter((each) => !this.#positions.has(keyOf(each)))
      if (added.length > 0) this.#read(added, await this.#resolve(added, 'start'), undefined)
    } catch {
      // It cannot be told now; what is wrong with the partitions that are read their client says itself.
    }
    this.#isLooking = false
  }

  async #partitions(): Promise<Partition[]> {
    const { topics, partitions: wanted } = this.#options
    const names = typeof topics === 'string' ? [topics] : topics
    const admin = this.#options.admin()
    const found: Partition[] = []
    for (const name of new Set(names)) {
      const { partitions } = await lookUpTopic(admin, name)
      const numbers = wanted ?? partitions.map(({ partition }) => partition)
      for (const partition of numbers) {
        checkPartition(name, partition)
        if (partition >= partitions.length) throw noSuchPartition(name, partition)
        found.push({ topic: name, partition })
      }
    }
    return found
  }

  /** An offset for each partition. */
  async #resolve(partitions: readonly Partition[], place: Place): Promise<readonly number[]> {
    if (typeof place === 'number' && place >= 0) return partitions.map(() => place)
    const isolation: Isolation = this.#options.isolation ?? 'read_committed'
    const ask = async (at: OffsetQuestion['at']): Promise<readonly number[]> => {
      const questions = partitions.map((each) => ({ ...each, at }))
      const answers = await this.#options.admin().listOffsets(questions, { isolation })
      return answers.map(({ offset }) => offset)
    }
    if (place === 'start') return ask('earliest')
    const ends = await ask('latest')
    if (place === 'end') return ends
    if (typeof place === 'number') {
      const starts = await ask('earliest')
      return ends.map((end, index) => Math.max(starts[index] ?? 0, end + place))
    }
    const found = await ask(timeOf(place))
    return found.map((offset, index) => (offset < 0 ? (ends[index] ?? 0) : offset))
  }
}

function keyOf({ topic, partition }: Partition): string {
  return `${topic}/${partition}`
}
