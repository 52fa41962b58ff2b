/**
 * Standard streams and files as bytes (performance.md, section 1).
 *
 * Input: pipes, sockets and terminals through a net.Socket that reads into one buffer of ours, again and again; plain files by
 * reads on libuv's threads. Output: writes on the caller's thread as long as they are taken at once.
 *
 * A blocking write to a full pipe would stop the whole loop, signals included, for as long as the reader likes. On Linux a pipe
 * or terminal is therefore opened a second time, by /proc, as a descriptor of our own that does not block; the flag of the
 * shared one, which other processes read or write as well, is never touched.
 */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  read as readCallback,
  readlinkSync,
  readSync,
  type Stats,
  write as writeCallback,
  writeSync,
} from 'node:fs'
import type { Socket } from 'node:net'
import type { ReadStream } from 'node:tty'
import { StreamError } from '../base/errors.ts'
import type {
  ByteInput,
  ByteOutput,
  InputEvents,
  InputKind,
  OutputOptions,
  Stdio,
  WriteOutcome,
} from '../ports/stdio.ts'
import { kindOfFile } from './file-kind.ts'
import { netModule, ttyModule } from './lazy-modules.ts'
import { diskError, systemCode, systemText } from './system-errors.ts'

/** A pipe gives at most its own size at a time. */
const PIPE_BYTES = 64 * 1024
/** Full reads are gathered up to this much before they are handed on: what is done per chunk costs more than a read. */
const STREAM_BUFFER_BYTES = 8 * PIPE_BYTES
const FILE_BUFFER_BYTES = 1024 * 1024
const FILE_MODE = 0o666
/** From here on a write to a pipe is worth a hop to another thread. */
const BULK_BYTES_MIN = 128 * 1024

export class RealStdio implements Stdio {
  private standardOutput: ByteOutput | undefined

  get output(): ByteOutput {
    this.standardOutput ??= openOutput(1, '-')
    return this.standardOutput
  }

  openInput(path: string, { isHidden = false }: { readonly isHidden?: boolean } = {}): ByteInput {
    if (path === '-') return openInput(0, '-', isHidden)
    try {
      return openInput(openSync(path, constants.O_RDONLY), path, isHidden)
    } catch (error) {
      throw diskError(error, 'open', path)
    }
  }

  openOutput(path: string, options: OutputOptions = {}): ByteOutput {
    if (path === '-') return this.output
    const flags =
      constants.O_WRONLY |
      (options.mustExist === true ? 0 : constants.O_CREAT) |
      (options.append === true ? constants.O_APPEND : constants.O_TRUNC)
    try {
      return openOutput(openSync(path, flags, FILE_MODE), path)
    } catch (error) {
      throw diskError(error, 'open', path)
    }
  }

  printError(text: string): void {
    try {
      writeSync(2, text)
    } catch {
      // There is nowhere to tell it.
    }
  }
}

/** Takes the descriptor over: it is closed with the input. */
export function openInput(descriptor: number, path: string, isHidden = false): ByteInput {
  const stat = statOf(descriptor, path)
  const kind = kindOfFile(descriptor, stat)
  if (stat?.isDirectory()) {
    throw new StreamError('FILE_NOT_FOUND', `${path} is a directory`, { target: path })
  }
  if (kind === 'terminal') return new TerminalInput(descriptor, path, isHidden)
  if (kind === 'pipe') {
    const own = reopenWithoutBlocking(descriptor, constants.O_RDONLY)
    return new StreamInput(own ?? descriptor, path, kind, own !== undefined)
  }
  if (kind === 'socket') return new StreamInput(descriptor, path, kind, false)
  return new FileInput(descriptor, path, kind, kind === 'file' ? stat?.size : undefined)
}

/** Takes the descriptor over, but for the standard ones. */
export function openOutput(descriptor: number, path: string): ByteOutput {
  const kind = kindOfFile(descriptor, statOf(descriptor, path))
  if (kind === 'socket') return new StreamOutput(descriptor, path, kind, undefined)
  if (kind === 'pipe' || kind === 'terminal') {
    const own = reopenWithoutBlocking(descriptor, constants.O_WRONLY)
    if (own !== undefined) return new StreamOutput(own, path, kind, own)
  }
  return new FileOutput(descriptor, path, kind)
}

