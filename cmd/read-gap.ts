/** Offsets that were gone before they could be read (commands.md, section 4). */

import { StreamError } from '../src/base/errors.ts'
import type { Console } from './console.ts'
import type { Report } from './report.ts'

/** `from` to `to`, the latter exclusive. */
export interface ReadGap {
  readonly topic: string
  readonly partition: number
  readonly from: number
  readonly to: number
}

/** Counts it and warns. @throws StreamError OFFSET_OUT_OF_RANGE where the user wants to stop at it */
export function tellGap(
  console: Console,
  report: Report,
  { topic, partition, from, to }: ReadGap,
  { gapFails }: { readonly gapFails: boolean },
): void {
  report.gap += to - from
  const words = `${topic}: partition ${partition}: offsets ${from} to ${to - 1} are gone`
  if (gapFails) {
    throw new StreamError('OFFSET_OUT_OF_RANGE', words, {
      target: topic,
      hint: `the log begins at ${to}; to read on there: --on-gap warn`,
    })
  }
  console.warn(`${words}; reading on at ${to}`)
}
