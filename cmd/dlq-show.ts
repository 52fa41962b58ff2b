/** `stream dlq show`: the dead letters of a job, printed as any records. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import { DlqMarks } from './dlq-marks.ts'
import { dlqTopicOf } from './dlq-records.ts'
import { expectJob, oneJob } from './dlq-shared.ts'
import type { CommandSpec } from './option-table.ts'
import { runRead } from './read-job.ts'
import {
  filterOptions,
  formOptions,
  keyFilterOption,
  outcomeOptions,
  type ReadPlan,
  readPlan,
} from './read-options.ts'
import { withAdmin } from './topics-shared.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'dlq show',
  summary: 'Print the dead letters of a job',
  description: [
    'Those that were neither replayed nor dropped; with --all all that the topic still holds. Key, value and headers are as the job read them; headers that begin with dlq. say where that was and what happened: dlq.topic, dlq.partition, dlq.offset, dlq.ts, dlq.job, dlq.batch, dlq.attempts, dlq.error, dlq.exit, dlq.stderr, dlq.replays.',
  ],
  operands: [{ name: 'JOB' }],
  options: [
    { long: 'all', help: 'those that were replayed or dropped, too' },
    { long: 'from', argument: 'POS', help: 'where to start in JOB.dlq: start, N, +N, -N, a TIME, or P=POS,…' },
    { long: 'count', short: 'n', argument: 'N', help: 'stop when so many records are printed' },
    { long: 'partition', short: 'p', argument: 'LIST', help: 'only these partitions of JOB.dlq: 0,2-4' },
    ...formOptions,
    keyFilterOption,
    ...filterOptions,
    ...outcomeOptions,
  ],
  examples: [
    { line: 'stream dlq show mailer' },
    { line: `stream dlq show mailer --json | jq -r '.headers[] | select(.[0]=="dlq.error")[1]' | sort | uniq -c` },
    { line: "stream dlq show mailer --grep 'h:dlq.error=/timeout/' -F '%d{iso} %h\\n'" },
  ],
  exits: [[3, 'the job has no dead letters']],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const job = oneJob(args, spec.name)
  const topicArgs = { flags: flags.without('all'), operands: [dlqTopicOf(job)] }
  const plan = readPlan(deps, topicArgs, { command: spec.name, follows: false })
  let marks: DlqMarks | undefined
  await withAdmin(deps, args, async ({ broker, admin }) => {
    const topic = await expectJob(admin, job)
    if (!flags.has('all')) marks = await DlqMarks.read(deps, broker, job, topic.topicId)
    return 0
  })
  const known = marks
  if (known === undefined) return runRead(deps, topicArgs, plan)
  const isWanted = (partition: number, offset: number): boolean =>
    known.stateOf(partition, offset) === 'open'
  const open: ReadPlan = { ...plan, filter: { ...plan.filter, isWanted } }
  return runRead(deps, topicArgs, open)
}
