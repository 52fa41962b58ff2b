/**
 * Reads segment files past the socket, for consumers on the broker's machine. The broker says where whole committed
 * batches lie (LocalSpans); this reads them in blocks into given memory, one ahead on another thread, and looks at every
 * header. It is a shortcut and nothing else: at anything unexpected — a file that is gone or another one, bytes that are
 * no batches, an offset that does not follow — the partition goes back to plain Fetch, at the offset reached, and the
 * broker is the one who says what is wrong.
 *
 * Invariants:
 * - Per partition blocks follow one another in offset order; a block is given once, and its memory is not read into
 *   again before it was released.
 * - One partition at a time, for one grant of the broker; then the next one in the queue has its turn.
 * - A grant is used for a few seconds only, then asked for anew: what retention or an operator removes is not read for
 *   much longer, and its file not held open.
 * - The checksums are left to who hands the batches out (consumer.ts).
 */
import { StreamError } from '../base/errors.ts'
import type { Disk, DiskFile } from '../ports/disk.ts'
import type { Time, Timer } from '../ports/time.ts'
import type { Response } from '../protocol/api-table.ts'
import { type AbortedTransaction, AbortedTransactions } from '../record/aborted-transactions.ts'
import {
  baseOffsetAt,
  batchBytesAt,
  findHeaderDefect,
  HEADER_BYTES,
  lastOffsetAt,
  leaderEpochAt,
} from '../record/batch-layout.ts'
import type { Connection } from './connection.ts'
import type { Fetched } from './fetched-batches.ts'
import { knownTopicId } from './topic-identity.ts'

export interface LocalReadOptions {
  readonly disk: Pick<Disk, 'open'>
  /** Memory to read into, two blocks or more; asked for once, when there is something to read. None: it is not done. */
  readonly blocks: () => readonly Uint8Array[]
  /** Not worth while below; default 1 048 576. */
  readonly bytesMin?: number
  /** Of one read; default 1 048 576. */
  readonly readBytes?: number
  /** Of one grant; default 16 777 216. */
  readonly grantBytes?: number
  /** Which addresses are on this machine, where paths mean the same files. Default: those that begin with `ipc:`. */
  readonly isLocal?: (address: string) => boolean
}

/** What is read of a partition; its owner bumps `generation` when what is under way has lost its meaning. */
export interface LocalPart {
  readonly topic: string
  readonly topicId: string | undefined
  readonly partition: number
  readonly generation: number
  readonly fetchOffset: number
  readonly endOffset: number
}

/**
 * Without starts: there was nothing up to nextOffset, and nothing to release. Its transactions go on from block to block of
 * a grant.
 */
export interface LocalBlock extends Fetched {
  readonly release: () => void
}

export interface LocalEvents<P extends LocalPart> {
  /** The open connection to the partition's leader, and the epoch it is known by. */
  route(part: P): { readonly connection: Connection; readonly leaderEpoch: number } | undefined
  /** The next batches; the part's fetchOffset is to be set to the block's nextOffset. */
  onBlock(part: P, block: LocalBlock): void
  /** It is to be fetched from its fetchOffset on; and not to be offered here for `pauseMs`. */
  onRefused(part: P, pauseMs: number): void
}

type SpansAnswer = Response<'LocalSpans'>
type Span = SpansAnswer['spans'][number]

interface Grant<P> {
  readonly part: P
  readonly generation: number
  readonly answer: SpansAnswer
  readonly transactions: AbortedTransactions | undefined
  readonly grantedMs: number
  spanIndex: number
  /** In the file of the current span. */
  position: number
  /** The offset that is read next. */
  offset: number
  file: DiskFile | undefined
  /** Whether any batch of it was given. */
  isUsed: boolean
}

const BYTES_MIN = 1_048_576
const READ_BYTES = 1_048_576
const GRANT_BYTES = 16_777_216
const GRANT_MS = 5000
/** How long a partition is fetched after something was not as expected. */
const REFUSED_MS = 1000
/** Batches of one producer differ by less than a record; a little more than so many are read, so that all are whole. */
const BATCH_SLACK_BYTES = 4096

