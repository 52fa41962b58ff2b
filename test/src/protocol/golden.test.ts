import { describe, expect, test } from 'vitest'
import type { ApiName, RequestInput } from '../../../src/protocol/api-table.ts'
import { encodeRequest, encodeResponse } from '../../../src/protocol/codec.ts'
import {
  CLIENT_ID,
  CORRELATION_ID,
  kafkajsRequest,
  kafkajsResponse,
  platformaticRequest,
  platformaticResponse,
} from './foreign-codecs.ts'
import { joinFrames } from './messages.ts'

const header = { correlationId: CORRELATION_ID, clientId: CLIENT_ID }

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

interface RequestCase<A extends ApiName> {
  readonly api: A
  readonly version: number
  readonly body: RequestInput<A>
  /** Folder of kafkajs or export of @platformatic/kafka, and what that takes for the same message. */
  readonly foreign: string
  readonly values: unknown
}

function requestCase<A extends ApiName>(row: RequestCase<A>): RequestCase<A> {
  return row
}

function ours<A extends ApiName>({ api, version, body }: RequestCase<A>): string {
  return hex(joinFrames(encodeRequest(api, version, header, body)))
}

const fetchFields = { minBytes: 1, maxBytes: 10_485_760, isolationLevel: 1 }

const kafkajsCases = [
  ...[7, 9, 10, 11].map((version) =>
    requestCase({
      api: 'Fetch',
      version,
      body: {
        replicaId: -1,
        maxWaitMs: 500,
        ...fetchFields,
        sessionId: 3,
        sessionEpoch: 4,
        topics: [
          {
            topic: 'orders',
            partitions: [
              {
                partition: 2,
                currentLeaderEpoch: 5,
                fetchOffset: 4_294_967_301,
                logStartOffset: -1,
                partitionMaxBytes: 1_048_576,
              },
            ],
          },
        ],
        forgottenTopicsData: [{ topic: 'gone', partitions: [0, 7] }],
        rackId: 'r1',
      },
      foreign: 'fetch',
      values: {
        replicaId: -1,
        maxWaitTime: 500,
        ...fetchFields,
        sessionId: 3,
        sessionEpoch: 4,
        topics: [
          {
            topic: 'orders',
            partitions: [
              {
                partition: 2,
                currentLeaderEpoch: 5,
                fetchOffset: 4_294_967_301,
                logStartOffset: -1,
                maxBytes: 1_048_576,
              },
            ],
          },
        ],
        forgottenTopics: [{ topic: 'gone', partitions: [0, 7] }],
        rackId: 'r1',
      },
    }),
  ),
  requestCase({
    api: 'ListOffsets',
    version: 2,
    body: {
      replicaId: -1,
      isolationLevel: 1,
      topics: [
        { name: 'orders', partitions: [{ partitionIndex: 1, timestamp: 1_700_000_000_123 }] },
      ],
    },
    foreign: 'listOffsets',
    values: {
      replicaId: -1,
      isolationLevel: 1,
      topics: [{ topic: 'orders', partitions: [{ partition: 1, timestamp: 1_700_000_000_123 }] }],
    },
  }),
  requestCase({
    api: 'Metadata',
    version: 6,
    body: { topics: [{ name: 'a' }, { name: 'bé' }], allowAutoTopicCreation: false },
    foreign: 'metadata',
    values: { topics: ['a', 'bé'], allowAutoTopicCreation: false },
  }),
  requestCase({
    api: 'CreateTopics',
    version: 3,
    body: {
      topics: [
        {
          name: 'orders',
          numPartitions: 4,
          replicationFactor: 1,
          assignments: [],
          configs: [{ name: 'cleanup.policy', value: 'compact' }],
        },
      ],
      timeoutMs: 5000,
      validateOnly: true,
    },
    foreign: 'createTopics',
    values: {
      topics: [
        {
          topic: 'orders',
          numPartitions: 4,
          replicationFactor: 1,
          configEntries: [{ name: 'cleanup.policy', value: 'compact' }],
        },
      ],
      timeout: 5000,
      validateOnly: true,
    },
  }),
  requestCase({
    api: 'DeleteRecords',
    version: 1,
    body: {
      topics: [{ name: 'orders', partitions: [{ partitionIndex: 0, offset: -1 }] }],
      timeoutMs: 5000,
    },
    foreign: 'deleteRecords',
    values: { topics: [{ topic: 'orders', partitions: [{ partition: 0, offset: -1 }] }] },
  }),
  requestCase({
    api: 'DescribeConfigs',
    version: 2,
    body: {
      resources: [
        { resourceType: 2, resourceName: 'orders', configurationKeys: ['cleanup.policy'] },
        { resourceType: 2, resourceName: 'all', configurationKeys: null },
      ],
      includeSynonyms: true,
    },
    foreign: 'describeConfigs',
    values: {
      resources: [
        { type: 2, name: 'orders', configNames: ['cleanup.policy'] },
        { type: 2, name: 'all' },
      ],
      includeSynonyms: true,
    },
  }),
  requestCase({
    api: 'AlterConfigs',
    version: 1,
    body: {
      resources: [
        {
          resourceType: 2,
          resourceName: 'orders',
          configs: [{ name: 'retention.ms', value: '9223372036854775807' }],
        },
      ],
      validateOnly: false,
    },
    foreign: 'alterConfigs',
    values: {
      resources: [
        {
          type: 2,
          name: 'orders',
          configEntries: [{ name: 'retention.ms', value: '9223372036854775807' }],
        },
      ],
    },
  }),
  requestCase({
    api: 'OffsetCommit',
    version: 5,
    body: {
      groupId: 'g',
      generationIdOrMemberEpoch: 3,
      memberId: 'm',
      topics: [
        {
          name: 'orders',
          partitions: [{ partitionIndex: 0, committedOffset: 12, committedMetadata: null }],
        },
      ],
    },
    foreign: 'offsetCommit',
    values: {
      groupId: 'g',
      groupGenerationId: 3,
      memberId: 'm',
      topics: [{ topic: 'orders', partitions: [{ partition: 0, offset: '12', metadata: null }] }],
    },
  }),
  requestCase({
    api: 'JoinGroup',
    version: 5,
    body: {
      groupId: 'g',
      sessionTimeoutMs: 30_000,
      rebalanceTimeoutMs: 60_000,
      memberId: '',
      groupInstanceId: 'static-1',
      protocolType: 'consumer',
      protocols: [{ name: 'range', metadata: Uint8Array.of(0, 1, 2) }],
    },
    foreign: 'joinGroup',
    values: {
      groupId: 'g',
      sessionTimeout: 30_000,
      rebalanceTimeout: 60_000,
      memberId: '',
      groupInstanceId: 'static-1',
      protocolType: 'consumer',
      groupProtocols: [{ name: 'range', metadata: Buffer.of(0, 1, 2) }],
    },
  }),
  requestCase({
    api: 'LeaveGroup',
    version: 3,
    body: { groupId: 'g', members: [{ memberId: 'm', groupInstanceId: null }] },
    foreign: 'leaveGroup',
    values: { groupId: 'g', members: [{ memberId: 'm' }] },
  }),
  requestCase({
    api: 'FindCoordinator',
    version: 2,
    body: { key: 'g', keyType: 1 },
    foreign: 'findCoordinator',
    values: { coordinatorKey: 'g', coordinatorType: 1 },
  }),
  requestCase({
    api: 'InitProducerId',
    version: 1,
    body: { transactionalId: 't', transactionTimeoutMs: 60_000 },
    foreign: 'initProducerId',
    values: { transactionalId: 't', transactionTimeout: 60_000 },
  }),
  requestCase({
    api: 'TxnOffsetCommit',
    version: 1,
    body: {
      transactionalId: 't',
      groupId: 'g',
      producerId: 1000,
      producerEpoch: 2,
      topics: [
        {
          name: 'orders',
          partitions: [{ partitionIndex: 0, committedOffset: 12, committedMetadata: 'x' }],
        },
      ],
    },
    foreign: 'txnOffsetCommit',
    values: {
      transactionalId: 't',
      groupId: 'g',
      producerId: '1000',
      producerEpoch: 2,
      topics: [{ topic: 'orders', partitions: [{ partition: 0, offset: '12', metadata: 'x' }] }],
    },
  }),
  requestCase({
    api: 'CreateAcls',
    version: 1,
    body: {
      creations: [
        {
          resourceType: 2,
          resourceName: 'orders',
          resourcePatternType: 3,
          principal: 'User:a',
          host: '*',
          operation: 3,
          permissionType: 3,
        },
      ],
    },
    foreign: 'createAcls',
    values: {
      creations: [
        {
          resourceType: 2,
          resourceName: 'orders',
          resourcePatternType: 3,
          principal: 'User:a',
          host: '*',
          operation: 3,
          permissionType: 3,
        },
      ],
    },
  }),
  requestCase({
    api: 'SaslAuthenticate',
    version: 1,
    body: { authBytes: Uint8Array.of(0, 97, 0, 98) },
    foreign: 'saslAuthenticate',
    values: { authBytes: Buffer.of(0, 0, 0, 4, 0, 97, 0, 98) },
  }),
]

