/** What the verbs of `stream groups` share. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { GroupDescription } from '../src/client/group-admin.ts'
import type { GroupOffset, GroupPartition } from '../src/client/group-offsets.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import { type Broker, openBroker } from './broker.ts'
import type { AdminClient, GroupAdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { chooseTopics } from './topic-names.ts'
import type { TargetFailures } from './topics-shared.ts'
import { ANSWER_MS_MAX, type Unanswered } from './unanswered.ts'

export interface GroupsSession {
  readonly broker: Broker
  readonly admin: AdminClient
  readonly groups: GroupAdminClient
}

/** Opens the broker for one verb and closes it after. */
export async function withGroups(
  deps: CommandDeps,
  args: CommandArgs,
  use: (session: GroupsSession) => Promise<number>,
): Promise<number> {
  const broker = await openBroker(deps, args)
  try {
    const admin = await deps.clients.admin(broker.cluster)
    const groups = await deps.clients.groupAdmin(broker.cluster)
    return await use({ broker, admin, groups })
  } finally {
    broker.cluster.close()
  }
}

export function requireGroups({ operands }: CommandArgs, command: string): void {
  if (operands.length === 0) {
    throw new UsageError('GROUP is missing', `try: stream ${command} --help`)
  }
}

/** @throws UsageError unless there is exactly one */
export function oneGroup({ operands }: CommandArgs, command: string): string {
  const [group, ...more] = operands
  if (group === undefined || group === '') {
    throw new UsageError('GROUP is missing', `try: stream ${command} --help`)
  }
  if (more.length > 0) throw new UsageError(`${more[0]}: one GROUP is all`)
  return group
}

/** The groups that the arguments mean, existing ones only; what is unknown is told as a failure. */
export async function findGroups(
  groups: GroupAdminClient,
  operands: readonly string[],
  failures: TargetFailures,
): Promise<GroupDescription[]> {
  let known: string[] | undefined
  const listNames = async (): Promise<string[]> => {
    known ??= (await groups.list()).map(({ groupId }) => groupId)
    return known
  }
  const { names, empty } = await chooseTopics(operands, { isRegex: false }, listNames)
  const found: GroupDescription[] = []
  for (const name of names) {
    const description = await groups.describe(name)
    if (description === undefined) failures.add(unknownGroup(name, await listNames()), name)
    else found.push(description)
  }
  for (const pattern of empty) failures.add(unknownGroup(pattern, []), pattern)
  return found
}

/** @throws StreamError NAME_UNKNOWN */
export async function expectGroup(
  groups: GroupAdminClient,
  name: string,
): Promise<GroupDescription> {
  const description = await groups.describe(name)
  if (description !== undefined) return description
  throw unknownGroup(
    name,
    (await groups.list()).map(({ groupId }) => groupId),
  )
}

function unknownGroup(name: string, known: readonly string[]): StreamError {
  const nearest = nearestName(name, known)
  return new StreamError('NAME_UNKNOWN', `${name}: no such group (GROUP_ID_NOT_FOUND)`, {
    target: name,
    kafkaError: 69,
    hint:
      nearest === undefined
        ? 'to see what there is: stream groups list'
        : `did you mean ${nearest}?`,
  })
}

/** @throws StreamError CONFLICT that names the live members */
export function refuseLive({ groupId, members }: GroupDescription, what: string): void {
  if (members.length === 0) return
  const names = members.map((member) => `${member.instanceId ?? member.memberId} (${member.host})`)
  const shown = names.slice(0, 5).join(', ')
  const more = names.length > 5 ? ` and ${names.length - 5} more` : ''
  throw new StreamError(
    'CONFLICT',
    `${groupId}: has live members: ${shown}${more} (NON_EMPTY_GROUP)`,
    {
      target: groupId,
      kafkaError: 68,
      hint: `stop them, then ${what}`,
    },
  )
}

/** One partition that a group has committed, or that a member of it reads. */
export interface LagRow extends GroupPartition {
  /** null: nothing is committed. */
  readonly committed: number | null
  /** null: the topic is gone, or nobody answers for the partition. */
  readonly end: number | null
  /** null: not known; below 0: what is committed lies behind the end. */
  readonly lag: number | null
  /** Nobody answers for its end. */
  readonly isUnanswered: boolean
  /** A member is in it and has committed nothing: how many of its records are read only that member knows. */
  readonly isUntold: boolean
  /** Age of the oldest unread record; null: not known. */
  readonly ageMs: number | null
  readonly member: string | null
  readonly host: string | null
}

