/**
 * `stream dump`: the records of a partition, or its batches, from the files themselves (commands.md, section 5). The files
 * are read through the port Offline; here they become text.
 */

import { isStreamError, StreamError, UsageError } from '../src/base/errors.ts'
import type {
  DumpRequest,
  DumpSink,
  OfflineBatch,
  OfflineDamage,
  OfflinePlace,
} from '../src/ports/offline.ts'
import {
  attributesAt,
  baseOffsetAt,
  baseSequenceAt,
  batchBytesAt,
  codecOf,
  crcAt,
  lastOffsetAt,
  leaderEpochAt,
  producerIdAt,
  recordCountAt,
} from '../src/record/batch-layout.ts'
import { codecFromId } from '../src/record/compression.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import { EnvelopeWriter } from '../src/text/envelope-writer.ts'
import { type Positions, parsePositions, positionFor } from '../src/text/position.ts'
import { jsonLine, type Row, type RowShape, tsvLine } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { BrokenPipe, joinExitCodes } from './exit-code.ts'
import type { Flags } from './flags.ts'
import { type CommandSpec, reportOption } from './option-table.ts'
import { Progress } from './progress.ts'
import { Report } from './report.ts'
import { printRows, rowForm } from './row-output.ts'

const shape: RowShape = {
  kind: 'batch',
  columns: [
    'FILE',
    'POSITION',
    'BASE',
    'LAST',
    'EPOCH',
    'PRODUCER',
    'SEQUENCE',
    'CODEC',
    'RECORDS',
    'BYTES',
    'CRC',
    'STATE',
  ],
}

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'dump',
  summary: "Print a partition's records from its files, without a daemon",
  description: [
    'DIR is the directory of a partition, FILE a segment file (.log). Nothing is changed, and no daemon is needed; one that runs is not disturbed. Records are printed as envelopes, which produce --json takes.',
    'Damaged batches are skipped and named on standard error, exit 5. Records of aborted transactions are left out; an open transaction holds back what follows it, unless --uncommitted.',
    'A torn tail, as a crash leaves it behind what was durable, is said and no error.',
    'With --batches a row for each batch; STATE is ok, control, aborted, open, damaged or torn.',
  ],
  operands: [{ name: 'DIR|FILE', isRepeatable: true }],
  options: [
    { long: 'json', help: 'records as envelopes (the default), rows and errors as JSON objects' },
    { long: 'batches', help: 'a row for each batch in place of its records' },
    { long: 'from', argument: 'POS', help: 'where to start, inclusive; default the log start' },
    { long: 'until', argument: 'POS', help: 'where to stop, exclusive; default the end' },
    { long: 'uncommitted', help: 'records of open and aborted transactions too' },
    { long: 'embed', help: 'print values that are JSON objects or arrays as such' },
    { long: 'output', short: 'o', argument: 'FORM', choices: ['auto', 'table', 'wide', 'tsv', 'json'], default: 'auto', help: 'form of the rows of --batches' },
    { long: 'titles', help: 'a line of column names, in TSV too' },
    { long: 'no-titles', help: 'no line of column names, in tables either' },
    reportOption,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream dump ~/.local/share/stream/orders-0 --json | stream produce rescued --json' },
    { line: 'stream dump ~/.local/share/stream/orders-0 --batches --from -1h' },
  ],
  exits: [
    [3, 'no such file or directory'],
    [5, 'some batches are damaged; standard error names them'],
  ],
}

const FLUSH_BYTES = 256 * 1024

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  if (operands.length === 0) {
    throw new UsageError('DIR or FILE is missing', 'try: stream dump --help')
  }
  if (!flags.has('batches')) {
    for (const name of ['output', 'titles', 'no-titles']) {
      if (flags.has(name)) throw new UsageError(`--${name} is of rows: add --batches`)
    }
  } else if (flags.has('embed')) throw new UsageError('--embed is of records, not of --batches')
  const from = readPlaces(deps, flags, 'from')
  const until = readPlaces(deps, flags, 'until')
  const job = new DumpJob(deps, flags)
  try {
    for (const path of operands) {
      if (!(await job.dump({ path, from, until, isUncommitted: flags.has('uncommitted') }))) break
    }
    await job.finish()
  } finally {
    job.end()
  }
  return job.conclude()
}

