/** What is known of the copies from one source: how far they are, how far behind, and whether they are what the source has. */

import { StreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import { isSameTopic } from '../src/client/mirror-hops.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import { type Broker, openBroker } from './broker.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { reportLag } from './groups-lag.ts'
import { byPlace, type LagRow, nameOf, oldestUnread } from './groups-shared.ts'
import { topicGlobs } from './mirror-plan.ts'
import { type FoundPosition, readPositions, type TopicPair } from './mirror-positions.ts'
import { askClusterId } from './mirror-start.ts'
import { recreated } from './mirror-topics.ts'
import { flagsForBroker } from './other-broker.ts'
import { printRows } from './row-output.ts'
import { chooseTopics } from './topic-names.ts'
import { askOffsets, TargetFailures } from './topics-shared.ts'
import { Unanswered } from './unanswered.ts'

export interface CopySession {
  /** As the user names the source. */
  readonly name: string
  readonly source: Broker
  readonly target: Broker
  /** Of the partitions of the topics chosen, by target topic and partition. */
  positions(failures: TargetFailures): Promise<readonly FoundPosition[]>
}

/** Opens both brokers for one verb and closes them after. */
export async function withCopies(
  deps: CommandDeps,
  args: CommandArgs,
  name: string,
  use: (session: CopySession) => Promise<number>,
): Promise<number> {
  const flags = flagsForBroker(args.flags, name)
  const source = await openBroker(deps, { ...args, flags })
  try {
    const target = await openBroker(deps, args)
    try {
      const clusterId = await askClusterId(source, name)
      const positions = async (failures: TargetFailures) => {
        const found = await readPositions(deps, target, clusterId)
        return chooseCopies(found, topicGlobs(args.flags), name, failures)
      }
      return await use({ name, source, target, positions })
    } finally {
      target.cluster.close()
    }
  } finally {
    source.cluster.close()
  }
}

async function chooseCopies(
  found: readonly FoundPosition[],
  globs: readonly string[],
  name: string,
  failures: TargetFailures,
): Promise<readonly FoundPosition[]> {
  const all = new Set(found.map(({ pair }) => pair.target))
  const wanted = globs.length === 0 ? ['*'] : globs
  const { names, empty } = await chooseTopics(wanted, { isRegex: false }, async () => [...all])
  const missing = [...names.filter((topic) => !all.has(topic)), ...empty]
  for (const topic of missing) {
    const words = `${topic}: never copied from ${name}`
    const hint = `stream mirror ${name} --topics ${topic === '*' ? "'*'" : topic}`
    failures.add(new StreamError('NAME_UNKNOWN', words, { target: topic, hint }), topic)
  }
  const chosen = new Set(names)
  return found
    .filter(({ pair }) => chosen.has(pair.target))
    .sort((left, right) => byPlace(hereOf(left), hereOf(right)))
}

function hereOf({ pair, partition }: FoundPosition) {
  return { topic: pair.target, partition }
}

interface CopyRow {
  readonly position: FoundPosition
  /** null: the topic is gone, or nobody leads the partition. */
  readonly end: number | null
  readonly lag: number | null
  /** Of the oldest record that is not copied yet. */
  readonly ageMs: number | null
  readonly state: string
}

async function copyRows(
  deps: CommandDeps,
  session: CopySession,
  failures: TargetFailures,
  unanswered: Unanswered,
): Promise<readonly CopyRow[]> {
  const positions = await session.positions(failures)
  const admin = await deps.clients.admin(session.source.cluster)
  const names = [...new Set(positions.map(({ pair }) => pair.source))]
  const described = names.length === 0 ? [] : await admin.describeTopics(names)
  const topics = new Map(
    described.filter(({ errorCode }) => errorCode === 0).map((topic) => [topic.name, topic]),
  )
  const ends = await askOffsets(admin, [...topics.values()], 'latest', { unanswered })
  const rows = positions.map((position) => {
    const { pair, partition, next } = position
    const topic = topics.get(pair.source)
    const isIt = topic !== undefined && isSameTopic(topic.topicId, position.sourceId)
    const end = isIt ? (ends(pair.source, partition) ?? null) : null
    const lag = end === null ? null : Math.max(0, end - next)
    const state = stateOf(position, topic, lag)
    if (state === 'leaderless' && !unanswered.has(pair.source, partition)) {
      unanswered.addLeaderless(pair.source, partition)
    }
    return { position, end, lag, ageMs: null, state }
  })
  const unread = rows.map(({ position, end }) => ({
    topic: position.pair.source,
    partition: position.partition,
    committed: position.next,
    end,
  }))
  const ages = await oldestUnread(deps, session.source, unread)
  return rows.map((row) => {
    const { pair, partition } = row.position
    const age = ages.get(nameOf({ topic: pair.source, partition }))
    return { ...row, ageMs: row.lag === 0 ? 0 : (age ?? null) }
  })
}

function stateOf(
  { sourceId, error }: FoundPosition,
  topic: TopicInfo | undefined,
  lag: number | null,
): string {
  if (topic === undefined) return 'gone'
  if (!isSameTopic(topic.topicId, sourceId)) return 'recreated'
  if (error !== undefined) return 'failed'
  if (lag === null) return 'leaderless'
  return lag === 0 ? 'current' : 'behind'
}

/** Why nothing of the source's topic can be held against what was copied of it. */
function lostSource(pair: TopicPair, state: string): StreamError | undefined {
  const { source, target } = pair
  if (state === 'recreated') {
    return recreated(pair, 'to add the new records to the old ones: stream mirror --append')
  }
  if (state !== 'gone') return undefined
  const words = `${source}: deleted at the source since it was copied into ${target}`
  return new StreamError('TOPIC_UNKNOWN', words, { target: source })
}

/** @throws StreamError where the source's topic is not the one that was copied any more */
export async function refuseLostSource(
  deps: CommandDeps,
  { source }: CopySession,
  position: FoundPosition,
): Promise<void> {
  const admin = await deps.clients.admin(source.cluster)
  const [topic] = await admin.describeTopics([position.pair.source])
  const found = topic?.errorCode === 0 ? topic : undefined
  const error = lostSource(position.pair, stateOf(position, found, null))
  if (error !== undefined) throw error
}

export async function copyStatus(
  deps: CommandDeps,
  args: CommandArgs,
  name: string,
  shape: RowShape,
): Promise<number> {
  return withCopies(deps, args, name, async (session) => {
    const failures = new TargetFailures(deps)
    const unanswered = new Unanswered()
    const rows = await copyRows(deps, session, failures, unanswered)
    const cells = rows.map(({ position, end, lag, ageMs, state }): Row => {
      const seconds = ageMs === null ? null : Math.floor(ageMs / 1000)
      const { pair, partition, next, error } = position
      return [name, pair.target, partition, state, end, next, lag, seconds, error ?? null]
    })
    await printRows(deps, args.flags, shape, cells)
    for (const error of unanswered.errors()) failures.add(error)
    return failures.exit
  })
}

export async function copyLag(
  deps: CommandDeps,
  args: CommandArgs,
  name: string,
  shape: RowShape,
): Promise<number> {
  return withCopies(deps, args, name, (session) =>
    reportLag(deps, args.flags, shape, async (failures, unanswered) => {
      const rows = await copyRows(deps, session, failures, unanswered)
      for (const { position, state } of rows) {
        const error = lostSource(position.pair, state)
        if (error !== undefined) failures.add(error, position.pair.target)
      }
      const lagRows = rows.map(
        ({ position, end, lag, ageMs }): LagRow => ({
          ...hereOf(position),
          committed: position.next,
          end,
          lag,
          isUnanswered: unanswered.has(position.pair.source, position.partition),
          isUntold: false,
          ageMs,
          member: null,
          host: null,
        }),
      )
      return new Map([[name, { rows: lagRows, isAssigning: false }]])
    }),
  )
}
