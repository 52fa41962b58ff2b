/**
 * Three daemons, an etcd and a host for clients, each in a network namespace, each daemon and the etcd on a disk of its own. A
 * daemon that ends by itself is started again, as a service manager does, and its end is written down. Everything made here is
 * taken away by `stop`.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { daemonMemoryEnvironment, daemonNodeFlags } from '../../src/io/daemon-process.ts'
import { etcdBinary } from '../support/etcd.ts'
import { daemonBundle, ended, Program } from '../support/program.ts'
import { standStill } from './freeze.ts'
import { LoopDisk, noLoopDisks, removeScratch, scratchDirectory } from './loop-disk.ts'
import { type Host, inside, Network, noNamespaces, run } from './namespaces.ts'

const NATIVE_PORT = 7000
const KAFKA_PORT = 9092
const ETCD_PORT = 2379
const DISK_MEBIBYTES = 192
const UP_MS = 40_000
const RESTART_PAUSE_MS = 1000

export interface HostsOptions {
  readonly daemons?: number
  /** Of every daemon, as `-X KEY=VALUE`. */
  readonly config?: readonly string[]
}

/** A process's end that nobody asked for. */
export interface OwnEnd {
  readonly nodeId: number
  readonly status: number
  readonly lastLine: string
}

export interface DaemonHost {
  readonly nodeId: number
  readonly host: Host
  readonly disk: LoopDisk
  readonly directory: string
  /** Whether it should run: it is started again when it ends. */
  wanted: boolean
  process: ChildProcess | undefined
  /** Counts power cuts: what the machine calls its boot. */
  boots: number
  log: string
}

export interface Outcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** Why none of this can run here; undefined: it can. */
export function noHosts(): string | undefined {
  if (etcdBinary === undefined) return 'no etcd on PATH'
  return noNamespaces() ?? noLoopDisks()
}

export class HostsCluster {
  readonly network = new Network()
  readonly directory: string
  readonly program: Program
  readonly daemons: DaemonHost[] = []
  readonly etcdHost: Host
  readonly clients: Host
  readonly etcdDisk: LoopDisk
  readonly ownEnds: OwnEnd[] = []
  readonly #options: HostsOptions
  #etcd: ChildProcess | undefined
  #stopped = false

  private constructor(options: HostsOptions) {
    this.#options = options
    this.directory = scratchDirectory()
    this.program = new Program({ base: this.directory })
    this.etcdHost = this.network.add('e')
    this.clients = this.network.add('c')
    this.etcdDisk = new LoopDisk(this.directory, 'e', { sizeMebibytes: DISK_MEBIBYTES })
    for (let nodeId = 1; nodeId <= (options.daemons ?? 3); nodeId++) {
      const host = this.network.add(`d${nodeId}`)
      const disk = new LoopDisk(this.directory, `d${nodeId}`, { sizeMebibytes: DISK_MEBIBYTES })
      const directory = join(disk.path, 'data')
      const fresh = { wanted: false, process: undefined, boots: 0, log: '' }
      this.daemons.push({ nodeId, host, disk, directory, ...fresh })
    }
  }

  static async start(options: HostsOptions = {}): Promise<HostsCluster> {
    const cluster = new HostsCluster(options)
    try {
      await cluster.startEtcd()
      for (const daemon of cluster.daemons) cluster.run(daemon)
      await cluster.untilLive()
      return cluster
    } catch (error) {
      await cluster.stop()
      throw error
    }
  }

  /** For `--broker`. */
  addresses(door: 'tcp' | 'kafka'): string {
    const port = door === 'tcp' ? NATIVE_PORT : KAFKA_PORT
    return `${door}://${this.daemons.map(({ host }) => `${host.address}:${port}`).join(',')}`
  }

  daemon(nodeId: number): DaemonHost {
    const found = this.daemons.find((daemon) => daemon.nodeId === nodeId)
    if (found === undefined) throw new Error(`no daemon ${nodeId}`)
    return found
  }

  // --- processes

