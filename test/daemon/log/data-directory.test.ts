import { describe, expect, it } from 'vitest'
import { defaultLogConfig } from '../../../daemon/log/log-config.ts'
import { isStreamError } from '../../../src/base/errors.ts'
import { append, LOG_PATH, LogWorld, PATH, TOPIC_ID, values } from './log-world.ts'

const OTHER_ID = 'ZzcdefghijklmnopqrstuA'

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'no error',
    (error: unknown) => {
      if (isStreamError(error)) return error.code
      throw error
    },
  )
}

describe('DataDirectory.open', () => {
  it('a new directory gets an identity, and keeps it', async () => {
    const world = new LogWorld()
    const first = await world.open({ nodeId: 7 })
    expect(first).toMatchObject({ isNew: true, nodeId: 7, cleanShutdown: undefined })
    const { clusterId, directoryId } = first
    await world.settle(first.close({ clean: true, dataEpoch: 12 }))
    const second = await world.open()
    expect(second).toMatchObject({ isNew: false, nodeId: 7, clusterId, directoryId })
    expect(second.cleanShutdown).toEqual({ dataEpoch: 12, bootId: 'boot-1' })
    expect(Buffer.from(world.disk.readFile(`${PATH}/meta.properties`) ?? []).toString()).toContain(
      `cluster.id=${clusterId}\nnode.id=7\ndirectory.id=${directoryId}\n`,
    )
  })

  it('refuses another process, another cluster, another node', async () => {
    const world = new LogWorld()
    const first = await world.open({ clusterId: 'one', nodeId: 1 })
    expect(await codeOf(world.open())).toBe('DIRECTORY_LOCKED')
    await world.settle(first.close({ clean: false }))
    expect(await codeOf(world.open({ clusterId: 'two' }))).toBe('DATA_DIRECTORY_INVALID')
    expect(await codeOf(world.open({ nodeId: 2 }))).toBe('DATA_DIRECTORY_INVALID')
    expect(await codeOf(world.open({ clusterId: 'one', nodeId: 1 }))).toBe('no error')
  })

  it('unreadable or missing metadata stops the start, and nothing is made anew', async () => {
    const world = new LogWorld()
    append(await world.log(), ['kept'])
    await world.close()
    const before = world.disk.files().length
    const meta = world.disk.readFile(`${PATH}/meta.properties`) ?? new Uint8Array()
    world.disk.unlink(`${PATH}/meta.properties`)
    expect(await codeOf(world.open())).toBe('DATA_DIRECTORY_INVALID')
    world.disk.open(`${PATH}/meta.properties`, 'write').write(0, [meta.subarray(0, 20)])
    expect(await codeOf(world.open())).toBe('DATA_DIRECTORY_INVALID')
    expect(world.disk.files().length).toBe(before)
  })

  it('the clean marker is gone before anything is appended', async () => {
    const world = new LogWorld()
    await world.log()
    await world.close()
    expect(world.disk.stat(`${PATH}/.kafka_cleanshutdown`)).toBeDefined()
    await world.open()
    world.crash('power')
    expect((await world.open()).cleanShutdown).toBeUndefined()
  })
})

