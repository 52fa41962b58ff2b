/** `stream cluster brokers`. */

import type { Row, RowShape } from '../src/text/rows.ts'
import {
  lookAtCluster,
  refuseOperands,
  STORAGE_MS_MAX,
  warnIfStale,
  withCluster,
} from './cluster-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import type { TableDisplay } from './table-fit.ts'

const shape: RowShape = {
  kind: 'broker',
  columns: ['ID', 'ADDRESS', 'RACK', 'STATE', 'LEADS', 'REPLICAS', 'BYTES'],
}
const display: TableDisplay = { sizes: ['BYTES'], shrink: ['ADDRESS'], drop: ['RACK'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cluster brokers',
  summary: 'List the brokers of the cluster',
  description: [
    'LEADS counts the partitions that a broker leads, REPLICAS those that it has, internal ones too; BYTES is what they take there, as the broker itself says.',
    'STATE: live; silent: live as far as the cluster knows, but it does not answer from here; fenced: registered, but taking no part, as a broker that is down; gone: has replicas, and is not registered. Kafka before 4.0 does not list fenced brokers, so they are gone there.',
  ],
  operands: [],
  options: [{ long: 'fail-empty', help: 'exit 3 if none is live' }, ...rowOptions],
  columns: shape.columns,
  examples: [
    { line: 'stream cluster brokers' },
    { line: `stream cluster brokers --json | jq -r 'select(.state != "live").id'` },
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  refuseOperands(args)
  return withCluster(deps, args, async (session) => {
    const view = await lookAtCluster(session)
    const live = view.brokers.filter(({ state }) => state === 'live')
    const storage = await session.cluster.storage(
      live.map(({ nodeId }) => nodeId),
      STORAGE_MS_MAX,
    )
    const bytes = new Map<number, number>()
    const silent = new Set<number>()
    for (const { nodeId, error, directories } of storage) {
      if (error !== undefined) {
        deps.console.warn(`broker ${nodeId}: BYTES unknown: ${error.message}`)
        if (error.code === 'UNREACHABLE' || error.code === 'TIMED_OUT') silent.add(nodeId)
      } else {
        const sizes = directories.flatMap(({ partitions }) => partitions.map((row) => row.bytes))
        bytes.set(
          nodeId,
          sizes.reduce((sum, each) => sum + each, 0),
        )
      }
    }
    const partitions = view.topics.flatMap((topic) => topic.partitions)
    const rows = view.brokers.map(
      ({ nodeId, address, rack, state }): Row => [
        nodeId,
        address,
        rack,
        silent.has(nodeId) ? 'silent' : state,
        partitions.filter(({ leaderId }) => leaderId === nodeId).length,
        partitions.filter(({ replicas }) => replicas.includes(nodeId)).length,
        bytes.get(nodeId) ?? null,
      ],
    )
    await printRows(deps, args.flags, shape, rows, display)
    warnIfStale(deps, view)
    return live.length === silent.size && args.flags.has('fail-empty') ? 3 : 0
  })
}
