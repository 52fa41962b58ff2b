/**
 * Redis Streams with an append-only file, one server of each kind. The rewriting of that file is switched off, which
 * is to Redis's advantage.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { nodeBinary, run } from '../harness.ts'
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
import { timeLine } from './race.ts'
import { findProgram, freePort, Server } from './server.ts'
import { rewriteLines } from './wire-file.ts'

const client = join(import.meta.dirname, 'redis-client.ts')

interface Running extends Label {
  readonly server: Server
}

export class RedisPeer implements Peer {
  title = 'Redis Streams'
  #stage: Stage | undefined
  #version = ''
  readonly #running: Running[] = []
  #sent = ''

  async start(stage: Stage): Promise<void> {
    this.#stage = stage
    if (findProgram('redis-server') === undefined || findProgram('redis-cli') === undefined)
      throw new Unavailable('no redis-server on this machine (Debian: apt-get install redis)')
    const said = spawnSync('redis-server', ['--version'], { encoding: 'utf8' }).stdout
    this.#version = /v=([\d.]+)/.exec(said)?.[1] ?? ''
    this.title = `Redis ${this.#version}`
    for (const [durability, sync] of [
      ['relaxed', 'everysec'],
      ['durable', 'always'],
    ] as const) {
      const port = await freePort()
      const home = join(stage.scratch.directory, `redis-${sync}`)
      mkdirSync(home)
      const server = await Server.start(
        'redis-server',
        [
          ...['--port', String(port), '--bind', '127.0.0.1', '--dir', home, '--save', ''],
          ...['--appendonly', 'yes', '--appendfsync', sync, '--auto-aof-rewrite-percentage', '0'],
        ],
        { port, log: join(home, 'server.out'), cwd: home },
      )
      this.#running.push({
        server,
        name: `Redis ${this.#version}`,
        durability,
        flush: `appendfsync ${sync}`,
      })
    }
  }

  async load({ whole, first, lineBytes }: Payloads): Promise<void> {
    const payload = first(this.#lines(whole))
    const target = (stream: string) =>
      join(this.stage.scratch.directory, `redis-${stream}-${lineBytes}`)
    for (const stream of ['bench', 'full'])
      rewriteLines(
        payload,
        target(stream),
        (line) =>
          `*5\r\n$4\r\nXADD\r\n$${stream.length}\r\n${stream}\r\n$1\r\n*\r\n$1\r\nv\r\n$${line.length}\r\n${line}\r\n`,
      )
    this.#sent = target('bench')
    const relaxed = this.#relaxed
    this.#cli(relaxed, 'DEL full')
    run(`cat ${target('full')} | ${this.#cliLine(relaxed)} --pipe > /dev/null`, this.stage.scratch)
    run(`${this.#client('read', relaxed, 'full')} | cmp - ${payload.path}`, this.stage.scratch)
  }

  produce({ whole, first }: Payloads): Contender[] {
    const payload = first(this.#lines(whole))
    return this.#running.map(({ server, ...label }) => ({
      ...label,
      name: `${label.name}: \`redis-cli --pipe\`, XADD`,
      ...(label.durability === 'relaxed' ? { must: 10 } : {}),
      prepare: () => {
        this.#cli(server, 'DEL bench')
        run(`cat ${this.#sent} > /dev/null`, this.stage.scratch)
      },
      run: () => ({
        ms: timeLine(
          `cat ${this.#sent} | ${this.#cliLine(server)} --pipe > /dev/null`,
          this.stage.scratch,
        ).ms,
        records: payload.records,
      }),
      check: () => {
        const stored = Number(this.#cli(server, 'XLEN bench'))
        if (stored !== payload.records)
          throw new Error(`${stored} of ${payload.records} entries are stored`)
        this.#cli(server, 'DEL bench')
      },
    }))
  }

  consume({ whole, first }: Payloads): Contender[] {
    const { records } = first(this.#lines(whole))
    const server = this.#relaxed
    const timed = (name: string, line: string): Contender => ({
      name: `Redis ${this.#version}: ${name}`,
      durability: 'relaxed',
      flush: '–',
      run: () => ({ ms: timeLine(`${line} | cat > /dev/null`, this.stage.scratch).ms, records }),
    })
    return [
      timed('`redis-cli XRANGE`, whole', `${this.#cliLine(server)} XRANGE full - +`),
      timed('XRANGE in blocks of 5000 (Node)', this.#client('read', server, 'full')),
    ]
  }

  latency(): LatencyContender[] {
    return this.#running.map(({ server, ...label }) => {
      const relay = (verb: string) => ({
        command: nodeBinary,
        args: [client, verb, String(server.port), 'latency'],
      })
      return {
        ...label,
        name: `${label.name}: pipes to raw sockets (Node), XADD, XREAD`,
        means: 'sockets',
        judged: true,
        prepare: () => {
          this.#cli(server, 'DEL latency')
        },
        producer: relay('relay-in'),
        consumer: relay('relay-out'),
      }
    })
  }

  startUp(): StartUpContender[] {
    return [
      {
        name: '`echo x \\| redis-cli -x XADD s "*" v`',
        command: 'redis-cli',
        args: ['-p', String(this.#relaxed.port), '-x', 'XADD', 'start', '*', 'v'],
        input: 'x\n',
      },
    ]
  }

  memory(): MemoryContender[] {
    this.#cli(this.#relaxed, 'DEL bench')
    return [
      {
        name: '`redis-cli --pipe`',
        line: `cat ${this.#sent} | ${this.#cliLine(this.#relaxed)} --pipe`,
      },
    ]
  }

  servers(): ServerProcess[] {
    return this.#running.map(({ flush, server }) => ({
      name: `Redis server, ${flush} (holds its streams in memory)`,
      pid: server.pid,
    }))
  }

  async stop(): Promise<void> {
    for (const { server } of this.#running) await server.stop()
  }

  #lines(whole: Payload): number {
    return Math.floor(whole.records / 3)
  }

  get #relaxed(): Server {
    const found = this.#running.find(({ durability }) => durability === 'relaxed')
    if (found === undefined) throw new Error('start comes first')
    return found.server
  }

  #cliLine(server: Server): string {
    return `redis-cli -p ${server.port}`
  }

  #cli(server: Server, command: string): string {
    return run(`${this.#cliLine(server)} ${command}`, this.stage.scratch)
  }

  #client(verb: string, server: Server, stream: string): string {
    return [nodeBinary, client, verb, server.port, stream].join(' ')
  }

  private get stage(): Stage {
    if (this.#stage === undefined) throw new Error('start comes first')
    return this.#stage
  }
}
