/**
 * `stream mirror verify` of copies: the records of the source that were copied, against those that were written of them.
 *
 * What retention has taken from the front of one side is left out on the other, by counting from the end.
 */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { Broker } from './broker.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { type CopySession, refuseLostSource, withCopies } from './mirror-copy-status.ts'
import { type FoundPosition, NONE_YET, NOT_TOLD } from './mirror-positions.ts'
import { askClusterId, ORIGIN_HEADER } from './mirror-start.ts'
import { printRows } from './row-output.ts'
import { TargetFailures } from './topics-shared.ts'
import {
  compareStreams,
  type Difference,
  type StreamComparison,
  tellDifference,
} from './verify-compare.ts'
import { ComparedRecord, type Comparison } from './verify-record.ts'
import { openRanges, type RecordStream } from './verify-side.ts'

interface Side {
  readonly broker: Broker
  readonly topic: string
  readonly partition: number
  readonly startOffset: number
  readonly endOffset: number
  /** Absent: all. */
  readonly takes?: (record: ComparedRecord) => boolean
}

export async function copyVerify(
  deps: CommandDeps,
  args: CommandArgs,
  name: string,
  shape: RowShape,
): Promise<number> {
  return withCopies(deps, args, name, async (session) => {
    const failures = new TargetFailures(deps)
    const rows: Row[] = []
    let difference: Difference | undefined
    for (const position of await session.positions(failures)) {
      const { pair, partition } = position
      try {
        const result = await compareCopy(deps, session, position)
        rows.push([name, pair.target, partition, result.countA, result.countB, result.equal])
        difference ??= result.difference
      } catch (error) {
        failures.add(error, `${pair.target} partition ${partition}`)
      }
    }
    await printRows(deps, args.flags, shape, rows)
    if (difference === undefined) return failures.exit
    tellDifference(deps, name, 'the copy', difference)
    return failures.exit === 0 ? 1 : failures.exit
  })
}

async function compareCopy(
  deps: CommandDeps,
  session: CopySession,
  position: FoundPosition,
): Promise<StreamComparison> {
  const { pair, partition, traits, here, hereFirst } = position
  refuseUnlike(position)
  await refuseLostSource(deps, session, position)
  const isTagged = traits.includes('tagged')
  const what: Comparison = { key: true, headers: !isTagged, timestamp: true, offset: false }
  const targetId = isTagged ? await askClusterId(session.target, session.target.address) : ''
  const a: Side = {
    broker: session.source,
    topic: pair.source,
    partition,
    startOffset: position.first,
    endOffset: position.next,
    // The target's own records were left out.
    ...(isTagged ? { takes: (record) => record.header(ORIGIN_HEADER) !== targetId } : {}),
  }
  const b: Side = {
    broker: session.target,
    topic: pair.target,
    partition,
    startOffset: Math.max(0, hereFirst),
    endOffset: here === NONE_YET ? 0 : here,
    // Others of the target were never copied.
    ...(isTagged ? { takes: (record) => record.header(ORIGIN_HEADER) !== undefined } : {}),
  }
  const startA = await lostUntil(deps, a)
  const startB = await lostUntil(deps, b)
  let skipA = 0
  let skipB = 0
  if (startA > a.startOffset || startB > b.startOffset) {
    const difference = (await count(deps, a)) - (await count(deps, b))
    skipA = Math.max(0, difference)
    skipB = Math.max(0, -difference)
    const where = startA > a.startOffset ? 'at the source' : 'here'
    deps.console.warn(
      `${pair.target}: partition ${partition}: the oldest records are gone ${where}`,
    )
  }
  const streamA = await open(deps, a, skipA)
  const streamB = await open(deps, b, skipB)
  return compareStreams(streamA, streamB, what, `${pair.target} partition ${partition}`)
}

function refuseUnlike({ traits, here }: FoundPosition): void {
  const why = traits.includes('filtered')
    ? 'a filter left records out'
    : traits.includes('mixed')
      ? 'it has records of something else too (--append)'
      : here === NOT_TOLD
        ? 'the broker did not tell where its records are'
        : undefined
  if (why === undefined) return
  throw new UsageError(
    `cannot be compared as a copy: ${why}`,
    'compare what you need: stream verify A B --any-order',
  )
}

/** The log begins here at present. */
async function lostUntil(
  deps: CommandDeps,
  { broker, topic, partition, startOffset, endOffset }: Side,
): Promise<number> {
  if (startOffset >= endOffset) return startOffset
  const question = { topic, partition, at: 'earliest' } as const
  const [answer] = await deps.clients.listOffsets(broker.cluster, [question])
  if (answer === undefined) throw new StreamError('TOPIC_UNKNOWN', `${topic}: no such topic`)
  return Math.max(startOffset, answer.offset)
}

async function count(deps: CommandDeps, side: Side): Promise<number> {
  const stream = await open(deps, side, 0)
  const record = new ComparedRecord()
  try {
    for (let records = 0; ; records += 1) if (!(await stream.next(record))) return records
  } finally {
    stream.close()
  }
}

async function open(deps: CommandDeps, side: Side, skipped: number): Promise<RecordStream> {
  const { broker, topic, partition, takes } = side
  const startOffset = Math.min(side.endOffset, await lostUntil(deps, side))
  const consumer = await deps.clients.consumer(broker.cluster, {})
  const range = { topic, partition, startOffset, endOffset: side.endOffset }
  const stream = openRanges(deps, consumer, [range])
  if (takes === undefined && skipped === 0) return stream
  return new ChosenRecords(stream, takes ?? (() => true), skipped)
}

/** Some of a stream's records. */
class ChosenRecords implements RecordStream {
  readonly #stream: RecordStream
  readonly #takes: (record: ComparedRecord) => boolean
  #toSkip: number

  constructor(stream: RecordStream, takes: (record: ComparedRecord) => boolean, toSkip: number) {
    this.#stream = stream
    this.#takes = takes
    this.#toSkip = toSkip
  }

  async next(record: ComparedRecord): Promise<boolean> {
    for (;;) {
      const next = this.#stream.next(record)
      if (!(typeof next === 'boolean' ? next : await next)) return false
      if (!this.#takes(record)) continue
      if (this.#toSkip === 0) return true
      this.#toSkip -= 1
    }
  }

  close(): void {
    this.#stream.close()
  }
}
