/** `stream topics alter`. */

import { UsageError } from '../src/base/errors.ts'
import type { ConfigChange } from '../src/client/admin.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { AdminClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CommandSpec, changeOptions, regexOption, rowOptions } from './option-table.ts'
import { printRows } from './row-output.ts'
import {
  checkTopicKey,
  findTopics,
  readConfigFlags,
  requireNames,
  TargetFailures,
  withAdmin,
} from './topics-shared.ts'

const shape: RowShape = { kind: 'change', columns: ['NAME', 'KEY', 'OLD', 'NEW'] }

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'topics alter',
  summary: 'Change settings of topics, or add partitions',
  description: ['Partitions can only be added; the partition of a key then changes, so records of one key are no longer in one place.'],
  operands: [{ name: 'NAME', isRepeatable: true }],
  options: [
    { long: 'set', argument: 'K=V', isRepeatable: true, help: 'a setting' },
    { long: 'unset', argument: 'K', isRepeatable: true, help: 'back to the default' },
    { long: 'partitions', argument: 'N', help: 'so many in all' },
    regexOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream topics alter orders --set retention.ms=86400000' },
    { line: 'stream topics alter orders --unset retention.ms --partitions 24' },
  ],
  exits: [[3, 'no such topic']],
}

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  requireNames(args, spec.name)
  const { flags } = args
  const set = readConfigFlags(flags)
  const unset = flags.all('unset').map(checkTopicKey)
  const count = flags.wholeNumber('partitions')
  if (set.size === 0 && unset.length === 0 && count === undefined) {
    throw new UsageError('nothing to change', 'give --set, --unset or --partitions')
  }
  return withAdmin(deps, args, async ({ admin }) => {
    const failures = new TargetFailures(deps)
    let topics: readonly TopicInfo[] = await findTopics(admin, args, failures)
    const isTrial = flags.has('dry-run')
    const rows: Row[] = []
    // Settings first: partitions that were added cannot be taken back where the settings turn out to be wrong.
    if (set.size > 0 || unset.length > 0) {
      const changed = await changeConfigs(admin, topics, { set, unset, isTrial }, failures)
      rows.push(...changed.rows)
      topics = changed.topics
    }
    if (count !== undefined) {
      if (!isTrial) deps.console.warn('with more partitions keys move to other partitions')
      rows.push(...(await addPartitions(admin, topics, { count, isTrial }, failures)))
    }
    await printRows(deps, flags, shape, rows)
    return failures.exit
  })
}

/** @returns `topics`: those whose settings were taken */
async function changeConfigs(
  admin: AdminClient,
  topics: readonly TopicInfo[],
  change: {
    readonly set: ReadonlyMap<string, string>
    readonly unset: readonly string[]
    readonly isTrial: boolean
  },
  failures: TargetFailures,
): Promise<{ readonly rows: Row[]; readonly topics: readonly TopicInfo[] }> {
  if (topics.length === 0) return { rows: [], topics }
  const keys = [...change.set.keys(), ...change.unset]
  const resources = topics.map(({ name }) => ({ kind: 'topic', name }) as const)
  const before = await admin.describeConfigs(resources, { keys })
  const changes = resources.map(
    (resource): ConfigChange => ({
      ...resource,
      set: Object.fromEntries(change.set),
      unset: change.unset,
    }),
  )
  const outcomes = await admin.alterConfigs(changes, { isTrial: change.isTrial })
  const after = change.isTrial ? before : await admin.describeConfigs(resources, { keys })
  const rows: Row[] = []
  const failed = new Set<string>()
  for (const [index, { name, error }] of outcomes.entries()) {
    if (error !== undefined) {
      failures.add(error, name)
      failed.add(name)
      continue
    }
    const valueIn = (descriptions: typeof before, key: string): string | null =>
      descriptions[index]?.configs.find((config) => config.name === key)?.value ?? null
    for (const key of keys) {
      const planned = change.set.get(key) ?? null
      rows.push([name, key, valueIn(before, key), change.isTrial ? planned : valueIn(after, key)])
    }
  }
  return { rows, topics: topics.filter(({ name }) => !failed.has(name)) }
}

async function addPartitions(
  admin: AdminClient,
  topics: readonly TopicInfo[],
  change: { readonly count: number; readonly isTrial: boolean },
  failures: TargetFailures,
): Promise<Row[]> {
  if (topics.length === 0) return []
  const outcomes = await admin.createPartitions(
    topics.map(({ name }) => ({ name, count: change.count })),
    { isTrial: change.isTrial },
  )
  const rows: Row[] = []
  for (const [index, { name, error }] of outcomes.entries()) {
    if (error !== undefined) failures.add(error, name)
    else rows.push([name, 'partitions', topics[index]?.partitions.length ?? null, change.count])
  }
  return rows
}
