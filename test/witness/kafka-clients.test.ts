/**
 * Programs nobody here wrote speak to the Kafka door: kcat and Debian's Python client (librdkafka), kafkajs,
 * @platformatic/kafka. Each test asserts what the witness read. A witness that is not installed is left out, by name.
 */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ended, eventually, hasProgram, Program } from '../support/program.ts'

const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const
let program: Program
let address: string

beforeAll(() => {
  program = new Program()
  program.ok(
    'stream daemon start --listen kafka://127.0.0.1:0 -X auto.create.topics.enable=true -X num.partitions=4',
  )
  const addresses = (
    JSON.parse(program.ok('stream daemon status --json')) as { addresses: string[] }
  ).addresses
  address = addresses.find((each) => each.startsWith('kafka://'))?.slice('kafka://'.length) ?? ''
  program.ok(`seq 1 5000 | sed 's/$/ some text that compresses well enough/' > lines`)
})
afterAll(() => program?.stop())

describe.runIf(hasProgram('kcat'))('kcat', () => {
  for (const codec of codecs) {
    it(`${codec}: what kcat produced our consumer reads, and kcat reads back`, () => {
      program.ok(`stream topics create kcat-${codec}`)
      const flag = codec === 'none' ? '' : `-z ${codec}`
      const said = program.shell(
        `kcat -b ${address} -P -t kcat-${codec} ${flag} -d feature,msg < lines`,
      )
      expect(said.status, said.stderr.slice(-2000)).toBe(0)
      expect(said.stderr).not.toMatch(/not compressing/i)
      expect(program.shell(`stream cat kcat-${codec} | cmp - lines`).status).toBe(0)
      expect(
        program.shell(`kcat -b ${address} -C -t kcat-${codec} -o beginning -e -q | cmp - lines`)
          .status,
      ).toBe(0)
    })

    it(`${codec}: what our producer sent kcat reads`, () => {
      program.ok(
        `stream topics create ours-${codec}; stream produce ours-${codec} -z ${codec} < lines`,
      )
      expect(
        program.shell(`kcat -b ${address} -C -t ours-${codec} -o beginning -e -q | cmp - lines`)
          .status,
      ).toBe(0)
    })
  }

  it('keys, headers and times come across in both directions', () => {
    program.ok('stream topics create meta')
    program.ok(`printf 'k1:v1\\nk2:v2\\n' | kcat -b ${address} -P -t meta -K : -H a=1 -H b=`)
    program.ok(`printf 'k3\\tv3\\n' | stream produce meta -K '\\t' -H c=3 --ts @1700000000123`)
    expect(program.ok(`stream cat meta --json | jq -c '[.key,.value,.headers]'`)).toBe(
      '["k1","v1",[["a","1"],["b",""]]]\n["k2","v2",[["a","1"],["b",""]]]\n["k3","v3",[["c","3"]]]\n',
    )
    expect(program.ok(`kcat -b ${address} -C -t meta -o 2 -e -q -f '%k %s %h %T\\n'`)).toBe(
      'k3 v3 c=3 1700000000123\n',
    )
  })

  it('metadata lists brokers and topics; an unknown topic is made when the broker allows it', () => {
    program.ok(`echo hello | kcat -b ${address} -P -t made-by-kcat`)
    const listing = JSON.parse(program.ok(`kcat -b ${address} -L -J`)) as {
      topics: { topic: string; partitions: unknown[] }[]
    }
    expect(listing.topics.find((each) => each.topic === 'made-by-kcat')?.partitions).toHaveLength(4)
  })

  it('offsets are found by time', () => {
    program.ok(
      'stream topics create timed; for t in 1700000000000 1700000001000 1700000002000; do stream produce timed --value $t --ts @$t; done',
    )
    expect(program.ok(`kcat -b ${address} -Q -t timed:0:1700000000500`)).toContain('offset 1')
  })
})

