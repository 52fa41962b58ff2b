/** The few words of the NATS protocol that a race needs, on a raw socket. */
import { connect, type Socket } from 'node:net'

export interface StreamState {
  readonly messages: number
}

export class NatsSocket {
  readonly socket: Socket
  #buffer = ''
  #next = 0
  readonly #waiting = new Map<string, (body: string) => void>()
  readonly #failed: Promise<never>
  readonly #inbox = `_INBOX.${process.pid}.${performance.now().toFixed(0)}`
  #pong: (() => void) | undefined

  private constructor(socket: Socket) {
    this.socket = socket
    socket.setNoDelay(true)
    this.#failed = new Promise((_, reject) => {
      socket.once('error', reject)
      socket.once('close', () => reject(new Error('NATS closed the connection')))
    })
    this.#failed.catch(() => {})
  }

  static async open(port: number): Promise<NatsSocket> {
    const nats = new NatsSocket(connect(port, '127.0.0.1'))
    nats.socket.on('data', nats.#onData)
    nats.socket.write(
      `CONNECT {"verbose":false,"pedantic":false,"lang":"raw","version":"1","headers":false}\r\nSUB ${nats.#inbox}.* 1\r\n`,
    )
    await nats.flush()
    return nats
  }

  /** Resolves when the server has read all that was written. */
  async flush(): Promise<void> {
    const pong = new Promise<void>((resolve) => {
      this.#pong = resolve
    })
    this.socket.write('PING\r\n')
    await Promise.race([pong, this.#failed])
  }

  /** A request of JetStream's own interface. @throws Error with the server's words */
  async request<T>(subject: string, body: unknown = ''): Promise<T> {
    const reply = `${this.#inbox}.${this.#next++}`
    const text = body === '' ? '' : JSON.stringify(body)
    const answer = new Promise<string>((resolve) => {
      this.#waiting.set(reply, resolve)
    })
    this.socket.write(`PUB $JS.API.${subject} ${reply} ${Buffer.byteLength(text)}\r\n${text}\r\n`)
    const parsed = JSON.parse(await Promise.race([answer, this.#failed])) as T & {
      error?: { description: string }
    }
    if (parsed.error !== undefined) throw new Error(`nats: ${subject}: ${parsed.error.description}`)
    return parsed
  }

  async messages(stream: string): Promise<number> {
    const { state } = await this.request<{ state: StreamState }>(`STREAM.INFO.${stream}`)
    return state.messages
  }

  /** The stream, empty; its subject has its name. */
  async makeStream(stream: string): Promise<void> {
    await this.request(`STREAM.DELETE.${stream}`).catch(() => {})
    await this.request(`STREAM.CREATE.${stream}`, {
      name: stream,
      subjects: [stream],
      storage: 'file',
      retention: 'limits',
      num_replicas: 1,
    })
  }

  /**
   * A push consumer without acknowledgements, whose bytes as they come from the socket go to `onBytes` from now on.
   * No more requests after this.
   */
  async push(
    stream: string,
    options: { readonly from: 'all' | 'new'; onBytes(chunk: Buffer): void },
  ): Promise<void> {
    const deliver = `deliver.${process.pid}`
    this.socket.off('data', this.#onData)
    this.socket.on('data', options.onBytes)
    const text = JSON.stringify({
      stream_name: stream,
      config: { deliver_subject: deliver, deliver_policy: options.from, ack_policy: 'none' },
    })
    this.socket.write(
      `UNSUB 1\r\nSUB ${deliver} 2\r\nPUB $JS.API.CONSUMER.CREATE.${stream} ignored ${Buffer.byteLength(text)}\r\n${text}\r\n`,
    )
  }

  close(): void {
    this.socket.destroy()
  }

  readonly #onData = (chunk: Buffer) => {
    this.#buffer += chunk.toString('latin1')
    for (;;) {
      const end = this.#buffer.indexOf('\r\n')
      if (end < 0) return
      const line = this.#buffer.slice(0, end)
      if (line.startsWith('MSG ')) {
        const words = line.split(' ')
        const bytes = Number(words.at(-1))
        if (this.#buffer.length < end + 4 + bytes) return
        const subject = words[1] ?? ''
        this.#waiting.get(subject)?.(this.#buffer.slice(end + 2, end + 2 + bytes))
        this.#waiting.delete(subject)
        this.#buffer = this.#buffer.slice(end + 4 + bytes)
        continue
      }
      this.#buffer = this.#buffer.slice(end + 2)
      if (line === 'PONG') this.#pong?.()
      else if (line === 'PING') this.socket.write('PONG\r\n')
    }
  }
}
