/**
 * Which broker, and the client settings in force (commands.md, sections 1 and 2): flag over environment over files over
 * default, each with its origin.
 *
 * Invariants:
 * - Secrets given in a flag, `-X`, a variable, a config file or a URL are refused; an error never repeats their value.
 * - Variables other than the documented ones never change a command.
 */

import { UsageError } from '../src/base/errors.ts'
import {
  type ConfigKey,
  ConfigSet,
  configVariable,
  findConfigDefect,
} from '../src/config/config-key.ts'
import {
  type ClientKeyName,
  clientKeys,
  findKey,
  keysOf,
  unknownKeyMessage,
} from '../src/config/keys.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import type { Host } from '../src/ports/host.ts'
import type { Flags } from './flags.ts'

/** `user` and `host`: the sockets that are tried when no broker was named. */
export type BrokerChoice =
  | { readonly kind: 'named'; readonly addresses: readonly string[]; readonly origin: string }
  | { readonly kind: 'local'; readonly userAddress: string; readonly hostAddress: string }

export interface Settings {
  readonly broker: BrokerChoice
  readonly client: ConfigSet<ClientKeyName>
  /** Whether a daemon may be started when no broker was named. */
  readonly mayStart: boolean
}

const HOST_SOCKET = '/run/stream/daemon.sock'

/**
 * @throws UsageError for unknown keys, bad values, secrets, a contradiction, an unknown context
 */
export function readSettings(flags: Flags, host: Host): Settings {
  const { environment } = host
  const layers = readLayers(flags, host)
  const broker = chooseBroker(flags, host, layers)
  const texts = new Map<string, string>()
  for (const layer of [...layers].reverse()) {
    for (const [name, text] of layer.texts) texts.set(name, text)
  }
  if (broker.context !== undefined) applyContext(broker.context, layers, texts)
  texts.delete('broker')
  texts.delete('context')
  return {
    broker: broker.choice,
    client: new ConfigSet(clientKeys, texts),
    mayStart: environment['STREAM_AUTOSTART'] !== '0',
  }
}

interface Layer {
  readonly origin: string
  /** Client keys only. */
  readonly texts: ReadonlyMap<string, string>
  readonly isFile: boolean
}

/** The first counts. */
function readLayers(flags: Flags, host: Host): Layer[] {
  const { environment } = host
  const configHome = configDirectory(host)
  const userFile =
    flags.text('config-file') ?? environment['STREAM_CONFIG_FILE'] ?? `${configHome}/stream.conf`
  const isNamed = flags.has('config-file') || environment['STREAM_CONFIG_FILE'] !== undefined
  return [
    { origin: '-X', texts: readOptionFlags(flags.all('option')), isFile: false },
    { origin: 'the environment', texts: readVariables(environment), isFile: false },
    ...readConfigFile(host, './.stream.conf', false),
    ...readConfigFile(host, userFile, isNamed),
    ...readConfigFile(host, '/etc/stream/stream.conf', false),
  ]
}

function configDirectory(host: Host): string {
  const home = host.environment['XDG_CONFIG_HOME']
  const base = home === undefined || home === '' ? `${host.homeDirectory}/.config` : home
  return `${base}/stream`
}

function readOptionFlags(words: readonly string[]): Map<string, string> {
  const texts = new Map<string, string>()
  for (const word of words) {
    const split = word.indexOf('=')
    if (split <= 0) throw new UsageError(`-X ${word}: must be KEY=VALUE`)
    const name = word.slice(0, split)
    setClientKey(texts, name, word.slice(split + 1), '-X')
  }
  return texts
}

function setClientKey(
  texts: Map<string, string>,
  name: string,
  text: string,
  origin: string,
): void {
  const key = findKey('client', name)
  if (key === undefined) throw new UsageError(unknownKeyMessage('client', name))
  refuseSecret(key, origin)
  const defect = findConfigDefect(key, text)
  if (defect !== undefined) throw new UsageError(`${origin}: ${name}: ${text} ${defect}`)
  texts.set(name, text)
}

