/**
 * Readers of what lies on the disk, fed with bytes: random ones, and good files with random changes. Nothing may crash
 * but by a StreamError, nothing may be served that was not written, nothing may run for ever.
 * More: FUZZ_RUNS=20000 npx vitest run test/fuzz/segment.test.ts
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeCheckpoint, encodeCheckpoint } from '../../daemon/log/checkpoint.ts'
import {
  parseBoot,
  parseCleanShutdown,
  parseMeta,
  parsePartitionDirectory,
  parsePartitionMetadata,
} from '../../daemon/log/directory-files.ts'
import { decodeMark } from '../../daemon/log/durable-marks.ts'
import { OffsetIndex } from '../../daemon/log/offset-index.ts'
import { ProducerState } from '../../daemon/log/producer-state.ts'
import { encodeSwapPlan, parseSwapPlan } from '../../daemon/log/segment-swap.ts'
import {
  encodeEpochFile,
  encodeOffsetFile,
  parseEpochFile,
  parseOffsetFile,
} from '../../daemon/log/text-checkpoint.ts'
import { TimeIndex } from '../../daemon/log/time-index.ts'
import { topicIdText } from '../../daemon/log/topic-id.ts'
import { TransactionIndex } from '../../daemon/log/transaction-index.ts'
import { isStreamError } from '../../src/base/errors.ts'
import { batchOf, recordsOf } from '../daemon/batches.ts'
import { append, LOG_PATH, LogWorld, PATH, values } from '../daemon/log/log-world.ts'
import { SimDisk } from '../sim/sim-disk.ts'
import { SimRandom } from '../sim/sim-random.ts'
import { SimTime } from '../sim/sim-time.ts'
import { SimWorld } from '../sim/sim-world.ts'

const RUNS = Number(process.env['FUZZ_RUNS'] ?? 150)
const offset = fc.maxSafeNat()
const topicId = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(topicIdText)

describe('small files', () => {
  it('any bytes are a value or undefined, never a crash', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const text = Buffer.from(bytes).toString('latin1')
        decodeMark(bytes, 0)
        decodeCheckpoint(bytes)
        ProducerState.decodeSnapshot(bytes, 0)
        parseSwapPlan(bytes)
        parseOffsetFile(text)
        parseEpochFile(text)
        parseCleanShutdown(bytes)
        parseBoot(bytes)
        parsePartitionMetadata(bytes)
        parsePartitionDirectory(text)
        try {
          parseMeta('meta.properties', bytes)
        } catch (error) {
          if (!isStreamError(error, 'DATA_DIRECTORY_INVALID')) throw error
        }
      }),
      { numRuns: RUNS * 10 },
    )
  })

  it('a checkpoint: decode(encode(x)) = x, and a flipped bit makes it unknown', () => {
    const entry = fc.record({
      topicId,
      partition: fc.nat(),
      logStartOffset: offset,
      recoveryPoint: offset,
      highWatermark: offset,
    })
    fc.assert(
      fc.property(
        offset,
        fc.array(entry, { maxLength: 5 }),
        fc.nat(),
        (generation, entries, bit) => {
          const bytes = encodeCheckpoint(generation, entries)
          expect(decodeCheckpoint(bytes)).toEqual({ generation, entries })
          const at = bit % (bytes.length * 8)
          bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (1 << (at & 7))
          expect(decodeCheckpoint(bytes)).toBeUndefined()
        },
      ),
    )
  })

  it('the text files and the swap plan: parse(encode(x)) = x, a cut file is refused', () => {
    const topic = fc.stringMatching(/^[a-zA-Z0-9._-]{1,20}$/)
    const rows = fc.array(fc.record({ topic, partition: fc.nat(), offset }), {
      minLength: 1,
      maxLength: 4,
    })
    fc.assert(
      fc.property(rows, fc.array(offset, { minLength: 1, maxLength: 4 }), (entries, bases) => {
        const text = Buffer.from(encodeOffsetFile(entries)).toString()
        expect(parseOffsetFile(text)).toEqual(entries)
        expect(
          parseOffsetFile(text.slice(0, text.lastIndexOf('\n', text.length - 2))),
        ).toBeUndefined()
        const plan = { baseOffset: bases[0] ?? 0, replaced: bases }
        const bytes = encodeSwapPlan(plan)
        expect(parseSwapPlan(bytes)).toEqual(plan)
        expect(parseSwapPlan(bytes.subarray(0, bytes.length - 1))).toBeUndefined()
        const epochs = bases.map((startOffset, epoch) => ({ epoch, startOffset }))
        epochs.sort((a, b) => a.startOffset - b.startOffset)
        const rising = epochs.map(({ startOffset }, epoch) => ({ epoch, startOffset }))
        expect(parseEpochFile(Buffer.from(encodeEpochFile(rising)).toString())).toEqual(rising)
      }),
    )
  })
})

describe('index files', () => {
  it('any bytes are loaded or refused, and lookups stay inside', () => {
    const world = new SimWorld('index')
    const disk = new SimDisk(world.random, new SimTime(world))
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(100_000), (bytes, target) => {
        const file = disk.open('/index', 'write')
        file.truncate(0)
        file.write(0, [bytes])
        const offsets = new OffsetIndex('/index', 50)
        if (offsets.load(disk, 10_000)) {
          const found = offsets.lookup(target)
          if (found !== undefined) {
            expect(found.offset).toBeLessThanOrEqual(target)
            expect(found.position).toBeLessThan(10_000)
          }
          for (const entry of offsets.entriesBehind(target))
            expect(entry.position).toBeGreaterThan(target)
        }
        const times = new TimeIndex('/index', 50)
        if (times.load(disk)) times.lookupBelow(target)
        const aborted = new TransactionIndex('/index')
        if (aborted.load(disk)) aborted.collect(0, target, [])
      }),
      { numRuns: RUNS * 3 },
    )
  })
})

describe('whole logs', () => {
  const CONFIG = { segmentBytes: 600, indexIntervalBytes: 120 }
  const EXPECTED = values(0, 40, 25)

  async function original(): Promise<LogWorld> {
    const world = new LogWorld('original')
    const log = await world.log(CONFIG)
    for (let index = 0; index < 40; index += 2) append(log, EXPECTED.slice(index, index + 2))
    await world.settle(log.flush())
    await world.settle(world.directory?.writeCheckpoint() ?? Promise.resolve())
    await world.run(300)
    return world
  }

  /** One to three changes to the files of the log: bits, runs of zeros or noise, cuts, additions, swaps, losses. */
  function mutate(world: LogWorld, random: SimRandom): void {
    const { disk } = world
    for (let count = 1 + random.integer(3); count > 0; count--) {
      const files = disk
        .files()
        .filter(({ path, sizeBytes }) => path.startsWith(LOG_PATH) && sizeBytes > 0)
      const { path, sizeBytes } = random.pick(files)
      if (path.endsWith('partition.metadata')) continue
      const at = random.integer(sizeBytes)
      const file = disk.open(path, 'write')
      const kind = random.integer(7)
      if (kind === 0) disk.flipBit(path, at, random.integer(8))
      else if (kind === 1)
        file.write(at, [new Uint8Array(Math.min(1 + random.integer(80), sizeBytes - at))])
      else if (kind === 2)
        file.write(at, [random.bytes(Math.min(1 + random.integer(80), sizeBytes - at))])
      else if (kind === 3) file.truncate(at)
      else if (kind === 4) file.write(sizeBytes, [random.bytes(1 + random.integer(200))])
      else if (kind === 5) file.write(sizeBytes, [batchOf(['a stranger'])])
      else disk.unlink(path)
    }
  }

  it('are opened, and serve what was written or an error that names the file', async () => {
    const first = await original()
    let served = 0
    for (let seed = 0; seed < RUNS; seed++) {
      const random = new SimRandom(`mutation ${seed}`)
      const world = new LogWorld(seed)
      world.disk = await cloneOf(first, world)
      mutate(world, random)
      if (random.chance(0.5)) world.boot = 2
      const log = await world.reopened(CONFIG)
      log.verify()
      // The mark says 40: no offset below is given twice.
      expect([seed, log.logEndOffset >= 40]).toEqual([seed, true])
      for (let at = log.logStartOffset; at < Math.min(log.logEndOffset, 40); at++) {
        try {
          const slice = await world.settle(log.read({ offset: at, maxBytes: 1 }))
          for (const record of recordsOf(slice.bytes[0] ?? null)) {
            if (record.offset >= 40) continue
            expect([seed, record.offset, record.value]).toEqual([
              seed,
              record.offset,
              EXPECTED[record.offset],
            ])
            served++
          }
        } catch (error) {
          if (!isStreamError(error, 'DATA_DAMAGED')) throw error
          expect(error.target).toContain(LOG_PATH)
        }
      }
      for (const lookup of [log.offsetForTimestamp(0), log.offsetOfMaxTimestamp()]) {
        await world.settle(lookup.catch(() => undefined))
      }
      log.append([batchOf(['goes on'])], { leaderEpoch: (log.latestEpoch ?? 0) + 1 })
      await world.settle(log.flush())
      const end = log.logEndOffset
      const last = await world.settle(log.read({ offset: end - 1, maxBytes: 1 }))
      expect(recordsOf(last.bytes[0] ?? null).at(-1)?.value).toBe('goes on')
      world.crash('power')
      expect((await world.reopened(CONFIG)).logEndOffset).toBe(end)
    }
    expect(served).toBeGreaterThan(RUNS * 30)
  })

  /** A disk with the same files; the original stays as it is. */
  async function cloneOf(first: LogWorld, world: LogWorld): Promise<SimDisk> {
    const disk = new SimDisk(world.world.random.fork('clone'), new SimTime(world.world))
    for (const { path } of first.disk.files()) {
      disk.makeDirectory(path.slice(0, path.lastIndexOf('/')))
      const content = first.disk.readFile(path) ?? new Uint8Array()
      const file = disk.open(path, 'write')
      file.write(0, [content])
      await world.settle(file.sync())
    }
    for (const directory of [LOG_PATH, PATH, '/']) {
      await world.settle(disk.syncDirectory(directory))
    }
    return disk
  }
})
