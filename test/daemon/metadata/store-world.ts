/** A simulated store and what most metadata tests need of it. */
import type { Store } from '../../../daemon/metadata/commit.ts'
import { MetadataKeys } from '../../../daemon/metadata/metadata-keys.ts'
import {
  becomeController,
  registerSession,
  type Session,
} from '../../../daemon/metadata/session.ts'
import type { Log } from '../../../src/ports/log.ts'
import { type SimStore, SimStoreServer } from '../../sim/sim-store.ts'
import { SimTime } from '../../sim/sim-time.ts'
import { SimWorld } from '../../sim/sim-world.ts'

export const silent: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

export class StoreWorld {
  readonly world: SimWorld
  readonly server: SimStoreServer
  readonly keys = new MetadataKeys('cluster')
  readonly home: SimStore
  readonly store: Store

  constructor(seed: number | string, leases: 'process' | 'time' = 'process') {
    this.world = new SimWorld(seed)
    this.server = new SimStoreServer(this.world, { leases })
    this.home = this.server.connect()
    this.store = { store: this.home, time: new SimTime(this.world) }
  }

  settle<T>(promise: Promise<T>): Promise<T> {
    return this.world.settle(promise)
  }

  async register(
    options: { nodeId?: number; incarnation?: string; lossyReason?: string; home?: SimStore } = {},
  ): Promise<Session> {
    const home = options.home ?? this.home
    const lease = await home.lease(10_000)
    return registerSession({ ...this.store, store: home }, this.keys, {
      nodeId: options.nodeId ?? 1,
      incarnation: options.incarnation ?? 'first',
      endpoints: [],
      rack: null,
      directories: ['d'],
      lease,
      lossyReason: options.lossyReason,
    })
  }

  async control(session: Session): Promise<number> {
    return becomeController(this.store, this.keys, session, await this.home.lease(5000))
  }

  /** A registered broker that is the controller. */
  async begin(): Promise<{ session: Session; controllerEpoch: number }> {
    const session = await this.register({ lossyReason: 'first start of this broker' })
    return { session, controllerEpoch: await this.control(session) }
  }
}
