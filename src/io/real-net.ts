/** The network of the machine: ZeroMQ for ipc:// and tcp://, Kafka's framing for kafka://, plain bytes for line://. */

import { StreamError } from '../base/errors.ts'
import type { Link, LinkEvents, LinkSecurity, Listener, ListenOptions, Net } from '../ports/net.ts'
import { parseAddress } from './address.ts'
import { TcpNet } from './tcp-net.ts'
import type { TlsServerKeys } from './tls-server.ts'
import { ZmqNet, type ZmqOptions } from './zmq-net.ts'

export interface RealNetOptions extends ZmqOptions {
  /** With them every listener of kafka:// speaks only TLS. */
  readonly tls?: TlsServerKeys | undefined
}

export class RealNet implements Net {
  private readonly zmq: ZmqNet
  private readonly tcp: TcpNet

  constructor(options: RealNetOptions = {}) {
    this.zmq = new ZmqNet(options)
    this.tcp = new TcpNet(options.tls)
  }

  connect(address: string, events: LinkEvents, security?: LinkSecurity): Link {
    const parsed = parseAddress(address)
    if (parsed.kind === 'line') {
      throw new StreamError('ADDRESS_INVALID', `${address} speaks the line protocol`, {
        target: address,
        hint: 'see: stream help line-protocol',
      })
    }
    return parsed.kind === 'kafka'
      ? this.tcp.connect(parsed, events, security?.tls)
      : this.zmq.connect(parsed, events, security?.curve)
  }

  async listen(
    address: string,
    options: ListenOptions,
    onLink: (link: Link) => LinkEvents,
  ): Promise<Listener> {
    const parsed = parseAddress(address)
    if (parsed.kind === 'line') {
      const { listenForLines } = await import('./line-net.ts')
      return listenForLines(parsed.path, options, onLink)
    }
    return parsed.kind === 'kafka'
      ? this.tcp.listen(parsed, options, onLink)
      : this.zmq.listen(parsed, options, onLink)
  }
}
