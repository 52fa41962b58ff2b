/**
 * Links from a real Kafka broker, and from the Kafka door of a daemon of ours: the same batches at the same offsets, only to the last
 * stable offset; offsets of groups, configs, log start; restarts and kills of either side; promotion; TLS and logins.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LEADER_EPOCH_AT } from '../../src/record/batch-layout.ts'
import { KafkaCertificates } from '../support/kafka-certificates.ts'
import { startKafkaDoor } from '../support/kafka-door.ts'
import { ended, eventually, type Program } from '../support/program.ts'
import { assertSameLines, type Checks } from './jvm-checks.ts'
import { KafkaBroker } from './jvm-kafka.ts'
import { envelopeLines, inOrder, linesOf, segmentsOf, visitBatches } from './jvm-records.ts'
import { contextOf, PASSWORD, startSecureBroker, unsecuredToken } from './jvm-security.ts'
import { daemonAddresses, gone, type Stage } from './jvm-stage.ts'

const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const
const WAIT_MS = 120_000

const brokerSettings = (): string =>
  [
    'log.retention.check.interval.ms=500',
    'log.segment.delete.delay.ms=500',
    'log.cleaner.backoff.ms=500',
    'log.initial.task.delay.ms=500',
  ].join('\n')

/** What of a side's files is compared. */
interface Batches {
  readonly lines: readonly string[]
  readonly first: number
}

/** Every batch: offsets, length, and all its bytes but the leader epoch, which is each log's own. */
function batchesOf(directory: string): Batches {
  const lines: string[] = []
  let first = -1
  for (const path of segmentsOf(directory)) {
    const bytes = readFileSync(path)
    visitBatches(bytes, ({ header, position }) => {
      const batch = Buffer.from(bytes.subarray(position, position + header.batchBytes))
      batch.fill(0, LEADER_EPOCH_AT, LEADER_EPOCH_AT + 4)
      const hash = createHash('sha256').update(batch).digest('hex').slice(0, 16)
      if (first < 0) first = header.baseOffset
      lines.push(`${header.baseOffset}–${header.lastOffset}, ${header.batchBytes} bytes, ${hash}`)
    })
  }
  return { lines, first }
}

/** The files of both sides from where the mirror begins. @returns how many batches */
function assertSameBatches(theirs: string, ours: string, what: string): number {
  const [source, here] = [batchesOf(theirs), batchesOf(ours)]
  const from = source.lines.indexOf(here.lines[0] ?? '')
  const wanted = from < 0 ? source.lines : source.lines.slice(from)
  assertSameLines(here.lines, wanted, what)
  return here.lines.length
}

class Scene {
  readonly program: Program
  readonly broker: KafkaBroker
  readonly theirs: string
  readonly #kafka: Stage['kafka']

  constructor({ program, kafka }: Stage, broker: KafkaBroker) {
    this.program = program
    this.#kafka = kafka
    this.broker = broker
    this.theirs = `kafka://${broker.address}`
  }

  ok(line: string): string {
    return this.program.ok(line, { environment: { S: this.theirs }, timeoutMs: WAIT_MS })
  }

  witness(...words: readonly string[]): string {
    const [verb = '', ...rest] = words
    return this.#kafka.ok('Witness', [verb, this.broker.address, ...rest])
  }

  caughtUp(name = 'kafka'): void {
    this.ok(`stream mirror lag ${name} --wait-until 0 --timeout 60s`)
  }

  /** @returns batches over all partitions */
  same(topic: string, partitions: number): number {
    const { data } = daemonAddresses(this.program)
    let batches = 0
    for (let index = 0; index < partitions; index += 1) {
      const name = `${topic}-${index}`
      batches += assertSameBatches(join(this.broker.logDirectory, name), join(data, name), name)
    }
    return batches
  }

  async until(what: string, line: string, isSo: (output: string) => boolean): Promise<string> {
    return eventually(
      what,
      () => {
        const { stdout } = this.program.shell(line, { environment: { S: this.theirs } })
        return isSo(stdout) ? stdout || '\n' : undefined
      },
      60_000,
    )
  }
}

