/**
 * A Kafka source whose leader was elected uncleanly: offsets are cut back there, and get other records. What a link has of them is
 * kept and the link says that the two differ; what it has not reached goes on as if nothing had been.
 */
import assert from 'node:assert/strict'
import { eventually } from '../support/program.ts'
import type { Checks } from './jvm-checks.ts'
import { KafkaBrokers } from './jvm-kafka.ts'
import type { Stage } from './jvm-stage.ts'

const WAIT_MS = 120_000
/** The one that falls behind and is elected, and the one that has more; the first is the controller, and stays. */
const [BEHIND, AHEAD] = [2, 3]

const settings = [
  'unclean.leader.election.enable=true',
  'min.insync.replicas=1',
  'replica.lag.time.max.ms=3000',
  'broker.session.timeout.ms=3000',
  'broker.heartbeat.interval.ms=500',
  'unclean.leader.election.interval.ms=500',
]

export async function checkUnclean({ kafka, program }: Stage, checks: Checks): Promise<void> {
  const racks = ['a', 'b', 'c']
  const brokers = await KafkaBrokers.start(kafka, program.path('kafka'), racks, settings)
  const environment = { S: brokers.address }
  const ok = (line: string): string => program.ok(line, { environment, timeoutMs: WAIT_MS })
  const shell = (line: string) => program.shell(line, { environment, timeoutMs: WAIT_MS })
  const until = (what: string, line: string, words: RegExp): Promise<string> =>
    eventually(
      what,
      () => {
        const { stdout } = shell(line)
        return words.test(stdout) ? stdout.trim().replaceAll('\t', ' ') : undefined
      },
      60_000,
    )
  const level = (name: string): void => {
    ok(`stream mirror lag ${name} --wait-until 0 --timeout 60s`)
  }
  const make = (topic: string): void => {
    const at = ['--bootstrap-server', brokers.addressOf(1), '--create', '--topic', topic]
    kafka.ok('TopicCommand', [...at, '--replica-assignment', `${AHEAD}:${BEHIND}`])
    ok(`seq 1000 | stream produce ${topic} -b $S`)
  }
  try {
    program.ok('stream daemon start')
    for (const topic of ['cut', 'short', 'other']) make(topic)
    ok(
      'stream mirror link all --source $S --topics cut --topics other; stream mirror link short --source $S --topics short',
    )
    for (const name of ['all', 'short']) level(name)
    // Of this one nothing more is mirrored before it is cut back.
    ok('stream mirror pause short')
    await checks.check('unclean election: told, kept here, other topics go on', async () => {
      await brokers.kill(BEHIND)
      const isr = new RegExp(`Isr: ${AHEAD}\\b(?!,)`)
      await eventually(
        'it is out of sync',
        () => {
          const at = ['--bootstrap-server', brokers.addressOf(1), '--describe']
          return ['cut', 'short'].every((topic) =>
            isr.test(kafka.run('TopicCommand', [...at, '--topic', topic]).stdout),
          )
            ? true
            : undefined
        },
        60_000,
      )
      for (const topic of ['cut', 'short'])
        ok(`seq 1001 2000 | stream produce ${topic} -b $S --batch-size 1KiB`)
      level('all')
      await brokers.kill(AHEAD)
      await brokers.startAgain(BEHIND)
      for (const topic of ['cut', 'short'])
        ok(`seq 5001 5500 | stream produce ${topic} -b $S --delivery-timeout 60s`)
      const said = await until('it is told', 'stream mirror status all --topics cut', /diverged/)
      assert.match(said, /cut back to offset 1000/)
      assert.equal(ok('stream cat cut'), ok('seq 2000'))
      ok('seq 1001 1100 | stream produce other -b $S --delivery-timeout 60s')
      await until('the other topic goes on', 'stream cat other | wc -l', /^1100$/m)
      return said
    })
    await checks.check('what had not come when it was cut back: the same as there', () => {
      ok('stream mirror resume short')
      level('short')
      assert.equal(ok('stream cat short'), ok('seq 1000; seq 5001 5500'))
      ok('stream verify short $S/short --offsets')
      return '1500 records, no difference'
    })
    await checks.check('who was ahead comes back, and gives up its own: still told', async () => {
      await brokers.startAgain(AHEAD)
      ok('seq 3000 | stream produce cut -b $S --delivery-timeout 60s')
      // The source is past what is here by now, and it is still not the same.
      assert.ok(Number(ok('stream cat cut -b $S | wc -l')) > 2000)
      const said = await until('it is told', 'stream mirror status all --topics cut', /diverged/)
      const { status, stderr } = shell(
        'stream mirror promote all --topics cut --when-caught-up -y --timeout 3s',
      )
      assert.equal(status, 7, stderr)
      assert.equal(ok('stream cat cut'), ok('seq 2000'))
      return `${said}; ${stderr.trim()}`
    })
    await checks.check('verify finds the difference; promoted it is writable', () => {
      const compared = shell('stream mirror verify all --topics cut')
      assert.equal(compared.status, 1, compared.stderr)
      ok('stream mirror promote all --topics cut -y --timeout 60s; echo own | stream produce cut')
      assert.equal(ok('stream cat cut | tail -1'), 'own\n')
      return compared.stderr.trim().split('\n')[0] ?? compared.stdout.trim()
    })
  } finally {
    await brokers.stop()
  }
}
