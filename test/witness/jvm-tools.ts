/** Kafka's console tools against our Kafka door: what they print is what must be so. */

import { assertSameLines, assertThat, type Checks } from './jvm-checks.ts'
import { envelopeLines, inOrder, linesOf } from './jvm-records.ts'
import { daemonAddresses, type Stage, textLines } from './jvm-stage.ts'

const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const

export async function checkTools({ kafka, program }: Stage, checks: Checks): Promise<void> {
  program.ok('stream daemon start --listen kafka://127.0.0.1:0')
  const address = daemonAddresses(program).kafka
  const at = ['--bootstrap-server', address]

  await checks.check('BrokerApiVersionsCommand lists what we serve', () => {
    const lines = linesOf(kafka.ok('BrokerApiVersionsCommand', at))
    assertThat(lines[0]?.startsWith(`${address} (id: `) === true, `first line: ${lines[0]}`)
    const usable = lines.filter((line) => line.includes('[usable: '))
    for (const api of [
      'Produce(0)',
      'Fetch(1)',
      'ListOffsets(2)',
      'Metadata(3)',
      'ApiVersions(18)',
      'CreateTopics(19)',
      'InitProducerId(22)',
      'DescribeConfigs(32)',
      'IncrementalAlterConfigs(44)',
    ])
      assertThat(
        usable.some((line) => line.trim().startsWith(`${api}: `)),
        `${api} is not usable`,
      )
    const unknown = lines.filter((line) => /UNKNOWN/.test(line))
    assertThat(unknown.length === 0, `listed, but not known to Kafka: ${unknown.join('; ')}`)
    return `${usable.length} APIs usable`
  })

  await checks.check('TopicCommand --create, --list, --describe', () => {
    const created = kafka.ok('TopicCommand', [
      ...at,
      '--create',
      '--topic',
      'tools',
      '--partitions',
      '3',
      '--replication-factor',
      '1',
      '--config',
      'segment.bytes=1048576',
    ])
    assertThat(created.includes('Created topic tools.'), created)
    assertSameLines(
      linesOf(program.ok('stream topics list')).map((line) => line.split('\t')[0] ?? ''),
      ['tools'],
      'stream topics list',
    )
    assertThat(kafka.ok('TopicCommand', [...at, '--list']).trim() === 'tools', 'list')
    const described = linesOf(kafka.ok('TopicCommand', [...at, '--describe', '--topic', 'tools']))
    assertThat(
      /^Topic: tools\tTopicId: [\w-]{22}\tPartitionCount: 3\tReplicationFactor: 1\tConfigs: segment.bytes=1048576$/.test(
        described[0] ?? '',
      ),
      `${described[0]}`,
    )
    assertThat(described.length === 4, `${described.length} lines`)
    described.slice(1).forEach((line, partition) => {
      assertThat(
        line.startsWith(`\tTopic: tools\tPartition: ${partition}\tLeader: 1\tReplicas: 1\tIsr: 1`),
        line,
      )
    })
    return described[0] ?? ''
  })

  await checks.check('TopicCommand --create of a topic that exists is refused', () => {
    const again = kafka.run('TopicCommand', [...at, '--create', '--topic', 'tools'])
    assertThat(again.status !== 0, 'it was created again')
    assertThat(
      /TopicExistsException/.test(again.stdout + again.stderr),
      again.stdout + again.stderr,
    )
    return 'TopicExistsException'
  })

  await checks.check('TopicCommand --alter --partitions', () => {
    kafka.ok('TopicCommand', [...at, '--alter', '--topic', 'tools', '--partitions', '4'])
    const described = kafka.ok('TopicCommand', [...at, '--describe', '--topic', 'tools'])
    assertThat(described.includes('PartitionCount: 4'), described)
    return 'PartitionCount: 4'
  })

  await checks.check('ConfigCommand --describe --all, --alter of a topic', () => {
    const entity = ['--entity-type', 'topics', '--entity-name', 'tools']
    const all = kafka.ok('kafka.admin.ConfigCommand', [...at, ...entity, '--describe', '--all'])
    const values = new Map(
      linesOf(all)
        .filter((line) => line.startsWith('  '))
        .map((line) => {
          const [name = '', value = ''] = (line.trim().split(' ')[0] ?? '').split('=')
          return [name, value] as const
        }),
    )
    for (const [name, value] of [
      ['cleanup.policy', 'delete'],
      ['compression.type', 'producer'],
      ['index.interval.bytes', '4096'],
      ['max.message.bytes', '1048588'],
      ['message.timestamp.type', 'CreateTime'],
      ['retention.ms', '604800000'],
      ['segment.bytes', '1048576'],
      ['unclean.leader.election.enable', 'false'],
    ] as const)
      assertThat(values.get(name) === value, `${name}=${values.get(name)}, not ${value}`)
    assertThat(
      all.includes('DYNAMIC_TOPIC_CONFIG:segment.bytes=1048576'),
      'the synonym of segment.bytes',
    )
    kafka.ok('kafka.admin.ConfigCommand', [
      ...at,
      ...entity,
      '--alter',
      '--add-config',
      'retention.ms=1234567,max.message.bytes=2000000',
      '--delete-config',
      'segment.bytes',
    ])
    const dynamic = linesOf(kafka.ok('kafka.admin.ConfigCommand', [...at, ...entity, '--describe']))
      .slice(1)
      .map((line) => line.trim().split(' ')[0] ?? '')
      .sort()
    assertSameLines(
      dynamic,
      ['max.message.bytes=2000000', 'retention.ms=1234567'],
      'dynamic configs',
    )
    const refused = kafka.run('kafka.admin.ConfigCommand', [
      ...at,
      ...entity,
      '--alter',
      '--add-config',
      'retention.ms=often',
    ])
    assertThat(refused.status !== 0, 'retention.ms=often was taken')
    assertThat(
      /InvalidConfigurationException|InvalidRequestException/.test(refused.stdout + refused.stderr),
      refused.stderr,
    )
    return `${values.size} configs; altered: ${dynamic.join(' ')}; a bad value refused`
  })

  await checks.check('ConfigCommand --describe of the broker', () => {
    const all = kafka.ok('kafka.admin.ConfigCommand', [
      ...at,
      '--entity-type',
      'brokers',
      '--entity-name',
      '1',
      '--describe',
      '--all',
    ])
    for (const name of ['log.retention.ms', 'num.partitions', 'log.segment.bytes'])
      assertThat(all.includes(`  ${name}=`), `${name} is missing`)
    return `${linesOf(all).length - 1} configs`
  })

  for (const codec of codecs) {
    await checks.check(`ConsoleProducer (idempotent, ${codec}) → stream cat`, () => {
      const topic = `theirs-${codec}`
      program.ok(`stream topics create ${topic} --partitions 2`)
      const pairs = textLines(2000, `through ${codec}`)
      kafka.ok(
        'ConsoleProducer',
        [
          ...at,
          '--topic',
          topic,
          '--compression-codec',
          codec,
          '--property',
          'parse.key=true',
          '--property',
          'parse.headers=true',
        ],
        pairs
          .map((value, index) => `n:${index},codec:${codec}\tkey ${index % 37}\t${value}\n`)
          .join(''),
      )
      const envelopes = envelopeLines(program.ok(`stream cat ${topic} --json`))
      const seen = envelopes.map((line) => line.split('\t').slice(3).join('\t')).sort()
      const encode = (text: string) => Buffer.from(text).toString('base64')
      const sent = pairs
        .map(
          (value, index) =>
            `${encode(`key ${index % 37}`)}\t${encode(value)}\t${encode('n')}=${encode(`${index}`)},${encode('codec')}=${encode(codec)}`,
        )
        .sort()
      assertSameLines(seen, sent, topic)
      assertThat(
        new Set(envelopes.map((line) => line.split('\t')[0])).size === 2,
        'both partitions',
      )
      return `${seen.length} records with keys and headers`
    })

    await checks.check(
      `stream produce -z ${codec} → ConsoleConsumer by partition and offset`,
      () => {
        const topic = `ours-${codec}`
        program.ok(`stream topics create ${topic}`)
        const values = textLines(3000, `in ${codec}`)
        program.ok(
          `stream produce ${topic} -z ${codec} -K '\\t' -H codec=${codec} -H empty= --batch-size 16KiB --ts @1700000000123`,
          {
            input: values.map((value, index) => `key ${index}\t${value}\n`).join(''),
          },
        )
        const first = 5
        const printed = kafka.ok('consumer.ConsoleConsumer', [
          ...at,
          '--topic',
          topic,
          '--partition',
          '0',
          '--offset',
          `${first}`,
          '--max-messages',
          `${values.length - first}`,
          '--timeout-ms',
          '20000',
          ...['timestamp', 'offset', 'headers', 'key'].flatMap((each) => [
            '--property',
            `print.${each}=true`,
          ]),
        ])
        assertSameLines(
          linesOf(printed),
          values
            .map(
              (value, index) =>
                `CreateTime:1700000000123\tOffset:${index}\tcodec:${codec},empty:\tkey ${index}\t${value}`,
            )
            .slice(first),
          topic,
        )
        return `${values.length - first} records`
      },
    )
  }

  await checks.check('every record shape → Kafka consumer, record by record', () => {
    program.ok('stream topics create shapes --partitions 2')
    program.ok('stream produce shapes --json --keep-partition', { input: shapes() })
    const ours = envelopeLines(program.ok('stream cat shapes --json'))
    const theirs = linesOf(kafka.ok('Witness', ['read', address, 'shapes', 'read_committed']))
    assertThat(theirs.length === 6, `${theirs.length} records`)
    assertSameLines(inOrder(ours), inOrder(theirs), 'shapes')
    return `${theirs.length} records: null and empty keys and values, bytes that are no text, equal header names`
  })

  await checks.check("Kafka's producer in every codec and shape → stream cat", () => {
    program.ok('stream topics create filled --partitions 2')
    kafka.ok('Witness', ['fill', address, 'filled'])
    const ours = envelopeLines(program.ok('stream cat filled --json'))
    const theirs = linesOf(kafka.ok('Witness', ['read', address, 'filled', 'read_committed']))
    assertThat(ours.length === 2000, `${ours.length} records`)
    assertSameLines(inOrder(ours), inOrder(theirs), 'filled')
    return `${ours.length} records equal`
  })

  await checks.check('ConsoleConsumer --offset latest starts at the end', () => {
    const printed = kafka.run('consumer.ConsoleConsumer', [
      ...at,
      '--topic',
      'ours-none',
      '--partition',
      '0',
      '--offset',
      'latest',
      '--timeout-ms',
      '1500',
    ])
    // Its time-out is logged there too.
    assertThat(!/^line \d/m.test(printed.stdout), printed.stdout.slice(0, 500))
    assertThat(printed.stderr.includes('Processed a total of 0 messages'), printed.stderr)
    return 'nothing printed'
  })

  await checks.check('ProducerPerformance', () => {
    program.ok('stream topics create performance --partitions 2')
    const printed = kafka.ok('ProducerPerformance', [
      '--topic',
      'performance',
      '--num-records',
      '100000',
      '--record-size',
      '200',
      '--throughput',
      '-1',
      '--producer-props',
      `bootstrap.servers=${address}`,
      'acks=all',
      'compression.type=lz4',
    ])
    const last = linesOf(printed).at(-1) ?? ''
    assertThat(last.startsWith('100000 records sent'), printed)
    const count = linesOf(program.ok('stream cat performance')).length
    assertThat(count === 100_000, `${count} records are there`)
    return last
  })

  await checks.check('GetOffsetShell: latest, earliest, by time, largest timestamp', () => {
    const offsets = (topic: string, time: string) =>
      linesOf(kafka.ok('GetOffsetShell', [...at, '--topic', topic, '--time', time])).sort()
    const ends = offsets('performance', '-1').map((line) => Number(line.split(':')[2]))
    assertThat(ends.length === 2 && ends.reduce((sum, end) => sum + end, 0) === 100_000, `${ends}`)
    assertSameLines(
      offsets('performance', '-2'),
      ['performance:0:0', 'performance:1:0'],
      'earliest',
    )
    program.ok('stream topics create timed')
    program.ok('stream produce timed --json', {
      input: [1_700_000_000_000, 1_700_000_002_000, 1_700_000_001_000]
        .map((ts) => `${JSON.stringify({ value: `${ts}`, ts })}\n`)
        .join(''),
    })
    assertSameLines(offsets('timed', '1700000000500'), ['timed:0:1'], 'by time')
    assertSameLines(offsets('timed', 'max-timestamp'), ['timed:0:1'], 'largest timestamp')
    assertSameLines(offsets('timed', 'latest'), ['timed:0:3'], 'latest')
    return `ends ${ends.join(' and ')}; by time 1; largest timestamp 1`
  })

  await checks.check('DeleteRecordsCommand', () => {
    const path = program.path('delete.json')
    program.ok(
      `echo '{"version":1,"partitions":[{"topic":"ours-none","partition":0,"offset":1000}]}' > ${path}`,
    )
    const printed = kafka.ok('DeleteRecordsCommand', [...at, '--offset-json-file', path])
    assertThat(/ours-none-0\s+low_watermark: 1000/.test(printed), printed)
    const first = JSON.parse(program.ok('stream cat ours-none --json -n 1')) as { offset: number }
    assertThat(first.offset === 1000, `first offset ${first.offset}`)
    return 'low_watermark: 1000'
  })

  await checks.check('LogDirsCommand --describe', () => {
    const printed =
      linesOf(kafka.ok('LogDirsCommand', [...at, '--describe', '--topic-list', 'ours-none'])).at(
        -1,
      ) ?? ''
    const answer = JSON.parse(printed) as {
      brokers: {
        logDirs: { error: string | null; partitions: { partition: string; size: number }[] }[]
      }[]
    }
    const partition = answer.brokers[0]?.logDirs[0]?.partitions[0]
    assertThat(partition?.partition === 'ours-none-0' && partition.size > 0, printed)
    return `ours-none-0: ${partition.size} bytes`
  })

  await checks.check('TopicCommand --delete', () => {
    kafka.ok('TopicCommand', [...at, '--delete', '--topic', 'tools'])
    const names = linesOf(kafka.ok('TopicCommand', [...at, '--list']))
    assertThat(!names.includes('tools') && names.includes('timed'), names.join(' '))
    const gone = kafka.run('TopicCommand', [...at, '--describe', '--topic', 'tools'])
    assertThat(gone.status !== 0 && /does not exist/.test(gone.stdout + gone.stderr), gone.stdout)
    return 'gone from the list; describe says it does not exist'
  })
}

function shapes(): string {
  return [
    { partition: 0, key: null, value: null, ts: 1_700_000_000_001 },
    { partition: 0, key: '', value: '', ts: 1_700_000_000_000 },
    { partition: 1, key: 'k', value: { b64: 'AAEC/w0K' }, headers: [['h', { b64: '/wA=' }]] },
    {
      partition: 1,
      key: { b64: '/////w==' },
      value: 'ü €\n',
      headers: [
        ['same', '1'],
        ['same', null],
        ['', ''],
      ],
    },
    { partition: 0, key: 'k', value: null, ts: 5, headers: [['größe', 'ß']] },
    { partition: 1, value: 'x'.repeat(300_000), ts: 1_700_000_000_002 },
  ]
    .map((each) => `${JSON.stringify(each)}\n`)
    .join('')
}
