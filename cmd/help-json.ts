/** `--help-json`: the tables as they are, for programs that complete or check command lines. */

import type { CommandDeps } from './deps.ts'
import { allOptions, type CommandSpec } from './option-table.ts'
import { printText } from './row-output.ts'

export async function printSpecAsJson(deps: CommandDeps, spec: CommandSpec): Promise<number> {
  await printText(deps.stdio.output, `${JSON.stringify(specObject(spec))}\n`)
  return 0
}

export async function printAllAsJson(deps: CommandDeps): Promise<number> {
  const lines: string[] = []
  for (const entry of deps.commands) {
    const { spec } = await entry.load()
    lines.push(`${JSON.stringify(specObject(spec))}\n`)
  }
  await printText(deps.stdio.output, lines.join(''))
  return 0
}

function specObject(spec: CommandSpec): object {
  return {
    v: 1,
    kind: 'command',
    name: spec.name,
    summary: spec.summary,
    operands: spec.operands.map(({ name, isOptional, isRepeatable }) => ({
      name,
      optional: isOptional ?? false,
      repeatable: isRepeatable ?? false,
    })),
    flags: allOptions(spec).map((option) => ({
      long: option.long,
      short: option.short ?? null,
      argument: option.argument ?? null,
      choices: option.choices ?? null,
      repeatable: option.isRepeatable ?? false,
      default: option.default ?? null,
      help: option.help,
    })),
    columns: spec.columns ?? null,
    examples: spec.examples.map((example) => example.line),
  }
}
