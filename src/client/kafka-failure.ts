/**
 * From an error number in a broker's answer to the StreamError a user sees. One table, so that a number means the same
 * in every command. Whether a number is retried is decided by the protocol's own table, never here.
 */
import { type ErrorCode, StreamError } from '../base/errors.ts'
import { KafkaError, kafkaErrorMessage, kafkaErrorName } from '../protocol/errors.ts'

interface FailureRow {
  readonly code: ErrorCode
  readonly message?: string
  readonly hint?: string
}

const failures: Readonly<Record<number, FailureRow>> = {
  [KafkaError.OFFSET_OUT_OF_RANGE]: {
    code: 'OFFSET_OUT_OF_RANGE',
    message: 'the position is outside the log',
  },
  [KafkaError.CORRUPT_MESSAGE]: { code: 'CORRUPT_BATCH', message: 'the batch is damaged' },
  [KafkaError.UNKNOWN_TOPIC_OR_PARTITION]: {
    code: 'TOPIC_UNKNOWN',
    message: 'no such topic',
    hint: 'to see what there is: stream topics list',
  },
  [KafkaError.UNKNOWN_TOPIC_ID]: { code: 'TOPIC_UNKNOWN', message: 'no such topic' },
  [KafkaError.REQUEST_TIMED_OUT]: { code: 'TIMED_OUT', message: 'the broker ran out of time' },
  [KafkaError.MESSAGE_TOO_LARGE]: {
    code: 'RECORD_TOO_LARGE',
    message: 'a batch is larger than the topic allows (max.message.bytes)',
    hint: 'lower --batch-size, or raise the limit: stream topics alter NAME --set max.message.bytes=N',
  },
  [KafkaError.RECORD_LIST_TOO_LARGE]: {
    code: 'RECORD_TOO_LARGE',
    message: 'a batch is larger than a segment of the topic',
    hint: 'lower --batch-size, or raise segment.bytes of the topic',
  },
  [KafkaError.INVALID_TOPIC_EXCEPTION]: {
    code: 'TOPIC_NAME_INVALID',
    message: 'not a valid topic name',
    hint: 'letters, digits, dots, dashes and underscores, at most 249',
  },
  [KafkaError.TOPIC_ALREADY_EXISTS]: { code: 'TOPIC_EXISTS', message: 'the topic exists already' },
  [KafkaError.INVALID_PARTITIONS]: { code: 'CONFIG_INVALID' },
  [KafkaError.INVALID_REPLICATION_FACTOR]: { code: 'CONFIG_INVALID' },
  [KafkaError.INVALID_REPLICA_ASSIGNMENT]: { code: 'CONFIG_INVALID' },
  [KafkaError.INVALID_CONFIG]: { code: 'CONFIG_INVALID' },
  [KafkaError.INVALID_RECORD]: { code: 'RECORD_INVALID', message: 'the broker refused a record' },
  [KafkaError.INVALID_TIMESTAMP]: {
    code: 'RECORD_INVALID',
    message: 'a timestamp is outside what the topic allows',
  },
  [KafkaError.UNSUPPORTED_COMPRESSION_TYPE]: {
    code: 'UNSUPPORTED_COMPRESSION',
    message: 'the broker does not know this compression',
    hint: 'try: --compression none',
  },
  [KafkaError.UNSUPPORTED_VERSION]: {
    code: 'UNSUPPORTED_BY_BROKER',
    message: 'the broker is too old for this',
  },
  [KafkaError.INVALID_PRODUCER_EPOCH]: {
    code: 'FENCED',
    message: 'a newer producer has taken over',
  },
  [KafkaError.PRODUCER_FENCED]: { code: 'FENCED', message: 'a newer producer has taken over' },
  [KafkaError.TOPIC_AUTHORIZATION_FAILED]: { code: 'NOT_ALLOWED' },
  [KafkaError.GROUP_AUTHORIZATION_FAILED]: { code: 'NOT_ALLOWED' },
  [KafkaError.CLUSTER_AUTHORIZATION_FAILED]: { code: 'NOT_ALLOWED' },
  [KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED]: { code: 'NOT_ALLOWED' },
  [KafkaError.SASL_AUTHENTICATION_FAILED]: { code: 'NOT_ALLOWED' },
  [KafkaError.POLICY_VIOLATION]: {
    code: 'NOT_ALLOWED',
    message: 'refused: a mirrored topic is read-only until it is promoted (stream mirror status)',
  },
  [KafkaError.RESOURCE_NOT_FOUND]: { code: 'NAME_UNKNOWN' },
  [KafkaError.UNACCEPTABLE_CREDENTIAL]: { code: 'CONFIG_INVALID' },
  [KafkaError.INCONSISTENT_GROUP_PROTOCOL]: {
    code: 'CONFLICT',
    message: 'its members share no protocol with this one',
    hint: 'who is in it: stream groups describe GROUP --members; take another group, or stop them first',
  },
  [KafkaError.REASSIGNMENT_IN_PROGRESS]: { code: 'CONFLICT' },
  [KafkaError.NO_REASSIGNMENT_IN_PROGRESS]: { code: 'CONFLICT' },
  [KafkaError.PREFERRED_LEADER_NOT_AVAILABLE]: {
    code: 'BROKER_ERROR',
    message: 'the preferred replica is not in sync or not alive',
    hint: 'to see why: stream cluster doctor',
  },
  [KafkaError.ELIGIBLE_LEADERS_NOT_AVAILABLE]: {
    code: 'BROKER_ERROR',
    message: 'no replica may lead it',
    hint: 'to see why: stream cluster doctor',
  },
  [KafkaError.BROKER_ID_NOT_REGISTERED]: { code: 'NAME_UNKNOWN', message: 'no such broker' },
  [KafkaError.NON_EMPTY_GROUP]: { code: 'CONFLICT' },
  [KafkaError.GROUP_ID_NOT_FOUND]: { code: 'NAME_UNKNOWN' },
  [KafkaError.FENCED_INSTANCE_ID]: { code: 'FENCED' },
}

export interface FailureContext {
  /** What was tried on what: `orders`, `orders partition 3`. */
  readonly target?: string
  /** The broker's own words, where the answer had some. */
  readonly brokerMessage?: string | null | undefined
  readonly hint?: string
  readonly cause?: unknown
}

/**
 * @param number  an error number of a broker's answer, not 0
 * @returns  one line for the user, `target: what happened (KAFKA_NAME)`, with `kafkaError` set
 */
export function kafkaFailure(number: number, context: FailureContext = {}): StreamError {
  const row = failures[number]
  const words = context.brokerMessage || row?.message || kafkaErrorMessage(number)
  const hint = context.hint ?? row?.hint
  const subject = context.target === undefined ? '' : `${context.target}: `
  return new StreamError(
    row?.code ?? 'BROKER_ERROR',
    `${subject}${words} (${kafkaErrorName(number)})`,
    {
      kafkaError: number,
      ...(context.target === undefined ? {} : { target: context.target }),
      ...(hint === undefined ? {} : { hint }),
      ...(context.cause === undefined ? {} : { cause: context.cause }),
    },
  )
}
