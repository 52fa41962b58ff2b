import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { RealDisk } from '../../../src/io/real-disk.ts'
import { RealRandom } from '../../../src/io/real-random.ts'
import { RealTime } from '../../../src/io/real-time.ts'
import { describeDisk } from '../../ports/disk-conformance.ts'
import { describeRandom } from '../../ports/random-conformance.ts'
import { describeTime } from '../../ports/time-conformance.ts'

const root = mkdtempSync(join(tmpdir(), 'stream-ports-'))
const settle = <T>(promise: Promise<T>): Promise<T> => promise

afterAll(() => rmSync(root, { recursive: true, force: true }))

describeTime('real', () => ({ time: new RealTime(), settle }))
describeRandom('real', () => new RealRandom())
describeDisk('real', () => ({
  disk: new RealDisk(),
  directory: mkdtempSync(join(root, 'd')),
  settle,
}))
