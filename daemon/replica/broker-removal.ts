/**
 * Takes a broker out of the cluster for good: its registration, its data epoch and its configs go. Run in turn with all that
 * places replicas, so that none is given to it meanwhile.
 *
 * Invariant: only a broker without session and without replicas goes, so no membership can name a data epoch that is forgotten.
 */

import { StreamError } from '../../src/base/errors.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Store } from '../metadata/commit.ts'
import type { MetadataImage } from '../metadata/metadata-image.ts'
import type { MetadataKeys } from '../metadata/metadata-keys.ts'
import { removeBroker } from '../metadata/session.ts'
import type { Reign } from './controller-pass.ts'

export interface BrokerRemoval {
  /** Kafka's number; 0: it is gone. */
  readonly code: number
  readonly message: string | null
}

/** @throws StreamError CONFLICT: something changed meanwhile; STORE_UNAVAILABLE */
export async function forgetBroker(
  ports: { readonly store: Store; readonly keys: MetadataKeys; readonly image: MetadataImage },
  reign: Reign,
  nodeId: number,
): Promise<BrokerRemoval> {
  const { store, keys, image } = ports
  await image.refresh()
  const registration = image.registration(nodeId)
  if (registration === undefined) {
    return { code: KafkaError.BROKER_ID_NOT_REGISTERED, message: null }
  }
  const held = replicasOf(image, nodeId)
  if (held > 0) {
    const message = `it holds ${held} replicas; take them off it first: stream cluster drain ${nodeId}`
    return { code: KafkaError.INVALID_REQUEST, message }
  }
  if (image.session(nodeId) !== undefined) {
    const message = 'it is alive; stop it first'
    return { code: KafkaError.INVALID_REQUEST, message }
  }
  const { revision } = registration
  const result = await removeBroker(store, keys, reign.controllerEpoch, { nodeId, revision })
  await image.catchUp(result.revision)
  // Also where an answer was lost: what counts is what is there now.
  if (image.registration(nodeId) === undefined) return { code: 0, message: null }
  throw new StreamError('CONFLICT', `broker ${nodeId} has registered again meanwhile`)
}

function replicasOf(image: MetadataImage, nodeId: number): number {
  let count = 0
  for (const topicId of image.partitionTopicIds()) {
    for (const { value } of image.partitions(topicId).values()) {
      if (value.replicas.includes(nodeId)) count += 1
    }
  }
  return count
}
