/** What the driver of `pipe` asks of a barrier: to bring an epoch through a child, in a lane. */

import type { ProducerClient } from './clients.ts'
import type { EpochFailure } from './pipe-child.ts'
import type { Epoch } from './pipe-epochs.ts'
import type { FinishedEpoch } from './pipe-transactions.ts'

export type EpochOutcome =
  | {
      readonly kind: 'done'
      /** Appends what the child made of it to the producer of a transaction; may be called for another one again. */
      readonly append?: (producer: ProducerClient) => Promise<void>
      readonly carry?: Uint8Array | undefined
      /** It is resolved. */
      readonly drop?: () => void
    }
  | { readonly kind: 'failed'; readonly failure: EpochFailure }
  /** By `stop`. */
  | { readonly kind: 'stopped' }
  /** It is with the child, whose word on it comes later (LaneEvents). */
  | { readonly kind: 'fed' }
  /** Its child has failed over an earlier one. */
  | { readonly kind: 'undone' }

export interface LaneRunner {
  /**
   * @param fence  the group's generation
   * @param carry  what the slot of the epoch holds
   * @throws StreamError of the spool; CORRUPT_BATCH …
   */
  run(
    epoch: Epoch,
    lane: number,
    fence: number,
    carry: Uint8Array | undefined,
  ): Promise<EpochOutcome>
  /** The run over the epoch is ended; run() tells so. */
  stop(epoch: Epoch): void
  /** Nothing more comes: children may end what they have. */
  drain?(): void
  /** The partition goes to another. */
  revoke?(topic: string, partition: number): void
  /** No child of it runs any more. */
  close(): Promise<void>
}

/** What lanes tell by themselves. */
export interface LaneEvents {
  /** To be committed, together. */
  readonly emit: (finished: readonly FinishedEpoch[]) => void
  /** An epoch that was fed, in two; both are to be told of. */
  readonly divide: (epoch: Epoch, count: number) => readonly [Epoch, Epoch]
  /** A record that the child gives up: to be emitted as dead. @returns what to emit, or undefined: the run fails */
  readonly bury: (epoch: Epoch, failure: EpochFailure) => Promise<FinishedEpoch | undefined>
  /** Epochs that were fed and will never be done by this child, in order. */
  readonly undo: (epochs: readonly Epoch[], failure: EpochFailure) => void
  readonly onFailed: (error: unknown) => void
  /** A child ended unlike a success when nothing of it was open: nothing is lost, and the next records start another. */
  readonly onIdleEnd: (words: string) => void
}
