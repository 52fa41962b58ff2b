/**
 * Daemons of one cluster as processes: the built program on free loopback ports, with a real etcd. Everything started here is
 * stopped by `stop`.
 */
import type { ChildProcess } from 'node:child_process'
import { closeSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { daemonMemoryEnvironment, daemonNodeFlags } from '../../src/io/daemon-process.ts'
import { EtcdServer, freePorts } from './etcd.ts'
import { daemonBundle, ended, Program } from './program.ts'

export class ClusterDaemon {
  readonly nodeId: number
  readonly address: string
  readonly kafkaAddress: string
  readonly words: readonly string[]
  process: ChildProcess | undefined
  /** Its standard error: a pipe that nobody reads while a test waits for a command would hold it up. */
  readonly logPath: string
  #logFrom = 0

  constructor(
    given: Pick<ClusterDaemon, 'nodeId' | 'address' | 'kafkaAddress' | 'words' | 'logPath'>,
  ) {
    this.nodeId = given.nodeId
    this.address = given.address
    this.kafkaAddress = given.kafkaAddress
    this.words = given.words
    this.logPath = given.logPath
    writeFileSync(this.logPath, '')
  }

  /** All it has said on standard error, over its starts. */
  get log(): string {
    return readFileSync(this.logPath).subarray(this.#logFrom).toString()
  }

  forgetLog(): void {
    this.#logFrom = statSync(this.logPath).size
  }
}

export interface ProcessClusterOptions {
  readonly daemons?: number
  /** Of every daemon, as `-X KEY=VALUE`. */
  readonly config?: readonly string[]
  /** tcp:// with CURVE: all daemons have `cluster.key`, and clients show it too. */
  readonly hasKeys?: boolean
  /** The line protocol at `dN.line`. */
  readonly hasLines?: boolean
}

const UP_MS = 30_000

export class ProcessCluster {
  readonly program = new Program()
  readonly etcd: EtcdServer
  readonly daemons: readonly ClusterDaemon[]
  private readonly hasKeys: boolean

  private constructor(etcd: EtcdServer, daemons: readonly ClusterDaemon[], hasKeys: boolean) {
    this.etcd = etcd
    this.daemons = daemons
    this.hasKeys = hasKeys
    if (hasKeys) this.program.ok(`stream cluster keys --out ${this.keyFile}`)
  }

  static async start(options: ProcessClusterOptions = {}): Promise<ProcessCluster> {
    const count = options.daemons ?? 3
    const etcd = await EtcdServer.start()
    const ports = await freePorts(2 * count)
    const daemons: ClusterDaemon[] = []
    const cluster = new ProcessCluster(etcd, daemons, options.hasKeys ?? false)
    const config = [
      ...(options.config ?? []),
      ...(options.hasKeys === true ? [`stream.curve.key.file=${cluster.keyFile}`] : []),
    ]
    for (let index = 0; index < count; index += 1) {
      const address = `tcp://127.0.0.1:${ports[2 * index]}`
      const kafkaAddress = `kafka://127.0.0.1:${ports[2 * index + 1]}`
      const nodeId = index + 1
      const directory = cluster.program.path(`d${nodeId}`)
      const words = [
        ...['--etcd', etcd.url, '--node-id', String(nodeId), '--data', directory],
        ...['--listen', `ipc://${cluster.program.path(`d${nodeId}.sock`)}`],
        ...['--listen', address, '--listen', kafkaAddress],
        ...(options.hasLines === true
          ? ['--listen', `line://${cluster.program.path(`d${nodeId}.line`)}`]
          : []),
        ...config.flatMap((setting) => ['-X', setting]),
      ]
      const logPath = cluster.program.path(`d${nodeId}.log`)
      daemons.push(new ClusterDaemon({ nodeId, address, kafkaAddress, words, logPath }))
    }
    for (const daemon of daemons) cluster.run(daemon)
    await cluster.until(() => cluster.liveBrokers() === count, 'all daemons are up')
    return cluster
  }

  get keyFile(): string {
    return this.program.path('cluster.key')
  }

  /** For `--broker`: the native addresses of all. */
  get addresses(): string {
    return this.daemons
      .map(({ address }) => address)
      .join(',')
      .replaceAll(',tcp://', ',')
  }

  get kafkaAddresses(): string {
    return this.daemons
      .map(({ kafkaAddress }) => kafkaAddress)
      .join(',')
      .replaceAll(',kafka://', ',')
  }

  run(daemon: ClusterDaemon, ...more: readonly string[]): void {
    const log = openSync(daemon.logPath, 'a')
    // As `stream daemon run` and `start` run it: a bare Node would spend its time collecting what it received.
    daemon.process = this.program.start(
      process.execPath,
      [...daemonNodeFlags, daemonBundle, ...daemon.words, ...more],
      {
        env: { ...this.program.environment, ...daemonMemoryEnvironment },
        stdio: ['ignore', 'ignore', log],
      },
    )
    closeSync(log)
  }

  async end(daemon: ClusterDaemon, signal: NodeJS.Signals = 'SIGKILL'): Promise<number> {
    const child = daemon.process
    if (child === undefined) return 0
    const end = ended(child)
    child.kill(signal)
    const status = await end
    daemon.process = undefined
    return status
  }

  /** As many as take part; 0 while none can be asked. */
  liveBrokers(): number {
    const key = this.hasKeys ? `-X curve.key.file=${this.keyFile}` : ''
    const shown = this.program.shell(
      `stream --broker ${this.addresses} ${key} cluster brokers --json | grep -c '"state":"live"'`,
      { timeoutMs: 20_000 },
    )
    return shown.status === 0 ? Number(shown.stdout) : 0
  }

  /** A probe that throws has not been met: a command may ask a daemon just as it dies. */
  async until(isSo: () => boolean, what: string, timeoutMs = UP_MS): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs
    while (!isMet(isSo)) {
      if (performance.now() > deadlineMs) {
        const logs = this.daemons.map(({ nodeId, log }) => `${nodeId}: ${log.slice(-2000)}`)
        throw new Error(`not after ${timeoutMs} ms: ${what}\n${logs.join('\n')}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  async stop(): Promise<void> {
    for (const daemon of this.daemons) await this.end(daemon)
    this.program.stop()
    await this.etcd.stop()
  }
}

function isMet(isSo: () => boolean): boolean {
  try {
    return isSo()
  } catch {
    return false
  }
}
