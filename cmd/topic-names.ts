/** Topic arguments: names, globs (`* ? [`), with --regex regular expressions. */

import { StreamError } from '../src/base/errors.ts'
import { compilePattern, globPattern } from '../src/base/glob.ts'

export { globPattern } from '../src/base/glob.ts'

export function isGlob(text: string): boolean {
  return /[*?[]/.test(text)
}

/** @throws UsageError */
export function topicPattern(text: string, isRegex: boolean): RegExp {
  return isRegex ? compilePattern(`^(?:${text})$`, text) : globPattern(text)
}

export function unknownPartition(topic: string, partition: number, count: number): StreamError {
  const words = `${topic}: no partition ${partition}, only ${count}`
  return new StreamError('TOPIC_UNKNOWN', words, { target: topic })
}

export interface TopicChoice {
  /** The names given, and those found by patterns; each once, in order. */
  readonly names: readonly string[]
  /** Patterns that match nothing. */
  readonly empty: readonly string[]
}

/**
 * Internal topics (`__…`) are found only by a pattern that begins so itself.
 * @param listNames  all names of the cluster; asked for only when there is a pattern
 */
export async function chooseTopics(
  texts: readonly string[],
  options: { readonly isRegex: boolean },
  listNames: () => Promise<readonly string[]>,
): Promise<TopicChoice> {
  const names = new Set<string>()
  const empty: string[] = []
  let all: readonly string[] | undefined
  for (const text of texts) {
    if (!options.isRegex && !isGlob(text)) {
      names.add(text)
      continue
    }
    all ??= await listNames()
    const pattern = topicPattern(text, options.isRegex)
    const found = all.filter(
      (name) => pattern.test(name) && (text.startsWith('__') || !name.startsWith('__')),
    )
    if (found.length === 0) empty.push(text)
    for (const name of found) names.add(name)
  }
  return { names: [...names], empty }
}
