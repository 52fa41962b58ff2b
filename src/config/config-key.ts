/**
 * The form of a row in the tables of config keys, and what can be done with one row: check a text, read its value.
 *
 * Invariants:
 * - Values are kept as text, as they were given; only a checked text is ever read as a number or a boolean.
 * - A key of type `secret` never has a value from a flag, `-X`, a variable or a project file (commands.md, section 1).
 */

import { StreamError } from '../base/errors.ts'

export type ConfigScope = 'client' | 'broker' | 'topic'

export type ConfigType =
  | 'boolean'
  | 'int'
  | 'long'
  | 'double'
  | 'string'
  | 'list'
  | 'enum'
  | 'secret'

export interface ConfigKey {
  readonly name: string
  readonly type: ConfigType
  /** What a number counts; undefined for texts and for plain numbers. */
  readonly unit?: 'ms' | 's' | 'min' | 'bytes' | 'records'
  /** As text, the way it is described to clients; null: no value. */
  readonly default: string | null
  /** Inclusive limits of numbers. */
  readonly min?: number
  readonly max?: number
  /** The words an `enum`, or each element of a `list`, may be. */
  readonly values?: readonly string[]
  /** Topic keys: the broker key that gives the default for all topics. */
  readonly synonym?: string
  /** Not shown in tables and help; for tests of the daemon. */
  readonly hidden?: boolean
  /** One line. */
  readonly help: string
}

/** Kafka's "no limit" for durations and counts; read as a number it is Infinity. */
export const UNLIMITED = '9223372036854775807'

const LONG_MAX = 9223372036854775807n
const LONG_MIN = -9223372036854775808n
const INT_MAX = 2147483647n
const INT_MIN = -2147483648n

/**
 * Why `text` is no value of `key`, in words that follow its name; undefined when it is one.
 */
export function findConfigDefect(key: ConfigKey, text: string): string | undefined {
  switch (key.type) {
    case 'boolean':
      return readBoolean(text) === undefined ? 'must be true or false' : undefined
    case 'int':
    case 'long': {
      if (!/^[+-]?\d{1,19}$/.test(text.trim())) return 'must be a whole number'
      const value = BigInt(text.trim())
      const isInt = key.type === 'int'
      if (value > (isInt ? INT_MAX : LONG_MAX) || value < (isInt ? INT_MIN : LONG_MIN)) {
        return `must fit in ${isInt ? 32 : 64} bits`
      }
      return findLimitDefect(key, Number(value))
    }
    case 'double': {
      const value = Number(text)
      if (text.trim() === '' || !Number.isFinite(value)) return 'must be a number'
      return findLimitDefect(key, value)
    }
    case 'enum':
      return key.values?.includes(text) ? undefined : `must be one of: ${key.values?.join(', ')}`
    case 'list': {
      const { values } = key
      if (values === undefined) return undefined
      const wrong = splitList(text).find((element) => !values.includes(element))
      return wrong === undefined
        ? undefined
        : `holds ${JSON.stringify(wrong)}, and may hold only: ${values.join(', ')}`
    }
    case 'string':
    case 'secret':
      return undefined
  }
}

function findLimitDefect(key: ConfigKey, value: number): string | undefined {
  if (key.min !== undefined && value < key.min) return `must be at least ${key.min}`
  if (key.max !== undefined && value > key.max) return `must be at most ${key.max}`
  return undefined
}

/** @throws StreamError CONFIG_INVALID naming the key */
export function checkConfigValue(key: ConfigKey, text: string): void {
  const defect = findConfigDefect(key, text)
  if (defect === undefined) return
  const shown = key.type === 'secret' ? '***' : text
  throw new StreamError('CONFIG_INVALID', `${key.name}: ${shown} ${defect}`, { target: key.name })
}

/** Booleans as files and variables spell them. */
export function readBoolean(text: string): boolean | undefined {
  switch (text.trim().toLowerCase()) {
    case 'true':
    case 'yes':
    case 'on':
    case '1':
      return true
    case 'false':
    case 'no':
    case 'off':
    case '0':
      return false
    default:
      return undefined
  }
}

/** A number of a checked text. What no double can hold exactly is as good as unlimited: Infinity. */
export function readNumber(text: string): number {
  const value = Number(text)
  return value > Number.MAX_SAFE_INTEGER ? Number.POSITIVE_INFINITY : value
}

export function splitList(text: string): string[] {
  return text
    .split(',')
    .map((element) => element.trim())
    .filter((element) => element !== '')
}

/** `STREAM_CONF_RETENTION_MS` for `retention.ms`. */
export function configVariable(name: string): string {
  return `STREAM_CONF_${name.toUpperCase().replaceAll(/[.-]/g, '_')}`
}

/** The keys in force: a checked text for each name that was set, else the default of its row. */
export class ConfigSet<Name extends string> {
  readonly #keys: ReadonlyMap<string, ConfigKey>
  readonly #texts: ReadonlyMap<string, string>

  /**
   * @throws StreamError CONFIG_INVALID for an unknown name or a value that its row refuses
   */
  constructor(
    keys: readonly (ConfigKey & { readonly name: Name })[],
    texts: ReadonlyMap<string, string>,
  ) {
    this.#keys = new Map(keys.map((key) => [key.name, key]))
    for (const [name, text] of texts) {
      const key = this.#keys.get(name)
      if (key === undefined) {
        throw new StreamError('CONFIG_INVALID', `${name}: no such config key`, { target: name })
      }
      checkConfigValue(key, text)
    }
    this.#texts = texts
  }

  /** The text in force; null where the key has no value. */
  text(name: Name): string | null {
    const text = this.#texts.get(name)
    return text === undefined ? (this.#keys.get(name)?.default ?? null) : text
  }

  /** @returns NaN where the key has no value */
  number(name: Name): number {
    const text = this.text(name)
    return text === null ? Number.NaN : readNumber(text)
  }

  boolean(name: Name): boolean {
    return readBoolean(this.text(name) ?? '') ?? false
  }

  list(name: Name): string[] {
    return splitList(this.text(name) ?? '')
  }

  /** The keys that were set. */
  names(): Iterable<string> {
    return this.#texts.keys()
  }

  isSet(name: Name): boolean {
    return this.#texts.has(name)
  }
}
