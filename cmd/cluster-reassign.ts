/** `stream cluster reassign`: moves partitions to other brokers; prints its plan and asks. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { PartitionName } from '../src/client/cluster-admin.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import { isMoved, type PlannedPartition, planReplicas } from '../src/client/replica-plan.ts'
import { formatReplicaFile, parseReplicaFile } from './cluster-file.ts'
import {
  agree,
  beginMoves,
  checkArrived,
  checkFit,
  checkIdle,
  moveDisplay,
  moveShape,
  waitForMoves,
} from './cluster-move.ts'
import {
  type ClusterSession,
  type ClusterView,
  findBroker,
  lookAtCluster,
  parseBrokerIds,
  planPartitions,
  refuseOperands,
  STORAGE_MS_MAX,
  sizeTable,
  withCluster,
} from './cluster-shared.ts'
import { liftLimits, limitMoves } from './cluster-throttle.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import {
  type CommandSpec,
  changeOptions,
  regexOption,
  rowOptions,
  yesOption,
} from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows, printText } from './row-output.ts'
import { findTopics, TargetFailures } from './topics-shared.ts'
import { readWholeInput } from './whole-input.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cluster reassign',
  summary: 'Move partitions to other brokers, or change how many replicas they have',
  description: [
    'Without --replicas and --from-file the replicas and the preferred leaders of the topics are spread evenly over the brokers, topic by topic, over racks too, with as little moved as that takes. --replicas alone adds or takes away replicas and moves no other. Prints the plan and asks; the leaders of what is copied serve on meanwhile.',
    'OLD and NEW are the replicas, the preferred leader first; BYTES is what has to be copied.',
    '--wait without -y and without one of --brokers, --replicas, --from-file and --rate plans nothing: it waits for what is on its way. A limit of --rate stays until the moves are done and --wait has lifted it.',
    '--cancel goes back to the replicas of before; of them those come first that were to stay, so the leads may be uneven then: the same line without --cancel spreads them again.',
    'FILE has the form of Kafka: {"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[1,2,3]}]}.',
  ],
  operands: [],
  options: [
    { long: 'topics', argument: 'GLOB', isRepeatable: true, help: 'these topics; internal ones by a pattern that begins with __' },
    { long: 'brokers', argument: 'LIST', help: 'the brokers that shall have them: 1,2,4; default all that live' },
    { long: 'replicas', argument: 'N', help: 'how many replicas of each partition' },
    { long: 'from-file', argument: 'FILE', help: 'to where FILE says' },
    { long: 'export', argument: 'FILE', help: 'only write where the partitions are now' },
    { long: 'rate', argument: 'R', help: 'copy no faster than this at each broker: 10MiB/s' },
    { long: 'wait', help: 'return when all is moved' },
    { long: 'cancel', help: 'go back from moves that are under way' },
    regexOption,
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: moveShape.columns,
  examples: [
    { line: "stream cluster reassign --topics 'orders*' --brokers 1,2,4 --dry-run" },
    { line: 'stream cluster reassign --topics orders --replicas 3 --rate 20MiB/s --wait -y' },
    { line: "stream cluster reassign --topics '*' --cancel -y" },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such topic or broker'],
    [7, 'with --wait and --timeout: not done by then; the moves go on'],
    [8, 'the replicas would not fit, a broker does not live, or a move is under way already'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  refuseOperands(args)
  const { flags } = args
  checkFlags(flags)
  return withCluster(deps, args, async (session) => {
    const failures = new TargetFailures(deps)
    const view = await lookAtCluster(session)
    const topics = await chosenTopics(session, args, failures)
    if (flags.has('cancel')) return cancel(deps, flags, session, view, topics, failures)
    if (flags.has('export')) return writeFile(deps, flags, topics, failures)
    const isOnlyWait = flags.has('wait') && !isPlanned(flags)
    // Where a partition is on its way there is nothing to plan from.
    if (!isOnlyWait) checkIdle((topics ?? []).flatMap(partitionNames), view.moves)
    const planned = isOnlyWait ? [] : await plan(deps, flags, session, view, topics)
    const moves = planned.filter(isMoved)
    checkIdle(moves, view.moves)
    if (!isOnlyWait && !(await agree(deps, flags, moves, 'move'))) {
      if (moves.length === 0 || flags.has('dry-run')) return failures.exit
      deps.console.warn('nothing moved')
      return 1
    }
    const rate = flags.rate('rate')
    if (rate !== undefined) await limitMoves(session, moves, rate.perSecond)
    const begun = await beginMoves(deps, flags, session, moves, failures)
    if (!flags.has('wait')) return failures.exit
    const names = topics?.map(({ name }) => name) ?? begun.map(({ topic }) => topic)
    const running = view.moves?.filter(({ topic }) => names.includes(topic)) ?? []
    await waitForMoves(deps, session, isOnlyWait ? running : begun)
    await liftLimits(session, names)
    await checkArrived(session, begun, failures)
    return failures.exit
  })
}

function partitionNames({ name, partitions }: TopicInfo): PartitionName[] {
  return partitions.map(({ partition }) => ({ topic: name, partition }))
}

function isPlanned(flags: Flags): boolean {
  const ofPlans = ['brokers', 'replicas', 'from-file', 'rate', 'dry-run', 'yes']
  return ofPlans.some((name) => flags.has(name))
}

function checkFlags(flags: Flags): void {
  flags.exclusive('cancel', 'export', 'from-file')
  flags.exclusive('from-file', 'topics')
  for (const mode of ['cancel', 'export', 'from-file']) {
    for (const other of ['brokers', 'replicas']) flags.exclusive(mode, other)
  }
  for (const mode of ['cancel', 'export']) {
    for (const other of ['rate', 'wait']) flags.exclusive(mode, other)
  }
  if (!flags.has('topics') && !flags.has('from-file')) {
    throw new UsageError('give --topics GLOB or --from-file FILE')
  }
  const rate = flags.rate('rate')
  if (rate?.unit === 'records') throw new UsageError('--rate: must be bytes, such as 10MiB/s')
  if (flags.wholeNumber('replicas') === 0) throw new UsageError('--replicas 0: at least 1')
}

async function chosenTopics(
  { admin }: ClusterSession,
  args: CommandArgs,
  failures: TargetFailures,
): Promise<readonly TopicInfo[] | undefined> {
  const operands = args.flags.all('topics')
  if (operands.length === 0) return undefined
  return findTopics(admin, { ...args, operands }, failures)
}

/** @throws StreamError NAME_UNKNOWN, CONFLICT; what reading the file may end with */
async function plan(
  deps: CommandDeps,
  flags: Flags,
  { cluster }: ClusterSession,
  view: ClusterView,
  topics: readonly TopicInfo[] | undefined,
): Promise<readonly PlannedPartition[]> {
  const live = view.brokers.filter(({ state }) => state === 'live')
  const storage = await cluster.storage(
    live.map(({ nodeId }) => nodeId),
    STORAGE_MS_MAX,
  )
  const bytesOf = sizeTable(storage)
  const all = planPartitions(view.topics, bytesOf)
  let planned: readonly PlannedPartition[]
  const file = flags.text('from-file')
  if (file !== undefined) {
    const text = await readWholeInput(deps, file)
    planned = parseReplicaFile(text, file, all)
    const ids = new Set(planned.flatMap((row) => row.planned))
    for (const nodeId of ids) findBroker(view, nodeId, true)
  } else {
    const ids = flags.text('brokers')
    const brokers =
      ids === undefined
        ? live
        : parseBrokerIds(ids, '--brokers').map((nodeId) => findBroker(view, nodeId, true))
    const names = new Set(topics?.map(({ name }) => name))
    const partitions = all.filter(({ topic }) => names.has(topic))
    const replicas = flags.wholeNumber('replicas')
    const factor = Math.max(replicas ?? 0, ...partitions.map((row) => row.replicas.length))
    const needed = replicas ?? factor
    if (needed > brokers.length) throw tooFewBrokers(needed, brokers.length)
    planned = planReplicas({
      brokers,
      partitions,
      others: all.filter(({ topic }) => !names.has(topic)),
      balances: ids !== undefined || replicas === undefined,
      ...(replicas === undefined ? {} : { replicas }),
    })
  }
  checkFit(planned, storage)
  return planned
}

