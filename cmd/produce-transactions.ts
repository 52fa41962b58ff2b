/**
 * The transactions of `produce --atomic`, `--txn-per-file` and `--resume`: whose they are, how long they may take, and the
 * position that a chunk is committed with.
 *
 * A transaction that nobody ends any more holds the topic's readers back until its time is over, so that is as short as
 * the sending can be expected to take, and a rerun of `--resume` with the same id ends it at once.
 */

import { StreamError } from '../src/base/errors.ts'
import type { ProducerOptions } from '../src/client/producer.ts'
import { knownTopicId } from '../src/client/topic-identity.ts'
import type { ByteInput } from '../src/ports/stdio.ts'
import { AtomicProducer } from './atomic-producer.ts'
import type { Broker } from './broker.ts'
import type { TransactionClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import type { ProducePlan } from './produce-plan.ts'
import { type InputPosition, ResumeSink } from './produce-resume.ts'
import type { Sink } from './produce-sink.ts'
import type { RecordErrors } from './record-errors.ts'
import { appendState, prepareState, readState, stateTopic } from './stream-state.ts'

const TIMEOUT_MS_MIN = 60_000
/** What brokers allow unless they are told otherwise. */
const TIMEOUT_MS_MAX = 900_000
/** A transaction is given the time that its bytes take at this speed, beyond the least. */
const BYTES_PER_MS = 2000
/** Of packed files only the packed size is known. */
const PACKED_FACTOR = 10

/** As it is stored, under `["resume", ID]`. */
interface StoredPosition {
  readonly v: 1
  readonly topic: string
  /** Which topic of that name; absent where the input names its topics, or nothing tells it. */
  readonly topicId?: string
  readonly bytes: number
  readonly lines: number
  readonly hash: string
  readonly open: boolean
}

export class ProduceTransactions {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #plan: ProducePlan
  readonly #options: ProducerOptions
  readonly #transactionalId: string
  #timeoutMs = TIMEOUT_MS_MIN
  #atomic: AtomicProducer | undefined

  constructor(deps: CommandDeps, broker: Broker, plan: ProducePlan, options: ProducerOptions) {
    this.#deps = deps
    this.#broker = broker
    this.#plan = plan
    this.#options = options
    const { resume } = plan
    this.#transactionalId =
      resume === undefined
        ? `stream.produce.${Buffer.from(deps.random.bytes(12)).toString('hex')}`
        : `stream.resume.${resume.id}`
  }

  /** Fences whoever had the id, settles what was left open, and begins. @throws StreamError as TransactionalProducer */
  async open(): Promise<AtomicProducer> {
    this.#atomic = new AtomicProducer(await this.#client())
    await this.#atomic.begin()
    return this.#atomic
  }

  /** Gives the transaction the time that its input needs, before the first record of it. */
  async allowFor(files: readonly string[], input: ByteInput, isPaced: boolean): Promise<void> {
    let bytes = input.sizeBytes ?? 0
    for (const path of files) {
      const factor = /\.(gz|zst)$/.test(path) ? PACKED_FACTOR : 1
      bytes = Math.max(bytes, (this.#deps.host.stat(path)?.sizeBytes ?? 0) * factor)
      if (this.#plan.whole === 'input') bytes += this.#deps.host.stat(path)?.sizeBytes ?? 0
    }
    const neededMs = TIMEOUT_MS_MIN + Math.ceil(bytes / BYTES_PER_MS)
    const timeoutMs = Math.min(TIMEOUT_MS_MAX, isPaced ? TIMEOUT_MS_MAX : neededMs)
    if (timeoutMs <= this.#timeoutMs || this.#atomic?.isEmpty !== true) return
    this.#timeoutMs = timeoutMs
    await this.#atomic.useInstead(await this.#client())
  }

  /** With `--resume`: the sink that goes on where the last run came to. @throws StreamError CONFLICT, of the broker */
  async resumed(
    sink: Sink,
    errors: RecordErrors,
    onFailure: (error: unknown) => void,
  ): Promise<ResumeSink | undefined> {
    const { resume } = this.#plan
    const atomic = this.#atomic
    if (resume === undefined || atomic === undefined) return undefined
    const { time } = this.#deps
    const prefix = ['resume', resume.id]
    const { form, delimiter, topic: target, keepTopic } = this.#plan
    const topicId = keepTopic ? undefined : knownTopicId((await atomic.prepare(target)).topicId)
    const from = resume.isRestart ? undefined : await this.#storedPosition(prefix, topicId)
    await prepareState(this.#deps, this.#broker, atomic)
    const ending = form === 'value' || form === 'json' ? delimiter : undefined
    return new ResumeSink(sink, {
      time,
      id: resume.id,
      limits: resume,
      errors,
      appendedCount: () => atomic.appendedCount,
      from,
      delimiter: form === 'format' ? Uint8Array.of(10) : ending,
      isDelimited: ending !== undefined,
      commit: async ({ bytes, lines, hash, isOpen }) => {
        const which = topicId === undefined ? { topic: target } : { topic: target, topicId }
        const stored: StoredPosition = { v: 1, ...which, bytes, lines, hash, open: isOpen }
        await atomic.commit(() => appendState(atomic, prefix, prefix, stored, time.wallMs()))
        await atomic.begin()
      },
      onFailure,
    })
  }

  /** The topic of the positions, which is no topic of the user's. */
  isOwnTopic(topic: string): boolean {
    return this.#plan.resume !== undefined && topic === stateTopic(this.#broker)
  }

  /** @param topicId  of the topic as it is now; undefined: not told */
  async #storedPosition(
    prefix: readonly string[],
    topicId: string | undefined,
  ): Promise<InputPosition | undefined> {
    const { resume, topic } = this.#plan
    const values = await readState(this.#deps, this.#broker, prefix)
    const stored = values.get(JSON.stringify(prefix)) as StoredPosition | undefined
    if (stored === undefined) return undefined
    if (stored.v !== 1 || !Number.isSafeInteger(stored.bytes)) {
      throw new StreamError('CONFLICT', `--resume ${resume?.id}: its position cannot be read`, {
        hint: 'a newer version of stream wrote it; to send all of it again: --restart',
      })
    }
    if (stored.topic !== topic) {
      throw new StreamError(
        'CONFLICT',
        `--resume ${resume?.id}: it stands for topic ${stored.topic}, not ${topic}`,
        { target: topic, hint: 'use another ID for another topic' },
      )
    }
    const sentTo = knownTopicId(stored.topicId)
    if (sentTo !== undefined && topicId !== undefined && sentTo !== topicId) {
      throw new StreamError(
        'CONFLICT',
        `--resume ${resume?.id}: topic ${topic} was deleted and created again since: the ${stored.lines} records that were sent before are gone`,
        { target: topic, hint: 'to send all of it again: --restart' },
      )
    }
    const { bytes, lines, hash, open } = stored
    return { bytes, lines, hash, isOpen: open }
  }

  async #client(): Promise<TransactionClient> {
    const { cluster } = this.#broker
    const transaction = { transactionalId: this.#transactionalId, timeoutMs: this.#timeoutMs }
    const client = await this.#deps.clients.transactionalProducer(
      cluster,
      transaction,
      this.#options,
    )
    await client.init()
    return client
  }
}
