import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isStreamError } from '../../../src/base/errors.ts'
import { readEtcdOptions } from '../../../src/io/etcd-options.ts'
import { EtcdStore } from '../../../src/io/etcd-store.ts'
import { RealTime } from '../../../src/io/real-time.ts'
import type { StoreChange, StoreOperation } from '../../../src/ports/metadata-store.ts'
import { describeStore, put, txn, value } from '../../ports/metadata-store-conformance.ts'
import { EtcdServer, hasNoEtcd } from '../../support/etcd.ts'
import { KeptLog } from '../../support/kept-log.ts'

const time = new RealTime()
const settle = <T>(promise: Promise<T>): Promise<T> => promise
let server: EtcdServer

function open(url = server.url, requestTimeoutMs = 5000, log = new KeptLog()): Promise<EtcdStore> {
  return EtcdStore.open(time, log, readEtcdOptions({ endpoints: url, requestTimeoutMs }))
}

describe.skipIf(hasNoEtcd)('with a real etcd', () => {
  beforeAll(async () => {
    server = await EtcdServer.start()
  })
  afterAll(() => server?.stop())

  describeStore('etcd', async () => {
    await server.clear()
    return { store: await open(), settle }
  })

  describe('EtcdStore', () => {
    it('warns of etcd 3.4 and says which version it is', async () => {
      const log = new KeptLog()
      const store = await open(server.url, 5000, log)
      const { version = '' } = (await (await fetch(`${server.url}/version`)).json()) as {
        version?: string
        etcdserver: string
      }
      expect(version).toBe('')
      const isOld = log.lines.some((line) => /warn etcd 3\.4\.\d+ is known to/.test(line))
      const { etcdserver } = (await (await fetch(`${server.url}/version`)).json()) as {
        etcdserver: string
      }
      expect(isOld).toBe(etcdserver.startsWith('3.4.'))
      await store.close()
    })

    it('a lease has its whole id and ends by time', async () => {
      const store = await open()
      const lease = await store.lease(2000)
      expect(BigInt(lease.id)).toBeGreaterThan(BigInt(Number.MAX_SAFE_INTEGER))
      const held: StoreOperation = { kind: 'put', key: 'l/1', value: value('x'), lease }
      const { revision } = await store.txn(txn([], [held]))
      await lease.keepAlive()
      const gone = new Promise<readonly StoreChange[]>((resolve) => {
        store.watch('l/', revision + 1, {
          onChanges: (_, changes) => resolve(changes),
          onEnd: () => undefined,
        })
      })
      expect(await gone).toEqual([{ key: 'l/1', entry: undefined }])
      await expect(lease.keepAlive()).rejects.toMatchObject({ code: 'FENCED' })
      await store.close()
    })

    it('a lease is ended by its id, by another process than the one that took it', async () => {
      const [taker, ender] = [await open(), await open()]
      const lease = await taker.lease(60_000)
      await ender.revokeLease(lease.id)
      await expect(lease.keepAlive()).rejects.toMatchObject({ code: 'FENCED' })
      await taker.close()
      await ender.close()
    })

    it('gets of a branch that writes see the state before it', async () => {
      const store = await open()
      await store.txn(txn([], [put('g', 'old')]))
      const { gets } = await store.txn(txn([], [put('g', 'new'), { kind: 'get', key: 'g' }]))
      expect(Buffer.from(gets[0]?.value ?? []).toString()).toBe('old')
      await store.close()
    })

    it('lists more keys than a page has, all of one revision, in the order of their bytes', async () => {
      const store = await open()
      const count = 10_300
      const names = Array.from(
        { length: count },
        (_, index) => `many/${`${index}`.padStart(6, '0')}`,
      )
      for (let at = 0; at < count; at += store.operationsMax) {
        const part = names.slice(at, at + store.operationsMax)
        await store.txn(
          txn(
            [],
            part.map((name) => put(name, name)),
          ),
        )
      }
      const listing = await store.list('many/')
      expect(listing.entries.map(({ key }) => key)).toEqual(names)
      expect(
        new Set(listing.entries.map(({ modRevision }) => modRevision > listing.revision)),
      ).toEqual(new Set([false]))
      await server.clear()
      await store.close()
    })

    it('joins the fragments of a revision that is too long for one message', async () => {
      const store = await open()
      const { revision } = await store.txn(txn([], [put('begin', 'x')]))
      const big = new Uint8Array(11_000).fill(120)
      const seen: { revision: number; count: number }[] = []
      // Written before the watch begins: the server has them all to send at once.
      for (let round = 0; round < 3; round += 1) {
        const puts = Array.from(
          { length: 120 },
          (_, index): StoreOperation => ({
            kind: 'put',
            key: `big/${index}`,
            value: big,
          }),
        )
        await store.txn(txn([], puts))
      }
      await new Promise<void>((resolve) => {
        store.watch('big/', revision + 1, {
          onChanges: (at, changes) => {
            seen.push({ revision: at, count: changes.length })
            if (seen.length === 3) resolve()
          },
          onEnd: () => undefined,
        })
      })
      expect(seen).toEqual([1, 2, 3].map((offset) => ({ revision: revision + offset, count: 120 })))
      await server.clear()
      await store.close()
    })

    it('a watch from before a compaction ends; one that has come further goes on', async () => {
      const store = await open()
      const { revision } = await store.txn(txn([], [put('c/1', '1')]))
      await store.txn(txn([], [put('c/2', '2')]))
      const last = await store.txn(txn([], [put('c/3', '3')]))
      await server.json('kv/compaction', { revision: String(last.revision), physical: true })
      const reason = await new Promise<Error | undefined>((resolve) => {
        store.watch('c/', revision, { onChanges: () => expect.unreachable(), onEnd: resolve })
      })
      expect(isStreamError(reason, 'STORE_UNAVAILABLE')).toBe(true)
      const next = new Promise<number>((resolve) => {
        store.watch('c/', last.revision + 1, { onChanges: resolve, onEnd: () => undefined })
      })
      const { revision: written } = await store.txn(txn([], [put('c/4', '4')]))
      expect(await next).toBe(written)
      await store.close()
    })

    it('calls under way when it is closed end with CLOSED', async () => {
      const store = await open()
      await server.pause()
      try {
        const asked = store.txn(txn([], [put('never', 'x')]))
        const refused = expect(asked).rejects.toMatchObject({ code: 'CLOSED' })
        await new Promise((resolve) => setTimeout(resolve, 100))
        await store.close()
        await refused
      } finally {
        server.signal('SIGCONT')
      }
    })
  })
})
