/** The rules of a transactional id: states by requests, epochs, rotation; and its records byte by byte. */
import { describe, expect, it } from 'vitest'
import {
  addPartitions,
  complete,
  EPOCH_MAX,
  endTransaction,
  fencingAbort,
  initProducer,
  isExpired,
  isTimedOut,
  type TransactionState,
  type TransactionValue,
  verifyPartition,
} from '../../../daemon/coordinator/transaction-machine.ts'
import {
  decodeKey,
  decodeValue,
  encodeKey,
  encodeValue,
  partitionOfId,
} from '../../../daemon/coordinator/transaction-records.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'

const one = new Map([['t', new Set([0])]])
const states: readonly TransactionState[] = [
  'Empty',
  'Ongoing',
  'PrepareCommit',
  'PrepareAbort',
  'CompleteCommit',
  'CompleteAbort',
]

function value(change: Partial<TransactionValue> = {}): TransactionValue {
  const state = change.state ?? 'Empty'
  const isOpen = state === 'Ongoing' || state.startsWith('Prepare')
  return {
    transactionalId: 'x',
    producerId: 7,
    previousProducerId: -1,
    nextProducerId: -1,
    epoch: 3,
    lastEpoch: -1,
    timeoutMs: 1000,
    state,
    partitions: isOpen ? one : new Map(),
    startMs: isOpen ? 50 : -1,
    updateMs: 50,
    version: 1,
    ...change,
  }
}

function brief(decision: ReturnType<typeof addPartitions>): unknown {
  if (decision.kind === 'answer') return decision.code
  if (decision.kind === 'write' || decision.kind === 'fence') {
    return `${decision.kind} ${decision.next.state} ${decision.next.producerId}/${decision.next.epoch}`
  }
  return decision.kind
}

const init = (
  from: TransactionValue | undefined,
  expected?: { producerId: number; epoch: number },
  freshProducerId?: number,
) =>
  initProducer(from, {
    transactionalId: 'x',
    timeoutMs: 1000,
    expected,
    nowMs: 100,
    freshProducerId,
  })
const end = (
  from: TransactionValue,
  isCommit: boolean,
  version: 1 | 2,
  epoch = 3,
  freshProducerId?: number,
) => endTransaction(from, { producerId: 7, epoch, isCommit, version, nowMs: 100, freshProducerId })
const add = (from: TransactionValue | undefined, epoch = 3, producerId = 7) =>
  addPartitions(from, { producerId, epoch, partitions: one, version: 1, nowMs: 100 })

/** By state, in the order of `states`. */
const byState = (decide: (from: TransactionValue) => ReturnType<typeof add>, change = {}) =>
  states.map((state) => brief(decide(value({ state, ...change }))))

describe('every state by every request', () => {
  const { INVALID_TXN_STATE, PRODUCER_FENCED, TRANSACTION_ABORTABLE } = KafkaError

  it('InitProducerId', () => {
    const bumped = 'write Empty 7/4'
    expect(byState((from) => init(from))).toEqual([
      bumped,
      'fence PrepareAbort 7/4',
      'busy',
      'busy',
      bumped,
      bumped,
    ])
    const stranger = { producerId: 7, epoch: 2 }
    expect(byState((from) => init(from, stranger))).toEqual([
      PRODUCER_FENCED,
      PRODUCER_FENCED,
      'busy',
      'busy',
      PRODUCER_FENCED,
      PRODUCER_FENCED,
    ])
    // Its answer was lost, and it asks again.
    expect(brief(init(value({ lastEpoch: 2 }), stranger))).toBe('write Empty 7/3')
    expect(brief(init(undefined))).toBe('needsProducerId')
    expect(brief(init(undefined, undefined, 9))).toBe('write Empty 9/0')
  })

  it('AddPartitionsToTxn', () => {
    const begun = 'write Ongoing 7/3'
    expect(byState((from) => add(from))).toEqual([begun, 0, 'busy', 'busy', begun, begun])
    expect(byState((from) => add(from, 2))).toEqual(states.map(() => PRODUCER_FENCED))
    expect(brief(add(undefined))).toBe(KafkaError.INVALID_PRODUCER_ID_MAPPING)
    expect(brief(add(value(), 3, 8))).toBe(KafkaError.INVALID_PRODUCER_ID_MAPPING)
  })

  it('a batch that asks whether it may enter', () => {
    const ask = (from: TransactionValue) =>
      verifyPartition(from, { producerId: 7, epoch: 3, topic: 't', partition: 0 })
    const no = TRANSACTION_ABORTABLE
    expect(byState(ask)).toEqual([no, 0, 'busy', 'busy', no, no])
  })

  it('EndTxn of classic clients', () => {
    const no = INVALID_TXN_STATE
    expect(byState((from) => end(from, true, 1))).toEqual([
      no,
      'write PrepareCommit 7/3',
      'busy',
      no,
      0,
      no,
    ])
    expect(byState((from) => end(from, false, 1))).toEqual([
      no,
      'write PrepareAbort 7/3',
      no,
      'busy',
      no,
      0,
    ])
    expect(byState((from) => end(from, true, 1, 2))).toEqual(states.map(() => PRODUCER_FENCED))
  })

  it('EndTxn of version 2 raises the epoch; sent again it is known by the epoch before', () => {
    const no = INVALID_TXN_STATE
    const aborted = 'write PrepareAbort 7/4'
    expect(byState((from) => end(from, true, 2))).toEqual([
      no,
      'write PrepareCommit 7/4',
      no,
      no,
      no,
      no,
    ])
    expect(byState((from) => end(from, false, 2))).toEqual([
      aborted,
      aborted,
      no,
      no,
      aborted,
      aborted,
    ])
    const again = { version: 2, lastEpoch: 2 }
    const fenced = PRODUCER_FENCED
    expect(byState((from) => end(from, true, 2, 2), again)).toEqual([
      fenced,
      fenced,
      'busy',
      no,
      0,
      no,
    ])
    expect(byState((from) => end(from, false, 2, 2), again)).toEqual([
      fenced,
      fenced,
      no,
      'busy',
      no,
      0,
    ])
  })
})

