/** A TCP relay on loopback that can be cut: a network between two processes that fails as networks do. */
import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

export class Relay {
  readonly #thread: Worker

  private constructor(thread: Worker) {
    this.#thread = thread
  }

  /** Listens on 127.0.0.1:`port`, and passes everything on to `toPort`. */
  static async start(port: number, toPort: number): Promise<Relay> {
    const file = join(import.meta.dirname, 'relay-thread.ts')
    const thread = new Worker(file, { workerData: { port, toPort }, execArgv: [] })
    await once(thread, 'message')
    return new Relay(thread)
  }

  /** From now on nothing gets through, and nobody is told: connections stay open, new ones are never answered. */
  cut(): void {
    this.#thread.postMessage('cut')
  }

  /** What was held back is lost with its connections; new ones get through. */
  heal(): void {
    this.#thread.postMessage('heal')
  }

  /** All connections end at once, as when a router is started again. */
  reset(): void {
    this.#thread.postMessage('reset')
  }

  async stop(): Promise<void> {
    await this.#thread.terminate()
  }
}