export async function checkLinks(stage: Stage, checks: Checks): Promise<void> {
  const { kafka, program } = stage
  const more = { settings: brokerSettings, format: [] }
  const broker = await KafkaBroker.start(kafka, program.path('kafka'), undefined, more)
  const scene = new Scene(stage, broker)
  try {
    // What is compacted here would not be the source's bytes any more.
    program.ok('STREAM_CONF_LOG_CLEANER_THREADS=0 stream daemon start')
    await checkBatches(scene, checks)
    await checkTransactions(scene, stage, checks)
    await checkSettings(scene, checks)
    await checkTroubles(scene, checks)
    await checkPromotion(scene, checks)
  } finally {
    await broker.stop()
  }
  await checkOwnDoor(stage, checks)
  await checkProtected(stage, checks)
}

async function checkBatches(scene: Scene, checks: Checks): Promise<void> {
  await checks.check('all codecs and shapes: the same bytes at the same offsets', () => {
    scene.ok('stream topics create filled --partitions 2 -b $S')
    scene.witness('fill', 'filled')
    for (const codec of codecs) {
      scene.ok(
        `stream topics create p-${codec} b-${codec} --partitions 2 -b $S; stream topics alter b-${codec} --set compression.type=${codec === 'none' ? 'uncompressed' : codec} -b $S; seq 20000 | stream produce p-${codec} -z ${codec} -b $S; seq 20000 | stream produce b-${codec} -z gzip -b $S`,
      )
    }
    scene.ok(
      'stream topics create stamped --set message.timestamp.type=LogAppendTime -b $S; seq 5000 | stream produce stamped -b $S',
    )
    scene.ok("stream mirror link kafka --source $S --topics '*' --sync configs,groups")
    scene.caughtUp()
    let batches = scene.same('filled', 2) + scene.same('stamped', 1)
    for (const codec of codecs) batches += scene.same(`p-${codec}`, 2) + scene.same(`b-${codec}`, 2)
    const ours = envelopeLines(scene.ok('stream cat filled --json'))
    assertSameLines(
      inOrder(ours),
      inOrder(linesOf(scene.witness('read', 'filled', 'read_committed'))),
      'filled',
    )
    return `${batches} batches of 12 topics`
  })
  await checks.check('what comes later, topics and partitions too', async () => {
    scene.ok(
      'seq 3000 | stream produce p-zstd -z zstd -b $S; stream topics create later --partitions 1 -b $S; seq 500 | stream produce later -b $S; stream topics alter stamped --partitions 3 -b $S',
    )
    await scene.until('the new topic', 'stream cat later', (text) => text === scene.ok('seq 500'))
    await scene.until('the new partitions', 'stream topics describe stamped', (text) =>
      /\n.*\n.*\n/.test(text),
    )
    scene.ok('seq 999 | stream produce stamped -b $S')
    scene.caughtUp()
    return `${scene.same('p-zstd', 2) + scene.same('later', 1) + scene.same('stamped', 3)} batches`
  })
  await checks.check('a compacted topic with gaps', async () => {
    // Cleaned before it is mirrored: what Kafka cleans later differs, since each side cleans its own log.
    scene.ok('stream mirror pause kafka')
    scene.ok(
      'stream topics create compacted --compact --set segment.ms=500 --set min.cleanable.dirty.ratio=0.001 --set max.compaction.lag.ms=500 -b $S',
    )
    for (let round = 0; round < 6; round++) {
      const lines = [...Array(300).keys()].map((at) => `k${(at * 7) % 61}\tv ${round} ${at}`)
      writeFileSync(scene.program.path('lines'), `${lines.join('\n')}\n`)
      const how = round % 2 === 0 ? '-z lz4' : '--atomic -z none'
      scene.ok(String.raw`stream produce compacted -K '\t' ${how} -b $S < lines; sleep 0.7`)
    }
    const directory = join(scene.broker.logDirectory, 'compacted-0')
    let before = ''
    await eventually(
      'the cleaner has done its work',
      () => {
        scene.ok('sleep 2')
        const now = batchesOf(directory).lines.join('\n')
        const isDone =
          now === before && Number(scene.ok('stream cat compacted -b $S | wc -l')) < 900
        before = now
        return isDone || undefined
      },
      60_000,
    )
    scene.ok('stream mirror resume kafka')
    scene.ok('until stream mirror status kafka | grep -q compacted; do sleep .2; done')
    scene.caughtUp()
    const rows = scene.ok('stream cat compacted | wc -l').trim()
    const batches = scene.same('compacted', 1)
    scene.ok('stream verify compacted $S/compacted --offsets')
    return `${rows} of 1800 records left at Kafka, ${batches} batches`
  })
}

