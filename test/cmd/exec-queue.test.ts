import { describe, expect, it } from 'vitest'
import type { ExecPlan } from '../../cmd/exec-plan.ts'
import { ExecQueue } from '../../cmd/exec-queue.ts'
import type { Work } from '../../cmd/exec-work.ts'
import type { ReadPlan } from '../../cmd/read-options.ts'
import type { RecordsEvent } from '../../src/client/consumer-events.ts'
import { BatchBuilder } from '../../src/record/batch-builder.ts'
import { putInt64 } from '../../src/record/batch-layout.ts'
import { LineWriter } from '../../src/text/record-writer.ts'

const random = { bytes: (count: number) => new Uint8Array(count), fraction: () => 0.5 }
const range = (text: string) => {
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}

/** Records `KEY=VALUE`, or `VALUE` without a key, from an offset on. */
function event(fromOffset: number, ...records: string[]): RecordsEvent {
  const builder = new BatchBuilder(100_000)
  builder.reset({ timestampMs: 0 })
  for (const record of records) {
    const [first = '', value] = record.split('=')
    builder.append(
      value === undefined ? { value: range(first) } : { key: range(first), value: range(value) },
    )
  }
  const bytes = Uint8Array.from(builder.finish())
  putInt64(bytes, 0, fromOffset)
  const nextOffset = fromOffset + records.length
  return {
    kind: 'records',
    topic: 't',
    partition: 0,
    bytes,
    batches: [0],
    fromOffset,
    untilOffset: Number.POSITIVE_INFINITY,
    nextOffset,
    highWatermark: nextOffset,
    lastStableOffset: nextOffset,
    logStartOffset: 0,
  }
}

function makeQueue(exec: Partial<ExecPlan>, read: Partial<ReadPlan> = {}): ExecQueue {
  const queue = new ExecQueue(
    {
      command: 'true',
      job: 'g',
      batch: 1,
      parallel: 1,
      success: new Set([0]),
      retry: { times: 0, firstMs: 1, maxMs: 1 },
      onFail: 'stop',
      childTimeoutMs: undefined,
      graceMs: 0,
      ...exec,
    },
    {
      filter: {},
      countMax: Number.POSITIVE_INFINITY,
      bytesMax: Number.POSITIVE_INFINITY,
      ...read,
    } as ReadPlan,
    new LineWriter({ delimiter: Buffer.from('\n') }),
    random,
    { onPassedTime: () => undefined, onTaken: () => undefined },
  )
  queue.add('t', 0, 0)
  return queue
}

function push(queue: ExecQueue, ...events: RecordsEvent[]): void {
  const part = queue.part('t', 0)
  for (const each of events) if (part !== undefined) queue.push(part, each)
  queue.fill(() => true)
}

const input = (work: Work | undefined): string => Buffer.from(work?.input.filled() ?? []).toString()
const position = (queue: ExecQueue): number => [...queue.positions()][0]?.offset ?? -1
const take = (queue: ExecQueue): Work => {
  const work = queue.next()
  if (work === undefined) throw new Error('there should be work')
  return work
}

describe('order', () => {
  it('without -P: one record after the other, whatever the keys', () => {
    const queue = makeQueue({})
    push(queue, event(0, 'a=1', 'b=2'))
    const first = take(queue)
    expect(queue.hasReady).toBe(false)
    queue.done(first)
    expect(input(queue.next())).toBe('2\n')
  })

  it('with -P: of each key one at a time; of records without key too', () => {
    const queue = makeQueue({ parallel: 8 })
    push(queue, event(0, 'a=1', 'a=2', 'b=3', '4', '5'))
    const works = [take(queue), take(queue), take(queue)]
    expect(works.map(input)).toEqual(['1\n', '3\n', '4\n'])
    expect(queue.next()).toBeUndefined()
    queue.done(works[0] as Work)
    expect(input(queue.next())).toBe('2\n')
  })

  it('what is tried again comes before what is behind it', () => {
    const queue = makeQueue({})
    push(queue, event(0, '1', '2'))
    const first = take(queue)
    queue.retry(first)
    expect(queue.next()).toBe(first)
  })
})

