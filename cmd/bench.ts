/** `stream bench`: how fast the broker is from here, on a topic of its own that is deleted after. */

import { UsageError } from '../src/base/errors.ts'
import type { ProducerOptions } from '../src/client/producer.ts'
import type { Codec } from '../src/record/compression.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import {
  type BenchPlan,
  type BenchResult,
  benchConsume,
  benchLatency,
  benchProduce,
  LATENCY_BYTES_MIN,
} from './bench-cases.ts'
import { type Broker, openBroker } from './broker.ts'
import type { AdminClient, ClusterClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { type CommandSpec, rowOptions } from './option-table.ts'
import { Progress } from './progress.ts'
import { Report } from './report.ts'
import { printRows } from './row-output.ts'

const shape: RowShape = {
  kind: 'bench',
  columns: ['CASE', 'RECORDS', 'BYTES', 'SECONDS', 'RATE', 'MBPS', 'P50', 'P99', 'P999', 'MAX'],
}

const cases = ['produce', 'consume', 'latency'] as const
type Case = (typeof cases)[number]

const RECORDS = 1_000_000
const LATENCY_RECORDS = 10_000
const LATENCY_RATE = { unit: 'records', perSecond: 1000 } as const

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'bench',
  summary: 'Measure the broker from here',
  description: [
    'produce sends lines and waits for their acknowledgements, consume reads them back and decodes them, latency does both at a steady rate; all does the three (the default). The topic is its own and is deleted at the end, also after Ctrl-C.',
    'BYTES are those of the values, RATE is records a second, MBPS millions of bytes a second. P50, P99, P999 and MAX are milliseconds: of produce from append to acknowledgement, of latency from append to the reader having the record.',
  ],
  operands: [{ name: 'produce|consume|latency|all', isOptional: true }],
  options: [
    { long: 'records', argument: 'N', help: `how many; default ${RECORDS}, of latency ${LATENCY_RECORDS}` },
    { long: 'size', argument: 'SIZE', default: '100', help: 'bytes of a value' },
    { long: 'partitions', argument: 'N', default: '1', help: 'of the topic' },
    { long: 'rate', argument: 'R', help: 'no faster than 1000/s or 5MiB/s; default of latency 1000/s' },
    { long: 'no-delete', help: 'leave the topic, and say its name' },
    ...rowOptions,
  ],
  columns: shape.columns,
  examples: [
    { line: 'stream bench latency --size 1K --rate 1000/s --json' },
    { line: 'stream bench produce --records 100000' },
  ],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags } = args
  const wanted = readCases(args)
  const { sizeBytes, partitions, records } = readSizes(flags, wanted)
  const topic = `stream-bench-${Buffer.from(deps.random.bytes(6)).toString('hex')}`
  const broker = await openBroker(deps, args)
  const { cluster } = broker
  let isStopped = false
  const stopListening = deps.interruption.onRaised(() => {
    isStopped = true
  })
  try {
    const admin = await deps.clients.admin(cluster)
    await createTopic(admin, topic, partitions)
    const plan = {
      topic,
      sizeBytes,
      partitions,
      isStopped: () => isStopped,
      rate: flags.rate('rate'),
      producer: producerOptions(broker),
    }
    const rows: Row[] = []
    try {
      for (const name of wanted) {
        if (isStopped) break
        rows.push(...(await runCase(deps, args, cluster, name, { ...plan, records })))
      }
    } finally {
      if (flags.has('no-delete')) deps.console.warn(`the topic is ${topic}`)
      else await deleteTopic(deps, admin, topic)
    }
    if (!isStopped)
      await printRows(deps, flags, shape, rows, { sizes: ['BYTES'], drop: ['MAX', 'P999'] })
    return 0
  } finally {
    stopListening()
    cluster.close()
  }
}

/** As `produce` has them: the bench shows what commands get. */
function producerOptions({ settings, scheme }: Broker): ProducerOptions {
  const codec = settings.text('compression.type') ?? (scheme === 'ipc' ? 'none' : 'lz4')
  const acks = settings.text('acks')
  return {
    codec: codec as Codec,
    acks: acks === '0' ? 0 : acks === '1' ? 1 : 'all',
    batchBytes: settings.number('batch.size'),
    lingerMs: settings.number('linger.ms'),
  }
}

