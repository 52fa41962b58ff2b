/**
 * Which broker, and the client settings in force (commands.md, sections 1 and 2): flag over environment over files over
 * default; a context's options stand over files, under flags and variables.
 *
 * Invariants:
 * - Secrets given in a flag, `-X`, a variable, a config file or a URL are refused; an error never repeats their value.
 * - A project file cannot weaken how a context with secrets is protected.
 */

import { UsageError } from '../src/base/errors.ts'
import { type Context, ContextsFile } from '../src/client/contexts.ts'
import type { SecretSource } from '../src/client/secrets.ts'
import { absolutePath, filePath, isOfThisHost, splitAddress } from '../src/client/user-places.ts'
import { ConfigSet } from '../src/config/config-key.ts'
import { type ClientKeyName, clientKeys } from '../src/config/keys.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import type { Host } from '../src/ports/host.ts'
import {
  type Layer,
  type LayerEntry,
  PROJECT_FILE,
  readLayers,
  setClientKey,
} from './config-layers.ts'
import type { Flags } from './flags.ts'

/** `user` and `host`: the sockets that are tried when no broker was named. */
export type BrokerChoice =
  | {
      readonly kind: 'named'
      readonly addresses: readonly string[]
      readonly origin: string
      /** What named the context that names the broker. */
      readonly contextOrigin?: string
    }
  | { readonly kind: 'local'; readonly userAddress: string; readonly hostAddress: string }

export { absolutePath, filePath, isOfThisHost, splitAddress }

export interface Settings {
  readonly broker: BrokerChoice
  readonly client: ConfigSet<ClientKeyName>
  /** Where the secrets of the context are, by their keys. */
  readonly secrets: ReadonlyMap<string, SecretSource>
  /** Whether a daemon may be started when no broker was named. */
  readonly mayStart: boolean
}

const HOST_SOCKET = '/run/stream/daemon.sock'

/**
 * @throws UsageError for unknown keys, bad values, secrets, a contradiction, an unknown context
 */
export function readSettings(flags: Flags, host: Host): Settings {
  const { choice, layers, context } = readPlaces(flags, host)
  const texts = new Map<string, string>()
  for (const layer of [...layers].reverse()) {
    for (const [name, { text }] of layer.entries) texts.set(name, text)
  }
  texts.delete('broker')
  texts.delete('context')
  refuseWeakening(layers, context)
  return {
    broker: choice,
    client: new ConfigSet(clientKeys, texts),
    secrets: context?.secrets ?? new Map(),
    mayStart: host.environment['STREAM_AUTOSTART'] !== '0',
  }
}

export interface SettingPlaces {
  readonly choice: BrokerChoice
  /** The first counts; the context's among them. */
  readonly layers: readonly Layer[]
  readonly context: Context | undefined
}

/** The places that settings come from, and the broker that they name. @throws UsageError */
export function readPlaces(flags: Flags, host: Host): SettingPlaces {
  const layers = readLayers(flags, host)
  const { choice, context } = chooseBroker(flags, host, layers)
  if (context === undefined) return { choice, layers, context }
  const files = layers.findIndex(({ kind }) => kind === 'file')
  const at = files < 0 ? layers.length : files
  return { choice, context, layers: layers.toSpliced(at, 0, contextLayer(context)) }
}

function contextLayer(context: Context): Layer {
  const entries = new Map<string, LayerEntry>()
  const origin = `context ${context.name}`
  for (const [name, text] of context.options) setClientKey(entries, name, text, origin)
  return { kind: 'context', origin, entries }
}

/** Keys that say how a connection is protected. */
export const protectionKey = /^(security\.|ssl\.|sasl\.|enable\.ssl\.|curve\.)/

/** Who gives you a directory could else make you show the secrets of a context in clear text, or to another broker. */
function refuseWeakening(layers: readonly Layer[], context: Context | undefined): void {
  if (context === undefined || context.secrets.size === 0) return
  const project = layers.find(({ origin }) => origin === PROJECT_FILE)
  for (const [name, { place }] of project?.entries ?? []) {
    if (!protectionKey.test(name)) continue
    throw new UsageError(
      `${place}: ${name} may not be set there while context ${context.name} is used, which has secrets`,
      `set it in the context: stream context set ${context.name} -X ${name}=…`,
    )
  }
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
    const context = findContext(ContextsFile.read(host), name, origin)
    const addresses = splitAddress(context.broker, `context ${name}`)
    return {
      choice: {
        kind: 'named',
        addresses,
        origin: `context ${name}`,
        contextOrigin: origin,
      } as const,
      context,
    }
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
  for (const { origin, entries } of layers) {
    const broker = entries.get('broker')
    if (broker !== undefined) return named(broker.text, origin)
    const context = entries.get('context')
    if (context !== undefined) return inContext(context.text, origin)
  }
  const { current } = ContextsFile.read(host)
  if (current !== undefined) return inContext(current, 'contexts.json')
  return {
    choice: {
      kind: 'local',
      userAddress: userDaemonAddress(host),
      hostAddress: `ipc://${HOST_SOCKET}`,
    },
    context: undefined,
  }
}

export function findContext(file: ContextsFile, name: string, origin: string): Context {
  const context = file.get(name)
  if (context !== undefined) return context
  const nearest = nearestName(name, file.names)
  throw new UsageError(
    `${origin}: ${name}: no such context`,
    nearest === undefined
      ? 'to see what there is: stream context list'
      : `did you mean ${nearest}?`,
  )
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
