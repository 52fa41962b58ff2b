/**
 * From words to a command: finds it, reads its flags, answers the flags that every command has (help, version), sets
 * the console up, and runs it.
 */

import { StreamError, UsageError } from '../src/base/errors.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import type { Timer } from '../src/ports/time.ts'
import {
  type Command,
  type CommandDeps,
  type CommandEntry,
  commandWords,
  findCommand,
  verbsOf,
} from './deps.ts'
import { checkChoices, type FlagOccurrence, Flags, parseWords } from './flags.ts'
import { allOptions, commonOptions } from './option-table.ts'

/** These end by themselves at --timeout, in their own way. */
const timedCommands: ReadonlySet<string> = new Set([
  'produce',
  'consume',
  'cat',
  'tap',
  'pipe',
  'topics wait',
  'tail',
  'get',
  'txn',
  'mirror',
  'mirror failback',
  'daemon stop',
])

/** These say at --timeout what they have waited for, and are ended only if they cannot. */
const tellingCommands: ReadonlySet<string> = new Set([
  'groups lag',
  'mirror lag',
  'mirror promote',
  'mirror unlink',
])
const TELL_MS_MAX = 5000

/** @returns the exit code. @throws what the command throws */
export async function dispatch(deps: CommandDeps, words: readonly string[]): Promise<number> {
  if (words.length === 0) return usageHelp(deps, undefined)
  deps.console.configure({ words })
  const head = parseWords(words, commonOptions, { stopAtOperand: true })
  const [noun, ...afterNoun] = head.rest
  if (noun === undefined) return withoutCommand(deps, head.flags)
  const { commands } = deps
  const entry = findCommand(commands, noun)
  // A command that has verbs too: its operands come after `--`, so a verb's name is that verb.
  const ownVerb = findCommand(commands, `${noun} ${afterNoun[0] ?? ''}`)
  if (entry !== undefined && ownVerb !== undefined) {
    return runEntry(deps, ownVerb, head.flags, afterNoun.slice(1))
  }
  if (entry !== undefined) return runEntry(deps, entry, head.flags, afterNoun)
  if (verbsOf(commands, noun).length === 0)
    throw unknownCommand(noun, commandWords(commands), 'command')
  const middle = parseWords(afterNoun, commonOptions, { stopAtOperand: true, command: noun })
  const [verb, ...afterVerb] = middle.rest
  const before = [...head.flags, ...middle.flags]
  if (verb === undefined) {
    const flags = new Flags(before)
    return flags.has('help') ? printHelp(deps, [noun]) : usageHelp(deps, noun)
  }
  const verbEntry = findCommand(commands, `${noun} ${verb}`)
  if (verbEntry === undefined) {
    const verbs = verbsOf(commands, noun).map(({ name }) => name.slice(noun.length + 1))
    throw unknownCommand(verb, verbs, `verb of ${noun}`)
  }
  return runEntry(deps, verbEntry, before, afterVerb)
}

function unknownCommand(word: string, known: readonly string[], what: string): UsageError {
  const nearest = nearestName(word, known)
  return new UsageError(
    `${word}: no such ${what}`,
    nearest === undefined ? 'try: stream --help' : `did you mean ${nearest}?`,
  )
}

async function withoutCommand(
  deps: CommandDeps,
  occurrences: readonly FlagOccurrence[],
): Promise<number> {
  const flags = new Flags(occurrences)
  if (flags.has('version')) return printVersion(deps, flags)
  if (flags.has('help')) return printHelp(deps, [])
  if (flags.has('help-json')) {
    const { printAllAsJson } = await import('./help-json.ts')
    return printAllAsJson(deps)
  }
  return usageHelp(deps, undefined)
}

async function runEntry(
  deps: CommandDeps,
  entry: CommandEntry,
  before: readonly FlagOccurrence[],
  words: readonly string[],
): Promise<number> {
  const command = await entry.load()
  deps.console.configure({ command: entry.name })
  const options = allOptions(command.spec)
  const parsed = parseWords(words, options, { command: entry.name })
  const occurrences = [...before, ...parsed.flags]
  const flags = new Flags(occurrences)
  deps.console.configure({
    isJson: asksForJson(flags),
    isQuiet: flags.has('quiet'),
    verbosity: flags.count('verbose'),
  })
  if (flags.has('help')) return printHelp(deps, entry.name.split(' '))
  if (flags.has('help-json')) {
    const { printSpecAsJson } = await import('./help-json.ts')
    return printSpecAsJson(deps, command.spec)
  }
  if (flags.has('version')) return printVersion(deps, flags)
  checkChoices(occurrences, options)
  return withTimeout(deps, flags, entry.name, command, parsed.operands)
}

function asksForJson(flags: Flags): boolean {
  return flags.has('json') || flags.text('output') === 'json' || flags.text('input') === 'json'
}

async function withTimeout(
  deps: CommandDeps,
  flags: Flags,
  name: string,
  command: Command,
  operands: readonly string[],
): Promise<number> {
  const run = command.run(deps, { flags, operands })
  const timeoutMs = flags.durationMs('timeout')
  if (timeoutMs === undefined || timedCommands.has(name)) return run
  let timer: Timer | undefined
  const limitMs = tellingCommands.has(name) ? timeoutMs + TELL_MS_MAX : timeoutMs
  const late = new Promise<never>((_resolve, reject) => {
    timer = deps.time.setTimer(limitMs, () => {
      reject(new StreamError('TIMED_OUT', `not done within ${timeoutMs} ms`))
    })
  })
  try {
    return await Promise.race([run, late])
  } finally {
    timer?.cancel()
  }
}

async function printHelp(deps: CommandDeps, words: readonly string[]): Promise<number> {
  const help = await import('./help.ts')
  const { printText } = await import('./row-output.ts')
  await printText(
    deps.stdio.output,
    await help.helpText(deps.commands, words, help.helpWidth(deps)),
  )
  return 0
}

async function printVersion(deps: CommandDeps, flags: Flags): Promise<number> {
  const { run } = await import('./version.ts')
  return run(deps, { flags, operands: [] })
}

/** No arguments: short help on standard error, exit 2. */
async function usageHelp(deps: CommandDeps, noun: string | undefined): Promise<number> {
  const page = await import('./help-page.ts')
  deps.console.print(
    noun === undefined ? page.shortHelp(deps.commands) : page.nounHelp(deps.commands, noun),
  )
  return 2
}
