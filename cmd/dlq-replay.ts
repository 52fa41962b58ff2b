/** `stream dlq replay`: gives dead letters back to their job; asks. */

import { StreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { RecordInput } from '../src/record/batch-builder.ts'
import type { Broker } from './broker.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { DlqChanges } from './dlq-changes.ts'
import { DlqEdit } from './dlq-edit.ts'
import { DlqMarks } from './dlq-marks.ts'
import { replayRecord, replaysOf, retryTopicOf } from './dlq-records.ts'
import {
  choiceOptions,
  chooseLetters,
  expectJob,
  type Letter,
  letterRow,
  letterShape,
  oneJob,
  walkLetters,
} from './dlq-shared.ts'
import type { Flags } from './flags.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import { withAdmin } from './topics-shared.ts'

const REPLAYS_MAX = 3

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'dlq replay',
  summary: 'Give dead letters back to their job',
  description: [
    'Prints its plan, and asks first. Copies the records to JOB.retry, which only this job reads, by itself, and marks them as replayed in the same transaction: each is given back once, however a run ends. What the job cannot deal with again comes back to JOB.dlq as a new dead letter that counts its replays.',
    '--edit CMD passes the envelopes through sh -c CMD before; it may change them and leave some out, which stay open, and must keep their partition and offset. If it fails nothing is replayed.',
  ],
  operands: [{ name: 'JOB' }],
  options: [
    ...choiceOptions,
    { long: 'edit', argument: 'CMD', help: 'pass the envelopes through this command first' },
    { long: 'max-replays', argument: 'N', default: '3', help: 'those that were replayed so often already are left out, with exit 8' },
    { long: 'fail-empty', help: 'exit 3 if there is none' },
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: letterShape.columns,
  examples: [
    { line: "stream dlq replay mailer --grep 'h:dlq.error=/timeout/' --dry-run" },
    { line: `stream dlq replay mailer --edit "jq -c '.key = null'" -n 1 -y` },
    { line: 'stream dlq replay mailer -y' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'the job has no dead letters'],
    [8, 'some were replayed --max-replays times already; another run changes them'],
    [9, '--edit failed'],
  ],
}

interface Session {
  readonly broker: Broker
  readonly topic: TopicInfo
  readonly job: string
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const job = oneJob(args, spec.name)
  const replaysMax = flags.wholeNumber('max-replays') ?? REPLAYS_MAX
  return withAdmin(deps, args, async ({ broker, admin }) => {
    const topic = await expectJob(admin, job)
    const session: Session = { broker, topic, job }
    const marks = await DlqMarks.read(deps, broker, job, topic.topicId)
    const chosen = await chooseLetters(deps, broker, flags, topic, marks)
    const letters = chosen.filter(({ facts }) => replaysOf(facts) < replaysMax)
    const isExhausted = tellExhausted(deps, job, chosen.length - letters.length, replaysMax)
    const exit = await edited(deps, flags, session, letters)
    return isExhausted ? 8 : exit
  })
}

function tellExhausted(deps: CommandDeps, job: string, count: number, replaysMax: number): boolean {
  if (count === 0) return false
  const noun = count === 1 ? 'dead letter was' : 'dead letters were'
  deps.console.error(
    new StreamError('CONFLICT', `${job}: ${count} ${noun} replayed ${replaysMax} times already`, {
      target: job,
      hint: `to replay them nevertheless: --max-replays ${replaysMax + 1}`,
    }),
  )
  return true
}

/** Through --edit, where it is given. */
async function edited(
  deps: CommandDeps,
  flags: Flags,
  session: Session,
  letters: readonly Letter[],
): Promise<number> {
  const command = flags.text('edit')
  if (command === undefined || letters.length === 0) return replay(deps, flags, session, letters)
  const edit = new DlqEdit(deps, letters)
  try {
    const kept = await edit.run(session.broker, session.topic, command)
    return await replay(deps, flags, session, kept, edit)
  } finally {
    edit.close()
  }
}

async function replay(
  deps: CommandDeps,
  flags: Flags,
  session: Session,
  letters: readonly Letter[],
  edit?: DlqEdit,
): Promise<number> {
  const { broker, job, topic } = session
  const rows = letters.map(letterRow)
  if (letters.length === 0) return flags.has('fail-empty') ? 3 : 0
  if (flags.has('dry-run')) {
    await printRows(deps, flags, letterShape, rows)
    return 0
  }
  const question = `give ${letters.length} dead letters back to ${job} (${retryTopicOf(job)})?`
  if (!(await confirm(deps, flags, question, 'y', { shape: letterShape, rows }))) {
    deps.console.warn('nothing replayed')
    return 1
  }
  const changes = new DlqChanges(deps, broker, job, topic)
  const done: Letter[] = []
  let isStopped = false
  const stopListening = deps.interruption.onRaised(() => {
    isStopped = true
  })
  try {
    const open = await changes.open(letters, { takesAll: flags.has('all'), sends: true })
    const send = async (letter: Letter, record: RecordInput): Promise<void> => {
      if (isStopped) return
      await changes.replay(letter.partition, letter.offset, record)
      done.push(letter)
    }
    if (edit !== undefined) await edit.each(open, send)
    else await sendPlain(deps, session, open, { send, isOver: () => isStopped })
    await changes.commit()
  } catch (error) {
    await changes.abort()
    if (changes.changed > 0) deps.console.warn(`${changes.changed} were replayed before`)
    throw changes.failureOf(error)
  } finally {
    stopListening()
  }
  await printRows(deps, flags, letterShape, done.map(letterRow))
  return 0
}

/** The records as they are, read once more. */
function sendPlain(
  deps: CommandDeps,
  { broker, topic }: Session,
  letters: readonly Letter[],
  to: {
    readonly send: (letter: Letter, record: RecordInput) => Promise<void>
    readonly isOver: () => boolean
  },
): Promise<void> {
  const wanted = new Map(letters.map((letter) => [`${letter.partition}/${letter.offset}`, letter]))
  return walkLetters(deps, broker, { topic, isOver: to.isOver }, (cursor, partition) => {
    const letter = wanted.get(`${partition}/${cursor.offset}`)
    if (letter === undefined) return undefined
    return to.send(letter, replayRecord(cursor, deps.time.wallMs()))
  })
}
