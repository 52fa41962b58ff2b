/**
 * `stream dlq replay --edit CMD`: the envelopes of dead letters go through a command before they go back. Both sides are
 * spooled: the command is done before anything is sent, so a failure of it changes nothing.
 *
 * What it prints are envelopes again; `partition` and `offset` tell which dead letter is meant, so it may leave some out (they
 * stay open) and change their order, but not make new ones. Headers that begin with dlq. are ours, whatever it does to them.
 */

import { StreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { RecordInput } from '../src/record/batch-builder.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import { EnvelopeReader } from '../src/text/envelope-reader.ts'
import { EnvelopeWriter } from '../src/text/envelope-writer.ts'
import { RecordFields } from '../src/text/record-fields.ts'
import { DelimiterSplitter, TOO_LONG } from '../src/text/record-splitter.ts'
import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import { isDlqHeader, replayHeaders } from './dlq-records.ts'
import { type Letter, walkLetters } from './dlq-shared.ts'
import { InputPump } from './input-pump.ts'
import { QueuedOutput } from './queued-output.ts'
import { describeEnd } from './retry-policy.ts'
import { spoolDirectory } from './spool.ts'

const NEWLINE = Uint8Array.of(0x0a)
const WRITE_BYTES = 256 * 1024
const LINE_BYTES_MAX = 64 * 1024 * 1024
const OUTPUT_BYTES_MAX = 10 * 1024 ** 3
const GRACE_MS = 10_000

export class DlqEdit {
  readonly #deps: CommandDeps
  readonly #letters = new Map<string, Letter>()
  readonly #inputPath: string
  readonly #outputPath: string

  constructor(deps: CommandDeps, letters: readonly Letter[]) {
    this.#deps = deps
    for (const letter of letters) this.#letters.set(nameOf(letter), letter)
    const directory = spoolDirectory(deps.host)
    deps.host.makeDirectory(directory)
    const id = Buffer.from(deps.random.bytes(6)).toString('hex')
    this.#inputPath = `${directory}/dlq-${id}.in`
    this.#outputPath = `${directory}/dlq-${id}.out`
  }

  /**
   * Runs the command over the letters.
   * @returns those that it has printed, in its order
   * @throws StreamError CHILD_FAILED, RECORD_INVALID (with the line); as walkLetters
   */
  async run(broker: Broker, topic: TopicInfo, command: string): Promise<Letter[]> {
    await this.#writeInput(broker, topic)
    const child = this.#deps.openChildren().start({
      words: ['sh', '-c', command],
      environment: {},
      input: { path: this.#inputPath },
      output: { path: this.#outputPath, bytesMax: OUTPUT_BYTES_MAX },
      error: 'inherit',
      graceMs: GRACE_MS,
    })
    const stopListening = this.#deps.interruption.onRaised(() => child.stop())
    const end = await child.ended
    stopListening()
    if (end.exit !== 0) {
      throw new StreamError('CHILD_FAILED', `--edit: the command failed: ${describeEnd(end)}`, {
        hint: 'nothing was replayed',
      })
    }
    const printed = new Map<string, Letter>()
    await this.#readOutput(async (letter, _record, line) => {
      const name = nameOf(letter)
      if (printed.has(name)) throw invalid(line, `offset ${letter.offset} for the second time`)
      printed.set(name, letter)
    })
    return [...printed.values()]
  }

  /** The edited records of some of the letters, in the order of the command. */
  async each(
    letters: readonly Letter[],
    visit: (letter: Letter, record: RecordInput) => Promise<void>,
  ): Promise<void> {
    const wanted = new Set(letters.map(nameOf))
    await this.#readOutput(async (letter, record) => {
      if (wanted.has(nameOf(letter))) await visit(letter, record)
    })
  }

  close(): void {
    this.#deps.host.removeFile(this.#inputPath)
    this.#deps.host.removeFile(this.#outputPath)
  }

  async #writeInput(broker: Broker, topic: TopicInfo): Promise<void> {
    const output = new QueuedOutput(this.#deps.stdio.openOutput(this.#inputPath))
    const writer = new EnvelopeWriter()
    const buffer = new OutputBuffer(WRITE_BYTES)
    await walkLetters(this.#deps, broker, { topic }, (cursor, partition) => {
      if (!this.#letters.has(nameOf({ partition, offset: cursor.offset }))) return undefined
      writer.setPartition(topic.name, partition)
      writer.write(cursor, buffer)
      if (buffer.length < WRITE_BYTES) return undefined
      output.write(buffer.filled())
      buffer.clear()
      return output.drained()
    })
    output.write(buffer.filled())
    await output.finish()
  }

  async #readOutput(
    visit: (letter: Letter, record: RecordInput, line: number) => Promise<void>,
  ): Promise<void> {
    const reader = new EnvelopeReader({ keepPartition: true, keepOffset: true })
    const splitter = new DelimiterSplitter(NEWLINE, LINE_BYTES_MAX)
    const fields = new RecordFields()
    let line = 0
    let work: Promise<void> | undefined
    const consume = (bytes: Uint8Array, start: number, end: number): boolean => {
      line += 1
      if (start === TOO_LONG) throw invalid(line, 'a line too long')
      const letter = this.#read(reader, fields, bytes, start, end, line)
      work = visit(letter, recordOf(fields, letter), line)
      return false
    }
    const ready = async (): Promise<void> => {
      await work
      work = undefined
    }
    const pump = new InputPump({
      feed: (chunk, start, end) => splitter.feed(chunk, start, end, consume),
      get isBlocked() {
        return work !== undefined
      },
      ready,
    })
    await pump.run(this.#deps.stdio.openInput(this.#outputPath))
    splitter.finish(consume)
    await ready()
  }

  #read(
    reader: EnvelopeReader,
    fields: RecordFields,
    bytes: Uint8Array,
    start: number,
    end: number,
    line: number,
  ): Letter {
    try {
      reader.read(bytes, start, end, fields)
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      throw invalid(line, error.message)
    }
    const { partition = -1, offset = -1 } = fields
    const letter = this.#letters.get(nameOf({ partition, offset }))
    if (letter === undefined) {
      throw invalid(line, `partition ${partition}, offset ${offset} was not among its input`)
    }
    return letter
  }
}

/** Stamped when it is sent: retention counts from then. Its slots are used again: headers of ours are not among them. */
function recordOf({ key, value, headers }: RecordFields, { facts }: Letter): RecordInput {
  const own = headers.filter((header) => !isDlqHeader(textOf(header.key.view())))
  return { key, value, headers: [...own, ...replayHeaders(facts)] }
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('utf8')
}

function invalid(line: number, what: string): StreamError {
  return new StreamError(
    'RECORD_INVALID',
    `--edit: line ${line} of what the command printed: ${what}`,
    {
      line,
      hint: 'nothing was replayed',
    },
  )
}

function nameOf({ partition, offset }: Pick<Letter, 'partition' | 'offset'>): string {
  return `${partition}/${offset}`
}
