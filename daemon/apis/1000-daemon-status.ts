/** DaemonStatus (1000), private: what `stream daemon status` prints. */

import type { Handler } from './handler.ts'

export const daemonStatus: Handler<'DaemonStatus'> = ({ broker, host }) => {
  let topics = 0
  for (const topic of broker.image.topics()) if (topic.value.state === 'READY') topics += 1
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
  }
}
