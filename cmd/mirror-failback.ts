/** `stream mirror failback`: the old side follows the promoted one; shows what it would cut there, and asks. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { FailbackTopic, MirrorTopic } from '../src/client/link-admin.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import {
  allPartitions,
  chosenTopics,
  type LinkSession,
  requireLinkName,
  sourcePlace,
  topicsOption,
  waitForLink,
  withLinks,
} from './mirror-shared.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { flagsForBroker } from './other-broker.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import { splitAddress } from './settings.ts'

const shape: RowShape = {
  kind: 'failback',
  columns: ['NAME', 'TOPIC', 'PARTITION', 'POINT', 'END', 'CUT'],
}
const CONNECT_MS = 10_000
const FENCE_MS = 30_000

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror failback',
  summary: 'Let the old side of a promoted link follow this one',
  description: [
    'Run at the side that was promoted. The broker that was the source becomes the mirror: its topics become read-only, lose what was written there beyond the point of the promotion, and follow this side by a link of the same name, kept there. Shows first what would be cut, and asks.',
    'POINT is the offset up to which both sides are equal, END where the old side ends, CUT how many offsets are dropped there. --salvage FILE keeps the committed records among them as envelopes; it appends. Where transactions were open at that point, those that began before it are aborted on both sides, and the file has all committed records from the first of them on. While a transaction is open at the old side, nothing is salvaged and nothing cut.',
    'The old side must be a daemon of stream, or a cluster of them, and is met by ipc:// or tcp://: where the link came from its kafka:// door, --old says where that is. There all replicas cut, and go on as one. To come back for good: stream mirror promote there, with --when-caught-up.',
  ],
  operands: [{ name: 'NAME' }],
  options: [
    topicsOption,
    { long: 'source', argument: 'ADDRESS', help: 'how the old side reaches this one; default: the address of this broker' },
    { long: 'old', argument: 'ADDRESS|@CONTEXT', help: 'the old side, by ipc:// or tcp://; default: the source of the link' },
    { long: 'salvage', argument: 'FILE', help: 'keep the records that are cut, as envelopes' },
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream mirror failback west --dry-run' },
    { line: 'stream mirror failback west --source tcp://east:7100 --salvage lost.ndjson' },
    { line: 'stream mirror failback west --old tcp://west:7100 --dry-run' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such link, or nothing of it is promoted'],
    [4, 'the old side is not reached, or does not reach this one'],
    [7, 'the old side could not be fenced in 30 s, or within --timeout; it becomes as it was'],
    [8, 'a topic was made anew since, or is a mirror already; with --salvage: a transaction is open at the old side'],
  ],
}

interface Side {
  readonly topic: MirrorTopic
  /** By partition. */
  readonly points: readonly number[]
  /** From here on records may be of transactions that were open at the points, and are aborted with what is cut. */
  readonly settled: readonly number[]
  readonly ends: readonly number[]
  /** What is open there from here on never ends: whoever is fenced writes no markers. */
  readonly stableEnds: readonly number[]
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = requireLinkName(args, spec.name)
  const { flags } = args
  const startMs = deps.time.monotonicMs()
  const fenceMs = (): number => {
    const timeoutMs = flags.durationMs('timeout') ?? Number.POSITIVE_INFINITY
    return Math.min(FENCE_MS, timeoutMs - (deps.time.monotonicMs() - startMs))
  }
  return withLinks(deps, args, async (here) => {
    const link = await here.links.describeOne(name)
    const topics = chosenTopics(link, args).filter(({ state }) => state === 'promoted')
    if (topics.length === 0) {
      throw new StreamError('NAME_UNKNOWN', `${name}: no topic of this link is promoted`, {
        target: name,
        hint: `first: stream mirror promote ${name}`,
      })
    }
    const place = flags.text('old') ?? sourcePlace(link)
    const old: CommandArgs = { ...args, flags: flagsForBroker(flags, place) }
    const failBack = async (there: LinkSession): Promise<number> => {
      await requireSame(deps, there, topics)
      let sides = await lookAt(deps, there, topics)
      const rows = (): Row[] => sides.flatMap((side) => sideRows(name, side))
      if (flags.has('dry-run')) {
        await printRows(deps, flags, shape, rows())
        return 0
      }
      const path = flags.text('salvage')
      if (path !== undefined) for (const side of sides) requireAllDecided(side, place)
      const cut = sides.reduce((sum, side) => sum + cutOf(side), 0)
      const question =
        cut === 0
          ? `make ${place} the mirror? nothing is cut there`
          : `make ${place} the mirror, and cut these ${cut} offsets there?`
      if (!(await confirm(deps, flags, question, 'y', { shape, rows: rows() }))) {
        deps.console.warn('nothing changed')
        return 1
      }
      const own = await topicIds(deps, here, topics)
      await there.links.create(
        {
          name,
          source: ownAddress(args, here),
          topics: topics.map((topic) => topic.name),
          syncConfigs: link.syncConfigs,
          syncGroups: link.syncGroups,
          rate: undefined,
          failback: sides.map((side) => failbackOf(side, own)),
        },
        flags.durationMs('connect-timeout') ?? CONNECT_MS,
      )
      try {
        const names = topics.map((topic) => topic.name)
        const isFenced = (found: { readonly topics: readonly MirrorTopic[] } | undefined) =>
          found !== undefined &&
          allPartitions(
            found.topics.filter((topic) => names.includes(topic.name)),
            ({ state }) => state === 'fenced',
          )
        const words = 'the old side is not fenced; nothing is cut, and it becomes as it was'
        await waitForLink(deps, there, name, fenceMs(), isFenced, words)
        // From now on nothing is written there: this is what is cut.
        sides = await lookAt(deps, there, topics)
        if (path !== undefined) {
          for (const side of sides) requireAllDecided(side, place)
          await salvage(deps, old, sides, path)
        }
      } catch (error) {
        // Nothing is cut yet: everything becomes as it was.
        await there.links.alter(name, 'unlink', undefined)
        throw error
      }
      await there.links.alter(name, 'resume', undefined)
      await printRows(deps, flags, shape, rows())
      return 0
    }
    return withLinks(
      deps,
      old,
      failBack,
      'say where the old side takes commands: --old tcp://HOST:PORT',
    )
  })
}

