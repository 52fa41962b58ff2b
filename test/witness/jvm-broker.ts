/**
 * A real Kafka broker: our commands speak to it, and our log reads, rebuilds and continues what it wrote.
 */
import { cpSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DataDirectory } from '../../daemon/log/data-directory.ts'
import { defaultLogConfig } from '../../daemon/log/log-config.ts'
import type { PartitionLog } from '../../daemon/log/partition-log.ts'
import type { BatchHeader } from '../../src/record/batch-layout.ts'
import { isTransactional } from '../../src/record/batch-layout.ts'
import { assertSameLines, assertThat, type Checks } from './jvm-checks.ts'
import { compareDump, dumpIsClean, logPorts, textBatch } from './jvm-dump.ts'
import { KafkaBroker, logFiles } from './jvm-kafka.ts'
import { envelopeLines, inOrder, linesOf, recordLines } from './jvm-records.ts'
import { type Stage, textLines } from './jvm-stage.ts'

const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const
const topics = ['filled', 'transactions'] as const

export async function checkBroker({ kafka, program }: Stage, checks: Checks): Promise<void> {
  const broker = await KafkaBroker.start(kafka, program.path('kafka'))
  /** What Kafka's consumer printed, by topic and isolation. */
  const printed = new Map<string, string[]>()
  try {
    await speakTo(broker.address, { kafka, program }, checks)
    const create = (topic: string, settings: string) =>
      program.ok(
        `stream topics create ${topic} --partitions 2 ${settings} -b kafka://${broker.address}`,
      )
    await checks.check(
      'stream topics create, filled by Kafka: all codecs and shapes, transactions',
      () => {
        const key = kafka.segmentBytesKey
        create('filled', `--set ${key}=30000 --set index.interval.bytes=1000`)
        create('transactions', `--set ${key}=3000`)
        kafka.ok('Witness', ['fill', broker.address, 'filled'])
        kafka.ok('Witness', ['transactions', broker.address, 'transactions'])
        for (const topic of topics)
          for (const isolation of ['read_committed', 'read_uncommitted'])
            printed.set(
              `${topic} ${isolation}`,
              linesOf(kafka.ok('Witness', ['read', broker.address, topic, isolation])),
            )
        const sizes = [...printed].map(([name, lines]) => `${name} ${lines.length}`)
        assertSameLines(
          sizes,
          [
            'filled read_committed 2000',
            'filled read_uncommitted 2000',
            'transactions read_committed 96',
            'transactions read_uncommitted 186',
          ],
          'records',
        )
        return sizes.join(', ')
      },
    )
    for (const topic of topics)
      for (const [isolation, flag] of [
        ['read_committed', ''],
        ['read_uncommitted', '--uncommitted'],
      ] as const)
        await checks.check(`stream cat ${topic} ${flag} = Kafka's consumer, ${isolation}`, () => {
          const ours = envelopeLines(
            program.ok(`stream cat ${topic} --json ${flag} -b kafka://${broker.address}`),
          )
          const theirs = printed.get(`${topic} ${isolation}`) ?? []
          assertSameLines(inOrder(ours), inOrder(theirs), topic)
          return `${ours.length} records`
        })
  } finally {
    await broker.stop()
  }

  for (const topic of topics)
    await checks.check(
      `${topic}: our batches and records = DumpLogSegments, on Kafka's files`,
      () => {
        let batches = 0
        let records = 0
        for (const partition of [0, 1]) {
          const seen = compareDump(kafka, join(broker.logDirectory, `${topic}-${partition}`))
          batches += seen.batches
          records += seen.records.length
        }
        return `${batches} batches, ${records} records`
      },
    )

  const whole = program.path('copy-whole')
  cpSync(broker.logDirectory, whole, { recursive: true })
  await checkOpened('as Kafka left it', whole, printed, checks)

  const bare = program.path('copy-bare')
  cpSync(broker.logDirectory, bare, { recursive: true })
  for (const topic of topics)
    for (const partition of [0, 1]) {
      const directory = join(bare, `${topic}-${partition}`)
      for (const name of logFiles(directory))
        if (!name.endsWith('.log')) rmSync(join(directory, name))
    }
  rmSync(join(bare, '.kafka_cleanshutdown'), { force: true })
  await checkOpened('without indexes and snapshots, after a crash', bare, printed, checks)

  for (const [copy, directory] of [
    ['opened', whole],
    ['rebuilt', bare],
  ] as const)
    for (const topic of topics)
      await checks.check(
        `${topic} ${copy} and continued by us: DumpLogSegments finds no fault`,
        () =>
          [0, 1]
            .map((partition) => dumpIsClean(kafka, join(directory, `${topic}-${partition}`), false))
            .join(' and '),
      )
  await checks.check('rebuilt .txnindex files are those of Kafka', () => {
    let count = 0
    for (const partition of [0, 1]) {
      const name = `transactions-${partition}`
      const theirs = readdirSync(join(broker.logDirectory, name)).filter(
        (file) =>
          file.endsWith('.txnindex') &&
          readFileSync(join(broker.logDirectory, name, file)).length > 0,
      )
      for (const file of theirs) {
        const path = join(bare, name, file)
        assertThat(existsSync(path), `${name}/${file} is missing`)
        const ours = readFileSync(path)
        assertThat(
          ours.equals(readFileSync(join(broker.logDirectory, name, file))),
          `${name}/${file} differs`,
        )
        count++
      }
    }
    assertThat(count > 0, 'Kafka wrote none')
    return `${count} files`
  })
}