describe.runIf(hasProgram('kcat'))('kcat -G', () => {
  it('reads in a group, commits, and the next one goes on there; our groups tell what it did', () => {
    program.ok(
      'stream topics create kcat-group --partitions 3; seq 100 | stream produce kcat-group',
    )
    const read = `timeout 6 kcat -b ${address} -G kcat-readers kcat-group -q -X auto.offset.reset=earliest`
    expect(program.shell(`${read} | sort -n | cmp - <(seq 100)`).stdout).toBe('')
    expect(program.ok('stream groups lag kcat-readers | cut -f1-3')).toBe(
      'kcat-readers\tkcat-group\t0\n',
    )
    program.ok('seq 101 105 | stream produce kcat-group')
    expect(program.shell(`${read} | sort -n`).stdout).toBe('101\n102\n103\n104\n105\n')
  }, 30_000)

  it('shares the partitions with our own member', async () => {
    program.ok('stream topics create mixed --partitions 4')
    program.shell(
      `timeout 12 kcat -b ${address} -G mixed mixed -q -X auto.offset.reset=earliest > mixed1 & timeout 12 stream consume mixed -g mixed --from start > mixed2 & sleep 6; for p in 0 1 2 3; do seq $((p*100+1)) $((p*100+100)) | stream produce mixed -p $p; done; wait`,
    )
    expect(program.ok('sort -n mixed1 mixed2 | cmp - <(seq 400); echo $?')).toBe('0\n')
    expect(Number(program.ok('wc -l < mixed1'))).toBe(200)
    expect(Number(program.ok('wc -l < mixed2'))).toBe(200)
  }, 30_000)
})

describe.runIf(spawnSync('/usr/bin/python3', ['-c', 'import confluent_kafka']).status === 0)(
  "Debian's Python client",
  () => {
    it('produces idempotently and reads back', () => {
      program.ok('stream topics create python')
      writeFileSync(
        program.path('client.py'),
        `
import sys
from confluent_kafka import Producer, Consumer, TopicPartition
failed = []
p = Producer({'bootstrap.servers': sys.argv[1], 'enable.idempotence': True, 'compression.type': 'zstd'})
for i in range(1000):
    p.produce('python', key=str(i), value='value %d' % i, partition=0, on_delivery=lambda e, m: failed.append(e) if e else None)
p.flush(20)
assert not failed, failed
c = Consumer({'bootstrap.servers': sys.argv[1], 'group.id': 'unused', 'auto.offset.reset': 'earliest', 'enable.partition.eof': False})
c.assign([TopicPartition('python', 0, 0)])
seen = []
while len(seen) < 1000:
    m = c.poll(10)
    assert m is not None, len(seen)
    if m.error(): continue  # this broker has no group coordinator, which assign does not need
    seen.append((m.key(), m.value()))
assert seen == [(str(i).encode(), b'value %d' % i) for i in range(1000)]
print('read', len(seen))
`,
      )
      expect(program.ok(`/usr/bin/python3 client.py ${address}`)).toBe('read 1000\n')
      expect(program.ok('stream cat python | tail -1')).toBe('value 999\n')
    })
  },
)

describe.runIf(spawnSync('/usr/bin/python3', ['-c', 'import confluent_kafka']).status === 0)(
  "Debian's Python client in a group",
  () => {
    it('reads, commits by hand, and goes on there', () => {
      program.ok('stream topics create pygroup --partitions 2; seq 50 | stream produce pygroup')
      writeFileSync(
        program.path('group.py'),
        `
import sys
from confluent_kafka import Consumer
def read(count):
    c = Consumer({'bootstrap.servers': sys.argv[1], 'group.id': 'py', 'auto.offset.reset': 'earliest', 'enable.auto.commit': False})
    c.subscribe(['pygroup'])
    seen = []
    while len(seen) < count:
        m = c.poll(10)
        assert m is not None, len(seen)
        assert not m.error(), m.error()
        seen.append(int(m.value()))
    c.commit(asynchronous=False)
    c.close()
    return seen
a = read(20); b = read(30)
assert sorted(a + b) == list(range(1, 51)), (a, b)
print('read', len(a), len(b))
`,
      )
      expect(program.ok(`/usr/bin/python3 group.py ${address}`)).toBe('read 20 30\n')
      expect(program.ok('stream groups lag py | cut -f3')).toBe('0\n')
    }, 60_000)
  },
)

