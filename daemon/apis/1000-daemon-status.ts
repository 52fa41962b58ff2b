/**
 * DaemonStatus (1000), private: what `stream daemon status` prints. From version 1 on: ranges that are not served, when a
 * whole scrub of all logs ended (−1: never), and how far the one under way is (−1: none is). From version 2 on: batches
 * whose copy here differs from their leader's, as far as it is known. From version 3 on: whether the metadata store answers this
 * broker, for how long it has not, and why, and whether it takes writes (READ_ONLY: it does not); without a session (LOST) all it says of
 * the cluster may be old. From version 4 on: the time by the clock of this host.
 */

import type { SessionView } from '../replica/session-keeper.ts'
import type { Handler } from './handler.ts'

export const daemonStatus: Handler<'DaemonStatus'> = ({ broker, host }) => {
  let topics = 0
  for (const topic of broker.image.topics()) if (topic.value.state === 'READY') topics += 1
  let damagedRanges = 0
  for (const { damage } of broker.directory.logs()) damagedRanges += damage.length
  const { endedMs, percent } = broker.scrubber.status
  return {
    errorCode: 0,
    pid: host.pid,
    version: host.version,
    nodeId: broker.nodeId,
    clusterId: broker.clusterId,
    addresses: host.addresses(),
    dataDirectory: broker.directory.path,
    uptimeMs: Math.floor(broker.time.monotonicMs() - broker.startedMs),
    topics,
    partitions: broker.table.partitionCount,
    bytes: broker.sizeBytes(),
    state: broker.state,
    residentBytes: host.residentBytes(),
    damagedRanges,
    scrubbedMs: endedMs ?? -1,
    scrubPercent: percent ?? -1,
    differingBatches: broker.replication?.comparer?.differing ?? 0,
    ...storeFields(broker.session),
    wallMs: broker.time.wallMs(),
  }
}

/** '': it is the daemon's own. */
type StoreState = '' | 'ANSWERS' | 'READ_ONLY' | 'SILENT' | 'LOST'

function storeFields(session: SessionView): {
  readonly storeState: StoreState
  readonly storeSilentMs: number
  readonly storeTrouble: string | null
} {
  const contact = session.storeContact
  if (contact === undefined) return { storeState: '', storeSilentMs: 0, storeTrouble: null }
  const { silentMs, trouble, writeTrouble } = contact
  const answering = writeTrouble === undefined ? 'ANSWERS' : 'READ_ONLY'
  const held = trouble === undefined ? answering : 'SILENT'
  return {
    storeState: session.isSelfFenced() ? 'LOST' : held,
    storeSilentMs: Math.floor(silentMs),
    storeTrouble: (trouble ?? writeTrouble)?.message ?? null,
  }
}
