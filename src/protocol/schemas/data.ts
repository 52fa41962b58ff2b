/** The data path: Produce, Fetch, ListOffsets, DeleteRecords, OffsetForLeaderEpoch. */

const nodeEndpoint = [
  ['nodeId', 'int32', 0],
  ['host', 'string', 0],
  ['port', 'int32', 0],
  ['rack', 'string', 0, { nullable: 0, default: null }],
] as const

const leaderIdAndEpoch = [
  ['leaderId', 'int32', 0, { default: -1 }],
  ['leaderEpoch', 'int32', 0, { default: -1 }],
] as const

/**
 * v3 record batches v2, v5 log start offset, v7 zstd, v8 record errors, v10 leader hints, v11 TRANSACTION_ABORTABLE,
 * v12 partitions join the transaction by themselves (TV2), v13 topic ids. acks=0 has no response.
 */
export const produce = {
  key: 0,
  min: 3,
  max: 13,
  flexibleFrom: 9,
  request: [
    ['transactionalId', 'string', 3, { nullable: 3, default: null }],
    ['acks', 'int16', 0],
    ['timeoutMs', 'int32', 0],
    [
      'topicData',
      {
        array: [
          ['name', 'string', 0, { until: 12, ignorable: true }],
          ['topicId', 'uuid', 13, { ignorable: true }],
          [
            'partitionData',
            {
              array: [
                ['index', 'int32', 0],
                ['records', 'records', 0, { nullable: 0 }],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
  ],
  response: [
    [
      'responses',
      {
        array: [
          ['name', 'string', 0, { until: 12 }],
          ['topicId', 'uuid', 13],
          [
            'partitionResponses',
            {
              array: [
                ['index', 'int32', 0],
                ['errorCode', 'int16', 0],
                ['baseOffset', 'int64', 0],
                ['logAppendTimeMs', 'int64', 2, { default: -1 }],
                ['logStartOffset', 'int64', 5, { default: -1 }],
                [
                  'recordErrors',
                  {
                    array: [
                      ['batchIndex', 'int32', 8],
                      ['batchIndexErrorMessage', 'string', 8, { nullable: 8, default: null }],
                    ],
                  },
                  8,
                ],
                ['errorMessage', 'string', 8, { nullable: 8, default: null }],
                ['currentLeader', { struct: leaderIdAndEpoch }, 10, { tag: 0 }],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
    ['throttleTimeMs', 'int32', 1, { default: 0 }],
    ['nodeEndpoints', { array: nodeEndpoint }, 10, { tag: 0 }],
  ],
} as const

/**
 * v4 isolation level, v5 log start offset, v7 sessions, v9 leader epoch, v10 zstd, v11 rack, v12 diverging epochs,
 * v13 topic ids, v15 replica state, v16 leader endpoints, v17 replica directory, v18 follower's high watermark.
 *
 * Tags from 10000 on are no part of Kafka's message: daemons alone send them, to daemons alone.
 */
export const fetch = {
  key: 1,
  min: 4,
  max: 18,
  flexibleFrom: 12,
  request: [
    ['clusterId', 'string', 12, { nullable: 12, default: null, tag: 0, ignorable: true }],
    ['replicaId', 'int32', 0, { until: 14, default: -1 }],
    [
      'replicaState',
      {
        struct: [
          ['replicaId', 'int32', 15, { default: -1 }],
          ['replicaEpoch', 'int64', 15, { default: -1 }],
        ],
      },
      15,
      { tag: 1 },
    ],
    ['maxWaitMs', 'int32', 0],
    ['minBytes', 'int32', 0],
    ['maxBytes', 'int32', 3, { default: 0x7fffffff, ignorable: true }],
    ['isolationLevel', 'int8', 4, { default: 0, ignorable: true }],
    ['sessionId', 'int32', 7, { default: 0, ignorable: true }],
    ['sessionEpoch', 'int32', 7, { default: -1, ignorable: true }],
    [
      'topics',
      {
        array: [
          ['topic', 'string', 0, { until: 12, ignorable: true }],
          ['topicId', 'uuid', 13, { ignorable: true }],
          [
            'partitions',
            {
              array: [
                ['partition', 'int32', 0],
                ['currentLeaderEpoch', 'int32', 9, { default: -1, ignorable: true }],
                ['fetchOffset', 'int64', 0],
                ['lastFetchedEpoch', 'int32', 12, { default: -1 }],
                ['logStartOffset', 'int64', 5, { default: -1, ignorable: true }],
                ['partitionMaxBytes', 'int32', 0],
                ['replicaDirectoryId', 'uuid', 17, { tag: 0, ignorable: true }],
                ['highWatermark', 'int64', 18, { tag: 1, default: 2 ** 63, ignorable: true }],
                ['durableOffset', 'int64', 15, { tag: 10000, default: -1, ignorable: true }],
                ['cleanOffset', 'int64', 15, { tag: 10001, default: -1, ignorable: true }],
                ['txnFreeOffset', 'int64', 15, { tag: 10002, default: -1, ignorable: true }],
                ['tombstoneFloor', 'int64', 15, { tag: 10003, default: -1, ignorable: true }],
                ['replicaSince', 'int32', 15, { tag: 10004, default: -1, ignorable: true }],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
    [
      'forgottenTopicsData',
      {
        array: [
          ['topic', 'string', 7, { until: 12, ignorable: true }],
          ['topicId', 'uuid', 13, { ignorable: true }],
          ['partitions', 'int32[]', 7],
        ],
      },
      7,
    ],
    ['rackId', 'string', 11, { default: '', ignorable: true }],
    ['dataEpoch', 'int64', 15, { tag: 10000, default: -1, ignorable: true }],
    ['fetchNumber', 'int64', 15, { tag: 10001, default: -1, ignorable: true }],
  ],
  response: [
    ['throttleTimeMs', 'int32', 1, { default: 0 }],
    ['errorCode', 'int16', 7],
    ['sessionId', 'int32', 7, { default: 0 }],
    [
      'responses',
      {
        array: [
          ['topic', 'string', 0, { until: 12 }],
          ['topicId', 'uuid', 13],
          [
            'partitions',
            {
              array: [
                ['partitionIndex', 'int32', 0],
                ['errorCode', 'int16', 0],
                ['highWatermark', 'int64', 0],
                ['lastStableOffset', 'int64', 4, { default: -1 }],
                ['logStartOffset', 'int64', 5, { default: -1 }],
                [
                  'divergingEpoch',
                  {
                    struct: [
                      ['epoch', 'int32', 12, { default: -1 }],
                      ['endOffset', 'int64', 12, { default: -1 }],
                    ],
                  },
                  12,
                  { tag: 0 },
                ],
                ['currentLeader', { struct: leaderIdAndEpoch }, 12, { tag: 1 }],
                [
                  'snapshotId',
                  {
                    struct: [
                      ['endOffset', 'int64', 0, { default: -1 }],
                      ['epoch', 'int32', 0, { default: -1 }],
                    ],
                  },
                  12,
                  { tag: 2 },
                ],
                [
                  'abortedTransactions',
                  {
                    array: [
                      ['producerId', 'int64', 4],
                      ['firstOffset', 'int64', 4],
                    ],
                  },
                  4,
                  { nullable: 4 },
                ],
                ['preferredReadReplica', 'int32', 11, { default: -1 }],
                ['records', 'records', 0, { nullable: 0 }],
                ['tombstoneFloor', 'int64', 15, { tag: 10000, default: -1, ignorable: true }],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
    ['nodeEndpoints', { array: nodeEndpoint }, 16, { tag: 0 }],
  ],
} as const

/**
 * Timestamps: −1 latest, −2 earliest, −3 largest timestamp (v7), −4 earliest local (v8), −5 tiered (v9), v10 timeout,
 * v11 −6 (earliest pending upload). v2 isolation level.
 */
export const listOffsets = {
  key: 2,
  min: 1,
  max: 11,
  flexibleFrom: 6,
  request: [
    ['replicaId', 'int32', 0],
    ['isolationLevel', 'int8', 2],
    [
      'topics',
      {
        array: [
          ['name', 'string', 0],
          [
            'partitions',
            {
              array: [
                ['partitionIndex', 'int32', 0],
                ['currentLeaderEpoch', 'int32', 4, { default: -1, ignorable: true }],
                ['timestamp', 'int64', 0],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
    ['timeoutMs', 'int32', 10, { ignorable: true }],
  ],
  response: [
    ['throttleTimeMs', 'int32', 2],
    [
      'topics',
      {
        array: [
          ['name', 'string', 0],
          [
            'partitions',
            {
              array: [
                ['partitionIndex', 'int32', 0],
                ['errorCode', 'int16', 0],
                ['timestamp', 'int64', 1, { default: -1 }],
                ['offset', 'int64', 1, { default: -1 }],
                ['leaderEpoch', 'int32', 4, { default: -1 }],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
  ],
} as const

/** Offset −1 means the high watermark. */
export const deleteRecords = {
  key: 21,
  min: 0,
  max: 2,
  flexibleFrom: 2,
  request: [
    [
      'topics',
      {
        array: [
          ['name', 'string', 0],
          [
            'partitions',
            {
              array: [
                ['partitionIndex', 'int32', 0],
                ['offset', 'int64', 0],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
    ['timeoutMs', 'int32', 0],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    [
      'topics',
      {
        array: [
          ['name', 'string', 0],
          [
            'partitions',
            {
              array: [
                ['partitionIndex', 'int32', 0],
                ['lowWatermark', 'int64', 0],
                ['errorCode', 'int16', 0],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
  ],
} as const

export const offsetForLeaderEpoch = {
  key: 23,
  min: 2,
  max: 4,
  flexibleFrom: 4,
  request: [
    ['replicaId', 'int32', 3, { default: -2, ignorable: true }],
    [
      'topics',
      {
        array: [
          ['topic', 'string', 0],
          [
            'partitions',
            {
              array: [
                ['partition', 'int32', 0],
                ['currentLeaderEpoch', 'int32', 2, { default: -1, ignorable: true }],
                ['leaderEpoch', 'int32', 0],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
  ],
  response: [
    ['throttleTimeMs', 'int32', 2],
    [
      'topics',
      {
        array: [
          ['topic', 'string', 0],
          [
            'partitions',
            {
              array: [
                ['errorCode', 'int16', 0],
                ['partition', 'int32', 0],
                ['leaderEpoch', 'int32', 1, { default: -1 }],
                ['endOffset', 'int64', 0, { default: -1 }],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
  ],
} as const
