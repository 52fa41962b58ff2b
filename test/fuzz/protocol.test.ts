/**
 * The codec against bytes that nobody meant to send (kafka-protocol.md, section 5). The oracle: a typed error or a
 * value, never another exception, never more elements than the bytes could hold, never a hang.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { StreamError } from '../../src/base/errors.ts'
import { apiKeyOf, isFlexible } from '../../src/protocol/api-table.ts'
import { decodeNotice, decodeRequest, readRequestHeader } from '../../src/protocol/codec.ts'
import {
  bodyArbitrary,
  type MessageVersion,
  messageVersions,
} from '../src/protocol/message-arbitrary.ts'
import { decodeMessage, encodeMessage, joinFrames } from '../src/protocol/messages.ts'

/** @throws whatever is not a typed refusal */
function readOrRefuse(read: () => unknown): 'read' | 'refused' {
  try {
    read()
    return 'read'
  } catch (error) {
    if (
      error instanceof StreamError &&
      (error.code === 'MALFORMED_MESSAGE' || error.code === 'UNSUPPORTED_BY_BROKER')
    ) {
      return 'refused'
    }
    throw error
  }
}

const anyMessage = fc.constantFrom(...messageVersions)

/** A right header before a wrong body, so that the body's reader is reached. */
function withHeader({ api, version, direction }: MessageVersion, body: Uint8Array): Uint8Array {
  const isFlexibleHeader =
    isFlexible(api, version) && (direction === 'request' || api !== 'ApiVersions')
  const tags = Buffer.alloc(isFlexibleHeader ? 1 : 0)
  const head = Buffer.alloc(direction === 'request' ? 10 : 4)
  if (direction === 'request') {
    head.writeInt16BE(apiKeyOf(api), 0)
    head.writeInt16BE(version, 2)
    head.writeInt16BE(-1, 8)
  }
  return new Uint8Array(Buffer.concat([head, tags, body]))
}

describe('random bytes', () => {
  test('as a whole request, header or notice', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 3 }), (frames) => {
        readOrRefuse(() => readRequestHeader(frames))
        readOrRefuse(() => decodeRequest(frames))
        readOrRefuse(() => decodeNotice(frames))
      }),
      { numRuns: 3000 },
    )
  })

  test('as the body of every message', () => {
    fc.assert(
      fc.property(anyMessage, fc.uint8Array({ maxLength: 300 }), (message, body) => {
        readOrRefuse(() => decodeMessage(message, [withHeader(message, body)]))
      }),
      { numRuns: 10_000 },
    )
  })

  test('made of the bytes that lengths are made of', () => {
    const byte = fc.constantFrom(0, 1, 2, 3, 0x7f, 0x80, 0xff, 0xfe, 0x0f)
    fc.assert(
      fc.property(anyMessage, fc.array(byte, { maxLength: 120 }), (message, body) => {
        readOrRefuse(() => decodeMessage(message, [withHeader(message, Uint8Array.from(body))]))
      }),
      { numRuns: 15_000 },
    )
  })
})

describe('valid messages, damaged', () => {
  const messageWithBody = anyMessage.chain((message) =>
    fc.tuple(fc.constant(message), bodyArbitrary(message)),
  )

  test('by flipped bits, replaced, removed and repeated ranges', () => {
    const damage = fc.record({
      kind: fc.constantFrom('flip', 'ones', 'zeros', 'remove', 'repeat'),
      at: fc.nat(),
      length: fc.integer({ min: 1, max: 8 }),
    })
    fc.assert(
      fc.property(
        messageWithBody,
        fc.array(damage, { minLength: 1, maxLength: 3 }),
        ([message, body], damages) => {
          let bytes = joinFrames(encodeMessage(message, body))
          for (const { kind, at, length } of damages) {
            // Key, version and client id stay, so that the same reader is tried.
            const start = Math.min(bytes.length, 16 + (at % Math.max(1, bytes.length - 16)))
            bytes = damaged(bytes, kind, start, Math.min(bytes.length, start + length))
          }
          readOrRefuse(() => decodeMessage(message, [bytes]))
        },
      ),
      { numRuns: 4000 },
    )
  })

  function damaged(bytes: Uint8Array, kind: string, start: number, end: number): Uint8Array {
    const head = bytes.slice(0, start)
    const range = bytes.slice(start, end)
    const tail = bytes.slice(end)
    switch (kind) {
      case 'remove':
        return new Uint8Array([...head, ...tail])
      case 'repeat':
        return new Uint8Array([...head, ...range, ...range, ...tail])
      case 'ones':
        return new Uint8Array([...head, ...range.fill(0xff), ...tail])
      case 'zeros':
        return new Uint8Array([...head, ...range.fill(0), ...tail])
      default:
        return new Uint8Array([...head, ...range.map((byte) => byte ^ 1), ...tail])
    }
  }

  test('by a length that claims everything, at every place', () => {
    const claims = [
      [0x7f, 0xff, 0xff, 0xff],
      [0x80, 0x00, 0x00, 0x00],
      [0xff, 0xff, 0xff, 0xff],
      [0xff, 0xff, 0xff, 0x0f],
    ]
    for (const message of messageVersions) {
      const [body = {}] = fc.sample(bodyArbitrary(message), { numRuns: 1, seed: 7 })
      const bytes = joinFrames(encodeMessage(message, body)).subarray(0, 300)
      for (const claim of claims) {
        for (let at = 16; at + 4 <= bytes.length; at += 5) {
          const changed = bytes.slice()
          changed.set(claim, at)
          readOrRefuse(() => decodeMessage(message, [changed]))
        }
      }
    }
  })
})

describe('claims of memory', () => {
  test('a count that the bytes do not bear allocates nothing', () => {
    // Metadata v0 with 2^31 − 1 topics, many times over: flat memory.
    const bytes = new Uint8Array(Buffer.from('000300000000000100017f7fffffff', 'hex'))
    const before = process.memoryUsage().heapUsed
    for (let round = 0; round < 20_000; round++) {
      expect(readOrRefuse(() => decodeRequest([bytes]))).toBe('refused')
    }
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(200 * 1024 * 1024)
  })

  test('a megabyte of tags is walked in linear time', () => {
    const tags: number[] = []
    for (let tag = 1; tag < 100_000; tag++) {
      let rest = tag
      while (rest > 0x7f) {
        tags.push((rest & 0x7f) | 0x80)
        rest >>>= 7
      }
      tags.push(rest, 0)
    }
    // 99 999 tags as a varint of three bytes.
    const body = Uint8Array.from([2, 97, 2, 98, 0x9f, 0x8d, 0x06, ...tags])
    const message = { api: 'ApiVersions', version: 3, direction: 'request' } as const
    expect(readOrRefuse(() => decodeMessage(message, [withHeader(message, body)]))).toBe('read')
  })

  test('frames of one byte each do not make reading quadratic', () => {
    const message = { api: 'Metadata', version: 8, direction: 'request' } as const
    const topics = Array.from({ length: 2000 }, (_, index) => ({ name: `topic-${index}` }))
    const bytes = joinFrames(encodeMessage(message, { topics, allowAutoTopicCreation: true }))
    const frames = Array.from(bytes, (_, at) => bytes.subarray(at, at + 1))
    expect(readOrRefuse(() => decodeMessage(message, frames))).toBe('read')
  })
})
