/**
 * OffsetDelete (47), version 0: offsets of partitions that the group does not read now. Errors: 3, 14, 15, 16, 24, 68 (a
 * group whose members do not say what they read), 69, 86 (its members read the topic).
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import {
  type GroupEntry,
  isDead,
  isUnused,
  protocolTypeOf,
  subscribedTopicsOf,
} from '../coordinator/group-entry.ts'
import type { OffsetEntry } from '../coordinator/offset-table.ts'
import { findGroup } from './group-requests.ts'
import type { Handler } from './handler.ts'

type Topics = ResponseInput<'OffsetDelete'>['topics']

export const offsetDelete: Handler<'OffsetDelete'> = async (services, _context, request) => {
  const refuse = (errorCode: number) => ({ errorCode, throttleTimeMs: 0, topics: [] })
  const { shard, entry, errorCode } = findGroup(services, request.groupId)
  if (shard === undefined) return refuse(errorCode)
  if (entry === undefined || isDead(entry)) {
    return refuse(KafkaError.GROUP_ID_NOT_FOUND)
  }
  if (!isUnused(entry) && protocolTypeOf(entry) !== 'consumer') {
    return refuse(KafkaError.NON_EMPTY_GROUP)
  }
  const doomed: OffsetEntry[] = []
  const topics: Topics = request.topics.map(({ name, partitions }) => ({
    name,
    partitions: partitions.map(({ partitionIndex }) => {
      if (isRead(entry, name)) {
        return { partitionIndex, errorCode: KafkaError.GROUP_SUBSCRIBED_TO_TOPIC }
      }
      const value =
        entry.offsets.get(name, partitionIndex) ??
        entry.shard.pending.get(entry.groupId, name, partitionIndex)
      if (value !== undefined) doomed.push({ topic: name, partition: partitionIndex, value })
      else if ((services.broker.image.topic(name)?.value.partitions ?? 0) <= partitionIndex) {
        return { partitionIndex, errorCode: KafkaError.UNKNOWN_TOPIC_OR_PARTITION }
      }
      return { partitionIndex, errorCode: 0 }
    }),
  }))
  const stored = await new Promise<number>((resolve) => {
    services.groups.forget(entry, doomed, resolve)
  })
  return stored === 0 ? { errorCode: 0, throttleTimeMs: 0, topics } : refuse(stored)
}

function isRead(entry: GroupEntry, topic: string): boolean {
  if (isUnused(entry)) return false
  // Members whose subscriptions nobody can read may read anything.
  return subscribedTopicsOf(entry)?.has(topic) ?? true
}
