/**
 * Help, rendered by commander from the tables: a sentence, examples, the flags of the command, those of all commands.
 * Loaded only when help is asked for: commander takes longer to load than a whole `echo x | stream produce t` may.
 */

import { Command, Option } from 'commander'
import { type CommandEntry, commandWords, findCommand, verbsOf } from './deps.ts'
import { type CommandSpec, commonOptions, type OptionSpec } from './option-table.ts'
import { wrapText } from './wrap-text.ts'

/** A commander command with the flags of a table; parses to the same flags as flags.ts does. */
export function buildCommander(name: string, options: readonly OptionSpec[]): Command {
  const command = new Command(name)
  command.helpOption(false)
  command.helpCommand(false)
  command.exitOverride()
  command.allowExcessArguments(true)
  command.argument('[words...]')
  for (const option of options) command.addOption(buildOption(option))
  return command
}

function buildOption(option: OptionSpec): Option {
  const short = option.short === undefined ? '' : `-${option.short}, `
  const argument = option.argument === undefined ? '' : ` <${option.argument}>`
  const many = option.isRepeatable === true && option.argument !== undefined ? '; repeatable' : ''
  const initial = option.default === undefined ? '' : ` (${option.default})`
  const choices = option.choices === undefined ? '' : `: ${option.choices.join(', ')}`
  const built = new Option(
    `${short}--${option.long}${argument}`,
    `${option.help}${choices}${many}${initial}`,
  )
  return built.helpGroup(option.part === 'common' ? 'Flags of all commands:' : 'Flags:')
}

export function usageLine(spec: CommandSpec): string {
  const operands = spec.operands.map(({ name, isOptional, isRepeatable }) => {
    const many = isRepeatable === true ? `${name}…` : name
    return isOptional === true ? `[${many}]` : many
  })
  // Behind a program its own flags begin.
  const isProgram = ['CMD', 'PIPELINE'].includes(spec.operands[0]?.name ?? '')
  const words = isProgram ? ['[flags]', '--', ...operands] : [...operands, '[flags]']
  return ['stream', spec.name, ...words].join(' ')
}

export function commandHelp(spec: CommandSpec, width: number): string {
  const command = buildCommander(spec.name, [...spec.options, ...commonOptions])
  configure(command, width)
  command.usage('')
  const lines = [`${spec.summary}.`, '', `Usage: ${usageLine(spec)}`, '', 'Examples:']
  for (const example of spec.examples) {
    const help = example.help === undefined ? '' : `   (${example.help})`
    lines.push(`  $ ${example.line}${help}`)
  }
  for (const paragraph of spec.description) lines.push('', ...wrapText(paragraph, width))
  if (spec.columns !== undefined) {
    lines.push('', ...wrapText(`Columns: ${spec.columns.join(' ')}`, width))
  }
  const rest = flagPart(command)
  const exits = (spec.exits ?? []).map(([code, meaning]) => `  ${code}  ${meaning}`)
  const tail = exits.length === 0 ? [] : ['', 'Exit codes (all: stream help exit-codes):', ...exits]
  return `${[...lines, '', rest.trimEnd(), ...tail].join('\n')}\n`
}

/** What commander renders after its usage line and its argument. */
function flagPart(command: Command): string {
  const text = command.helpInformation()
  const start = text.indexOf('Flags:\n')
  const common = text.indexOf('Flags of all commands:\n')
  return text.slice(start >= 0 && start <= common ? start : common)
}

function configure(command: Command, width: number): void {
  command.configureHelp({ helpWidth: width })
  // Without these commander asks process.stdout, whose making alone takes milliseconds.
  command.configureOutput({
    getOutHasColors: () => false,
    getErrHasColors: () => false,
    getOutHelpWidth: () => width,
    getErrHelpWidth: () => width,
  })
}

export function mainHelp(entries: readonly CommandEntry[], width: number): string {
  const top = buildCommander('stream', commonOptions)
  configure(top, width)
  const lines = [
    'Durable, partitioned logs behind small commands that read and write lines.',
    '',
    'Usage: stream COMMAND [arguments] [flags]',
    '',
    'Examples:',
    '  $ tail -F access.log | stream produce clicks',
    '  $ stream consume clicks --since 1h --until-end | gzip > clicks.gz',
    '  $ stream cat orders --json | jq -r .value',
    '',
    'Commands:',
    ...commandLines(entries),
    '',
    flagPart(top).trimEnd(),
    '',
    'More: stream COMMAND --help; stream help formats, positions, guarantees, exit-codes, signals',
  ]
  return `${lines.join('\n')}\n`
}

/** Help of a noun: its verbs. */
export function nounHelp(entries: readonly CommandEntry[], noun: string): string {
  const verbs = verbsOf(entries, noun)
  const lines = [
    `Usage: stream ${noun} VERB [arguments] [flags]`,
    '',
    'Verbs:',
    ...commandLines(verbs),
    '',
    `More: stream ${noun} VERB --help`,
  ]
  return `${lines.join('\n')}\n`
}

/** What is printed when there are no arguments: no more than a screen's half. */
export function shortHelp(entries: readonly CommandEntry[]): string {
  const lines = [
    'Usage: stream COMMAND [arguments] [flags]',
    '',
    ...wordLines(entries),
    '',
    'More: stream --help',
  ]
  return `${lines.join('\n')}\n`
}

/** One line for each first word; of nouns their verbs. */
function wordLines(entries: readonly CommandEntry[]): string[] {
  const words = commandWords(entries)
  const width = Math.max(...words.map((word) => word.length))
  return words.map((word) => {
    const verbs = verbsOf(entries, word).map(({ name }) => name.slice(word.length + 1))
    const text = findCommand(entries, word)?.summary ?? verbs.join(', ')
    return `  ${word.padEnd(width)}  ${text}`
  })
}

function commandLines(entries: readonly CommandEntry[]): string[] {
  const width = Math.max(...entries.map(({ name }) => name.length))
  return entries.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`)
}
