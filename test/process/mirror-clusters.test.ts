/**
 * Mirrors between two and three clusters as processes: rings of copies and links, limits of rate, promotion under load, a chain that
 * fails over and back, a network that is cut, and topics with three replicas that are cut on the way back.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { ProcessCluster } from '../support/cluster.ts'
import { EtcdServer, freePorts, hasNoEtcd } from '../support/etcd.ts'
import { Sites } from '../support/mirror-sites.ts'
import { ended, eventually } from '../support/program.ts'
import { Relay } from '../support/relay.ts'

let sites: Sites | undefined
afterEach(() => {
  sites?.stop()
  sites = undefined
})

function sitesOf(...names: readonly string[]): Sites {
  const made = new Sites()
  sites = made
  for (const name of names) made.start(name)
  return made
}

const level = (name: string, at: string): string =>
  `stream mirror lag ${name} -b ${at} --wait-until 0 --timeout 60s`

describe('a ring of three clusters, of copies and links', () => {
  it('is never closed, at either door and in whatever order', async () => {
    const ports = await freePorts(1)
    const own = new Sites()
    sites = own
    own.start('a')
    own.start('b', ['--listen', `kafka://127.0.0.1:${ports[0]}`])
    own.start('c')
    const kafkaB = `kafka://127.0.0.1:${ports[0]}`
    const refused = (line: string): void => {
      const { status, stderr } = own.shell(line)
      expect([line, status, stderr]).toEqual([line, 8, expect.stringMatching(/ring/)])
    }
    // A, linked to B, copied to C.
    own.ok('seq 5 | stream produce t -b $A --create')
    own.ok(`stream mirror link west -b $B --source $A --topics t; ${level('west', '$B')}`)
    own.ok('stream mirror $B --topics t --rename copied.t -b $C')
    refused('stream mirror $C --topics copied.t --rename t --append -b $A')
    refused("stream mirror link back -b $A --source $C --topics 'copied.*'")
    // The link is seen through the Kafka door as well.
    own.ok(`stream mirror ${kafkaB} --topics t --rename door.t -b $C`)
    refused('stream mirror $C --topics door.t --rename door.t -b $A')
    // Without tags on both sides there is no way around.
    refused('stream mirror $C --topics copied.t --rename t --tag-origin -b $A')
    expect(own.ok('stream cat t -b $A | wc -l').trim()).toBe('5')
  }, 90_000)

  it('that is closed from the other end is not taken up, and one that is closed later is not followed any more', async () => {
    const own = sitesOf('a', 'b', 'c')
    own.ok('seq 5 | stream produce t -b $A --create; seq 3 | stream produce y -b $C --create')
    // A waits for what C will have; B has what A has; C copies it.
    own.ok("stream mirror link back -b $A --source $C --topics 'x*' --topics y")
    own.ok(`${level('back', '$A')}; stream mirror link west -b $B --source $A --topics t`)
    own.ok(`${level('west', '$B')}; stream mirror $B --topics t --rename xt -b $C`)
    await eventually('the ring is told', () =>
      /xt\t.*the ring is not closed/.test(own.ok('stream mirror status back -b $A'))
        ? true
        : undefined,
    )
    expect(own.ok('stream topics list -b $A | cut -f1')).not.toContain('xt')
    // What A mirrors of C gets records that come from A.
    own.ok('stream mirror $B --topics t --rename y --append -b $C')
    await eventually('the ring is told of a mirror that was followed', () =>
      /\ty\t.*the ring is not closed/.test(own.ok('stream mirror status back -b $A'))
        ? true
        : undefined,
    )
    const before = own.ok('stream cat y -b $A')
    own.ok('echo late | stream produce y -b $C; sleep 1')
    expect(own.ok('stream cat y -b $A')).toBe(before)
    // Whoever copies from A is told of the whole way.
    const { status, stderr } = own.shell('stream mirror $A --topics y --rename z -b $B')
    expect([status, stderr]).toEqual([8, expect.stringMatching(/ring/)])
  }, 90_000)
})

describe('the rate of a link', () => {
  it('is kept over all partitions, of bytes and of records', () => {
    const own = sitesOf('a', 'b')
    const line = 'x'.repeat(490)
    for (const topic of ['bytes', 'records']) {
      own.ok(`stream topics create ${topic} -b $A --partitions 4`)
      own.ok(
        `for p in 0 1 2 3; do seq 1000 | sed "s/$/ ${line}/" | stream produce ${topic} -b $A -p $p --batch-size 16KiB -z none; done`,
      )
    }
    // What one second allows comes at once: 2 MB and 4000 records take a second more.
    for (const [topic, rate] of [
      ['bytes', '1MB/s'],
      ['records', '2000/s'],
    ]) {
      const beginMs = performance.now()
      own.ok(`stream mirror link l-${topic} -b $B --source $A --topics ${topic} --rate ${rate}`)
      own.ok(level(`l-${topic}`, '$B'))
      const seconds = (performance.now() - beginMs) / 1000
      expect([topic, seconds > 0.9 && seconds < 20, seconds]).toEqual([topic, true, seconds])
      own.ok(`stream verify ${topic} $A/${topic} -b $B --offsets`)
    }
  }, 60_000)
})

describe('one bad partition of a link', () => {
  it('pauses alone and says why, and resumes by itself once it is well', async () => {
    const own = sitesOf('a', 'b')
    own.ok('stream topics create t -b $A --partitions 3')
    own.ok(
      'for p in 0 1 2; do for i in 1 2 3 4 5; do seq 100 | stream produce t -b $A -p $p -z none; done; done',
    )
    await own.end('a', 'SIGTERM')
    const path = own.program.path('a', 't-1', '00000000000000000000.log')
    const bytes = readFileSync(path)
    const at = Math.floor(bytes.length / 2)
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
    writeFileSync(path, bytes)
    own.start('a')
    own.ok("stream mirror link west -b $B --source $A --topics '*'")
    const rows = (): string[][] =>
      own
        .ok('stream mirror status west -b $B -o tsv')
        .trim()
        .split('\n')
        .map((row) => row.split('\t'))
    await eventually('the others are level, and the bad one says why', () => {
      const [first, bad, last] = rows()
      const isLevel = first?.[5] === '500' && last?.[5] === '500' && bad?.[3] === 'retrying'
      return isLevel && bad?.[8] !== '-' ? true : undefined
    })
    own.ok('seq 100 | stream produce t -b $A -p 2')
    await eventually('it goes on', () => (rows()[2]?.[5] === '600' ? true : undefined))
    await own.end('a', 'SIGTERM')
    own.shell('stream fsck a --repair -y')
    own.start('a')
    own.ok(`${level('west', '$B')}; stream mirror verify west -b $B`)
  }, 90_000)
})

describe('a promotion under load', () => {
  it('with open transactions at the source cuts to whole ones, through kill -9; readers resume where they were', async () => {
    const own = sitesOf('a', 'b')
    own.ok('stream topics create t -b $A --partitions 2')
    own.ok('seq 3000 | stream produce t -b $A')
    own.ok('stream consume t -b $A -g g --from start -n 1000 > seen')
    own.ok('stream mirror link west -b $B --source $A --topics t --sync groups')
    own.ok(level('west', '$B'))
    await eventually('the group has come', () =>
      own.shell('stream groups lag g -b $B -o tsv').status === 0 ? true : undefined,
    )
    // Transactions that overlap with whatever else is written, some of which never end.
    const load = own.load(
      "seq 400 | stream produce t -b $A --linger 1ms --batch-size 2KiB; seq 300 | stream produce t -b $A --resume r$RANDOM --chunk 50; timeout -s KILL 0.4 bash -c '(seq 500; sleep 9) | stream produce t -b $A --atomic'",
    )
    await new Promise((resolve) => setTimeout(resolve, 1500))
    const promoting = own.program.start(
      'bash',
      ['-c', 'exec stream mirror promote west -b $B -y --timeout 60s'],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...own.program.environment, ...own.environment },
      },
    )
    await new Promise((resolve) => setTimeout(resolve, 150 + Math.random() * 300))
    await own.end('b')
    own.start('b')
    await ended(promoting)
    own.ok('stream mirror promote west -b $B -y --timeout 60s')
    own.ok('touch over')
    await load.end
    const rows = own
      .ok('stream mirror status west -b $B -o tsv')
      .trim()
      .split('\n')
      .map((row) => row.split('\t'))
    expect(rows.map((row) => row[3])).toEqual(['promoted', 'promoted'])
    for (const [, , partition, , , point] of rows) {
      const mirrored = own.ok(
        `stream cat t -b $B -p ${partition} --json | jq -c '[.offset,.value]'`,
      )
      const real = own.ok(
        `stream cat t -b $A -p ${partition} --until ${point} --json | jq -c '[.offset,.value]'`,
      )
      expect(mirrored).toBe(real)
      // Nothing hangs: whoever reads everything sees no more than whoever reads what is committed.
      expect(own.ok(`stream cat t -b $B -p ${partition} --uncommitted | wc -l`)).toBe(
        own.ok(`stream cat t -b $B -p ${partition} | wc -l`),
      )
    }
    expect(own.ok('stream txn list -b $B')).toBe('')
    own.ok('seq 10 | stream produce t -b $B --atomic; seq 10 | stream produce t -b $B')
    // The group goes on: what it saw there and sees here is all there is, once.
    own.ok('stream consume t -b $B -g g --until-end >> seen')
    expect(own.ok('sort seen')).toBe(own.ok('stream cat t -b $B | sort'))
  }, 120_000)
})

describe('a chain of three clusters', () => {
  it('fails over in its middle and back, and a group of readers goes on from side to side', async () => {
    const own = sitesOf('a', 'b', 'c')
    const consume = (at: string, more = '') =>
      own.ok(`stream consume t -b ${at} -g g --from start ${more} --until-end >> seen`)
    const groupIsAt = (at: string, lag: string) =>
      eventually(`the group has come to ${at}`, () =>
        own.shell(`stream groups lag g -b ${at} -o tsv | cut -f3`).stdout.trim() === lag
          ? true
          : undefined,
      )
    own.ok('seq 100 | stream produce t -b $A --create')
    own.ok("stream mirror link ab -b $B --source $A --topics '*' --sync configs,groups")
    own.ok(level('ab', '$B'))
    own.ok("stream mirror link bc -b $C --source $B --topics '*' --sync configs,groups")
    own.ok(level('bc', '$C'))
    consume('$A', '-n 60')
    await groupIsAt('$B', '40')
    await groupIsAt('$C', '40')
    // The first one is lost; the second is promoted, the third goes on behind it.
    await own.end('a')
    own.ok('stream mirror promote ab -b $B -y --timeout 30s; seq 101 150 | stream produce t -b $B')
    consume('$B')
    own.ok(level('bc', '$C'))
    await groupIsAt('$C', '0')
    // It comes back with records that nobody had seen, and follows.
    own.start('a')
    own.ok('seq 9000 9009 | stream produce t -b $A')
    expect(own.ok('stream mirror failback ab -b $B --dry-run')).toBe('ab\tt\t0\t100\t110\t10\n')
    own.ok('stream mirror failback ab -b $B --salvage lost -y')
    expect(own.ok('jq -r .value lost')).toBe(own.ok('seq 9000 9009'))
    own.ok(`${level('ab', '$A')}; stream mirror verify ab -b $A; stream mirror verify bc -b $C`)
    await groupIsAt('$A', '0')
    own.ok(
      'stream mirror promote ab -b $A --when-caught-up -y --timeout 30s; seq 151 200 | stream produce t -b $A',
    )
    consume('$A')
    expect(own.ok('cat seen')).toBe(own.ok('seq 200'))
  }, 120_000)
})

describe('a source that stands still', () => {
  it('holds up neither the promotion of its own topics nor the links of others', async () => {
    const own = sitesOf('a', 'b', 'c')
    own.ok('seq 10 | stream produce t -b $A --create; seq 10 | stream produce u -b $C --create')
    own.ok("stream mirror link west -b $B --source $A --topics 't*' --sync groups")
    own.ok("stream mirror link east -b $B --source $C --topics 'u*' --sync groups")
    own.ok(`${level('west', '$B')}; ${level('east', '$B')}`)
    own.freeze('a')
    // By now the source is asked for its topics, and does not answer.
    await new Promise((resolve) => setTimeout(resolve, 6000))
    own.ok('stream topics create u2 -b $C; stream consume u -b $C -g g --from start -n 4')
    await eventually('the new topic has come', () =>
      own.shell('stream topics list -b $B').stdout.includes('u2') ? true : undefined,
    )
    await eventually('the group has come', () =>
      own.shell('stream groups lag g -b $B -o tsv | cut -f3').stdout.trim() === '6'
        ? true
        : undefined,
    )
    own.ok('stream mirror promote west -b $B -y --timeout 5s')
    own.thaw('a')
    expect(own.ok('stream mirror failback west -b $B --dry-run')).toBe('west\tt\t0\t10\t10\t0\n')
  }, 60_000)
})

describe.skipIf(hasNoEtcd)('a link over a network that is cut', () => {
  it('says so, catches up when it heals, and is what the source is', async () => {
    const own = sitesOf('b')
    const etcd = await EtcdServer.start()
    const [port = 0, outside = 0] = await freePorts(2)
    const relay = await Relay.start(outside, port)
    try {
      const far = `tcp://127.0.0.1:${outside}`
      own.start('a', [
        ...['--etcd', etcd.url, '--node-id', '1', '--listen', `tcp://127.0.0.1:${port}`],
        ...['--advertise', `tcp://127.0.0.1:${outside}`],
      ])
      own.ok('stream topics create t -b $A --partitions 3; seq 1000 | stream produce t -b $A')
      own.ok(`stream mirror link west -b $B --source ${far} --topics t; ${level('west', '$B')}`)
      const load = own.load('seq 3000 | stream produce t -b $A --batch-size 4KiB')
      for (let round = 0; round < 3; round += 1) {
        await new Promise((resolve) => setTimeout(resolve, 300))
        relay.reset()
        await new Promise((resolve) => setTimeout(resolve, 300))
        relay.cut()
        if (round === 0) {
          // The records that come now do not come here.
          await new Promise((resolve) => setTimeout(resolve, 1500))
          const waited = own.shell('stream mirror lag west -b $B --wait-until 0 --timeout 1s')
          expect(waited.status).toBe(7)
        } else await new Promise((resolve) => setTimeout(resolve, 700))
        relay.heal()
      }
      own.ok('touch over')
      await load.end
      own.ok(`${level('west', '$B')}; stream mirror verify west -b $B`)
    } finally {
      await relay.stop()
      await own.end('a')
      await etcd.stop()
    }
  }, 120_000)
})

describe.skipIf(hasNoEtcd)('topics with three replicas', () => {
  it('are cut on all of them on the way back, whoever dies meanwhile, and what is cut is shown and kept', async () => {
    const own = sitesOf('s')
    const cluster = await ProcessCluster.start({
      config: ['broker.session.timeout.ms=3000', 'offsets.topic.num.partitions=1'],
    })
    try {
      const environment = { ...own.environment, C: cluster.addresses }
      const at = (line: string): string => own.program.ok(line, { environment, timeoutMs: 120_000 })
      at('stream topics create t -b $C --partitions 2 -r 3; seq 2000 | stream produce t -b $C')
      at('stream mirror link west -b $S --source $C --topics t --sync groups')
      at('stream consume t -b $C -g g --from start -n 700 > seen')
      at(level('west', '$S'))
      await eventually('the group has come', () =>
        own.program.shell('stream groups lag g -b $S -o tsv', { environment }).status === 0
          ? true
          : undefined,
      )
      at('stream mirror promote west -b $S -y --timeout 30s')
      at('seq 9001 9300 | stream produce t -b $C; seq 2001 2100 | stream produce t -b $S')
      at('stream consume t -b $S -g g --until-end >> seen')
      const plan = at('stream mirror failback west -b $S --dry-run').trim().split('\n')
      const cuts = plan.map((row) => Number(row.split('\t')[5]))
      expect(cuts.reduce((sum, cut) => sum + cut, 0)).toBe(300)
      at('stream mirror failback west -b $S --salvage lost -y')
      expect(at('jq -r .value lost | sort')).toBe(at('seq 9001 9300 | sort'))
      // One that may lead, and has perhaps not cut yet.
      const victim = cluster.daemons[Math.floor(Math.random() * 3)]
      if (victim !== undefined) {
        await cluster.end(victim)
        cluster.run(victim)
      }
      at(`${level('west', '$C')}; stream mirror verify west -b $C`)
      const inSync = (): string[] =>
        [...at('stream topics describe t -b $C --json').matchAll(/"isr":\[([^\]]*)\]/g)].map(
          ([, ids = '']) => ids,
        )
      await cluster.until(
        () => inSync().length > 0 && inSync().every((ids) => ids.split(',').length === 3),
        'all replicas are in sync',
      )
      // Whoever leads now.
      const [first = cluster.daemons[0]] = cluster.daemons.filter((daemon) => daemon !== victim)
      if (first !== undefined) await cluster.end(first)
      at(`${level('west', '$C')}; stream verify t $S/t -b $C --offsets`)
      if (first !== undefined) cluster.run(first)
      await eventually('the group has come', () =>
        at("stream groups lag g -b $C -o tsv | awk '{sum += $3} END {print sum}'").trim() === '0'
          ? true
          : undefined,
      )
      at('stream mirror promote west -b $C --when-caught-up -y --timeout 60s')
      at('seq 2101 2200 | stream produce t -b $C; stream consume t -b $C -g g --until-end >> seen')
      expect(at('sort -n seen | cmp - <(seq 2200) || true')).toBe('')
    } finally {
      await cluster.stop()
    }
  }, 240_000)
})
