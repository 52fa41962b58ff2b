/** `stream cluster drain`: takes the lead and the replicas off a broker; prints its plan and asks. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { PartitionName } from '../src/client/cluster-admin.ts'
import {
  isMoved,
  type PlannedPartition,
  planDemotion,
  planReplicas,
} from '../src/client/replica-plan.ts'
import { sleep } from '../src/ports/time.ts'
import { forgetDrain, keepDrain, latestDrain } from './cluster-drain-log.ts'
import {
  agree,
  beginMoves,
  checkArrived,
  checkFit,
  checkIdle,
  moveShape,
  waitForMoves,
} from './cluster-move.ts'
import {
  type ClusterSession,
  type ClusterView,
  findBroker,
  lookAtCluster,
  planPartitions,
  STORAGE_MS_MAX,
  sizeTable,
  withCluster,
} from './cluster-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { TargetFailures } from './topics-shared.ts'

const POLL_MS = 250

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cluster drain',
  summary: 'Take leaders and replicas off a broker',
  description: [
    'Before a broker is taken away: its partitions get other leaders, then their replicas move to the brokers with the least, into other racks where there are such. Prints the plan and asks.',
    '--leaders-only hands over the lead and leaves the replicas there, for a restart: clients meet no failed request. A broker that leads nothing is safe to stop when no partition is under-replicated.',
    '--undo puts back what the drains of this broker have moved since the last --undo; the broker has to live, and its disk must have room.',
    'OLD and NEW are the replicas, the preferred leader first; BYTES is what has to be copied.',
  ],
  operands: [{ name: 'BROKER' }],
  options: [
    { long: 'leaders-only', help: 'only the lead, not the replicas' },
    { long: 'undo', help: 'put back what was moved off it' },
    { long: 'wait', help: 'return when the broker is rid of them' },
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: moveShape.columns,
  examples: [
    { line: 'stream cluster drain 3 --leaders-only -y --wait && ssh broker3 reboot' },
    { line: 'stream cluster drain 3 --dry-run' },
    { line: 'stream cluster drain 3 --undo -y --wait' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such broker, or with --undo nothing that was moved off it'],
    [7, 'with --wait and --timeout: not done by then; the moves go on'],
    [8, 'the replicas would not fit on the others, or a move is under way already'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  flags.exclusive('leaders-only', 'undo')
  const nodeId = readBroker(args)
  return withCluster(deps, args, async (session) => {
    const failures = new TargetFailures(deps)
    const isUndo = flags.has('undo')
    const told = new Set<string>()
    const tell: Tell = (topic, error) => {
      if (!told.has(topic)) failures.add(error, topic)
      told.add(topic)
    }
    const planFor = (view: ClusterView) =>
      isUndo
        ? planUndo(deps, session, view, nodeId)
        : planDrain(session, view, nodeId, flags.has('leaders-only'), tell)
    let view = await lookAtCluster(session)
    findBroker(view, nodeId, isUndo)
    const touched = view.moves?.filter(({ replicas }) => replicas.includes(nodeId)) ?? []
    checkIdle(touched, touched)
    let moves = await planFor(view)
    if (isUndo) await refuseFullDisk(session, nodeId)
    checkIdle(moves, view.moves)
    const leads = isUndo ? 0 : ledInTurn(view, nodeId).length
    if (!(await agree(deps, flags, moves, isUndo ? 'move back' : `drain broker ${nodeId}`))) {
      const isNothing = moves.length === 0 && leads === 0
      if (flags.has('dry-run') || isNothing) return failures.exit
      if (moves.length > 0) {
        deps.console.warn('nothing moved')
        return 1
      }
    }
    if (!isUndo && moves.length > 0) {
      await keepDrain(deps, session.broker, nodeId, moves)
      // The state topic may have been made just now, on this very broker.
      view = await lookAtCluster(session)
      moves = await planFor(view)
    }
    const begun = await beginMoves(deps, flags, session, moves, failures)
    const ready = begun
      .filter(isReady)
      .filter(({ replicas, planned }) => planned[0] !== replicas[0])
    const led = isUndo ? [] : ledInTurn(view, nodeId)
    const refused = await elect(session, [...led, ...ready], failures)
    if (flags.has('wait')) {
      await waitForMoves(deps, session, begun)
      if (isUndo) await elect(session, begun, failures)
      // Nothing says that those will ever have another leader; they are told.
      const awaited = [...led, ...begun].filter((row) => !refused.has(nameOf(row)))
      if (!isUndo) await waitForLeads(deps, session, nodeId, awaited)
      await checkArrived(session, begun, failures)
    }
    if (isUndo && failures.exit === 0) await forgetDrain(deps, session.broker, nodeId)
    return failures.exit
  })
}

/** It would take no records for what it leads, and could copy nothing. @throws StreamError CONFLICT */
async function refuseFullDisk({ cluster }: ClusterSession, nodeId: number): Promise<void> {
  const { state } = (await cluster.introductions([nodeId], STORAGE_MS_MAX)).get(nodeId) ?? {}
  if (state !== 'DISK_FULL') return
  throw new StreamError(
    'CONFLICT',
    `broker ${nodeId}: its disk is still full: it would take no records for what it led; nothing moved`,
    { hint: `make room there first: stream cluster doctor; stream explain DISK_FULL` },
  )
}

type Tell = (topic: string, error: StreamError) => void

function readBroker({ operands }: CommandArgs): number {
  const [text, ...more] = operands
  if (text === undefined || more.length > 0) {
    throw new UsageError(
      text === undefined ? 'BROKER is missing' : `unexpected argument ${more[0]}`,
      'try: stream cluster drain --help',
    )
  }
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`${text}: must be a broker id`)
  return Number(text)
}

