import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { initialPartition } from '../../../daemon/metadata/topic-transactions.ts'
import { type CommitWaiter, type NotServing, Partition } from '../../../daemon/replica/partition.ts'
import { StreamError } from '../../../src/base/errors.ts'
import { parseTopicConfig } from '../../../src/config/topic-config.ts'

/** The part of a log that a partition leans on, with the disk's answers in the test's hand. */
class FakeLog {
  logStartOffset = 0
  logEndOffset = 0
  durableOffset = 0
  highWatermarkHint = 0
  epochs: number[] = []
  failsNext = false
  #epochHeld: Promise<void> | undefined
  #listeners = new Set<(durable: number) => void>()

  append(batches: readonly Uint8Array[]) {
    if (this.failsNext) throw new StreamError('DISK_FULL', 'no space')
    const firstOffset = this.logEndOffset
    this.logEndOffset += batches.length
    return { firstOffset, lastOffset: this.logEndOffset - 1, nextOffset: this.logEndOffset }
  }

  onDurable(listener: (durable: number) => void) {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  sync(to = this.logEndOffset) {
    this.durableOffset = to
    for (const listener of this.#listeners) listener(to)
  }

  async beginEpoch(epoch: number) {
    await this.#epochHeld
    if (this.failsNext) throw new StreamError('DISK_FAILED', 'sync failed')
    this.epochs.push(epoch)
  }

  /** The next epochs become durable when the function is called. */
  holdEpoch(): () => void {
    let end = () => {}
    this.#epochHeld = new Promise((resolve) => {
      end = resolve
    })
    return () => end()
  }

  setHighWatermark() {}
  limitTombstoneFloor() {}
  applyConfig() {}
  lastStableOffset(highWatermark: number) {
    return highWatermark
  }
}

const commitFlush = parseTopicConfig({})
const asyncFlush = parseTopicConfig({ 'flush.messages': '100' })
const batch = new Uint8Array(61)

function leaderRecord(leaderEpoch: number, partitionEpoch = leaderEpoch) {
  const writer = { epoch: 1, counter: 1 }
  const replicas = [{ broker: 1, dataEpoch: 1 }]
  const value = initialPartition({ replicas, leaderIncarnation: 'i', minInSync: 1, writer })
  return { ...value, leaderEpoch, partitionEpoch }
}

async function leading(config = commitFlush, log = new FakeLog()) {
  const partition = new Partition(
    log as unknown as PartitionLog,
    { topic: 't', topicId: 'id', partition: 0 },
    config,
  )
  await partition.lead(leaderRecord(0))
  return { partition, log }
}

class Waiter implements CommitWaiter {
  readonly endOffset: number
  outcome: 'committed' | NotServing | undefined
  tellings = 0

  constructor(endOffset: number) {
    this.endOffset = endOffset
  }

  onCommitted() {
    this.outcome = 'committed'
    this.tellings += 1
  }

  onLost(why: NotServing) {
    this.outcome = why
    this.tellings += 1
  }
}

function appendAndWait(partition: Partition): Waiter {
  const waiter = new Waiter(partition.append(batch).nextOffset)
  partition.whenCommitted(waiter)
  return waiter
}

