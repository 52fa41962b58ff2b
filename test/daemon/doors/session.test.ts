import { describe, expect, it } from 'vitest'
import { listedRanges } from '../../../daemon/apis/listed-ranges.ts'
import { ParkedFetches } from '../../../daemon/apis/parked-fetches.ts'
import { GroupCoordinator } from '../../../daemon/coordinator/group-coordinator.ts'
import { TransactionCoordinator } from '../../../daemon/coordinator/transaction-coordinator.ts'
import { Admission } from '../../../daemon/doors/admission.ts'
import { Complaints } from '../../../daemon/doors/complaints.ts'
import type { Daemon } from '../../../daemon/doors/daemon.ts'
import type { DoorOptions } from '../../../daemon/doors/door.ts'
import { kafkaRules } from '../../../daemon/doors/kafka.ts'
import { Session } from '../../../daemon/doors/session.ts'
import { zmqRules } from '../../../daemon/doors/zmq.ts'
import { LinkService } from '../../../daemon/links/link-service.ts'
import { StreamError } from '../../../src/base/errors.ts'
import type { DiskSpace } from '../../../src/ports/disk.ts'
import type { Net } from '../../../src/ports/net.ts'
import type { ApiName, RequestInput } from '../../../src/protocol/api-table.ts'
import { encodeRequest } from '../../../src/protocol/codec.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { batchOf } from '../batches.ts'
import { DaemonWorld, fetchBody, KAFKA, ZMQ } from '../daemon-world.ts'
import { MemoryLink } from './memory-link.ts'

function message<A extends ApiName>(
  api: A,
  version: number,
  correlationId: number,
  body: RequestInput<A>,
): Uint8Array {
  return Buffer.concat(encodeRequest(api, version, { correlationId, clientId: 'c' }, body))
}

const fetchAt = (correlationId: number, maxWaitMs: number) =>
  message('Fetch', 12, correlationId, fetchBody('t', { maxWaitMs }))
const versionsAt = (correlationId: number) => message('ApiVersions', 0, correlationId, {})
const produceAt = (correlationId: number) =>
  message('Produce', 9, correlationId, {
    acks: -1,
    timeoutMs: 1000,
    topicData: [{ name: 't', partitionData: [{ index: 0, records: batchOf(['x']) }] }],
  })

interface Bounds {
  readonly requestsMax?: number
  readonly queuedBytesMax?: number
  readonly admissionRequestsMax?: number
  readonly allQueuedBytesMax?: number
  readonly space?: () => DiskSpace
}

const NO_NET = {} as Net

function open(daemon: Daemon, door: 'zmq' | 'kafka', bounds: Bounds = {}) {
  const rules = door === 'kafka' ? kafkaRules : zmqRules
  const { broker } = daemon
  const admission = new Admission(
    broker.time,
    {
      requestsMax: bounds.admissionRequestsMax ?? 500,
      requestBytesMax: 1 << 27,
      queuedBytesMax: bounds.allQueuedBytesMax ?? 1 << 27,
    },
    undefined,
  )
  const options: DoorOptions = {
    services: {
      broker,
      phase: 'A',
      parkedFetches: new ParkedFetches(100),
      groups: new GroupCoordinator(broker),
      transactions: new TransactionCoordinator(broker),
      links: new LinkService(broker, NO_NET, new GroupCoordinator(broker)),
      peers: undefined,
      host: {
        pid: 1,
        version: '0',
        addresses: () => [],
        residentBytes: () => 0,
        space: bounds.space ?? (() => ({ freeBytes: 0, totalBytes: 0 })),
        requestStop: () => undefined,
      },
    },
    endpoint: () => ({ host: 'h', port: 1 }),
    admission,
    complaints: new Complaints(broker.log),
    log: broker.log,
    listed: new Map(listedRanges(door, 'A').map((range) => [range.apiKey, range])),
    queuedBytesMax: bounds.queuedBytesMax ?? 1 << 20,
    requestsMax: bounds.requestsMax ?? 100,
  }
  const link = new MemoryLink(door === 'kafka')
  const session = new Session(link, rules, options)
  return { link, session, admission, send: (bytes: Uint8Array) => session.onMessage([bytes]) }
}

async function started() {
  const w = new DaemonWorld()
  const daemon = await w.start()
  await w.client().create('t')
  return { w, daemon }
}