  run(daemon: DaemonHost): void {
    const { nodeId, host, directory, boots } = daemon
    daemon.wanted = true
    if (this.#stopped || daemon.process !== undefined) return
    const words = [
      // As `stream daemon run` runs it.
      ...[process.execPath, ...daemonNodeFlags, daemonBundle],
      ...['--etcd', `http://${this.etcdHost.address}:${ETCD_PORT}`],
      ...['--node-id', String(nodeId), '--data', directory],
      ...['--listen', `ipc://${join(this.directory, `d${nodeId}.sock`)}`],
      ...['--listen', `tcp://${host.address}:${NATIVE_PORT}`],
      ...['--listen', `kafka://${host.address}:${KAFKA_PORT}`],
      ...['-X', `stream.boot.id=boot${boots}`],
      // A network of the test's own.
      ...['-X', 'stream.allow.plaintext=true'],
      ...(this.#options.config ?? []).flatMap((setting) => ['-X', setting]),
    ]
    const child = this.#spawn(host, words, daemonMemoryEnvironment)
    daemon.process = child
    child.stderr?.on('data', (chunk: Buffer) => {
      daemon.log = (daemon.log + chunk.toString()).slice(-200_000)
    })
    child.once('close', (code, signal) => {
      if (daemon.process !== child) return
      daemon.process = undefined
      if (!daemon.wanted || this.#stopped) return
      const lastLine = daemon.log.trimEnd().split('\n').at(-1) ?? ''
      this.ownEnds.push({ nodeId, status: code ?? (signal === null ? -1 : 128), lastLine })
      setTimeout(() => {
        if (daemon.wanted) this.run(daemon)
      }, RESTART_PAUSE_MS)
    })
  }

  /** Ends a daemon for good or until `run`. @returns its exit code */
  async end(daemon: DaemonHost, signal: NodeJS.Signals): Promise<number> {
    daemon.wanted = false
    const child = daemon.process
    if (child === undefined) return 0
    const end = ended(child)
    child.kill(signal)
    // One that was paused hears a signal when it goes on.
    child.kill('SIGCONT')
    return await end
  }

  signal(daemon: DaemonHost, name: NodeJS.Signals): void {
    daemon.process?.kill(name)
  }

  signalEtcd(name: NodeJS.Signals): void {
    this.#etcd?.kill(name)
  }

  async startEtcd(): Promise<void> {
    if (this.#etcd !== undefined || etcdBinary === undefined) return
    const { address } = this.etcdHost
    const client = `http://${address}:${ETCD_PORT}`
    const peer = `http://${address}:2380`
    const child = this.#spawn(this.etcdHost, [
      ...[etcdBinary, '--name', 'e', '--data-dir', join(this.etcdDisk.path, 'etcd')],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ...['--initial-cluster', `e=${peer}`, '--heartbeat-interval', '100'],
      ...['--election-timeout', '1000'],
    ])
    this.#etcd = child
    let said = ''
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`etcd does not serve\n${said}`)), UP_MS)
      child.stderr?.on('data', (chunk: Buffer) => {
        said = (said + chunk.toString()).slice(-5000)
        if (!/ready to serve client requests/.test(said)) return
        clearTimeout(timer)
        resolve()
      })
      child.once('close', () => {
        clearTimeout(timer)
        if (this.#etcd === child) this.#etcd = undefined
        reject(new Error(`etcd has ended\n${said}`))
      })
    })
  }

  async killEtcd(): Promise<void> {
    const child = this.#etcd
    if (child === undefined) return
    const end = ended(child)
    child.kill('SIGKILL')
    await end
    this.#etcd = undefined
  }

  /** The power of these hosts fails in the same moment: unsynced data and all processes are gone. */
  async cutPower(daemons: readonly DaemonHost[], withEtcd: boolean): Promise<void> {
    const processes = daemons.map(({ process: child }) => child)
    await standStill(withEtcd ? [...processes, this.#etcd] : processes)
    for (const { disk } of daemons) disk.cutPower()
    if (withEtcd) this.etcdDisk.cutPower()
    await Promise.all([
      ...daemons.map((daemon) => this.end(daemon, 'SIGKILL')),
      ...(withEtcd ? [this.killEtcd()] : []),
    ])
    for (const daemon of daemons) {
      daemon.disk.unmount()
      daemon.disk.mount()
      daemon.boots += 1
    }
    if (!withEtcd) return
    this.etcdDisk.unmount()
    this.etcdDisk.mount()
  }

  // --- commands on the clients' host

  shell(line: string, timeoutMs = 60_000): Promise<Outcome> {
    const child = this.startOnClients([
      'timeout',
      '-s',
      'KILL',
      String(timeoutMs / 1000),
      'bash',
      '-c',
      line,
    ])
    child.stdin?.end()
    let stdout = ''
    let stderr = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    return ended(child).then((status) => ({ status, stdout, stderr }))
  }

  async ok(line: string, timeoutMs?: number): Promise<string> {
    const { status, stdout, stderr } = await this.shell(line, timeoutMs)
    if (status !== 0) throw new Error(`exit ${status}: ${line}\n${stdout}\n${stderr}`)
    return stdout
  }

  /** `stream WORDS` of a client, through the native door. */
  stream(words: string, timeoutMs?: number): Promise<string> {
    return this.ok(`stream --broker ${this.addresses('tcp')} ${words}`, timeoutMs)
  }

  startOnClients(words: readonly string[]): ChildProcess {
    return this.#spawn(this.clients, words)
  }

  async until(isSo: () => Promise<boolean>, what: string, timeoutMs = UP_MS): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs
    while (!(await isSo())) {
      if (performance.now() > deadlineMs) {
        const logs = this.daemons.map(({ nodeId, log }) => `daemon ${nodeId}: ${log.slice(-3000)}`)
        throw new Error(`not within ${timeoutMs} ms: ${what}\n${logs.join('\n')}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }

  untilLive(): Promise<void> {
    const isLive = async (): Promise<boolean> => {
      const shown = await this.shell(
        `stream --broker ${this.addresses('tcp')} cluster brokers --json`,
        20_000,
      )
      const live = shown.stdout.split('\n').filter((line) => line.includes('"state":"live"'))
      return shown.status === 0 && live.length === this.daemons.length
    }
    return this.until(isLive, 'all daemons are live')
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.daemons.map((daemon) => this.end(daemon, 'SIGKILL')))
    await this.killEtcd()
    this.program.stop()
    // Whatever else runs in the namespaces, such as a client.
    for (const host of [this.clients, this.etcdHost, ...this.daemons.map(({ host }) => host)]) {
      run(['sh', '-c', `ip netns pids ${host.namespace} | xargs -r kill -9`])
    }
    for (const { disk } of this.daemons) disk.remove()
    this.etcdDisk.remove()
    this.network.remove()
    removeScratch(this.directory)
  }

  #spawn(
    host: Host,
    words: readonly string[],
    environment: Readonly<Record<string, string>> = {},
  ): ChildProcess {
    const [command = '', ...rest] = inside(host.namespace, words)
    return spawn(command, rest, {
      cwd: this.directory,
      env: { ...this.program.environment, ...environment },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
  }
}
