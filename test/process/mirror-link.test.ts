/**
 * Links between daemons as processes: byte-identical batches through kill -9 of either side, what a mirror refuses, promotion,
 * and a cluster in which the leaders die.
 */
import type { ChildProcess } from 'node:child_process'
import { afterEach, describe, expect, it } from 'vitest'
import { commands } from '../../cmd/commands.ts'
import { ProcessCluster } from '../support/cluster.ts'
import { hasNoEtcd } from '../support/etcd.ts'
import { startKafkaDoor } from '../support/kafka-door.ts'
import { daemonBundle, ended, eventually, Program } from '../support/program.ts'

const rounds = Number(process.env['STREAM_CRASH_ROUNDS'] ?? 8)

/** Two daemons, source and target, that can be killed one by one. */
class Pair {
  readonly program = new Program({ environment: { STREAM_AUTOSTART: '0' } })
  readonly source = `ipc://${this.program.path('s.sock')}`
  readonly target = `ipc://${this.program.path('t.sock')}`
  readonly #processes = new Map<string, ChildProcess>()

  start(name: 's' | 't'): void {
    const words = [
      '--data',
      this.program.path(name),
      '--listen',
      name === 's' ? this.source : this.target,
    ]
    const child = this.program.start(process.execPath, [daemonBundle, ...words], {
      stdio: ['ignore', 'ignore', 'ignore'],
    })
    this.#processes.set(name, child)
    this.program.ok(
      `for i in $(seq 100); do stream topics list -b ${name === 's' ? this.source : this.target} >/dev/null 2>&1 && exit; sleep .1; done; exit 1`,
    )
  }

  async end(name: 's' | 't', signal: NodeJS.Signals): Promise<void> {
    const child = this.#processes.get(name)
    if (child === undefined) return
    const end = ended(child)
    child.kill(signal)
    await end
  }

  ok(line: string): string {
    const environment = { S: this.source, T: this.target }
    return this.program.ok(line, { environment, timeoutMs: 120_000 })
  }

  shell(line: string) {
    return this.program.shell(line, { environment: { S: this.source, T: this.target } })
  }

  /** Everything of a partition's batches but the leader epoch, which is each log's own; both daemons have ended. */
  batches(name: 's' | 't', partition: string): string {
    return this.program.ok(`stream dump ${name}/${partition} --batches -o tsv | cut -f3,4,6-`)
  }
}

let pair: Pair | undefined
afterEach(() => {
  pair?.program.stop()
  pair = undefined
})

function pairUp(): Pair {
  pair = new Pair()
  pair.start('s')
  pair.start('t')
  return pair
}

