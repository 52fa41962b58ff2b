/** The flags of commands that print records, and the plan that follows from them. */

import { UsageError } from '../src/base/errors.ts'
import { type Positions, parsePositions, parseSince } from '../src/text/position.ts'
import { type FilterOptions, type GrepTerm, parseGrep } from '../src/text/record-filter.ts'
import type { Rate } from '../src/text/units.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { readHeaders } from './header-flag.ts'
import type { OptionSpec } from './option-table.ts'

/** How records are printed. */
// biome-ignore format: one row, one line
export const formOptions: readonly OptionSpec[] = [
  { long: 'output', short: 'o', argument: 'FORM', choices: ['value', 'json', 'sized', 'raw'], default: 'value', help: 'form of the output' },
  { long: 'format', short: 'F', argument: 'FMT', help: "the format language, such as '%t %o %k=%v\\n' (stream help formats)" },
  { long: 'json', help: 'envelopes, the same as -o json; errors as JSON' },
  { long: 'raw', help: 'values back to back, the same as -o raw' },
  { long: 'null', short: '0', help: 'NUL after each record' },
  { long: 'delim', short: 'D', argument: 'STR', help: 'STR after each record' },
  { long: 'key-sep', short: 'K', argument: 'STR', help: 'print KEY STR VALUE' },
  { long: 'null-value', argument: 'TOKEN', help: 'print TOKEN for null' },
  { long: 'embed', help: 'with --json or %j: a value that is a JSON object or array is printed as that' },
  { long: 'strict', help: 'exit 5 if a value contains the delimiter' },
]

// biome-ignore format: one row, one line
export const keyFilterOption: OptionSpec = { long: 'key', short: 'k', argument: 'KEY', help: 'only records with this key' }

/** Which records are printed; what they drop is not counted. */
// biome-ignore format: one row, one line
export const filterOptions: readonly OptionSpec[] = [
  { long: 'header', short: 'H', argument: 'NAME=VALUE', isRepeatable: true, help: 'only records with this header' },
  { long: 'grep', argument: 'FILTER', isRepeatable: true, help: 'only records that match [!]k:/RE/, v:/RE/, t:/RE/ or h:NAME=/RE/' },
]

// biome-ignore format: one row, one line
export const topicOptions: readonly OptionSpec[] = [
  { long: 'partition', short: 'p', argument: 'LIST', help: 'only these partitions: 0,2-4' },
  { long: 'uncommitted', help: 'records of open and aborted transactions too' },
  { long: 'wait-topic', help: 'wait for a topic that does not exist' },
  { long: 'regex', help: 'TOPIC is a regular expression, not a glob' },
]

// biome-ignore format: one row, one line
export const outcomeOptions: readonly OptionSpec[] = [
  { long: 'fail-empty', help: 'exit 3 if nothing was printed' },
  { long: 'report', argument: 'FILE', help: 'the summary as one JSON object' },
]

// biome-ignore format: one row, one line
export const groupOptions: readonly OptionSpec[] = [
  { long: 'group', short: 'g', argument: 'NAME', help: 'share the partitions with the other members of this group, and go on where it has come to' },
  { long: 'instance-id', argument: 'ID', help: 'with --group: static membership; a restart keeps its partitions' },
]

// biome-ignore format: one row, one line
export const cursorOptions: readonly OptionSpec[] = [
  { long: 'cursor-file', argument: 'FILE', help: 'go on where the last run with this FILE ended, and store how far this one came' },
  { long: 'commit', argument: 'WHEN', choices: ['none', 'written', 'eof', 'ack'], help: 'what is stored, and when; default eof if bounded, else written' },
  { long: 'commit-interval', argument: 'DUR', default: '5s', help: 'how often it is stored' },
  { long: 'ack-fd', argument: 'N', help: 'with --commit ack: the descriptor that acknowledgements are read from' },
]

