/**
 * The parser of command lines, over the tables of option-table.ts. It is small so that a command in a pipe starts fast;
 * commander, which renders the help, parses by the same tables to the same result (test/cmd/flags.test.ts).
 *
 * The grammar: `--flag VALUE`, `--flag=VALUE`, `-f VALUE`, `-fVALUE`, `-qv` for switches, `--` ends the flags, which
 * stand anywhere before it. A flag that takes a value takes the next word whatever it looks like. There are no
 * abbreviations.
 */

import { UsageError } from '../src/base/errors.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import {
  parseCount,
  parseDuration,
  parseEscapes,
  parsePartitions,
  parseRate,
  parseSize,
  type Rate,
} from '../src/text/units.ts'
import type { OptionSpec } from './option-table.ts'

export interface FlagOccurrence {
  /** The long name. */
  readonly name: string
  /** undefined for switches. */
  readonly value: string | undefined
}

/** What was typed, in order. */
export interface ParsedWords {
  readonly flags: readonly FlagOccurrence[]
  readonly operands: readonly string[]
}

/**
 * Parses words by `options`.
 * @param stopAtOperand  ends at the first operand, for what stands before a command's name: `rest` begins with it
 * @throws UsageError for an unknown flag, a missing or a superfluous value
 */
export function parseWords(
  words: readonly string[],
  options: readonly OptionSpec[],
  settings: { readonly stopAtOperand?: boolean; readonly command?: string } = {},
): ParsedWords & { readonly rest: readonly string[] } {
  const flags: FlagOccurrence[] = []
  const operands: string[] = []
  const hasDigitFlag = options.some((option) => /^\d$/.test(option.short ?? ''))
  const fail = (message: string, hint?: string): never => {
    const help = `try: stream ${settings.command === undefined ? '' : `${settings.command} `}--help`
    throw new UsageError(message, hint ?? help)
  }
  let index = 0
  const takeValue = (option: OptionSpec, shown: string): string => {
    const value = words[index]
    if (value === undefined) return fail(`${shown}: ${option.argument ?? 'a value'} is missing`)
    index += 1
    return value
  }
  while (index < words.length) {
    const word = words[index] as string
    if (word === '--') {
      operands.push(...words.slice(index + 1))
      index = words.length
      break
    }
    const isNegativeNumber = !hasDigitFlag && /^-(\d+|\d*\.\d+)(e[+-]?\d+)?$/.test(word)
    if (word.length < 2 || word[0] !== '-' || isNegativeNumber) {
      if (settings.stopAtOperand === true) {
        return { flags, operands, rest: words.slice(index) }
      }
      operands.push(word)
      index += 1
      continue
    }
    index += 1
    if (word[1] === '-') {
      const equals = word.indexOf('=')
      const name = equals < 0 ? word.slice(2) : word.slice(2, equals)
      const option = options.find((candidate) => candidate.long === name)
      if (option === undefined) return fail(`unknown flag --${name}`, flagHint(name, options))
      if (option.argument === undefined) {
        if (equals >= 0) fail(`--${name} takes no value`)
        flags.push({ name: option.long, value: undefined })
      } else {
        const value = equals < 0 ? takeValue(option, `--${name}`) : word.slice(equals + 1)
        flags.push({ name: option.long, value })
      }
      continue
    }
    // Switches may stand together; a flag with a value takes the rest of the word, or the next word.
    for (let at = 1; at < word.length; at += 1) {
      const letter = word[at] as string
      const option = options.find((candidate) => candidate.short === letter)
      if (option === undefined) return fail(`unknown flag -${letter}`, laterShortFlags[letter])
      if (option.argument === undefined) {
        flags.push({ name: option.long, value: undefined })
        continue
      }
      const rest = word.slice(at + 1)
      flags.push({ name: option.long, value: rest === '' ? takeValue(option, `-${letter}`) : rest })
      break
    }
  }
  return { flags, operands, rest: [] }
}

function flagHint(name: string, options: readonly OptionSpec[]): string | undefined {
  const later = laterFlags[name]
  if (later !== undefined) return later
  const nearest = nearestName(
    name,
    options.map((option) => option.long),
  )
  return nearest === undefined ? undefined : `did you mean --${nearest}?`
}

