/**
 * Where the runs of links happen (link-run.ts): a source of one daemon, a target cluster of three with its own store, what kills,
 * stops and cuts them off, and what is compared.
 */
import { isStreamError } from '../../src/base/errors.ts'
import { Admin } from '../../src/client/admin.ts'
import { LinkAdmin } from '../../src/client/link-admin.ts'
import { SimBroker } from './sim-broker.ts'
import { type ClientWorld, type SimClient, simClient } from './sim-clients.ts'
import { SimNetwork } from './sim-net.ts'
import type { SimRandom } from './sim-random.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimWorld } from './sim-world.ts'

export const TOPIC = 'lines'
export const PARTITIONS = 2
/** At the source it is not synced before it is acknowledged: a power cut takes its end, and others take those offsets. */
export const LOOSE = 'loose'
export const LINK = 'west'
export const HEAL_MS = 600_000
/** Leader epoch of a batch: outside of its checksum, and each log's own. */
const EPOCH_AT = 12
const EPOCH_END = 16

export class LinkWorld {
  readonly world: SimWorld
  readonly network: SimNetwork
  readonly source: SimBroker
  readonly targets: readonly SimBroker[]
  kills = 0
  #clientCount = 0

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
        ['offsets.topic.num.partitions', '1'],
      ]),
    })
    this.source = new SimBroker(shared(), 1)
    const target = shared()
    this.targets = [2, 3, 4].map((nodeId) => new SimBroker(target, nodeId))
  }

  get all(): readonly SimBroker[] {
    return [this.source, ...this.targets]
  }

  clients(brokers: readonly SimBroker[], name: string, topic = TOPIC): ClientWorld {
    const { world, network } = this
    const random = world.random.fork(`clients ${name}`)
    return { world, network, random, addresses: brokers.map(({ address }) => address), topic }
  }

  /** A client of its own for what `use` does, through whatever happens meanwhile to brokers. */
  async as<T>(
    brokers: readonly SimBroker[],
    use: (client: SimClient & { readonly admin: Admin; readonly links: LinkAdmin }) => Promise<T>,
  ): Promise<T> {
    for (;;) {
      this.#clientCount += 1
      const name = `client${this.#clientCount}`
      const client = simClient(this.clients(brokers, name), name)
      const { cluster, time, random } = client
      try {
        await cluster.connect()
        const admin = new Admin(time, random, cluster)
        return await use({ ...client, admin, links: new LinkAdmin(cluster) })
      } catch (error) {
        const isPassing =
          isStreamError(error) &&
          (error.retriable || /TIMED_OUT|UNREACHABLE|BROKER/.test(error.code))
        if (!isPassing) throw error
        await this.pause(500)
      } finally {
        cluster.close()
      }
    }
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.world.schedule(ms, 'pause', resolve)
    })
  }

  leader(brokers: readonly SimBroker[], partition: number, topic = TOPIC) {
    for (const { daemon } of brokers) {
      const found = daemon?.broker.table.find(topic, partition)
      if (found !== undefined && found.notServing === undefined) return found
    }
    return undefined
  }

  async until(isSo: () => boolean, what: string): Promise<void> {
    const deadlineMs = this.world.now + HEAL_MS
    while (!isSo()) {
      if (this.world.now > deadlineMs) throw new Error(`not within ${HEAL_MS} ms: ${what}`)
      await this.world.run({ untilMs: this.world.now + 200 })
    }
  }

  /** Kills, stops and cuts off, until all steps are done or `isOver` says so; all of them are up again behind it. */
  async trouble(
    chaos: SimRandom,
    options: {
      readonly steps: number
      readonly victims: () => readonly SimBroker[]
      readonly isOver: () => boolean
      readonly each?: () => Promise<void>
    },
  ): Promise<void> {
    const { world, network } = this
    for (let step = 0; step < options.steps && !options.isOver(); step += 1) {
      await world.run({ untilMs: world.now + chaos.between(200, 4000) })
      await options.each?.()
      const victim = chaos.pick([...options.victims()])
      if (this.all.some(({ daemon }) => daemon === undefined)) continue
      const kind = chaos.pick(['process', 'process', 'power', 'power', 'pause', 'cut'])
      if (kind === 'pause') {
        const goOn = victim.pause(chaos.pick(['process', 'machine']))
        await world.run({ untilMs: world.now + chaos.between(50, 8000) })
        goOn(chaos.pick(['arrival', 'timers', 'messages']))
      } else if (kind === 'cut') {
        for (const { host } of this.all) {
          if (host !== victim.host && chaos.chance(0.7)) network.blockBoth(victim.host, host)
        }
        await world.run({ untilMs: world.now + chaos.between(50, 8000) })
        network.heal()
      } else {
        victim.kill(kind === 'power' ? 'power' : 'process')
        this.kills += 1
        await world.run({ untilMs: world.now + chaos.between(50, 5000) })
        victim.start()
      }
    }
    await this.until(() => this.all.every(({ daemon }) => daemon !== undefined), 'all are up')
  }

  /** Both sides have the same bytes from the same start to `endOffset`, leader epochs aside. */
  async compare(
    left: readonly SimBroker[],
    right: readonly SimBroker[],
    partition: number,
    endOffset?: number,
  ): Promise<void> {
    const [a, b] = [this.leader(left, partition), this.leader(right, partition)]
    if (a === undefined || b === undefined) throw new Error(`partition ${partition} is not led`)
    const start = Math.max(a.log.logStartOffset, b.log.logStartOffset)
    const end = endOffset ?? Math.max(a.lastStableOffset, b.lastStableOffset)
    const [theirs, ours] = [await this.bytesOf(a, start, end), await this.bytesOf(b, start, end)]
    if (Buffer.compare(theirs, ours) === 0) return
    throw new Error(
      `partition ${partition}: ${ours.length} bytes are not the source's ${theirs.length}`,
    )
  }

  /** With the leader epochs blanked. */
  async bytesOf(
    { log }: { readonly log: NonNullable<ReturnType<LinkWorld['leader']>>['log'] },
    start: number,
    end: number,
    keepsEpochs = false,
  ): Promise<Buffer> {
    const parts: Buffer[] = []
    const endOffset = Math.min(end, log.logEndOffset)
    for (let offset = start; offset < endOffset; ) {
      const slice = await this.world.settle(log.read({ offset, endOffset, maxBytes: 1 << 20 }))
      const bytes = Buffer.concat(slice.bytes.map((part) => Buffer.from(part)))
      for (let at = 0; at < bytes.length; at += 12 + bytes.readInt32BE(at + 8)) {
        if (!keepsEpochs) bytes.fill(0, at + EPOCH_AT, at + EPOCH_END)
      }
      parts.push(bytes)
      offset = slice.nextOffset
    }
    return Buffer.concat(parts)
  }

  /** All replicas of the target have the same log, to the leader epochs. */
  async compareReplicas(partition: number): Promise<void> {
    const logs = () =>
      this.targets.flatMap(({ daemon }) => {
        const found = daemon?.broker.table.find(TOPIC, partition)
        return found === undefined ? [] : [found]
      })
    const isEven = (): boolean => {
      const ends = new Set(logs().map(({ log }) => log.logEndOffset))
      return logs().length === this.targets.length && ends.size === 1
    }
    await this.until(isEven, `the replicas of partition ${partition} are even`)
    const [first, ...others] = logs()
    if (first === undefined) return
    const start = Math.max(...logs().map(({ log }) => log.logStartOffset))
    const bytes = await this.bytesOf(first, start, first.log.logEndOffset, true)
    for (const other of others) {
      const theirs = await this.bytesOf(other, start, other.log.logEndOffset, true)
      if (Buffer.compare(bytes, theirs) !== 0) {
        throw new Error(`partition ${partition}: the replicas of the target are not the same`)
      }
    }
  }

  /** The store knows from which leader epoch of the source each batch came. */
  checkEpochs(partition: number): void {
    const ours = this.leader(this.targets, partition)
    const theirs = this.leader([this.source], partition)
    const links = this.targets.find(({ daemon }) => daemon !== undefined)?.daemon?.broker.image
      .links
    if (ours === undefined || theirs === undefined || links === undefined) return
    const epochs = links.mirrored(ours.topicId, partition)?.value.epochs ?? []
    const { logStartOffset, logEndOffset } = ours.log
    for (let offset = logStartOffset; offset < logEndOffset; offset += 1) {
      const known = epochs.findLast(({ startOffset }) => startOffset <= offset)?.epoch
      const real = theirs.log.epochAt(offset)
      if (known === real) continue
      throw new Error(`offset ${offset} is of epoch ${real} at the source, and of ${known} here`)
    }
  }
}
