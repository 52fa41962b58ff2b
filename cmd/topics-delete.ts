/** `stream topics delete`: prints its plan and asks. */

import { StreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import {
  type CommandSpec,
  changeOptions,
  regexOption,
  rowOptions,
  yesOption,
} from './option-table.ts'
import { confirm } from './prompt.ts'
import { printRows } from './row-output.ts'
import { isGlob } from './topic-names.ts'
import {
  findTopics,
  isInternalTopic,
  requireNames,
  TargetFailures,
  withAdmin,
} from './topics-shared.ts'

const shape: RowShape = { kind: 'topic', columns: ['NAME'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'topics delete',
  summary: 'Delete topics with all their records',
  description: ['Asks first; a glob asks for the number of topics. Without a terminal and without -y it is refused.'],
  operands: [{ name: 'NAME', isRepeatable: true }],
  options: [
    { long: 'if-exists', help: 'fine when there is none' },
    { long: 'internal', help: 'internal topics may be deleted too' },
    regexOption,
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream topics delete scratch -y' },
    { line: "stream topics delete 'test.*' --dry-run" },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such topic'],
  ],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  requireNames(args, spec.name)
  const { flags, operands } = args
  return withAdmin(deps, args, async ({ admin }) => {
    const failures = new TargetFailures(deps)
    const missingIsFine = flags.has('if-exists')
    const found = await findTopics(admin, args, failures, { missingIsFine })
    const topics = found.filter((topic) => isAllowed(topic, flags.has('internal'), failures))
    const rows = topics.map((topic): Row => [topic.name])
    if (topics.length === 0) return failures.exit
    if (flags.has('dry-run')) {
      await printRows(deps, flags, shape, rows)
      return failures.exit
    }
    const isMany = flags.has('regex') || operands.some(isGlob)
    const agrees = await confirm(
      deps,
      flags,
      isMany
        ? `delete these ${topics.length} topics with all records? type their number`
        : `delete ${topics.length === 1 ? topics[0]?.name : `these ${topics.length} topics`} with all records?`,
      isMany ? String(topics.length) : 'y',
      topics.length === 1 ? undefined : { shape, rows },
    )
    if (!agrees) {
      deps.console.warn('nothing deleted')
      return 1
    }
    const deleted: Row[] = []
    for (const { name, error } of await admin.deleteTopics(topics.map((topic) => topic.name))) {
      const isGone = error?.code === 'TOPIC_UNKNOWN' && missingIsFine
      if (error !== undefined && !isGone) failures.add(error, name)
      else deleted.push([name])
    }
    await printRows(deps, flags, shape, deleted)
    return failures.exit
  })
}

function isAllowed(topic: TopicInfo, mayBeInternal: boolean, failures: TargetFailures): boolean {
  if (mayBeInternal || !isInternalTopic(topic)) return true
  failures.add(
    new StreamError('CONFIG_INVALID', `${topic.name}: an internal topic`, {
      target: topic.name,
      hint: 'to delete it nevertheless: --internal',
    }),
    topic.name,
  )
  return false
}