const DASHED_ID = '00010203-0405-0607-0809-0a0b0c0d0e0f'
const TOPIC_ID = 'AAECAwQFBgcICQoLDA0ODw'

/** That client keeps a topic's name in the property of its id below v13. */
function platformaticFetchTopics(version: number) {
  const partitions = [
    {
      partition: 2,
      currentLeaderEpoch: 5,
      fetchOffset: 4_294_967_301n,
      lastFetchedEpoch: -1,
      partitionMaxBytes: 1_048_576,
    },
  ]
  return [{ topicId: version < 13 ? 'orders' : DASHED_ID, partitions }]
}

const platformaticCases = [
  ...[9, 11, 12, 13, 16, 17].map((version) =>
    requestCase({
      api: 'Fetch',
      version,
      body: {
        replicaId: -1,
        maxWaitMs: 500,
        ...fetchFields,
        sessionId: 0,
        sessionEpoch: -1,
        topics: [
          {
            topic: 'orders',
            topicId: TOPIC_ID,
            partitions: [
              {
                partition: 2,
                currentLeaderEpoch: 5,
                fetchOffset: 4_294_967_301,
                partitionMaxBytes: 1_048_576,
              },
            ],
          },
        ],
        forgottenTopicsData: [],
        rackId: version === 11 || version === 12 ? 'rack' : '',
      },
      foreign: `fetchV${version}`,
      values: [
        500,
        1,
        10_485_760,
        1,
        0,
        -1,
        platformaticFetchTopics(version),
        [],
        version === 11 || version === 12 ? 'rack' : '',
      ],
    }),
  ),
  requestCase({
    api: 'Metadata',
    version: 12,
    body: {
      topics: [{ name: 'orders' }, { topicId: TOPIC_ID, name: null }],
      allowAutoTopicCreation: false,
      includeTopicAuthorizedOperations: true,
    },
    foreign: 'metadataV12',
    values: [['orders', { topicId: DASHED_ID }], false, true],
  }),
  requestCase({
    api: 'ListOffsets',
    version: 7,
    body: {
      replicaId: -1,
      isolationLevel: 0,
      topics: [
        {
          name: 'orders',
          partitions: [{ partitionIndex: 0, currentLeaderEpoch: 9, timestamp: -3 }],
        },
      ],
    },
    foreign: 'listOffsetsV7',
    values: [
      -1,
      0,
      [
        {
          name: 'orders',
          partitions: [{ partitionIndex: 0, currentLeaderEpoch: 9, timestamp: -3n }],
        },
      ],
    ],
  }),
  requestCase({
    api: 'OffsetCommit',
    version: 9,
    body: {
      groupId: 'g',
      generationIdOrMemberEpoch: 3,
      memberId: 'm',
      groupInstanceId: null,
      topics: [
        {
          name: 'orders',
          partitions: [
            {
              partitionIndex: 0,
              committedOffset: 12,
              committedLeaderEpoch: 4,
              committedMetadata: 'x',
            },
          ],
        },
      ],
    },
    foreign: 'offsetCommitV9',
    values: [
      'g',
      3,
      'm',
      null,
      [
        {
          name: 'orders',
          partitions: [
            {
              partitionIndex: 0,
              committedOffset: 12n,
              committedLeaderEpoch: 4,
              committedMetadata: 'x',
            },
          ],
        },
      ],
    ],
  }),
  requestCase({
    api: 'OffsetFetch',
    version: 9,
    body: {
      groups: [
        {
          groupId: 'g',
          memberId: null,
          memberEpoch: -1,
          topics: [{ name: 'orders', partitionIndexes: [0, 1] }],
        },
      ],
      requireStable: true,
    },
    foreign: 'offsetFetchV9',
    values: [
      [
        {
          groupId: 'g',
          memberId: null,
          memberEpoch: -1,
          topics: [{ name: 'orders', partitionIndexes: [0, 1] }],
        },
      ],
      true,
    ],
  }),
  requestCase({
    api: 'JoinGroup',
    version: 9,
    body: {
      groupId: 'g',
      sessionTimeoutMs: 30_000,
      rebalanceTimeoutMs: 60_000,
      memberId: 'm',
      groupInstanceId: null,
      protocolType: 'consumer',
      protocols: [{ name: 'range', metadata: Uint8Array.of(9) }],
      reason: 'why',
    },
    foreign: 'joinGroupV9',
    values: [
      'g',
      30_000,
      60_000,
      'm',
      null,
      'consumer',
      [{ name: 'range', metadata: Buffer.of(9) }],
      'why',
    ],
  }),
  requestCase({
    api: 'CreateTopics',
    version: 7,
    body: {
      topics: [
        {
          name: 'orders',
          numPartitions: -1,
          replicationFactor: -1,
          assignments: [],
          configs: [{ name: 'retention.ms', value: null }],
        },
      ],
      timeoutMs: 5000,
      validateOnly: false,
    },
    foreign: 'createTopicsV7',
    values: [
      [
        {
          name: 'orders',
          numPartitions: -1,
          replicationFactor: -1,
          assignments: [],
          configs: [{ name: 'retention.ms', value: null }],
        },
      ],
      5000,
      false,
    ],
  }),
  requestCase({
    api: 'DeleteTopics',
    version: 6,
    body: { topics: [{ name: null, topicId: TOPIC_ID }, { name: 'orders' }], timeoutMs: 5000 },
    foreign: 'deleteTopicsV6',
    values: [[{ name: null, topicId: DASHED_ID }, { name: 'orders' }], 5000],
  }),
  requestCase({
    api: 'DescribeConfigs',
    version: 4,
    body: {
      resources: [{ resourceType: 2, resourceName: 'orders', configurationKeys: null }],
      includeSynonyms: true,
      includeDocumentation: true,
    },
    foreign: 'describeConfigsV4',
    values: [[{ resourceType: 2, resourceName: 'orders', configurationKeys: null }], true, true],
  }),
  requestCase({
    api: 'IncrementalAlterConfigs',
    version: 1,
    body: {
      resources: [
        {
          resourceType: 2,
          resourceName: 'orders',
          configs: [{ name: 'retention.ms', configOperation: 0, value: '1' }],
        },
      ],
      validateOnly: true,
    },
    foreign: 'incrementalAlterConfigsV1',
    values: [
      [
        {
          resourceType: 2,
          resourceName: 'orders',
          configs: [{ name: 'retention.ms', configOperation: 0, value: '1' }],
        },
      ],
      true,
    ],
  }),
  requestCase({
    api: 'InitProducerId',
    version: 4,
    body: {
      transactionalId: null,
      transactionTimeoutMs: 60_000,
      producerId: 1000,
      producerEpoch: 2,
    },
    foreign: 'initProducerIdV4',
    values: [null, 60_000, 1000n, 2],
  }),
  requestCase({
    api: 'ApiVersions',
    version: 4,
    body: { clientSoftwareName: 'stream', clientSoftwareVersion: '0.1.0' },
    foreign: 'apiVersionsV4',
    values: ['stream', '0.1.0'],
  }),
  requestCase({
    api: 'FindCoordinator',
    version: 6,
    body: { keyType: 0, coordinatorKeys: ['a', 'b'] },
    foreign: 'findCoordinatorV6',
    values: [0, ['a', 'b']],
  }),
  requestCase({
    api: 'ConsumerGroupHeartbeat',
    version: 1,
    body: {
      groupId: 'g',
      memberId: 'm',
      memberEpoch: 0,
      instanceId: null,
      rackId: null,
      rebalanceTimeoutMs: 60_000,
      subscribedTopicNames: ['orders'],
      subscribedTopicRegex: null,
      serverAssignor: null,
      topicPartitions: [{ topicId: TOPIC_ID, partitions: [0, 1] }],
    },
    foreign: 'consumerGroupHeartbeatV1',
    values: [
      'g',
      'm',
      0,
      null,
      null,
      60_000,
      ['orders'],
      null,
      null,
      [{ topicId: DASHED_ID, partitions: [0, 1] }],
    ],
  }),
]

