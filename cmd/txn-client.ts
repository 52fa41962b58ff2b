/** A command's end of the socket of `stream txn`. */

import { StreamError } from '../src/base/errors.ts'
import type { Link } from '../src/ports/net.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import {
  decodeMessage,
  encodeMessage,
  errorOfRefusal,
  type TxnAnswers,
  type TxnMessage,
  type TxnQuestion,
} from './txn-protocol.ts'

/** The socket of the transaction that this command runs in; undefined: it runs in none. */
export function transactionAddress({ host }: Pick<CommandDeps, 'host'>): string | undefined {
  const address = host.environment['STREAM_TXN']
  return address === undefined || address === '' ? undefined : address
}

/** Flags that mean a progress or a transaction of the command's own. @throws UsageError, which the transaction hears of */
export async function refuseFlags(
  client: TxnClient,
  flags: Flags,
  names: readonly string[],
): Promise<void> {
  const found = names.find((name) => flags.has(name))
  if (found === undefined) return
  await client.call({
    kind: 'refused',
    message: `--${found} cannot be used inside of stream txn`,
    hint: 'the transaction commits what was read and produced in it',
  })
}

/** Of a command that has no place inside of a transaction. @throws UsageError, which the transaction hears of */
export async function refuseCommand(deps: CommandDeps, command: string): Promise<void> {
  const address = transactionAddress(deps)
  if (address === undefined) return
  const client = new TxnClient(deps, address)
  try {
    await client.call({
      kind: 'refused',
      message: `stream ${command} cannot be used inside of stream txn`,
      hint: 'it commits by itself: run it alone',
    })
  } finally {
    client.close()
  }
}

export class TxnClient {
  readonly #link: Link
  #waiting:
    | { readonly resolve: (answer: never) => void; readonly reject: (error: unknown) => void }
    | undefined
  #last: Promise<unknown> = Promise.resolve()
  #isClosed = false

  constructor(deps: Pick<CommandDeps, 'net'>, address: string) {
    this.#link = deps.net.connect(address, {
      onMessage: (frames) => this.#onMessage(frames),
      onClose: () => {
        this.#isClosed = true
        this.#settle()?.reject(gone())
      },
    })
  }

  /** One after the other, in order. @throws StreamError CLOSED when stream txn has gone; what it answers as an error */
  call<K extends TxnQuestion['kind']>(
    question: Extract<TxnQuestion, { kind: K }>,
  ): Promise<TxnAnswers[K]> {
    const run = this.#last.then(() => this.#ask<TxnAnswers[K]>(question))
    this.#last = run.catch(() => undefined)
    return run
  }

  #ask<T>(question: TxnQuestion): Promise<T> {
    if (this.#isClosed) return Promise.reject(gone())
    return new Promise<T>((resolve, reject) => {
      this.#waiting = { resolve: resolve as (answer: never) => void, reject }
      this.#link.send([encodeMessage(question)])
    })
  }

  close(): void {
    this.#link.close()
  }

  #onMessage(frames: readonly Uint8Array[]): void {
    const waiting = this.#settle()
    try {
      const message = decodeMessage<TxnMessage>(frames)
      if ('answer' in message) waiting?.resolve(message.answer as never)
      else waiting?.reject(errorOfRefusal(message.refusal))
    } catch (error) {
      waiting?.reject(error)
    }
  }

  #settle() {
    const waiting = this.#waiting
    this.#waiting = undefined
    return waiting
  }
}

function gone(): StreamError {
  return new StreamError('CLOSED', 'stream txn has gone, and the transaction with it')
}