function statOf(descriptor: number, path: string): Stats | undefined {
  try {
    return fstatSync(descriptor)
  } catch (error) {
    // A standard stream may be closed (`<&-`): it reads as empty and cannot be written.
    if (path === '-' && systemCode(error) === 'EBADF') return undefined
    throw diskError(error, 'open', path)
  }
}

function reopenWithoutBlocking(descriptor: number, access: number): number | undefined {
  if (process.platform !== 'linux') return undefined
  try {
    return openSync(
      `/proc/self/fd/${descriptor}`,
      access | constants.O_NONBLOCK | constants.O_NOCTTY,
    )
  } catch {
    // Another user's pipe (sudo) may not be opened again: then writes block, as they do in most programs.
    return undefined
  }
}

/** @returns −1 unless it is a pipe without a name: to open a named one waits for a reader, perhaps for ever */
function openBlocking(descriptor: number): number {
  const path = `/proc/self/fd/${descriptor}`
  try {
    if (!readlinkSync(path).startsWith('pipe:')) return -1
    return openSync(path, constants.O_WRONLY | constants.O_NOCTTY)
  } catch {
    return -1
  }
}

/**
 * What is there already is read at once; only when the descriptor would make us wait is a net.Socket put on it, whose loading
 * alone takes 5 ms: `echo x | stream produce` never needs it.
 *
 * A read that fills its window is likely to have more behind it, so it is gathered with the next ones; a shorter one has
 * emptied the pipe, and what was gathered is handed on at once.
 */
class StreamInput implements ByteInput {
  readonly kind: InputKind
  readonly path: string
  readonly sizeBytes = undefined
  private readonly descriptor: number
  /** Whether a read answers EAGAIN instead of blocking. */
  private readonly neverBlocks: boolean
  private readonly buffer = new Uint8Array(STREAM_BUFFER_BYTES)
  /** The buffer in pieces of PIPE_BYTES. */
  private windows: readonly Uint8Array[] = []
  /** [gatheredStart, gatheredEnd) of the buffer has been read and not handed on; the next read goes behind it. */
  private gatheredStart = 0
  private gatheredEnd = 0
  private socket: Socket | undefined
  private events: InputEvents | undefined
  private isPaused = false
  private isEnded = false
  private isScheduled = false

  constructor(descriptor: number, path: string, kind: InputKind, neverBlocks: boolean) {
    this.descriptor = descriptor
    this.path = path
    this.kind = kind
    this.neverBlocks = neverBlocks
  }

  start(events: InputEvents): void {
    this.events = events
    if (this.neverBlocks) this.soon()
    else this.readBySocket()
  }

  pause(): void {
    if (this.isPaused) return
    this.isPaused = true
    this.socket?.pause()
  }

  resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    if (this.events === undefined) return
    if (this.socket === undefined) {
      if (this.neverBlocks) this.soon()
      return
    }
    this.socket.resume()
    if (this.gatheredEnd > this.gatheredStart) this.soon()
  }

  close(): void {
    if (this.isEnded) return
    this.isEnded = true
    this.events = undefined
    if (this.socket !== undefined) this.socket.destroy()
    else if (this.descriptor > 2) closeSync(this.descriptor)
  }

  private soon(): void {
    if (this.isScheduled) return
    this.isScheduled = true
    setImmediate(() => {
      this.isScheduled = false
      if (this.isEnded || this.isPaused) return
      if (this.socket === undefined) this.readNow()
      else this.deliver(this.gatheredEnd)
    })
  }

  /** At most one buffer a turn of the loop, so that nothing else starves. */
  private readNow(): void {
    for (;;) {
      let count: number
      try {
        count = readSync(this.descriptor, this.buffer, this.gatheredEnd, PIPE_BYTES, null)
      } catch (error) {
        if (systemCode(error) === 'EAGAIN') {
          this.deliver(0)
          if (!this.isEnded) this.readBySocket()
        } else {
          this.end(readError(error, this.path))
        }
        return
      }
      if (count === 0) {
        this.end(undefined)
        return
      }
      if (this.took(count)) break
    }
    this.deliver(0)
    if (!this.isPaused && !this.isEnded) this.soon()
  }

  /** @returns whether what was gathered is to be handed on */
  private took(count: number): boolean {
    this.gatheredEnd += count
    return count < PIPE_BYTES || this.gatheredEnd === STREAM_BUFFER_BYTES
  }

  /** @param nextAt  where the next read goes; the socket chooses its window before it reads, and keeps to it */
  private deliver(nextAt: number): void {
    const { gatheredStart, gatheredEnd } = this
    this.gatheredStart = nextAt
    this.gatheredEnd = nextAt
    if (gatheredEnd > gatheredStart) this.events?.onBytes(this.buffer, gatheredStart, gatheredEnd)
  }

  private readBySocket(): void {
    const { buffer } = this
    this.windows = Array.from({ length: STREAM_BUFFER_BYTES / PIPE_BYTES }, (_, index) =>
      buffer.subarray(index * PIPE_BYTES, (index + 1) * PIPE_BYTES),
    )
    const options = {
      fd: this.descriptor,
      readable: true,
      writable: false,
      onread: {
        buffer: () => this.windows[this.gatheredEnd / PIPE_BYTES] as Uint8Array,
        callback: (count: number): boolean => {
          if (this.isEnded) return false
          if (this.took(count)) this.deliver(0)
          else this.soon()
          return !this.isPaused
        },
      },
    }
    const socket = new (netModule().Socket)(options)
    this.socket = socket
    socket.on('end', () => this.end(undefined))
    socket.on('error', (error) => this.end(readError(error, this.path)))
    if (this.isPaused) socket.pause()
    else socket.resume()
  }

  private end(error: StreamError | undefined): void {
    if (this.isEnded) return
    this.deliver(0)
    if (this.isEnded) return
    const events = this.events
    this.close()
    events?.onEnd(error)
  }
}

/** A terminal is typed at: a buffer a line is no cost. */
class TerminalInput implements ByteInput {
  readonly kind = 'terminal'
  readonly path: string
  readonly sizeBytes = undefined
  private readonly descriptor: number
  private readonly isHidden: boolean
  private stream: ReadStream | undefined
  private isPaused = false

  constructor(descriptor: number, path: string, isHidden: boolean) {
    this.descriptor = descriptor
    this.path = path
    this.isHidden = isHidden
  }

  start(events: InputEvents): void {
    const stream = new (ttyModule().ReadStream)(this.descriptor)
    this.stream = stream
    if (this.isHidden) stream.setRawMode(true)
    stream.on('data', (chunk: Buffer) => events.onBytes(chunk, 0, chunk.length))
    stream.once('end', () => {
      this.close()
      events.onEnd(undefined)
    })
    stream.once('error', (error) => {
      this.close()
      // A terminal that hangs up ends the input like any other end.
      events.onEnd(systemCode(error) === 'EIO' ? undefined : readError(error, this.path))
    })
    if (this.isPaused) stream.pause()
  }

  pause(): void {
    this.isPaused = true
    this.stream?.pause()
  }

  resume(): void {
    this.isPaused = false
    this.stream?.resume()
  }

  close(): void {
    this.stream?.removeAllListeners('data')
    this.stream?.removeAllListeners('end')
    if (this.isHidden) this.stream?.setRawMode(false)
    this.stream?.destroy()
  }
}

class FileInput implements ByteInput {
  readonly kind: InputKind
  readonly path: string
  readonly sizeBytes: number | undefined
  private readonly descriptor: number
  private readonly buffer = new Uint8Array(FILE_BUFFER_BYTES)
  private events: InputEvents | undefined
  private isPaused = false
  private isReading = false
  private isClosed = false

  constructor(descriptor: number, path: string, kind: InputKind, sizeBytes: number | undefined) {
    this.descriptor = descriptor
    this.path = path
    this.kind = kind
    this.sizeBytes = sizeBytes
  }

