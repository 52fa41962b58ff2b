import type { ProducerIdentity } from './transaction-machine.ts'

/** A batch of a transaction that wants into a partition. */
export interface TransactionalBatch extends ProducerIdentity {
  readonly transactionalId: string
  readonly topic: string
  readonly partition: number
  /** Its client leaves adding the partition to the broker (KIP-890). */
  readonly isImplicit: boolean
}