describe('requests are byte for byte those of kafkajs', () => {
  test.each(kafkajsCases.map((row) => [`${row.api} v${row.version}`, row] as const))(
    '%s',
    async (_title, row) => {
      const theirs = await kafkajsRequest(row.foreign, row.version, row.values as object)
      expect(ours(row as RequestCase<ApiName>)).toBe(hex(theirs))
    },
  )
})

describe('requests are byte for byte those of @platformatic/kafka', () => {
  test.each(platformaticCases.map((row) => [`${row.api} v${row.version}`, row] as const))(
    '%s',
    (_title, row) => {
      const theirs = platformaticRequest(row.foreign, row.values as unknown[])
      expect(ours(row as RequestCase<ApiName>)).toBe(hex(theirs))
    },
  )

  test.each([3, 7, 9, 11])('Produce v%i, around the batch that it built', (version) => {
    const messages = [{ topic: 'orders', partition: 3, key: Buffer.of(1), value: Buffer.of(2) }]
    const theirs = platformaticRequest(`produceV${version}`, [-1, 30_000, messages, {}])
    const batch = theirs.subarray(theirs.length - (version >= 9 ? 3 : 0) - batchBytes(theirs))
    const records = batch.subarray(0, batchBytes(theirs))
    const body = {
      transactionalId: null,
      acks: -1,
      timeoutMs: 30_000,
      topicData: [{ name: 'orders', partitionData: [{ index: 3, records }] }],
    }
    expect(hex(joinFrames(encodeRequest('Produce', version, header, body)))).toBe(hex(theirs))
  })

  /** Found by the layout: the magic byte 2 stands 16 bytes into the batch, whose first 8 are its base offset 0. */
  function batchBytes(message: Uint8Array): number {
    for (let at = message.length - 61; at > 0; at--) {
      const view = Buffer.from(message.buffer, message.byteOffset + at, message.length - at)
      const bytes = view.readInt32BE(8) + 12
      if (view[16] === 2 && view.readBigInt64BE(0) === 0n && bytes <= view.length) return bytes
    }
    throw new Error('no batch found')
  }
})

