import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  findBatchDefect,
  isControl,
  isTransactional,
  readBatchHeader,
} from '../../../src/record/batch-layout.ts'
import {
  buildControlBatch,
  MARKER_BYTES,
  readControlBatch,
} from '../../../src/record/control-batch.ts'
import { LineDecoder } from '../../../src/record/line-decoder.ts'
import { OutputBuffer } from '../../../src/record/output-buffer.ts'
import { buildBatch, toHex } from './record-support.ts'

const marker = {
  type: 'commit',
  producerId: 7,
  producerEpoch: 2,
  coordinatorEpoch: 9,
  timestampMs: 1000,
} as const

describe('control batches', () => {
  test('are 78 bytes, transactional and control, uncompressed', () => {
    const batch = buildControlBatch(marker)
    expect(batch).toHaveLength(MARKER_BYTES)
    expect(findBatchDefect(batch)).toBeUndefined()
    const header = readBatchHeader(batch)
    expect(isControl(header.attributes) && isTransactional(header.attributes)).toBe(true)
    expect(header).toMatchObject({ producerId: 7, producerEpoch: 2, baseSequence: -1 })
    // length 16, attributes, two deltas, key 0 1 of 4 bytes, value 0 9 of 6 bytes, no headers
    expect(toHex(batch.subarray(61))).toBe('20000000080000000' + '10c00000000000900')
  })

  test('reading gives back what was built', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('commit' as const, 'abort' as const),
        fc.nat(),
        fc.nat(32767),
        fc.integer(),
        (type, producerId, producerEpoch, coordinatorEpoch) => {
          const given = { type, producerId, producerEpoch, coordinatorEpoch, timestampMs: 5 }
          const batch = buildControlBatch(given)
          expect(readControlBatch(batch)).toEqual({ kind: 'marker', offset: 0, ...given })
        },
      ),
    )
  })

  test('types that others write are read as other', () => {
    const batch = buildBatch([{ key: '\0\0\0\x02', value: '\0\0', headers: [], timestampMs: 0 }], {
      isControl: true,
    })
    expect(readControlBatch(batch)).toEqual({ kind: 'other', offset: 0, typeNumber: 2 })
  })

  test('a key or value too short, or a data batch, is CORRUPT_BATCH', () => {
    const corrupt = expect.objectContaining({ code: 'CORRUPT_BATCH' })
    for (const [key, value] of [
      [null, '\0\0\0\0\0\0'],
      ['\0\0\0', '\0\0\0\0\0\0'],
      ['\0\0\0\x01', null],
      ['\0\0\0\x01', '\0\0\0\0\0'],
    ] as const) {
      const record = { key, value, headers: [], timestampMs: 0 }
      expect(() => readControlBatch(buildBatch([record], { isControl: true }))).toThrow(corrupt)
      expect(() => readControlBatch(buildBatch([record]))).toThrow(corrupt)
    }
  })

  test('print as no line, and are stepped over', () => {
    const out = new OutputBuffer(1)
    const decoder = new LineDecoder()
    expect(decoder.decode(buildControlBatch(marker), 0, {}, out)).toBe(0)
    expect(out.length).toBe(0)
    expect(decoder.nextOffset).toBe(1)
  })
})
