/**
 * A link in a simulated run: a source of one daemon, a target cluster of three with its own store, producers at the source; all
 * of them die and come back, links are lost, and at the end the target's logs are the source's, byte for byte but for the leader
 * epoch. Then the link is promoted.
 */
import { Admin } from '../../src/client/admin.ts'
import { LinkAdmin } from '../../src/client/link-admin.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import { SimBroker } from './sim-broker.ts'
import { type ClientWorld, produceLines, type Sent, simClient } from './sim-clients.ts'
import { SimNetwork } from './sim-net.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimWorld } from './sim-world.ts'

const TOPIC = 'lines'
const PARTITIONS = 2
const HEAL_MS = 600_000
/** Leader epoch of a batch: outside of its checksum, and each log's own. */
const EPOCH_AT = 12
const EPOCH_END = 16

export interface LinkRunResult {
  readonly trace: string
  readonly failure: string | undefined
  readonly kills: number
  readonly records: number
}

export async function runLink(seed: number): Promise<LinkRunResult> {
  const run = new LinkSimulation(seed)
  let failure: string | undefined
  try {
    await run.play()
  } catch (error) {
    failure = `seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`
  }
  const { world, kills, sent } = run
  return { trace: world.traceHash, failure, kills, records: sent.length }
}

class LinkSimulation {
  readonly world: SimWorld
  readonly network: SimNetwork
  readonly source: SimBroker
  readonly targets: readonly SimBroker[]
  readonly sent: Sent[] = []
  kills = 0

  constructor(seed: number) {
    this.world = new SimWorld(seed)
    this.network = new SimNetwork(this.world)
    const shared = () => ({
      world: this.world,
      network: this.network,
      stores: new SimStoreServer(this.world, { leases: 'time' }),
      config: new Map([
        ['broker.session.timeout.ms', '3000'],
        ['log.dir.reserve.bytes', '0'],
        ['transaction.state.log.num.partitions', '1'],
      ]),
    })
    this.source = new SimBroker(shared(), 1)
    const target = shared()
    this.targets = [2, 3, 4].map((nodeId) => new SimBroker(target, nodeId))
  }

  async play(): Promise<void> {
    const { world } = this
    for (const broker of this.#all) broker.start()
    await this.#until(() => this.#all.every(({ daemon }) => daemon !== undefined), 'all are up')
    await world.settle(this.#prepare())
    const producing = Promise.all(
      ['p1', 'p2'].map((name) =>
        produceLines(this.#clients(this.source, name), name, this.sent, {
          records: 1000,
          partitions: PARTITIONS,
        }),
      ),
    )
    let isOver = false
    producing.then(
      () => {
        isOver = true
      },
      () => {
        isOver = true
      },
    )
    const { random } = world
    const chaos = random.fork('chaos')
    this.network.faults.loseLink = chaos.pick([0, 0.002, 0.01])
    this.network.faults.duplicate = chaos.pick([0, 0.002])
    this.network.faults.spike = chaos.pick([0, 0.01])
    for (let step = 0; step < 14 && !isOver; step += 1) {
      await world.run({ untilMs: world.now + chaos.between(200, 4000) })
      const victims = chaos.chance(0.4) ? [this.source] : this.targets
      const victim = chaos.pick([...victims])
      if (victim.daemon === undefined || this.#all.some(({ daemon }) => daemon === undefined))
        continue
      victim.kill(chaos.pick(['process', 'power']))
      this.kills += 1
      await world.run({ untilMs: world.now + chaos.between(50, 5000) })
      victim.start()
    }
    Object.assign(this.network.faults, { loseLink: 0, duplicate: 0, spike: 0 })
    this.network.heal()
    await this.#until(() => isOver, 'the producers are done')
    await producing
    await world.settle(this.#overlap())
    await this.#until(() => this.#isLevel(), 'the target has all of the source')
    for (let partition = 0; partition < PARTITIONS; partition += 1) await this.#compare(partition)
    const mirrored = this.#leader(this.targets, 0)?.log.logEndOffset ?? -1
    await world.settle(this.#promote())
    this.#checkPromoted(mirrored)
  }

  /**
   * Two transactions at the source: the first is committed behind the begin of the second, which stays open. So records of the
   * first are below the last stable offset, and its marker is not.
   */
  async #overlap(): Promise<void> {
    const { cluster, time, random } = simClient(this.#clients(this.source, 'txn'), 'txn')
    await cluster.connect()
    const begun: TransactionalProducer[] = []
    for (const transactionalId of ['first', 'second']) {
      const options = { transactionalId, timeoutMs: 900_000 }
      const producer = new TransactionalProducer(time, random, cluster, options)
      await producer.init()
      const sink = await producer.begin()
      await sink.prepare(TOPIC)
      const line = Buffer.from(`${transactionalId}\n`)
      sink.appendLines(TOPIC, 0, line, 0, line.length)
      await sink.flush()
      begun.push(producer)
    }
    await begun[0]?.commit()
    cluster.close()
  }

  /** What was open is aborted behind what was mirrored; nothing is unstable any more, and clients may write. */
  #checkPromoted(mirrored: number): void {
    const source = this.#leader([this.source], 0)
    const target = this.#leader(this.targets, 0)
    if (source === undefined || target === undefined) throw new Error('partition 0 is not led')
    if (source.lastStableOffset !== mirrored || source.highWatermark <= mirrored) {
      throw new Error(`the source is stable to ${source.lastStableOffset}, mirrored is ${mirrored}`)
    }
    const { log, lastStableOffset } = target
    if (log.logEndOffset !== mirrored + 1 || lastStableOffset !== log.logEndOffset) {
      throw new Error(
        `promoted at ${mirrored}: stable to ${lastStableOffset}, end ${log.logEndOffset}`,
      )
    }
    const aborted = log.abortedTransactions(0, log.logEndOffset)
    if (aborted.length !== 1) throw new Error(`${aborted.length} aborted transactions`)
  }

  get #all(): readonly SimBroker[] {
    return [this.source, ...this.targets]
  }

  #clients(broker: SimBroker, name: string): ClientWorld {
    const { world, network } = this
    const random = world.random.fork(`clients ${name}`)
    return { world, network, random, addresses: [broker.address], topic: TOPIC }
  }

  async #prepare(): Promise<void> {
    const { cluster, time, random } = simClient(this.#clients(this.source, 'admin'), 'admin')
    await cluster.connect()
    const admin = new Admin(time, random, cluster)
    await admin.createTopics([{ name: TOPIC, partitions: PARTITIONS }])
    cluster.close()
    const target = simClient(this.#clients(this.#anyTarget, 'linker'), 'linker')
    await target.cluster.connect()
    const links = new LinkAdmin(target.cluster)
    await links.create(
      {
        name: 'west',
        source: [this.source.address],
        topics: ['*'],
        syncConfigs: true,
        syncGroups: false,
        rate: undefined,
      },
      60_000,
    )
    target.cluster.close()
  }

  get #anyTarget(): SimBroker {
    return this.targets[0] as SimBroker
  }

  #leader(brokers: readonly SimBroker[], partition: number) {
    for (const { daemon } of brokers) {
      const found = daemon?.broker.table.find(TOPIC, partition)
      if (found !== undefined && found.notServing === undefined) return found
    }
    return undefined
  }

