/**
 * A link in a simulated run: producers, transactions, trims and a group at a source of one daemon, a target cluster of three. All
 * of them die, stand still, are cut off and come back. In the end the target's logs are the source's, byte for byte but for the
 * leader epoch, and start where they start; the group is never ahead of its records. Then the link is promoted under load, the
 * source follows the target, and at last the target the source again: what either has more is cut, on all replicas.
 */
import { isStreamError } from '../../src/base/errors.ts'
import { GroupLink } from '../../src/client/group-link.ts'
import { commitGroupOffsets, fetchGroupOffsets } from '../../src/client/group-offsets.ts'
import { TransactionalProducer } from '../../src/client/transactional-producer.ts'
import { pointsOf, promote, wayBack } from './link-ways.ts'
import { HEAL_MS, LINK, LinkWorld, LOOSE, PARTITIONS, TOPIC } from './link-world.ts'
import { produceLines, type Sent, simClient } from './sim-clients.ts'
import type { SimRandom } from './sim-random.ts'

const GROUP = 'readers'

export interface LinkRunResult {
  readonly trace: string
  readonly failure: string | undefined
  readonly kills: number
  readonly records: number
  /** Of leaders that had aborted what was open at a promotion, and had not said yet that it is over. */
  readonly killsBetween: number
}

export async function runLink(seed: number): Promise<LinkRunResult> {
  const run = new LinkSimulation(seed)
  let failure: string | undefined
  try {
    await run.play()
  } catch (error) {
    failure = `seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`
  }
  const { at, sent, killsBetween } = run
  const { kills, world } = at
  return { trace: world.traceHash, failure, kills, records: sent.length, killsBetween }
}

class LinkSimulation {
  readonly at: LinkWorld
  readonly sent: Sent[] = []
  killsBetween = 0
  readonly #chaos: SimRandom
  #isOver = false
  #beside: Promise<unknown>[] = []
  /** Of transactions at the source when the link is promoted. */
  readonly #isChain: boolean

  constructor(seed: number) {
    this.at = new LinkWorld(seed)
    this.#chaos = this.at.world.random.fork('chaos')
    this.#isChain = this.at.world.random.fork('chain').chance(0.5)
  }

  async play(): Promise<void> {
    const { at } = this
    for (const broker of at.all) broker.start()
    await at.until(() => at.all.every(({ daemon }) => daemon !== undefined), 'all are up')
    await at.world.settle(this.#prepare())
    await this.#mirrorUnderFaults()
    await this.#checkMirror()
    await this.#promoteUnderLoad()
    await wayBack(at, this.#chaos, [at.source], at.targets)
    await at.world.settle(promote(at, [at.source]))
    await wayBack(at, this.#chaos, at.targets, [at.source])
    for (let partition = 0; partition < PARTITIONS; partition += 1) {
      await at.compareReplicas(partition)
    }
  }

  async #prepare(): Promise<void> {
    const { at } = this
    await at.as([at.source], async ({ admin }) => {
      const configs = { 'flush.messages': '1000000', 'flush.ms': '3600000' }
      await admin.createTopics([
        { name: TOPIC, partitions: PARTITIONS },
        { name: LOOSE, partitions: 1, configs },
      ])
    })
    const rate = this.#chaos.pick([
      undefined,
      undefined,
      { kind: 'bytes', perSecond: 5000 } as const,
    ])
    await at.as(at.targets, async ({ links }) => {
      const order = { name: LINK, source: [at.source.address], topics: ['*'] }
      const sync = { syncConfigs: true, syncGroups: true }
      await links.create({ ...order, ...sync, rate }, 60_000)
    })
  }

