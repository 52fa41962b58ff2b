/**
 * `pipe --dry-run`: the child over the last records of each partition, what it prints on standard output, and nothing kept:
 * no position, no record, no carry. Whatever the barrier, the child sees the end of its input.
 */

import type { Positions } from '../src/text/position.ts'
import type { Broker } from './broker.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import { BrokenPipe } from './exit-code.ts'
import { childFailed, commonEnvironment } from './pipe-child.ts'
import { type Epoch, PipeEpochs } from './pipe-epochs.ts'
import { ExitRunner } from './pipe-exit.ts'
import type { PipePlan } from './pipe-plan.ts'
import { PipeSlot } from './pipe-slot.ts'
import { PipeState } from './pipe-state.ts'
import { askOffsets, openConsumer, openInTime } from './read-open.ts'
import type { ReadPlan } from './read-options.ts'
import { ReadPartitions } from './read-partitions.ts'
import { type PartitionRange, resolveRanges } from './read-range.ts'
import { absolutePath } from './settings.ts'
import { spoolDirectory } from './spool.ts'

const COUNT = 10

export async function dryRunPipe(
  deps: CommandDeps,
  args: CommandArgs,
  plan: PipePlan,
  read: ReadPlan,
): Promise<number> {
  const broker = await openInTime(deps, args, read)
  try {
    const run = new DryRun(deps, args, plan, read, broker)
    return await run.run()
  } finally {
    broker.cluster.close()
  }
}

class DryRun {
  readonly #deps: CommandDeps
  readonly #args: CommandArgs
  readonly #plan: PipePlan
  readonly #read: ReadPlan
  readonly #broker: Broker

  constructor(
    deps: CommandDeps,
    args: CommandArgs,
    plan: PipePlan,
    read: ReadPlan,
    broker: Broker,
  ) {
    this.#deps = deps
    this.#args = args
    this.#plan = plan
    this.#read = read
    this.#broker = broker
  }

  async run(): Promise<number> {
    const epochs = await this.#readEpochs()
    const { job, words } = this.#plan
    const { console } = this.#deps
    const state =
      job === undefined ? undefined : new PipeState(this.#deps, this.#broker, this.#plan, job)
    const runner = await this.#openRunner()
    let records = 0
    try {
      for (const epoch of epochs) {
        await state?.load({ ...epoch, topicId: '' })
        const outcome = await runner.run(epoch, 0, 0, state?.carryOf(epoch))
        if (outcome.kind === 'failed') throw childFailed(this.#plan, outcome.failure, '')
        records += epoch.records
      }
    } finally {
      await runner.close()
    }
    const noun = records === 1 ? 'record' : 'records'
    console.warn(`dry run: ${records} ${noun} through ${words[0]}; nothing was committed`)
    return records === 0 && this.#read.failEmpty ? 3 : 0
  }

  /** The last records of each partition, an epoch each. */
  async #readEpochs(): Promise<readonly Epoch[]> {
    const partitions = new ReadPartitions(this.#deps.time, this.#read, this.#broker.cluster)
    const found = (await partitions.find(new Promise(() => undefined))) ?? []
    const count = this.#args.flags.wholeNumber('count') ?? COUNT
    const from = this.#args.flags.has('from') ? this.#read.from : lastOf(count)
    const ranges = await resolveRanges(found, from, this.#read.until, (questions) =>
      askOffsets(this.#deps, this.#broker, this.#read, questions),
    )
    const machine = new PipeEpochs({
      limits: { records: count, bytes: Number.MAX_SAFE_INTEGER, ms: 0 },
      countMax: Number.POSITIVE_INFINITY,
      isEager: false,
      stickyLanes: undefined,
    })
    const consumer = await openConsumer(this.#deps, this.#broker, this.#read, ranges.length)
    try {
      for (const { topic, partition, startOffset } of ranges) {
        machine.add(topic, partition, startOffset)
      }
      consumer.assign(ranges.map(toAssignment))
      while (!consumer.isDone) {
        const event = consumer.poll()
        if (event === undefined) await consumer.wait()
        else if (event.kind === 'failed') throw event.error
        else if (event.kind === 'end') machine.end(event.topic, event.partition, event.offset)
        else if (event.kind === 'records') machine.take(event, 0)
      }
    } finally {
      consumer.close()
    }
    const epochs: Epoch[] = []
    for (let epoch = machine.next(0); epoch !== undefined; epoch = machine.next(0)) {
      if (epoch.records > 0) epochs.push(epoch)
    }
    return epochs
  }

  async #openRunner(): Promise<ExitRunner> {
    const { flags } = this.#args
    const directory = flags.text('spool-dir') ?? spoolDirectory(this.#deps.host)
    this.#deps.host.makeDirectory(directory)
    const slot = PipeSlot.open(this.#deps, undefined, { clusterId: '', isSingleton: false })
    const filePrefix = absolutePath(this.#deps.host, `${directory}/${slot.filePrefix}`)
    return ExitRunner.open(this.#deps, this.#plan, {
      environment: commonEnvironment(this.#deps, flags, this.#broker, this.#plan),
      filePrefix,
      output: undefined,
      print: (bytes) => this.#print(bytes),
      carryPath: this.#plan.carry === undefined ? undefined : () => `${filePrefix}.carry`,
    })
  }

  async #print(bytes: Uint8Array): Promise<void> {
    if ((await this.#deps.stdio.output.write(bytes)) === 'broken') throw new BrokenPipe()
  }
}

function lastOf(count: number): Positions {
  return { all: { kind: 'before-end', count }, places: [] }
}

function toAssignment({ topic, partition, startOffset, endOffset }: PartitionRange) {
  return { topic, partition, startOffset, ...(endOffset === undefined ? {} : { endOffset }) }
}
