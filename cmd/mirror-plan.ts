/** The flags of `stream mirror`, and what they come to. */

import { UsageError } from '../src/base/errors.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { type OptionSpec, regexOption } from './option-table.ts'
import { isBrokerName } from './other-broker.ts'
import { filterOptions, keyFilterOption, type ReadPlan, readPlan } from './read-options.ts'

/** Of the verbs that tell of mirrors. */
// biome-ignore format: one row, one line
export const topicsOption: OptionSpec = { long: 'topics', argument: 'GLOB', isRepeatable: true, help: 'only these topics, as they are named here; several with commas' }

// biome-ignore format: one row, one line
export const copyOptions: readonly OptionSpec[] = [
  { long: 'topics', argument: 'GLOB', isRepeatable: true, help: 'what is copied: names and globs, several with commas' },
  regexOption,
  { long: 'follow', short: 'f', help: 'go on at the end; new topics and partitions that match are copied too' },
  { long: 'from', argument: 'POS', help: 'where to start what was never copied: start, end, N, +N, -N, a TIME, or P=POS,…; default start' },
  { long: 'since', argument: 'TIME', help: 'the same for times only; a bare duration means ago (1h)' },
  { long: 'until', argument: 'POS', help: 'where to stop, exclusive; default the end as it is at the start' },
  { long: 'rename', argument: 'FMT', help: "name of the target topic, from {topic} and {cluster}: the context's name, else the source's cluster id" },
  { long: 'append', help: 'into a topic that has other records too, or several topics into one' },
  { long: 'tag-origin', help: 'for copies both ways: records get a header stream.origin, and those from the target are left out' },
  { long: 'partition', short: 'p', argument: 'LIST', help: 'only these partitions: 0,2-4' },
  keyFilterOption,
  ...filterOptions,
  { long: 'rate', argument: 'R', help: 'at most so much: 1000/s, 5MiB/s' },
  { long: 'on-gap', argument: 'WHAT', choices: ['warn', 'fail'], default: 'warn', help: 'when records are gone before they were copied' },
  { long: 'fail-empty', help: 'exit 3 if nothing was copied' },
  { long: 'report', argument: 'FILE', help: 'the summary as one JSON object' },
  { long: 'json', help: 'errors as JSON objects' },
]

export interface MirrorPlan {
  /** An address or `@CONTEXT`. */
  readonly source: string
  readonly topics: readonly string[]
  readonly follows: boolean
  readonly rename: (topic: string, clusterId: string) => string
  readonly mayAppend: boolean
  readonly isTagged: boolean
  /** Range, filters, rate, and what else reads have. */
  readonly read: ReadPlan
}

export function mirrorPlan(deps: CommandDeps, args: CommandArgs): MirrorPlan {
  const { flags } = args
  const source = oneSource(args, 'mirror')
  const topics = topicGlobs(flags)
  if (topics.length === 0) {
    throw new UsageError('--topics is missing', `try: stream mirror ${source} --topics '*'`)
  }
  const internal = topics.find((topic) => topic.startsWith('__'))
  if (internal !== undefined) {
    throw new UsageError(`--topics ${internal}: internal topics are not copied`)
  }
  const plain = readPlan(deps, { flags, operands: topics }, { command: 'mirror', follows: false })
  if (plain.untilFutureMs !== undefined) {
    throw new UsageError('--until must not be in the future; to go on at the end: --follow')
  }
  const hasStart = flags.has('from') || flags.has('since')
  // What follows begins at the start too: a copy is of all there is.
  const from = hasStart ? plain.from : ({ all: { kind: 'start' }, places: [] } as const)
  return {
    source,
    topics,
    follows: flags.has('follow'),
    rename: renaming(flags, source),
    mayAppend: flags.has('append') || flags.has('tag-origin'),
    isTagged: flags.has('tag-origin'),
    read: { ...plain, from },
  }
}

/** @throws UsageError unless there is exactly one, and it is a broker */
function oneSource(args: CommandArgs, command: string): string {
  const help = `try: stream ${command} --help`
  const source = oneOperand(args, 'SOURCE', command)
  if (!isBrokerName(source)) {
    throw new UsageError(
      `${source}: SOURCE must be ipc://PATH, tcp://HOST:PORT, kafka://HOST[:9092] or @CONTEXT`,
      /^[\w.-]+$/.test(source) ? `a named broker: stream mirror @${source}` : help,
    )
  }
  return source
}

/** @throws UsageError unless there is exactly one */
export function oneOperand({ operands }: CommandArgs, name: string, command: string): string {
  const [operand, ...more] = operands
  const help = `try: stream ${command} --help`
  if (operand === undefined) throw new UsageError(`${name} is missing`, help)
  if (more.length > 0) throw new UsageError(`unexpected argument ${more[0]}`, help)
  return operand
}

/** `--topics`, of all verbs. */
export function topicGlobs(flags: Flags): string[] {
  return flags
    .all('topics')
    .flatMap((text) => text.split(','))
    .filter((text) => text !== '')
}

function renaming(flags: Flags, source: string): MirrorPlan['rename'] {
  const format = flags.text('rename')
  if (format === undefined) return (topic) => topic
  for (const [place] of format.matchAll(/\{[^}]*\}?/g)) {
    if (place !== '{topic}' && place !== '{cluster}') {
      throw new UsageError(`--rename ${format}: ${place} is neither {topic} nor {cluster}`)
    }
  }
  if (format === '') throw new UsageError('--rename: a name is missing')
  const name = source.startsWith('@') ? source.slice(1) : undefined
  return (topic, clusterId) =>
    format.replaceAll('{cluster}', name ?? clusterId).replaceAll('{topic}', topic)
}
