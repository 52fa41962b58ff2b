/** `stream groups seek`: moves what a group has committed; prints its plan, keeps the old positions, and asks. */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { GroupOffset, GroupPartition } from '../src/client/group-offsets.ts'
import { type Positions, parsePositions } from '../src/text/position.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { moveGroup, moveShape, movesTo } from './groups-move.ts'
import {
  byPlace,
  expectGroup,
  type GroupsSession,
  nameOf,
  offsetTable,
  oneGroup,
  withGroups,
} from './groups-shared.ts'
import { UndoLog } from './groups-undo-log.ts'
import { type CommandSpec, changeOptions, rowOptions, yesOption } from './option-table.ts'
import { resolveRanges } from './read-range.ts'

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'groups seek',
  summary: 'Move a consumer group to another position',
  description: [
    'Moves the partitions that the group has committed, with --topic all partitions of that topic. Prints the plan, keeps the old positions for groups undo, and asks first. The group must have no live members.',
    '--export writes what the group has committed, one JSON object a line with topic, partition and offset, and changes nothing; --from-file reads it.',
  ],
  operands: [{ name: 'GROUP' }],
  options: [
    { long: 'to', argument: 'POS', help: 'start, end, N, +N, -N, a TIME, or P=POS,…' },
    { long: 'to-group', argument: 'G2', help: 'where another group is' },
    { long: 'from-file', argument: 'FILE', help: 'where the file says' },
    { long: 'export', argument: 'FILE', help: 'only write what --from-file reads' },
    { long: 'topic', short: 't', argument: 'NAME', isRepeatable: true, help: 'only this topic, all its partitions' },
    { long: 'partition', short: 'p', argument: 'LIST', help: 'only these partitions: 0,2-4' },
    yesOption,
    ...changeOptions,
    ...rowOptions,
  ],
  columns: moveShape.columns,
  examples: [
    { line: 'stream groups seek nightly --to yesterday --dry-run' },
    { line: 'stream groups seek nightly --to -1000 -t orders -y' },
    { line: 'stream groups seek nightly --export nightly.ndjson' },
  ],
  exits: [
    [2, 'refused for want of -y'],
    [3, 'no such group or topic'],
    [8, 'the group has live members'],
  ],
}

type Target = GroupPartition & { readonly to: number | null }

export function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const name = oneGroup(args, spec.name)
  const { flags } = args
  const ways = ['to', 'to-group', 'from-file', 'export'].filter((flag) => flags.has(flag))
  if (ways.length !== 1) {
    throw new UsageError('give one of --to POS, --to-group G2, --from-file FILE, --export FILE')
  }
  const positions = readPositions(flags, deps.time.wallMs())
  const file = flags.text('from-file')
  const listed = file === undefined ? undefined : readOffsets(deps, file)
  return withGroups(deps, args, async (session) => {
    const group = await expectGroup(session.groups, name)
    const offsets = await session.groups.offsets(name)
    const isWanted = filterOf(flags)
    const path = flags.text('export')
    if (path !== undefined) {
      writeOffsets(deps, path, offsets.filter(isWanted))
      return 0
    }
    const now = offsetTable(offsets)
    let targets: readonly Target[]
    if (positions !== undefined) {
      const partitions = await partitionsOf(session, flags, offsets)
      targets = await placesOf(session, partitions.filter(isWanted), positions, now)
    } else {
      const other = flags.text('to-group')
      if (other !== undefined) await expectGroup(session.groups, other)
      const from = other === undefined ? (listed ?? []) : await session.groups.offsets(other)
      targets = from.filter(isWanted).map((each) => ({ ...each, to: each.offset }))
    }
    return moveGroup(deps, flags, session, group, movesTo(now, targets), {
      before: async (former) => {
        const log = await UndoLog.read(deps, session.broker, name)
        await log.addMove(former)
      },
      after: () => Promise.resolve(),
    })
  })
}

function readPositions(flags: Flags, nowMs: number): Positions | undefined {
  const text = flags.text('to')
  if (text === undefined) return undefined
  const positions = parsePositions(text, nowMs)
  if (positions !== undefined) return positions
  throw new UsageError(
    `--to ${text}: must be a position such as start, end, 1000, -5000, yesterday`,
  )
}

function filterOf(flags: Flags): (each: GroupPartition) => boolean {
  const topics = flags.all('topic')
  const partitions = flags.partitions('partition')
  return ({ topic, partition }) =>
    (topics.length === 0 || topics.includes(topic)) && (partitions?.includes(partition) ?? true)
}

