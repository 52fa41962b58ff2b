import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MetadataKeys } from '../../../daemon/metadata/metadata-keys.ts'
import * as values from '../../../daemon/metadata/metadata-values.ts'
import { isStreamError } from '../../../src/base/errors.ts'

const member = fc.record({ broker: fc.nat(), dataEpoch: fc.nat() })
const partition: fc.Arbitrary<values.PartitionValue> = fc.record({
  replicas: fc.array(fc.nat(), { maxLength: 5 }),
  adding: fc.array(fc.nat(), { maxLength: 2 }),
  removing: fc.array(fc.nat(), { maxLength: 2 }),
  leader: fc.integer({ min: -1 }),
  leaderIncarnation: fc.string(),
  leaderEpoch: fc.nat(),
  partitionEpoch: fc.nat(),
  inSyncReplicas: fc.array(member, { maxLength: 4 }),
  eligibleReplicas: fc.array(member, { maxLength: 4 }),
  known: fc.array(member, { maxLength: 4 }),
  lastLeader: fc.option(member),
  minInSync: fc.nat(),
  uncleanEpoch: fc.nat(),
  recovering: fc.boolean(),
  writer: fc.record({ epoch: fc.nat(), counter: fc.nat() }),
})
const topic: fc.Arbitrary<values.TopicValue> = fc.record({
  topicId: fc.string(),
  partitions: fc.integer({ min: 1 }),
  config: fc.dictionary(fc.stringMatching(/^[a-z.]{1,12}$/), fc.string(), {
    noNullPrototype: true,
  }),
  state: fc.constantFrom('CREATING', 'READY'),
})
const registration: fc.Arbitrary<values.RegistrationValue> = fc.record({
  incarnation: fc.string(),
  endpoints: fc.array(fc.string()),
  rack: fc.option(fc.string()),
  directories: fc.array(fc.string()),
  state: fc.constantFrom('FENCED', 'ACTIVE', 'DRAINING'),
})

describe('metadata values', () => {
  it('are read back as they were written', () => {
    fc.assert(
      fc.property(partition, topic, registration, fc.nat(), (p, t, r, n) => {
        expect(values.decodePartition('k', values.encodePartition(p))).toEqual(p)
        expect(values.decodeTopic('k', values.encodeTopic(t))).toEqual(t)
        expect(values.decodeRegistration('k', values.encodeRegistration(r))).toEqual(r)
        expect(values.decodeProducerIds('k', values.encodeProducerIds(n))).toBe(n)
        const controller = { brokerId: n, sessionEpoch: n }
        expect(values.decodeController('k', values.encodeController(controller))).toEqual(
          controller,
        )
      }),
    )
  })

  it('partition records have the field names of the design', () => {
    const one = { broker: 1, dataEpoch: 7 }
    const bytes = values.encodePartition({
      replicas: [1],
      adding: [],
      removing: [],
      leader: 1,
      leaderIncarnation: 'i',
      leaderEpoch: 3,
      partitionEpoch: 4,
      inSyncReplicas: [one],
      eligibleReplicas: [],
      known: [],
      lastLeader: null,
      minInSync: 1,
      uncleanEpoch: 0,
      recovering: false,
      writer: { epoch: 5, counter: 6 },
    })
    expect(JSON.parse(Buffer.from(bytes).toString())).toEqual({
      replicas: [1],
      adding: [],
      removing: [],
      leader: 1,
      leaderInc: 'i',
      leaderEpoch: 3,
      partitionEpoch: 4,
      isr: [{ b: 1, D: 7 }],
      elr: [],
      known: [],
      lastLeader: null,
      minIsr: 1,
      uncleanEpoch: 0,
      recovering: false,
      writer: { epoch: 5, counter: 6 },
    })
  })

  it('refuse damaged bytes with STORE_DAMAGED and the key, never otherwise', () => {
    const decoders = [
      values.decodePartition,
      values.decodeTopic,
      values.decodeRegistration,
      values.decodeController,
      values.decodeMeta,
      values.decodeLive,
      values.decodeData,
      values.decodeDeleted,
      values.decodeConfig,
      values.decodeProducerIds,
    ]
    const foreign = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.json().map((text) => Buffer.from(text)),
    )
    fc.assert(
      fc.property(foreign, fc.constantFrom(...decoders), (bytes, decode) => {
        try {
          decode('the-key', bytes)
        } catch (error) {
          expect(isStreamError(error, 'STORE_DAMAGED')).toBe(true)
          expect((error as Error).message).toContain('the-key')
        }
      }),
      { numRuns: 1000 },
    )
  })
})

describe('metadata keys', () => {
  const keys = new MetadataKeys('cluster')

  it('are parsed back, in order of partitions', () => {
    expect(keys.parse(keys.live(3))).toEqual({ kind: 'live', nodeId: 3 })
    expect(keys.parse(keys.registration(0))).toEqual({ kind: 'registration', nodeId: 0 })
    expect(keys.parse(keys.data(7))).toEqual({ kind: 'data', nodeId: 7 })
    expect(keys.parse(keys.topic('a.b'))).toEqual({ kind: 'topic', name: 'a.b' })
    expect(keys.parse(keys.partition('id', 12))).toEqual({
      kind: 'partition',
      topicId: 'id',
      partition: 12,
    })
    expect(keys.parse(keys.deleted('id'))).toEqual({ kind: 'deleted', topicId: 'id' })
    expect(keys.parse(keys.config('broker/1'))).toEqual({ kind: 'config', scope: 'broker/1' })
    expect(keys.parse(keys.user('a/b'))).toEqual({ kind: 'user', name: 'a/b' })
    expect(keys.parse(keys.controller())).toEqual({ kind: 'controller' })
    expect(keys.parse(keys.producerIds())).toEqual({ kind: 'producerIds' })
    expect(keys.partition('id', 9) < keys.partition('id', 10)).toBe(true)
  })

  it('of a later version or another cluster are left alone', () => {
    expect(keys.parse('/stream/other/topic/a')).toBeUndefined()
    expect(keys.parse('/stream/cluster/later/x')).toBeUndefined()
    expect(keys.parse('/stream/cluster/live/-1')).toBeUndefined()
    expect(keys.parse('/stream/cluster/part/id')).toBeUndefined()
  })
})
