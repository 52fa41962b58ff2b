/**
 * X1: foreign bytes at both doors. Whatever comes, the outcome is an answer, a notice or the end of that connection: never
 * an exception, never a request left in the books, never harm to another client or to what is stored.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { listedRanges } from '../../daemon/apis/listed-ranges.ts'
import type { Daemon } from '../../daemon/doors/daemon.ts'
import type { ApiName, RequestInput } from '../../src/protocol/api-table.ts'
import { encodeRequest } from '../../src/protocol/codec.ts'
import { batchOf, recordsOf } from '../daemon/batches.ts'
import { DaemonWorld, fetchBody, KAFKA, ZMQ } from '../daemon/daemon-world.ts'

const RUNS = Number(process.env['FUZZ_RUNS'] ?? 150)

function request<A extends ApiName>(api: A, version: number, body: RequestInput<A>): Uint8Array {
  return Buffer.concat(encodeRequest(api, version, { correlationId: 1, clientId: 'fuzz' }, body))
}

const produceBody = (records: Uint8Array) => ({
  acks: -1,
  timeoutMs: 100,
  topicData: [{ name: 't', partitionData: [{ index: 0, records }] }],
})

/** Valid messages to be damaged: one of each shape. */
const seeds: readonly Uint8Array[] = [
  request('ApiVersions', 3, { clientSoftwareName: 'a', clientSoftwareVersion: '1' }),
  request('ApiVersions', 0, {}),
  request('Metadata', 12, { topics: [{ name: 't' }, { name: 'u' }] }),
  request('Metadata', 1, { topics: null }),
  request('Produce', 9, produceBody(batchOf(['a', 'b']))),
  request('Produce', 3, produceBody(batchOf(['a', 'b'], { codec: 'lz4' }))),
  request('Produce', 7, produceBody(batchOf([{ key: 'k', value: 'v' }], { codec: 'zstd' }))),
  request('Fetch', 12, fetchBody('t', {})),
  request('Fetch', 4, fetchBody('t', {})),
  request('ListOffsets', 7, {
    replicaId: -1,
    isolationLevel: 0,
    topics: [{ name: 't', partitions: [{ partitionIndex: 0, timestamp: 5 }] }],
  }),
  request('CreateTopics', 7, {
    topics: [{ name: 'v', numPartitions: 1, replicationFactor: 1, assignments: [], configs: [] }],
    timeoutMs: 10,
    validateOnly: true,
  }),
  request('DescribeConfigs', 4, {
    resources: [{ resourceType: 2, resourceName: 't', configurationKeys: null }],
  }),
  request('DeleteTopics', 6, { topics: [{ name: 'none' }], timeoutMs: 10 }),
  request('InitProducerId', 4, { transactionalId: null, transactionTimeoutMs: 5 }),
  request('OffsetForLeaderEpoch', 4, {
    topics: [{ topic: 't', partitions: [{ partition: 0, leaderEpoch: 0 }] }],
  }),
  request('DescribeLogDirs', 4, { topics: null }),
  request('CreatePartitions', 3, {
    topics: [{ name: 't', count: 2, assignments: null }],
    timeoutMs: 5,
    validateOnly: true,
  }),
  request('DescribeTopicPartitions', 0, { topics: [{ name: 't' }] }),
]

/** Private and deleting APIs are left out: they do what they are asked for. */
const harmlessKeys = listedRanges('kafka', 'A')
  .map((range) => range.apiKey)
  .filter((key) => ![20, 21, 33, 37, 44].includes(key))

const headed = fc
  .tuple(
    fc.oneof(fc.constantFrom(...harmlessKeys), fc.integer({ min: 2000, max: 32767 })),
    fc.integer({ min: -2, max: 14 }),
    fc.uint8Array({ maxLength: 200 }),
  )
  .map(([apiKey, version, rest]) => {
    const head = Buffer.alloc(10)
    head.writeInt16BE(apiKey, 0)
    head.writeInt16BE(version, 2)
    head.writeInt32BE(7, 4)
    head.writeInt16BE(-1, 8)
    return Buffer.concat([head, rest])
  })

const extremes = fc.constantFrom(0x7fffffff, -1, -0x80000000, 0, 1_000_001, 65_535)

