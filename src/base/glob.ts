/** Globs over whole names: `* ? [`. */

import { UsageError } from './errors.ts'

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
  return compilePattern(`^(?:${source})$`, glob)
}

/** @throws UsageError */
export function compilePattern(source: string, shown: string): RegExp {
  try {
    return new RegExp(source)
  } catch {
    throw new UsageError(`${shown}: not a pattern`)
  }
}