function tooFewBrokers(needed: number, there: number): StreamError {
  return new StreamError('CONFLICT', `${needed} replicas do not fit on ${there} brokers`, {
    hint: 'give more brokers, or fewer --replicas',
  })
}

async function cancel(
  deps: CommandDeps,
  flags: Flags,
  { cluster }: ClusterSession,
  view: ClusterView,
  topics: readonly TopicInfo[] | undefined,
  failures: TargetFailures,
): Promise<number> {
  const names = new Set(topics?.map(({ name }) => name))
  const running = (view.moves ?? []).filter(({ topic }) => names.has(topic))
  const back = running.map(({ topic, partition, replicas, adding }) => {
    // Those that come are given up; those that should go stay.
    const former = replicas.filter((nodeId) => !adding.includes(nodeId))
    return [topic, partition, replicas, former, 0] as const
  })
  if (running.length === 0 || flags.has('dry-run')) {
    await printRows(deps, flags, moveShape, back, moveDisplay)
    return failures.exit
  }
  const question = `go back from the moves of ${running.length} partitions?`
  if (!(await confirm(deps, flags, question, 'y', { shape: moveShape, rows: back }))) {
    deps.console.warn('nothing cancelled')
    return 1
  }
  const orders = running.map(({ topic, partition }) => ({ topic, partition, replicas: null }))
  const rows: (typeof back)[number][] = []
  for (const [index, { topic, error }] of (await cluster.reassign(orders)).entries()) {
    const row = back[index]
    if (error !== undefined) failures.add(error, topic)
    else if (row !== undefined) rows.push(row)
  }
  await printRows(deps, flags, moveShape, rows, moveDisplay)
  return failures.exit
}

async function writeFile(
  deps: CommandDeps,
  flags: Flags,
  topics: readonly TopicInfo[] | undefined,
  failures: TargetFailures,
): Promise<number> {
  const output = deps.stdio.openOutput(flags.text('export') ?? '-')
  await printText(output, formatReplicaFile(topics ?? []))
  if (output !== deps.stdio.output) output.close()
  return failures.exit
}
