/**
 * What may stand in the place of the last word of a command line: from the tables of commands and flags, from the files
 * of the user, and live from the broker.
 *
 * Invariants:
 * - It prints whole lines `WORD⇥HELP`, or the line `:files` where a path is wanted, and always exits 0.
 * - It never starts a daemon, never asks, never complains, and is done within 200 ms of the start of the process.
 */

import { ContextsFile } from '../src/client/contexts.ts'
import { linkSecurity } from '../src/client/link-security.ts'
import type { ConfigKey } from '../src/config/config-key.ts'
import { keysOf } from '../src/config/keys.ts'
import type { ClusterClient } from './clients.ts'
import { type Command, type CommandDeps, commandWords, findCommand, verbsOf } from './deps.ts'
import { type FlagOccurrence, Flags } from './flags.ts'
import { helpTopicNames } from './help-topic-names.ts'
import { allOptions, commonOptions, type OptionSpec } from './option-table.ts'
import { printText } from './row-output.ts'
import { readSettings } from './settings.ts'

export interface Candidate {
  readonly word: string
  readonly help?: string
}

/** `files`: the shell completes paths itself. */
type Candidates = readonly Candidate[] | 'files'

/** Of the monotonic clock, which the real Time counts from the start of the process; the exit takes some, too. */
const LIVE_MS_MAX = 170

export async function completeWords(deps: CommandDeps, words: readonly string[]): Promise<number> {
  const found = await candidatesFor(deps, words).catch((): Candidates => [])
  if (found === 'files') {
    await printText(deps.stdio.output, ':files\n')
    return 0
  }
  const current = words.at(-1) ?? ''
  const lines = found
    .filter(({ word }) => word.startsWith(current) && !/[\t\n]/.test(word))
    .map(({ word, help = '' }) => `${word}\t${help}\n`)
  await printText(deps.stdio.output, lines.join(''))
  return 0
}

interface Place {
  readonly command: Command | undefined
  /** The first word of verbs, `topics`. */
  readonly noun: string | undefined
  /** Flags so far. */
  readonly flags: readonly FlagOccurrence[]
  /** Operands so far, without the current word. */
  readonly operands: readonly string[]
  /** The flag whose value the current word is. */
  readonly pending: OptionSpec | undefined
  readonly isAfterDashes: boolean
}

/** @param words  behind `stream`; the last one is at the cursor */
export async function candidatesFor(
  deps: CommandDeps,
  words: readonly string[],
): Promise<Candidates> {
  const current = words.at(-1) ?? ''
  const place = await findPlace(deps, words.slice(0, -1))
  const { command, noun, pending } = place
  if (pending !== undefined) return valuesOf(deps, place, pending)
  if (current.startsWith('-') && !place.isAfterDashes) {
    const options = command === undefined ? commonOptions : allOptions(command.spec)
    const equals = current.indexOf('=')
    const option = options.find(({ long }) => equals > 0 && long === current.slice(2, equals))
    if (option === undefined) return flagWords(options, place.flags)
    const values = await valuesOf(deps, place, option)
    if (values === 'files') return []
    const prefix = current.slice(0, equals + 1)
    return values.map(({ word, ...rest }) => ({ word: `${prefix}${word}`, ...rest }))
  }
  if (command !== undefined) return operandWords(deps, place, command)
  if (noun !== undefined) {
    return verbsOf(deps.commands, noun).map(({ name, summary }) => ({
      word: name.slice(noun.length + 1),
      help: summary,
    }))
  }
  return commandWords(deps.commands).map((word) => ({
    word,
    help: findCommand(deps.commands, word)?.summary ?? verbHelp(deps, word),
  }))
}

function verbHelp(deps: CommandDeps, noun: string): string {
  const verbs = verbsOf(deps.commands, noun).map(({ name }) => name.slice(noun.length + 1))
  return verbs.join(', ')
}

/** Walks the words before the cursor as the parser would; what it does not know it passes over. */
async function findPlace(deps: CommandDeps, words: readonly string[]): Promise<Place> {
  let command: Command | undefined
  let noun: string | undefined
  let pending: OptionSpec | undefined
  let isAfterDashes = false
  const flags: FlagOccurrence[] = []
  const operands: string[] = []
  for (const word of words) {
    const options = command === undefined ? commonOptions : allOptions(command.spec)
    if (pending !== undefined) {
      flags.push({ name: pending.long, value: word })
      pending = undefined
    } else if (!isAfterDashes && word === '--') {
      isAfterDashes = true
    } else if (!isAfterDashes && word.startsWith('-') && word.length > 1) {
      const { found, value } = readFlag(word, options)
      if (found === undefined) continue
      if (found.argument !== undefined && value === undefined) pending = found
      else flags.push({ name: found.long, value })
    } else if (command === undefined) {
      const entry = findCommand(deps.commands, noun === undefined ? word : `${noun} ${word}`)
      command = await entry?.load()
      noun ??= word
    } else {
      operands.push(word)
    }
  }
  return { command, noun, flags, operands, pending, isAfterDashes }
}

