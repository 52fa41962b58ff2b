/**
 * Three of our daemons while their leaders move: kcat and Kafka's console tools write and read through it. A daemon is killed,
 * one is told to stop, and leaders are elected back, all while a pipe is under way.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { ProcessCluster } from '../support/cluster.ts'
import { ended } from '../support/program.ts'
import type { Checks } from './jvm-checks.ts'
import type { Stage } from './jvm-stage.ts'

const LINES = 1500
const PARTITIONS = 3
/** Lines come so slowly that every move falls into the middle of them. */
const PAUSE_S = 0.012

export async function checkLeaders({ kafka }: Stage, checks: Checks): Promise<void> {
  const cluster = await ProcessCluster.start({ config: ['broker.session.timeout.ms=3000'] })
  const bootstrap = cluster.kafkaAddresses.replace('kafka://', '')
  const environment = { STREAM_BROKER: cluster.addresses }
  const ok = (line: string): string => cluster.program.ok(line, { environment })
  const isWhole = (topic: string): boolean =>
    ok(`stream topics describe ${topic} -o tsv`)
      .trim()
      .split('\n')
      .every((line) => line.split('\t')[5]?.split(',').length === 3)

  /** @param command  reads the numbered lines on its standard input */
  const produceWhileMoving = async (topic: string, command: readonly string[]): Promise<string> => {
    ok(`stream topics create ${topic} -r 3 --partitions ${PARTITIONS} --set min.insync.replicas=2`)
    const words = command.map((word) => `'${word}'`).join(' ')
    const line = `for i in $(seq ${LINES}); do echo $i; sleep ${PAUSE_S}; done | ${words}`
    const child = spawn('bash', ['-o', 'pipefail', '-c', line], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const said = heard(child)
    await pause(6000)
    await moveLeaders(topic)
    const status = await ended(child)
    assert.equal(status, 0, said())
    const found = ok(`stream cat ${topic}`).trim().split('\n').map(Number)
    const missing = Array.from({ length: LINES }, (_, index) => index + 1).filter(
      (each) => !found.includes(each),
    )
    assert.deepEqual(missing, [])
    return `${found.length - LINES} of ${LINES} lines twice`
  }

  const moveLeaders = async (topic: string): Promise<void> => {
    const [first, second] = cluster.daemons
    if (first === undefined || second === undefined) throw new Error('three daemons')
    await cluster.end(first)
    await pause(5000)
    cluster.run(first)
    await cluster.until(() => isWhole(topic), 'the killed one is back')
    assert.equal(await cluster.end(second, 'SIGTERM'), 0)
    cluster.run(second)
    await cluster.until(() => isWhole(topic), 'the stopped one is back')
    ok('stream cluster elect -y')
  }

  try {
    await checks.check('kcat -P while leaders move: nothing is missing', () =>
      produceWhileMoving('kcat', ['kcat', '-P', '-b', bootstrap, '-t', 'kcat', '-X', 'acks=all']),
    )
    await checks.check('kafka-console-producer while leaders move: nothing is missing', () =>
      produceWhileMoving('console', [
        'java',
        ...kafka.command('ConsoleProducer', [
          ...['--bootstrap-server', bootstrap, '--topic', 'console'],
          ...[
            '--producer-property',
            'acks=all',
            '--producer-property',
            'delivery.timeout.ms=60000',
          ],
        ]),
      ]),
    )
    await checks.check(
      'kcat -C and kafka-console-consumer read on while leaders move',
      async () => {
        ok('stream topics create read -r 3 --set min.insync.replicas=2')
        const kcat = spawn('kcat', [
          '-C',
          '-q',
          '-u',
          '-b',
          bootstrap,
          '-t',
          'read',
          '-o',
          'beginning',
        ])
        const console = kafka.spawnPiped('consumer.ConsoleConsumer', [
          ...['--bootstrap-server', bootstrap, '--topic', 'read', '--from-beginning'],
        ])
        const read = [kcat, console].map((child) => heard(child, 'stdout'))
        const producer = spawn(
          'bash',
          [
            '-c',
            `for i in $(seq ${LINES}); do echo $i; sleep ${PAUSE_S}; done | stream produce read`,
          ],
          { env: { ...cluster.program.environment, ...environment }, stdio: 'ignore' },
        )
        await pause(3000)
        await moveLeaders('read')
        assert.equal(await ended(producer), 0)
        const expected = Array.from({ length: LINES }, (_, index) => `${index + 1}\n`).join('')
        const limitMs = performance.now() + 60_000
        while (read.some((text) => text().length < expected.length)) {
          if (performance.now() > limitMs) break
          await pause(200)
        }
        for (const child of [kcat, console]) child.kill('SIGTERM')
        assert.equal(read[0]?.(), expected)
        assert.equal(read[1]?.(), expected)
        return `${LINES} lines each, in order, once`
      },
    )
  } finally {
    await cluster.stop()
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** What it has said so far. */
function heard(child: ChildProcess, stream: 'stdout' | 'stderr' = 'stderr'): () => string {
  let said = ''
  child[stream]?.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  return () => said
}
