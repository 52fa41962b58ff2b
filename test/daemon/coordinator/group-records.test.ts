import { describe, expect, it } from 'vitest'
import { type ConsumerChange, NO_HASH } from '../../../daemon/coordinator/consumer-group-records.ts'
import {
  decodeRecord,
  encodeConsumerChange,
  encodeGroup,
  encodeOffset,
  partitionForGroup,
} from '../../../daemon/coordinator/group-records.ts'
import {
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
} from '../../../src/protocol/consumer-metadata.ts'

const hex = (bytes: Uint8Array | null) => Buffer.from(bytes ?? []).toString('hex')

const TOPIC_HEX = '000102030405060708090a0b0c0d0e0f'
const TOPIC = Buffer.from(TOPIC_HEX, 'hex').toString('base64url')

describe('records of the offsets topic, byte for byte', () => {
  it('an offset: key v1, value v3', () => {
    const value = {
      offset: 7,
      leaderEpoch: 2,
      metadata: 'm',
      commitTimestampMs: 9,
      expireTimestampMs: -1,
    }
    const record = encodeOffset('g', 't', 3, value)
    expect(hex(record.key)).toBe('0001' + '000167' + '000174' + '00000003')
    expect(hex(record.value)).toBe(
      '0003' + '0000000000000007' + '00000002' + '00016d' + '0000000000000009',
    )
    expect(decodeRecord(record.key, record.value)).toEqual({
      kind: 'offset',
      group: 'g',
      topic: 't',
      partition: 3,
      value,
    })
    expect(decodeRecord(record.key, null)).toMatchObject({ kind: 'offset', value: undefined })
  })

  it('an offset that says how long it is kept: value v1', () => {
    const value = {
      offset: 7,
      leaderEpoch: -1,
      metadata: '',
      commitTimestampMs: 9,
      expireTimestampMs: 11,
    }
    const record = encodeOffset('g', 't', 3, value)
    expect(hex(record.value)).toBe(
      '0001' + '0000000000000007' + '0000' + '0000000000000009' + '000000000000000b',
    )
    expect(decodeRecord(record.key, record.value)).toMatchObject({ value })
  })

  it('a group: key 2, value v3', () => {
    const value = {
      protocolType: 'consumer',
      generation: 4,
      protocol: 'range',
      leader: 'a',
      stateTimestampMs: 5,
      members: [
        {
          memberId: 'a',
          groupInstanceId: null,
          clientId: 'c',
          clientHost: '/h',
          rebalanceTimeoutMs: 6,
          sessionTimeoutMs: 7,
          subscription: Uint8Array.of(1, 2),
          assignment: Uint8Array.of(3),
        },
      ],
    }
    const record = encodeGroup('g', value)
    expect(hex(record.key)).toBe('0002000167')
    expect(hex(record.value)).toBe(
      '0003' +
        '0008636f6e73756d6572' +
        '00000004' +
        '000572616e6765' +
        '000161' +
        '0000000000000005' +
        '00000001' +
        '000161' +
        'ffff' +
        '000163' +
        '00022f68' +
        '00000006' +
        '00000007' +
        '000000020102' +
        '0000000103',
    )
    expect(decodeRecord(record.key, record.value)).toEqual({ kind: 'group', group: 'g', value })
  })

  it.each<[string, ConsumerChange, string, string | null]>([
    [
      'its epoch',
      { kind: 'epoch', value: { epoch: 7, metadataHash: '0123456789abcdef' } },
      '0003' + '000167',
      '0000' + '00000007' + '01' + '00' + '08' + '0123456789abcdef',
    ],
    [
      'its epoch without a hash (Kafka up to 4.0)',
      { kind: 'epoch', value: { epoch: 7, metadataHash: NO_HASH } },
      '0003' + '000167',
      '0000' + '00000007' + '00',
    ],
    ['its end', { kind: 'epoch', value: undefined }, '0003' + '000167', null],
    [
      'a member',
      {
        kind: 'member',
        memberId: 'm',
        value: {
          instanceId: null,
          rackId: 'r',
          clientId: 'c',
          clientHost: '/h',
          rebalanceTimeoutMs: 5,
          topicNames: ['t', 'u'],
          topicRegex: null,
          serverAssignor: 'range',
          classic: null,
        },
      },
      '0005' + '000167' + '00016d',
      '0000' +
        '00' +
        '0272' +
        '0263' +
        '032f68' +
        '03' +
        '0274' +
        '0275' +
        '00' +
        '00000005' +
        '0672616e6765' +
        '00',
    ],
    [
      'a member of the classic protocol',
      {
        kind: 'member',
        memberId: 'm',
        value: {
          instanceId: 'i',
          rackId: null,
          clientId: 'c',
          clientHost: '/h',
          rebalanceTimeoutMs: 5,
          topicNames: ['t'],
          topicRegex: null,
          serverAssignor: null,
          classic: {
            sessionTimeoutMs: 6,
            protocols: [{ name: 'range', metadata: Uint8Array.of(1, 2) }],
          },
        },
      },
      '0005' + '000167' + '00016d',
      '0000' +
        '0269' +
        '00' +
        '0263' +
        '032f68' +
        '02' +
        '0274' +
        '00' +
        '00000005' +
        '00' +
        // One tag, number 0, of 17 bytes: present, 6 ms, one protocol.
        '01' +
        '00' +
        '11' +
        '01' +
        '00000006' +
        '02' +
        '0672616e6765' +
        '030102' +
        '00' +
        '00',
    ],
    [
      'the epoch of the target',
      { kind: 'targetEpoch', value: 7 },
      '0006' + '000167',
      '0000' + '00000007' + '00',
    ],
    [
      'the target of a member',
      { kind: 'target', memberId: 'm', value: new Map([[TOPIC, new Set([1, 0])]]) },
      '0007' + '000167' + '00016d',
      `000002${TOPIC_HEX}0300000000000000010000`,
    ],
    [
      'how far a member is',
      {
        kind: 'progress',
        memberId: 'm',
        value: {
          epoch: 7,
          previousEpoch: 6,
          state: 'unreleased',
          assigned: new Map([[TOPIC, new Set([2])]]),
          pendingRevocation: new Map(),
        },
      },
      '0008' + '000167' + '00016d',
      '0000' +
        '00000007' +
        '00000006' +
        '02' +
        '02' +
        TOPIC_HEX +
        '02' +
        '00000002' +
        '00' +
        '01' +
        '00',
    ],
  ])('a consumer group: %s', (_, change, key, value) => {
    const record = encodeConsumerChange('g', change)
    expect(hex(record.key)).toBe(key)
    expect(record.value === null ? null : hex(record.value)).toBe(value)
    expect(decodeRecord(record.key, record.value)).toEqual({ kind: 'consumer', group: 'g', change })
  })

  it('a consumer group: what later Kafkas add is read over', () => {
    // Tag 1 of the group's epoch (when it was made), and the epochs of a member's partitions.
    const epoch = Buffer.from(`000000000007010108${'00'.repeat(8)}`, 'hex')
    expect(decodeRecord(Buffer.from('0003000167', 'hex'), epoch)).toMatchObject({
      change: { value: { epoch: 7, metadataHash: NO_HASH } },
    })
    const rows = `02${TOPIC_HEX}02000000020100050200000007`
    const progress = Buffer.from(`0000${'00000007'.repeat(2)}7f${rows}0100`, 'hex')
    expect(decodeRecord(Buffer.from('000800016700016d', 'hex'), progress)).toMatchObject({
      change: {
        value: { epoch: 7, state: 'unrevoked', assigned: new Map([[TOPIC, new Set([2])]]) },
      },
    })
  })

  it('a record of another kind is left to others; garbage is an error', () => {
    for (const type of [4, 9, 16, 99]) {
      expect(decodeRecord(Uint8Array.of(0, type, 0, 1, 0x67), null)).toEqual({
        kind: 'other',
        type,
      })
    }
    // A group that has lost its member, and a value that is none.
    expect(() => decodeRecord(Uint8Array.of(0, 5, 0, 1, 0x67), null)).toThrow()
    expect(() => decodeRecord(Uint8Array.of(0, 3, 0, 1, 0x67), Uint8Array.of(0, 0, 0))).toThrow()
    expect(() => decodeRecord(Uint8Array.of(0), null)).toThrow()
    expect(() => decodeRecord(Uint8Array.of(0, 2, 0, 9, 0x67), null)).toThrow()
  })
})

