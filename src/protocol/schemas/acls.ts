/** Access control lists. resourceType, patternType (v1), operation and permissionType are Kafka's int8 codes. */

export const describeAcls = {
  key: 29,
  min: 1,
  max: 3,
  flexibleFrom: 2,
  request: [
    ['resourceTypeFilter', 'int8', 0],
    ['resourceNameFilter', 'string', 0, { nullable: 0 }],
    ['patternTypeFilter', 'int8', 1, { default: 3 }],
    ['principalFilter', 'string', 0, { nullable: 0 }],
    ['hostFilter', 'string', 0, { nullable: 0 }],
    ['operation', 'int8', 0],
    ['permissionType', 'int8', 0],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    ['errorMessage', 'string', 0, { nullable: 0 }],
    [
      'resources',
      {
        array: [
          ['resourceType', 'int8', 0],
          ['resourceName', 'string', 0],
          ['patternType', 'int8', 1, { default: 3 }],
          [
            'acls',
            {
              array: [
                ['principal', 'string', 0],
                ['host', 'string', 0],
                ['operation', 'int8', 0],
                ['permissionType', 'int8', 0],
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

export const createAcls = {
  key: 30,
  min: 1,
  max: 3,
  flexibleFrom: 2,
  request: [
    [
      'creations',
      {
        array: [
          ['resourceType', 'int8', 0],
          ['resourceName', 'string', 0],
          ['resourcePatternType', 'int8', 1, { default: 3 }],
          ['principal', 'string', 0],
          ['host', 'string', 0],
          ['operation', 'int8', 0],
          ['permissionType', 'int8', 0],
        ],
      },
      0,
    ],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    [
      'results',
      {
        array: [
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 0, { nullable: 0 }],
        ],
      },
      0,
    ],
  ],
} as const

export const deleteAcls = {
  key: 31,
  min: 1,
  max: 3,
  flexibleFrom: 2,
  request: [
    [
      'filters',
      {
        array: [
          ['resourceTypeFilter', 'int8', 0],
          ['resourceNameFilter', 'string', 0, { nullable: 0 }],
          ['patternTypeFilter', 'int8', 1, { default: 3 }],
          ['principalFilter', 'string', 0, { nullable: 0 }],
          ['hostFilter', 'string', 0, { nullable: 0 }],
          ['operation', 'int8', 0],
          ['permissionType', 'int8', 0],
        ],
      },
      0,
    ],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    [
      'filterResults',
      {
        array: [
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 0, { nullable: 0 }],
          [
            'matchingAcls',
            {
              array: [
                ['errorCode', 'int16', 0],
                ['errorMessage', 'string', 0, { nullable: 0 }],
                ['resourceType', 'int8', 0],
                ['resourceName', 'string', 0],
                ['patternType', 'int8', 1, { default: 3 }],
                ['principal', 'string', 0],
                ['host', 'string', 0],
                ['operation', 'int8', 0],
                ['permissionType', 'int8', 0],
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
