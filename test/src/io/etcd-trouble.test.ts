/** etcd in trouble: gone, paused, full, compacted, refusing. A real one each time. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { type EtcdSettings, readEtcdOptions } from '../../../src/io/etcd-options.ts'
import { EtcdStore } from '../../../src/io/etcd-store.ts'
import { RealTime } from '../../../src/io/real-time.ts'
import type { StoreChange, StoreOperation } from '../../../src/ports/metadata-store.ts'
import { put, txn, value } from '../../ports/metadata-store-conformance.ts'
import { makeCertificates } from '../../support/certificates.ts'
import { EtcdServer, type EtcdServerOptions, freePorts, hasNoEtcd } from '../../support/etcd.ts'
import { KeptLog } from '../../support/kept-log.ts'

const time = new RealTime()
const servers: EtcdServer[] = []
const stores: EtcdStore[] = []
/** etcd gives none of a shorter life. */
const LEASE_MS = 2000
const directory = mkdtempSync(join(tmpdir(), 'stream-etcd-test-'))

afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()))
  await Promise.all(servers.splice(0).map((server) => server.stop()))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

async function start(options: EtcdServerOptions = {}): Promise<EtcdServer> {
  const server = await EtcdServer.start(options)
  servers.push(server)
  return server
}

async function open(endpoints: string, settings: Partial<EtcdSettings> = {}, log = new KeptLog()) {
  const options = readEtcdOptions({ endpoints, requestTimeoutMs: 2000, ...settings })
  const store = await EtcdStore.open(time, log, options)
  stores.push(store)
  return store
}

/** Collects what a watch tells until `count` revisions have come. */
function collect(store: EtcdStore, prefix: string, from: number, count: number) {
  const seen: { revision: number; changes: readonly StoreChange[] }[] = []
  const ended: (Error | undefined)[] = []
  const resumed: number[] = []
  const done = new Promise<typeof seen>((resolve) => {
    store.watch(prefix, from, {
      onChanges: (revision, changes) => {
        seen.push({ revision, changes })
        if (seen.length === count) resolve(seen)
      },
      onResumed: () => resumed.push(seen.length),
      onEnd: (reason) => ended.push(reason),
    })
  })
  return { seen, ended, resumed, done }
}