/** What the group has committed; of topics that are named all there is. @throws StreamError TOPIC_UNKNOWN */
async function partitionsOf(
  { admin }: GroupsSession,
  flags: Flags,
  offsets: readonly GroupOffset[],
): Promise<readonly GroupPartition[]> {
  const topics = flags.all('topic')
  if (topics.length === 0) return offsets
  const found: GroupPartition[] = []
  for (const { name, errorCode, partitions } of await admin.describeTopics(topics)) {
    if (errorCode !== 0) {
      throw new StreamError(
        'TOPIC_UNKNOWN',
        `${name}: no such topic (UNKNOWN_TOPIC_OR_PARTITION)`,
        {
          target: name,
          kafkaError: errorCode,
        },
      )
    }
    for (const { partition } of partitions) found.push({ topic: name, partition })
  }
  return found
}

/** Partitions that `positions` does not name stay; so do those of topics that are gone. */
async function placesOf(
  { admin }: GroupsSession,
  partitions: readonly GroupPartition[],
  positions: Positions,
  now: ReadonlyMap<string, number>,
): Promise<readonly Target[]> {
  const names = [...new Set(partitions.map(({ topic }) => topic))]
  const topics = names.length === 0 ? [] : await admin.describeTopics(names)
  const known = new Set(topics.flatMap(({ name, errorCode }) => (errorCode === 0 ? [name] : [])))
  const there = partitions.filter(({ topic }) => known.has(topic))
  for (const place of positions.places) {
    if (there.some((each) => isNamed({ places: [place] }, each))) continue
    const name = `${place.topic === undefined ? '' : `${place.topic} `}partition ${place.partition}`
    throw new StreamError('TOPIC_UNKNOWN', `--to: the group has committed nothing of ${name}`, {
      hint: 'of a topic that it has not read: -t TOPIC; what it has: stream groups describe GROUP',
    })
  }
  const places = there.flatMap((each) => {
    const offset = now.get(nameOf(each))
    return offset === undefined ? [] : [{ ...each, offset }]
  })
  // `committed` and partitions without a place: where they are.
  const stay = places.map(({ topic, partition, offset }) => ({
    topic,
    partition,
    position: { kind: 'offset' as const, offset },
  }))
  const isStay = positions.all === undefined || positions.all.kind === 'committed'
  const wanted: Positions = {
    all: isStay ? { kind: 'end' } : positions.all,
    places: [...(isStay ? stay : []), ...positions.places],
  }
  const ranges = await resolveRanges(there, wanted, undefined, (questions) =>
    admin.listOffsets(questions),
  )
  return ranges
    .filter((range) => !isStay || now.has(nameOf(range)) || isNamed(positions, range))
    .map(({ topic, partition, startOffset }) => ({ topic, partition, to: startOffset }))
    .sort(byPlace)
}

function isNamed(
  { places }: Pick<Positions, 'places'>,
  { topic, partition }: GroupPartition,
): boolean {
  return places.some(
    (place) =>
      place.partition === partition && (place.topic === undefined || place.topic === topic),
  )
}

function writeOffsets(deps: CommandDeps, path: string, offsets: readonly GroupOffset[]): void {
  const lines = [...offsets].sort(byPlace).map(({ topic, partition, offset }) => {
    return `${JSON.stringify({ v: 1, kind: 'group-offset', topic, partition, offset })}\n`
  })
  const bytes = Buffer.from(lines.join(''))
  if (path === '-') void deps.stdio.output.write(bytes)
  else deps.host.writeFile(path, bytes, 0o644)
}

/** @throws UsageError for a line that is no offset; StreamError FILE_NOT_FOUND */
function readOffsets(deps: CommandDeps, path: string): readonly GroupOffset[] {
  const bytes = deps.host.readFile(path)
  if (bytes === undefined) {
    throw new StreamError('FILE_NOT_FOUND', `${path}: no such file`, { target: path })
  }
  const offsets: GroupOffset[] = []
  for (const [index, line] of Buffer.from(bytes).toString('utf8').split('\n').entries()) {
    if (line.trim() === '') continue
    const offset = parseOffset(line)
    if (offset === undefined) {
      throw new UsageError(`${path}: line ${index + 1}: no object with topic, partition and offset`)
    }
    offsets.push(offset)
  }
  return offsets
}

function parseOffset(line: string): GroupOffset | undefined {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { topic, partition, offset } = value as Record<string, unknown>
  const isNumber = (each: unknown): each is number =>
    Number.isSafeInteger(each) && Number(each) >= 0
  if (typeof topic !== 'string' || topic === '' || !isNumber(partition) || !isNumber(offset)) {
    return undefined
  }
  return { topic, partition, offset }
}
