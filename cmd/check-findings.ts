/** What `stream check` looks at: each look gives one finding, judged against a limit. */

import { isStreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import { isUnderMinInSync, isUnderReplicated } from '../src/client/partition-health.ts'
import type { AdminClient, ClusterAdminClient } from './clients.ts'
import { askMinInSync, ifUntold } from './cluster-shared.ts'
import type { DaemonState } from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import {
  findGroups,
  type GroupsSession,
  lagRows,
  oldestSeconds,
  sumLag,
  tellBehindEnd,
} from './groups-shared.ts'
import { askStoreContact, type StoreContact, storeContact } from './store-contact.ts'
import { askOffsets, findTopics, type TargetFailures } from './topics-shared.ts'
import { Unanswered } from './unanswered.ts'

export type CheckState = 'ok' | 'warn' | 'crit'

/** A broker that hangs keeps the others from being told no longer. */
const STATE_MS_MAX = 3000

export interface Finding {
  readonly state: CheckState
  /** `lag`, `unavailable` … */
  readonly check: string
  readonly target: string
  /** null: not known. */
  readonly value: number | string | null
  /** What it should not exceed, or should be. */
  readonly limit: number | string | null
}

/** From --warn, --crit and --inactive. */
export interface Limits {
  readonly warn: number | undefined
  readonly crit: number | undefined
  readonly inactiveMs: number | undefined
}

const noLimits: Limits = { warn: undefined, crit: undefined, inactiveMs: undefined }

/** Above a limit is worse than it; the limit that is shown is the one that was passed, or the lower one. */
export function judge(check: string, target: string, value: number, limits: Limits): Finding {
  const { warn, crit } = limits
  if (crit !== undefined && value > crit)
    return { state: 'crit', check, target, value, limit: crit }
  if (warn !== undefined && value > warn)
    return { state: 'warn', check, target, value, limit: warn }
  return { state: 'ok', check, target, value, limit: warn ?? crit ?? null }
}

export function daemonFindings(status: DaemonState): Finding[] {
  const target = status.addresses[0] ?? `pid ${status.pid}`
  const { state, damagedRanges, differingBatches } = status
  const isServing = state === 'RUNNING'
  return [
    { state: isServing ? 'ok' : 'crit', check: 'state', target, value: state, limit: 'RUNNING' },
    judge('damaged', target, damagedRanges, { ...noLimits, crit: 0 }),
    judge('differing', target, differingBatches, { ...noLimits, crit: 0 }),
    ...storeFindings(target, storeContact(status)),
  ]
}

/** A store that is the daemon's own is none to look at. */
function storeFindings(target: string, contact: StoreContact | undefined): Finding[] {
  if (contact === undefined) return []
  const { isLost, trouble } = contact
  const state = isLost ? 'crit' : trouble === undefined ? 'ok' : 'warn'
  return [{ state, check: 'store', target, value: trouble ?? 'answers', limit: null }]
}

/** Partitions of all topics, the internal ones too. */
export async function clusterFindings(
  admin: AdminClient,
  cluster: ClusterAdminClient,
  limits: Limits,
): Promise<Finding[]> {
  const { clusterId, brokers, controllerId } = await admin.describeCluster()
  const target = clusterId ?? '-'
  const states = await stateFindings(
    cluster,
    brokers.map(({ nodeId }) => nodeId),
  )
  const contact = await askStoreContact(admin)
  const topics = await admin.listTopics()
  const minInSync = await askMinInSync(admin, topics).catch(ifUntold)
  const partitions = topics.flatMap((topic) => topic.partitions)
  const unavailable = partitions.filter(({ leaderId }) => leaderId < 0).length
  const behind = partitions.filter(isUnderReplicated).length
  const hasController = brokers.some(({ nodeId }) => nodeId === controllerId)
  return [
    { state: 'ok', check: 'brokers', target, value: brokers.length, limit: null },
    ...states,
    {
      state: hasController ? 'ok' : 'crit',
      check: 'controller',
      target,
      value: hasController ? controllerId : null,
      limit: null,
    },
    judge('unavailable', target, unavailable, { ...limits, warn: undefined, crit: 0 }),
    judge('under_replicated', target, behind, {
      ...limits,
      warn: limits.warn ?? 0,
      crit: limits.crit,
    }),
    ...refusalFindings(target, topics, minInSync),
    ...storeFindings(target, contact),
  ]
}

/** Of brokers that cannot do all their work. One that tells nothing of itself is none of them. */
async function stateFindings(
  cluster: ClusterAdminClient,
  nodeIds: readonly number[],
): Promise<Finding[]> {
  const introductions = await cluster.introductions(nodeIds, STATE_MS_MAX)
  return nodeIds.flatMap((nodeId): Finding[] => {
    const value = introductions.get(nodeId)?.state ?? 'RUNNING'
    if (value === 'RUNNING') return []
    const state = value === 'STOPPING' ? 'warn' : 'crit'
    return [{ state, check: 'state', target: `broker ${nodeId}`, value, limit: 'RUNNING' }]
  })
}

/**
 * Partitions that take no records with acks=all. Their replicas out of sync alone are a warning.
 * @param minInSync  undefined: the broker does not tell
 */
function refusalFindings(
  target: string,
  topics: readonly TopicInfo[],
  minInSync: ReadonlyMap<string, number> | undefined,
): Finding[] {
  if (minInSync === undefined) return []
  const refusing = topics.flatMap(({ name, partitions }) =>
    partitions.filter((row) => isUnderMinInSync(row, minInSync.get(name) ?? 1)),
  )
  return [judge('under_min_isr', target, refusing.length, { ...noLimits, crit: 0 })]
}

/** @param args  the operands are names or globs of topics */
export async function topicFindings(
  deps: CommandDeps,
  admin: AdminClient,
  args: CommandArgs,
  limits: Limits,
  failures: TargetFailures,
): Promise<Finding[]> {
  const topics = await findTopics(admin, args, failures)
  const findings: Finding[] = []
  const { inactiveMs } = limits
  const unanswered = new Unanswered()
  const [latest, starts, ends] = await Promise.all([
    inactiveMs === undefined
      ? undefined
      : askOffsets(admin, topics, 'maxTimestamp', { wantsTimestamp: true, unanswered }),
    askOffsets(admin, topics, 'earliest', { unanswered }),
    askOffsets(admin, topics, 'latest', { isUncommitted: true, unanswered }),
  ])
  for (const { message } of unanswered.errors()) deps.console.warn(message)
  const minInSync = await askMinInSync(admin, topics).catch(ifUntold)
  for (const topic of topics) {
    const { name, partitions } = topic
    const none = { warn: undefined, inactiveMs: undefined }
    const silent = partitions.filter(({ partition }) => unanswered.has(name, partition)).length
    const unavailable = partitions.filter(({ leaderId }) => leaderId < 0).length + silent
    findings.push(judge('unavailable', name, unavailable, { ...none, crit: 0 }))
    const behind = partitions.filter(isUnderReplicated)
    findings.push(
      judge('under_replicated', name, behind.length, { ...none, warn: 0, crit: undefined }),
      ...refusalFindings(name, [topic], minInSync),
    )
    let span = 0
    for (const { partition } of partitions) {
      span += (ends(name, partition) ?? 0) - (starts(name, partition) ?? 0)
    }
    findings.push(
      silent === 0
        ? judge('span', name, span, limits)
        : { state: 'ok', check: 'span', target: name, value: null, limit: null },
    )
    if (inactiveMs === undefined) continue
    const latestMs = Math.max(
      -1,
      ...partitions.map(({ partition }) => latest?.(name, partition) ?? -1),
    )
    const age = latestMs < 0 ? null : Math.max(0, deps.time.wallMs() - latestMs)
    findings.push(inactivity(name, age, inactiveMs, true))
  }
  return findings
}

export async function groupFindings(
  deps: CommandDeps,
  session: GroupsSession,
  operands: readonly string[],
  limits: Limits,
  failures: TargetFailures,
): Promise<Finding[]> {
  const findings: Finding[] = []
  const unanswered = new Unanswered()
  for (const group of await findGroups(session.groups, operands, failures)) {
    const { groupId, members } = group
    const rows = await lagRows(deps, session, group, { wantsSeconds: true, unanswered })
    const lag = sumLag(rows)
    const silent = rows.filter(({ isUnanswered }) => isUnanswered).length
    findings.push({
      state: 'ok',
      check: 'members',
      target: groupId,
      value: members.length,
      limit: null,
    })
    findings.push(
      lag === null
        ? { state: 'ok', check: 'lag', target: groupId, value: null, limit: null }
        : judge('lag', groupId, lag, limits),
    )
    if (silent > 0) {
      findings.push(judge('unavailable', groupId, silent, { ...noLimits, crit: 0 }))
    }
    const behindEnd = rows.filter((row) => row.lag !== null && row.lag < 0).length
    if (behindEnd > 0) {
      findings.push(judge('behind_end', groupId, behindEnd, { ...noLimits, crit: 0 }))
      tellBehindEnd(deps, groupId, rows)
    }
    const { inactiveMs } = limits
    if (inactiveMs === undefined) continue
    const seconds = oldestSeconds(rows)
    findings.push(inactivity(groupId, seconds === null ? null : seconds * 1000, inactiveMs, false))
  }
  for (const { message } of unanswered.errors()) deps.console.warn(message)
  return findings
}

/** Age in whole seconds: of a topic's last record, of a group's oldest unread one. */
function inactivity(
  target: string,
  ageMs: number | null,
  inactiveMs: number,
  isUnknownBad: boolean,
): Finding {
  const isLate = ageMs === null ? isUnknownBad : ageMs > inactiveMs
  return {
    state: isLate ? 'crit' : 'ok',
    check: 'inactive',
    target,
    value: ageMs === null ? null : Math.floor(ageMs / 1000),
    limit: Math.floor(inactiveMs / 1000),
  }
}

export function isUnreachable(error: unknown): boolean {
  return (['BROKER_GONE', 'CONNECTION_LOST', 'UNREACHABLE'] as const).some((code) =>
    isStreamError(error, code),
  )
}
