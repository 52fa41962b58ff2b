/**
 * Nothing listens beyond this host without protection, unless the operator says so in so many words: `tcp://` needs keys
 * (`stream.curve.key.file`), `kafka://` TLS or logins, and no password comes over a network in clear text.
 * `stream.allow.plaintext=true` opens all of it.
 */
import { StreamError } from '../../src/base/errors.ts'
import { readBoolean, splitList } from '../../src/config/config-key.ts'

type Config = ReadonlyMap<string, string>

interface Defect {
  readonly what: string
  readonly hint: string
}

const IN_SO_MANY_WORDS = 'for a network that you trust: -X stream.allow.plaintext=true'

/** @param config  the broker's keys that were set. @throws StreamError CONFIG_INVALID */
export function assertProtected(listen: readonly string[], config: Config): void {
  if (readBoolean(config.get('stream.allow.plaintext') ?? '') === true) return
  for (const address of listen) {
    const match = /^(tcp|kafka):\/\/(\[[^\]]*\]|[^:]*)/.exec(address)
    if (match === null || isLoopback(match[2] ?? '')) continue
    const defect = match[1] === 'tcp' ? defectOfTcp(config) : defectOfKafka(config)
    if (defect === undefined) continue
    throw new StreamError('CONFIG_INVALID', `${address}: ${defect.what}`, {
      target: address,
      hint: `${defect.hint}; or, ${IN_SO_MANY_WORDS}`,
    })
  }
}

function defectOfTcp(config: Config): Defect | undefined {
  if (isSet(config, 'stream.curve.key.file')) return undefined
  return {
    what: 'reachable from other hosts, and no keys are set',
    hint: 'make keys (stream cluster keys) and name them: -X stream.curve.key.file=FILE',
  }
}

function defectOfKafka(config: Config): Defect | undefined {
  if (isSet(config, 'stream.kafka.tls.certificate.file')) return undefined
  const mechanisms = splitList(config.get('sasl.enabled.mechanisms') ?? '')
  const tls = '-X stream.kafka.tls.certificate.file=FILE -X stream.kafka.tls.key.file=FILE'
  if (mechanisms.length === 0) {
    return {
      what: 'reachable from other hosts, in clear text and without a login',
      hint: `use TLS (${tls}), logins (-X sasl.enabled.mechanisms=SCRAM-SHA-512, stream users set NAME), or both`,
    }
  }
  if (!mechanisms.includes('PLAIN')) return undefined
  return {
    what: 'reachable from other hosts, and PLAIN sends passwords in clear text',
    hint: `use TLS (${tls}), or leave PLAIN out of sasl.enabled.mechanisms`,
  }
}

function isSet(config: Config, name: string): boolean {
  return (config.get(name) ?? '') !== ''
}

/** By its text: what a name stands for may change. */
function isLoopback(host: string): boolean {
  const plain = host.replace(/^\[|\]$/g, '').toLowerCase()
  if (plain === 'localhost' || plain === '::1') return true
  return /^(::ffff:)?127(\.\d{1,3}){3}$/.test(plain)
}
