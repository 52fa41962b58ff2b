import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeSessionFile, encodeSessionFile } from '../../../daemon/metadata/session-file.ts'

const record = fc.record({
  incarnations: fc.array(fc.record({ incarnation: fc.string(), registered: fc.boolean() }), {
    maxLength: 5,
  }),
  dataEpoch: fc.option(fc.nat(), { nil: undefined }),
  revision: fc.nat(),
  leaseId: fc.option(fc.string(), { nil: undefined }),
  restoredId: fc.option(fc.string(), { nil: undefined }),
  partitionEpochs: fc.option(
    fc.dictionary(fc.constantFrom('a', 'b'), fc.array(fc.integer({ min: -1 })), {
      noNullPrototype: true,
    }),
    { nil: undefined },
  ),
})

describe('the session file', () => {
  it('is read back as it was written', () => {
    fc.assert(
      fc.property(fc.nat(), record, (generation, value) => {
        const bytes = encodeSessionFile(generation, value)
        expect(decodeSessionFile(bytes)).toEqual({ generation, record: value })
      }),
    )
  })

  it('is refused when any byte has changed or is missing', () => {
    fc.assert(
      fc.property(record, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, at, flip) => {
        const bytes = encodeSessionFile(3, value)
        const changed = Uint8Array.from(bytes)
        const place = at % changed.length
        changed[place] = (changed[place] ?? 0) ^ flip
        expect(decodeSessionFile(changed)).toBeUndefined()
        expect(decodeSessionFile(bytes.subarray(0, at % bytes.length))).toBeUndefined()
      }),
    )
  })

  it('is refused when it is nothing of ours', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(decodeSessionFile(bytes)).toBeUndefined()
      }),
    )
  })
})