/** @throws StreamError CONFLICT: the topics there are not those that were followed; as describeTopics */
async function requireSame(
  deps: CommandDeps,
  there: LinkSession,
  topics: readonly MirrorTopic[],
): Promise<void> {
  const found = await topicIds(deps, there, topics)
  for (const { name, sourceTopicId } of topics) {
    const other = found.get(name)
    if (other !== undefined && other.topicId === sourceTopicId) continue
    throw new StreamError(
      'CONFLICT',
      `${name}: ${there.broker.address} does not have the topic that this link followed`,
      { target: name, hint: 'it was deleted or made anew there, or this is not the old side' },
    )
  }
}

/** @throws UsageError where the old side could not use it */
function ownAddress({ flags }: CommandArgs, here: LinkSession): readonly string[] {
  const told = flags.text('source')
  if (told !== undefined) return splitAddress(told, '--source')
  const { address } = here.broker
  if (address.startsWith('tcp://127.') || address.startsWith('tcp://localhost')) {
    throw new UsageError(
      `${address} may be another place for the old side`,
      'say how it reaches this side: --source ADDRESS',
    )
  }
  return [address]
}

async function lookAt(
  deps: CommandDeps,
  there: LinkSession,
  topics: readonly MirrorTopic[],
): Promise<Side[]> {
  const admin = await deps.clients.admin(there.broker.cluster)
  const questions = topics.flatMap(({ name, partitions }) =>
    partitions.map(({ partition }) => ({ topic: name, partition, at: 'latest' as const })),
  )
  // In this order: where nothing is open, the stable end is not below the other, whoever writes meanwhile.
  const all = await admin.listOffsets(questions, { isolation: 'read_uncommitted' })
  const stable = await admin.listOffsets(questions, { isolation: 'read_committed' })
  const endsOf = (answers: typeof all, { name, partitions }: MirrorTopic): number[] =>
    partitions.map(
      ({ partition }) =>
        answers.find((row) => row.topic === name && row.partition === partition)?.offset ?? 0,
    )
  return topics.map((topic) => ({
    topic,
    points: topic.partitions.map(({ promotedOffset }) => promotedOffset),
    settled: topic.partitions.map(({ promotedOffset, settledOffset }) =>
      settledOffset < 0 ? promotedOffset : settledOffset,
    ),
    ends: endsOf(all, topic),
    stableEnds: endsOf(stable, topic),
  }))
}

