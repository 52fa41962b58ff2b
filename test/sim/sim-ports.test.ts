import { describeStore } from '../ports/metadata-store-conformance.ts'
import { describeNet } from '../ports/net-conformance.ts'
import { describeRandom } from '../ports/random-conformance.ts'
import { describeTime } from '../ports/time-conformance.ts'
import { SimNetwork } from './sim-net.ts'
import { SimRandom } from './sim-random.ts'
import { SimStoreServer } from './sim-store.ts'
import { SimTime } from './sim-time.ts'
import { SimWorld } from './sim-world.ts'

describeRandom('simulated', () => new SimRandom(7))

describeTime('simulated', () => {
  const world = new SimWorld(7)
  return { time: new SimTime(world), settle: (promise) => world.settle(promise) }
})

for (const scheme of ['tcp', 'kafka']) {
  describeNet(`simulated ${scheme}://`, { closable: scheme === 'kafka' }, () => {
    const world = new SimWorld(scheme)
    return {
      net: new SimNetwork(world).host('one'),
      address: () => `${scheme}://host:0`,
      deadAddress: () => `${scheme}://host:1`,
      settle: (promise) => world.settle(promise),
    }
  })
}

for (const leases of ['process', 'time'] as const) {
  describeStore(`simulated, leases by ${leases}`, async () => {
    const world = new SimWorld(leases)
    const server = new SimStoreServer(world, { leases })
    return { store: server.connect(), settle: (promise) => world.settle(promise) }
  })
}
