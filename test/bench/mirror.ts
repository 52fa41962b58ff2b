/**
 * `npm run bench:mirror [-- --quick] [--save]`: the same records from one daemon to another by a link, by a copy, by MirrorMaker 2, by
 * `kcat | kcat` and by `stream cat | stream produce`, in turn; --save writes the table to test/bench/MIRROR.md. Throughput, and
 * processor time of everything that works: both daemons, and whoever mirrors. Needs java with Maven for MirrorMaker 2.
 *
 * Links and MirrorMaker 2 are services: they run, they are held (a link is paused, the Java machine stopped by SIGSTOP) while their
 * topic is filled at the source, and they are timed from then on until the last record is at the target. The first round of each
 * warms up and counts nothing. Commands are timed from their start to their end.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { Cluster } from '../../src/client/cluster.ts'
import { LinkAdmin } from '../../src/client/link-admin.ts'
import { listOffsets } from '../../src/client/offsets.ts'
import { RealNet } from '../../src/io/real-net.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import { startKafkaDoor } from '../support/kafka-door.ts'
import { hasProgram, Program } from '../support/program.ts'
import { Kafka } from '../witness/jvm-kafka.ts'
import { MirrorMaker } from '../witness/mirror-maker.ts'
import {
  makePayload,
  median,
  medianRatio,
  type Row,
  repository,
  run,
  settleDisk,
  time,
  warmMemory,
} from './harness.ts'

const quick = process.argv.includes('--quick')
const MEGABYTES = quick ? 60 : 200
const LINE_BYTES = 100
const RECORDS = Math.floor((MEGABYTES * 1e6) / LINE_BYTES)
const ROUNDS = quick ? 1 : 3
const PARTITIONS = 4
const WAIT_MS = 600_000
const POLL_MS = 20
/** Of the kernel, for /proc. */
const TICK_MS = 1000 / Number(spawnSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }).stdout)
/** Of connect-mirror-maker.sh. */
const makerFlags = ['-Xms256M', '-Xmx2G', '-server', '-XX:+UseG1GC', '-XX:MaxGCPauseMillis=20']
/** What its users raise first: its own are made for latency. */
const tuned = [
  'target.producer.batch.size = 524288',
  'target.producer.linger.ms = 20',
  'target.producer.buffer.memory = 134217728',
  'source.consumer.max.poll.records = 5000',
  'source.consumer.max.partition.fetch.bytes = 4194304',
]
const quiet = { debug: nothing, info: nothing, warn: nothing, error: nothing }
function nothing(): void {}

/** Seconds of processor time. */
interface Cost {
  readonly ms: number
  readonly source: number
  readonly target: number
  /** Of whoever stands between the daemons. */
  readonly between: number
}

interface Contender {
  readonly name: string
  /** Not timed, before each round. */
  prepare?(round: number): void | Promise<void>
  /** Timed; until all is at the target. */
  work(round: number): void | Promise<void>
  /** Not timed; throws when not all has come. */
  finish?(round: number): void | Promise<void>
  /** A process that lives on between rounds. */
  readonly pid?: number
}

const program = new Program({ environment: { STREAM_AUTOSTART: '0' } })
const kafka = Kafka.prepare().withJavaFlags(makerFlags)
const payload = makePayload(program.directory, { megabytes: MEGABYTES, lineBytes: LINE_BYTES })
const ports = { time: new RealTime(), random: new RealRandom(), net: new RealNet() }
const makers: MirrorMaker[] = []
const results = new Map<string, Cost[]>()

const [source, target] = [
  await startKafkaDoor(program, 's', []),
  await startKafkaDoor(program, 't', []),
]
Object.assign(program.environment, {
  S: source.native,
  T: target.native,
  SK: `kafka://${source.address}`,
  TK: `kafka://${target.address}`,
  SA: source.address,
  TA: target.address,
})
const cluster = new Cluster(ports.time, ports.random, ports.net, quiet, {
  addresses: [target.native],
})
const links = new LinkAdmin(cluster)
try {
  await cluster.connect()
  await bench()
  report()
} finally {
  cluster.close()
  for (const maker of makers) await maker.stop()
  source.process.kill('SIGTERM')
  target.process.kill('SIGTERM')
  program.stop()
}