async function topicIds(
  deps: CommandDeps,
  here: LinkSession,
  topics: readonly MirrorTopic[],
): Promise<ReadonlyMap<string, TopicInfo>> {
  const admin = await deps.clients.admin(here.broker.cluster)
  const found = await admin.describeTopics(topics.map(({ name }) => name))
  return new Map(found.map((topic) => [topic.name, topic]))
}

function failbackOf({ topic, points }: Side, own: ReadonlyMap<string, TopicInfo>): FailbackTopic {
  const sourceTopicId = own.get(topic.name)?.topicId ?? ''
  return { topic: topic.name, topicId: topic.sourceTopicId, sourceTopicId, cutAt: points }
}

function cutOf({ points, ends }: Side): number {
  return points.reduce((sum, point, index) => sum + Math.max(0, (ends[index] ?? 0) - point), 0)
}

function sideRows(name: string, { topic, points, ends }: Side): Row[] {
  return points.map((point, partition): Row => {
    const end = ends[partition] ?? 0
    return [name, topic.name, partition, point, end, Math.max(0, end - point)]
  })
}

/**
 * What is committed behind an open transaction is not told from what is not: none of it would be salvaged.
 * @param place  of the old side
 */
function requireAllDecided(side: Side, place: string): void {
  const { topic, points, ends, stableEnds } = side
  const which = place.startsWith('@') ? `--context ${place.slice(1)}` : `-b ${place}`
  for (const [partition, end] of ends.entries()) {
    const stableEnd = stableEnds[partition] ?? 0
    if (end <= (points[partition] ?? 0) || stableEnd >= end) continue
    throw new StreamError(
      'CONFLICT',
      `${topic.name} partition ${partition}: a transaction is open at the old side at offset ${stableEnd}: what is committed behind it cannot be salvaged; nothing is cut`,
      {
        target: topic.name,
        hint: `to see whose it is: stream txn list ${which}; to end it: stream txn abort ID ${which}; without --salvage all is cut`,
      },
    )
  }
}

/** What is committed between the points and the ends, behind what the file has already. */
async function salvage(
  deps: CommandDeps,
  old: CommandArgs,
  sides: readonly Side[],
  path: string,
): Promise<void> {
  const output = deps.stdio.openOutput(path, { append: true })
  try {
    const { stdio: own } = deps
    const stdio: CommandDeps['stdio'] = {
      openInput: (from) => own.openInput(from),
      openOutput: (to, options) => own.openOutput(to, options),
      output,
      printError: (text) => own.printError(text),
    }
    const { run: cat } = await import('./cat.ts')
    for (const side of sides) {
      if (cutOf(side) === 0) continue
      const places = (offsets: readonly number[]): string =>
        offsets.map((offset, partition) => `${partition}=${offset}`).join(',')
      const ends = side.stableEnds.map((end, index) => Math.max(end, side.settled[index] ?? 0))
      const flags = old.flags
        .without('dry-run')
        .without('json')
        .with('output', 'json')
        .with('from', places(side.settled))
        .with('until', places(ends))
      const status = await cat({ ...deps, stdio }, { flags, operands: [side.topic.name] })
      if (status !== 0) {
        throw new StreamError('OUTPUT_FAILED', `${side.topic.name}: could not be salvaged`)
      }
    }
  } finally {
    output.close()
  }
}
