/** Transaction indexes have no checksum: what is read from their files is held against the log before anybody acts on it. */
import { describe, expect, it } from 'vitest'
import type { AbortedTransaction } from '../../../daemon/log/log-types.ts'
import type { PartitionLog } from '../../../daemon/log/partition-log.ts'
import { TRANSACTION_ENTRY_BYTES, TransactionIndex } from '../../../daemon/log/transaction-index.ts'
import { baseOffsetAt, lastOffsetAt } from '../../../src/record/batch-layout.ts'
import { buildControlBatch } from '../../../src/record/control-batch.ts'
import { batchOf } from '../batches.ts'
import { append, LOG_PATH, LogWorld, values } from './log-world.ts'

const CONFIG = { segmentBytes: 1400 }

class Writer {
  readonly #log: PartitionLog
  readonly #sequences = new Map<number, number>()

  constructor(log: PartitionLog) {
    this.#log = log
  }

  send(producerId: number, key: string | null = null): void {
    const baseSequence = this.#sequences.get(producerId) ?? 0
    this.#sequences.set(producerId, baseSequence + 1)
    const options = { producerId, producerEpoch: 0, baseSequence, isTransactional: true }
    const record = { key, value: `p${producerId}:${baseSequence}` }
    this.#log.append([batchOf([record], options)], { leaderEpoch: 0 })
  }

  end(producerId: number, type: 'commit' | 'abort'): void {
    const marker = { type, producerId, producerEpoch: 0, coordinatorEpoch: 1, timestampMs: 1 }
    this.#log.append([buildControlBatch(marker)], { leaderEpoch: 0 })
  }
}

/** Three producers in turn, whose transactions overlap, span segments, and are committed and aborted. */
async function written(world: LogWorld): Promise<{ log: PartitionLog; known: Known }> {
  const log = await world.log(CONFIG)
  const writer = new Writer(log)
  for (let round = 0; round < 8; round += 1) {
    for (const producerId of [1, 2, 3]) writer.send(producerId)
    writer.end(1, round % 2 === 0 ? 'abort' : 'commit')
    writer.send(2)
    writer.end(2, round % 3 === 0 ? 'abort' : 'commit')
    append(log, values(round, 1, 60))
    if (round % 2 === 1) writer.end(3, 'abort')
  }
  await world.settle(log.flush())
  await world.run(200)
  expect(log.segmentCount).toBeGreaterThan(2)
  return { log, known: log.abortedTransactions(0, log.logEndOffset) }
}

type Known = readonly AbortedTransaction[]

async function proven(world: LogWorld, log: PartitionLog, from = 0): Promise<Known> {
  const proof = log.proveTransactions(from, log.logEndOffset)
  if (proof !== undefined) await world.settle(proof)
  return log.abortedTransactions(from, log.logEndOffset)
}

/** Of closed segments: what lies there is not replayed by a start. */
function indexPaths(world: LogWorld): string[] {
  const files = world.disk.files().map(({ path }) => path)
  return files.filter((path) => path.startsWith(LOG_PATH) && path.endsWith('.txnindex')).sort()
}

const told = (world: LogWorld): number =>
  world.said.filter((line) => line.includes('a transaction index is damaged')).length

