import { describe, expect, it } from 'vitest'
import { StreamError } from '../../../src/base/errors.ts'
import { PartitionQueue, type QueuedBatch } from '../../../src/client/partition-queue.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'

interface Batch extends QueuedBatch {
  readonly name: string
}

const failure = new StreamError('BROKER_ERROR', 'refused')
const lost = new StreamError('CONNECTION_LOST', 'lost')
const sequenceGap = KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
const tooLarge = KafkaError.MESSAGE_TOO_LARGE
const moved = KafkaError.NOT_LEADER_OR_FOLLOWER

function queueOf(
  names: string,
  options: { continueAfterRefusal?: boolean; idempotent?: boolean; inFlightMax?: number } = {},
): { queue: PartitionQueue<Batch>; batch: (name: string) => Batch; send: () => string } {
  const queue = new PartitionQueue<Batch>({
    idempotent: options.idempotent ?? true,
    inFlightMax: options.inFlightMax ?? 5,
    continueAfterRefusal: options.continueAfterRefusal ?? false,
  })
  const batches = new Map<string, Batch>()
  for (const [index, name] of [...names].entries()) {
    const batch: Batch = {
      name,
      recordCount: 10,
      firstOrdinal: index * 10,
      lastOrdinal: index * 10 + 9,
      deadlineMs: 1000 + index,
      state: 'waiting',
      baseSequence: -1,
      sendIndex: -1,
      sends: 0,
      wasAlone: false,
      wasFirst: false,
      outcomeUnknown: false,
      lastFailure: undefined,
    }
    batches.set(name, batch)
    queue.add(batch)
  }
  return {
    queue,
    batch: (name) => batches.get(name)!,
    /** Sends all that may be sent; the names in order. */
    send: () => {
      let sent = ''
      for (let next = queue.next(); next !== undefined; next = queue.next()) sent += next.name
      return sent
    },
  }
}

const names = (rows: readonly { readonly batch: Batch }[]) =>
  rows.map(({ batch }) => batch.name).join('')

describe('partition queue: the window', () => {
  it('opens after the first acknowledgement and is five wide', () => {
    const { queue, batch, send } = queueOf('abcdefgh')
    expect(send()).toBe('a')
    queue.acknowledge(batch('a'))
    expect(send()).toBe('bcdef')
    expect(batch('f').baseSequence).toBe(50)
  })

  it('counts the distance from the oldest unresolved batch, when answers overtake each other', () => {
    const { queue, batch, send } = queueOf('abcdefghijk')
    send()
    queue.acknowledge(batch('a'))
    expect(send()).toBe('bcdef')
    for (const name of 'cdef') queue.acknowledge(batch(name))
    // A broker remembers five batches: one more behind b, and it would not know b again.
    expect(send()).toBe('')
    queue.acknowledge(batch('b'))
    expect(send()).toBe('ghijk')
  })

  it('closes at trouble, and only what is sent alone afterwards opens it again', () => {
    const { queue, batch, send } = queueOf('abcdefgh')
    send()
    queue.acknowledge(batch('a'))
    send()
    queue.refuse(batch('b'), moved, failure)
    queue.acknowledge(batch('c'))
    expect(send()).toBe('')
    for (const name of 'def') queue.refuse(batch(name), sequenceGap, failure)
    expect(send()).toBe('b')
    queue.acknowledge(batch('b'))
    expect(send()).toBe('defgh')
  })

  it('without sequences one batch is in flight', () => {
    const { queue, batch, send } = queueOf('abc', { idempotent: false, inFlightMax: 1 })
    expect(send()).toBe('a')
    queue.acknowledge(batch('a'))
    expect(send()).toBe('b')
    expect(batch('b').baseSequence).toBe(-1)
  })

  it('sequences wrap from 2^31 - 1 to 0', () => {
    const { queue, batch, send } = queueOf('a')
    send()
    queue.acknowledge(batch('a'))
    const large = { ...batch('a'), name: 'b', state: 'waiting' as const, recordCount: 2 ** 31 - 15 }
    const small = { ...batch('a'), name: 'c', state: 'waiting' as const }
    const last = { ...batch('a'), name: 'd', state: 'waiting' as const }
    for (const row of [large, small, last]) {
      row.baseSequence = -1
      row.sendIndex = -1
      queue.add(row)
    }
    expect(send()).toBe('bcd')
    expect(small.baseSequence).toBe(2 ** 31 - 5)
    expect(last.baseSequence).toBe(5)
  })
})

