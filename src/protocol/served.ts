/**
 * What a daemon lists in ApiVersions, per door and phase: columns A and B of kafka-protocol.md section 2. The
 * catalogue (api-table.ts) is what the codec can read; every served range lies inside it, except where `accepted`
 * says that versions below are listed but refused.
 *
 * Phase A: groups and transactions of either protocol, no topic ids on the data path of Kafka's clients. Phase B: topic ids. A row moves to B
 * only when everything in its note works.
 */
import { type ApiName, apiKeyOf } from './api-table.ts'

export type Door = 'zmq' | 'kafka'
export type Phase = 'A' | 'B'

export interface ServedRange {
  readonly apiKey: number
  readonly api: ApiName
  /** As listed in ApiVersions, inclusive. */
  readonly min: number
  readonly max: number
  /** The lowest version that is really answered; a listed one below it is refused like an unknown one. */
  readonly acceptedMin: number
  /** The highest version that is answered: above what is listed, for other daemons alone. */
  readonly acceptedMax: number
}

interface ServedRow {
  readonly A?: readonly [min: number, max: number]
  readonly B: readonly [min: number, max: number]
  readonly acceptedMin?: number
  /** At the ZeroMQ door. */
  readonly acceptedMax?: number
  /** Absent: both doors. */
  readonly door?: Door
  /** At the ZeroMQ door, in place of A and B. */
  readonly native?: readonly [min: number, max: number]
}

const both = (min: number, max: number) => ({ A: [min, max], B: [min, max] }) as const
const phaseB = (min: number, max: number) => ({ B: [min, max] }) as const

const served = {
  // Old librdkafka asks whether v0 is listed before it compresses; nobody may really send it (P1).
  // v12 leaves adding partitions to a transaction to the broker; v13 names topics by id.
  Produce: { A: [0, 12], B: [0, 13], acceptedMin: 3 },
  // Followers fetch with v18, whatever clients are told. Readers at the native door name topics by id.
  Fetch: { A: [4, 12], B: [4, 18], native: [4, 13], acceptedMax: 18 },
  ListOffsets: { A: [1, 7], B: [1, 10] },
  Metadata: { A: [0, 12], B: [0, 13] },
  OffsetCommit: { A: [1, 9], B: [1, 10], native: [1, 10], acceptedMin: 2 },
  OffsetFetch: { A: [1, 9], B: [1, 10] },
  FindCoordinator: { A: [0, 4], B: [0, 6] },
  JoinGroup: both(0, 9),
  Heartbeat: both(0, 4),
  LeaveGroup: both(0, 5),
  SyncGroup: both(0, 5),
  DescribeGroups: { A: [0, 5], B: [0, 6] },
  ListGroups: both(0, 5),
  // v0 is followed by messages without headers, which nobody sends any more.
  SaslHandshake: { ...both(0, 1), acceptedMin: 1, door: 'kafka' },
  ApiVersions: both(0, 4),
  CreateTopics: both(2, 7),
  DeleteTopics: both(1, 6),
  DeleteRecords: both(0, 2),
  InitProducerId: both(0, 5),
  OffsetForLeaderEpoch: both(2, 4),
  // v4 and later are for brokers only, and clients exist that would pick them at Kafka's door.
  AddPartitionsToTxn: { ...both(0, 3), native: [0, 5] },
  AddOffsetsToTxn: both(0, 4),
  EndTxn: both(0, 5),
  // Between daemons.
  WriteTxnMarkers: { ...both(1, 2), door: 'zmq' },
  TxnOffsetCommit: both(0, 5),
  DescribeAcls: both(1, 3),
  CreateAcls: both(1, 3),
  DeleteAcls: both(1, 3),
  DescribeConfigs: both(1, 4),
  AlterConfigs: both(0, 2),
  DescribeLogDirs: both(1, 4),
  SaslAuthenticate: { ...both(0, 2), door: 'kafka' },
  CreatePartitions: both(0, 3),
  DeleteGroups: both(0, 2),
  IncrementalAlterConfigs: both(0, 1),
  ElectLeaders: both(0, 2),
  AlterPartitionReassignments: both(0, 1),
  ListPartitionReassignments: both(0, 0),
  OffsetDelete: both(0, 0),
  DescribeClientQuotas: phaseB(0, 1),
  AlterClientQuotas: phaseB(0, 1),
  DescribeUserScramCredentials: both(0, 0),
  AlterUserScramCredentials: both(0, 0),
  DescribeCluster: both(0, 2),
  DescribeProducers: both(0, 0),
  UnregisterBroker: both(0, 0),
  DescribeTransactions: both(0, 0),
  ListTransactions: both(0, 2),
  ConsumerGroupHeartbeat: both(0, 1),
  ConsumerGroupDescribe: both(0, 1),
  DescribeTopicPartitions: both(0, 0),
  DaemonStatus: { ...both(0, 4), door: 'zmq' },
  DaemonStop: { ...both(0, 0), door: 'zmq' },
  AppendAt: { ...both(0, 0), door: 'zmq' },
  LocalSpans: { ...both(0, 0), door: 'zmq' },
  LogInfo: { ...both(0, 0), door: 'zmq' },
  SegmentSync: { ...both(0, 1), door: 'zmq' },
  CreateLink: { ...both(0, 0), door: 'zmq' },
  AlterLink: { ...both(0, 0), door: 'zmq' },
  DescribeLinks: { ...both(0, 0), door: 'zmq' },
} as const satisfies Partial<Record<ApiName, ServedRow>>

/** The APIs that some phase lists. */
export type ServedApi = keyof typeof served

/** By rising key. A daemon lists those of them that it has a handler for. */
export function servedRanges(door: Door, phase: Phase): readonly ServedRange[] {
  const ranges: ServedRange[] = []
  for (const api of Object.keys(served) as ServedApi[]) {
    const row: ServedRow = served[api]
    const range = (door === 'zmq' ? row.native : undefined) ?? row[phase]
    if (range === undefined || (row.door !== undefined && row.door !== door)) continue
    const [min, max] = range
    const acceptedMin = row.acceptedMin ?? min
    const acceptedMax = door === 'zmq' ? Math.max(row.acceptedMax ?? max, max) : max
    ranges.push({ apiKey: apiKeyOf(api), api, min, max, acceptedMin, acceptedMax })
  }
  return ranges.sort((left, right) => left.apiKey - right.apiKey)
}
