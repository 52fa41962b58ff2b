/** What the verbs of links share: the link by its name, the topics of it that are meant, and their rows. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { LinkDescription, MirrorPartition, MirrorTopic } from '../src/client/link-admin.ts'
import { sleep } from '../src/ports/time.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import { type Broker, openBroker } from './broker.ts'
import type { LinkAdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { OptionSpec } from './option-table.ts'
import { globPattern } from './topic-names.ts'

export interface LinkSession {
  readonly broker: Broker
  readonly links: LinkAdminClient
}

// biome-ignore format: one row, one line
export const topicsOption: OptionSpec = { long: 'topics', argument: 'GLOB', isRepeatable: true, help: 'only these topics of the link' }

/**
 * @param hint  what to do about a broker that is met at another door
 * @throws StreamError UNSUPPORTED_BY_BROKER at a Kafka broker, which has no links
 */
export async function withLinks(
  deps: CommandDeps,
  args: CommandArgs,
  use: (session: LinkSession) => Promise<number>,
  hint = 'to copy into a Kafka cluster: stream mirror SOURCE --topics GLOB',
): Promise<number> {
  const broker = await openBroker(deps, args)
  try {
    if (broker.scheme === 'kafka') {
      throw new StreamError(
        'UNSUPPORTED_BY_BROKER',
        `${broker.address}: links are kept by a daemon of stream, met at its native door (ipc:// or tcp://)`,
        { hint },
      )
    }
    return await use({ broker, links: await deps.clients.linkAdmin(broker.cluster) })
  } finally {
    broker.cluster.close()
  }
}