// biome-ignore format: one row, one line
export const rangeOptions: readonly OptionSpec[] = [
  { long: 'from', argument: 'POS', help: 'where to start: start, end, N, +N, -N, a TIME, or P=POS,…' },
  { long: 'since', argument: 'TIME', help: 'where to start, for times only; a bare duration means ago (1h)' },
  { long: 'until', argument: 'POS', help: 'where to stop, exclusive' },
  { long: 'until-end', help: 'stop at the end as it is now, or where a transaction is open' },
  { long: 'idle', argument: 'DUR', help: 'stop when no record came for so long; exit 0; time without contact does not count' },
  { long: 'bytes', argument: 'SIZE', help: 'stop when so much is printed' },
  { long: 'count', short: 'n', argument: 'N', help: 'stop when so many records are printed' },
  { long: 'order', argument: 'ORDER', choices: ['partition', 'time'], default: 'partition', help: 'time, in bounded reads: merged over the partitions by timestamp' },
  { long: 'on-gap', argument: 'WHAT', choices: ['warn', 'fail'], default: 'warn', help: 'when records are gone before they were read' },
  { long: 'rate', argument: 'R', help: 'at most so much: 1000/s, 5MiB/s' },
]

/** Of consume and cat. */
export const readOptions: readonly OptionSpec[] = [
  ...rangeOptions,
  ...formOptions,
  keyFilterOption,
  ...filterOptions,
  ...topicOptions,
  ...cursorOptions,
  ...outcomeOptions,
]

export type OutputForm = 'value' | 'json' | 'sized' | 'raw' | 'format'

export interface ReadPlan {
  readonly command: string
  readonly topics: readonly string[]
  readonly isRegex: boolean
  readonly waitTopic: boolean
  readonly partitions: readonly number[] | undefined
  readonly from: Positions
  /** undefined: goes on for ever. */
  readonly until: Positions | undefined
  /** A moment that has not come yet: a partition ends at its first record stamped so late, or when it has passed. */
  readonly untilFutureMs: number | undefined
  /** Ends by itself at positions known at the start. */
  readonly isBounded: boolean
  readonly countMax: number
  readonly bytesMax: number
  readonly idleMs: number | undefined
  readonly timeoutMs: number | undefined
  readonly form: OutputForm
  /** Of `format`. */
  readonly formatText: string | undefined
  /** No flag asked for a form. */
  readonly isDefaultForm: boolean
  readonly delimiter: Uint8Array
  readonly keySeparator: Uint8Array | undefined
  readonly nullValue: Uint8Array | undefined
  readonly embed: boolean
  readonly isStrict: boolean
  readonly filter: FilterOptions
  readonly isByTime: boolean
  readonly isUncommitted: boolean
  readonly gapFails: boolean
  readonly rate: Rate | undefined
  readonly failEmpty: boolean
  readonly cursor: CursorPlan | undefined
  readonly group: GroupPlan | undefined
}

/** When what was read is stored, and on whose word. */
export interface CommitPlan {
  readonly commit: 'none' | 'written' | 'eof' | 'ack'
  readonly intervalMs: number
  readonly ackDescriptor: number | undefined
}

export interface GroupPlan extends CommitPlan {
  readonly group: string
  readonly instanceId: string | undefined
}

export interface CursorPlan extends CommitPlan {
  readonly path: string
}

export interface ReadDefaults {
  readonly command: string
  /** Of a read without --from, --since. */
  readonly follows: boolean
}

const NEWLINE = Uint8Array.of(10)

