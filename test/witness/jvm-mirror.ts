/** Copies from a real Kafka broker to our daemon and back: all codecs, transactions, kills, fencing. */
import assert from 'node:assert/strict'
import { ended } from '../support/program.ts'
import type { Checks } from './jvm-checks.ts'
import { KafkaBroker } from './jvm-kafka.ts'
import { linesOf } from './jvm-records.ts'
import type { Stage } from './jvm-stage.ts'

export async function checkMirror({ kafka, program }: Stage, checks: Checks): Promise<void> {
  const broker = await KafkaBroker.start(kafka, program.path('kafka'))
  const theirs = `kafka://${broker.address}`
  const ours = `ipc://${program.path('run', 'stream', 'daemon.sock')}`
  const recordsOf = (line: string): number => {
    program.ok(`${line} --report r`)
    return (JSON.parse(program.ok('cat r')) as { records: number }).records
  }
  const countAt = (topic: string): number =>
    linesOf(kafka.ok('Witness', ['read', broker.address, topic, 'read_committed'])).length
  const verify = (a: string, b: string): void => {
    const outcome = program.shell(`stream verify ${a} ${b}`)
    assert.equal(outcome.status, 0, outcome.stdout + outcome.stderr)
  }
  const killAndFinish = async (line: string): Promise<string> => {
    let kills = 0
    for (let round = 0; round < 6; round++) {
      const run = program.start('bash', ['-c', `exec ${line} --rate 150000/s`])
      const killer = setTimeout(
        () => {
          kills += 1
          run.kill('SIGKILL')
        },
        250 + round * 150,
      )
      await ended(run)
      clearTimeout(killer)
    }
    program.ok(line, { timeoutMs: 120_000 })
    return `${kills} kills`
  }
  try {
    program.ok('stream daemon start')
    await checks.check(
      'from Kafka: all codecs and shapes, transactions, what was aborted left out',
      () => {
        program.ok(
          `stream topics create filled transactions --partitions 2 --set retention.ms=99999999 -b ${theirs}`,
        )
        kafka.ok('Witness', ['fill', broker.address, 'filled'])
        kafka.ok('Witness', ['transactions', broker.address, 'transactions'])
        const line = `stream mirror ${theirs} --topics filled,transactions`
        const first = recordsOf(line)
        assert.equal(first, countAt('filled') + countAt('transactions'))
        for (const topic of ['filled', 'transactions']) verify(topic, `${theirs}/${topic}`)
        assert.equal(recordsOf(line), 0)
        assert.match(
          program.ok('stream topics describe filled --config'),
          /retention.ms\t99999999\ttopic/,
        )
        return `${first} records, a rerun 0`
      },
    )
    await checks.check('to Kafka: all codecs, and what came from there is a ring', () => {
      program.ok('stream topics create made --partitions 3')
      for (const codec of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
        program.ok(`seq 3000 | stream produce made -z ${codec}`)
      }
      const line = `stream mirror ${ours} --topics made -b ${theirs}`
      const first = recordsOf(line)
      verify('made', `${theirs}/made`)
      assert.equal(countAt('made'), first)
      assert.equal(recordsOf(line), 0)
      assert.equal(program.shell(`stream mirror ${ours} --topics filled -b ${theirs}`).status, 8)
      return `${first} records, a rerun 0`
    })
    program.ok('stream topics create long --partitions 2; seq 1000000 | stream produce long')
    await checks.check('to Kafka, killed again and again', async () => {
      const said = await killAndFinish(`stream mirror ${ours} --topics long -b ${theirs}`)
      verify('long', `${theirs}/long`)
      return said
    })
    await checks.check('from Kafka, killed again and again', async () => {
      program.ok(
        `stream topics create other --partitions 2 -b ${theirs}; seq 1000000 | stream produce other -b ${theirs}`,
      )
      const said = await killAndFinish(`stream mirror ${theirs} --topics other`)
      verify('other', `${theirs}/other`)
      return said
    })
    await checks.check('a newer copy at Kafka fences the older one, 8', async () => {
      const run = program.start('bash', [
        '-c',
        `exec stream mirror ${ours} --topics long --rename fenced -b ${theirs} -f --rate 100000/s`,
      ])
      // It is the older one as soon as something of it is there.
      program.ok(`stream consume fenced -b ${theirs} --from start -n 1 --wait-topic --timeout 30s`)
      program.ok(`stream mirror ${ours} --topics long --rename fenced -b ${theirs}`)
      assert.equal(await ended(run), 8)
      verify('long', `${theirs}/fenced`)
      return 'equal at the end'
    })
    await checks.check('a compacted topic of Kafka with gaps', async () => {
      program.ok(
        `stream topics create compacted --compact --set segment.ms=500 --set min.cleanable.dirty.ratio=0.001 --set max.compaction.lag.ms=500 -b ${theirs}`,
      )
      for (let round = 0; round < 8; round++) {
        const lines = [...Array(300).keys()].map((at) => `k${(at * 7) % 61}\tv ${round} ${at}`)
        program.ok(String.raw`stream produce compacted -K '\t' -z lz4 -b ${theirs}`, {
          input: `${lines.join('\n')}\n`,
        })
        await new Promise((resolve) => setTimeout(resolve, 700))
      }
      const count = (): number => Number(program.ok(`stream cat compacted -b ${theirs} | wc -l`))
      for (let second = 0; second < 45 && count() >= 2400; second++) {
        await new Promise((resolve) => setTimeout(resolve, 1000))
      }
      const left = count()
      assert.ok(left < 2400, 'the cleaner has not come')
      program.ok(`stream mirror ${theirs} --topics compacted`)
      verify('compacted', `${theirs}/compacted`)
      return `${left} of 2400 records left`
    })
  } finally {
    await broker.stop()
  }
}
