/** Classic consumer groups and their coordinator. Metadata and assignment bytes are opaque to a coordinator. */

/** keyType (v1): 0 group, 1 transaction, 2 share. v4 asks for many keys and answers with coordinators only. */
export const findCoordinator = {
  key: 10,
  min: 0,
  max: 6,
  flexibleFrom: 3,
  request: [
    ['key', 'string', 0, { until: 3 }],
    ['keyType', 'int8', 1, { default: 0 }],
    ['coordinatorKeys', 'string[]', 4],
  ],
  response: [
    ['throttleTimeMs', 'int32', 1],
    ['errorCode', 'int16', 0, { until: 3 }],
    ['errorMessage', 'string', 1, { until: 3, nullable: 1 }],
    ['nodeId', 'int32', 0, { until: 3 }],
    ['host', 'string', 0, { until: 3 }],
    ['port', 'int32', 0, { until: 3 }],
    [
      'coordinators',
      {
        array: [
          ['key', 'string', 4],
          ['nodeId', 'int32', 4],
          ['host', 'string', 4],
          ['port', 'int32', 4],
          ['errorCode', 'int16', 4],
          ['errorMessage', 'string', 4, { nullable: 4 }],
        ],
      },
      4,
    ],
  ],
} as const

/** v4 MEMBER_ID_REQUIRED, v5 static members, v7 protocol type echoed, v8 reason, v9 skip_assignment. */
export const joinGroup = {
  key: 11,
  min: 0,
  max: 9,
  flexibleFrom: 6,
  request: [
    ['groupId', 'string', 0],
    ['sessionTimeoutMs', 'int32', 0],
    ['rebalanceTimeoutMs', 'int32', 1, { default: -1, ignorable: true }],
    ['memberId', 'string', 0],
    ['groupInstanceId', 'string', 5, { nullable: 5, default: null }],
    ['protocolType', 'string', 0],
    [
      'protocols',
      {
        array: [
          ['name', 'string', 0],
          ['metadata', 'bytes', 0],
        ],
      },
      0,
    ],
    ['reason', 'string', 8, { nullable: 8, default: null, ignorable: true }],
  ],
  response: [
    ['throttleTimeMs', 'int32', 2],
    ['errorCode', 'int16', 0],
    ['generationId', 'int32', 0, { default: -1 }],
    ['protocolType', 'string', 7, { nullable: 7, default: null }],
    ['protocolName', 'string', 0, { nullable: 7 }],
    ['leader', 'string', 0],
    ['skipAssignment', 'bool', 9, { default: false }],
    ['memberId', 'string', 0],
    [
      'members',
      {
        array: [
          ['memberId', 'string', 0],
          ['groupInstanceId', 'string', 5, { nullable: 5, default: null }],
          ['metadata', 'bytes', 0],
        ],
      },
      0,
    ],
  ],
} as const

export const heartbeat = {
  key: 12,
  min: 0,
  max: 4,
  flexibleFrom: 4,
  request: [
    ['groupId', 'string', 0],
    ['generationId', 'int32', 0],
    ['memberId', 'string', 0],
    ['groupInstanceId', 'string', 3, { nullable: 3, default: null }],
  ],
  response: [
    ['throttleTimeMs', 'int32', 1],
    ['errorCode', 'int16', 0],
  ],
} as const

/** v3 names any number of members. */
export const leaveGroup = {
  key: 13,
  min: 0,
  max: 5,
  flexibleFrom: 4,
  request: [
    ['groupId', 'string', 0],
    ['memberId', 'string', 0, { until: 2 }],
    [
      'members',
      {
        array: [
          ['memberId', 'string', 3],
          ['groupInstanceId', 'string', 3, { nullable: 3, default: null }],
          ['reason', 'string', 5, { nullable: 5, default: null, ignorable: true }],
        ],
      },
      3,
    ],
  ],
  response: [
    ['throttleTimeMs', 'int32', 1],
    ['errorCode', 'int16', 0],
    [
      'members',
      {
        array: [
          ['memberId', 'string', 3],
          ['groupInstanceId', 'string', 3, { nullable: 3 }],
          ['errorCode', 'int16', 3],
        ],
      },
      3,
    ],
  ],
} as const

/** v5: protocol type and name must be those of the group and are echoed. */
export const syncGroup = {
  key: 14,
  min: 0,
  max: 5,
  flexibleFrom: 4,
  request: [
    ['groupId', 'string', 0],
    ['generationId', 'int32', 0],
    ['memberId', 'string', 0],
    ['groupInstanceId', 'string', 3, { nullable: 3, default: null }],
    ['protocolType', 'string', 5, { nullable: 5, default: null, ignorable: true }],
    ['protocolName', 'string', 5, { nullable: 5, default: null, ignorable: true }],
    [
      'assignments',
      {
        array: [
          ['memberId', 'string', 0],
          ['assignment', 'bytes', 0],
        ],
      },
      0,
    ],
  ],
  response: [
    ['throttleTimeMs', 'int32', 1],
    ['errorCode', 'int16', 0],
    ['protocolType', 'string', 5, { nullable: 5, default: null }],
    ['protocolName', 'string', 5, { nullable: 5, default: null }],
    ['assignment', 'bytes', 0],
  ],
} as const

/** v3 authorized operations, v4 static members, v6 GROUP_ID_NOT_FOUND with a message. */
export const describeGroups = {
  key: 15,
  min: 0,
  max: 6,
  flexibleFrom: 5,
  request: [
    ['groups', 'string[]', 0],
    ['includeAuthorizedOperations', 'bool', 3],
  ],
  response: [
    ['throttleTimeMs', 'int32', 1],
    [
      'groups',
      {
        array: [
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 6, { nullable: 6, default: null }],
          ['groupId', 'string', 0],
          ['groupState', 'string', 0],
          ['protocolType', 'string', 0],
          ['protocolData', 'string', 0],
          [
            'members',
            {
              array: [
                ['memberId', 'string', 0],
                ['groupInstanceId', 'string', 4, { nullable: 4, default: null }],
                ['clientId', 'string', 0],
                ['clientHost', 'string', 0],
                ['memberMetadata', 'bytes', 0],
                ['memberAssignment', 'bytes', 0],
              ],
            },
            0,
          ],
          ['authorizedOperations', 'int32', 3, { default: -2147483648 }],
        ],
      },
      0,
    ],
  ],
} as const

/** v4 filter by state, v5 by type. */
export const listGroups = {
  key: 16,
  min: 0,
  max: 5,
  flexibleFrom: 3,
  request: [
    ['statesFilter', 'string[]', 4],
    ['typesFilter', 'string[]', 5],
  ],
  response: [
    ['throttleTimeMs', 'int32', 1],
    ['errorCode', 'int16', 0],
    [
      'groups',
      {
        array: [
          ['groupId', 'string', 0],
          ['protocolType', 'string', 0],
          ['groupState', 'string', 4],
          ['groupType', 'string', 5],
        ],
      },
      0,
    ],
  ],
} as const

export const deleteGroups = {
  key: 42,
  min: 0,
  max: 2,
  flexibleFrom: 2,
  request: [['groupsNames', 'string[]', 0]],
  response: [
    ['throttleTimeMs', 'int32', 0],
    [
      'results',
      {
        array: [
          ['groupId', 'string', 0],
          ['errorCode', 'int16', 0],
        ],
      },
      0,
    ],
  ],
} as const
