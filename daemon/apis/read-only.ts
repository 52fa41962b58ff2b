/**
 * Topics that only a link may write: who else wants to is told whose they are, and what makes them writable. Who reads them is shown
 * whole transactions only, whatever isolation was asked for: what lies beyond may be cut when they are promoted.
 */

import type { Broker } from '../replica/broker.ts'
import type { Partition } from '../replica/partition.ts'

/** @returns why the partition takes nothing from clients; undefined: it does */
export function readOnlyReason(
  { image }: Broker,
  topic: string,
  topicId: string,
  partition: number,
): string | undefined {
  const link = image.links.writerOf(topic, topicId, partition)
  return link === undefined ? undefined : wordsFor(topic, link)
}

/** Up to where clients that do not ask for stable records are given a partition: of a mirror only what no promotion can cut. */
export function shownHighWatermark({ image }: Broker, partition: Partition): number {
  const { topic, topicId, partition: index, highWatermark, lastStableOffset } = partition
  return image.links.isMirrored(topic, topicId, index) ? lastStableOffset : highWatermark
}

/** Of any partition. */
export function readOnlyTopic({ image }: Broker, topic: string): string | undefined {
  const mirror = image.links.mirror(topic)?.value
  const found = image.topic(topic)
  if (mirror === undefined || found === undefined) return undefined
  for (let index = 0; index < found.value.partitions; index += 1) {
    const link = image.links.writerOf(topic, found.topicId, index)
    if (link !== undefined) return wordsFor(topic, link)
  }
  return undefined
}

function wordsFor(topic: string, link: string): string {
  return `${topic} is a mirror, kept by link ${link}, and read-only here; to make it writable: stream mirror promote ${link} --topics ${topic}`
}
