/**
 * The positions that groups had before they were moved: ten moves of each group, in the state topic, a slot for each.
 *
 * A move that was undone stays in its slot until the next one takes its place, so that it can be redone. Of the moves that
 * are kept those that were undone are the latest ones: undo goes down from the latest that was not, redo up again.
 */

import type { GroupPartition } from '../src/client/group-offsets.ts'
import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import { readState, type StateKey, writeState } from './stream-state.ts'

const KEPT = 10

/** A position of before; null: nothing was committed. */
export interface FormerOffset extends GroupPartition {
  readonly offset: number | null
}

/** `after` and `isUndone` came later: a record without them is a move that was not undone. */
export interface UndoRecord {
  readonly v: 1
  readonly sequence: number
  readonly at: number
  /** Before the move. */
  readonly offsets: readonly FormerOffset[]
  /** Where the group was when the move was undone. */
  readonly after?: readonly FormerOffset[]
  readonly isUndone?: boolean
}

const prefixOf = (group: string): StateKey => ['groups', 'undo', group]

export class UndoLog {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #group: string
  /** Oldest first. */
  readonly #records: readonly UndoRecord[]

  private constructor(
    deps: CommandDeps,
    broker: Broker,
    group: string,
    records: readonly UndoRecord[],
  ) {
    this.#deps = deps
    this.#broker = broker
    this.#group = group
    this.#records = records
  }

  /** @throws as readState */
  static async read(deps: CommandDeps, broker: Broker, group: string): Promise<UndoLog> {
    const records = [...(await readState(deps, broker, prefixOf(group))).values()]
      .map((value) => value as UndoRecord)
      .filter(({ v, offsets }) => v === 1 && Array.isArray(offsets))
      .sort((left, right) => left.sequence - right.sequence)
    return new UndoLog(deps, broker, group, records)
  }

  get isEmpty(): boolean {
    return this.#records.length === 0
  }

  /** The latest move that was not undone. */
  get lastMove(): UndoRecord | undefined {
    return this.#records.findLast(({ isUndone }) => isUndone !== true)
  }

  /** The earliest move that was undone: the one that was undone last. */
  get lastUndone(): UndoRecord | undefined {
    return this.#records.find(({ isUndone }) => isUndone === true)
  }

  /** Keeps where the group was, in place of the moves that were undone and of the oldest of ten. @throws as writeState */
  async addMove(offsets: readonly FormerOffset[]): Promise<void> {
    const undone = this.#records.filter(({ isUndone }) => isUndone === true)
    const sequence = (this.lastMove?.sequence ?? 0) + 1
    // Latest first: if this ends midway, those that were undone are still the latest.
    for (const record of undone.reverse()) {
      if (slotOf(record.sequence) !== slotOf(sequence))
        await this.#write(record.sequence, undefined)
    }
    await this.#write(sequence, { v: 1, sequence, at: this.#deps.time.wallMs(), offsets })
  }

  /** In place of what is kept of the same move. @throws as writeState */
  async replace(record: UndoRecord): Promise<void> {
    await this.#write(record.sequence, record)
  }

  async #write(sequence: number, record: UndoRecord | undefined): Promise<void> {
    const prefix = prefixOf(this.#group)
    await writeState(this.#deps, this.#broker, prefix, [...prefix, slotOf(sequence)], record)
  }
}

function slotOf(sequence: number): number {
  return sequence % KEPT
}
