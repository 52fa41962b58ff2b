/**
 * Flags and commands as data: one table from which the parser (flags.ts), the help (help-page.ts), the man pages
 * (man/generate.ts) and the tests of all three follow. A flag means the same in every command that takes it, so the
 * rows that several commands share stand here.
 *
 * Nothing is done when this file is loaded but making the rows.
 */

export interface OptionSpec {
  /** Without dashes. */
  readonly long: string
  readonly short?: string
  /** What follows the flag, in capitals; absent: a switch. */
  readonly argument?: string
  readonly choices?: readonly string[]
  readonly isRepeatable?: boolean
  readonly default?: string
  /** One line, without a full stop. */
  readonly help: string
  /** In which part of the help it stands; default: the command's own. */
  readonly part?: 'common' | 'rare'
}

export interface OperandSpec {
  readonly name: string
  readonly isOptional?: boolean
  readonly isRepeatable?: boolean
}

export interface ExampleSpec {
  /** A line that can be typed, after `$ `. */
  readonly line: string
  readonly help?: string
}

export interface CommandSpec {
  /** `produce`, `topics create`. */
  readonly name: string
  /** One sentence without a full stop. */
  readonly summary: string
  /** Paragraphs for help and manual. */
  readonly description: readonly string[]
  readonly operands: readonly OperandSpec[]
  /** The command's own; all commands take commonOptions too. */
  readonly options: readonly OptionSpec[]
  readonly examples: readonly ExampleSpec[]
  /** Columns of its rows, where it prints rows. */
  readonly columns?: readonly string[]
  /** Exit codes that mean something particular here. */
  readonly exits?: readonly (readonly [code: number, meaning: string])[]
}

/** Taken by every command. */
// biome-ignore format: one row, one line
export const commonOptions: readonly OptionSpec[] = [
  { long: 'broker', short: 'b', argument: 'ADDRESS', part: 'common', help: 'the broker: ipc://PATH, tcp://HOST:PORT or kafka://HOST[:9092]' },
  { long: 'context', argument: 'NAME', part: 'common', help: 'a named broker with its settings' },
  { long: 'option', short: 'X', argument: 'KEY=VALUE', isRepeatable: true, part: 'common', help: 'a client setting of the config table' },
  { long: 'config-file', argument: 'FILE', part: 'common', help: "a config file in place of the user's" },
  { long: 'timeout', argument: 'DUR', part: 'common', help: 'for the whole command; then exit 7' },
  { long: 'connect-timeout', argument: 'DUR', default: '10s', part: 'common', help: 'for the first contact; then exit 4' },
  { long: 'color', argument: 'WHEN', choices: ['auto', 'always', 'never'], default: 'auto', part: 'common', help: 'colour' },
  { long: 'progress', argument: 'WHEN', choices: ['auto', 'always', 'never'], default: 'auto', part: 'common', help: 'progress on standard error' },
  { long: 'no-input', part: 'common', help: 'never ask' },
  { long: 'quiet', short: 'q', part: 'common', help: 'errors only' },
  { long: 'verbose', short: 'v', isRepeatable: true, part: 'common', help: 'more; -vv: the protocol, stack traces' },
  { long: 'help', short: 'h', part: 'common', help: 'this help' },
  { long: 'help-json', part: 'common', help: 'the flags of this command as JSON' },
  { long: 'version', short: 'V', part: 'common', help: 'the version' },
]

/** Of commands that print rows. */
// biome-ignore format: one row, one line
export const rowOptions: readonly OptionSpec[] = [
  { long: 'output', short: 'o', argument: 'FORM', choices: ['auto', 'table', 'wide', 'tsv', 'json'], default: 'auto', help: 'form of the rows; auto: a table on a terminal, else TSV' },
  { long: 'json', help: 'the same as -o json' },
  { long: 'titles', help: 'a line of column names, in TSV too' },
  { long: 'no-titles', help: 'no line of column names, in tables either' },
]

// biome-ignore format: one row, one line
export const jsonErrorOption: OptionSpec = { long: 'json', help: 'errors as JSON objects' }

/** Of commands that change things. */
// biome-ignore format: one row, one line
export const changeOptions: readonly OptionSpec[] = [
  { long: 'dry-run', help: 'make the plan against the live broker, print it and stop' },
]

// biome-ignore format: one row, one line
export const yesOption: OptionSpec = { long: 'yes', short: 'y', help: 'agree beforehand' }

// biome-ignore format: one row, one line
export const reportOption: OptionSpec = { long: 'report', argument: 'FILE', help: 'the summary as one JSON object' }

// biome-ignore format: one row, one line
export const regexOption: OptionSpec = { long: 'regex', help: 'topic arguments are regular expressions, not globs' }

/** The row of a flag given by its long or short name, without dashes. */
export function findOption(options: readonly OptionSpec[], name: string): OptionSpec | undefined {
  return options.find((option) => option.long === name || option.short === name)
}

/** All flags a command takes. */
export function allOptions(command: CommandSpec): readonly OptionSpec[] {
  return [...command.options, ...commonOptions]
}
