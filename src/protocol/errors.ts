/**
 * Kafka's error numbers: name, number, whether a client may try again without change, and what is wrong in words.
 * Numbers and names are Kafka's and permanent. Clients decide by this table, never by the text of an answer.
 * Source: Kafka 4.2, org.apache.kafka.common.protocol.Errors; retriable = its exception is a RetriableException.
 */

interface KafkaErrorRow {
  readonly code: number
  readonly retriable: boolean
  readonly message: string
}

export const kafkaErrors = {
  UNKNOWN_SERVER_ERROR: {
    code: -1,
    retriable: false,
    message: 'the broker met an unexpected error',
  },
  NONE: { code: 0, retriable: false, message: 'no error' },
  OFFSET_OUT_OF_RANGE: { code: 1, retriable: false, message: 'the offset is not within the log' },
  CORRUPT_MESSAGE: {
    code: 2,
    retriable: true,
    message: 'the batch fails its checksum or is malformed',
  },
  UNKNOWN_TOPIC_OR_PARTITION: {
    code: 3,
    retriable: true,
    message: 'the broker does not have this topic or partition',
  },
  INVALID_FETCH_SIZE: { code: 4, retriable: false, message: 'the fetch size is invalid' },
  LEADER_NOT_AVAILABLE: {
    code: 5,
    retriable: true,
    message: 'the partition has no leader at the moment',
  },
  NOT_LEADER_OR_FOLLOWER: {
    code: 6,
    retriable: true,
    message: 'the broker does not lead this partition',
  },
  REQUEST_TIMED_OUT: { code: 7, retriable: true, message: 'the request timed out' },
  BROKER_NOT_AVAILABLE: { code: 8, retriable: false, message: 'the broker is not available' },
  REPLICA_NOT_AVAILABLE: { code: 9, retriable: true, message: 'the replica is not available' },
  MESSAGE_TOO_LARGE: {
    code: 10,
    retriable: false,
    message: 'the batch is larger than max.message.bytes',
  },
  STALE_CONTROLLER_EPOCH: { code: 11, retriable: false, message: 'the controller has moved on' },
  OFFSET_METADATA_TOO_LARGE: {
    code: 12,
    retriable: false,
    message: 'the metadata committed with the offset is too large',
  },
  NETWORK_EXCEPTION: {
    code: 13,
    retriable: true,
    message: 'the connection ended before the answer came',
  },
  COORDINATOR_LOAD_IN_PROGRESS: {
    code: 14,
    retriable: true,
    message: 'the coordinator is still loading',
  },
  COORDINATOR_NOT_AVAILABLE: {
    code: 15,
    retriable: true,
    message: 'the coordinator is not available',
  },
  NOT_COORDINATOR: { code: 16, retriable: true, message: 'the broker is not the coordinator' },
  INVALID_TOPIC_EXCEPTION: {
    code: 17,
    retriable: false,
    message: 'the topic name is invalid, or the topic is internal',
  },
  RECORD_LIST_TOO_LARGE: {
    code: 18,
    retriable: false,
    message: 'the batch is larger than a segment',
  },
  NOT_ENOUGH_REPLICAS: {
    code: 19,
    retriable: true,
    message: 'fewer replicas are in sync than min.insync.replicas',
  },
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: {
    code: 20,
    retriable: true,
    message: 'written, but on fewer in-sync replicas than required',
  },
  INVALID_REQUIRED_ACKS: { code: 21, retriable: false, message: 'acks must be 0, 1 or all' },
  ILLEGAL_GENERATION: {
    code: 22,
    retriable: false,
    message: 'the generation is not the current one of the group',
  },
  INCONSISTENT_GROUP_PROTOCOL: {
    code: 23,
    retriable: false,
    message: 'the member shares no protocol with the group',
  },
  INVALID_GROUP_ID: { code: 24, retriable: false, message: 'the group id is invalid' },
  UNKNOWN_MEMBER_ID: {
    code: 25,
    retriable: false,
    message: 'the coordinator does not know this member',
  },
  INVALID_SESSION_TIMEOUT: {
    code: 26,
    retriable: false,
    message: 'the session timeout is out of bounds',
  },
  REBALANCE_IN_PROGRESS: { code: 27, retriable: false, message: 'the group is rebalancing' },
  INVALID_COMMIT_OFFSET_SIZE: {
    code: 28,
    retriable: false,
    message: 'the offset commit is too large',
  },
  TOPIC_AUTHORIZATION_FAILED: {
    code: 29,
    retriable: false,
    message: 'not authorized for the topic',
  },
  GROUP_AUTHORIZATION_FAILED: {
    code: 30,
    retriable: false,
    message: 'not authorized for the group',
  },
  CLUSTER_AUTHORIZATION_FAILED: {
    code: 31,
    retriable: false,
    message: 'not authorized for the cluster',
  },
  INVALID_TIMESTAMP: { code: 32, retriable: false, message: 'the timestamp is out of bounds' },
  UNSUPPORTED_SASL_MECHANISM: {
    code: 33,
    retriable: false,
    message: 'the SASL mechanism is not enabled',
  },
  ILLEGAL_SASL_STATE: {
    code: 34,
    retriable: false,
    message: 'the request is not valid in this SASL state',
  },
  UNSUPPORTED_VERSION: { code: 35, retriable: false, message: 'the version is not supported' },
  TOPIC_ALREADY_EXISTS: { code: 36, retriable: false, message: 'the topic exists already' },
  INVALID_PARTITIONS: {
    code: 37,
    retriable: false,
    message: 'the number of partitions is invalid',
  },
  INVALID_REPLICATION_FACTOR: {
    code: 38,
    retriable: false,
    message: 'the replication factor is invalid',
  },
  INVALID_REPLICA_ASSIGNMENT: {
    code: 39,
    retriable: false,
    message: 'the replica assignment is invalid',
  },
  INVALID_CONFIG: { code: 40, retriable: false, message: 'the configuration is invalid' },
  NOT_CONTROLLER: { code: 41, retriable: true, message: 'the broker is not the controller' },
  INVALID_REQUEST: { code: 42, retriable: false, message: 'the request is invalid' },
  UNSUPPORTED_FOR_MESSAGE_FORMAT: {
    code: 43,
    retriable: false,
    message: 'the message format does not support this',
  },
  POLICY_VIOLATION: { code: 44, retriable: false, message: 'the request violates a policy' },
  OUT_OF_ORDER_SEQUENCE_NUMBER: {
    code: 45,
    retriable: false,
    message: 'the sequence number leaves a gap',
  },
  DUPLICATE_SEQUENCE_NUMBER: {
    code: 46,
    retriable: false,
    message: 'the sequence number was used before',
  },
  INVALID_PRODUCER_EPOCH: { code: 47, retriable: false, message: 'the producer epoch is old' },
  INVALID_TXN_STATE: {
    code: 48,
    retriable: false,
    message: 'the transaction is not in a state for this',
  },
  INVALID_PRODUCER_ID_MAPPING: {
    code: 49,
    retriable: false,
    message: 'the producer id does not belong to the transactional id',
  },
  INVALID_TRANSACTION_TIMEOUT: {
    code: 50,
    retriable: false,
    message: 'the transaction timeout is above transaction.max.timeout.ms',
  },
  CONCURRENT_TRANSACTIONS: {
    code: 51,
    retriable: true,
    message: 'the previous transaction is still being completed',
  },
  TRANSACTION_COORDINATOR_FENCED: {
    code: 52,
    retriable: false,
    message: 'the transaction coordinator has moved on',
  },
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: {
    code: 53,
    retriable: false,
    message: 'not authorized for the transactional id',
  },
  SECURITY_DISABLED: { code: 54, retriable: false, message: 'security features are off' },
  OPERATION_NOT_ATTEMPTED: {
    code: 55,
    retriable: false,
    message: 'not attempted, because another part of the request failed',
  },
  KAFKA_STORAGE_ERROR: {
    code: 56,
    retriable: true,
    message: 'the disk of the broker is full or has failed',
  },
  LOG_DIR_NOT_FOUND: { code: 57, retriable: false, message: 'the log directory is not configured' },
  SASL_AUTHENTICATION_FAILED: { code: 58, retriable: false, message: 'authentication failed' },
  UNKNOWN_PRODUCER_ID: {
    code: 59,
    retriable: false,
    message: 'the partition knows nothing of this producer id any more',
  },
  REASSIGNMENT_IN_PROGRESS: {
    code: 60,
    retriable: false,
    message: 'the partition is being reassigned',
  },
  DELEGATION_TOKEN_AUTH_DISABLED: {
    code: 61,
    retriable: false,
    message: 'delegation tokens are off',
  },
  DELEGATION_TOKEN_NOT_FOUND: { code: 62, retriable: false, message: 'no such delegation token' },
  DELEGATION_TOKEN_OWNER_MISMATCH: {
    code: 63,
    retriable: false,
    message: 'the delegation token belongs to another principal',
  },
  DELEGATION_TOKEN_REQUEST_NOT_ALLOWED: {
    code: 64,
    retriable: false,
    message: 'delegation tokens are not allowed on this connection',
  },
  DELEGATION_TOKEN_AUTHORIZATION_FAILED: {
    code: 65,
    retriable: false,
    message: 'not authorized for the delegation token',
  },
  DELEGATION_TOKEN_EXPIRED: {
    code: 66,
    retriable: false,
    message: 'the delegation token has expired',
  },
  INVALID_PRINCIPAL_TYPE: {
    code: 67,
    retriable: false,
    message: 'the principal type is not supported',
  },
  NON_EMPTY_GROUP: { code: 68, retriable: false, message: 'the group still has members' },
  GROUP_ID_NOT_FOUND: { code: 69, retriable: false, message: 'no such group' },
  FETCH_SESSION_ID_NOT_FOUND: { code: 70, retriable: true, message: 'no such fetch session' },
  INVALID_FETCH_SESSION_EPOCH: {
    code: 71,
    retriable: true,
    message: 'the fetch session epoch is not the one expected',
  },
  LISTENER_NOT_FOUND: {
    code: 72,
    retriable: true,
    message: 'the leader has no listener of this name',
  },
  TOPIC_DELETION_DISABLED: { code: 73, retriable: false, message: 'topic deletion is off' },
  FENCED_LEADER_EPOCH: {
    code: 74,
    retriable: true,
    message: 'the leader epoch in the request is old',
  },
  UNKNOWN_LEADER_EPOCH: {
    code: 75,
    retriable: true,
    message: 'the leader epoch in the request is newer than the broker knows',
  },
  UNSUPPORTED_COMPRESSION_TYPE: {
    code: 76,
    retriable: false,
    message: 'the client does not support the compression of the data',
  },
  STALE_BROKER_EPOCH: { code: 77, retriable: false, message: 'the broker epoch has changed' },
  OFFSET_NOT_AVAILABLE: {
    code: 78,
    retriable: true,
    message: 'the high watermark has not caught up after an election',
  },
  MEMBER_ID_REQUIRED: {
    code: 79,
    retriable: false,
    message: 'join again with the member id given',
  },
  PREFERRED_LEADER_NOT_AVAILABLE: {
    code: 80,
    retriable: true,
    message: 'the preferred leader is not available',
  },
  GROUP_MAX_SIZE_REACHED: { code: 81, retriable: false, message: 'the group is full' },
  FENCED_INSTANCE_ID: {
    code: 82,
    retriable: false,
    message: 'another member took over this group instance id',
  },
  ELIGIBLE_LEADERS_NOT_AVAILABLE: {
    code: 83,
    retriable: true,
    message: 'no replica may become the leader',
  },
  ELECTION_NOT_NEEDED: { code: 84, retriable: true, message: 'no election is needed' },
  NO_REASSIGNMENT_IN_PROGRESS: {
    code: 85,
    retriable: false,
    message: 'no reassignment is in progress',
  },
  GROUP_SUBSCRIBED_TO_TOPIC: {
    code: 86,
    retriable: false,
    message: 'the group is subscribed to the topic',
  },
  INVALID_RECORD: {
    code: 87,
    retriable: false,
    message: 'a record failed the validation of the broker',
  },
  UNSTABLE_OFFSET_COMMIT: {
    code: 88,
    retriable: true,
    message: 'a transaction with offsets of this partition is open',
  },
  THROTTLING_QUOTA_EXCEEDED: {
    code: 89,
    retriable: true,
    message: 'the throttling quota is exceeded',
  },
  PRODUCER_FENCED: {
    code: 90,
    retriable: false,
    message: 'a newer producer uses the same transactional id',
  },
  RESOURCE_NOT_FOUND: { code: 91, retriable: false, message: 'no such resource' },
  DUPLICATE_RESOURCE: { code: 92, retriable: false, message: 'the request names a resource twice' },
  UNACCEPTABLE_CREDENTIAL: {
    code: 93,
    retriable: false,
    message: 'the credential does not meet the criteria',
  },
  INCONSISTENT_VOTER_SET: { code: 94, retriable: false, message: 'the voter sets differ' },
  INVALID_UPDATE_VERSION: { code: 95, retriable: false, message: 'the update version is invalid' },
  FEATURE_UPDATE_FAILED: {
    code: 96,
    retriable: false,
    message: 'the finalized features could not be updated',
  },
  PRINCIPAL_DESERIALIZATION_FAILURE: {
    code: 97,
    retriable: false,
    message: 'the forwarded principal is unreadable',
  },
  SNAPSHOT_NOT_FOUND: { code: 98, retriable: false, message: 'no such snapshot' },
  POSITION_OUT_OF_RANGE: {
    code: 99,
    retriable: false,
    message: 'the position is not within the snapshot',
  },
  UNKNOWN_TOPIC_ID: {
    code: 100,
    retriable: true,
    message: 'the broker does not know this topic id',
  },
  DUPLICATE_BROKER_REGISTRATION: {
    code: 101,
    retriable: false,
    message: 'the broker id is in use',
  },
  BROKER_ID_NOT_REGISTERED: {
    code: 102,
    retriable: false,
    message: 'the broker id is not registered',
  },
  INCONSISTENT_TOPIC_ID: {
    code: 103,
    retriable: true,
    message: 'the topic id is not that of the log',
  },
  INCONSISTENT_CLUSTER_ID: { code: 104, retriable: false, message: 'the cluster id is another' },
  TRANSACTIONAL_ID_NOT_FOUND: { code: 105, retriable: false, message: 'no such transactional id' },
  FETCH_SESSION_TOPIC_ID_ERROR: {
    code: 106,
    retriable: true,
    message: 'the fetch session mixes topic ids and names',
  },
  INELIGIBLE_REPLICA: {
    code: 107,
    retriable: false,
    message: 'the replica may not join the in-sync replicas',
  },
  NEW_LEADER_ELECTED: { code: 108, retriable: false, message: 'the change elected another leader' },
  OFFSET_MOVED_TO_TIERED_STORAGE: {
    code: 109,
    retriable: false,
    message: 'the offset is in tiered storage',
  },
  FENCED_MEMBER_EPOCH: {
    code: 110,
    retriable: false,
    message: 'the member epoch is fenced: leave and join again',
  },
  UNRELEASED_INSTANCE_ID: {
    code: 111,
    retriable: false,
    message: 'another member still uses this group instance id',
  },
  UNSUPPORTED_ASSIGNOR: { code: 112, retriable: false, message: 'the assignor is not supported' },
  STALE_MEMBER_EPOCH: { code: 113, retriable: false, message: 'the member epoch is stale' },
  MISMATCHED_ENDPOINT_TYPE: {
    code: 114,
    retriable: false,
    message: 'the request went to the wrong type of endpoint',
  },
  UNSUPPORTED_ENDPOINT_TYPE: {
    code: 115,
    retriable: false,
    message: 'the endpoint type is not supported',
  },
  UNKNOWN_CONTROLLER_ID: { code: 116, retriable: false, message: 'the controller id is not known' },
  UNKNOWN_SUBSCRIPTION_ID: {
    code: 117,
    retriable: false,
    message: 'the telemetry subscription is not known',
  },
  TELEMETRY_TOO_LARGE: { code: 118, retriable: false, message: 'the telemetry is too large' },
  INVALID_REGISTRATION: {
    code: 119,
    retriable: false,
    message: 'the broker registration is invalid',
  },
  TRANSACTION_ABORTABLE: {
    code: 120,
    retriable: false,
    message: 'the transaction must be aborted; the producer can go on',
  },
  INVALID_RECORD_STATE: {
    code: 121,
    retriable: false,
    message: 'the record is not in a state for this acknowledgement',
  },
  SHARE_SESSION_NOT_FOUND: { code: 122, retriable: true, message: 'no such share session' },
  INVALID_SHARE_SESSION_EPOCH: {
    code: 123,
    retriable: true,
    message: 'the share session epoch is not the one expected',
  },
  FENCED_STATE_EPOCH: { code: 124, retriable: false, message: 'the share state epoch is old' },
  INVALID_VOTER_KEY: {
    code: 125,
    retriable: false,
    message: 'the voter key is not that of the receiver',
  },
  DUPLICATE_VOTER: { code: 126, retriable: false, message: 'the voter is in the set already' },
  VOTER_NOT_FOUND: { code: 127, retriable: false, message: 'the voter is not in the set' },
  INVALID_REGULAR_EXPRESSION: {
    code: 128,
    retriable: false,
    message: 'the regular expression is invalid',
  },
  REBOOTSTRAP_REQUIRED: {
    code: 129,
    retriable: false,
    message: 'the client must start again from its bootstrap addresses',
  },
  STREAMS_INVALID_TOPOLOGY: { code: 130, retriable: false, message: 'the topology is invalid' },
  STREAMS_INVALID_TOPOLOGY_EPOCH: {
    code: 131,
    retriable: false,
    message: 'the topology epoch is invalid',
  },
  STREAMS_TOPOLOGY_FENCED: {
    code: 132,
    retriable: false,
    message: 'the topology epoch is outdated',
  },
  SHARE_SESSION_LIMIT_REACHED: {
    code: 133,
    retriable: true,
    message: 'there are too many share sessions',
  },
} as const satisfies Record<string, KafkaErrorRow>

export type KafkaErrorName = keyof typeof kafkaErrors

const entries = Object.entries(kafkaErrors) as readonly [KafkaErrorName, KafkaErrorRow][]

/** The numbers by name: `KafkaError.NOT_LEADER_OR_FOLLOWER` is 6. */
export const KafkaError = Object.fromEntries(entries.map(([name, row]) => [name, row.code])) as {
  readonly [N in KafkaErrorName]: (typeof kafkaErrors)[N]['code']
}

/** Names by code + 1: the codes run from −1 without a gap. */
const names: readonly KafkaErrorName[] = entries.map(([name]) => name)

/** @returns `ERROR_<code>` for a number newer than the table */
export function kafkaErrorName(code: number): string {
  return names[code + 1] ?? `ERROR_${code}`
}

/** A number newer than the table is not retriable: nobody knows what trying again would do. */
export function kafkaErrorIsRetriable(code: number): boolean {
  const name = names[code + 1]
  return name !== undefined && kafkaErrors[name].retriable
}

/** What is wrong, in words; for people, never for decisions. */
export function kafkaErrorMessage(code: number): string {
  const name = names[code + 1]
  return name === undefined ? `unknown error ${code}` : kafkaErrors[name].message
}