/** Our commands with a broker that is not ours. */
async function speakTo(address: string, { kafka, program }: Stage, checks: Checks): Promise<void> {
  const broker = `-b kafka://${address}`
  await checks.check('stream topics create, list, describe, alter on Kafka', () => {
    program.ok(`stream topics create orders --partitions 3 --retention 2d ${broker}`)
    const names = linesOf(program.ok(`stream topics list ${broker}`)).map(
      (line) => line.split('\t')[0],
    )
    assertThat(names.includes('orders'), names.join(' '))
    const described = linesOf(program.ok(`stream topics describe orders ${broker}`))
    assertThat(described.length === 3, described.join('; '))
    program.ok(
      `stream topics alter orders --set max.message.bytes=2000000 --partitions 4 ${broker}`,
    )
    const theirs = kafka.ok('TopicCommand', [
      '--bootstrap-server',
      address,
      '--describe',
      '--topic',
      'orders',
    ])
    for (const part of ['PartitionCount: 4', 'retention.ms=172800000', 'max.message.bytes=2000000'])
      assertThat(theirs.includes(part), `${part} is not in ${theirs}`)
    const again = program.shell(`stream topics create orders ${broker}`)
    assertThat(again.status === 8, `exit ${again.status}: ${again.stderr}`)
    return linesOf(theirs)[0] ?? ''
  })
  for (const codec of codecs)
    await checks.check(`stream produce -z ${codec} → Kafka → its consumer and stream cat`, () => {
      const topic = `ours-${codec}`
      program.ok(`stream topics create ${topic} --partitions 2 ${broker}`)
      const values = textLines(5000, codec)
      program.ok(
        `stream produce ${topic} -z ${codec} -K '\\t' -H c=${codec} --batch-size 16KiB ${broker}`,
        {
          input: values.map((value, index) => `key ${index % 99}\t${value}\n`).join(''),
        },
      )
      const theirs = linesOf(kafka.ok('Witness', ['read', address, topic, 'read_committed']))
      const ours = envelopeLines(program.ok(`stream cat ${topic} --json ${broker}`))
      assertSameLines(inOrder(ours), inOrder(theirs), topic)
      const seen = theirs.map((line) => line.split('\t').slice(3).join('\t')).sort()
      const encode = (text: string) => Buffer.from(text).toString('base64')
      const sent = values
        .map(
          (value, index) =>
            `${encode(`key ${index % 99}`)}\t${encode(value)}\t${encode('c')}=${encode(codec)}`,
        )
        .sort()
      assertSameLines(seen, sent, topic)
      return `${theirs.length} records`
    })
  await checks.check('stream topics trim and delete on Kafka', () => {
    program.ok(`seq 100 | stream produce orders -p 0 ${broker}`)
    program.ok(`stream topics trim orders -p 0 --to 40 -y ${broker}`)
    const first = program.ok(`stream cat orders -p 0 -n 1 ${broker}`).trim()
    assertThat(first === '41', `the first record is now ${first}`)
    const at = ['--bootstrap-server', address, '--topic', 'orders', '--time', 'earliest']
    const starts = linesOf(kafka.ok('GetOffsetShell', at))
    assertThat(starts.includes('orders:0:40'), starts.join(' '))
    program.ok(`stream topics delete orders --yes ${broker}`)
    const names = linesOf(program.ok(`stream topics list ${broker}`)).map(
      (line) => line.split('\t')[0],
    )
    assertThat(!names.includes('orders'), names.join(' '))
    return 'the log began at 40, then the topic was gone'
  })
}

