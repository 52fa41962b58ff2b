/** What to print where several parts of one run have failed. */

import { isStreamError } from '../src/base/errors.ts'

/**
 * Those that say something of their own: parts that end for one and the same reason are told once, and so are brokers of a cluster
 * that say the same, each of itself.
 */
export function differentErrors(errors: readonly unknown[]): unknown[] {
  const told = new Set<string>()
  return errors.filter((error) => {
    const words = wordsOf(error)
    const isNews = !told.has(words)
    told.add(words)
    return isNews
  })
}

function wordsOf(error: unknown): string {
  if (!isStreamError(error)) return String(error)
  const { message, target } = error
  return target?.includes('://') === true ? message.replaceAll(target, '') : message
}