describe('kafkajs', () => {
  it.runIf(hasProgram('kcat'))(
    'shares one group with kcat and with our own member: every record has one reader',
    async () => {
      const { AssignerProtocol, Kafka, logLevel } = await import('kafkajs')
      program.ok('stream topics create trio --partitions 6')
      // Who leads assigns for all: kafkajs speaks the range of the others here, in case it does.
      const range = ({
        cluster,
      }: {
        cluster: { findTopicPartitionMetadata(topic: string): unknown[] }
      }) => ({
        name: 'range',
        version: 0,
        protocol: ({ topics }: { topics: string[] }) => ({
          name: 'range',
          metadata: AssignerProtocol.MemberMetadata.encode({
            version: 0,
            topics,
            userData: Buffer.alloc(0),
          }),
        }),
        assign: async ({ members }: { members: { memberId: string }[] }) => {
          const count = cluster.findTopicPartitionMetadata('trio').length
          const names = members.map(({ memberId }) => memberId).sort()
          return names.map((memberId, index) => ({
            memberId,
            memberAssignment: AssignerProtocol.MemberAssignment.encode({
              version: 0,
              assignment: {
                trio: Array.from({ length: count }, (_, n) => n).filter(
                  (n) => n % names.length === index,
                ),
              },
              userData: Buffer.alloc(0),
            }),
          }))
        },
      })
      const kafka = new Kafka({ clientId: 'trio', brokers: [address], logLevel: logLevel.NOTHING })
      const consumer = kafka.consumer({
        groupId: 'trio',
        sessionTimeout: 10_000,
        heartbeatInterval: 500,
        partitionAssigners: [range],
      })
      const seen: string[] = []
      await consumer.connect()
      await consumer.subscribe({ topic: 'trio', fromBeginning: true })
      await consumer.run({
        eachMessage: async ({ message }) => {
          seen.push(String(message.value))
        },
      })
      // Not in this process: kafkajs has to beat meanwhile.
      const others = program.start('bash', [
        '-c',
        `timeout -s INT 12 kcat -b ${address} -G trio trio -q -X auto.offset.reset=earliest -X heartbeat.interval.ms=500 > trio1 & timeout -s INT 12 stream consume trio -g trio --from start > trio2 & sleep 6; stream groups describe trio --members | cut -f 6 | sort | uniq -c | tr -s ' ' > shares; for p in 0 1 2 3 4 5; do seq $((p*100+1)) $((p*100+100)) | stream produce trio -p $p; done; sleep 2; echo done > all; wait`,
      ])
      while (program.shell('test -e all').status !== 0) {
        await new Promise((resolve) => setTimeout(resolve, 200))
      }
      // Of three members each has two partitions.
      expect(program.ok('cat shares')).toBe(' 3 2\n')
      const shareOfKafkajs = [...seen]
      await consumer.disconnect()
      await ended(others)
      const read = ['trio1', 'trio2'].flatMap((name) =>
        program
          .ok(`cat ${name}`)
          .split('\n')
          .filter((line) => line !== ''),
      )
      expect(shareOfKafkajs.length).toBe(200)
      expect([...shareOfKafkajs, ...read].map(Number).sort((a, b) => a - b)).toEqual(
        Array.from({ length: 600 }, (_, n) => n + 1),
      )
    },
    60_000,
  )

  it('consumes in a group of two, commits, and administers groups', async () => {
    const { Kafka, logLevel } = await import('kafkajs')
    const kafka = new Kafka({
      clientId: 'kafkajs-group',
      brokers: [address],
      logLevel: logLevel.ERROR,
    })
    program.ok('stream topics create kjs-group --partitions 4; seq 200 | stream produce kjs-group')
    const seen: string[] = []
    const consumers = [1, 2].map(() => kafka.consumer({ groupId: 'kjs', sessionTimeout: 10_000 }))
    for (const consumer of consumers) {
      await consumer.connect()
      await consumer.subscribe({ topic: 'kjs-group', fromBeginning: true })
      await consumer.run({
        eachMessage: async ({ message }) => {
          seen.push(String(message.value))
        },
      })
    }
    const admin = kafka.admin()
    await admin.connect()
    for (let wait = 0; wait < 150 && seen.length < 200; wait += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    expect(seen.map(Number).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 200 }, (_, i) => i + 1),
    )
    const { groups } = await admin.describeGroups(['kjs'])
    expect(groups[0]).toMatchObject({ groupId: 'kjs', state: 'Stable', protocolType: 'consumer' })
    expect(groups[0]?.members).toHaveLength(2)
    expect((await admin.listGroups()).groups.map((each) => each.groupId)).toContain('kjs')
    await Promise.all(consumers.map((consumer) => consumer.disconnect()))
    const offsets = await admin.fetchOffsets({ groupId: 'kjs', topics: ['kjs-group'] })
    const committed = offsets[0]?.partitions.reduce(
      (sum, row) => sum + Math.max(0, Number(row.offset)),
      0,
    )
    expect(committed).toBe(200)
    await admin.setOffsets({
      groupId: 'kjs',
      topic: 'kjs-group',
      partitions: [{ partition: 0, offset: '1' }],
    })
    await admin.deleteGroups(['kjs'])
    expect((await admin.listGroups()).groups.map((each) => each.groupId)).not.toContain('kjs')
    await admin.disconnect()
  }, 60_000)

  it('makes a topic, produces with gzip, reads topic offsets, describes configs', async () => {
    const { Kafka, CompressionTypes, logLevel } = await import('kafkajs')
    const kafka = new Kafka({
      clientId: 'kafkajs-witness',
      brokers: [address],
      logLevel: logLevel.ERROR,
    })
    const admin = kafka.admin()
    await admin.connect()
    expect(await admin.createTopics({ topics: [{ topic: 'kafkajs', numPartitions: 2 }] })).toBe(
      true,
    )
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    await producer.send({
      topic: 'kafkajs',
      compression: CompressionTypes.GZIP,
      messages: [
        { key: 'a', value: 'one', headers: { h: 'x' }, partition: 0 },
        { key: null, value: null, partition: 1 },
      ],
    })
    await producer.disconnect()
    const offsets = await admin.fetchTopicOffsets('kafkajs')
    expect(offsets.map((each) => each.high).sort()).toEqual(['1', '1'])
    const configs = await admin.describeConfigs({
      includeSynonyms: true,
      resources: [{ type: 2, name: 'kafkajs' }],
    })
    expect(
      configs.resources[0]?.configEntries.find((each) => each.configName === 'cleanup.policy')
        ?.configValue,
    ).toBe('delete')
    await admin.deleteTopicRecords({
      topic: 'kafkajs',
      partitions: [{ partition: 0, offset: '-1' }],
    })
    await admin
      .deleteTopics({ topics: ['made-by-nobody'] })
      .catch((error: Error) => expect(error.message).toMatch(/topic/i))
    await admin.disconnect()
    expect(program.ok(`stream cat kafkajs --json | jq -c '[.partition,.key,.value]'`)).toBe(
      '[1,null,null]\n',
    )
  })
})

