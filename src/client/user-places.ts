/** Places as users write them, and the directory of their settings. */

import { UsageError } from '../base/errors.ts'
import type { Host } from '../ports/host.ts'

/** What little of a host the settings of a user need. */
export type UserHost = Pick<
  Host,
  'environment' | 'homeDirectory' | 'currentDirectory' | 'readFile' | 'stat'
>

export function configDirectory(host: Pick<Host, 'environment' | 'homeDirectory'>): string {
  const base = host.environment['XDG_CONFIG_HOME'] || `${host.homeDirectory}/.config`
  return `${base}/stream`
}

export function absolutePath(host: Pick<Host, 'currentDirectory'>, path: string): string {
  return path.startsWith('/') ? path : `${host.currentDirectory}/${path}`
}

/** As users write paths in files: `~/` is their home. */
export function filePath(
  host: Pick<Host, 'currentDirectory' | 'homeDirectory'>,
  word: string,
): string {
  return word.startsWith('~/') ? `${host.homeDirectory}${word.slice(1)}` : absolutePath(host, word)
}

/** By its text: what a name stands for may change. */
export function isOfThisHost(address: string): boolean {
  if (address.startsWith('ipc://')) return true
  const host = /^[a-z]+:\/\/(\[[^\]]*\]|[^:]*)/.exec(address)?.[1]?.toLowerCase() ?? ''
  return host === 'localhost' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host)
}

/**
 * `scheme://a[,b]` as one address each; `kafka://` without a port has 9092.
 * @throws UsageError for other schemes and for credentials in a URL
 */
export function splitAddress(address: string, origin: string): string[] {
  const match = /^(ipc|tcp|kafka):\/\/(.+)$/.exec(address)
  if (match === null) {
    const shown = address.includes('@') ? '***' : address
    throw new UsageError(
      `${origin}: ${shown}: not an address`,
      'ipc://PATH, tcp://HOST:PORT or kafka://HOST[:PORT]',
    )
  }
  const [, scheme = '', rest = ''] = match
  if (scheme === 'ipc') return [address]
  return rest.split(',').map((place) => {
    if (place.includes('@')) {
      throw new UsageError(
        `${origin}: an address may not hold credentials`,
        'name a file, a command or a variable in a context',
      )
    }
    const hasPort = /:\d+$/.test(place)
    if (place === '' || (!hasPort && scheme === 'tcp')) {
      throw new UsageError(`${origin}: ${scheme}://${place}: a port is missing`)
    }
    return `${scheme}://${hasPort ? place : `${place}:9092`}`
  })
}