  async #mirrorUnderFaults(): Promise<void> {
    const { at } = this
    const chaos = this.#chaos
    const producing = Promise.all(
      ['p1', 'p2'].map((name) =>
        produceLines(at.clients([at.source], name), name, this.sent, {
          records: 1000,
          partitions: PARTITIONS,
        }),
      ),
    )
    const over = (): void => {
      this.#isOver = true
    }
    producing.then(over, over)
    this.#beside = [this.#writeLoose(), this.#commitOffsets()]
    const { faults } = at.network
    faults.loseLink = chaos.pick([0, 0.002, 0.01])
    faults.duplicate = chaos.pick([0, 0.002])
    faults.spike = chaos.pick([0, 0.01])
    await at.trouble(chaos, {
      steps: 14,
      victims: () => (chaos.chance(0.4) ? [at.source] : at.targets),
      isOver: () => this.#isOver,
      each: async () => {
        this.#checkStable()
        await at.world.settle(this.#checkGroup())
        if (chaos.chance(0.15)) await at.world.settle(this.#trim())
      },
    })
    Object.assign(faults, { loseLink: 0, duplicate: 0, spike: 0 })
    at.network.heal()
    await at.until(() => this.#isOver, 'the producers are done')
    await producing
    for (const beside of this.#beside) await at.world.settle(beside)
  }

  /** In small pieces, each by a producer of its own: a power cut takes what was acknowledged. */
  async #writeLoose(): Promise<void> {
    const { at } = this
    for (let round = 0; !this.#isOver; round += 1) {
      const name = `loose${round}`
      const clients = at.clients([at.source], name, LOOSE)
      const options = { records: 20, partitions: 1, producer: { deliveryTimeoutMs: 10_000 } }
      await produceLines(clients, name, [], options).catch((error: unknown) => {
        if (!isStreamError(error)) throw error
      })
      await at.pause(1000)
    }
  }

  /** A group of the source that reads on. */
  async #commitOffsets(): Promise<void> {
    const { at } = this
    while (!this.#isOver) {
      await at.as([at.source], async ({ admin, cluster, time, random }) => {
        const questions = Array.from({ length: PARTITIONS }, (_, partition) => ({
          topic: TOPIC,
          partition,
          at: 'latest' as const,
        }))
        const ends = await admin.listOffsets(questions)
        await commitGroupOffsets(
          new GroupLink(time, random, cluster, GROUP),
          ends.map(({ topic, partition, offset }) => ({ topic, partition, offset })),
        )
      })
      await at.pause(1500)
    }
  }

  async #trim(): Promise<void> {
    const { at } = this
    const partition = this.#chaos.integer(PARTITIONS)
    const found = at.leader([at.source], partition)
    const beforeOffset = Math.floor((found?.highWatermark ?? 0) * 0.8)
    if (found === undefined || beforeOffset <= found.log.logStartOffset) return
    await at.as([at.source], ({ admin }) =>
      admin.deleteRecords([{ topic: TOPIC, partition, beforeOffset }]),
    )
  }

