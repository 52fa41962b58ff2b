/** Leader epochs taken from the batches, where the file that keeps them is missing or bad. */
import { baseOffsetAt, leaderEpochAt } from '../../src/record/batch-layout.ts'
import { BatchWalk, walkAllNow } from './batch-walk.ts'
import { LeaderEpochs } from './leader-epochs.ts'
import type { LogCore } from './log-core.ts'

/**
 * A batch counts once the next one is of no earlier epoch: its checksum does not cover the field, and one wrong value must not
 * outlaw all that follows. Behind damage nothing of a segment is seen, and the epochs are known in part only: they refuse nothing,
 * and are not written down, until a repair has made the log whole.
 */
export function rebuildEpochs(core: LogCore): void {
  const before = core.epochs.latest
  const found = new LeaderEpochs()
  let isWhole = true
  let firstOffset: number | undefined
  let last: { readonly epoch: number; readonly baseOffset: number } | undefined
  const believe = (nextEpoch: number): void => {
    if (last === undefined || last.epoch > nextEpoch) return
    const { latest } = found
    if (latest === undefined) found.assign(last.epoch, firstOffset ?? last.baseOffset)
    else if (last.epoch > latest.epoch) found.assign(last.epoch, last.baseOffset)
  }
  for (const segment of core.segments) {
    const file = core.context.files.use(segment.handle)
    const walk = new BatchWalk(file, { start: 0, end: segment.sizeBytes, mode: 'headers' })
    const outcome = walkAllNow(walk, () => {
      const epoch = leaderEpochAt(walk.bytes, walk.at)
      const baseOffset = baseOffsetAt(walk.bytes, walk.at)
      firstOffset ??= baseOffset
      believe(epoch)
      last = { epoch, baseOffset }
      return true
    })
    if (outcome !== 'end') isWhole = false
  }
  believe(Number.POSITIVE_INFINITY)
  // An epoch has begun that has no batch yet.
  if (before !== undefined && before.epoch > (found.latest?.epoch ?? -1)) {
    found.assign(before.epoch, before.startOffset)
  }
  core.epochs = found
  core.epochsAreWhole = isWhole
}
