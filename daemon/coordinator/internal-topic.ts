/**
 * The internal topics that transactions need, made where they are missing: compacted, and durable before the ack
 * whatever the defaults of other topics are, for the commit point is a record in one of them.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { TopicImage } from '../metadata/metadata-image.ts'
import type { Broker } from '../replica/broker.ts'
import type { Texts } from '../replica/broker-config.ts'
import type { PeerCaller } from './peer-caller.ts'
import { createTopic } from './topic-creation.ts'

export const TRANSACTION_TOPIC = '__transaction_state'
export const OFFSETS_TOPIC = '__consumer_offsets'
/** Kafka's size: a start reads the whole topic, and compaction keeps it small only behind the active segment. */
const TRANSACTION_SEGMENT_BYTES = 104_857_600
const SEGMENT_BYTES_MIN = 1_048_576

/** @returns the topic, visible and served @throws StreamError of the disk and the store */
export function ensureTransactionTopic(
  broker: Broker,
  peers: PeerCaller | undefined,
): Promise<TopicImage> {
  const { config } = broker
  const minInSync = config.number('transaction.state.log.min.isr')
  return ensure(broker, peers, TRANSACTION_TOPIC, {
    partitions: config.number('transaction.state.log.num.partitions'),
    replicas: config.number('transaction.state.log.replication.factor'),
    config: {
      'cleanup.policy': 'compact',
      'compression.type': 'uncompressed',
      'segment.bytes': String(TRANSACTION_SEGMENT_BYTES),
      'unclean.leader.election.enable': 'false',
      'flush.messages': '1',
      ...(Number.isNaN(minInSync) ? {} : { 'min.insync.replicas': String(minInSync) }),
    },
  })
}

/** As ensureTransactionTopic: what a group's offsets are committed to. */
export function ensureOffsetsTopic(
  broker: Broker,
  peers: PeerCaller | undefined,
): Promise<TopicImage> {
  const { config } = broker
  const segmentBytes = Math.max(SEGMENT_BYTES_MIN, config.number('offsets.topic.segment.bytes'))
  return ensure(broker, peers, OFFSETS_TOPIC, {
    partitions: config.number('offsets.topic.num.partitions'),
    replicas: config.number('offsets.topic.replication.factor'),
    config: {
      'cleanup.policy': 'compact',
      'compression.type': 'producer',
      'segment.bytes': String(segmentBytes),
    },
  })
}

async function ensure(
  broker: Broker,
  peers: PeerCaller | undefined,
  name: string,
  wanted: { readonly partitions: number; readonly replicas: number; readonly config: Texts },
): Promise<TopicImage> {
  const known = broker.image.topic(name)
  if (known?.value.state === 'READY') return known
  const { length: brokers } = broker.topics.placeable()
  if (brokers === 0) throw new StreamError('STORE_UNAVAILABLE', 'no broker is live')
  const replicas = Math.min(brokers, Number.isNaN(wanted.replicas) ? 3 : wanted.replicas)
  const assignments = broker.topics.place(wanted.partitions, replicas)
  return createTopic(broker, peers, { name, assignments, config: wanted.config })
}
