/**
 * Daemons of one cluster as processes: the built program on free loopback ports, with a real etcd. Everything started here is
 * stopped by `stop`.
 */
import type { ChildProcess } from 'node:child_process'
import { EtcdServer, freePorts } from './etcd.ts'
import { daemonBundle, ended, Program } from './program.ts'

export interface ClusterDaemon {
  readonly nodeId: number
  readonly address: string
  readonly kafkaAddress: string
  readonly words: readonly string[]
  process: ChildProcess | undefined
  /** All it has said on standard error, over its starts. */
  log: string
}

export interface ProcessClusterOptions {
  readonly daemons?: number
  /** Of every daemon, as `-X KEY=VALUE`. */
  readonly config?: readonly string[]
  /** tcp:// with CURVE: all daemons have `cluster.key`, and clients show it too. */
  readonly hasKeys?: boolean
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
        ...config.flatMap((setting) => ['-X', setting]),
      ]
      daemons.push({ nodeId, address, kafkaAddress, words, process: undefined, log: '' })
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

  run(daemon: ClusterDaemon): void {
    const child = this.program.start(process.execPath, [daemonBundle, ...daemon.words])
    daemon.process = child
    child.stderr?.on('data', (chunk: Buffer) => {
      daemon.log += chunk.toString()
    })
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

  async until(isSo: () => boolean, what: string, timeoutMs = UP_MS): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs
    while (!isSo()) {
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
