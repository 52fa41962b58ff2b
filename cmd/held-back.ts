/**
 * Tells where a bounded read ended before the end of the log, because a transaction is open there (commands.md, section 4: the end
 * is the last stable offset). What ended meanwhile, or is only being committed, is not told: the next read has it.
 */

import { isStreamError } from '../src/base/errors.ts'
import type { OffsetAnswer, OffsetQuestion } from '../src/client/offsets.ts'
import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import { isolationOf } from './read-open.ts'
import type { PartitionName } from './read-range.ts'

const HINT_LIST = 'to see whose it is: stream txn list'
const HINT_READ = 'to read on: --uncommitted'

export class HeldBack {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #isUncommitted: boolean
  readonly #hint: string
  /** Where partitions were read to their ends, by name. */
  readonly #ends = new Map<string, PartitionName & { readonly offset: number }>()

  constructor(
    deps: CommandDeps,
    broker: Broker,
    options: { readonly isUncommitted: boolean; readonly hasFlag: boolean },
  ) {
    this.#deps = deps
    this.#broker = broker
    this.#isUncommitted = isolationOf(options, broker.settings) === 'read_uncommitted'
    this.#hint = options.hasFlag ? `${HINT_LIST}; ${HINT_READ}` : HINT_LIST
  }

  /** A partition was read up to `offset`, where the read was to end. */
  note(topic: string, partition: number, offset: number): void {
    if (!this.#isUncommitted) this.#ends.set(`${topic}/${partition}`, { topic, partition, offset })
  }

  /** Warns in one line where there is something to warn of. */
  async tell(): Promise<void> {
    if (this.#ends.size === 0) return
    const held = await this.#find()
    const [first] = held
    if (first === undefined) return
    const { topic, partition, offset, behind } = first
    const others = held.length - 1
    const more =
      others === 0 ? '' : `, and so in ${others} more partition${others === 1 ? '' : 's'}`
    this.#deps.console.warn(
      `${topic}: partition ${partition}: a transaction is open at offset ${offset}: ${behind} offsets from there on were not read${more}; ${this.#hint}`,
    )
  }

  async #find() {
    const ends = [...this.#ends.values()]
    const questions = ends.map(({ topic, partition }) => ({
      topic,
      partition,
      at: 'latest' as const,
    }))
    let stable: readonly OffsetAnswer[]
    let all: readonly OffsetAnswer[]
    try {
      stable = await this.#ask(questions, 'read_committed')
      const isAt = (index: number): boolean => stable[index]?.offset === ends[index]?.offset
      if (!ends.some((_, index) => isAt(index))) return []
      all = await this.#ask(questions, 'read_uncommitted')
    } catch (error) {
      // All that was asked for has been read; whoever is away now is told of by the next command.
      if (!isStreamError(error)) throw error
      return []
    }
    return ends.flatMap((end, index) => {
      const behind = (all[index]?.offset ?? 0) - end.offset
      return stable[index]?.offset === end.offset && behind > 0 ? { ...end, behind } : []
    })
  }

  #ask(
    questions: readonly OffsetQuestion[],
    isolation: 'read_committed' | 'read_uncommitted',
  ): Promise<readonly OffsetAnswer[]> {
    return this.#deps.clients.listOffsets(this.#broker.cluster, questions, { isolation })
  }
}