/**
 * @param options.wantsSeconds  costs a read of each partition with unread records
 * @param options.unanswered  takes the partitions that nobody answers for; those that it has are not asked for again
 */
export async function lagRows(
  deps: CommandDeps,
  { broker, admin, groups }: GroupsSession,
  group: GroupDescription,
  options: { readonly wantsSeconds: boolean; readonly unanswered: Unanswered },
): Promise<LagRow[]> {
  const { unanswered } = options
  const offsets = await groups.offsets(group.groupId)
  const committed = new Map(offsets.map((each) => [nameOf(each), each.offset]))
  const owners = new Map<string, { member: string; host: string }>()
  const partitions = new Map<string, GroupPartition>(offsets.map((each) => [nameOf(each), each]))
  for (const { memberId, instanceId, host, partitions: owned } of group.members) {
    for (const { topic, partitions: indexes } of owned) {
      for (const partition of indexes) {
        const name = nameOf({ topic, partition })
        owners.set(name, { member: instanceId ?? memberId, host })
        partitions.set(name, { topic, partition })
      }
    }
  }
  await addUncommitted(admin, partitions)
  const sorted = [...partitions.values()].sort(byPlace)
  const ends = await askPlaces(admin, sorted, 'latest', unanswered)
  const uncommitted = sorted.filter((each) => !committed.has(nameOf(each)))
  const starts = await askPlaces(admin, uncommitted, 'earliest', unanswered)
  const rows = sorted.map((each) => {
    const name = nameOf(each)
    const end = ends.get(name) ?? null
    const at = committed.get(name) ?? null
    const start = starts.get(name)
    const owner = owners.get(name)
    // Nobody has read it yet: all of it is unread. Where a member is in it only that member knows.
    const from = at ?? (owner === undefined ? start : undefined)
    const lag =
      end === null || from === undefined ? null : at === null ? Math.max(0, end - from) : end - at
    return {
      ...each,
      committed: at,
      end,
      lag,
      isUnanswered: unanswered.has(each.topic, each.partition),
      isUntold: owner !== undefined && at === null && start !== end,
      member: owner?.member ?? null,
      host: owner?.host ?? null,
    }
  })
  const ages = options.wantsSeconds ? await oldestUnread(deps, broker, rows) : new Map()
  return rows.map(({ topic, partition, ...row }) => {
    const age: number | undefined = ages.get(nameOf({ topic, partition }))
    return { topic, partition, ...row, ageMs: row.lag === 0 ? 0 : (age ?? null) }
  })
}

/** A group reads topics as a whole: partitions of which nothing is committed are there to be read, too. */
async function addUncommitted(
  admin: AdminClient,
  partitions: Map<string, GroupPartition>,
): Promise<void> {
  const names = [...new Set([...partitions.values()].map(({ topic }) => topic))]
  if (names.length === 0) return
  for (const { name: topic, partitions: rows } of await admin.describeTopics(names)) {
    for (const { partition } of rows) {
      partitions.set(nameOf({ topic, partition }), { topic, partition })
    }
  }
}

/** Partitions of topics that are gone have no place. */
async function askPlaces(
  admin: AdminClient,
  partitions: readonly GroupPartition[],
  at: 'earliest' | 'latest',
  unanswered: Unanswered,
): Promise<ReadonlyMap<string, number>> {
  const names = [...new Set(partitions.map(({ topic }) => topic))]
  const topics = names.length === 0 ? [] : await admin.describeTopics(names)
  const counts = new Map(topics.map(({ name, partitions: rows }) => [name, rows]))
  const questions = partitions.flatMap(({ topic, partition }) => {
    const row = counts.get(topic)?.[partition]
    if (row === undefined || unanswered.has(topic, partition)) return []
    if (row.leaderId >= 0) return [{ topic, partition, at }]
    unanswered.addLeaderless(topic, partition)
    return []
  })
  if (questions.length === 0) return new Map()
  const outcomes = await admin.listOffsetsEach(questions, { timeoutMs: ANSWER_MS_MAX })
  for (const outcome of outcomes) unanswered.addOffset(outcome)
  const answers = outcomes.flatMap(({ answer }) => answer ?? [])
  return new Map(answers.map((answer) => [nameOf(answer), answer.offset]))
}

