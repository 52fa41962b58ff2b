/** The loop of `--order time`: the merged records one by one, until every partition has ended. */

import type { StreamError } from '../src/base/errors.ts'
import type { ConsumerEvent } from '../src/client/consumer-events.ts'
import type { ConsumerClient } from './clients.ts'
import type { PartitionRange } from './read-range.ts'
import { type MergedPartition, TimeMerge } from './time-merge.ts'
import type { WakeUp } from './wake-up.ts'

export interface MergeTarget {
  readonly isStopped: () => boolean
  /** Woken when it is stopped. */
  readonly wake: WakeUp
  /** Writes what was taken. */
  readonly write: () => void | Promise<void>
  readonly take: (merged: MergedPartition) => void | Promise<void>
  readonly onGap: (gap: Extract<ConsumerEvent, { kind: 'gap' }>) => void
  /** Throws where the others are not to go on. */
  readonly onFailed: (error: StreamError) => void
  /** All of a partition below `offset` was taken. Called once everything is. */
  readonly onEnd: (topic: string, partition: number, offset: number) => void
}

/** @throws StreamError CORRUPT_BATCH, and what the target throws */
export async function mergeByTime(
  consumer: ConsumerClient,
  ranges: readonly PartitionRange[],
  target: MergeTarget,
): Promise<void> {
  const merge = new TimeMerge(ranges, consumer)
  const ended: Extract<ConsumerEvent, { kind: 'end' }>[] = []
  while (!target.isStopped()) {
    const merged = merge.next()
    if (merged !== undefined) {
      const outcome = target.take(merged)
      merge.take(merged)
      if (outcome !== undefined) await outcome
      continue
    }
    const event = consumer.poll()
    if (event === undefined) {
      await target.write()
      if (consumer.isDone) {
        for (const { topic, partition, offset } of ended) target.onEnd(topic, partition, offset)
        return
      }
      target.wake.arm('consumer', () => consumer.wait())
      await target.wake.wait(Number.POSITIVE_INFINITY)
    } else if (event.kind === 'records') merge.add(event)
    else if (event.kind === 'gap') target.onGap(event)
    else {
      if (event.kind === 'failed') target.onFailed(event.error)
      else ended.push(event)
      merge.end(event.topic, event.partition)
    }
  }
}
