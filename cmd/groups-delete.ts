/** `stream groups delete`: groups with all that they have committed, or what they have committed of some topics; asks. */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { findGroups, refuseLive, requireGroups, withGroups } from './groups-shared.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import { TargetFailures } from './topics-shared.ts'

const shape: RowShape = { kind: 'group', columns: ['GROUP'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'groups delete',
  summary: 'Delete consumer groups, or their offsets of a topic',
  description: ['A group must have no live members. With --topic only what it has committed of that topic is deleted.'],
  operands: [{ name: 'GROUP', isRepeatable: true }],
  options: [
    { long: 'topic', short: 't', argument: 'NAME', isRepeatable: true, help: "only the group's offsets of this topic" },
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream groups delete nightly -y' },
    { line: 'stream groups delete nightly -t old-topic -y' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such group, or it has committed nothing of the topic'],
    [8, 'the group has live members'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  requireGroups(args, spec.name)
  const { flags } = args
  const topics = flags.all('topic')
  return withGroups(deps, args, async ({ groups }) => {
    const failures = new TargetFailures(deps)
    const found = await findGroups(groups, args.operands, failures)
    const doomed = found.filter((group) => {
      try {
        refuseLive(group, 'delete it')
        return true
      } catch (error) {
        if (!isStreamError(error)) throw error
        failures.add(error, group.groupId)
        return false
      }
    })
    const rows: Row[] = doomed.map(({ groupId }) => [groupId])
    if (rows.length === 0) return failures.exit
    if (flags.has('dry-run')) {
      await printRows(deps, flags, shape, rows)
      return failures.exit
    }
    const what =
      topics.length === 0 ? 'with all their offsets' : `their offsets of ${topics.join(', ')}`
    const question = `delete ${rows.length} groups, ${what}?`
    if (!(await confirm(deps, flags, question, 'y', { shape, rows }))) {
      deps.console.warn('nothing deleted')
      return 1
    }
    const deleted: Row[] = []
    for (const { groupId } of doomed) {
      try {
        if (topics.length > 0) {
          const offsets = await groups.offsets(groupId)
          const wanted = offsets.filter(({ topic }) => topics.includes(topic))
          if (wanted.length === 0) throw nothingOf(groupId, topics)
          await groups.deleteOffsets(groupId, wanted)
        } else {
          const { error } = await groups.delete(groupId)
          if (error !== undefined) throw error
        }
        deleted.push([groupId])
      } catch (error) {
        if (!isStreamError(error)) throw error
        failures.add(error, groupId)
      }
    }
    await printRows(deps, flags, shape, deleted)
    return failures.exit
  })
}

function nothingOf(group: string, topics: readonly string[]): StreamError {
  const words = `group ${group} has committed nothing of ${topics.join(', ')}`
  return new StreamError('NAME_UNKNOWN', words, {
    target: group,
    hint: `what it has: stream groups describe ${group}`,
  })
}
