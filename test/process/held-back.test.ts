/** Bounded reads of a topic in which a transaction is open: they end before it, and say so. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cluster } from '../../src/client/cluster.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import { RealNet } from '../../src/io/real-net.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import { quiet } from '../sim/sim-clients.ts'
import { Program } from '../support/program.ts'

let program: Program
let kafka: string
let cluster: Cluster
let producer: TransactionalProducer

beforeAll(async () => {
  program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
  program.ok('stream daemon start --listen kafka://127.0.0.1:0')
  kafka = program.ok("stream daemon status --json | grep -o 'kafka://[0-9.:]*'").trim()
  program.ok('stream topics create t --partitions 3')
  program.ok('for p in 0 1 2; do seq 3 | stream produce t -p $p; done')
  const [time, random] = [new RealTime(), new RealRandom()]
  cluster = new Cluster(time, random, new RealNet(), quiet, { addresses: [kafka] })
  await cluster.connect()
  const options = { transactionalId: 'slow', timeoutMs: 300_000 }
  producer = new TransactionalProducer(time, random, cluster, options)
  await producer.init()
  const sink = await producer.begin()
  await sink.prepare('t')
  const bytes = Buffer.from('open')
  for (const partition of [1, 2]) {
    sink.append('t', partition, { value: { bytes, start: 0, end: bytes.length } })
  }
  await sink.flush()
  program.ok('for p in 1 2; do seq 4 5 | stream produce t -p $p; done')
}, 60_000)
afterAll(() => {
  cluster?.close()
  program?.stop()
})

const list = 'to see whose it is: stream txn list'
const read = 'to read on: --uncommitted'
const said = (command: string, hint: string): string =>
  `stream: ${command}: t: partition 1: a transaction is open at offset 3: 3 offsets from there on were not read; ${hint}\n`

describe.each(['ipc', 'kafka'])('at the %s door', (door) => {
  const broker = (): string => (door === 'ipc' ? '' : `-b ${kafka}`)

  it('cat, tail and consume end before it, 0, with one line', () => {
    for (const [line, stdout] of [
      ['cat t -p 1', '1\n2\n3\n'],
      ['cat t -p 1 --order time', '1\n2\n3\n'],
      ['tail t -p 1 -n 2', '2\n3\n'],
      ['consume t -p 1 --from start --until-end', '1\n2\n3\n'],
      ['consume t -p 1 --until-end --cursor-file positions', '1\n2\n3\n'],
    ] as const) {
      const run = program.shell(`rm -f positions*; stream ${line} ${broker()}`)
      const [command = ''] = line.split(' ')
      expect(run, line).toMatchObject({
        status: 0,
        stdout,
        stderr: said(command, `${list}; ${read}`),
      })
      expect(program.shell(`rm -f positions*; stream ${line} ${broker()} -q`)).toMatchObject({
        status: 0,
        stdout,
        stderr: '',
      })
    }
    const several = program.shell(`stream cat t ${broker()}`)
    expect(several.stderr).toMatch(
      /^stream: cat: t: partition [12]: .*: 3 offsets .* not read, and so in 1 more partition; .*\n$/,
    )
  })

  it('so do groups, --exec and pipe', () => {
    for (const [line, command, hint] of [
      [`consume t -g g-${door} --until-end`, 'consume', `${list}; ${read}`],
      [`consume t -g x-${door} --until-end --from start --exec cat`, 'consume', `${list}; ${read}`],
      [`pipe --in t -j p-${door} --until-end --from start`, 'pipe', list],
    ] as const) {
      const end = command === 'pipe' ? " -- sh -c 'cat > /dev/null'" : ' > /dev/null'
      const run = program.shell(`stream ${line} ${broker()}${end}`)
      expect(run.status, line).toBe(0)
      expect(run.stderr, line).toContain('a transaction is open at offset 3: 3 offsets')
      expect(run.stderr.trimEnd().endsWith(`and so in 1 more partition; ${hint}`), line).toBe(true)
      expect(run.stderr.trimEnd().split('\n'), line).toHaveLength(1)
    }
  })

  it('nothing is said where nothing was held back, or all is read', () => {
    for (const line of [
      'cat t -p 0',
      'cat t -p 1 -n 2',
      'cat t -p 1 --until 2',
      'cat t --uncommitted',
      'cat t -X isolation.level=read_uncommitted',
      'cat t -p 1 -f --idle 500ms',
    ]) {
      expect(program.shell(`stream ${line} ${broker()}`), line).toMatchObject({
        status: 0,
        stderr: '',
      })
    }
    const all = program.ok(`stream cat t -p 1 ${broker()} -X isolation.level=read_uncommitted`)
    expect(all).toBe('1\n2\n3\nopen\n4\n5\n')
  })
})

it('once it has ended nothing is said', async () => {
  await producer.abort()
  for (const door of ['', `-b ${kafka}`]) {
    expect(program.shell(`stream cat t -p 1 ${door}`)).toMatchObject({
      status: 0,
      stdout: '1\n2\n3\n4\n5\n',
      stderr: '',
    })
  }
})
