/**
 * Servers for the time of one command: started in sessions of their own, so that a signal of the terminal reaches only the command,
 * which ends them in its own order. Real: src/io/real-servers.ts.
 */
export interface Servers {
  /**
   * Starts a program; its standard output and error go to the end of the file `logPath`.
   * @throws StreamError RUNTIME_MISSING when it cannot be run
   */
  start(words: readonly string[], options: ServerOptions): Promise<Server>
  /** As start, for a daemon of this program. */
  startDaemon(args: readonly string[], options: ServerOptions): Promise<Server>
  /** Loopback TCP ports, free at this moment, all different. */
  freePorts(count: number): Promise<readonly number[]>
  /** A new directory, 0700. */
  makeScratch(prefix: string): string
  /** With everything below it. */
  removeTree(path: string): void
}

export interface ServerOptions {
  readonly logPath: string
}

export interface Server {
  readonly processId: number
  /** How it ended, in words: `code 1`, `SIGKILL`. */
  readonly ended: Promise<string>
  readonly isRunning: boolean
  signal(name: 'SIGTERM' | 'SIGKILL'): void
  /** The end of what it has written to its log. */
  lastLines(): string
}
