/**
 * How the sources of links are reached: by their addresses alone, or by a context of this daemon's own user, which has what
 * protects the connection. A context of another address than the link's is refused: whoever may make links must not be able to
 * send its secrets elsewhere.
 *
 * A context and its files are read anew for each connection, so what has been exchanged in them counts from the next one on.
 */

import { StreamError } from '../../src/base/errors.ts'
import type { ClusterOptions } from '../../src/client/cluster.ts'
import type { OpenContext, SourceAccess } from '../../src/client/source-context.ts'
import type { LinkValue } from '../metadata/link-values.ts'

type Source = Pick<LinkValue, 'source' | 'context'>
/** For a client of the source. */
export type SourcePlace = Pick<ClusterOptions, 'addresses' | 'protect'>

export class SourceAccesses {
  readonly #openContext: OpenContext | undefined

  /** @param openContext  undefined: this daemon has no contexts */
  constructor(openContext: OpenContext | undefined) {
    this.#openContext = openContext
  }

  access({ source: addresses, context }: Source): SourcePlace {
    if (context === null) return { addresses }
    return { addresses, protect: () => this.#open(context, addresses) }
  }

  /** @throws StreamError CONFIG_INVALID, CONFLICT, SECRET_UNAVAILABLE …; UsageError */
  async #open(context: string, addresses: readonly string[]): Promise<SourceAccess> {
    if (this.#openContext === undefined) {
      throw new StreamError('CONFIG_INVALID', `@${context}: this daemon has no contexts`)
    }
    const access = await this.#openContext(context)
    if (access.addresses.join() !== addresses.join()) {
      throw new StreamError(
        'CONFLICT',
        `context ${context} of the daemon is ${access.addresses.join(',')}, and the link's source ${addresses.join(',')}`,
        { target: context },
      )
    }
    return access
  }
}
