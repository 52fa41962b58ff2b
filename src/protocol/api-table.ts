/**
 * The catalogue: every API this code can read and write, with all versions of Kafka 4.2. What is listed to clients is
 * a smaller table (served.ts). Owns the mapping between names and keys, and is where the rows of schemas/ are checked
 * against the grammar of schema.ts.
 */

import type { ApiSchema, Decoded, Encodable } from './schema.ts'
import { createAcls, deleteAcls, describeAcls } from './schemas/acls.ts'
import {
  apiVersions,
  describeCluster,
  describeLogDirs,
  describeTopicPartitions,
  listConfigResources,
  metadata,
  unregisterBroker,
} from './schemas/cluster.ts'
import { consumerGroupDescribe, consumerGroupHeartbeat } from './schemas/consumer-groups.ts'
import { deleteRecords, fetch, listOffsets, offsetForLeaderEpoch, produce } from './schemas/data.ts'
import {
  deleteGroups,
  describeGroups,
  findCoordinator,
  heartbeat,
  joinGroup,
  leaveGroup,
  listGroups,
  syncGroup,
} from './schemas/groups.ts'
import { offsetCommit, offsetDelete, offsetFetch } from './schemas/offsets.ts'
import {
  alterLink,
  appendAt,
  createLink,
  daemonStatus,
  daemonStop,
  describeLinks,
  localSpans,
  logInfo,
  segmentSync,
} from './schemas/private.ts'
import { alterClientQuotas, describeClientQuotas } from './schemas/quotas.ts'
import {
  alterUserScramCredentials,
  describeUserScramCredentials,
  saslAuthenticate,
  saslHandshake,
} from './schemas/sasl.ts'
import {
  alterConfigs,
  alterPartitionReassignments,
  createPartitions,
  createTopics,
  deleteTopics,
  describeConfigs,
  electLeaders,
  incrementalAlterConfigs,
  listPartitionReassignments,
} from './schemas/topics.ts'
import {
  addOffsetsToTxn,
  addPartitionsToTxn,
  describeProducers,
  describeTransactions,
  endTxn,
  initProducerId,
  listTransactions,
  txnOffsetCommit,
  writeTxnMarkers,
} from './schemas/transactions.ts'

export const apiTable = {
  Produce: produce,
  Fetch: fetch,
  ListOffsets: listOffsets,
  Metadata: metadata,
  OffsetCommit: offsetCommit,
  OffsetFetch: offsetFetch,
  FindCoordinator: findCoordinator,
  JoinGroup: joinGroup,
  Heartbeat: heartbeat,
  LeaveGroup: leaveGroup,
  SyncGroup: syncGroup,
  DescribeGroups: describeGroups,
  ListGroups: listGroups,
  SaslHandshake: saslHandshake,
  ApiVersions: apiVersions,
  CreateTopics: createTopics,
  DeleteTopics: deleteTopics,
  DeleteRecords: deleteRecords,
  InitProducerId: initProducerId,
  OffsetForLeaderEpoch: offsetForLeaderEpoch,
  AddPartitionsToTxn: addPartitionsToTxn,
  AddOffsetsToTxn: addOffsetsToTxn,
  EndTxn: endTxn,
  WriteTxnMarkers: writeTxnMarkers,
  TxnOffsetCommit: txnOffsetCommit,
  DescribeAcls: describeAcls,
  CreateAcls: createAcls,
  DeleteAcls: deleteAcls,
  DescribeConfigs: describeConfigs,
  AlterConfigs: alterConfigs,
  DescribeLogDirs: describeLogDirs,
  SaslAuthenticate: saslAuthenticate,
  CreatePartitions: createPartitions,
  DeleteGroups: deleteGroups,
  ElectLeaders: electLeaders,
  IncrementalAlterConfigs: incrementalAlterConfigs,
  AlterPartitionReassignments: alterPartitionReassignments,
  ListPartitionReassignments: listPartitionReassignments,
  OffsetDelete: offsetDelete,
  DescribeClientQuotas: describeClientQuotas,
  AlterClientQuotas: alterClientQuotas,
  DescribeUserScramCredentials: describeUserScramCredentials,
  AlterUserScramCredentials: alterUserScramCredentials,
  DescribeCluster: describeCluster,
  DescribeProducers: describeProducers,
  UnregisterBroker: unregisterBroker,
  DescribeTransactions: describeTransactions,
  ListTransactions: listTransactions,
  ConsumerGroupHeartbeat: consumerGroupHeartbeat,
  ConsumerGroupDescribe: consumerGroupDescribe,
  ListConfigResources: listConfigResources,
  DescribeTopicPartitions: describeTopicPartitions,
  DaemonStatus: daemonStatus,
  DaemonStop: daemonStop,
  AppendAt: appendAt,
  LocalSpans: localSpans,
  LogInfo: logInfo,
  SegmentSync: segmentSync,
  CreateLink: createLink,
  AlterLink: alterLink,
  DescribeLinks: describeLinks,
} as const satisfies Record<string, ApiSchema>

type Table = typeof apiTable

export type ApiName = keyof Table

/** What reading a request gives: every field of every version; those the version lacks have their default. */
export type Request<A extends ApiName> = Decoded<Table[A]['request']>
export type Response<A extends ApiName> = Decoded<Table[A]['response']>
/** What writing takes: fields that some version lacks, and those with a default, may be left out. */
export type RequestInput<A extends ApiName> = Encodable<Table[A]['request'], Table[A]['min']>
export type ResponseInput<A extends ApiName> = Encodable<Table[A]['response'], Table[A]['min']>

export const apiNames = Object.keys(apiTable) as readonly ApiName[]

const nameByKey: ReadonlyMap<number, ApiName> = new Map(
  apiNames.map((name) => [apiTable[name].key, name]),
)

/** First key of the private APIs, which exist on the ZeroMQ door only. */
export const PRIVATE_KEY_MIN = 1000

/** @returns undefined for a key that the catalogue lacks */
export function findApi(apiKey: number): ApiName | undefined {
  return nameByKey.get(apiKey)
}

export function apiKeyOf(api: ApiName): number {
  return apiTable[api].key
}

/** The versions the codec can read and write; not those a daemon lists. */
export function codecRange(api: ApiName): { readonly min: number; readonly max: number } {
  return apiTable[api]
}

export function isFlexible(api: ApiName, version: number): boolean {
  const from: number | undefined = apiTable[api].flexibleFrom
  return from !== undefined && version >= from
}
