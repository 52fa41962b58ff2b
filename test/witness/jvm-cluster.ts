/** `stream cluster` with three real Kafka brokers: what it says and does, as Kafka's own tools see it. */
import assert from 'node:assert/strict'
import type { Checks } from './jvm-checks.ts'
import { KafkaBrokers } from './jvm-kafka.ts'
import { linesOf } from './jvm-records.ts'
import type { Stage } from './jvm-stage.ts'

export async function checkCluster({ kafka, program }: Stage, checks: Checks): Promise<void> {
  const brokers = await KafkaBrokers.start(kafka, program.path('kafka'), ['a', 'b', 'c'])
  const at = `-b ${brokers.address}`
  const rows = (line: string): string[][] =>
    linesOf(program.ok(`stream ${line} ${at}`)).map((row) => row.split('\t'))
  const status = (): Record<string, unknown> =>
    JSON.parse(program.shell(`stream cluster status --json ${at}`).stdout)
  /** PARTITION → leader, replicas, by Kafka's own tool. */
  const theirs = (topic: string): string[] =>
    linesOf(
      kafka.ok('TopicCommand', [
        '--bootstrap-server',
        brokers.addressOf(1),
        '--describe',
        '--topic',
        topic,
      ]),
    ).flatMap((line) => {
      const match = /Partition: (\d+)\tLeader: (\S+)\tReplicas: (\S+)/.exec(line)
      return match === null ? [] : [`${match[1]} ${match[2]} ${match[3]}`]
    })
  try {
    await checks.check('cluster status and brokers of three', async () => {
      while (Number(status()['brokers']) < 3) await new Promise((done) => setTimeout(done, 200))
      const table = rows('cluster brokers')
      assert.deepEqual(
        table.map(([id, , rack, state]) => [id, rack, state]),
        [
          ['1', 'a', 'live'],
          ['2', 'b', 'live'],
          ['3', 'c', 'live'],
        ],
      )
      return table.map(([, address]) => address).join(' ')
    })
    await checks.check('topics create -r 3; cluster doctor finds nothing', () => {
      program.ok(`stream topics create orders --partitions 6 -r 3 ${at}`)
      program.ok(`stream topics create thin --partitions 4 -r 1 ${at}`)
      program.ok(`seq 20000 | stream produce orders ${at}; seq 20000 | stream produce thin ${at}`)
      program.ok(`stream topics wait orders --in-sync --timeout 30s ${at}`)
      const found = rows('cluster doctor')
      assert.deepEqual(
        found.map(([state, check]) => `${state} ${check}`),
        ['note replicas'],
      )
      return found[0]?.join(' ') ?? ''
    })
    await checks.check(
      'cluster reassign --replicas 3 --rate --wait: grown, and the limit is lifted',
      () => {
        const moves = rows('cluster reassign --topics thin --replicas 3 --rate 20MiB/s --wait -y')
        assert.equal(moves.length, 4)
        for (const [, partition, old, now] of moves) {
          assert.equal(now?.split(',')[0], old)
          assert.ok(
            theirs('thin').some(
              (row) => row.startsWith(`${partition} `) && row.endsWith(` ${now}`),
            ),
          )
        }
        const own = program.ok(`stream topics describe thin --config ${at} | awk '$4 == "topic"'`)
        assert.equal(own, '')
        const values = linesOf(program.ok(`stream cat thin ${at} | sort -n | uniq | wc -l`))
        assert.equal(values[0]?.trim(), '20000')
        return moves.map(([, , , now]) => now).join(' ')
      },
    )
    await checks.check('cluster reassign --brokers 1,2 --replicas 2: Kafka says the same', () => {
      rows('cluster reassign --topics thin --brokers 1,2 --replicas 2 --wait -y')
      const placed = theirs('thin')
      assert.ok(
        placed.every((row) => !row.split(' ')[2]?.includes('3')),
        placed.join('; '),
      )
      const leaders = placed.map((row) => row.split(' ')[2]?.split(',')[0])
      assert.equal(leaders.filter((each) => each === '1').length, 2)
      return placed.join('; ')
    })
    await checks.check(
      '--export is read by kafka-reassign-partitions --verify, and by --from-file',
      () => {
        program.ok(`stream cluster reassign --topics 'orders' --export plan.json ${at}`)
        const verified = kafka.ok('reassign.ReassignPartitionsCommand', [
          '--bootstrap-server',
          brokers.addressOf(1),
          '--verify',
          '--reassignment-json-file',
          program.path('plan.json'),
        ])
        assert.equal(linesOf(verified).filter((line) => line.endsWith('is completed.')).length, 6)
        assert.deepEqual(rows('cluster reassign --from-file plan.json -y'), [])
        return '6 partitions'
      },
    )
    await checks.check('cluster drain 2 --leaders-only --wait: it leads nothing; --undo', () => {
      rows('cluster drain 2 --leaders-only --wait -y')
      assert.equal(rows('cluster brokers')[1]?.[4], '0')
      rows('cluster drain 2 --undo --wait -y')
      const leads = rows('cluster brokers').map((row) => Number(row[4]))
      assert.ok((leads[1] ?? 0) > 0, leads.join(' '))
      return `leads after: ${leads.join(' ')}`
    })
    await checks.check(
      'a broker stops: status, doctor and elect see it, and it comes to lead no more',
      async () => {
        program.ok(
          `stream topics create strict --partitions 3 -r 3 --set min.insync.replicas=3 ${at}`,
        )
        await brokers.stop(3)
        while (Number(status()['brokers']) > 2) await new Promise((done) => setTimeout(done, 200))
        const now = status()
        assert.equal(now['known'], 3)
        assert.ok(Number(now['under_min_isr']) >= 3, JSON.stringify(now))
        assert.equal(program.shell(`stream cluster status ${at}`).status, 1)
        const doctor = program.shell(`stream cluster doctor ${at}`)
        assert.equal(doctor.status, 1, doctor.stderr)
        assert.match(doctor.stdout, /crit\tbroker\tbroker 3\t(down|not registered)/)
        assert.match(doctor.stdout, /crit\tmin_isr\tstrict\t/)
        const elect = program.shell(`stream cluster elect --topics orders ${at}`)
        assert.equal(elect.status, 1, elect.stdout)
        assert.match(elect.stderr, /PREFERRED_LEADER_NOT_AVAILABLE/)
        const full = program.shell(`stream cluster drain 2 -y ${at}`)
        assert.equal(full.status, 8, full.stderr)
        const gone = program.shell(`stream cluster reassign --topics thin --brokers 1,3 -y ${at}`)
        assert.equal(gone.status, 8, gone.stderr)
        const described = program.ok(`stream topics describe strict ${at}`)
        assert.match(described, /\t3\n/)
        return `${linesOf(doctor.stdout).length} findings`
      },
    )
  } finally {
    await brokers.stop()
  }
}
