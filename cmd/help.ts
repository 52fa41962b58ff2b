/** `stream help [COMMAND | TOPIC]`. */

import { UsageError } from '../src/base/errors.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import {
  type CommandArgs,
  type CommandDeps,
  type CommandEntry,
  commandWords,
  findCommand,
  verbsOf,
} from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { printText } from './row-output.ts'

export const spec: CommandSpec = {
  name: 'help',
  summary: 'Print the help of a command or a topic',
  description: [
    'Topics: formats, positions, guarantees, exit-codes, signals, cluster, line-protocol, library.',
  ],
  operands: [{ name: 'COMMAND', isOptional: true, isRepeatable: true }],
  options: [],
  examples: [{ line: 'stream help topics create' }, { line: 'stream help positions' }],
}

const WIDTH_MAX = 100

export function helpWidth(deps: CommandDeps): number {
  return Math.min(WIDTH_MAX, deps.host.columns('output') ?? 80)
}

export async function run(deps: CommandDeps, { operands }: CommandArgs): Promise<number> {
  await printText(deps.stdio.output, await helpText(deps.commands, operands, helpWidth(deps)))
  return 0
}

/** @throws UsageError for a name that is neither a command nor a topic */
export async function helpText(
  entries: readonly CommandEntry[],
  words: readonly string[],
  width: number,
): Promise<string> {
  const page = await import('./help-page.ts')
  const name = words.join(' ')
  if (name === '') return page.mainHelp(entries, width)
  const entry = findCommand(entries, name)
  if (entry !== undefined) return page.commandHelp((await entry.load()).spec, width)
  const verbs = verbsOf(entries, name).length > 0 ? page.nounHelp(entries, name) : undefined
  const { helpTopics } = await import('./help-topics.ts')
  const topic = helpTopics.find((candidate) => candidate.name === name)
  if (topic !== undefined) return `${verbs === undefined ? '' : `${verbs}\n`}${topic.text}\n`
  if (verbs !== undefined) return verbs
  const nearest = nearestName(name, [
    ...entries.map((command) => command.name),
    ...commandWords(entries),
    ...helpTopics.map((candidate) => candidate.name),
  ])
  throw new UsageError(
    `${name}: neither a command nor a topic`,
    nearest === undefined ? 'try: stream help' : `did you mean ${nearest}?`,
  )
}
