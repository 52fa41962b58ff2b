/** The move of a single daemon's metadata into a cluster's store, broken off at every step. */
import { describe, expect, it } from 'vitest'
import {
  CLEAN_NAME,
  META_NAME,
  parseCleanShutdown,
  parseMeta,
} from '../../../daemon/log/directory-files.ts'
import { clusterNameKey } from '../../../daemon/metadata/cluster-name.ts'
import { MetadataKeys } from '../../../daemon/metadata/metadata-keys.ts'
import { decodePartition, decodeTopic } from '../../../daemon/metadata/metadata-values.ts'
import { readMovedMark } from '../../../daemon/metadata/moved-home.ts'
import { SessionFile } from '../../../daemon/metadata/session-file.ts'
import { adoptDirectory } from '../../../daemon/offline/adopt.ts'
import type { Disk } from '../../../src/ports/disk.ts'
import type { MetadataStore } from '../../../src/ports/metadata-store.ts'
import { SimStoreServer } from '../../sim/sim-store.ts'
import { DaemonWorld } from '../daemon-world.ts'

const DATA = '/data'

class BrokenOff extends Error {}

/** Counts what changes something, and breaks off at one of them, before or after its effect. */
class Breaker {
  #left: number
  readonly #hasEffect: boolean

  constructor(at: number, hasEffect: boolean) {
    this.#left = at
    this.#hasEffect = hasEffect
  }

