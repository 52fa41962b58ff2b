/** `stream cluster forget`: takes brokers that are gone for good out of the cluster; asks. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import { type ClusterView, findBroker, lookAtCluster, withCluster } from './cluster-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import { TargetFailures } from './topics-shared.ts'

const shape: RowShape = { kind: 'broker', columns: ['ID', 'ADDRESS', 'RACK'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cluster forget',
  summary: 'Take brokers that are gone for good out of the cluster',
  description: [
    'For brokers that will not come back: they are no longer listed, and nothing waits for them. A broker has to be down, and to hold no replicas: take them off it with stream cluster drain. Asks first.',
    'A daemon that is started again with such an id joins as a new broker.',
  ],
  operands: [{ name: 'BROKER', isRepeatable: true }],
  options: [yesOption, ...changeOptions, ...rowOptions],
  columns: shape.columns,
  examples: [
    { line: 'stream cluster drain 3 -y --wait && stream cluster forget 3 -y' },
    { line: 'stream cluster forget 3 --dry-run' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such broker'],
    [8, 'it is alive, or still holds replicas'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const nodeIds = readBrokers(args)
  return withCluster(deps, args, async (session) => {
    const failures = new TargetFailures(deps)
    const view = await lookAtCluster(session)
    const rows: Row[] = []
    for (const nodeId of nodeIds) {
      const { address, rack } = findBroker(view, nodeId, false)
      checkGone(view, nodeId)
      rows.push([nodeId, address, rack])
    }
    if (flags.has('dry-run')) {
      await printRows(deps, flags, shape, rows)
      return 0
    }
    const names = `broker${nodeIds.length > 1 ? 's' : ''} ${nodeIds.join(', ')}`
    if (!(await confirm(deps, flags, `forget ${names} for good?`))) {
      deps.console.warn('nothing forgotten')
      return 1
    }
    const forgotten: Row[] = []
    for (const [index, nodeId] of nodeIds.entries()) {
      try {
        await session.cluster.unregister(nodeId)
        forgotten.push(rows[index] as Row)
      } catch (error) {
        if (!(error instanceof StreamError)) throw error
        failures.add(error, `broker ${nodeId}`)
      }
    }
    await printRows(deps, flags, shape, forgotten)
    return failures.exit
  })
}

function readBrokers({ operands }: CommandArgs): number[] {
  if (operands.length === 0) {
    throw new UsageError('BROKER is missing', 'try: stream cluster forget --help')
  }
  return [
    ...new Set(
      operands.map((text) => {
        if (!/^\d{1,9}$/.test(text)) throw new UsageError(`${text}: must be a broker id`)
        return Number(text)
      }),
    ),
  ]
}

/** @throws StreamError CONFLICT: it holds replicas, or lives */
function checkGone(view: ClusterView, nodeId: number): void {
  const target = `broker ${nodeId}`
  const held = view.topics
    .flatMap(({ partitions }) => partitions)
    .filter(({ replicas }) => replicas.includes(nodeId)).length
  if (held > 0) {
    throw new StreamError('CONFLICT', `${target} holds ${held} replicas`, {
      target,
      hint: `take them off it first: stream cluster drain ${nodeId} --wait`,
    })
  }
  if (findBroker(view, nodeId, false).state !== 'live') return
  throw new StreamError('CONFLICT', `${target} is alive`, {
    target,
    hint: 'stop it first: stream daemon stop',
  })
}
