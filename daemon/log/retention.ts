/**
 * Retention by time and size (kafka-protocol.md section 8.1): whole segments at the front, never at or above the high
 * watermark (I13). Damaged segments age like others: that is an explicit decision of whoever set the limits.
 */
import type { EpochFile } from './epoch-file.ts'
import type { LogCore } from './log-core.ts'
import type { RetentionResult } from './log-types.ts'
import { rollSegment } from './log-writer.ts'
import type { Segment } from './segment.ts'
import { largestTimestamp } from './time-lookup.ts'
import { raiseLogStart } from './truncation.ts'

export async function enforceRetention(
  core: LogCore,
  epochFile: EpochFile,
  options: { readonly nowMs: number; readonly highWatermark: number },
): Promise<RetentionResult> {
  core.assertUsable()
  core.producers.expire(options.nowMs, core.context.producerIdExpirationMs)
  const generation = core.generation
  const startOffset = await firstOffsetToKeep(core, options)
  if (core.generation !== generation || core.state !== 'open') return NOTHING
  if (startOffset <= core.logStartOffset && !hasDeadSegments(core)) return NOTHING
  // All of it: the active segment can only go when there is another one.
  if (startOffset > core.active.baseOffset && core.active.sizeBytes > 0) {
    rollSegment(core, core.logEndOffset)
  }
  const removed = await raiseLogStart(core, epochFile, startOffset)
  return { deletedSegments: removed.segments, deletedBytes: removed.bytes }
}

const NOTHING: RetentionResult = { deletedSegments: 0, deletedBytes: 0 }

function hasDeadSegments(core: LogCore): boolean {
  return (core.segments[1]?.baseOffset ?? Infinity) <= core.logStartOffset
}

async function firstOffsetToKeep(
  core: LogCore,
  options: { readonly nowMs: number; readonly highWatermark: number },
): Promise<number> {
  const { config } = core
  let keep = core.logStartOffset
  if (!config.cleanupDelete) return keep
  let excessBytes = config.retentionBytes < 0 ? 0 : core.sizeBytes - config.retentionBytes
  const segments = core.segments.slice()
  for (const [index, segment] of segments.entries()) {
    const endOffset = segments[index + 1]?.baseOffset ?? core.logEndOffset
    const isLast = index === segments.length - 1
    if (endOffset > options.highWatermark || (isLast && segment.sizeBytes === 0)) break
    const isOld = await isExpired(core, segment, options.nowMs)
    const isSurplus = !isLast && excessBytes - segment.sizeBytes >= 0 && excessBytes > 0
    if (!isOld && !isSurplus) break
    excessBytes -= segment.sizeBytes
    keep = Math.max(keep, endOffset)
  }
  return keep
}

async function isExpired(core: LogCore, segment: Segment, nowMs: number): Promise<boolean> {
  const { retentionMs } = core.config
  if (retentionMs < 0 || retentionMs === Infinity) return false
  let timestampMs = await largestTimestamp(core, segment)
  // Records without timestamps age from the last write to their file.
  if (timestampMs < 0) timestampMs = core.context.disk.stat(segment.path)?.modifiedMs ?? nowMs
  return nowMs - timestampMs > retentionMs
}
