import { describe, expect, test } from 'vitest'
import {
  apiKeyOf,
  apiNames,
  apiTable,
  codecRange,
  findApi,
  isFlexible,
  PRIVATE_KEY_MIN,
} from '../../../src/protocol/api-table.ts'
import {
  KafkaError,
  kafkaErrorIsRetriable,
  kafkaErrorMessage,
  kafkaErrorName,
  kafkaErrors,
} from '../../../src/protocol/errors.ts'
import type { Field } from '../../../src/protocol/schema.ts'
import { type Door, type Phase, servedRanges } from '../../../src/protocol/served.ts'

const doors: readonly Door[] = ['zmq', 'kafka']
const phases: readonly Phase[] = ['A', 'B']

describe('the catalogue', () => {
  test('names and keys are one to one', () => {
    for (const api of apiNames) expect(findApi(apiKeyOf(api))).toBe(api)
    expect(findApi(4)).toBeUndefined()
    expect(findApi(999)).toBeUndefined()
  })

  test('private APIs are flexible from version 0', () => {
    for (const api of apiNames) {
      if (apiKeyOf(api) >= PRIVATE_KEY_MIN) expect(isFlexible(api, 0)).toBe(true)
    }
  })

  test('tags are unique within their struct, and only flexible versions have them', () => {
    for (const api of apiNames) {
      const { flexibleFrom, request, response } = apiTable[api]
      checkTags(request, flexibleFrom)
      checkTags(response, flexibleFrom)
    }
  })

  function checkTags(fields: readonly Field[], flexibleFrom: number | undefined): void {
    const tags = fields.flatMap((field) => field[3]?.tag ?? [])
    expect(new Set(tags).size).toBe(tags.length)
    for (const [, type, since, options] of fields) {
      if (options?.tag !== undefined) expect(since).toBeGreaterThanOrEqual(flexibleFrom ?? Infinity)
      if (typeof type !== 'string')
        checkTags('array' in type ? type.array : type.struct, flexibleFrom)
    }
  }
})

describe('served ranges', () => {
  test('lie inside the catalogue, with every accepted version', () => {
    for (const door of doors) {
      for (const phase of phases) {
        for (const { api, apiKey, min, max, acceptedMin } of servedRanges(door, phase)) {
          expect(apiKey).toBe(apiKeyOf(api))
          expect(min).toBeLessThanOrEqual(acceptedMin)
          expect(acceptedMin).toBeGreaterThanOrEqual(codecRange(api).min)
          expect(max).toBeLessThanOrEqual(codecRange(api).max)
        }
      }
    }
  })

  test('of the private APIs the newest version of the catalogue is served', () => {
    const own = servedRanges('zmq', 'B').filter(({ apiKey }) => apiKey >= PRIVATE_KEY_MIN)
    const newest = apiNames
      .filter((api) => apiKeyOf(api) >= PRIVATE_KEY_MIN)
      .map((api) => [api, codecRange(api).max])
    expect(own.map(({ api, max }) => [api, max]).sort()).toEqual(newest.sort())
  })

  test('phase B lists everything of phase A, to at least the same version', () => {
    for (const door of doors) {
      const later = new Map(servedRanges(door, 'B').map((range) => [range.api, range]))
      for (const range of servedRanges(door, 'A')) {
        expect(later.get(range.api)?.min).toBe(range.min)
        expect(later.get(range.api)?.max).toBeGreaterThanOrEqual(range.max)
      }
    }
  })

  test('private APIs and those between daemons are on the ZeroMQ door only, authentication on the Kafka door only', () => {
    for (const phase of phases) {
      const zmq = servedRanges('zmq', phase).map((range) => range.api)
      const kafka = servedRanges('kafka', phase).map((range) => range.api)
      expect(zmq.filter((api) => !kafka.includes(api))).toEqual([
        'WriteTxnMarkers',
        'DaemonStatus',
        'DaemonStop',
        'AppendAt',
        'LocalSpans',
        'LogInfo',
        'SegmentSync',
        'CreateLink',
        'AlterLink',
        'DescribeLinks',
      ])
      expect(kafka.filter((api) => !zmq.includes(api))).toEqual([
        'SaslHandshake',
        'SaslAuthenticate',
      ])
    }
  })

  const phaseA = (api: string) => servedRanges('kafka', 'A').find((range) => range.api === api)

  test('P1 Produce is listed from 0, v0–v2 are refused', () => {
    expect(phaseA('Produce')).toMatchObject({ min: 0, max: 12, acceptedMin: 3 })
  })

  test('P1 the exact low versions that old librdkafka asks for are listed', () => {
    for (const [api, version] of [
      ['Produce', 7],
      ['Fetch', 10],
      ['Fetch', 4],
      ['ListOffsets', 1],
      ['InitProducerId', 0],
      ['FindCoordinator', 0],
      ['JoinGroup', 0],
      ['SyncGroup', 0],
      ['Heartbeat', 0],
      ['LeaveGroup', 0],
      ['OffsetCommit', 1],
      ['OffsetFetch', 1],
      ['SaslHandshake', 1],
      ['SaslAuthenticate', 0],
    ] as const) {
      expect(phaseA(api)?.min).toBeLessThanOrEqual(version)
      expect(phaseA(api)?.max).toBeGreaterThanOrEqual(version)
    }
  })

  test('P3 phase A keeps topic ids off the data path', () => {
    expect(phaseA('Fetch')?.max).toBe(12)
    expect(phaseA('OffsetCommit')?.max).toBe(9)
  })

  test('SaslHandshake v2 and AddPartitionsToTxn v4 are never listed', () => {
    for (const phase of phases) {
      for (const range of servedRanges('kafka', phase)) {
        if (range.api === 'SaslHandshake') expect(range.max).toBe(1)
        if (range.api === 'AddPartitionsToTxn') expect(range.max).toBe(3)
      }
    }
  })

  test('come by rising key', () => {
    const keys = servedRanges('zmq', 'B').map((range) => range.apiKey)
    expect(keys).toEqual([...keys].sort((left, right) => left - right))
  })
})

describe('Kafka errors', () => {
  test('every number from −1 to 133 is there once', () => {
    const codes = Object.values(kafkaErrors).map((row) => row.code)
    expect(codes).toEqual(Array.from({ length: 135 }, (_, index) => index - 1))
  })

  test('numbers, names and retriability', () => {
    expect(KafkaError.NOT_LEADER_OR_FOLLOWER).toBe(6)
    expect(kafkaErrorName(6)).toBe('NOT_LEADER_OR_FOLLOWER')
    expect(kafkaErrorIsRetriable(KafkaError.NOT_LEADER_OR_FOLLOWER)).toBe(true)
    expect(kafkaErrorIsRetriable(KafkaError.CORRUPT_MESSAGE)).toBe(true)
    expect(kafkaErrorIsRetriable(KafkaError.OFFSET_OUT_OF_RANGE)).toBe(false)
    expect(kafkaErrorIsRetriable(KafkaError.NONE)).toBe(false)
    expect(kafkaErrorMessage(KafkaError.TOPIC_ALREADY_EXISTS)).toBe('the topic exists already')
  })

  test('a number newer than the table has a name and is not retried', () => {
    expect(kafkaErrorName(900)).toBe('ERROR_900')
    expect(kafkaErrorIsRetriable(900)).toBe(false)
    expect(kafkaErrorMessage(900)).toBe('unknown error 900')
  })
})
