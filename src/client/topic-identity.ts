/**
 * Whether what the brokers have under a name is still the topic that a partition is read of. A topic that was deleted and
 * created again has another id: its offsets are others, though the numbers are the same.
 *
 * One description with another id is doubt and no more: a broker that lags behind may know but the topic before, while the reader
 * has begun with the new one. A second one says the same, and it comes of another broker where there is one (cluster.ts).
 */
import { StreamError } from '../base/errors.ts'
import { KafkaError } from '../protocol/errors.ts'
import { ZERO_UUID } from '../protocol/schema.ts'
import type { TopicInfo } from './metadata-cache.ts'

/** The topic that a partition is read of, as far as it is known. */
export interface TopicIdentity {
  /** The first that was heard; undefined: the brokers have told none yet, or are too old to tell. */
  topicId: string | undefined
  /** A description that is not believed: only a younger one is. */
  doubted: TopicInfo | undefined
}

/** `doubtful`: not to be asked for before the topic was described anew. */
export type TopicVerdict = 'same' | 'doubtful' | 'other'

/** Of a topic's id as an answer or a caller has it. @returns undefined: it was not told */
export function knownTopicId(id: string | undefined): string | undefined {
  return id === undefined || id === '' || id === ZERO_UUID ? undefined : id
}

/** Takes over the first id heard. Without a description, or with one of an error, there is nothing to ask for anyway. */
export function judgeTopic(identity: TopicIdentity, info: TopicInfo | undefined): TopicVerdict {
  if (info === undefined || info.errorCode !== 0) return 'same'
  if (info === identity.doubted) return 'doubtful'
  const id = knownTopicId(info.topicId)
  identity.topicId ??= id
  if (id === undefined || id === identity.topicId) {
    identity.doubted = undefined
    return 'same'
  }
  if (identity.doubted !== undefined) return 'other'
  identity.doubted = info
  return 'doubtful'
}

/** Nothing may be stored for it: the topic is gone, or another one has its name. */
export function isTopicLost(identity: TopicIdentity, info: TopicInfo | undefined): boolean {
  if (identity.topicId === undefined || info === undefined) return false
  if (info.errorCode !== 0) return info.errorCode === KafkaError.UNKNOWN_TOPIC_OR_PARTITION
  const id = knownTopicId(info.topicId)
  return id !== undefined && id !== identity.topicId
}

/** @param kafkaError  what the broker said, if it was one that said so */
export function recreatedTopic(topic: string, kafkaError?: number): StreamError {
  return new StreamError(
    'CONFLICT',
    `${topic}: the topic was deleted and created again while it was read; nothing of the new one was read`,
    {
      target: topic,
      ...(kafkaError === undefined ? {} : { kafkaError }),
      hint: 'to read the new one run this again; a cursor file has to be deleted before',
    },
  )
}