  #isLevel(): boolean {
    for (let partition = 0; partition < PARTITIONS; partition += 1) {
      const source = this.#leader([this.source], partition)
      const target = this.#leader(this.targets, partition)
      if (source === undefined || target === undefined) return false
      if (target.highWatermark !== source.lastStableOffset) return false
    }
    return true
  }

  async #compare(partition: number): Promise<void> {
    const theirs = await this.#batches([this.source], partition)
    const ours = await this.#batches(this.targets, partition)
    if (Buffer.compare(theirs, ours) !== 0) {
      throw new Error(
        `partition ${partition}: ${ours.length} bytes are not the source's ${theirs.length}`,
      )
    }
  }

  /** All batches, of the source those below its last stable offset, with the leader epoch blanked. */
  async #batches(brokers: readonly SimBroker[], partition: number): Promise<Buffer> {
    const found = this.#leader(brokers, partition)
    if (found === undefined) throw new Error(`partition ${partition} is not led`)
    const { log } = found
    const endOffset = brokers.includes(this.source) ? found.lastStableOffset : log.logEndOffset
    const parts: Buffer[] = []
    for (let offset = log.logStartOffset; offset < endOffset; ) {
      const slice = await this.world.settle(log.read({ offset, endOffset, maxBytes: 1 << 20 }))
      const bytes = Buffer.concat(slice.bytes.map((part) => Buffer.from(part)))
      for (let at = 0; at < bytes.length; at += 12 + bytes.readInt32BE(at + 8)) {
        bytes.fill(0, at + EPOCH_AT, at + EPOCH_END)
      }
      parts.push(bytes)
      offset = slice.nextOffset
    }
    return Buffer.concat(parts)
  }

  async #promote(): Promise<void> {
    const { cluster, time } = simClient(this.#clients(this.#anyTarget, 'promoter'), 'promoter')
    await cluster.connect()
    const links = new LinkAdmin(cluster)
    await links.alter('west', 'promote', undefined)
    for (;;) {
      const link = await links.describeOne('west')
      const rows = link.topics.flatMap(({ partitions }) => partitions)
      if (rows.length === PARTITIONS && rows.every(({ state }) => state === 'promoted')) break
      await new Promise<void>((resolve) => {
        time.setTimer(500, resolve)
      })
    }
    cluster.close()
  }

  async #until(isSo: () => boolean, what: string): Promise<void> {
    const deadlineMs = this.world.now + HEAL_MS
    while (!isSo()) {
      if (this.world.now > deadlineMs) throw new Error(`not within ${HEAL_MS} ms: ${what}`)
      await this.world.run({ untilMs: this.world.now + 200 })
    }
  }
}
