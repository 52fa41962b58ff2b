/** The fake broker behind a real port of this machine, for what `connect` itself does. */
import { RealNet } from '../../../src/io/real-net.ts'
import type { Link, LinkEvents, Listener } from '../../../src/ports/net.ts'
import { freePorts } from '../../support/etcd.ts'
import type { ClientWorld } from '../client/client-world.ts'
import { FakeCluster } from '../client/fake-cluster.ts'

export class LoopbackBrokers {
  readonly broker: string
  readonly brokers: FakeCluster
  /** Connections that are open. */
  links = 0
  readonly #listeners: Promise<Listener>[] = []

  private constructor(broker: string) {
    this.broker = broker
    const net = new RealNet()
    const limits = { messageBytesMax: 1 << 20, linksMax: 10 }
    const world = {
      accept: async (address: string, onLink: (link: Link) => LinkEvents) => {
        this.#listeners.push(net.listen(address, limits, (link) => this.#count(onLink(link))))
      },
      schedule: (delayMs: number, run: () => void) => setTimeout(run, delayMs),
      random: { fraction: () => 0 },
    }
    this.brokers = new FakeCluster(world as unknown as ClientWorld, [broker])
  }

  #count(events: LinkEvents): LinkEvents {
    this.links += 1
    const ended = events.onClose?.bind(events)
    events.onClose = (...reason: Parameters<NonNullable<typeof ended>>) => {
      this.links -= 1
      ended?.(...reason)
    }
    return events
  }

  static async start(): Promise<LoopbackBrokers> {
    const [port] = await freePorts(1)
    const started = new LoopbackBrokers(`kafka://127.0.0.1:${port}`)
    await Promise.all(started.#listeners)
    return started
  }

  async stop(): Promise<void> {
    for (const listener of this.#listeners) await (await listener).close(0)
  }
}
