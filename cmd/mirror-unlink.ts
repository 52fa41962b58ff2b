/** `stream mirror unlink`: ends a link; its topics stay, and are promoted as they are. Asks first. */

import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { lagOf, requireLinkName, waitForLink, withLinks } from './mirror-shared.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'

const shape: RowShape = { kind: 'mirror', columns: ['NAME', 'TOPIC', 'LAG'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'mirror unlink',
  summary: 'End a link; its topics stay',
  description: ['The topics stay with what is here, and become writable as by stream mirror promote. LAG is what had not come, - where it is not known or the topic was promoted before. Asks first.'],
  operands: [{ name: 'NAME' }],
  options: [yesOption, ...changeOptions, ...rowOptions],
  columns: shape.columns,
  examples: [{ line: 'stream mirror unlink west -y' }],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such link'],
    [7, '--timeout came before it was done; it goes on'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = requireLinkName(args, spec.name)
  const { flags } = args
  return withLinks(deps, args, async (session) => {
    const link = await session.links.describeOne(name)
    const rows = link.topics
      .filter(({ state }) => state !== 'refused')
      .map(({ name: topic, partitions }): Row => {
        const lags = partitions.map(lagOf)
        const isKnown = partitions.length > 0 && lags.every((lag) => lag !== undefined)
        return [name, topic, isKnown ? lags.reduce<number>((a, lag) => a + (lag ?? 0), 0) : null]
      })
    if (flags.has('dry-run')) {
      await printRows(deps, flags, shape, rows)
      return 0
    }
    const question = `end link ${name}, and make its topics writable as they are?`
    if (!(await confirm(deps, flags, question, 'y', { shape, rows }))) {
      deps.console.warn('nothing ended')
      return 1
    }
    await session.links.alter(name, 'unlink', undefined)
    const timeoutMs = flags.durationMs('timeout')
    const isGone = (found: unknown): boolean => found === undefined
    await waitForLink(deps, session, name, timeoutMs, isGone, 'the link is not gone')
    await printRows(deps, flags, shape, rows)
    return 0
  })
}