it('a group’s partition is that of Java’s hashCode', () => {
  expect(partitionForGroup('console-consumer-12345', 50)).toBe(
    Math.abs(javaHash('console-consumer-12345')) % 50,
  )
  // "polygenelubricants" has the hash -2^31, whose absolute value Kafka takes for 0.
  expect(partitionForGroup('polygenelubricants', 50)).toBe(0)
  function javaHash(text: string): number {
    let hash = 0n
    for (const unit of text) hash = BigInt.asIntN(32, hash * 31n + BigInt(unit.charCodeAt(0)))
    return Number(hash)
  }
})

describe('subscriptions and assignments', () => {
  it('come back as they were', () => {
    const subscription = {
      topics: ['a', 'b'],
      userData: Uint8Array.of(9),
      ownedPartitions: [{ topic: 'a', partitions: [1, 2] }],
      generationId: 3,
    }
    expect(decodeSubscription(encodeSubscription(subscription))).toEqual({
      ...subscription,
      rackId: null,
    })
    const assignment = { partitions: [{ topic: 'a', partitions: [0] }], userData: null }
    expect(decodeAssignment(encodeAssignment(assignment))).toEqual(assignment)
    expect(decodeAssignment(new Uint8Array(0))).toEqual({ partitions: [], userData: null })
  })

  it('version 0 and later versions are read; garbage is nothing', () => {
    expect(
      decodeSubscription(Uint8Array.from(Buffer.from('00000000000100016100000000', 'hex'))),
    ).toMatchObject({ topics: ['a'], generationId: -1 })
    expect(decodeSubscription(Uint8Array.of(0, 0, 0, 0))).toBeUndefined()
  })
})
