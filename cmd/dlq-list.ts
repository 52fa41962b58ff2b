/** `stream dlq list`: which jobs have dead letters, and of one job which errors. */

import type { Row, RowShape } from '../src/text/rows.ts'
import { formatTime } from '../src/text/time.ts'
import type { Broker } from './broker.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { DlqMarks } from './dlq-marks.ts'
import { originOf } from './dlq-records.ts'
import { expectJob, listJobs, walkLetters } from './dlq-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows, rowForm } from './row-output.ts'
import { chooseTopics, isGlob } from './topic-names.ts'
import { TargetFailures, withAdmin } from './topics-shared.ts'

const shape: RowShape = {
  kind: 'dlq',
  columns: ['JOB', 'OPEN', 'REPLAYED', 'DROPPED', 'OLDEST', 'NEWEST'],
}
const errorShape: RowShape = { kind: 'dlq-error', columns: ['ERROR', 'COUNT', 'FIRST', 'LAST'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'dlq list',
  summary: 'List the jobs with dead letters, or the errors of one job',
  description: [
    'A dead letter is a record that a job could not deal with and has put aside in JOB.dlq; of consume --exec the job is the group. OLDEST and NEWEST are of those that were neither replayed nor dropped.',
    'With one JOB: its open dead letters by error, with the times of the first and the last of each.',
  ],
  operands: [{ name: 'JOB', isOptional: true, isRepeatable: true }],
  options: [
    { long: 'fail-empty', help: 'exit 3 if there is none' },
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream dlq list' },
    { line: 'stream dlq list mailer' },
    { line: "stream dlq list 'mail*' --json | jq -r 'select(.open > 0).job'" },
  ],
  exits: [[3, 'a job given by its name has no dead letters']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  const [only] = operands
  const wantsErrors = operands.length === 1 && only !== undefined && !isGlob(only)
  return withAdmin(deps, args, async ({ broker, admin }) => {
    const failures = new TargetFailures(deps)
    const { names } = await chooseTopics(
      operands.length === 0 ? ['*'] : operands,
      { isRegex: false },
      () => listJobs(admin),
    )
    const showTime = timeCell(rowForm(deps, flags) === 'json')
    const rows: Row[] = []
    for (const job of names) {
      try {
        const topic = await expectJob(admin, job)
        const marks = await DlqMarks.read(deps, broker, job, topic.topicId)
        const options = { topic }
        if (wantsErrors) rows.push(...(await errorRows(deps, broker, options, marks, showTime)))
        else rows.push(await jobRow(deps, broker, { ...options, job }, marks, showTime))
      } catch (error) {
        failures.add(error, job)
      }
    }
    await printRows(deps, flags, wantsErrors ? errorShape : shape, rows)
    if (failures.exit !== 0) return failures.exit
    return rows.length === 0 && flags.has('fail-empty') ? 3 : 0
  })
}

type TimeCell = (ms: number | undefined) => number | string | null

/** Milliseconds in JSON, else as people read it. */
function timeCell(isJson: boolean): TimeCell {
  return (ms) => (ms === undefined ? null : isJson ? ms : formatTime(ms))
}

type Walked = Omit<Parameters<typeof walkLetters>[2], 'from'>

async function jobRow(
  deps: CommandDeps,
  broker: Broker,
  options: Walked & { readonly job: string },
  marks: DlqMarks,
  showTime: TimeCell,
): Promise<Row> {
  const counts = { open: 0, replayed: 0, dropped: 0 }
  const span = new Span()
  await walkLetters(deps, broker, options, (cursor, partition) => {
    const state = marks.stateOf(partition, cursor.offset)
    counts[state] += 1
    if (state === 'open') span.add(cursor.timestampMs)
  })
  const { open, replayed, dropped } = counts
  return [options.job, open, replayed, dropped, showTime(span.first), showTime(span.last)]
}

async function errorRows(
  deps: CommandDeps,
  broker: Broker,
  options: Walked,
  marks: DlqMarks,
  showTime: TimeCell,
): Promise<Row[]> {
  const errors = new Map<string, Span>()
  await walkLetters(deps, broker, options, (cursor, partition) => {
    if (marks.stateOf(partition, cursor.offset) !== 'open') return
    const { error } = originOf(cursor)
    let span = errors.get(error)
    if (span === undefined) {
      span = new Span()
      errors.set(error, span)
    }
    span.add(cursor.timestampMs)
  })
  return [...errors]
    .sort(([, left], [, right]) => right.count - left.count)
    .map(([error, span]) => [error, span.count, showTime(span.first), showTime(span.last)])
}

/** First and last of some moments. */
class Span {
  count = 0
  first: number | undefined
  last: number | undefined

  add(ms: number): void {
    this.count += 1
    this.first = Math.min(this.first ?? ms, ms)
    this.last = Math.max(this.last ?? ms, ms)
  }
}
