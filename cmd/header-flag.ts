/** `-H NAME=VALUE`, which adds headers in produce and filters in reads. */

import { UsageError } from '../src/base/errors.ts'
import { type HeaderMatch, parseHeader } from '../src/text/record-filter.ts'
import type { Flags } from './flags.ts'

export function readHeaders(flags: Flags): HeaderMatch[] {
  return flags.all('header').map((text) => {
    const header = parseHeader(text)
    if (header === undefined) throw new UsageError(`--header ${text}: must be NAME=VALUE or NAME`)
    return header
  })
}
