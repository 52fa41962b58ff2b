/** What is there and who serves it: Metadata, ApiVersions, DescribeCluster, DescribeLogDirs, DescribeTopicPartitions. */

/** Stands for "authorized operations were not asked for". */
const OPERATIONS_OMITTED = -2147483648

/** Request topics: v0 empty array = all; v1 null = all, empty = none; v10 topic ids; v13 top-level error. */
export const metadata = {
  key: 3,
  min: 0,
  max: 13,
  flexibleFrom: 9,
  request: [
    [
      'topics',
      {
        array: [
          ['topicId', 'uuid', 10, { ignorable: true }],
          ['name', 'string', 0, { nullable: 10 }],
        ],
      },
      0,
      { nullable: 1 },
    ],
    ['allowAutoTopicCreation', 'bool', 4, { default: true }],
    ['includeClusterAuthorizedOperations', 'bool', 8, { until: 10 }],
    ['includeTopicAuthorizedOperations', 'bool', 8],
  ],
  response: [
    ['throttleTimeMs', 'int32', 3],
    [
      'brokers',
      {
        array: [
          ['nodeId', 'int32', 0],
          ['host', 'string', 0],
          ['port', 'int32', 0],
          ['rack', 'string', 1, { nullable: 1, default: null }],
        ],
      },
      0,
    ],
    ['clusterId', 'string', 2, { nullable: 2, default: null }],
    ['controllerId', 'int32', 1, { default: -1 }],
    [
      'topics',
      {
        array: [
          ['errorCode', 'int16', 0],
          ['name', 'string', 0, { nullable: 12 }],
          ['topicId', 'uuid', 10],
          ['isInternal', 'bool', 1, { default: false }],
          [
            'partitions',
            {
              array: [
                ['errorCode', 'int16', 0],
                ['partitionIndex', 'int32', 0],
                ['leaderId', 'int32', 0],
                ['leaderEpoch', 'int32', 7, { default: -1 }],
                ['replicaNodes', 'int32[]', 0],
                ['isrNodes', 'int32[]', 0],
                ['offlineReplicas', 'int32[]', 5],
              ],
            },
            0,
          ],
          ['topicAuthorizedOperations', 'int32', 8, { default: OPERATIONS_OMITTED }],
        ],
      },
      0,
    ],
    ['clusterAuthorizedOperations', 'int32', 8, { until: 10, default: OPERATIONS_OMITTED }],
    ['errorCode', 'int16', 13],
  ],
} as const

/** The response header is v0 at every version. A request that is too new is answered in a v0 body with error 35. */
export const apiVersions = {
  key: 18,
  min: 0,
  max: 4,
  flexibleFrom: 3,
  request: [
    ['clientSoftwareName', 'string', 3, { ignorable: true }],
    ['clientSoftwareVersion', 'string', 3, { ignorable: true }],
  ],
  response: [
    ['errorCode', 'int16', 0],
    [
      'apiKeys',
      {
        array: [
          ['apiKey', 'int16', 0],
          ['minVersion', 'int16', 0],
          ['maxVersion', 'int16', 0],
        ],
      },
      0,
    ],
    ['throttleTimeMs', 'int32', 1],
    [
      'supportedFeatures',
      {
        array: [
          ['name', 'string', 3],
          ['minVersion', 'int16', 3],
          ['maxVersion', 'int16', 3],
        ],
      },
      3,
      { tag: 0 },
    ],
    ['finalizedFeaturesEpoch', 'int64', 3, { tag: 1, default: -1 }],
    [
      'finalizedFeatures',
      {
        array: [
          ['name', 'string', 3],
          ['maxVersionLevel', 'int16', 3],
          ['minVersionLevel', 'int16', 3],
        ],
      },
      3,
      { tag: 2 },
    ],
    ['zkMigrationReady', 'bool', 3, { tag: 3, default: false }],
  ],
} as const

