/** What goes wrong around a cluster: etcd away, full, put back, refusing; daemons that do not belong. Real processes. */
import { cpSync, existsSync, rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeCertificates } from '../support/certificates.ts'
import { type ClusterDaemon, ProcessCluster } from '../support/cluster.ts'
import { EtcdServer, freePorts, hasNoEtcd } from '../support/etcd.ts'
import { daemonBundle, ended, type Outcome, Program } from '../support/program.ts'

/** A dead daemon's partitions have other leaders soon, which keeps the tests short. */
const SESSION = 'broker.session.timeout.ms=3000'
const TEST_MS_MAX = 60_000

const diagnosis = ({ stderr }: Outcome): string[] =>
  stderr.split('\n').filter((line) => line.startsWith('stream: '))

describe.skipIf(hasNoEtcd)('a cluster of three', { timeout: TEST_MS_MAX }, () => {
  let cluster: ProcessCluster
  let written = 0
  /** Another daemon with the number of the first, and a directory of its own. */
  let twin: ReturnType<typeof startTwin>
  const startTwin = async () => {
    const [port] = await freePorts(1)
    const { program, etcd } = cluster
    const child = program.start(process.execPath, [
      ...[daemonBundle, '--etcd', etcd.url, '-X', SESSION, '--node-id', '1'],
      ...['--data', program.path('twin'), '--listen', `ipc://${program.path('twin.sock')}`],
      ...['--listen', `tcp://127.0.0.1:${port}`],
    ])
    let said = ''
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString()
    })
    return { child, stderr: () => said }
  }
  beforeAll(async () => {
    cluster = await ProcessCluster.start({ config: [SESSION] })
    twin = startTwin()
    cluster.program.ok(stream('topics create t -r 3 --partitions 3'))
    produce(1000)
  }, 60_000)
  afterAll(() => cluster?.stop())

  const stream = (words: string): string => `stream -b ${cluster.addresses} ${words}`
  const produce = (count: number): void => {
    const first = written + 1
    written += count
    cluster.program.ok(`seq ${first} ${written} | ${stream('produce t --acks all')}`)
  }
  const expectAll = (): void => {
    const found = cluster.program.ok(`set -o pipefail; ${stream('cat t')} | sort -n | uniq | wc -l`)
    expect(Number(found)).toBe(written)
  }
  /** A daemon with other words behind those of a fourth; it is expected to end. */
  const runStranger = async (...words: readonly string[]): Promise<Outcome> => {
    const [port] = await freePorts(1)
    const { program, etcd } = cluster
    return program.shell(
      [
        ...[process.execPath, daemonBundle, '--etcd', etcd.url, '-X', SESSION],
        ...['--listen', `ipc://${program.path('stranger.sock')}`],
        ...['--listen', `tcp://127.0.0.1:${port}`, ...words],
      ].join(' '),
      { timeoutMs: 30_000 },
    )
  }
  /** There is a controller, and it may write. */
  const topicCanBeMade = (name: string): Promise<void> =>
    cluster.until(
      () => cluster.program.shell(stream(`topics create ${name} -r 3`)).status === 0,
      'a topic can be made',
    )
  const checkCluster = (): Outcome => cluster.program.shell(stream('check cluster'))
  const controllerId = (): number =>
    Number(cluster.program.ok(stream('cluster status')).split('\t')[1])
  const linesOf = ({ log }: ClusterDaemon, text: string): number => log.split(text).length - 1

  it('more replicas than brokers are one line, and nothing is made', () => {
    const { program } = cluster
    const refused = program.shell(stream('topics create big -r 5'))
    expect(refused).toMatchObject({ status: 2, stdout: '' })
    expect(diagnosis(refused)).toEqual([expect.stringMatching(/big: .*5.*3/)])
    expect(program.ok(stream('topics list'))).not.toContain('big')
  })

  it('the data of another daemon or cluster are refused and left as they are', async () => {
    const { program, daemons } = cluster
    const [, , third] = daemons
    if (third === undefined) throw new Error('three daemons')
    const data = program.path('d3')
    const locked = await runStranger('--node-id', '3', '--data', data)
    expect(locked.status).toBe(8)
    await cluster.end(third, 'SIGTERM')
    const asOther = await runStranger('--node-id', '4', '--data', data)
    expect(asOther).toMatchObject({ status: 1, stdout: '' })
    expect(diagnosis(asOther)).toEqual([
      expect.stringMatching(/node\.id is 3, not 4; this directory belongs to another daemon/),
    ])
    const elsewhere = await runStranger('--node-id', '3', '--data', data, '--cluster', 'other')
    expect(elsewhere).toMatchObject({ status: 1, stdout: '' })
    expect(diagnosis(elsewhere)).toEqual([
      expect.stringMatching(/cluster\.id is \S+, not \S+; this directory belongs/),
    ])
    cluster.run(third)
    await cluster.until(() => cluster.liveBrokers() === 3, 'the third is back')
    expectAll()
  })

  it('a node id in use is one line and exit 8; the daemon that has it goes on', async () => {
    const { stderr, child } = await twin
    const status = await ended(child)
    expect(status).toBe(8)
    const said = stderr()
    expect(said.split('\n').filter((line) => line.startsWith('stream: '))).toEqual([
      expect.stringMatching(
        /another daemon with node id 1 .* answers at tcp:.*; stop it, or give this one another --node-id$/,
      ),
    ])
    expect(said).not.toContain('waiting for another session of this node to end')
    expect(said).not.toContain('acknowledged records may be missing')
    // The advice can be followed: the directory is nobody's.
    expect(existsSync(cluster.program.path('twin'))).toBe(false)
    produce(1000)
    expect(cluster.liveBrokers()).toBe(3)
    expectAll()
  })

  it('etcd away: what needs it is one line, acknowledged writes go on; back: all as before', async () => {
    const { program, etcd, daemons } = cluster
    await etcd.kill()
    produce(1000)
    const refused = program.shell(stream('topics create u -r 3 -X request.timeout.ms=3000'))
    expect(refused).toMatchObject({ status: 7, stdout: '' })
    expect(diagnosis(refused).at(-1)).toMatch(
      /no answer to CreateTopics in time$|no endpoint of etcd is reached/,
    )
    // Their sessions are over by now.
    produce(1000)
    await cluster.until(() => checkCluster().stdout.includes('crit\tstore\t'), 'it is critical')
    expect(checkCluster()).toMatchObject({
      status: 1,
      stdout: expect.stringMatching(/^crit\tstore\t\S+\tsilent for \d+s: no endpoint of etcd/m),
    })
    const status = program.shell(stream('cluster status'))
    expect(status).toMatchObject({ status: 1, stdout: expect.stringMatching(/^\S+\t-\t/) })
    expect(diagnosis(status)).toEqual([expect.stringMatching(/the metadata store is silent for/)])
    const altered = program.shell(stream('topics alter t --set retention.ms=60000'))
    expect(altered.status).toBe(7)
    expect(diagnosis(altered)).toEqual([expect.stringMatching(/t: no endpoint of etcd is reached/)])
    await etcd.run()
    await topicCanBeMade('after')
    await cluster.until(() => checkCluster().status === 0, 'all is well again')
    produce(1000)
    expectAll()
    for (const daemon of daemons) expect(linesOf(daemon, ' warn ')).toBeLessThan(20)
  })

  it('etcd away and a daemon dead: what can be said is said, within seconds', async () => {
    const { program, etcd, daemons } = cluster
    const dead = daemons.find(({ nodeId }) => nodeId !== controllerId())
    if (dead === undefined) throw new Error('three daemons')
    await etcd.kill()
    await cluster.end(dead)
    await cluster.until(() => checkCluster().stdout.includes('crit\tstore\t'), 'it is critical')
    const begunMs = performance.now()
    const list = program.shell(stream('topics list'))
    expect(list).toMatchObject({ status: 7, stdout: expect.stringMatching(/^t\t3\t3\t-\t/m) })
    expect(diagnosis(list)).toContainEqual(
      expect.stringMatching(`broker ${dead.nodeId} does not answer: the offsets of .* are unknown`),
    )
    const found = program.shell(stream('cluster doctor'))
    expect(found.status).toBe(1)
    expect(found.stdout).toMatch(/^crit\tstore\tcluster\t/m)
    expect(found.stdout).toMatch(`crit\taddress\tbroker ${dead.nodeId}\t`)
    expect(found.stdout).toContain('start it if it is down')
    expect(program.shell(stream('cluster brokers')).stdout).toMatch(
      new RegExp(`^${dead.nodeId}\t.*\tsilent\t`, 'm'),
    )
    expect(performance.now() - begunMs).toBeLessThan(30_000)
    await etcd.run()
    cluster.run(dead)
    await cluster.until(() => checkCluster().status === 0, 'all is well again')
    expectAll()
  })

  it('etcd full: what needs it is one line, writes go on; with room again all as before', async () => {
    const { program, etcd, daemons } = cluster
    const before = daemons.map((daemon) => daemon.log.length)
    await etcd.json('maintenance/alarm', { action: 'ACTIVATE', alarm: 'NOSPACE' })
    const refused = program.shell(stream('topics create v -r 3'))
    expect(refused.status).not.toBe(0)
    expect(diagnosis(refused)).toEqual([expect.stringMatching(/quota \(NOSPACE\)/)])
    produce(1000)
    const check = () => program.shell(stream('check cluster'))
    const isTold = () => /^warn\tstore\t.*read-only: .*quota \(NOSPACE\)/m.test(check().stdout)
    await cluster.until(isTold, 'check cluster warns')
    expect(program.shell(stream('cluster doctor')).stdout).toContain('etcdctl alarm disarm')
    const [first] = daemons
    if (first === undefined) throw new Error('three daemons')
    await cluster.end(first)
    cluster.run(first)
    await cluster.until(() => first.log.slice(before[0]).includes('waiting for etcd'), 'it waits')
    expect(first.log).toContain('etcdctl alarm disarm')
    await etcd.json('maintenance/alarm', { action: 'DEACTIVATE', alarm: 'NOSPACE' })
    await cluster.until(() => cluster.liveBrokers() === 3, 'all are in again')
    program.ok(stream('topics create v -r 3'))
    produce(1000)
    await cluster.until(() => check().status === 0, 'all is well again')
    expectAll()
    for (const [index, daemon] of daemons.entries()) {
      const said = daemon.log.slice(before[index])
      expect(said.split(' warn ').length + said.split(' error ').length).toBeLessThan(20)
    }
  })

  it('etcd put back to an older state: daemons end with one line; its newest state again: nothing is lost', async () => {
    const { program, etcd, daemons } = cluster
    const [older, newest] = [program.path('etcd.older'), program.path('etcd.newest')]
    const exchange = async (kept: string, from: string | undefined): Promise<void> => {
      await etcd.kill()
      cpSync(etcd.directory, kept, { recursive: true })
      if (from !== undefined) {
        rmSync(etcd.directory, { recursive: true, force: true })
        cpSync(from, etcd.directory, { recursive: true })
      }
      await etcd.run()
    }
    await exchange(older, undefined)
    await topicCanBeMade('later')
    program.ok(`seq 100 | ${stream('produce later --acks all')}`)
    await exchange(newest, older)
    for (const daemon of daemons) {
      if (daemon.process === undefined) throw new Error('all run')
      expect(await ended(daemon.process)).toBe(1)
      expect(daemon.log.split('\n').filter((line) => line.startsWith('stream: daemon:'))).toEqual([
        expect.stringMatching(/the metadata store is old: .*; put back the newer copy of etcd/),
      ])
    }
    await exchange(program.path('etcd.refused'), newest)
    for (const daemon of daemons) cluster.run(daemon)
    await cluster.until(() => cluster.liveBrokers() === 3, 'all are in again')
    expect(program.ok(`set -o pipefail; ${stream('cat later')} | wc -l`).trim()).toBe('100')
    expectAll()
  })
})