/** Opens a copy of Kafka's directory as ours, and reads all of it. */
async function checkOpened(
  how: string,
  path: string,
  printed: ReadonlyMap<string, string[]>,
  checks: Checks,
): Promise<void> {
  let directory: DataDirectory | undefined
  const opened = await checks.check(`our log opens the directory ${how}`, async () => {
    directory = await DataDirectory.open(logPorts(), { path, bootId: 'boot', reserveBytesMax: 0 })
    assertThat(!directory.isNew, 'it was taken for a new one')
    const found = directory.partitionsOnDisk()
    const invalid = found.filter(
      (each) => each.metadata !== 'valid' && !each.topic.startsWith('__'),
    )
    assertThat(invalid.length === 0, invalid.map((each) => each.path).join(' '))
    return `cluster ${directory.clusterId}, ${found.length} partitions`
  })
  if (!opened || directory === undefined) return
  const { partitionsOnDisk } = directory
  const found = partitionsOnDisk.call(directory)
  for (const topic of topics)
    await checks.check(
      `${topic}: our log reads it ${how}, record by record as Kafka's consumer`,
      async () => {
        const all: string[] = []
        const committed: string[] = []
        const ends: string[] = []
        for (const each of found.filter((one) => one.topic === topic)) {
          if (directory === undefined || each.topicId === undefined) throw new Error('no topic id')
          const log = await directory.openPartitionLog({
            topic,
            topicId: each.topicId,
            partition: each.partition,
            config: { ...defaultLogConfig, segmentBytes: 3000 },
          })
          log.setHighWatermark(log.logEndOffset)
          const bytes = await readWhole(log)
          all.push(...recordLines(each.partition, bytes))
          committed.push(...recordLines(each.partition, bytes, committedFilter(log)))
          assertThat(log.damage.length === 0, 'it is damaged')
          await goOn(log)
          ends.push(`${each.partition}: ${log.logStartOffset}–${log.logEndOffset}`)
        }
        assertSameLines(
          inOrder(all),
          inOrder(printed.get(`${topic} read_uncommitted`) ?? []),
          'all',
        )
        assertSameLines(
          inOrder(committed),
          inOrder(printed.get(`${topic} read_committed`) ?? []),
          'committed',
        )
        return `${all.length} records, ${committed.length} committed; offsets ${ends.join(', ')}`
      },
    )
  await directory.close({ clean: true })
}

/** As a read_committed consumer: leaves out batches of aborted transactions by the list of our transaction index. */
function committedFilter(log: PartitionLog): (header: BatchHeader) => boolean {
  const aborted = log.abortedTransactions(0, log.logEndOffset)
  return (header) =>
    !isTransactional(header.attributes) ||
    !aborted.some(
      (each) =>
        each.producerId === header.producerId &&
        header.baseOffset >= each.firstOffset &&
        header.baseOffset <= each.lastOffset,
    )
}

/** Appends to a log that Kafka began. */
async function goOn(log: PartitionLog): Promise<void> {
  const leaderEpoch = (log.latestEpoch ?? 0) + 1
  await log.beginEpoch(leaderEpoch)
  const end = log.logEndOffset
  for (const codec of codecs)
    log.append([textBatch(textLines(50, codec), { codec })], { leaderEpoch })
  await log.flush()
  assertThat(log.logEndOffset === end + 250, `${end} to ${log.logEndOffset}`)
}

async function readWhole(log: PartitionLog): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let offset = log.logStartOffset
  while (offset < log.logEndOffset) {
    const slice = await log.read({ offset, maxBytes: 50_000 })
    assertThat(slice.nextOffset > offset, `no progress at ${offset}`)
    parts.push(...slice.bytes)
    offset = slice.nextOffset
  }
  return Buffer.concat(parts)
}
