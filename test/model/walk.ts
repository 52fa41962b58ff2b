/**
 * One random walk: steps chosen with weights that differ from walk to walk, the invariants after each, then everything is healed and
 * the partition must become whole (I15). The same seed gives the same walk.
 */

import { deliver, takeReply, transact } from './delivery.ts'
import { heal } from './heal.ts'
import { checkStep, onRetention } from './invariants.ts'
import { ModelController } from './model-controller.ts'
import {
  advanceHighWatermark,
  appendRecord,
  burnToken,
  proposeExpansion,
  proposeRecovered,
  proposeShrink,
} from './model-leader.ts'
import { crash, drain, register, registerAgain, shutDown, start } from './model-process.ts'
import { sendFetch, takeIn } from './model-replica.ts'
import { type ModelBroker, ModelWorld, STEPS_MAX } from './model-state.ts'
import type { Rules } from './rules.ts'

export interface Size {
  readonly brokers: number
  readonly replicas: number
  readonly minInSync: number
}

export interface WalkOptions extends Size {
  readonly steps: number
}

/** Weights of the steps: in most walks, and in the walks that are rough in this respect. */
const STEPS = {
  produce: [40, 70],
  sync: [130, 40],
  fetch: [80, 40],
  deliver: [260, 120],
  transact: [100, 25],
  reply: [100, 25],
  image: [90, 25],
  control: [60, 80],
  take: [10, 10],
  lag: [6, 20],
  offer: [10, 20],
  again: [8, 16],
  giveUp: [3, 16],
  expire: [2, 8],
  expireDead: [30, 5],
  expireController: [2, 6],
  crash: [2, 8],
  lossyCrash: [0, 5],
  start: [80, 20],
  renew: [15, 8],
  selfFence: [3, 6],
  drain: [0, 3],
  retention: [4, 30],
  minInSync: [0, 3],
  reassign: [0, 5],
} as const satisfies Record<string, readonly [number, number]>

type StepName = keyof typeof STEPS
const STEP_NAMES = Object.keys(STEPS) as StepName[]

export class ModelWalker {
  readonly world: ModelWorld
  readonly #controller: ModelController
  readonly #options: WalkOptions
  readonly #weights = new Int32Array(STEP_NAMES.length)
  #weightSum = 0

  constructor(options: WalkOptions, rules: Rules) {
    if (options.steps > STEPS_MAX) throw new RangeError(`at most ${STEPS_MAX} steps`)
    this.#options = options
    const { brokers, replicas, minInSync } = options
    this.world = new ModelWorld(
      {
        brokers,
        replicas,
        minInSync,
        commitFlush: true,
        uncleanElection: false,
        duplicatePercent: 0,
        lossPercent: 5,
        leaderCompletes: true,
      },
      rules,
    )
    this.#controller = new ModelController(this.world)
  }

  /** @returns the invariant that was violated, or undefined */
  run(seed: number, trace?: string[]): string | undefined {
    const { world } = this
    this.#begin(seed, trace)
    const { steps } = this.#options
    for (world.step = 0; world.step < steps; world.step++) {
      this.#step()
      checkStep(world)
      if (world.violation !== undefined) return world.violation
      if (world.store.isFull) break
    }
    world.trace?.push(`${world.step} everything heals`)
    heal(world, this.#controller)
    return world.violation
  }

  #begin(seed: number, trace: string[] | undefined): void {
    const { world } = this
    const { random, profile } = world
    random.seed(seed)
    world.trace = trace
    profile.commitFlush = !random.chance(20)
    profile.uncleanElection = random.chance(20)
    profile.duplicatePercent = random.below(51)
    profile.leaderCompletes = random.chance(50)
    this.#weightSum = 0
    for (let at = 0; at < STEP_NAMES.length; at++) {
      const [usual, rough] = STEPS[STEP_NAMES[at] as StepName]
      const weight = random.chance(20) ? rough : usual
      this.#weights[at] = weight
      this.#weightSum += weight
    }
    world.reset()
    world.trace?.push(
      `0 ${profile.commitFlush ? 'commit' : 'async'} flush, unclean election ${profile.uncleanElection ? 'on' : 'off'}, ${profile.duplicatePercent} % duplicates`,
    )
    for (let id = 0; id < profile.brokers; id++) {
      takeIn(world, world.broker(id), world.store.revision)
    }
  }

