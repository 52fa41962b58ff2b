/**
 * EndTxn (26), versions 0 to 5: commit or abort. Version 5 is transaction version 2 (KIP-890): its answer hands out the
 * producer's next id and epoch. Errors: 14, 15, 16, 47, 48, 49, 51, 90.
 */

import type { Handler } from './handler.ts'

const EPOCH_PER_TRANSACTION_VERSION = 5

export const endTxn: Handler<'EndTxn'> = async ({ transactions }, context, request) => {
  const { code, identity } = await transactions.endTransaction(request.transactionalId, {
    producerId: request.producerId,
    epoch: request.producerEpoch,
    isCommit: request.committed,
    version: context.apiVersion >= EPOCH_PER_TRANSACTION_VERSION ? 2 : 1,
  })
  const { producerId, epoch } = identity
  return { throttleTimeMs: 0, errorCode: code, producerId, producerEpoch: epoch }
}
