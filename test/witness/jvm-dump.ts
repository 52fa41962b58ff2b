/**
 * DumpLogSegments over every file that we wrote. It exits 0 on most faults, so its words are searched (kafka-protocol.md
 * section 7.6), its batches and records are compared with what our reader finds, and damage is planted to see that it
 * speaks up.
 */
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { DataDirectory } from '../../daemon/log/data-directory.ts'
import { defaultLogConfig } from '../../daemon/log/log-config.ts'
import type { PartitionLog } from '../../daemon/log/partition-log.ts'
import { Connection, CorrelationIds } from '../../src/client/connection.ts'
import { RealDisk } from '../../src/io/real-disk.ts'
import { RealNet } from '../../src/io/real-net.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import { StderrLog } from '../../src/io/stderr-log.ts'
import { BatchBuilder, type FinishOptions } from '../../src/record/batch-builder.ts'
import { isControl } from '../../src/record/batch-layout.ts'
import type { Codec } from '../../src/record/compression.ts'
import { buildControlBatch } from '../../src/record/control-batch.ts'
import { ended, eventually, type Program } from '../support/program.ts'
import { assertSameLines, assertThat, type Checks } from './jvm-checks.ts'
import { type Kafka, logFiles } from './jvm-kafka.ts'
import {
  batchLine,
  linesOf,
  recordLine,
  segmentBytes,
  segmentsOf,
  visitBatches,
} from './jvm-records.ts'
import { daemonAddresses, gone, type Stage, stopDaemon, textLines } from './jvm-stage.ts'

/** Not so old that retention takes the records away. */
const TIME_MS = Date.now() - 1_000_000
const DUMP = 'kafka.tools.DumpLogSegments'
const codecs: readonly Codec[] = ['none', 'gzip', 'snappy', 'lz4', 'zstd']

/** What the tool says of a fault. */
const faults =
  /isvalid: false|invalid bytes at the end|Mismatches in|indexed offsets are not found|Found timestamp mismatch|out of order timestamp|CorruptIndexException|Snapshot is corrupt|[Uu]nknown file version|Exception|Ignoring unknown file|Could not|Unsupported/
const gaps = /Non-consecutive offsets/

