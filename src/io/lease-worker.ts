/** The thread that keeps leases alive while the main thread stands still (lease-guard.ts says when). */
import { parentPort, workerData } from 'node:worker_threads'
import { assert } from '../base/assert.ts'
import { silentLog } from '../ports/log.ts'
import { EtcdLink } from './etcd-link.ts'
import type { EtcdOptions } from './etcd-options.ts'
import type { GrpcModule } from './etcd-schema.ts'
import { type GuardOrder, LeaseMemory, LOOKS } from './lease-memory.ts'
import { monotonicMs } from './monotonic.ts'
import { RealTime } from './real-time.ts'

class Guarded {
  readonly #link: Promise<EtcdLink>
  readonly #leaseId: string
  readonly #ttlMs: number
  readonly #memory: LeaseMemory
  readonly #looking: NodeJS.Timeout
  #isAsking = false

  constructor({ leaseId, ttlMs, memory }: GuardOrder & { kind: 'guard' }, link: Promise<EtcdLink>) {
    this.#link = link
    this.#leaseId = leaseId
    this.#ttlMs = ttlMs
    this.#memory = new LeaseMemory(memory)
    this.#looking = setInterval(() => void this.#look(), ttlMs / LOOKS)
  }

  release(): void {
    clearInterval(this.#looking)
  }

  async #look(): Promise<void> {
    const nowMs = monotonicMs()
    const isRenewed = nowMs - this.#memory.renewedMs < this.#ttlMs / 2
    const isStuck = nowMs - this.#memory.tickedMs >= this.#ttlMs
    if (this.#isAsking || isRenewed || isStuck) return
    this.#isAsking = true
    try {
      const link = await this.#link
      const { TTL } = await link.exchange(link.methods.leaseKeepAlive, { ID: this.#leaseId })
      if (Number(TTL ?? 0) > 0) this.#memory.renewedMs = nowMs
      else this.release()
    } catch {
      // The next look tries again; the main thread finds out by itself what has become of the lease.
    } finally {
      this.#isAsking = false
    }
  }
}

/** Logs nothing: what etcd says here it says to the main thread too, which tells it. */
async function openLink(): Promise<EtcdLink> {
  const loaded: GrpcModule & { readonly default?: GrpcModule } = await import('./grpc.ts')
  return new EtcdLink(
    new RealTime(),
    silentLog,
    loaded.default ?? loaded,
    workerData as EtcdOptions,
  )
}

assert(parentPort !== null, 'this runs in a thread of its own')
const link = openLink()
const guarded = new Map<string, Guarded>()
parentPort.on('message', (order: GuardOrder) => {
  guarded.get(order.leaseId)?.release()
  guarded.delete(order.leaseId)
  if (order.kind === 'guard') guarded.set(order.leaseId, new Guarded(order, link))
})
