/**
 * Topic ids: 16 random bytes, written as 22 characters of base64url as Kafka prints them.
 */
import { Buffer } from 'node:buffer'
import { assert } from '../../src/base/assert.ts'
import type { Random } from '../../src/ports/random.ts'

const TOPIC_ID_PATTERN = /^[A-Za-z0-9_-]{21}[AQgw]$/

export function isTopicId(text: string): boolean {
  return TOPIC_ID_PATTERN.test(text)
}

export function topicIdBytes(text: string): Uint8Array {
  assert(isTopicId(text), 'a topic id is 22 characters of base64url')
  return Buffer.from(text, 'base64url')
}

export function topicIdText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url')
}

/** Neither of the two ids that Kafka reserves (all zero, one) nor one that begins with a dash. */
export function randomId(random: Random): string {
  for (;;) {
    const text = topicIdText(random.bytes(16))
    if (!text.startsWith('-') && !text.startsWith('AAAAAAAAAAAAAAAAAAAA')) return text
  }
}
