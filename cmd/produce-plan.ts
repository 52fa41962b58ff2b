/** The flags of `produce` as one plan, or the UsageError that says what contradicts what. */

import { UsageError } from '../src/base/errors.ts'
import type { FormatNode } from '../src/text/format-plan.ts'
import type { FormatProgram } from '../src/text/format-program.ts'
import { type PathName, parsePath } from '../src/text/json-scanner.ts'
import type { HeaderMatch } from '../src/text/record-filter.ts'
import { parseTime } from '../src/text/time.ts'
import { parseCount, parseSize } from '../src/text/units.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { readHeaders } from './header-flag.ts'
import { isGlob } from './topic-names.ts'

export type InputForm = 'value' | 'json' | 'sized' | 'raw' | 'format'

export interface InputFormat {
  readonly nodes: readonly FormatNode[]
  readonly program: FormatProgram
}

/** Of `--resume`. */
export interface ProduceResume {
  readonly id: string
  /** Limits of one chunk. */
  readonly records: number
  readonly bytes: number
  /** Whatever was sent before counts for nothing. */
  readonly isRestart: boolean
}

export interface ProducePlan {
  readonly topic: string
  readonly files: readonly string[]
  readonly form: InputForm
  /** Of `-F`. */
  readonly format: InputFormat | undefined
  readonly value: string | undefined
  readonly delimiter: Uint8Array
  readonly partition: number | undefined
  /** The input names topics; TOPIC says which are allowed. */
  readonly keepTopic: boolean
  readonly keepPartition: boolean
  readonly key: string | undefined
  readonly keySeparator: Uint8Array | undefined
  readonly nullValue: string | undefined
  readonly keyPath: PathName[] | undefined
  readonly timestampPath: PathName[] | undefined
  readonly timestampMs: number | undefined
  readonly headers: readonly HeaderMatch[]
  readonly onError: 'stop' | 'skip' | { readonly deadLetter: string }
  readonly allowErrors: number
  /** What is delivered as a whole or not at all; undefined: a record. */
  readonly whole: 'input' | 'file' | undefined
  readonly resume: ProduceResume | undefined
  /** Where the partition must end; undefined: wherever. */
  readonly expectedOffset: number | undefined
}

const NEWLINE = Uint8Array.of(10)

/** @throws UsageError */
export async function readPlan(
  deps: CommandDeps,
  { flags, operands }: CommandArgs,
): Promise<ProducePlan> {
  const [topic, ...files] = operands
  if (topic === undefined) throw new UsageError('TOPIC is missing', 'try: stream produce --help')
  flags.exclusive('key-sep', 'key-json')
  flags.exclusive('null', 'delim')
  flags.exclusive('ts', 'ts-json')
  flags.exclusive('partition', 'keep-partition')
  const form = inputForm(flags)
  const format = form === 'format' ? await readFormat(flags.text('format') ?? '') : undefined
  const value = flags.text('value')
  if (value !== undefined && files.length > 0)
    throw new UsageError('--value and FILE cannot be used together')
  checkForm(flags, form)
  const keepTopic = flags.has('keep-topic') || format?.program.hasTopic === true
  if (!keepTopic && isGlob(topic))
    throw new UsageError(`${topic}: a glob needs --keep-topic, or %t`)
  const expectedOffset = readExpectedOffset(flags, keepTopic)
  const timestamp = flags.text('ts')
  const timestampMs = timestamp === undefined ? undefined : parseTime(timestamp, deps.time.wallMs())
  if (timestamp !== undefined && (timestampMs === undefined || timestampMs < 0)) {
    throw new UsageError(
      `--ts ${timestamp}: must be a time such as now, 2026-03-01T09:30, -5m, @1730000000`,
    )
  }
  return {
    topic,
    files,
    form,
    format,
    value,
    delimiter: flags.has('null') ? Uint8Array.of(0) : (flags.escapedBytes('delim') ?? NEWLINE),
    partition: readPartition(flags),
    keepTopic,
    keepPartition: flags.has('keep-partition'),
    key: flags.text('key'),
    keySeparator: flags.escapedBytes('key-sep'),
    nullValue: flags.text('null-value'),
    keyPath: readPath(flags, 'key-json'),
    timestampPath: readPath(flags, 'ts-json'),
    timestampMs,
    headers: readHeaders(flags),
    onError: readOnError(flags),
    allowErrors: flags.wholeNumber('allow-errors') ?? 0,
    whole: readWhole(flags, files),
    resume: readResume(flags),
    expectedOffset,
  }
}

function checkForm(flags: Flags, form: InputForm): void {
  if (form !== 'value') {
    const shown = form === 'format' ? '-F' : `-i ${form}`
    for (const name of ['key-sep', 'null', 'delim', 'null-value', 'strip-cr']) {
      const fits = form === 'json' && (name === 'null' || name === 'delim')
      if (flags.has(name) && !fits) throw new UsageError(`--${name} is of lines, not of ${shown}`)
    }
  }
  if (form !== 'json' && (flags.has('keep-topic') || flags.has('keep-partition'))) {
    throw new UsageError('--keep-topic and --keep-partition need envelopes: --json')
  }
  if (flags.has('tee') && flags.text('receipts') === '-') {
    throw new UsageError('--tee and --receipts - cannot both have standard output')
  }
}

