/** Pauses between attempts: doubling, bounded, jittered, so that many clients do not come back at once. */
import type { Random } from '../ports/random.ts'

export interface BackoffOptions {
  readonly firstMs: number
  readonly maxMs: number
}

/**
 * @param failures  how many attempts have failed in a row, from 1
 * @returns  milliseconds to wait, within 20 % of min(maxMs, firstMs · 2^(failures-1))
 */
export function backoffMs(random: Random, options: BackoffOptions, failures: number): number {
  const plainMs = Math.min(options.maxMs, options.firstMs * 2 ** Math.min(failures - 1, 20))
  return plainMs * (0.8 + 0.4 * random.fraction())
}
