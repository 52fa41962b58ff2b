/**
 * Nothing listens beyond this host without protection, unless the operator says so in so many words: `tcp://` needs keys
 * (`stream.curve.key.file`), `kafka://` has none, and both open with `stream.allow.plaintext=true`.
 */
import { StreamError } from '../../src/base/errors.ts'
import { readBoolean } from '../../src/config/config-key.ts'

/** @param config  the broker's keys that were set. @throws StreamError CONFIG_INVALID */
export function assertProtected(
  listen: readonly string[],
  config: ReadonlyMap<string, string>,
): void {
  if (readBoolean(config.get('stream.allow.plaintext') ?? '') === true) return
  const hasKeys = (config.get('stream.curve.key.file') ?? '') !== ''
  for (const address of listen) {
    const match = /^(tcp|kafka):\/\/(\[[^\]]*\]|[^:]*)/.exec(address)
    if (match === null || isLoopback(match[2] ?? '')) continue
    const isTcp = match[1] === 'tcp'
    if (isTcp && hasKeys) continue
    throw new StreamError(
      'CONFIG_INVALID',
      isTcp
        ? `${address}: reachable from other hosts, and no keys are set`
        : `${address}: reachable from other hosts, in clear text and without a login`,
      {
        target: address,
        hint: isTcp
          ? 'make keys (stream cluster keys) and name them: -X stream.curve.key.file=FILE; or, for a network that you trust: -X stream.allow.plaintext=true'
          : 'for a network that you trust: -X stream.allow.plaintext=true',
      },
    )
  }
}

/** By its text: what a name stands for may change. */
function isLoopback(host: string): boolean {
  const plain = host.replace(/^\[|\]$/g, '').toLowerCase()
  if (plain === 'localhost' || plain === '::1') return true
  return /^(::ffff:)?127(\.\d{1,3}){3}$/.test(plain)
}