/** As other brokers of commands are named: the context of the source, or its addresses. */
export function sourcePlace({ source, context }: LinkDescription): string {
  if (context !== null) return `@${context}`
  const [first = '', ...others] = source
  return [first, ...others.map((address) => address.replace(/^[a-z]+:\/\//, ''))].join(',')
}

export function requireLinkName({ operands }: CommandArgs, command: string): string {
  const [name, ...more] = operands
  if (name === undefined || more.length > 0) {
    throw new UsageError(
      name === undefined ? 'NAME is missing' : `unexpected argument ${more[0]}`,
      `try: stream ${command} --help`,
    )
  }
  return name
}

/** Topics of the link that --topics means; all of them without it. @throws StreamError TOPIC_UNKNOWN */
export function chosenTopics(link: LinkDescription, { flags }: CommandArgs): MirrorTopic[] {
  const globs = flags.all('topics')
  const mirrors = link.topics.filter(({ state }) => state !== 'refused')
  if (globs.length === 0) return mirrors
  const chosen = new Set<MirrorTopic>()
  for (const glob of globs) {
    const pattern = globPattern(glob)
    const found = mirrors.filter(({ name }) => pattern.test(name))
    if (found.length === 0) {
      throw new StreamError('TOPIC_UNKNOWN', `${glob}: no topic of link ${link.name}`, {
        target: glob,
        hint: `to see them: stream mirror status ${link.name}`,
      })
    }
    for (const topic of found) chosen.add(topic)
  }
  return [...chosen]
}

/** Names for an order: undefined means all, and what is to come. */
export function orderedTopics(link: LinkDescription, args: CommandArgs): string[] | undefined {
  if (args.flags.all('topics').length === 0) return undefined
  return chosenTopics(link, args).map(({ name }) => name)
}

export const mirrorShape: RowShape = {
  kind: 'mirror',
  columns: ['NAME', 'TOPIC', 'PARTITION', 'STATE', 'SOURCE_END', 'HERE', 'LAG', 'SECONDS', 'ERROR'],
}

/** Whoever does not follow knows for so long where the source ends: shorter than that are changes of leaders. */
const END_KNOWN_MS = 10_000

/** How many records (and gaps) are not here; undefined: not known, or what the source has is something else. */
export function lagOf(partition: MirrorPartition): number | undefined {
  const { sourceEnd, logEnd, state } = partition
  if (state === 'promoted' || state === 'diverged' || sourceEnd < 0) return undefined
  // One that follows may be silent for longer, held back by its rate.
  if (state !== 'following' && !isHeard(partition, END_KNOWN_MS)) return undefined
  return Math.max(0, sourceEnd - logEnd)
}

export function mirrorRows(link: LinkDescription, topics: readonly MirrorTopic[]): Row[] {
  const rows: Row[] = []
  const isOver = topics.length === 0
  if (
    isOver ||
    (link.problem !== null && topics.every(({ partitions }) => partitions.length === 0))
  ) {
    rows.push([link.name, null, null, link.state, null, null, null, null, link.problem])
  }
  for (const topic of topics) rows.push(...topicRows(link, topic))
  return rows
}

function topicRows(link: LinkDescription, topic: MirrorTopic): Row[] {
  const rows: Row[] = []
  if (topic.state === 'refused') {
    return [[link.name, topic.name, null, topic.state, null, null, null, null, topic.problem]]
  }
  for (let index = 0; index < Math.max(1, topic.partitionCount); index += 1) {
    const found = topic.partitions.find(({ partition }) => partition === index)
    if (found === undefined) {
      const state = topic.partitionCount === 0 ? 'starting' : 'unled'
      rows.push([link.name, topic.name, index, state, null, null, null, null, topic.problem])
      continue
    }
    const lag = lagOf(found) ?? null
    const seconds = lag === null ? null : Math.round(found.behindMs / 1000)
    rows.push([
      link.name,
      topic.name,
      index,
      found.state,
      found.sourceEnd < 0 ? null : found.sourceEnd,
      found.state === 'promoted' ? found.promotedOffset : found.logEnd,
      lag,
      lag === 0 ? 0 : seconds,
      found.error ?? topic.problem,
    ])
  }
  return rows
}

/** Nothing of it is still to be taken up: a link that was made just now has no topics, and is not level for that. */
export function isWhole({ isTakenUp, state, topics }: LinkDescription): boolean {
  return isTakenUp || (topics.length > 0 && state !== 'active')
}

/** The source was heard of the partition within the last `withinMs`: what is known of its end is of now. */
export function isHeard({ state, heardMs }: MirrorPartition, withinMs: number): boolean {
  return state === 'promoted' || (heardMs >= 0 && heardMs <= withinMs)
}

/** All partitions of these topics are as `isSo` says. */
export function allPartitions(
  topics: readonly MirrorTopic[],
  isSo: (partition: MirrorPartition) => boolean,
): boolean {
  return topics.every(
    ({ partitions, partitionCount }) =>
      partitionCount > 0 && partitions.length === partitionCount && partitions.every(isSo),
  )
}

/** Everything that is decided at the source has come, but not how transactions end that hold it back. */
function isHeldBack({ received, logEnd, sourceEnd }: MirrorPartition): boolean {
  return logEnd < sourceEnd && received >= sourceEnd
}

/** Of the first partition that is not as `isSo` says, and how many more there are. */
export function troubleWords(
  topics: readonly MirrorTopic[],
  isSo: (partition: MirrorPartition) => boolean,
): string {
  const open = topics.flatMap(({ name, partitions, problem }) =>
    partitions.filter((each) => !isSo(each)).map((each) => ({ name, each, problem })),
  )
  const [first, ...others] = open
  if (first === undefined) return 'not all of it is led and known here'
  const { name, each, problem } = first
  const error = each.error ?? problem
  const lag = lagOf(each)
  const missing =
    each.state === 'diverged'
      ? 'what is missing cannot be told'
      : each.sourceEnd < 0
        ? 'its source was not heard of yet'
        : lag === undefined || lag === 0
          ? 'its source was not heard of lately'
          : `${lag} offsets are missing`
  const why = isHeldBack(each)
    ? ', held back by transactions that are open at the source'
    : error === null
      ? ''
      : ` (${each.state}: ${error})`
  const more = others.length === 0 ? '' : `, and ${others.length} more partitions are not done`
  return `${name} partition ${each.partition}: ${missing}${why}${more}`
}

const POLL_MS = 200
const SAID_AFTER_MS = 10_000

/** Looks again and again until `isDone`; whoever waits long is told for what. @throws StreamError TIMED_OUT */
export async function waitForLink(
  deps: CommandDeps,
  { links }: LinkSession,
  name: string,
  timeoutMs: number | undefined,
  isDone: (link: LinkDescription | undefined) => boolean,
  what: string | (() => string),
): Promise<void> {
  const startMs = deps.time.monotonicMs()
  const words = (): string => (typeof what === 'string' ? what : what())
  let hasSaid = false
  for (;;) {
    const [link] = await links.describe([name])
    if (isDone(link)) return
    const nextMs = deps.time.monotonicMs() - startMs + POLL_MS
    if (timeoutMs !== undefined && nextMs > timeoutMs) {
      throw new StreamError('TIMED_OUT', `timed out: ${words()}`, { target: name })
    }
    if (nextMs > SAID_AFTER_MS && !hasSaid) {
      hasSaid = true
      deps.console.warn(`waiting: ${words()}`)
    }
    await sleep(deps.time, POLL_MS)
  }
}
