/**
 * The three indexes of one segment, held against its batches while those go by in order. An index may be a prefix of what it
 * should be, where the segment is still appended to; what it says must be right.
 *
 * Each check tells its first fault only: an index is rebuilt as a whole.
 */
import type { Disk } from '../../src/ports/disk.ts'
import { baseOffsetAt } from '../../src/record/batch-layout.ts'
import { type BatchWalk, recordTimestampAt } from '../log/batch-walk.ts'
import type { AbortedTransaction } from '../log/log-types.ts'
import { OffsetIndex } from '../log/offset-index.ts'
import { segmentName } from '../log/segment.ts'
import { TimeIndex } from '../log/time-index.ts'
import { TRANSACTION_ENTRY_BYTES, TransactionIndex } from '../log/transaction-index.ts'
import type { SegmentFile } from './partition-files.ts'

export interface IndexFault {
  readonly file: string
  readonly check: 'index' | 'time' | 'transactions'
  readonly state: 'bad' | 'missing'
  readonly offset: number | null
  readonly detail: string
}

export interface IndexRules {
  /** Nothing is appended to the segment any more, and its indexes were synced. */
  readonly isSettled: boolean
}

export class IndexChecks {
  readonly faults: IndexFault[] = []
  readonly #segment: SegmentFile
  readonly #rules: IndexRules
  readonly #offsets: OffsetIndex
  readonly #times: TimeIndex
  readonly #transactions: TransactionIndex
  #offsetAt = 0
  #timeAt = 0
  #maxTimestampMs = -1
  #isOffsetBad = false
  #isTimeBad = false
  readonly #aborted: AbortedTransaction[] = []
  readonly #markers = new Set<number>()

  constructor(disk: Disk, segment: SegmentFile, rules: IndexRules) {
    this.#segment = segment
    this.#rules = rules
    const { directory, baseOffset, suffix, sizeBytes } = segment
    const stem = `${directory}/${segmentName(baseOffset)}`
    this.#offsets = new OffsetIndex(`${stem}.index${suffix}`, baseOffset)
    this.#times = new TimeIndex(`${stem}.timeindex${suffix}`, baseOffset)
    this.#transactions = new TransactionIndex(`${stem}.txnindex${suffix}`)
    if (!this.#offsets.load(disk, Math.max(sizeBytes, 1))) this.#offsetFault('entries do not rise')
    if (!this.#times.load(disk)) this.#timeFault('entries do not rise')
    if (!this.#transactions.load(disk)) this.#transactionFault(null, 'entries that cannot be')
    if (!rules.isSettled) return
    for (const [path, check] of [
      [this.#offsets.file.path, 'index'],
      [this.#times.file.path, 'time'],
    ] as const) {
      if (disk.stat(path) === undefined) {
        this.faults.push({
          file: path,
          check,
          state: 'missing',
          offset: null,
          detail: 'no such file',
        })
      }
    }
  }

  onBatch(walk: BatchWalk): void {
    if (!this.#isOffsetBad) this.#checkOffset(walk)
    this.#checkTime(walk)
  }

  /** An abort marker went by. @param aborted  undefined: of a transaction without data here */
  onAbort(markerOffset: number, aborted: AbortedTransaction | undefined): void {
    this.#markers.add(markerOffset)
    if (aborted !== undefined) this.#aborted.push(aborted)
  }

  /** What the transaction index should hold. */
  get aborted(): readonly AbortedTransaction[] {
    return this.#aborted
  }

  /** After the last batch of a segment that was read without damage. */
  finish(): void {
    if (!this.#isOffsetBad && this.#offsetAt < this.#offsets.file.count) {
      const { offset, position } = this.#offsets.entry(this.#offsetAt)
      this.#offsetFault(`an entry for byte ${position}, where no batch begins`, offset)
    }
    if (!this.#isTimeBad && this.#timeAt < this.#times.file.count) {
      const { offset } = this.#times.entry(this.#timeAt)
      this.#timeFault('an entry for a batch that is not there', offset)
    }
    const latestMs = this.#times.last?.timestampMs ?? -1
    const hasTime = this.#rules.isSettled && this.#times.file.count > 0
    if (!this.#isTimeBad && hasTime && latestMs !== this.#maxTimestampMs) {
      this.#timeFault(`ends at ${latestMs}, the segment at ${this.#maxTimestampMs}`)
    }
    this.#checkTransactions()
  }

  #checkOffset(walk: BatchWalk): void {
    if (this.#offsetAt >= this.#offsets.file.count) return
    const entry = this.#offsets.entry(this.#offsetAt)
    if (entry.position > walk.position) return
    if (entry.position < walk.position) {
      this.#offsetFault(`an entry for byte ${entry.position}, where no batch begins`, entry.offset)
    } else if (entry.offset !== walk.lastOffset) {
      const detail = `says ${entry.offset} for byte ${entry.position}, where ${walk.lastOffset} is`
      this.#offsetFault(detail, entry.offset)
    } else this.#offsetAt += 1
  }

  #checkTime(walk: BatchWalk): void {
    const timestampMs = recordTimestampAt(walk.bytes, walk.at)
    if (timestampMs > this.#maxTimestampMs) this.#maxTimestampMs = timestampMs
    while (!this.#isTimeBad && this.#timeAt < this.#times.file.count) {
      const entry = this.#times.entry(this.#timeAt)
      if (entry.offset > walk.lastOffset) return
      if (entry.offset < baseOffsetAt(walk.bytes, walk.at)) {
        this.#timeFault('an entry for a batch that is not there', entry.offset)
      } else if (entry.timestampMs !== this.#maxTimestampMs) {
        const detail = `says ${entry.timestampMs}, the records up to there ${this.#maxTimestampMs}`
        this.#timeFault(detail, entry.offset)
      } else this.#timeAt += 1
    }
  }

  #checkTransactions(): void {
    const { file } = this.#transactions
    const known = new Map(this.#aborted.map((each) => [each.lastOffset, each]))
    const listed = new Set<number>()
    const count = Math.floor(file.usedBytes / TRANSACTION_ENTRY_BYTES)
    for (let index = 0; index < count; index += 1) {
      const entry = this.#transactions.entry(index)
      listed.add(entry.lastOffset)
      const found = known.get(entry.lastOffset)
      if (found === undefined && !this.#markers.has(entry.lastOffset)) {
        this.#transactionFault(entry.lastOffset, 'an entry without its marker in the log')
        return
      }
      if (found !== undefined) {
        const fits = found.producerId === entry.producerId && entry.firstOffset <= found.firstOffset
        if (!fits) {
          this.#transactionFault(entry.lastOffset, 'an entry that is not what its marker says')
          return
        }
      }
    }
    const missing = this.#aborted.find((each) => !listed.has(each.lastOffset))
    if (missing === undefined || !this.#rules.isSettled) return
    this.#transactionFault(missing.lastOffset, 'an aborted transaction is not listed')
  }

  #offsetFault(detail: string, offset: number | null = null): void {
    this.#isOffsetBad = true
    this.faults.push({
      file: this.#offsets.file.path,
      check: 'index',
      state: 'bad',
      offset,
      detail,
    })
  }

  #timeFault(detail: string, offset: number | null = null): void {
    this.#isTimeBad = true
    this.faults.push({ file: this.#times.file.path, check: 'time', state: 'bad', offset, detail })
  }

  #transactionFault(offset: number | null, detail: string): void {
    const file = this.#transactions.file.path
    if (this.faults.some((fault) => fault.file === file)) return
    this.faults.push({ file, check: 'transactions', state: 'bad', offset, detail })
  }

  get segmentPath(): string {
    return this.#segment.path
  }
}
