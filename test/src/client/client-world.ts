/** One client process and its simulated surroundings (test/sim), with shorthands for the tests of the client. */
import type { Log } from '../../../src/ports/log.ts'
import type { Link, LinkEvents, Net } from '../../../src/ports/net.ts'
import { SimNetwork } from '../../sim/sim-net.ts'
import type { SimRandom } from '../../sim/sim-random.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { SimWorld } from '../../sim/sim-world.ts'

/** Far beyond every timeout of the client. */
const LIMIT_MS = 3_600_000

export class ClientWorld {
  readonly sim: SimWorld
  readonly network: SimNetwork
  readonly time: SimTime
  readonly random: SimRandom
  readonly net: Net
  readonly log: Log = { debug: ignore, info: ignore, warn: ignore, error: ignore }

  constructor(seed: number | string = 1) {
    this.sim = new SimWorld(seed)
    this.network = new SimNetwork(this.sim, { latencyMs: [0.1, 2] })
    this.time = new SimTime(this.sim, { name: 'client' })
    this.random = this.sim.random.fork('client')
    this.net = this.network.host('client')
  }

  get nowMs(): number {
    return this.sim.now
  }

  /** Runs the world until the promise settles. */
  async run<T>(promise: Promise<T>): Promise<T> {
    const limit = this.sim.schedule(LIMIT_MS, 'test limit', () => {
      throw new Error('not settled in an hour of virtual time')
    })
    try {
      return await this.sim.settle(promise)
    } finally {
      limit.cancel()
    }
  }

  /** Lets virtual time pass. */
  pass(ms: number): Promise<void> {
    return this.sim.run({ untilMs: this.sim.now + ms })
  }

  schedule(delayMs: number, run: () => void): void {
    this.sim.schedule(delayMs, 'fake broker', run)
  }

  async accept(address: string, onLink: (link: Link) => LinkEvents): Promise<void> {
    const limits = { messageBytesMax: 100 * 1024 * 1024, linksMax: 1000 }
    await this.network.host(address).listen(address, limits, onLink)
  }

  /** Nothing listens at the address any more, and its links break. */
  refuse(address: string): void {
    this.network.crash(address)
  }

  breakLinks(address: string): void {
    this.network.loseLinks(address)
  }

  /** The address swallows all that is sent to it. */
  silence(address: string): void {
    this.network.blockBoth('client', address)
  }
}

function ignore(): void {}
