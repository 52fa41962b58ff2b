/**
 * `contexts.json`: named brokers with their settings (commands.md, section 2), mode 0600.
 *
 *     {"v":1,"current":"prod","previous":"dev","contexts":{"prod":{"broker":…,"options":{…},"secrets":{KEY:SOURCE}}}}
 *     SOURCE = {"file":PATH} | {"env":NAME} | {"command":[WORD,…]}
 *
 * Invariants: a secret's value is never in the file; what this version does not know in it is kept when it is rewritten.
 */

import { StreamError, UsageError } from '../base/errors.ts'
import { nearestName } from '../config/nearest-name.ts'
import type { Host } from '../ports/host.ts'
import { parseSecretSource, type SecretSource } from './secrets.ts'
import { configDirectory, type UserHost } from './user-places.ts'

export interface Context {
  readonly name: string
  readonly broker: string
  readonly options: ReadonlyMap<string, string>
  readonly secrets: ReadonlyMap<string, SecretSource>
}

const FILE_MODE = 0o600
const WRITABLE_BY_OTHERS = 0o022
const VERSION = 1

type JsonObject = Record<string, unknown>

export class ContextsFile {
  readonly path: string
  readonly #root: JsonObject
  readonly #contexts: JsonObject

  private constructor(path: string, root: JsonObject) {
    this.path = path
    this.#root = root
    const { contexts } = root as { contexts?: unknown }
    this.#contexts = isObject(contexts) ? contexts : {}
  }

  /**
   * Empty where there is none.
   * @throws UsageError for a file that is no such file, without its content; StreamError PERMISSION_DENIED where others may write it
   */
  static read(host: UserHost): ContextsFile {
    const path = `${configDirectory(host)}/contexts.json`
    const bytes = host.readFile(path)
    if (bytes === undefined) return new ContextsFile(path, {})
    assertOwnWords(path, host.stat(path)?.mode ?? FILE_MODE)
    const root = parseObject(Buffer.from(bytes).toString('utf8'))
    if (root === undefined) throw new UsageError(`${path}: not a JSON object`)
    const { v } = root as { v?: unknown }
    if (v !== undefined && v !== VERSION) {
      throw new UsageError(`${path}: written by a newer version (v is ${JSON.stringify(v)})`)
    }
    return new ContextsFile(path, root)
  }

  get names(): string[] {
    return Object.keys(this.#contexts).sort()
  }

  get current(): string | undefined {
    return textOf(this.#root['current'])
  }

  get previous(): string | undefined {
    return textOf(this.#root['previous'])
  }

  /** @returns undefined if there is none. @throws UsageError for one that makes no sense */
  get(name: string): Context | undefined {
    const raw = Object.hasOwn(this.#contexts, name) ? this.#contexts[name] : undefined
    if (raw === undefined) return undefined
    const place = `${this.path}: ${name}`
    if (!isObject(raw)) throw new UsageError(`${place}: not an object`)
    const { broker, options, secrets } = raw as {
      broker?: unknown
      options?: unknown
      secrets?: unknown
    }
    if (typeof broker !== 'string') throw new UsageError(`${place}: no broker in it`)
    return {
      name,
      broker,
      options: new Map(
        Object.entries(isObject(options) ? options : {}).map(([key, text]) => [key, String(text)]),
      ),
      secrets: new Map(
        Object.entries(isObject(secrets) ? secrets : {}).map(([key, source]) => [
          key,
          parseSecretSource(source, `${place}: ${key}`),
        ]),
      ),
    }
  }

  set(context: Context): void {
    const before = Object.hasOwn(this.#contexts, context.name)
      ? this.#contexts[context.name]
      : undefined
    // By definition, for a context may be called `__proto__`.
    Object.defineProperty(this.#contexts, context.name, {
      value: {
        ...(isObject(before) ? before : {}),
        broker: context.broker,
        options: Object.fromEntries(context.options),
        secrets: Object.fromEntries(context.secrets),
      },
      enumerable: true,
      configurable: true,
      writable: true,
    })
  }

  /** Makes it the current one; the current one becomes the previous. */
  use(name: string): void {
    const { current } = this
    if (current === name) return
    if (current !== undefined) this.#root['previous'] = current
    this.#root['current'] = name
  }

  delete(name: string): void {
    delete this.#contexts[name]
    for (const place of ['current', 'previous']) {
      if (this.#root[place] === name) delete this.#root[place]
    }
  }

  /** @throws StreamError PERMISSION_DENIED, DISK_FULL … */
  write(host: Host): void {
    const content = { v: VERSION, ...this.#root, contexts: this.#contexts }
    host.makeDirectory(configDirectory(host), 0o700)
    host.writeFile(this.path, Buffer.from(`${JSON.stringify(content, undefined, 2)}\n`), FILE_MODE)
  }
}

/** It names commands that are run for secrets, and brokers that are given them: whoever writes it acts as its owner. */
function assertOwnWords(path: string, mode: number): void {
  if ((mode & WRITABLE_BY_OTHERS) === 0) return
  const shown = mode.toString(8).padStart(4, '0')
  throw new StreamError('PERMISSION_DENIED', `${path}: others may write it (mode ${shown})`, {
    target: path,
    hint: `look through it, then: chmod 600 ${path}`,
  })
}

/** With the nearest name. */
export function unknownContext(name: string, file: ContextsFile): StreamError {
  const nearest = nearestName(name, file.names)
  return new StreamError('NAME_UNKNOWN', `${name}: no such context`, {
    target: name,
    hint:
      nearest === undefined
        ? 'to see what there is: stream context list'
        : `did you mean ${nearest}?`,
  })
}

function parseObject(text: string): JsonObject | undefined {
  try {
    const parsed: unknown = JSON.parse(text)
    return isObject(parsed) ? parsed : undefined
  } catch {
    // The content is not repeated: it may hold what nobody should see.
    return undefined
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
