/** Client quotas. A null entity name is the default entity. */

const entity = [
  ['entityType', 'string', 0],
  ['entityName', 'string', 0, { nullable: 0 }],
] as const

/** matchType: 0 exact name, 1 default name, 2 any name. */
export const describeClientQuotas = {
  key: 48,
  min: 0,
  max: 1,
  flexibleFrom: 1,
  request: [
    [
      'components',
      {
        array: [
          ['entityType', 'string', 0],
          ['matchType', 'int8', 0],
          ['match', 'string', 0, { nullable: 0 }],
        ],
      },
      0,
    ],
    ['strict', 'bool', 0],
  ],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    ['errorMessage', 'string', 0, { nullable: 0 }],
    [
      'entries',
      {
        array: [
          ['entity', { array: entity }, 0],
          [
            'values',
            {
              array: [
                ['key', 'string', 0],
                ['value', 'float64', 0],
              ],
            },
            0,
          ],
        ],
      },
      0,
      { nullable: 0 },
    ],
  ],
} as const

export const alterClientQuotas = {
  key: 49,
  min: 0,
  max: 1,
  flexibleFrom: 1,
  request: [
    [
      'entries',
      {
        array: [
          ['entity', { array: entity }, 0],
          [
            'ops',
            {
              array: [
                ['key', 'string', 0],
                ['value', 'float64', 0],
                ['remove', 'bool', 0],
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
  response: [
    ['throttleTimeMs', 'int32', 0],
    [
      'entries',
      {
        array: [
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 0, { nullable: 0 }],
          ['entity', { array: entity }, 0],
        ],
      },
      0,
    ],
  ],
} as const
