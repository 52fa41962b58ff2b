import { describe, expect, it } from 'vitest'
import { judgeStart, type StartFacts } from '../../../daemon/metadata/lossy-start.ts'

const facts: StartFacts = {
  directoryIsNew: false,
  cleanDataEpoch: undefined,
  recordedDataEpoch: 7,
  recordedIncarnations: [
    { incarnation: 'a', registered: true },
    { incarnation: 'b', registered: true },
  ],
  sameBoot: false,
  hostsAsyncFlush: false,
  recoveryLoss: undefined,
  syncFailed: false,
  storedDataEpoch: 7,
  storedIncarnation: 'b',
  recordedRevision: 20,
  storeRevision: 20,
  restored: false,
  sharesStore: true,
  epochAhead: undefined,
  storeDeclared: false,
}

describe('judgeStart', () => {
  const judge = (change: Partial<StartFacts>) => judgeStart({ ...facts, ...change }).kind

  it('kill -9 and a power cut are not lossy with commit flush', () => {
    expect(judge({})).toBe('whole')
    expect(judge({ cleanDataEpoch: 7 })).toBe('whole')
  })

  it('(a) async flush without a clean end, unless the page cache survived', () => {
    expect(judge({ hostsAsyncFlush: true })).toBe('lossy')
    expect(judge({ hostsAsyncFlush: true, sameBoot: true })).toBe('whole')
    expect(judge({ hostsAsyncFlush: true, cleanDataEpoch: 7 })).toBe('whole')
    // The marker of another data epoch proves nothing.
    expect(judge({ hostsAsyncFlush: true, cleanDataEpoch: 6 })).toBe('lossy')
  })

  it('(b) a new directory, or one that does not know its data epoch', () => {
    expect(judge({ directoryIsNew: true })).toBe('lossy')
    expect(judge({ recordedDataEpoch: undefined })).toBe('lossy')
    expect(judge({ storedDataEpoch: undefined })).toBe('lossy')
  })

  it('(b) is what a start without a past says, whatever was once said of the store', () => {
    const past = { recordedDataEpoch: undefined, recordedIncarnations: [], recordedRevision: 0 }
    for (const said of [{ storeDeclared: true }, { restored: true }]) {
      expect(judgeStart({ ...facts, ...past, ...said, directoryIsNew: true })).toEqual({
        kind: 'lossy',
        reason: 'the data directory is new',
      })
      // Of a start that did not come as far as its registration.
      expect(judgeStart({ ...facts, ...past, ...said })).toEqual({
        kind: 'lossy',
        reason: 'the data directory does not know its data epoch',
      })
    }
  })

  it('(c) damage below a durable mark, (d) a failed sync, (f) the operator', () => {
    expect(judge({ recoveryLoss: 'damaged' })).toBe('lossy')
    expect(judge({ syncFailed: true, cleanDataEpoch: 7 })).toBe('lossy')
    expect(judge({ restored: true })).toBe('lossy')
  })

  it('(e) an old copy of the directory', () => {
    expect(judge({ recordedDataEpoch: 5 })).toBe('lossy')
    expect(judge({ storedIncarnation: 'unknown' })).toBe('lossy')
  })

  it('an old copy of the store is reported, not repaired', () => {
    expect(judge({ recordedDataEpoch: 9 })).toBe('storeRegressed')
    expect(judge({ storedIncarnation: 'a' })).toBe('storeRegressed')
    expect(judge({ recordedRevision: 21 })).toBe('storeRegressed')
    expect(judge({ epochAhead: 't-0' })).toBe('storeRegressed')
    expect(judge({ recordedRevision: 21, storedDataEpoch: undefined })).toBe('storeRegressed')
    // Alone the store is a part of the directory: without it a broker begins anew.
    const alone = { sharesStore: false, recordedRevision: 21, storedDataEpoch: undefined }
    expect(judge(alone)).toBe('lossy')
  })

  it('an old copy of the store that an operator has declared good starts everybody anew', () => {
    expect(judge({ recordedRevision: 21, storeDeclared: true })).toBe('lossy')
    expect(judge({ storeDeclared: true })).toBe('lossy')
    expect(judge({ recordedRevision: 21, restored: true })).toBe('lossy')
  })

  it('a broker that the cluster has forgotten joins as a new one', () => {
    expect(judge({ storedDataEpoch: undefined, storedIncarnation: undefined })).toBe('lossy')
  })

  it('a start that crashed before it registered leaves no trace', () => {
    const recordedIncarnations = [
      { incarnation: 'a', registered: true },
      { incarnation: 'b', registered: false },
    ]
    expect(judge({ recordedIncarnations, storedIncarnation: 'a' })).toBe('whole')
  })
})
