/** `stream groups describe`: the partitions of groups, or their members. */

import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import {
  findGroups,
  lagRows,
  oldestSeconds,
  requireGroups,
  tellBehindEnd,
  withGroups,
} from './groups-shared.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import { TargetFailures } from './topics-shared.ts'
import { Unanswered } from './unanswered.ts'

const partitionShape: RowShape = {
  kind: 'group-partition',
  columns: ['GROUP', 'TOPIC', 'PARTITION', 'COMMITTED', 'END', 'LAG', 'SECONDS', 'MEMBER', 'HOST'],
}
const memberShape: RowShape = {
  kind: 'group-member',
  columns: ['GROUP', 'MEMBER', 'INSTANCE', 'CLIENT', 'HOST', 'PARTITIONS'],
}

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'groups describe',
  summary: 'Describe the partitions or the members of consumer groups',
  description: ['SECONDS is the age of the oldest unread record. LAG is below 0 where the group has committed more than there is. MEMBER is the instance id of a static member, else its member id. With --members: GROUP MEMBER INSTANCE CLIENT HOST PARTITIONS, one row for each member.'],
  operands: [{ name: 'GROUP', isRepeatable: true }],
  options: [
    { long: 'members', help: 'one row for each member' },
    ...rowOptions,
  ],
  columns: partitionShape.columns,
  examples: [
    { line: 'stream groups describe nightly' },
    { line: 'stream groups describe nightly --members --json' },
  ],
  exits: [[3, 'no such group'], [7, 'a broker does not answer; the rows are printed']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  requireGroups(args, spec.name)
  const { flags } = args
  return withGroups(deps, args, async (session) => {
    const failures = new TargetFailures(deps)
    const found = await findGroups(session.groups, args.operands, failures)
    const rows: Row[] = []
    const isOfMembers = flags.has('members')
    const unanswered = new Unanswered()
    for (const group of found) {
      const { groupId } = group
      if (isOfMembers) {
        for (const { memberId, instanceId, clientId, host, partitions } of group.members) {
          const count = partitions.reduce((sum, each) => sum + each.partitions.length, 0)
          rows.push([groupId, memberId, instanceId, clientId, host, count])
        }
        continue
      }
      const lags = await lagRows(deps, session, group, { wantsSeconds: true, unanswered })
      tellBehindEnd(deps, groupId, lags)
      for (const row of lags) {
        const { topic, partition, committed, end, lag, member, host } = row
        const seconds = oldestSeconds([row])
        rows.push([groupId, topic, partition, committed, end, lag, seconds, member, host])
      }
    }
    await printRows(deps, flags, isOfMembers ? memberShape : partitionShape, rows)
    for (const error of unanswered.errors()) failures.add(error)
    return failures.exit
  })
}
