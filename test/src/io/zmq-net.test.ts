import { type ChildProcess, fork } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect as connectSocket, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { RealNet } from '../../../src/io/real-net.ts'
import { loadZeromq, socketType } from '../../../src/io/zeromq-addon.ts'
import type { Link, Listener, ListenOptions } from '../../../src/ports/net.ts'
import { Ear, textFrame } from '../../ports/net-conformance.ts'

const root = mkdtempSync(join(tmpdir(), 'stream-zmq-'))
const program = join(import.meta.dirname, 'net-program.ts')
const limits: ListenOptions = { messageBytesMax: 8 * 1024 * 1024, linksMax: 10 }
const children: ChildProcess[] = []
const listeners: Listener[] = []
let count = 0

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  for (const listener of listeners.splice(0)) await listener.close(0)
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

function freshPath(): string {
  count += 1
  return join(root, `s${count}`)
}

/** Starts the other process, and waits for its first word. */
async function start(...args: string[]): Promise<{ child: ChildProcess; word: string }> {
  const child = fork(program, args)
  children.push(child)
  const word = await new Promise<string>((resolve) => child.once('message', resolve as never))
  return { child, word }
}

async function listen(
  address: string,
  options: Partial<ListenOptions> = {},
): Promise<{ listener: Listener; sides: { link: Link; ear: Ear }[]; next: () => Promise<void> }> {
  const sides: { link: Link; ear: Ear }[] = []
  let wake: () => void = () => undefined
  const listener = await new RealNet().listen(address, { ...limits, ...options }, (link) => {
    const side = { link, ear: new Ear() }
    sides.push(side)
    wake()
    return side.ear
  })
  listeners.push(listener)
  const next = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve
      if (sides.length > 0) resolve()
    })
  return { listener, sides, next }
}

