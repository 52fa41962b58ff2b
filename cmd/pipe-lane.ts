/** What the driver of `pipe` asks of a barrier: to bring an epoch through a child, in a lane. */

import type { ProducerClient } from './clients.ts'
import type { EpochFailure } from './pipe-child.ts'
import type { Epoch } from './pipe-epochs.ts'

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
  /** No child of it runs any more. */
  close(): Promise<void>
}
