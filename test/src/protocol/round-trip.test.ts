import assert from 'node:assert/strict'
import fc from 'fast-check'
import { describe, test } from 'vitest'
import { isStreamError } from '../../../src/base/errors.ts'
import { apiNames } from '../../../src/protocol/api-table.ts'
import { readBody, writeBody } from '../../../src/protocol/interpreter.ts'
import { planOf } from '../../../src/protocol/plan.ts'
import { generateReader, generateWriter } from '../../../src/protocol/straight-line.ts'
import { WireReader } from '../../../src/protocol/wire-reader.ts'
import { WireWriter } from '../../../src/protocol/wire-writer.ts'
import { bodyArbitrary, type MessageVersion, messageVersions } from './message-arbitrary.ts'
import { CORRELATION_ID, decodeMessage, encodeMessage, joinFrames } from './messages.ts'

function forEachVersion(api: string, check: (message: MessageVersion) => void): void {
  for (const message of messageVersions) if (message.api === api) check(message)
}

/** Mid-size examples of a message, the same in every run. */
function examples(message: MessageVersion, count: number) {
  return fc.sample(bodyArbitrary(message), { numRuns: count, seed: 42 })
}

describe.each(apiNames)('%s', (api) => {
  test('every version reads back what was written, in both directions', () => {
    forEachVersion(api, (message) => {
      fc.assert(
        fc.property(bodyArbitrary(message), (body) => {
          const decoded = decodeMessage(message, encodeMessage(message, body))
          assert.deepStrictEqual(decoded.body, body)
          assert.equal(decoded.correlationId, CORRELATION_ID)
          assert.equal(decoded.trailingBytes, 0)
        }),
        { numRuns: 20 },
      )
    })
  })

  test('generated code and interpreter write and read the same', () => {
    forEachVersion(api, ({ version, direction }) => {
      const message = { api, version, direction }
      const plan = planOf(api, version, direction)
      const generatedRead = generateReader(plan)
      const generatedWrite = generateWriter(plan)
      const writer = new WireWriter()
      for (const body of examples(message, 12)) {
        writer.begin()
        writeBody(writer, plan, body)
        const interpreted = writer.finish()
        writer.begin()
        generatedWrite(writer, body)
        const generated = writer.finish()
        assert.deepStrictEqual(generated, interpreted)
        if (interpreted.length === 0) continue
        assert.deepStrictEqual(readBody(new WireReader(interpreted, 'test'), plan), body)
        assert.deepStrictEqual(generatedRead(new WireReader(interpreted, 'test')), body)
      }
    })
  })

  test('every truncation is refused as MALFORMED_MESSAGE', () => {
    forEachVersion(api, (message) => {
      for (const body of examples(message, 2)) {
        const bytes = joinFrames(encodeMessage(message, body))
        for (let length = 0; length < bytes.length; length += length < 400 ? 1 : 97) {
          const error = failureOf(() => decodeMessage(message, [bytes.subarray(0, length)]))
          assert(
            isStreamError(error, 'MALFORMED_MESSAGE'),
            `${api} v${message.version} cut at ${length}: ${String(error)}`,
          )
        }
      }
    })
  })

  test('a message cut into two frames at any byte reads the same', () => {
    forEachVersion(api, (message) => {
      for (const body of examples(message, 2)) {
        const bytes = joinFrames(encodeMessage(message, body))
        for (let at = 0; at <= bytes.length; at += at < 400 ? 1 : 97) {
          const frames = [bytes.subarray(0, at), bytes.subarray(at)]
          assert.deepStrictEqual(decodeMessage(message, frames).body, body)
        }
      }
    })
  })

  test('a message cut into frames of one, two and three bytes reads the same', () => {
    forEachVersion(api, (message) => {
      const [body = {}] = examples(message, 1)
      const bytes = joinFrames(encodeMessage(message, body))
      for (const size of [1, 2, 3]) {
        const frames: Uint8Array[] = []
        for (let at = 0; at < bytes.length; at += size) frames.push(bytes.subarray(at, at + size))
        assert.deepStrictEqual(decodeMessage(message, frames).body, body)
      }
    })
  })
})

function failureOf(action: () => unknown): unknown {
  try {
    action()
  } catch (error) {
    return error
  }
  return undefined
}
