/**
 * Apache Kafka, one broker (KRaft), under the Java flags of its own start scripts. One topic with its default (no
 * flush at all), one with flush.messages=1 (what log.flush.interval.messages=1 sets for all topics): each batch is
 * synced before it is acknowledged.
 */
import { join } from 'node:path'
import { Kafka, KafkaBroker } from '../../witness/jvm-kafka.ts'
import { run } from '../harness.ts'
import {
  type Contender,
  type Label,
  type LatencyContender,
  type MemoryContender,
  type Payload,
  type Payloads,
  type Peer,
  type Stage,
  type StartUpContender,
  Unavailable,
} from './contender.ts'
import { timeLine } from './race.ts'
import { findProgram } from './server.ts'

const brokerFlags = [
  ...['-Xmx1G', '-Xms1G', '-server', '-XX:+UseG1GC', '-XX:MaxGCPauseMillis=20'],
  ...['-XX:InitiatingHeapOccupancyPercent=35', '-XX:+ExplicitGCInvokesConcurrent'],
]
const toolFlags = ['-Xmx512M', ...brokerFlags.slice(2)]

interface Mode extends Label {
  readonly topic: string
  readonly create: string
}

const modes: readonly Omit<Mode, 'name'>[] = [
  { durability: 'relaxed', flush: 'default, no flush', topic: 'plain', create: '' },
  {
    durability: 'durable',
    flush: 'flush of every batch',
    topic: 'flushed',
    create: '--set flush.messages=1',
  },
]

export class KafkaPeer implements Peer {
  title = 'Apache Kafka'
  #stage: Stage | undefined
  #kafka: Kafka | undefined
  #broker: KafkaBroker | undefined
  #kcat: string | undefined
  #round = 0