export async function checkLogs({ kafka, program }: Stage, checks: Checks): Promise<void> {
  program.ok('stream daemon start --listen kafka://127.0.0.1:0')
  let addresses = daemonAddresses(program)
  const data = addresses.data
  const topics = [
    ['codecs', '--set internal.segment.bytes=60000'],
    ['dense', '--set internal.segment.bytes=20000 --set index.interval.bytes=1'],
    ['rolled', '--set segment.bytes=1048576'],
    [
      'times',
      '--set retention.ms=-1 --set internal.segment.bytes=30000 --set index.interval.bytes=500',
    ],
    ['appended', '--set message.timestamp.type=LogAppendTime --set internal.segment.bytes=30000'],
    [
      'compacted',
      '--compact --set internal.segment.bytes=20000 --set min.cleanable.dirty.ratio=0.01 --set delete.retention.ms=3600000 --set segment.ms=1000',
    ],
    ['again', ''],
    ['killed', '--set segment.bytes=1048576'],
  ] as const
  for (const [topic, settings] of topics) program.ok(`stream topics create ${topic} ${settings}`)

  const count = new Map<string, number>()
  const send = (topic: string, codec: Codec, envelopes: readonly string[], more = '') => {
    program.ok(`stream produce ${topic} --json -z ${codec} ${more}`, {
      input: envelopes.map((line) => `${line}\n`).join(''),
    })
    count.set(topic, (count.get(topic) ?? 0) + envelopes.length)
  }
  for (const codec of codecs) {
    for (const topic of ['codecs', 'dense', 'appended'])
      send(topic, codec, shapes(codec, 600), '--batch-size 4KiB')
    send('times', codec, wanderingTimes(500), '--batch-size 2KiB')
    send(
      'rolled',
      codec,
      textLines(20_000, codec).map((value) => JSON.stringify({ value })),
      '--batch-size 16KiB',
    )
    send('compacted', codec, updates(codec, 800), '--batch-size 2KiB')
  }

  await checks.check('a batch sent twice is appended once, and answered as before', async () => {
    const answers = await sendTwice(addresses.kafka, 'again', 5)
    count.set('again', 5 * 10)
    for (const [first, second] of answers) {
      assertThat(first.errorCode === 0 && second.errorCode === 0, JSON.stringify(answers))
      assertThat(first.baseOffset === second.baseOffset, JSON.stringify(answers))
    }
    return `base offsets ${answers.map(([first]) => first.baseOffset).join(' ')}`
  })

  await checks.check('kill -9 under load: the producer goes on with the next daemon', async () => {
    const lines = 200_000
    program.ok(`seq ${lines} | sed 's/$/ a line of the log that is killed/' > killed.input`)
    const producer = program.start('bash', [
      '-c',
      `split -l 10000 --filter='cat; sleep 0.1' killed.input | stream produce killed -z lz4 --batch-size 16KiB --linger 1ms`,
    ])
    producer.stdin?.end()
    const status = ended(producer)
    for (const waitMs of [500, 400]) {
      await new Promise((resolve) => setTimeout(resolve, waitMs))
      const pid = program.daemonPid()
      process.kill(pid, 'SIGKILL')
      await gone(pid)
      program.ok('stream daemon start --listen kafka://127.0.0.1:0')
    }
    assertThat((await status) === 0, 'the producer failed')
    assertThat(program.shell('stream cat killed | cmp - killed.input').status === 0, 'other lines')
    count.set('killed', lines)
    return `${lines} lines once and in order`
  })

  await checks.check('the compacted topic has been compacted', async () => {
    // The active segment is never compacted, and on a quick machine it holds most of the updates: older than segment.ms, the
    // next record rolls it.
    await new Promise((resolve) => setTimeout(resolve, 1_100))
    send('compacted', 'none', updates('none', 1))
    const sent = count.get('compacted') ?? 0
    const seen = await eventually(
      'compaction',
      () => {
        const there = linesOf(program.ok('stream cat compacted --json')).length
        return there < sent / 4 ? there : undefined
      },
      90_000,
    )
    return `${sent} records became ${seen}`
  })

  const values = new Map<string, string[]>()
  for (const [topic] of topics)
    values.set(
      topic,
      linesOf(program.ok(`stream cat ${topic} --json`)).map((line) => {
        const { offset, ts } = JSON.parse(line) as { offset: number; ts: number }
        return `${offset} ${ts}`
      }),
    )
  addresses = daemonAddresses(program)
  await stopDaemon(program)

  for (const [topic] of topics) {
    const directory = join(data, `${topic}-0`)
    await checks.check(`${topic}: DumpLogSegments finds no fault`, () =>
      dumpIsClean(kafka, directory, topic === 'compacted'),
    )
    await checks.check(`${topic}: batches, CRCs and records as our reader finds them`, () => {
      const { batches, records } = compareDump(kafka, directory)
      const cat = values.get(topic) ?? []
      assertSameLines(
        records,
        cat,
        `${topic}: offset and time of DumpLogSegments and of stream cat`,
      )
      if (topic !== 'compacted')
        assertThat(records.length === count.get(topic), `${records.length} of ${count.get(topic)}`)
      return `${batches} batches, ${records.length} records`
    })
  }

  await checks.check('every directory of the data directory was looked at', () => {
    const found = readdirSync(data).filter((name) => /-\d+$/.test(name))
    assertSameLines(found.sort(), topics.map(([topic]) => `${topic}-0`).sort(), 'directories')
    const files = found.flatMap((name) => logFiles(join(data, name)))
    return ['log', 'index', 'timeindex', 'snapshot']
      .map((kind) => {
        const found = files.filter((name) => name.endsWith(`.${kind}`)).length
        assertThat(found > 5, `${found} .${kind} files`)
        return `${found} .${kind}`
      })
      .join(', ')
  })

  await checks.check('planted damage is found by the tool', () => plantDamage(kafka, program, data))
  await checkTransactions(kafka, program, checks)
}