export function readPlan(deps: CommandDeps, args: CommandArgs, defaults: ReadDefaults): ReadPlan {
  const { flags, operands } = args
  const nowMs = deps.time.wallMs()
  if (operands.length === 0) {
    throw new UsageError('TOPIC is missing', `try: stream ${defaults.command} --help`)
  }
  flags.exclusive('from', 'since')
  flags.exclusive('until', 'until-end')
  flags.exclusive('null', 'delim')
  const form = outputForm(flags)
  checkForm(flags, form)
  const end = readEnd(flags, nowMs, defaults.follows)
  const isBounded = end.until !== undefined
  const isByTime = flags.text('order') === 'time'
  if (isByTime && !isBounded) throw new UsageError('--order time needs an end, such as --until-end')
  const nullValue = flags.text('null-value')
  return {
    command: defaults.command,
    topics: operands,
    isRegex: flags.has('regex'),
    waitTopic: flags.has('wait-topic'),
    partitions: flags.partitions('partition'),
    from: readStart(flags, nowMs, isBounded),
    ...end,
    isBounded,
    countMax: flags.wholeNumber('count') ?? Number.POSITIVE_INFINITY,
    bytesMax: flags.sizeBytes('bytes') ?? Number.POSITIVE_INFINITY,
    idleMs: flags.durationMs('idle'),
    timeoutMs: flags.durationMs('timeout'),
    form,
    formatText: flags.text('format'),
    isDefaultForm: !formOptions.some(({ long }) => flags.has(long)),
    delimiter: flags.has('null') ? Uint8Array.of(0) : (flags.escapedBytes('delim') ?? NEWLINE),
    keySeparator: flags.escapedBytes('key-sep'),
    nullValue: nullValue === undefined ? undefined : Buffer.from(nullValue, 'utf8'),
    embed: flags.has('embed'),
    isStrict: flags.has('strict'),
    filter: readFilter(flags),
    isByTime,
    isUncommitted: flags.has('uncommitted'),
    gapFails: flags.text('on-gap') === 'fail',
    rate: flags.rate('rate'),
    failEmpty: flags.has('fail-empty'),
    ...readProgress(flags, isBounded, end.untilFutureMs !== undefined),
  }
}

const COMMIT_INTERVAL_MS = 5000

function readProgress(
  flags: Flags,
  isBounded: boolean,
  hasFuture: boolean,
): Pick<ReadPlan, 'cursor' | 'group'> {
  const path = flags.text('cursor-file')
  const group = flags.text('group')
  flags.exclusive('cursor-file', 'group')
  if (group === undefined && flags.has('instance-id')) {
    throw new UsageError('--instance-id needs --group')
  }
  if (path === undefined && group === undefined) {
    for (const name of ['commit', 'commit-interval', 'ack-fd']) {
      if (flags.has(name)) throw new UsageError(`--${name} needs --group or --cursor-file`)
    }
    return { cursor: undefined, group: undefined }
  }
  const plan = readCommit(flags, isBounded, hasFuture)
  if (group === undefined) return { cursor: { path: path ?? '', ...plan }, group: undefined }
  if (group === '') throw new UsageError('--group: the name must not be empty')
  if (flags.has('partition')) throw new UsageError('--partition: the group shares out partitions')
  if (flags.text('order') === 'time') {
    throw new UsageError('--order time and --group cannot be used together')
  }
  return { cursor: undefined, group: { group, instanceId: flags.text('instance-id'), ...plan } }
}

function readCommit(flags: Flags, isBounded: boolean, hasFuture: boolean): CommitPlan {
  const commit = flags.choice('commit', ['none', 'written', 'eof', 'ack'] as const)
  const ackDescriptor = flags.wholeNumber('ack-fd')
  const endsByItself =
    isBounded || hasFuture || ['count', 'bytes', 'idle'].some((name) => flags.has(name))
  if (commit === 'eof' && !endsByItself) {
    throw new UsageError('--commit eof needs an end, such as --until-end')
  }
  if (commit === 'ack' && ackDescriptor === undefined) {
    throw new UsageError('--commit ack needs --ack-fd N')
  }
  if (commit !== 'ack' && ackDescriptor !== undefined) {
    throw new UsageError('--ack-fd needs --commit ack')
  }
  return {
    commit: commit ?? (isBounded ? 'eof' : 'written'),
    intervalMs: flags.durationMs('commit-interval') ?? COMMIT_INTERVAL_MS,
    ackDescriptor,
  }
}

