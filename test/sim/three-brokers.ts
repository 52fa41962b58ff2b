/** Three daemons on one simulated store, up and without trouble. */
import { SimBroker } from './sim-broker.ts'
import { SimNetwork } from './sim-net.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimWorld } from './sim-world.ts'

export interface ThreeBrokers {
  readonly world: SimWorld
  readonly network: SimNetwork
  /** Numbered from 1. */
  readonly brokers: readonly SimBroker[]
  readonly addresses: readonly string[]
}

/** @param texts  configs of the daemons beside the defaults */
export async function startThree(
  seed: string,
  texts: Readonly<Record<string, string>> = {},
): Promise<ThreeBrokers> {
  const world = new SimWorld(seed)
  const network = new SimNetwork(world)
  const stores = new SimStoreServer(world, { leases: 'time' })
  const config = new Map(Object.entries({ 'log.dir.reserve.bytes': '0', ...texts }))
  const brokers = [1, 2, 3].map((id) => new SimBroker({ world, network, stores, config }, id))
  for (const broker of brokers) broker.start()
  await world.run({ until: () => brokers.every(({ daemon }) => daemon !== undefined) })
  return { world, network, brokers, addresses: brokers.map(({ address }) => address) }
}
