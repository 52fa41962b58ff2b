/** What the verbs of `stream topics` share. */

import { isStreamError, StreamError, UsageError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { OffsetAnswer, OffsetPlace, OffsetQuestion } from '../src/client/offsets.ts'
import { findKey, topicKeys } from '../src/config/keys.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import { parseDuration, parseSize } from '../src/text/units.ts'
import { type Broker, openBroker } from './broker.ts'
import type { AdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { commonExitCode, exitCodeOf } from './exit-code.ts'
import type { Flags } from './flags.ts'
import { chooseTopics } from './topic-names.ts'
import { ANSWER_MS_MAX, type Unanswered } from './unanswered.ts'

export interface TopicsSession {
  readonly broker: Broker
  readonly admin: AdminClient
}

/** Opens the broker for one verb and closes it after. */
export async function withAdmin(
  deps: CommandDeps,
  args: CommandArgs,
  use: (session: TopicsSession) => Promise<number>,
): Promise<number> {
  const broker = await openBroker(deps, args)
  try {
    return await use({ broker, admin: await deps.clients.admin(broker.cluster) })
  } finally {
    broker.cluster.close()
  }
}

/** Tells the failure of each target and joins their exit codes. */
export class TargetFailures {
  readonly #deps: CommandDeps
  readonly #codes: number[] = []

  constructor(deps: CommandDeps) {
    this.#deps = deps
  }

  add(error: unknown, target?: string): void {
    this.#deps.console.error(error, target)
    this.#codes.push(exitCodeOf(error))
  }

  get exit(): number {
    return commonExitCode(this.#codes)
  }
}

export function requireNames({ operands }: CommandArgs, command: string): void {
  if (operands.length === 0) {
    throw new UsageError('NAME is missing', `try: stream ${command} --help`)
  }
}

/**
 * The topics that the arguments mean, existing ones only; what is unknown is told as a failure with the nearest name.
 * @param options.emptyIsFine  a pattern that matches nothing is no failure, as a listing of nothing is none
 */
export async function findTopics(
  admin: AdminClient,
  { operands, flags }: CommandArgs,
  failures: TargetFailures,
  options: { readonly missingIsFine?: boolean; readonly emptyIsFine?: boolean } = {},
): Promise<TopicInfo[]> {
  const topics = await admin.listTopics()
  const byName = new Map(topics.map((topic) => [topic.name, topic]))
  const { names, empty } = await chooseTopics(
    operands,
    { isRegex: flags.has('regex') },
    async () => [...byName.keys()],
  )
  const found: TopicInfo[] = []
  for (const name of names) {
    const topic = byName.get(name)
    if (topic !== undefined) found.push(topic)
    else if (options.missingIsFine !== true) failures.add(unknownTopic(name, byName.keys()), name)
  }
  if (options.missingIsFine !== true && options.emptyIsFine !== true) {
    for (const pattern of empty) failures.add(unknownTopic(pattern, []), pattern)
  }
  return found
}

function unknownTopic(name: string, known: Iterable<string>): StreamError {
  const nearest = nearestName(name, known)
  return new StreamError('TOPIC_UNKNOWN', `${name}: no such topic (UNKNOWN_TOPIC_OR_PARTITION)`, {
    target: name,
    kafkaError: 3,
    ...(nearest === undefined ? {} : { hint: `did you mean ${nearest}?` }),
  })
}

export function isInternalTopic(topic: TopicInfo): boolean {
  return topic.isInternal || topic.name.startsWith('__')
}

/** `--set K=V`… and what `--compact` and `--retention` stand for. @throws UsageError */
export function readConfigFlags(flags: Flags): Map<string, string> {
  const texts = new Map<string, string>()
  const retention = flags.text('retention')
  if (flags.has('compact')) {
    texts.set('cleanup.policy', retention === undefined ? 'compact' : 'compact,delete')
  }
  if (retention !== undefined) {
    const durationMs = parseDuration(retention)
    const bytes = parseSize(retention)
    if (durationMs !== undefined) texts.set('retention.ms', String(durationMs))
    else if (bytes !== undefined) texts.set('retention.bytes', String(bytes))
    else throw new UsageError(`--retention ${retention}: must be a duration (7d) or a size (10GiB)`)
  }
  for (const word of flags.all('set')) {
    const split = word.indexOf('=')
    if (split <= 0) throw new UsageError(`--set ${word}: must be KEY=VALUE`)
    texts.set(checkTopicKey(word.slice(0, split)), word.slice(split + 1))
  }
  return texts
}

/** A name that looks like a slip is refused; one that is merely unknown may be one of the broker's own. */
export function checkTopicKey(name: string): string {
  if (findKey('topic', name) !== undefined) return name
  const nearest = nearestName(
    name,
    topicKeys.map((key) => key.name),
  )
  if (nearest !== undefined) {
    throw new UsageError(`${name}: no such topic key`, `did you mean ${nearest}?`)
  }
  return name
}

export type OffsetTable = (topic: string, partition: number) => number | undefined

interface OffsetLook {
  readonly isUncommitted?: boolean
  readonly wantsTimestamp?: boolean
  /** Takes the partitions that nobody answers for; absent: one of them is the failure of all. */
  readonly unanswered?: Unanswered
}

/** One place of every led partition; undefined where nobody leads. */
export async function askOffsets(
  admin: AdminClient,
  topics: readonly TopicInfo[],
  at: OffsetPlace,
  options: OffsetLook = {},
): Promise<OffsetTable> {
  const questions = topics.flatMap(({ name, partitions }) =>
    partitions.flatMap(({ partition, leaderId }) =>
      leaderId < 0 ? [] : [{ topic: name, partition, at }],
    ),
  )
  const answers = questions.length === 0 ? [] : await answersOf(admin, questions, options)
  const table = new Map(
    answers.map((answer) => [
      `${answer.topic}/${answer.partition}`,
      options.wantsTimestamp === true ? answer.timestampMs : answer.offset,
    ]),
  )
  return (topic, partition) => table.get(`${topic}/${partition}`)
}

async function answersOf(
  admin: AdminClient,
  questions: readonly OffsetQuestion[],
  { isUncommitted, unanswered }: OffsetLook,
): Promise<readonly OffsetAnswer[]> {
  const isolation = isUncommitted === true ? 'read_uncommitted' : 'read_committed'
  if (unanswered === undefined) return admin.listOffsets(questions, { isolation })
  const outcomes = await admin.listOffsetsEach(questions, { isolation, timeoutMs: ANSWER_MS_MAX })
  for (const outcome of outcomes) unanswered.addOffset(outcome)
  return outcomes.flatMap(({ answer }) => answer ?? [])
}

/** Bytes of a partition on its fullest replica; undefined where the broker does not tell. */
export async function askBytes(
  admin: AdminClient,
  topics: readonly TopicInfo[],
  unanswered?: Unanswered,
): Promise<OffsetTable> {
  const table = new Map<string, number>()
  const patience =
    unanswered === undefined
      ? {}
      : {
          timeoutMs: ANSWER_MS_MAX,
          onUnanswered: (nodeId: number) => unanswered.addBroker(nodeId),
        }
  try {
    for (const row of await admin.describeLogDirectories(topics, patience)) {
      const name = `${row.topic}/${row.partition}`
      table.set(name, Math.max(row.bytes, table.get(name) ?? 0))
    }
  } catch (error) {
    const isUntold =
      isStreamError(error, 'NOT_ALLOWED') || isStreamError(error, 'UNSUPPORTED_BY_BROKER')
    if (!isUntold) throw error
  }
  return (topic, partition) => table.get(`${topic}/${partition}`)
}
