/** The library's consumer over src/client/consumer.ts: messages one by one, as an async iterable. */
import { isStreamError, StreamError } from '../base/errors.ts'
import type { Admin } from '../client/admin.ts'
import type { Consumer as Client } from '../client/consumer.ts'
import type { RecordsEvent } from '../client/consumer-events.ts'
import type { Isolation, OffsetQuestion } from '../client/offsets.ts'
import { RecordCursor } from '../record/record-cursor.ts'
import { lookUpTopic } from './admin.ts'
import { toMessage } from './bytes.ts'
import type { Consumer, ConsumerOptions, Message, Place, Position, Warning } from './public.d.ts'

export interface LibraryConsumerOptions extends ConsumerOptions {
  readonly admin: () => Admin
  readonly onWarning: (warning: Warning) => void
  readonly onClose: () => void
}

interface Partition {
  readonly topic: string
  readonly partition: number
}

export class LibraryConsumer implements Consumer {
  readonly #client: Client
  readonly #options: LibraryConsumerOptions
  readonly #positions = new Map<string, Position>()
  readonly #cursor = new RecordCursor()
  #isStarted = false
  #isClosed = false

  constructor(client: Client, options: LibraryConsumerOptions) {
    this.#client = client
    this.#options = options
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Message, undefined, undefined> {
    if (this.#isStarted) throw new StreamError('CONFLICT', 'a consumer is iterated once')
    this.#isStarted = true
    try {
      await this.#assign()
      while (!this.#isClosed) {
        const event = this.#client.poll()
        if (event === undefined) {
          if (this.#client.isDone) return undefined
          await this.#client.wait()
          continue
        }
        if (event.kind === 'failed') throw event.error
        if (event.kind === 'gap') this.#options.onWarning(event)
        if (event.kind !== 'records') continue
        yield* this.#messages(event)
        this.#note(event.topic, event.partition, event.nextOffset)
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
      while (!this.#isClosed && cursor.next()) {
        const { offset } = cursor
        if (offset < fromOffset) continue
        if (offset >= untilOffset) break
        const message = toMessage(cursor, topic, partition)
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
    this.#positions.set(`${topic}/${partition}`, { topic, partition, offset })
  }

  async #assign(): Promise<void> {
    const { from, until } = this.#options
    const partitions = await this.#partitions()
    const ends = until === undefined ? undefined : await this.#resolve(partitions, until)
    const start = from ?? (until === undefined ? 'end' : 'start')
    const isSaved = Array.isArray(start)
    const saved = isSaved ? (start as readonly Position[]) : []
    const places = await this.#resolve(partitions, isSaved ? 'start' : (start as Place))
    const assignments = partitions.map(({ topic, partition }, index) => {
      const own = saved.find((each) => each.topic === topic && each.partition === partition)
      const startOffset = own?.offset ?? places[index] ?? 0
      this.#note(topic, partition, startOffset)
      const endOffset = ends?.[index]
      return { topic, partition, startOffset, ...(endOffset === undefined ? {} : { endOffset }) }
    })
    if (!this.#isClosed) this.#client.assign(assignments)
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
        if (partition >= partitions.length) {
          const target = `${name} partition ${partition}`
          throw new StreamError('TOPIC_UNKNOWN', `${target}: no such partition`, { target })
        }
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
    const found = await ask(place.getTime())
    return found.map((offset, index) => (offset < 0 ? (ends[index] ?? 0) : offset))
  }
}