const fetchResponse = {
  throttleTimeMs: 0,
  errorCode: 0,
  sessionId: 0,
  responses: [
    {
      topic: 'orders',
      topicId: TOPIC_ID,
      partitions: [
        {
          partitionIndex: 2,
          errorCode: 0,
          highWatermark: 4_294_967_301,
          lastStableOffset: 4_294_967_300,
          logStartOffset: 7,
          abortedTransactions: [{ producerId: 1000, firstOffset: 12 }],
          preferredReadReplica: -1,
          records: null,
          currentLeader: { leaderId: 4, leaderEpoch: 9 },
        },
      ],
    },
  ],
}

describe('responses are understood', () => {
  test('Fetch v11 by kafkajs', async () => {
    const [frame] = encodeResponse('Fetch', 11, CORRELATION_ID, fetchResponse)
    const decoded = await kafkajsResponse('fetch', 11, (frame as Uint8Array).subarray(4))
    expect(decoded).toMatchObject({
      responses: [
        {
          topicName: 'orders',
          partitions: [
            {
              partition: 2,
              errorCode: 0,
              highWatermark: '4294967301',
              lastStableOffset: '4294967300',
              lastStartOffset: '7',
              abortedTransactions: [{ producerId: '1000', firstOffset: '12' }],
              messages: [],
            },
          ],
        },
      ],
    })
  })

  test('Metadata v6 by kafkajs', async () => {
    const [frame] = encodeResponse('Metadata', 6, CORRELATION_ID, {
      throttleTimeMs: 0,
      brokers: [{ nodeId: 1, host: '127.0.0.1', port: 9092, rack: null }],
      clusterId: 'c',
      controllerId: 1,
      topics: [
        {
          errorCode: 0,
          name: 'orders',
          isInternal: false,
          partitions: [
            {
              errorCode: 0,
              partitionIndex: 0,
              leaderId: 1,
              replicaNodes: [1],
              isrNodes: [1],
              offlineReplicas: [],
            },
          ],
        },
      ],
    })
    const decoded = await kafkajsResponse('metadata', 6, (frame as Uint8Array).subarray(4))
    expect(decoded).toMatchObject({
      clusterId: 'c',
      controllerId: 1,
      brokers: [{ nodeId: 1, host: '127.0.0.1', port: 9092 }],
      topicMetadata: [
        { topic: 'orders', partitionMetadata: [{ partitionId: 0, leader: 1, isr: [1] }] },
      ],
    })
  })

  test.each([12, 16, 17])('Fetch v%i by @platformatic/kafka', (version) => {
    const frames = encodeResponse('Fetch', version, CORRELATION_ID, {
      ...fetchResponse,
      nodeEndpoints: [{ nodeId: 4, host: 'h', port: 9092 }],
    })
    const request = [500, 1, 1, 1, 0, -1, platformaticFetchTopics(version), [], '']
    const decoded = platformaticResponse(`fetchV${version}`, request, joinFrames(frames))
    expect(decoded).toMatchObject({
      responses: [
        {
          topicId: version < 13 ? 'orders' : DASHED_ID,
          partitions: [
            {
              partitionIndex: 2,
              highWatermark: 4_294_967_301n,
              lastStableOffset: 4_294_967_300n,
              logStartOffset: 7n,
              currentLeader: { leaderId: 4, leaderEpoch: 9 },
              abortedTransactions: [{ producerId: 1000n, firstOffset: 12n }],
            },
          ],
        },
      ],
      ...(version >= 16 ? { nodeEndpoints: [{ nodeId: 4, host: 'h', port: 9092 }] } : {}),
    })
  })

  test.each([9, 10])('Produce v%i by @platformatic/kafka', (version) => {
    const frames = encodeResponse('Produce', version, CORRELATION_ID, {
      responses: [
        {
          name: 'orders',
          partitionResponses: [
            {
              index: 0,
              errorCode: 0,
              baseOffset: 4_294_967_301,
              currentLeader: { leaderId: 3, leaderEpoch: 1 },
            },
          ],
        },
      ],
    })
    const decoded = platformaticResponse(`produceV${version}`, [1, 1, [], {}], joinFrames(frames))
    expect(decoded).toMatchObject({
      responses: [
        {
          name: 'orders',
          partitionResponses: [
            { index: 0, baseOffset: 4_294_967_301n, logAppendTimeMs: -1n, recordErrors: [] },
          ],
        },
      ],
    })
  })

  test('ApiVersions v4 by @platformatic/kafka: the header stays v0 though the body is flexible', () => {
    const frames = encodeResponse('ApiVersions', 4, CORRELATION_ID, {
      errorCode: 0,
      apiKeys: [{ apiKey: 18, minVersion: 0, maxVersion: 4 }],
    })
    const decoded = platformaticResponse('apiVersionsV4', ['a', 'b'], joinFrames(frames))
    expect(decoded).toMatchObject({
      errorCode: 0,
      apiKeys: [{ apiKey: 18, minVersion: 0, maxVersion: 4 }],
      throttleTimeMs: 0,
    })
  })
})