/**
 * @param tell  of partitions that can have no other leader
 * @throws StreamError CONFLICT where the replicas do not fit on the other brokers
 */
async function planDrain(
  { cluster }: ClusterSession,
  view: ClusterView,
  nodeId: number,
  isLeadersOnly: boolean,
  tell: Tell,
): Promise<PlannedPartition[]> {
  const others = view.brokers.filter(
    (broker) => broker.state === 'live' && broker.nodeId !== nodeId,
  )
  const storage = await cluster.storage(
    view.brokers.filter(({ state }) => state === 'live').map((broker) => broker.nodeId),
    STORAGE_MS_MAX,
  )
  const all = planPartitions(view.topics, sizeTable(storage))
  if (isLeadersOnly) {
    const planned = planDemotion(all, nodeId)
    for (const [topic, stuck] of stuckByTopic(planned)) tell(topic, nobodyElse(topic, stuck))
    return planned.filter(isMoved)
  }
  const partitions = all.filter(({ replicas }) => replicas.includes(nodeId))
  const factor = Math.max(0, ...partitions.map(({ replicas }) => replicas.length))
  if (factor > others.length) {
    const widest = partitions.find(({ replicas }) => replicas.length === factor)
    throw new StreamError(
      'CONFLICT',
      `${widest?.topic}: ${factor} replicas do not fit on the ${others.length} other brokers that live`,
      { hint: 'add a broker, or lower the replicas: stream cluster reassign --replicas' },
    )
  }
  const planned = planReplicas({
    brokers: others,
    partitions,
    others: all.filter(({ replicas }) => !replicas.includes(nodeId)),
    balances: false,
  })
  checkFit(planned, storage)
  return planned
}

function stuckByTopic(planned: readonly PlannedPartition[]): Map<string, number[]> {
  const stuck = new Map<string, number[]>()
  for (const move of planned) {
    if (isMoved(move)) continue
    stuck.set(move.topic, [...(stuck.get(move.topic) ?? []), move.partition])
  }
  return stuck
}

function nobodyElse(topic: string, partitions: readonly number[]): StreamError {
  const list = partitions.join(', ')
  return new StreamError(
    'CONFLICT',
    `${topic}: partition${partitions.length > 1 ? 's' : ''} ${list}: no other replica in sync could lead`,
    { target: topic, hint: 'give it more replicas: stream cluster reassign --replicas 3' },
  )
}

/** @throws StreamError NAME_UNKNOWN where nothing was moved off it */
async function planUndo(
  deps: CommandDeps,
  { broker, cluster }: ClusterSession,
  view: ClusterView,
  nodeId: number,
): Promise<PlannedPartition[]> {
  const former = new Map(
    (await latestDrain(deps, broker, nodeId)).map((row) => [`${row.topic}/${row.partition}`, row]),
  )
  if (former.size === 0) {
    const target = `broker ${nodeId}`
    const words = `${target}: nothing was moved off it by stream cluster drain`
    throw new StreamError('NAME_UNKNOWN', words, { target })
  }
  const live = view.brokers.filter(({ state }) => state === 'live').map((row) => row.nodeId)
  const all = planPartitions(view.topics, sizeTable(await cluster.storage(live, STORAGE_MS_MAX)))
  const planned = all.flatMap((row): PlannedPartition[] => {
    const before = former.get(`${row.topic}/${row.partition}`)
    return before === undefined ? [] : [{ ...row, planned: before.replicas }]
  })
  for (const id of new Set(planned.flatMap((row) => row.planned))) findBroker(view, id, true)
  return planned.filter(isMoved)
}

/** What it leads though another replica comes first. */
function ledInTurn(view: ClusterView, nodeId: number): PartitionName[] {
  return view.topics.flatMap(({ name: topic, partitions }) =>
    partitions
      .filter((row) => row.leaderId === nodeId && row.replicas[0] !== nodeId)
      .map(({ partition }) => ({ topic, partition })),
  )
}

/**
 * The lead goes to who comes first now, without waiting for what has to be copied.
 * @returns names of those that could not be given to it
 */
async function elect(
  { cluster }: ClusterSession,
  partitions: readonly PartitionName[],
  failures: TargetFailures,
): Promise<ReadonlySet<string>> {
  const names = partitions.map(({ topic, partition }) => ({ topic, partition }))
  const refused = new Set<string>()
  for (const { topic, partition, error } of await cluster.electLeaders('preferred', names)) {
    if (error === undefined) continue
    refused.add(nameOf({ topic, partition }))
    failures.add(error, topic)
  }
  return refused
}

function nameOf({ topic, partition }: PartitionName): string {
  return `${topic}/${partition}`
}

/** A new first replica that is still being copied will lead by itself, once it is there and the others have gone. */
function isReady({ planned, inSync }: PlannedPartition): boolean {
  return planned[0] !== undefined && (inSync?.includes(planned[0]) ?? true)
}

/** Until it leads none of these, which others can lead. */
async function waitForLeads(
  deps: CommandDeps,
  { admin }: ClusterSession,
  nodeId: number,
  partitions: readonly PartitionName[],
): Promise<void> {
  const names = [...new Set(partitions.map(({ topic }) => topic))]
  for (;;) {
    const topics = new Map(
      (names.length === 0 ? [] : await admin.describeTopics(names)).map((row) => [row.name, row]),
    )
    const isLed = ({ topic, partition }: PartitionName): boolean =>
      topics.get(topic)?.partitions[partition]?.leaderId === nodeId
    if (!partitions.some(isLed)) return
    await sleep(deps.time, POLL_MS)
  }
}
