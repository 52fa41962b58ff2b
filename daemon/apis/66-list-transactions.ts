/**
 * ListTransactions (66), versions 0 to 2: the transactional ids this broker coordinates, by state, producer, age (v1) and
 * a pattern of the id (v2). An unknown state is told and finds nothing. Errors: 14, 128 (a pattern that is none).
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { TransactionValue } from '../coordinator/transaction-machine.ts'
import type { Handler } from './handler.ts'

/** Kafka's names; the last ones are never found here. */
const states: ReadonlySet<string> = new Set([
  'Empty',
  'Ongoing',
  'PrepareCommit',
  'PrepareAbort',
  'CompleteCommit',
  'CompleteAbort',
  'Dead',
  'PrepareEpochFence',
])
const PATTERN_CHARACTERS_MAX = 1000

export const listTransactions: Handler<'ListTransactions'> = (
  { broker, transactions },
  _context,
  request,
) => {
  const unknownStateFilters = request.stateFilters.filter((state) => !states.has(state))
  const answer = (errorCode: number, values: readonly TransactionValue[]) => ({
    throttleTimeMs: 0,
    errorCode,
    unknownStateFilters,
    transactionStates: values.map(({ transactionalId, producerId, state }) => ({
      transactionalId,
      producerId,
      transactionState: state,
    })),
  })
  const pattern = compile(request.transactionalIdPattern)
  if (pattern === 'invalid') return answer(KafkaError.INVALID_REGULAR_EXPRESSION, [])
  const { values, isLoading } = transactions.list()
  if (isLoading) return answer(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, [])
  const wantedStates = new Set(request.stateFilters)
  const wantedProducers = new Set(request.producerIdFilters)
  const nowMs = broker.time.wallMs()
  const isOldEnough = ({ startMs }: TransactionValue): boolean =>
    request.durationFilter < 0 || (startMs >= 0 && nowMs - startMs > request.durationFilter)
  return answer(
    0,
    values.filter(
      (value) =>
        (wantedStates.size === 0 || wantedStates.has(value.state)) &&
        (wantedProducers.size === 0 || wantedProducers.has(value.producerId)) &&
        isOldEnough(value) &&
        (pattern === undefined || pattern.test(value.transactionalId)),
    ),
  )
}

/** The pattern must match the whole id, as in Kafka. */
function compile(pattern: string | null): RegExp | 'invalid' | undefined {
  if (pattern === null || pattern === '') return undefined
  if (pattern.length > PATTERN_CHARACTERS_MAX) return 'invalid'
  try {
    return new RegExp(`^(?:${pattern})$`, 'u')
  } catch {
    return 'invalid'
  }
}