/** The log part with transactions, which reach no door of a daemon of this phase by themselves. */
async function checkTransactions(kafka: Kafka, program: Program, checks: Checks): Promise<void> {
  const path = program.path('transactions')
  const directory = join(path, 'transactions-0')
  await checks.check('transactions appended to a log of ours', async () => {
    const opened = await DataDirectory.open(logPorts(), {
      path,
      bootId: 'boot',
      reserveBytesMax: 0,
    })
    const log = await opened.createPartitionLog({
      topic: 'transactions',
      topicId: 'AAAAAAAAAAAAAAAAAAAAAQ',
      partition: 0,
      config: { ...defaultLogConfig, segmentBytes: 8000, indexIntervalBytes: 300 },
    })
    await log.beginEpoch(0)
    fillTransactions(log)
    log.setHighWatermark(log.logEndOffset)
    await log.flush()
    const aborted = log.abortedTransactions(0, log.logEndOffset).length
    assertThat(aborted === 20, `${aborted} aborted transactions`)
    await opened.close({ clean: true })
    return `${log.segmentCount} segments, ${aborted} aborted transactions`
  })
  await checks.check('transactions: DumpLogSegments finds no fault', () => {
    const seen = dumpIsClean(kafka, directory, false)
    assertThat(seen.includes('.txnindex'), `no .txnindex among ${seen}`)
    return seen
  })
  await checks.check('transactions: batches, markers and records as our reader finds them', () => {
    const { batches, records } = compareDump(kafka, directory)
    return `${batches} batches, ${records.length} records`
  })
}

/** Runs all three modes of the tool over all files of a partition directory. @throws when it says anything of a fault */
export function dumpIsClean(kafka: Kafka, directory: string, hasGaps: boolean): string {
  const names = logFiles(directory)
  const paths = names.map((name) => join(directory, name))
  const full = kafka.run(DUMP, ['--files', paths.join(','), '--deep-iteration'])
  const said = full.stdout + full.stderr
  assertThat(full.status === 0, `exit ${full.status}\n${said.slice(-3000)}`)
  assertNoFault(said, hasGaps)
  const dumped = said.split('\n').filter((line) => line.startsWith('Dumping ')).length
  assertThat(dumped === paths.length, `${dumped} of ${paths.length} files dumped`)
  const indexes = paths.filter((path) => /\.(time)?index$/.test(path))
  const sane = kafka.run(DUMP, ['--files', indexes.join(','), '--index-sanity-check'])
  assertNoFault(sane.stdout + sane.stderr, false)
  const passed = sane.stdout.match(/passed sanity check|is empty\.$/gm)?.length ?? 0
  assertThat(passed === indexes.length, `${passed} of ${indexes.length} passed\n${sane.stdout}`)
  const verified = kafka.run(DUMP, ['--files', indexes.join(','), '--verify-index-only'])
  assertThat(verified.status === 0, verified.stderr)
  assertNoFault(verified.stdout + verified.stderr, false)
  const kinds = new Map<string, number>()
  for (const name of names) {
    const kind = name.slice(20)
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  }
  // What index files say is shown by the tool entry by entry; all of it must have been read.
  const entries = linesOf(full.stdout).filter((line) => /^offset: \d+ position: \d+$/.test(line))
  const size = paths
    .filter((path) => path.endsWith('.index'))
    .reduce((sum, path) => sum + statSync(path).size, 0)
  assertThat(entries.length === size / 8, `${entries.length} entries in ${size} bytes of .index`)
  return `${[...kinds].map(([kind, many]) => `${many} ${kind}`).join(', ')}; ${entries.length} index entries`
}

/**
 * Compares batches and records of the tool with those of our reader.
 * @returns offset and time of each data record
 */
