import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  addSequence,
  type ProducerBatch,
  ProducerState,
  WINDOW_BATCHES,
} from '../../../daemon/log/producer-state.ts'

const LAST_SEQUENCE = 0x7fff_ffff

function batch(input: Partial<ProducerBatch> & { readonly count?: number }): ProducerBatch {
  const lastOffsetDelta = (input.count ?? 1) - 1
  const baseOffset = input.baseOffset ?? 0
  return {
    baseOffset,
    lastOffset: baseOffset + lastOffsetDelta,
    lastOffsetDelta,
    maxTimestamp: 1,
    producerId: 1,
    producerEpoch: 0,
    baseSequence: 0,
    isTransactional: false,
    ...input,
  }
}

/** Checks and appends; the kind of the check, or the error's name. */
function offer(state: ProducerState, input: ProducerBatch): string {
  const check = state.check(input)
  if (check.kind === 'new') state.append(input, 0)
  return check.kind === 'error' ? check.code : check.kind
}

describe('ProducerState.check (P14)', () => {
  it('accepts any sequence of a producer it does not know', () => {
    expect(offer(new ProducerState(), batch({ baseSequence: 57 }))).toBe('new')
  })

  it('answers each of the last five batches with its offsets, and none before', () => {
    const state = new ProducerState()
    for (let index = 0; index < 8; index++) {
      offer(state, batch({ baseSequence: index * 2, count: 2, baseOffset: index * 10 }))
    }
    for (let index = 0; index < 8; index++) {
      const check = state.check(batch({ baseSequence: index * 2, count: 2 }))
      if (index >= 8 - WINDOW_BATCHES) {
        expect(check).toEqual({
          kind: 'duplicate',
          baseOffset: index * 10,
          lastOffset: index * 10 + 1,
        })
      } else expect(check).toMatchObject({ code: 'DUPLICATE_SEQUENCE_NUMBER' })
    }
  })

  it('a batch that only overlaps one it has is no duplicate', () => {
    const state = new ProducerState()
    offer(state, batch({ baseSequence: 0, count: 3 }))
    expect(offer(state, batch({ baseSequence: 0, count: 2 }))).toBe('OUT_OF_ORDER_SEQUENCE_NUMBER')
    expect(offer(state, batch({ baseSequence: 2, count: 3 }))).toBe('OUT_OF_ORDER_SEQUENCE_NUMBER')
  })

  it('refuses a gap, an old epoch, and a new epoch that does not begin at 0', () => {
    const state = new ProducerState()
    offer(state, batch({ producerEpoch: 3 }))
    expect(offer(state, batch({ producerEpoch: 3, baseSequence: 2 }))).toBe(
      'OUT_OF_ORDER_SEQUENCE_NUMBER',
    )
    expect(offer(state, batch({ producerEpoch: 2, baseSequence: 1 }))).toBe(
      'INVALID_PRODUCER_EPOCH',
    )
    expect(offer(state, batch({ producerEpoch: 4, baseSequence: 1 }))).toBe(
      'OUT_OF_ORDER_SEQUENCE_NUMBER',
    )
    expect(offer(state, batch({ producerEpoch: 4, baseSequence: 0 }))).toBe('new')
    expect(offer(state, batch({ producerEpoch: 4, baseSequence: 1 }))).toBe('new')
  })

  it('the sequence wraps from 2^31 − 1 to 0, inside a batch too', () => {
    const state = new ProducerState()
    offer(state, batch({ baseSequence: LAST_SEQUENCE - 1 }))
    expect(offer(state, batch({ baseSequence: LAST_SEQUENCE, count: 3, baseOffset: 5 }))).toBe(
      'new',
    )
    expect(offer(state, batch({ baseSequence: LAST_SEQUENCE, count: 3 }))).toBe('duplicate')
    expect(offer(state, batch({ baseSequence: 2 }))).toBe('new')
    expect(addSequence(LAST_SEQUENCE, 1)).toBe(0)
    expect(addSequence(0, -1)).toBe(LAST_SEQUENCE)
  })

  it('a producer without id is never checked', () => {
    const state = new ProducerState()
    const plain = batch({ producerId: -1, producerEpoch: -1, baseSequence: -1 })
    expect([offer(state, plain), offer(state, plain)]).toEqual(['new', 'new'])
    expect(state.count).toBe(0)
  })
})