/** Flags of the contract that this version does not have; saying so is better than a far-fetched neighbour. */
const laterFlags: Readonly<Record<string, string>> = Object.fromEntries(
  ['etcd'].map((name) => [name, 'this version does not have it yet']),
)

const laterShortFlags: Readonly<Record<string, string>> = {
  j: 'this version does not have --job yet',
}

/** The flags of one run, read by name and type. Of a flag that does not repeat the last one counts. */
export class Flags {
  readonly #occurrences: readonly FlagOccurrence[]

  constructor(occurrences: readonly FlagOccurrence[]) {
    this.#occurrences = occurrences
  }

  has(name: string): boolean {
    return this.#occurrences.some((occurrence) => occurrence.name === name)
  }

  count(name: string): number {
    return this.#occurrences.filter((occurrence) => occurrence.name === name).length
  }

  text(name: string): string | undefined {
    return this.#occurrences.findLast((occurrence) => occurrence.name === name)?.value
  }

  all(name: string): string[] {
    return this.#occurrences.flatMap(({ name: found, value }) =>
      found === name && value !== undefined ? [value] : [],
    )
  }

  /** The same flags and one more, which counts as the last. */
  with(name: string, value: string): Flags {
    return new Flags([...this.#occurrences, { name, value }])
  }

  /** The same flags but one. */
  without(name: string): Flags {
    return new Flags(this.#occurrences.filter((occurrence) => occurrence.name !== name))
  }

  /** Of two switches that contradict each other the later: true for `yes`, false for `no`. */
  either(yes: string, no: string): boolean | undefined {
    const last = this.#occurrences.findLast(({ name }) => name === yes || name === no)
    return last === undefined ? undefined : last.name === yes
  }

  durationMs(name: string): number | undefined {
    return this.#read(name, parseDuration, 'a duration such as 500ms, 10s, 2h')
  }

  sizeBytes(name: string): number | undefined {
    return this.#read(name, parseSize, 'a size such as 512, 64KiB, 8MiB')
  }

  wholeNumber(name: string): number | undefined {
    return this.#read(name, parseCount, 'a whole number')
  }

  partitions(name: string): number[] | undefined {
    return this.#read(name, parsePartitions, 'partitions such as 0,2-4')
  }

  rate(name: string): Rate | undefined {
    return this.#read(name, parseRate, 'a rate such as 1000/s, 5MiB/s')
  }

  /** A delimiter or separator. */
  escapedBytes(name: string): Uint8Array | undefined {
    return this.#read(name, parseEscapes, String.raw`text with \n \t \r \0 \\ \xHH, not empty`)
  }

  /** A word out of the few that the table allows. */
  choice<Word extends string>(name: string, words: readonly Word[]): Word | undefined {
    return this.#read(
      name,
      (text) => words.find((word) => word === text),
      `one of ${words.join(', ')}`,
    )
  }

  /** @throws UsageError naming both if more than one of them is given */
  exclusive(...names: readonly string[]): void {
    const given = names.filter((name) => this.has(name))
    if (given.length > 1) {
      throw new UsageError(`--${given[0]} and --${given[1]} cannot be used together`)
    }
  }

  #read<Value>(
    name: string,
    parse: (text: string) => Value | undefined,
    wanted: string,
  ): Value | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    const value = parse(text)
    if (value === undefined) throw new UsageError(`--${name} ${text}: must be ${wanted}`)
    return value
  }
}

/** @throws UsageError for a value that the table does not allow */
export function checkChoices(
  flags: readonly FlagOccurrence[],
  options: readonly OptionSpec[],
): void {
  for (const { name, value } of flags) {
    const choices = options.find((option) => option.long === name)?.choices
    if (value === undefined || choices === undefined || choices.includes(value)) continue
    const nearest = nearestName(value, choices)
    throw new UsageError(
      `--${name} ${value}: must be one of ${choices.join(', ')}`,
      nearest === undefined ? undefined : `did you mean ${nearest}?`,
    )
  }
}
