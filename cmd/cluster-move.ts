/** Moving replicas, as `stream cluster reassign` and `drain` do it: plan, fit, order, wait. */

import { StreamError } from '../src/base/errors.ts'
import type { BrokerStorage, PartitionName, Reassignment } from '../src/client/cluster-admin.ts'
import { addedReplicas, type PlannedPartition } from '../src/client/replica-plan.ts'
import { sleep } from '../src/ports/time.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import { formatSize } from '../src/text/units.ts'
import type { ClusterSession } from './cluster-shared.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import type { TableDisplay } from './table-fit.ts'
import type { TargetFailures } from './topics-shared.ts'

export const moveShape: RowShape = {
  kind: 'move',
  columns: ['TOPIC', 'PARTITION', 'OLD', 'NEW', 'BYTES'],
}
export const moveDisplay: TableDisplay = { sizes: ['BYTES'], shrink: ['TOPIC'] }

const POLL_MS = 250
const TOLD_MS = 5000

/** BYTES is what has to be copied. */
export function moveRow(move: PlannedPartition): Row {
  const { topic, partition, replicas, planned, bytes } = move
  return [topic, partition, replicas, planned, addedReplicas(move).length * bytes]
}

function bytesMoved(moves: readonly PlannedPartition[]): number {
  return moves.reduce((sum, move) => sum + addedReplicas(move).length * move.bytes, 0)
}

/** @throws StreamError CONFLICT naming the broker whose disk is too small for what it would get; what a broker could not be asked for */
export function checkFit(
  moves: readonly PlannedPartition[],
  storage: readonly BrokerStorage[],
): void {
  const wanted = new Map<number, number>()
  for (const move of moves) {
    for (const nodeId of addedReplicas(move)) {
      wanted.set(nodeId, (wanted.get(nodeId) ?? 0) + move.bytes)
    }
  }
  for (const { nodeId, directories, error } of storage) {
    const needed = wanted.get(nodeId) ?? 0
    if (needed > 0 && error !== undefined) throw error
    let room = 0
    for (const { usableBytes } of directories) room += usableBytes ?? Number.POSITIVE_INFINITY
    if (needed === 0 || needed <= room) continue
    const target = `broker ${nodeId}`
    throw new StreamError(
      'CONFLICT',
      `${target}: ${formatSize(needed)} do not fit into ${formatSize(room)}`,
      { target, hint: 'give more brokers, or fewer topics at a time' },
    )
  }
}

/** @throws StreamError CONFLICT where one of them is being moved already */
export function checkIdle(
  moves: readonly PartitionName[],
  running: readonly Reassignment[] | undefined,
): void {
  const names = new Set(running?.map(nameOf))
  const busy = moves.filter((move) => names.has(nameOf(move)))
  const [first] = busy
  if (first === undefined) return
  const target = `${first.topic} partition ${first.partition}`
  const more = busy.length > 1 ? ` and ${busy.length - 1} more` : ''
  throw new StreamError(
    'CONFLICT',
    `${target}${more}: being moved already (REASSIGNMENT_IN_PROGRESS)`,
    {
      target,
      kafkaError: 60,
      hint: `wait: stream cluster reassign --topics ${first.topic} --wait; or go back: --cancel`,
    },
  )
}

/** Asks; with --dry-run prints the plan instead. @returns false: stop here */
export async function agree(
  deps: CommandDeps,
  flags: Flags,
  moves: readonly PlannedPartition[],
  what: string,
): Promise<boolean> {
  const rows = moves.map(moveRow)
  if (flags.has('dry-run')) {
    await printRows(deps, flags, moveShape, rows, moveDisplay)
    return false
  }
  if (rows.length === 0) return false
  const question = `${what}: ${moves.length} partitions, ${formatSize(bytesMoved(moves))} to copy?`
  return confirm(deps, flags, question, 'y', { shape: moveShape, rows })
}

/** Gives the orders and prints those that were taken. */
export async function beginMoves(
  deps: CommandDeps,
  flags: Flags,
  { cluster }: ClusterSession,
  moves: readonly PlannedPartition[],
  failures: TargetFailures,
): Promise<PlannedPartition[]> {
  const outcomes = await cluster.reassign(
    moves.map(({ topic, partition, planned }) => ({ topic, partition, replicas: planned })),
  )
  const begun: PlannedPartition[] = []
  for (const [index, { topic, error }] of outcomes.entries()) {
    const move = moves[index]
    if (error !== undefined) failures.add(error, topic)
    else if (move !== undefined) begun.push(move)
  }
  await printRows(deps, flags, moveShape, begun.map(moveRow), moveDisplay)
  return begun
}

/**
 * Returns when none of them is on its way any more.
 * @param wanted  undefined: all that are now
 */
export async function waitForMoves(
  deps: CommandDeps,
  { cluster }: ClusterSession,
  wanted: readonly PartitionName[] | undefined,
): Promise<void> {
  const names = wanted === undefined ? undefined : new Set(wanted.map(nameOf))
  let total = names?.size
  let toldMs = deps.time.monotonicMs()
  for (;;) {
    const left = (await cluster.reassignments()).filter(
      (move) => names === undefined || names.has(nameOf(move)),
    ).length
    total ??= left
    if (left === 0) return
    const nowMs = deps.time.monotonicMs()
    if (nowMs - toldMs >= TOLD_MS && deps.console.wantsSummary) {
      toldMs = nowMs
      deps.console.warn(`${Math.max(0, total - left)} of ${total} partitions moved`)
    }
    await sleep(deps.time, POLL_MS)
  }
}

/** Tells of those that did not end up where they should: somebody has changed or stopped the move. */
export async function checkArrived(
  { admin }: ClusterSession,
  moves: readonly PlannedPartition[],
  failures: TargetFailures,
): Promise<void> {
  const names = [...new Set(moves.map(({ topic }) => topic))]
  if (names.length === 0) return
  const topics = new Map((await admin.describeTopics(names)).map((topic) => [topic.name, topic]))
  for (const { topic, partition, planned } of moves) {
    const now = topics.get(topic)?.partitions[partition]?.replicas
    const isThere = now?.length === planned.length && planned.every((each) => now.includes(each))
    if (isThere) continue
    const target = `${topic} partition ${partition}`
    const error = new StreamError('CONFLICT', `${target}: the move was stopped or changed`, {
      target,
    })
    failures.add(error, target)
  }
}

function nameOf({ topic, partition }: PartitionName): string {
  return `${topic}/${partition}`
}