  #step(): void {
    const { world } = this
    const { random, profile, store } = world
    let pick = random.below(this.#weightSum)
    let at = 0
    while (pick >= (this.#weights[at] ?? 0)) {
      pick -= this.#weights[at] ?? 0
      at += 1
    }
    const broker = world.broker(random.below(profile.brokers))
    switch (STEP_NAMES[at]) {
      case 'produce':
        this.#asLeader((leader) => appendRecord(world, leader))
        break
      case 'sync':
        this.#sync()
        break
      case 'fetch':
        this.#fetch()
        break
      case 'deliver':
        if (world.messageCount > 0) deliver(world, random.below(world.messageCount))
        else this.#fetch()
        break
      case 'transact':
        if (world.txns.length > 0) transact(world, random.below(world.txns.length))
        break
      case 'reply':
        if (world.replies.length > 0) takeReply(world, random.below(world.replies.length))
        break
      case 'image':
        this.#moveImage()
        break
      case 'control':
        this.#control()
        break
      case 'take':
        this.#controller.take(broker)
        break
      case 'lag':
        this.#asLeader((leader) => proposeShrink(world, leader, random.below(1 << profile.brokers)))
        break
      case 'offer':
        this.#asLeader((leader) => {
          // A T5 that failed because the session had changed is proposed anew.
          proposeRecovered(world, leader)
          proposeExpansion(world, leader, random.below(profile.brokers))
        })
        break
      case 'again':
        if (broker.isUp && broker.pending !== undefined) world.send(broker.pending)
        break
      case 'giveUp':
        this.#giveUp(broker)
        break
      case 'expire':
        store.endLease(broker.id)
        break
      case 'expireDead':
        this.#expireDead()
        break
      case 'expireController':
        store.endControllerLease()
        break
      case 'crash':
        crash(world, broker, false)
        break
      case 'lossyCrash':
        crash(world, broker, true)
        break
      case 'start':
        this.#start()
        break
      case 'renew':
        registerAgain(world, broker)
        break
      case 'selfFence':
        if (broker.sessionEpoch !== store.liveEpoch(store.revision, broker.id)) {
          broker.isSelfFenced = true
        }
        break
      case 'drain':
        if (random.chance(50)) drain(world, broker)
        else shutDown(world, broker)
        break
      case 'retention':
        this.#asLeader((leader) => {
          const { log } = leader
          const high = Math.min(log.highWatermark, log.end - 1)
          // A high watermark below the epoch's start is not known to be fresh (2.3).
          if (log.highWatermark < leader.epochStart) return
          const start = random.between(log.start, high)
          onRetention(world, leader, start)
          log.start = start
        })
        break
      case 'minInSync':
        world.minInSyncConfig = 1 + random.below(profile.replicas)
        break
      case 'reassign':
        this.#chooseTarget()
        break
      default:
        return
    }
  }

  /** The first broker from a random one on that satisfies `isMeant`. */
  #someone(isMeant: (broker: ModelBroker) => boolean): ModelBroker | undefined {
    const { world } = this
    const { brokers } = world.profile
    const from = world.random.below(brokers)
    for (let at = 0; at < brokers; at++) {
      const broker = world.broker((from + at) % brokers)
      if (isMeant(broker)) return broker
    }
    return undefined
  }

  #fetch(): void {
    const broker = this.#someone((b) => b.isUp && b.isStarted && !b.leads)
    if (broker === undefined) return
    if (broker.outstanding === 0 || this.world.random.chance(30)) sendFetch(this.world, broker)
  }

  #moveImage(): void {
    const { random, store } = this.world
    const broker = this.#someone((b) => b.isUp && b.sessionEpoch !== 0 && b.image < store.revision)
    if (broker === undefined) return
    const revision = random.between(broker.image + 1, store.revision)
    takeIn(this.world, broker, random.chance(40) ? store.revision : revision)
  }

  #start(): void {
    const broker = this.#someone((b) => !b.isUp || b.sessionEpoch === 0)
    if (broker === undefined) return
    if (broker.isUp) register(this.world, broker)
    else start(this.world, broker, this.world.random.chance(50))
  }

  #sync(): void {
    const broker = this.#someone((b) => b.isUp && (b.log.syncing >= 0 || b.log.durable < b.log.end))
    if (broker === undefined) return
    const { log } = broker
    if (log.syncing < 0) log.beginSync()
    else {
      log.endSync()
      if (broker.leads) advanceHighWatermark(this.world, broker)
    }
  }

  #expireDead(): void {
    const { store } = this.world
    const dead = this.#someone((b) => !b.isUp && store.liveEpoch(store.revision, b.id) !== 0)
    if (dead !== undefined) store.endLease(dead.id)
    const controller = this.world.brokers[store.controllerBroker]
    if (controller !== undefined && !controller.isUp) store.endControllerLease()
  }

  #asLeader(action: (leader: ModelBroker) => void): void {
    const leader = this.#someone((b) => b.isUp && b.leads)
    if (leader !== undefined) action(leader)
  }

  #control(): void {
    const { random, store } = this.world
    const broker = this.#someone((b) => b.isUp && b.controllerEpoch !== 0)
    if (broker === undefined) return
    const brokersAt = random.chance(35) ? broker.image : store.revision
    const partAt = random.chance(15) ? broker.image : store.revision
    const cause = random.chance(30) ? 'timeout' : 'event'
    this.#controller.evaluate(broker, brokersAt, partAt, cause)
  }

  /** The reply to a proposal did not come. */
  #giveUp(broker: ModelBroker): void {
    const { world } = this
    if (!broker.isUp || broker.pending === undefined) return
    if (!world.rules.unknownIsNotFailed) {
      // The mutation reads again, finds R unchanged, and takes the proposal for dead.
      if (world.store.partRevision(world.store.revision) === broker.partRevision) {
        broker.clearLeader()
        advanceHighWatermark(world, broker)
      }
      return
    }
    if (broker.sessionEpoch !== 0) burnToken(world, broker)
  }

  #chooseTarget(): void {
    const { world } = this
    const { random, profile } = world
    if (random.chance(30)) {
      world.target = 'cancel'
      return
    }
    const wanted: number[] = []
    const size = random.chance(70) ? profile.replicas : random.between(1, profile.brokers)
    const from = random.below(profile.brokers)
    for (let at = 0; wanted.length < size; at++) wanted.push((from + at) % profile.brokers)
    world.target = wanted
  }
}
