/**
 * The process and its surroundings as a command or a main sees them. Real: src/io/real-host.ts.
 * Only small files go through here (configuration, contexts, state): whole, synchronous.
 */
export interface Host {
  /** Arguments after the script's name. */
  readonly arguments: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly processId: number
  /** -1 where the system has no such thing. */
  readonly userId: number
  /** How many can run at once; at least 1. */
  readonly processorCount: number
  readonly homeDirectory: string
  readonly currentDirectory: string
  readonly temporaryDirectory: string
  isTerminal(stream: StandardStream): boolean
  /** Width of the terminal behind `stream`; undefined when it is none. */
  columns(stream: StandardStream): number | undefined
  /** Calls `listener` for each such signal instead of the default action; the answer ends the subscription. */
  onSignal(signal: HostSignal, listener: () => void): () => void
  /** Ends the process at once: nothing pending is waited for. */
  exit(code: number): never
  /** Ends the process by that signal's default action, so that the caller's shell sees 128+n. */
  dieBySignal(signal: DeathSignal): never
  /** Whole content; undefined when there is no such file. @throws StreamError PERMISSION_DENIED, DISK_FAILED */
  readFile(path: string): Uint8Array | undefined
  /**
   * Atomic: written beside, synced, renamed. The directory must exist. `mode` defaults to 0o600.
   * @throws StreamError FILE_NOT_FOUND, PERMISSION_DENIED, DISK_FULL, DISK_READ_ONLY, DISK_FAILED
   */
  writeFile(path: string, bytes: Uint8Array, mode?: number): void
  /** With parents; fine when it exists. `mode` defaults to 0o700. @throws as writeFile */
  makeDirectory(path: string, mode?: number): void
  removeFile(path: string): void
  /**
   * Takes an exclusive lock on a file, which is made where it is not there; it ends with the process, or by the answer.
   * @throws StreamError CONFLICT when another has it; PERMISSION_DENIED, DISK_FAILED, RUNTIME_MISSING
   */
  lockFile(path: string): () => void
  stat(path: string): HostStat | undefined
  /**
   * What tells a running process from all others, a later one with its number included; undefined when there is none,
   * or when it has ended and only waits for its parent.
   */
  processMark(processId: number): string | undefined
  /** Asks it to end (SIGTERM); fine when it has. @throws StreamError PERMISSION_DENIED */
  terminate(processId: number): void
}

export type StandardStream = 'input' | 'output' | 'error'

/** SIGINFO exists on BSD and macOS only; elsewhere it never comes. */
export type HostSignal =
  | 'SIGINT'
  | 'SIGTERM'
  | 'SIGHUP'
  | 'SIGUSR1'
  | 'SIGUSR2'
  | 'SIGWINCH'
  | 'SIGINFO'

export type DeathSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP' | 'SIGPIPE'

export interface HostStat {
  readonly kind: 'file' | 'directory' | 'socket' | 'other'
  readonly userId: number
  /** Permission bits only. */
  readonly mode: number
  readonly sizeBytes: number
}