  async start(stage: Stage): Promise<void> {
    this.#stage = stage
    if (findProgram('java') === undefined) throw new Unavailable('no java on this machine')
    let kafka: Kafka
    try {
      kafka = Kafka.prepare()
    } catch (error) {
      throw new Unavailable(`Kafka's artifacts could not be had: ${String(error)}`)
    }
    this.title = `Apache Kafka ${kafka.version}`
    this.#kafka = kafka.withJavaFlags(toolFlags)
    this.#kcat = findProgram('kcat')
    this.#broker = await KafkaBroker.start(
      kafka.withJavaFlags(brokerFlags),
      join(stage.scratch.directory, 'kafka'),
      undefined,
      // Else every new group waits 3 s for more members, and what is deleted goes a minute later, under somebody else's clock.
      {
        settings: () => 'group.initial.rebalance.delay.ms=0\nlog.segment.delete.delay.ms=1000',
        format: [],
      },
    )
    this.#create('start', '')
  }

  async load({ whole }: Payloads): Promise<void> {
    this.#delete('full')
    this.#create('full', '')
    run(
      `cat ${whole.path} | ${this.#line('ConsoleProducer', ['--topic', 'full', ...this.#server])} > /dev/null`,
      this.stage.scratch,
    )
    this.#expectEnd('full', whole.records)
  }

  produce({ whole, lineBytes, first }: Payloads): Contender[] {
    const { scratch } = this.stage
    // Java's tools are slow enough for a quarter.
    const part = first(whole.records / 4)
    return modes.flatMap((mode) => {
      let topic = ''
      const around = (payload: Payload) => ({
        ...mode,
        prepare: () => {
          topic = `${mode.topic}-${++this.#round}`
          this.#create(topic, mode.create)
          run(`cat ${payload.path} > /dev/null`, scratch)
        },
        check: () => {
          this.#expectEnd(topic, payload.records)
          this.#delete(topic)
        },
      })
      const piped = (payload: Payload, line: () => string) => ({
        ...around(payload),
        run: () => ({
          ms: timeLine(`cat ${payload.path} | ${line()} > /dev/null`, scratch).ms,
          records: payload.records,
        }),
      })
      const must = (factor: number) => (mode.durability === 'durable' ? {} : { must: factor })
      return [
        ...(this.#kcat === undefined
          ? []
          : [
              {
                ...piped(whole, () => `kcat -P -b ${this.address} -t ${topic}`),
                ...must(2),
                name: '`kcat -P`',
              },
            ]),
        {
          ...piped(part, () => this.#line('ConsoleProducer', ['--topic', topic, ...this.#server])),
          ...must(10),
          name: 'kafka-console-producer',
        },
        {
          ...around(part),
          name: 'kafka-producer-perf-test, its own figure',
          run: () => {
            const { stdout } = timeLine(
              this.#line('ProducerPerformance', [
                ...['--topic', topic, '--num-records', String(part.records)],
                ...['--record-size', String(lineBytes - 1), '--throughput', '-1'],
                ...['--producer-props', `bootstrap.servers=${this.address}`],
              ]),
              scratch,
            )
            const rate = [...stdout.matchAll(/([\d.]+) records\/sec/g)].at(-1)?.[1]
            if (rate === undefined) throw new Error(`no figure in: ${stdout.slice(-300)}`)
            return { ms: (part.records / Number(rate)) * 1e3, records: part.records }
          },
        },
      ]
    })
  }

  consume({ whole }: Payloads): Contender[] {
    const { scratch } = this.stage
    const label = { durability: 'relaxed', flush: '–' } as const
    const half = Math.floor(whole.records / 2)
    const timed = (name: string, line: string, records: number, must: number): Contender => ({
      ...label,
      name,
      must,
      run: () => ({ ms: timeLine(line, scratch).ms, records }),
    })
    return [
      ...(this.#kcat === undefined
        ? []
        : [
            timed(
              '`kcat -C`',
              `kcat -C -q -b ${this.address} -t full -o beginning -e | cat > /dev/null`,
              whole.records,
              2,
            ),
          ]),
      timed(
        'kafka-console-consumer',
        `${this.#line('consumer.ConsoleConsumer', ['--topic', 'full', '--from-beginning', '--max-messages', String(half), ...this.#server])} | cat > /dev/null`,
        half,
        5,
      ),
      {
        ...label,
        name: 'kafka-consumer-perf-test, its own figure, nothing printed',
        run: () => {
          const { stdout } = timeLine(
            this.#line('ConsumerPerformance', [
              ...['--bootstrap-server', this.address, '--topic', 'full'],
              ...['--messages', String(half)],
            ]),
            scratch,
          )
          // start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s
          const cells = stdout.trim().split('\n').at(-1)?.split(', ') ?? []
          const seen = Number(cells[4])
          const rate = Number(cells[9])
          if (!(seen >= half && rate > 0)) throw new Error(`no figure in: ${stdout.slice(-300)}`)
          return { ms: (half / rate) * 1e3, records: half }
        },
      },
    ]
  }

  group({ whole }: Payloads): Contender[] {
    const { scratch } = this.stage
    if (this.#kcat === undefined) return []
    let group = ''
    return [
      {
        name: '`kcat -G`',
        durability: 'relaxed',
        flush: '–',
        prepare: () => {
          group = `race-${++this.#round}`
        },
        run: () => ({
          ms: timeLine(
            `kcat -G ${group} -q -b ${this.address} -X auto.offset.reset=earliest -c ${whole.records} full | cat > /dev/null`,
            scratch,
          ).ms,
          records: whole.records,
        }),
      },
    ]
  }

  latency(): LatencyContender[] {
    return modes.flatMap((mode) => {
      const topic = `latency-${mode.topic}`
      const prepare = () => {
        this.#delete(topic)
        this.#create(topic, mode.create)
      }
      const java = (name: string, args: readonly string[]) => ({
        command: 'java',
        args: this.kafka.command(name, args),
      })
      const broker = ['-b', this.address, '-t', topic]
      return [
        ...(this.#kcat === undefined
          ? []
          : [
              {
                ...mode,
                // kcat -P holds the lines of a pipe back until its buffer is full, so ours sends them into Kafka.
                name: '`stream produce` into Kafka, `kcat -C`',
                means: 'commands' as const,
                judged: true,
                prepare,
                producer: {
                  command: 'stream',
                  args: ['produce', topic, '-b', `kafka://${this.address}`],
                },
                consumer: { command: 'kcat', args: ['-C', '-q', '-u', '-o', 'end', ...broker] },
              },
            ]),
        {
          ...mode,
          name: 'kafka-console-producer, -consumer (linger.ms=0)',
          means: 'commands' as const,
          judged: true,
          prepare,
          producer: java('ConsoleProducer', [
            ...['--topic', topic, ...this.#server, '--timeout', '0'],
          ]),
          consumer: java('consumer.ConsoleConsumer', ['--topic', topic, ...this.#server]),
        },
      ]
    })
  }

  startUp(): StartUpContender[] {
    return [
      ...(this.#kcat === undefined
        ? []
        : [
            {
              name: '`echo x \\| kcat -P`',
              command: 'kcat',
              args: ['-P', '-b', this.address, '-t', 'start'],
              input: 'x\n',
            },
          ]),
      {
        name: '`echo x \\| kafka-console-producer`',
        command: 'java',
        args: this.kafka.command('ConsoleProducer', ['--topic', 'start', ...this.#server]),
        input: 'x\n',
      },
    ]
  }

  memory({ whole, first }: Payloads): MemoryContender[] {
    this.#delete('memory')
    this.#create('memory', '')
    const file = whole.path
    const part = first(whole.records / 4)
    return [
      ...(this.#kcat === undefined
        ? []
        : [
            { name: '`kcat -P`', line: `cat ${file} | kcat -P -b ${this.address} -t memory` },
            {
              name: '`kcat -C`',
              line: `kcat -C -q -b ${this.address} -t full -o beginning -e | cat > /dev/null`,
            },
          ]),
      {
        name: 'kafka-console-producer',
        line: `cat ${part.path} | ${this.#line('ConsoleProducer', ['--topic', 'memory', ...this.#server])}`,
      },
      {
        name: 'kafka-console-consumer',
        line: `${this.#line('consumer.ConsoleConsumer', ['--topic', 'full', '--from-beginning', '--max-messages', String(part.records), ...this.#server])} | cat > /dev/null`,
      },
    ]
  }

  servers: Peer['servers'] = () => [
    { name: `Kafka broker (heap of 1 GiB)`, pid: this.#broker?.pid ?? 0 },
  ]

  async stop(): Promise<void> {
    await this.#broker?.stop()
  }

  get #server(): string[] {
    return ['--bootstrap-server', this.address]
  }

  #line(name: string, args: readonly string[]): string {
    return ['java', ...this.kafka.command(name, args)].map((word) => `'${word}'`).join(' ')
  }

  #create(topic: string, settings: string): void {
    run(`stream topics create ${topic} ${settings} -b kafka://${this.address}`, this.stage.scratch)
  }

  #delete(topic: string): void {
    run(
      `stream topics delete ${topic} --if-exists -y -q -b kafka://${this.address}`,
      this.stage.scratch,
    )
  }

  #expectEnd(topic: string, records: number): void {
    const ends = run(
      `stream topics describe ${topic} -o tsv -b kafka://${this.address} | cut -f 9`,
      this.stage.scratch,
    )
    if (Number(ends) !== records)
      throw new Error(`${topic}: ${ends.trim()} of ${records} records are there`)
  }

  private get address(): string {
    return this.#broker?.address ?? ''
  }

  private get kafka(): Kafka {
    if (this.#kafka === undefined) throw new Error('start comes first')
    return this.#kafka
  }

  private get stage(): Stage {
    if (this.#stage === undefined) throw new Error('start comes first')
    return this.#stage
  }
}
