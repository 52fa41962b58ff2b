import { describe, expect, it } from 'vitest'
import { endpointOf } from '../../../daemon/doors/daemon.ts'
import { kafkaRules } from '../../../daemon/doors/kafka.ts'
import { zmqRules } from '../../../daemon/doors/zmq.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { batchOf, type ReadRecord, recordsOf } from '../batches.ts'
import { type Client, DaemonWorld, KAFKA } from '../daemon-world.ts'

/** One answer need not hold everything: reads until the high watermark. */
async function readAll(client: Client, topic = 't'): Promise<ReadRecord[]> {
  const all: ReadRecord[] = []
  for (let offset = 0; ; ) {
    const { records, highWatermark } = await client.fetch(topic, { offset })
    const found = recordsOf(records).filter((record) => record.offset >= offset)
    all.push(...found)
    offset = (all.at(-1)?.offset ?? -1) + 1
    if (offset >= highWatermark) return all
    expect(found.length, `records below ${highWatermark} from ${offset}`).toBeGreaterThan(0)
  }
}

async function values(client: Client, topic = 't'): Promise<(string | null)[]> {
  return (await readAll(client, topic)).map((record) => record.value)
}

async function started(seed: number | string = 1) {
  const w = new DaemonWorld(seed)
  const daemon = await w.start()
  const client = w.client()
  await client.create('t')
  return { w, daemon, client }
}

async function leaderEpoch(client: Client): Promise<number> {
  const answer = await client.call('Metadata', 12, { topics: [{ name: 't' }] })
  return answer.topics[0]!.partitions[0]!.leaderEpoch
}

