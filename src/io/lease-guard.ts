/**
 * Keeps leases alive while the main thread stands still: a collection of garbage or a long piece of work must not cost a broker its
 * session (replication.md section 5.5).
 *
 * A thread of its own looks at each guarded lease a few times in its life. It renews it only where the main thread has not done so
 * in time, and only while the main thread has ticked within the last life of the lease: a stuck process must lose its session.
 */
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Log } from '../ports/log.ts'
import type { LeaseGuard } from '../ports/metadata-store.ts'
import type { EtcdOptions } from './etcd-options.ts'
import { type GuardOrder, LeaseMemory, LOOKS } from './lease-memory.ts'
import { monotonicMs } from './monotonic.ts'

const here = import.meta.dirname
const workerScript = join(here, here.endsWith('dist') ? 'lease-worker.cjs' : 'lease-worker.ts')

export class LeaseGuards {
  readonly #options: EtcdOptions
  readonly #log: Log
  readonly #open = new Set<OpenGuard>()
  #worker: Worker | undefined

  constructor(options: EtcdOptions, log: Log) {
    this.#options = options
    this.#log = log
  }

  guard(leaseId: string, ttlMs: number, renewedMs: number): LeaseGuard {
    this.#worker ??= this.#start()
    const guard = new OpenGuard(ttlMs, () => {
      this.#open.delete(guard)
      this.#tell({ kind: 'release', leaseId })
    })
    guard.renewed(renewedMs)
    this.#open.add(guard)
    this.#tell({ kind: 'guard', leaseId, ttlMs, memory: guard.memory.buffer })
    return guard
  }

  async close(): Promise<void> {
    for (const guard of [...this.#open]) guard.stop()
    const worker = this.#worker
    this.#worker = undefined
    await worker?.terminate()
  }

  #tell(order: GuardOrder): void {
    this.#worker?.postMessage(order)
  }

  #start(): Worker {
    const worker = new Worker(workerScript, {
      workerData: this.#options,
      execArgv: [],
      // It holds a few calls of a few bytes.
      resourceLimits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 },
    })
    worker.on('error', (error) => {
      if (this.#worker === worker) this.#worker = undefined
      this.#log.warn('the thread that guards the session has failed: a standstill may cost it', {
        error: String(error),
      })
    })
    worker.unref()
    return worker
  }
}

class OpenGuard implements LeaseGuard {
  readonly memory = new LeaseMemory()
  readonly #ticking: NodeJS.Timeout
  readonly #release: () => void
  #isStopped = false

  constructor(ttlMs: number, release: () => void) {
    this.#release = release
    this.#tick()
    this.#ticking = setInterval(() => this.#tick(), ttlMs / LOOKS)
    this.#ticking.unref()
  }

  get renewedMs(): number {
    return this.memory.renewedMs
  }

  renewed(sentMs: number): void {
    this.memory.renewedMs = sentMs
  }

  stop(): void {
    if (this.#isStopped) return
    this.#isStopped = true
    clearInterval(this.#ticking)
    this.#release()
  }

  #tick(): void {
    this.memory.tickedMs = monotonicMs()
  }
}
