/** A cluster whose daemons have a key file: who is let in, and what the others are told. Real daemons and a real etcd. */
import { chmodSync, copyFileSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseClientKeys } from '../../src/base/curve-keys.ts'
import type * as Library from '../../src/library/index.ts'
import type * as Public from '../../src/library/public.d.ts'
import { ProcessCluster } from '../support/cluster.ts'
import { freePorts, hasNoEtcd } from '../support/etcd.ts'
import { daemonBundle } from '../support/program.ts'

describe.skipIf(hasNoEtcd)('a cluster with keys', () => {
  let cluster: ProcessCluster
  beforeAll(async () => {
    cluster = await ProcessCluster.start({ hasKeys: true })
  }, 60_000)
  afterAll(() => cluster?.stop())

  const stream = (words: string, key = 'cluster.key'): string =>
    `stream -b ${cluster.addresses} ${key === '' ? '' : `-X curve.key.file=${key}`} ${words}`
  /** A daemon of its own directory that is not of the cluster; it is expected to end. */
  const runFourth = async (...words: readonly string[]) => {
    const [port] = await freePorts(1)
    const { program, etcd } = cluster
    return program.shell(
      [
        ...[process.execPath, daemonBundle, '--etcd', etcd.url, '--node-id', '4'],
        ...['--data', program.path('d4'), '--listen', `ipc://${program.path('d4.sock')}`],
        ...['--listen', `tcp://127.0.0.1:${port}`, ...words],
      ].join(' '),
      { timeoutMs: 20_000 },
    )
  }

  it('replicates, and serves clients that show a key', async () => {
    const { program } = cluster
    program.ok(stream('topics create t -r 3 --partitions 2'))
    program.ok(`seq 2000 | ${stream('produce t --acks all')}`)
    expect(program.ok(`${stream('cat t')} | sort -n | tail -1`)).toBe('2000\n')
    await cluster.until(() => {
      const shown = program.ok(stream('topics describe t --json'))
      const inSync = [...shown.matchAll(/"isr":\[([^\]]*)\]/g)].map(([, ids = '']) => ids)
      return inSync.length === 2 && inSync.every((ids) => ids.split(',').length === 3)
    }, 'all replicas are in sync')
  })

  it('a client with a key of its own is let in until it is revoked', () => {
    const { program } = cluster
    program.ok('stream cluster keys add etl --file cluster.key')
    expect(program.ok(stream('cat t -n 1', 'etl.key'))).toMatch(/^\d+\n$/)
    program.ok('stream cluster keys revoke etl --file cluster.key')
    const refused = program.shell(stream('cat t -n 1', 'etl.key'))
    expect(refused).toMatchObject({ status: 6, stdout: '' })
    expect(refused.stderr).toMatch(
      /^stream: cat: tcp:\S+ does not know this key, or has revoked it; .*\n$/,
    )
  })

  it('a client without a key, or with that of another cluster, gets one line and exit 6', () => {
    const { program } = cluster
    const bare = program.shell(stream('cat t', ''))
    expect(bare).toMatchObject({ status: 6, stdout: '' })
    expect(bare.stderr).toMatch(
      /^stream: cat: tcp:\S+ lets in only who has a key; .*curve\.key\.file=FILE.*\n$/,
    )
    program.ok('stream cluster keys --out other.key')
    const foreign = program.shell(stream('cat t', 'other.key'))
    expect(foreign).toMatchObject({ status: 6, stdout: '' })
    expect(foreign.stderr).toMatch(/^stream: cat: .*another key than.*\n$/)
  })

  it('a script with its key file is let in; without, or with a bad one, it is told why', async () => {
    const { program } = cluster
    const { connect } = (await import('../../src/library/index.ts')) as typeof Library
    program.ok('stream cluster keys add script --file cluster.key')
    const keyFile = program.path('script.key')
    const broker = cluster.addresses
    const connection = await connect({ broker, curve: { keyFile } })
    await connection.producer({ create: true }).send('by-script', 'hello')
    await connection.close()
    expect(program.ok(stream('cat by-script'))).toBe('hello\n')
    const keys = parseClientKeys(readFileSync(keyFile, 'utf8'), keyFile)
    await (await connect({ broker, curve: keys })).close()
    const code = async (options: Public.ConnectOptions): Promise<string> =>
      connect({ broker, ...options }).then(
        () => 'connected',
        (error: Public.StreamError) => error.code,
      )
    expect(await code({})).toBe('NOT_ALLOWED')
    expect(await code({ curve: { keyFile: program.path('none.key') } })).toBe('FILE_NOT_FOUND')
    expect(await code({ curve: { ...keys, secretKey: 'short' } })).toBe('CONFIG_INVALID')
    expect(await code({ broker: 'kafka://127.0.0.1:1', curve: keys })).toBe('CONFIG_INVALID')
    expect(await code({ tls: true })).toBe('CONFIG_INVALID')
    chmodSync(keyFile, 0o644)
    expect(await code({ curve: { keyFile } })).toBe('PERMISSION_DENIED')
  })

  it('at the socket of one daemon the key counts for the others', () => {
    const { program } = cluster
    program.ok(stream('topics create single -r 1 --partitions 3'))
    // Each daemon leads one of the three.
    const at = (key: string): string =>
      `seq 30 | sed 's/.*/&:&/' | stream -b ipc://${program.path('d1.sock')} ${key} produce single -K :`
    const refused = program.shell(at(''))
    expect(refused, refused.stderr).toMatchObject({ status: 6, stdout: '' })
    expect(refused.stderr).toMatch(/lets in only who has a key/)
    program.ok(at('-X curve.key.file=cluster.key'))
  })

  it('a daemon without the key ends with one line, and takes no part; the others say who came', async () => {
    const bare = await runFourth()
    expect(bare).toMatchObject({ status: 6, stdout: '' })
    expect(
      bare.stderr
        .trim()
        .split('\n')
        .filter((line) => line.startsWith('stream: daemon:')),
    ).toEqual([
      expect.stringMatching(
        /broker \d does not let this daemon in: tcp:\S+ lets in only who has a key; all daemons .*stream\.curve\.key\.file=FILE$/,
      ),
    ])
    const foreign = await runFourth('-X', 'stream.curve.key.file=other.key')
    expect(foreign.status).toBe(6)
    expect(foreign.stderr).toContain('has another key than the one that it should have')
    expect(cluster.liveBrokers()).toBe(3)
    // By cause and peer: the fourth's other key is told beside it, and clients of before stand there with their own.
    const countOf = (daemon: { readonly log: string }, why: string): number =>
      daemon.log.split(`refused a peer: ${why}`).length - 1
    await cluster.until(
      () =>
        cluster.daemons.every(
          (daemon) =>
            countOf(daemon, 'it shows no key') === 1 &&
            countOf(daemon, 'its key file is of another cluster') === 1,
        ),
      'every daemon has told it once',
      5000,
    )
  })

  it('a key file that others may read is refused by daemon and client', async () => {
    const { program } = cluster
    copyFileSync(cluster.keyFile, program.path('open.key'))
    chmodSync(program.path('open.key'), 0o640)
    const daemon = await runFourth('-X', 'stream.curve.key.file=open.key')
    expect(daemon.status).toBe(6)
    expect(daemon.stderr).toMatch(
      /^stream: daemon: \S+open\.key: others may read or write it \(mode 0640\); chmod 600 .*\n$/,
    )
    const client = program.shell(stream('cat t', 'open.key'))
    expect(client).toMatchObject({ status: 6, stdout: '' })
    expect(client.stderr).toContain('others may read or write it')
  })

  it('nothing listens beyond this host in clear text unless it is told to', async () => {
    const bare = await runFourth('--listen', 'tcp://0.0.0.0:0')
    expect(bare.status).toBe(2)
    expect(bare.stderr).toMatch(
      /^stream: daemon: tcp:\/\/0\.0\.0\.0:0: reachable from other hosts, and no keys are set; .*\n$/,
    )
    const kafka = await runFourth(
      '--listen',
      'kafka://0.0.0.0:0',
      '-X',
      'stream.curve.key.file=cluster.key',
    )
    expect(kafka.stderr).toMatch(/stream\.allow\.plaintext=true\n$/)
  })
})
