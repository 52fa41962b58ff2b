/** Topics and their configs: create, delete, grow, describe and alter configs, move replicas. */

/** −1 partitions or replicas = the broker's default (v4). v5 answers with the configs, v7 with the topic id. */
export const createTopics = {
  key: 19,
  min: 2,
  max: 7,
  flexibleFrom: 5,
  request: [
    [
      'topics',
      {
        array: [
          ['name', 'string', 0],
          ['numPartitions', 'int32', 0],
          ['replicationFactor', 'int16', 0],
          [
            'assignments',
            {
              array: [
                ['partitionIndex', 'int32', 0],
                ['brokerIds', 'int32[]', 0],
              ],
            },
            0,
          ],
          [
            'configs',
            {
              array: [
                ['name', 'string', 0],
                ['value', 'string', 0, { nullable: 0 }],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
    ['timeoutMs', 'int32', 0, { default: 60000 }],
    ['validateOnly', 'bool', 1, { default: false }],
  ],
  response: [
    ['throttleTimeMs', 'int32', 2],
    [
      'topics',
      {
        array: [
          ['name', 'string', 0],
          ['topicId', 'uuid', 7],
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 1, { nullable: 0 }],
          ['topicConfigErrorCode', 'int16', 5, { tag: 0 }],
          ['numPartitions', 'int32', 5, { default: -1 }],
          ['replicationFactor', 'int16', 5, { default: -1 }],
          [
            'configs',
            {
              array: [
                ['name', 'string', 5],
                ['value', 'string', 5, { nullable: 5 }],
                ['readOnly', 'bool', 5],
                ['configSource', 'int8', 5, { default: -1 }],
                ['isSensitive', 'bool', 5],
              ],
            },
            5,
            { nullable: 5 },
          ],
        ],
      },
      0,
    ],
  ],
} as const

/** v6 names topics by name or by id. */
export const deleteTopics = {
  key: 20,
  min: 1,
  max: 6,
  flexibleFrom: 4,
  request: [
    [
      'topics',
      {
        array: [
          ['name', 'string', 6, { nullable: 6, default: null }],
          ['topicId', 'uuid', 6],
        ],
      },
      6,
    ],
    ['topicNames', 'string[]', 0, { until: 5, ignorable: true }],
    ['timeoutMs', 'int32', 0],
  ],
  response: [
    ['throttleTimeMs', 'int32', 1],
    [
      'responses',
      {
        array: [
          ['name', 'string', 0, { nullable: 6 }],
          ['topicId', 'uuid', 6],
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 5, { nullable: 5, default: null }],
        ],
      },
      0,
    ],
  ],
} as const

/** resourceType: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group. Null keys = all. */
export const describeConfigs = {
  key: 32,
  min: 1,
  max: 4,
  flexibleFrom: 4,
  request: [
    [
      'resources',
      {
        array: [
          ['resourceType', 'int8', 0],
          ['resourceName', 'string', 0],
          ['configurationKeys', 'string[]', 0, { nullable: 0 }],
        ],
      },
      0,
    ],
    ['includeSynonyms', 'bool', 1, { default: false }],
    ['includeDocumentation', 'bool', 3],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    [
      'results',
      {
        array: [
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 0, { nullable: 0 }],
          ['resourceType', 'int8', 0],
          ['resourceName', 'string', 0],
          [
            'configs',
            {
              array: [
                ['name', 'string', 0],
                ['value', 'string', 0, { nullable: 0 }],
                ['readOnly', 'bool', 0],
                ['configSource', 'int8', 1, { default: -1 }],
                ['isSensitive', 'bool', 0],
                [
                  'synonyms',
                  {
                    array: [
                      ['name', 'string', 1],
                      ['value', 'string', 1, { nullable: 0 }],
                      ['source', 'int8', 1],
                    ],
                  },
                  1,
                ],
                ['configType', 'int8', 3, { default: 0 }],
                ['documentation', 'string', 3, { nullable: 0 }],
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

const alterConfigsResponse = [
  ['throttleTimeMs', 'int32', 0],
  [
    'responses',
    {
      array: [
        ['errorCode', 'int16', 0],
        ['errorMessage', 'string', 0, { nullable: 0 }],
        ['resourceType', 'int8', 0],
        ['resourceName', 'string', 0],
      ],
    },
    0,
  ],
] as const

/** Replaces the whole set of configs of each resource. */
export const alterConfigs = {
  key: 33,
  min: 0,
  max: 2,
  flexibleFrom: 2,
  request: [
    [
      'resources',
      {
        array: [
          ['resourceType', 'int8', 0],
          ['resourceName', 'string', 0],
          [
            'configs',
            {
              array: [
                ['name', 'string', 0],
                ['value', 'string', 0, { nullable: 0 }],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
    ['validateOnly', 'bool', 0],
  ],
  response: alterConfigsResponse,
} as const

/** configOperation: SET 0, DELETE 1, APPEND 2, SUBTRACT 3. */
export const incrementalAlterConfigs = {
  key: 44,
  min: 0,
  max: 1,
  flexibleFrom: 1,
  request: [
    [
      'resources',
      {
        array: [
          ['resourceType', 'int8', 0],
          ['resourceName', 'string', 0],
          [
            'configs',
            {
              array: [
                ['name', 'string', 0],
                ['configOperation', 'int8', 0],
                ['value', 'string', 0, { nullable: 0 }],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
    ['validateOnly', 'bool', 0],
  ],
  response: alterConfigsResponse,
} as const

/** count is the new total. The answer names every topic asked for. */
export const createPartitions = {
  key: 37,
  min: 0,
  max: 3,
  flexibleFrom: 2,
  request: [
    [
      'topics',
      {
        array: [
          ['name', 'string', 0],
          ['count', 'int32', 0],
          ['assignments', { array: [['brokerIds', 'int32[]', 0]] }, 0, { nullable: 0 }],
        ],
      },
      0,
    ],
    ['timeoutMs', 'int32', 0],
    ['validateOnly', 'bool', 0],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    [
      'results',
      {
        array: [
          ['name', 'string', 0],
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 0, { nullable: 0, default: null }],
        ],
      },
      0,
    ],
  ],
} as const

/** electionType: 0 preferred, 1 unclean. Null topicPartitions = all partitions that need it. */
export const electLeaders = {
  key: 43,
  min: 0,
  max: 2,
  flexibleFrom: 2,
  request: [
    ['electionType', 'int8', 1],
    [
      'topicPartitions',
      {
        array: [
          ['topic', 'string', 0],
          ['partitions', 'int32[]', 0],
        ],
      },
      0,
      { nullable: 0 },
    ],
    ['timeoutMs', 'int32', 0, { default: 60000 }],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 1],
    [
      'replicaElectionResults',
      {
        array: [
          ['topic', 'string', 0],
          [
            'partitionResult',
            {
              array: [
                ['partitionId', 'int32', 0],
                ['errorCode', 'int16', 0],
                ['errorMessage', 'string', 0, { nullable: 0 }],
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

/** Null replicas cancel a reassignment under way. */
export const alterPartitionReassignments = {
  key: 45,
  min: 0,
  max: 1,
  flexibleFrom: 0,
  request: [
    ['timeoutMs', 'int32', 0, { default: 60000 }],
    ['allowReplicationFactorChange', 'bool', 1, { default: true }],
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
                ['replicas', 'int32[]', 0, { nullable: 0, default: null }],
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
    ['throttleTimeMs', 'int32', 0],
    ['allowReplicationFactorChange', 'bool', 1, { default: true }],
    ['errorCode', 'int16', 0],
    ['errorMessage', 'string', 0, { nullable: 0 }],
    [
      'responses',
      {
        array: [
          ['name', 'string', 0],
          [
            'partitions',
            {
              array: [
                ['partitionIndex', 'int32', 0],
                ['errorCode', 'int16', 0],
                ['errorMessage', 'string', 0, { nullable: 0 }],
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

export const listPartitionReassignments = {
  key: 46,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [
    ['timeoutMs', 'int32', 0, { default: 60000 }],
    [
      'topics',
      {
        array: [
          ['name', 'string', 0],
          ['partitionIndexes', 'int32[]', 0],
        ],
      },
      0,
      { nullable: 0, default: null },
    ],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    ['errorMessage', 'string', 0, { nullable: 0 }],
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
                ['replicas', 'int32[]', 0],
                ['addingReplicas', 'int32[]', 0],
                ['removingReplicas', 'int32[]', 0],
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
