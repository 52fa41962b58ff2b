/**
 * Byte streams of a command: standard streams and the files named on its command line. Real: src/io/stdio.ts.
 * Nothing is allocated per chunk, and nothing blocks the loop while a pipe's other end is slow, so that signals and
 * network traffic go on meanwhile.
 */
export interface Stdio {
  /**
   * `-` is standard input. Nothing is read before `start`. With `isHidden` a terminal shows nothing of what is typed, and gives
   * each key as it is: line ends, corrections and Ctrl-C are the reader's.
   * @throws StreamError FILE_NOT_FOUND, PERMISSION_DENIED
   */
  openInput(path: string, options?: { readonly isHidden?: boolean }): ByteInput
  /**
   * `-` is standard output. A file is created, and cut unless `append` is asked for.
   * @throws StreamError FILE_NOT_FOUND (no such directory; no such file where it must exist), PERMISSION_DENIED, OUTPUT_FAILED
   */
  openOutput(path: string, options?: OutputOptions): ByteOutput
  /** Standard output; always the same object. */
  readonly output: ByteOutput
  /** Standard error, for the few lines a person reads. Synchronous; errors are swallowed: there is nowhere to tell them. */
  printError(text: string): void
}

export interface OutputOptions {
  readonly append?: boolean
  /** It is not created. */
  readonly mustExist?: boolean
}

export type InputKind = 'pipe' | 'file' | 'terminal' | 'socket' | 'other'

export interface ByteInput {
  readonly kind: InputKind
  /** As given to openInput; `-` for standard input. */
  readonly path: string
  /** Size of a plain file; undefined for streams. */
  readonly sizeBytes: number | undefined
  /** Begins to deliver; once only. Never calls back from inside start, pause, resume or close. */
  start(events: InputEvents): void
  /** May be called from inside onBytes. At most one more onBytes follows. Idempotent. */
  pause(): void
  resume(): void
  /** No further callbacks. Idempotent. */
  close(): void
}

export interface InputEvents {
  /**
   * `chunk[start, end)` are the next bytes, at least one. The range is valid until this call returns or, when `pause` was called
   * inside it, until `resume`; then the memory is used again. The bytes around the range are not the consumer's.
   */
  onBytes(chunk: Uint8Array, start: number, end: number): void
  /** After it no further calls. `error` is a StreamError, if reading failed. */
  onEnd(error: Error | undefined): void
}

/** `broken`: the reader has gone away (EPIPE). Once broken, always broken; nothing is thrown for it. */
export type WriteOutcome = 'written' | 'broken'

export interface ByteOutput {
  readonly kind: InputKind
  /** Bytes the operating system has taken, whole writes or not. */
  readonly bytesWritten: number
  readonly isBroken: boolean
  /**
   * Writes all bytes, in order, however slow the reader is. Returns the outcome itself where it is known at once (no promise
   * on the fast path), else a promise; until that resolves the bytes must stay unchanged and no other write may begin.
   * @throws StreamError OUTPUT_FAILED (full disk, I/O error), also as a rejection
   */
  write(bytes: Uint8Array): WriteOutcome | Promise<WriteOutcome>
  /** Makes a file durable; nothing for streams. @throws StreamError OUTPUT_FAILED */
  sync(): void
  /** Idempotent; standard output stays open. */
  close(): void
  /** As close, standard output too: its reader sees the end. Nothing may be written after it. */
  hangUp(): void
}
