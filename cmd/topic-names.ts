/** Topic arguments: names, globs (`* ? [`), with --regex regular expressions. */

import { UsageError } from '../src/base/errors.ts'

export function isGlob(text: string): boolean {
  return /[*?[]/.test(text)
}

/** Of a whole name: `*` any, `?` one, `[a-z]` one of, `[!a-z]` none of. @throws UsageError */
export function globPattern(glob: string): RegExp {
  let source = ''
  for (let at = 0; at < glob.length; at += 1) {
    const character = glob[at] as string
    if (character === '*') source += '.*'
    else if (character === '?') source += '.'
    else if (character === '[') {
      const end = glob.indexOf(']', at + 2)
      if (end < 0) throw new UsageError(`${glob}: [ without ]`)
      const inside = glob
        .slice(at + 1, end)
        .replaceAll('\\', '\\\\')
        .replaceAll('[', '\\[')
      source += `[${inside.replace(/^[!^]/, '^')}]`
      at = end
    } else source += character.replace(/[.+^${}()|\]\\/-]/, '\\$&')
  }
  return compile(`^(?:${source})$`, glob)
}

/** @throws UsageError */
export function topicPattern(text: string, isRegex: boolean): RegExp {
  return isRegex ? compile(`^(?:${text})$`, text) : globPattern(text)
}

function compile(source: string, shown: string): RegExp {
  try {
    return new RegExp(source)
  } catch {
    throw new UsageError(`${shown}: not a pattern`)
  }
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