type Places = DumpRequest['from']

function readPlaces(deps: CommandDeps, flags: Flags, name: string): Places {
  const text = flags.text(name)
  if (text === undefined) return () => undefined
  const positions = parsePositions(text, deps.time.wallMs())
  if (positions === undefined) {
    throw new UsageError(`--${name} ${text}: must be a position`, 'see: stream help positions')
  }
  if (hasCommitted(positions)) {
    throw new UsageError(`--${name} ${text}: files know nothing of what a group has committed`)
  }
  return (topic, partition) => positionFor(positions, topic, partition) as OfflinePlace | undefined
}

function hasCommitted({ all, places }: Positions): boolean {
  return [all, ...places.map(({ position }) => position)].some((each) => each?.kind === 'committed')
}

/** A signal came: what was taken is written, and the command dies by it. */
class Stopped extends Error {}

class DumpJob implements DumpSink {
  readonly #deps: CommandDeps
  readonly #flags: Flags
  readonly #report: Report
  readonly #progress: Progress
  readonly #stopListening: () => void
  readonly #out = new OutputBuffer(FLUSH_BYTES * 2)
  readonly #cursor = new RecordCursor()
  readonly #envelopes: EnvelopeWriter
  readonly #isBatches: boolean
  readonly #rowForm: ReturnType<typeof rowForm>
  /** Rows of a table, whose widths are known only at the end. */
  readonly #tableRows: Row[] = []
  readonly #codes: number[] = []
  #isUncommitted = false
  #isStopped = false
  #hasTitles = false

