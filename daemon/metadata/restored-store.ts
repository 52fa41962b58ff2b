/**
 * An etcd that was restored from an old snapshot (replication.md section 5.8): its records name members that may have missed
 * committed records since, leader epochs that logs have passed, and producer ids that were given out already. Daemons that
 * notice refuse it, until an operator says that it counts.
 *
 * The decision is one transaction. It gives every broker it knows another data epoch, so no membership of the old records
 * holds any more, and each partition is led again only by a recovery that has asked all its members and takes the longest
 * log, at a leader epoch above all that they know.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { StoreCompare, StoreOperation } from '../../src/ports/metadata-store.ts'
import { commit, type Store } from './commit.ts'
import type { MetadataImage } from './metadata-image.ts'
import type { MetadataKeys } from './metadata-keys.ts'
import {
  decodeProducerIds,
  encodeData,
  encodeProducerIds,
  encodeRestored,
} from './metadata-values.ts'

/** More producer ids than can have been given out since any snapshot. */
export const PRODUCER_IDS_LEAP = 2 ** 32
const REASON = 'the metadata store was restored'

/** @throws StreamError CONFLICT: something changed meanwhile; STORE_UNAVAILABLE */
export async function declareStoreRestored(
  store: Store,
  keys: MetadataKeys,
  image: MetadataImage,
  id: string,
): Promise<void> {
  const restoredKey = keys.restored()
  const producerKey = keys.producerIds()
  const producerIds = await store.store.get(producerKey)
  const next = producerIds === undefined ? 0 : decodeProducerIds(producerKey, producerIds.value)
  const compare: StoreCompare[] = [
    { kind: 'modRevision', key: restoredKey, equals: image.restored?.revision ?? 0 },
    { kind: 'modRevision', key: producerKey, equals: producerIds?.modRevision ?? 0 },
  ]
  const writes: StoreOperation[] = [
    { kind: 'put', key: restoredKey, value: encodeRestored({ id, at: store.time.wallMs() }) },
    { kind: 'put', key: producerKey, value: encodeProducerIds(next + PRODUCER_IDS_LEAP) },
  ]
  for (const { nodeId, dataEpoch } of image.brokers().values()) {
    if (dataEpoch === 0) continue
    const key = keys.data(nodeId)
    compare.push({ kind: 'modRevision', key, equals: dataEpoch })
    writes.push({ kind: 'put', key, value: encodeData({ incarnation: '', reason: REASON }) })
  }
  const result = await commit(store, {
    compare,
    writes,
    otherwise: [{ kind: 'get', key: restoredKey }],
  })
  await image.refresh()
  // Also where an answer was lost.
  if (result.succeeded || image.restored?.id === id) return
  throw new StreamError('CONFLICT', 'the metadata store was changed by somebody else meanwhile')
}
