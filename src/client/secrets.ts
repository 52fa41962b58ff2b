/**
 * Secrets of a context: where they come from, and how they are got. They are got only when something needs them, and
 * are never printed: listings show `***`.
 */

import { isStreamError, StreamError, UsageError } from '../base/errors.ts'
import type { Hashes } from '../ports/hashes.ts'
import type { TlsClient, TlsOptions } from '../ports/net.ts'
import type { Random } from '../ports/random.ts'
import type { UserHost } from './user-places.ts'

export type SecretSource =
  | { readonly file: string }
  | { readonly env: string }
  | { readonly command: readonly string[] }

export interface ProgramOptions {
  readonly timeoutMs: number
  /** Called once when it takes long enough to be told. */
  readonly onSlow?: () => void
}

/** What getting secrets needs. */
export interface SecretPorts {
  readonly host: UserHost
  readonly console: { warn(text: string): void }
  /** Runs a small program to its end: no shell, empty input. */
  runProgram(
    words: readonly string[],
    options: ProgramOptions,
  ): Promise<{ readonly exit: number; readonly stdout: string }>
}

/** What protection needs of the host it starts from. */
export interface SecurityPorts extends SecretPorts {
  readonly random: Random
  /** TLS for kafka://; the transport is loaded for it. @throws StreamError CONFIG_INVALID, NOT_ALLOWED */
  makeTls(options: TlsOptions): Promise<TlsClient>
  /** For logins; loaded when it is first asked for. */
  loadHashes(): Promise<Hashes>
}

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
  deps: SecretPorts,
  key: string,
  source: SecretSource,
): Promise<string> {
  const text = await readSecret(deps, key, source)
  const secret = text.replace(/\r?\n$/, '')
  if (secret === '') throw unavailable(key, source, 'it is empty')
  return secret
}

async function readSecret(deps: SecretPorts, key: string, source: SecretSource): Promise<string> {
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
  const { exit, stdout } = await runCommand(deps, key, source)
  if (exit !== 0) throw unavailable(key, source, `it ended with ${exit}`)
  return stdout
}

/** A connection gives up before a command that hangs does, and the broker would seem to be at fault. */
async function runCommand(
  deps: SecretPorts,
  key: string,
  source: Extract<SecretSource, { command: unknown }>,
): ReturnType<SecretPorts['runProgram']> {
  const waiting = `${key}: ${describeSource(source)}: it has not ended yet; waiting for it`
  try {
    return await deps.runProgram(source.command, {
      timeoutMs: COMMAND_MS_MAX,
      onSlow: () => deps.console.warn(waiting),
    })
  } catch (error) {
    if (isStreamError(error, 'TIMED_OUT')) {
      throw unavailable(key, source, `it has not ended within ${COMMAND_MS_MAX / 1000} s`)
    }
    if (isStreamError(error, 'RUNTIME_MISSING')) throw unavailable(key, source, 'it cannot be run')
    throw error
  }
}

function unavailable(key: string, source: SecretSource, why: string): StreamError {
  return new StreamError('SECRET_UNAVAILABLE', `${key}: ${describeSource(source)}: ${why}`, {
    target: key,
  })
}
