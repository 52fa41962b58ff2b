/**
 * `stream pipe` with jq beside the bare shell pipe over the same records, two lanes; and what one commit costs: a transaction with
 * a record and a position of a group, from begin to the answer, on a durable daemon.
 */
import { join } from 'node:path'
import { Cluster } from '../../src/client/cluster.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import { RealNet } from '../../src/io/real-net.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import { makePayload, makeScratch, median, type Row, run, time, warmMemory } from './harness.ts'

const LINE_BYTES = 100
const COMMITS = 300

export async function benchPipe(options: {
  readonly records: number
  readonly rounds: number
}): Promise<Row[]> {
  const scratch = makeScratch()
  try {
    const { records, rounds } = options
    const megabytes = (records * LINE_BYTES) / 1e6
    const payload = makePayload(scratch.directory, { megabytes, lineBytes: LINE_BYTES })
    // The wait for more members would be measured with every first join.
    run('STREAM_CONF_GROUP_INITIAL_REBALANCE_DELAY_MS=0 stream daemon start', scratch)
    run(`stream topics create in --partitions 2; stream produce in < ${payload}`, scratch)
    const contenders = {
      bare: (out: string) =>
        `stream consume in --from start --until-end | jq -c . | stream produce ${out}`,
      fixed: (out: string) => pipe(out, '--epoch 5000'),
      grown: (out: string) => pipe(out, ''),
      small: (out: string) => pipe(out, '--epoch 1000'),
      line: (out: string) => pipe(out, '--barrier line', 'jq --unbuffered -c .'),
    }
    const names = Object.keys(contenders) as (keyof typeof contenders)[]
    const times = new Map<string, number[]>(names.map((name) => [name, []]))
    for (let round = 0; round < rounds; round += 1) {
      for (const name of names) {
        const out = `${name}${round}`
        run(`stream topics create ${out} --partitions 2`, scratch)
        warmMemory(4e8)
        times.get(name)?.push(time(contenders[name](out), scratch))
        const count = run(`stream cat ${out} | wc -l`, scratch).trim()
        if (Number(count) !== records) throw new Error(`${name}: ${count} of ${records} records`)
      }
    }
    const rate = (name: string) => Math.round((records / median(times.get(name) ?? [])) * 1000)
    const ratio = (name: string) =>
      median((times.get(name) ?? []).map((ms, round) => (times.get('bare')?.[round] ?? 0) / ms))
    const row = (measure: string, name: string, must: number | undefined): Row => ({
      measure,
      value: `${rate(name).toLocaleString('en')}/s, ${ratio(name).toFixed(2)} of the bare pipe`,
      must: must === undefined ? '' : must.toFixed(2),
      aim: '',
      holds: must === undefined ? undefined : ratio(name) >= must,
    })
    const commitMs = await measureCommits(join(scratch.directory, 'run/stream/daemon.sock'))
    return [
      {
        measure: 'consume \\| jq -c . \\| produce, two partitions, 100 B',
        value: `${rate('bare').toLocaleString('en')}/s`,
        must: '',
        aim: '',
        holds: undefined,
      },
      row('pipe, exit barrier, epochs of 5,000', 'fixed', 0.7),
      row('pipe, exit barrier, epochs that grow (default)', 'grown', undefined),
      row('pipe, exit barrier, epochs of 1,000', 'small', undefined),
      row('pipe, line barrier, jq --unbuffered', 'line', undefined),
      {
        measure: 'a commit of a record and a position, median',
        value: `${commitMs.toFixed(2)} ms`,
        must: '5 ms',
        aim: '',
        holds: commitMs < 5,
      },
    ]
  } finally {
    scratch.stop()
  }
}

function pipe(out: string, flags: string, child = 'jq -c .'): string {
  return `stream pipe --in in --out ${out} -j ${out} --from start --until-end -P 2 ${flags} -- ${child}`
}

async function measureCommits(socket: string): Promise<number> {
  const time = new RealTime()
  const random = new RealRandom()
  const ignore = () => undefined
  const log = { debug: ignore, info: ignore, warn: ignore, error: ignore }
  const cluster = new Cluster(time, random, new RealNet(), log, {
    addresses: [`ipc://${socket}`],
    clientId: 'bench',
  })
  await cluster.connect()
  const transactions = new TransactionalProducer(time, random, cluster, {
    transactionalId: 'bench',
    timeoutMs: 60_000,
  })
  await transactions.init()
  const line = Buffer.from('{"n":1}\n')
  const spent: number[] = []
  for (let count = 1; count <= COMMITS; count += 1) {
    const startMs = performance.now()
    const producer = await transactions.begin()
    await producer.prepare('bare0')
    producer.appendLines('bare0', 0, line, 0, line.length)
    producer.flushSoon()
    await transactions.sendOffsets({
      groupId: 'bench',
      generationId: -1,
      memberId: '',
      groupInstanceId: null,
      offsets: [{ topic: 'in', partition: 0, offset: count }],
    })
    await transactions.commit()
    spent.push(performance.now() - startMs)
  }
  cluster.close()
  return median(spent)
}