describe.each(['ipc', 'tcp'])('ZmqNet over %s', (scheme) => {
  const freshAddress = (): string =>
    scheme === 'ipc' ? `ipc://${freshPath()}` : 'tcp://127.0.0.1:0'

  it('P1: a client learns at once that its server was killed', async () => {
    const { child, word } = await start('serve', freshAddress())
    const ear = new Ear()
    const link = new RealNet().connect(word, ear)
    link.send([textFrame('x')])
    await ear.until(() => ear.messages.length === 1)
    child.kill('SIGKILL')
    await ear.until(() => ear.isClosed)
    expect(ear.reason).toMatchObject({ code: 'CONNECTION_LOST' })
  })

  it('a last answer that arrives together with the end is heard, and the end too', async () => {
    for (let round = 0; round < 40; round += 1) {
      const { listener, sides, next } = await listen(freshAddress())
      const ear = new Ear()
      const link = new RealNet().connect(listener.address, ear)
      link.send([textFrame('x')])
      await next()
      const side = sides[0]
      await side?.ear.until(() => side.ear.messages.length === 1)
      side?.link.send([textFrame('last')])
      const closed = listener.close(1000)
      // A busy process: both are there when it looks again.
      const untilMs = performance.now() + 15
      while (performance.now() < untilMs);
      await ear.until(() => ear.isClosed)
      expect(ear.messages.length).toBe(1)
      await closed
    }
  }, 30_000)

  it('P10: a server learns at once that a client was killed', async () => {
    const { listener, sides, next } = await listen(freshAddress())
    const child = fork(program, ['connect', listener.address])
    children.push(child)
    await next()
    const { ear } = sides[0]!
    await ear.until(() => ear.messages.length === 1)
    child.kill('SIGKILL')
    await ear.until(() => ear.isClosed)
    expect(ear.reason).toBeUndefined()
  })

  it('M3: a client that never reads holds up nobody else, and what it is owed is counted', async () => {
    const { listener, sides, next } = await listen(freshAddress())
    const { child } = await (async () => {
      const child = fork(program, ['connect', listener.address])
      children.push(child)
      await next()
      return { child }
    })()
    const slow = sides[0]!
    await slow.ear.until(() => slow.ear.messages.length === 1)
    child.kill('SIGSTOP')
    const message = new Uint8Array(64 * 1024)
    for (let index = 0; index < 3000; index++) slow.link.send([message])
    const quick = new Ear()
    const link = new RealNet().connect(listener.address, quick)
    link.send([textFrame('quick')])
    await quick.until(() => quick.isOpen)
    while (sides.length < 2) await new Promise((resolve) => setImmediate(resolve))
    const other = sides[1]!
    await other.ear.until(() => other.ear.messages.length === 1)
    for (let index = 0; index < 50; index++) other.link.send([textFrame(`${index}`)])
    await quick.until(() => quick.messages.length === 50)
    expect(quick.text(49)).toBe('49')
    expect(slow.link.queuedBytes).toBeGreaterThan(message.length)
    child.kill('SIGKILL')
    await slow.ear.until(() => slow.ear.isClosed)
    link.close()
  })

  it('what a slow client is owed comes in order once it reads, with a drain', async () => {
    const { listener, sides, next } = await listen(freshAddress())
    const ear = new Ear()
    const link = new RealNet().connect(listener.address, ear)
    link.send([textFrame('x')])
    await next()
    const { link: server, ear: serverEar } = sides[0]!
    const body = new Uint8Array(20_000)
    for (let index = 0; index < 3000; index++) {
      const head = new Uint8Array(4)
      new DataView(head.buffer).setUint32(0, index)
      server.send([head, body])
    }
    expect(server.queuedBytes).toBeGreaterThan(50_000_000)
    await ear.until(() => ear.messages.length === 3000)
    for (const [index, message] of ear.messages.entries()) {
      expect(new DataView(message.buffer).getUint32(0)).toBe(index)
    }
    await serverEar.until(() => serverEar.drains > 0)
    link.close()
  })

  it('a link that says nothing for too long is forgotten', async () => {
    const { listener, sides, next } = await listen(freshAddress(), { idleMsMax: 20 })
    const ear = new Ear()
    const link = new RealNet().connect(listener.address, ear)
    link.send([textFrame('x')])
    await next()
    const { ear: serverEar } = sides[0]!
    await serverEar.until(() => serverEar.isClosed)
    link.send([textFrame('y')])
    while (sides.length < 2) await new Promise((resolve) => setImmediate(resolve))
    link.close()
  })

  it('links beyond the limit get no answer, the others do', async () => {
    const { listener, sides, next } = await listen(freshAddress(), { linksMax: 1 })
    const first = new Ear()
    const firstLink = new RealNet().connect(listener.address, first)
    firstLink.send([textFrame('1')])
    await next()
    const second = new Ear()
    const secondLink = new RealNet().connect(listener.address, second)
    secondLink.send([textFrame('2')])
    await second.until(() => second.isOpen)
    sides[0]!.link.send([textFrame('answer')])
    await first.until(() => first.messages.length === 1)
    expect(sides).toHaveLength(1)
    firstLink.close()
    secondLink.close()
  })

  it('X1: a message of many frames beyond the limit ends its link', async () => {
    const { listener, sides, next } = await listen(freshAddress(), { messageBytesMax: 1000 })
    const socket = new (loadZeromq().Socket)(socketType.dealer)
    socket.connect(listener.address)
    await socket.send([textFrame('hello')])
    await next()
    await socket.send(Array.from({ length: 100 }, () => new Uint8Array(11)))
    const { ear } = sides[0]!
    await ear.until(() => ear.isClosed)
    expect(ear.reason).toMatchObject({ code: 'MALFORMED_MESSAGE' })
    expect(ear.messages).toHaveLength(1)
    socket.close()
  })

  it('X1: bytes that are no ZMTP harm nobody', async () => {
    const { listener, sides, next } = await listen(freshAddress())
    const place = listener.address.startsWith('ipc')
      ? { path: listener.address.slice('ipc://'.length) }
      : { port: Number(listener.address.split(':').at(-1)), host: '127.0.0.1' }
    for (const junk of [
      'GET / HTTP/1.1\r\n\r\n',
      '\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03',
      '\x00',
    ]) {
      await new Promise<void>((resolve) => {
        const socket = connectSocket(place, () => socket.end(Buffer.from(junk, 'latin1')))
        socket.on('error', () => undefined)
        socket.once('close', () => resolve())
        socket.resume()
      })
    }
    const ear = new Ear()
    const link = new RealNet().connect(listener.address, ear)
    link.send([textFrame('x')])
    await next()
    expect(sides).toHaveLength(1)
    link.close()
  })

  it('a server that speaks something else is UNREACHABLE', async () => {
    const server: Server = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
    })
    const path = freshPath()
    await new Promise<void>((resolve) => {
      if (scheme === 'ipc') server.listen(path, resolve)
      else server.listen(0, '127.0.0.1', resolve)
    })
    const bound = server.address()
    const address =
      typeof bound === 'string' ? `ipc://${path}` : `tcp://127.0.0.1:${bound?.port ?? 0}`
    const ear = new Ear()
    new RealNet().connect(address, ear)
    await ear.until(() => ear.isClosed)
    expect(ear.reason).toMatchObject({ code: 'UNREACHABLE' })
    server.close()
  })
})

describe('ZmqNet on a path', () => {
  it('makes the directory for its user alone', async () => {
    const directory = join(root, 'made', 'deep')
    await listen(`ipc://${join(directory, 'socket')}`)
    expect(statSync(directory).mode & 0o777).toBe(0o700)
  })

  it('takes over the socket file that a killed daemon has left', async () => {
    const path = freshPath()
    const { child } = await start('serve', `ipc://${path}`)
    child.kill('SIGKILL')
    await new Promise((resolve) => child.once('exit', resolve))
    expect(statSync(path).isSocket()).toBe(true)
    const { listener } = await listen(`ipc://${path}`)
    const ear = new Ear()
    const link = new RealNet().connect(listener.address, ear)
    await ear.until(() => ear.isOpen)
    link.close()
  })

  it('D9: a directory that cannot be made is refused', async () => {
    const file = freshPath()
    writeFileSync(file, '')
    await expect(listen(`ipc://${join(file, 'x', 'socket')}`)).rejects.toMatchObject({
      code: 'ADDRESS_INVALID',
    })
  })
})