export function compareDump(
  kafka: Kafka,
  directory: string,
): { readonly batches: number; readonly records: string[] } {
  const segments = segmentsOf(directory)
  const printed = kafka.ok(DUMP, [
    '--files',
    segments.join(','),
    '--deep-iteration',
    '--print-data-log',
  ])
  const theirs: string[] = []
  for (const line of linesOf(printed)) {
    if (line.startsWith('Dumping ')) theirs.push(`Dumping ${basename(line)}`)
    else if (line.startsWith('baseOffset: ')) theirs.push(line.replace(/deleteHorizonMs: \S+ /, ''))
    else if (line.startsWith('| ')) theirs.push(line)
  }
  const ours: string[] = []
  const records: string[] = []
  let batches = 0
  for (const path of segments) {
    ours.push(`Dumping ${basename(path)}`)
    visitBatches(segmentBytes(path), ({ header, position, cursor }) => {
      batches++
      ours.push(batchLine(header, position))
      while (cursor.next()) {
        // The tool prints line ends as they are: its first line is compared.
        ours.push(recordLine(header, cursor).split('\n', 1)[0] ?? '')
        if (!isControl(header.attributes)) records.push(`${cursor.offset} ${cursor.timestampMs}`)
      }
    })
  }
  assertSameLines(ours, theirs, directory)
  return { batches, records }
}

function assertNoFault(output: string, hasGaps: boolean): void {
  for (const pattern of hasGaps ? [faults] : [faults, gaps]) {
    const at = output.search(pattern)
    if (at >= 0)
      throw new Error(`the tool says:\n${output.slice(Math.max(0, at - 500), at + 1500)}`)
  }
}

/** The oracle itself is tried: each kind of damage must make it speak. */
function plantDamage(kafka: Kafka, program: Program, data: string): string {
  const source = join(data, 'rolled-0')
  const names = logFiles(source).filter((name) => name.startsWith('0'.repeat(20)))
  const kinds: readonly (readonly [string, (bytes: Buffer) => Buffer, RegExp])[] = [
    ['log', (bytes) => flip(bytes, bytes.length - 40), /isvalid: false|Exception/],
    [
      'log',
      (bytes) => bytes.subarray(0, bytes.length - 5),
      /invalid bytes at the end|Exception|EOF/,
    ],
    ['index', (bytes) => flip(bytes, 3), /Mismatches in|Exception/],
    ['timeindex', (bytes) => flip(bytes, 7), /timestamp mismatch|out of order|not found/],
  ]
  const said: string[] = []
  kinds.forEach(([kind, damage, words], index) => {
    const directory = program.path(`damaged-${index}`)
    mkdirSync(directory)
    for (const name of names) copyFileSync(join(source, name), join(directory, name))
    const path = join(directory, `${'0'.repeat(20)}.${kind}`)
    writeFileSync(path, damage(readFileSync(path)))
    let message = ''
    try {
      dumpIsClean(kafka, directory, false)
    } catch (error) {
      message = String(error)
    }
    assertThat(message !== '', `damage ${index} in .${kind} was not found`)
    const word = words.exec(message)?.[0]
    assertThat(word !== undefined, `damage ${index} in .${kind}: ${message.slice(0, 1000)}`)
    said.push(`.${kind}: ${word}`)
  })
  return said.join('; ')
}

function flip(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[at] = (copy[at] ?? 0) ^ 1
  return copy
}

function shapes(codec: string, count: number): string[] {
  return textLines(count, codec).map((text, index) =>
    JSON.stringify({
      key: index % 3 === 0 ? null : index % 3 === 1 ? '' : `key ${index}`,
      value: index % 5 === 0 ? null : index % 5 === 1 ? '' : text,
      headers:
        index % 4 === 0
          ? [
              ['codec', codec],
              ['größe', null],
              ['codec', { b64: '/wAB' }],
            ]
          : [],
    }),
  )
}

/** Timestamps that fall and rise, so that the largest of a batch is rarely its last. */
function wanderingTimes(count: number): string[] {
  return Array.from({ length: count }, (_, index) =>
    JSON.stringify({
      value: `at ${index}`,
      ts: TIME_MS + ((index * 7919) % 10_007) + index * 3,
    }),
  )
}

/** Few keys, written many times; some end as tombstones. */
function updates(codec: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) =>
    JSON.stringify({
      key: `key ${index % 60}`,
      value: index % 60 < 6 && index > count / 2 ? null : `${codec} ${index} of a table`,
      headers: index % 9 === 0 ? [['n', `${index}`]] : [],
    }),
  )
}