const OLDEST_WAIT_MS = 5000

/** Milliseconds since the first unread record of each partition that has one. */
export async function oldestUnread(
  deps: CommandDeps,
  { cluster }: Broker,
  rows: readonly (GroupPartition & {
    readonly committed: number | null
    readonly end: number | null
  })[],
): Promise<ReadonlyMap<string, number>> {
  const ages = new Map<string, number>()
  const wanted = rows.flatMap(({ topic, partition, committed, end }) =>
    committed === null || end === null || committed >= end
      ? []
      : [{ topic, partition, startOffset: committed, endOffset: end }],
  )
  if (wanted.length === 0) return ages
  const consumer = await deps.clients.consumer(cluster, { partitionBytesMax: 1, maxWaitMs: 0 })
  const cursor = new RecordCursor()
  const deadlineMs = deps.time.monotonicMs() + OLDEST_WAIT_MS
  try {
    consumer.assign(wanted)
    let open = wanted.length
    while (open > 0 && deps.time.monotonicMs() < deadlineMs) {
      const event = consumer.poll()
      if (event === undefined) {
        if (consumer.isDone) break
        await consumer.wait(Math.max(1, deadlineMs - deps.time.monotonicMs()))
        continue
      }
      if (event.kind === 'gap') continue
      if (event.kind === 'records') {
        const timestampMs = firstTimestamp(cursor, event)
        if (timestampMs === undefined) continue
        ages.set(nameOf(event), Math.max(0, deps.time.wallMs() - timestampMs))
      }
      consumer.unassign(event.topic, event.partition)
      open -= 1
    }
  } finally {
    consumer.close()
  }
  return ages
}

function firstTimestamp(
  cursor: RecordCursor,
  event: {
    readonly bytes: Uint8Array
    readonly batches: readonly number[]
    readonly fromOffset: number
  },
): number | undefined {
  for (const at of event.batches) {
    cursor.reset(event.bytes, at)
    while (cursor.next()) {
      if (cursor.offset < event.fromOffset) continue
      return cursor.timestampMs < 0 ? undefined : cursor.timestampMs
    }
  }
  return undefined
}

/** Positions behind the end: from there nothing is read before the partition has grown so far. */
export function tellBehindEnd(
  { console }: CommandDeps,
  group: string,
  rows: readonly LagRow[],
): void {
  for (const { topic, partition, committed, end, lag } of rows) {
    if (lag === null || lag >= 0) continue
    console.warn(
      `${group}: ${topic}: partition ${partition} ends at ${end}, and ${committed} is committed: records were lost, or the topic was created anew; to choose where to go on: stream groups seek ${group} -t ${topic} --to POS`,
    )
  }
}

/** null where nothing is known of any partition, or nobody answers for one; below 0 only if nothing is known to be unread. */
export function sumLag(rows: readonly LagRow[]): number | null {
  if (rows.some(({ isUnanswered }) => isUnanswered)) return null
  const known = rows.flatMap(({ lag }) => (lag === null ? [] : [lag]))
  if (known.length === 0) return null
  const sumOf = (lags: readonly number[]): number => lags.reduce((sum, lag) => sum + lag, 0)
  // A partition whose position lies behind its end makes nothing of another one read.
  const unread = sumOf(known.filter((lag) => lag > 0))
  return unread > 0 ? unread : sumOf(known)
}

/** Whole seconds, as they are shown. */
export function oldestSeconds(rows: readonly LagRow[]): number | null {
  const ageMs = oldestMs(rows)
  return ageMs === null ? null : Math.floor(ageMs / 1000)
}

export function oldestMs(rows: readonly LagRow[]): number | null {
  const known = rows.flatMap(({ ageMs }) => (ageMs === null ? [] : [ageMs]))
  return known.length === 0 ? null : Math.max(...known)
}

export function offsetTable(offsets: readonly GroupOffset[]): ReadonlyMap<string, number> {
  return new Map(offsets.map((each) => [nameOf(each), each.offset]))
}

export function nameOf({ topic, partition }: GroupPartition): string {
  return `${topic}/${partition}`
}

export function byPlace(left: GroupPartition, right: GroupPartition): number {
  if (left.topic !== right.topic) return left.topic < right.topic ? -1 : 1
  return left.partition - right.partition
}