describe('starts and ends', () => {
  it('a clean end keeps everything; the next start needs no recovery, its leader epochs are higher', async () => {
    const { w, daemon, client } = await started()
    await client.produce('t', batchOf(['a', 'b']))
    expect(await leaderEpoch(client)).toBe(0)
    const before = daemon.broker.dataEpoch
    await w.stop(daemon)
    const again = await w.start()
    const after = w.client()
    expect(await values(after)).toEqual(['a', 'b'])
    expect(await leaderEpoch(after)).toBe(1)
    expect(again.broker.dataEpoch).toBe(before)
    expect(again.broker.table.find('t', 0)?.log.recovery.clean).toBe(true)
  })

  it('a crash keeps what was acknowledged, and the data epoch', async () => {
    for (let seed = 0; seed < 20; seed += 1) {
      const { w, daemon, client } = await started(`crash ${seed}`)
      const acknowledged: string[] = []
      const sending: Promise<void>[] = []
      for (let at = 0; at < 30; at += 1) {
        const sent = client.beginProduce('t', batchOf([`${at}`]))
        sending.push(
          sent.then(
            (answer) => {
              if (answer.responses[0]?.partitionResponses[0]?.errorCode === 0) {
                acknowledged.push(`${at}`)
              }
            },
            () => undefined,
          ),
        )
      }
      await w.run(w.world.random.between(0, 20))
      const epoch = daemon.broker.dataEpoch
      const after = await w.crashAndRestart()
      const found = await values(after.client)
      expect(found.slice(0, acknowledged.length)).toEqual(acknowledged)
      // In order, without holes.
      expect(found).toEqual(Array.from({ length: found.length }, (_, at) => `${at}`))
      expect(after.daemon.broker.dataEpoch).toBe(epoch)
      expect(await leaderEpoch(after.client)).toBe(1)
    }
  })

  it('leader epochs rise at every start, and only there', async () => {
    const { w } = await started()
    for (let start = 1; start <= 4; start += 1) {
      const { client } = await w.crashAndRestart()
      expect(await leaderEpoch(client)).toBe(start)
      await client.produce('t', batchOf(['x']))
      expect(await leaderEpoch(client)).toBe(start)
    }
  })

  it('where the store takes 128 operations at once, all partitions are elected piece by piece', async () => {
    const w = new DaemonWorld()
    await w.start({ operationsMax: 128 })
    await w.client().create('many', { partitions: 300 })
    const { daemon, client } = await w.crashAndRestart({ operationsMax: 128 })
    const { image } = daemon.broker
    const records = [...image.partitions(image.topic('many')!.topicId).values()]
    expect(records).toHaveLength(300)
    for (const { value } of records) {
      expect(value).toMatchObject({ leader: 1, leaderEpoch: 2, uncleanEpoch: 0 })
      expect(value.leaderIncarnation).toBe(daemon.broker.incarnation)
    }
    const { errorCode } = await client.produce('many', batchOf(['x']), { partition: 299 })
    expect(errorCode).toBe(0)
  })

  it('a crash in the middle of a start does no harm', async () => {
    for (let seed = 0; seed < 25; seed += 1) {
      const { w, client } = await started(`start ${seed}`)
      await client.produce('t', batchOf(['kept']))
      await w.crash()
      w.disk.crashAtOperation = w.disk.operations + Math.floor(w.world.random.between(0, 40))
      const starting = w.start()
      starting.catch(() => undefined)
      await w.run(w.world.random.between(0, 30)).catch(() => undefined)
      const after = await w.crashAndRestart()
      expect(await values(after.client)).toEqual(['kept'])
      expect((await after.client.produce('t', batchOf(['more']))).errorCode).toBe(0)
    }
  })

  it('P8 a second daemon on the same data refuses', async () => {
    const { w } = await started()
    await expect(w.start({ listen: ['tcp://daemon:7001'] })).rejects.toMatchObject({
      code: 'DIRECTORY_LOCKED',
    })
  })

  it('a port in use ends the start, and lets go of the directory', async () => {
    const w = new DaemonWorld()
    await expect(w.start({ listen: [KAFKA, KAFKA] })).rejects.toMatchObject({
      code: 'ADDRESS_IN_USE',
    })
    const daemon = await w.start()
    expect(daemon.state).toBe('RUNNING')
  })

  it('a config that is none ends the start before anything is touched', async () => {
    const w = new DaemonWorld()
    await expect(w.start({ texts: { 'num.partitions': 'many' } })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    })
    expect(w.disk.list('/data')).toEqual([])
  })

  it('a stop lets work end and answers what only waits', async () => {
    const { w, daemon, client } = await started()
    const producing = client.beginProduce('t', batchOf(['last']))
    const fetching = client.beginFetch('t', { offset: 1, maxWaitMs: 60_000 })
    fetching.catch(() => undefined)
    await w.run(1)
    await w.stop(daemon)
    const [produced] = await Promise.allSettled([producing])
    expect(produced).toMatchObject({ status: 'fulfilled' })
    await w.start()
    expect(await values(w.client())).toEqual(['last'])
  })

  it('a topic whose log is gone starts empty and says so: lossy, in a new data epoch', async () => {
    const { w, daemon, client } = await started()
    await client.produce('t', batchOf(['lost']))
    await w.stop(daemon)
    w.disk.removeTree('/data/t-0')
    const again = await w.start()
    expect(again.broker.dataEpoch).toBeGreaterThan(daemon.broker.dataEpoch)
    expect(await values(w.client())).toEqual([])
    expect(w.said.some((line) => line.startsWith('error') && line.includes('t-0'))).toBe(true)
    const record = again.broker.image.partition(again.broker.image.topic('t')!.topicId, 0)
    expect(record?.value.uncleanEpoch).toBe(record?.value.leaderEpoch)
    expect(record?.value.recovering).toBe(false)
  })

  it('--restored: nothing in the data counts as acknowledged, so the data epoch rises', async () => {
    const { w, daemon } = await started()
    await w.stop(daemon)
    const again = await w.start({ restored: true })
    expect(again.broker.dataEpoch).toBeGreaterThan(daemon.broker.dataEpoch)
  })

  it('--restored: a log of a topic that the old metadata do not know makes way for one of its name', async () => {
    const { w, daemon, client } = await started()
    const old = w.stores.image.copy()
    // One is made since, the other made anew.
    await client.create('u')
    const ids = ['t', 'u'].map((topic) => daemon.broker.image.topic(topic)?.topicId ?? '')
    await client.produce('u', batchOf(['kept']))
    await client.call('DeleteTopics', 5, { topicNames: ['t'], timeoutMs: 1000 })
    await client.create('t')
    const anew = daemon.broker.image.topic('t')?.topicId ?? ''
    await w.stop(daemon)
    w.stores.restore(old)
    const again = await w.start({ restored: true })
    const after = w.client()
    expect(again.broker.image.topic('t')?.topicId).toBe(ids[0])
    expect((await after.produce('t', batchOf(['new']))).errorCode).toBe(0)
    expect(w.said.filter((line) => line.includes('left alone'))).toHaveLength(1)
    expect((await after.create('u')).errorCode).toBe(0)
    expect((await after.produce('u', batchOf(['new']))).errorCode).toBe(0)
    expect(await values(after, 'u')).toEqual(['new'])
    const strays = again.broker.directory.strays().map(({ topicId }) => topicId)
    expect(strays).toEqual([anew, ids[1]])
    const said = w.said.filter((line) => line.includes('was set aside'))
    expect(said).toHaveLength(2)
    expect(said[1]).toContain(ids[1])
    expect(said[1]).toContain(again.broker.image.topic('u')?.topicId)
  })
})

