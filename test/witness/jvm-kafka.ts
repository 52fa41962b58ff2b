/**
 * Apache Kafka on this machine's Java: the class path (fetched once by Maven into .cache/), its console tools, and a
 * broker of one process. Everything started here is stopped by process id.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { repository } from '../support/program.ts'

const directory = join(import.meta.dirname, 'jvm')
// Short runs: the first compiler only, one collector thread.
const javaFlags = ['-Xmx768m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC']

export interface ToolOutcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export class Kafka {
  readonly version: string
  readonly #classPath: string
  readonly #javaFlags: readonly string[]

  private constructor(version: string, classPath: string, flags: readonly string[]) {
    this.version = version
    this.#classPath = classPath
    this.#javaFlags = flags
  }

  /**
   * Fetches what is missing and compiles Witness.java.
   * @param wanted  another version than the one that pom.xml names
   * @throws Error when Java or Maven cannot do it
   */
  static prepare(wanted?: string): Kafka {
    const pom = join(directory, 'pom.xml')
    const project = readFileSync(pom, 'utf8')
    const version = wanted ?? /<kafka\.version>(.*)<\/kafka\.version>/.exec(project)?.[1]
    if (version === undefined) throw new Error('pom.xml names no version of Kafka')
    const cache = join(repository, '.cache', 'witness')
    const libraries = join(cache, `kafka-${version}`)
    const mark = createHash('sha256').update(project).digest('hex').slice(0, 12)
    const complete = join(libraries, `.complete-${mark}`)
    if (!existsSync(complete)) {
      run('mvn', [
        '-B',
        '-q',
        '-f',
        pom,
        'dependency:copy-dependencies',
        `-Dkafka.version=${version}`,
        `-DoutputDirectory=${libraries}`,
      ])
      writeFileSync(complete, '')
    }
    const classes = join(cache, `classes-${version}`)
    mkdirSync(classes, { recursive: true })
    run('javac', ['-cp', join(libraries, '*'), '-d', classes, join(directory, 'Witness.java')])
    return new Kafka(version, [classes, join(libraries, '*')].join(delimiter), javaFlags)
  }

  /** The same classes under other flags of the Java machine. */
  withJavaFlags(flags: readonly string[]): Kafka {
    return new Kafka(this.version, this.#classPath, flags)
  }

  get isBefore4(): boolean {
    return Number.parseInt(this.version, 10) < 4
  }

  /** As its brokers know it; what 4.0 has renamed is the same. */
  get segmentBytesKey(): string {
    return this.isBefore4 ? 'segment.bytes' : 'internal.segment.bytes'
  }

  /** Runs a class to its end, never throws. Names not below `kafka` or `org` lie below org.apache.kafka.tools. */
  run(name: string, args: readonly string[], input = ''): ToolOutcome {
    const result = spawnSync('java', this.command(name, args), {
      input,
      maxBuffer: 1 << 29,
      timeout: 120_000,
      killSignal: 'SIGKILL',
    })
    return {
      status: result.status ?? -1,
      stdout: result.stdout.toString(),
      stderr: result.stderr.toString(),
    }
  }

  /** As run, for a class that must exit 0; its standard output. */
  ok(name: string, args: readonly string[], input = ''): string {
    const outcome = this.run(name, args, input)
    if (outcome.status !== 0 || /\bERROR\b|Exception/.test(outcome.stderr))
      throw new Error(
        `exit ${outcome.status}: ${name} ${args.join(' ')}\n${outcome.stdout.slice(-2000)}\n${outcome.stderr.slice(-3000)}`,
      )
    return outcome.stdout
  }

  spawn(name: string, args: readonly string[], logPath: string): ChildProcess {
    const log = openSync(logPath, 'a')
    try {
      return spawn('java', this.command(name, args), { stdio: ['ignore', log, log] })
    } finally {
      closeSync(log)
    }
  }

  /** As spawn, its output for the caller. */
  spawnPiped(name: string, args: readonly string[]): ChildProcess {
    return spawn('java', this.command(name, args), { stdio: ['ignore', 'pipe', 'ignore'] })
  }

  /** What `java` is given to run a class. */
  command(name: string, args: readonly string[]): string[] {
    const isWhole = /^(kafka|org)\./.test(name) || name === 'Witness'
    const old = this.isBefore4 ? namesBefore4[name] : undefined
    const className = isWhole ? name : (old ?? `org.apache.kafka.tools.${name}`)
    return [...this.#javaFlags, '-cp', this.#classPath, className, ...args]
  }
}

/** What was in the core before 4.0. */
const namesBefore4: Readonly<Record<string, string>> = {
  BrokerApiVersionsCommand: 'kafka.admin.BrokerApiVersionsCommand',
  ConsoleProducer: 'kafka.tools.ConsoleProducer',
}

/** One broker that is its own controller (KRaft), on loopback ports of its own. */
export class KafkaBroker {
  /** host:port */
  readonly address: string
  readonly logDirectory: string
  readonly #start: () => ChildProcess
  #child: ChildProcess

  get pid(): number {
    return this.#child.pid ?? 0
  }

  private constructor(address: string, logDirectory: string, start: () => ChildProcess) {
    this.address = address
    this.logDirectory = logDirectory
    this.#start = start
    this.#child = start()
  }

  /**
   * @param place  of a broker of several; absent: the only one
   * @param more  of its settings and of how its storage is made; later settings stand over earlier ones
   */
  static async start(
    kafka: Kafka,
    directory: string,
    place?: {
      readonly nodeId: number
      readonly controllerPort: number
      readonly clusterId: string
      readonly rack: string
    },
    more?: {
      readonly settings: (ports: { readonly plain: number; readonly controller: number }) => string
      readonly format: readonly string[]
    },
  ): Promise<KafkaBroker> {
    mkdirSync(directory, { recursive: true })
    const [port, freePort] = await freePorts()
    const { nodeId = 1, controllerPort = freePort } = place ?? {}
    const isController = nodeId === 1
    const logDirectory = join(directory, 'logs')
    const properties = join(directory, 'server.properties')
    const output = join(directory, 'broker.out')
    writeFileSync(
      properties,
      `process.roles=${isController ? 'broker,controller' : 'broker'}
node.id=${nodeId}
${place === undefined ? '' : `broker.rack=${place.rack}`}
controller.quorum.voters=1@127.0.0.1:${controllerPort}
listeners=PLAINTEXT://127.0.0.1:${port}${isController ? `,CONTROLLER://127.0.0.1:${controllerPort}` : ''}
advertised.listeners=PLAINTEXT://127.0.0.1:${port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=${logDirectory}
auto.create.topics.enable=false
default.replication.factor=${place === undefined ? 1 : 3}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
${more?.settings({ plain: port, controller: controllerPort }) ?? ''}
`,
    )
    const id = place?.clusterId ?? kafka.ok('kafka.tools.StorageTool', ['random-uuid']).trim()
    kafka.ok('kafka.tools.StorageTool', [
      ...['format', '-t', id, '-c', properties],
      ...(more?.format ?? []),
    ])
    const broker = new KafkaBroker(`127.0.0.1:${port}`, logDirectory, () =>
      kafka.spawn('kafka.Kafka', [properties], output),
    )
    await broker.#comesUp(port, output)
    return broker
  }

  async #comesUp(port: number, output: string): Promise<void> {
    const deadline = performance.now() + 60_000
    while (!(await accepts(port))) {
      if (this.#child.exitCode !== null || performance.now() > deadline) {
        await this.stop()
        throw new Error(`the broker did not come up\n${readFileSync(output, 'utf8').slice(-3000)}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  /** Ended before, by `stop` or a signal; the same data, the same port. */
  async startAgain(): Promise<void> {
    this.#child = this.#start()
    const output = join(this.logDirectory, '..', 'broker.out')
    await this.#comesUp(Number(this.address.split(':')[1]), output)
  }

  /** kill -9, until its process has ended. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }

  /** A clean stop; after 30 seconds a hard one. Does nothing when it has ended. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 30_000)
    await ended
    clearTimeout(timer)
  }
}

/** Several brokers, the first of which is the controller too. */
export class KafkaBrokers {
  readonly #brokers: readonly KafkaBroker[]

  private constructor(brokers: readonly KafkaBroker[]) {
    this.#brokers = brokers
  }

  /** @param settings  of each broker */
  static async start(
    kafka: Kafka,
    directory: string,
    racks: readonly string[],
    settings: readonly string[] = [],
  ) {
    const [, controllerPort] = await freePorts()
    const clusterId = kafka.ok('kafka.tools.StorageTool', ['random-uuid']).trim()
    const brokers: KafkaBroker[] = []
    try {
      for (const [index, rack] of racks.entries()) {
        const path = join(directory, `broker-${index + 1}`)
        const nodeId = index + 1
        const more = { settings: () => settings.join('\n'), format: [] }
        brokers.push(
          await KafkaBroker.start(kafka, path, { nodeId, controllerPort, clusterId, rack }, more),
        )
      }
    } catch (error) {
      for (const broker of brokers) await broker.stop()
      throw error
    }
    return new KafkaBrokers(brokers)
  }

  /** `kafka://…` with all of them. */
  get address(): string {
    return `kafka://${this.#brokers.map(({ address }) => address).join(',')}`
  }

  /** host:port of the one with this number, from 1. */
  addressOf(nodeId: number): string {
    return this.#brokers[nodeId - 1]?.address ?? ''
  }

  /** kill -9 of the one with this number. */
  async kill(nodeId: number): Promise<void> {
    await this.#brokers[nodeId - 1]?.kill()
  }

  async startAgain(nodeId: number): Promise<void> {
    await this.#brokers[nodeId - 1]?.startAgain()
  }

  async stop(nodeId?: number): Promise<void> {
    // The controller last: the others take leave of it.
    for (const [index, broker] of [...this.#brokers.entries()].reverse()) {
      if (nodeId === undefined || nodeId === index + 1) await broker.stop()
    }
  }
}

/** Names of the files of a partition directory that DumpLogSegments can read, in the order of offsets. */
export function logFiles(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => /^\d{20}\.(log|index|timeindex|snapshot|txnindex)$/.test(name))
    .sort()
}

function run(command: string, args: readonly string[]): void {
  const result = spawnSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 600_000 })
  if (result.status !== 0)
    throw new Error(
      `${command}: ${result.error?.message ?? ''}${result.stdout?.toString().slice(-2000)}${result.stderr?.toString().slice(-2000)}`,
    )
}

export async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()]
  const ports: number[] = []
  for (const server of servers) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    if (address !== null && typeof address === 'object') ports.push(address.port)
  }
  for (const server of servers) {
    server.close()
    await once(server, 'close')
  }
  return [ports[0] ?? 0, ports[1] ?? 0]
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
