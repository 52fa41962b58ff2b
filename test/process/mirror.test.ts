/**
 * `stream mirror` on the built program: two daemons, each in a scratch home of its own. What is copied is compared with its source
 * at the end of everything that may happen to a copy.
 */
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { Kafka, logLevel } from 'kafkajs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ended, eventually, Program } from '../support/program.ts'

/** Where records come from, and where they go to. */
let east: Program
let west: Program
let eastKafka = ''
let westKafka = ''
const addressOf = (program: Program): string =>
  `ipc://${program.path('run', 'stream', 'daemon.sock')}`

async function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const found = (server.address() as { port: number }).port
      server.close(() => resolve(found))
    })
  })
}

beforeAll(async () => {
  east = new Program()
  west = new Program()
  eastKafka = `kafka://127.0.0.1:${await freePort()}`
  westKafka = `kafka://127.0.0.1:${await freePort()}`
  start(east)
  start(west)
  west.ok(`stream context set east --broker ${addressOf(east)}`)
  east.ok(`stream context set west --broker ${addressOf(west)}`)
})
afterAll(() => {
  east?.stop()
  west?.stop()
})

function start(program: Program): void {
  program.ok(`stream daemon start --listen ${program === east ? eastKafka : westKafka}`)
}

interface RunReport {
  readonly status: number
  readonly stderr: string
  readonly records: number
  readonly errors: number
  readonly gap: number
}

function kafkaOf(address: string): Kafka {
  return new Kafka({
    brokers: [address.slice('kafka://'.length)],
    logLevel: logLevel.NOTHING,
  })
}

