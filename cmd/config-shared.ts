/** What the verbs of `stream config` share: keys by name, and the user's file as lines that can be changed. */

import { StreamError } from '../src/base/errors.ts'
import type { ConfigKey } from '../src/config/config-key.ts'
import { findKey, keysOf } from '../src/config/keys.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import type { Host } from '../src/ports/host.ts'
import { configLines } from './config-layers.ts'

/** A key that a config file may hold: the client's, or the daemon's. */
export function findFileKey(name: string): ConfigKey | undefined {
  return findKey('client', name) ?? findKey('broker', name)
}

export function unknownConfigKey(name: string): StreamError {
  if (findKey('topic', name) !== undefined) {
    return new StreamError(
      'NAME_UNKNOWN',
      `${name}: a key of topics, not of the client or the daemon`,
      {
        target: name,
        hint: `stream topics alter TOPIC --set ${name}=VALUE`,
      },
    )
  }
  const known = [...keysOf('client'), ...keysOf('broker')].filter(({ hidden }) => hidden !== true)
  const nearest = nearestName(
    name,
    known.map((key) => key.name),
  )
  return new StreamError('NAME_UNKNOWN', `${name}: no such config key`, {
    target: name,
    hint:
      nearest === undefined
        ? 'to see what there is: stream config keys'
        : `did you mean ${nearest}?`,
  })
}

const FILE_MODE = 0o600

/** A config file whose comments and order stay as they are. */
export class ConfigFile {
  readonly path: string
  #lines: string[]

  private constructor(path: string, lines: string[]) {
    this.path = path
    this.#lines = lines
  }

  /** Empty where there is none. @throws StreamError PERMISSION_DENIED */
  static read(host: Host, path: string): ConfigFile {
    const bytes = host.readFile(path)
    const text = bytes === undefined ? '' : Buffer.from(bytes).toString('utf8')
    const lines = text.split('\n')
    if (lines.at(-1) === '') lines.pop()
    return new ConfigFile(path, lines)
  }

  has(name: string): boolean {
    return this.#indexesOf(name).length > 0
  }

  /** In the place of the last line that counts, else at the end; earlier ones go, since they never counted. */
  set(name: string, text: string): void {
    const at = this.#indexesOf(name).at(-1)
    const line = `${name} = ${text}`
    if (at === undefined) {
      this.#lines.push(line)
      return
    }
    this.#lines[at] = line
    this.#remove(this.#indexesOf(name).slice(0, -1))
  }

  unset(name: string): void {
    this.#remove(this.#indexesOf(name))
  }

  /** @throws StreamError PERMISSION_DENIED, DISK_FULL … */
  write(host: Host): void {
    const slash = this.path.lastIndexOf('/')
    if (slash > 0) host.makeDirectory(this.path.slice(0, slash), 0o700)
    const text = this.#lines.map((line) => `${line}\n`).join('')
    host.writeFile(this.path, Buffer.from(text), host.stat(this.path)?.mode ?? FILE_MODE)
  }

  #indexesOf(name: string): number[] {
    return configLines(this.#lines.join('\n'), this.path)
      .filter((line) => line.name === name)
      .map(({ index }) => index)
  }

  #remove(indexes: readonly number[]): void {
    this.#lines = this.#lines.filter((_, index) => !indexes.includes(index))
  }
}
