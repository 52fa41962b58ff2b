/** `stream topics wait`: returns when topics are as they should be. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import { sleep } from '../src/ports/time.ts'
import { parseTime } from '../src/text/time.ts'
import type { AdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { type CommandSpec, regexOption } from './option-table.ts'
import { askOffsets, findTopics, requireNames, TargetFailures, withAdmin } from './topics-shared.ts'

const FIRST_PAUSE_MS = 50
const PAUSE_MS_MAX = 1000

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'topics wait',
  summary: 'Wait until topics are as they should be',
  description: ['Returns when all that was asked for holds for every topic; prints nothing.'],
  operands: [{ name: 'NAME', isRepeatable: true }],
  options: [
    { long: 'ready', help: 'every partition has a leader; the default' },
    { long: 'in-sync', help: 'all replicas are in sync' },
    { long: 'end', argument: 'N', help: 'the ends of its partitions come to N records in all' },
    { long: 'time', argument: 'TIME', help: 'every partition has a record stamped at or after it' },
    { long: 'wait-topic', help: 'wait for a topic that does not exist, too' },
    regexOption,
  ],
  examples: [
    { line: 'stream topics wait orders --time today --timeout 2h && ./nightly.sh' },
    { line: 'stream topics wait orders --end 1000000 --timeout 10m' },
  ],
  exits: [
    [3, 'no such topic'],
    [7, 'not so within --timeout'],
  ],
}

interface Wish {
  readonly inSync: boolean
  readonly end: number | undefined
  readonly timeMs: number | undefined
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  requireNames(args, spec.name)
  const { flags } = args
  const wish = readWish(flags, deps.time.wallMs())
  const timeoutMs = flags.durationMs('timeout')
  const deadlineMs =
    timeoutMs === undefined ? Number.POSITIVE_INFINITY : deps.time.monotonicMs() + timeoutMs
  return withAdmin(deps, args, async ({ admin }) => {
    const open = await openNames(admin, args, deps)
    if (typeof open === 'number') return open
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
      const missing = await whatIsMissing(admin, open, wish, flags.has('wait-topic'))
      if (missing === undefined) return 0
      if (deps.time.monotonicMs() + pauseMs > deadlineMs) {
        throw new StreamError('TIMED_OUT', `${missing}, after ${flags.text('timeout')}`)
      }
      deps.console.note(missing)
      await sleep(deps.time, pauseMs)
    }
  })
}

/** The topics that the arguments mean now; a number: the exit code of their absence. */
async function openNames(
  admin: AdminClient,
  args: CommandArgs,
  deps: CommandDeps,
): Promise<string[] | number> {
  if (args.flags.has('wait-topic')) return [...new Set(args.operands)]
  const failures = new TargetFailures(deps)
  const topics = await findTopics(admin, args, failures)
  return failures.exit === 0 ? topics.map(({ name }) => name) : failures.exit
}

function readWish(flags: Flags, nowMs: number): Wish {
  const time = flags.text('time')
  const timeMs = time === undefined ? undefined : parseTime(time, nowMs)
  if (time !== undefined && timeMs === undefined) {
    throw new UsageError(`--time ${time}: must be a time such as today, 09:30, 2026-03-01, -1h`)
  }
  return { inSync: flags.has('in-sync'), end: flags.wholeNumber('end'), timeMs }
}

/** What does not hold yet, in words; undefined when all does. @throws StreamError TOPIC_UNKNOWN */
async function whatIsMissing(
  admin: AdminClient,
  names: readonly string[],
  wish: Wish,
  waitsForTopics: boolean,
): Promise<string | undefined> {
  const topics = await admin.describeTopics(names)
  for (const topic of topics) {
    const defect = findTopicDefect(topic, wish)
    if (topic.errorCode === UNKNOWN_TOPIC && !waitsForTopics) {
      throw new StreamError('TOPIC_UNKNOWN', `${topic.name}: it has been deleted`, {
        target: topic.name,
        kafkaError: UNKNOWN_TOPIC,
      })
    }
    if (defect !== undefined) return `${topic.name}: ${defect}`
  }
  return (await findEndDefect(admin, topics, wish)) ?? (await findTimeDefect(admin, topics, wish))
}

const UNKNOWN_TOPIC = 3

function findTopicDefect({ errorCode, partitions }: TopicInfo, wish: Wish): string | undefined {
  if (errorCode === UNKNOWN_TOPIC) return 'it does not exist yet'
  if (partitions.length === 0) return 'it is not ready'
  const leaderless = partitions.find(({ leaderId }) => leaderId < 0)
  if (leaderless !== undefined) return `nobody leads partition ${leaderless.partition}`
  const lagging = partitions.find(
    ({ replicas, inSyncReplicas }) => inSyncReplicas.length < replicas.length,
  )
  if (!wish.inSync || lagging === undefined) return undefined
  const { partition, replicas, inSyncReplicas } = lagging
  return `partition ${partition} has ${inSyncReplicas.length} of ${replicas.length} replicas in sync`
}

async function findEndDefect(
  admin: AdminClient,
  topics: readonly TopicInfo[],
  { end }: Wish,
): Promise<string | undefined> {
  if (end === undefined) return undefined
  const ends = await askOffsets(admin, topics, 'latest')
  for (const { name, partitions } of topics) {
    const sum = partitions.reduce((total, { partition }) => total + (ends(name, partition) ?? 0), 0)
    if (sum < end) return `${name}: its end is ${sum}, not ${end}`
  }
  return undefined
}

async function findTimeDefect(
  admin: AdminClient,
  topics: readonly TopicInfo[],
  { timeMs }: Wish,
): Promise<string | undefined> {
  if (timeMs === undefined) return undefined
  const places = await askOffsets(admin, topics, timeMs)
  for (const { name, partitions } of topics) {
    const behind = partitions.find(({ partition }) => (places(name, partition) ?? -1) < 0)
    if (behind !== undefined) {
      return `${name}: partition ${behind.partition} has no record so late`
    }
  }
  return undefined
}
