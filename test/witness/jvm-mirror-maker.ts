/** MirrorMaker 2 from our Kafka door to a real Kafka broker, and from the broker to our door: records, offsets of groups, no errors. */
import assert from 'node:assert/strict'
import { startKafkaDoor } from '../support/kafka-door.ts'
import { eventually } from '../support/program.ts'
import { assertSameLines, type Checks } from './jvm-checks.ts'
import { type Kafka, KafkaBroker } from './jvm-kafka.ts'
import { linesOf } from './jvm-records.ts'
import type { Stage } from './jvm-stage.ts'
import { MirrorMaker } from './mirror-maker.ts'

const WAIT_MS = 120_000
/**
 * Its warnings are told. `Could not alter configuration of topic …` is among them in every run, against Kafka too: it says so of
 * every config that it has altered, and prints an exception, which is an error here, only where there was one.
 */
const javaFlags = ['-Xmx512m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Dlog4j2.level=WARN']

interface Side {
  /** host:port of its Kafka door. */
  readonly address: string
  readonly name: string
}

export async function checkMirrorMaker(stage: Stage, checks: Checks): Promise<void> {
  const { kafka, program } = stage
  const broker = await KafkaBroker.start(kafka, program.path('kafka'))
  try {
    const { address } = await startKafkaDoor(program, 'door', [])
    const ours = { name: 'our door', address }
    const theirs = { name: 'Kafka', address: broker.address }
    await checkRun(stage, checks, 'mm', ours, theirs)
    await checkRun(stage, checks, 'back', theirs, ours)
    await checkRun(stage, checks, 'once', theirs, ours, [
      'dedicated.mode.enable.internal.rest = true',
      'listeners = http://127.0.0.1:0',
      'target.exactly.once.source.support = enabled',
    ])
  } finally {
    await broker.stop()
  }
}

async function checkRun(
  { kafka, program }: Stage,
  checks: Checks,
  prefix: string,
  source: Side,
  target: Side,
  more: readonly string[] = [],
): Promise<void> {
  const at = {
    environment: { S: `kafka://${source.address}`, T: `kafka://${target.address}` },
    timeoutMs: WAIT_MS,
  }
  const [filled, lines] = [`${prefix}.filled`, `${prefix}.lines`]
  const topics = [filled, lines]
  program.ok(
    `stream topics create ${topics.join(' ')} --partitions 2 --set retention.ms=987654321 -b $S; seq 30000 | stream produce ${lines} -b $S; seq 200 | stream produce ${lines} --atomic -b $S`,
    at,
  )
  kafka.ok('Witness', ['fill', source.address, filled])
  program.ok(
    `stream consume ${lines} -g ${prefix}-group --from start -n 9000 -b $S > /dev/null`,
    at,
  )
  const maker = new MirrorMaker(kafka.withJavaFlags(javaFlags), program.path(`mm2-${prefix}`), {
    source: source.address,
    target: target.address,
    topics: `${prefix}\\..*`,
    more,
  })
  const count = (topic: string): number =>
    Number(program.shell(`stream cat ${topic} --json -b $T | wc -l`, at).stdout)
  const title = `${source.name} → ${target.name}${more.length > 0 ? ', exactly once' : ''}`
  try {
    await checks.check(`${title}: all records, by partition`, async () => {
      await eventually(
        'all records',
        () => {
          assert.ok(!maker.hasEnded, maker.said().slice(-3000))
          return (
            (count(`source.${filled}`) === 2000 && count(`source.${lines}`) === 30200) || undefined
          )
        },
        WAIT_MS,
      )
      for (const topic of topics) {
        const read = (side: Side, name: string) => contentOf(kafka, side, name)
        assertSameLines(read(target, `source.${topic}`), read(source, topic), topic)
      }
      return '32200 records with keys, headers, times'
    })
    await checks.check(`${title}: what comes later`, async () => {
      program.ok(`seq 5000 | stream produce ${lines} -b $S`, at)
      await eventually('it comes', () => count(`source.${lines}`) === 35_200 || undefined, WAIT_MS)
      return '5000 more'
    })
    await checks.check(`${title}: offsets of a group, configs, its own topics`, async () => {
      const config = program.ok(`stream topics describe source.${lines} --config -b $T`, at)
      assert.match(config, /retention.ms\t987654321/)
      const committed = (): string =>
        program.shell(`stream groups describe ${prefix}-group -o tsv -b $T | cut -f2-4`, at).stdout
      await eventually(
        'the group',
        () => committed().includes(`source.${lines}`) || undefined,
        WAIT_MS,
      )
      const own = program.ok(
        'stream topics list --internal -b $T; stream topics list --internal -b $S',
        at,
      )
      for (const name of [
        'heartbeats',
        'source.checkpoints.internal',
        'mm2-offset-syncs.target.internal',
      ]) {
        assert.ok(own.includes(name), `${name} is not in ${own}`)
      }
      return committed().trim().replaceAll('\t', ' ').replaceAll('\n', ', ')
    })
    await checks.check(`${title}: a config that changes`, async () => {
      program.ok(`stream topics alter ${lines} --set retention.ms=777777777 -b $S`, at)
      await eventually(
        'it comes',
        () => {
          const { stdout } = program.shell(
            `stream topics describe source.${lines} --config -b $T`,
            at,
          )
          return /retention.ms\t777777777/.test(stdout) || undefined
        },
        WAIT_MS,
      )
      return 'retention.ms 777777777'
    })
    await checks.check(`${title}: no error in its log`, () => {
      assert.ok(!maker.hasEnded)
      const errors = maker
        .said()
        .split('\n')
        .filter((line) => /\bERROR\b|Exception/.test(line))
        // Before 4.0 it calls its own start so, and tries again until the groups are loaded; they came, above.
        .filter(
          (line) => !kafka.isBefore4 || !/loading consumer groups|MirrorCheckpoint/.test(line),
        )
      assert.deepEqual(errors, [])
      const warnings = new Set(
        maker
          .said()
          .split('\n')
          .flatMap((line) => / WARN +(.{0,90})/.exec(line)?.[1] ?? []),
      )
      return `${warnings.size} kinds of warnings: ${[...warnings].join(' | ')}`
    })
  } finally {
    await maker.stop()
  }
}

/** All but offsets: markers and what was aborted take none of them at the target. */
function contentOf(kafka: Kafka, side: Side, topic: string): string[] {
  const printed = kafka.ok('Witness', ['read', side.address, topic, 'read_committed'])
  const rows = linesOf(printed).map((line) => line.split('\t'))
  const byPartition = rows.toSorted(
    (a, b) => Number(a[0]) - Number(b[0]) || Number(a[1]) - Number(b[1]),
  )
  return byPartition.map(([partition, , ...rest]) => [partition, ...rest].join('\t'))
}