describe('trouble with the disk', () => {
  it('D2 after a failed sync nothing is acknowledged, everything is refused with 56, visibly', async () => {
    const { w, daemon, client } = await started()
    await client.produce('t', batchOf(['good']))
    w.disk.failsSync = (path) => path.endsWith('.log')
    const { errorCode } = await client.produce('t', batchOf(['bad']))
    expect(errorCode).toBe(KafkaError.KAFKA_STORAGE_ERROR)
    w.disk.failsSync = () => false
    // Syncs would work again: a failed one is never tried again.
    expect((await client.produce('t', batchOf(['worse']))).errorCode).toBe(56)
    expect((await client.fetch('t')).errorCode).toBe(56)
    expect((await client.produce('t', batchOf(['old']), { version: 3 })).errorCode).toBe(6)
    const status = await client.call('DaemonStatus', 0, {})
    expect(status.state).toBe('FAILED')
    expect(w.said.some((line) => line.startsWith('error'))).toBe(true)
    const epoch = daemon.broker.dataEpoch
    await w.stop(daemon).catch(() => undefined)
    const after = await w.crashAndRestart({}, 'process')
    expect((await values(after.client))[0]).toBe('good')
    expect(after.daemon.broker.dataEpoch).toBeGreaterThan(epoch)
  })

  it('D1 a full disk refuses produce with a retriable error, serves reads, and recovers by itself', async () => {
    const { w, client } = await started()
    await client.produce('t', batchOf(['kept']))
    const total = w.disk.totalBytes
    w.disk.totalBytes = 20
    let refused = 0
    for (let at = 0; at < 5; at += 1) {
      refused = (await client.produce('t', batchOf(['x'.repeat(1000)]))).errorCode
      await w.run(2000)
    }
    expect(refused).toBe(KafkaError.KAFKA_STORAGE_ERROR)
    expect(await values(client)).toEqual(['kept'])
    expect((await client.call('DaemonStatus', 0, {})).state).toBe('DISK_FULL')
    w.disk.totalBytes = total
    await w.run(10_000)
    expect((await client.produce('t', batchOf(['again']))).errorCode).toBe(0)
    expect(await values(client)).toEqual(['kept', 'again'])
  })
})