function readCases({ operands }: CommandArgs): readonly Case[] {
  const [word = 'all', extra] = operands
  if (extra !== undefined) throw new UsageError(`unexpected argument ${extra}`)
  if (word === 'all') return cases
  const found = cases.find((name) => name === word)
  if (found === undefined)
    throw new UsageError(`${word}: no such case`, `one of ${cases.join(', ')}, all`)
  return [found]
}

function readSizes(flags: Flags, wanted: readonly Case[]) {
  const sizeBytes = flags.sizeBytes('size') ?? 100
  const partitions = flags.wholeNumber('partitions') ?? 1
  const records = flags.wholeNumber('records')
  const least = wanted.includes('latency') ? LATENCY_BYTES_MIN : 1
  if (sizeBytes < least) throw new UsageError(`--size ${sizeBytes}: must be at least ${least}`)
  if (partitions < 1) throw new UsageError('--partitions 0: must be at least 1')
  if (records === 0) throw new UsageError('--records 0: must be at least 1')
  return { sizeBytes, partitions, records }
}

type Settings = Pick<
  BenchPlan,
  'topic' | 'sizeBytes' | 'partitions' | 'isStopped' | 'rate' | 'producer'
> & {
  readonly records: number | undefined
}

/** `consume` needs something to read: what is not there is produced first, unmeasured. */
async function runCase(
  deps: CommandDeps,
  args: CommandArgs,
  cluster: ClusterClient,
  name: Case,
  settings: Settings,
): Promise<Row[]> {
  const isFirst = readCases(args)[0] === name
  const records = settings.records ?? (name === 'latency' ? LATENCY_RECORDS : RECORDS)
  const report = new Report('bench', deps.time)
  const progress = new Progress(deps, args.flags, {
    report,
    fraction: () => report.records / records,
    label: name,
  })
  const plan: BenchPlan = {
    ...settings,
    records,
    onProgress: (count, bytes) => {
      report.records += count
      report.bytes += bytes
    },
  }
  try {
    switch (name) {
      case 'produce':
        return [rowOf(name, await benchProduce(deps, cluster, plan), plan)]
      case 'consume': {
        const silent = { ...plan, rate: undefined, onProgress: () => undefined }
        if (isFirst) await benchProduce(deps, cluster, silent)
        const result = await benchConsume(deps, cluster, plan)
        return plan.isStopped() ? [] : [rowOf(name, result, plan)]
      }
      case 'latency': {
        const rate = plan.rate ?? LATENCY_RATE
        const reader = await openBroker(deps, args)
        try {
          const result = await benchLatency(deps, cluster, reader.cluster, { ...plan, rate })
          return [rowOf(name, result, plan)]
        } finally {
          reader.cluster.close()
        }
      }
    }
  } finally {
    progress.end()
  }
}

function rowOf(name: Case, { records, elapsedMs, latencies }: BenchResult, plan: BenchPlan): Row {
  const seconds = Math.max(elapsedMs, 0.001) / 1000
  const bytes = records * plan.sizeBytes
  const rounded = (value: number | null, digits: number): number | null =>
    value === null ? null : Number(value.toFixed(digits))
  return [
    name,
    records,
    bytes,
    rounded(seconds, 3),
    Math.round(records / seconds),
    rounded(bytes / seconds / 1e6, 1),
    rounded(latencies.percentileMs(0.5), 3),
    rounded(latencies.percentileMs(0.99), 3),
    rounded(latencies.percentileMs(0.999), 3),
    rounded(latencies.maxMs, 3),
  ]
}

async function createTopic(admin: AdminClient, name: string, partitions: number): Promise<void> {
  const [outcome] = await admin.createTopics([{ name, partitions }])
  if (outcome?.error !== undefined) throw outcome.error
  await admin.awaitTopic(name)
}

/** What could not be deleted is named, so that somebody can; the result stands nevertheless. */
async function deleteTopic(deps: CommandDeps, admin: AdminClient, name: string): Promise<void> {
  try {
    const [outcome] = await admin.deleteTopics([name])
    if (outcome?.error !== undefined) throw outcome.error
  } catch (error) {
    deps.console.error(error, name)
    deps.console.warn(`the topic is left behind: stream topics delete ${name}`)
  }
}
