import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { open } from 'lmdb'
import { afterAll, describe, expect, it } from 'vitest'
import { EmbeddedStore } from '../../../src/io/embedded-store.ts'
import { RealTime } from '../../../src/io/real-time.ts'
import { parseSnapshot } from '../../../src/io/store-snapshot.ts'
import { describeStore, put, txn, value } from '../../ports/metadata-store-conformance.ts'

const root = mkdtempSync(join(tmpdir(), 'stream-store-'))
const time = new RealTime()
const settle = <T>(promise: Promise<T>): Promise<T> => promise

afterAll(() => rmSync(root, { recursive: true, force: true }))

function openIn(directory: string): Promise<EmbeddedStore> {
  return EmbeddedStore.open(time, { directory })
}

/** Changes one stored value behind the store's back. */
async function damage(directory: string, key: string, change: (bytes: Buffer) => Buffer) {
  const database = open<Buffer, Buffer>(join(directory, 'metadata.lmdb'), {
    noSubdir: true,
    encoding: 'binary',
    keyEncoding: 'binary',
  })
  const name = Buffer.from(key)
  await database.put(name, change(Buffer.from(database.get(name)!)))
  await database.flushed
  await database.close()
}

describeStore('embedded', async () => ({
  store: await openIn(mkdtempSync(join(root, 'c'))),
  settle,
}))

