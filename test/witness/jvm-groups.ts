/**
 * Kafka's console consumer and group tool against our Kafka door, in groups of either protocol: members share the
 * partitions, what they committed is where the next one goes on, and the tool lists, describes, resets and deletes.
 */

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventually } from '../support/program.ts'
import { assertSameLines, assertThat, type Checks } from './jvm-checks.ts'
import type { Kafka } from './jvm-kafka.ts'
import { linesOf } from './jvm-records.ts'
import { daemonAddresses, type Stage } from './jvm-stage.ts'

const protocols = ['classic', 'consumer'] as const
const PARTITIONS = 4
const PER_PARTITION = 250

export async function checkGroups(stage: Stage, checks: Checks): Promise<void> {
  stage.program.ok(
    'stream daemon start --listen kafka://127.0.0.1:0 -X group.consumer.heartbeat.interval.ms=500',
  )
  const { kafka: address, data } = daemonAddresses(stage.program)
  for (const protocol of protocols) await checkProtocol(stage, checks, { protocol, address })
  await checkChange(stage, checks, address)
  await checkMigration(stage, checks, { address, data })
}

interface Wish {
  readonly protocol: (typeof protocols)[number]
  readonly address: string
}

async function checkProtocol(
  { kafka, program }: Stage,
  checks: Checks,
  { protocol, address }: Wish,
): Promise<void> {
  const topic = `in-${protocol}`
  const group = `java-${protocol}`
  const at = ['--bootstrap-server', address]
  const tool = 'consumer.group.ConsumerGroupCommand'
  const consumer = (count: number): string[] => [
    ...at,
    '--topic',
    topic,
    '--group',
    group,
    '--from-beginning',
    '--consumer-property',
    `group.protocol=${protocol}`,
    '--max-messages',
    `${count}`,
    '--timeout-ms',
    '40000',
  ]
  const fill = (from: number): string[] => {
    const all: string[] = []
    for (let partition = 0; partition < PARTITIONS; partition += 1) {
      const first = from + partition * PER_PARTITION
      program.ok(
        `seq ${first} ${first + PER_PARTITION - 1} | stream produce ${topic} -p ${partition}`,
      )
      for (let n = first; n < first + PER_PARTITION; n += 1) all.push(`${n}`)
    }
    return all
  }
  program.ok(`stream topics create ${topic} --partitions ${PARTITIONS}`)
  const first = fill(1)

  await checks.check(`${protocol}: ConsoleConsumer reads in a group and commits`, () => {
    const printed = linesOf(kafka.ok('consumer.ConsoleConsumer', consumer(first.length)))
    assertSameLines(printed.sort(byNumber), first, 'what it read')
    const lag = program.ok(`stream groups lag ${group} | cut -f 1-3`).trim()
    assertThat(lag === `${group}\t${topic}\t0`, lag)
    return `${printed.length} lines, lag 0`
  })

  await checks.check(
    `${protocol}: two ConsoleConsumers share the partitions and go on`,
    async () => {
      const logs = [1, 2].map((index) => program.path(`${group}-${index}.out`))
      const members = logs.map((log) =>
        kafka.spawn('consumer.ConsoleConsumer', consumer(first.length / 2), log),
      )
      await eventually(
        'both have partitions',
        () => {
          const rows = linesOf(program.shell(`stream groups describe ${group} --members`).stdout)
          const counts = rows.map((row) => row.split('\t')[5])
          return counts.length === 2 && counts.every((count) => count === '2') ? true : undefined
        },
        40_000,
      )
      const state = program.ok(`stream groups list ${group} | cut -f 2,3`).trim()
      assertThat(state === 'Stable\t2', state)
      const described = kafka.ok(tool, [...at, '--describe', '--group', group, '--members'])
      assertThat(
        linesOf(described).filter((line) => line.startsWith(group)).length === 2,
        described,
      )
      const refused = kafka.run(tool, [...at, '--delete', '--group', group])
      assertThat(/GroupNotEmptyException/.test(refused.stdout + refused.stderr), refused.stderr)
      const second = fill(10_001)
      await Promise.all(members.map((member) => once(member, 'exit')))
      const printed = logs.flatMap((log) =>
        linesOf(readFileSync(log, 'utf8')).filter((line) => /^\d+$/.test(line)),
      )
      assertSameLines(printed.sort(byNumber), second, 'what both read')
      return 'two members with two partitions each, every line once'
    },
  )

  await checks.check(`${protocol}: ConsumerGroupCommand --list, --describe`, () => {
    const listed = kafka.ok(tool, [...at, '--list', '--type', protocol])
    const pattern = new RegExp(`^${group}\\s+${protocol}\\s*$`, 'im')
    assertThat(pattern.test(listed), listed)
    const state = kafka.ok(tool, [...at, '--describe', '--group', group, '--state'])
    assertThat(/\bEmpty\b/.test(state), state)
    const rows = linesOf(kafka.ok(tool, [...at, '--describe', '--group', group])).filter((line) =>
      line.startsWith(group),
    )
    assertThat(rows.length === PARTITIONS, rows.join('\n'))
    for (const row of rows) {
      const [, name, , current, end, lag] = row.split(/\s+/)
      const isDone = name === topic && current === end && lag === '0'
      assertThat(isDone && current === `${2 * PER_PARTITION}`, row)
    }
    return `${rows.length} partitions, LAG 0`
  })

  await checks.check(
    `${protocol}: ConsumerGroupCommand --reset-offsets, --delete-offsets, --delete`,
    () => {
      const reset = kafka.ok(tool, [
        ...at,
        '--reset-offsets',
        '--group',
        group,
        '--topic',
        topic,
        '--shift-by',
        '-10',
        '--execute',
      ])
      assertThat(
        // Before 4.0 a line may go on behind its blanks.
        (reset.match(new RegExp(`\\b${group} `, 'g')) ?? []).length === PARTITIONS,
        reset,
      )
      const lag = program.ok(`stream groups lag ${group} | cut -f 3`).trim()
      assertThat(lag === `${PARTITIONS * 10}`, `lag ${lag}`)
      const again = linesOf(kafka.ok('consumer.ConsoleConsumer', consumer(PARTITIONS * 10)))
      assertThat(new Set(again).size === PARTITIONS * 10, again.join(' '))
      kafka.ok(tool, [...at, '--delete-offsets', '--group', group, '--topic', `${topic}:0`])
      const left = linesOf(program.ok(`stream groups describe ${group}`)).filter(
        (line) => line.split('\t')[3] !== '-',
      )
      assertThat(left.length === PARTITIONS - 1, left.join('\n'))
      const deleted = kafka.ok(tool, [...at, '--delete', '--group', group])
      assertThat(/was successful/.test(deleted), deleted)
      assertThat(program.shell(`stream groups describe ${group}`).status === 3, 'it is still there')
      return `back by ${PARTITIONS * 10} records, read again, deleted`
    },
  )
}

