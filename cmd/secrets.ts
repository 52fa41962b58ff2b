/**
 * Secrets of a context: where they come from, and how they are got. They are got only when something needs them, and
 * are never printed: listings show `***`.
 */

import { StreamError, UsageError } from '../src/base/errors.ts'
import { clientKeys, findKey } from '../src/config/keys.ts'
import { nearestName } from '../src/config/nearest-name.ts'
import type { CommandDeps } from './deps.ts'

export type SecretSource =
  | { readonly file: string }
  | { readonly env: string }
  | { readonly command: readonly string[] }

/** A command that asks a person would hang a script for ever. */
const COMMAND_MS_MAX = 30_000

/** Of contexts.json. @throws UsageError */
export function parseSecretSource(value: unknown, place: string): SecretSource {
  if (typeof value === 'object' && value !== null) {
    const { file, env, command } = value as { file?: unknown; env?: unknown; command?: unknown }
    if (typeof file === 'string') return { file }
    if (typeof env === 'string') return { env }
    if (Array.isArray(command) && command.length > 0) return { command: command.map(String) }
  }
  throw new UsageError(`${place}: must be {"file":…}, {"env":…} or {"command":[…]}`)
}

/**
 * `--secret KEY=file:PATH|env:NAME|command:CMD`. CMD is run by `sh -c`.
 * @throws UsageError; it does not repeat what stands after KEY, for that may be a secret given by mistake
 */
export function parseSecretFlag(word: string): {
  readonly key: string
  readonly source: SecretSource
} {
  const match = /^([^=]+)=(?:(file|env|command):(.+))?/s.exec(word)
  if (match === null)
    throw new UsageError('--secret: must be KEY=file:PATH, env:NAME or command:CMD')
  const [, key = '', kind, rest = ''] = match
  const found = findKey('client', key)
  if (found?.type !== 'secret') {
    const secrets = clientKeys.filter(({ type }) => type === 'secret').map(({ name }) => name)
    const nearest = nearestName(key, secrets)
    throw new UsageError(
      found === undefined ? `--secret ${key}: no such secret` : `--secret ${key}: not a secret`,
      found !== undefined
        ? `give it with -X ${key}=VALUE`
        : nearest === undefined
          ? `one of ${secrets.join(', ')}`
          : `did you mean ${nearest}?`,
    )
  }
  switch (kind) {
    case 'file':
      return { key, source: { file: rest } }
    case 'env':
      return { key, source: { env: rest } }
    case 'command':
      return { key, source: { command: ['sh', '-c', rest] } }
    default:
      throw new UsageError(
        `--secret ${key}: the secret itself may not be given here`,
        `name where it is: ${key}=file:PATH, ${key}=env:NAME or ${key}=command:CMD`,
      )
  }
}

/** Where a secret comes from, for listings: it has no secret in it. */
export function describeSource(source: SecretSource): string {
  if ('file' in source) return `file:${source.file}`
  if ('env' in source) return `env:${source.env}`
  // Of a command only the program: its arguments may hold what should not be seen.
  const [program = '', flag, line = ''] = source.command
  const isShell = program === 'sh' && flag === '-c'
  return `command:${isShell ? (line.trim().split(/\s/)[0] ?? '') : program}`
}

/**
 * The secret, without the newline at its end.
 * @throws StreamError SECRET_UNAVAILABLE naming the key and where it was looked for, never what was found
 */
export async function resolveSecret(
  deps: CommandDeps,
  key: string,
  source: SecretSource,
): Promise<string> {
  const text = await readSecret(deps, key, source)
  const secret = text.replace(/\r?\n$/, '')
  if (secret === '') throw unavailable(key, source, 'it is empty')
  return secret
}

async function readSecret(deps: CommandDeps, key: string, source: SecretSource): Promise<string> {
  if ('file' in source) {
    const path = source.file.startsWith('~/')
      ? `${deps.host.homeDirectory}${source.file.slice(1)}`
      : source.file
    const bytes = deps.host.readFile(path)
    if (bytes === undefined) throw unavailable(key, source, 'no such file')
    return Buffer.from(bytes).toString('utf8')
  }
  if ('env' in source) {
    const text = deps.host.environment[source.env]
    if (text === undefined) throw unavailable(key, source, 'the variable is not set')
    return text
  }
  const { exit, stdout } = await deps.runProgram(source.command, { timeoutMs: COMMAND_MS_MAX })
  if (exit !== 0) throw unavailable(key, source, `it ended with ${exit}`)
  return stdout
}

function unavailable(key: string, source: SecretSource, why: string): StreamError {
  return new StreamError('SECRET_UNAVAILABLE', `${key}: ${describeSource(source)}: ${why}`, {
    target: key,
  })
}
