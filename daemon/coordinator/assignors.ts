/** The assignors that members may ask for by name. */

import type { Assignor } from './assignor.ts'
import { assignRange } from './assignor-range.ts'
import { assignUniform } from './assignor-uniform.ts'

const assignors: ReadonlyMap<string, Assignor> = new Map([
  ['uniform', assignUniform],
  ['range', assignRange],
])

export function assignorOf(name: string): Assignor | undefined {
  return assignors.get(name)
}
