/**
 * `stream txn --txn-timeout` on the built program: what the broker is asked for, and what becomes of a transaction that
 * outlives it. Assignments of this daemon's new groups take three seconds, and with their offsets transactions wait so long.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cluster } from '../../src/client/cluster.ts'
import {
  TransactionAdmin,
  type TransactionDescription,
} from '../../src/client/transaction-admin.ts'
import { RealNet } from '../../src/io/real-net.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import { sleep } from '../../src/ports/time.ts'
import { quiet } from '../sim/sim-clients.ts'
import { ended, Program } from '../support/program.ts'

let program: Program
let kafka: string

beforeAll(() => {
  program = new Program({ environment: { STREAM_CONF_PRODUCE_CREATE: 'yes' } })
  program.ok(
    'stream daemon start --listen kafka://127.0.0.1:0 -X group.initial.rebalance.delay.ms=3000 -X transaction.abort.timed.out.transaction.cleanup.interval.ms=100 -X transaction.max.timeout.ms=30000',
  )
  kafka = program.ok("stream daemon status --json | grep -o 'kafka://[0-9.:]*'").trim()
  program.ok('stream topics create t; seq 10 | stream produce t')
})
afterAll(() => program?.stop())

/** What the coordinator knows of a name, asked again until it is in a state. */
async function stateOf(name: string, state?: string): Promise<TransactionDescription | undefined> {
  const time = new RealTime()
  const random = new RealRandom()
  const cluster = new Cluster(time, random, new RealNet(), quiet, { addresses: [kafka] })
  await cluster.connect()
  try {
    const admin = new TransactionAdmin(time, random, cluster)
    const deadlineMs = time.monotonicMs() + 20_000
    for (;;) {
      const found = await admin.describe(`stream.txn.${name}`)
      if (state === undefined || found?.state === state) return found
      if (time.monotonicMs() > deadlineMs) throw new Error(`${name} is ${found?.state}`)
      await sleep(time, 5)
    }
  } finally {
    cluster.close()
  }
}

const lines = (text: string): number => text.split('\n').length - 1

it('a transaction that takes longer is given up: one line, 7, nothing of it', async () => {
  const line = (timeout: string): string =>
    `stream txn -j late --txn-timeout ${timeout} -- 'stream consume t -g late | stream produce late'`
  const late = program.shell(line('1s'))
  expect([late.status, late.stdout]).toEqual([7, ''])
  expect(late.stderr).toBe(
    'stream: txn: group late: no assignment in time; nothing was committed; to allow more than 1000 ms: --txn-timeout\n',
  )
  expect(program.ok('stream cat late')).toBe('')
  expect(program.ok('stream cat late --uncommitted | wc -l').trim()).toBe('10')
  expect(program.shell('stream groups describe late').stdout).not.toContain('\t10\t10\t')
  expect(await stateOf('late')).toMatchObject({ state: 'CompleteAbort', timeoutMs: 1000 })
  program.ok(line('20s'))
  expect(program.ok('stream cat late | wc -l').trim()).toBe('10')
  expect(program.ok('stream groups lag late | cut -f 3')).toBe('0\n')
})

describe.each(['ipc', 'kafka'])('at the %s door', (door) => {
  const broker = (): string => (door === 'ipc' ? '' : `-b ${kafka}`)

  it('more than the broker allows is refused before anything runs', () => {
    const given = program.shell(`stream txn ${broker()} --txn-timeout 31s -- 'echo ran'`)
    expect([given.status, given.stdout]).toEqual([2, ''])
    expect(given.stderr).toMatch(
      /^stream: txn: stream\.txn\.\S+: a transaction of 31000 ms is longer than the broker allows; ask for less by --txn-timeout, or raise transaction\.max\.timeout\.ms of the broker\n$/,
    )
    const usual = program.shell(`stream txn ${broker()} -- 'echo ran'`)
    expect([usual.status, usual.stdout]).toEqual([2, ''])
    expect(usual.stderr).toContain('a transaction of 60000 ms')
    expect(program.ok(`stream txn ${broker()} --txn-timeout 30s -- 'echo ran'`)).toBe('ran\n')
  })

  it('what a run that stands still has open the broker ends, and the run finds that out', async () => {
    const name = `held-${door}`
    program.ok(`stream topics create ${name}; yes ${'x'.repeat(999)} | head -100000 > big`)
    const line = `stream txn ${broker()} -j ${name} --txn-timeout 4s -- 'stream produce ${name} -z none < big'`
    const run = program.start('bash', ['-c', `exec ${line}`])
    let said = ''
    run.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    const status = ended(run)
    expect((await stateOf(name, 'Ongoing'))?.timeoutMs).toBe(4000)
    run.kill('SIGSTOP')
    program.ok(`stream produce ${name} --value behind`)
    // Readers wait for what is open, and no longer than it may be.
    expect(program.ok(`stream consume ${name} --from start -n 1 --timeout 20s`)).toBe('behind\n')
    expect((await stateOf(name))?.state).toBe('CompleteAbort')
    run.kill('SIGCONT')
    expect([5, 7, 8]).toContain(await status)
    expect(said).toMatch(
      /^stream: txn: .*; nothing was committed; to allow more than 4000 ms: --txn-timeout\n$/,
    )
    expect(program.ok(`stream cat ${name}`)).toBe('behind\n')
    program.ok(line.replace('4s', '20s'))
    expect(lines(program.ok(`stream cat ${name}`))).toBe(100_001)
  })
})

it('a time that is none is refused', () => {
  for (const time of ['0ms', '30d', 'soon']) {
    const refused = program.shell(`stream txn --txn-timeout ${time} -- 'echo ran'`)
    expect([refused.status, refused.stdout], time).toEqual([2, ''])
    expect(refused.stderr).toContain('--txn-timeout')
  }
})