async function checkTransactions(
  scene: Scene,
  { kafka, program }: Stage,
  checks: Checks,
): Promise<void> {
  await checks.check('committed and aborted transactions', () => {
    scene.ok('stream topics create transactions --partitions 2 -b $S')
    scene.witness('transactions', 'transactions')
    scene.ok('until stream mirror status kafka | grep -q transactions; do sleep .2; done')
    scene.caughtUp()
    const batches = scene.same('transactions', 2)
    for (const [isolation, flag] of [
      ['read_committed', ''],
      ['read_uncommitted', '--uncommitted'],
    ] as const) {
      const ours = envelopeLines(scene.ok(`stream cat transactions --json ${flag}`))
      const theirs = linesOf(scene.witness('read', 'transactions', isolation))
      assertSameLines(inOrder(ours), inOrder(theirs), isolation)
    }
    return `${batches} batches, markers among them`
  })
  await checks.check('an open transaction: only to the last stable offset', async () => {
    scene.ok('stream topics create open -b $S; seq 10 | stream produce open -b $S')
    const words = ['open', scene.broker.address, 'open', program.path('go')]
    const child = program.start('java', kafka.command('Witness', words))
    let said = ''
    child.stdout?.on('data', (text) => {
      said += text
    })
    await eventually('the transaction is open', () => said.includes('open') || undefined, 30_000)
    scene.ok('seq 11 15 | stream produce open -b $S')
    scene.ok('until stream mirror status kafka | grep -q open; do sleep .2; done')
    scene.caughtUp()
    // The open part and what lies behind it are at Kafka, and not here, not even for those who read all.
    assert.equal(scene.ok('stream cat open --uncommitted -b $S | wc -l').trim(), '35')
    assert.equal(scene.ok('stream cat open --uncommitted | wc -l').trim(), '10')
    writeFileSync(program.path('go'), '')
    await ended(child)
    await scene.until('it is all here', 'stream cat open | wc -l', (text) => text.trim() === '35')
    scene.caughtUp()
    return `10 records, then 35; ${scene.same('open', 1)} batches`
  })
}

