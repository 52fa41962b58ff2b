/** `stream explain`: a Kafka error, an error of `stream` itself, or an exit code: meaning, cause, what to do. */

import { errorTable, StreamError, UsageError } from '../src/base/errors.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import { kafkaErrors } from '../src/protocol/errors.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { exitCodes } from './exit-code.ts'
import { exitAdvice, kafkaAdvice, streamAdvice } from './explain-advice.ts'
import type { CommandSpec } from './option-table.ts'
import { printText } from './row-output.ts'
import { wrapText } from './wrap-text.ts'

const WIDTH_MAX = 100

export const spec: CommandSpec = {
  name: 'explain',
  summary: 'Explain an error or an exit code',
  description: [
    'A Kafka error by number or name, an error of this program by its code (as --json errors have it), or an exit code.',
  ],
  operands: [{ name: 'CODE|NAME|exit' }, { name: 'N', isOptional: true }],
  options: [{ long: 'json', help: 'one object, and errors as JSON objects' }],
  examples: [
    { line: 'stream explain REBALANCE_IN_PROGRESS; stream explain exit 5' },
    { line: 'stream explain 3' },
  ],
  exits: [[3, 'no such error or exit code']],
}

export interface Explanation {
  readonly kind: 'kafka-error' | 'error' | 'exit'
  readonly name: string
  readonly code: number | null
  readonly meaning: string
  readonly cause: string
  readonly advice: string
  readonly retriable: boolean | null
  /** The exit code of a command that ends with it. */
  readonly exit: number | null
}

export async function run(deps: CommandDeps, { flags, operands }: CommandArgs): Promise<number> {
  const explanation = explain(operands)
  if (flags.has('json')) {
    const { kind, ...rest } = explanation
    await printText(
      deps.stdio.output,
      `${JSON.stringify({ v: 1, kind: 'explanation', of: kind, ...rest })}\n`,
    )
    return 0
  }
  const width = Math.min(WIDTH_MAX, deps.host.columns('output') ?? WIDTH_MAX)
  await printText(deps.stdio.output, explanationText(explanation, width))
  return 0
}

