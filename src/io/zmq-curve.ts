/**
 * CURVE on `tcp://` (libzmq's zmq_curve): who is let in, and why a handshake has failed, on both sides.
 *
 * Invariants:
 * - A listener with keys fails closed: without an answer of its gate libzmq lets nobody in.
 * - Each gate has a ZeroMQ context of its own, for libzmq asks one handler per context (ZAP, RFC 27): listeners with other
 *   keys, and all that is not tcp://, never meet it.
 * - No secret key is in any text made here.
 */
import { type CurveClientKeys, type CurveKeyPair, curveKeyOf } from '../base/curve-keys.ts'
import { StreamError } from '../base/errors.ts'
import type { LinkRefusal } from '../ports/net.ts'
import { netModule } from './lazy-modules.ts'
import {
  socketOption,
  socketType,
  type ZeromqAddon,
  type ZmqContext,
  type ZmqEvent,
  type ZmqSocket,
} from './zeromq-addon.ts'

export interface CurveServer extends CurveKeyPair {
  /** Asked at each handshake; never about the server's own key alone. Must not throw. */
  isAllowed(publicKey: string): boolean
}

const ZAP_ADDRESS = 'inproc://zeromq.zap.01'
const ZAP_VERSION = '1.0'
/** Any name: with none libzmq may pass the handler over. */
const ZAP_DOMAIN = 'stream'
const HANDSHAKE_TIMEOUT_MS = 10_000
const PROBE_MS_MAX = 1000
const text = (value: string): Uint8Array => Buffer.from(value, 'latin1')

/** Answers libzmq's question who may come in (ZAP), for the sockets that it makes. */
export class CurveGate {
  private readonly addon: ZeromqAddon
  private readonly context: ZmqContext
  private readonly handler: ZmqSocket
  private readonly server: CurveServer
  private readonly onRefused: (refusal: LinkRefusal) => void

  private constructor(
    addon: ZeromqAddon,
    server: CurveServer,
    onRefused: (refusal: LinkRefusal) => void,
  ) {
    this.addon = addon
    this.context = new addon.Context({})
    this.handler = new addon.Socket(socketType.router, { context: this.context })
    this.handler.setInt32Option(socketOption.linger, 0)
    this.server = server
    this.onRefused = onRefused
  }

  static async open(
    addon: ZeromqAddon,
    server: CurveServer,
    onRefused: (refusal: LinkRefusal) => void,
  ): Promise<CurveGate> {
    const gate = new CurveGate(addon, server, onRefused)
    await gate.handler.bind(ZAP_ADDRESS)
    void gate.answerAll()
    return gate
  }

  newSocket(type: number): ZmqSocket {
    const socket = new this.addon.Socket(type, { context: this.context })
    socket.setBoolOption(socketOption.curveServer, true)
    socket.setStringOption(socketOption.curveSecretKey, this.server.secretKey)
    socket.setStringOption(socketOption.zapDomain, ZAP_DOMAIN)
    socket.setBoolOption(socketOption.zapEnforceDomain, true)
    socket.setInt32Option(socketOption.handshakeTimeoutMs, HANDSHAKE_TIMEOUT_MS)
    return socket
  }

  /** After its sockets. */
  close(): void {
    this.handler.close()
  }

  private async answerAll(): Promise<void> {
    try {
      while (!this.handler.closed) {
        const answer = this.answer(await this.handler.receive())
        if (answer !== undefined) await this.handler.send(answer)
      }
    } catch {
      // Closed: whoever still waits for an answer is not let in.
    }
  }

  private answer(frames: readonly Uint8Array[]): readonly Uint8Array[] | undefined {
    const [peer, empty, version, request, _domain, address, _routingId, mechanism, key] = frames
    if (peer === undefined || empty === undefined || request === undefined) return undefined
    const isCurve = latin1(version) === ZAP_VERSION && latin1(mechanism) === 'CURVE'
    const publicKey = isCurve && key !== undefined ? curveKeyOf(key) : undefined
    const isAllowed = publicKey !== undefined && this.server.isAllowed(publicKey)
    if (!isAllowed) {
      this.onRefused({
        why: 'its key is not known here; to let it in: stream cluster keys add NAME',
        peer: latin1(address).replace(/^::ffff:/, ''),
        ...(publicKey === undefined ? {} : { publicKey }),
      })
    }
    const [status, reason] = isAllowed ? ['200', 'OK'] : ['400', 'key not known']
    const none = new Uint8Array(0)
    return [peer, empty, text(ZAP_VERSION), request, text(status), text(reason), none, none]
  }
}

export function showKeys(socket: ZmqSocket, keys: CurveClientKeys): void {
  socket.setStringOption(socketOption.curveServerKey, keys.serverKey)
  socket.setStringOption(socketOption.curvePublicKey, keys.publicKey)
  socket.setStringOption(socketOption.curveSecretKey, keys.secretKey)
}

