/**
 * Message transport as the core sees it: whole messages over links, in order, in both directions. Real: src/io/real-net.ts
 * (ZeroMQ for ipc:// and tcp://, Kafka's int32-size framing for kafka://, plain bytes for line://); simulated: test/sim/sim-net.ts.
 *
 * A message is header + body bytes of kafka-protocol.md section 1, without any size prefix, given as one or more frames
 * whose concatenation it is. Frames handed to `send` must stay unchanged until the peer has answered. Frames received
 * may be kept for ever by the receiver.
 *
 * `line://PATH` has no messages: what arrives is handed on in chunks of any size, what is sent goes out as it is.
 *
 * Callbacks of one link come in order and never from inside a call of the same link. After onClose there are none.
 */
import type { CurveClientKeys } from '../base/curve-keys.ts'

export interface Net {
  /**
   * Returns at once; onOpen or onClose follows. Addresses: `ipc://PATH`, `tcp://HOST:PORT`, `kafka://HOST:PORT`.
   * `line://PATH` is only listened at. Without `security` the link has that of this Net, if it has any.
   * @throws StreamError ADDRESS_INVALID
   */
  connect(address: string, events: LinkEvents, security?: LinkSecurity): Link
  /**
   * Resolves once bound. A port of 0 takes a free one; the listener's `address` names it.
   * @throws StreamError ADDRESS_INVALID, ADDRESS_IN_USE, PERMISSION_DENIED
   */
  listen(
    address: string,
    options: ListenOptions,
    onLink: (link: Link) => LinkEvents,
  ): Promise<Listener>
}

/** How a link is protected; each part is for one scheme and without meaning for the others. */
export interface LinkSecurity {
  /** `tcp://` */
  readonly curve?: CurveClientKeys
  /** `kafka://` */
  readonly tls?: TlsClient
}

/** TLS to a broker. Its certificate is checked against what is trusted, and against its name. */
export interface TlsOptions {
  /** PEM: the authorities that are trusted, in place of the well-known ones. */
  readonly ca?: Uint8Array
  /** PEM: what is shown to a broker that asks for a certificate, with its chain. */
  readonly certificate?: Uint8Array
  /** PEM, of that certificate. */
  readonly key?: Uint8Array
  readonly keyPassword?: string
  /** In the broker's certificate, where it is not that of its address. */
  readonly serverName?: string
  /** `none`: whoever answers is taken for the broker. `chain`: a certificate of any name will do. */
  readonly verifies: 'all' | 'chain' | 'none'
}

/** TlsOptions made ready by the transport they are for (src/io/tls-client.ts), which is loaded only then. */
export interface TlsClient {
  readonly kind: 'tls'
}

/** A peer that was not let in. */
export interface LinkRefusal {
  /** For operators, with what to do. */
  readonly why: string
  /** Its address, where the transport tells it. */
  readonly peer?: string
  /** The key that it has shown. */
  readonly publicKey?: string
}

/** The longest message that a client takes of a broker: Kafka's own default limit of a request, doubled. */
export const ANSWER_BYTES_MAX = 200 * 1024 * 1024

export interface ListenOptions {
  /** A longer message ends the link (where the transport can) and never reaches onMessage. */
  readonly messageBytesMax: number
  /** Links beyond this are refused. */
  readonly linksMax: number
  /** Connections whose handshake (TLS) is not done; a further one takes the place of the oldest. Default: linksMax. */
  readonly newcomersMax?: number
  /** A link that sends nothing for so long is closed; undefined: never. */
  readonly idleMsMax?: number
  /** Hears of peers that were refused for want of the right key. */
  readonly onRefused?: (refusal: LinkRefusal) => void
}

export interface Listener {
  /** The address as clients connect to it, with the real port. */
  readonly address: string
  /** Stops accepting, closes all links after flushing what was sent, within `graceMs`. */
  close(graceMs: number): Promise<void>
  /**
   * Back-pressure: while paused nothing is read from any link (ZeroMQ) or from new data of links (TCP).
   * Bytes already on their way may still arrive.
   */
  pause(): void
  resume(): void
}

export interface Link {
  /** Unique within the process. */
  readonly id: number
  /** For operators: the remote address where it is known. */
  readonly peer: string
  /** Whether close() reaches the peer at once (TCP: true; one peer of a ROUTER: false, so a notice is sent instead). */
  readonly closable: boolean
  /** Queues one message. On a closed link it is dropped: onClose has said so. */
  send(frames: readonly Uint8Array[]): void
  /** Bytes given to `send` that the transport has not taken yet. */
  readonly queuedBytes: number
  /** Idempotent. Queued messages are still sent where possible. onClose follows. */
  close(): void
  /** The longest message that is taken from now on; a longer one ends the link. Where the transport can. */
  limitMessages?(bytesMax: number): void
  /** Back-pressure on this link alone, where the transport can: nothing is read until resume. At most one more onMessage. */
  pause?(): void
  resume?(): void
}

export interface LinkEvents {
  /** Client side: the link stands. Not called for accepted links. */
  onOpen?(): void
  onMessage(frames: readonly Uint8Array[]): void
  /** queuedBytes has fallen to half of what it was at its highest, after having been above 1 MiB. */
  onDrain?(): void
  /** The peer sends nothing more and still reads (line://). */
  onEnd?(): void
  /** The link is gone, or never came to be; every request in flight has an unknown outcome. */
  onClose(reason: Error | undefined): void
}