async function checkSettings(scene: Scene, checks: Checks): Promise<void> {
  await checks.check('offsets of groups', async () => {
    scene.ok('stream consume p-none -g nightly --from start -n 7000 -b $S > read')
    scene.ok('stream consume later -g etl --from start --until-end -b $S > /dev/null')
    const own = '-o tsv | cut -f1-4 | sort'
    const wanted = scene.ok(`stream groups describe nightly etl -b $S ${own}`)
    await scene.until('they are here', `stream groups describe nightly etl ${own}`, (text) => {
      return text === wanted
    })
    return wanted.trim().replaceAll('\t', ' ').replaceAll('\n', ', ')
  })
  await checks.check('configs, as they are and as they change', async () => {
    const config = (name: string, at = ''): string =>
      scene.ok(`stream topics describe ${name} --config ${at} | grep topic$ || true`)
    assert.match(config('stamped'), /message.timestamp.type\tLogAppendTime/)
    scene.ok(
      'stream topics alter p-gzip --set retention.ms=123456789 --set max.message.bytes=2000000 -b $S',
    )
    await scene.until('they come', 'stream topics describe p-gzip --config', (text) =>
      /retention.ms\t123456789\ttopic/.test(text),
    )
    const seen = config('p-gzip')
    scene.ok('stream topics alter p-gzip --unset retention.ms -b $S')
    await scene.until(
      'they go',
      'stream topics describe p-gzip --config',
      (text) => text !== '' && !/retention.ms\t123456789/.test(text),
    )
    return seen.trim().replaceAll('\t', ' ').replaceAll('\n', ', ')
  })
  await checks.check('a log start that moves: DeleteRecords, retention', async () => {
    // What has no key may all have gone to the other partition.
    scene.ok('seq 6000 | stream produce p-lz4 -p 0 -z lz4 -b $S')
    scene.ok('stream topics trim p-lz4 --to 5000 -p 0 -y -b $S')
    const describe = (topic: string, at = '') => `stream topics describe ${topic} -o tsv ${at}`
    const starts = `cut -f7`
    const wanted = scene.ok(`${describe('p-lz4', '-b $S')} | ${starts}`)
    assert.match(wanted, /^5000$/m)
    await scene.until('it moves', `${describe('p-lz4')} | ${starts}`, (text) => text === wanted)
    // The log of Kafka begins anew: what is here goes, and what comes is at its place.
    scene.ok(
      'stream topics create short --set segment.ms=1000 -b $S; seq 4000 | stream produce short -b $S',
    )
    await scene.until('it is here', 'stream cat short | wc -l', (text) => text.trim() === '4000')
    scene.ok('stream topics alter short --set retention.ms=1000 -b $S')
    await scene.until('Kafka lets it go', `${describe('short', '-b $S')} | ${starts}`, (text) => {
      return text.trim() === '4000'
    })
    scene.ok(
      'stream topics alter short --unset retention.ms -b $S; seq 50 | stream produce short -b $S',
    )
    await scene.until('and here', `${describe('short')} | ${starts}`, (text) => {
      return text.trim() === '4000'
    })
    scene.caughtUp()
    assert.equal(scene.ok('stream cat short --json | head -1 | jq .offset').trim(), '4000')
    return `starts ${wanted.trim().replaceAll('\n', ', ')}; 4000 after retention`
  })
  await checks.check('a topic of which the front is gone before it is mirrored', async () => {
    scene.ok('stream mirror pause kafka')
    scene.ok(
      'stream topics create cut -b $S; seq 9000 | stream produce cut -b $S; stream topics trim cut --to 8123 -y -b $S',
    )
    scene.ok('stream mirror resume kafka')
    await scene.until('it is here', 'stream cat cut | wc -l', (text) => text.trim() === '877')
    assert.equal(scene.ok('stream cat cut --json | head -1 | jq .offset').trim(), '8123')
    return `${scene.same('cut', 1)} batches from 8123 on`
  })
}

async function checkTroubles(scene: Scene, checks: Checks): Promise<void> {
  const { program } = scene
  await checks.check('it is read-only here', () => {
    const outcome = program.shell('echo x | stream produce p-none')
    assert.equal(outcome.status, 6, outcome.stderr)
    return outcome.stderr.trim()
  })
  await checks.check('Kafka is restarted: its leader epochs rise, the link goes on', async () => {
    await scene.broker.stop()
    await scene.until('it is told', 'stream mirror status kafka', (text) => /retrying/.test(text))
    await scene.broker.startAgain()
    scene.ok('seq 2000 | stream produce p-none -z none -b $S')
    scene.caughtUp()
    return `${scene.same('p-none', 2)} batches`
  })
  await checks.check('kill -9 of our daemon again and again, under load', async () => {
    scene.ok('stream topics create load --partitions 2 -b $S')
    const writer = program.start('bash', [
      '-c',
      `while [ ! -e over ]; do seq 30000 | stream produce load -z snappy -b ${scene.theirs}; seq 2000 | stream produce load --atomic -b ${scene.theirs}; done`,
    ])
    const finished = ended(writer)
    for (let round = 0; round < 6; round += 1) {
      await new Promise((resolve) => setTimeout(resolve, 700 + round * 300))
      const pid = program.daemonPid()
      process.kill(pid, 'SIGKILL')
      await gone(pid)
      program.ok('STREAM_CONF_LOG_CLEANER_THREADS=0 stream daemon start')
    }
    writeFileSync(program.path('over'), '')
    assert.equal(await finished, 0)
    scene.caughtUp()
    return `6 kills, ${scene.same('load', 2)} batches`
  })
  await checks.check(
    'a topic deleted and made again at Kafka: told, and nothing lost here',
    async () => {
      scene.ok('stream topics delete later -y -b $S; stream topics create later -b $S')
      const said = await scene.until(
        'it is told',
        'stream mirror status kafka --topics later',
        (text) => /made again|no such topic/.test(text),
      )
      assert.equal(scene.ok('stream cat later').length, scene.ok('seq 500').length)
      return said.trim().replaceAll('\t', ' ')
    },
  )
}