  start(events: InputEvents): void {
    this.events = events
    this.read()
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    this.read()
  }

  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.events = undefined
    // While a read is on its way on another thread the number must not be given to another file.
    if (!this.isReading) this.release()
  }

  private read(): void {
    if (this.isReading || this.isPaused || this.isClosed || this.events === undefined) return
    this.isReading = true
    readCallback(this.descriptor, this.buffer, 0, this.buffer.length, null, (error, count) => {
      this.isReading = false
      if (this.isClosed) {
        this.release()
        return
      }
      if (error !== null || count === 0) {
        this.end(error)
        return
      }
      this.deliver(count)
    })
  }

  /** A pause between the read and its answer does not hold the bytes back: "at most one more onBytes". */
  private deliver(count: number): void {
    this.events?.onBytes(this.buffer, 0, count)
    this.read()
  }

  private end(error: NodeJS.ErrnoException | null): void {
    const events = this.events
    this.close()
    // A standard stream that was closed before we started has nothing to give.
    const isAbsent = this.path === '-' && error?.code === 'EBADF'
    events?.onEnd(error === null || isAbsent ? undefined : readError(error, this.path))
  }

  private release(): void {
    if (this.descriptor > 2) closeSync(this.descriptor)
  }
}

/** Files and devices, and what could not be made non-blocking: every write is one or more blocking calls. */
class FileOutput implements ByteOutput {
  readonly kind: InputKind
  bytesWritten = 0
  isBroken = false
  private readonly descriptor: number
  private readonly path: string
  private isClosed = false

  constructor(descriptor: number, path: string, kind: InputKind) {
    this.descriptor = descriptor
    this.path = path
    this.kind = kind
  }

  write(bytes: Uint8Array): WriteOutcome | Promise<WriteOutcome> {
    if (this.isBroken) return 'broken'
    return this.writeFrom(bytes, 0)
  }

  sync(): void {
    if (this.kind !== 'file') return
    try {
      fsyncSync(this.descriptor)
    } catch (error) {
      throw outputError(error, this.path)
    }
  }

  close(): void {
    if (this.descriptor > 2) this.hangUp()
  }

  hangUp(): void {
    if (this.isClosed) return
    this.isClosed = true
    closeSync(this.descriptor)
  }

  private writeFrom(bytes: Uint8Array, from: number): WriteOutcome | Promise<WriteOutcome> {
    let at = from
    while (at < bytes.length) {
      try {
        const count = writeSync(this.descriptor, bytes, at, bytes.length - at)
        at += count
        this.bytesWritten += count
      } catch (error) {
        const code = systemCode(error)
        if (code === 'EPIPE') {
          this.isBroken = true
          return 'broken'
        }
        if (code !== 'EAGAIN') throw outputError(error, this.path)
        return this.writeLater(bytes, at)
      }
    }
    return 'written'
  }

  /** Somebody else made the shared descriptor non-blocking, and nothing can be waited for: ask again a little later. */
  private async writeLater(bytes: Uint8Array, at: number): Promise<WriteOutcome> {
    await new Promise((resolve) => setTimeout(resolve, 1))
    return this.writeFrom(bytes, at)
  }
}

/**
 * Pipes, terminals and sockets. What the descriptor takes at once is written by the call itself; the rest goes through a
 * net.Socket, which waits until there is room. Large writes to a pipe block on another thread instead, through a third
 * descriptor: half the cost of being called whenever there is room for 64 KiB, and the caller goes on meanwhile.
 */
class StreamOutput implements ByteOutput {
  readonly kind: InputKind
  bytesWritten = 0
  isBroken = false
  private readonly descriptor: number
  private readonly path: string
  /** Ours to close; undefined for a socket, which cannot be opened twice. */
  private readonly own: number | undefined
  private socket: Socket | undefined
  private failure: StreamError | undefined
  private isWaiting = false
  private isClosed = false
  /** Blocks; −1: it cannot be had. */
  private blocking: number | undefined

  constructor(descriptor: number, path: string, kind: InputKind, own: number | undefined) {
    this.descriptor = descriptor
    this.path = path
    this.kind = kind
    this.own = own
  }