function refuseSecret(key: ConfigKey, origin: string): void {
  if (key.type !== 'secret') return
  throw new UsageError(
    `${origin}: ${key.name} is a secret and may not be given here`,
    'name a file, a command or a variable in a context',
  )
}

/** `STREAM_CONF_…`: of any scope's key, but only the client's are used here; the daemon reads its own. */
function readVariables(
  variables: Readonly<Record<string, string | undefined>>,
): Map<string, string> {
  const texts = new Map<string, string>()
  let known: Map<string, string> | undefined
  for (const variable of Object.keys(variables)) {
    if (!variable.startsWith('STREAM_CONF_')) continue
    const text = variables[variable] ?? ''
    const key = clientKeys.find((candidate) => configVariable(candidate.name) === variable)
    if (key !== undefined) {
      setClientKey(texts, key.name, text, variable)
      continue
    }
    known ??= new Map(
      (['broker', 'topic'] as const).flatMap((scope) =>
        keysOf(scope).map(({ name }) => [configVariable(name), name] as const),
      ),
    )
    if (known.has(variable)) continue
    const nearest = nearestName(variable, [
      ...clientKeys.map(({ name }) => configVariable(name)),
      ...known.keys(),
    ])
    throw new UsageError(
      `${variable}: no such config key`,
      nearest === undefined ? undefined : `did you mean ${nearest}?`,
    )
  }
  return texts
}

function readConfigFile(host: Host, path: string, mustExist: boolean): Layer[] {
  const bytes = host.readFile(path)
  if (bytes === undefined) {
    if (mustExist) throw new UsageError(`${path}: no such config file`)
    return []
  }
  return [
    {
      origin: path,
      texts: parseConfigFile(Buffer.from(bytes).toString('utf8'), path),
      isFile: true,
    },
  ]
}

/**
 * `key = value` lines with `#` comments.
 * @throws UsageError naming file and line
 */