describe('the Kafka door', () => {
  it('answers strictly in the order of the requests, whatever ends first', async () => {
    const { w, daemon } = await started()
    const { link, send } = open(daemon, 'kafka')
    send(produceAt(1))
    send(produceAt(2))
    send(versionsAt(3))
    expect(link.answered).toEqual([])
    await w.run(100)
    expect(link.answered).toEqual([1, 2, 3])
  })

  it('starts the next request while a Produce waits for its sync', async () => {
    const { w, daemon } = await started()
    const { send } = open(daemon, 'kafka')
    const { log } = daemon.broker.table.find('t', 0)!
    send(produceAt(1))
    send(produceAt(2))
    expect(log.logEndOffset).toBe(2)
    await w.run(100)
  })

  it('a parked fetch holds back what follows it', async () => {
    const { w, daemon } = await started()
    const { link, send } = open(daemon, 'kafka')
    const { log } = daemon.broker.table.find('t', 0)!
    send(fetchAt(1, 500))
    send(produceAt(2))
    expect(log.logEndOffset).toBe(0)
    await w.run(1000)
    expect(link.answered).toEqual([1, 2])
  })

  it('closes on an unreadable request, an unknown key, an unknown version; and says so once', async () => {
    const { daemon } = await started()
    const unknownKey = Buffer.from(versionsAt(1))
    unknownKey.writeInt16BE(999, 0)
    const unknownVersion = Buffer.from(message('Metadata', 1, 1, { topics: null }))
    unknownVersion.writeInt16BE(99, 2)
    for (const bytes of [
      Buffer.alloc(3),
      unknownKey,
      unknownVersion,
      message('DescribeClientQuotas', 0, 1, { components: [], strict: false }),
    ]) {
      for (let round = 0; round < 2; round += 1) {
        const { link, send, session } = open(daemon, 'kafka')
        send(bytes)
        expect(link.isClosed).toBe(true)
        send(versionsAt(2))
        expect(link.sent).toEqual([])
        session.onClose()
      }
    }
  })

  it('a daemon says only once what a client asks for in vain', async () => {
    const { w } = await started()
    const before = w.said.length
    for (let round = 0; round < 3; round += 1) {
      const client = w.client(KAFKA)
      void client.begin('DescribeClientQuotas', 0, { components: [], strict: false })
      await w.run(50)
      expect(client.isClosed).toBe(true)
    }
    const complaints = w.said.slice(before).filter((line) => line.includes('not served'))
    expect(complaints).toHaveLength(1)
    expect(complaints[0]).toContain('API 48 version 0')
  })
})

describe('the ZeroMQ door', () => {
  it('answers as things end: a parked fetch blocks nothing', async () => {
    const { w, daemon } = await started()
    const { link, send } = open(daemon, 'zmq')
    send(fetchAt(1, 500))
    send(versionsAt(2))
    expect(link.answered).toEqual([2])
    await w.run(1000)
    expect(link.answered).toEqual([2, 1])
  })

  it('sends a notice where the other door would close, and goes on', async () => {
    const { daemon } = await started()
    const { link, send } = open(daemon, 'zmq')
    const bad = Buffer.from(message('Metadata', 1, 77, { topics: null }))
    bad.writeInt16BE(99, 2)
    send(bad)
    send(Buffer.from([1]))
    send(versionsAt(3))
    expect(link.isClosed).toBe(false)
    const ids = link.sent.slice(0, 2).map((each) => {
      const bytes = Buffer.from(each)
      return [bytes.readInt32BE(0), bytes.readInt16BE(4), bytes.readInt32BE(6)]
    })
    expect(ids).toEqual([
      [-1, KafkaError.UNSUPPORTED_VERSION, 77],
      [-1, KafkaError.INVALID_REQUEST, -1],
    ])
    expect(link.answered[2]).toBe(3)
  })

  it('says of the disk why a request failed, and nothing of a fault of its own', async () => {
    const { daemon } = await started()
    const reasons = [
      [
        new StreamError('DISK_FAILED', 'cannot look at /data: ENOENT'),
        /cannot look at .data: ENOENT/,
      ],
      [new TypeError('x is undefined'), /internal error/],
    ] as const
    for (const [error, said] of reasons) {
      const space = (): never => {
        throw error
      }
      const { link, send } = open(daemon, 'zmq', { space })
      send(message('DescribeLogDirs', 1, 5, { topics: null }))
      const notice = Buffer.from(link.sent[0] ?? [])
      expect([notice.readInt32BE(0), notice.readInt32BE(6)]).toEqual([-1, 5])
      expect(notice.toString('latin1')).toMatch(said)
    }
  })

  it('refuses a negative correlation id, whose answer would look like a notice', async () => {
    const { daemon } = await started()
    const { link, send } = open(daemon, 'zmq')
    send(versionsAt(-1))
    expect(Buffer.from(link.sent[0]!).readInt16BE(4)).toBe(KafkaError.INVALID_REQUEST)
    const kafka = open(daemon, 'kafka')
    kafka.send(versionsAt(-1))
    expect(kafka.link.answered).toEqual([-1])
  })

  it('takes a message in any number of frames', async () => {
    const { w, daemon } = await started()
    const { link, session } = open(daemon, 'zmq')
    const bytes = produceAt(5)
    session.onMessage(Array.from(bytes, (_, at) => bytes.subarray(at, at + 1)))
    await w.run(100)
    expect(link.answered).toEqual([5])
  })
})

