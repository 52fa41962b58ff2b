/**
 * What is listed on each door: the served ranges of which this daemon has a handler. Quotas are served in the table but have no
 * handler here yet, so they are not listed and are refused like unknown keys.
 */

import {
  type Door,
  type Phase,
  type ServedApi,
  type ServedRange,
  servedRanges,
} from '../../src/protocol/served.ts'

/** Rows of the served table without a handler. The registry proves that every other row has one. */
export const unhandledApis = [
  'DescribeClientQuotas',
  'AlterClientQuotas',
] as const satisfies readonly ServedApi[]

export type HandledApi = Exclude<ServedApi, (typeof unhandledApis)[number]>

const unhandled: ReadonlySet<ServedApi> = new Set(unhandledApis)

export function isHandled(api: ServedApi): api is HandledApi {
  return !unhandled.has(api)
}

/** By rising key. */
export function listedRanges(door: Door, phase: Phase): readonly ServedRange[] {
  return servedRanges(door, phase).filter((range) => isHandled(range.api as ServedApi))
}