describe('the position', () => {
  it('stays before what is not done, and goes to the end of what was read when all is', () => {
    const queue = makeQueue({ parallel: 4 })
    push(queue, event(0, 'a=1', 'b=2', 'c=3'))
    const [one, two, three] = [take(queue), take(queue), take(queue)]
    queue.done(three)
    queue.done(two)
    expect(position(queue)).toBe(0)
    queue.done(one)
    expect(position(queue)).toBe(3)
  })

  it('goes over what the filter dropped, and over gaps', () => {
    const grep = [{ isNegated: false, part: 'value', name: Buffer.alloc(0), pattern: /x/ } as const]
    const queue = makeQueue({}, { filter: { grep } })
    push(queue, event(0, '1', '2'))
    expect(queue.hasReady).toBe(false)
    expect(position(queue)).toBe(2)
    const part = queue.part('t', 0)
    if (part !== undefined) queue.push(part, { kind: 'gap', to: 9 })
    queue.fill(() => true)
    expect(position(queue)).toBe(9)
  })

  it('goes over dead work only with the dead letters of it', () => {
    const queue = makeQueue({ parallel: 4 })
    push(queue, event(0, 'a=1', 'b=2', 'c=3'))
    const [one, two, three] = [take(queue), take(queue), take(queue)]
    queue.giveUp(two)
    queue.done(three)
    expect(position(queue)).toBe(0)
    expect(queue.part('t', 0)?.deadBelow(position(queue))).toEqual([])
    queue.done(one)
    expect(position(queue)).toBe(3)
    expect(queue.part('t', 0)?.deadBelow(3)).toEqual([two])
  })

  it('never divides a dead batch whose records lie among those of another', () => {
    const queue = makeQueue({ parallel: 2, batch: 10 })
    const keys = [...'abcdefgh'].map((key, index) => `${key}=${index}`)
    push(queue, event(0, ...keys))
    const works = [take(queue), take(queue)].sort(
      (left, right) => left.firstOffset - right.firstOffset,
    )
    const [first, second] = works as [Work, Work]
    queue.giveUp(first)
    expect(position(queue)).toBe(0)
    queue.done(second)
    expect(position(queue)).toBe(8)
  })

  it('stays before what was dropped', () => {
    const queue = makeQueue({})
    push(queue, event(0, '1', '2', '3'))
    const first = take(queue)
    first.child = {} as NonNullable<Work['child']>
    const part = queue.part('t', 0)
    if (part !== undefined) queue.drop(part)
    first.child = undefined
    queue.done(first)
    expect(position(queue)).toBe(1)
    expect(queue.isIdle).toBe(true)
  })
})

describe('bounds', () => {
  it('a few records wait for each child, not all that has come', () => {
    const queue = makeQueue({ parallel: 2 })
    push(queue, event(0, ...Array.from({ length: 500 }, (_, index) => `k${index}=v`)))
    expect(queue.taken).toBe(32)
    queue.done(take(queue))
    queue.fill(() => true)
    expect(queue.taken).toBe(33)
  })

  it('what lies far behind a record that is not done is not taken', () => {
    const queue = makeQueue({ parallel: 4 })
    push(queue, event(0, ...Array.from({ length: 1500 }, (_, index) => `k${index}=v`)))
    take(queue)
    for (let work = queue.next(); work !== undefined; work = queue.next()) {
      queue.done(work)
      queue.fill(() => true)
    }
    expect(queue.taken).toBe(1000)
    expect(position(queue)).toBe(0)
  })

  it('--count is exact', () => {
    const queue = makeQueue({}, { countMax: 2 })
    push(queue, event(0, '1', '2', '3'))
    expect([queue.taken, queue.isDone, position(queue)]).toEqual([2, true, 0])
  })
})

describe('batches', () => {
  it('hold what is at hand, up to their size', () => {
    const queue = makeQueue({ batch: 3 })
    push(queue, event(0, '1', '2', '3', '4'))
    const first = take(queue)
    expect(input(first)).toBe('1\n2\n3\n')
    expect(first.environment).toMatchObject({
      STREAM_FIRST: '0',
      STREAM_LAST: '2',
      STREAM_COUNT: '3',
    })
    push(queue, event(4, '5'))
    queue.done(first)
    expect(input(queue.next())).toBe('4\n5\n')
  })

  it('are halved in order, down to one record', () => {
    const queue = makeQueue({ batch: 5 })
    push(queue, event(0, '1', '2', '3', '4', '5'), event(5, '6'))
    queue.split(take(queue))
    const first = take(queue)
    expect(input(first)).toBe('1\n2\n3\n')
    queue.done(first)
    expect(position(queue)).toBe(3)
    const second = take(queue)
    expect(input(second)).toBe('4\n5\n')
    queue.split(second)
    const fourth = take(queue)
    expect(input(fourth)).toBe('4\n')
    expect(fourth.attemptsBefore).toBe(2)
    queue.giveUp(fourth)
    queue.done(take(queue))
    expect(input(queue.next())).toBe('6\n')
    expect(position(queue)).toBe(5)
  })
})