  constructor(deps: CommandDeps, flags: Flags) {
    this.#deps = deps
    this.#flags = flags
    this.#report = new Report('dump', deps.time)
    this.#envelopes = new EnvelopeWriter({ embed: flags.has('embed') })
    this.#isBatches = flags.has('batches')
    this.#rowForm = rowForm(deps, flags)
    this.#progress = new Progress(deps, flags, {
      report: this.#report,
      sharesTerminal: deps.host.isTerminal('output'),
    })
    this.#stopListening = deps.interruption.onRaised(() => {
      this.#isStopped = true
    })
  }

  /** @returns whether to go on with the next path */
  async dump(request: DumpRequest): Promise<boolean> {
    this.#isUncommitted = request.isUncommitted
    try {
      const { heldBackFrom } = await this.#deps.openOffline().dump(request, this)
      if (heldBackFrom !== undefined) {
        this.#deps.console.warn(
          `${request.path}: a transaction is open at offset ${heldBackFrom}: it and what follows is left out; to print it: --uncommitted`,
        )
      }
      return true
    } catch (error) {
      if (error instanceof Stopped) return false
      if (!isStreamError(error) || error.code === 'OUTPUT_FAILED') throw error
      this.#codes.push(error.exit)
      this.#deps.console.error(error, request.path)
      return true
    }
  }

  async onBatch(batch: OfflineBatch): Promise<void> {
    if (this.#isStopped) throw new Stopped()
    if (this.#isBatches) this.#addRow(rowOf(batch))
    else if (this.#isWanted(batch)) this.#print(batch)
    if (this.#out.length >= FLUSH_BYTES) await this.#flush()
  }

  onDamage(damage: OfflineDamage): void {
    const { file, position, endPosition, startOffset, endOffset, detail, isTorn } = damage
    const bytes = endPosition - position
    if (this.#isBatches) {
      const state = isTorn ? 'torn' : 'damaged'
      const last = endOffset === undefined ? null : endOffset - 1
      const unknown = [null, null, null, null, null] as const
      this.#addRow([file, position, startOffset, last, ...unknown, bytes, null, state])
    }
    const place = `${file}: bytes ${position} to ${endPosition - 1} (offset ${startOffset})`
    if (isTorn) {
      this.#deps.console.warn(`${place}: a torn tail, which nobody was promised: ${detail}`)
      return
    }
    this.#tell(new StreamError('DATA_DAMAGED', `${place} are damaged: ${detail}`, { target: file }))
  }

  #tell(error: StreamError): void {
    this.#report.errors += 1
    this.#progress.clear()
    this.#deps.console.error(error)
  }

  #isWanted({ state }: OfflineBatch): boolean {
    if (state === 'control') return false
    return state === 'ok' || this.#isUncommitted
  }

  #print(batch: OfflineBatch): void {
    const { topic, partition, bytes, at, fromOffset, untilOffset } = batch
    const cursor = this.#cursor
    const lengthBefore = this.#out.length
    let count = 0
    this.#envelopes.setPartition(topic, partition)
    try {
      cursor.reset(bytes, at)
      while (cursor.next()) {
        const { offset } = cursor
        if (offset < fromOffset || offset >= untilOffset) continue
        this.#envelopes.write(cursor, this.#out)
        count += 1
      }
    } catch (error) {
      if (!isStreamError(error)) throw error
      // The checksum is right, so it was written like this; none of its records is printed.
      this.#out.length = lengthBefore
      const where = `${batch.file}: batch at byte ${batch.position} (offset ${baseOffsetAt(bytes, at)})`
      this.#tell(
        new StreamError(error.code, `${where} cannot be read: ${error.message}`, {
          target: batch.file,
          cause: error,
        }),
      )
      return
    }
    if (count === 0) return
    this.#report.records += count
    this.#report.bytes += batchBytesAt(bytes, at)
    const first = Math.max(fromOffset, baseOffsetAt(bytes, at))
    const last = Math.min(untilOffset - 1, lastOffsetAt(bytes, at))
    this.#report.addSpan(topic, partition, first, last)
  }

  #addRow(row: Row): void {
    this.#report.records += 1
    const form = this.#rowForm
    if (form === 'table' || form === 'wide') {
      this.#tableRows.push(row)
      return
    }
    if (form === 'tsv' && !this.#hasTitles) {
      this.#hasTitles = true
      if (this.#flags.either('titles', 'no-titles') === true) {
        this.#out.append(Buffer.from(tsvLine(shape.columns)))
      }
    }
    this.#out.append(Buffer.from(form === 'json' ? jsonLine(shape, row) : tsvLine(row)))
  }

  async #flush(): Promise<void> {
    if (this.#out.length === 0) return
    const outcome = await this.#deps.stdio.output.write(this.#out.filled())
    if (outcome === 'broken') throw new BrokenPipe()
    this.#out.clear()
  }

  async finish(): Promise<void> {
    await this.#flush()
    if (this.#tableRows.length > 0) {
      await printRows(this.#deps, this.#flags, shape, this.#tableRows)
    }
  }

  end(): void {
    this.#progress.end()
    this.#stopListening()
  }

  async conclude(): Promise<number> {
    const { console } = this.#deps
    if (this.#report.errors > 0) this.#codes.push(5)
    const exit = joinExitCodes(this.#codes)
    const path = this.#flags.text('report')
    if (path !== undefined) await this.#report.write(this.#deps, path, exit)
    if (console.wantsSummary) {
      console.print(`stream: ${this.#report.summary(this.#isBatches ? 'listed' : 'printed')}\n`)
    }
    return exit
  }
}

function rowOf({ file, position, bytes, at, state }: OfflineBatch): Row {
  const producerId = producerIdAt(bytes, at)
  return [
    file,
    position,
    baseOffsetAt(bytes, at),
    lastOffsetAt(bytes, at),
    leaderEpochAt(bytes, at),
    producerId < 0 ? null : producerId,
    producerId < 0 ? null : baseSequenceAt(bytes, at),
    codecFromId(codecOf(attributesAt(bytes, at))),
    recordCountAt(bytes, at),
    batchBytesAt(bytes, at),
    crcAt(bytes, at).toString(16).padStart(8, '0'),
    state,
  ]
}
