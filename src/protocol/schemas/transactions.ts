/** Producer ids and transactions. TV2 marks what belongs to transaction protocol version 2 (KIP-890). */

/** v3 takes the producer's id and epoch (KIP-360), v4 knows PRODUCER_FENCED, v5 TRANSACTION_ABORTABLE. */
export const initProducerId = {
  key: 22,
  min: 0,
  max: 5,
  flexibleFrom: 2,
  request: [
    ['transactionalId', 'string', 0, { nullable: 0 }],
    ['transactionTimeoutMs', 'int32', 0],
    ['producerId', 'int64', 3, { default: -1 }],
    ['producerEpoch', 'int16', 3, { default: -1 }],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    ['producerId', 'int64', 0, { default: -1 }],
    ['producerEpoch', 'int16', 0],
  ],
} as const

const partitionsByTopic = [
  ['name', 'string', 0],
  ['partitions', 'int32[]', 0],
] as const

const partitionResults = [
  ['name', 'string', 0],
  [
    'resultsByPartition',
    {
      array: [
        ['partitionIndex', 'int32', 0],
        ['partitionErrorCode', 'int16', 0],
      ],
    },
    0,
  ],
] as const

/** Clients send v0 to v3; from v4 on it is the batch form that brokers use among themselves. */
export const addPartitionsToTxn = {
  key: 24,
  min: 0,
  max: 5,
  flexibleFrom: 3,
  request: [
    [
      'transactions',
      {
        array: [
          ['transactionalId', 'string', 4],
          ['producerId', 'int64', 4],
          ['producerEpoch', 'int16', 4],
          ['verifyOnly', 'bool', 4, { default: false }],
          ['topics', { array: partitionsByTopic }, 4],
        ],
      },
      4,
    ],
    ['v3AndBelowTransactionalId', 'string', 0, { until: 3 }],
    ['v3AndBelowProducerId', 'int64', 0, { until: 3 }],
    ['v3AndBelowProducerEpoch', 'int16', 0, { until: 3 }],
    ['v3AndBelowTopics', { array: partitionsByTopic }, 0, { until: 3 }],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 4],
    [
      'resultsByTransaction',
      {
        array: [
          ['transactionalId', 'string', 4],
          ['topicResults', { array: partitionResults }, 4],
        ],
      },
      4,
    ],
    ['resultsByTopicV3AndBelow', { array: partitionResults }, 0, { until: 3 }],
  ],
} as const

export const addOffsetsToTxn = {
  key: 25,
  min: 0,
  max: 4,
  flexibleFrom: 3,
  request: [
    ['transactionalId', 'string', 0],
    ['producerId', 'int64', 0],
    ['producerEpoch', 'int16', 0],
    ['groupId', 'string', 0],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
  ],
} as const

/** v5 (TV2) answers with the producer's next id and epoch. */
export const endTxn = {
  key: 26,
  min: 0,
  max: 5,
  flexibleFrom: 3,
  request: [
    ['transactionalId', 'string', 0],
    ['producerId', 'int64', 0],
    ['producerEpoch', 'int16', 0],
    ['committed', 'bool', 0],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    ['producerId', 'int64', 5, { default: -1 }],
    ['producerEpoch', 'int16', 5, { default: -1 }],
  ],
} as const

/** Between brokers only: the coordinator tells leaders to write markers. */
export const writeTxnMarkers = {
  key: 27,
  min: 1,
  max: 2,
  flexibleFrom: 1,
  request: [
    [
      'markers',
      {
        array: [
          ['producerId', 'int64', 0],
          ['producerEpoch', 'int16', 0],
          ['transactionResult', 'bool', 0],
          [
            'topics',
            {
              array: [
                ['name', 'string', 0],
                ['partitionIndexes', 'int32[]', 0],
              ],
            },
            0,
          ],
          ['coordinatorEpoch', 'int32', 0],
          ['transactionVersion', 'int8', 2, { default: 0, ignorable: true }],
        ],
      },
      0,
    ],
  ],
  response: [
    [
      'markers',
      {
        array: [
          ['producerId', 'int64', 0],
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
                    ],
                  },
                  0,
                ],
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

/** v2 leader epochs, v3 fencing by member and generation, v5 adds the group to the transaction by itself (TV2). */
export const txnOffsetCommit = {
  key: 28,
  min: 0,
  max: 5,
  flexibleFrom: 3,
  request: [
    ['transactionalId', 'string', 0],
    ['groupId', 'string', 0],
    ['producerId', 'int64', 0],
    ['producerEpoch', 'int16', 0],
    ['generationId', 'int32', 3, { default: -1 }],
    ['memberId', 'string', 3, { default: '' }],
    ['groupInstanceId', 'string', 3, { nullable: 3, default: null }],
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
                ['committedOffset', 'int64', 0],
                ['committedLeaderEpoch', 'int32', 2, { default: -1, ignorable: true }],
                ['committedMetadata', 'string', 0, { nullable: 0 }],
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

export const describeProducers = {
  key: 61,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [
    [
      'topics',
      {
        array: [
          ['name', 'string', 0],
          ['partitionIndexes', 'int32[]', 0],
        ],
      },
      0,
    ],
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
                ['errorCode', 'int16', 0],
                ['errorMessage', 'string', 0, { nullable: 0, default: null }],
                [
                  'activeProducers',
                  {
                    array: [
                      ['producerId', 'int64', 0],
                      ['producerEpoch', 'int32', 0],
                      ['lastSequence', 'int32', 0, { default: -1 }],
                      ['lastTimestamp', 'int64', 0, { default: -1 }],
                      ['coordinatorEpoch', 'int32', 0],
                      ['currentTxnStartOffset', 'int64', 0, { default: -1 }],
                    ],
                  },
                  0,
                ],
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

export const describeTransactions = {
  key: 65,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [['transactionalIds', 'string[]', 0]],
  response: [
    ['throttleTimeMs', 'int32', 0],
    [
      'transactionStates',
      {
        array: [
          ['errorCode', 'int16', 0],
          ['transactionalId', 'string', 0],
          ['transactionState', 'string', 0],
          ['transactionTimeoutMs', 'int32', 0],
          ['transactionStartTimeMs', 'int64', 0],
          ['producerId', 'int64', 0],
          ['producerEpoch', 'int16', 0],
          [
            'topics',
            {
              array: [
                ['topic', 'string', 0],
                ['partitions', 'int32[]', 0],
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

export const listTransactions = {
  key: 66,
  min: 0,
  max: 2,
  flexibleFrom: 0,
  request: [
    ['stateFilters', 'string[]', 0],
    ['producerIdFilters', 'int64[]', 0],
    ['durationFilter', 'int64', 1, { default: -1 }],
    ['transactionalIdPattern', 'string', 2, { nullable: 2, default: null }],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    ['unknownStateFilters', 'string[]', 0],
    [
      'transactionStates',
      {
        array: [
          ['transactionalId', 'string', 0],
          ['producerId', 'int64', 0],
          ['transactionState', 'string', 0],
        ],
      },
      0,
    ],
  ],
} as const