/** A null topics array means every partition of every topic. */
export const describeLogDirs = {
  key: 35,
  min: 1,
  max: 4,
  flexibleFrom: 2,
  request: [
    [
      'topics',
      {
        array: [
          ['topic', 'string', 0],
          ['partitions', 'int32[]', 0],
        ],
      },
      0,
      { nullable: 0 },
    ],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 3],
    [
      'results',
      {
        array: [
          ['errorCode', 'int16', 0],
          ['logDir', 'string', 0],
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
                      ['partitionSize', 'int64', 0],
                      ['offsetLag', 'int64', 0],
                      ['isFutureKey', 'bool', 0],
                    ],
                  },
                  0,
                ],
              ],
            },
            0,
          ],
          ['totalBytes', 'int64', 4, { default: -1 }],
          ['usableBytes', 'int64', 4, { default: -1 }],
        ],
      },
      0,
    ],
  ],
} as const

/** endpointType 1 = brokers, 2 = controllers. */
export const describeCluster = {
  key: 60,
  min: 0,
  max: 2,
  flexibleFrom: 0,
  request: [
    ['includeClusterAuthorizedOperations', 'bool', 0],
    ['endpointType', 'int8', 1, { default: 1 }],
    ['includeFencedBrokers', 'bool', 2],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    ['errorMessage', 'string', 0, { nullable: 0, default: null }],
    ['endpointType', 'int8', 1, { default: 1 }],
    ['clusterId', 'string', 0],
    ['controllerId', 'int32', 0, { default: -1 }],
    [
      'brokers',
      {
        array: [
          ['brokerId', 'int32', 0],
          ['host', 'string', 0],
          ['port', 'int32', 0],
          ['rack', 'string', 0, { nullable: 0, default: null }],
          ['isFenced', 'bool', 2],
        ],
      },
      0,
    ],
    ['clusterAuthorizedOperations', 'int32', 0, { default: OPERATIONS_OMITTED }],
  ],
} as const

/** Forgets a broker that is gone for good. */
export const unregisterBroker = {
  key: 64,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [['brokerId', 'int32', 0]],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    ['errorMessage', 'string', 0, { nullable: 0 }],
  ],
} as const

export const listConfigResources = {
  key: 74,
  min: 0,
  max: 1,
  flexibleFrom: 0,
  request: [['resourceTypes', 'int8[]', 1]],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    [
      'configResources',
      {
        array: [
          ['resourceName', 'string', 0],
          ['resourceType', 'int8', 1, { default: 16 }],
        ],
      },
      0,
    ],
  ],
} as const

/** Java's describeTopics tries this first and goes on where nextCursor points. */
export const describeTopicPartitions = {
  key: 75,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [
    ['topics', { array: [['name', 'string', 0]] }, 0],
    ['responsePartitionLimit', 'int32', 0, { default: 2000 }],
    [
      'cursor',
      {
        struct: [
          ['topicName', 'string', 0],
          ['partitionIndex', 'int32', 0],
        ],
      },
      0,
      { nullable: 0, default: null },
    ],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    [
      'topics',
      {
        array: [
          ['errorCode', 'int16', 0],
          ['name', 'string', 0, { nullable: 0 }],
          ['topicId', 'uuid', 0],
          ['isInternal', 'bool', 0, { default: false }],
          [
            'partitions',
            {
              array: [
                ['errorCode', 'int16', 0],
                ['partitionIndex', 'int32', 0],
                ['leaderId', 'int32', 0],
                ['leaderEpoch', 'int32', 0, { default: -1 }],
                ['replicaNodes', 'int32[]', 0],
                ['isrNodes', 'int32[]', 0],
                ['eligibleLeaderReplicas', 'int32[]', 0, { nullable: 0, default: null }],
                ['lastKnownElr', 'int32[]', 0, { nullable: 0, default: null }],
                ['offlineReplicas', 'int32[]', 0],
              ],
            },
            0,
          ],
          ['topicAuthorizedOperations', 'int32', 0, { default: OPERATIONS_OMITTED }],
        ],
      },
      0,
    ],
    [
      'nextCursor',
      {
        struct: [
          ['topicName', 'string', 0],
          ['partitionIndex', 'int32', 0],
        ],
      },
      0,
      { nullable: 0, default: null },
    ],
  ],
} as const