describe.skipIf(hasNoEtcd)('one daemon and its etcd', { timeout: TEST_MS_MAX }, () => {
  const servers: EtcdServer[] = []
  let program: Program
  beforeAll(() => {
    program = new Program()
  })
  afterAll(async () => {
    program?.stop()
    for (const server of servers) await server.stop()
  })

  const startEtcd = async (options = {}): Promise<EtcdServer> => {
    const server = await EtcdServer.start(options)
    servers.push(server)
    return server
  }
  let count = 0
  const startDaemon = async (etcd: EtcdServer, ...words: readonly string[]) => {
    count += 1
    const [port] = await freePorts(1)
    const socket = `ipc://${program.path(`s${count}.sock`)}`
    const child = program.start(process.execPath, [
      ...[daemonBundle, '--etcd', etcd.url, '--node-id', '1', '-X', SESSION],
      ...['--data', program.path(`data${count}`)],
      ...['--listen', socket, '--listen', `tcp://127.0.0.1:${port}`, ...words],
    ])
    const daemon = { child, socket, log: '' }
    child.stderr?.on('data', (chunk: Buffer) => {
      daemon.log += chunk.toString()
    })
    return daemon
  }
  const says = (daemon: { readonly log: string }, text: string) =>
    expect.poll(() => daemon.log, { timeout: 15_000 }).toContain(text)

  /** The user `stream` may read and write everything; returns what says so. */
  const enableLogin = async (etcd: EtcdServer) => {
    const grant = {
      name: 'stream',
      perm: { permType: 'READWRITE', key: 'AA==', range_end: 'AA==' },
    }
    for (const [path, body] of [
      ['user/add', { name: 'root', password: 'r' }],
      ['role/add', { name: 'root' }],
      ['user/grant', { user: 'root', role: 'root' }],
      ['user/add', { name: 'stream', password: 's' }],
      ['role/add', { name: 'stream' }],
      ['user/grant', { user: 'stream', role: 'stream' }],
      ['role/grant', grant],
      ['enable', {}],
    ] as const) {
      await etcd.json(`auth/${path}`, body)
    }
    return grant
  }
  const loginWords = (): readonly string[] => {
    const file = program.path('etcd.password')
    writeFileSync(file, 's\n', { mode: 0o600 })
    return ['-X', 'stream.etcd.user=stream', '-X', `stream.etcd.password.file=${file}`]
  }

  it('with TLS, by a bare address, and a login it serves within 3 s and says nothing of it', async () => {
    const { ca, certificate, key, clientCertificate, clientKey } = makeCertificates(
      program.directory,
    )
    const etcd = await startEtcd({ tls: { certificate, key } })
    await enableLogin(etcd)
    const begunMs = performance.now()
    const daemon = await startDaemon(
      etcd,
      ...loginWords(),
      ...['-X', `stream.etcd.tls.ca.file=${ca}`],
      ...['-X', `stream.etcd.tls.certificate.file=${clientCertificate}`],
      ...['-X', `stream.etcd.tls.key.file=${clientKey}`],
    )
    await says(daemon, 'serving')
    expect(performance.now() - begunMs).toBeLessThan(3000)
    expect(daemon.log).not.toContain('Warning')
    program.ok(`stream -b ${daemon.socket} topics create t -r 1`)
  })

  it('is found, waited for and ended while it waits for etcd', async () => {
    const etcd = await startEtcd()
    await etcd.kill()
    const data = program.path('starting')
    const [port] = await freePorts(1)
    const listen = `--listen ipc://${data}.sock --listen tcp://127.0.0.1:${port}`
    const start = `stream daemon start --data ${data} --etcd ${etcd.url} --node-id 1 ${listen}`
    const begun = program.start('sh', ['-c', start])
    await expect.poll(() => existsSync(`${data}/daemon.starting`), { timeout: 15_000 }).toBe(true)
    const asked = program.shell(`stream daemon status --data ${data}`)
    expect(asked.status).toBe(4)
    expect(asked.stderr).toMatch(/the daemon \(process \d+\) is starting, and does not answer yet/)
    const pid = Number(/process (\d+)/.exec(asked.stderr)?.[1])
    program.ok(`stream daemon stop --data ${data}`)
    // Its number is free once whoever started it has seen it end.
    expect(await ended(begun)).toBe(4)
    expect(() => process.kill(pid, 0)).toThrow(/ESRCH/)
    expect(program.shell(`stream daemon status --data ${data}`).stderr).toContain('no daemon is')
    // A second start waits for the first one's daemon.
    const both = [
      program.start('sh', ['-c', start]),
      program.start('sh', ['-c', `sleep 1; ${start}`]),
    ]
    await new Promise((resolve) => setTimeout(resolve, 3000))
    await etcd.run()
    expect(await Promise.all(both.map(ended))).toEqual([0, 0])
    expect(existsSync(`${data}/daemon.starting`)).toBe(false)
    program.ok(`stream -b ipc://${data}.sock daemon stop`)
  })

  it('waits for an etcd that is not there yet, with one line', async () => {
    const etcd = await startEtcd()
    await etcd.kill()
    const daemon = await startDaemon(etcd)
    await says(daemon, 'waiting for etcd')
    await new Promise((resolve) => setTimeout(resolve, 2500))
    expect(daemon.log.split('waiting for etcd').length).toBe(2)
    expect(daemon.log).toContain(`no endpoint of etcd is reached: ${etcd.url}`)
    await etcd.run()
    await says(daemon, 'serving')
  })

  it('a user whose right was taken may do nothing new, and all again when he has it back', async () => {
    const etcd = await startEtcd()
    const grant = await enableLogin(etcd)
    const asRoot = async (path: string, body: object): Promise<void> => {
      const { token } = await etcd.json('auth/authenticate', { name: 'root', password: 'r' })
      const response = await fetch(`${etcd.url}/v3/${path}`, {
        method: 'POST',
        headers: { Authorization: String(token) },
        body: JSON.stringify(body),
      })
      if (!response.ok) throw new Error(await response.text())
    }
    const login = loginWords()
    const daemon = await startDaemon(etcd, ...login)
    await says(daemon, 'serving')
    const stream = (words: string): string => `stream -b ${daemon.socket} ${words}`
    program.ok(stream('topics create t -r 1'))
    const { key, range_end } = grant.perm
    await asRoot('auth/role/revoke', { role: 'stream', key, range_end })
    program.ok(`seq 100 | ${stream('produce t --acks all')}`)
    const refused = program.shell(stream('topics create u -r 1'))
    expect(refused.status).not.toBe(0)
    expect(diagnosis(refused)).toEqual([expect.stringMatching(/etcd .*permission denied/)])
    const second = await startDaemon(etcd, ...login)
    expect(await ended(second.child)).toBe(6)
    expect(second.log).toMatch(
      /^stream: daemon: etcd at \S+: permission denied; grant the user a role .*$/m,
    )
    await asRoot('auth/role/grant', grant)
    await expect
      .poll(() => program.shell(stream('topics create u -r 1 --if-not-exists')).status, {
        timeout: 15_000,
      })
      .toBe(0)
    expect(program.ok(`${stream('cat t')} | wc -l`).trim()).toBe('100')
    expect(daemon.log.split('\n').length).toBeLessThan(20)
  })
})