describe('a link between two daemons', () => {
  it('mirrors what is there and what comes, with gaps and log start, and is read-only', async () => {
    const { ok, shell, end, batches, start } = bound(pairUp())
    ok('seq 1000 | stream produce a -b $S --create; stream topics trim a -b $S --to 700 -y')
    ok(
      "stream topics create c -b $S --compact --partitions 2; printf 'k\\tv\\n' | stream produce c -b $S -K '\\t'",
    )
    ok('seq 10 | stream produce tx -b $S --create --atomic')
    expect(ok("stream mirror link west -b $T --source $S --topics '*'")).toBe(
      'west\ta\nwest\tc\nwest\ttx\n',
    )
    ok('stream mirror lag west -b $T --wait-until 0 --timeout 30s')
    ok(
      'seq 5 | stream produce a -b $S; stream topics create later -b $S; seq 7 | stream produce later -b $S',
    )
    await eventually('a topic that was made later', () =>
      shell('stream cat later -b $T').stdout === ok('seq 7') ? true : undefined,
    )
    expect(ok('stream cat a -b $T --json | head -1')).toContain('"offset":700')
    ok('stream verify a $S/a -b $T --offsets; stream verify tx $S/tx -b $T --offsets')
    for (const [line, status] of [
      ['echo x | stream produce a -b $T', 6],
      ['echo x | stream produce a -b $T --atomic', 6],
      ['stream produce a -b $T -p 0 --value x --expect-offset 1005', 6],
      ['stream topics trim a -b $T --to 800 -y', 6],
      ['stream topics delete a -b $T -y', 6],
      ['stream topics alter a -b $T --partitions 9', 6],
    ] as const) {
      const outcome = shell(line)
      expect([line, outcome.status, outcome.stderr]).toEqual([
        line,
        status,
        expect.stringMatching(/mirror/),
      ])
    }
    await end('s', 'SIGTERM')
    await end('t', 'SIGTERM')
    for (const partition of ['a-0', 'c-0', 'c-1', 'tx-0', 'later-0']) {
      expect(batches('t', partition)).toBe(batches('s', partition))
    }
    start('s')
    start('t')
    ok('stream mirror status west -b $T --json | head -1 | grep -q following')
  }, 120_000)

  it('a source topic that was made anew is no lag of 0, and a comparison with it ends', async () => {
    const { ok, shell } = bound(pairUp())
    ok('seq 100 | stream produce a -b $S --create')
    ok('stream mirror link west -b $T --source $S --topics a')
    ok('stream mirror lag west -b $T --wait-until 0 --timeout 30s')
    ok('stream topics delete a -b $S -y; seq 3 | stream produce a -b $S --create')
    await eventually('it diverges', () =>
      ok('stream mirror status west -b $T').includes('diverged') ? true : undefined,
    )
    expect(ok('stream mirror lag west -b $T')).toBe('west\ta\t-\t-\n')
    expect(shell('stream mirror lag west -b $T --fail-above 1000').status).toBe(1)
    const waited = shell('stream mirror lag west -b $T --wait-until 0 --timeout 1s')
    expect([waited.status, waited.stderr]).toEqual([
      7,
      expect.stringContaining('cannot be told (diverged: the source'),
    ])
    const verified = shell('timeout 20 stream mirror verify west -b $T')
    expect([verified.status, verified.stdout]).toEqual([1, 'west\ta\t0\t3\t100\t0\n'])
    expect(verified.stderr).toContain('a: diverged: the source')
    const compared = shell('timeout 20 stream verify a $S/a -b $T --until 100')
    expect([compared.status, compared.stdout]).toEqual([1, '0\t100\t3\t0\n'])
  }, 120_000)

  it('refuses rings, itself, topics that exist, and names that are taken', () => {
    const { ok, shell } = bound(pairUp())
    ok('seq 3 | stream produce a -b $S --create; seq 3 | stream produce here -b $T --create')
    ok('seq 3 | stream produce here -b $S --create')
    ok("stream mirror link west -b $T --source $S --topics 'a*'")
    const refused = (line: string) => {
      const { status, stderr, stdout } = shell(line)
      return { status, stderr: stderr.trim(), stdout }
    }
    for (const [line, status, words] of [
      ["stream mirror link west -b $T --source $S --topics 'b*'", 8, /exists already/],
      ["stream mirror link back -b $S --source $T --topics 'a*'", 8, /the ring is not closed/],
      ["stream mirror link self -b $S --source $S --topics '*'", 8, /this cluster itself/],
      ['stream mirror link more -b $T --source $S --topics here', 8, /exists here already/],
      [
        "stream mirror link far -b $T --source ipc:///nowhere/x.sock --topics '*' --connect-timeout 1s",
        4,
        /no broker reached/,
      ],
      ['stream mirror link bad -b $T --source $S', 2, /--topics is missing/],
      ['stream mirror status nope -b $T', 3, /no such link/],
      ['stream mirror promote west -b $T', 2, /nobody can be asked/],
      ['stream mirror promote west -b $T --topics zzz -y', 3, /no topic of link west/],
    ] as const) {
      expect([line, refused(line)]).toEqual([
        line,
        { status, stderr: expect.stringMatching(words), stdout: '' },
      ])
    }
  }, 60_000)

  it('promotes: whole transactions stay, open ones end, local producers are not taken for the source’s', async () => {
    const { ok, shell } = bound(pairUp())
    ok('seq 100 | stream produce a -b $S --create; seq 3 | stream produce b -b $S --create')
    ok("stream mirror link west -b $T --source $S --topics '*'")
    ok('stream mirror lag west -b $T --wait-until 0 --timeout 30s')
    const plan = ok('stream mirror promote west -b $T --topics a --dry-run')
    expect(plan).toBe('west\ta\t0\t100\t-\t0\n')
    expect(
      ok('stream mirror promote west -b $T --topics a --when-caught-up --timeout 30s -y'),
    ).toMatch(/^west\ta\t0\t100\t\d+\t0\n$/)
    // The same producer ids and sequences have been used by the source: nothing of this is a duplicate.
    ok('for i in 1 2 3; do seq 100 | stream produce a -b $T; done')
    expect(ok('stream cat a -b $T | wc -l').trim()).toBe('400')
    expect(shell('echo x | stream produce b -b $T').status).toBe(6)
    ok('stream mirror pause west -b $T; seq 3 | stream produce b -b $S; sleep 1')
    expect(ok('stream cat b -b $T | wc -l').trim()).toBe('3')
    ok('stream mirror resume west -b $T; stream mirror lag west -b $T --wait-until 0 --timeout 30s')
    expect(ok('stream cat b -b $T | wc -l').trim()).toBe('6')
    ok('stream mirror unlink west -b $T -y --timeout 30s; echo x | stream produce b -b $T')
    expect(ok('stream mirror status -b $T')).toBe('')
    expect(ok('stream cat b -b $T | wc -l').trim()).toBe('7')
  }, 120_000)

  it('fails over, back, and over again; what is cut is shown and kept', () => {
    const { ok, shell } = bound(pairUp())
    ok('seq 100 | stream produce a -b $S --create')
    ok("stream mirror link west -b $T --source $S --topics '*'")
    ok('stream mirror lag west -b $T --wait-until 0 --timeout 30s; stream mirror verify west -b $T')
    ok('stream mirror promote west -b $T -y --timeout 30s')
    ok('seq 1000 1004 | stream produce a -b $S; seq 2000 2009 | stream produce a -b $T')
    expect(ok('stream mirror failback west -b $T --dry-run')).toBe('west\ta\t0\t100\t105\t5\n')
    expect(shell('stream mirror failback west -b $T').status).toBe(2)
    ok('stream mirror failback west -b $T --salvage lost -y')
    expect(ok('jq -r .value lost')).toBe(ok('seq 1000 1004'))
    ok(
      'stream mirror lag west -b $S --wait-until 0 --timeout 30s; stream verify a $S/a -b $T --offsets',
    )
    expect(shell('echo x | stream produce a -b $S').status).toBe(6)
    ok(
      'stream mirror promote west -b $S --when-caught-up -y --timeout 30s; stream mirror failback west -b $S -y',
    )
    ok('seq 7 | stream produce a -b $S; stream mirror lag west -b $T --wait-until 0 --timeout 30s')
    ok('stream verify a $S/a -b $T --offsets')
    expect(shell('echo x | stream produce a -b $T').status).toBe(6)
  }, 120_000)

  it('fails back to an old side that it followed by its Kafka door, where it is told where that is', async () => {
    const { ok, shell, program, target } = bound(pairUp())
    const old = await startKafkaDoor(program, 'old', [])
    const line = (text: string): string =>
      text.replaceAll('$OLD', old.native).replaceAll('$DOOR', `kafka://${old.address}`)
    ok(line('seq 10 | stream produce a -b $OLD --create'))
    ok(line("stream mirror link west -b $T --source $DOOR --topics '*'"))
    ok('stream mirror lag west -b $T --wait-until 0 --timeout 30s')
    ok('stream mirror promote west -b $T -y --timeout 30s')
    ok(line('seq 5 | stream produce a -b $OLD; seq 3 | stream produce a -b $T'))
    expect(shell('stream mirror failback west -b $T --dry-run')).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringMatching(/native door.*where the old side takes commands: --old tcp:/),
    })
    // Itself: it has a topic of that name.
    expect(shell('stream mirror failback west -b $T --old $T --dry-run')).toMatchObject({
      status: 8,
      stdout: '',
      stderr: expect.stringContaining(
        `a: ${target} does not have the topic that this link followed`,
      ),
    })
    const failBack = 'stream mirror failback west -b $T --old $OLD'
    expect(ok(line(`${failBack} --dry-run`))).toBe('west\ta\t0\t10\t15\t5\n')
    ok(line(`${failBack} --salvage lost -y; jq -r .value lost | diff - <(seq 5)`))
    ok(line('stream mirror lag west -b $OLD --wait-until 0 --timeout 30s'))
    ok(line('stream verify a $T/a -b $OLD --offsets'))
  }, 120_000)

  it('is the same to the byte through kill -9 of either side', async () => {
    const { ok, end, batches, start, program, source } = bound(pairUp())
    ok('stream topics create plain -b $S --partitions 2; stream topics create tx -b $S')
    ok(
      'stream topics create comp -b $S --compact --set segment.bytes=1048576 --set min.cleanable.dirty.ratio=0.01',
    )
    ok("stream mirror link west -b $T --source $S --topics '*'")
    const load = program.start(
      'bash',
      [
        '-c',
        `while [ ! -e over ]; do
         seq 20000 | stream produce plain -b ${source} --delivery-timeout 30s
         seq 3000 | stream produce tx -b ${source} --atomic
         timeout -s KILL 0.3 bash -c '(seq 500; sleep 9) | stream produce tx -b ${source} --atomic'
         seq 9000 | awk '{print "k" $1 % 50 "\\t" $1 $1 $1 $1}' | stream produce comp -b ${source} -K '\\t' -z none
       done`,
      ],
      { stdio: ['ignore', 'ignore', 'ignore'] },
    )
    const finished = ended(load)
    for (let round = 0; round < rounds; round += 1) {
      await new Promise((resolve) => setTimeout(resolve, 300 + Math.random() * 1500))
      const name = Math.random() < 0.5 ? 's' : 't'
      await end(name, 'SIGKILL')
      start(name)
    }
    ok('touch over')
    await finished
    ok('stream mirror lag west -b $T --wait-until 0 --timeout 60s')
    await end('s', 'SIGTERM')
    await end('t', 'SIGTERM')
    for (const partition of ['plain-0', 'plain-1', 'tx-0']) {
      expect(batches('t', partition)).toBe(batches('s', partition))
    }
    // Each side compacts its own log: what is latest of each key is the same.
    const latest = (name: string) =>
      ok(
        `stream dump ${name}/comp-0 --json | jq -r '[.key,.offset,.value]|@tsv' | awk -F'\\t' '{v[$1]=$0} END {for (k in v) print v[k]}' | sort`,
      )
    expect(latest('t')).toBe(latest('s'))
  }, 180_000)
})

