/**
 * The operations a client may do, as Kafka's bit fields (bit = AclOperation number). While access rules are off
 * everybody may do everything.
 */

const bits = (...operations: readonly number[]): number =>
  operations.reduce((sum, operation) => sum | (1 << operation), 0)

/** READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS */
export const topicOperations = bits(3, 4, 5, 6, 7, 8, 10, 11)

/** CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE */
export const clusterOperations = bits(5, 7, 8, 9, 10, 11, 12)

/** READ, DELETE, DESCRIBE */
export const groupOperations = bits(3, 6, 8)
