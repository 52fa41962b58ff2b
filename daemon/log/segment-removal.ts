/**
 * Taking segments out of a log at its front: retention, record deletion, compaction. Files are renamed to `.deleted` at
 * once and unlinked later (delayed-removals.ts).
 */
import { removeOrTell } from './delayed-removals.ts'
import type { LogCore } from './log-core.ts'
import { removeSnapshotsBelow } from './producer-snapshots.ts'
import type { Segment } from './segment.ts'

export const DELETED_SUFFIX = '.deleted'

/** The log start has been raised beyond `count` segments, and a checkpoint that says so is durable. */
export function removeFirstSegments(core: LogCore, count: number): void {
  const removed = core.segments.slice(0, count)
  core.segments = core.segments.slice(count)
  // Below the log's start: one that stays because the disk does not let it go keeps none of the others.
  for (const segment of removed) {
    removeOrTell(core.context.log, segment.path, () => discardSegment(core, segment, ''))
  }
  core.damage = core.damage.filter((range) => range.endOffset > core.logStartOffset)
  core.hints.clear()
  removeSnapshotsBelow(core, core.active.baseOffset)
}

/** A segment that is not part of the log any more. @param suffix  what its files end with now */
export function discardSegment(core: LogCore, segment: Segment, suffix: string): void {
  const { disk, files, indexes, removals } = core.context
  segment.detached = true
  indexes.forget(segment)
  // The open file stays readable for those who have pinned it.
  try {
    segment.rename(disk, suffix, DELETED_SUFFIX)
  } finally {
    files.retire(segment.handle)
  }
  removals.add(core, core.config.fileDeleteDelayMs, segment.path, () => {
    segment.unlink(disk, DELETED_SUFFIX)
  })
}