const verbs = [
  'link',
  'status',
  'lag',
  'verify',
  'pause',
  'resume',
  'promote',
  'failback',
  'unlink',
]

describe('examples of the help', () => {
  it('run as they stand there, with the addresses of this place', async () => {
    const { ok, shell, target, source } = bound(pairUp())
    ok('seq 9 | stream produce orders -b $S --create')
    for (const verb of verbs) {
      const { load } = commands.find(({ name }) => name === `mirror ${verb}`) ?? {}
      const { spec } = (await load?.()) ?? {}
      expect(spec?.examples.length, verb).toBeGreaterThan(0)
      for (const { line } of spec?.examples ?? []) {
        // Copies: examples.test.ts runs these.
        if (verb !== 'link' && !/\bwest\b/.test(line)) continue
        const here = line
          .replace(/tcp:\/\/west:7100|kafka:\/\/east:9092/, source)
          .replace('tcp://east:7100', target)
          .replace(/ (promote|failback) ([^#]*?)( -y)?$/, ' $1 $2 -y')
        const outcome = shell(`export STREAM_BROKER=$T; ${here}`)
        expect([here, outcome.status, outcome.stderr]).toEqual([here, 0, ''])
        if (verb === 'link')
          ok(
            'for i in $(seq 50); do stream mirror lag west -b $T --wait-until 0 --timeout 20s && exit; sleep .2; done',
          )
        // The way back has taken the topic: from here on the link is at the other side.
        if (line.includes('--salvage')) ok('stream mirror unlink west -b $S -y')
      }
    }
  }, 120_000)
})

describe.skipIf(hasNoEtcd)('a link into a cluster', () => {
  it('moves with the leaders, whichever daemon dies', async () => {
    const { ok, end, program, source } = bound(pairUp())
    const cluster = await ProcessCluster.start({
      config: ['broker.session.timeout.ms=3000', 'offsets.topic.num.partitions=1'],
    })
    try {
      const at = (line: string): string =>
        cluster.program.ok(line, {
          environment: { STREAM_BROKER: cluster.addresses, S: source },
          timeoutMs: 120_000,
        })
      ok(
        'stream topics create plain -b $S --partitions 3; seq 1000 | stream produce tx -b $S --create --atomic',
      )
      at("stream mirror link west --source $S --topics '*'")
      const load = program.start(
        'bash',
        [
          '-c',
          `while [ ! -e over ]; do seq 20000 | stream produce plain -b ${source}; seq 500 | stream produce tx -b ${source} --atomic; done`,
        ],
        { stdio: ['ignore', 'ignore', 'ignore'] },
      )
      const finished = ended(load)
      for (const daemon of cluster.daemons) {
        await new Promise((resolve) => setTimeout(resolve, 2500))
        await cluster.end(daemon)
        await new Promise((resolve) => setTimeout(resolve, 2500))
        cluster.run(daemon)
        await cluster.until(() => cluster.liveBrokers() === 3, 'it is back')
      }
      ok('touch over')
      await finished
      at('stream mirror lag west --wait-until 0 --timeout 60s')
      at('stream verify plain $S/plain --offsets && stream verify tx $S/tx --offsets')
      expect(
        at('stream mirror promote west --when-caught-up -y --timeout 60s').split('\n'),
      ).toHaveLength(5)
      at('seq 10 | stream produce plain && seq 10 | stream produce tx --atomic')
    } finally {
      await cluster.stop()
      await end('s', 'SIGKILL')
    }
  }, 180_000)
})

/** Methods that can be taken apart. */
function bound(of: Pair) {
  return {
    program: of.program,
    source: of.source,
    target: of.target,
    ok: (line: string) => of.ok(line),
    shell: (line: string) => of.shell(line),
    start: (name: 's' | 't') => of.start(name),
    end: (name: 's' | 't', signal: NodeJS.Signals) => of.end(name, signal),
    batches: (name: 's' | 't', partition: string) => of.batches(name, partition),
  }
}