async function bench(): Promise<void> {
  fill('data')
  const contenders: Contender[] = [
    command('stream cat > /dev/null', 'stream cat data -b $S > /dev/null'),
    {
      ...command('stream produce < file', `stream produce alone -b $T < ${payload}`),
      prepare: () => sh(`stream topics create alone --partitions ${PARTITIONS} -b $T`),
      finish: () => drop('alone'),
    },
    pipeline(
      'stream cat \\| stream produce, ipc://',
      'stream cat data -b $S | stream produce piped -b $T',
    ),
    pipeline(
      'stream cat \\| stream produce, kafka://',
      'stream cat data -b $SK | stream produce piped -b $TK',
    ),
    await link('link, ipc://', 'native', source.native),
    await link('link, kafka://', 'foreign', `kafka://${source.address}`),
    copy('copy, ipc://', '$S', '$T'),
    copy('copy, kafka://', '$SK', '$TK'),
    ...(hasProgram('kcat')
      ? [
          pipeline(
            'kcat \\| kcat',
            'kcat -C -q -e -b $SA -t data -o beginning | kcat -P -b $TA -t piped',
          ),
        ]
      : []),
    await maker('MirrorMaker 2, as it comes', 'mma', []),
    await maker('MirrorMaker 2, large batches', 'mmb', tuned),
  ]
  for (let round = -1; round < ROUNDS; round += 1) {
    for (const contender of contenders) {
      await contender.prepare?.(round)
      settleDisk()
      warmMemory()
      const before = costs(contender)
      const startMs = performance.now()
      await contender.work(round)
      const ms = performance.now() - startMs
      const after = costs(contender)
      await contender.finish?.(round)
      process.stderr.write(`${contender.name}: ${(ms / 1000).toFixed(2)} s\n`)
      if (round < 0) continue
      const cost = {
        ms,
        source: after.source - before.source,
        target: after.target - before.target,
        between: after.between - before.between,
      }
      results.set(contender.name, [...(results.get(contender.name) ?? []), cost])
    }
  }
}

// --- contenders

function command(name: string, line: string): Contender {
  return { name, work: () => void time(line, program) }
}

function pipeline(name: string, line: string): Contender {
  return {
    ...command(name, line),
    prepare: () => sh(`stream topics create piped --partitions ${PARTITIONS} -b $T`),
    finish: async () => {
      await arrived('piped', RECORDS)
      drop('piped')
    },
  }
}

function copy(name: string, from: string, to: string): Contender {
  const topic = (round: number) => `copy${from.length}.${round + 1}`
  return {
    name,
    work: (round) =>
      void time(`stream mirror ${from} --topics data --rename ${topic(round)} -b ${to}`, program),
    finish: async (round) => {
      await arrived(topic(round), RECORDS)
      drop(topic(round))
    },
  }
}

async function link(name: string, topic: string, address: string): Promise<Contender> {
  sh(
    `stream topics create ${topic} --partitions ${PARTITIONS} -b $S; stream mirror link ${topic} --source ${address} --topics ${topic} -b $T; until stream mirror lag ${topic} --wait-until 0 -b $T; do sleep .2; done`,
  )
  let sum = 0
  return {
    name,
    prepare: async () => {
      await links.alter(topic, 'pause', undefined)
      fill(topic)
      sum += RECORDS
    },
    work: async () => {
      await links.alter(topic, 'resume', undefined)
      await arrived(topic, sum)
    },
    finish: (round) => {
      if (round === 0) sh(`stream mirror verify ${topic} -b $T`)
      sh(`stream topics trim ${topic} --keep 0 -y -b $S`)
    },
  }
}

async function maker(name: string, topic: string, more: readonly string[]): Promise<Contender> {
  sh(
    `stream topics create ${topic} --partitions ${PARTITIONS} -b $S; seq 100 | stream produce ${topic} -b $S`,
  )
  const rarely = [
    'refresh.topics.interval.seconds = 600',
    'refresh.groups.interval.seconds = 600',
    'sync.group.offsets.enabled = false',
    'emit.checkpoints.interval.seconds = 60',
    'sync.topic.configs.interval.seconds = 600',
  ]
  const made = new MirrorMaker(kafka, program.path(topic), {
    source: source.address,
    target: target.address,
    topics: topic,
    prefix: topic,
    more: [...rarely, ...more],
  })
  makers.push(made)
  const remote = `${topic}source.${topic}`
  let sum = 100
  await arrived(remote, sum)
  return {
    name,
    pid: made.pid,
    prepare: () => {
      made.kill('SIGSTOP')
      fill(topic)
      sum += RECORDS
    },
    work: async () => {
      made.kill('SIGCONT')
      await arrived(remote, sum)
    },
    finish: () => {
      sh(
        `stream topics trim ${topic} --keep 0 -y -b $S; stream topics trim ${remote} --keep 0 -y -b $T`,
      )
    },
  }
}

function fill(topic: string): void {
  sh(
    `stream topics create ${topic} --partitions ${PARTITIONS} --if-not-exists -b $S; stream produce ${topic} -b $S < ${payload}`,
  )
}

function drop(topic: string): void {
  sh(`stream topics delete ${topic} -y -b $T`)
}

function sh(line: string): void {
  run(line, program)
}

