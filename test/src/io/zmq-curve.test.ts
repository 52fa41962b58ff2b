import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectSocket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import {
  type ClusterKeys,
  type CurveClientKeys,
  type CurveKeyPair,
  curveKeyOf,
  encodeZ85,
  formatClientKeys,
  formatClusterKeys,
  isCurveKey,
  parseClientKeys,
  parseClusterKeys,
} from '../../../src/base/curve-keys.ts'
import { CurveKeyring, readClientKeyFile } from '../../../src/io/curve-keyring.ts'
import { RealNet } from '../../../src/io/real-net.ts'
import { loadZeromq } from '../../../src/io/zeromq-addon.ts'
import { askMechanism } from '../../../src/io/zmq-curve.ts'
import type { Log } from '../../../src/ports/log.ts'
import type { Link, LinkRefusal, Listener } from '../../../src/ports/net.ts'
import { Ear, textFrame } from '../../ports/net-conformance.ts'

const root = mkdtempSync(join(tmpdir(), 'stream-curve-'))
const listeners: Listener[] = []
const links: Link[] = []
let count = 0

afterEach(async () => {
  for (const link of links.splice(0)) link.close()
  for (const listener of listeners.splice(0)) await listener.close(0)
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

const newPair = (): CurveKeyPair => loadZeromq().curveKeyPair()

function writeKeys(keys: ClusterKeys, path = join(root, `k${++count}`)): string {
  writeFileSync(path, formatClusterKeys(keys), { mode: 0o600 })
  return path
}

class KeptLog implements Log {
  readonly lines: string[] = []
  debug(): void {}
  info(message: string): void {
    this.lines.push(message)
  }
  warn(message: string, fields?: object): void {
    this.lines.push(`${message} ${JSON.stringify(fields)}`)
  }
  error(message: string, fields?: object): void {
    this.lines.push(`${message} ${JSON.stringify(fields)}`)
  }
}

/** A door that answers with what it got. */
async function openDoor(net: RealNet, scheme = 'tcp') {
  const refusals: LinkRefusal[] = []
  const got: Link[] = []
  const address = scheme === 'tcp' ? 'tcp://127.0.0.1:0' : `ipc://${join(root, `s${++count}`)}`
  const listener = await net.listen(
    address,
    {
      messageBytesMax: 1 << 20,
      linksMax: 10,
      onRefused: (refusal) => refusals.push(refusal),
    },
    (link) => {
      got.push(link)
      return { onMessage: (frames) => link.send(frames), onClose: () => undefined }
    },
  )
  listeners.push(listener)
  return { address: listener.address, refusals, got }
}

function call(address: string, keys: CurveClientKeys | undefined, net = new RealNet()): Ear {
  const ear = new Ear()
  const link = net.connect(address, ear, keys === undefined ? undefined : { curve: keys })
  links.push(link)
  link.send([textFrame('a record')])
  return ear
}

async function answered(ear: Ear): Promise<string> {
  await ear.until(() => ear.isClosed || ear.messages.length > 0)
  expect(ear.reason).toBeUndefined()
  return ear.text(0)
}

async function refused(ear: Ear): Promise<Error | undefined> {
  await ear.until(() => ear.isClosed || ear.messages.length > 0)
  expect(ear.messages).toHaveLength(0)
  return ear.reason
}

async function eventually(met: () => boolean): Promise<void> {
  while (!met()) await new Promise((resolve) => setTimeout(resolve, 5))
}

describe('a door with keys', () => {
  const server = newPair()
  const client = newPair()
  const keyring = (clients: ClusterKeys['clients'] = []): CurveKeyring =>
    new CurveKeyring(writeKeys({ server, clients }), new KeptLog())
  const doorOf = (keys: CurveKeyring) =>
    openDoor(new RealNet({ server: keys, client: keys.client }))
  const clientKeys = { ...client, serverKey: server.publicKey }

  it('lets in a client on its list, and another daemon of the cluster', async () => {
    const keys = keyring([{ name: 'etl', publicKey: client.publicKey }])
    const door = await doorOf(keys)
    expect(await answered(call(door.address, clientKeys))).toBe('a record')
    // A daemon needs no word per link: its Net has the cluster's keys.
    const daemon = new RealNet({ server: keys, client: keys.client })
    expect(await answered(call(door.address, undefined, daemon))).toBe('a record')
    expect(door.refusals).toEqual([])
  })

  it('a key that is not on the list is refused, on both sides with the cause', async () => {
    const door = await doorOf(keyring())
    const reason = await refused(call(door.address, clientKeys))
    expect(reason).toMatchObject({ code: 'NOT_ALLOWED', exit: 6 })
    expect(reason?.message).toContain('does not know this key')
    await eventually(() => door.refusals.length > 0)
    expect(door.refusals[0]).toMatchObject({ peer: '127.0.0.1', publicKey: client.publicKey })
    expect(door.got).toEqual([])
  })

  it('a revoked key counts no more, and an added one at once', async () => {
    const path = writeKeys({ server, clients: [] })
    const log = new KeptLog()
    const door = await doorOf(new CurveKeyring(path, log))
    expect(await refused(call(door.address, clientKeys))).toMatchObject({ code: 'NOT_ALLOWED' })
    writeKeys({ server, clients: [{ name: 'etl', publicKey: client.publicKey }] }, path)
    expect(await answered(call(door.address, clientKeys))).toBe('a record')
    writeKeys({ server, clients: [] }, path)
    expect(await refused(call(door.address, clientKeys))).toMatchObject({ code: 'NOT_ALLOWED' })
    expect(log.lines).toHaveLength(2)
  })

  it('a client that speaks in clear text is refused', async () => {
    const door = await doorOf(keyring())
    const reason = await refused(call(door.address, undefined))
    expect(reason).toMatchObject({ code: 'NOT_ALLOWED' })
    expect(reason).toHaveProperty('hint', expect.stringContaining('curve.key.file'))
    await eventually(() => door.refusals.length > 0)
    expect(door.refusals[0]?.why).toContain('no key')
  })

  it('a client with the keys of another cluster is refused', async () => {
    const other = newPair()
    const door = await doorOf(keyring([{ name: 'etl', publicKey: client.publicKey }]))
    const reason = await refused(call(door.address, { ...client, serverKey: other.publicKey }))
    expect(reason).toMatchObject({ code: 'NOT_ALLOWED' })
    expect(reason?.message).toContain('another key')
    await eventually(() => door.refusals.length > 0)
    expect(door.refusals[0]?.why).toContain('another cluster')
    const daemon = new RealNet({ client: { ...other, serverKey: other.publicKey } })
    expect(await refused(call(door.address, undefined, daemon))).toMatchObject({
      code: 'NOT_ALLOWED',
    })
  })

  it('bytes that are no handshake harm nobody', async () => {
    const door = await doorOf(keyring([{ name: 'etl', publicKey: client.publicKey }]))
    const port = Number(door.address.split(':').at(-1))
    const greeting = Buffer.alloc(64)
    greeting.write('ff00000000000000017f0300', 0, 'hex')
    greeting.write('CURVE', 12)
    const hello = Buffer.concat([Buffer.from([4, 200, 5]), Buffer.from('HELLO'), Buffer.alloc(194)])
    for (const junk of [
      Buffer.alloc(0),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      greeting,
      Buffer.concat([greeting, Buffer.from('junk')]),
      Buffer.concat([greeting, hello]),
      Buffer.alloc(100_000, 0xff),
    ]) {
      await new Promise<void>((resolve) => {
        const socket = connectSocket({ port, host: '127.0.0.1' }, () => socket.end(junk))
        socket.on('error', () => undefined)
        socket.once('close', () => resolve())
        socket.resume()
      })
    }
    expect(await answered(call(door.address, clientKeys))).toBe('a record')
    expect(door.got).toHaveLength(1)
  })

  it('two doors with different keys stand beside each other', async () => {
    const other = newPair()
    const one = await doorOf(keyring())
    const two = await openDoor(
      new RealNet({ server: { ...other, isAllowed: (key) => key === client.publicKey } }),
    )
    const toTwo = { ...client, serverKey: other.publicKey }
    expect(await answered(call(two.address, toTwo))).toBe('a record')
    expect(await refused(call(one.address, clientKeys))).toMatchObject({ code: 'NOT_ALLOWED' })
  })

  it('ipc:// has no keys', async () => {
    const keys = keyring()
    const door = await openDoor(new RealNet({ server: keys, client: keys.client }), 'ipc')
    expect(await answered(call(door.address, undefined))).toBe('a record')
    expect(await answered(call(door.address, clientKeys))).toBe('a record')
  })

  it('a door that was closed opens again at its address', async () => {
    const first = await doorOf(keyring())
    await listeners.pop()?.close(0)
    const keys = keyring([{ name: 'etl', publicKey: client.publicKey }])
    const again = await new RealNet({ server: keys }).listen(
      first.address,
      { messageBytesMax: 1 << 20, linksMax: 10 },
      (link) => ({ onMessage: (frames) => link.send(frames), onClose: () => undefined }),
    )
    listeners.push(again)
    expect(await answered(call(again.address, clientKeys))).toBe('a record')
  })
})

describe('a door without keys', () => {
  it('refuses a client that asks for them, on both sides with the cause', async () => {
    const server = newPair()
    const door = await openDoor(new RealNet())
    const reason = await refused(call(door.address, { ...newPair(), serverKey: server.publicKey }))
    expect(reason).toMatchObject({ code: 'NOT_ALLOWED' })
    expect(reason?.message).toContain('clear text')
    await eventually(() => door.refusals.length > 0)
    expect(door.refusals[0]?.why).toContain('only with keys')
  })
})

describe('askMechanism', () => {
  it('hears what a door wants, and nothing from what is none', async () => {
    const place = (address: string) => ({
      host: '127.0.0.1',
      port: Number(address.split(':').at(-1)),
    })
    const plain = await openDoor(new RealNet())
    expect(await askMechanism(place(plain.address), 'NULL')).toBe('NULL')
    expect(plain.refusals).toEqual([])
    expect(await askMechanism(place(plain.address), 'CURVE')).toBe('NULL')
    await eventually(() => plain.refusals.length === 1)
    const curve = await openDoor(new RealNet({ server: { ...newPair(), isAllowed: () => true } }))
    expect(await askMechanism(place(curve.address), 'CURVE')).toBe('CURVE')
    expect(curve.refusals).toEqual([])
    expect(await askMechanism(place(curve.address), 'NULL')).toBe('CURVE')
    await eventually(() => curve.refusals.length === 1)
    expect(await askMechanism({ host: '127.0.0.1', port: 1 }, 'NULL')).toBeUndefined()
  })
})

describe('CurveKeyring', () => {
  it('a file that others may read is refused', () => {
    const path = writeKeys({ server: newPair(), clients: [] })
    for (const mode of [0o644, 0o640, 0o604, 0o620]) {
      chmodSync(path, mode)
      const open = () => new CurveKeyring(path, new KeptLog())
      expect(open).toThrow(expect.objectContaining({ code: 'PERMISSION_DENIED', exit: 6 }))
      expect(() => readClientKeyFile(path)).toThrow(/others may read or write it/)
    }
    chmodSync(path, 0o400)
    expect(readClientKeyFile(path).publicKey).toHaveLength(40)
  })

  it('a file that is not there says how to make one', () => {
    expect(() => new CurveKeyring(join(root, 'nowhere'), new KeptLog())).toThrow(
      expect.objectContaining({ code: 'FILE_NOT_FOUND', hint: expect.stringContaining('keys') }),
    )
  })

  it('a file that goes bad under a running daemon changes nothing, and is told once', () => {
    const server = newPair()
    const client = newPair()
    const path = writeKeys({ server, clients: [{ name: 'a', publicKey: client.publicKey }] })
    const log = new KeptLog()
    const keys = new CurveKeyring(path, log)
    const asks = (): boolean[] =>
      [client, server, newPair()].map((p) => keys.isAllowed(p.publicKey))
    chmodSync(path, 0o644)
    expect(asks()).toEqual([true, true, false])
    expect(log.lines).toHaveLength(1)
    expect(log.lines[0]).toContain('0644')
    rmSync(path)
    expect(asks()).toEqual([true, true, false])
    expect(log.lines[1]).toContain('no such file')
    writeKeys({ server: newPair(), clients: [] }, path)
    expect(asks()).toEqual([true, true, false])
    expect(log.lines[2]).toContain("another cluster's key")
    writeKeys({ server, clients: [] }, path)
    expect(asks()).toEqual([false, true, false])
    expect(log.lines).toHaveLength(4)
    expect(log.lines.join()).not.toContain(server.secretKey)
  })
})

describe('key files', () => {
  it('are read as they were written', () => {
    const server = newPair()
    const client = newPair()
    const keys = { server, clients: [{ name: 'etl-1.b', publicKey: client.publicKey }] }
    expect(parseClusterKeys(formatClusterKeys(keys), 'f')).toEqual(keys)
    const own = { ...client, serverKey: server.publicKey }
    expect(parseClientKeys(formatClientKeys('etl', own), 'f')).toEqual(own)
    expect(parseClientKeys(formatClusterKeys(keys), 'f')).toEqual({
      ...server,
      serverKey: server.publicKey,
    })
  })

  it('what is wrong in them is told with its line, and never the value', () => {
    const server = newPair()
    const good = formatClusterKeys({ server, clients: [] })
    const cut = server.secretKey.slice(1)
    const wrong: [string, RegExp][] = [
      ['', /no server\.public\.key/],
      [good.replace(server.secretKey, cut), /^f:3: server\.secret\.key: not a key/],
      [`${good}client.a = ~~~~\n`, /^f:5: client\.a: not a key/],
      [`${good}client.a b = ${server.publicKey}\n`, /^f:5: no name/],
      [`${good}server.public.key = ${server.publicKey}\n`, /twice/],
      [`${good}${server.secretKey}\n`, /^f:5: not a line/],
      [formatClientKeys('a', { ...server, serverKey: server.publicKey }), /of a client/],
    ]
    for (const [text, message] of wrong) {
      const parse = () => parseClusterKeys(text, 'f')
      expect(parse).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
      expect(parse).toThrow(message)
      try {
        parse()
      } catch (error) {
        expect(JSON.stringify([(error as Error).message, error])).not.toContain(cut)
      }
    }
    expect(() => parseClientKeys(`curve.public.key = ${server.publicKey}`, 'f')).toThrow(
      /no curve\.server\.key/,
    )
  })

  it('Z85 as ZeroMQ has it (RFC 32)', () => {
    expect(encodeZ85(new Uint8Array([0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b]))).toBe(
      'HelloWorld',
    )
    const key = curveKeyOf(new Uint8Array(32).fill(0xff)) ?? ''
    expect(isCurveKey(key)).toBe(true)
    expect(isCurveKey(`${key.slice(0, 35)}#####`)).toBe(false)
    expect(isCurveKey(`${key.slice(0, 39)}~`)).toBe(false)
    expect(curveKeyOf(new Uint8Array(31))).toBeUndefined()
  })
})
