/** What every MetadataStore must do (replication.md, section 5.1); run on the embedded home and the simulated one. */
import { describe, expect, it } from 'vitest'
import type {
  MetadataStore,
  StoreChange,
  StoreOperation,
  StoreTxn,
} from '../../src/ports/metadata-store.ts'

export interface StoreHarness {
  readonly store: MetadataStore
  settle<T>(promise: Promise<T>): Promise<T>
  end?(): Promise<void>
}

export const value = (text: string): Uint8Array => new TextEncoder().encode(text)
const textOf = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes)

export const put = (key: string, text: string): StoreOperation => ({
  kind: 'put',
  key,
  value: value(text),
})

export function txn(
  compare: StoreTxn['compare'],
  onSuccess: StoreTxn['then'],
  otherwise: StoreTxn['then'] = [],
): StoreTxn {
  return { compare, then: onSuccess, otherwise }
}

export function describeStore(name: string, make: () => Promise<StoreHarness>): void {
  describe(`MetadataStore: ${name}`, () => {
    async function using(use: (harness: StoreHarness) => Promise<void>): Promise<void> {
      const harness = await make()
      try {
        await use(harness)
      } finally {
        await harness.settle(harness.store.close())
        await harness.end?.()
      }
    }

    it('puts, gets, deletes; revisions rise by the transaction', () =>
      using(async ({ store, settle }) => {
        const first = await settle(store.txn(txn([], [put('a', '1'), put('b', '1')])))
        const second = await settle(store.txn(txn([], [put('a', '2')])))
        expect(second.revision).toBeGreaterThan(first.revision)
        const a = await settle(store.get('a'))
        expect(textOf(a?.value)).toBe('2')
        expect(a).toMatchObject({
          createRevision: first.revision,
          modRevision: second.revision,
        })
        expect(await settle(store.get('b'))).toMatchObject({ modRevision: first.revision })
        await settle(store.txn(txn([], [{ kind: 'delete', key: 'a' }])))
        expect(await settle(store.get('a'))).toBeUndefined()
        const again = await settle(store.txn(txn([], [put('a', '3')])))
        expect((await settle(store.get('a')))?.createRevision).toBe(again.revision)
      }))

    it('compares guard a transaction: all or nothing, and the other branch', () =>
      using(async ({ store, settle }) => {
        const created = await settle(
          store.txn(txn([{ kind: 'createRevision', key: 'k', equals: 0 }], [put('k', 'mine')])),
        )
        expect(created.succeeded).toBe(true)
        const late = await settle(
          store.txn(
            txn(
              [{ kind: 'createRevision', key: 'k', equals: 0 }],
              [put('k', 'other'), put('x', 'other')],
              [{ kind: 'get', key: 'k' }],
            ),
          ),
        )
        expect(late.succeeded).toBe(false)
        expect(textOf(late.gets[0]?.value)).toBe('mine')
        expect(late.revision).toBe(created.revision)
        expect(await settle(store.get('x'))).toBeUndefined()
        const swapped = await settle(
          store.txn(
            txn([{ kind: 'modRevision', key: 'k', equals: created.revision }], [put('k', 'next')]),
          ),
        )
        expect(swapped.succeeded).toBe(true)
        const stale = await settle(
          store.txn(
            txn([{ kind: 'modRevision', key: 'k', equals: created.revision }], [put('k', 'never')]),
          ),
        )
        expect(stale.succeeded).toBe(false)
        expect(textOf((await settle(store.get('k')))?.value)).toBe('next')
      }))

    it('of racing compare-and-set transactions exactly one succeeds', () =>
      using(async ({ store, settle }) => {
        const results = await settle(
          Promise.all(
            Array.from({ length: 10 }, (_, index) =>
              store.txn(
                txn(
                  [{ kind: 'createRevision', key: 'lead', equals: 0 }],
                  [put('lead', `${index}`)],
                ),
              ),
            ),
          ),
        )
        expect(results.filter((result) => result.succeeded)).toHaveLength(1)
      }))

    it('a transaction that changes nothing has no revision of its own', () =>
      using(async ({ store, settle }) => {
        const before = await settle(store.txn(txn([], [put('a', '1')])))
        const nothing = await settle(
          store.txn(
            txn(
              [],
              [
                { kind: 'delete', key: 'none' },
                { kind: 'get', key: 'a' },
              ],
            ),
          ),
        )
        expect(nothing.revision).toBe(before.revision)
        const after = await settle(store.txn(txn([], [put('a', '2')])))
        expect(after.revision).toBe(before.revision + 1)
      }))

    it('writing one key twice in a transaction is refused', () =>
      using(async ({ store, settle }) => {
        await expect(settle(store.txn(txn([], [put('a', '1'), put('a', '2')])))).rejects.toThrow()
        expect(await settle(store.get('a'))).toBeUndefined()
      }))

    it('lists a prefix in key order, of one revision', () =>
      using(async ({ store, settle }) => {
        await settle(store.txn(txn([], [put('p/b', '2'), put('p/a', '1'), put('q', '9')])))
        const last = await settle(store.txn(txn([], [put('p/', '0')])))
        const listing = await settle(store.list('p/'))
        expect(listing.revision).toBe(last.revision)
        expect(listing.entries.map((entry) => entry.key)).toEqual(['p/', 'p/a', 'p/b'])
        expect((await settle(store.list('none'))).entries).toEqual([])
      }))

    it('keeps the value it was given, whatever becomes of the buffer', () =>
      using(async ({ store, settle }) => {
        const bytes = value('kept')
        await settle(store.txn(txn([], [{ kind: 'put', key: 'a', value: bytes }])))
        bytes.fill(0)
        expect(textOf((await settle(store.get('a')))?.value)).toBe('kept')
      }))

    it('a watch sees each revision once, in order, whole', () =>
      using(async ({ store, settle }) => {
        const { revision } = await settle(store.txn(txn([], [put('w/0', '0')])))
        const seen: { revision: number; changes: readonly StoreChange[] }[] = []
        const complete = new Promise<void>((resolve) => {
          store.watch('w/', revision + 1, {
            onChanges: (at, changes) => {
              seen.push({ revision: at, changes })
              if (seen.length === 3) resolve()
            },
            onEnd: () => undefined,
          })
        })
        const first = await settle(
          store.txn(txn([], [put('w/1', '1'), put('w/2', '2'), put('v', 'x')])),
        )
        await settle(store.txn(txn([], [put('v', 'y')])))
        const second = await settle(store.txn(txn([], [{ kind: 'delete', key: 'w/1' }])))
        const third = await settle(store.txn(txn([], [put('w/0', '3')])))
        await settle(complete)
        expect(seen.map((event) => event.revision)).toEqual([
          first.revision,
          second.revision,
          third.revision,
        ])
        expect(seen[0]?.changes.map((change) => change.key).sort()).toEqual(['w/1', 'w/2'])
        expect(seen[1]?.changes).toEqual([{ key: 'w/1', entry: undefined }])
        expect(textOf(seen[2]?.changes[0]?.entry?.value)).toBe('3')
      }))

    it('a watch from a past revision is caught up first; a cancelled one is silent', () =>
      using(async ({ store, settle }) => {
        const first = await settle(store.txn(txn([], [put('w', '1')])))
        await settle(store.txn(txn([], [put('w', '2')])))
        const silent = store.watch('w', first.revision, {
          onChanges: () => expect.unreachable(),
          onEnd: () => expect.unreachable(),
        })
        silent.cancel()
        silent.cancel()
        const revisions: number[] = []
        await settle(
          new Promise<void>((resolve) => {
            store.watch('w', first.revision, {
              onChanges: (revision) => {
                revisions.push(revision)
                if (revisions.length === 2) resolve()
              },
              onEnd: () => undefined,
            })
          }),
        )
        expect(revisions).toEqual([first.revision, first.revision + 1])
      }))

    it('a watch ends when the store is closed', () =>
      using(async ({ store, settle }) => {
        await settle(store.txn(txn([], [put('w', '1')])))
        const ended = new Promise<void>((resolve) => {
          store.watch('w', 2, { onChanges: () => undefined, onEnd: () => resolve() })
        })
        await settle(store.close())
        await settle(ended)
        await expect(settle(store.get('w'))).rejects.toMatchObject({ code: 'CLOSED' })
        await expect(settle(store.txn(txn([], [put('w', '2')])))).rejects.toMatchObject({
          code: 'CLOSED',
        })
      }))

    it('the keys of a lease go with it, and it cannot be used any more', () =>
      using(async ({ store, settle }) => {
        const lease = await settle(store.lease(10_000))
        const leased = (key: string): StoreOperation => ({
          kind: 'put',
          key,
          value: value('x'),
          lease,
        })
        await settle(store.txn(txn([], [leased('live/1'), leased('live/2'), put('stays', 'x')])))
        await settle(lease.keepAlive())
        // Written again without the lease: it stays.
        await settle(store.txn(txn([], [put('live/2', 'freed')])))
        await settle(lease.revoke())
        expect((await settle(store.list(''))).entries.map((entry) => entry.key)).toEqual([
          'live/2',
          'stays',
        ])
        await expect(settle(lease.keepAlive())).rejects.toMatchObject({ code: 'FENCED' })
        await expect(settle(store.txn(txn([], [leased('live/3')])))).rejects.toMatchObject({
          code: 'FENCED',
        })
        await settle(lease.revoke())
      }))
  })
}