/** As a long collection of garbage does: nothing of this thread moves. */
function standStill(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

/** As a caller does that burns or repeats: until an answer comes. */
async function until<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = 200; ; left -= 1) {
    try {
      return await attempt()
    } catch (error) {
      if (left === 0) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

describe.skipIf(hasNoEtcd)('EtcdStore in trouble', () => {
  it('a watch and a lease live through a restart of etcd', async () => {
    const server = await start()
    const store = await open(server.url)
    const lease = await store.lease(20_000)
    const held: StoreOperation = { kind: 'put', key: 'w/live', value: value('x'), lease }
    const first = await store.txn(txn([], [held]))
    const watch = collect(store, 'w/', first.revision, 3)
    await expect.poll(() => watch.seen.length).toBe(1)
    await server.kill()
    await expect(store.txn(txn([], [put('w/1', 'lost')]))).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
    })
    await expect(lease.keepAlive()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    await server.run()
    await until(() => lease.keepAlive())
    // Written by another one, perhaps before this watch has found back.
    const other = await open(server.url)
    const second = await other.txn(txn([], [put('w/1', '1')]))
    const third = await other.txn(txn([], [put('w/2', '2')]))
    const seen = await watch.done
    expect(seen.map(({ revision }) => revision)).toEqual([
      first.revision,
      second.revision,
      third.revision,
    ])
    expect(watch.ended).toEqual([])
    // Once, before anything of after the restart: who has to may look at the whole store first.
    expect(watch.resumed).toEqual([1])
    await lease.revoke()
    expect(await store.get('w/live')).toBeUndefined()
  })

  it('a guarded lease outlives a standstill of this thread for longer than its life, but not for ever', async () => {
    const server = await start()
    const store = await open(server.url)
    const bare = await store.lease(LEASE_MS)
    const short = await store.lease(LEASE_MS)
    const grantedMs = time.monotonicMs()
    const guard = short.guard?.(LEASE_MS, grantedMs)
    expect(guard?.renewedMs).toBe(Math.floor(grantedMs))
    // The thread has to load what it needs first.
    await expect.poll(() => (guard?.renewedMs ?? 0) > grantedMs, { timeout: 10_000 }).toBe(true)
    await short.keepAlive()
    standStill(LEASE_MS * 1.4)
    // etcd looks for leases that have ended twice a second.
    expect(time.monotonicMs() - (guard?.renewedMs ?? 0)).toBeLessThan(LEASE_MS)
    await short.keepAlive()
    await expect(bare.keepAlive()).rejects.toMatchObject({ code: 'FENCED' })
    guard?.stop()

    const last = await store.lease(LEASE_MS)
    last.guard?.(LEASE_MS, time.monotonicMs())
    standStill(LEASE_MS * 3.5)
    await expect(last.keepAlive()).rejects.toMatchObject({ code: 'FENCED' })
    await expect(short.keepAlive()).rejects.toMatchObject({ code: 'FENCED' })
  })

  it('with one of three endpoints down all goes on at the others', async () => {
    const cluster = await EtcdServer.startCluster(3)
    servers.push(...cluster)
    const store = await open(cluster.map(({ url }) => url).join(','))
    const lease = await store.lease(20_000)
    const first = await store.txn(txn([], [put('w/0', '0')]))
    const watch = collect(store, 'w/', first.revision, 2)
    await expect.poll(() => watch.seen.length).toBe(1)
    await cluster[0]?.kill()
    // It may have been the leader; then etcd elects, and what is under way meanwhile is unknown.
    const second = await until(() =>
      store.txn(
        txn(
          [{ kind: 'createRevision', key: 'w/1', equals: 0 }],
          [put('w/1', '1')],
          [{ kind: 'get', key: 'w/1' }],
        ),
      ),
    )
    const revision = second.succeeded ? second.revision : second.gets[0]?.modRevision
    await until(() => lease.keepAlive())
    expect((await watch.done)[1]?.revision).toBe(revision)
    const begunMs = time.monotonicMs()
    await store.get('w/1')
    await store.txn(txn([], [put('w/2', '2')]))
    expect(time.monotonicMs() - begunMs).toBeLessThan(1000)
  })

  it('an endpoint where nothing listens is passed over at the start', async () => {
    const server = await start()
    const [port] = await freePorts(1)
    const store = await open(`http://127.0.0.1:${port},${server.url}`)
    expect((await store.txn(txn([], [put('a', '1')]))).succeeded).toBe(true)
  })

  it('a paused etcd is STORE_UNAVAILABLE within the deadline, and a paused member is passed over', async () => {
    const cluster = await EtcdServer.startCluster(3)
    servers.push(...cluster)
    const [first] = cluster
    const alone = await open(first?.url ?? '', { requestTimeoutMs: 1000 })
    const store = await open(cluster.map(({ url }) => url).join(','))
    const lease = await alone.lease(20_000)
    await first?.pause()
    try {
      for (const call of [
        () => alone.txn(txn([], [put('a', '1')])),
        () => alone.get('a'),
        () => alone.list(''),
        () => lease.keepAlive(),
        () => alone.lease(1000),
      ]) {
        const begunMs = time.monotonicMs()
        await expect(call()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
        expect(time.monotonicMs() - begunMs).toBeLessThan(1500)
      }
      await until(() => store.txn(txn([], [put('b', '1')])))
      expect(await store.get('b')).toBeDefined()
    } finally {
      first?.signal('SIGCONT')
    }
    await until(() => alone.get('b'))
  })

  it('a transaction whose answer was lost is not sent again', async () => {
    const server = await start()
    const store = await open(server.url, { requestTimeoutMs: 500 })
    const before = await store.txn(txn([], [put('a', '0')]))
    await server.pause()
    await expect(store.txn(txn([], [put('a', '1')]))).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
    })
    server.signal('SIGCONT')
    await until(() => store.get('a'))
    await new Promise((resolve) => setTimeout(resolve, 300))
    const after = await store.list('')
    // Once, late; or never.
    expect(after.revision - before.revision).toBeLessThanOrEqual(1)
  })

  it('a full etcd takes no writes: DISK_FULL, with what to do; reads go on', async () => {
    const server = await start({ flags: ['--quota-backend-bytes', '200000'] })
    const store = await open(server.url)
    await store.txn(txn([], [put('kept', 'x')]))
    // etcd counts what it has when it writes it down, ten times a second: a fast machine puts much before that.
    const untilMs = time.monotonicMs() + 4000
    const fill = async (): Promise<void> => {
      for (let index = 0; time.monotonicMs() < untilMs; index += 1) {
        await store.txn(
          txn([], [{ kind: 'put', key: `f/${index % 100}`, value: new Uint8Array(20_000) }]),
        )
      }
    }
    await expect(fill()).rejects.toMatchObject({
      code: 'DISK_FULL',
      retriable: true,
      hint: expect.stringContaining('etcdctl alarm disarm'),
    })
    expect(await store.get('kept')).toBeDefined()
    const log = new KeptLog()
    await open(server.url, {}, log)
    expect(log.lines.some((line) => line.includes('NOSPACE'))).toBe(true)
  })

  it('a compaction while a watch is cut off ends it with a word', async () => {
    const server = await start()
    const store = await open(server.url)
    const first = await store.txn(txn([], [put('w/0', '0')]))
    const watch = collect(store, 'w/', first.revision, 9)
    await expect.poll(() => watch.seen.length).toBe(1)
    await server.kill()
    await server.run()
    const other = await open(server.url)
    // The old watch has not found back yet, or has: both are legal, and nothing is left out in silence.
    await other.txn(txn([], [put('w/1', '1')]))
    const last = await other.txn(txn([], [put('w/2', '2')]))
    await server.json('kv/compaction', { revision: String(last.revision), physical: true })
    await expect
      .poll(() => watch.ended.length > 0 || watch.seen.length === 3, { timeout: 5000 })
      .toBe(true)
    if (watch.ended.length > 0) expect(watch.ended[0]).toMatchObject({ code: 'STORE_UNAVAILABLE' })
    else expect(watch.seen.at(-1)?.revision).toBe(last.revision)
  })

  it('a wrong password is NOT_ALLOWED at the start, no password at the first call; a token that has expired is got again', async () => {
    const server = await start({ flags: ['--auth-token-ttl', '1'] })
    await server.json('auth/user/add', { name: 'root', password: 'right' })
    await server.json('auth/role/add', { name: 'root' })
    await server.json('auth/user/grant', { user: 'root', role: 'root' })
    await server.json('auth/enable', {})
    const wrong = await open(server.url, { user: 'root', password: 'wrong' }).catch(
      (error: unknown) => error,
    )
    expect(wrong).toMatchObject({ code: 'NOT_ALLOWED', exit: 6 })
    expect(String(wrong)).not.toContain('wrong')
    const nobody = await open(server.url)
      .then((store) => store.get('a'))
      .catch((error) => error)
    expect(nobody).toMatchObject({ code: 'NOT_ALLOWED' })
    const passwordFile = join(directory, 'password')
    writeFileSync(passwordFile, 'right\n')
    const store = await open(server.url, { user: 'root', passwordFile })
    const { revision } = await store.txn(txn([], [put('a', '1')]))
    const watch = collect(store, 'a', revision, 2)
    await expect.poll(() => watch.seen.length).toBe(1)
    await new Promise((resolve) => setTimeout(resolve, 2500))
    await store.txn(txn([], [put('a', '2')]))
    await watch.done
    await (await store.lease(5000)).keepAlive()
    expect(watch.ended).toEqual([])
  })

  it('a password that is changed while the store is open is read again from its file', async () => {
    const server = await start()
    await server.json('auth/user/add', { name: 'root', password: 'old' })
    await server.json('auth/role/add', { name: 'root' })
    await server.json('auth/user/grant', { user: 'root', role: 'root' })
    await server.json('auth/enable', {})
    const passwordFile = join(directory, 'changed-password')
    writeFileSync(passwordFile, 'old\n')
    const store = await open(server.url, { user: 'root', passwordFile })
    const { revision } = await store.txn(txn([], [put('a', '1')]))
    const watch = collect(store, 'a', revision, 3)
    const lease = await store.lease(60_000)
    const change = async (from: string, password: string): Promise<void> => {
      const { token } = await server.json('auth/authenticate', { name: 'root', password: from })
      const headers = { Authorization: String(token) }
      await server.json('auth/user/changepw', { name: 'root', password }, headers)
    }
    // The file first, and nothing is refused.
    writeFileSync(passwordFile, 'new\n')
    await change('old', 'new')
    await store.txn(txn([], [put('a', '2')]))
    // The file later: refused until then.
    await change('new', 'newest')
    await expect(store.get('a')).rejects.toMatchObject({ code: 'NOT_ALLOWED' })
    writeFileSync(passwordFile, 'newest\n')
    await store.txn(txn([], [put('a', '3')]))
    await watch.done
    await lease.keepAlive()
    expect(watch.ended).toEqual([])
  })

  it('a user without rights is NOT_ALLOWED, and a watch of his ends', async () => {
    const server = await start()
    await server.json('auth/user/add', { name: 'root', password: 'r' })
    await server.json('auth/role/add', { name: 'root' })
    await server.json('auth/user/grant', { user: 'root', role: 'root' })
    await server.json('auth/user/add', { name: 'guest', password: 'g' })
    await server.json('auth/enable', {})
    const store = await open(server.url, { user: 'guest', password: 'g' })
    await expect(store.get('a')).rejects.toMatchObject({ code: 'NOT_ALLOWED' })
    await expect(store.txn(txn([], [put('a', '1')]))).rejects.toMatchObject({ code: 'NOT_ALLOWED' })
    const reason = await new Promise<Error | undefined>((resolve) => {
      store.watch('a', 1, { onChanges: () => expect.unreachable(), onEnd: resolve })
    })
    expect(reason).toMatchObject({ code: 'NOT_ALLOWED' })
  })

  it('a password where etcd asks for none is a warning', async () => {
    const server = await start()
    const log = new KeptLog()
    const store = await open(server.url, { user: 'root', password: 'x' }, log)
    await store.get('a')
    expect(log.lines.some((line) => line.includes('authentication switched off'))).toBe(true)
  })

  describe('TLS', () => {
    const files = (): ReturnType<typeof makeCertificates> => makeCertificates(directory)

    it('with the right CA, and a certificate of its own where etcd asks for one', async () => {
      const { ca, certificate, key, clientCertificate, clientKey } = files()
      const server = await start({ tls: { certificate, key, clientCa: ca } })
      const store = await open(server.url, {
        caFile: ca,
        certificateFile: clientCertificate,
        keyFile: clientKey,
        serverName: 'etcd.test',
      })
      expect((await store.txn(txn([], [put('a', '1')]))).succeeded).toBe(true)
      const anonymous = open(server.url, { caFile: ca, serverName: 'etcd.test' })
      await expect(anonymous).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringMatching(
          /it ends the TLS handshake \(alert: [a-z ]*certificate[a-z ]*\)$/,
        ),
      })
    })

    it('a bare IP must stand in the certificate, and is no name to ask for (RFC 6066)', async () => {
      const warnings: string[] = []
      const listen = (warning: Error): unknown => warnings.push(warning.message)
      process.on('warning', listen)
      const { ca, certificate, key, nameOnlyCertificate, nameOnlyKey } = files()
      const server = await start({ tls: { certificate, key } })
      const store = await open(server.url, { caFile: ca })
      expect((await store.txn(txn([], [put('a', '1')]))).succeeded).toBe(true)
      const other = await start({ tls: { certificate: nameOnlyCertificate, key: nameOnlyKey } })
      await expect(open(other.url, { caFile: ca })).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringContaining('127.0.0.1'),
      })
      process.off('warning', listen)
      expect(warnings).toEqual([])
    })

    it('a wrong CA and a wrong name are told as such', async () => {
      const { ca, otherCa, certificate, key } = files()
      const server = await start({ tls: { certificate, key } })
      const wrongCa = open(server.url, { caFile: otherCa, serverName: 'etcd.test' })
      await expect(wrongCa).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringMatching(/certificate/),
        hint: expect.stringContaining('certificates'),
      })
      const wrongName = open(server.url, { caFile: ca, serverName: 'elsewhere.test' })
      await expect(wrongName).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringMatching(/elsewhere\.test|altnames|Hostname/i),
      })
      const plain = open(server.url.replace('https:', 'http:'))
      await expect(plain).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    })
  })

  it('nothing there: which addresses, and why', async () => {
    const [port] = await freePorts(1)
    await expect(open(`http://127.0.0.1:${port}`)).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: expect.stringMatching(new RegExp(`127.0.0.1:${port}: .*ECONNREFUSED`)),
      exit: 4,
    })
  })
})