describe('bounds', () => {
  it('a client that does not take its answers gets no more work done until it does', async () => {
    const { daemon } = await started()
    const { link, session, send } = open(daemon, 'zmq', { queuedBytesMax: 2 << 20 })
    link.queuedBytes = (2 << 20) + 1
    for (let id = 0; id < 5; id += 1) send(versionsAt(id))
    expect(link.sent).toEqual([])
    link.queuedBytes = 0
    session.onDrain()
    expect(link.answered).toEqual([0, 1, 2, 3, 4])
  })

  it('and is refused when too many of its requests wait', async () => {
    const { daemon } = await started()
    for (const door of ['zmq', 'kafka'] as const) {
      const bounds = { queuedBytesMax: 2 << 20, requestsMax: 10 }
      const { link, send, admission } = open(daemon, door, bounds)
      link.queuedBytes = (2 << 20) + 1
      for (let id = 0; id < 11; id += 1) send(versionsAt(id))
      if (door === 'kafka') expect(link.isClosed).toBe(true)
      else expect(link.answered).toEqual([-1])
      expect(admission.requests).toBe(0)
    }
  })

  it('while others leave too much untaken, answers get small, and wait for who has some already', async () => {
    const { w, daemon } = await started()
    const client = w.client()
    for (let at = 0; at < 4; at += 1) {
      await client.produce('t', batchOf(['x'.repeat(900_000)]))
    }
    const { link, session, send } = open(daemon, 'zmq', { allQueuedBytesMax: 1 << 20 })
    const fetchAll = (id: number) =>
      message('Fetch', 12, id, fetchBody('t', { partitionMaxBytes: 1 << 24 }))
    link.queuedBytes = 100_000
    send(fetchAt(1, 0))
    send(fetchAll(2))
    await w.run(100)
    expect(link.answered).toEqual([1, 2])
    // One batch, where four would have fit the request.
    expect(link.sent[1]!.length).toBeLessThan(1_000_000)
    link.queuedBytes = (1 << 20) + 1
    send(fetchAll(3))
    await w.run(100)
    expect(link.sent).toHaveLength(2)
    link.queuedBytes = 0
    session.onDrain()
    await w.run(100)
    expect(link.answered).toEqual([1, 2, 3])
  })

  it('too much work pauses all listeners, and resumes when half is done', async () => {
    const { w, daemon } = await started()
    const { send, admission } = open(daemon, 'zmq', { admissionRequestsMax: 4 })
    const valve = { state: 'open', pause: () => {}, resume: () => {} }
    valve.pause = () => {
      valve.state = 'paused'
    }
    valve.resume = () => {
      valve.state = 'open'
    }
    admission.add(valve)
    for (let id = 0; id < 3; id += 1) send(produceAt(id))
    expect(valve.state).toBe('open')
    send(produceAt(3))
    expect(valve.state).toBe('paused')
    await w.run(100)
    expect(valve.state).toBe('open')
    expect(admission.requests).toBe(0)
  })

  it('fetches that wait for records do not count as work', async () => {
    const { daemon } = await started()
    const { send, admission } = open(daemon, 'zmq', { admissionRequestsMax: 4 })
    for (let id = 0; id < 20; id += 1) send(fetchAt(id, 60_000))
    expect(admission.requests).toBe(0)
    expect(admission.isPaused).toBe(false)
  })

  it('a connection that ends leaves nothing in the books', async () => {
    const { w, daemon } = await started()
    for (const door of ['zmq', 'kafka'] as const) {
      const { send, session, admission, link } = open(daemon, door)
      send(produceAt(1))
      send(fetchAt(2, 60_000))
      send(versionsAt(3))
      session.onClose()
      await w.run(100)
      expect(admission.requests).toBe(0)
      expect(session.isIdle).toBe(true)
      expect(link.answered.every((id) => id === 3)).toBe(true)
    }
  })
})

it('both doors serve the same daemon', async () => {
  const { w } = await started()
  const zmq = w.client(ZMQ)
  const kafka = w.client(KAFKA)
  await kafka.produce('t', batchOf(['over tcp']), { version: 7 })
  expect((await zmq.fetch('t')).highWatermark).toBe(1)
})