function readFlag(
  word: string,
  options: readonly OptionSpec[],
): { readonly found: OptionSpec | undefined; readonly value: string | undefined } {
  if (word.startsWith('--')) {
    const equals = word.indexOf('=')
    const name = equals < 0 ? word.slice(2) : word.slice(2, equals)
    const value = equals < 0 ? undefined : word.slice(equals + 1)
    return { found: options.find(({ long }) => long === name), value }
  }
  // Of switches that stand together the last letter, or the first that takes a value.
  for (let at = 1; at < word.length; at += 1) {
    const found = options.find(({ short }) => short === word[at])
    const isLast = at === word.length - 1
    if (found === undefined || isLast) return { found, value: undefined }
    if (found.argument !== undefined) return { found, value: word.slice(at + 1) }
  }
  return { found: undefined, value: undefined }
}

function flagWords(
  options: readonly OptionSpec[],
  given: readonly FlagOccurrence[],
): readonly Candidate[] {
  return options
    .filter(
      ({ long, isRepeatable }) => isRepeatable === true || !given.some(({ name }) => name === long),
    )
    .map(({ long, help }) => ({ word: `--${long}`, help }))
}

async function valuesOf(deps: CommandDeps, place: Place, option: OptionSpec): Promise<Candidates> {
  if (option.choices !== undefined) return option.choices.map((word) => ({ word }))
  switch (option.long) {
    case 'context':
      return contextWords(deps)
    case 'topic':
    case 'topics':
      return topicWords(deps, place)
    case 'group':
    case 'to-group':
      return groupWords(deps, place)
    case 'option':
      return isDaemon(place) ? keyWords(keysOf('broker'), '=') : keyWords(keysOf('client'), '=')
    case 'brokers':
      return brokerWords(deps, place)
    case 'set':
      return keyWords(keysOf('topic'), '=')
    case 'unset':
      return place.noun === 'topics'
        ? keyWords(keysOf('topic'), '')
        : keyWords(keysOf('client'), '')
    case 'secret':
      return keyWords(
        keysOf('client').filter(({ type }) => type === 'secret'),
        '=',
      )
    case 'broker':
    case 'listen':
      return ['ipc://', 'tcp://', 'kafka://'].map((word) => ({ word }))
    case 'from':
    case 'until':
    case 'to':
      return ['start', 'end', 'today', 'yesterday', 'now'].map((word) => ({ word }))
    case 'since':
    case 'time':
      return ['today', 'yesterday', 'now'].map((word) => ({ word }))
    default:
      return /FILE|DIR|PATH/.test(option.argument ?? '') ? 'files' : []
  }
}

function isDaemon({ noun }: Place): boolean {
  return noun === 'daemon'
}

function keyWords(keys: readonly ConfigKey[], suffix: string): readonly Candidate[] {
  return keys
    .filter(({ hidden }) => hidden !== true)
    .map(({ name, help }) => ({ word: `${name}${suffix}`, help }))
}

async function operandWords(
  deps: CommandDeps,
  place: Place,
  { spec }: Command,
): Promise<Candidates> {
  const { operands } = spec
  const last = operands.at(-1)
  const operand =
    operands[place.operands.length] ?? (last?.isRepeatable === true ? last : undefined)
  if (operand === undefined) return []
  const { name } = operand
  const { noun } = place
  if (noun === 'help') return helpWords(deps, place)
  if (/^[a-z]+(\|[a-z]+)+$/.test(name)) return name.split('|').map((word) => ({ word }))
  if (noun === 'context') return contextWords(deps)
  if (noun === 'config') {
    return name === 'KEY' || name === 'GLOB' ? keyWords(fileKeys(), '') : keyValues(place)
  }
  if (noun === 'explain') return explainWords()
  if (/FILE|DIR|PATH/.test(name)) return 'files'
  if (name === 'BROKER') return brokerWords(deps, place)
  if (noun === 'groups') return groupWords(deps, place)
  if (noun === 'dlq') return deadJobWords(deps, place)
  const isTopic = name.includes('TOPIC') || noun === 'topics' || /^[AB]$/.test(name)
  const isMissing = spec.name === 'topics create'
  return isTopic && !isMissing ? topicWords(deps, place) : []
}

