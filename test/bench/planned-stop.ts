/** What a planned stop of a leader costs its clients: the longest time between two acknowledgements, and two records read. */
import { setTimeout as pause } from 'node:timers/promises'
import { connect } from '../../src/library/index.ts'
import type { ClusterDaemon, ProcessCluster } from '../support/cluster.ts'

export interface StopCost {
  readonly writeMs: number
  readonly readMs: number
  /** Sends that were refused. */
  readonly failed: number
}

const TICK_MS = 10
const STEADY_MS = 1500
const SETTLED_MS = 1000

/** Writes one record in 10 ms and reads them all, while the leader of `topic`, of one partition, is told to stop. */
export async function stopPlanned(
  cluster: ProcessCluster,
  topic: string,
  leader: ClusterDaemon,
): Promise<StopCost> {
  const client = await connect({ broker: cluster.addresses })
  const producer = client.producer()
  const consumer = client.consumer({ topics: topic })
  const written: number[] = []
  const read: number[] = []
  let failed = 0
  const reading = (async () => {
    for await (const { offset } of consumer) if (offset >= 0) read.push(performance.now())
  })()
  const ticking = setInterval(() => {
    producer.send(topic, 'x').then(
      () => written.push(performance.now()),
      () => {
        failed += 1
      },
    )
  }, TICK_MS)
  await pause(STEADY_MS)
  await cluster.end(leader, 'SIGTERM')
  await pause(SETTLED_MS)
  clearInterval(ticking)
  await producer.close()
  await pause(TICK_MS)
  await consumer.close()
  await reading
  await client.close()
  return { writeMs: longestGap(written), readMs: longestGap(read), failed }
}

function longestGap(times: readonly number[]): number {
  if (times.length < STEADY_MS / TICK_MS / 2) throw new Error(`only ${times.length} were seen`)
  let longest = 0
  for (let at = 1; at < times.length; at += 1) {
    longest = Math.max(longest, (times[at] as number) - (times[at - 1] as number))
  }
  return longest
}
