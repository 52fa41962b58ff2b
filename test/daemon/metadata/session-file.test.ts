import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  decodeSessionFile,
  encodeSessionFile,
  SessionFile,
} from '../../../daemon/metadata/session-file.ts'
import { SimDisk } from '../../sim/sim-disk.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { SimWorld } from '../../sim/sim-world.ts'

const record = fc.record({
  incarnations: fc.array(fc.record({ incarnation: fc.string(), registered: fc.boolean() }), {
    maxLength: 5,
  }),
  dataEpoch: fc.option(fc.nat(), { nil: undefined }),
  revision: fc.nat(),
  leaseId: fc.option(fc.string(), { nil: undefined }),
  restoredId: fc.option(fc.string(), { nil: undefined }),
  partitionEpochs: fc.option(
    fc.dictionary(fc.constantFrom('a', 'b'), fc.array(fc.integer({ min: -1 })), {
      noNullPrototype: true,
    }),
    { nil: undefined },
  ),
})

describe('the session file', () => {
  it('is read back as it was written', () => {
    fc.assert(
      fc.property(fc.nat(), record, (generation, value) => {
        const bytes = encodeSessionFile(generation, value)
        expect(decodeSessionFile(bytes)).toEqual({ generation, record: value })
      }),
    )
  })

  it('is refused when any byte has changed or is missing', () => {
    fc.assert(
      fc.property(record, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, at, flip) => {
        const bytes = encodeSessionFile(3, value)
        const changed = Uint8Array.from(bytes)
        const place = at % changed.length
        changed[place] = (changed[place] ?? 0) ^ flip
        expect(decodeSessionFile(changed)).toBeUndefined()
        expect(decodeSessionFile(bytes.subarray(0, at % bytes.length))).toBeUndefined()
      }),
    )
  })

  it('is refused when it is nothing of ours', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(decodeSessionFile(bytes)).toBeUndefined()
      }),
    )
  })

  it('on a full disk the older copy is written over, and both are whole', async () => {
    const world = new SimWorld('full')
    const disk = new SimDisk(world.random.fork('disk'), new SimTime(world))
    disk.makeDirectory('/data')
    const file = new SessionFile(disk, '/data')
    const record = { incarnations: [], dataEpoch: 3, revision: 40 }
    await world.settle(file.write(record))
    await world.settle(file.write({ ...record, revision: 41 }))
    disk.totalBytes = disk.files().reduce((sum, each) => sum + each.sizeBytes, 0)
    for (const revision of [42, 43]) {
      await world.settle(file.write({ ...record, revision }))
      expect(new SessionFile(disk, '/data').read()).toMatchObject({ record: { revision } })
    }
    expect(disk.list('/data')).toEqual(['stream-session.a', 'stream-session.b'])
  })
})