  #isDue(): boolean {
    this.#left -= 1
    return this.#left === -1
  }

  store(store: MetadataStore): MetadataStore {
    return Object.create(store, {
      txn: {
        value: async (txn: Parameters<MetadataStore['txn']>[0]) => {
          const isDue = this.#isDue()
          if (isDue && !this.#hasEffect) throw new BrokenOff()
          const result = await store.txn(txn)
          if (isDue) throw new BrokenOff()
          return result
        },
      },
      get: { value: (key: string) => store.get(key) },
      list: { value: (prefix: string) => store.list(prefix) },
      close: { value: () => store.close() },
    }) as MetadataStore
  }

  disk(disk: Disk): Disk {
    return Object.create(disk, {
      rename: {
        value: (from: string, to: string) => {
          const isDue = this.#isDue()
          if (isDue && !this.#hasEffect) throw new BrokenOff()
          disk.rename(from, to)
          if (isDue) throw new BrokenOff()
        },
      },
      readFile: { value: (path: string) => disk.readFile(path) },
      open: { value: (...words: Parameters<Disk['open']>) => disk.open(...words) },
      unlink: { value: (path: string) => disk.unlink(path) },
      stat: { value: (path: string) => disk.stat(path) },
      lock: { value: (path: string) => disk.lock(path) },
      syncDirectory: { value: (path: string) => disk.syncDirectory(path) },
    }) as Disk
  }
}

class Bench {
  readonly world = new DaemonWorld(1)
  readonly etcd = new SimStoreServer(this.world.world, { leases: 'time' })

  /** A single daemon with a topic that has come and gone, one that stays, and an end. */
  async filled(options: { isClean?: boolean } = {}): Promise<this> {
    const { world } = this
    const daemon = await world.start()
    const client = world.client()
    await client.create('orders', { partitions: 3, config: { 'retention.ms': '60000' } })
    if (options.isClean === false) await world.crash()
    else await world.stop(daemon)
    // The embedded home lies in the directory.
    world.disk.makeDirectory(`${DATA}/metadata`)
    return this
  }

  adopt(cluster = 'default', breaker?: Breaker, isDryRun = false) {
    const { world } = this
    const connected = this.etcd.connect()
    return world.settle(
      adoptDirectory(
        {
          time: world.time,
          random: world.world.random.fork('adopt'),
          disk: breaker?.disk(world.disk) ?? world.disk,
          openHome: async () => world.stores.connect(),
          openCluster: async () => breaker?.store(connected) ?? connected,
        },
        { dataDirectory: DATA, cluster, isDryRun },
      ),
    )
  }

  get meta() {
    return parseMeta(META_NAME, this.world.disk.readFile(`${DATA}/${META_NAME}`)!)
  }

  /** What a daemon that joins will find is whole. */
  expectWhole(cluster = 'default'): void {
    const { disk } = this.world
    const { clusterId, nodeId } = this.meta
    const keys = new MetadataKeys(clusterId)
    const get = (key: string) => this.etcd.image.get(key)
    expect(Buffer.from(get(clusterNameKey(cluster))!.value).toString()).toBe(clusterId)
    expect(get(keys.meta())).toBeDefined()
    const dataEpoch = get(keys.data(nodeId))!.modRevision
    const topic = decodeTopic('', get(keys.topic('orders'))!.value)
    expect(topic).toMatchObject({ partitions: 3, config: { 'retention.ms': '60000' } })
    for (const partition of [0, 1, 2]) {
      const part = decodePartition('', get(keys.partition(topic.topicId, partition))!.value)
      expect(part.inSyncReplicas).toEqual([{ broker: nodeId, dataEpoch }])
    }
    expect(get(keys.live(nodeId))).toBeUndefined()
    expect(get(keys.controller())).toBeUndefined()
    const session = new SessionFile(disk, DATA).read()
    expect(session).toMatchObject({ kind: 'found', record: { dataEpoch } })
    expect(parseCleanShutdown(disk.readFile(`${DATA}/${CLEAN_NAME}`)!)?.dataEpoch).toBe(dataEpoch)
    expect(readMovedMark(disk, DATA)).toMatchObject({ cluster, state: 'moved' })
  }
}

describe('adopt', () => {
  it('copies what stays, with the data epoch of the new home', async () => {
    const bench = await new Bench().filled()
    const summary = await bench.adopt()
    expect(summary).toMatchObject({ nodeId: 1, topics: 1, partitions: 3 })
    bench.expectWhole()
  })

  it('a look changes nothing', async () => {
    const bench = await new Bench().filled()
    await bench.adopt('default', undefined, true)
    expect(bench.etcd.image.revision).toBe(0)
    expect(readMovedMark(bench.world.disk, DATA)).toBeUndefined()
    await bench.world.stop(await bench.world.start())
  })

  it('is done once: neither the directory, nor the name, nor a copy of the directory is taken again', async () => {
    const bench = await new Bench().filled()
    const { disk } = bench.world
    const before = new Map(
      disk.list(DATA).map((name) => [name, disk.readFile(`${DATA}/${name}`)] as const),
    )
    await bench.adopt()
    await expect(bench.adopt()).rejects.toMatchObject({ code: 'CONFLICT' })
    await expect(bench.adopt('other')).rejects.toMatchObject({ code: 'CONFLICT' })
    // The copy: as it was before.
    disk.unlink(`${DATA}/stream-moved`)
    const clean = disk.open(`${DATA}/${CLEAN_NAME}`, 'write')
    clean.truncate(0)
    clean.write(0, [before.get(CLEAN_NAME)!])
    clean.close()
    for (const name of ['stream-session.a', 'stream-session.b']) disk.unlink(`${DATA}/${name}`)
    for (const name of ['stream-session.a', 'stream-session.b']) {
      const bytes = before.get(name)
      if (bytes === undefined) continue
      const file = disk.open(`${DATA}/${name}`, 'write')
      file.write(0, [bytes])
      file.close()
    }
    await expect(bench.adopt()).rejects.toMatchObject({ code: 'CONFLICT' })
    await expect(bench.adopt('other')).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  it('refuses a directory whose daemon runs, or has not ended cleanly, or none', async () => {
    const running = new Bench()
    const daemon = await running.world.start()
    running.world.disk.makeDirectory(`${DATA}/metadata`)
    await expect(running.adopt()).rejects.toMatchObject({ code: 'DIRECTORY_LOCKED' })
    await running.world.stop(daemon)
    const crashed = await new Bench().filled({ isClean: false })
    await expect(crashed.adopt()).rejects.toMatchObject({ code: 'CONFLICT' })
    await expect(new Bench().adopt()).rejects.toMatchObject({ code: 'DATA_DIRECTORY_INVALID' })
  })

  it('no single daemon opens the directory afterwards', async () => {
    const bench = await new Bench().filled()
    await bench.adopt()
    await expect(bench.world.start()).rejects.toMatchObject({ code: 'DATA_DIRECTORY_INVALID' })
  })

  for (const hasEffect of [false, true]) {
    it(`broken off ${hasEffect ? 'behind' : 'before'} any step it is ended by another run`, async () => {
      let steps = 0
      for (; ; steps += 1) {
        const bench = await new Bench().filled()
        const broken = await bench.adopt('default', new Breaker(steps, hasEffect)).then(
          () => false,
          (error: unknown) => {
            if (!(error instanceof BrokenOff)) throw error
            return true
          },
        )
        if (!broken) break
        const mark = readMovedMark(bench.world.disk, DATA)
        if (mark !== undefined) {
          await expect(bench.world.start()).rejects.toMatchObject({
            code: 'DATA_DIRECTORY_INVALID',
          })
        }
        if (mark?.state === 'moving') {
          await expect(bench.adopt('other')).rejects.toMatchObject({ code: 'CONFLICT' })
        }
        if (mark?.state !== 'moved') await bench.adopt()
        bench.expectWhole()
      }
      // The mark, data epoch, entries, name; session, marker, mark.
      expect(steps).toBeGreaterThanOrEqual(7)
    })
  }
})
