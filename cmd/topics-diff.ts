/** `stream topics diff`: what `apply` would do. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { readTopicsOperand, refuseImpossible } from './topics-apply.ts'
import { planShape, planTopics, stepRows } from './topics-plan.ts'
import { TargetFailures, withAdmin } from './topics-shared.ts'

export const spec: CommandSpec = {
  name: 'topics diff',
  summary: 'Show how the topics differ from a file',
  description: ['The plan of topics apply with the same FILE; nothing is changed.'],
  operands: [{ name: 'FILE' }],
  options: [{ long: 'prune', help: 'topics that FILE lacks are differences too' }, ...rowOptions],
  columns: planShape.columns,
  examples: [
    {
      line: "stream topics describe 'orders*' --json > topics.ndjson; stream topics diff topics.ndjson",
    },
  ],
  exits: [
    [0, 'no differences'],
    [1, 'differences'],
    [2, 'FILE is wrong, or a change that cannot be made'],
    [3, 'no such file'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const wanted = await readTopicsOperand(deps, args, spec.name)
  return withAdmin(deps, args, async ({ admin }) => {
    const plan = await planTopics(admin, wanted, args.flags.has('prune'))
    const failures = new TargetFailures(deps)
    for (const step of plan) refuseImpossible(step, failures)
    await printRows(deps, args.flags, planShape, plan.flatMap(stepRows))
    return failures.exit || Number(plan.length > 0)
  })
}
