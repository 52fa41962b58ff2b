/** The state machine of a mirrored partition: what is appended, what is refused, and that an answer counts only in its turn. */
import { describe, expect, it } from 'vitest'
import {
  DIVERGED_PAUSE_MS,
  MirrorState,
  PAUSE_MS_MIN,
  type SourceRow,
} from '../../../daemon/links/mirror-state.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { stampBatch } from '../../../src/record/batch-layout.ts'
import { batchOf } from '../batches.ts'

function batchAt(baseOffset: number, leaderEpoch: number, records = 1): Uint8Array {
  const batch = Uint8Array.from(batchOf(Array.from({ length: records }, (_, index) => `r${index}`)))
  stampBatch(batch, 0, { baseOffset, leaderEpoch })
  return batch
}

function row(over: Partial<SourceRow>): SourceRow {
  return {
    errorCode: 0,
    lastStableOffset: 1000,
    highWatermark: 1000,
    logStartOffset: 0,
    divergingEpoch: { epoch: -1, endOffset: -1 },
    records: null,
    ...over,
  }
}

const log = (logEndOffset: number, logStartOffset = 0) => ({ logStartOffset, logEndOffset })

describe('MirrorState', () => {
  it('appends what comes next, and names the epochs that begin in it', () => {
    const state = new MirrorState([{ epoch: 3, startOffset: 0 }], 0)
    const turn = state.ask()
    expect(state.isTurn(turn)).toBe(true)
    const records = Buffer.concat([batchAt(10, 3), batchAt(15, 5, 2)])
    const step = state.take(row({ records }), log(10), 0)
    expect(step).toMatchObject({
      kind: 'append',
      bytes: records.length,
      epochs: [
        { epoch: 3, startOffset: 0 },
        { epoch: 5, startOffset: 15 },
      ],
    })
    expect(state.phase).toBe('busy')
    expect(state.isTurn(turn)).toBe(false)
    state.learned([
      { epoch: 3, startOffset: 0 },
      { epoch: 5, startOffset: 15 },
    ])
    state.done(records.length, log(17), 0)
    expect(state.isReady(0)).toBe(true)
    // Of the last batch that is here, not of the latest epoch that is known.
    expect([state.lastEpochAt(17), state.lastEpochAt(15)]).toEqual([5, 3])
  })

  it('lets go of epochs whose batches a leader before it learned of and did not keep', () => {
    const learned = [
      { epoch: 3, startOffset: 0 },
      { epoch: 5, startOffset: 12 },
    ]
    // Here it ends at 10, and what comes next is of the epoch before.
    const state = new MirrorState(learned, 0)
    state.ask()
    const step = state.take(row({ records: batchAt(10, 3, 2) }), log(10), 0)
    expect(step).toMatchObject({ kind: 'append', epochs: [{ epoch: 3, startOffset: 0 }] })
    expect(state.error).toBeUndefined()
    // The source has lost that epoch meanwhile, and others have taken its offsets.
    state.learned([{ epoch: 3, startOffset: 0 }])
    state.done(0, log(12), 0)
    expect(state.lastEpochAt(14)).toBe(3)
    // Nothing new to say: the store has it all.
    state.ask()
    const next = state.take(row({ records: batchAt(12, 3) }), log(12), 0)
    expect(next).toMatchObject({ kind: 'append', epochs: undefined })
  })

  it('takes nothing at or beyond the last stable offset', () => {
    const state = new MirrorState([], 0)
    state.ask()
    const records = Buffer.concat([batchAt(0, 0), batchAt(1, 0), batchAt(2, 0)])
    const step = state.take(row({ records, lastStableOffset: 2 }), log(0), 0)
    expect(step.kind === 'append' && step.batches.length).toBe(2)
  })

  it('says that the source was cut, keeps what is here, and looks again later', () => {
    const state = new MirrorState([{ epoch: 1, startOffset: 0 }], 0)
    state.ask()
    const diverging = row({ divergingEpoch: { epoch: 1, endOffset: 7 } })
    expect(state.take(diverging, log(10), 0)).toEqual({ kind: 'none' })
    expect([state.phase, state.error]).toEqual([
      'diverged',
      'the source was cut back to offset 7 (leader epoch 1); here are records to 10',
    ])
    expect(state.isReady(DIVERGED_PAUSE_MS - 1)).toBe(false)
    expect(state.isReady(DIVERGED_PAUSE_MS)).toBe(true)
  })

  it('begins anew behind a gap of retention, with the batch in which the log of the source starts', () => {
    const state = new MirrorState([], 0)
    state.ask()
    expect(state.take(row({ errorCode: KafkaError.OFFSET_OUT_OF_RANGE }), log(5), 0).kind).toBe(
      'askRange',
    )
    state.ranged(102, 200, log(5), 0)
    expect([state.fetchOffset(log(5)), state.lastEpochAt(5)]).toEqual([102, -1])
    state.ask()
    const records = batchAt(100, 4, 5)
    expect(state.take(row({ records, logStartOffset: 102 }), log(5), 0)).toMatchObject({
      kind: 'restart',
      offset: 100,
      epochs: [{ epoch: 4, startOffset: 102 }],
    })
    state.done(records.length, log(105, 100), 0)
    expect(state.fetchOffset(log(105, 100))).toBe(105)
  })

  it('says that the source ends before what is here', () => {
    const state = new MirrorState([], 0)
    state.ask()
    state.take(row({ errorCode: KafkaError.OFFSET_OUT_OF_RANGE }), log(50), 0)
    state.ranged(0, 20, log(50), 0)
    expect(state.error).toBe('the source ends at offset 20; here are records to 50')
  })

  it.each([
    ['a damaged batch', (bytes: Uint8Array) => bytes.fill(7, 66, 67)],
    ['a batch of an older epoch', (bytes: Uint8Array) => bytes.fill(0, 12, 16)],
  ])('pauses over %s, longer each time, and goes on', (_, spoil) => {
    const state = new MirrorState([{ epoch: 2, startOffset: 0 }], 0)
    let nowMs = 0
    for (const pauseMs of [PAUSE_MS_MIN, PAUSE_MS_MIN * 2]) {
      state.ask()
      const records = batchAt(3, 2)
      spoil(records)
      expect(state.take(row({ records }), log(3), nowMs)).toEqual({ kind: 'none' })
      expect([state.phase, state.isReady(nowMs + pauseMs - 1)]).toEqual(['waiting', false])
      nowMs += pauseMs
      expect(state.isReady(nowMs)).toBe(true)
    }
    state.ask()
    expect(state.take(row({ records: batchAt(3, 2) }), log(3), nowMs).kind).toBe('append')
  })

  it('holds while too much is not committed', () => {
    const state = new MirrorState([], 0)
    state.done(40 * 1024 * 1024, log(9), 0)
    expect(state.phase).toBe('held')
    state.committed(30 * 1024 * 1024)
    expect(state.phase).toBe('ready')
  })
})