describe('@platformatic/kafka, which speaks the highest versions listed', () => {
  it('consumes in a group', async () => {
    const { Consumer, stringDeserializers } = await import('@platformatic/kafka')
    program.ok('stream topics create plt-group --partitions 2; seq 20 | stream produce plt-group')
    const consumer = new Consumer({
      clientId: 'platformatic-group',
      groupId: 'plt',
      bootstrapBrokers: [address],
      deserializers: stringDeserializers,
    })
    const stream = await consumer.consume({
      topics: ['plt-group'],
      mode: 'earliest',
      autocommit: false,
    })
    const seen: number[] = []
    for await (const message of stream) {
      seen.push(Number(message.value))
      await message.commit()
      if (seen.length === 20) break
    }
    await stream.close()
    await consumer.close(true)
    expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1))
    expect(program.ok('stream groups lag plt | cut -f3')).toBe('0\n')
  }, 60_000)

  it('produces, and our consumer reads it', async () => {
    const { Producer, Admin, stringSerializers } = await import('@platformatic/kafka')
    const admin = new Admin({ clientId: 'platformatic-witness', bootstrapBrokers: [address] })
    await admin.createTopics({ topics: ['platformatic'], partitions: 1, replicas: 1 })
    const producer = new Producer({
      clientId: 'platformatic-witness',
      bootstrapBrokers: [address],
      serializers: stringSerializers,
      idempotent: true,
    })
    await producer.send({
      messages: [{ topic: 'platformatic', key: 'k', value: 'v', headers: { h: 'x' } }],
    })
    await producer.close()
    await admin.close()
    expect(program.ok(`stream cat platformatic --json | jq -c '[.key,.value,.headers]'`)).toBe(
      '["k","v",[["h","x"]]]\n',
    )
  })
})

