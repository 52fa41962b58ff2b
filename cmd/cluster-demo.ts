/** `stream cluster demo`: an etcd and daemons on this machine, to try a cluster; they live as long as the command. */

import { isStreamError, StreamError, UsageError } from '../src/base/errors.ts'
import type { Server, Servers } from '../src/ports/servers.ts'
import { sleep } from '../src/ports/time.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'
import { printText } from './row-output.ts'
import { absolutePath } from './settings.ts'

const UP_MS_MAX = 60_000
const POLL_MS = 50
/** A daemon that ended is started again after so long: time to look at the cluster without it. */
const AGAIN_MS = 10_000
const STOP_MS_MAX = 10_000
const DAEMONS_MAX = 9

// biome-ignore format: one row, one line
export const spec: CommandSpec = {
  name: 'cluster demo',
  summary: 'Run a cluster on this machine, to try it',
  description: [
    'Starts an etcd and three daemons on free ports of the loopback interface, prints what to type in another terminal, and ends all of them with Ctrl-C. A daemon that is killed meanwhile is started again after ten seconds.',
    'The data are in a temporary directory, which is removed at the end, or in DIR, which is kept and used again the next time, by one demo at a time. The log of each server is beside its data.',
    'etcd is taken from PATH (in Debian: apt install etcd-server), or from where ETCD_BIN says.',
  ],
  operands: [{ name: 'DIR', isOptional: true }],
  options: [{ long: 'daemons', argument: 'N', default: '3', help: `how many, at most ${DAEMONS_MAX}` }],
  examples: [{ line: 'stream cluster demo' }, { line: 'stream cluster demo ~/demo --daemons 5' }],
  exits: [[1, 'there is no etcd'], [4, 'a server does not start'], [8, 'a demo runs in DIR already']],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const { flags, operands } = args
  if (operands.length > 1) throw new UsageError(`unexpected argument ${operands[1]}`)
  const count = flags.wholeNumber('daemons') ?? 3
  if (count < 1 || count > DAEMONS_MAX) {
    throw new UsageError(`--daemons ${count}: must be from 1 to ${DAEMONS_MAX}`)
  }
  const servers = await deps.loadServers()
  const [kept] = operands
  const directory =
    kept === undefined ? servers.makeScratch('stream-demo-') : absolutePath(deps.host, kept)
  const unlock = kept === undefined ? undefined : lockDirectory(deps, directory)
  const demo = new Demo(deps, servers, directory, count)
  const interrupted = new Promise<void>((resolve) => {
    deps.interruption.onRaised(resolve)
  })
  const failure = new Promise<never>((_, reject) => {
    demo.onFailure = reject
  })
  try {
    await Promise.race([demo.start(), interrupted, failure])
    if (deps.interruption.signal === undefined) {
      await printText(deps.stdio.output, demo.text())
      await Promise.race([interrupted, failure])
    }
  } finally {
    await demo.stop(kept === undefined)
    if (kept === undefined) servers.removeTree(directory)
    unlock?.()
  }
  return 0
}

/** etcd would wait for the other one's to end, and say nothing. @throws StreamError CONFLICT */
function lockDirectory({ host }: CommandDeps, directory: string): () => void {
  host.makeDirectory(directory)
  try {
    return host.lockFile(`${directory}/demo.lock`)
  } catch (error) {
    if (!isStreamError(error, 'CONFLICT')) throw error
    throw new StreamError('CONFLICT', `${directory}: a demo runs there already`, {
      target: directory,
      hint: 'end it where it runs, with Ctrl-C, or name another DIR',
      cause: error,
    })
  }
}

interface DemoServer {
  readonly name: string
  readonly start: () => Promise<Server>
  server: Server | undefined
}

class Demo {
  onFailure: (error: unknown) => void = () => undefined
  readonly #deps: CommandDeps
  readonly #servers: Servers
  readonly #directory: string
  readonly #count: number
  readonly #all: DemoServer[] = []
  #etcdPort = 0
  #ports: readonly number[] = []
  #isStopping = false

