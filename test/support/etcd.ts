/**
 * A real etcd on free loopback ports with a directory of its own, for tests. The binary is `ETCD_BIN`, or `etcd` on PATH. Where
 * there is none, tests are skipped with a word; with CI=true they fail instead (test/all.sh installs it there).
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const START_MS_MAX = 20_000

/** undefined: there is none on this machine. */
export const etcdBinary: string | undefined = findEtcd()

/** For `describe.skipIf`: says once why. */
export const hasNoEtcd: boolean = etcdBinary === undefined && !isRequired()

export interface EtcdServerOptions {
  /** Further flags of etcd. */
  readonly flags?: readonly string[]
  /** Paths of PEM files; the client's door then has TLS, and asks for a client's certificate where there is a `clientCa`. */
  readonly tls?: { readonly certificate: string; readonly key: string; readonly clientCa?: string }
}

interface Member {
  readonly name: string
  readonly clientUrl: string
  readonly peerUrl: string
  readonly directory: string
}

export class EtcdServer {
  readonly url: string
  readonly directory: string
  private readonly member: Member
  private readonly cluster: string
  private readonly options: EtcdServerOptions
  private child: ChildProcess | undefined
  private said = ''

  private constructor(member: Member, cluster: string, options: EtcdServerOptions) {
    this.member = member
    this.cluster = cluster
    this.options = options
    this.url = member.clientUrl
    this.directory = member.directory
  }

  static async start(options: EtcdServerOptions = {}): Promise<EtcdServer> {
    const [server] = await EtcdServer.startCluster(1, options)
    return server as EtcdServer
  }

  /** Members of one cluster, all running. */
  static async startCluster(
    count: number,
    options: EtcdServerOptions = {},
  ): Promise<readonly EtcdServer[]> {
    const ports = await freePorts(2 * count)
    const scheme = options.tls === undefined ? 'http' : 'https'
    const members = Array.from({ length: count }, (_, index) => ({
      name: `m${index}`,
      clientUrl: `${scheme}://127.0.0.1:${ports[2 * index]}`,
      peerUrl: `http://127.0.0.1:${ports[2 * index + 1]}`,
      directory: mkdtempSync(join(tmpdir(), 'stream-etcd-')),
    }))
    const cluster = members.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(',')
    const servers = members.map((member) => new EtcdServer(member, cluster, options))
    await Promise.all(servers.map((server) => server.run()))
    return servers
  }

  /** Starts it, again where it was killed; returns when it serves. */
  async run(): Promise<void> {
    if (etcdBinary === undefined) throw new Error('no etcd: install etcd-server or set ETCD_BIN')
    const { name, clientUrl, peerUrl, directory } = this.member
    const { tls, flags = [] } = this.options
    const child = spawn(
      etcdBinary,
      [
        ...['--name', name, '--data-dir', directory],
        ...['--listen-client-urls', clientUrl, '--advertise-client-urls', clientUrl],
        ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
        ...['--initial-cluster', this.cluster, '--initial-cluster-state', 'new'],
        ...['--heartbeat-interval', '100', '--election-timeout', '1000'],
        '--unsafe-no-fsync',
        ...(tls === undefined ? [] : ['--cert-file', tls.certificate, '--key-file', tls.key]),
        ...(tls?.clientCa === undefined
          ? []
          : ['--client-cert-auth', '--trusted-ca-file', tls.clientCa]),
        ...flags,
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    )
    this.child = child
    this.said = ''
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string): void =>
        reject(new Error(`etcd ${why}\n${this.said.slice(-2000)}`))
      const timer = setTimeout(() => fail('does not serve'), START_MS_MAX)
      child.stderr?.on('data', (text) => {
        this.said = (this.said + String(text)).slice(-20_000)
        if (!/ready to serve client requests/.test(this.said)) return
        clearTimeout(timer)
        resolve()
      })
      child.once('error', (error) => fail(String(error)))
      child.once('exit', (code) => {
        clearTimeout(timer)
        fail(`has ended with ${code}`)
      })
    })
  }

  signal(name: NodeJS.Signals): void {
    this.child?.kill(name)
  }

  /** Returns when none of its threads runs any more: until then it may go on answering. */
  async pause(): Promise<void> {
    this.signal('SIGSTOP')
    const tasks = `/proc/${this.child?.pid}/task`
    const isStopped = (): boolean =>
      readdirSync(tasks).every((task) =>
        / T /.test(readFileSync(`${tasks}/${task}/stat`, 'utf8').replace(/^.*\)/s, '')),
      )
    while (!isStopped()) await new Promise((resolve) => setTimeout(resolve, 1))
  }

  /** As kill -9 does; the data stay. */
  async kill(): Promise<void> {
    const { child } = this
    this.child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
  }

  async stop(): Promise<void> {
    await this.kill()
    rmSync(this.directory, { recursive: true, force: true })
  }

  /** A call of etcd's JSON door, such as `kv/compaction`; bytes are base64 in it. */
  async json(
    path: string,
    body: object,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Record<string, unknown>> {
    const { status, text } = await post(`${this.url}/v3/${path}`, JSON.stringify(body), headers)
    if (status !== 200) throw new Error(`etcd ${path}: ${text}`)
    return JSON.parse(text) as Record<string, unknown>
  }

  /** Deletes all keys. */
  async clear(): Promise<void> {
    await this.json('kv/deleterange', { key: 'AA==', range_end: 'AA==' })
  }
}

/** To an etcd of the test itself: whom its certificate is from is not asked. */
function post(
  url: string,
  body: string,
  headers: Readonly<Record<string, string>>,
): Promise<{ status: number; text: string }> {
  const { request } = url.startsWith('https:') ? https : http
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      { method: 'POST', headers, rejectUnauthorized: false, servername: '' },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          text += chunk
        })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      },
    )
    sent.on('error', reject)
    sent.end(body)
  })
}

/** Free at this moment, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve) => {
          server.listen(0, '127.0.0.1', () => {
            const address = server.address()
            resolve(typeof address === 'object' && address !== null ? address.port : 0)
          })
        }),
    ),
  )
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

function findEtcd(): string | undefined {
  const binary = process.env['ETCD_BIN'] || 'etcd'
  const found = spawnSync(binary, ['--version'], { stdio: 'ignore' }).status === 0
  if (!found && !isRequired()) {
    process.stderr.write('no etcd on PATH (ETCD_BIN names another place): its tests are skipped\n')
  }
  return found ? binary : undefined
}

function isRequired(): boolean {
  return process.env['CI'] === 'true'
}
