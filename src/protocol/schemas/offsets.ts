/** Offsets that groups have committed. */

/** v6 leader epochs, v7 static members, v9 member epochs (KIP-848), v10 topic ids. */
export const offsetCommit = {
  key: 8,
  min: 2,
  max: 10,
  flexibleFrom: 8,
  request: [
    ['groupId', 'string', 0],
    ['generationIdOrMemberEpoch', 'int32', 1, { default: -1, ignorable: true }],
    ['memberId', 'string', 1, { ignorable: true }],
    ['groupInstanceId', 'string', 7, { nullable: 7, default: null }],
    ['retentionTimeMs', 'int64', 2, { until: 4, default: -1, ignorable: true }],
    [
      'topics',
      {
        array: [
          ['name', 'string', 0, { until: 9, ignorable: true }],
          ['topicId', 'uuid', 10, { ignorable: true }],
          [
            'partitions',
            {
              array: [
                ['partitionIndex', 'int32', 0],
                ['committedOffset', 'int64', 0],
                ['committedLeaderEpoch', 'int32', 6, { default: -1, ignorable: true }],
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
    ['throttleTimeMs', 'int32', 3],
    [
      'topics',
      {
        array: [
          ['name', 'string', 0, { until: 9 }],
          ['topicId', 'uuid', 10],
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

/** v2 null topics = all, v5 leader epochs, v7 require_stable, v8 many groups, v9 member epochs, v10 topic ids. */
export const offsetFetch = {
  key: 9,
  min: 1,
  max: 10,
  flexibleFrom: 6,
  request: [
    ['groupId', 'string', 0, { until: 7 }],
    [
      'topics',
      {
        array: [
          ['name', 'string', 0, { until: 7 }],
          ['partitionIndexes', 'int32[]', 0, { until: 7 }],
        ],
      },
      0,
      { until: 7, nullable: 2 },
    ],
    [
      'groups',
      {
        array: [
          ['groupId', 'string', 8],
          ['memberId', 'string', 9, { nullable: 9, default: null, ignorable: true }],
          ['memberEpoch', 'int32', 9, { default: -1, ignorable: true }],
          [
            'topics',
            {
              array: [
                ['name', 'string', 8, { until: 9, ignorable: true }],
                ['topicId', 'uuid', 10, { ignorable: true }],
                ['partitionIndexes', 'int32[]', 8],
              ],
            },
            8,
            { nullable: 8 },
          ],
        ],
      },
      8,
    ],
    ['requireStable', 'bool', 7, { default: false }],
  ],
  response: [
    ['throttleTimeMs', 'int32', 3],
    [
      'topics',
      {
        array: [
          ['name', 'string', 0, { until: 7 }],
          [
            'partitions',
            {
              array: [
                ['partitionIndex', 'int32', 0, { until: 7 }],
                ['committedOffset', 'int64', 0, { until: 7 }],
                ['committedLeaderEpoch', 'int32', 5, { until: 7, default: -1 }],
                ['metadata', 'string', 0, { until: 7, nullable: 0 }],
                ['errorCode', 'int16', 0, { until: 7 }],
              ],
            },
            0,
            { until: 7 },
          ],
        ],
      },
      0,
      { until: 7 },
    ],
    ['errorCode', 'int16', 2, { until: 7, default: 0 }],
    [
      'groups',
      {
        array: [
          ['groupId', 'string', 8],
          [
            'topics',
            {
              array: [
                ['name', 'string', 8, { until: 9 }],
                ['topicId', 'uuid', 10],
                [
                  'partitions',
                  {
                    array: [
                      ['partitionIndex', 'int32', 8],
                      ['committedOffset', 'int64', 8],
                      ['committedLeaderEpoch', 'int32', 8, { default: -1 }],
                      ['metadata', 'string', 8, { nullable: 8 }],
                      ['errorCode', 'int16', 8],
                    ],
                  },
                  8,
                ],
              ],
            },
            8,
          ],
          ['errorCode', 'int16', 8, { default: 0 }],
        ],
      },
      8,
    ],
  ],
} as const

/** Never flexible. */
export const offsetDelete = {
  key: 47,
  min: 0,
  max: 0,
  flexibleFrom: undefined,
  request: [
    ['groupId', 'string', 0],
    [
      'topics',
      {
        array: [
          ['name', 'string', 0],
          ['partitions', { array: [['partitionIndex', 'int32', 0]] }, 0],
        ],
      },
      0,
    ],
  ],
  response: [
    ['errorCode', 'int16', 0],
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