  constructor(deps: CommandDeps, servers: Servers, directory: string, count: number) {
    this.#deps = deps
    this.#servers = servers
    this.#directory = directory
    this.#count = count
  }

  /** @throws StreamError RUNTIME_MISSING, UNREACHABLE */
  async start(): Promise<void> {
    await this.#endLeftovers()
    const [etcdPort = 0, peerPort = 0, ...ports] = await this.#servers.freePorts(
      2 + 2 * this.#count,
    )
    this.#etcdPort = etcdPort
    this.#ports = ports
    await this.#run('etcd', `tcp://127.0.0.1:${etcdPort}`, () => this.#startEtcd(peerPort))
    const nodeIds = Array.from({ length: this.#count }, (_, index) => index + 1)
    await Promise.all(
      nodeIds.map((nodeId) =>
        this.#run(`daemon-${nodeId}`, this.#address(nodeId), () => this.#startDaemon(nodeId)),
      ),
    )
  }

  /** A demo that was killed has left its servers, which would keep their data from these. @throws StreamError TIMED_OUT */
  async #endLeftovers(): Promise<void> {
    const { host, console } = this.#deps
    const content = host.readFile(this.#marksPath)
    if (content === undefined) return
    const marks = Buffer.from(content).toString('latin1').trimEnd().split('\n')
    const left = marks.flatMap((mark) => {
      const processId = Number(mark.split('@')[0])
      return processId > 1 && host.processMark(processId) === mark ? [{ processId, mark }] : []
    })
    if (left.length === 0) return
    console.warn(`${left.length} servers of a demo that was killed are running here: ending them`)
    // Daemons before the etcd that they leave.
    for (const { processId, mark } of left.reverse()) {
      host.terminate(processId)
      await this.#untilGone(processId, mark)
    }
  }

  async #untilGone(processId: number, mark: string): Promise<void> {
    const { time, host } = this.#deps
    const deadlineMs = time.monotonicMs() + STOP_MS_MAX
    while (host.processMark(processId) === mark) {
      if (time.monotonicMs() > deadlineMs) {
        throw new StreamError(
          'TIMED_OUT',
          `process ${processId} of a demo that was killed does not end within ${STOP_MS_MAX} ms`,
          { target: this.#directory, hint: `kill -9 ${processId}, then start the demo again` },
        )
      }
      await sleep(time, POLL_MS)
    }
  }

  /** Whom the next demo here finds, if this one is killed. */
  #noteServers(): void {
    const { host } = this.#deps
    const marks = this.#all.flatMap(({ server }) =>
      server?.isRunning === true ? [host.processMark(server.processId) ?? ''] : [],
    )
    host.writeFile(this.#marksPath, Buffer.from(`${marks.join('\n')}\n`))
  }

