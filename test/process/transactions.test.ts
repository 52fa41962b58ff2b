/** `produce --atomic` and `--txn-per-file` on the built program, over real kills: all of the input, or nothing of it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cluster } from '../../src/client/cluster.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import { RealNet } from '../../src/io/real-net.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import { quiet } from '../sim/sim-clients.ts'
import { ended, eventually, Program } from '../support/program.ts'

let program: Program
const lines = 400_000

beforeAll(() => {
  program = new Program()
  program.ok('stream daemon start')
  program.ok(`seq ${lines} > input`)
})
afterAll(() => program?.stop())

const count = (topic: string): number => Number(program.ok(`stream cat ${topic} | wc -l`))

describe('produce --atomic', () => {
  it('commits a file and a pipe as a whole, in order', () => {
    program.ok('stream produce whole --atomic < input')
    expect(program.shell('stream cat whole | cmp - input').status).toBe(0)
    program.ok('cat input | stream produce piped --atomic')
    expect(program.shell('stream cat piped | cmp - input').status).toBe(0)
    // The spool has no name, so nothing of it can stay.
    expect(program.shell('ls "$XDG_STATE_HOME"/stream/spool').stdout).toBe('')
  })

  it('sends nothing where the input is bad or the run is interrupted', () => {
    program.ok('stream topics create bad')
    const bad = program.shell(
      `{ seq 1000 | sed 's/.*/{"value":"&"}/'; echo broken; } | stream produce bad --atomic --json`,
    )
    expect(bad.status).toBe(5)
    expect(bad.stdout).toBe('')
    const cut = program.shell(
      '{ seq 1000; sleep 5; } | timeout -s INT 1 stream produce bad --atomic; echo ${PIPESTATUS[1]}',
    )
    expect(cut.stdout.trim()).not.toBe('0')
    expect(count('bad')).toBe(0)
  })

  it.each([
    ['--atomic', '--atomic'],
    ['--atomic, skipping', '--atomic --on-error skip --allow-errors 5'],
    ['--resume', '--resume refused'],
    ['--txn-per-file', '--txn-per-file'],
  ])('a record that the broker refuses leaves no transaction open: %s', (_, flags) => {
    program.ok(`{ echo a; head -c 2000000 /dev/zero | tr '\\0' x; } > refused`)
    const run = program.shell(`stream produce refused ${flags} refused`)
    expect(run.status).toBe(5)
    expect(run.stderr).toContain('MESSAGE_TOO_LARGE')
    expect(run.stderr.trim().split('\n').length).toBeLessThanOrEqual(2)
    expect(program.shell('stream txn list --state Ongoing --fail-empty').status).toBe(3)
    expect(count('refused')).toBe(0)
  })

  it.each(['--atomic', '--resume late'])(
    'a run out of time leaves no transaction open: %s',
    (flags) => {
      program.ok('seq 5000 > late')
      const run = program.shell(`stream produce late ${flags} --rate 1000/s --timeout 500ms late`)
      expect([5, 7]).toContain(run.status)
      expect(run.stderr).not.toContain('outcome unknown')
      expect(program.shell('stream txn list --state Ongoing --fail-empty').status).toBe(3)
    },
  )

  it('refuses what contradicts it', () => {
    for (const flags of ['--acks 1', '--receipts r', '--expect-offset 0', '--txn-per-file']) {
      expect(program.shell(`stream produce whole --atomic ${flags} < input`).status).toBe(2)
    }
    expect(program.shell('stream produce whole --txn-per-file < input').status).toBe(2)
  })

  it('kill -9 of the daemon at any moment of it leaves all or nothing', async () => {
    program.ok('stream topics create killed')
    let expected = 0
    for (let round = 0; round < 4; round++) {
      const producer = program.start('bash', ['-c', 'stream produce killed --atomic < input'])
      producer.stdin?.end()
      const status = ended(producer)
      await new Promise((resolve) => setTimeout(resolve, 200 + Math.random() * 500))
      const shown = program.shell('stream daemon status --json')
      if (shown.status === 0) {
        process.kill((JSON.parse(shown.stdout) as { pid: number }).pid, 'SIGKILL')
      }
      program.ok('stream daemon start')
      if ((await status) === 0) expected += lines
      expect(count('killed')).toBe(expected)
    }
    expect(expected).toBeGreaterThan(0)
  }, 120_000)
})

it('what a run leaves that is killed while it sends is listed, and holds readers back until it is ended', async () => {
  program.ok('stream topics create held; echo before | stream produce held')
  const [address = ''] = (
    JSON.parse(program.ok('stream daemon status --json')) as { addresses: string[] }
  ).addresses
  const [time, random] = [new RealTime(), new RealRandom()]
  const cluster = new Cluster(time, random, new RealNet(), quiet, { addresses: [address] })
  await cluster.connect()
  const id = 'stream.produce.killed'
  const producer = new TransactionalProducer(time, random, cluster, {
    transactionalId: id,
    timeoutMs: 60_000,
  })
  await producer.init()
  const sink = await producer.begin()
  await sink.prepare('held')
  const bytes = Buffer.from('never')
  sink.append('held', 0, { value: { bytes, start: 0, end: bytes.length } })
  await sink.flush()
  cluster.close()
  program.ok('echo after | stream produce held')
  expect(program.ok('stream txn list --state Ongoing')).toMatch(`${id}\tOngoing\t`)
  expect(program.ok('stream cat held')).toBe('before\n')
  program.ok(`stream txn abort ${id} -y`)
  await eventually('what came after it', () =>
    program.shell('stream cat held').stdout === 'before\nafter\n' ? true : undefined,
  )
  expect(program.shell('stream txn list --state Ongoing --fail-empty').status).toBe(3)

  // The index of what was aborted has no checksum; a bit of it that is wrong shows nothing of it all the same.
  const kafka = '--listen kafka://127.0.0.1:0'
  for (const door of ['ipc', 'kafka']) {
    program.ok('stream daemon stop')
    flipBit(program.path('data/stream/held-0/00000000000000000000.txnindex'), 9, 0)
    program.ok(`stream daemon start ${kafka}`)
    const at = program.ok(`stream daemon status --json | grep -o '${door}://[^",]*'`).trim()
    expect(program.ok(`stream cat held -b ${at}`), door).toBe('before\nafter\n')
    expect(program.ok('stream daemon logs')).toContain('a transaction index is damaged')
  }
}, 60_000)

function flipBit(path: string, at: number, bit: number): void {
  const bytes = readFileSync(path)
  bytes[at] = (bytes[at] ?? 0) ^ (1 << bit)
  writeFileSync(path, bytes)
}

it('produce --txn-per-file commits each file by itself', () => {
  program.ok(`printf '1\\n2\\n' > one; printf '3\\n' > three`)
  const run = program.shell('stream produce each --txn-per-file one missing three')
  expect(run.status).not.toBe(0)
  expect(program.ok('stream cat each')).toBe('1\n2\n')
})
