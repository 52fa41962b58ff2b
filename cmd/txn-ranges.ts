/**
 * The frozen ranges of `stream txn --fixed`: stored before anything of them is read, so that not even a crash cuts them anew,
 * and gone with the commit.
 */

import { StreamError } from '../src/base/errors.ts'
import { knownTopicId } from '../src/client/topic-identity.ts'
import type { Broker } from './broker.ts'
import type { GroupAdminClient, TransactionClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { appendState, prepareState } from './stream-state.ts'
import type { TxnOffset, TxnRange } from './txn-protocol.ts'
import { type FixedRange, type TxnState, txnPrefix } from './txn-state.ts'

export interface TxnRangesParts {
  readonly transaction: TransactionClient
  readonly admin: GroupAdminClient
  readonly name: string
  /** As the last run has left it. */
  readonly state: TxnState
}

export class TxnRanges {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #parts: TxnRangesParts
  readonly #frozen: FixedRange[] = []
  #storing: Promise<void> = Promise.resolve()

  constructor(deps: CommandDeps, broker: Broker, parts: TxnRangesParts) {
    this.#deps = deps
    this.#broker = broker
    this.#parts = parts
  }

  /** Those of a run that did not commit; undefined: there are none of these topics. @throws StreamError CONFLICT */
  async known(
    group: string,
    partitions: readonly { readonly topic: string; readonly partition: number }[],
    committed: readonly TxnOffset[],
  ): Promise<readonly TxnRange[] | undefined> {
    const wanted = new Set(partitions.map((each) => `${each.partition}/${each.topic}`))
    const found = this.#parts.state.ranges.filter(
      (range) => range.group === group && wanted.has(`${range.partition}/${range.topic}`),
    )
    if (found.length === 0) return undefined
    const known = await this.#ofSameTopics(group, found)
    if (known.length === 0) return undefined
    for (const { topic, partition, committed: before } of known) {
      const now = committed.find((each) => each.topic === topic && each.partition === partition)
      if ((now?.offset ?? -1) === before) continue
      throw new StreamError(
        'CONFLICT',
        `group ${group} has moved in ${topic} partition ${partition} since its range was fixed`,
        {
          target: group,
          hint: 'move it back (stream groups undo), or take new ranges: run once without --fixed',
        },
      )
    }
    return known.map(({ topic, partition, start, end }) => ({ topic, partition, start, end }))
  }

  /** Not those of topics that are others now under the same names: their numbers are of another log. */
  async #ofSameTopics(
    group: string,
    ranges: readonly FixedRange[],
  ): Promise<readonly FixedRange[]> {
    const ids = await this.#topicIds(ranges)
    const told = new Set<string>()
    return ranges.filter(({ topic, topicId }) => {
      const before = knownTopicId(topicId)
      const now = ids.get(topic)
      if (before === undefined || now === undefined || before === now) return true
      if (!told.has(topic)) {
        this.#deps.console.warn(
          `${topic}: was deleted and created anew since its range was fixed; group ${group} takes a new one`,
        )
      }
      told.add(topic)
      return false
    })
  }

  async #topicIds(ranges: readonly TxnRange[]): Promise<ReadonlyMap<string, string>> {
    const names = [...new Set(ranges.map(({ topic }) => topic))]
    const ids = new Map<string, string>()
    for (const { name, topicId } of await this.#broker.cluster.describeTopics(names)) {
      const id = knownTopicId(topicId)
      if (id !== undefined) ids.set(name, id)
    }
    return ids
  }

  /** Resolves when they are stored. @throws StreamError of the broker */
  freeze(group: string, ranges: readonly TxnRange[]): Promise<void> {
    const run = this.#storing.then(() => this.#store(group, ranges))
    this.#storing = run.catch(() => undefined)
    return run
  }

  /** Nothing is being stored any more. */
  stored(): Promise<void> {
    return this.#storing
  }

  async #store(group: string, ranges: readonly TxnRange[]): Promise<void> {
    const { admin, name, state, transaction } = this.#parts
    const offsets = await admin.offsets(group)
    const ids = await this.#topicIds(ranges)
    for (const range of ranges) {
      const { topic, partition } = range
      const found = offsets.find((each) => each.topic === topic && each.partition === partition)
      this.#frozen.push({
        ...range,
        group,
        committed: found?.offset ?? -1,
        topicId: ids.get(topic) ?? '',
      })
    }
    const prefix = txnPrefix(name)
    const producer = await transaction.begin()
    await prepareState(this.#deps, this.#broker, producer)
    // Those of a command that has not come yet stay, for it may come in the next run only.
    const names = new Set(this.#frozen.map(nameOf))
    const others = state.ranges.filter((range) => !names.has(nameOf(range)))
    const value: TxnState = { ...state, ranges: [...others, ...this.#frozen] }
    while (!appendState(producer, prefix, prefix, value, this.#deps.time.wallMs())) {
      await producer.writable()
    }
    await transaction.commit()
  }
}

function nameOf({ group, topic, partition }: FixedRange): string {
  return `${partition}/${topic}/${group}`
}