describe('EmbeddedStore', () => {
  it('opens again with the same entries and the same revision', async () => {
    const directory = mkdtempSync(join(root, 'd'))
    const first = await openIn(directory)
    await first.txn(txn([], [put('a', '1'), put('b', '2')]))
    const last = await first.txn(txn([], [{ kind: 'delete', key: 'b' }]))
    const before = await first.list('')
    await first.close()
    const second = await openIn(directory)
    expect(await second.list('')).toEqual(before)
    const next = await second.txn(txn([], [put('c', '3')]))
    expect(next.revision).toBe(last.revision + 1)
    await second.close()
  })

  it('drops the keys of leases when it is opened, as a change that watches could see', async () => {
    const directory = mkdtempSync(join(root, 'd'))
    const first = await openIn(directory)
    const lease = await first.lease(1)
    const leased = { kind: 'put', key: 'live/0', value: value('x'), lease } as const
    const written = await first.txn(txn([], [leased, put('stays', 'x')]))
    await first.close()
    const second = await openIn(directory)
    const listing = await second.list('')
    expect(listing.entries.map((entry) => entry.key)).toEqual(['stays'])
    expect(listing.revision).toBe(written.revision + 1)
    await second.close()
  })

  it.each([
    ['a flipped bit of the value', (bytes: Buffer) => flip(bytes, bytes.length - 1)],
    ['a flipped bit of a revision', (bytes: Buffer) => flip(bytes, 9)],
    ['a flag set', (bytes: Buffer) => flip(bytes, 1)],
    ['an unknown format', (bytes: Buffer) => flip(bytes, 0)],
    ['a value cut off', (bytes: Buffer) => bytes.subarray(0, 10)],
    ['an empty value', () => Buffer.alloc(0)],
  ])('D5: refuses %s and names the key', async (_, change) => {
    const directory = mkdtempSync(join(root, 'd'))
    const store = await openIn(directory)
    await store.txn(txn([], [put('topic/orders', 'value')]))
    await store.close()
    await damage(directory, 'ktopic/orders', change)
    await expect(openIn(directory)).rejects.toMatchObject({
      code: 'STORE_DAMAGED',
      target: 'topic/orders',
    })
  })

  it('D6: refuses an entry newer than the store itself', async () => {
    const directory = mkdtempSync(join(root, 'd'))
    const store = await openIn(directory)
    await store.txn(txn([], [put('a', '1')]))
    await store.close()
    let old: Buffer = Buffer.alloc(0)
    await damage(directory, 'mrevision', (bytes) => {
      old = bytes
      return bytes
    })
    const again = await openIn(directory)
    await again.txn(txn([], [put('a', '2')]))
    await again.close()
    await damage(directory, 'mrevision', () => old)
    await expect(openIn(directory)).rejects.toMatchObject({ code: 'STORE_DAMAGED' })
  })

  it('exports a snapshot that says all, and knows when it was damaged', async () => {
    const directory = mkdtempSync(join(root, 'd'))
    const store = await openIn(directory)
    const { revision } = await store.txn(txn([], [put('a', '1'), put('b', '2')]))
    await store.close()
    const bytes = readFileSync(join(directory, 'metadata.snapshot'))
    const snapshot = parseSnapshot(bytes)
    expect(snapshot.revision).toBe(revision)
    expect(snapshot.records.map((record) => record.entry)).toEqual([
      { key: 'a', value: value('1'), createRevision: revision, modRevision: revision },
      { key: 'b', value: value('2'), createRevision: revision, modRevision: revision },
    ])
    for (let at = 0; at < bytes.length; at++) {
      expect(() => parseSnapshot(flip(bytes, at))).toThrow()
      expect(() => parseSnapshot(bytes.subarray(0, at))).toThrow()
    }
  })

  it.skipIf(process.getuid?.() !== 0)(
    'D1: a full disk refuses, keeps what it had, and takes up again when there is space',
    async () => {
      const disk = mkdtempSync(join(root, 'small'))
      const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk])
      expect(mounted.status).toBe(0)
      try {
        writeFileSync(join(disk, 'filler'), new Uint8Array(700_000))
        const store = await openIn(join(disk, 'store'))
        const lease = await store.lease(1)
        const leased = { kind: 'put', key: 'live', value: value('x'), lease } as const
        await store.txn(txn([], [leased]))
        let answered = 0
        let failure: unknown
        while (failure === undefined) {
          const write = { kind: 'put', key: `${answered}`, value: new Uint8Array(4000) } as const
          failure = await store.txn(txn([], [write])).then(
            () => undefined,
            (error: unknown) => error,
          )
          if (failure === undefined) answered += 1
        }
        expect(failure).toMatchObject({ code: 'DISK_FULL' })
        expect((await store.list('')).entries).toHaveLength(answered + 1)
        rmSync(join(disk, 'filler'))
        const after = await store.txn(txn([], [put('after', 'x')]))
        expect(after.revision).toBe(answered + 2)
        await lease.revoke()
        expect(await store.get('live')).toBeUndefined()
        await store.close()
        const again = await openIn(join(disk, 'store'))
        expect((await again.list('')).entries).toHaveLength(answered + 1)
        await again.close()
      } finally {
        spawnSync('umount', [disk])
      }
    },
  )

  it.skipIf(process.getuid?.() !== 0)(
    'a full disk: room that is lent for a transaction lets it through, and is given back',
    async () => {
      const disk = mkdtempSync(join(root, 'lent'))
      const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk])
      expect(mounted.status).toBe(0)
      const ballast = join(disk, 'ballast')
      const lent: string[] = []
      try {
        const store = await EmbeddedStore.open(time, {
          directory: join(disk, 'store'),
          lendRoom: () => {
            lent.push('lent')
            truncateSync(ballast, 0)
            return () => lent.push('given back')
          },
        })
        await store.txn(txn([], [put('before', 'x')]))
        expect(lent).toEqual([])
        const { bavail, bsize } = statfsSync(disk)
        writeFileSync(ballast, new Uint8Array(600_000))
        writeFileSync(join(disk, 'filler'), new Uint8Array(bavail * bsize - 700_000))
        await store.txn(txn([], [put('full', 'x')]))
        expect(lent).toEqual(['lent', 'given back'])
        await store.close()
      } finally {
        spawnSync('umount', [disk])
      }
    },
  )

  it('transactions of one moment are evaluated one after the other', async () => {
    const store = await openIn(mkdtempSync(join(root, 'd')))
    const results = await Promise.all([
      store.txn(txn([], [put('n', '1')])),
      store.txn(txn([{ kind: 'modRevision', key: 'n', equals: 1 }], [put('n', '2')])),
      store.txn(txn([{ kind: 'modRevision', key: 'n', equals: 1 }], [put('n', '3')])),
    ])
    expect(results.map((result) => result.succeeded)).toEqual([true, true, false])
    expect(results.map((result) => result.revision)).toEqual([1, 2, 2])
    await store.close()
  })

  it('what has been answered is on the disk: a copy of the file has it', async () => {
    const directory = mkdtempSync(join(root, 'd'))
    const store = await openIn(directory)
    await store.txn(txn([], [put('a', 'durable')]))
    const copy = mkdtempSync(join(root, 'd'))
    copyFileSync(join(directory, 'metadata.lmdb'), join(copy, 'metadata.lmdb'))
    const other = await openIn(copy)
    expect(new TextDecoder().decode((await other.get('a'))?.value)).toBe('durable')
    await other.close()
    await store.close()
  })
})

function flip(bytes: Buffer, at: number): Buffer {
  const out = Buffer.from(bytes)
  out[at]! ^= 1
  return out
}
