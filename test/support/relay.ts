/** A TCP relay on loopback that can be cut: a network between two processes that fails as networks do. */
import { connect, createServer, type Server, type Socket } from 'node:net'

export class Relay {
  readonly #server: Server
  readonly #toPort: number
  readonly #pairs = new Set<readonly [Socket, Socket]>()
  #isCut = false

  private constructor(toPort: number) {
    this.#toPort = toPort
    this.#server = createServer((socket) => this.#accept(socket))
  }

  /** Listens on 127.0.0.1:`port`, and passes everything on to `toPort`. */
  static start(port: number, toPort: number): Promise<Relay> {
    const relay = new Relay(toPort)
    return new Promise((resolve, reject) => {
      relay.#server.once('error', reject)
      relay.#server.listen(port, '127.0.0.1', () => resolve(relay))
    })
  }

  /** From now on nothing gets through, and nobody is told: connections stay open, new ones are never answered. */
  cut(): void {
    this.#isCut = true
    for (const pair of this.#pairs) hold(pair)
  }

  /** What was held back is lost with its connections; new ones get through. */
  heal(): void {
    this.#isCut = false
    this.#drop()
  }

  /** All connections end at once, as when a router is started again. */
  reset(): void {
    this.#drop()
  }

  stop(): Promise<void> {
    this.#drop()
    return new Promise((resolve) => {
      this.#server.close(() => resolve())
    })
  }

  #drop(): void {
    for (const [near, far] of this.#pairs) {
      near.destroy()
      far.destroy()
    }
    this.#pairs.clear()
  }

  #accept(near: Socket): void {
    const far = connect(this.#toPort, '127.0.0.1')
    const pair = [near, far] as const
    this.#pairs.add(pair)
    const end = (): void => {
      this.#pairs.delete(pair)
      near.destroy()
      far.destroy()
    }
    for (const socket of pair) {
      socket.on('error', end)
      socket.on('close', end)
    }
    near.pipe(far)
    far.pipe(near)
    if (this.#isCut) hold(pair)
  }
}

function hold(pair: readonly Socket[]): void {
  for (const socket of pair) {
    socket.unpipe()
    socket.pause()
  }
}