export function parseConfigFile(content: string, path: string): Map<string, string> {
  const texts = new Map<string, string>()
  for (const [index, line] of content.split('\n').entries()) {
    const text = line.trim()
    if (text === '' || text.startsWith('#')) continue
    const place = `${path}:${index + 1}`
    const split = text.indexOf('=')
    if (split <= 0) throw new UsageError(`${place}: must be key = value`)
    const name = text.slice(0, split).trim()
    const value = text
      .slice(split + 1)
      .replace(/\s#.*$/, '')
      .trim()
    const isOther = findKey('broker', name) !== undefined || findKey('topic', name) !== undefined
    if (isOther && findKey('client', name) === undefined) continue
    setClientKey(texts, name, value, place)
  }
  return texts
}

interface Context {
  readonly name: string
  readonly broker: string
  readonly options: Readonly<Record<string, string>>
  readonly hasSecrets: boolean
}

function chooseBroker(
  flags: Flags,
  host: Host,
  layers: readonly Layer[],
): { readonly choice: BrokerChoice; readonly context: Context | undefined } {
  flags.exclusive('broker', 'context')
  const { environment } = host
  const named = (address: string, origin: string) => ({
    choice: { kind: 'named', addresses: splitAddress(address, origin), origin } as const,
    context: undefined,
  })
  const inContext = (name: string, origin: string) => {
    const context = findContext(host, name, origin)
    const addresses = splitAddress(context.broker, `context ${name}`)
    return { choice: { kind: 'named', addresses, origin: `context ${name}` } as const, context }
  }
  const flagBroker = flags.text('broker')
  if (flagBroker !== undefined) return named(flagBroker, '--broker')
  const flagContext = flags.text('context')
  if (flagContext !== undefined) return inContext(flagContext, '--context')
  const variableBroker = environment['STREAM_BROKER']
  if (variableBroker !== undefined && variableBroker !== '') {
    return named(variableBroker, 'STREAM_BROKER')
  }
  const variableContext = environment['STREAM_CONTEXT']
  if (variableContext !== undefined && variableContext !== '') {
    return inContext(variableContext, 'STREAM_CONTEXT')
  }
  for (const { origin, texts } of layers) {
    const broker = texts.get('broker')
    if (broker !== undefined) return named(broker, origin)
    const context = texts.get('context')
    if (context !== undefined) return inContext(context, origin)
  }
  const current = readContexts(host)?.current
  if (typeof current === 'string' && current !== '') return inContext(current, 'contexts.json')
  return {
    choice: {
      kind: 'local',
      userAddress: userDaemonAddress(host),
      hostAddress: `ipc://${HOST_SOCKET}`,
    },
    context: undefined,
  }
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

interface ContextsFile {
  readonly current?: unknown
  readonly contexts?: unknown
}

function readContexts(host: Host): ContextsFile | undefined {
  const path = `${configDirectory(host)}/contexts.json`
  const bytes = host.readFile(path)
  if (bytes === undefined) return undefined
  try {
    const parsed: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'))
    if (typeof parsed === 'object' && parsed !== null) return parsed
  } catch {
    // Said below, without the content: it may hold what nobody should see.
  }
  throw new UsageError(`${path}: not a JSON object`)
}

function findContext(host: Host, name: string, origin: string): Context {
  const contexts = readContexts(host)?.contexts
  const known = isRecord(contexts) ? contexts : {}
  const context = Object.hasOwn(known, name) ? known[name] : undefined
  if (!isRecord(context)) {
    const nearest = nearestName(name, Object.keys(known))
    throw new UsageError(
      `${origin}: ${name}: no such context`,
      nearest === undefined ? undefined : `did you mean ${nearest}?`,
    )
  }
  const broker = context['broker']
  if (typeof broker !== 'string') throw new UsageError(`context ${name}: no broker in it`)
  const options = context['options']
  const secrets = context['secrets']
  return {
    name,
    broker,
    options: isRecord(options)
      ? Object.fromEntries(Object.entries(options).map(([key, value]) => [key, String(value)]))
      : {},
    hasSecrets: isRecord(secrets) && Object.keys(secrets).length > 0,
  }
}

/** A context's options stand over files, under flags and variables. */
function applyContext(
  context: Context,
  layers: readonly Layer[],
  texts: Map<string, string>,
): void {
  if (context.hasSecrets) {
    throw new UsageError(`context ${context.name}: this version cannot log in with secrets`)
  }
  const options = new Map<string, string>()
  for (const [name, text] of Object.entries(context.options)) {
    setClientKey(options, name, text, `context ${context.name}`)
  }
  for (const [name, text] of options) {
    const isStronger = layers.some((layer) => !layer.isFile && layer.texts.has(name))
    if (!isStronger) texts.set(name, text)
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Directory of the user's socket. */
export function runtimeDirectory(host: Host): string {
  const directory = host.environment['XDG_RUNTIME_DIR']
  return directory === undefined || directory === ''
    ? `/tmp/stream-${host.userId}`
    : `${directory}/stream`
}

export function userDaemonAddress(host: Host): string {
  return `ipc://${runtimeDirectory(host)}/daemon.sock`
}

/** `$STREAM_DATA`, `$XDG_DATA_HOME/stream`; root's own is /var/lib/stream. */
export function dataDirectory(host: Host): string {
  const { environment } = host
  const named = environment['STREAM_DATA']
  if (named !== undefined && named !== '') return named
  const home = environment['XDG_DATA_HOME']
  if (home !== undefined && home !== '') return `${home}/stream`
  return host.userId === 0 ? '/var/lib/stream' : `${host.homeDirectory}/.local/share/stream`
}

/** Where the daemon that commands start writes what it has to say. */
export function daemonLogPath(host: Host): string {
  const home = host.environment['XDG_STATE_HOME']
  const base = home === undefined || home === '' ? `${host.homeDirectory}/.local/state` : home
  return `${base}/stream/daemon.log`
}

export function absolutePath(host: Host, path: string): string {
  return path.startsWith('/') ? path : `${host.currentDirectory}/${path}`
}