function fileKeys(): readonly ConfigKey[] {
  const client = new Set(keysOf('client').map(({ name }) => name))
  return [...keysOf('client'), ...keysOf('broker').filter(({ name }) => !client.has(name))]
}

function keyValues({ operands }: Place): readonly Candidate[] {
  const key = fileKeys().find(({ name }) => name === operands[0])
  if (key?.type === 'boolean') return [{ word: 'true' }, { word: 'false' }]
  return (key?.values ?? []).map((word) => ({ word }))
}

function helpWords(deps: CommandDeps, { operands }: Place): readonly Candidate[] {
  const [noun] = operands
  if (noun !== undefined) {
    return verbsOf(deps.commands, noun).map(({ name, summary }) => ({
      word: name.slice(noun.length + 1),
      help: summary,
    }))
  }
  const topics = helpTopicNames.map((word) => ({ word, help: 'a topic of the manual' }))
  return [...commandWords(deps.commands).map((word) => ({ word })), ...topics]
}

async function explainWords(): Promise<readonly Candidate[]> {
  const { kafkaErrors } = await import('../src/protocol/errors.ts')
  return [
    { word: 'exit', help: 'an exit code' },
    ...Object.entries(kafkaErrors).map(([word, { message }]) => ({ word, help: message })),
  ]
}

function contextWords({ host }: CommandDeps): readonly Candidate[] {
  const file = ContextsFile.read(host)
  return file.names.map((word) => ({ word, help: file.get(word)?.broker ?? '' }))
}

type Ask = (cluster: ClusterClient) => Promise<readonly string[]>

function topicWords(deps: CommandDeps, place: Place): Promise<readonly Candidate[]> {
  return liveWords(deps, place, async (cluster) => {
    const topics = await cluster.describeTopics(undefined)
    return topics.flatMap(({ name, isInternal }) =>
      isInternal || name.startsWith('__') ? [] : [name],
    )
  })
}

function brokerWords(deps: CommandDeps, place: Place): Promise<readonly Candidate[]> {
  return liveWords(deps, place, async (cluster) => {
    await cluster.describeTopics([])
    return [...cluster.metadata.brokers.keys()].map(String)
  })
}

function groupWords(deps: CommandDeps, place: Place): Promise<readonly Candidate[]> {
  return liveWords(deps, place, async (cluster) => {
    const groups = await deps.clients.groupAdmin(cluster)
    return (await groups.list()).map(({ groupId }) => groupId)
  })
}

function deadJobWords(deps: CommandDeps, place: Place): Promise<readonly Candidate[]> {
  return liveWords(deps, place, async (cluster) => {
    const { jobsOf } = await import('./dlq-records.ts')
    return jobsOf(await cluster.describeTopics(undefined))
  })
}

/** Of the broker that the command would use, if it answers in time. */
async function liveWords(deps: CommandDeps, place: Place, ask: Ask): Promise<readonly Candidate[]> {
  const leftMs = LIVE_MS_MAX - deps.time.monotonicMs()
  if (leftMs <= 0) return []
  const late = new Promise<readonly Candidate[]>((resolve) => {
    deps.time.setTimer(leftMs, () => resolve([]))
  })
  const asked = askBroker(deps, new Flags(place.flags), leftMs, ask).catch(() => [])
  return Promise.race([asked, late])
}

async function askBroker(
  deps: CommandDeps,
  flags: Flags,
  leftMs: number,
  ask: Ask,
): Promise<readonly Candidate[]> {
  const { broker, client: settings, secrets } = readSettings(flags, deps.host)
  const addresses =
    broker.kind === 'named' ? broker.addresses : [broker.userAddress, broker.hostAddress]
  const reachable = addresses.filter(
    (address) =>
      !address.startsWith('ipc://') ||
      deps.host.stat(address.slice('ipc://'.length))?.kind === 'socket',
  )
  if (reachable.length === 0) return []
  const cluster = await deps.clients.cluster(deps.console.log, {
    addresses: reachable,
    connectTimeoutMs: leftMs,
    retryFirstContact: false,
    ...(await linkSecurity(deps, reachable, settings, secrets)),
  })
  try {
    await cluster.connect()
    const words = await ask(cluster)
    return words.toSorted().map((word) => ({ word }))
  } finally {
    cluster.close()
  }
}
