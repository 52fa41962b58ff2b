/** The settings in force and where each comes from: what `stream config list` and `get` print. */

import { describeSource } from '../src/client/secrets.ts'
import { type ConfigKey, configVariable } from '../src/config/config-key.ts'
import { clientKeys, findKey, keysOf } from '../src/config/keys.ts'
import { configLines, daemonConfigPaths } from './config-layers.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { readPlaces, type SettingPlaces } from './settings.ts'

export interface ConfigValue {
  readonly name: string
  /** null where the key has no value; of a secret `***`. */
  readonly text: string | null
  readonly origin: string
}

export const HIDDEN_SECRET = '***'
const DEFAULT = 'default'

/**
 * All client keys, and the daemon's keys that a file or a variable sets: for each the places that speak of it, the one
 * that counts first.
 * @throws UsageError for what is wrong in one of the places
 */
export function configValues(deps: CommandDeps, flags: Flags): ConfigValue[][] {
  const places = readPlaces(flags, deps.host)
  const ofClient = clientKeys.map((key) => clientPlaces(key, places))
  return [...ofClient, ...daemonValues(deps, flags)]
}

function clientPlaces(key: ConfigKey, places: SettingPlaces): ConfigValue[] {
  const { name } = key
  const { choice, context, layers } = places
  const withDefault: ConfigValue = { name, text: key.default, origin: DEFAULT }
  if (name === 'broker') {
    return choice.kind === 'named'
      ? [{ name, text: choice.addresses.join(','), origin: choice.origin }]
      : [{ name, text: choice.userAddress, origin: DEFAULT }]
  }
  if (name === 'context') {
    return [
      context === undefined ? withDefault : { name, text: context.name, origin: originOf(choice) },
    ]
  }
  const source = context?.secrets.get(name)
  if (source !== undefined && context !== undefined) {
    const origin = `context ${context.name}, ${describeSource(source)}`
    return [{ name, text: HIDDEN_SECRET, origin }]
  }
  const set = layers.flatMap(({ entries }): ConfigValue[] => {
    const entry = entries.get(name)
    return entry === undefined ? [] : [{ name, text: entry.text, origin: entry.place }]
  })
  return [...set, withDefault]
}

/** What named the context: the choice itself names the context only. */
function originOf(choice: SettingPlaces['choice']): string {
  return choice.kind === 'named' ? (choice.contextOrigin ?? choice.origin) : DEFAULT
}

/** As daemon/main.ts reads them: variables over the user's file over the host's; no project file. */
function daemonValues({ host }: CommandDeps, flags: Flags): ConfigValue[][] {
  const lines = daemonConfigPaths(flags, host).flatMap((path) => {
    const bytes = host.readFile(path)
    return bytes === undefined
      ? []
      : configLines(Buffer.from(bytes).toString('utf8'), path).reverse()
  })
  return keysOf('broker').flatMap((key): ConfigValue[][] => {
    const { name } = key
    if (key.hidden === true || findKey('client', name) !== undefined) return []
    const variable = configVariable(name)
    const text = host.environment[variable]
    const set = [
      ...(text === undefined ? [] : [{ name, text, origin: variable }]),
      ...lines
        .filter((line) => line.name === name)
        .map((line) => ({ name, text: line.text, origin: line.place })),
    ]
    return set.length === 0 ? [] : [[...set, { name, text: key.default, origin: DEFAULT }]]
  })
}
