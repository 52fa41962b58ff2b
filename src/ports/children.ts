/**
 * Programs that a command runs for its user, with records on their streams. Real: src/io/real-children.ts.
 *
 * Each child leads a process group (and session) of its own, so that a signal reaches whatever it started, and the
 * terminal's Ctrl-C reaches it only through us. A child that was started is always reaped.
 */
export interface Children {
  /** Never throws for the program: one that cannot be started ends with `cannotStart`. */
  start(plan: ChildPlan): Child
}

export interface ChildPlan {
  /** The program and its arguments; no shell in between. At least one. */
  readonly words: readonly string[]
  /** Added to the environment of this process; undefined takes a variable away. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /**
   * `none`: empty. `inherit`: our standard input. `pipe`: `Child.input`. A file: read from its start, at the child's own pace, so no pipe can fill up; how
   * far it read is known at the end (`hasUnreadInput`).
   */
  readonly input: 'none' | 'inherit' | 'pipe' | { readonly path: string }
  /** `inherit`: our standard output. A file is cut first; what grows beyond `bytesMax` ends the child. */
  readonly output: 'inherit' | 'pipe' | { readonly path: string; readonly bytesMax: number }
  /** Descriptor 3 of the child is a pipe to us: `Child.control`. */
  readonly control?: boolean
  /** Standard error: copied to ours as it comes, its last part kept. `inherit` keeps nothing. Default `copy`. */
  readonly error?: 'copy' | 'inherit'
  /** From SIGTERM to SIGKILL, for `stop` and `timeoutMs`. */
  readonly graceMs: number
  /** The child is stopped when it lives longer. */
  readonly timeoutMs?: number
}

export interface Child {
  /** Undefined when it could not be started. */
  readonly processId: number | undefined
  readonly input: ChildInput | undefined
  readonly output: ChildOutput | undefined
  readonly control: ChildOutput | undefined
  /**
   * Resolves once, when the process has ended and its piped streams have closed; processes it left behind may hold those
   * open: after `graceMs` they are ended too.
   */
  readonly ended: Promise<ChildEnd>
  /** SIGTERM to its process group, after the grace SIGKILL. Idempotent. */
  stop(): void
}

export interface ChildEnd {
  /** Undefined when a signal ended it or it could not be started. */
  readonly exit: number | undefined
  readonly signal: string | undefined
  /** Why there was no process: `ENOENT`, `EACCES`. */
  readonly cannotStart: string | undefined
  /** What we did to it, if that is why it ended. */
  readonly stopped: 'asked' | 'timed-out' | 'output-limit' | undefined
  /** Of an input file: whether its end was not reached. Of a pipe: whether not all was taken. */
  readonly hasUnreadInput: boolean
  /** Its process group outlived it: something runs in the background, and has been ended. */
  readonly hasLeftProcesses: boolean
  /** Its last bytes on standard error, at most 2 KiB. */
  readonly errorTail: Uint8Array
}

export interface ChildInput {
  /**
   * Resolves when the pipe has room for more; false: the child no longer reads, and what was not taken is lost. The bytes must
   * stay unchanged until then; one write at a time.
   */
  write(bytes: Uint8Array): Promise<boolean>
  /** The child sees the end of its input. Idempotent. */
  end(): void
}

export interface ChildOutput {
  /** The next bytes, undefined at the end. Nothing is read ahead beyond one pipe's worth. One call at a time. */
  read(): Promise<Uint8Array | undefined>
}
