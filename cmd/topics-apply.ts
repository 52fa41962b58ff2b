/** `stream topics apply`: makes the topics what a file says. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { NewTopic } from '../src/client/admin.ts'
import type { AdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import { parseTopicsFile } from './topics-file.ts'
import { planShape, planTopics, stepRows, type TopicStep } from './topics-plan.ts'
import { TargetFailures, withAdmin } from './topics-shared.ts'
import { readWholeInput } from './whole-input.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'topics apply',
  summary: 'Make the topics what a file says',
  description: [
    'FILE (- is standard input) has objects with name, partitions, replicas and config, one a line or in one array, as topics describe --json prints them. config is the whole of a topic\'s own settings: what it lacks is unset; without config the settings stay.',
    'Topics that FILE lacks are left alone; with --prune they are deleted, after asking, but never internal ones. Partitions can only be added. Applying twice changes nothing.',
  ],
  operands: [{ name: 'FILE' }],
  options: [
    { long: 'prune', help: 'delete the topics that FILE lacks' },
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: planShape.columns,
  examples: [
    { line: 'stream topics apply topics.ndjson --dry-run' },
    { line: 'stream topics apply topics.ndjson --prune -y' },
  ],
  exits: [
    [2, 'FILE is wrong, a change that cannot be made, or refused for want of -y'],
    [3, 'no such file'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const wanted = await readTopicsOperand(deps, args, spec.name)
  return withAdmin(deps, args, async ({ admin }) => {
    const plan = await planTopics(admin, wanted, flags.has('prune'))
    const failures = new TargetFailures(deps)
    if (flags.has('dry-run')) {
      for (const step of plan) refuseImpossible(step, failures)
      await printRows(deps, flags, planShape, plan.flatMap(stepRows))
      return failures.exit
    }
    const deletions = plan.filter(({ action }) => action === 'delete')
    if (deletions.length > 0) {
      const names =
        deletions.length === 1 ? `topic ${deletions[0]?.name}` : `${deletions.length} topics`
      const question = `apply this, and delete ${names} with all records?`
      const rows = plan.flatMap(stepRows)
      if (!(await confirm(deps, flags, question, 'y', { shape: planShape, rows }))) {
        deps.console.warn('nothing changed')
        return 1
      }
    }
    const done = await carryOut(admin, plan, failures)
    await printRows(deps, flags, planShape, done.flatMap(stepRows))
    return failures.exit
  })
}

/** @throws UsageError, StreamError FILE_NOT_FOUND, CONFIG_INVALID */
export async function readTopicsOperand(
  deps: CommandDeps,
  { operands }: CommandArgs,
  command: string,
) {
  const [path, extra] = operands
  if (path === undefined) throw new UsageError('FILE is missing', `try: stream ${command} --help`)
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`)
  return parseTopicsFile(await readWholeInput(deps, path), path === '-' ? 'standard input' : path)
}

type StepOf<Action extends TopicStep['action']> = TopicStep & { readonly action: Action }

/** @returns the steps that were done */
async function carryOut(
  admin: AdminClient,
  plan: readonly TopicStep[],
  failures: TargetFailures,
): Promise<TopicStep[]> {
  const possible = plan.filter((step) => refuseImpossible(step, failures))
  const creations = possible.filter((step): step is StepOf<'create'> => step.action === 'create')
  const changes = possible.filter((step): step is StepOf<'alter'> => step.action === 'alter')
  const deletions = possible.filter((step): step is StepOf<'delete'> => step.action === 'delete')
  return [
    ...(await create(admin, creations, failures)),
    ...(await alter(admin, changes, failures)),
    ...(await remove(admin, deletions, failures)),
  ]
}

/** @returns whether it can be done; what cannot is told as a failure */
export function refuseImpossible(step: TopicStep, failures: TargetFailures): boolean {
  if (step.action !== 'alter') return true
  const { name, partitions, replicas } = step
  const refuse = (message: string, hint?: string): false => {
    const details = { target: name, ...(hint === undefined ? {} : { hint }) }
    failures.add(new StreamError('CONFIG_INVALID', `${name}: ${message}`, details), name)
    return false
  }
  if (partitions !== undefined && partitions[1] < partitions[0]) {
    return refuse(`it has ${partitions[0]} partitions, and they can only become more`)
  }
  if (replicas !== undefined) {
    return refuse(
      `it has ${replicas[0]} replicas; apply does not move replicas`,
      `set replicas to ${replicas[0]} in the file, or leave it out`,
    )
  }
  return true
}

async function create(
  admin: AdminClient,
  steps: readonly StepOf<'create'>[],
  failures: TargetFailures,
): Promise<TopicStep[]> {
  if (steps.length === 0) return []
  const outcomes = await admin.createTopics(
    steps.map(
      ({ topic: { name, partitions, replicas, configs } }): NewTopic => ({
        name,
        partitions: partitions ?? 1,
        ...(replicas === undefined ? {} : { replicas }),
        ...(configs === undefined ? {} : { configs: Object.fromEntries(configs) }),
      }),
    ),
  )
  const done: TopicStep[] = []
  for (const [index, { name, error }] of outcomes.entries()) {
    const step = steps[index]
    if (error !== undefined) failures.add(error, name)
    else if (step !== undefined) {
      try {
        await admin.awaitTopic(name)
        done.push(step)
      } catch (failure) {
        failures.add(failure, name)
      }
    }
  }
  return done
}

/** A topic of which one part failed is told as failed, though the other part may be done. */
async function alter(
  admin: AdminClient,
  steps: readonly StepOf<'alter'>[],
  failures: TargetFailures,
): Promise<TopicStep[]> {
  const failed = new Set<string>()
  const fail = (error: unknown, name: string): void => {
    failed.add(name)
    failures.add(error, name)
  }
  // Settings first: partitions that were added cannot be taken back where the settings turn out to be wrong.
  const changed = steps.filter(({ configs }) => configs.size > 0)
  if (changed.length > 0) {
    const outcomes = await admin.alterConfigs(
      changed.map(({ name, configs }) => ({
        kind: 'topic',
        name,
        set: Object.fromEntries(
          [...configs].flatMap(([key, text]) => (text === undefined ? [] : [[key, text]])),
        ),
        unset: [...configs].flatMap(([key, text]) => (text === undefined ? [key] : [])),
      })),
    )
    for (const { name, error } of outcomes) if (error !== undefined) fail(error, name)
  }
  const grown = steps.flatMap(({ name, partitions }) =>
    partitions === undefined || failed.has(name) ? [] : [{ name, count: partitions[1] }],
  )
  if (grown.length > 0) {
    for (const { name, error } of await admin.createPartitions(grown)) {
      if (error !== undefined) fail(error, name)
    }
  }
  return steps.filter(({ name }) => !failed.has(name))
}

async function remove(
  admin: AdminClient,
  steps: readonly StepOf<'delete'>[],
  failures: TargetFailures,
): Promise<TopicStep[]> {
  if (steps.length === 0) return []
  const outcomes = await admin.deleteTopics(steps.map(({ name }) => name))
  return steps.filter((_, index) => {
    const error = outcomes[index]?.error
    // Somebody else was faster: it is as it should be.
    if (error === undefined || error.code === 'TOPIC_UNKNOWN') return true
    failures.add(error, steps[index]?.name ?? '')
    return false
  })
}
