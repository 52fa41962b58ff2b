/**
 * AppendAt (1002), private: a produce of one batch, acks=all, appended only if the log ends at an expected offset; what
 * `stream produce --expect-offset` sends. A batch that is sent again is recognised by its producer id and sequence
 * before the end is looked at, so a lost answer is no conflict.
 *
 * Errors: as Produce, and 1 (OFFSET_OUT_OF_RANGE) where the log ends elsewhere: nothing was appended.
 */

import { assert } from '../../src/base/assert.ts'
import { ProduceRun } from './00-produce.ts'
import type { Handler } from './handler.ts'
import { findLeader } from './kafka-codes.ts'

/** The rules for batches are those of this version of Produce. */
const PRODUCE_VERSION = 9

export const appendAt: Handler<'AppendAt'> = async (services, context, request) => {
  const { topic, partition, expectedEndOffset, timeoutMs, records } = request
  const run = new ProduceRun(
    services,
    { ...context, apiVersion: PRODUCE_VERSION },
    {
      acks: -1,
      transactionalId: null,
      timeoutMs,
      topicData: [{ name: topic, partitionData: [{ index: partition, records }] }],
    },
    expectedEndOffset,
  )
  const answer = await run.start()
  const row = answer?.responses[0]?.partitionResponses[0]
  assert(row !== undefined, 'a produce with acks=all is answered for each partition')
  const leader = findLeader(services.broker, topic, partition).partition
  return {
    errorCode: row.errorCode,
    errorMessage: row.errorMessage ?? null,
    baseOffset: row.baseOffset,
    logEndOffset: leader?.log.logEndOffset ?? -1,
  }
}
