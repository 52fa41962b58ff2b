/** `stream cluster doctor`: what is wrong with the cluster and what to do about it, a line each. */

import { isUnderReplicated } from '../src/client/partition-health.ts'
import { sleep } from '../src/ports/time.ts'
import type { RowShape } from '../src/text/rows.ts'
import {
  type ClusterSession,
  lookAtCluster,
  refuseOperands,
  STORAGE_MS_MAX,
  withCluster,
} from './cluster-shared.ts'
import { type ClusterFacts, findTroubles } from './cluster-trouble.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { askOffsets } from './topics-shared.ts'
import { Unanswered } from './unanswered.ts'

const shape: RowShape = {
  kind: 'trouble',
  columns: ['STATE', 'CHECK', 'TARGET', 'FINDING', 'CURE'],
}

/** Long enough for a follower to fetch something. */
const PAUSE_MS = 1500

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cluster doctor',
  summary: 'Find what is wrong with the cluster, and say what to do',
  description: [
    'Looks at the metadata store and the controller, at brokers that are down or do not answer at the address they advertise, at partitions without a leader, under min.insync.replicas or not in sync (and whether they catch up), at disks, clocks and versions, at settings that stop writing when one broker restarts. One line for each finding, with a cure.',
    'STATE: crit: something does not work; warn: something may soon not; note: it could be better, and does not count for the exit code.',
  ],
  operands: [],
  options: rowOptions,
  columns: shape.columns,
  examples: [
    { line: 'stream cluster doctor' },
    { line: 'stream cluster doctor --json | jq -r .cure' },
  ],
  exits: [[1, 'something is wrong']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  refuseOperands(args)
  return withCluster(deps, args, async (session) => {
    const troubles = findTroubles(await gatherFacts(deps, session))
    const rows = troubles.map((row) => [row.state, row.check, row.target, row.finding, row.cure])
    await printRows(deps, args.flags, shape, rows)
    if (rows.length === 0 && deps.console.wantsSummary) deps.console.warn('nothing is wrong')
    return troubles.every(({ state }) => state === 'note') ? 0 : 1
  })
}

async function gatherFacts(deps: CommandDeps, session: ClusterSession): Promise<ClusterFacts> {
  const { admin, cluster, broker } = session
  const view = await lookAtCluster(session)
  const liveIds = new Set(
    view.brokers.filter(({ state }) => state === 'live').map(({ nodeId }) => nodeId),
  )
  const live = view.overview.brokers.filter(({ nodeId }) => liveIds.has(nodeId))
  const probes = await cluster.probe(live, STORAGE_MS_MAX)
  const reached = probes.filter(({ error }) => error === undefined).map(({ nodeId }) => nodeId)
  const storage = await cluster.storage(reached, STORAGE_MS_MAX)
  const partitions = view.topics.flatMap((topic) => topic.partitions)
  const isBehind = partitions.some(isUnderReplicated)
  if (isBehind) await sleep(deps.time, PAUSE_MS)
  const later = isBehind ? await cluster.storage(reached, STORAGE_MS_MAX) : []
  const unanswered = new Unanswered()
  const led = view.topics.map((topic) => ({
    ...topic,
    partitions: topic.partitions.filter(isReadable(reached)),
  }))
  const wanted = { wantsTimestamp: true, unanswered }
  const latest = await askOffsets(admin, led, 'maxTimestamp', wanted)
  const latestMs = new Map(
    led.map(({ name, partitions: rows }) => [
      name,
      Math.max(-1, ...rows.map(({ partition }) => latest(name, partition) ?? -1)),
    ]),
  )
  return {
    view,
    probes,
    storage,
    later,
    pauseMs: PAUSE_MS,
    introductions: await cluster.introductions(reached, STORAGE_MS_MAX),
    latestMs,
    unanswered: unanswered.groups,
    nowMs: deps.time.wallMs(),
    isLocal: broker.scheme === 'ipc' || /:\/\/(localhost|127\.|\[::1\])/.test(broker.address),
  }
}

/** Whether its leader can be asked from here. */
function isReadable(reached: readonly number[]): (row: { readonly leaderId: number }) => boolean {
  return ({ leaderId }) => reached.includes(leaderId)
}
