/**
 * `consume -g` inside of `stream txn`: the range is frozen, printed, and reported; the transaction commits it. The group is
 * joined by `stream txn` alone.
 */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { PartitionPosition, Positions } from '../src/text/position.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { BrokenPipe } from './exit-code.ts'
import { runRead } from './read-job.ts'
import { type ReadPlan, readPlan } from './read-options.ts'
import { type PartitionName, type PartitionRange, resolveRanges, seekHint } from './read-range.ts'
import type { RangeTools, ReadProgress } from './read-variant.ts'
import { refuseFlags, TxnClient } from './txn-client.ts'
import type { TxnOffset } from './txn-protocol.ts'

const ownProgress = ['exec', 'cursor-file', 'commit', 'ack-fd']

export async function consumeInTransaction(
  deps: CommandDeps,
  args: CommandArgs,
  address: string,
): Promise<number> {
  const client = new TxnClient(deps, address)
  try {
    return await consumeAsPart(client, deps, args)
  } finally {
    client.close()
  }
}

async function consumeAsPart(
  client: TxnClient,
  deps: CommandDeps,
  args: CommandArgs,
): Promise<number> {
  await refuseFlags(client, args.flags, ownProgress)
  const plan = readPlan(deps, args, { command: 'consume', follows: false })
  const { group } = plan
  if (group === undefined) throw new UsageError('GROUP is missing')
  if (plan.until === undefined) {
    await client.call({
      kind: 'refused',
      message: 'inside of stream txn a read of a group has an end',
      hint: 'try: --until-end, or a moment that has passed',
    })
  }
  const read = new TxnRead(client, group.group, plan)
  const plain: ReadPlan = { ...plan, group: undefined }
  try {
    return await runRead(deps, args, plain, {
      progress: read,
      findRanges: (partitions, tools) => read.findRanges(partitions, tools),
    })
  } catch (error) {
    if (!(error instanceof BrokenPipe)) throw error
    await client.call({ kind: 'hungUp' })
    if (!read.isPartial) throw error
    return 0
  }
}

class TxnRead implements ReadProgress {
  readonly acknowledgements = undefined
  isPartial = false
  readonly #client: TxnClient
  readonly #group: string
  readonly #plan: ReadPlan
  readonly #reached = new Map<string, TxnOffset>()
  #topicId: RangeTools['topicId'] = () => ''

  constructor(client: TxnClient, group: string, plan: ReadPlan) {
    this.#client = client
    this.#group = group
    this.#plan = plan
  }

  async findRanges(
    partitions: readonly PartitionName[],
    { ask, clusterId, topicId }: RangeTools,
  ): Promise<PartitionRange[]> {
    this.#topicId = topicId
    const answer = await this.#client.call({
      kind: 'consume',
      cluster: clusterId ?? '',
      group: this.#group,
      partitions: partitions.map(({ topic, partition }) => ({ topic, partition })),
    })
    this.isPartial = answer.isPartial
    const ranges =
      answer.fixed === null
        ? await this.#freeze(partitions, answer.committed, ask)
        : await resolveRanges(
            answer.fixed,
            positionsOf(answer.fixed.map((each) => ({ ...each, offset: each.start }))),
            positionsOf(answer.fixed.map((each) => ({ ...each, offset: each.end }))),
            ask,
          )
    for (const { topic, partition, startOffset } of ranges) this.take(topic, partition, startOffset)
    await this.#client.call({
      kind: 'ranges',
      ranges: ranges.map(({ topic, partition, startOffset, endOffset }) => {
        if (endOffset === undefined) throw new StreamError('CLOSED', 'a range without an end')
        return { topic, partition, start: startOffset, end: endOffset }
      }),
    })
    return ranges
  }

  /** From what is committed, or where the flags say, to where they say, or the end as it is now. */
  #freeze(
    partitions: readonly PartitionName[],
    committed: readonly TxnOffset[],
    ask: RangeTools['ask'],
  ): Promise<PartitionRange[]> {
    const { from, until } = this.#plan
    const stored = positionsOf(committed).places
    return resolveRanges(
      partitions,
      { all: from.all, places: [...from.places, ...stored] },
      until,
      ask,
      {
        has: (each) =>
          committed.some((row) => row.topic === each.topic && row.partition === each.partition),
        hint: seekHint(this.#group),
      },
    )
  }

  take(topic: string, partition: number, offset: number, leaderEpoch = -1): void {
    const row = { topic, topicId: this.#topicId(topic), partition, offset, leaderEpoch }
    this.#reached.set(`${partition}/${topic}`, row)
  }

  onWritten(): void {}

  async settle(): Promise<void> {}

  /** Everything was written, and nobody hung up. */
  async end(isProper: boolean): Promise<void> {
    if (isProper) await this.#client.call({ kind: 'done', offsets: [...this.#reached.values()] })
  }

  cutShort(): void {}

  close(): void {}
}

function positionsOf(
  offsets: readonly TxnOffset[],
): Positions & { readonly places: readonly PartitionPosition[] } {
  return {
    all: { kind: 'start' },
    places: offsets.map(({ topic, partition, offset }) => ({
      topic,
      partition,
      position: { kind: 'offset', offset },
    })),
  }
}