/** A valid message cut, changed in places, or with a length blown up. */
const mutated = fc
  .tuple(
    fc.constantFrom(...seeds),
    fc.oneof(
      fc.record({ kind: fc.constant('cut' as const), at: fc.nat() }),
      fc.record({ kind: fc.constant('flip' as const), at: fc.nat(), value: fc.nat(255) }),
      fc.record({ kind: fc.constant('number' as const), at: fc.nat(), value: extremes }),
      fc.record({ kind: fc.constant('insert' as const), at: fc.nat(), value: fc.nat(255) }),
    ),
  )
  .map(([seed, change]) => damage(seed, change))

function damage(
  seed: Uint8Array,
  change: {
    readonly kind: 'cut' | 'flip' | 'number' | 'insert'
    readonly at: number
    readonly value?: number
  },
): Uint8Array {
  const bytes = Buffer.from(seed)
  // The header's key stays: what a flipped key asks for is that API's own business.
  const at = 2 + (change.at % (bytes.length - 2))
  const value = change.value ?? 0
  switch (change.kind) {
    case 'cut':
      return bytes.subarray(0, at)
    case 'flip':
      bytes[at] = value
      return bytes
    case 'number':
      if (at + 4 <= bytes.length) bytes.writeInt32BE(value, at)
      return bytes
    case 'insert':
      return Buffer.concat([bytes.subarray(0, at), Buffer.of(value), bytes.subarray(at)])
  }
}

/** A request that takes the correlation id of the ZeroMQ door's notices for itself: Kafka's door answers it as any other. */
const negativeId = Buffer.concat(
  encodeRequest(
    'DeleteTopics',
    6,
    { correlationId: -1, clientId: 'fuzz' },
    { topics: [{ name: 'none' }], timeoutMs: 10 },
  ),
)

const foreign = fc.oneof(fc.uint8Array({ maxLength: 300 }), headed, mutated)

async function started(): Promise<{ w: DaemonWorld; daemon: Daemon }> {
  const w = new DaemonWorld('fuzz')
  const daemon = await w.start()
  const client = w.client()
  await client.create('t')
  await client.create('kept')
  await client.produce('kept', batchOf(['precious']))
  return { w, daemon }
}

describe.each([
  ['zmq', ZMQ],
  ['kafka', KAFKA],
])('foreign bytes at the %s door', (_door, address) => {
  it('never crash it, and never harm another client', async () => {
    const { w, daemon } = await started()
    const other = w.client(address)
    const seen = { answers: 0, refusals: 0 }
    await fc.assert(
      fc.asyncProperty(fc.array(foreign, { minLength: 1, maxLength: 4 }), async (messages) => {
        const client = w.client(address)
        for (const bytes of messages) client.send(Uint8Array.from(bytes))
        await w.run(200)
        const versions = await other.call('ApiVersions', 0, {})
        expect(versions.errorCode).toBe(0)
        seen.answers += client.answered.length
        seen.refusals += client.notices.length + (client.isClosed ? 1 : 0)
        client.link.close()
        await w.run(20)
        expect(daemon.requests).toBe(0)
      }),
      { numRuns: RUNS, examples: [[[negativeId, new Uint8Array()]]] },
    )
    // Both outcomes are common, or the messages do not get far enough to mean anything.
    expect(seen.answers).toBeGreaterThan(RUNS / 10)
    expect(seen.refusals).toBeGreaterThan(RUNS / 10)
    const kept = await other.fetch('kept')
    expect(recordsOf(kept.records).map((record) => record.value)).toEqual(['precious'])
    expect(daemon.state).toBe('RUNNING')
    expect(w.said.filter((line) => line.startsWith('error'))).toEqual([])
  })

  it('a message cut at every length is refused', async () => {
    const { w, daemon } = await started()
    for (const seed of seeds) {
      for (let length = 0; length < Math.min(seed.length, 120); length += 1) {
        const client = w.client(address)
        client.send(seed.slice(0, length))
        await w.run(2)
        client.link.close()
      }
    }
    await w.run(200)
    expect(daemon.requests).toBe(0)
    expect(w.said.filter((line) => line.startsWith('error'))).toEqual([])
  })
})
