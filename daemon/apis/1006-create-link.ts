/**
 * CreateLink (1006), private: makes a link to another cluster (daemon/links). By the controller, which looks at the source
 * before it agrees: a source that does not answer, a ring and a name that is taken are refused.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Handler } from './handler.ts'

export const createLink: Handler<'CreateLink'> = async ({ links }, _context, request) => {
  const { name, source, topics, syncConfigs, syncGroups, rateKind, ratePerSecond } = request
  try {
    const rate =
      ratePerSecond > 0
        ? {
            kind: rateKind === 'records' ? ('records' as const) : ('bytes' as const),
            perSecond: ratePerSecond,
          }
        : null
    const { failback, context } = request
    const order = { failback, name, source, context, topics, syncConfigs, syncGroups, rate }
    return {
      failure: null,
      message: null,
      topics: await links.orders.create(order, request.timeoutMs),
    }
  } catch (error) {
    return refusal(error)
  }
}

/** As the client's StreamError is to read. */
export function refusal(error: unknown): {
  readonly failure: string
  readonly message: string
  readonly topics: readonly string[]
} {
  if (!isStreamError(error) && !(error instanceof Error && error.name === 'UsageError')) throw error
  const code = error instanceof StreamError ? error.code : 'CONFIG_INVALID'
  return { failure: code, message: error.message, topics: [] }
}