  write(bytes: Uint8Array): WriteOutcome | Promise<WriteOutcome> {
    if (this.isBroken) return 'broken'
    if (this.failure !== undefined) throw this.failure
    if (this.isWaiting) throw new StreamError('OUTPUT_FAILED', 'one write at a time')
    if (this.own === undefined) return this.writeRest(bytes)
    if (bytes.length >= BULK_BYTES_MIN) {
      this.blocking ??= this.kind === 'pipe' ? openBlocking(this.own) : -1
      if (this.blocking >= 0) return this.writeBulk(this.blocking, bytes)
    }
    let at = 0
    while (at < bytes.length) {
      try {
        const count = writeSync(this.descriptor, bytes, at, bytes.length - at)
        at += count
        this.bytesWritten += count
      } catch (error) {
        const code = systemCode(error)
        if (code === 'EAGAIN') return this.writeRest(bytes.subarray(at))
        return this.failed(error)
      }
    }
    return 'written'
  }

  sync(): void {}

  close(): void {
    if (this.path !== '-') this.hangUp()
  }

  hangUp(): void {
    if (this.isClosed) return
    this.isClosed = true
    if (this.socket !== undefined) this.socket.destroy()
    else if (this.own !== undefined) closeSync(this.own)
    // Ours was a second descriptor of the same pipe.
    if (this.path === '-' && this.own !== undefined) closeSync(1)
    if (this.blocking !== undefined && this.blocking >= 0 && !this.isWaiting) {
      closeSync(this.blocking)
    }
  }

  private writeBulk(descriptor: number, bytes: Uint8Array): Promise<WriteOutcome> {
    this.isWaiting = true
    return new Promise((resolve, reject) => {
      let at = 0
      const step = (): void => {
        writeCallback(descriptor, bytes, at, bytes.length - at, null, (error, count) => {
          if (error === null) {
            at += count
            this.bytesWritten += count
            if (at < bytes.length) {
              step()
              return
            }
          }
          this.isWaiting = false
          this.settle(error, resolve, reject)
        })
      }
      step()
    })
  }

  private settle(
    error: Error | null | undefined,
    resolve: (outcome: WriteOutcome) => void,
    reject: (failure: unknown) => void,
  ): void {
    try {
      resolve(error === undefined || error === null ? 'written' : this.failed(error))
    } catch (failure) {
      reject(failure)
    }
  }

  private writeRest(bytes: Uint8Array): Promise<WriteOutcome> {
    this.isWaiting = true
    const socket = this.stream()
    return new Promise((resolve, reject) => {
      socket.write(bytes, (error) => {
        this.isWaiting = false
        if (error === undefined || error === null) this.bytesWritten += bytes.length
        this.settle(error, resolve, reject)
      })
    })
  }

  /** @throws StreamError OUTPUT_FAILED, now and on every write to come */
  private failed(error: unknown): WriteOutcome {
    const code = systemCode(error)
    if (code === 'EPIPE' || code === 'ECONNRESET') {
      this.isBroken = true
      return 'broken'
    }
    this.failure = outputError(error, this.path)
    throw this.failure
  }

  private stream(): Socket {
    if (this.socket === undefined) {
      this.socket =
        this.kind === 'terminal'
          ? new (ttyModule().WriteStream)(this.descriptor)
          : new (netModule().Socket)({ fd: this.descriptor, readable: false, writable: true })
      // Errors are told by the write's own callback; without a listener Node would crash on the event.
      this.socket.on('error', () => undefined)
    }
    return this.socket
  }
}

function readError(error: unknown, path: string): StreamError {
  const name = path === '-' ? 'standard input' : path
  return diskError(error, 'read', name)
}

function outputError(error: unknown, path: string): StreamError {
  if (error instanceof StreamError) return error
  const name = path === '-' ? 'standard output' : path
  const hint = systemCode(error) === 'ENOSPC' ? 'free some space' : undefined
  return new StreamError('OUTPUT_FAILED', `cannot write to ${name}: ${systemText(error)}`, {
    target: path,
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  })
}
