/** A client of the line protocol in the simulated world: what it is sent, as text. */
import type { Link } from '../../../src/ports/net.ts'
import { DaemonWorld, KAFKA, type StartOptions, ZMQ } from '../daemon-world.ts'

export const LINES = 'line:///run/line.sock'

export class LineClient {
  readonly link: Link
  text = ''
  isClosed = false
  readonly #world: DaemonWorld

  constructor(world: DaemonWorld) {
    this.#world = world
    this.link = world.network.host('script').connect(LINES, {
      onMessage: (frames) => {
        for (const frame of frames) this.text += Buffer.from(frame).toString('latin1')
      },
      onClose: () => {
        this.isClosed = true
      },
    })
  }

  send(text: string | Uint8Array): void {
    this.link.send([typeof text === 'string' ? Buffer.from(text, 'latin1') : text])
  }

  /** What comes within a while. */
  async says(text: string | Uint8Array, ms = 200): Promise<string[]> {
    this.text = ''
    this.send(text)
    await this.#world.run(ms)
    return this.text.split('\n').slice(0, -1)
  }
}

export async function started(options: StartOptions = {}) {
  const w = new DaemonWorld()
  const daemon = await w.start({ listen: [ZMQ, KAFKA, LINES], ...options })
  const client = w.client()
  await client.create('t')
  return { w, daemon, client, lines: new LineClient(w) }
}