async function checkPromotion(scene: Scene, checks: Checks): Promise<void> {
  await checks.check('promote: writable, producers of ours are nobody else’s, verify clean', () => {
    const topics = '--topics p-none --topics transactions --topics load'
    const said = scene.ok(`stream mirror promote kafka ${topics} --when-caught-up -y --timeout 60s`)
    scene.ok(
      'for i in 1 2 3; do seq 100 | stream produce p-none; done; seq 100 | stream produce transactions --atomic',
    )
    scene.ok(`stream mirror verify kafka ${topics}`)
    return `${said.trim().split('\n').length} partitions`
  })
  await checks.check('a group goes on here where it was at Kafka', () => {
    const rest = scene.ok('stream consume p-none -g nightly --until-end | wc -l').trim()
    // 22000 of Kafka and 300 of ours, of which 7000 were read there.
    assert.equal(rest, '15300')
    return `${rest} records were left`
  })
  await checks.check('verify of what is still mirrored, and unlink', () => {
    scene.ok(
      'stream mirror verify kafka --topics filled --topics stamped --topics open --topics cut',
    )
    scene.ok('stream mirror unlink kafka -y --timeout 60s; echo x | stream produce filled')
    assert.equal(scene.ok('stream mirror status'), '')
    return 'clean; filled is writable'
  })
}

async function checkOwnDoor({ program }: Stage, checks: Checks): Promise<void> {
  await checks.check('from the Kafka door of another daemon of ours', async () => {
    const door = await startKafkaDoor(program, 'other', [])
    const at = { environment: { S: `kafka://${door.address}`, N: door.native }, timeoutMs: WAIT_MS }
    try {
      program.ok(
        'stream topics create door --partitions 2 --retention 9d -b $N; seq 20000 | stream produce door -b $N; seq 500 | stream produce door --atomic -z zstd -b $N; stream consume door -g g --from start -n 700 -b $N > /dev/null',
        at,
      )
      program.ok("stream mirror link door --source $S --topics 'door*' --sync groups,configs", at)
      program.ok('stream mirror lag door --wait-until 0 --timeout 60s', at)
      const { data } = daemonAddresses(program)
      let batches = 0
      for (const name of ['door-0', 'door-1']) {
        batches += assertSameBatches(program.path('data-other', name), join(data, name), name)
      }
      const describe = 'stream groups describe g -o tsv | cut -f1-4 | sort'
      const wanted = program.ok(describe.replace('g -o', 'g -b $N -o'), at)
      await eventually('the group', () => program.shell(describe).stdout === wanted || undefined)
      program.ok('stream mirror promote door --when-caught-up -y --timeout 60s', at)
      program.ok('stream mirror verify door; stream mirror unlink door -y --timeout 60s', at)
      return `${batches} batches, a group, promoted, verified`
    } finally {
      door.process.kill('SIGTERM')
      await ended(door.process)
    }
  })
}