describe('partition logs', () => {
  it('a created log is there after a power cut, whatever the disk keeps of unsynced names', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const world = new LogWorld(seed, { directoryChanges: 'any' })
      await world.log()
      world.crash('power')
      const directory = await world.open()
      expect(directory.partitionsOnDisk()).toEqual([
        {
          topic: 't',
          partition: 0,
          topicId: TOPIC_ID,
          path: LOG_PATH,
          since: 0,
          metadata: 'valid',
        },
      ])
      expect((await world.log()).logEndOffset).toBe(0)
    }
  })

  it('a creation that a crash cut short can be made again (every operation)', async () => {
    const counting = new LogWorld()
    await counting.open()
    const before = counting.disk.operations
    await counting.log()
    const operations = counting.disk.operations - before
    for (let at = 1; at <= operations; at++) {
      for (const kind of ['process', 'power'] as const) {
        const world = new LogWorld(at, { directoryChanges: 'any' })
        await world.open()
        world.disk.crashAtOperation = world.disk.operations + at
        const creating = world.openInside()
        creating.catch(() => undefined)
        await world.world.run({ until: () => world.disk.isDead })
        world.crash(kind)
        const directory = await world.open()
        for (const found of directory.partitionsOnDisk()) {
          if (found.metadata === 'missing') {
            await world.settle(directory.removePartial(found.topic, found.partition))
          }
        }
        const log = await world.log()
        append(log, ['works'])
        await world.settle(log.flush())
        expect(await world.values(log)).toEqual(['works'])
      }
    }
  })

  it('many logs that are synced or closed at one time have few files open', async () => {
    const world = new LogWorld()
    const { disk } = world
    let open = 0
    let openMost = 0
    const opened = disk.open.bind(disk)
    disk.open = (path, mode) => {
      const file = opened(path, mode)
      openMost = Math.max(openMost, ++open)
      const close = file.close.bind(file)
      return Object.assign(file, {
        close: () => {
          open--
          close()
        },
      })
    }
    await world.open({ openFilesMax: 8, syncsMax: 4 })
    const logs = []
    for (let partition = 0; partition < 100; partition++) logs.push(await world.log({}, partition))
    for (const log of logs) append(log, ['one', 'two'])
    openMost = open
    await world.settle(Promise.all(logs.map((log) => log.flush())))
    expect(openMost).toBeLessThan(20)
    for (const log of logs) append(log, ['three'])
    await world.close()
    expect(openMost).toBeLessThan(40)
    for (const partition of [0, 50, 99]) {
      const log = await world.reopened({}, partition)
      expect(await world.values(log)).toEqual(['one', 'two', 'three'])
      await world.close()
    }
  })

  it('another topic with the same name does not get the old records', async () => {
    const world = new LogWorld()
    append(await world.log(), ['old'])
    const directory = world.directory
    const identity = { topic: 't', topicId: OTHER_ID, partition: 0, config: defaultLogConfig }
    if (directory === undefined) throw new Error('open')
    expect(await codeOf(world.settle(directory.createPartitionLog(identity)))).toBe(
      'DATA_DIRECTORY_INVALID',
    )
    await world.settle(
      directory.deletePartitionLog({ topic: 't', topicId: TOPIC_ID, partition: 0 }),
    )
    const log = await world.settle(directory.createPartitionLog(identity))
    expect(log.logEndOffset).toBe(0)
    world.crash('power')
    const again = await world.open()
    expect(
      await codeOf(world.settle(again.openPartitionLog({ ...identity, topicId: TOPIC_ID }))),
    ).toBe('DATA_DIRECTORY_INVALID')
    expect((await world.settle(again.openPartitionLog(identity))).logEndOffset).toBe(0)
  })

  it('a log that goes while a checkpoint is written of it takes nobody else along', async () => {
    for (const how of ['setAside', 'deletePartitionLog'] as const) {
      for (let delayMs = 0; delayMs < 6; delayMs += 0.25) {
        const world = new LogWorld(`${how} ${delayMs}`)
        const [log, other] = [await world.log(), await world.log({}, 1)]
        append(log, values(0, 10))
        await world.settle(log.flush())
        const { directory } = world
        if (directory === undefined) throw new Error('open')
        const checkpoint = directory.writeCheckpoint({ recoveryPoints: true })
        await world.run(delayMs)
        const id = { topic: 't', topicId: TOPIC_ID, partition: 0 }
        await world.settle(Promise.all([checkpoint, directory[how](id)]))
        expect(directory.failure).toBeUndefined()
        append(other, values(0, 10))
        await world.settle(other.flush())
        expect(other.durableOffset).toBe(10)
      }
    }
  })

  it('a deleted log is gone at once, its files later, over a crash too', async () => {
    for (const kind of [undefined, 'process', 'power'] as const) {
      const world = new LogWorld(String(kind))
      const log = await world.log({ fileDeleteDelayMs: 1000 })
      append(log, values(0, 10))
      await world.settle(log.flush())
      const id = { topic: 't', topicId: TOPIC_ID, partition: 0 }
      await world.settle(world.directory?.deletePartitionLog(id) ?? Promise.resolve())
      expect(world.directory?.partitionsOnDisk()).toEqual([])
      expect(world.disk.list(PATH).some((name) => name.endsWith('-delete'))).toBe(true)
      await expect(world.settle(log.read({ offset: 0, maxBytes: 1 }))).rejects.toThrow(/closed/)
      if (kind === undefined) await world.run(2000)
      else {
        world.crash(kind)
        await world.open()
      }
      expect(world.disk.list(PATH).some((name) => name.startsWith('t-0'))).toBe(false)
    }
  })

  it('removePartial refuses what holds data', async () => {
    const world = new LogWorld()
    const log = await world.log()
    append(log, ['x'])
    await world.close()
    const directory = await world.open()
    expect(await codeOf(directory.removePartial('t', 0))).toBe('DATA_DIRECTORY_INVALID')
    world.disk.unlink(`${LOG_PATH}/partition.metadata`)
    expect(directory.partitionsOnDisk()).toMatchObject([{ metadata: 'missing' }])
    expect(await codeOf(directory.removePartial('t', 0))).toBe('DATA_DIRECTORY_INVALID')
    expect(world.disk.stat(`${LOG_PATH}/00000000000000000000.log`)).toBeDefined()
  })

  it('few files stay open, and all logs work (D10)', async () => {
    const world = new LogWorld()
    const directory = await world.open({ openFilesMax: 4 })
    const logs = await Promise.all(
      Array.from({ length: 20 }, (_, partition) => world.log({}, partition)),
    )
    for (let round = 0; round < 3; round++) {
      for (const [index, log] of logs.entries()) append(log, [`${index}.${round}`])
    }
    await world.settle(Promise.all(logs.map((log) => log.flush())))
    await world.settle(directory.close({ clean: true }))
    world.directory = undefined
    await world.open({ openFilesMax: 4 })
    for (let partition = 0; partition < 20; partition++) {
      const log = await world.log({}, partition)
      expect(await world.values(log)).toEqual([0, 1, 2].map((round) => `${partition}.${round}`))
    }
  })

  it('a checkpoint keeps what was said of logs that are not open yet', async () => {
    const world = new LogWorld()
    for (const partition of [0, 1]) {
      const log = await world.log({}, partition)
      append(log, values(0, 5))
      await world.settle(log.flush())
      await world.settle(log.deleteRecordsBefore(3))
    }
    world.crash('power')
    await world.log({}, 0)
    await world.settle(world.directory?.writeCheckpoint() ?? Promise.resolve())
    await world.settle(world.directory?.writeCheckpoint() ?? Promise.resolve())
    world.crash('power')
    expect((await world.log({}, 1)).logStartOffset).toBe(3)
  })

  it('recent batches are bounded over all logs', async () => {
    const world = new LogWorld()
    await world.open({ cacheBytesMax: 20_000 })
    const logs = await Promise.all([0, 1, 2].map((partition) => world.log({}, partition)))
    for (let round = 0; round < 40; round++) {
      for (const log of logs) append(log, ['x'.repeat(500)])
    }
    let held = 0
    for (const log of logs) {
      for (let offset = 0; offset < 40; offset++) {
        if (log.readCached({ offset, maxBytes: 1 }) !== undefined) held++
      }
    }
    expect(held).toBeGreaterThan(10)
    expect(held).toBeLessThan(40)
    for (const log of logs) {
      expect(log.readCached({ offset: 39, maxBytes: 1 })?.nextOffset).toBe(40)
      expect(await world.values(log)).toHaveLength(40)
    }
  })
})