describe('transactions of clients nobody here wrote: committed ones are read, aborted ones are not', () => {
  const outcomes = [
    ['a', true],
    ['b', false],
    ['c', true],
  ] as const

  it('kafkajs', async () => {
    program.ok('stream topics create txn-kafkajs')
    const { Kafka, logLevel } = await import('kafkajs')
    const kafka = new Kafka({ brokers: [address], logLevel: logLevel.NOTHING })
    const producer = kafka.producer({
      transactionalId: 'witness-kafkajs',
      maxInFlightRequests: 1,
      idempotent: true,
    })
    await producer.connect()
    for (const [name, isCommit] of outcomes) {
      const transaction = await producer.transaction()
      await transaction.send({ topic: 'txn-kafkajs', messages: [{ value: name }] })
      await (isCommit ? transaction.commit() : transaction.abort())
    }
    await producer.disconnect()
    expect(program.ok('stream cat txn-kafkajs')).toBe('a\nc\n')
  })

  it('@platformatic/kafka', async () => {
    program.ok('stream topics create txn-platformatic')
    const { Producer, stringSerializers } = await import('@platformatic/kafka')
    const producer = new Producer({
      clientId: 'transaction-witness',
      bootstrapBrokers: [address],
      serializers: stringSerializers,
      transactionalId: 'witness-platformatic',
      idempotent: true,
    })
    for (const [name, isCommit] of outcomes) {
      const transaction = await producer.beginTransaction()
      await transaction.send({ messages: [{ topic: 'txn-platformatic', value: name }] })
      await (isCommit ? transaction.commit() : transaction.abort())
    }
    await producer.close()
    expect(program.ok('stream cat txn-platformatic')).toBe('a\nc\n')
  })

  it.runIf(spawnSync('/usr/bin/python3', ['-c', 'import confluent_kafka']).status === 0)(
    "Debian's Python client",
    () => {
      program.ok('stream topics create txn-python')
      writeFileSync(
        program.path('transactions.py'),
        `
import sys
from confluent_kafka import Producer
p = Producer({'bootstrap.servers': sys.argv[1], 'transactional.id': 'witness-python'})
p.init_transactions(20)
for name, commit in (('a', True), ('b', False), ('c', True)):
    p.begin_transaction()
    p.produce('txn-python', name)
    if commit:
        p.commit_transaction(20)
    else:
        p.flush(10)
        p.abort_transaction(20)
`,
      )
      program.ok(`/usr/bin/python3 transactions.py ${address}`)
      expect(program.ok('stream cat txn-python')).toBe('a\nc\n')
    },
  )
})

