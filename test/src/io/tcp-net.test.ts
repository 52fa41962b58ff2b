import { connect as connectSocket, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { RealNet } from '../../../src/io/real-net.ts'
import type { Listener, ListenOptions } from '../../../src/ports/net.ts'
import { Ear, textFrame } from '../../ports/net-conformance.ts'

const limits: ListenOptions = { messageBytesMax: 1024 * 1024, linksMax: 10 }
const listeners: Listener[] = []
const sockets: Socket[] = []

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  for (const listener of listeners.splice(0)) await listener.close(0)
})

async function listen(
  options: Partial<ListenOptions> = {},
): Promise<{ port: number; ears: Ear[]; heard: () => Promise<Ear> }> {
  const ears: Ear[] = []
  let wake: () => void = () => undefined
  const listener = await new RealNet().listen(
    'kafka://127.0.0.1:0',
    { ...limits, ...options },
    () => {
      const ear = new Ear()
      ears.push(ear)
      wake()
      return ear
    },
  )
  listeners.push(listener)
  const heard = async (): Promise<Ear> => {
    if (ears.length === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    return ears[0]!
  }
  return { port: Number(listener.address.split(':').at(-1)), ears, heard }
}

function raw(port: number): Socket {
  const socket = connectSocket(port, '127.0.0.1')
  socket.on('error', () => undefined)
  sockets.push(socket)
  return socket
}

function framed(body: Uint8Array): Buffer {
  const size = Buffer.alloc(4)
  size.writeInt32BE(body.length)
  return Buffer.concat([size, body])
}

describe('TcpNet', () => {
  it('N7: a frame that drips in byte by byte is one message', async () => {
    const { port, heard } = await listen()
    const socket = raw(port)
    socket.setNoDelay(true)
    for (const byte of framed(textFrame('slowly'))) {
      await new Promise<void>((resolve) => socket.write(Buffer.from([byte]), () => resolve()))
    }
    const ear = await heard()
    await ear.until(() => ear.messages.length === 1)
    expect(ear.text(0)).toBe('slowly')
  })

  it('many frames in one chunk are many messages, an empty one included', async () => {
    const { port, heard } = await listen()
    raw(port).write(
      Buffer.concat([framed(textFrame('a')), framed(new Uint8Array(0)), framed(textFrame('bc'))]),
    )
    const ear = await heard()
    await ear.until(() => ear.messages.length === 3)
    expect(ear.messages.map((message) => message.length)).toEqual([1, 0, 2])
  })

  it.each([-1, -2_147_483_648, 1024 * 1024 + 1, 2_147_483_647])(
    'X1: a size of %i closes the connection',
    async (size) => {
      const { port, heard } = await listen()
      const socket = raw(port)
      const header = Buffer.alloc(4)
      header.writeInt32BE(size)
      socket.write(header)
      await new Promise((resolve) => socket.once('close', resolve))
      const ear = await heard()
      await ear.until(() => ear.isClosed)
      expect(ear.reason).toMatchObject({ code: 'MALFORMED_MESSAGE' })
      expect(ear.messages).toHaveLength(0)
    },
  )

  it('N7: a connection cut inside a frame delivers nothing of it', async () => {
    const { port, heard } = await listen()
    const bytes = framed(new Uint8Array(1000))
    const socket = raw(port)
    socket.end(Buffer.concat([bytes, bytes.subarray(0, 500)]))
    const ear = await heard()
    await ear.until(() => ear.isClosed)
    expect(ear.messages).toHaveLength(1)
  })

  it('M1: a header that claims the limit costs no memory', async () => {
    const { port, ears } = await listen({ messageBytesMax: 100 * 1024 * 1024, linksMax: 100 })
    const before = process.memoryUsage().arrayBuffers
    const header = Buffer.alloc(4)
    header.writeInt32BE(100 * 1024 * 1024)
    for (let index = 0; index < 50; index++) {
      const socket = raw(port)
      await new Promise<void>((resolve) => socket.write(header, () => resolve()))
    }
    while (ears.length < 50) await new Promise((resolve) => setImmediate(resolve))
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50 * 1024 * 1024)
  })

  it('an idle connection is closed, a busy one is not', async () => {
    const { port, heard } = await listen({ idleMsMax: 30 })
    const socket = raw(port)
    socket.write(framed(textFrame('x')))
    const ear = await heard()
    await ear.until(() => ear.messages.length === 1)
    await new Promise((resolve) => socket.once('close', resolve))
    await ear.until(() => ear.isClosed)
  })

  it('a refused port is UNREACHABLE, a server that hangs up is CONNECTION_LOST', async () => {
    const { port } = await listen({ linksMax: 0 })
    const ear = new Ear()
    new RealNet().connect(`kafka://127.0.0.1:${port}`, ear)
    await ear.until(() => ear.isClosed)
    expect(ear.reason).toMatchObject({ code: 'CONNECTION_LOST' })
    const refused = new Ear()
    new RealNet().connect('kafka://127.0.0.1:1', refused)
    await refused.until(() => refused.isClosed)
    expect(refused.reason).toMatchObject({ code: 'UNREACHABLE' })
  })

  it('M3: queued bytes are counted, and a drain is told', async () => {
    const message = new Uint8Array(1024 * 1024)
    let drains = 0
    const listener = await new RealNet().listen('kafka://127.0.0.1:0', limits, (link) => ({
      onMessage: () => {
        for (let index = 0; index < 30; index++) link.send([message])
        expect(link.queuedBytes).toBeGreaterThan(10 * 1024 * 1024)
      },
      onDrain: () => {
        drains += 1
      },
      onClose: () => undefined,
    }))
    listeners.push(listener)
    const ear = new Ear()
    const link = new RealNet().connect(listener.address, ear)
    link.send([textFrame('go')])
    await ear.until(() => ear.messages.length === 30)
    while (drains === 0) await new Promise((resolve) => setImmediate(resolve))
    link.close()
  })
})
