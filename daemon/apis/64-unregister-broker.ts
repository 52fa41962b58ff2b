/**
 * UnregisterBroker (64), version 0: the cluster forgets a broker that is gone for good. Refused while it is alive or holds
 * replicas. Errors: 102 (not registered), 42 (refused, with the reason), 7, 41.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Handler } from './handler.ts'
import { codeOfError, messageOfError } from './kafka-codes.ts'

export const unregisterBroker: Handler<'UnregisterBroker'> = async (
  { broker },
  _context,
  { brokerId },
) => {
  try {
    const { code, message } = await broker.topics.forgetBroker(brokerId)
    return { throttleTimeMs: 0, errorCode: code, errorMessage: message }
  } catch (error) {
    if (!isStreamError(error)) throw error
    const errorMessage = messageOfError(error)
    return { throttleTimeMs: 0, errorCode: codeOfError(error), errorMessage }
  }
}
