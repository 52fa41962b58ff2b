/**
 * The clients of NATS that a race starts, since Debian has none: `nats-client.ts VERB PORT STREAM …`
 *   send FILE COUNT  socket writes made beforehand, unacknowledged; ends when the stream holds COUNT more
 *   read             a push consumer's bytes, looked at only for the last message of the stream; prints nothing
 *   publish          lines of stdin by the npm client, each acknowledged, 1000 under way
 *   consume COUNT    COUNT messages by the npm client, as lines to stdout
 *   relay-in         lines of stdin as unacknowledged publishes, at once
 *   relay-out        new messages as lines to stdout, at once
 */
import { createReadStream } from 'node:fs'
import { NatsSocket } from './nats-socket.ts'
import { writeAll } from './write-all.ts'

const [verb = '', port = '', stream = '', ...rest] = process.argv.slice(2)
const verbs: Readonly<Record<string, () => Promise<void>>> = {
  send: () => send(rest[0] ?? '', Number(rest[1])),
  read,
  publish,
  consume: () => consume(Number(rest[0])),
  'relay-in': relayIn,
  'relay-out': relayOut,
}
const chosen = verbs[verb]
if (chosen === undefined) throw new Error(`no such verb: ${verb}`)
await chosen()
process.exit(0)

async function send(file: string, count: number): Promise<void> {
  const nats = await NatsSocket.open(Number(port))
  const expected = (await nats.messages(stream)) + count
  // Nobody would be left to wait for.
  nats.socket.once('close', () => {
    process.stderr.write('NATS closed the connection\n')
    process.exit(1)
  })
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 }))
    if (!nats.socket.write(chunk))
      await new Promise((resolve) => nats.socket.once('drain', resolve))
  await nats.flush()
  const deadline = performance.now() + 120_000
  while ((await nats.messages(stream)) < expected) {
    if (performance.now() > deadline)
      throw new Error(`only ${await nats.messages(stream)} of ${expected} messages are stored`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

async function read(): Promise<void> {
  const nats = await NatsSocket.open(Number(port))
  // The reply subject ends in the number of messages still to come: …<pending> <bytes>\r\n<message>\r\n
  const last = /\.0 \d+\r\n[^\r]*\r\n$/
  let tail = ''
  await new Promise<void>((resolve, reject) => {
    nats.socket.once('close', () => reject(new Error('NATS closed the connection')))
    void nats.push(stream, {
      from: 'all',
      onBytes: (chunk) => {
        const end = chunk.subarray(-2048).toString('latin1')
        tail = (chunk.length >= 2048 ? end : tail + end).slice(-2048)
        if (last.test(tail)) resolve()
      },
    })
  })
}

async function publish(): Promise<void> {
  const { connect } = await import('nats')
  const connection = await connect({ servers: `127.0.0.1:${port}` })
  const jetStream = connection.jetstream()
  let underWay = 0
  let failure: unknown
  let wake: (() => void) | undefined
  const settled = (error?: unknown) => {
    failure ??= error
    underWay--
    wake?.()
  }
  const below = async (limit: number) => {
    while (underWay >= limit && failure === undefined)
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    if (failure !== undefined) throw failure
  }
  let rest = ''
  for await (const chunk of process.stdin) {
    const lines = (rest + (chunk as Buffer).toString('latin1')).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      underWay++
      jetStream.publish(stream, line).then(() => settled(), settled)
      if (underWay >= 1000) await below(1000)
    }
  }
  await below(1)
  await connection.close()
}

async function consume(count: number): Promise<void> {
  const { connect, AckPolicy, DeliverPolicy } = await import('nats')
  const connection = await connect({ servers: `127.0.0.1:${port}` })
  const manager = await connection.jetstreamManager()
  const { name } = await manager.consumers.add(stream, {
    ack_policy: AckPolicy.None,
    deliver_policy: DeliverPolicy.All,
  })
  const consumer = await connection.jetstream().consumers.get(stream, name)
  let seen = 0
  let lines: string[] = []
  for await (const message of await consumer.consume({ max_messages: 5000 })) {
    lines.push(message.string())
    seen++
    if (lines.length === 1000 || seen === count) {
      writeAll(Buffer.from(`${lines.join('\n')}\n`, 'latin1'))
      lines = []
    }
    if (seen === count) return
  }
}

async function relayIn(): Promise<void> {
  const nats = await NatsSocket.open(Number(port))
  let rest = ''
  for await (const chunk of process.stdin) {
    const lines = (rest + (chunk as Buffer).toString('latin1')).split('\n')
    rest = lines.pop() ?? ''
    nats.socket.write(lines.map((line) => `PUB ${stream} ${line.length}\r\n${line}\r\n`).join(''))
  }
  await nats.flush()
}

async function relayOut(): Promise<void> {
  const nats = await NatsSocket.open(Number(port))
  let buffer = ''
  await new Promise<void>((_, reject) => {
    nats.socket.once('close', () => reject(new Error('NATS closed the connection')))
    void nats.push(stream, {
      from: 'new',
      onBytes: (chunk) => {
        buffer += chunk.toString('latin1')
        for (;;) {
          const end = buffer.indexOf('\r\n')
          if (end < 0) return
          const head = buffer.slice(0, end)
          if (!head.startsWith('MSG ')) {
            buffer = buffer.slice(end + 2)
            if (head === 'PING') nats.socket.write('PONG\r\n')
            continue
          }
          const bytes = Number(head.slice(head.lastIndexOf(' ') + 1))
          if (buffer.length < end + 4 + bytes) return
          writeAll(Buffer.from(`${buffer.slice(end + 2, end + 2 + bytes)}\n`, 'latin1'))
          buffer = buffer.slice(end + 4 + bytes)
        }
      },
    })
  })
}
