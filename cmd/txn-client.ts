/** A command's end of the socket of `stream txn`. */

import { StreamError, UsageError } from '../src/base/errors.ts'
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

/** @throws UsageError for flags that mean a progress or a transaction of the command's own */
export function refuseInTransaction(flags: Flags, names: readonly string[]): void {
  for (const name of names) {
    if (!flags.has(name)) continue
    throw new UsageError(
      `--${name} cannot be used inside of stream txn`,
      'the transaction commits what was read and produced in it',
    )
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
