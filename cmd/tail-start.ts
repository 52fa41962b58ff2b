/**
 * Where `tail` begins: the offsets of the last N records of all partitions together, by time.
 *
 * A merge by timestamp takes from each partition a suffix, so the partitions are merged once without printing, from
 * windows that hold the last N wanted records of each, and the N last of the merge say where each partition begins.
 * Memory: two numbers for each of N records.
 */

import type { RecordCursor } from '../src/record/record-cursor.ts'
import type { PartitionRange } from './read-range.ts'
import type { ReadVariant } from './read-variant.ts'
import { TimeMerge } from './time-merge.ts'

type FindRanges = NonNullable<ReadVariant['findRanges']>
type RangeTools = Parameters<FindRanges>[1]

/** How much further back is looked when a window held too few. */
const GROWTH = 16

interface Window {
  readonly topic: string
  readonly partition: number
  readonly logStart: number
  readonly end: number
  start: number
  /** Wanted records in it. */
  count: number
}

/** @param matches  whether a record is wanted */
export function lastRecords(
  count: number,
  matches: (topic: string, cursor: RecordCursor) => boolean,
): FindRanges {
  return async (partitions, tools) => {
    const windows = await openWindows(partitions, tools)
    for (const window of windows) window.start = Math.max(window.logStart, window.end - count)
    for (let size = count; ; size *= GROWTH) {
      const last = await scan(windows, tools, count, matches)
      const short = windows.filter(({ count: found, start, logStart }) => {
        return found < count && start > logStart
      })
      if (short.length === 0 || count === 0 || tools.isStopped()) return ranges(windows, last)
      for (const window of short) {
        window.start = Math.max(window.logStart, window.end - size * GROWTH)
      }
    }
  }
}

/** From offset N on, as far as a partition has it. */
export function recordsFrom(offset: number): FindRanges {
  return async (partitions, tools) => {
    const windows = await openWindows(partitions, tools)
    return windows.map(({ topic, partition, logStart, end }) => ({
      topic,
      partition,
      startOffset: Math.min(end, Math.max(logStart, offset)),
      endOffset: end,
      gap: undefined,
    }))
  }
}

async function openWindows(
  partitions: Parameters<FindRanges>[0],
  tools: RangeTools,
): Promise<Window[]> {
  const answers = await tools.ask(
    partitions.flatMap(({ topic, partition }) => [
      { topic, partition, at: 'earliest' as const },
      { topic, partition, at: 'latest' as const },
    ]),
  )
  return partitions.map(({ topic, partition }, index) => {
    const logStart = answers[index * 2]?.offset ?? 0
    const end = Math.max(logStart, answers[index * 2 + 1]?.offset ?? 0)
    return { topic, partition, logStart, end, start: end, count: 0 }
  })
}

/** The last `count` of a merge, oldest first: window and offset. */
interface LastOfMerge {
  readonly windows: readonly Window[]
  readonly offsets: readonly number[]
}

async function scan(
  windows: readonly Window[],
  tools: RangeTools,
  count: number,
  matches: (topic: string, cursor: RecordCursor) => boolean,
): Promise<LastOfMerge> {
  const lastWindows: Window[] = []
  const lastOffsets: number[] = []
  let next = 0
  for (const window of windows) window.count = 0
  const byName = new Map(windows.map((window) => [`${window.topic}/${window.partition}`, window]))
  const consumer = await tools.openConsumer(windows.length)
  try {
    consumer.assign(
      windows.map(({ topic, partition, start, end }) => ({
        topic,
        partition,
        startOffset: start,
        endOffset: end,
      })),
    )
    const merge = new TimeMerge(windows, consumer)
    while (!tools.isStopped() && count > 0) {
      const merged = merge.next()
      if (merged !== undefined) {
        const { topic, partition, cursor } = merged
        const window = byName.get(`${topic}/${partition}`)
        if (window !== undefined && matches(topic, cursor)) {
          window.count += 1
          // The oldest gives its place to the newest.
          lastWindows[next] = window
          lastOffsets[next] = cursor.offset
          next = (next + 1) % count
        }
        merge.take(merged)
        continue
      }
      const event = consumer.poll()
      if (event === undefined) {
        if (consumer.isDone) break
        await consumer.wait()
      } else if (event.kind === 'records') merge.add(event)
      else if (event.kind === 'failed') throw event.error
      else if (event.kind === 'end') merge.end(event.topic, event.partition)
    }
  } finally {
    consumer.close()
  }
  return { windows: lastWindows, offsets: lastOffsets }
}

function ranges(windows: readonly Window[], last: LastOfMerge): PartitionRange[] {
  const starts = new Map<Window, number>()
  for (const [index, window] of last.windows.entries()) {
    const offset = last.offsets[index] ?? window.end
    starts.set(window, Math.min(offset, starts.get(window) ?? window.end))
  }
  return windows.map((window) => ({
    topic: window.topic,
    partition: window.partition,
    startOffset: starts.get(window) ?? window.end,
    endOffset: window.end,
    gap: undefined,
  }))
}