describe('a disk that others have filled to the last byte', () => {
  const BALLAST = `${PATH}/stream-ballast`

  function fill({ disk }: LogWorld): void {
    const file = disk.open('/filler', 'write')
    const { freeBytes } = disk.space(PATH)
    if (freeBytes > 0) file.write(file.sizeBytes(), [new Uint8Array(freeBytes)])
    file.close()
    expect(disk.space(PATH).freeBytes).toBe(0)
  }

  it('the ballast makes room for a start, for deletions and an end; records stay out until others make room', async () => {
    const world = new LogWorld(1, { totalBytes: 8 << 20 })
    const directory = await world.open({ hasBallast: true })
    const log = await world.log({ fileDeleteDelayMs: 0, segmentBytes: 2000 })
    append(log, values(0, 30, 100))
    append(log, values(30, 30, 100))
    await world.settle(log.flush())
    directory.keepReserve()
    const ballastBytes = world.disk.stat(BALLAST)?.sizeBytes ?? 0
    expect(ballastBytes).toBeGreaterThan(200_000)
    fill(world)
    world.crash('process')

    const again = await world.open({ hasBallast: true })
    const found = await world.log({ fileDeleteDelayMs: 0, segmentBytes: 2000 })
    expect(await world.values(found)).toHaveLength(60)
    expect(again.refusesWrites()?.code).toBe('DISK_FULL')
    expect(world.said.filter((line) => line.startsWith('warn the disk is full'))).toHaveLength(1)
    again.keepReserve()
    fill(world)
    found.setHighWatermark(60)
    await world.settle(found.deleteRecordsBefore(30))
    expect(found.logStartOffset).toBe(30)
    await world.close()

    world.disk.unlink('/filler')
    const last = await world.open({ hasBallast: true })
    expect(last.cleanShutdown).toBeDefined()
    expect(await world.values(await world.log())).toHaveLength(30)
    last.keepReserve()
    expect(world.disk.stat(BALLAST)?.sizeBytes).toBe(ballastBytes)
    expect(last.refusesWrites()).toBeUndefined()
  })

  it('without a ballast the record of the boot is written over the old one', async () => {
    const world = new LogWorld()
    await world.log()
    world.disk.totalBytes = world.disk.files().reduce((sum, file) => sum + file.sizeBytes, 0)
    world.crash('process')
    await world.log()
    expect(world.directory?.sameBoot).toBe(true)
    world.crash('process')
    expect((await world.open()).sameBoot).toBe(true)
  })
})
