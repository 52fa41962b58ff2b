/** What the verbs of `stream dlq` share: the topic of a job, and a walk over its dead letters. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import { RecordCursor } from '../src/record/record-cursor.ts'
import { type Positions, parsePositions } from '../src/text/position.ts'
import { parseGrep, RecordFilter } from '../src/text/record-filter.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { Broker } from './broker.ts'
import type { AdminClient, ConsumerClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { DlqMarks } from './dlq-marks.ts'
import { type DeadFacts, dlqTopicOf, jobsOf, originOf } from './dlq-records.ts'
import type { Flags } from './flags.ts'
import type { OptionSpec } from './option-table.ts'
import { resolveRanges } from './read-range.ts'

/** Which dead letters a change is of. */
// biome-ignore format: one row, one line
export const choiceOptions: readonly OptionSpec[] = [
  { long: 'grep', argument: 'FILTER', isRepeatable: true, help: 'only records that match [!]k:/RE/, v:/RE/ or h:NAME=/RE/, such as h:dlq.error=/timeout/' },
  { long: 'partition', short: 'p', argument: 'LIST', help: 'only these partitions of JOB.dlq: 0,2-4' },
  { long: 'count', short: 'n', argument: 'N', help: 'at most so many' },
  { long: 'from', argument: 'POS', help: 'only from here on in JOB.dlq: N, -N, a TIME, or P=POS,…' },
  { long: 'all', help: 'those that were replayed or dropped before, too' },
]

/** @throws UsageError unless there is exactly one */
export function oneJob({ operands }: CommandArgs, command: string): string {
  const [job, ...more] = operands
  if (job === undefined || job === '') {
    throw new UsageError('JOB is missing', `try: stream ${command} --help`)
  }
  if (more.length > 0) throw new UsageError(`${more[0]}: one JOB is all`)
  return job
}

/** The jobs that have a topic for dead letters. */
export async function listJobs(admin: AdminClient): Promise<string[]> {
  return jobsOf(await admin.listTopics())
}

/** @throws StreamError NAME_UNKNOWN */
export async function expectJob(admin: AdminClient, job: string): Promise<TopicInfo> {
  const [topic] = await admin.describeTopics([dlqTopicOf(job)])
  if (topic !== undefined && topic.errorCode === 0) return topic
  const nearest = nearestName(job, await listJobs(admin))
  throw new StreamError(
    'NAME_UNKNOWN',
    `${job}: has no dead letters (no topic ${dlqTopicOf(job)})`,
    {
      target: job,
      hint: nearest === undefined ? 'to see who has: stream dlq list' : `did you mean ${nearest}?`,
    },
  )
}

/** A dead letter, without its contents. */
export interface Letter {
  readonly partition: number
  readonly offset: number
  readonly timestampMs: number
  readonly facts: DeadFacts
}

export const letterShape: RowShape = {
  kind: 'dead-letter',
  columns: ['PARTITION', 'OFFSET', 'TOPIC', 'REPLAYS', 'ERROR'],
}

export function letterRow({ partition, offset, facts }: Letter): Row {
  return [partition, offset, facts.topic, Number(facts.replays), facts.error]
}

export interface WalkOptions {
  readonly topic: TopicInfo
  readonly from?: Positions
  readonly partitions?: readonly number[] | undefined
  /** Asked between batches. */
  readonly isOver?: () => boolean
}

/**
 * All records of a topic for dead letters, up to its end as it is now.
 * @param visit  the cursor stands on one; a promise is waited for
 * @throws StreamError of reading
 */
export async function walkLetters(
  deps: CommandDeps,
  { cluster }: Broker,
  { topic, from, partitions, isOver }: WalkOptions,
  visit: (cursor: RecordCursor, partition: number) => void | Promise<void>,
): Promise<void> {
  const wanted = topic.partitions
    .filter(({ partition }) => partitions?.includes(partition) ?? true)
    .map(({ partition }) => ({ topic: topic.name, partition }))
  const ranges = await resolveRanges(
    wanted,
    { all: from?.all ?? { kind: 'start' }, places: from?.places ?? [] },
    { all: { kind: 'end' }, places: [] },
    (questions) => deps.clients.listOffsets(cluster, questions),
  )
  const consumer: ConsumerClient = await deps.clients.consumer(cluster, {})
  const cursor = new RecordCursor()
  try {
    consumer.assign(
      ranges.map(({ topic: name, partition, startOffset, endOffset }) => ({
        topic: name,
        partition,
        startOffset,
        endOffset: endOffset ?? startOffset,
      })),
    )
    while (!consumer.isDone && isOver?.() !== true) {
      const event = consumer.poll()
      if (event === undefined) {
        await consumer.wait()
        continue
      }
      if (event.kind === 'failed') throw event.error
      if (event.kind !== 'records') continue
      for (const at of event.batches) {
        cursor.reset(event.bytes, at)
        while (cursor.next()) {
          if (cursor.offset < event.fromOffset || cursor.offset >= event.untilOffset) continue
          const pause = visit(cursor, event.partition)
          if (pause !== undefined) await pause
        }
      }
    }
  } finally {
    consumer.close()
  }
}

/** The dead letters that the flags mean, by partition and offset. @throws UsageError; as walkLetters */
export async function chooseLetters(
  deps: CommandDeps,
  broker: Broker,
  flags: Flags,
  topic: TopicInfo,
  marks: DlqMarks,
): Promise<Letter[]> {
  const countMax = flags.wholeNumber('count') ?? Number.POSITIVE_INFINITY
  const from = readFrom(deps, flags)
  const partitions = flags.partitions('partition')
  const filter = readFilter(flags)
  const takesAll = flags.has('all')
  const letters: Letter[] = []
  const options = {
    topic,
    partitions,
    isOver: () => letters.length >= countMax,
    ...(from === undefined ? {} : { from }),
  }
  await walkLetters(deps, broker, options, (cursor, partition) => {
    if (letters.length >= countMax) return
    const { offset, timestampMs } = cursor
    if (!takesAll && marks.stateOf(partition, offset) !== 'open') return
    if (filter.matches(cursor)) {
      letters.push({ partition, offset, timestampMs, facts: originOf(cursor) })
    }
  })
  return letters.sort(
    (left, right) => left.partition - right.partition || left.offset - right.offset,
  )
}

function readFrom(deps: CommandDeps, flags: Flags): Positions | undefined {
  const text = flags.text('from')
  if (text === undefined) return undefined
  const positions = parsePositions(text, deps.time.wallMs())
  if (positions !== undefined) return positions
  throw new UsageError(`--from ${text}: must be start, N, -N, a time, or P=POS,…`)
}

function readFilter(flags: Flags): RecordFilter {
  const grep = flags.all('grep').map((text) => {
    const term = parseGrep(text)
    if (typeof term === 'string') throw new UsageError(`--grep ${text}: ${term}`)
    return term
  })
  return new RecordFilter({ grep })
}
