/** `stream groups peek`: the records around what a group has committed; changes nothing. */

import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { expectGroup, nameOf, offsetTable, oneGroup, withGroups } from './groups-shared.ts'
import type { CommandSpec } from './option-table.ts'
import { runRead } from './read-job.ts'
import { filterOptions, formOptions, keyFilterOption, readPlan } from './read-options.ts'
import { resolveRanges } from './read-range.ts'
import { unknownPartition } from './topic-names.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'groups peek',
  summary: 'Print the records around the committed positions of a consumer group',
  description: ['Of each partition the last records that the group has behind it, and the first that it has before it. Nothing is changed.'],
  operands: [{ name: 'GROUP' }],
  options: [
    { long: 'before', short: 'B', argument: 'N', default: '1', help: 'so many offsets before the position' },
    { long: 'after', short: 'A', argument: 'N', default: '1', help: 'so many from the position on' },
    { long: 'topic', short: 't', argument: 'NAME', isRepeatable: true, help: 'only this topic' },
    { long: 'partition', short: 'p', argument: 'LIST', help: 'only these partitions: 0,2-4' },
    ...formOptions,
    keyFilterOption,
    ...filterOptions,
    { long: 'uncommitted', help: 'records of open and aborted transactions too' },
  ],
  examples: [
    { line: 'stream groups peek nightly' },
    { line: 'stream groups peek nightly -B 0 -A 3 -t orders --json' },
  ],
  exits: [[3, 'no such group, or partition']],
}

/** A partition that none of the topics has. @throws StreamError TOPIC_UNKNOWN */
function refuseUnknown(topics: readonly TopicInfo[], partitions: readonly number[]): void {
  const [largest] = [...topics].sort(
    (left, right) => right.partitions.length - left.partitions.length,
  )
  if (largest === undefined) return
  const count = largest.partitions.length
  for (const partition of partitions) {
    if (partition >= count) throw unknownPartition(largest.name, partition, count)
  }
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const group = oneGroup(args, spec.name)
  const { flags } = args
  const before = flags.wholeNumber('before') ?? 1
  const after = flags.wholeNumber('after') ?? 1
  const wanted = flags.all('topic')
  const partitions = flags.partitions('partition')
  let committed: ReadonlyMap<string, number> = new Map()
  let topics: readonly string[] = []
  await withGroups(deps, args, async ({ groups, admin }) => {
    await expectGroup(groups, group)
    const all = await groups.offsets(group)
    const offsets = all.filter(
      ({ topic, partition }) =>
        (wanted.length === 0 || wanted.includes(topic)) &&
        (partitions?.includes(partition) ?? true),
    )
    committed = offsetTable(offsets)
    const chosen = new Set(
      all.flatMap(({ topic }) => (wanted.length === 0 || wanted.includes(topic) ? [topic] : [])),
    )
    const known = (await admin.describeTopics([...chosen])).filter(
      ({ errorCode }) => errorCode === 0,
    )
    refuseUnknown(known, partitions ?? [])
    const read = new Set(offsets.map(({ topic }) => topic))
    topics = known.flatMap(({ name }) => (read.has(name) ? [name] : []))
    return 0
  })
  if (topics.length === 0) return 0
  const plain = flags.without('topic').without('partition').without('before').without('after')
  const plan = readPlan(
    deps,
    { flags: plain, operands: topics },
    { command: 'groups peek', follows: false },
  )
  return runRead(deps, { flags: plain, operands: topics }, plan, {
    select: (found) => found.filter((each) => committed.has(nameOf(each))),
    findRanges: async (found, { ask }) => {
      const places = found.map(({ topic, partition }) => ({
        topic,
        partition,
        offset: committed.get(nameOf({ topic, partition })) ?? 0,
      }))
      const whole = await resolveRanges(
        found,
        { all: { kind: 'start' }, places: [] },
        { all: { kind: 'end' }, places: [] },
        ask,
      )
      return whole.map((range, index) => {
        const offset = places[index]?.offset ?? 0
        const end = range.endOffset ?? offset
        const startOffset = Math.min(Math.max(range.startOffset, offset - before), end)
        const endOffset = Math.max(startOffset, Math.min(end, offset + after))
        return { ...range, startOffset, endOffset, gap: undefined }
      })
    },
  })
}
