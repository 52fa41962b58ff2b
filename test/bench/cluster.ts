/**
 * `npm run bench:cluster [-- produce catch-up stop partitions] [--quick] [--save]`: three daemons on etcd beside our single
 * daemon and beside three brokers of Apache Kafka, in one run on this machine; --save writes the table to
 * test/bench/CLUSTER.md. Needs etcd, and java with Maven for Kafka.
 */
import { writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { ProcessCluster } from '../support/cluster.ts'
import { Kafka, KafkaBrokers } from '../witness/jvm-kafka.ts'
import {
  makePayload,
  makeScratch,
  median,
  medianRatio,
  type Row,
  repository,
  run,
  type Scratch,
  settleDisk,
  time,
  warmMemory,
} from './harness.ts'
import { type StopCost, stopPlanned } from './planned-stop.ts'

const quick = process.argv.includes('--quick')
const PARTITIONS = 1000
const LEASE_MS = 10_000
/** Of Kafka's own start scripts. */
const brokerFlags = ['-Xmx1G', '-Xms1G', '-server', '-XX:+UseG1GC', '-XX:MaxGCPauseMillis=20']
const toolFlags = ['-Xmx512M', '-server', '-XX:+UseG1GC']

interface Producer {
  readonly name: string
  prepare(): void
  /** @returns milliseconds for all records */
  run(): number
  check(): void
}

interface Load {
  readonly path: string
  readonly lineBytes: number
  readonly records: number
}

const rows: Row[] = []
const scratch = makeScratch()
const cluster = await ProcessCluster.start({ config: [`broker.session.timeout.ms=${LEASE_MS}`] })
const kafka = Kafka.prepare()
try {
  if (isWanted('catch-up')) await benchCatchUp()
  if (isWanted('stop')) await benchPlannedStop()
  if (isWanted('partitions')) await benchManyPartitions()
  if (isWanted('produce')) await benchBesideKafka()
} finally {
  // What was measured is told also where a later part fails.
  report()
  await cluster.stop()
  scratch.stop()
}

/** All parts where none is named. */
function isWanted(part: string): boolean {
  const named = process.argv.slice(2).filter((word) => !word.startsWith('--'))
  return named.length === 0 || named.includes(part)
}

function loadOf(lineBytes: number): Load {
  const megabytes = quick ? 50 : 200
  const path = makePayload(scratch.directory, { megabytes, lineBytes })
  return { path, lineBytes, records: Math.floor((megabytes * 1e6) / lineBytes) }
}

/** The environment in which `stream` speaks with the cluster. */
function inCluster(): Scratch {
  return {
    ...scratch,
    environment: { ...scratch.environment, STREAM_BROKER: cluster.addresses },
    stop: () => undefined,
  }
}

/** Its brokers run while they are raced only: they would take memory and time from what is measured of ours alone. */
async function benchBesideKafka(): Promise<void> {
  const directory = join(scratch.directory, 'kafka')
  const brokers = await KafkaBrokers.start(kafka.withJavaFlags(brokerFlags), directory, [
    'a',
    'b',
    'c',
  ])
  try {
    for (const lineBytes of [100, 1000]) benchProduce(loadOf(lineBytes), brokers.address)
  } finally {
    await brokers.stop()
  }
}

/** @param address  of Kafka, `kafka://…` */
function benchProduce(load: Load, address: string): void {
  const producers = [
    ours(load, inCluster(), 3),
    ours(load, scratch, 1),
    kcat(load, address),
    perfTool(load, address),
    threeCopies(load),
  ]
  const taken = new Map<string, number[]>(producers.map(({ name }) => [name, []]))
  for (let round = -1; round < (quick ? 3 : 15); round += 1) {
    for (const producer of producers) {
      // It takes thirty times as long as the others.
      if (round >= 3 && producer.name === 'perf') continue
      producer.prepare()
      // Kafka's brokers leave all of it unwritten.
      settleDisk()
      // Three copies are written.
      warmMemory(2.4e9)
      const ms = producer.run()
      producer.check()
      process.stderr.write(
        `${load.lineBytes} B, round ${round}, ${producer.name}: ${ms.toFixed(0)} ms\n`,
      )
      // Round -1 warms up files, code and servers.
      if (round >= 0) taken.get(producer.name)?.push(ms)
    }
  }
  const [clustered, single, viaKcat, viaPerf, copied] = producers.map(
    ({ name }) => taken.get(name) ?? [],
  )
  if (!(clustered && single && viaKcat && viaPerf && copied)) {
    throw new Error('five producers were timed')
  }
  const kafkaBest = median(viaKcat) < median(viaPerf) ? viaKcat : viaPerf
  const rate = (ms: readonly number[]): string =>
    `${((load.records / median(ms)) * 1e3).toLocaleString('en', { maximumFractionDigits: 0 })}/s`
  const size = `${load.lineBytes} B`
  const ofSingle = medianRatio(single, clustered)
  const ofKafka = medianRatio(kafkaBest, clustered.slice(0, kafkaBest.length))
  rows.push(
    info(
      `produce ${size}, three daemons, three replicas, acks=all, each batch synced`,
      rate(clustered),
    ),
    info(`produce ${size}, the single daemon, durable`, rate(single)),
    info(`produce ${size}, three Kafka brokers, acks=all, no flush, kcat`, rate(viaKcat)),
    info(`produce ${size}, the same, kafka-producer-perf-test`, rate(viaPerf)),
    info(
      `the limit, ${size}: \`cat f \\| cat > f2; sync -d f2\` three times beside each other`,
      rate(copied),
    ),
    info(`three daemons of that limit, ${size}`, medianRatio(copied, clustered).toFixed(2)),
    info(
      `that limit of Kafka's best, ${size}`,
      medianRatio(kafkaBest, copied.slice(0, kafkaBest.length)).toFixed(2),
    ),
    atLeast(`produce ${size}: three daemons of the single one`, ofSingle, 0.45),
    atLeast(`produce ${size}: three daemons of Kafka's best`, ofKafka, 2),
  )
}

function ours({ path, records, lineBytes }: Load, place: Scratch, replicas: number): Producer {
  const topic = `produce-${lineBytes}`
  return {
    name: `ours ${replicas}`,
    prepare: () => {
      run(
        `stream topics create ${topic} -r ${replicas} ${replicas > 1 ? '--set min.insync.replicas=2' : ''}`,
        place,
      )
    },
    // As Kafka's producers send by default; by itself `stream` would compress what leaves the host.
    run: () => time(`cat ${path} | stream produce -z none ${topic}`, place),
    check: () => {
      const count = Number(run(`stream cat ${topic} | wc -l`, place))
      if (count !== records) throw new Error(`${topic}: ${count} of ${records} records`)
      run(`stream topics delete ${topic} -y`, place)
    },
  }
}

/** Three synced copies by the shortest way that a pipe has: what any three replicas on this machine are below. */
function threeCopies({ path }: Load): Producer {
  const each = (copy: number): string => `(cat ${path} | cat > c${copy}; sync -d c${copy}) &`
  return {
    name: 'limit',
    prepare: () => {
      run('rm -f c1 c2 c3', scratch)
    },
    run: () => time(`${[1, 2, 3].map(each).join(' ')} wait`, scratch),
    check: () => {
      run(`cmp c1 ${path} && cmp c2 ${path} && cmp c3 ${path} && rm c1 c2 c3`, scratch)
    },
  }
}

function kafkaTopic(
  records: number,
  name: string,
  address: string,
): Pick<Producer, 'prepare' | 'check'> {
  const place = {
    ...scratch,
    environment: { ...scratch.environment, STREAM_BROKER: address },
  }
  return {
    prepare: () => {
      run(`stream topics create ${name} -r 3 --set min.insync.replicas=2`, place)
    },
    check: () => {
      const count = Number(run(`stream cat ${name} | wc -l`, place))
      if (count !== records) throw new Error(`${name}: ${count} of ${records} records`)
      run(`stream topics delete ${name} -y`, place)
    },
  }
}

function kcat(load: Load, address: string): Producer {
  const topic = `kcat-${load.lineBytes}`
  return {
    name: 'kcat',
    ...kafkaTopic(load.records, topic, address),
    run: () =>
      time(
        `cat ${load.path} | kcat -P -b ${bootstrapOf(address)} -t ${topic} -X acks=all`,
        scratch,
      ),
  }
}

function perfTool(load: Load, address: string): Producer {
  const topic = `perf-${load.lineBytes}`
  // It prints a rate; at its speed all of them would take minutes a round.
  const records = Math.ceil(load.records / 10)
  return {
    name: 'perf',
    ...kafkaTopic(records, topic, address),
    run: () => {
      const printed = kafka
        .withJavaFlags(toolFlags)
        .ok('ProducerPerformance', [
          ...['--topic', topic, '--num-records', String(records)],
          ...['--record-size', String(load.lineBytes - 1), '--throughput', '-1'],
          ...['--producer-props', `bootstrap.servers=${bootstrapOf(address)}`, 'acks=all'],
        ])
      const perSecond = [...printed.matchAll(/([\d.]+) records\/sec/g)].at(-1)?.[1]
      if (perSecond === undefined) throw new Error(`no figure in: ${printed.slice(-300)}`)
      return (load.records / Number(perSecond)) * 1e3
    },
  }
}

/** A daemon was away while much was produced: how fast it comes back into the in-sync replicas. */
async function benchCatchUp(): Promise<void> {
  const place = inCluster()
  const megabytes = quick ? 200 : 1000
  const path = makePayload(scratch.directory, { megabytes, lineBytes: 100 })
  run('stream topics create behind -r 3', place)
  run('stream produce behind < /dev/null', place)
  const away = cluster.daemons.find(({ nodeId }) => nodeId !== leaderOf('behind', place))
  if (away === undefined) throw new Error('a follower')
  await cluster.end(away, 'SIGTERM')
  run(`stream produce behind < ${path}`, place)
  const catMs = median([1, 2, 3].map(() => time('stream cat behind > /dev/null', place)))
  settleDisk()
  // Its copy is written.
  warmMemory(megabytes * 1.2e6)
  const beganMs = performance.now()
  cluster.run(away)
  await cluster.until(() => inSyncCount('behind', place) === 3, 'the follower is in sync', 120_000)
  const ms = performance.now() - beganMs
  rows.push(
    info(
      `a follower ${megabytes} MB behind: from its start until it is in sync`,
      `${(ms / 1000).toFixed(1)} s, ${(megabytes / (ms / 1000)).toFixed(0)} MB/s`,
    ),
    atLeast('the same, of what `stream cat` reaches', catMs / ms, 0.5),
  )
  run('stream topics delete behind -y', place)
}

/** A leader that is told to stop hands over first: no request fails, and its partitions pause shortly. */
async function benchPlannedStop(): Promise<void> {
  const place = inCluster()
  run('stream topics create stops -r 3 --set min.insync.replicas=2', place)
  const costs: StopCost[] = []
  for (let round = 0; round < 6; round += 1) {
    const leader = cluster.daemons.find(({ nodeId }) => nodeId === leaderOf('stops', place))
    if (leader === undefined) throw new Error('a leader')
    costs.push(await stopPlanned(cluster, 'stops', leader))
    cluster.run(leader)
    await cluster.until(() => inSyncCount('stops', place) === 3, 'all are in sync again', 60_000)
  }
  const failed = costs.reduce((sum, cost) => sum + cost.failed, 0)
  rows.push(
    {
      measure: 'planned stop of a leader, requests of 6 stops that failed',
      value: String(failed),
      must: '0',
      aim: '',
      holds: failed === 0,
    },
    atMost(
      'the same: longest time between two acknowledgements, median of 6',
      costs.map((cost) => cost.writeMs),
    ),
    atMost(
      'the same: longest time between two records read',
      costs.map((cost) => cost.readMs),
    ),
  )
  run('stream topics delete stops -y', place)
}

function atMost(measure: string, ms: readonly number[]): Row {
  const middle = median(ms)
  const value = `${middle.toFixed(0)} ms (${Math.min(...ms).toFixed(0)} to ${Math.max(...ms).toFixed(0)})`
  return { measure, value, must: '100 ms', aim: '', holds: middle <= 100 }
}

function inSyncCount(topic: string, place: Scratch): number | undefined {
  return run(`stream topics describe ${topic} -o tsv`, place).split('\t')[5]?.split(',').length
}

async function benchManyPartitions(): Promise<void> {
  const place = inCluster()
  const createMs = time(`stream topics create many -r 3 --partitions ${PARTITIONS}`, place)
  const isWhole = (): boolean => {
    const [, , , , under, unavailable] = run('stream cluster status -o tsv || true', place).split(
      '\t',
    )
    return under === '0' && unavailable === '0'
  }
  await cluster.until(isWhole, 'all replicas are in sync', 120_000)
  rows.push(info(`${PARTITIONS} partitions with three replicas: creation`, seconds(createMs)))
  const victim = cluster.daemons[0]
  if (victim === undefined) throw new Error('a daemon')
  const killedMs = performance.now()
  await cluster.end(victim)
  await cluster.until(
    () => {
      const shown = run('stream topics describe many -o tsv || true', place).trim().split('\n')
      return shown.every((line) => line.split('\t')[2] !== String(victim.nodeId))
    },
    'all partitions have other leaders',
    60_000,
  )
  const failoverMs = performance.now() - killedMs
  rows.push({
    measure: `${PARTITIONS} partitions: kill -9 of a daemon until all have other leaders, lease ${LEASE_MS / 1000} s`,
    value: seconds(failoverMs),
    must: `${LEASE_MS / 1000 + 2} s`,
    aim: '',
    holds: failoverMs <= LEASE_MS + 2000,
  })
  for (const daemon of cluster.daemons)
    if (daemon.process !== undefined) await cluster.end(daemon, 'SIGTERM')
  const startedMs = performance.now()
  for (const daemon of cluster.daemons) cluster.run(daemon)
  await cluster.until(() => cluster.liveBrokers() === 3 && isWhole(), 'all is served', 120_000)
  rows.push(
    info(
      `${PARTITIONS} partitions: start of all three daemons until all replicas are in sync`,
      seconds(performance.now() - startedMs),
    ),
  )
  run('stream topics delete many -y', place)
}

/** As Kafka's clients take it. */
function bootstrapOf(address: string): string {
  return address.replace('kafka://', '')
}

function leaderOf(topic: string, place: Scratch): number {
  return Number(run(`stream topics describe ${topic} -o tsv`, place).split('\t')[2])
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

function info(measure: string, value: string): Row {
  return { measure, value, must: '', aim: '', holds: undefined }
}

function atLeast(measure: string, ratio: number, must: number): Row {
  return { measure, value: ratio.toFixed(2), must: `${must}`, aim: '', holds: ratio >= must }
}

function report(): void {
  const mark = (holds: boolean | undefined) => (holds === undefined ? '' : holds ? 'yes' : '**no**')
  const table = [
    '| measure | result | must | holds |',
    '| --- | --- | --- | --- |',
    ...rows.map((row) => `| ${row.measure} | ${row.value} | ${row.must} | ${mark(row.holds)} |`),
  ].join('\n')
  process.stdout.write(`${table}\n`)
  if (!process.argv.includes('--save')) return
  const head = `# Last benchmark of a cluster\n\n${new Date().toISOString().slice(0, 10)}, \`npm run bench:cluster -- ${process.argv.slice(2).join(' ')}\`, ${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}, Kafka ${kafka.version}.\nAll daemons, brokers and clients share the machine. Medians; ratios are medians of the ratios of neighbouring runs.\n\n`
  writeFileSync(join(repository, 'test/bench/CLUSTER.md'), `${head}${table}\n`)
}
