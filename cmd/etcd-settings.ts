/** The daemon's settings for etcd (`stream.etcd.*`), for a command that speaks to etcd itself: from where the daemon takes them. */

import { UsageError } from '../src/base/errors.ts'
import { configVariable, findConfigDefect } from '../src/config/config-key.ts'
import { keysOf, unknownKeyMessage } from '../src/config/keys.ts'
import type { Host } from '../src/ports/host.ts'
import { configLines, daemonConfigPaths } from './config-layers.ts'
import type { Flags } from './flags.ts'

const PREFIX = 'stream.etcd.'

/** `-X` over variables over files. @throws UsageError for another key in `-X`, or a value that is none */
export function readEtcdConfig(flags: Flags, host: Host): ReadonlyMap<string, string> {
  const keys = keysOf('broker').filter(({ name }) => name.startsWith(PREFIX))
  const given = new Map<string, string>()
  for (const word of flags.all('option')) {
    const cut = word.indexOf('=')
    if (cut < 1) throw new UsageError(`-X ${word}: must be KEY=VALUE`)
    const name = word.slice(0, cut)
    if (!keys.some((key) => key.name === name)) {
      throw new UsageError(
        `-X ${unknownKeyMessage('broker', name)}`,
        `here only ${PREFIX}* have a meaning`,
      )
    }
    given.set(name, word.slice(cut + 1))
  }
  const files = daemonConfigPaths(flags, host).map((path) => readFile(host, path))
  const found = new Map<string, string>()
  for (const key of keys) {
    const { name } = key
    const text =
      given.get(name) ??
      host.environment[configVariable(name)] ??
      files.find((file) => file.has(name))?.get(name)
    if (text === undefined) continue
    const defect = findConfigDefect(key, text)
    if (defect !== undefined) throw new UsageError(`${name}: ${text} ${defect}`)
    found.set(name, text)
  }
  return found
}

function readFile(host: Host, path: string): ReadonlyMap<string, string> {
  const bytes = host.readFile(path)
  const content = bytes === undefined ? '' : Buffer.from(bytes).toString('utf8')
  return new Map(configLines(content, path).map(({ name, text }) => [name, text]))
}
