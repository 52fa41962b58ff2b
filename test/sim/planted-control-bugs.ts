/** Bugs of the control plane put in on purpose, as stores that do not pass on what was asked of them. */
import type { MetadataKeys } from '../../daemon/metadata/metadata-keys.ts'
import { decodeRegistration, encodeRegistration } from '../../daemon/metadata/metadata-values.ts'
import { isStreamError } from '../../src/base/errors.ts'
import type {
  MetadataStore,
  StoreCompare,
  StoreOperation,
  StoreTxn,
  StoreTxnResult,
} from '../../src/ports/metadata-store.ts'

type Wrap = (store: MetadataStore, keys: MetadataKeys) => MetadataStore

function withTxn(
  store: MetadataStore,
  txn: (txn: StoreTxn) => Promise<StoreTxnResult>,
): MetadataStore {
  return {
    txn,
    get: (key) => store.get(key),
    list: (prefix) => store.list(prefix),
    watch: (prefix, from, events) => store.watch(prefix, from, events),
    lease: (ttlMs) => store.lease(ttlMs),
    revokeLease: (id) => store.revokeLease?.(id) ?? Promise.resolve(),
    close: () => store.close(),
  }
}

function isPartitionWrite(txn: StoreTxn, keys: MetadataKeys): boolean {
  return txn.then.some(({ kind, key }) => kind === 'put' && keys.parse(key)?.kind === 'partition')
}

function without(
  txn: StoreTxn,
  keys: MetadataKeys,
  drops: (compare: StoreCompare) => boolean,
): StoreTxn {
  if (!isPartitionWrite(txn, keys)) return txn
  return { ...txn, compare: txn.compare.filter((compare) => !drops(compare)) }
}

/** T3 elects without asking whether the broker still has its session and its data. */
export const electsWithoutGuards: Wrap = (store, keys) =>
  withTxn(store, (txn) => {
    const isControllers = txn.compare.some(({ key }) => key === keys.controller())
    if (!isControllers) return store.txn(txn)
    return store.txn(
      without(txn, keys, ({ key }) => {
        const kind = keys.parse(key)?.kind
        return kind === 'live' || kind === 'data'
      }),
    )
  })

/** A controller whose lease has ended goes on writing. */
export const zombieController: Wrap = (store, keys) =>
  withTxn(store, (txn) =>
    store.txn(without(txn, keys, (compare) => compare.key === keys.controller())),
  )

/** A broker is in as soon as it registers, before its partitions were looked at. */
export const activeAtOnce: Wrap = (store, keys) =>
  withTxn(store, (txn) => {
    const then = txn.then.map((operation): StoreOperation => {
      const isRegistration =
        operation.kind === 'put' && keys.parse(operation.key)?.kind === 'registration'
      if (!isRegistration) return operation
      const value = decodeRegistration(operation.key, operation.value)
      if (value.state !== 'FENCED') return operation
      return { ...operation, value: encodeRegistration({ ...value, state: 'ACTIVE' }) }
    })
    return store.txn({ ...txn, then })
  })

/** "No answer" is taken for "not applied", on the evidence of a look at the store. */
export const unknownIsFailed: Wrap = (store, keys) =>
  withTxn(store, async (txn) => {
    try {
      return await store.txn(txn)
    } catch (error) {
      if (!isStreamError(error, 'STORE_UNAVAILABLE') || !isPartitionWrite(txn, keys)) throw error
      const gets = await Promise.all((txn.otherwise ?? []).map(({ key }) => store.get(key)))
      return { succeeded: false, revision: 0, gets }
    }
  })

/** A new data epoch is written after the session, by a transaction of its own. */
export const dataEpochLater: Wrap = (store, keys) =>
  withTxn(store, async (txn) => {
    const data = txn.then.filter(({ key }) => keys.parse(key)?.kind === 'data')
    const result = await store.txn({
      ...txn,
      then: txn.then.filter((each) => !data.includes(each)),
    })
    if (data.length > 0 && result.succeeded) await store.txn({ compare: [], then: data })
    return result
  })
