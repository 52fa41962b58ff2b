/**
 * Which dead letters of a job were replayed or dropped: marks in the state topic (commands.md, sections 2 and 5). The records
 * of `JOB.dlq` themselves never change.
 *
 *     ["dlq",JOB,TOPIC_ID,PARTITION,BLOCK]  →  {"v":1,"replayed":[[FIRST,LAST],…],"dropped":[[FIRST,LAST],…]}
 *
 * A block is 4096 offsets, so that a mark is one small record however many there are. The topic's id keeps marks from being
 * taken for those of a topic that was created again. These keys are permanent.
 */

import type { Broker } from './broker.ts'
import type { ProducerClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { appendState, readState, type StateKey } from './stream-state.ts'

const BLOCK_OFFSETS = 4096

export type LetterState = 'open' | 'replayed' | 'dropped'

const states: readonly LetterState[] = ['open', 'replayed', 'dropped']

interface Block {
  readonly partition: number
  readonly number: number
  /** Indexes of `states`. */
  readonly marks: Uint8Array
}

type Range = readonly [first: number, last: number]

export class DlqMarks {
  readonly #prefix: StateKey
  readonly #topicId: string
  readonly #blocks = new Map<string, Block>()
  readonly #changed = new Set<Block>()

  private constructor(job: string, topicId: string) {
    this.#prefix = ['dlq', job]
    this.#topicId = topicId
  }

  /** @throws as readState */
  static async read(
    deps: CommandDeps,
    broker: Broker,
    job: string,
    topicId: string,
  ): Promise<DlqMarks> {
    const marks = new DlqMarks(job, topicId)
    for (const [key, value] of await readState(deps, broker, marks.#prefix)) {
      marks.#load(JSON.parse(key) as unknown[], value)
    }
    return marks
  }

  stateOf(partition: number, offset: number): LetterState {
    const block = this.#blocks.get(nameOf(partition, offset))
    return states[block?.marks[offset % BLOCK_OFFSETS] ?? 0] ?? 'open'
  }

  mark(partition: number, offset: number, state: 'replayed' | 'dropped'): void {
    const block = this.#block(partition, Math.floor(offset / BLOCK_OFFSETS))
    block.marks[offset % BLOCK_OFFSETS] = states.indexOf(state)
    this.#changed.add(block)
  }

  /** Appends what has changed since the last time, in a transaction perhaps. @throws as ProducerClient.append */
  async store(producer: ProducerClient, timestampMs: number): Promise<void> {
    for (const block of this.#changed) {
      const key: StateKey = [...this.#prefix, this.#topicId, block.partition, block.number]
      const value = {
        v: 1,
        replayed: rangesOf(block, 'replayed'),
        dropped: rangesOf(block, 'dropped'),
      }
      while (!appendState(producer, this.#prefix, key, value, timestampMs)) {
        await producer.writable()
      }
    }
    this.#changed.clear()
  }

  #load([, , topicId, partition, number]: readonly unknown[], value: unknown): void {
    if (topicId !== this.#topicId || typeof partition !== 'number') return
    if (typeof number !== 'number' || typeof value !== 'object' || value === null) return
    const stored = value as { readonly v?: unknown; readonly [state: string]: unknown }
    if (stored.v !== 1) return
    const block = this.#block(partition, number)
    for (const state of ['replayed', 'dropped'] as const) {
      const ranges = stored[state]
      if (!Array.isArray(ranges)) continue
      for (const [first, last] of ranges as readonly Range[]) {
        const from = Math.max(0, first - number * BLOCK_OFFSETS)
        const end = Math.min(BLOCK_OFFSETS, last + 1 - number * BLOCK_OFFSETS)
        block.marks.fill(states.indexOf(state), from, Math.max(from, end))
      }
    }
  }

  #block(partition: number, number: number): Block {
    const name = `${partition}/${number}`
    let block = this.#blocks.get(name)
    if (block === undefined) {
      block = { partition, number, marks: new Uint8Array(BLOCK_OFFSETS) }
      this.#blocks.set(name, block)
    }
    return block
  }
}

/** Offsets of the topic, both inclusive. */
function rangesOf({ marks, number }: Block, state: LetterState): Range[] {
  const wanted = states.indexOf(state)
  const base = number * BLOCK_OFFSETS
  const ranges: Range[] = []
  for (let at = marks.indexOf(wanted); at >= 0; ) {
    let end = at
    while (end < marks.length && marks[end] === wanted) end += 1
    ranges.push([base + at, base + end - 1])
    at = end < marks.length ? marks.indexOf(wanted, end) : -1
  }
  return ranges
}

function nameOf(partition: number, offset: number): string {
  return `${partition}/${Math.floor(offset / BLOCK_OFFSETS)}`
}