describe('partition queue: answers', () => {
  it('what is lost goes again, first one first, with the same sequences', () => {
    const { queue, batch, send } = queueOf('abcd')
    send()
    queue.acknowledge(batch('a'))
    send()
    for (const name of 'bcd') queue.lose(batch(name), lost)
    expect(send()).toBe('b')
    queue.refuse(batch('b'), KafkaError.DUPLICATE_SEQUENCE_NUMBER, failure)
    expect(send()).toBe('cd')
    expect([batch('c').baseSequence, batch('d').baseSequence]).toEqual([20, 30])
    expect(batch('c').outcomeUnknown).toBe(true)
  })

  it('a sequence gap is a consequence while an earlier batch was unresolved at the send, else fatal', () => {
    const { queue, batch, send } = queueOf('abc')
    send()
    queue.acknowledge(batch('a'))
    send()
    // b is resolved before the answer to c comes, but c was sent behind it.
    queue.acknowledge(batch('b'))
    expect(queue.refuse(batch('c'), sequenceGap, failure).failed).toEqual([])
    expect(send()).toBe('c')
    expect(names(queue.refuse(batch('c'), sequenceGap, failure).failed)).toBe('c')
  })

  it('late answers to what is resolved change nothing', () => {
    const { queue, batch, send } = queueOf('ab')
    send()
    queue.acknowledge(batch('a'))
    expect(queue.acknowledge(batch('a')).delivered).toEqual([])
    expect(queue.refuse(batch('a'), tooLarge, failure).failed).toEqual([])
    expect(queue.inFlight).toBe(0)
  })

  it('failures in a row lengthen the pause; success ends it', () => {
    const { queue, batch, send } = queueOf('ab')
    for (const expected of [1, 2, 3]) {
      send()
      expect(queue.refuse(batch('a'), moved, failure).pauseFailures).toBe(expected)
    }
    send()
    queue.acknowledge(batch('a'))
    send()
    expect(queue.refuse(batch('b'), moved, failure).pauseFailures).toBe(1)
  })
})

describe('partition queue: a batch that is too large', () => {
  const partsOf = (batch: Batch, counts: readonly number[]): Batch[] =>
    counts.map((recordCount, index) => ({ ...batch, name: `${batch.name}${index}`, recordCount }))

  it('goes on as parts, in its place and with its sequences; those behind it keep theirs', () => {
    const { queue, batch, send } = queueOf('abcde', { inFlightMax: 4 })
    send()
    queue.acknowledge(batch('a'))
    expect(send()).toBe('bcde')
    queue.acknowledge(batch('b'))
    expect(queue.maySplit(batch('c'))).toBe(true)
    const parts = partsOf(batch('c'), [4, 5, 1])
    expect(queue.split(batch('c'), parts, failure)).toMatchObject({ delivered: [], failed: [] })
    for (const name of 'de') queue.refuse(batch(name), sequenceGap, failure)
    expect(queue.batches.map(({ name }) => name)).toEqual(['c0', 'c1', 'c2', 'd', 'e'])
    expect(send()).toBe('c0')
    queue.acknowledge(parts[0]!)
    // Four from the oldest: e has moved back.
    expect(send()).toBe('c1c2de')
    const sequences = [...parts, batch('d'), batch('e')].map(({ baseSequence }) => baseSequence)
    expect(sequences).toEqual([20, 24, 29, 30, 40])
  })

  it('is divided again; and after one left out before it all begin anew', () => {
    const { queue, batch, send } = queueOf('abcd', { continueAfterRefusal: true })
    send()
    queue.acknowledge(batch('a'))
    expect(send()).toBe('bcd')
    queue.refuse(batch('b'), tooLarge, failure)
    const parts = partsOf(batch('c'), [6, 4])
    queue.split(batch('c'), parts, failure)
    expect(queue.refuse(batch('d'), sequenceGap, failure).wantsIdentity).toBe(true)
    expect(queue.renew().map(({ name }) => name)).toEqual(['c0', 'c1', 'd'])
    expect(send()).toBe('c0')
    const [first] = parts
    const again = partsOf(first!, [3, 3])
    queue.split(first!, again, failure)
    expect(send()).toBe('c00')
    queue.acknowledge(again[0]!)
    expect(send()).toBe('c01c1d')
    expect([...again, parts[1]!, batch('d')].map(({ baseSequence }) => baseSequence)).toEqual([
      0, 3, 6, 10,
    ])
  })

  it('where it may be in the log already it is divided only if its sequences tell', () => {
    for (const idempotent of [true, false]) {
      const { queue, batch, send } = queueOf('a', { idempotent })
      send()
      queue.lose(batch('a'), lost)
      send()
      expect(queue.maySplit(batch('a'))).toBe(idempotent)
    }
  })
})

