/**
 * How the sources of links are reached: by their addresses alone, or by a context of this daemon's own user, which has what
 * protects the connection. A context of another address than the link's is refused: whoever may make links must not be able to
 * send its secrets elsewhere.
 */

import { isStreamError, StreamError, UsageError } from '../../src/base/errors.ts'
import type { OpenContext, SourceAccess } from '../../src/client/source-context.ts'
import type { Timer } from '../../src/ports/time.ts'
import type { LinkValue } from '../metadata/link-values.ts'
import type { Broker } from '../replica/broker.ts'

/** Files and commands that hold secrets may come later than the daemon. */
const RETRY_MS = 5000

export class SourceAccesses {
  readonly #broker: Broker
  readonly #openContext: OpenContext | undefined
  /** By the link's id: what is being waited for, and what was wrong last. */
  readonly #waiting = new Map<string, { problem: string | undefined; timer: Timer | undefined }>()
  #isStopped = false

  /** @param openContext  undefined: this daemon has no contexts */
  constructor(broker: Broker, openContext: OpenContext | undefined) {
    this.#broker = broker
    this.#openContext = openContext
  }

  /** @throws StreamError CONFIG_INVALID, CONFLICT, SECRET_UNAVAILABLE …; UsageError */
  async access({ source, context }: Pick<LinkValue, 'source' | 'context'>): Promise<SourceAccess> {
    if (context === null) return { addresses: source }
    if (this.#openContext === undefined) {
      throw new StreamError('CONFIG_INVALID', `@${context}: this daemon has no contexts`)
    }
    const access = await this.#openContext(context)
    if (access.addresses.join() !== source.join()) {
      throw new StreamError(
        'CONFLICT',
        `context ${context} of the daemon is ${access.addresses.join(',')}, and the link's source ${source.join(',')}`,
        { target: context },
      )
    }
    return access
  }

  /** Why a link has no contact yet; undefined: nothing is known to be wrong. */
  problem(linkId: string): string | undefined {
    return this.#waiting.get(linkId)?.problem
  }

  /** Until it is had; once for a link at a time. @param isWanted  the link is still there */
  open(value: LinkValue, isWanted: () => boolean, onOpen: (access: SourceAccess) => void): void {
    if (this.#waiting.has(value.id) || this.#isStopped) return
    const waiting = { problem: undefined, timer: undefined } as {
      problem: string | undefined
      timer: Timer | undefined
    }
    this.#waiting.set(value.id, waiting)
    const attempt = async (): Promise<void> => {
      waiting.timer = undefined
      let access: SourceAccess | undefined
      try {
        access = await this.access(value)
      } catch (error) {
        if (!isStreamError(error) && !(error instanceof UsageError)) throw error
        waiting.problem = error.message
      }
      if (this.#isStopped) return
      if (access === undefined && isWanted()) {
        waiting.timer = this.#broker.time.setTimer(RETRY_MS, () => void attempt())
        return
      }
      this.#waiting.delete(value.id)
      if (access !== undefined && isWanted()) onOpen(access)
    }
    void attempt()
  }

  stop(): void {
    this.#isStopped = true
    for (const { timer } of this.#waiting.values()) timer?.cancel()
  }
}