describe('Partition', () => {
  it('with commit flush acknowledges and shows nothing before it is durable (I6)', async () => {
    const { partition, log } = await leading()
    const first = appendAndWait(partition)
    const second = appendAndWait(partition)
    expect(partition.highWatermark).toBe(0)
    log.sync(1)
    expect([first.outcome, second.outcome]).toEqual(['committed', undefined])
    expect(partition.highWatermark).toBe(1)
    log.sync()
    expect(second.outcome).toBe('committed')
  })

  it('with async flush acknowledges what is written', async () => {
    const { partition } = await leading(asyncFlush)
    expect(appendAndWait(partition).outcome).toBe('committed')
    expect(partition.highWatermark).toBe(1)
  })

  it('a change from async to commit flush never takes the high watermark back (I8)', async () => {
    const { partition, log } = await leading(asyncFlush)
    appendAndWait(partition)
    partition.applyConfig(commitFlush)
    expect(partition.highWatermark).toBe(1)
    const next = appendAndWait(partition)
    expect(next.outcome).toBeUndefined()
    log.sync()
    expect(next.outcome).toBe('committed')
  })

  it('starts with a high watermark that is durable, whatever the hint says', async () => {
    const log = new FakeLog()
    log.logEndOffset = 10
    log.durableOffset = 6
    log.highWatermarkHint = 10
    const { partition } = await leading(commitFlush, log)
    expect(partition.highWatermark).toBe(6)
  })

  it('P14 a duplicate waits for the high watermark like a new batch', async () => {
    const { partition, log } = await leading()
    appendAndWait(partition)
    const duplicate = new Waiter(1)
    partition.whenCommitted(duplicate)
    expect(duplicate.outcome).toBeUndefined()
    log.sync()
    expect(duplicate.outcome).toBe('committed')
    const late = new Waiter(1)
    partition.whenCommitted(late)
    expect(late.outcome).toBe('committed')
  })

  it('tells everybody once when it stops, and never acknowledges afterwards', async () => {
    const { partition, log } = await leading()
    const parked = appendAndWait(partition)
    let changes = 0
    partition.addReader({
      onChanged: () => {
        changes += 1
      },
    })
    partition.stopServing('storageFailed')
    expect(parked.outcome).toBe('storageFailed')
    expect(changes).toBe(1)
    log.sync()
    expect(parked.tellings).toBe(1)
    const after = new Waiter(1)
    partition.whenCommitted(after)
    expect(after.outcome).toBe('storageFailed')
  })

  it('wakes waiting fetches when the high watermark moves, not before', async () => {
    const { partition, log } = await leading()
    let changes = 0
    const reader = {
      onChanged: () => {
        changes += 1
      },
    }
    partition.addReader(reader)
    appendAndWait(partition)
    expect(changes).toBe(0)
    log.sync()
    expect(changes).toBe(1)
    partition.removeReader(reader)
    appendAndWait(partition)
    log.sync()
    expect(changes).toBe(1)
  })

  it('serves an epoch at once, and acknowledges nothing of it before it is durable', async () => {
    const { partition, log } = await leading()
    appendAndWait(partition)
    log.sync()
    const end = log.holdEpoch()
    const taking = partition.lead(leaderRecord(1))
    expect(partition.notServing).toBeUndefined()
    expect(partition.leaderEpoch).toBe(1)
    const waiter = appendAndWait(partition)
    log.sync()
    expect(waiter.outcome).toBeUndefined()
    expect(partition.highWatermark).toBe(1)
    end()
    await taking
    expect(waiter.outcome).toBe('committed')
    expect(partition.highWatermark).toBe(2)
  })

  it('does not lead at an epoch that could not be recorded, and can repeat the step (KAFKA-9307)', async () => {
    const log = new FakeLog()
    const { partition } = await leading(commitFlush, log)
    log.failsNext = true
    await expect(partition.lead(leaderRecord(1))).rejects.toMatchObject({ code: 'DISK_FAILED' })
    expect(partition.notServing).toBe('notLeader')
    log.failsNext = false
    await partition.lead(leaderRecord(1))
    expect(partition.notServing).toBeUndefined()
    expect(partition.leaderEpoch).toBe(1)
    expect(log.epochs).toEqual([0, 1])
    // A record of the past changes nothing.
    await partition.lead(leaderRecord(0))
    expect(partition.leaderEpoch).toBe(1)
  })

  it('leaves nothing behind when the disk is full', async () => {
    const { partition, log } = await leading()
    log.failsNext = true
    expect(() => partition.append(batch)).toThrow('no space')
    expect(partition.log.logEndOffset).toBe(0)
    partition.verify()
  })

  it('keeps its invariants through any order of appends, syncs, waits and changes of config', async () => {
    const step = fc.oneof(
      fc.constant('append' as const),
      fc.constant('duplicate' as const),
      fc.constant('async' as const),
      fc.constant('commit' as const),
      fc.nat(20),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { partition, log } = await leading()
        const waiters: Waiter[] = []
        for (const what of steps) {
          const before = partition.highWatermark
          if (what === 'append') waiters.push(appendAndWait(partition))
          else if (what === 'duplicate') {
            const waiter = new Waiter(Math.max(1, Math.floor(log.logEndOffset / 2)))
            if (log.logEndOffset > 0) {
              partition.whenCommitted(waiter)
              waiters.push(waiter)
            }
          } else if (what === 'async') partition.applyConfig(asyncFlush)
          else if (what === 'commit') partition.applyConfig(commitFlush)
          else log.sync(Math.max(log.durableOffset, Math.min(what, log.logEndOffset)))
          partition.verify()
          expect(partition.highWatermark).toBeGreaterThanOrEqual(before)
          for (const waiter of waiters) {
            const isCommitted = waiter.endOffset <= partition.highWatermark
            expect(waiter.outcome).toBe(isCommitted ? 'committed' : undefined)
          }
        }
        log.sync()
        for (const waiter of waiters) expect(waiter.tellings).toBe(1)
      }),
    )
  })
})
