/**
 * Errors that are newer than the version they are sent in, and what such a version is told instead
 * (kafka-protocol.md, section 1.6). Applied to every `errorCode` when a response is written, so that handlers answer
 * with what is the case and need not know versions.
 */
import type { ApiName } from './api-table.ts'
import { KafkaError } from './errors.ts'

interface Translation {
  readonly from: number
  readonly to: number
  /** For each API, the first version that knows `from`. */
  readonly knownFrom: Partial<Record<ApiName, number>>
}

const translations: readonly Translation[] = [
  {
    from: KafkaError.PRODUCER_FENCED,
    to: KafkaError.INVALID_PRODUCER_EPOCH,
    knownFrom: { InitProducerId: 4, AddPartitionsToTxn: 2, AddOffsetsToTxn: 2, EndTxn: 2 },
  },
  {
    from: KafkaError.KAFKA_STORAGE_ERROR,
    to: KafkaError.NOT_LEADER_OR_FOLLOWER,
    knownFrom: { Produce: 4, Fetch: 6 },
  },
  {
    // A client that does not know it would hang; told that its (empty) id is unknown it joins again.
    from: KafkaError.MEMBER_ID_REQUIRED,
    to: KafkaError.UNKNOWN_MEMBER_ID,
    knownFrom: { JoinGroup: 4 },
  },
  {
    from: KafkaError.TRANSACTION_ABORTABLE,
    to: KafkaError.INVALID_TXN_STATE,
    knownFrom: {
      Produce: 11,
      InitProducerId: 5,
      AddPartitionsToTxn: 5,
      AddOffsetsToTxn: 4,
      EndTxn: 4,
      TxnOffsetCommit: 4,
    },
  },
  {
    from: KafkaError.OFFSET_NOT_AVAILABLE,
    to: KafkaError.LEADER_NOT_AVAILABLE,
    knownFrom: { ListOffsets: 5 },
  },
]

/** @returns undefined when the version knows every error of the API */
export function errorTranslations(
  api: ApiName,
  version: number,
): ReadonlyMap<number, number> | undefined {
  const result = new Map<number, number>()
  for (const { from, to, knownFrom } of translations) {
    const first = knownFrom[api]
    if (first !== undefined && version < first) result.set(from, to)
  }
  return result.size === 0 ? undefined : result
}