/** @throws UsageError; StreamError NAME_UNKNOWN with the nearest name */
export function explain(words: readonly string[]): Explanation {
  const [word, number, extra] = words
  if (word === undefined) throw new UsageError('what is missing', 'try: stream explain exit 5')
  if (word === 'exit') {
    if (number === undefined)
      throw new UsageError('exit: the code is missing', 'try: stream explain exit 5')
    if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`)
    return explainExit(number)
  }
  if (number !== undefined) throw new UsageError(`unexpected argument ${number}`)
  if (/^-?\d+$/.test(word)) return explainNumber(Number(word))
  return explainName(word)
}

function explainExit(text: string): Explanation {
  const code = Number(text)
  const isNumber = /^\d+$/.test(text)
  const signal = isNumber && code > SIGNAL_BASE ? signals[code - SIGNAL_BASE] : undefined
  const row = exitCodes.find(([known]) => known === code && known !== SIGNAL_BASE)
  if (!isNumber || (row === undefined && signal === undefined)) {
    throw new StreamError('NAME_UNKNOWN', `exit ${text}: no command ends so`, {
      target: text,
      hint: 'all codes: stream help exit-codes',
    })
  }
  if (signal !== undefined) {
    return {
      kind: 'exit',
      name: `exit ${code}`,
      code,
      meaning: `ended by signal ${code - SIGNAL_BASE}, ${signal.name}`,
      cause: signal.cause,
      advice: signal.advice,
      retriable: null,
      exit: code,
    }
  }
  const { cause, advice } = exitAdvice[code] ?? { cause: '', advice: '' }
  return {
    kind: 'exit',
    name: `exit ${code}`,
    code,
    meaning: row?.[1] ?? '',
    cause,
    advice,
    retriable: null,
    exit: code,
  }
}

const SIGNAL_BASE = 128

const signals: Readonly<
  Record<number, { readonly name: string; readonly cause: string; readonly advice: string }>
> = {
  1: {
    name: 'SIGHUP',
    cause: 'The terminal was closed, or the session ended.',
    advice: 'To go on without a terminal: nohup, setsid, or a service of the host.',
  },
  2: {
    name: 'SIGINT',
    cause: 'Somebody pressed Ctrl-C. What was taken was delivered or written first.',
    advice: 'Nothing. A second Ctrl-C ends at once, without delivering.',
  },
  9: {
    name: 'SIGKILL',
    cause: 'The kernel (out of memory) or somebody killed it; nothing could be finished.',
    advice:
      'Look into the log of the kernel. Records that were not reported as delivered may be missing.',
  },
  13: {
    name: 'SIGPIPE',
    cause: 'The reader of the output went away, as head does once it has enough.',
    advice:
      'Usually nothing: that is how pipes end. With set -o pipefail take 141 for success there.',
  },
  15: {
    name: 'SIGTERM',
    cause:
      'Somebody asked it to end (kill, timeout, a service manager). What was taken was delivered or written first.',
    advice: 'Nothing.',
  },
}

function explainNumber(code: number): Explanation {
  const name = Object.entries(kafkaErrors).find(([, row]) => row.code === code)?.[0]
  if (name === undefined) {
    throw new StreamError('NAME_UNKNOWN', `${code}: no error of Kafka has this number`, {
      target: String(code),
      hint: `if it is an exit code: stream explain exit ${code}`,
    })
  }
  return explainName(name)
}

function explainName(word: string): Explanation {
  const name = word.toUpperCase().replaceAll('-', '_')
  const kafka = Object.entries(kafkaErrors).find(([known]) => known === name)?.[1]
  if (kafka !== undefined) {
    const { code, message, retriable } = kafka
    const { cause, advice } = kafkaAdvice[code] ?? fallbackAdvice(retriable)
    const meaning = `${message[0]?.toUpperCase()}${message.slice(1)}.`
    return { kind: 'kafka-error', name, code, meaning, cause, advice, retriable, exit: null }
  }
  const own = Object.entries(errorTable).find(([known]) => known === name)
  if (own !== undefined) {
    const [code, { retriable, exit }] = own
    const { meaning, cause, advice } = streamAdvice[code as keyof typeof errorTable] ?? plainAdvice
    return { kind: 'error', name: code, code: null, meaning, cause, advice, retriable, exit }
  }
  const nearest = nearestName(name, [...Object.keys(kafkaErrors), ...Object.keys(errorTable)])
  throw new StreamError('NAME_UNKNOWN', `${word}: no such error`, {
    target: word,
    hint: nearest === undefined ? 'a name, a number, or exit N' : `did you mean ${nearest}?`,
  })
}

const plainAdvice = {
  meaning: 'Something outside the program did not hold.',
  cause: 'The error itself says what.',
  advice: 'More: -v, -vv.',
}

/** For the rare ones: what their being retriable or not means for the user. */
function fallbackAdvice(retriable: boolean): { readonly cause: string; readonly advice: string } {
  return retriable
    ? {
        cause: 'The broker is in the middle of a change: a new leader, an election, a restart.',
        advice: 'Clients try again by themselves. If it lasts, look at the log of the broker.',
      }
    : {
        cause: 'The broker has refused the request as it is.',
        advice:
          'Trying again does not help. -vv shows the request; the log of the broker may say more.',
      }
}

function explanationText(explanation: Explanation, width: number): string {
  const { name, kind, code, meaning, cause, advice, retriable, exit } = explanation
  const title = kind === 'kafka-error' ? `${name} (Kafka error ${code})` : name
  const facts = [
    ...(retriable === null
      ? []
      : [retriable ? 'clients try again by themselves' : 'trying again does not help']),
    ...(kind === 'error' && exit !== null ? [`exit code ${exit}`] : []),
  ]
  const part = (label: string, text: string): string[] => {
    if (text === '') return []
    const indent = 10
    const [first = '', ...rest] = wrapText(text, width - indent)
    return [`${label.padEnd(indent)}${first}`, ...rest.map((line) => ' '.repeat(indent) + line)]
  }
  const lines = [
    title,
    ...part('Meaning', meaning),
    ...part('Cause', cause),
    ...part('To do', advice),
    ...part('Retry', facts.join('; ')),
  ]
  return `${lines.join('\n')}\n`
}
