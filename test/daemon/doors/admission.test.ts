/** When what was received is given back. */
import { expect, it } from 'vitest'
import { Admission } from '../../../daemon/doors/admission.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { SimWorld } from '../../sim/sim-world.ts'

const LIMITS = { requestsMax: 500, requestBytesMax: 1 << 27, queuedBytesMax: 1 << 27 }

it.each([
  ['large messages by their bytes', 1024 * 1024, 32],
  ['small ones by the block of 8 KiB that each of them keeps', 200, 4096],
])('garbage is collected after 32 MiB received: %s', (_name, bytes, count) => {
  let collections = 0
  const admission = new Admission(new SimTime(new SimWorld(1)), LIMITS, () => {
    collections += 1
  })
  for (let index = 1; index < count; index += 1) admission.received(bytes)
  expect(collections).toBe(0)
  admission.received(bytes)
  expect(collections).toBe(1)
  for (let index = 0; index < count; index += 1) admission.received(bytes)
  expect(collections).toBe(2)
})
