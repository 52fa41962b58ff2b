/**
 * A librdkafka that speaks the newer group protocol (confluent-kafka for Python, fetched once by pip into .cache/) against
 * our Kafka door. Its own callbacks say what each member was given and gave back.
 */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from '../support/program.ts'
import { assertSameLines, assertThat, type Checks } from './jvm-checks.ts'
import { daemonAddresses, type Stage } from './jvm-stage.ts'

const PACKAGE = 'confluent-kafka==2.16.1'
const PARTITIONS = 6
const PER_PARTITION = 500

interface Said {
  readonly values: readonly string[]
  readonly events: readonly (readonly [
    member: number,
    what: string,
    partitions: readonly number[],
  ])[]
  readonly twice: readonly unknown[]
}

export async function checkLibrdkafka({ program }: Stage, checks: Checks): Promise<void> {
  const python = preparePython()
  program.ok(
    'stream daemon start --listen kafka://127.0.0.1:0 -X group.consumer.heartbeat.interval.ms=500',
  )
  const { kafka: address } = daemonAddresses(program)
  program.ok(`stream topics create rd --partitions ${PARTITIONS}`)
  const total = PARTITIONS * PER_PARTITION
  const run = (members: number, count: number): Said => {
    const script = join(import.meta.dirname, 'librdkafka.py')
    const result = spawnSync(python, [script, address, 'rd', 'rd', `${members}`, `${count}`], {
      encoding: 'utf8',
      timeout: 120_000,
      killSignal: 'SIGKILL',
    })
    if (result.status !== 0) throw new Error(`${result.status}: ${result.stderr.slice(-3000)}`)
    return JSON.parse(result.stdout) as Said
  }
  const fill = (from: number): string[] => {
    for (let partition = 0; partition < PARTITIONS; partition += 1) {
      const first = from + partition * PER_PARTITION
      program.ok(`seq ${first} ${first + PER_PARTITION - 1} | stream produce rd -p ${partition}`)
    }
    return Array.from({ length: total }, (_, index) => `${from + index}`)
  }

  await checks.check('three members come and go, no partition has two of them', () => {
    const wanted = fill(1)
    const { values, events, twice } = run(3, total)
    assertThat(twice.length === 0, `given twice: ${JSON.stringify(twice)}`)
    assertSameLines([...values].sort(byNumber), wanted, 'what they read')
    const given = events.filter(([, what, { length }]) => what === 'assigned' && length > 0)
    for (const member of [0, 1, 2]) {
      assertThat(
        given.some(([each]) => each === member),
        `member ${member} got nothing`,
      )
    }
    const lag = program.ok('stream groups lag rd | cut -f 3').trim()
    assertThat(lag === '0', `lag ${lag}`)
    return `${values.length} values once each, ${given.length} assignments, lag 0`
  })

  await checks.check('the next run goes on where the group has come to', () => {
    const wanted = fill(100_001)
    const { values } = run(1, total)
    assertSameLines([...values].sort(byNumber), wanted, 'what it read')
    return `${values.length} values`
  })

  await checks.check('a seek in between is where it goes on', () => {
    program.ok('stream groups seek rd --to -10 -y')
    const { values } = run(1, PARTITIONS * 10)
    assertThat(values.length === PARTITIONS * 10, `${values.length} values`)
    return `${values.length} values again`
  })
}

/** @returns the interpreter that has the package */
function preparePython(): string {
  const directory = join(repository, '.cache', 'witness', 'python')
  const python = join(directory, 'bin', 'python')
  const probe = ['-c', 'import confluent_kafka']
  if (existsSync(python) && spawnSync(python, probe).status === 0) return python
  for (const [command, args] of [
    ['python3', ['-m', 'venv', directory]],
    [python, ['-m', 'pip', 'install', '-q', PACKAGE]],
  ] as const) {
    const result = spawnSync(command, args, { encoding: 'utf8', timeout: 300_000 })
    if (result.status !== 0) throw new Error(`${command} ${args.join(' ')}\n${result.stderr}`)
  }
  return python
}

function byNumber(left: string, right: string): number {
  return Number(left) - Number(right)
}
