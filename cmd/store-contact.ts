/** Whether the daemon that is asked still hears from the metadata store: if not, what it says of the cluster may be old. */

import { isStreamError } from '../src/base/errors.ts'
import { formatDuration } from '../src/text/units.ts'
import type { AdminClient } from './clients.ts'
import type { DaemonState } from './daemon-shared.ts'

export interface StoreContact {
  /** Its session has run out: it may be the last to hear what has become of the cluster. */
  readonly isLost: boolean
  /** It answers, and takes no writes: what is shown is of now, and nothing can change. */
  readonly isReadOnly: boolean
  /** undefined: the store answers, and takes writes. */
  readonly trouble: string | undefined
}

/** @returns undefined: the store is the daemon's own, or it does not tell */
export function storeContact({
  storeState,
  storeSilentMs,
  storeTrouble,
}: Pick<DaemonState, 'storeState' | 'storeSilentMs' | 'storeTrouble'>): StoreContact | undefined {
  if (storeState === '') return undefined
  const isReadOnly = storeState === 'READ_ONLY'
  if (storeState === 'ANSWERS') return { isLost: false, isReadOnly, trouble: undefined }
  if (isReadOnly) {
    const trouble = `read-only: ${storeTrouble ?? 'it takes no writes'}`
    return { isLost: false, isReadOnly, trouble }
  }
  const seconds = formatDuration(Math.max(1, Math.round(storeSilentMs / 1000)) * 1000)
  const why = storeTrouble ?? 'the session of the daemon has run out'
  return { isLost: storeState === 'LOST', isReadOnly, trouble: `silent for ${seconds}: ${why}` }
}

/** Of the daemon that answers. Brokers of other makers, doors and users that may not ask learn nothing. */
export async function askStoreContact(admin: AdminClient): Promise<StoreContact | undefined> {
  try {
    return storeContact(await admin.daemonStatus())
  } catch (error) {
    const isUntold =
      isStreamError(error, 'NOT_ALLOWED') || isStreamError(error, 'UNSUPPORTED_BY_BROKER')
    if (!isUntold) throw error
    return undefined
  }
}
