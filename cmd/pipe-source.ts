import type { CommandArgs, CommandDeps } from './deps.ts'
import type { PipePlan } from './pipe-plan.ts'

export async function runSource(
  _deps: CommandDeps,
  _args: CommandArgs,
  _plan: PipePlan,
): Promise<number> {
  throw new Error('to come')
}