/** From the classic protocol to the newer one and back, with the offsets. */
async function checkChange(
  { kafka, program }: Stage,
  checks: Checks,
  address: string,
): Promise<void> {
  await checks.check(
    'a group changes its protocol while it is empty, and keeps its offsets',
    () => {
      program.ok('stream topics create change')
      const read = (protocol: string): string[] => {
        program.ok('seq 100 | stream produce change')
        return linesOf(
          kafka.ok('consumer.ConsoleConsumer', [
            '--bootstrap-server',
            address,
            '--topic',
            'change',
            '--group',
            'change',
            '--from-beginning',
            '--consumer-property',
            `group.protocol=${protocol}`,
            '--max-messages',
            '100',
            '--timeout-ms',
            '40000',
          ]),
        )
      }
      for (const protocol of ['classic', 'consumer', 'classic']) {
        const printed = read(protocol)
        assertThat(printed.length === 100 && printed[0] === '1', `${protocol}: ${printed.length}`)
      }
      const lag = program.ok('stream groups lag change | cut -f 3').trim()
      assertThat(lag === '0', `lag ${lag}`)
      return 'classic, consumer, classic: 100 lines each, lag 0'
    },
  )
}

/** As an application is rolled over to the newer protocol, and back: members of both are in the group meanwhile. */
async function checkMigration(
  { kafka, program }: Stage,
  checks: Checks,
  { address, data }: { readonly address: string; readonly data: string },
): Promise<void> {
  await checks.check(
    'members of both protocols are in one group, which goes over and back, and each line is read once',
    async () => {
      program.ok(`stream topics create over --partitions ${PARTITIONS}`)
      const logs: string[] = []
      const start = (protocol: Wish['protocol']): ChildProcess => {
        const log = program.path(`over-${logs.length}.out`)
        logs.push(log)
        const words = ['--topic', 'over', '--group', 'over', '--from-beginning']
        const property = ['--consumer-property', `group.protocol=${protocol}`]
        const at = ['--bootstrap-server', address]
        return kafka.spawn('consumer.ConsoleConsumer', [...at, ...words, ...property], log)
      }
      const end = async (member: ChildProcess): Promise<void> => {
        member.kill('SIGTERM')
        await once(member, 'exit')
      }
      const shared = (members: number): Promise<unknown> =>
        eventually(
          `${members} members share it`,
          () => {
            const rows = linesOf(program.shell('stream groups describe over --members').stdout)
            const counts = rows.map((row) => row.split('\t')[5])
            const share = `${PARTITIONS / members}`
            const isEven = counts.length === members && counts.every((count) => count === share)
            return isEven ? true : undefined
          },
          40_000,
        )
      let next = 1
      const wanted: string[] = []
      const fill = async (): Promise<void> => {
        for (let partition = 0; partition < PARTITIONS; partition += 1) {
          program.ok(`seq ${next} ${next + 99} | stream produce over -p ${partition}`)
          for (let last = next + 100; next < last; next += 1) wanted.push(`${next}`)
        }
        await eventually(
          'all is read',
          () => (printed().length >= wanted.length ? true : undefined),
          40_000,
        )
      }
      const printed = (): string[] =>
        logs.flatMap((log) =>
          linesOf(readFileSync(log, 'utf8')).filter((line) => /^\d+$/.test(line)),
        )
      const assertType = (protocol: Wish['protocol']): void => {
        const list = ['--bootstrap-server', address, '--list', '--type', protocol]
        const listed = linesOf(kafka.ok('consumer.group.ConsumerGroupCommand', list))
        assertThat(
          listed.some((line) => line.startsWith('over')),
          `it is not of the type ${protocol}: ${listed.join('\n')}`,
        )
      }

      const classic = start('classic')
      await shared(1)
      await fill()
      assertType('classic')
      const consumer = start('consumer')
      await shared(2)
      await fill()
      assertType('consumer')
      assertClassicMetadata(kafka, data)
      await end(classic)
      await shared(1)
      await fill()
      const again = start('classic')
      await shared(2)
      await fill()
      assertType('consumer')
      await end(consumer)
      await shared(1)
      await fill()
      assertType('classic')
      await end(again)
      assertSameLines(printed().sort(byNumber), wanted, 'what all read')
      const lag = program.ok('stream groups lag over | cut -f 3').trim()
      assertThat(lag === '0', `lag ${lag}`)
      return `${wanted.length} lines once each, lag 0`
    },
  )
}

/** Kafka's decoder finds what a classic member has said in the record that keeps it. */
function assertClassicMetadata(kafka: Kafka, data: string): void {
  const directories = readdirSync(data).filter((name) => name.startsWith('__consumer_offsets-'))
  const files = directories.flatMap((name) =>
    readdirSync(join(data, name))
      .filter((file) => file.endsWith('.log'))
      .map((file) => join(data, name, file)),
  )
  const words = ['--offsets-decoder', '--files', files.join(',')]
  const dumped = kafka.ok('kafka.tools.DumpLogSegments', words)
  const pattern =
    /"classicMemberMetadata":\{"sessionTimeoutMs":45000,"supportedProtocols":\[\{"name":"range","metadata":"[^"]+"/
  const lines = linesOf(dumped).filter((line) => line.includes('"over"'))
  assertThat(
    lines.some((line) => pattern.test(line)),
    lines.join('\n').slice(-3000),
  )
}

function byNumber(left: string, right: string): number {
  return Number(left) - Number(right)
}
