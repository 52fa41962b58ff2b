/** What `stream top` shows: two looks at the broker, and what happened between them. */

import type { CommandDeps } from './deps.ts'
import { type GroupsSession, lagRows, sumLag } from './groups-shared.ts'
import { askBytes, askOffsets, isInternalTopic } from './topics-shared.ts'
import { Unanswered } from './unanswered.ts'

export interface TopTopic {
  readonly name: string
  readonly partitions: number
  /** Records appended a second since the look before; null at the first. */
  readonly rate: number | null
  /** End minus start over all partitions; null where a partition is not led. */
  readonly span: number | null
  readonly bytes: number | null
}

export interface TopGroup {
  readonly name: string
  readonly state: string
  readonly members: number
  /** Records committed a second since the look before; null at the first. */
  readonly rate: number | null
  readonly lag: number | null
}

export interface TopBroker {
  readonly nodeId: number
  readonly address: string
  /** Partitions that it leads. */
  readonly leads: number
}

export interface TopModel {
  readonly clusterId: string | undefined
  /** Most active first. */
  readonly topics: readonly TopTopic[]
  /** Furthest behind first. */
  readonly groups: readonly TopGroup[]
  readonly brokers: readonly TopBroker[]
}

interface Look {
  readonly atMs: number
  /** By topic: the sum of its ends. By group: the sum of its committed offsets. */
  readonly ends: ReadonlyMap<string, number>
  readonly committed: ReadonlyMap<string, number>
}

/** Looks again and again; each look is measured against the one before. */
export class TopWatch {
  readonly #deps: CommandDeps
  readonly #session: GroupsSession
  #before: Look | undefined

  constructor(deps: CommandDeps, session: GroupsSession) {
    this.#deps = deps
    this.#session = session
  }

  /** @throws StreamError of the broker */
  async look(): Promise<TopModel> {
    const { admin } = this.#session
    const cluster = await admin.describeCluster()
    const all = await admin.listTopics()
    const shown = all.filter((topic) => !isInternalTopic(topic))
    // Not told: the screen has a dash for each of them.
    const unanswered = new Unanswered()
    const [starts, ends, bytes] = await Promise.all([
      askOffsets(admin, shown, 'earliest', { unanswered }),
      askOffsets(admin, shown, 'latest', { isUncommitted: true, unanswered }),
      askBytes(admin, shown, unanswered),
    ])
    const atMs = this.#deps.time.monotonicMs()
    const endOf = new Map<string, number>()
    const topics = shown.map(({ name, partitions }) => {
      const sum = (table: typeof ends): number | null =>
        sumOf(partitions.map(({ partition }) => table(name, partition)))
      const end = sum(ends)
      const start = sum(starts)
      if (end !== null) endOf.set(name, end)
      return {
        name,
        partitions: partitions.length,
        rate: this.#rate(atMs, end, this.#before?.ends.get(name)),
        span: end === null || start === null ? null : end - start,
        bytes: sum(bytes),
      }
    })
    const { groups, committed } = await this.#lookAtGroups(atMs)
    this.#before = { atMs, ends: endOf, committed }
    const leaders = all.flatMap(({ partitions }) => partitions.map(({ leaderId }) => leaderId))
    return {
      clusterId: cluster.clusterId,
      topics: topics.sort((a, b) => (b.rate ?? 0) - (a.rate ?? 0) || compare(a.name, b.name)),
      groups: groups.sort((a, b) => (b.lag ?? 0) - (a.lag ?? 0) || compare(a.name, b.name)),
      brokers: cluster.brokers.map(({ nodeId, address }) => ({
        nodeId,
        address,
        leads: leaders.filter((leader) => leader === nodeId).length,
      })),
    }
  }

  async #lookAtGroups(atMs: number): Promise<{
    readonly groups: TopGroup[]
    readonly committed: ReadonlyMap<string, number>
  }> {
    const groups: TopGroup[] = []
    const unanswered = new Unanswered()
    const committed = new Map<string, number>()
    for (const { groupId } of await this.#session.groups.list()) {
      const group = await this.#session.groups.describe(groupId)
      // Gone since the list was made.
      if (group === undefined) continue
      const rows = await lagRows(this.#deps, this.#session, group, {
        wantsSeconds: false,
        unanswered,
      })
      const position = rows.reduce((sum, row) => sum + (row.committed ?? 0), 0)
      committed.set(groupId, position)
      groups.push({
        name: groupId,
        state: group.state,
        members: group.members.length,
        rate: this.#rate(atMs, position, this.#before?.committed.get(groupId)),
        lag: sumLag(rows),
      })
    }
    return { groups, committed }
  }

  #rate(atMs: number, now: number | null, before: number | undefined): number | null {
    const spentMs = atMs - (this.#before?.atMs ?? atMs)
    if (now === null || before === undefined || spentMs <= 0) return null
    // Less than before: it was made anew, or a group was moved back.
    return Math.max(0, Math.round(((now - before) * 1000) / spentMs))
  }
}

/** null where one is not known. */
function sumOf(values: readonly (number | undefined)[]): number | null {
  let sum = 0
  for (const value of values) {
    if (value === undefined) return null
    sum += value
  }
  return sum
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0
}
