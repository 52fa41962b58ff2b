/** Asking for a producer id: what makes batches recognisable when they are sent again. */
import { StreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time } from '../ports/time.ts'
import { kafkaErrorIsRetriable } from '../protocol/errors.ts'
import { backoffMs } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import { kafkaFailure } from './kafka-failure.ts'

export interface Identity {
  readonly producerId: number
  readonly producerEpoch: number
}

/**
 * Asks any broker, again and again while `isWanted`: what waits for it has a delivery timeout of its own.
 * @returns  the identity; undefined when it is no longer wanted; the StreamError that asking again cannot cure
 */
export async function requestIdentity(
  time: Time,
  random: Random,
  cluster: Cluster,
  isWanted: () => boolean,
): Promise<Identity | StreamError | undefined> {
  for (let attempt = 1; isWanted(); attempt++) {
    try {
      const { errorCode, producerId, producerEpoch } = await cluster.call('any', 'InitProducerId', {
        transactionalId: null,
        // Without a transactional id the timeout means nothing.
        transactionTimeoutMs: 60_000,
      })
      if (errorCode === 0) return { producerId, producerEpoch }
      if (!kafkaErrorIsRetriable(errorCode)) {
        return kafkaFailure(errorCode, { target: 'producer id' })
      }
    } catch (error) {
      if (!(error instanceof StreamError)) throw error
      if (error.code === 'UNSUPPORTED_BY_BROKER') {
        const hint = 'without idempotence: --acks 1'
        return new StreamError(error.code, error.message, { hint, cause: error })
      }
      if (error.code === 'CLOSED') return undefined
      if (!error.retriable) return error
    }
    await sleep(time, backoffMs(random, cluster.backoff, attempt))
  }
  return undefined
}