describe('epochs', () => {
  it('a new owner over an open transaction raises it once for the abort (KAFKA-19367)', () => {
    const decision = init(value({ state: 'Ongoing' }), { producerId: 7, epoch: 3 })
    expect(brief(decision)).toBe('fence PrepareAbort 7/4')
    if (decision.kind !== 'fence') throw new Error('not fenced')
    expect(brief(init(complete(decision.next, 100), { producerId: 7, epoch: 3 }))).toBe(
      'write Empty 7/4',
    )
  })

  it('are exhausted: the next transaction has another producer id, the marker the old one', () => {
    const last = value({ state: 'Ongoing', epoch: EPOCH_MAX - 1 })
    expect(brief(end(last, true, 2, EPOCH_MAX - 1))).toBe('needsProducerId')
    const decision = end(last, true, 2, EPOCH_MAX - 1, 99)
    expect(decision).toMatchObject({
      identity: { producerId: 99, epoch: 0 },
      next: { epoch: EPOCH_MAX, producerId: 7 },
    })
    if (decision.kind !== 'write') throw new Error('not written')
    const done = complete(decision.next, 100)
    expect(done).toMatchObject({
      producerId: 99,
      epoch: 0,
      previousProducerId: 7,
      nextProducerId: -1,
    })
    // The answer was lost.
    expect(brief(end(done, true, 2, EPOCH_MAX - 1))).toBe(0)
    expect(brief(init(value({ epoch: EPOCH_MAX - 1 })))).toBe('needsProducerId')
    expect(fencingAbort(last, 100).epoch).toBe(EPOCH_MAX)
  })

  it('time runs out for open transactions, and for ids that nobody uses', () => {
    expect(isTimedOut(value({ state: 'Ongoing' }), 1050)).toBe(false)
    expect(isTimedOut(value({ state: 'Ongoing' }), 1051)).toBe(true)
    expect(isTimedOut(value({ state: 'PrepareCommit' }), 9999)).toBe(false)
    expect(isExpired(value(), 1050, 1000)).toBe(true)
    expect(isExpired(value({ state: 'Ongoing' }), 9999, 1000)).toBe(false)
  })
})

describe('records of __transaction_state', () => {
  it('are Kafka’s, byte for byte', () => {
    expect(Buffer.from(encodeKey('x')).toString('hex')).toBe('0000000178')
    const bytes = encodeValue(value({ state: 'Ongoing', version: 2, previousProducerId: 5 }))
    expect(Buffer.from(bytes).toString('hex')).toBe(
      [
        '0001',
        '0000000000000007',
        '0003',
        '000003e8',
        '01',
        '02',
        '0274',
        '02',
        '00000000',
        '00',
        '0000000000000032',
        '0000000000000032',
        '02',
        '0008',
        '0000000000000005',
        '0202',
        '0002',
      ].join(''),
    )
  })

  it.each(states)('come back as they were: %s', (state) => {
    const before = value({ state, version: 2, nextProducerId: 8, lastEpoch: 2 })
    expect(decodeValue('x', encodeValue(before))).toEqual(before)
    expect(decodeKey(encodeKey('ünïcode'))).toBe('ünïcode')
  })

  it('of the first version are read too', () => {
    const hex =
      '0000' +
      '0000000000000007' +
      '0003' +
      '000003e8' +
      '01' +
      '00000001' +
      '000174' +
      '00000001' +
      '00000000' +
      '0000000000000032' +
      '0000000000000032'
    expect(decodeValue('x', Buffer.from(hex, 'hex'))).toEqual(value({ state: 'Ongoing' }))
  })

  it('lie where Kafka looks for them', () => {
    expect(partitionOfId('', 50)).toBe(0)
    expect(partitionOfId('my-transactional-id', 50)).toBe(
      Math.abs(hashOf('my-transactional-id')) % 50,
    )
    // Its hash is the smallest integer.
    expect(partitionOfId('polygenelubricants', 50)).toBe(0)
  })
})

function hashOf(text: string): number {
  let hash = 0n
  for (const unit of text) hash = BigInt.asIntN(32, hash * 31n + BigInt(unit.charCodeAt(0)))
  return Number(hash)
}
