/**
 * The places that settings come from (commands.md, section 1): `-X`, variables, `./.stream.conf`, the user's file, the
 * host's file. The first that names a key counts; each entry knows the place to name in an error or a listing.
 *
 * Invariant: a secret given in any of them is refused, and no error repeats its value.
 */

import { UsageError } from '../src/base/errors.ts'
import { configDirectory } from '../src/client/user-places.ts'
import { type ConfigKey, configVariable, findConfigDefect } from '../src/config/config-key.ts'
import { clientKeys, findKey, keysOf, unknownKeyMessage } from '../src/config/keys.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import type { Host } from '../src/ports/host.ts'
import type { Flags } from './flags.ts'

export { configDirectory }

export interface LayerEntry {
  readonly text: string
  /** For people: `-X`, `STREAM_CONF_LINGER_MS`, `/etc/stream/stream.conf:3`. */
  readonly place: string
}

export interface Layer {
  readonly kind: 'flag' | 'environment' | 'file' | 'context'
  /** For people: `-X`, `the environment`, a path. */
  readonly origin: string
  /** Client keys by name. */
  readonly entries: ReadonlyMap<string, LayerEntry>
}

export const PROJECT_FILE = './.stream.conf'
const HOST_FILE = '/etc/stream/stream.conf'

/** The first counts. @throws UsageError for unknown keys, bad values, secrets, a named file that is not there */
export function readLayers(flags: Flags, host: Host): Layer[] {
  return [
    { kind: 'flag', origin: '-X', entries: readOptionFlags(flags.all('option'), '-X') },
    {
      kind: 'environment',
      origin: 'the environment',
      entries: readVariables(host.environment),
    },
    ...readConfigFile(host, PROJECT_FILE, false),
    ...readConfigFile(host, userConfigPath(flags, host), isUserConfigNamed(flags, host)),
    ...readConfigFile(host, HOST_FILE, false),
  ]
}

/** The files that the daemon reads, the first counts. */
export function daemonConfigPaths(flags: Flags, host: Host): readonly string[] {
  return [userConfigPath(flags, host), HOST_FILE]
}

/** The user's file: what `config set` writes. */
export function userConfigPath(flags: Flags, host: Host): string {
  return (
    flags.text('config-file') ??
    nonEmpty(host.environment['STREAM_CONFIG_FILE']) ??
    `${configDirectory(host)}/stream.conf`
  )
}

function isUserConfigNamed(flags: Flags, host: Host): boolean {
  return flags.has('config-file') || nonEmpty(host.environment['STREAM_CONFIG_FILE']) !== undefined
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}

/** `KEY=VALUE` words. @throws UsageError */
export function readOptionFlags(words: readonly string[], origin: string): Map<string, LayerEntry> {
  const entries = new Map<string, LayerEntry>()
  for (const word of words) {
    const split = word.indexOf('=')
    if (split <= 0) throw new UsageError(`${origin} ${word}: must be KEY=VALUE`)
    setClientKey(entries, word.slice(0, split), word.slice(split + 1), origin)
  }
  return entries
}

/** @throws UsageError for an unknown key, a secret, a bad value */
export function setClientKey(
  entries: Map<string, LayerEntry>,
  name: string,
  text: string,
  place: string,
): void {
  const key = findKey('client', name)
  if (key === undefined) throw new UsageError(`${place}: ${unknownKeyMessage('client', name)}`)
  refuseSecret(key, place)
  const defect = findConfigDefect(key, text)
  if (defect !== undefined) throw new UsageError(`${place}: ${name}: ${text} ${defect}`)
  entries.set(name, { text, place })
}

/** @param place  where it stands; none: it is an argument of this command */
export function refuseSecret(key: ConfigKey, place?: string): void {
  if (key.type !== 'secret') return
  throw new UsageError(
    `${place === undefined ? '' : `${place}: `}${key.name} is a secret and may not be given here`,
    `name a file, a command or a variable in a context: stream context set NAME --secret ${key.name}=file:PATH`,
  )
}

/** `STREAM_CONF_…`: of any scope's key, but only the client's are used here; the daemon reads its own. */
function readVariables(
  variables: Readonly<Record<string, string | undefined>>,
): Map<string, LayerEntry> {
  const entries = new Map<string, LayerEntry>()
  let known: Set<string> | undefined
  for (const variable of Object.keys(variables)) {
    if (!variable.startsWith('STREAM_CONF_')) continue
    const text = variables[variable] ?? ''
    const key = clientKeys.find((candidate) => configVariable(candidate.name) === variable)
    if (key !== undefined) {
      setClientKey(entries, key.name, text, variable)
      continue
    }
    known ??= new Set(
      (['broker', 'topic'] as const).flatMap((scope) =>
        keysOf(scope).map(({ name }) => configVariable(name)),
      ),
    )
    if (known.has(variable)) continue
    const nearest = nearestName(variable, [
      ...clientKeys.map(({ name }) => configVariable(name)),
      ...known,
    ])
    throw new UsageError(
      `${variable}: no such config key`,
      nearest === undefined ? undefined : `did you mean ${nearest}?`,
    )
  }
  return entries
}

function readConfigFile(host: Host, path: string, mustExist: boolean): Layer[] {
  const bytes = host.readFile(path)
  if (bytes === undefined) {
    if (mustExist) throw new UsageError(`${path}: no such config file`)
    return []
  }
  const content = Buffer.from(bytes).toString('utf8')
  return [{ kind: 'file', origin: path, entries: parseConfigFile(content, path) }]
}

/**
 * The client's keys of a config file; those of the daemon and of topics are passed over.
 * @throws UsageError naming file and line
 */
export function parseConfigFile(content: string, path: string): Map<string, LayerEntry> {
  const entries = new Map<string, LayerEntry>()
  for (const { name, text, place } of configLines(content, path)) {
    const isOther = findKey('broker', name) !== undefined || findKey('topic', name) !== undefined
    if (isOther && findKey('client', name) === undefined) continue
    setClientKey(entries, name, text, place)
  }
  return entries
}

export interface ConfigLine {
  readonly name: string
  readonly text: string
  /** `PATH:LINE`. */
  readonly place: string
  /** From 0. */
  readonly index: number
}

/** The `key = value` lines of a config file; `#` begins a comment. @throws UsageError for other lines */
export function configLines(content: string, path: string): ConfigLine[] {
  return content.split('\n').flatMap((line, index) => {
    const trimmed = line.trim()
    if (trimmed === '' || trimmed.startsWith('#')) return []
    const place = `${path}:${index + 1}`
    const split = trimmed.indexOf('=')
    if (split <= 0) throw new UsageError(`${place}: must be key = value`)
    const name = trimmed.slice(0, split).trim()
    const text = trimmed
      .slice(split + 1)
      .replace(/\s#.*$/, '')
      .trim()
    return [{ name, text, place, index }]
  })
}
