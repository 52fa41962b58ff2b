/** Topic names and ids: what is a legal name, what is internal, and how ids are made. */

import type { Random } from '../../src/ports/random.ts'

export const TOPIC_NAME_CHARACTERS_MAX = 249

/** Why `name` is no legal topic name, in words; undefined when it is one. Source: Kafka Topic.java. */
export function findTopicNameDefect(name: string): string | undefined {
  if (name === '') return 'a topic name must not be empty'
  if (name === '.' || name === '..') return 'a topic name must not be "." or ".."'
  if (name.length > TOPIC_NAME_CHARACTERS_MAX) {
    return `a topic name has at most ${TOPIC_NAME_CHARACTERS_MAX} characters`
  }
  return /^[a-zA-Z0-9._-]+$/.test(name)
    ? undefined
    : 'a topic name has only the characters a-z A-Z 0-9 . _ -'
}

/** Kafka refuses two topics whose names differ in nothing but `.` and `_`, since metric names confuse them. */
export function collisionName(name: string): string {
  return name.replaceAll('.', '_')
}

const internalTopics: ReadonlySet<string> = new Set([
  '__consumer_offsets',
  '__transaction_state',
  '__stream_state',
])

/** Topics that the platform keeps for itself: listed as internal, not for clients to delete. */
export function isInternalTopic(name: string): boolean {
  return internalTopics.has(name)
}

/** Internal topics that only the coordinators write: what is in them is what they believe. */
const coordinatorTopics: ReadonlySet<string> = new Set([
  '__consumer_offsets',
  '__transaction_state',
])

export function isCoordinatorTopic(name: string): boolean {
  return coordinatorTopics.has(name)
}

/** 16 random bytes as Kafka prints them: URL-safe base64 without padding, 22 characters, never the zero id. */
export function newUuid(random: Random): string {
  for (;;) {
    const bytes = random.bytes(16)
    // Version 4, variant 1, as java.util.UUID makes them; a leading '-' would look like a flag on command lines.
    bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40
    bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
    const text = Buffer.from(bytes).toString('base64url')
    if (!text.startsWith('-')) return text
  }
}
