/** `stream mirror promote`: makes mirrored topics writable here; asks first. */

import type { LinkDescription, MirrorPartition, MirrorTopic } from '../src/client/link-admin.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import {
  allPartitions,
  chosenTopics,
  isHeard,
  isWhole,
  lagOf,
  orderedTopics,
  requireLinkName,
  topicsOption,
  troubleWords,
  waitForLink,
  withLinks,
} from './mirror-shared.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'

const shape: RowShape = {
  kind: 'promotion',
  columns: ['NAME', 'TOPIC', 'PARTITION', 'OFFSET', 'EPOCH', 'LAG'],
}

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror promote',
  summary: 'Make mirrored topics writable here',
  description: [
    'Stops following, cuts to the last whole transaction (what lies beyond nobody was shown here; where others have ended behind the begin of one that is open all stays, and what is open is aborted), writes down where the records of the source end, and lets everybody write. Asks first, and shows what has not come yet.',
    'With --when-caught-up it waits until everything is here, in whole transactions, that is committed at the source, and promotes nothing if --timeout comes first. Whoever still writes at the source should be stopped before: while transactions follow each other there without a moment in which none is open, it never comes so far, and the line that ends the waiting says so. Without --topics the whole link is promoted, and follows no new topics.',
    'OFFSET is where the records of the source end, EPOCH the leader epoch here at that time; LAG is what had not come, - where it is not known: a source that was not heard of for 10 s may have more than what stream mirror status tells of it.',
  ],
  operands: [{ name: 'NAME' }],
  options: [
    topicsOption,
    { long: 'when-caught-up', help: 'wait until nothing is missing here; 7 if --timeout comes first' },
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream mirror promote west --topics orders --when-caught-up --timeout 5m' },
    { line: 'stream mirror promote west -y', help: 'at once, with what is here: the source is lost' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such link, or no such topic of it'],
    [7, '--timeout came before all of it was here, or before it was promoted'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = requireLinkName(args, spec.name)
  const { flags } = args
  const startMs = deps.time.monotonicMs()
  const timeoutMs = flags.durationMs('timeout')
  const leftMs = (): number | undefined =>
    timeoutMs === undefined ? undefined : timeoutMs - (deps.time.monotonicMs() - startMs)
  return withLinks(deps, args, async (session) => {
    const { links } = session
    let link = await links.describeOne(name)
    const open = (): MirrorTopic[] =>
      chosenTopics(link, args).filter(({ state }) => state !== 'promoted')
    if (flags.has('when-caught-up') && !isWhole(link)) {
      const isListed = (found: LinkDescription | undefined): boolean => {
        if (found !== undefined) link = found
        return isWhole(link)
      }
      await waitForLink(deps, session, name, leftMs(), isListed, 'the source was not looked at')
    }
    if (flags.has('dry-run') || open().length === 0) {
      await printRows(deps, flags, shape, planRows(link, open()))
      return 0
    }
    const agrees = await confirm(
      deps,
      flags,
      `promote ${open().length === 1 ? open()[0]?.name : `these ${open().length} topics`}?`,
      'y',
      { shape, rows: planRows(link, open()) },
    )
    if (!agrees) {
      deps.console.warn('nothing promoted')
      return 1
    }
    if (flags.has('when-caught-up')) {
      const waitMs = deps.time.monotonicMs()
      const isDone = (partition: MirrorPartition): boolean =>
        isCaughtUp(partition, deps.time.monotonicMs() - waitMs)
      const isLevel = (found: LinkDescription | undefined): boolean => {
        if (found === undefined) return false
        link = found
        return isWhole(link) && allPartitions(open(), isDone)
      }
      const words = (): string => troubleWords(open(), isDone)
      await waitForLink(deps, session, name, leftMs(), isLevel, words)
    }
    const lags = new Map(open().map((topic) => [topic.name, topic]))
    const names = open().map((topic) => topic.name)
    await links.alter(name, 'promote', orderedTopics(link, args))
    const isDone = (found: LinkDescription | undefined): boolean => {
      if (found === undefined) return false
      link = found
      const topics = link.topics.filter((topic) => names.includes(topic.name))
      // What its leaders have done the controller writes down of the topic: only then it may be made the mirror again.
      return (
        topics.every(({ state }) => state === 'promoted') &&
        allPartitions(topics, ({ state }) => state === 'promoted')
      )
    }
    const words = (): string => {
      const topics = link.topics.filter((topic) => names.includes(topic.name))
      const isPromoted = ({ state }: MirrorPartition): boolean => state === 'promoted'
      return `not all of it is promoted yet: ${troubleWords(topics, isPromoted)}`
    }
    await waitForLink(deps, session, name, leftMs(), isDone, words)
    const done = link.topics.filter((topic) => names.includes(topic.name))
    await printRows(deps, flags, shape, doneRows(link, done, lags))
    return 0
  })
}

/** Nothing is missing, as the source was heard of last, and it is heard of now. */
function isCaughtUp(partition: MirrorPartition, sinceMs: number): boolean {
  if (partition.state === 'promoted') return true
  const isFollowing = partition.state === 'following' && partition.error === null
  return isFollowing && isHeard(partition, sinceMs) && lagOf(partition) === 0
}

function planRows(link: LinkDescription, topics: readonly MirrorTopic[]): Row[] {
  return topics.flatMap((topic) =>
    topic.partitions.map((partition): Row => {
      const lag = lagOf(partition) ?? null
      return [link.name, topic.name, partition.partition, partition.logEnd, null, lag]
    }),
  )
}

function doneRows(
  link: LinkDescription,
  topics: readonly MirrorTopic[],
  before: ReadonlyMap<string, MirrorTopic>,
): Row[] {
  return topics.flatMap((topic) =>
    topic.partitions.map(({ partition, promotedOffset, promotedEpoch }): Row => {
      const was = before.get(topic.name)?.partitions.find((row) => row.partition === partition)
      // What was cut away is missing too.
      const isKnown = was !== undefined && lagOf(was) !== undefined
      const lag = isKnown ? Math.max(0, was.sourceEnd - promotedOffset) : null
      return [link.name, topic.name, partition, promotedOffset, promotedEpoch, lag]
    }),
  )
}
