/** `stream topics diff`: what `apply` would do. */

import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { readTopicsOperand } from './topics-apply.ts'
import { planShape, planTopics, stepRows } from './topics-plan.ts'
import { withAdmin } from './topics-shared.ts'

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
    [2, 'FILE is wrong'],
    [3, 'no such file'],
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const wanted = await readTopicsOperand(deps, args, spec.name)
  return withAdmin(deps, args, async ({ admin }) => {
    const plan = await planTopics(admin, wanted, args.flags.has('prune'))
    await printRows(deps, args.flags, planShape, plan.flatMap(stepRows))
    return plan.length === 0 ? 0 : 1
  })
}