function outputForm(flags: Flags): OutputForm {
  flags.exclusive('json', 'raw')
  if (flags.has('format')) {
    for (const name of ['output', 'json', 'raw']) flags.exclusive('format', name)
    return 'format'
  }
  const form = flags.choice('output', ['value', 'json', 'sized', 'raw'] as const)
  const short = flags.has('json') ? 'json' : flags.has('raw') ? 'raw' : undefined
  if (form !== undefined && short !== undefined && form !== short) {
    throw new UsageError(`--output ${form} and --${short} cannot be used together`)
  }
  return form ?? short ?? 'value'
}

function checkForm(flags: Flags, form: OutputForm): void {
  if (form !== 'json' && form !== 'format' && flags.has('embed')) {
    throw new UsageError('--embed needs --json')
  }
  if (form === 'value') return
  const shown = form === 'format' ? '-F' : `-o ${form}`
  for (const name of ['key-sep', 'null', 'delim', 'null-value', 'strict']) {
    const fits = form === 'json' && (name === 'null' || name === 'delim')
    if (flags.has(name) && !fits) throw new UsageError(`--${name} is of lines, not of ${shown}`)
  }
}

function readStart(flags: Flags, nowMs: number, isBounded: boolean): Positions {
  const since = flags.text('since')
  if (since !== undefined) {
    const timeMs = parseSince(since, nowMs)
    if (timeMs === undefined) {
      throw badPosition('since', since, 'a time such as 1h, today, 2026-03-01', epochHint(since))
    }
    return { all: { kind: 'time', timeMs }, places: [] }
  }
  const otherwise: Positions = { all: { kind: isBounded ? 'start' : 'end' }, places: [] }
  const text = flags.text('from')
  if (text === undefined) return otherwise
  const positions = parsePositions(text, nowMs)
  if (positions === undefined) throw badPosition('from', text, 'start, end, N, +N, -N or a time')
  refuseCommitted(positions)
  return positions.all === undefined ? { ...positions, all: otherwise.all } : positions
}

function readEnd(
  flags: Flags,
  nowMs: number,
  follows: boolean,
): { readonly until: Positions | undefined; readonly untilFutureMs: number | undefined } {
  const snapshot = {
    until: { all: { kind: 'end' }, places: [] },
    untilFutureMs: undefined,
  } as const
  const endless = { until: undefined, untilFutureMs: undefined }
  const text = flags.text('until')
  const hasEnd = flags.has('until-end') || text !== undefined
  if (flags.has('follow')) {
    if (hasEnd) throw new UsageError('--follow and an end cannot be used together')
    return endless
  }
  if (flags.has('until-end') || text === 'now') return snapshot
  if (text === undefined) return follows ? endless : snapshot
  const positions = parsePositions(text, nowMs)
  if (positions === undefined) throw badPosition('until', text, 'end, N, +N, -N or a time')
  refuseCommitted(positions)
  if (positions.all?.kind === 'time' && positions.all.timeMs > nowMs) {
    return { until: undefined, untilFutureMs: positions.all.timeMs }
  }
  return { until: positions, untilFutureMs: undefined }
}

function badPosition(flag: string, text: string, wanted: string, hint?: string): UsageError {
  return new UsageError(`--${flag} ${text}: must be ${wanted}`, hint)
}

/** Seconds or milliseconds since 1970, as other programs print them. */
function epochHint(text: string): string | undefined {
  return /^\d{9,13}(\.\d+)?$/.test(text) ? `seconds since 1970 are @${text}` : undefined
}

function refuseCommitted(positions: Positions): void {
  const all = [positions.all, ...positions.places.map((place) => place.position)]
  if (all.some((position) => position?.kind === 'committed')) {
    throw new UsageError('the position `committed` needs a group')
  }
}

function readFilter(flags: Flags): FilterOptions {
  const key = flags.text('key')
  const headers = readHeaders(flags)
  const grep = flags.all('grep').map((text): GrepTerm => {
    const term = parseGrep(text)
    if (typeof term === 'string') throw new UsageError(`--grep ${text}: ${term}`)
    return term
  })
  return { headers, grep, ...(key === undefined ? {} : { key: Buffer.from(key, 'utf8') }) }
}