export async function checkProtected(stage: Stage, checks: Checks): Promise<void> {
  const { program } = stage
  const certificates = new KafkaCertificates(program.directory)
  writeFileSync(program.path('pw'), PASSWORD, { mode: 0o600 })
  writeFileSync(program.path('wrong'), 'wr0ng', { mode: 0o600 })
  const { broker, doors } = await startSecureBroker(stage, certificates)
  const ca = { 'ssl.ca.location': certificates.ca }
  const client = certificates.issue('client')
  const login = { ...ca, 'sasl.username': 'etl' }
  const S = `kafka://${doors.plain}`
  const run = (line: string) => program.ok(line, { environment: { S }, timeoutMs: WAIT_MS })
  const follows = (name: string, topic: string): void => {
    run(`stream mirror link ${name} --source @${name} --topics ${topic}`)
    run(`stream mirror lag ${name} --wait-until 0 --timeout 60s; stream mirror verify ${name}`)
  }
  const makeTopic = (topic: string): void => {
    run(`stream topics create ${topic} -b $S; seq 3000 | stream produce ${topic} -b $S`)
  }
  try {
    for (const mechanism of ['PLAIN', 'SCRAM-SHA-512'] as const) {
      await checks.check(`a link over TLS with ${mechanism}`, async () => {
        const name = mechanism.toLowerCase()
        const options = { ...login, 'sasl.mechanism': mechanism }
        contextOf(program, name, doors.saslSsl, options, { 'sasl.password': 'pw' })
        makeTopic(name)
        follows(name, name)
        // Kafka wants a new login every two seconds.
        await new Promise((resolve) => setTimeout(resolve, 4500))
        run(
          `seq 100 | stream produce ${name} -b $S; stream mirror lag ${name} --wait-until 0 --timeout 30s`,
        )
        return `${run(`stream cat ${name} | wc -l`).trim()} records, the login renewed`
      })
    }
    await checks.check(
      'a link over TLS with OAUTHBEARER: renewed, expired, exchanged',
      async () => {
        const token = program.path('token')
        writeFileSync(token, unsecuredToken(3600), { mode: 0o600 })
        const secret = { 'sasl.oauthbearer.token': 'token' }
        contextOf(
          program,
          'bearer',
          doors.saslSsl,
          { ...ca, 'security.protocol': 'SASL_SSL' },
          secret,
        )
        makeTopic('bearer')
        follows('bearer', 'bearer')
        // Kafka wants a new login every two seconds, and gets one with the token that the file has then.
        await new Promise((resolve) => setTimeout(resolve, 4500))
        const level = 'stream mirror lag bearer --wait-until 0 --timeout 60s'
        run(`seq 100 | stream produce bearer -b $S; ${level}`)
        writeFileSync(token, unsecuredToken(-3600))
        const said = await eventually(
          'it is told',
          () => /does not accept the token[^\t\n]*/.exec(run('stream mirror status bearer'))?.[0],
          30_000,
        )
        writeFileSync(token, unsecuredToken(3600))
        run(`seq 100 | stream produce bearer -b $S; ${level}; stream mirror verify bearer`)
        return `${run('stream cat bearer | wc -l').trim()} records; meanwhile: ${said}`
      },
    )
    await checks.check('a link over TLS with a certificate', () => {
      const files = {
        'ssl.certificate.location': client.certificate,
        'ssl.key.location': client.key,
      }
      contextOf(program, 'cert', doors.ssl, { ...ca, ...files })
      makeTopic('cert')
      follows('cert', 'cert')
      return `${run('stream cat cert | wc -l').trim()} records`
    })
    await checks.check('a wrong password, a wrong authority: 6, one line, no secret', () => {
      const options = { ...login, 'sasl.mechanism': 'SCRAM-SHA-512' }
      contextOf(program, 'bad', doors.saslSsl, options, { 'sasl.password': 'wrong' })
      contextOf(
        program,
        'worse',
        doors.saslSsl,
        { ...options, 'ssl.ca.location': certificates.otherCa },
        { 'sasl.password': 'pw' },
      )
      const said = ['bad', 'worse'].map((name) => {
        const outcome = program.shell(`stream mirror link ${name} --source @${name} --topics x`)
        const words = outcome.stderr.trim()
        assert.equal(outcome.status, 6, words)
        assert.equal(words.split('\n').length, 1)
        assert.ok(!words.includes(PASSWORD) && !words.includes('wr0ng'))
        return words.replace(/127\.0\.0\.1:\d+/g, 'broker')
      })
      const log = program.path('state', 'stream', 'daemon.log')
      assert.ok(!existsSync(log) || !readFileSync(log, 'utf8').includes(PASSWORD))
      return said.join(' | ')
    })
  } finally {
    for (const name of ['plain', 'scram-sha-512', 'bearer', 'cert']) {
      program.shell(`stream mirror unlink ${name} -y --timeout 30s`)
    }
    await broker.stop()
  }
}
