/** The process, its surroundings, and the small files of commands. */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { StreamError } from '../base/errors.ts'
import type { DeathSignal, Host, HostSignal, HostStat, StandardStream } from '../ports/host.ts'
import { isTerminal } from './file-kind.ts'
import { lockFile } from './file-lock.ts'
import { osModule } from './lazy-modules.ts'
import { endProcess } from './process-end.ts'
import { processMark } from './process-mark.ts'
import { diskError, systemCode } from './system-errors.ts'

const descriptors: Readonly<Record<StandardStream, number>> = { input: 0, output: 1, error: 2 }
const PERMISSION_BITS = 0o7777

/** Numbers by POSIX; exit codes of a death that the system refused to make real. */
const signalNumbers: Readonly<Record<DeathSignal, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGPIPE: 13,
  SIGTERM: 15,
}

export class RealHost implements Host {
  readonly arguments: readonly string[] = process.argv.slice(2)
  readonly environment: Readonly<Record<string, string | undefined>> = process.env
  readonly processId = process.pid
  readonly userId = process.getuid?.() ?? -1

  get homeDirectory(): string {
    return osModule().homedir()
  }

  get processorCount(): number {
    return osModule().availableParallelism()
  }

  get currentDirectory(): string {
    return process.cwd()
  }

  get temporaryDirectory(): string {
    return osModule().tmpdir()
  }

  isTerminal(stream: StandardStream): boolean {
    return isTerminal(descriptors[stream])
  }

  columns(stream: StandardStream): number | undefined {
    if (!this.isTerminal(stream)) return undefined
    // Touched only on terminals: Node's stream objects take milliseconds to make.
    const terminal = stream === 'error' ? process.stderr : process.stdout
    // A terminal that does not know its size says 0.
    return terminal.columns || undefined
  }

  onSignal(signal: HostSignal, listener: () => void): () => void {
    const handler = (): void => listener()
    process.on(signal as NodeJS.Signals, handler)
    return () => process.off(signal as NodeJS.Signals, handler)
  }

  exit(code: number): never {
    endProcess(code)
  }

  dieBySignal(signal: DeathSignal): never {
    process.removeAllListeners(signal)
    if (signal === 'SIGPIPE') {
      // Node ignores SIGPIPE, and what is ignored kills nobody; a listener that goes away again restores the default.
      process.on(signal, () => undefined)
      process.removeAllListeners(signal)
    }
    process.kill(process.pid, signal)
    // Delivered before kill returns, unless the signal is ignored or blocked.
    endProcess(128 + signalNumbers[signal])
  }

  readFile(path: string): Uint8Array | undefined {
    try {
      // Asked first, since most of the files that are looked for are not there, and an error costs more than the question.
      if (statSync(path, { throwIfNoEntry: false }) === undefined) return undefined
      return readFileSync(path)
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined
      throw diskError(error, 'read', path)
    }
  }

  writeFile(path: string, bytes: Uint8Array, mode = 0o600): void {
    writeFileAtomically(path, bytes, mode)
  }

  makeDirectory(path: string, mode = 0o700): void {
    try {
      mkdirSync(path, { recursive: true, mode })
    } catch (error) {
      throw diskError(error, 'make the directory', path)
    }
  }

  removeFile(path: string): void {
    try {
      rmSync(path, { force: true })
    } catch (error) {
      throw diskError(error, 'delete', path)
    }
  }

  lockFile(path: string): () => void {
    const lock = lockFile(
      path,
      () => new StreamError('CONFLICT', `${path}: locked by another run`, { target: path }),
    )
    return () => lock.release()
  }

  stat(path: string): HostStat | undefined {
    try {
      const stat = statSync(path, { throwIfNoEntry: false })
      if (stat === undefined) return undefined
      return {
        kind: stat.isFile()
          ? 'file'
          : stat.isDirectory()
            ? 'directory'
            : stat.isSocket()
              ? 'socket'
              : 'other',
        userId: stat.uid,
        mode: stat.mode & PERMISSION_BITS,
        sizeBytes: stat.size,
      }
    } catch (error) {
      throw diskError(error, 'look at', path)
    }
  }

  processMark(processId: number): string | undefined {
    return processMark(processId)
  }

  terminate(processId: number): void {
    try {
      process.kill(processId, 'SIGTERM')
    } catch (error) {
      if (systemCode(error) === 'ESRCH') return
      throw new StreamError('PERMISSION_DENIED', `process ${processId} is another user's`, {
        cause: error,
      })
    }
  }
}

/** Written beside, synced, renamed: a reader sees the old content or the new one, after a power cut too. */
export function writeFileAtomically(path: string, bytes: Uint8Array, mode: number): void {
  const beside = `${path}.${process.pid}.tmp`
  try {
    const descriptor = openSync(beside, 'w', mode)
    try {
      let at = 0
      while (at < bytes.length) at += writeSync(descriptor, bytes, at)
      fsyncSync(descriptor)
    } finally {
      closeSync(descriptor)
    }
    renameSync(beside, path)
    syncDirectoryOf(path)
  } catch (error) {
    rmSync(beside, { force: true })
    throw diskError(error, 'write', path)
  }
}

function syncDirectoryOf(path: string): void {
  const slash = path.lastIndexOf('/')
  const descriptor = openSync(slash < 0 ? '.' : path.slice(0, slash + 1), 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