export class LocalReads<P extends LocalPart> {
  readonly #time: Time
  readonly #options: LocalReadOptions
  readonly #isCommitted: boolean
  readonly #events: LocalEvents<P>
  readonly #queue: P[] = []
  /** Blocks that may be read into; the others are being read, or wait for their release. */
  #free: Uint8Array[] | undefined
  #hasBlocks = false
  #grant: Grant<P> | undefined
  #isAsking = false
  #isReading = false
  #batchBytes = 0
  #timer: Timer | undefined
  #isClosed = false

  constructor(
    time: Time,
    options: LocalReadOptions & { readonly isCommitted: boolean },
    events: LocalEvents<P>,
  ) {
    this.#time = time
    this.#options = options
    this.#isCommitted = options.isCommitted
    this.#events = events
  }

  /** Below so many bytes ahead a partition is not worth being offered. */
  get bytesMin(): number {
    return this.#options.bytesMin ?? BYTES_MIN
  }

  /** Whether files of this broker can be read at all. */
  isPossible(connection: Connection): boolean {
    const isLocal = this.#options.isLocal ?? ((address) => address.startsWith('ipc:'))
    return isLocal(connection.address) && connection.supports('LocalSpans')
  }

  /** Reads it when its turn comes, until onRefused, or until its generation changes. */
  add(part: P): void {
    if (!this.#queue.includes(part)) this.#queue.push(part)
    this.pump()
  }

  /** Nothing more of it, for the owner has other plans. */
  remove(part: P): void {
    const at = this.#queue.indexOf(part)
    if (at >= 0) this.#queue.splice(at, 1)
    if (this.#grant?.part === part) this.#dropGrant()
  }

  close(): void {
    this.#isClosed = true
    this.#queue.length = 0
    this.#dropGrant()
  }

  pump(): void {
    if (this.#isClosed || this.#isReading || this.#isAsking) return
    const part = this.#grant?.part ?? this.#queue[0]
    if (part === undefined) return
    this.#free ??= this.#takeBlocks()
    if (!this.#hasBlocks) {
      this.#refuse(part, Number.POSITIVE_INFINITY)
      return
    }
    const block = this.#free.pop()
    if (block === undefined) return
    const grant = this.#currentGrant()
    if (grant === undefined) {
      this.#free.push(block)
      this.#ask(part)
    } else void this.#read(grant, block)
  }

  #takeBlocks(): Uint8Array[] {
    const blocks = [...this.#options.blocks()]
    this.#hasBlocks = blocks.length > 0
    return blocks
  }

  /** The grant in hand, unless it is used up, out of date, or for something that is not asked any more. */
  #currentGrant(): Grant<P> | undefined {
    const grant = this.#grant
    if (grant === undefined) return undefined
    const isOld = this.#time.monotonicMs() - grant.grantedMs >= GRANT_MS
    const isSpent = grant.spanIndex >= grant.answer.spans.length
    if (!isOld && !isSpent && grant.generation === grant.part.generation) return grant
    this.#dropGrant()
    return undefined
  }

  #dropGrant(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#grant?.file?.close()
    this.#grant = undefined
  }

  #ask(part: P): void {
    const route = this.#events.route(part)
    if (route === undefined || !this.isPossible(route.connection)) {
      this.#refuse(part, REFUSED_MS)
      return
    }
    const { topic, partition, generation, fetchOffset } = part
    this.#isAsking = true
    try {
      route.connection.request(
        'LocalSpans',
        {
          topic,
          partition,
          currentLeaderEpoch: route.leaderEpoch,
          fetchOffset,
          isolationLevel: this.#isCommitted ? 1 : 0,
          maxBytes: this.#options.grantBytes ?? GRANT_BYTES,
        },
        {},
        (_failure, answer) => {
          this.#isAsking = false
          if (this.#isClosed) return
          if (part.generation === generation && part.fetchOffset === fetchOffset) {
            this.#onAnswer(part, answer)
          }
          this.pump()
        },
      )
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      this.#isAsking = false
      this.#refuse(part, REFUSED_MS)
    }
  }

  #onAnswer(part: P, answer: SpansAnswer | undefined): void {
    const at = this.#queue.indexOf(part)
    if (at < 0) return
    let bytes = 0
    for (const span of answer?.spans ?? []) bytes += span.sizeBytes
    const isUseful = answer?.errorCode === 0 && isOfTopic(answer, part) && bytes >= this.bytesMin
    if (answer === undefined || !isUseful) {
      this.#refuse(part, REFUSED_MS)
      return
    }
    // To the back: the others have their turns before its next one.
    this.#queue.splice(at, 1)
    this.#queue.push(part)
    const aborted: readonly AbortedTransaction[] = answer.abortedTransactions
    this.#grant = {
      part,
      generation: part.generation,
      answer,
      transactions:
        this.#isCommitted && aborted.length > 0 ? new AbortedTransactions(aborted) : undefined,
      grantedMs: this.#time.monotonicMs(),
      spanIndex: 0,
      position: answer.spans[0]?.position ?? 0,
      offset: part.fetchOffset,
      file: undefined,
      isUsed: false,
    }
    this.#dropLater()
  }

  /** A reader that stands still holds no file open. */
  #dropLater(): void {
    this.#timer = this.#time.setTimer(GRANT_MS, () => {
      if (this.#isReading) this.#dropLater()
      else this.#dropGrant()
    })
  }

  /** Reads and gives out one block; the read of the next begins before this one is given out. */
  async #read(grant: Grant<P>, block: Uint8Array): Promise<void> {
    this.#isReading = true
    let isRead = false
    let sizeBytes = 0
    try {
      const span = grant.answer.spans[grant.spanIndex] as Span
      const file = this.#open(grant, span)
      if (file !== undefined) {
        const target = block.subarray(0, this.#readBytes(grant, span, block.length))
        sizeBytes = await file.readAsync(grant.position, target)
        // Shorter than promised: cut meanwhile.
        isRead = sizeBytes === target.length
      }
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
    }
    this.#isReading = false
    const isStale =
      this.#isClosed || this.#grant !== grant || grant.generation !== grant.part.generation
    const found = isStale || !isRead ? undefined : this.#scan(grant, block, sizeBytes)
    if (found === undefined || found.starts.length === 0) this.#free?.push(block)
    if (!isStale) this.#hand(grant, found)
    this.pump()
  }

  #hand(grant: Grant<P>, found: LocalBlock | undefined): void {
    const { part } = grant
    if (found === undefined) {
      this.#refuse(part, REFUSED_MS)
      return
    }
    if (found.starts.length > 0) grant.isUsed = true
    if (found.nextOffset > found.fromOffset) this.#events.onBlock(part, found)
    const isSpent = grant.spanIndex >= grant.answer.spans.length
    if (part.fetchOffset >= part.endOffset) this.remove(part)
    // Nothing at the offset where the broker promised something: a gap, which a Fetch steps over.
    else if (isSpent && !grant.isUsed) this.#refuse(part, REFUSED_MS)
  }

  /** @returns undefined when it is not the file that the broker meant. @throws StreamError of the disk */
  #open(grant: Grant<P>, span: Span): DiskFile | undefined {
    if (grant.file === undefined) {
      // Absolute, or it would be another file in this process's directory.
      if (!span.path.startsWith('/')) return undefined
      const file = this.#options.disk.open(span.path, 'read')
      if (file.fileId() !== span.fileId) {
        file.close()
        return undefined
      }
      grant.file = file
    }
    return grant.file
  }

  /** As many whole batches of the size seen last as are wanted at a time. */
  #readBytes(grant: Grant<P>, span: Span, blockBytes: number): number {
    const left = span.position + span.sizeBytes - grant.position
    const wanted = Math.max(this.#options.readBytes ?? READ_BYTES, HEADER_BYTES)
    const typical = this.#batchBytes
    const batches = typical === 0 ? 0 : Math.max(1, Math.floor(wanted / typical))
    const bytes = batches === 0 ? wanted : batches * typical + BATCH_SLACK_BYTES
    return Math.min(left, bytes, blockBytes)
  }

  /** Looks at the headers in a block and moves the grant behind its last whole batch. @returns undefined: not as expected */
  #scan(grant: Grant<P>, block: Uint8Array, sizeBytes: number): LocalBlock | undefined {
    const { answer, part } = grant
    const span = answer.spans[grant.spanIndex] as Span
    const starts: number[] = []
    const fromOffset = grant.offset
    let offset = fromOffset
    let at = 0
    while (at < sizeBytes && offset < part.endOffset) {
      const defect = findHeaderDefect(block, at, sizeBytes)
      if (defect?.kind === 'truncated' && at > 0) break
      // A batch larger than was read: a larger read, if the block has room for it.
      if (defect?.kind === 'truncated' && sizeBytes >= HEADER_BYTES) {
        const batchBytes = batchBytesAt(block, 0)
        const isKnown = this.#batchBytes === batchBytes
        this.#batchBytes = batchBytes
        if (isKnown || batchBytes > block.length) return undefined
        break
      }
      if (defect !== undefined || leaderEpochAt(block, at) > answer.leaderEpoch) return undefined
      const baseOffset = baseOffsetAt(block, at)
      const lastOffset = lastOffsetAt(block, at)
      if (lastOffset >= span.nextOffset) return undefined
      const batchBytes = batchBytesAt(block, at)
      if (lastOffset < offset) {
        // Before the first one wanted; later it would be one that does not follow.
        if (grant.isUsed || starts.length > 0) return undefined
      } else {
        if (baseOffset >= part.endOffset) {
          offset = part.endOffset
          break
        }
        const isFirst = !grant.isUsed && starts.length === 0
        if (baseOffset < offset ? !isFirst : !follows(answer, offset, baseOffset)) return undefined
        starts.push(at)
        offset = lastOffset + 1
      }
      this.#batchBytes = batchBytes
      at += batchBytes
    }
    if (!this.#moveOn(grant, at, offset)) return undefined
    return {
      bytes: block.subarray(0, at),
      starts,
      fromOffset,
      nextOffset: offset,
      transactions: grant.transactions,
      highWatermark: answer.highWatermark,
      lastStableOffset: answer.lastStableOffset,
      logStartOffset: answer.logStartOffset,
      release: this.#releaseOf(block),
    }
  }

  /** @returns false where batches are missing at a span's end */
  #moveOn(grant: Grant<P>, walkedBytes: number, offset: number): boolean {
    const span = grant.answer.spans[grant.spanIndex] as Span
    grant.position += walkedBytes
    grant.offset = offset
    if (grant.position < span.position + span.sizeBytes) return true
    if (offset < grant.part.endOffset && !follows(grant.answer, offset, span.nextOffset)) {
      return false
    }
    grant.file?.close()
    grant.file = undefined
    grant.spanIndex++
    grant.position = grant.answer.spans[grant.spanIndex]?.position ?? 0
    return true
  }

  #releaseOf(block: Uint8Array): () => void {
    let isHeld = true
    return () => {
      if (!isHeld) return
      isHeld = false
      this.#free?.push(block)
      this.pump()
    }
  }

  #refuse(part: P, pauseMs: number): void {
    this.remove(part)
    this.#events.onRefused(part, pauseMs)
  }
}

/** Whether `next` may come after everything below `offset` was read: at once, or behind a gap where gaps are known. */
function follows(answer: SpansAnswer, offset: number, next: number): boolean {
  return next <= offset || offset >= answer.denseEndOffset
}

/** The broker was asked by name: a topic that was created again may have answered in the place of the one that is read. */
function isOfTopic(answer: SpansAnswer, { topicId }: LocalPart): boolean {
  const answered = knownTopicId(answer.topicId)
  return answered === undefined || topicId === undefined || answered === topicId
}
