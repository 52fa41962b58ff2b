import { describe, expect, expectTypeOf, test } from 'vitest'
import { AssertionError } from '../../../src/base/assert.ts'
import { StreamError } from '../../../src/base/errors.ts'
import type {
  Request,
  RequestInput,
  Response,
  ResponseInput,
} from '../../../src/protocol/api-table.ts'
import {
  decodeNotice,
  decodeRequest,
  decodeResponse,
  encodeNotice,
  encodeRequest,
  encodeResponse,
  readCorrelationId,
  readRequestHeader,
} from '../../../src/protocol/codec.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { INT64_MAX, ZERO_UUID } from '../../../src/protocol/schema.ts'
import { joinFrames } from './messages.ts'

const header = { correlationId: 7, clientId: 'c' }

function bytes(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'))
}

function hex(frames: readonly Uint8Array[]): string {
  return Buffer.concat(frames).toString('hex')
}

function failure(action: () => unknown): StreamError {
  try {
    action()
  } catch (error) {
    if (error instanceof StreamError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

const fetchBody = {
  maxWaitMs: 1,
  minBytes: 1,
  topics: [{ topic: 't', partitions: [{ partition: 0, fetchOffset: 5, partitionMaxBytes: 9 }] }],
} satisfies RequestInput<'Fetch'>

describe('headers', () => {
  test('a flexible request keeps a classic client id and ends its header with tags', () => {
    const frames = encodeRequest('ApiVersions', 3, header, {
      clientSoftwareName: 'a',
      clientSoftwareVersion: 'b',
    })
    expect(hex(frames)).toBe('0012 0003 00000007 0001 63 00 0261 0262 00'.replaceAll(' ', ''))
  })

  test('a null client id is read as null', () => {
    const frames = encodeRequest('ListGroups', 0, { correlationId: 7, clientId: null }, {})
    expect(hex(frames)).toBe('0010000000000007ffff')
    expect(decodeRequest(frames).clientId).toBeNull()
  })

  test('unknown tags in a header are skipped', () => {
    const frames = [bytes('0012 0003 00000007 ffff 02 05 03 aabbcc 09 00 0261 0262 00')]
    expect(decodeRequest(frames)).toMatchObject({ body: { clientSoftwareName: 'a' } })
  })

  test('readRequestHeader reads keys and versions that nobody knows', () => {
    const frames = [bytes('7fff 0063 00000009 0001 78 ff ff')]
    expect(readRequestHeader(frames)).toEqual({
      apiKey: 32767,
      apiVersion: 99,
      correlationId: 9,
      clientId: 'x',
    })
  })

  test('decodeRequest refuses a key or version outside the catalogue as UNSUPPORTED_BY_BROKER', () => {
    for (const head of ['7fff 0000', '0001 0003', '0001 0013', '0001 ffff']) {
      const error = failure(() => decodeRequest([bytes(`${head} 00000009 0001 78 00 00 00 00`)]))
      expect(error.code).toBe('UNSUPPORTED_BY_BROKER')
      expect(error.kafkaError).toBe(KafkaError.UNSUPPORTED_VERSION)
    }
  })

  test('an ApiVersions response has no tags in its header at any version', () => {
    const body = { errorCode: 0, apiKeys: [] }
    expect(hex(encodeResponse('ApiVersions', 0, 7, body))).toBe(
      '00000007 0000 00000000'.replaceAll(' ', ''),
    )
    expect(hex(encodeResponse('ApiVersions', 4, 7, body))).toBe(
      '00000007 0000 01 00000000 00'.replaceAll(' ', ''),
    )
    expect(hex(encodeResponse('DaemonStop', 0, 7, { errorCode: 0 }))).toBe('0000000700000000')
  })

  test('readCorrelationId works across frames and refuses less than four bytes', () => {
    expect(readCorrelationId([bytes('0000'), bytes('0007 ff')])).toBe(7)
    expect(failure(() => readCorrelationId([bytes('000000')])).code).toBe('MALFORMED_MESSAGE')
    expect(failure(() => readCorrelationId([])).code).toBe('MALFORMED_MESSAGE')
  })

  test('bytes after the body are counted, not refused', () => {
    const [frame = new Uint8Array()] = encodeResponse('Heartbeat', 0, 7, { errorCode: 0 })
    const decoded = decodeResponse('Heartbeat', 0, [frame, bytes('010203')])
    expect(decoded).toEqual({
      correlationId: 7,
      body: { throttleTimeMs: 0, errorCode: 0 },
      trailingBytes: 3,
    })
  })
})

describe('fields', () => {
  test('those that a version lacks are read at their default', () => {
    const { body } = decodeRequest(encodeRequest('Fetch', 4, header, fetchBody))
    expect(body).toEqual({
      clusterId: null,
      dataEpoch: -1,
      fetchNumber: -1,
      replicaId: -1,
      replicaState: { replicaId: -1, replicaEpoch: -1 },
      maxWaitMs: 1,
      minBytes: 1,
      maxBytes: 0x7fffffff,
      isolationLevel: 0,
      sessionId: 0,
      sessionEpoch: -1,
      topics: [
        {
          topic: 't',
          topicId: ZERO_UUID,
          partitions: [
            {
              partition: 0,
              currentLeaderEpoch: -1,
              fetchOffset: 5,
              lastFetchedEpoch: -1,
              logStartOffset: -1,
              partitionMaxBytes: 9,
              replicaDirectoryId: ZERO_UUID,
              highWatermark: INT64_MAX,
              durableOffset: -1,
              cleanOffset: -1,
              txnFreeOffset: -1,
              tombstoneFloor: -1,
              replicaSince: -1,
            },
          ],
        },
      ],
      forgottenTopicsData: [],
      rackId: '',
    })
  })

  test('optional ones may be left out in versions that have them', () => {
    const frames = encodeRequest('Fetch', 18, header, fetchBody)
    expect(decodeRequest(frames)).toMatchObject({ body: { rackId: '', isolationLevel: 0 } })
  })

  test('a required one that is missing is an error of the programmer', () => {
    const broken = { maxWaitMs: 1, minBytes: 1 } as RequestInput<'Fetch'>
    expect(() => encodeRequest('Fetch', 12, header, broken)).toThrow(AssertionError)
    expect(() => encodeRequest('Fetch', 12, header, broken)).toThrow(/^topics must be given/)
  })

  test.each([
    ['a number out of range', { errorCode: 40_000 }],
    ['a fraction', { errorCode: 0.5 }],
    ['a number as text', { errorCode: '1' }],
    ['null', { errorCode: null }],
  ])('%s is an error of the programmer', (_title, broken) => {
    const body = broken as unknown as ResponseInput<'Heartbeat'>
    expect(() => encodeResponse('Heartbeat', 0, 1, body)).toThrow(AssertionError)
  })

  test('after a failure the next message is whole', () => {
    const broken = { errorCode: 0, throttleTimeMs: 0.5 }
    expect(() => encodeResponse('Heartbeat', 1, 1, broken)).toThrow(AssertionError)
    expect(hex(encodeResponse('Heartbeat', 0, 1, { errorCode: 27 }))).toBe('00000001001b')
  })

  test('a request that sets what the version cannot carry is refused, unless it may be dropped', () => {
    const commit = { groupId: 'g', memberId: 'm', topics: [] }
    const refused = failure(() =>
      encodeRequest('OffsetCommit', 6, header, { ...commit, groupInstanceId: 'static' }),
    )
    expect(refused.code).toBe('UNSUPPORTED_BY_BROKER')
    expect(refused.message).toContain('groupInstanceId')
    expect(
      encodeRequest('OffsetCommit', 6, header, { ...commit, groupInstanceId: null }),
    ).toHaveLength(1)
    expect(encodeRequest('Fetch', 4, header, { ...fetchBody, rackId: 'r' })).toHaveLength(1)
  })

  test('null where the version forbids it is malformed and names the field', () => {
    // Metadata v0: topics -1
    const error = failure(() => decodeRequest([bytes('0003 0000 00000001 ffff ffffffff')]))
    expect(error.code).toBe('MALFORMED_MESSAGE')
    expect(error.message).toBe('Metadata v0 request: topics: null is not allowed here')
    const allowed = decodeRequest([bytes('0003 0001 00000001 ffff ffffffff')])
    expect(allowed).toMatchObject({ api: 'Metadata', body: { topics: null } })
  })

  test('a null struct is one byte, and so is the mark of one that is there', () => {
    const answer = { throttleTimeMs: 0, errorCode: 0, memberEpoch: 1, heartbeatIntervalMs: 5 }
    for (const assignment of [
      null,
      { topicPartitions: [{ topicId: ZERO_UUID, partitions: [3] }] },
    ]) {
      const frames = encodeResponse('ConsumerGroupHeartbeat', 1, 1, { ...answer, assignment })
      const { body } = decodeResponse('ConsumerGroupHeartbeat', 1, frames)
      expect(body.assignment).toEqual(assignment)
    }
  })
})

describe('int64', () => {
  const timestamp = (value: string) => [
    bytes(`0002 0001 00000001 ffff ffffffff 00000001 0001 74 00000001 00000000 ${value}`),
  ]

  test.each([
    ['0000000000000000', 0],
    ['ffffffffffffffff', -1],
    ['0000000100000000', 2 ** 32],
    ['ffffffff00000000', -(2 ** 32)],
    ['001fffffffffffff', 2 ** 53 - 1],
    ['ffe0000000000001', 1 - 2 ** 53],
    ['7fffffffffffffff', 2 ** 63],
    ['8000000000000000', -(2 ** 63)],
  ])('%s is %d, in both directions', (value, number) => {
    const decoded = decodeRequest(timestamp(value))
    const read = decoded.body as Request<'ListOffsets'>
    expect(read.topics[0]?.partitions[0]?.timestamp).toBe(number)
    expect(hex(encodeRequest('ListOffsets', 1, { correlationId: 1, clientId: null }, read))).toBe(
      hex(timestamp(value)),
    )
  })

  test.each(['0020000000000000', 'ffe0000000000000', '7ffffffffffffffe', '8000000000000001'])(
    '%s is refused and names the field',
    (value) => {
      const error = failure(() => decodeRequest(timestamp(value)))
      expect(error.code).toBe('MALFORMED_MESSAGE')
      expect(error.message).toBe(
        'ListOffsets v1 request: topics.partitions.timestamp: an integer beyond 2^53',
      )
    },
  )

  test('a number that is not exact is never written', () => {
    for (const producerId of [2 ** 53, 1.5, Number.NaN, Infinity]) {
      const body = { transactionalId: null, transactionTimeoutMs: 1, producerId }
      expect(() => encodeRequest('InitProducerId', 3, header, body)).toThrow(AssertionError)
    }
  })
})

describe('bounds', () => {
  const malformed = (text: string) => {
    const error = failure(() => decodeRequest([bytes(text)]))
    expect(error.code).toBe('MALFORMED_MESSAGE')
    return error.message
  }

  test('an array count beyond the bytes left is refused before anything is allocated', () => {
    expect(malformed('0003 0000 00000001 ffff 7fffffff')).toMatch(/length 2147483647 with 0 bytes/)
    expect(malformed('0003 0009 00000001 ffff 00 ffffffff0f 00')).toMatch(/topics/)
  })

  test('an array of more than a million elements is refused though the bytes are there', () => {
    const head = bytes('0003 0000 00000001 ffff 000f4241')
    const error = failure(() => decodeRequest([head, new Uint8Array(2_000_004)]))
    expect(error.message).toMatch(/an array of 1000001 elements/)
  })

  test('negative lengths other than null are refused', () => {
    expect(malformed('0003 0001 00000001 ffff fffffffe')).toMatch(/negative length -2/)
    expect(malformed('0003 0001 00000001 fffe 00000000')).toMatch(/negative length -2/)
  })

  test('a varint of more than five bytes or 32 bits is refused', () => {
    expect(malformed('0003 0009 00000001 ffff 00 ffffffffff01')).toMatch(/32 bits/)
    expect(malformed('0003 0009 00000001 ffff 00 ffffffff10')).toMatch(/32 bits/)
  })

  test('a string of more than 32767 bytes is refused in both directions', () => {
    const head = bytes('0003 0009 00000001 ffff 00 02 80 80 04')
    const error = failure(() => decodeRequest([head, new Uint8Array(70_000)]))
    expect(error.message).toMatch(/a string of 65535 bytes/)
    const name = 'n'.repeat(32_768)
    for (const version of [8, 9]) {
      const refused = failure(() =>
        encodeRequest('Metadata', version, header, { topics: [{ name }] }),
      )
      expect(refused.code).toBe('MALFORMED_MESSAGE')
    }
    const longest = [{ name: 'n'.repeat(32_767) }]
    const frames = encodeRequest('Metadata', 9, header, { topics: longest })
    expect(decodeRequest(frames)).toMatchObject({ body: { topics: longest } })
  })

  test('tags out of order, repeated, or of the wrong size are refused', () => {
    const apiVersions = '0012 0003 00000007 ffff 00 0261 0262'
    expect(malformed(`${apiVersions} 02 05 00 04 00`)).toMatch(/tag 4 after tag 5/)
    expect(malformed(`${apiVersions} 02 05 00 05 00`)).toMatch(/tag 5 after tag 5/)
    expect(malformed(`${apiVersions} 01 05 09 00`)).toMatch(/length 9 with 1 bytes/)
    // Fetch v12: clusterId (tag 0) of one byte less than its size says.
    const [frame = new Uint8Array()] = encodeRequest('Fetch', 12, header, {
      ...fetchBody,
      topics: [],
      clusterId: 'abc',
    })
    frame[frame.length - 5] = 3
    expect(failure(() => decodeRequest([frame])).message).toMatch(/as long as its size/)
  })
})

describe('frames', () => {
  const produce = (records: Uint8Array | readonly Uint8Array[]): RequestInput<'Produce'> => ({
    acks: -1,
    timeoutMs: 1,
    topicData: [{ name: 't', partitionData: [{ index: 0, records }] }],
  })

  test('records of 1 KiB and more are frames of their own, not copied', () => {
    const batch = new Uint8Array(1024).fill(1)
    const frames = encodeRequest('Produce', 9, header, produce(batch))
    expect(frames).toHaveLength(3)
    expect(frames[1]).toBe(batch)
    expect(encodeRequest('Produce', 9, header, produce(new Uint8Array(1023)))).toHaveLength(1)
  })

  test('records in parts are one field, and read back as one', () => {
    const parts = [new Uint8Array(2000).fill(1), new Uint8Array(10).fill(2), new Uint8Array(3000)]
    const frames = encodeRequest('Produce', 9, header, produce(parts))
    expect(frames).toHaveLength(5)
    const body = decodeRequest(frames).body as Request<'Produce'>
    expect(body.topicData[0]?.partitionData[0]?.records).toEqual(joinFrames(parts))
  })

  test('records that are one frame are read without a copy, wherever they come from', () => {
    const batch = new Uint8Array(2000).fill(1)
    for (const records of [batch, Buffer.from(batch)]) {
      const frames = encodeRequest('Produce', 9, header, produce(records))
      const read = (decodeRequest(frames).body as Request<'Produce'>).topicData[0]
      const found = read?.partitionData[0]?.records
      expect(found?.buffer).toBe(records.buffer)
      expect(found).toEqual(batch)
      expect(Buffer.isBuffer(found)).toBe(false)
    }
  })

  test('a message is not changed by those written after it', () => {
    const first = encodeResponse('Heartbeat', 0, 1, { errorCode: 27 })
    const before = hex(first)
    for (let index = 0; index < 10_000; index++) {
      encodeResponse('Heartbeat', 0, index, { errorCode: 0 })
    }
    expect(hex(first)).toBe(before)
  })

  test('a message larger than a slab is written whole', () => {
    const assignment = new Uint8Array(70_000).fill(9)
    const body = { errorCode: 0, assignment, protocolName: 'é'.repeat(10_000) }
    const frames = encodeResponse('SyncGroup', 5, 1, body)
    expect(decodeResponse('SyncGroup', 5, frames).body).toEqual({
      throttleTimeMs: 0,
      protocolType: null,
      ...body,
    })
  })

  test('a tag longer than 127 bytes moves its content to make room for the size', () => {
    const nodeEndpoints = Array.from({ length: 40 }, (_, nodeId) => ({
      nodeId,
      host: 'host.example',
      port: 9092,
      rack: null,
    }))
    const frames = encodeResponse('Produce', 10, 1, { responses: [], nodeEndpoints })
    expect(decodeResponse('Produce', 10, frames).body.nodeEndpoints).toEqual(nodeEndpoints)
  })

  test('text is kept to the byte, and broken text never leaves', () => {
    for (const name of ['', 'plain', 'é', '日本語'.repeat(30), '👩‍👩‍👧', '\u0000']) {
      const frames = encodeRequest('Metadata', 9, header, { topics: [{ name }] })
      expect(decodeRequest(frames)).toMatchObject({ body: { topics: [{ name }] } })
    }
    const frames = encodeRequest('Metadata', 9, header, { topics: [{ name: 'a\ud800b' }] })
    expect(decodeRequest(frames)).toMatchObject({ body: { topics: [{ name: 'a\ufffdb' }] } })
  })
})

describe('errors that a version does not know', () => {
  const producer = (api: 'InitProducerId' | 'EndTxn', version: number, errorCode: number) => {
    const frames = encodeResponse(api, version, 1, {
      throttleTimeMs: 0,
      errorCode,
      producerEpoch: 0,
    })
    return decodeResponse(api, version, frames).body.errorCode
  }

  test('PRODUCER_FENCED 90 becomes INVALID_PRODUCER_EPOCH 47', () => {
    expect(producer('InitProducerId', 3, 90)).toBe(47)
    expect(producer('InitProducerId', 4, 90)).toBe(90)
    expect(producer('EndTxn', 1, 90)).toBe(47)
    expect(producer('EndTxn', 2, 90)).toBe(90)
  })

  test('TRANSACTION_ABORTABLE 120 becomes INVALID_TXN_STATE 48', () => {
    expect(producer('InitProducerId', 4, 120)).toBe(48)
    expect(producer('InitProducerId', 5, 120)).toBe(120)
  })

  test('KAFKA_STORAGE_ERROR 56 becomes NOT_LEADER_OR_FOLLOWER 6, in nested error codes too', () => {
    const code = (version: number) => {
      const partition = { index: 0, errorCode: KafkaError.KAFKA_STORAGE_ERROR, baseOffset: -1 }
      const frames = encodeResponse('Produce', version, 1, {
        responses: [{ name: 't', partitionResponses: [partition] }],
      })
      const { body } = decodeResponse('Produce', version, frames)
      return body.responses[0]?.partitionResponses[0]?.errorCode
    }
    expect(code(3)).toBe(KafkaError.NOT_LEADER_OR_FOLLOWER)
    expect(code(4)).toBe(KafkaError.KAFKA_STORAGE_ERROR)
  })

  test('P10 MEMBER_ID_REQUIRED 79 never leaves below JoinGroup v4', () => {
    const code = (version: number) => {
      const frames = encodeResponse('JoinGroup', version, 1, {
        errorCode: KafkaError.MEMBER_ID_REQUIRED,
        protocolName: '',
        leader: '',
        memberId: 'm',
        members: [],
      })
      return decodeResponse('JoinGroup', version, frames).body.errorCode
    }
    expect(code(3)).toBe(KafkaError.UNKNOWN_MEMBER_ID)
    expect(code(4)).toBe(KafkaError.MEMBER_ID_REQUIRED)
  })

  test('OFFSET_NOT_AVAILABLE 78 becomes LEADER_NOT_AVAILABLE 5 below ListOffsets v5', () => {
    const code = (version: number) => {
      const partitions = [{ partitionIndex: 0, errorCode: KafkaError.OFFSET_NOT_AVAILABLE }]
      const frames = encodeResponse('ListOffsets', version, 1, {
        topics: [{ name: 't', partitions }],
      })
      return decodeResponse('ListOffsets', version, frames).body.topics[0]?.partitions[0]?.errorCode
    }
    expect(code(4)).toBe(KafkaError.LEADER_NOT_AVAILABLE)
    expect(code(5)).toBe(KafkaError.OFFSET_NOT_AVAILABLE)
  })
})

describe('notices', () => {
  const notice = { errorCode: 35, correlationId: 12, message: 'Fetch v99' }

  test('begin with correlation id −1', () => {
    const frames = encodeNotice(notice)
    expect(hex(frames)).toBe('ffffffff00230000000c0009466574636820763939')
    expect(readCorrelationId(frames)).toBe(-1)
    expect(decodeNotice(frames)).toEqual(notice)
  })

  test('truncations and answers are no notices', () => {
    const whole = joinFrames(encodeNotice(notice))
    for (let length = 0; length < whole.length; length++) {
      expect(failure(() => decodeNotice([whole.subarray(0, length)])).code).toBe(
        'MALFORMED_MESSAGE',
      )
    }
    const answer = encodeResponse('Heartbeat', 0, 1, { errorCode: 0 })
    expect(failure(() => decodeNotice(answer)).code).toBe('MALFORMED_MESSAGE')
    expect(failure(() => decodeNotice([bytes('ffffffff00230000000cffff')])).code).toBe(
      'MALFORMED_MESSAGE',
    )
  })
})

test('types: one object type per API; later fields are optional to write and always there to read', () => {
  expectTypeOf<Request<'Fetch'>['rackId']>().toEqualTypeOf<string>()
  expectTypeOf<Request<'Metadata'>['topics']>().extract<null>().toEqualTypeOf<null>()
  expectTypeOf<RequestInput<'Fetch'>['rackId']>().toEqualTypeOf<string | undefined>()
  expectTypeOf<RequestInput<'Fetch'>['maxWaitMs']>().toEqualTypeOf<number>()
  expectTypeOf<Response<'DaemonStatus'>['addresses']>().toEqualTypeOf<readonly string[]>()
  expectTypeOf<
    Request<'Produce'>['topicData'][number]['partitionData'][number]['records']
  >().toEqualTypeOf<Uint8Array | null>()
  const decoded = decodeRequest(encodeRequest('DaemonStop', 0, header, {}))
  if (decoded.api === 'Fetch') expectTypeOf(decoded.body).toEqualTypeOf<Request<'Fetch'>>()
})
