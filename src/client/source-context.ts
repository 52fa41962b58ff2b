/**
 * A broker as a context names it, for whoever keeps contact with it for long: a daemon with links. The file is the context file of
 * the user that it runs as, so no credential comes from anywhere else, and none is kept: it is opened anew for each connection, and
 * a password is got anew for each login.
 */

import { StreamError } from '../base/errors.ts'
import { ConfigSet } from '../config/config-key.ts'
import { clientKeys } from '../config/keys.ts'
import type { Protection } from './cluster.ts'
import { ContextsFile } from './contexts.ts'
import { linkSecurity } from './link-security.ts'
import type { SecurityPorts } from './secrets.ts'
import { splitAddress } from './user-places.ts'

export interface SourceAccess extends Protection {
  /** As Net.connect takes them. */
  readonly addresses: readonly string[]
}

export type OpenContext = (name: string) => Promise<SourceAccess>

/**
 * @throws StreamError CONFIG_INVALID (no such context), and as linkSecurity; UsageError for a context that contradicts itself. No
 *   error holds a secret
 */
export async function openContext(ports: SecurityPorts, name: string): Promise<SourceAccess> {
  const file = ContextsFile.read(ports.host)
  const context = file.get(name)
  if (context === undefined) {
    throw new StreamError(
      'CONFIG_INVALID',
      `the daemon has no context ${name}: it looks in ${file.path}, on its own host`,
      { target: name },
    )
  }
  const addresses = splitAddress(context.broker, `context ${name}`)
  const settings = new ConfigSet(clientKeys, context.options)
  return { addresses, ...(await linkSecurity(ports, addresses, settings, context.secrets)) }
}