describe('ProducerState and transactions', () => {
  const marker = (offset: number, commit: boolean, producerId = 1, producerEpoch = 0) => ({
    producerId,
    producerEpoch,
    coordinatorEpoch: 1,
    offset,
    timestampMs: 1,
    commit,
  })
  const data = (baseOffset: number, baseSequence: number, producerId = 1) =>
    batch({ baseOffset, baseSequence, producerId, isTransactional: true })

  it('a transaction is unstable until its marker is below the high watermark', () => {
    const state = new ProducerState()
    state.append(data(5, 0), 0)
    expect(state.firstUnstableOffset(100)).toBe(5)
    state.applyMarker(marker(9, true), 0)
    expect(state.firstUnstableOffset(9)).toBe(5)
    expect(state.firstUnstableOffset(10)).toBeUndefined()
    state.forgetCompletedBelow(10)
    expect(state.firstUnstableOffset(0)).toBeUndefined()
  })

  it('an abort gives an index entry, with the oldest other open transaction in it', () => {
    const state = new ProducerState()
    state.append(data(5, 0, 1), 0)
    state.append(data(6, 0, 2), 0)
    state.append(data(7, 0, 3), 0)
    expect(state.applyMarker(marker(8, true, 1), 0)).toBeUndefined()
    expect(state.applyMarker(marker(9, false, 3), 0)).toEqual({
      producerId: 3,
      firstOffset: 7,
      lastOffset: 9,
      lastStableOffset: 6,
    })
    expect(state.applyMarker(marker(10, false, 2), 0)).toMatchObject({ lastStableOffset: 11 })
    expect(state.applyMarker(marker(11, false, 2), 0)).toBeUndefined()
  })

  it('a marker empties the window, and the sequence goes on behind it (Redpanda #5026)', () => {
    const state = new ProducerState()
    state.append(data(5, 0), 0)
    state.applyMarker(marker(6, false), 0)
    expect(state.check(data(0, 0))).toMatchObject({ code: 'OUT_OF_ORDER_SEQUENCE_NUMBER' })
    expect(state.check(data(0, 1))).toEqual({ kind: 'new' })
    // Over a snapshot too.
    const loaded = ProducerState.decodeSnapshot(state.encodeSnapshot(), 0)
    expect(loaded?.check(data(0, 0))).toMatchObject({ code: 'OUT_OF_ORDER_SEQUENCE_NUMBER' })
    expect(loaded?.check(data(0, 1))).toEqual({ kind: 'new' })
  })

  it('a batch outside the open transaction of its producer is refused', () => {
    const state = new ProducerState()
    state.append(data(5, 0), 0)
    expect(offer(state, batch({ baseSequence: 1 }))).toBe('INVALID_TXN_STATE')
  })

  it('an open transaction does not expire', () => {
    const state = new ProducerState()
    state.append(data(5, 0, 1), 0)
    state.append(batch({ producerId: 2 }), 0)
    state.append(batch({ producerId: 3 }), 50)
    state.expire(100, 60)
    expect(state.summaries().map(({ producerId }) => producerId)).toEqual([1, 3])
  })
})

describe('ProducerState.forgetBelow', () => {
  it('forgets who has nothing from there on, also where a marker is all that is left, over snapshots', () => {
    const marker = { producerId: 1, producerEpoch: 1, coordinatorEpoch: 0, timestampMs: 1 }
    for (const offset of [5, 9]) {
      const state = new ProducerState()
      state.append(batch({ isTransactional: true, baseOffset: 3 }), 0)
      state.applyMarker({ ...marker, commit: false, offset }, 0)
      const read = ProducerState.decodeSnapshot(state.encodeSnapshot(), 0)
      for (const each of [state, read]) {
        expect(each?.lastBatchOf(1)).toMatchObject({ epoch: 1, lastOffset: -1 })
        each?.forgetBelow(8)
        expect(each?.count).toBe(offset < 8 ? 0 : 1)
      }
    }
  })
})

describe('a producer snapshot', () => {
  const step = fc.record({
    producerId: fc.integer({ min: 0, max: 3 }),
    producerEpoch: fc.integer({ min: 0, max: 2 }),
    baseSequence: fc.oneof(fc.integer({ min: 0, max: 30 }), fc.constant(LAST_SEQUENCE)),
    count: fc.integer({ min: 1, max: 4 }),
    kind: fc.constantFrom('plain', 'transactional', 'commit', 'abort'),
  })

  function run(steps: readonly (typeof step extends fc.Arbitrary<infer T> ? T : never)[]) {
    const state = new ProducerState()
    let offset = 0
    for (const { kind, ...rest } of steps) {
      if (kind === 'commit' || kind === 'abort') {
        const { producerId, producerEpoch } = rest
        state.applyMarker(
          {
            producerId,
            producerEpoch,
            coordinatorEpoch: 4,
            offset,
            timestampMs: offset,
            commit: kind === 'commit',
          },
          0,
        )
        offset++
      } else {
        const isTransactional = kind === 'transactional'
        offer(state, batch({ ...rest, baseOffset: offset, isTransactional }))
        offset += rest.count
      }
    }
    return state
  }

  it('decode(encode(x)) = x, as far as it is kept', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const state = run(steps)
        const bytes = state.encodeSnapshot()
        const loaded = ProducerState.decodeSnapshot(bytes, 0)
        expect(loaded?.summaries()).toEqual(state.summaries())
        expect(loaded?.firstUnstableOffset(Infinity)).toEqual(state.firstUnstableOffset(Infinity))
        expect(loaded?.encodeSnapshot()).toEqual(bytes)
      }),
    )
  })

  it('damaged bytes are refused', () => {
    const bytes = run([
      { producerId: 1, producerEpoch: 0, baseSequence: 0, count: 2, kind: 'plain' },
    ]).encodeSnapshot()
    for (let position = 0; position < bytes.length; position++) {
      const flipped = bytes.slice()
      flipped[position] = (flipped[position] ?? 0) ^ 1
      expect(ProducerState.decodeSnapshot(flipped, 0)).toBeUndefined()
      expect(ProducerState.decodeSnapshot(bytes.subarray(0, position), 0)).toBeUndefined()
    }
  })
})