describe('offsets in transactions of clients nobody here wrote: they count with the commit', () => {
  const committed = (group: string): string =>
    program.ok(`stream groups describe ${group} -o tsv | cut -f4`).trim()

  beforeAll(() => {
    program.ok('stream topics create offsets-in; seq 10 | stream produce offsets-in')
  })

  it('kafkajs', async () => {
    program.ok('stream topics create offsets-kafkajs')
    const { Kafka, logLevel } = await import('kafkajs')
    const kafka = new Kafka({ brokers: [address], logLevel: logLevel.NOTHING })
    const producer = kafka.producer({
      transactionalId: 'offsets-kafkajs',
      maxInFlightRequests: 1,
      idempotent: true,
    })
    await producer.connect()
    for (const [offset, isCommit] of [
      ['4', true],
      ['7', false],
    ] as const) {
      const transaction = await producer.transaction()
      await transaction.send({ topic: 'offsets-kafkajs', messages: [{ value: offset }] })
      await transaction.sendOffsets({
        consumerGroupId: 'group-kafkajs',
        topics: [{ topic: 'offsets-in', partitions: [{ partition: 0, offset }] }],
      })
      await (isCommit ? transaction.commit() : transaction.abort())
    }
    await producer.disconnect()
    expect(committed('group-kafkajs')).toBe('4')
    expect(program.ok('stream cat offsets-kafkajs')).toBe('4\n')
  })

  it('@platformatic/kafka', async () => {
    program.ok('stream topics create offsets-platformatic')
    const { Consumer, Producer, stringDeserializers, stringSerializers } = await import(
      '@platformatic/kafka'
    )
    const consumer = new Consumer({
      clientId: 'offsets-witness',
      groupId: 'group-platformatic',
      bootstrapBrokers: [address],
      deserializers: stringDeserializers,
      autocommit: false,
    })
    const stream = await consumer.consume({ topics: ['offsets-in'], mode: 'earliest' })
    const producer = new Producer({
      clientId: 'offsets-witness',
      bootstrapBrokers: [address],
      serializers: stringSerializers,
      transactionalId: 'offsets-platformatic',
      idempotent: true,
    })
    let transaction = await producer.beginTransaction()
    await transaction.addConsumer(consumer)
    let taken = 0
    for await (const message of stream) {
      await transaction.send({
        messages: [{ topic: 'offsets-platformatic', value: message.value }],
      })
      await transaction.addOffset(message)
      taken += 1
      if (taken === 3) {
        await transaction.commit()
        transaction = await producer.beginTransaction()
        await transaction.addConsumer(consumer)
      }
      if (taken === 5) {
        await transaction.abort()
        break
      }
    }
    await producer.close()
    await consumer.close(true)
    expect(committed('group-platformatic')).toBe('3')
    expect(program.ok('stream cat offsets-platformatic')).toBe('1\n2\n3\n')
  })

  it.runIf(spawnSync('/usr/bin/python3', ['-c', 'import confluent_kafka']).status === 0)(
    "Debian's Python client",
    () => {
      program.ok('stream topics create offsets-python')
      writeFileSync(
        program.path('offsets.py'),
        `
import sys
from confluent_kafka import Consumer, Producer
c = Consumer({'bootstrap.servers': sys.argv[1], 'group.id': 'group-python', 'auto.offset.reset': 'earliest',
              'enable.auto.commit': False})
p = Producer({'bootstrap.servers': sys.argv[1], 'transactional.id': 'offsets-python'})
p.init_transactions(20)
c.subscribe(['offsets-in'])
for count, commit in ((4, True), (3, False)):
    p.begin_transaction()
    for m in c.consume(count, 20):
        p.produce('offsets-python', m.value())
    p.send_offsets_to_transaction(c.position(c.assignment()), c.consumer_group_metadata(), 20)
    if commit:
        p.commit_transaction(20)
    else:
        p.flush(10)
        p.abort_transaction(20)
c.close()
`,
      )
      program.ok(`/usr/bin/python3 offsets.py ${address}`)
      expect(committed('group-python')).toBe('4')
      expect(program.ok('stream cat offsets-python')).toBe('1\n2\n3\n4\n')
    },
  )
})

describe.runIf(hasProgram('tshark') && hasProgram('kcat') && process.getuid?.() === 0)(
  "tshark's dissector",
  () => {
    it('finds no malformed frame in what the door and kcat say to each other', async () => {
      const port = address.split(':')[1]
      const capture = program.start('tshark', [
        '-q',
        '-i',
        'lo',
        '-f',
        `tcp port ${port}`,
        '-w',
        program.path('capture.pcapng'),
      ])
      let said = ''
      capture.stderr?.on('data', (chunk) => {
        said += chunk
      })
      await eventually('the capture', () => /Capture started|Capturing on/.test(said) || undefined)
      await new Promise((resolve) => setTimeout(resolve, 1500))
      program.ok(
        `kcat -b ${address} -L > /dev/null; kcat -b ${address} -P -t kcat-shark < lines; kcat -b ${address} -C -t kcat-shark -o beginning -e -q > /dev/null`,
      )
      await new Promise((resolve) => setTimeout(resolve, 1500))
      capture.kill('SIGINT')
      await new Promise((resolve) => capture.once('close', resolve))
      const dissect = (filter: string) =>
        program.shell(
          `tshark -r capture.pcapng -d tcp.port==${port},kafka -Y '${filter}' 2>/dev/null`,
        ).stdout
      expect(dissect('kafka').split('\n').length, said).toBeGreaterThan(10)
      expect(dissect('kafka && _ws.malformed')).toBe('')
    }, 60_000)
  },
)
