import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { commands } from '../../cmd/commands.ts'
import { checkChoices, type FlagOccurrence, Flags, parseWords } from '../../cmd/flags.ts'
import { buildCommander } from '../../cmd/help-page.ts'
import { allOptions, type OptionSpec } from '../../cmd/option-table.ts'

type Result =
  | { readonly flags: readonly FlagOccurrence[]; readonly operands: readonly string[] }
  | 'refused'

function byParser(words: readonly string[], options: readonly OptionSpec[]): Result {
  try {
    const { flags, operands } = parseWords(words, options)
    return { flags, operands }
  } catch {
    return 'refused'
  }
}

function byCommander(words: readonly string[], options: readonly OptionSpec[]): Result {
  const command = buildCommander('x', options)
  command.configureOutput({ writeErr: () => undefined, writeOut: () => undefined })
  const flags: FlagOccurrence[] = []
  for (const option of options) {
    command.on(`option:${option.long}`, (value: unknown) => {
      flags.push({ name: option.long, value: typeof value === 'string' ? value : undefined })
    })
  }
  try {
    command.parse([...words], { from: 'user' })
    return { flags, operands: command.args }
  } catch {
    return 'refused'
  }
}

const tables = await Promise.all(
  commands.map(async (entry) => allOptions((await entry.load()).spec)),
)

function wordOf(options: readonly OptionSpec[]): fc.Arbitrary<string> {
  const option = fc.constantFrom(...options)
  const value = fc.constantFrom('x', '', '-5', '--', '-', 'a=b', '--json', '1h')
  return fc.oneof(
    option.map((row) => `--${row.long}`),
    option.map((row) => (row.short === undefined ? `--${row.long}` : `-${row.short}`)),
    fc.tuple(option, value).map(([row, text]) => `--${row.long}=${text}`),
    // Not `-q-`: commander takes what is left of it for `--`; here it is refused.
    fc
      .tuple(option, value)
      .filter(([row, text]) => row.argument !== undefined || !text.startsWith('-'))
      .map(([row, text]) => `-${row.short ?? 'q'}${row.short === undefined ? '' : text}`),
    fc.tuple(option, option).map(([one, two]) => `-${one.short ?? 'q'}${two.short ?? 'v'}`),
    value,
    fc.constantFrom('topic', '--nonsense', '-?', '-3', '-1.5', '-', '--', 'file.gz'),
  )
}

describe('parseWords', () => {
  it('reads every line as commander does, by the same tables', () => {
    for (const options of tables) {
      fc.assert(
        fc.property(fc.array(wordOf(options), { maxLength: 6 }), (words) => {
          expect(byParser(words, options)).toEqual(byCommander(words, options))
        }),
        { numRuns: 150 },
      )
    }
  })

  const options: readonly OptionSpec[] = [
    { long: 'from', argument: 'POS', help: '' },
    { long: 'count', short: 'n', argument: 'N', help: '' },
    { long: 'quiet', short: 'q', help: '' },
    { long: 'verbose', short: 'v', help: '' },
  ]

  it('a flag takes the next word whatever it looks like', () => {
    const { flags, operands } = parseWords(['--from', '-5', 't', '-n', '-1', '-qv', '-n7'], options)
    expect(operands).toEqual(['t'])
    expect(flags).toEqual([
      { name: 'from', value: '-5' },
      { name: 'count', value: '-1' },
      { name: 'quiet', value: undefined },
      { name: 'verbose', value: undefined },
      { name: 'count', value: '7' },
    ])
  })

  it('-- ends the flags, and a lone dash is an operand', () => {
    expect(parseWords(['-', '--', '-q'], options).operands).toEqual(['-', '-q'])
  })

  it('stops at the first operand when asked to', () => {
    const { flags, rest } = parseWords(['-q', 'topics', '-n', '1'], options, {
      stopAtOperand: true,
    })
    expect(flags).toHaveLength(1)
    expect(rest).toEqual(['topics', '-n', '1'])
  })

  it('says what is wrong, with the nearest name', () => {
    const hint = (words: string[]): unknown => {
      try {
        parseWords(words, options, { command: 'cat' })
        return undefined
      } catch (error) {
        return `${(error as Error).message}; ${(error as { hint?: string }).hint}`
      }
    }
    expect(hint(['--cuont', '5'])).toBe('unknown flag --cuont; did you mean --count?')
    expect(hint(['--from'])).toBe('--from: POS is missing; try: stream cat --help')
    expect(hint(['--quiet=yes'])).toContain('takes no value')
    expect(hint(['-x'])).toContain('unknown flag -x')
    expect(hint(['--etcd', 'g'])).toContain('does not have it yet')
  })
})

describe('Flags', () => {
  const flags = new Flags([
    { name: 'create', value: undefined },
    { name: 'no-create', value: undefined },
    { name: 'linger', value: '5ms' },
    { name: 'linger', value: '7s' },
    { name: 'header', value: 'a=1' },
    { name: 'header', value: 'b=2' },
    { name: 'count', value: 'x' },
  ])

  it('the last counts, of switches that contradict each other too; repeatable ones are all kept', () => {
    expect(flags.either('create', 'no-create')).toBe(false)
    expect(flags.either('titles', 'no-titles')).toBeUndefined()
    expect(flags.durationMs('linger')).toBe(7000)
    expect(flags.all('header')).toEqual(['a=1', 'b=2'])
    expect(flags.with('linger', '1s').durationMs('linger')).toBe(1000)
    expect(flags.without('linger').durationMs('linger')).toBeUndefined()
  })

  it('refuses values of the wrong form, naming the flag', () => {
    expect(() => flags.wholeNumber('count')).toThrow('--count x: must be a whole number')
    expect(() => flags.exclusive('create', 'no-create')).toThrow('together')
    const table: OptionSpec[] = [{ long: 'acks', argument: 'N', choices: ['all', '1'], help: '' }]
    expect(() => checkChoices([{ name: 'acks', value: 'al' }], table)).toThrow('one of all, 1')
  })
})

describe('the tables', () => {
  it('name and summary in the list are those of the command', async () => {
    for (const entry of commands) {
      const { spec } = await entry.load()
      expect(spec.name).toBe(entry.name)
      expect(spec.summary).toBe(entry.summary)
      expect(spec.examples.length, entry.name).toBeGreaterThan(0)
    }
  })

  it('no command has two flags of one name, and every flag has help', () => {
    for (const options of tables) {
      const names = options.flatMap((option) => [option.long, option.short ?? `${option.long}!`])
      expect(new Set(names).size).toBe(names.length)
      for (const option of options) expect(option.help, option.long).toMatch(/^\S.*[^.]$/)
    }
  })

  it('a short flag means one thing in all commands', () => {
    const meanings = new Map<string, string>()
    for (const option of tables.flat()) {
      if (option.short === undefined) continue
      expect(meanings.get(option.short) ?? option.long).toBe(option.long)
      meanings.set(option.short, option.long)
    }
  })
})