describe('background work', () => {
  it('a byte that flips where nobody reads is found; the status tells, the rest is served', async () => {
    const w = new DaemonWorld()
    await w.start({ texts: { 'stream.scrub.interval.ms': '5000' } })
    const client = w.client()
    const config = { 'internal.segment.bytes': '2000' }
    await client.create('t', { config })
    for (let at = 0; at < 20; at += 1) await client.produce('t', batchOf(['x'.repeat(400)]))
    expect(await client.call('DaemonStatus', 1, {})).toMatchObject({
      damagedRanges: 0,
      scrubbedMs: -1,
      scrubPercent: -1,
    })
    w.disk.flipBit('/data/t-0/00000000000000000000.log', 700, 2)
    await w.run(6000)
    const status = await client.call('DaemonStatus', 1, {})
    expect(status).toMatchObject({ damagedRanges: 1, scrubPercent: -1, state: 'RUNNING' })
    expect(status.scrubbedMs).toBeGreaterThan(0)
    expect(w.said.some((line) => line.startsWith('error damaged bytes in a log'))).toBe(true)
    // Until now the batch may still be answered from memory.
    const after = await w.crashAndRestart({}, 'process')
    const { CORRUPT_MESSAGE } = KafkaError
    expect((await after.client.fetch('t', { offset: 1 })).errorCode).toBe(CORRUPT_MESSAGE)
    expect((await after.client.fetch('t', { offset: 2 })).errorCode).toBe(0)
  })

  it('retention deletes old segments, and readers are told where the log begins now', async () => {
    const w = new DaemonWorld()
    await w.start({ texts: { 'log.retention.check.interval.ms': '1000' } })
    const client = w.client()
    const config = { 'internal.segment.bytes': '1000', 'retention.bytes': '2000' }
    await client.create('t', { config })
    for (let at = 0; at < 20; at += 1) await client.produce('t', batchOf(['x'.repeat(400)]))
    await w.run(5000)
    const { logStartOffset, errorCode } = await client.fetch('t', { offset: 0 })
    expect(errorCode).toBe(KafkaError.OFFSET_OUT_OF_RANGE)
    expect(logStartOffset).toBeGreaterThan(5)
    expect((await client.fetch('t', { offset: logStartOffset })).errorCode).toBe(0)
  })

  it('compaction keeps the last value of each key', async () => {
    const w = new DaemonWorld()
    await w.start({ texts: { 'log.retention.check.interval.ms': '1000' } })
    const client = w.client()
    const config = { 'internal.segment.bytes': '1000', 'cleanup.policy': 'compact' }
    await client.create('t', { config: { ...config, 'min.cleanable.dirty.ratio': '0.01' } })
    for (let at = 0; at < 30; at += 1) {
      await client.produce('t', batchOf([{ key: `k${at % 3}`, value: `${at}`.padEnd(200) }]))
    }
    await w.run(30_000)
    // Until now the old batches may still be answered from memory.
    const after = await w.crashAndRestart()
    const found = await readAll(after.client)
    expect(found.length).toBeLessThan(15)
    const last = new Map(found.map((record) => [record.key, record.value?.trim()]))
    expect(last).toEqual(
      new Map([
        ['k0', '27'],
        ['k1', '28'],
        ['k2', '29'],
      ]),
    )
  })
})

describe('endpointOf', () => {
  it('gives Kafka clients host and port, ours the whole endpoint', () => {
    expect(endpointOf('kafka://127.0.0.1:9092', kafkaRules, 'me')).toEqual({
      host: '127.0.0.1',
      port: 9092,
    })
    expect(endpointOf('kafka://0.0.0.0:9092', kafkaRules, 'me')).toEqual({ host: 'me', port: 9092 })
    expect(endpointOf('kafka://[::1]:9', kafkaRules, 'me')).toEqual({ host: '::1', port: 9 })
    expect(endpointOf('ipc:///run/x.sock', zmqRules, 'me')).toEqual({
      host: 'ipc:///run/x.sock',
      port: 0,
    })
    expect(endpointOf('tcp://[::]:7', zmqRules, 'me')).toEqual({ host: 'tcp://me:7', port: 0 })
  })
})
