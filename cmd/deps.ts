/** What a command is given — the ports, the client behind interfaces, the way it was called — and what a command is. */

import type { CurveKeyPair } from '../src/base/curve-keys.ts'
import type { ProgramOptions } from '../src/client/secrets.ts'
import type { Adoption } from '../src/ports/adoption.ts'
import type { Children } from '../src/ports/children.ts'
import type { DaemonLauncher } from '../src/ports/daemon-launcher.ts'
import type { Disk } from '../src/ports/disk.ts'
import type { Hashes } from '../src/ports/hashes.ts'
import type { Host } from '../src/ports/host.ts'
import type { Net, TlsClient, TlsOptions } from '../src/ports/net.ts'
import type { Offline } from '../src/ports/offline.ts'
import type { Random } from '../src/ports/random.ts'
import type { Screens } from '../src/ports/screen.ts'
import type { Servers } from '../src/ports/servers.ts'
import type { Stdio } from '../src/ports/stdio.ts'
import type { Time } from '../src/ports/time.ts'
import type { Clients } from './clients.ts'
import type { Console } from './console.ts'
import type { Flags } from './flags.ts'
import type { Interruption } from './interruption.ts'
import type { CommandSpec } from './option-table.ts'

export interface CommandDeps {
  readonly time: Time
  readonly random: Random
  readonly net: Net
  readonly host: Host
  readonly stdio: Stdio
  readonly launcher: DaemonLauncher
  readonly clients: Clients
  readonly console: Console
  readonly interruption: Interruption
  /** For reading the files of a broker on this machine; loaded when it is first asked for. */
  loadDisk(): Promise<Pick<Disk, 'open'>>
  /** All commands, for help. */
  readonly commands: readonly CommandEntry[]
  /** Runs the daemon in the place of this process; returns its exit code where the system cannot do that. */
  runDaemon(args: readonly string[]): Promise<number>
  /** Data directories without a daemon; loaded when it is first asked for. */
  openOffline(): Offline
  /** A single daemon's metadata moved into etcd; loaded when it is first asked for. */
  openAdoption(): Adoption
  /** Servers that run as long as the command, each with a log of its own; loaded when they are first asked for. */
  loadServers(): Promise<Servers>
  /** Programs with records on their streams; loaded when it is first asked for. */
  openChildren(): Children
  /** Screens that are drawn again and again; loaded when one is asked for. */
  loadScreens(): Promise<Screens>
  /** Runs a small program to its end: no shell, empty input, its standard error is ours (src/io/child-program.ts). */
  runProgram(
    words: readonly string[],
    options: ProgramOptions,
  ): Promise<{ readonly exit: number; readonly stdout: string }>
  /** A new pair for tcp:// with CURVE; the transport is loaded for it. */
  makeCurveKeyPair(): Promise<CurveKeyPair>
  /** TLS for kafka://; the transport is loaded for it. @throws StreamError CONFIG_INVALID, NOT_ALLOWED */
  makeTls(options: TlsOptions): Promise<TlsClient>
  /** For logins; loaded when it is first asked for. */
  loadHashes(): Promise<Hashes>
  readVersion(): string
}

export interface CommandArgs {
  readonly flags: Flags
  readonly operands: readonly string[]
}

/** Returns its exit code or throws; prints no error that ends it. */
export type RunCommand = (deps: CommandDeps, args: CommandArgs) => Promise<number>

export interface Command {
  readonly spec: CommandSpec
  readonly run: RunCommand
}

/** A command that has not been loaded. */
export interface CommandEntry {
  readonly name: string
  readonly summary: string
  readonly load: () => Promise<Command>
}

export function findCommand(
  entries: readonly CommandEntry[],
  name: string,
): CommandEntry | undefined {
  return entries.find((entry) => entry.name === name)
}

/** The verbs of a noun: `topics` has `list`, `describe` … */
export function verbsOf(entries: readonly CommandEntry[], noun: string): readonly CommandEntry[] {
  return entries.filter((entry) => entry.name.startsWith(`${noun} `))
}

/** First words of all commands, each once. */
export function commandWords(entries: readonly CommandEntry[]): string[] {
  return [...new Set(entries.map((entry) => entry.name.split(' ')[0] ?? ''))]
}
