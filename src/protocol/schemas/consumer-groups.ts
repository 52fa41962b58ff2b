/** Groups whose assignment the coordinator makes (KIP-848). v1: the client makes the member id; regular expressions. */

export const consumerGroupHeartbeat = {
  key: 68,
  min: 0,
  max: 1,
  flexibleFrom: 0,
  request: [
    ['groupId', 'string', 0],
    ['memberId', 'string', 0],
    ['memberEpoch', 'int32', 0],
    ['instanceId', 'string', 0, { nullable: 0, default: null }],
    ['rackId', 'string', 0, { nullable: 0, default: null }],
    ['rebalanceTimeoutMs', 'int32', 0, { default: -1 }],
    ['subscribedTopicNames', 'string[]', 0, { nullable: 0, default: null }],
    ['subscribedTopicRegex', 'string', 1, { nullable: 1, default: null }],
    ['serverAssignor', 'string', 0, { nullable: 0, default: null }],
    [
      'topicPartitions',
      {
        array: [
          ['topicId', 'uuid', 0],
          ['partitions', 'int32[]', 0],
        ],
      },
      0,
      { nullable: 0, default: null },
    ],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    ['errorMessage', 'string', 0, { nullable: 0, default: null }],
    ['memberId', 'string', 0, { nullable: 0, default: null }],
    ['memberEpoch', 'int32', 0],
    ['heartbeatIntervalMs', 'int32', 0],
    [
      'assignment',
      {
        struct: [
          [
            'topicPartitions',
            {
              array: [
                ['topicId', 'uuid', 0],
                ['partitions', 'int32[]', 0],
              ],
            },
            0,
          ],
        ],
      },
      0,
      { nullable: 0, default: null },
    ],
  ],
} as const

const assignment = [
  [
    'topicPartitions',
    {
      array: [
        ['topicId', 'uuid', 0],
        ['topicName', 'string', 0],
        ['partitions', 'int32[]', 0],
      ],
    },
    0,
  ],
] as const

export const consumerGroupDescribe = {
  key: 69,
  min: 0,
  max: 1,
  flexibleFrom: 0,
  request: [
    ['groupIds', 'string[]', 0],
    ['includeAuthorizedOperations', 'bool', 0],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    [
      'groups',
      {
        array: [
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 0, { nullable: 0, default: null }],
          ['groupId', 'string', 0],
          ['groupState', 'string', 0],
          ['groupEpoch', 'int32', 0],
          ['assignmentEpoch', 'int32', 0],
          ['assignorName', 'string', 0],
          [
            'members',
            {
              array: [
                ['memberId', 'string', 0],
                ['instanceId', 'string', 0, { nullable: 0, default: null }],
                ['rackId', 'string', 0, { nullable: 0, default: null }],
                ['memberEpoch', 'int32', 0],
                ['clientId', 'string', 0],
                ['clientHost', 'string', 0],
                ['subscribedTopicNames', 'string[]', 0],
                ['subscribedTopicRegex', 'string', 0, { nullable: 0, default: null }],
                ['assignment', { struct: assignment }, 0],
                ['targetAssignment', { struct: assignment }, 0],
                ['memberType', 'int8', 1, { default: -1 }],
              ],
            },
            0,
          ],
          ['authorizedOperations', 'int32', 0, { default: -2147483648 }],
        ],
      },
      0,
    ],
  ],
} as const
