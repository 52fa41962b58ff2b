/** The cursor file of one reading run: where it starts, what it stores, and the wait for acknowledgements. */

import type { Positions } from '../src/text/position.ts'
import type { Acknowledgements } from './acknowledgements.ts'
import { CursorCommits } from './cursor-commits.ts'
import { CursorFile } from './cursor-file.ts'
import type { CommandDeps } from './deps.ts'
import type { CursorPlan } from './read-options.ts'
import type { PartitionName, PartitionRange } from './read-range.ts'

export class ReadCursor {
  readonly #deps: CommandDeps
  readonly #plan: CursorPlan
  readonly #file: CursorFile
  readonly #commits: CursorCommits

  /**
   * @param onFailure  called when storing fails, or an acknowledgement is none, while the run goes on
   * @throws StreamError CONFLICT: locked; UsageError: not a cursor file
   */
  constructor(deps: CommandDeps, plan: CursorPlan, onFailure: (error: unknown) => void) {
    this.#deps = deps
    this.#plan = plan
    this.#file = new CursorFile(deps.host, plan.path)
    try {
      this.#commits = new CursorCommits(deps, plan, this.#file, onFailure)
    } catch (error) {
      this.#file.close()
      throw error
    }
  }

  get acknowledgements(): Acknowledgements | undefined {
    return this.#commits.acknowledgements
  }

  /**
   * A stored position wins over `from`.
   *
   * @param found  what the brokers have said, which is known only once topics were looked up
   * @throws StreamError CONFLICT for another cluster, or a recreated topic
   */
  startOf(
    partitions: readonly PartitionName[],
    from: Positions,
    found: { readonly clusterId: string | undefined; readonly topicId: (topic: string) => string },
  ): Positions {
    this.#file.useCluster(found.clusterId)
    const places = [...from.places]
    for (const { topic, partition } of partitions) {
      this.#file.useTopic(topic, found.topicId(topic))
      const offset = this.#file.position(topic, partition)
      if (offset === undefined) continue
      places.push({ topic, partition, position: { kind: 'offset', offset } })
    }
    return { all: from.all, places }
  }

  /** Of partitions that startOf was asked for, before anything of them is read. @throws as CursorCommits.begin */
  begin(ranges: readonly PartitionRange[]): void {
    this.#commits.begin(
      ranges.map(({ topic, partition, startOffset }) => ({
        topic,
        partition,
        offset: startOffset,
      })),
    )
  }

  /** Everything of a partition below `offset` was read. */
  take(topic: string, partition: number, offset: number): void {
    this.#commits.take(topic, partition, offset)
  }

  /** All that was taken has been written. */
  onWritten(): void {
    this.#commits.onWritten()
  }

  /** Waits for acknowledgements, where they are wanted, until all are there or none can come, or `stopped`. */
  async settle(stopped: Promise<void>, mayNotWait: () => boolean): Promise<void> {
    if (this.#plan.commit !== 'ack') return
    // The reader must see the end before it can acknowledge the last records.
    this.#deps.stdio.output.hangUp()
    while (this.#commits.isWaiting && !mayNotWait()) {
      await Promise.race([this.#commits.changed(), stopped])
    }
  }

  /** The run is over. @throws as CursorCommits.end */
  end(isProper: boolean): void {
    this.#commits.end(isProper)
  }

  /** After a failure, or a hang-up: what was written before it is still worth storing. @throws as end */
  cutShort(): void {
    this.#commits.end(false)
  }

  close(): void {
    this.#file.close()
  }
}
