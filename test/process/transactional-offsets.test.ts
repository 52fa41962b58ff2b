/**
 * Consume, transform, produce with the offsets in the transaction, on the built daemon, which is killed again and again:
 * by our own client at both doors, and by Debian's Python client (librdkafka). The output is the input, each record once.
 */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cluster } from '../../src/client/cluster.ts'
import { GroupLink } from '../../src/client/group-link.ts'
import { fetchGroupOffsets } from '../../src/client/group-offsets.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import { RealNet } from '../../src/io/real-net.ts'
import { RealRandom } from '../../src/io/real-random.ts'
import { RealTime } from '../../src/io/real-time.ts'
import { ended, Program } from '../support/program.ts'

const lines = 20_000
let program: Program
let port: number

beforeAll(async () => {
  program = new Program()
  port = await freePort()
  start()
  program.ok(`seq 0 ${lines - 1} > input; stream produce in < input`)
})
afterAll(() => program?.stop())

function start(): void {
  program.ok(
    `stream daemon start --listen kafka://127.0.0.1:${port} -X group.initial.rebalance.delay.ms=100`,
  )
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const found = (server.address() as { port: number }).port
      server.close(() => resolve(found))
    })
  })
}

/** Kills and restarts the daemon until `isOver`. */
async function disturb(isOver: () => boolean): Promise<number> {
  let kills = 0
  while (!isOver() && kills < 6) {
    // The first comes early: a fast machine is done with all of it in half a second.
    const pauseMs = kills === 0 ? 100 + Math.random() * 200 : 300 + Math.random() * 700
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
    if (isOver()) break
    process.kill(program.daemonPid(), 'SIGKILL')
    kills += 1
    start()
  }
  return kills
}

const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

const doors: readonly [name: string, address: () => string][] = [
  ['ipc', () => `ipc://${program.path('run/stream/daemon.sock')}`],
  ['kafka', () => `kafka://127.0.0.1:${port}`],
]

describe.each(doors)('our client at the %s door', (name, address) => {
  it.each([false, true])(
    'exactly once over kill -9 of the daemon (classic: %s)',
    async (classic) => {
      const out = `out-${name}-${classic}`
      program.ok(`stream topics create ${out}`)
      let next = 0
      let isOver = false
      const work = async (): Promise<void> => {
        // Each failure is the end of a process; its successor begins where the group stands.
        while (next < lines) {
          const time = new RealTime()
          const random = new RealRandom()
          const cluster = new Cluster(time, random, new RealNet(), quiet, {
            addresses: [address()],
          })
          try {
            const link = new GroupLink(time, random, cluster, out)
            const producer = new TransactionalProducer(time, random, cluster, {
              transactionalId: out,
              timeoutMs: 20_000,
              classic,
            })
            await producer.init()
            const [stored] = await fetchGroupOffsets(link, [{ topic: 'in', partition: 0 }])
            next = stored?.offset ?? 0
            while (next < lines) {
              next = await one(producer, out, next)
              // 200 of them take at least half a second.
              await new Promise((resolve) => setTimeout(resolve, 3))
            }
          } catch {
            await new Promise((resolve) => setTimeout(resolve, 50))
          } finally {
            cluster.close()
          }
        }
      }
      const working = work().finally(() => {
        isOver = true
      })
      const kills = await disturb(() => isOver)
      await working
      expect(kills).toBeGreaterThan(0)
      expect(program.shell(`stream cat ${out} | cmp - input`).status).toBe(0)
      const lag = program.ok(`stream groups lag ${out} --total -o tsv`)
      expect(lag).toContain('\t0\t')
    },
    120_000,
  )
})

/** One transaction. @returns where the next begins */
async function one(producer: TransactionalProducer, out: string, from: number): Promise<number> {
  const sink = await producer.begin()
  await sink.prepare(out)
  const until = Math.min(lines, from + 100)
  for (let line = from; line < until; line++) {
    const value = Buffer.from(`${line}`)
    sink.append(out, 0, { value: { bytes: value, start: 0, end: value.length } })
  }
  await producer.sendOffsets({
    groupId: out,
    generationId: -1,
    memberId: '',
    groupInstanceId: null,
    offsets: [{ topic: 'in', partition: 0, offset: until }],
  })
  await producer.commit()
  return until
}

const hasPython = spawnSync('/usr/bin/python3', ['-c', 'import confluent_kafka']).status === 0

describe.runIf(hasPython)("Debian's Python client", () => {
  it('exactly once over kill -9 of the daemon and of itself', async () => {
    program.ok('stream topics create out-python')
    writeFileSync(
      program.path('transform.py'),
      `
import sys
from confluent_kafka import Consumer, Producer, KafkaException
address, last = sys.argv[1], int(sys.argv[2])
c = Consumer({'bootstrap.servers': address, 'group.id': 'python', 'auto.offset.reset': 'earliest',
              'enable.auto.commit': False, 'isolation.level': 'read_committed', 'session.timeout.ms': 6000})
p = Producer({'bootstrap.servers': address, 'transactional.id': 'python', 'linger.ms': 5,
              'transaction.timeout.ms': 20000})
p.init_transactions(60)
c.subscribe(['in'])
while True:
    batch = [m for m in c.consume(400, 1) if m.error() is None]
    if not batch:
        where = c.committed(c.assignment(), timeout=30) if c.assignment() else []
        if where and where[0].offset >= last:
            break
        continue
    p.begin_transaction()
    for m in batch:
        p.produce('out-python', m.value(), partition=0)
    p.send_offsets_to_transaction(c.position(c.assignment()), c.consumer_group_metadata(), 60)
    p.commit_transaction(60)
c.close()
`,
    )
    let isOver = false
    const work = async (): Promise<void> => {
      for (let life = 0; life < 40; life++) {
        const child = program.start('/usr/bin/python3', [
          'transform.py',
          `127.0.0.1:${port}`,
          `${lines}`,
        ])
        child.stdin?.end()
        child.stdout?.resume()
        child.stderr?.resume()
        const status = ended(child)
        // Now and then it dies itself; else it lives until the end, or until librdkafka gives up.
        const killer = life < 3 ? setTimeout(() => child.kill('SIGKILL'), 3000) : undefined
        const code = await status
        clearTimeout(killer)
        if (code === 0) return
      }
      throw new Error('it never came to its end')
    }
    const working = work().finally(() => {
      isOver = true
    })
    await disturb(() => isOver)
    await working
    expect(program.shell('stream cat out-python | cmp - input').status).toBe(0)
  }, 240_000)
})

it('leaves a data directory in which nothing is wrong', () => {
  program.ok('stream daemon stop')
  const checked = program.shell('stream fsck "$XDG_DATA_HOME/stream"')
  expect(checked.status, checked.stdout + checked.stderr).toBe(0)
})