  /** Nothing is here that is not decided at the source. */
  #checkStable(): void {
    const { at } = this
    for (let partition = 0; partition < PARTITIONS; partition += 1) {
      const theirs = at.leader([at.source], partition)
      const ours = at.leader(at.targets, partition)
      // One that has just begun to lead does not know yet how far it had come.
      if (theirs === undefined || ours === undefined) continue
      const end = theirs.log.lastStableOffset(theirs.log.logEndOffset)
      if (ours.log.logEndOffset <= end) continue
      throw new Error(
        `partition ${partition}: mirrored to ${ours.log.logEndOffset}, stable at the source to ${end}`,
      )
    }
  }

  async #checkGroup(): Promise<void> {
    const { at } = this
    if (at.targets.some(({ daemon }) => daemon === undefined)) return
    const offsets = await at
      .as(at.targets, ({ cluster, time, random }) =>
        fetchGroupOffsets(new GroupLink(time, random, cluster, GROUP), undefined),
      )
      .catch((error: unknown) => {
        if (!isStreamError(error)) throw error
        return []
      })
    for (const { topic, partition, offset } of offsets) {
      const ours = at.leader(at.targets, partition, topic)
      if (ours === undefined || ours.log.logEndOffset >= offset) continue
      throw new Error(
        `the group is at ${offset} of partition ${partition}, mirrored is ${ours.log.logEndOffset}`,
      )
    }
  }

  async #checkMirror(): Promise<void> {
    const { at } = this
    await at.world.settle(this.#overlap())
    const isLevel = (): boolean => {
      this.#checkStable()
      return this.#parts((partition) => {
        const source = at.leader([at.source], partition)
        const target = at.leader(at.targets, partition)
        if (source === undefined || target === undefined) return false
        return (
          target.highWatermark === source.lastStableOffset &&
          target.log.logStartOffset >= source.log.logStartOffset
        )
      })
    }
    await at.until(isLevel, 'the target has all of the source, and starts where it starts')
    for (let partition = 0; partition < PARTITIONS; partition += 1) {
      await at.compare([at.source], at.targets, partition)
      at.checkEpochs(partition)
    }
    await this.#checkLoose()
    await at.world.settle(this.#checkGroup())
  }

  #parts(isSo: (partition: number) => boolean): boolean {
    return Array.from({ length: PARTITIONS }, (_, index) => index).every(isSo)
  }

  /** What the source lost, and gave to others, is either not here or said to be different. */
  async #checkLoose(): Promise<void> {
    const { at } = this
    const look = async () => {
      const link = await at.as(at.targets, ({ links }) => links.describeOne(LINK))
      return link.topics.find(({ name }) => name === LOOSE)?.partitions[0]
    }
    const source = at.leader([at.source], 0, LOOSE)
    const deadlineMs = at.world.now + HEAL_MS
    for (;;) {
      const target = at.leader(at.targets, 0, LOOSE)
      if (source === undefined || target === undefined) throw new Error(`${LOOSE} is not led`)
      const end = source.lastStableOffset
      const shown = await at.world.settle(look())
      if (shown?.state === 'diverged') return
      // A leader that has just begun cannot know before it has heard of the source.
      if (target.highWatermark === end && (shown?.heardMs ?? -1) >= 0) {
        const theirs = await at.bytesOf(source, source.log.logStartOffset, end)
        if (Buffer.compare(theirs, await at.bytesOf(target, 0, end)) === 0) return
        throw new Error(`${LOOSE} is not what the source has, and nobody says so`)
      }
      if (at.world.now > deadlineMs) throw new Error(`${LOOSE} is neither level nor diverged`)
      await at.world.run({ untilMs: at.world.now + 1000 })
    }
  }

  /**
   * Transactions at the source that overlap: each but the last is committed behind the begin of the next one, and the last stays
   * open. So records of the last but one are below the last stable offset, and its marker is not; in a chain the marker of the one
   * before lies between the two.
   */
  async #overlap(): Promise<void> {
    const { at } = this
    const { cluster, time, random } = simClient(at.clients([at.source], 'txn'), 'txn')
    await cluster.connect()
    let before: TransactionalProducer | undefined
    for (const transactionalId of ['first', 'second', ...(this.#isChain ? ['third'] : [])]) {
      const options = { transactionalId, timeoutMs: 900_000 }
      const producer = new TransactionalProducer(time, random, cluster, options)
      await producer.init()
      const sink = await producer.begin()
      await sink.prepare(TOPIC)
      const line = Buffer.from(`${transactionalId}\n`)
      sink.appendLines(TOPIC, 0, line, 0, line.length)
      await sink.flush()
      await before?.commit()
      before = producer
    }
    cluster.close()
  }

  /** Readers of a mirror see whole transactions, whatever they ask for: what lies beyond is cut when it is promoted. */
  async #checkShown(whole: number): Promise<void> {
    const { at } = this
    const question = { topic: TOPIC, partition: 0, at: 'latest' } as const
    const isolation = 'read_uncommitted' as const
    const [shown] = await at.world.settle(
      at.as(at.targets, ({ admin }) => admin.listOffsets([question], { isolation })),
    )
    if (shown?.offset === whole) return
    throw new Error(`readers are shown ${shown?.offset}, whole are ${whole}`)
  }

  /** What was shown of a mirror is shown of what has become of it, and of transactions all or nothing. */
  async #checkChain(): Promise<void> {
    const { at } = this
    const ours = at.leader(at.targets, 0)
    if (ours === undefined) throw new Error('partition 0 is not led')
    const aborted = ours.log.abortedTransactions(0, ours.log.logEndOffset)
    const end = ours.log.logEndOffset
    if (aborted.length === 1 && aborted[0]?.lastOffset === end - 1) return
    throw new Error(`aborted are ${JSON.stringify(aborted)}, where the log ends at ${end}`)
  }

  /** While records come at the source, and brokers of the target die. What is cut was shown to nobody; what is left is whole. */
  async #promoteUnderLoad(): Promise<void> {
    const { at } = this
    const chaos = this.#chaos
    const mirrored = at.leader(at.targets, 0)?.log.logEndOffset ?? -1
    await this.#checkShown(mirrored - (this.#isChain ? 2 : 1))
    let isOver = false
    const loading = produceLines(at.clients([at.source], 'late'), 'late', this.sent, {
      records: 200,
      partitions: PARTITIONS,
    })
    await at.world.run({ untilMs: at.world.now + chaos.between(10, 3000) })
    const promoting = promote(at, at.targets).finally(() => {
      isOver = true
    })
    if (this.#isChain) await this.#killBetween(mirrored, () => isOver)
    await at.trouble(chaos, { steps: 4, victims: () => at.targets, isOver: () => isOver })
    await at.world.settle(promoting)
    await at.world.settle(loading)
    const points = await at.world.settle(pointsOf(at, at.targets))
    for (const [partition, point] of points.cutAt.entries()) {
      const ours = at.leader(at.targets, partition)
      if (ours === undefined) throw new Error(`partition ${partition} is not led`)
      await at.until(() => ours.lastStableOffset === ours.log.logEndOffset, 'all of it is stable')
      // In the chain a transaction has ended behind the begin of one that has not: that one is aborted.
      const aborted = this.#isChain && partition === 0 ? 1 : 0
      if (ours.log.logEndOffset !== point + aborted) {
        throw new Error(`promoted at ${point}, and there are records to ${ours.log.logEndOffset}`)
      }
      await at.compare([at.source], at.targets, partition, point)
    }
    // Else the record of the transaction whose marker has not come goes.
    const whole = this.#isChain ? mirrored : mirrored - 1
    if (points.cutAt[0] !== whole) {
      throw new Error(`promoted at ${points.cutAt[0]}, whole are ${whole}`)
    }
    if (this.#isChain) await at.world.settle(this.#checkChain())
    await at.compareReplicas(0)
  }

  /** The leader dies when it has aborted what was open, or when all replicas know it, and the partition's record says promoted of neither. */
  async #killBetween(point: number, isOver: () => boolean): Promise<void> {
    const { at } = this
    const random = at.world.random.fork('between')
    if (random.chance(0.3)) return
    const isCommitted = random.chance(0.5)
    const isPower = random.chance(0.5)
    const hasAborted = (): boolean => {
      const ours = at.leader(at.targets, 0)
      if (ours === undefined) return false
      return (isCommitted ? ours.highWatermark : ours.log.logEndOffset) > point
    }
    await at.world.run({
      until: () => isOver() || hasAborted(),
      untilMs: at.world.now + HEAL_MS,
    })
    const topicId = at.leader(at.targets, 0)?.topicId
    const victim = at.targets.find((broker) => at.leader([broker], 0) !== undefined)
    if (victim === undefined || topicId === undefined || isOver()) return
    const record = victim.daemon?.broker.image.links.mirrored(topicId, 0)?.value
    if (record?.state === 'FENCED') this.killsBetween += 1
    victim.kill(isPower ? 'power' : 'process')
    at.kills += 1
    await at.world.run({ untilMs: at.world.now + random.between(50, 5000) })
    victim.start()
  }
}
