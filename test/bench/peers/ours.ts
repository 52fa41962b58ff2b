/** Ours: one daemon, one topic durable as it comes, one that is synced within a second. */
import { join } from 'node:path'
import { nodeBinary, repository, run } from '../harness.ts'
import type {
  Contender,
  Label,
  LatencyContender,
  Payload,
  Payloads,
  Peer,
  Stage,
} from './contender.ts'
import { timeLine } from './race.ts'

const client = join(repository, 'test/bench/peers/line-client.ts')

interface Mode extends Label {
  readonly topic: string
  readonly create: string
}

const modes: readonly Mode[] = [
  {
    name: '**`stream produce`**',
    durability: 'durable',
    flush: 'fdatasync before every acknowledgement',
    topic: 'durable',
    create: '',
  },
  {
    name: '**`stream produce`**',
    durability: 'relaxed',
    flush: 'flush.ms=1000, as everysec',
    topic: 'relaxed',
    create: '--set flush.messages=1000000000 --set flush.ms=1000',
  },
]

export class Ours implements Peer {
  readonly title = 'stream'
  #stage: Stage | undefined
  #daemon = 0

  async start(stage: Stage): Promise<void> {
    this.#stage = stage
    run('stream daemon start -X group.initial.rebalance.delay.ms=0', stage.scratch)
    run('stream topics create start', stage.scratch)
    this.#daemon = Number(JSON.parse(run('stream daemon status -o json', stage.scratch)).pid)
  }

  async load({ whole }: Payloads): Promise<void> {
    this.#create('full', '')
    run(`cat ${whole.path} | stream produce full`, this.stage.scratch)
    run(`stream cat full | cmp - ${whole.path}`, this.stage.scratch)
  }

  produce({ whole }: Payloads): Contender[] {
    const { scratch } = this.stage
    return modes.map((mode) => ({
      ...mode,
      prepare: () => {
        this.#create(mode.topic, mode.create)
        run(`cat ${whole.path} > /dev/null`, scratch)
      },
      run: () => ({
        ms: timeLine(`cat ${whole.path} | stream produce ${mode.topic}`, scratch).ms,
        records: whole.records,
      }),
      check: () => {
        run(`stream cat ${mode.topic} | cmp - ${whole.path}`, scratch)
        run(`stream topics delete ${mode.topic} -y -q`, scratch)
      },
    }))
  }

  consume({ whole }: Payloads): Contender[] {
    const { scratch } = this.stage
    return [
      {
        name: '**`stream cat`**',
        durability: 'durable',
        flush: '–',
        run: () => ({
          ms: timeLine('stream cat full | cat > /dev/null', scratch).ms,
          records: whole.records,
        }),
      },
      {
        name: '**SUB of the line protocol, raw socket, nothing printed**',
        durability: 'durable',
        flush: '–',
        run: () => ({
          ms: timeLine(`${nodeBinary} ${client} read ${this.#lineSocket} full`, scratch).ms,
          records: whole.records,
        }),
      },
    ]
  }

  group({ whole }: Payloads): Contender[] {
    const { scratch } = this.stage
    let group = ''
    return [
      {
        name: '**`stream consume -g`**',
        durability: 'durable',
        flush: '–',
        prepare: (round) => {
          group = `race-${whole.lineBytes}-${round}`
        },
        run: () => ({
          ms: timeLine(`stream consume full -g ${group} --until-end | cat > /dev/null`, scratch).ms,
          records: whole.records,
        }),
        check: () => {
          const lag = run(`stream groups lag ${group} --total | cut -f3`, scratch).trim()
          if (lag !== '0') throw new Error(`the group ${group} is ${lag} records behind`)
        },
      },
    ]
  }

  latency(): LatencyContender[] {
    return modes.flatMap((mode) => {
      const topic = `latency-${mode.topic}`
      const bare = `${topic}-line`
      const relay = (verb: string) => ({
        command: nodeBinary,
        args: [client, verb, this.#lineSocket, bare],
      })
      return [
        {
          ...mode,
          name: '**`stream produce`, `consume`**',
          means: 'commands',
          judged: false,
          prepare: () => this.#create(topic, mode.create),
          producer: { command: 'stream', args: ['produce', topic] },
          consumer: { command: 'stream', args: ['consume', topic] },
        },
        {
          ...mode,
          name: '**pipes to the line protocol (Node), PUB and SUB**',
          means: 'sockets',
          judged: false,
          prepare: () => this.#create(bare, mode.create),
          producer: relay('relay-in'),
          consumer: relay('relay-out'),
        },
      ]
    })
  }

  startUp: Peer['startUp'] = () => [
    {
      name: '**`echo x \\| stream produce t`**',
      command: 'stream',
      args: ['produce', 'start'],
      input: 'x\n',
    },
  ]

  memory({ whole }: { whole: Payload }): { name: string; line: string }[] {
    this.#create('memory', '')
    return [
      { name: '**`stream produce`**', line: `cat ${whole.path} | stream produce memory` },
      { name: '**`stream cat`**', line: 'stream cat full | cat > /dev/null' },
    ]
  }

  servers: Peer['servers'] = () => [{ name: '**stream daemon**', pid: this.#daemon }]

  /** The daemon ends with the scratch home. */
  async stop(): Promise<void> {}

  get #lineSocket(): string {
    return join(this.stage.scratch.directory, 'run/stream/line.sock')
  }

  /** What is deleted goes at once: a minute later it would go under somebody else's clock. */
  #create(topic: string, settings: string): void {
    run(
      `stream topics delete ${topic} --if-exists -y -q; stream topics create ${topic} --set file.delete.delay.ms=0 ${settings}`,
      this.stage.scratch,
    )
  }

  private get stage(): Stage {
    if (this.#stage === undefined) throw new Error('start comes first')
    return this.#stage
  }
}