interface Answer {
  readonly errorCode: number
  readonly baseOffset: number
}

/** Sends each of `rounds` idempotent batches, of ten records, two times. */
async function sendTwice(
  address: string,
  topic: string,
  rounds: number,
): Promise<(readonly [Answer, Answer])[]> {
  const net = new RealNet()
  const connection = await new Promise<Connection>((resolve, reject) => {
    const opened: Connection = new Connection(
      new RealTime(),
      net,
      {
        address: `kafka://${address}`,
        clientId: 'witness',
        correlationIds: new CorrelationIds(),
        connectTimeoutMs: 10_000,
        requestTimeoutMs: 10_000,
      },
      { onOpen: () => resolve(opened), onClose: reject },
    )
  })
  try {
    const producer = await connection.call('InitProducerId', {
      transactionalId: null,
      transactionTimeoutMs: 60_000,
      producerId: -1,
      producerEpoch: -1,
    })
    const answers: (readonly [Answer, Answer])[] = []
    const produce = async (batch: Uint8Array): Promise<Answer> => {
      const response = await connection.call('Produce', {
        transactionalId: null,
        acks: -1,
        timeoutMs: 10_000,
        topicData: [{ name: topic, partitionData: [{ index: 0, records: batch }] }],
      })
      const partition = response.responses[0]?.partitionResponses[0]
      if (partition === undefined) throw new Error('no answer for the partition')
      return { errorCode: partition.errorCode, baseOffset: partition.baseOffset }
    }
    for (let round = 0; round < rounds; round++) {
      const batch = textBatch(textLines(10, `${round}`), {
        codec: codecs[round % codecs.length] ?? 'none',
        producerId: producer.producerId,
        producerEpoch: producer.producerEpoch,
        baseSequence: round * 10,
      })
      answers.push([await produce(batch), await produce(batch)])
    }
    return answers
  } finally {
    connection.close()
  }
}

/** 20 committed and 20 aborted transactions of two producers whose batches alternate, over several segments. */
function fillTransactions(log: PartitionLog): void {
  const sequences = [0, 0]
  let timestampMs = TIME_MS
  for (let round = 0; round < 20; round++) {
    for (let step = 0; step < 6; step++) {
      const producerId = step % 2
      const builder = new BatchBuilder(4096)
      timestampMs += step % 3 === 0 ? -2 : 5
      builder.reset({ timestampMs })
      for (let index = 0; index < 5; index++)
        builder.append({
          key: range(`k${index}`),
          value: range(`${round} ${step} ${index} of a transaction`),
        })
      const baseSequence = sequences[producerId] ?? 0
      sequences[producerId] = baseSequence + 5
      const batch = Uint8Array.from(
        builder.finish({
          codec: codecs[(round + step) % codecs.length] ?? 'none',
          producerId: 1000 + producerId,
          producerEpoch: 0,
          baseSequence,
          isTransactional: true,
        }),
      )
      log.append([batch], { leaderEpoch: 0 })
    }
    for (const producerId of [0, 1]) {
      const type = producerId === 0 ? 'abort' : 'commit'
      const marker = { type, producerId: 1000 + producerId, producerEpoch: 0 } as const
      log.append([buildControlBatch({ ...marker, coordinatorEpoch: 3, timestampMs })], {
        leaderEpoch: 0,
      })
      log.setHighWatermark(log.logEndOffset)
    }
  }
}

/** One batch in memory of its own: records without keys. */
export function textBatch(values: readonly string[], options: FinishOptions): Uint8Array {
  const builder = new BatchBuilder(64 * 1024)
  builder.reset({ timestampMs: Date.now() })
  for (const value of values) builder.append({ value: range(value) })
  return Uint8Array.from(builder.finish(options))
}

function range(text: string): { bytes: Uint8Array; start: number; end: number } {
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}

export function logPorts() {
  const time = new RealTime()
  return { time, random: new RealRandom(), disk: new RealDisk(), log: new StderrLog('error') }
}