/** Until the ends of all partitions of a topic at the target come to `records`. */
async function arrived(topic: string, records: number): Promise<void> {
  const questions = Array.from({ length: PARTITIONS }, (_, partition) => {
    return { topic, partition, at: 'latest' as const }
  })
  const deadlineMs = performance.now() + WAIT_MS
  for (;;) {
    const dead = makers.find((each) => each.hasEnded)
    if (dead !== undefined) throw new Error(`MirrorMaker 2 has ended: ${dead.said().slice(-3000)}`)
    const answers = await listOffsets(ports.time, ports.random, cluster, questions).catch(() => [])
    const sum = answers.reduce((total, { offset }) => total + offset, 0)
    if (sum >= records) return
    if (performance.now() > deadlineMs) throw new Error(`${topic}: ${sum} of ${records} records`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

// --- processor time

function costs({ pid }: Contender): Omit<Cost, 'ms'> {
  return {
    source: secondsOf(source.process.pid ?? 0),
    target: secondsOf(target.process.pid ?? 0),
    between: pid === undefined ? secondsOfChildren() : secondsOf(pid),
  }
}

/** User and system time of a process, all threads. */
function secondsOf(pid: number): number {
  const [utime = '0', stime = '0'] = fieldsOf(pid).slice(11, 13)
  return ((Number(utime) + Number(stime)) * TICK_MS) / 1000
}

/** Of the children of this process that have ended, and theirs. */
function secondsOfChildren(): number {
  const [utime = '0', stime = '0'] = fieldsOf(process.pid).slice(13, 15)
  return ((Number(utime) + Number(stime)) * TICK_MS) / 1000
}

/** Behind the name, which may have anything in it. */
function fieldsOf(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return text.slice(text.lastIndexOf(')') + 2).split(' ')
}

// --- the table

function report(): void {
  const bytes = RECORDS * LINE_BYTES
  const all = ({ source: s, target: t, between }: Cost): number => s + t + between
  const of = (name: string): readonly Cost[] => results.get(name) ?? []
  const line = (name: string): string => {
    const found = of(name)
    const mid = (pick: (cost: Cost) => number): number => median(found.map(pick))
    const cells = [
      name,
      `${(bytes / 1e3 / mid(({ ms }) => ms)).toFixed(0)} MB/s`,
      `${(RECORDS / 1e3 / mid(({ ms }) => ms)).toFixed(2)} M/s`,
      ...[mid((cost) => cost.source), mid((cost) => cost.target), mid((cost) => cost.between)].map(
        (seconds) => seconds.toFixed(2),
      ),
      `${(bytes / 1e6 / mid(all)).toFixed(0)} MB`,
    ]
    return `| ${cells.join(' | ')} |`
  }
  const rows: Row[] = []
  const ms = (name: string) => of(name).map((cost) => cost.ms)
  const best = 'MirrorMaker 2, large batches'
  for (const door of ['ipc://', 'kafka://']) {
    const own = of(`link, ${door}`)
    for (const name of ['MirrorMaker 2, as it comes', best]) {
      const ratio = medianRatio(of(name).map(all), own.map(all))
      rows.push(atLeast(`link, ${door}, for all processor time, of ${name}`, ratio, 5))
      const between = medianRatio(
        of(name).map((cost) => cost.between),
        own.map((cost) => cost.target),
      )
      rows.push(info(`the same, its daemon's time against the Java machine's alone`, between))
    }
    const base = `stream cat \\| stream produce, ${door}`
    rows.push(atLeast(`link, ${door}, of ${base}`, medianRatio(ms(base), ms(`link, ${door}`)), 0.5))
    rows.push(info(`copy, ${door}, of the same`, medianRatio(ms(base), ms(`copy, ${door}`))))
  }
  const slower = ms('stream produce < file').map((each, index) =>
    Math.max(each, ms('stream cat > /dev/null')[index] ?? 0),
  )
  rows.push(
    atLeast(
      'link, ipc://, of the slower of cat and produce, each alone',
      medianRatio(slower, ms('link, ipc://')),
      0.5,
    ),
  )
  const mark = (holds: boolean | undefined) => (holds === undefined ? '' : holds ? 'yes' : '**no**')
  const text = [
    '| what | throughput | records | source, s | target, s | between, s | for a second of all |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...[...results.keys()].map(line),
    ...(hasProgram('kcat') ? [] : ['| kcat \\| kcat | not on this machine | | | | | |']),
    '',
    '| measure | result | must | holds |',
    '| --- | --- | --- | --- |',
    ...rows.map((row) => `| ${row.measure} | ${row.value} | ${row.must} | ${mark(row.holds)} |`),
  ].join('\n')
  process.stdout.write(`${text}\n`)
  if (!process.argv.includes('--save')) return
  const words = `npm run bench:mirror -- ${process.argv.slice(2).join(' ')}`
  const place = `${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}, Kafka ${kafka.version}`
  const head = `# Last benchmark of mirrors\n\n${new Date().toISOString().slice(0, 10)}, \`${words}\`, ${place}.\n${RECORDS} records of ${LINE_BYTES} bytes in ${PARTITIONS} partitions, from one daemon of ours to another on the same machine; all that is acknowledged is synced. Medians of ${ROUNDS} rounds; ratios are medians of the ratios of neighbouring runs. Processor time in seconds: of the daemon that is the source, of the one that is the target (a link works in it), of what runs between them.\n\n`
  writeFileSync(join(repository, 'test/bench/MIRROR.md'), `${head}${text}\n`)
}

function atLeast(measure: string, ratio: number, must: number): Row {
  return { measure, value: ratio.toFixed(2), must: `${must}`, aim: '', holds: ratio >= must }
}

function info(measure: string, ratio: number): Row {
  return { measure, value: ratio.toFixed(2), must: '', aim: '', holds: undefined }
}