/** What a listener's monitor says of a peer that has no right key; unknown keys are the gate's to tell. */
export function refusalOfPeer(event: ZmqEvent, hasKeys: boolean): LinkRefusal | undefined {
  if (event.type !== 'handshake:error:protocol') return undefined
  switch (event.error?.code) {
    case 'ERR_ZMTP_MECHANISM_MISMATCH':
      return {
        why: hasKeys
          ? 'it shows no key; a client needs curve.key.file, a daemon stream.curve.key.file'
          : 'it speaks only with keys, and this listener has none; to give it some: stream.curve.key.file',
      }
    case 'ERR_ZMTP_CRYPTOGRAPHIC':
      return { why: 'its key file is of another cluster, or older than the keys of this one' }
    default:
      return undefined
  }
}

/** Why a client was not let in, where libzmq's monitor says it. */
export function refusalOfEvent(
  { type, error }: ZmqEvent,
  peer: string,
  keys: CurveClientKeys | undefined,
): StreamError | undefined {
  if (type === 'handshake:error:auth' && error?.status === 400) {
    return notAllowed(
      `${peer} does not know this key, or has revoked it`,
      'get another: stream cluster keys add NAME, where the cluster has its keys',
    )
  }
  if (error?.code === 'ERR_ZMTP_MECHANISM_MISMATCH') {
    return refusalOfMechanism(keys === undefined ? 'CURVE' : 'NULL', peer, keys)
  }
  return undefined
}

/** Why a client was not let in by a peer that wants `mechanism` and has hung up. */
export function refusalOfMechanism(
  mechanism: string | undefined,
  peer: string,
  keys: CurveClientKeys | undefined,
): StreamError | undefined {
  if (mechanism === 'CURVE') {
    return keys === undefined
      ? notAllowed(
          `${peer} lets in only who has a key`,
          'name a key file: -X curve.key.file=FILE; to make one: stream cluster keys add NAME',
        )
      : notAllowed(
          `${peer} has another key than the one that it should have`,
          'the key file is of another cluster, or older than the keys of this one',
        )
  }
  if (mechanism === undefined || keys === undefined) return undefined
  return notAllowed(
    `${peer} speaks in clear text, and a key file was named`,
    'give its daemon keys (stream.curve.key.file), or leave out curve.key.file',
  )
}

/**
 * What a ZeroMQ peer wants to see in a handshake (ZMTP 3, RFC 23): it says so as soon as the other side has told its version.
 * Where that is not `own` it is told so, and the end is left to it: libzmq's client hangs up before the door has heard what was
 * wrong, and then nobody there can be told.
 * @returns `NULL`, `CURVE`, `PLAIN`…; undefined for a peer that says nothing of the kind within a second
 */
export function askMechanism(
  address: { readonly host: string; readonly port: number },
  own: 'NULL' | 'CURVE',
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = netModule().connect({ host: address.host, port: address.port })
    let heard = Buffer.alloc(0)
    let mechanism: string | undefined
    const mine = greeting(own)
    const done = (): void => {
      socket.destroy()
      resolve(mechanism)
    }
    const hear = (bytes: Buffer): void => {
      if (heard.length >= MECHANISM_END) return
      heard = Buffer.concat([heard, bytes])
      if (heard.length < MECHANISM_END) return
      const isZmtp3 = heard[0] === 0xff && heard[9] === 0x7f && (heard[10] ?? 0) >= 3
      const name = latin1(heard.subarray(MECHANISM_START, MECHANISM_END)).replace(/\0+$/, '')
      if (isZmtp3) mechanism = name
      if (isZmtp3 && name !== own) socket.write(mine.subarray(VERSION_END))
      else done()
    }
    socket.setTimeout(PROBE_MS_MAX, done)
    socket.once('error', done)
    socket.once('close', done)
    socket.on('data', hear)
    socket.unref()
    socket.write(mine.subarray(0, VERSION_END))
  })
}

const GREETING_BYTES = 64
const VERSION_END = 11
const MECHANISM_START = 12
const MECHANISM_END = 32

/** Signature, version 3.0, mechanism, no server. */
function greeting(mechanism: string): Uint8Array {
  const bytes = Buffer.alloc(GREETING_BYTES)
  bytes[0] = 0xff
  bytes[8] = 1
  bytes[9] = 0x7f
  bytes[10] = 3
  bytes.write(mechanism, MECHANISM_START, 'latin1')
  return bytes
}

function latin1(frame: Uint8Array | undefined): string {
  return frame === undefined ? '' : Buffer.from(frame).toString('latin1')
}

function notAllowed(message: string, hint: string): StreamError {
  return new StreamError('NOT_ALLOWED', message, { hint })
}
