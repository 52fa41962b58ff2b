/**
 * Data directories with random changes before dump and fsck: nothing crashes, nothing runs for ever, nothing is changed by
 * looking, and a repair leaves a directory that the next check calls right and the daemon's log opens.
 * More: FUZZ_RUNS=2000 npx vitest run test/fuzz/offline.test.ts
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isStreamError } from '../../src/base/errors.ts'
import { LOG_PATH, PATH } from '../daemon/log/log-world.ts'
import { config, OfflineWorld } from '../daemon/offline/offline-world.ts'

const RUNS = Number(process.env['FUZZ_RUNS'] ?? 60)

const change = fc.record({
  file: fc.nat(),
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  kind: fc.constantFrom('flip', 'zero', 'noise', 'cut', 'grow', 'remove', 'double'),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 200 }),
})

type Change = typeof change extends fc.Arbitrary<infer T> ? T : never

function apply(world: OfflineWorld, { file, at, kind, bytes }: Change): void {
  const files = world.disk.files().map(({ path }) => path)
  const path = files[file % files.length] ?? ''
  const old = world.disk.readFile(path) ?? new Uint8Array(0)
  const position = Math.floor(at * old.length)
  const copy = Uint8Array.from(old)
  switch (kind) {
    case 'flip':
      if (copy.length > 0) copy[position] = (copy[position] as number) ^ (1 << (bytes[0]! & 7))
      world.put(path, copy)
      break
    case 'zero':
      world.put(path, copy.fill(0, position, position + bytes.length))
      break
    case 'noise':
      copy.set(bytes.subarray(0, copy.length - position), position)
      world.put(path, copy)
      break
    case 'cut':
      world.put(path, copy.slice(0, position))
      break
    case 'grow':
      world.put(path, Buffer.concat([copy, bytes]))
      break
    case 'remove':
      world.disk.unlink(path)
      break
    case 'double':
      world.put(path, Buffer.concat([copy.slice(0, position), copy.slice(position / 2)]))
  }
}

describe('dump and fsck over files with random changes', () => {
  it('look at anything without a crash and without changing it; a repair ends in order', async () => {
    const world = new OfflineWorld()
    await world.filled()
    await world.close()
    const whole = world.image()
    const values = new Set(
      (await world.dump()).records.map(({ offset, value }) => `${offset} ${value}`),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
        world.restore(whole)
        for (const each of changes) apply(world, each)
        const before = world.image()
        const isDirectory = world.disk.stat(`${PATH}/meta.properties`) !== undefined
        try {
          await world.check()
          const { records } = await world.dump(LOG_PATH, { isUncommitted: true })
          // Never something that was not written, but for the aborted record.
          for (const { offset, value } of records) {
            if (value !== 'p7:0') expect(values).toContain(`${offset} ${value}`)
          }
        } catch (error) {
          if (!isStreamError(error) && (error as Error).name !== 'UsageError') throw error
        }
        expect(world.image()).toEqual(before)
        if (!isDirectory) return
        const mended = await world.repair()
        const after = (await world.check()).filter(({ state }) => !['note', 'torn'].includes(state))
        if (mended.some(({ state }) => state === 'left')) return
        expect(after, JSON.stringify(mended)).toEqual([])
        const log = await world.reopened(config)
        expect(log.recovery.damage, JSON.stringify(mended)).toEqual([])
        await world.close()
      }),
      { numRuns: RUNS },
    )
  })
})