async function readFormat(text: string): Promise<InputFormat> {
  const { parseFormat } = await import('../src/text/format-plan.ts')
  const { compileFormat } = await import('../src/text/format-program.ts')
  const nodes = parseFormat(text)
  return { nodes, program: compileFormat(nodes) }
}

/** One batch of one partition, and durable: what contradicts that is refused. */
function readExpectedOffset(flags: Flags, keepTopic: boolean): number | undefined {
  const expected = flags.wholeNumber('expect-offset')
  if (expected === undefined) return undefined
  flags.exclusive('expect-offset', 'keep-partition')
  if (keepTopic) throw new UsageError('--expect-offset is of one topic, not of topics in the input')
  const acks = flags.text('acks')
  if (acks !== undefined && acks !== 'all') throw new UsageError('--expect-offset needs --acks all')
  return expected
}

/** A transaction: what contradicts that it is seen whole or not at all is refused. */
function readWhole(flags: Flags, files: readonly string[]): ProducePlan['whole'] {
  flags.exclusive('atomic', 'txn-per-file')
  const name = flags.has('atomic') ? 'atomic' : 'txn-per-file'
  if (!flags.has(name)) return undefined
  flags.exclusive(name, 'expect-offset')
  // They tell of records that may never be seen.
  flags.exclusive(name, 'receipts')
  const acks = flags.text('acks')
  if (acks !== undefined && acks !== 'all') throw new UsageError(`--${name} needs --acks all`)
  if (name === 'atomic') return 'input'
  if (files.length === 0) throw new UsageError('--txn-per-file needs FILEs', 'try: --atomic')
  return 'file'
}

const CHUNK_RECORDS = 10_000
const CHUNK_BYTES = 16 * 1024 * 1024

function readResume(flags: Flags): ProduceResume | undefined {
  const id = flags.text('resume')
  if (id === undefined) {
    for (const name of ['chunk', 'restart']) {
      if (flags.has(name)) throw new UsageError(`--${name} needs --resume ID`)
    }
    return undefined
  }
  if (id === '') throw new UsageError('--resume: the ID must not be empty')
  // They tell of records that may never be seen, or are no input that could go on.
  for (const name of ['atomic', 'txn-per-file', 'expect-offset', 'receipts', 'value']) {
    flags.exclusive('resume', name)
  }
  const acks = flags.text('acks')
  if (acks !== undefined && acks !== 'all') throw new UsageError('--resume needs --acks all')
  return { id, ...readChunk(flags.text('chunk') ?? ''), isRestart: flags.has('restart') }
}

/** `N,SIZE`, `N` or `SIZE`: a part that is left out keeps its default. */
function readChunk(text: string): { readonly records: number; readonly bytes: number } {
  const parts = text === '' ? [] : text.split(',')
  const [first = '', second] = parts
  const isSizeAlone = parts.length === 1 && parseCount(first) === undefined
  const records = isSizeAlone || first === '' ? CHUNK_RECORDS : parseCount(first)
  const size = isSizeAlone ? first : (second ?? '')
  const bytes = size === '' ? CHUNK_BYTES : parseSize(size)
  if (parts.length > 2 || !records || !bytes) {
    throw new UsageError(`--chunk ${text}: must be N,SIZE such as 10000,16MiB`)
  }
  return { records, bytes }
}

function inputForm(flags: Flags): InputForm {
  flags.exclusive('json', 'raw')
  if (flags.has('format')) {
    for (const name of ['input', 'json', 'raw', 'value']) flags.exclusive('format', name)
    return 'format'
  }
  const form = flags.choice('input', ['value', 'json', 'sized', 'raw'] as const)
  const short = flags.has('json') ? 'json' : flags.has('raw') ? 'raw' : undefined
  if (form !== undefined && short !== undefined && form !== short) {
    throw new UsageError(`--input ${form} and --${short} cannot be used together`)
  }
  return form ?? short ?? 'value'
}

function readPartition(flags: Flags): number | undefined {
  const text = flags.text('partition')
  if (text === undefined) return undefined
  const partition = parseCount(text)
  if (partition === undefined || partition > 0x7fffffff) {
    throw new UsageError(`--partition ${text}: must be a partition's number`)
  }
  return partition
}

function readPath(flags: Flags, name: string): PathName[] | undefined {
  const text = flags.text(name)
  if (text === undefined) return undefined
  const path = parsePath(text)
  if (path === undefined) throw new UsageError(`--${name} ${text}: must be a path such as .user.id`)
  return path
}

function readOnError(flags: Flags): ProducePlan['onError'] {
  const text = flags.text('on-error') ?? 'stop'
  if (text === 'stop' || text === 'skip') return text
  const file = /^dead-letter=(.+)$/.exec(text)?.[1]
  if (file === undefined) {
    throw new UsageError(`--on-error ${text}: must be stop, skip or dead-letter=FILE`)
  }
  return { deadLetter: file }
}
