/** Starts a daemon in the background. Real: src/io/daemon-process.ts. */

/** A daemon that does not answer yet has its mark (Host.processMark) in this file of its data directory. */
export const STARTING_NAME = 'daemon.starting'

export interface DaemonLauncher {
  /** Whether something accepts connections at `address` (ipc:// or tcp://); never rejects. */
  isAnswering(address: string): Promise<boolean>
  /**
   * Starts a detached daemon and resolves once `address` accepts connections. However many processes ask at the same
   * time, one daemon comes up: the data directory's lock lets one through, the others wait for its socket.
   * @throws StreamError UNREACHABLE with the last log lines as the hint, when the daemon ends or `readyMsMax` passes first;
   *   CONFLICT when another daemon has its data, or its place in the cluster, and does not answer at `address`
   */
  launch(options: LaunchOptions): Promise<LaunchedDaemon>
}

export interface LaunchOptions {
  /** Where the daemon will answer; the first of its listeners. */
  readonly address: string
  /** Command line of the daemon, for example `['--data', DIR, '--listen', ADDRESS]`. */
  readonly arguments: readonly string[]
  /** Standard output and error of the daemon go to the end of this file; its directory is made (0700). */
  readonly logPath: string
  readonly readyMsMax: number
  /** Added to the environment of the daemon. */
  readonly environment?: Readonly<Record<string, string>>
}

export interface LaunchedDaemon {
  /** Undefined when another process's daemon answered first. */
  readonly processId: number | undefined
}