/** One copy by `west`. */
function mirror(rest: string): RunReport {
  const { status, stderr } = west.shell(`rm -f r; stream mirror @east ${rest} --report r`)
  const report = JSON.parse(west.shell('cat r').stdout || '{}') as Partial<RunReport>
  const { records = -1, errors = -1, gap = -1 } = report
  return { status, stderr, records, errors, gap }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

describe('a copy', () => {
  it('acceptance 32: is what the source has, and a rerun copies nothing', () => {
    east.ok('stream topics create t2 --partitions 3 --set retention.ms=86400000')
    east.ok('seq 30000 | stream produce t2 -z none; seq 30000 | stream produce t2 -z zstd')
    east.ok(
      String.raw`printf '%s\n' '{"value":null,"key":"k\n","headers":[["h","1"],["h",null]],"ts":5}' '{"value":{"b64":"//4="},"ts":null}' | stream produce t2 --json -p 1`,
    )
    expect(west.shell('stream mirror @east --topics t2').status).toBe(0)
    expect(west.shell('stream verify t2 @east/t2').status).toBe(0)
    expect(mirror('--topics t2')).toMatchObject({ status: 0, records: 0 })
    east.ok('seq 10 | stream produce t2')
    expect(mirror('--topics t2')).toMatchObject({ status: 0, records: 10 })
    expect(west.shell('stream verify t2 @east/t2').status).toBe(0)
    const made = west.ok('stream topics describe t2 --config -o tsv')
    expect(made).toMatch(/retention\.ms\t86400000\ttopic/)
    expect(west.ok('stream topics list t2').split('\t')[1]).toBe('3')
    // Packed as they were: the daemon says so of each batch.
    expect(west.ok('stream mirror verify @east --topics t2').trim().split('\n').length).toBe(3)
  })

  it('status, lag and verify tell of it', () => {
    east.ok('stream topics create told --partitions 2; seq 100 | stream produce told -p 0')
    expect(west.shell('stream mirror status @east --topics told').status).toBe(3)
    mirror('--topics told')
    east.ok('seq 7 | stream produce told -p 1')
    const status = west.ok('stream mirror status @east --topics told')
    const cells = status
      .trim()
      .split('\n')
      .map((row) => row.split('\t'))
    expect(cells[0]).toEqual(['@east', 'told', '0', 'current', '100', '100', '0', '0', '-'])
    expect(cells[1]?.slice(0, 7)).toEqual(['@east', 'told', '1', 'behind', '7', '0', '7'])
    const lag = 'stream mirror lag @east --topics told'
    expect(west.ok(lag).split('\t').slice(0, 3)).toEqual(['@east', 'told', '7'])
    expect(west.shell(`${lag} --fail-above 5`).status).toBe(1)
    expect(west.shell(`${lag} --wait-until 0 --timeout 600ms`).status).toBe(7)
    mirror('--topics told')
    expect(west.ok(`${lag} --wait-until 0 --timeout 5s --total`).split('\t')[2]).toBe('0')
    expect(west.ok('stream mirror verify @east --topics told')).toBe(
      '@east\ttold\t0\t100\t100\t100\n@east\ttold\t1\t7\t7\t7\n',
    )
    const row = JSON.parse(
      west.ok('stream mirror status @east --topics told --json').split('\n')[0] ?? '',
    )
    expect(row).toMatchObject({ v: 1, kind: 'mirror', name: '@east', source_end: 100, here: 100 })
    east.ok('stream topics delete told -y; stream topics create told --partitions 2')
    expect(west.ok('stream mirror status @east --topics told')).toContain('recreated')
    for (const verb of ['verify', 'lag', 'lag --fail-above 5', 'lag --wait-until 0']) {
      const line = `stream mirror ${verb} @east --topics told`
      const { status, stderr } = west.shell(line, { timeoutMs: 20_000 })
      expect([line, status, stderr]).toEqual([line, 8, expect.stringContaining('made anew since')])
    }
    const refused = mirror('--topics told')
    expect(refused.status).toBe(8)
    expect(refused.stderr).toContain('made anew since')
    east.ok('echo new | stream produce told -p 0')
    expect(mirror('--topics told --append')).toMatchObject({ status: 0, records: 1 })
    expect(west.ok('stream cat told | wc -l').trim()).toBe('108')
  })

  it('verify finds what was changed here', () => {
    east.ok('stream topics create changed; seq 5 | stream produce changed')
    mirror('--topics changed')
    west.ok('stream topics trim changed --to 2 -y')
    const gone = west.shell('stream mirror verify @east --topics changed')
    expect(gone.status).toBe(0)
    expect(gone.stdout).toBe('@east\tchanged\t0\t3\t3\t3\n')
    expect(gone.stderr).toContain('the oldest records are gone here')
  })

  it('goes over all four ways between native and Kafka doors', () => {
    east.ok('stream topics create doors --partitions 2')
    for (const codec of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
      east.ok(`seq 2000 | stream produce doors -z ${codec}`)
    }
    const ways = [
      ['@east', addressOf(west)],
      ['@east', westKafka],
      [eastKafka, addressOf(west)],
      [eastKafka, westKafka],
    ] as const
    for (const [index, [from, to]] of ways.entries()) {
      const line = `stream mirror ${from} -b ${to} --topics doors --rename doors${index} --report r`
      for (const records of [10_000, 0]) {
        expect(west.shell(line)).toMatchObject({ status: 0, stderr: '' })
        expect(JSON.parse(west.ok('cat r'))).toMatchObject({ records })
      }
      expect(west.shell(`stream verify doors${index} @east/doors`).status).toBe(0)
    }
  })

  it('leaves out what was aborted, and keeps what was committed', async () => {
    east.ok('stream topics create tx; seq 200000 > big')
    // Killed in the middle of transactions; the next run aborts what it left.
    for (let round = 0; round < 4; round++) {
      const run = east.start('bash', ['-c', 'exec stream produce tx --resume tx --chunk 3000 big'])
      await pause(250 + round * 60)
      run.kill('SIGKILL')
      await ended(run)
    }
    east.ok('stream produce tx --resume tx --chunk 3000 big')
    expect(mirror('--topics tx')).toMatchObject({ status: 0, records: 200_000 })
    expect(
      west.shell('stream cat tx | cmp - $EAST', { environment: { EAST: east.path('big') } }).status,
    ).toBe(0)
    // The markers behind the last record count as copied, too.
    expect(west.ok('stream mirror lag @east --topics tx').split('\t')[2]).toBe('0')
    expect(mirror('--topics tx')).toMatchObject({ status: 0, records: 0 })
  })

  it('copies a compacted topic with its gaps, and its tombstones', async () => {
    east.ok(
      'stream topics create users --compact --set internal.segment.bytes=20000 --set min.cleanable.dirty.ratio=0.01 --set segment.ms=1000 --set max.compaction.lag.ms=1000',
    )
    for (let round = 0; round < 10; round++) {
      const lines = [...Array(400).keys()].map((at) => `k${(at * 7) % 97}\tvalue ${round} ${at}`)
      east.ok(String.raw`stream produce users -K '\t'`, { input: `${lines.join('\n')}\n` })
    }
    east.ok(`printf '{"key":"k1","value":null}\n' | stream produce users --json`)
    east.ok('stream daemon stop')
    east.ok(
      `STREAM_CONF_LOG_RETENTION_CHECK_INTERVAL_MS=200 stream daemon start --listen ${eastKafka} -X log.cleaner.backoff.ms=200 || stream daemon start --listen ${eastKafka}`,
    )
    const count = (): number => Number(east.ok('stream cat users | wc -l').trim())
    await eventually(
      'the cleaner has been there',
      () => (count() < 4001 ? true : undefined),
      40_000,
    ).catch(() => undefined)
    const records = count()
    expect(mirror('--topics users')).toMatchObject({ status: 0, records })
    // The source's cleaner may have come further since: what is latest of each key is the same.
    const latest = (topic: string): string =>
      west.ok(
        `stream cat ${topic} --json | jq -r '[.key,.value]|@tsv' | awk -F'\\t' '{v[$1]=$0} END {for (k in v) print v[k]}' | sort`,
      )
    expect(latest('users')).toBe(latest('users --context east'))
    expect(west.ok('stream topics describe users --config -o tsv')).toMatch(
      /cleanup\.policy\tcompact\ttopic/,
    )
  }, 90_000)

  it('of a range of the past, with percent and time left', async () => {
    east.ok(
      `stream topics create past; seq 1000 | sed "s/$/ $(head -c 400 /dev/zero | tr '\\0' x)/" | stream produce past --batch-size 8KiB`,
    )
    const run = west.start('bash', [
      '-c',
      'exec stream mirror @east --topics past --rename past.part --from 100 --until 500 --rate 200/s --report rp',
    ])
    let stderr = ''
    run.stderr?.on('data', (chunk) => {
      stderr += chunk
    })
    await eventually('the first records', () =>
      west.shell('stream cat past.part | head -1').stdout !== '' ? true : undefined,
    )
    await eventually('progress', () => {
      run.kill('SIGUSR1')
      return / [1-9]\d?% {2}.* left/.test(stderr) ? true : undefined
    })
    run.kill('SIGTERM')
    expect(await ended(run)).toBe(143)
    const rest = mirror('--topics past --rename past.part --from 0 --until 500')
    expect(rest.status).toBe(0)
    // What was copied counts, not --from.
    expect(west.ok('stream cat past.part')).toBe(east.ok('stream cat past --from 100 --until 500'))
    expect(rest.records).toBeLessThan(400)
    expect(rest.records).toBeGreaterThan(0)
  })

  it('filters', () => {
    east.ok('stream topics create chosen; seq 3000 | stream produce chosen')
    expect(mirror("--topics chosen --grep 'v:/7$/'")).toMatchObject({ status: 0, records: 300 })
    expect(west.ok('stream cat chosen | wc -l').trim()).toBe('300')
    expect(mirror("--topics chosen --grep 'v:/7$/'")).toMatchObject({ status: 0, records: 0 })
    const verify = west.shell('stream mirror verify @east --topics chosen')
    expect(verify.status).toBe(2)
    expect(verify.stderr).toContain('a filter left records out')
  })
})

describe('what is refused', () => {
  it('rings, also of three clusters', async () => {
    const north = new Program()
    try {
      north.ok('stream daemon start')
      east.ok('stream topics create ring; seq 5 | stream produce ring')
      expect(mirror('--topics ring').status).toBe(0)
      expect(north.shell(`stream mirror ${addressOf(west)} --topics ring`).status).toBe(0)
      const back = east.shell('stream mirror @west --topics ring')
      expect(back.status).toBe(8)
      expect(back.stderr).toContain('ring')
      expect(back.stderr).toContain('--tag-origin')
      expect(east.shell(`stream mirror ${addressOf(north)} --topics ring`).status).toBe(8)
      expect(east.shell(`stream mirror ${addressOf(east)} --topics ring --rename x`).status).toBe(8)
      expect(east.ok('stream cat ring | wc -l').trim()).toBe('5')
    } finally {
      north.stop()
    }
  })

  it('a topic with records of something else, unless they may be mixed', () => {
    east.ok('stream topics create foreign; seq 5 | stream produce foreign')
    west.ok('stream topics create foreign; echo mine | stream produce foreign')
    const refused = mirror('--topics foreign')
    expect(refused.status).toBe(8)
    expect(refused.stderr).toContain('not from this source')
    expect(mirror('--topics foreign --append')).toMatchObject({ status: 0, records: 5 })
    // Behind what was copied it is noticed, too.
    east.ok('stream topics create later; seq 5 | stream produce later')
    expect(mirror('--topics later').status).toBe(0)
    west.ok('echo mine | stream produce later')
    expect(mirror('--topics later').status).toBe(8)
    expect(mirror('--topics later --append').status).toBe(0)
    // Fewer partitions than the source, of a topic that is not the copy's own.
    east.ok('stream topics create wide --partitions 3')
    west.ok('stream topics create wide')
    expect(mirror('--topics wide').stderr).toContain('stream topics alter wide --partitions 3')
  })

  it('brokers and topics that are not there, and words that are none', () => {
    expect(west.shell('stream mirror ipc:///tmp/none.sock --topics t').status).toBe(4)
    expect(west.shell('stream mirror @east --topics t2 -b ipc:///tmp/none.sock').status).toBe(4)
    expect(mirror('--topics nope').status).toBe(3)
    expect(mirror("--topics 'nope*'").status).toBe(3)
    expect(mirror('--topics __stream_state').status).toBe(2)
    expect(mirror('').status).toBe(2)
    expect(west.shell('stream mirror east --topics t').status).toBe(2)
    expect(west.shell('stream mirror').status).toBe(2)
    expect(mirror("--topics t2 --rename '{name}'").status).toBe(2)
    expect(mirror('--topics t2 -f --until end').status).toBe(2)
    expect(west.shell('stream mirror status west').status).toBe(3)
  })

  it('fails alone: a topic that is missing, a partition that the target cannot take', () => {
    east.ok('stream topics create part --partitions 2; seq 50 | stream produce part -p 0')
    east.ok('head -c 5000 /dev/zero | tr "\\0" x | stream produce part -p 1 --raw')
    west.ok('stream topics create part --partitions 2 --set max.message.bytes=3000')
    const run = mirror('--topics part,absent')
    expect(run.status).toBe(1)
    expect(run.errors).toBe(2)
    expect(run.stderr).toContain('absent')
    expect(run.stderr).toContain('part partition 1')
    expect(west.ok('stream cat part -p 0 | wc -l').trim()).toBe('50')
    const status = west.ok('stream mirror status @east --topics part')
    expect(status.split('\n')[1]).toMatch(/part\t1\tfailed\t1\t0\t1\t\d+\t.+/)
    east.ok('seq 5 | stream produce part -p 0')
    expect(mirror('--topics part')).toMatchObject({ status: 5, records: 5 })
    west.ok('stream topics alter part --set max.message.bytes=1000000')
    expect(mirror('--topics part')).toMatchObject({ status: 0, records: 1 })
    expect(west.shell('stream mirror verify @east --topics part').status).toBe(0)
    expect(west.ok('stream mirror status @east --topics part')).not.toContain('failed')
  })
})

describe('both ways', () => {
  it('with their origin, in rounds: each record once on each side', () => {
    east.ok('stream topics create both; seq 100 | sed s/^/e/ | stream produce both')
    west.ok('stream topics create both; seq 100 | sed s/^/w/ | stream produce both')
    for (let round = 0; round < 3; round++) {
      expect(mirror('--topics both --tag-origin').status).toBe(0)
      expect(east.shell('stream mirror @west --topics both --tag-origin').status).toBe(0)
      east.ok(`echo e-${round} | stream produce both`)
      west.ok(`echo w-${round} | stream produce both`)
    }
    mirror('--topics both --tag-origin')
    east.ok('stream mirror @west --topics both --tag-origin')
    for (const side of [east, west]) {
      expect(side.ok('stream cat both | sort | uniq | wc -l').trim()).toBe('206')
      expect(side.ok('stream cat both | wc -l').trim()).toBe('206')
    }
    expect(west.shell('stream mirror verify @east --topics both').status).toBe(0)
    // One way without its origin is refused.
    expect(mirror('--topics both').status).toBe(8)
  })
})

describe('a copy that follows', () => {
  it('takes new records, partitions and topics along, and ends by its signal', async () => {
    east.ok('stream topics create f.one; echo 1 | stream produce f.one')
    const run = west.start('bash', ['-c', "exec stream mirror @east --topics 'f.*' -f"])
    const lines = (topic: string): string => west.shell(`stream cat ${topic}`).stdout
    await eventually('the first', () => (lines('f.one') === '1\n' ? true : undefined))
    east.ok('echo 2 | stream produce f.one')
    await eventually('the second', () => (lines('f.one') === '1\n2\n' ? true : undefined))
    east.ok('stream topics create f.two; echo 3 | stream produce f.two')
    east.ok('stream topics alter f.one --partitions 2; echo 4 | stream produce f.one -p 1')
    await eventually('a new topic', () => (lines('f.two') === '3\n' ? true : undefined))
    await eventually('a new partition', () => (/^4$/m.test(lines('f.one')) ? true : undefined))
    run.kill('SIGINT')
    expect(await ended(run)).toBe(130)
    expect(mirror("--topics 'f.*'")).toMatchObject({ status: 0, records: 0 })
  }, 60_000)

  it('is fenced by another copy of the same topic', async () => {
    east.ok('stream topics create twice; seq 10 | stream produce twice')
    const first = west.start('bash', ['-c', 'exec stream mirror @east --topics twice -f'])
    let stderr = ''
    first.stderr?.on('data', (chunk) => {
      stderr += chunk
    })
    await eventually('the first', () =>
      west.shell('stream cat twice | wc -l').stdout.trim() === '10' ? true : undefined,
    )
    expect(mirror('--topics twice').status).toBe(0)
    east.ok('seq 11 20 | stream produce twice')
    expect(await ended(first)).toBe(8)
    expect(stderr).toContain('another copy')
    mirror('--topics twice')
    expect(west.ok('stream cat twice')).toBe(east.ok('stream cat twice'))
  }, 60_000)
})

describe('kill -9', () => {
  it('of a copy with its transaction open: the next one takes the id first, and does not wait for it to time out', async () => {
    east.ok('stream topics create open; seq 10 | stream produce open')
    expect(mirror('--topics open')).toMatchObject({ status: 0, records: 10 })
    // What a copy leaves that dies between its position and its commit: an open transaction of its id in the topic of positions.
    const admin = kafkaOf(eastKafka).admin()
    await admin.connect()
    const { clusterId } = await admin.describeCluster()
    await admin.disconnect()
    const dead = kafkaOf(westKafka).producer({
      transactionalId: `stream.mirror.${clusterId}.open.open`,
      idempotent: true,
      maxInFlightRequests: 1,
      transactionTimeout: 60_000,
    })
    await dead.connect()
    const transaction = await dead.transaction()
    const messages = [...Array(16).keys()].map((partition) => ({ partition, key: 'k', value: '1' }))
    await transaction.send({ topic: '__stream_state', messages })
    await dead.disconnect()
    east.ok('seq 11 20 | stream produce open')
    const begin = performance.now()
    expect(mirror('--topics open')).toMatchObject({ status: 0, records: 10 })
    expect(performance.now() - begin).toBeLessThan(30_000)
    expect(west.ok('stream cat open')).toBe(east.ok('stream cat open'))
  }, 90_000)

  it('of a copy that follows, behind its first look around: what was half sent is not taken for sent', async () => {
    east.ok('stream topics create half; seq 200000 | stream produce half --batch-size 16KiB')
    const run = west.start('bash', [
      '-c',
      'exec stream mirror @east --topics half -f --rate 15000/s',
    ])
    await pause(6800)
    run.kill('SIGKILL')
    expect(await ended(run)).toBe(137)
    const rest = mirror('--topics half')
    expect(rest.status).toBe(0)
    expect(rest.records).toBeGreaterThan(0)
    expect(west.shell('stream verify half @east/half').status).toBe(0)
  }, 40_000)

  it.each(['ipc', 'kafka'])(
    'of the copy and of the daemons, again and again, at the %s door',
    async (door) => {
      const topic = `killed-${door}`
      const from = door === 'ipc' ? '@east' : eastKafka
      const to = door === 'ipc' ? addressOf(west) : westKafka
      writeFileSync(
        east.path('input'),
        [...Array(400_000).keys()]
          .map((at) => `${at} some text that makes a line of it`)
          .join('\n'),
      )
      east.ok(
        `stream topics create ${topic} --partitions 3; stream produce ${topic} --batch-size 8KiB < input`,
      )
      let status = -1
      let kills = 0
      for (let round = 0; round < 40 && status !== 0; round++) {
        const run = west.start('bash', [
          '-c',
          `exec stream mirror ${from} -b ${to} --topics ${topic} --rate ${kills < 8 ? '250000' : '9000000'}/s`,
        ])
        const killer = setTimeout(
          () => {
            kills += 1
            run.kill('SIGKILL')
          },
          120 + Math.random() * 500,
        )
        if (round === 1 || round === 3) {
          const victim = round === 1 ? west : east
          await pause(250)
          process.kill(victim.daemonPid(), 'SIGKILL')
          start(victim)
        }
        if (round > 8) clearTimeout(killer)
        status = await ended(run)
        clearTimeout(killer)
      }
      expect(status).toBe(0)
      expect(kills).toBeGreaterThan(0)
      expect(west.shell(`stream verify ${topic} @east/${topic}`).status).toBe(0)
      expect(mirror(`--topics ${topic}`)).toMatchObject({ status: 0, records: 0 })
    },
    150_000,
  )
})
