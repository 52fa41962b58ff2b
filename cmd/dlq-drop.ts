/** `stream dlq drop`: marks dead letters as dropped; asks. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import { DlqChanges } from './dlq-changes.ts'
import { DlqMarks } from './dlq-marks.ts'
import {
  choiceOptions,
  chooseLetters,
  expectJob,
  letterRow,
  letterShape,
  oneJob,
} from './dlq-shared.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import { withAdmin } from './topics-shared.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'dlq drop',
  summary: 'Give dead letters of a job up for good',
  description: ['Prints what it changes, and asks first. They are only marked, and no longer open: the records stay in JOB.dlq until its retention takes them, and dlq show --all prints them.'],
  operands: [{ name: 'JOB' }],
  options: [
    ...choiceOptions,
    { long: 'fail-empty', help: 'exit 3 if there is none' },
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: letterShape.columns,
  examples: [
    { line: "stream dlq drop mailer --grep 'h:dlq.error=/no such user/' --dry-run" },
    { line: 'stream dlq drop mailer -n 10 -y' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'the job has no dead letters'],
    [8, 'another run changes them'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const job = oneJob(args, spec.name)
  return withAdmin(deps, args, async ({ broker, admin }) => {
    const topic = await expectJob(admin, job)
    const marks = await DlqMarks.read(deps, broker, job, topic.topicId)
    const chosen = await chooseLetters(deps, broker, flags, topic, marks)
    const rows = chosen.map(letterRow)
    if (chosen.length === 0) return flags.has('fail-empty') ? 3 : 0
    if (!flags.has('dry-run')) {
      const question = `drop ${chosen.length} dead letters of ${job}?`
      if (!(await confirm(deps, flags, question, 'y', { shape: letterShape, rows }))) {
        deps.console.warn('nothing dropped')
        return 1
      }
      const changes = new DlqChanges(deps, broker, job, topic)
      try {
        const takesAll = flags.has('all')
        for (const letter of await changes.open(chosen, { takesAll, sends: false })) {
          await changes.drop(letter.partition, letter.offset)
        }
        await changes.commit()
      } catch (error) {
        await changes.abort()
        throw changes.failureOf(error)
      }
    }
    await printRows(deps, flags, letterShape, rows)
    return 0
  })
}
