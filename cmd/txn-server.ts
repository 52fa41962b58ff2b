/**
 * The socket of `stream txn`: which commands of the pipeline have come, what they asked for, and how each of them ended.
 *
 * Invariant: a command counts as ended well only when it has said so itself; one whose link goes away before did not.
 */

import type { Link, Listener, Net } from '../src/ports/net.ts'
import {
  decodeMessage,
  encodeMessage,
  refusalOf,
  type TxnOffset,
  type TxnQuestion,
  type TxnRange,
} from './txn-protocol.ts'

const MESSAGE_BYTES_MAX = 64 * 1024 * 1024
const LINKS_MAX = 10_000
const CLOSE_MS = 1000

/** A command that has asked for something. */
export class TxnParty {
  kind: 'consumer' | 'producer' | undefined
  group = ''
  ranges: readonly TxnRange[] = []
  /** Of a consumer at its proper end. */
  offsets: readonly TxnOffset[] = []
  /** Of a producer: where its records are. */
  spool: TxnSpool | undefined
  topics: readonly string[] = []
  isDone = false
  hasHungUp = false
  isGone = false
}

export interface TxnSpool {
  readonly path: string
  bytes: number
}

/** What answers the questions. It throws what the command is to be told. */
export type TxnHandler = (party: TxnParty, question: TxnQuestion) => Promise<object>

export class TxnServer {
  readonly parties: TxnParty[] = []
  readonly #handler: TxnHandler
  #listener: Listener | undefined
  #open = 0
  #onQuiet: () => void = () => undefined

  constructor(handler: TxnHandler) {
    this.#handler = handler
  }

  /** @throws StreamError as Net.listen */
  async listen(net: Net, address: string): Promise<void> {
    const options = { messageBytesMax: MESSAGE_BYTES_MAX, linksMax: LINKS_MAX }
    this.#listener = await net.listen(address, options, (link) => this.#accept(link))
  }

  #accept(link: Link) {
    const party = new TxnParty()
    this.parties.push(party)
    this.#open += 1
    return {
      onMessage: (frames: readonly Uint8Array[]) => void this.#answer(link, party, frames),
      onClose: () => {
        party.isGone = true
        this.#open -= 1
        if (this.#open === 0) this.#onQuiet()
      },
    }
  }

  async #answer(link: Link, party: TxnParty, frames: readonly Uint8Array[]): Promise<void> {
    try {
      const answer = await this.#handler(party, decodeMessage<TxnQuestion>(frames))
      link.send([encodeMessage({ answer })])
    } catch (error) {
      link.send([encodeMessage({ refusal: refusalOf(error) })])
    }
  }

  /** Resolves when all links have gone: nothing more is asked. At the latest when `limit` does. */
  async quiet(limit: Promise<void>): Promise<void> {
    if (this.#open === 0) return
    await Promise.race([
      limit,
      new Promise<void>((resolve) => {
        this.#onQuiet = resolve
      }),
    ])
  }

  async close(): Promise<void> {
    await this.#listener?.close(CLOSE_MS)
  }
}