  async #startEtcd(peerPort: number): Promise<Server> {
    const binary = this.#deps.host.environment['ETCD_BIN'] || 'etcd'
    const peer = `http://127.0.0.1:${peerPort}`
    try {
      return await this.#servers.start(
        [
          ...[binary, '--name', 'demo', '--data-dir', `${this.#directory}/etcd`],
          ...['--listen-client-urls', this.#etcd, '--advertise-client-urls', this.#etcd],
          ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
          ...['--initial-cluster', `demo=${peer}`],
        ],
        { logPath: `${this.#directory}/etcd.log` },
      )
    } catch (cause) {
      throw new StreamError('RUNTIME_MISSING', `there is no etcd: cannot run ${binary}`, {
        target: binary,
        cause,
        hint: 'install it (in Debian: apt install etcd-server), or say where it is: ETCD_BIN=PATH',
      })
    }
  }

  #startDaemon(nodeId: number): Promise<Server> {
    const data = `${this.#directory}/daemon-${nodeId}`
    return this.#servers.startDaemon(
      [
        ...['--etcd', this.#etcd, '--cluster', 'demo', '--node-id', String(nodeId)],
        ...['--data', data, '--listen', `ipc://${data}.sock`],
        ...['--listen', this.#address(nodeId), '--listen', this.#kafkaAddress(nodeId)],
      ],
      { logPath: `${data}.log` },
    )
  }

  /** Starts it, and again whenever it ends before its time; returns when it answers. */
  async #run(name: string, address: string, start: () => Promise<Server>): Promise<void> {
    const entry: DemoServer = { name, start, server: undefined }
    this.#all.push(entry)
    const server = await start()
    entry.server = server
    this.#noteServers()
    await this.#untilUp(entry, server, address)
    this.#watch(entry, server)
  }

  /** @throws StreamError UNREACHABLE */
  async #untilUp({ name }: DemoServer, server: Server, address: string): Promise<void> {
    const { time, launcher } = this.#deps
    const deadlineMs = time.monotonicMs() + UP_MS_MAX
    while (!(await launcher.isAnswering(address))) {
      const isLate = time.monotonicMs() > deadlineMs
      if (!server.isRunning || isLate) {
        const why = isLate ? `did not answer in ${UP_MS_MAX} ms` : 'did not start'
        throw new StreamError('UNREACHABLE', `${name} ${why}`, {
          target: name,
          hint: `it said:\n${server.lastLines()}`,
        })
      }
      await sleep(time, POLL_MS)
    }
  }

  #watch(entry: DemoServer, server: Server): void {
    const { time, console } = this.#deps
    const again = async (how: string): Promise<void> => {
      if (this.#isStopping) return
      console.warn(`${entry.name} has ended (${how}); it is started again in ${AGAIN_MS / 1000} s`)
      await sleep(time, AGAIN_MS)
      if (this.#isStopping) return
      entry.server = await entry.start()
      this.#noteServers()
      console.warn(`${entry.name} runs again, process ${entry.server.processId}`)
      this.#watch(entry, entry.server)
    }
    server.ended.then(again).catch((error: unknown) => this.onFailure(error))
  }

  /** Daemons before etcd; `isAtOnce`: nothing of it is wanted any more. */
  async stop(isAtOnce: boolean): Promise<void> {
    this.#isStopping = true
    const [etcd, ...daemons] = this.#all
    const signal = isAtOnce ? 'SIGKILL' : 'SIGTERM'
    await Promise.all(daemons.map((entry) => this.#end(entry, signal)))
    if (etcd !== undefined) await this.#end(etcd, signal)
  }

  async #end({ server }: DemoServer, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (server === undefined || !server.isRunning) return
    server.signal(signal)
    const timer = this.#deps.time.setTimer(STOP_MS_MAX, () => server.signal('SIGKILL'))
    await server.ended
    timer.cancel()
  }

  get #marksPath(): string {
    return `${this.#directory}/demo.servers`
  }

  get #etcd(): string {
    return `http://127.0.0.1:${this.#etcdPort}`
  }

  #address(nodeId: number): string {
    return `tcp://127.0.0.1:${this.#ports[2 * nodeId - 2]}`
  }

  #kafkaAddress(nodeId: number): string {
    return `kafka://127.0.0.1:${this.#ports[2 * nodeId - 1]}`
  }

  /** What to type. */
  text(): string {
    const nodeIds = Array.from({ length: this.#count }, (_, index) => index + 1)
    const join = (addresses: readonly string[]): string =>
      addresses.map((address, at) => (at === 0 ? address : address.split('//')[1])).join(',')
    const victim = this.#all.at(-1)?.server?.processId
    const replicas = Math.min(3, this.#count)
    return [
      `A cluster of ${this.#count} daemons and an etcd; data and logs in ${this.#directory}`,
      `Kafka clients: ${join(nodeIds.map((id) => this.#kafkaAddress(id)))}`,
      `etcd: ${this.#etcd}, cluster demo`,
      '',
      'In another terminal:',
      `  export STREAM_BROKER=${join(nodeIds.map((id) => this.#address(id)))}`,
      '  stream cluster status',
      `  stream topics create orders --partitions 3 --replicas ${replicas}`,
      '  seq 1000 | stream produce orders',
      `  kill -9 ${victim}`,
      '  stream topics describe orders',
      '  stream cat orders | wc -l',
      '',
      'Ctrl-C ends all of it.',
      '',
    ].join('\n')
  }
}
