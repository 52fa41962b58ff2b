/** Transactions in a log: what survives restarts, and what a read_committed fetch needs. */
import { describe, expect, it } from 'vitest'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { readBatchHeader } from '../../../src/record/batch-layout.ts'
import { buildControlBatch } from '../../../src/record/control-batch.ts'
import { batchOf } from '../batches.ts'
import { append, LOG_PATH, LogWorld, values } from './log-world.ts'

interface Sent {
  readonly producerId: number
  readonly baseSequence: number
}

function send(log: PartitionLog, { producerId, baseSequence }: Sent, isTransactional = true): void {
  const options = { producerId, producerEpoch: 0, baseSequence, isTransactional }
  log.append([batchOf([`p${producerId}:${baseSequence}`], options)], { leaderEpoch: 0 })
}

function end(log: PartitionLog, producerId: number, type: 'commit' | 'abort'): void {
  const marker = { type, producerId, producerEpoch: 0, coordinatorEpoch: 1, timestampMs: 1 }
  log.append([buildControlBatch(marker)], { leaderEpoch: 0 })
}

describe('transactions', () => {
  it('the last stable offset and the aborted list are the same over any restart', async () => {
    const config = { segmentBytes: 400 }
    const world = new LogWorld()
    const log = await world.log(config)
    send(log, { producerId: 1, baseSequence: 0 })
    send(log, { producerId: 2, baseSequence: 0 })
    for (let index = 0; index < 6; index++) append(log, values(index, 1, 60))
    end(log, 1, 'abort')
    send(log, { producerId: 1, baseSequence: 1 })
    end(log, 1, 'commit')
    for (let index = 0; index < 6; index++) append(log, values(index, 1, 60))
    send(log, { producerId: 3, baseSequence: 0 })
    end(log, 3, 'abort')
    await world.settle(log.flush())
    await world.run(200)
    expect(log.segmentCount).toBeGreaterThan(3)
    const check = (from: PartitionLog): void => {
      const end = from.logEndOffset
      expect(from.lastStableOffset(end)).toBe(1)
      expect(from.abortedTransactions(0, end)).toEqual([
        { producerId: 1, firstOffset: 0, lastOffset: 8, lastStableOffset: 1 },
        { producerId: 3, firstOffset: 17, lastOffset: 18, lastStableOffset: 1 },
      ])
      expect(from.abortedTransactions(9, 17)).toEqual([])
      expect(from.abortedTransactions(3, 5)).toMatchObject([{ producerId: 1 }])
      expect(
        from
          .activeProducers()
          .map(({ producerId }) => producerId)
          .sort(),
      ).toEqual([1, 2, 3])
    }
    check(log)
    world.crash('process')
    check(await world.reopened(config))
    world.crash('power')
    check(await world.reopened(config))
    await world.close()
    check(await world.reopened(config))
    await world.close()
    for (const { path } of world.disk.files()) {
      if (path.endsWith('.txnindex') || path.endsWith('.snapshot')) world.disk.unlink(path)
    }
    check(await world.reopened(config))
  })

  it('the files of what was aborted are made anew where they are gone', async () => {
    const config = { segmentBytes: 400 }
    for (const isClean of [true, false]) {
      const world = new LogWorld()
      const log = await world.log(config)
      for (let index = 0; index < 6; index++) {
        send(log, { producerId: 1, baseSequence: index })
        end(log, 1, index === 5 ? 'commit' : 'abort')
        append(log, values(index, 2, 60))
      }
      await world.settle(log.flush())
      await world.run(200)
      await world.close()
      const files = (): string[] =>
        world.disk
          .files()
          .filter(({ path }) => path.endsWith('.txnindex'))
          .map(
            ({ path }) => `${path} ${Buffer.from(world.disk.readFile(path) ?? []).toString('hex')}`,
          )
      const before = files()
      expect(before.length).toBeGreaterThan(3)
      for (const { path } of world.disk.files()) {
        if (path.startsWith(`${LOG_PATH}/`) && !/\.log$|metadata$/.test(path))
          world.disk.unlink(path)
      }
      if (!isClean) world.crash('process')
      await world.reopened(config)
      await world.close()
      expect(files()).toEqual(before)
      world.crash('power')
      expect(files()).toEqual(before)
    }
  })

  it('what was aborted is known after a power cut, whichever snapshot has reached the medium', async () => {
    const config = { segmentBytes: 400 }
    for (let seed = 1; seed <= 20; seed += 1) {
      const world = new LogWorld(seed)
      const log = await world.log(config)
      for (let index = 0; index < 5; index += 1) {
        send(log, { producerId: 1, baseSequence: index })
        end(log, 1, index % 2 === 0 ? 'abort' : 'commit')
        append(log, values(index, 2, 60))
        await world.settle(log.flush())
      }
      const expected = log.abortedTransactions(0, log.logEndOffset)
      expect(expected).toHaveLength(3)
      // Nothing but the records and the snapshots.
      const snapshots = world.disk.files().filter(({ path }) => path.endsWith('.snapshot'))
      for (const { path } of snapshots) {
        const file = world.disk.open(path, 'write')
        await world.settle(file.dataSync())
        file.close()
      }
      await world.settle(world.disk.syncDirectory(LOG_PATH))
      await world.run(200)
      world.crash('power')
      const again = await world.reopened(config)
      expect(again.abortedTransactions(0, again.logEndOffset), `seed ${seed}`).toEqual(expected)
      expect(again.activeProducers()).toMatchObject([{ producerId: 1, lastSequence: 4 }])
    }
  })

  // Snapshots of producers are taken every 250 batches of more than a MiB, and nobody replays what lies below one.
  it.each(['process', 'power'] as const)(
    'what was aborted below a snapshot stays known (%s)',
    async (kind) => {
      for (let seed = 0; seed < 3; seed += 1) {
        const world = new LogWorld(seed)
        const log = await world.log()
        const aborted = []
        for (let round = 0; round < 40; round += 1) {
          const firstOffset = log.logEndOffset
          send(log, { producerId: 1, baseSequence: round })
          end(log, 1, 'abort')
          const lastOffset = log.logEndOffset - 1
          aborted.push({ producerId: 1, firstOffset, lastOffset, lastStableOffset: lastOffset + 1 })
          for (let index = 0; index < 11; index += 1) append(log, values(index, 1, 5000))
          // A checkpoint somewhere: indexes below it are on the medium.
          if (round === seed + 5) await world.settle(log.prepareCheckpoint())
        }
        await world.settle(log.flush())
        await world.run(200)
        const wanted = { end: log.logEndOffset, aborted }
        world.crash(kind)
        const again = await world.reopened()
        expect({
          end: again.logEndOffset,
          aborted: again.abortedTransactions(0, again.logEndOffset),
        }).toEqual(wanted)
      }
    },
  )

  it('what was aborted is known where the page cache was lost within a boot, and the start was told to distrust it', async () => {
    const config = { segmentBytes: 400 }
    for (let seed = 1; seed <= 20; seed += 1) {
      const world = new LogWorld(seed)
      const log = await world.log(config)
      for (let index = 0; index < 5; index += 1) {
        send(log, { producerId: 1, baseSequence: index })
        end(log, 1, index % 2 === 0 ? 'abort' : 'commit')
        append(log, values(index, 2, 60))
        await world.settle(log.flush())
      }
      const expected = log.abortedTransactions(0, log.logEndOffset)
      expect(expected).toHaveLength(3)
      await world.settle(world.disk.syncDirectory(LOG_PATH))
      await world.run(200)
      // The file system was shut down and mounted again: as after a power cut, in the same boot.
      world.crash('power')
      world.boot -= 1
      const directory = await world.open()
      directory.distrustPageCache()
      const again = await world.log(config)
      expect(again.abortedTransactions(0, again.logEndOffset), `seed ${seed}`).toEqual(expected)
    }
  })

  it('an index that is damaged in front of the replay is made anew', async () => {
    const world = new LogWorld()
    const log = await world.log()
    for (let round = 0; round < 30; round += 1) {
      send(log, { producerId: 1, baseSequence: round })
      end(log, 1, 'abort')
      for (let index = 0; index < 11; index += 1) append(log, values(index, 1, 10))
    }
    await world.settle(log.flush())
    await world.run(200)
    const wanted = log.abortedTransactions(0, log.logEndOffset)
    expect(wanted).toHaveLength(30)
    world.crash('process')
    const path = `${LOG_PATH}/00000000000000000000.txnindex`
    const file = world.disk.open(path, 'write')
    file.write(34 * 3, [new Uint8Array(34)])
    file.close()
    const again = await world.reopened()
    expect(again.abortedTransactions(0, again.logEndOffset)).toEqual(wanted)
  })

  it('a truncation takes transactions and aborts back', async () => {
    const world = new LogWorld()
    const log = await world.log()
    send(log, { producerId: 1, baseSequence: 0 })
    end(log, 1, 'abort')
    send(log, { producerId: 2, baseSequence: 0 })
    end(log, 2, 'abort')
    await world.settle(log.truncateTo(3))
    expect(log.abortedTransactions(0, 10)).toMatchObject([{ producerId: 1 }])
    expect(log.lastStableOffset(3)).toBe(2)
    end(log, 2, 'commit')
    expect(log.lastStableOffset(4)).toBe(4)
    expect(log.abortedTransactions(0, 10)).toHaveLength(1)
  })

  it('duplicates are known after a crash, from snapshot and replay', async () => {
    const world = new LogWorld()
    const log = await world.log({ segmentBytes: 300 })
    for (let index = 0; index < 12; index++) {
      send(log, { producerId: 1, baseSequence: index }, false)
    }
    await world.settle(log.flush())
    await world.run(200)
    for (const how of ['process', 'power', 'clean'] as const) {
      if (how === 'clean') await world.close()
      else world.crash(how)
      const again = await world.reopened({ segmentBytes: 300 })
      const check = (baseSequence: number) => {
        const options = { producerId: 1, producerEpoch: 0, baseSequence }
        return again.checkProducer(readBatchHeader(batchOf(['x'], options)))
      }
      expect(check(11)).toEqual({ kind: 'duplicate', baseOffset: 11, lastOffset: 11 })
      expect(check(12)).toEqual({ kind: 'new' })
      expect(check(14)).toMatchObject({ code: 'OUT_OF_ORDER_SEQUENCE_NUMBER' })
    }
  })
})
