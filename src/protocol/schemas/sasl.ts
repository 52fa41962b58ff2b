/** Authentication and SCRAM users. On the Kafka door only. */

/** Never flexible, and v2 is never listed: old Java clients would mis-negotiate. */
export const saslHandshake = {
  key: 17,
  min: 0,
  max: 1,
  flexibleFrom: undefined,
  request: [['mechanism', 'string', 0]],
  response: [
    ['errorCode', 'int16', 0],
    ['mechanisms', 'string[]', 0],
  ],
} as const

/** v1: a session lifetime above 0 makes the client authenticate again in time (KIP-368). */
export const saslAuthenticate = {
  key: 36,
  min: 0,
  max: 2,
  flexibleFrom: 2,
  request: [['authBytes', 'bytes', 0]],
  response: [
    ['errorCode', 'int16', 0],
    ['errorMessage', 'string', 0, { nullable: 0 }],
    ['authBytes', 'bytes', 0],
    ['sessionLifetimeMs', 'int64', 1, { default: 0 }],
  ],
} as const

/** Null users = all. mechanism: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512. */
export const describeUserScramCredentials = {
  key: 50,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [['users', { array: [['name', 'string', 0]] }, 0, { nullable: 0 }]],
  response: [
    ['throttleTimeMs', 'int32', 0],
    ['errorCode', 'int16', 0],
    ['errorMessage', 'string', 0, { nullable: 0 }],
    [
      'results',
      {
        array: [
          ['user', 'string', 0],
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 0, { nullable: 0 }],
          [
            'credentialInfos',
            {
              array: [
                ['mechanism', 'int8', 0],
                ['iterations', 'int32', 0],
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

export const alterUserScramCredentials = {
  key: 51,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [
    [
      'deletions',
      {
        array: [
          ['name', 'string', 0],
          ['mechanism', 'int8', 0],
        ],
      },
      0,
    ],
    [
      'upsertions',
      {
        array: [
          ['name', 'string', 0],
          ['mechanism', 'int8', 0],
          ['iterations', 'int32', 0],
          ['salt', 'bytes', 0],
          ['saltedPassword', 'bytes', 0],
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
          ['user', 'string', 0],
          ['errorCode', 'int16', 0],
          ['errorMessage', 'string', 0, { nullable: 0 }],
        ],
      },
      0,
    ],
  ],
} as const