describe('partition queue: failing for good', () => {
  it('what is behind fails, what is before goes on, what is in flight reports its own answer', () => {
    const { queue, batch, send } = queueOf('abcdef')
    send()
    queue.acknowledge(batch('a'))
    send()
    queue.lose(batch('b'), lost)
    const result = queue.refuse(batch('c'), tooLarge, failure)
    expect(names(result.failed)).toBe('c')
    expect(queue.failure).toBe(failure)
    expect(queue.acknowledge(batch('d')).delivered.map(({ name }) => name)).toEqual(['d'])
    expect(names(queue.refuse(batch('e'), sequenceGap, failure).failed)).toBe('e')
    expect(names(queue.lose(batch('f'), lost).failed)).toBe('f')
    expect(send()).toBe('b')
    expect(queue.acknowledge(batch('b')).delivered.length).toBe(1)
    expect(queue.batches).toEqual([])
  })

  it('a deadline fails the oldest and all that waits behind it', () => {
    const { queue, batch, send } = queueOf('abc')
    send()
    const result = queue.expire(1000, () => failure)
    expect(names(result.failed)).toBe('abc')
    expect(batch('a').outcomeUnknown).toBe(true)
    expect(batch('b').outcomeUnknown).toBe(false)
    expect(send()).toBe('')
  })

  it('continue: what was before the refused batch goes on, then a new identity begins at 0', () => {
    const { queue, batch, send } = queueOf('abcdef', { continueAfterRefusal: true })
    send()
    queue.acknowledge(batch('a'))
    send()
    queue.refuse(batch('b'), moved, failure)
    expect(names(queue.refuse(batch('c'), tooLarge, failure).failed)).toBe('c')
    expect(queue.failure).toBeUndefined()
    for (const name of 'def') queue.refuse(batch(name), sequenceGap, failure)
    expect(send()).toBe('b')
    expect(batch('b').baseSequence).toBe(10)
    expect(queue.acknowledge(batch('b')).wantsIdentity).toBe(true)
    expect(send()).toBe('')
    expect(queue.renew().map(({ name }) => name)).toEqual(['d', 'e', 'f'])
    expect(send()).toBe('d')
    expect([batch('d').baseSequence, batch('e').baseSequence]).toEqual([0, 10])
  })

  it('continue: a batch that may be in the log already is not left out', () => {
    const { queue, batch, send } = queueOf('ab', { continueAfterRefusal: true })
    send()
    queue.lose(batch('a'), lost)
    send()
    expect(names(queue.refuse(batch('a'), tooLarge, failure).failed)).toBe('ab')
  })

  it('continue: a batch made anew keeps its place, under a new identity', () => {
    const { queue, batch, send } = queueOf('abcd', { continueAfterRefusal: true })
    send()
    queue.acknowledge(batch('a'))
    expect(send()).toBe('bcd')
    expect(queue.mayShrink(batch('b'), KafkaError.INVALID_RECORD)).toBe(true)
    expect(queue.mayShrink(batch('b'), moved)).toBe(false)
    batch('b').recordCount = 7
    queue.shrink(batch('b'), failure)
    expect(send()).toBe('')
    queue.refuse(batch('c'), sequenceGap, failure)
    expect(queue.refuse(batch('d'), sequenceGap, failure).wantsIdentity).toBe(true)
    expect(queue.renew().map(({ name }) => name)).toEqual(['b', 'c', 'd'])
    expect(send()).toBe('b')
    expect(batch('c').baseSequence).toBe(7)
    expect(queue.acknowledge(batch('b')).failed).toEqual([])
    expect(send()).toBe('cd')
  })

  it('stop: a batch made anew is sent with its own sequence, and nothing behind it', () => {
    const { queue, batch, send } = queueOf('abcde')
    send()
    queue.acknowledge(batch('a'))
    expect(send()).toBe('bcde')
    batch('c').recordCount = 4
    expect(names(queue.shrink(batch('c'), failure).failed)).toBe('')
    expect(names(queue.refuse(batch('d'), sequenceGap, failure).failed)).toBe('d')
    queue.refuse(batch('b'), moved, failure)
    expect(names(queue.refuse(batch('e'), sequenceGap, failure).failed)).toBe('e')
    expect(send()).toBe('b')
    queue.acknowledge(batch('b'))
    expect(send()).toBe('c')
    expect(batch('c').baseSequence).toBe(20)
    queue.acknowledge(batch('c'))
    expect(queue.failure).toBe(failure)
    expect(queue.batches).toEqual([])
  })

  it('a batch that may be in the log already is not made anew', () => {
    const { queue, batch, send } = queueOf('ab', { continueAfterRefusal: true })
    send()
    queue.lose(batch('a'), lost)
    send()
    expect(queue.mayShrink(batch('a'), KafkaError.INVALID_RECORD)).toBe(false)
  })

  it('abandoning fails everything, with what is known of it', () => {
    const { queue, batch, send } = queueOf('ab')
    send()
    expect(names(queue.abandon(() => failure).failed)).toBe('ab')
    expect([batch('a').outcomeUnknown, batch('b').outcomeUnknown]).toEqual([true, false])
  })
})