describe('transaction indexes', () => {
  it('any bit of one that is wrong is found when it is first looked at, and put right', async () => {
    const world = new LogWorld()
    const { known } = await written(world)
    await world.close()
    const path = indexPaths(world)[0] as string
    const right = Buffer.from(world.disk.readFile(path) as Uint8Array)
    expect(right.length).toBeGreaterThanOrEqual(2 * TRANSACTION_ENTRY_BYTES)
    for (let at = 0; at < right.length; at += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        world.disk.flipBit(path, at, bit)
        const log = await world.reopened(CONFIG)
        const before = told(world)
        expect(await proven(world, log), `byte ${at}, bit ${bit}`).toEqual(known)
        expect(Buffer.from(world.disk.readFile(path) as Uint8Array)).toEqual(right)
        expect(told(world)).toBe(before + 1)
        // Once is enough.
        expect(log.proveTransactions(0, log.logEndOffset)).toBeUndefined()
        await world.close()
      }
    }
  })

  it('entries that are lost at the end, or are of another log, are found too', async () => {
    const world = new LogWorld()
    const { known } = await written(world)
    await world.close()
    const [path, other] = indexPaths(world) as [string, string]
    const right = Buffer.from(world.disk.readFile(path) as Uint8Array)
    const foreign = Buffer.from(world.disk.readFile(other) as Uint8Array)
    for (const wrong of [right.subarray(0, TRANSACTION_ENTRY_BYTES), foreign]) {
      const file = world.disk.open(path, 'write')
      file.truncate(0)
      file.write(0, [wrong])
      file.close()
      const log = await world.reopened(CONFIG)
      expect(await proven(world, log)).toEqual(known)
      expect(Buffer.from(world.disk.readFile(path) as Uint8Array)).toEqual(right)
      await world.close()
    }
  })

  it('one that was given back to memory is believed again only as it was', async () => {
    const world = new LogWorld()
    await written(world)
    await world.close()
    const path = indexPaths(world)[0] as string
    const index = new TransactionIndex(path)
    index.load(world.disk)
    expect(index.isProven).toBe(false)
    index.noteProven()
    index.file.unload()
    index.load(world.disk)
    expect(index.isProven).toBe(true)
    index.file.unload()
    world.disk.flipBit(path, 12, 1)
    index.load(world.disk)
    expect(index.isProven).toBe(false)
  })

  it('what is written while it is looked at stays in it', async () => {
    const world = new LogWorld()
    const { known } = await written(world)
    await world.close()
    const paths = indexPaths(world)
    const log = await world.reopened({ ...CONFIG, segmentBytes: 1 << 20 })
    const active = paths.at(-1) as string
    world.disk.flipBit(active, 12, 0)
    const proof = log.proveTransactions(0, Infinity)
    expect(proof).toBeDefined()
    const firstOffset = log.logEndOffset
    const writer = new Writer(log)
    writer.send(7)
    writer.end(7, 'abort')
    await world.settle(proof as Promise<void>)
    const entry = { producerId: 7, firstOffset, lastOffset: firstOffset + 1 }
    expect(await proven(world, log)).toMatchObject([...known, entry])
    await world.settle(log.flush())
    await world.close()
    const again = await world.reopened(CONFIG)
    expect(await proven(world, again)).toMatchObject([...known, entry])
  })

  it('where the log is damaged itself the index stays as it is, and is looked at again after the repair', async () => {
    const world = new LogWorld()
    const { known } = await written(world)
    await world.close()
    const path = indexPaths(world)[0] as string
    const log = await world.reopened(CONFIG)
    const batches: Uint8Array[] = []
    for (let offset = 0; offset < log.logEndOffset; ) {
      const slice = await world.settle(log.read({ offset, maxBytes: 1 }))
      batches.push(...slice.bytes)
      offset = slice.nextOffset
    }
    await world.close()
    const again = await world.reopened(CONFIG)
    // The producer of a batch, which no longer fits its checksum.
    world.disk.flipBit(path.replace('.txnindex', '.log'), 43 + 7, 3)
    expect(await proven(world, again)).toEqual(known)
    expect(world.said.join('\n')).toContain('cannot be held against its segment')
    expect(again.proveTransactions(0, again.logEndOffset)).toBeUndefined()
    const read = world.settle(again.read({ offset: 0, maxBytes: 1 << 20 }))
    await expect(read).rejects.toMatchObject({ code: 'DATA_DAMAGED' })
    for (const range of again.damage) {
      const fetch = (offset: number, nextOffset: number) => {
        const isWanted = (batch: Uint8Array): boolean =>
          baseOffsetAt(batch, 0) >= offset && lastOffsetAt(batch, 0) < nextOffset
        return Promise.resolve({ records: Buffer.concat(batches.filter(isWanted)), nextOffset })
      }
      await world.settle(again.repair(range, fetch))
    }
    expect(again.damage).toEqual([])
    expect(await proven(world, again)).toEqual(known)
    await world.close()
    world.disk.flipBit(path, 9, 1)
    expect(await proven(world, await world.reopened(CONFIG))).toEqual(known)
  })

  it('compaction drops nothing that was committed, and keeps nothing that was aborted, for a bit', async () => {
    const config = { ...CONFIG, cleanupCompact: true, cleanupDelete: false, fileDeleteDelayMs: 0 }
    // The entry: producer, first offset, last offset, last stable offset.
    for (const [at, bit] of [
      [9, 0],
      [9, 1],
      [17, 1],
      [17, 2],
      [25, 0],
      [33, 5],
    ] as const) {
      const world = new LogWorld()
      const log = await world.log(config)
      const writer = new Writer(log)
      writer.send(1, 'a')
      writer.end(1, 'commit')
      writer.send(3, 'b')
      writer.send(1, 'c')
      writer.end(3, 'commit')
      writer.end(1, 'abort')
      writer.send(1, 'd')
      writer.end(1, 'commit')
      while (log.segmentCount < 2) append(log, values(0, 1, 300))
      await world.settle(log.flush())
      await world.run(200)
      await world.close()
      world.disk.flipBit(indexPaths(world)[0] as string, at, bit)
      const again = await world.reopened(config)
      const lastStableOffset = again.lastStableOffset(again.durableOffset)
      const nowMs = world.time.wallMs()
      const result = await world.settle(again.compact({ nowMs, lastStableOffset }))
      expect(result.kind).toBe('done')
      const keys = (await world.records(again)).map(({ key }) => key)
      expect(
        keys.filter((key) => key !== null),
        `byte ${at}, bit ${bit}`,
      ).toEqual(['a', 'b', 'd'])
      // What it leaves of the index is no reason to warn.
      const before = told(world)
      await world.close()
      await proven(world, await world.reopened(config))
      expect(told(world)).toBe(before)
    }
  })
})
