/**
 * Starts the daemon as a detached process of its own session, and waits for its socket.
 *
 * Concurrent starters need no lock of their own: the data directory's lock lets one daemon live, the others end with
 * DIRECTORY_LOCKED, and whoever started one of those goes on waiting for the winner's socket.
 */
import type { ChildProcess } from 'node:child_process'
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { type ErrorCode, errorTable, StreamError } from '../base/errors.ts'
import type { DaemonLauncher, LaunchedDaemon, LaunchOptions } from '../ports/daemon-launcher.ts'
import { parseAddress } from './address.ts'
import { childProcessModule, netModule, osModule } from './lazy-modules.ts'
import { monotonicMs } from './monotonic.ts'
import { diskError } from './system-errors.ts'

const POLL_MS = 5
const PROBE_MS_MAX = 1000
/** So long a daemon of a cluster is waited for that another process may be starting with the same data. */
const DOUBLE_MS_MAX = 2000
const LOG_LINES_SHOWN = 5
const LOG_TAIL_BYTES = 4096

/** Node's own number, where there are processors enough. */
const V8_THREADS_MAX = 4

/**
 * Threads of V8 that compile and collect garbage beside the others: one processor is left to those that carry records. With four
 * on two processors a burst of compiling (100 functions that become hot after 500 records one by one) keeps both busy for 40 ms, and
 * whoever is woken waits for a slice of the scheduler, at any priority. Measured on two processors with commands that have one such
 * thread, too: one line of a pipe that has just started takes 0.59 ms instead of 0.68, p99 2.1 instead of 2.8; replicated produce
 * 7 % less.
 */
function v8Threads(): number {
  return Math.max(1, Math.min(V8_THREADS_MAX, osModule().availableParallelism() - 1))
}

/**
 * Received messages are memory outside the heap. V8's own limit for such memory (64 MiB since the last major collection, counted
 * twice by the transport's addon) would have it mark the whole heap every few megabytes received; accounted in the limit of
 * the heap, which begins at a size that fits, it leaves them to the minor collections. Measured: 24 major collections a
 * 400 MB without, none with it, and a quarter of the processor time of a produce.
 * What is sent to a reader is held until the socket has taken it, and so grows old: only a major collection frees it. The size
 * bounds how much of that waits: with 256 the daemon came to 400 MB under 10 GB with a fast reader, with 96 to 250 MB, in the
 * same processor time.
 *
 * No memory reducer: after eight seconds without much to do it marks the heap twice, which ends the shapes of all objects that
 * live for one request only, and with them the code compiled for those; and it shrinks the space for new objects to a megabyte,
 * so that a collection comes with every 75th line. Whoever came after a rest paid for it through ten thousand lines: p99 of one
 * line pipe to pipe, without syncs, 1.6 instead of 0.9 ms. What it gave back was 45 of the 190 MB of an idle daemon.
 */
export const daemonNodeFlags: readonly string[] = [
  '--initial-old-space-size=96',
  '--external-memory-accounted-in-global-limit',
  '--no-memory-reducer',
  `--v8-pool-size=${v8Threads()}`,
]

/**
 * glibc's malloc for a daemon that receives large messages: one arena, nothing given back between batches. Otherwise
 * every batch costs page faults (performance.md, section 4: +50 % throughput).
 */
export const daemonMemoryEnvironment: Readonly<Record<string, string>> = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '67108864',
  MALLOC_TRIM_THRESHOLD_: '2073741824',
  MALLOC_TOP_PAD_: '33554432',
  // More than syncs run at once, or cold reads would wait behind them.
  UV_THREADPOOL_SIZE: '8',
}

export interface DaemonProgram {
  /** Runs the script: this Node by default. */
  readonly nodePath?: string
  readonly scriptPath: string
}

/** What a daemon that ends at once means by its exit code; else it is one that is not reached. */
const failures: ReadonlyMap<number, ErrorCode> = new Map(
  (['CONFLICT', 'CONFIG_INVALID', 'NOT_ALLOWED'] as const).map((code) => [
    errorTable[code].exit,
    code,
  ]),
)

export class ProcessLauncher implements DaemonLauncher {
  private readonly program: DaemonProgram

  constructor(program: DaemonProgram) {
    this.program = program
  }

  isAnswering(address: string): Promise<boolean> {
    const parsed = parseAddress(address)
    const place =
      'path' in parsed ? { path: parsed.path } : { host: parsed.host, port: parsed.port }
    return new Promise((resolve) => {
      const socket = netModule().connect(place)
      const done = (isAnswering: boolean): void => {
        socket.destroy()
        resolve(isAnswering)
      }
      socket.setTimeout(PROBE_MS_MAX, () => done(false))
      socket.once('connect', () => done(true))
      socket.once('error', () => done(false))
    })
  }

  async launch(options: LaunchOptions): Promise<LaunchedDaemon> {
    const log = openLog(options.logPath)
    try {
      const child = this.start(options, log.descriptor)
      return await this.waitUntilReady(child, options, log)
    } finally {
      closeSync(log.descriptor)
    }
  }

  private start(options: LaunchOptions, logDescriptor: number): ChildProcess {
    const { nodePath = process.execPath, scriptPath } = this.program
    const child = childProcessModule().spawn(
      nodePath,
      [...daemonNodeFlags, scriptPath, ...options.arguments],
      {
        // Not the caller's: a daemon would keep that file system from being unmounted.
        cwd: '/',
        detached: true,
        stdio: ['ignore', logDescriptor, logDescriptor],
        env: {
          ...process.env,
          ...daemonMemoryEnvironment,
          // A service that starts a command must not be taken for ready because a daemon is.
          NOTIFY_SOCKET: undefined,
          ...options.environment,
        },
      },
    )
    child.unref()
    return child
  }

  private async waitUntilReady(
    child: ChildProcess,
    options: LaunchOptions,
    log: DaemonLog,
  ): Promise<LaunchedDaemon> {
    let deadline = monotonicMs() + options.readyMsMax
    let end: string | undefined
    let failure: ErrorCode = 'UNREACHABLE'
    let isConflict = false
    child.once('error', (error) => {
      end = `it could not be started: ${error.message}`
    })
    child.once('exit', (code, signal) => {
      end = signal === null ? `it ended with code ${code}` : `it was ended by ${signal}`
      // The directory is another daemon's: that one is waited for, if it is not just being stopped.
      isConflict = code === errorTable.DIRECTORY_LOCKED.exit
      failure = failures.get(code ?? 0) ?? failure
      // In a cluster its number may be another daemon's, and nobody is coming up here.
      const isOfCluster = options.arguments.includes('--etcd')
      if (isConflict && isOfCluster) deadline = Math.min(deadline, monotonicMs() + DOUBLE_MS_MAX)
    })
    for (;;) {
      if (await this.isAnswering(options.address)) {
        return { processId: end === undefined ? child.pid : undefined }
      }
      const isLate = monotonicMs() > deadline
      if (isLate || (end !== undefined && !isConflict)) {
        throw new StreamError(
          failure,
          end === undefined
            ? stillStarting(child.pid, options)
            : `the daemon did not start: ${end}`,
          { target: options.address, hint: lastLines(log, options.logPath) },
        )
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }
}

/** It is not ended: a long recovery that is broken off begins again each time. */
function stillStarting(processId: number | undefined, options: LaunchOptions): string {
  return `the daemon (process ${processId}) did not answer in ${options.readyMsMax} ms and goes on starting; to end it: stream daemon stop`
}

interface DaemonLog {
  readonly descriptor: number
  /** Where this start's lines begin. */
  readonly startBytes: number
}

function openLog(path: string): DaemonLog {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_APPEND
    const descriptor = openSync(path, flags, 0o600)
    return { descriptor, startBytes: fstatSync(descriptor).size }
  } catch (error) {
    throw diskError(error, 'open', path)
  }
}

/** What the daemon said last, in this start only. */
function lastLines(log: DaemonLog, path: string): string {
  const size = fstatSync(log.descriptor).size
  const from = Math.max(log.startBytes, size - LOG_TAIL_BYTES)
  const tail = Buffer.alloc(size - from)
  readSync(log.descriptor, tail, 0, tail.length, from)
  const lines = tail.toString('utf8').trimEnd().split('\n').slice(-LOG_LINES_SHOWN)
  const said = lines.join('\n')
  return said === '' ? `see ${path}` : `it said:\n${said}`
}

/**
 * The kernel's id of this boot, which the daemon compares with the one of its last run (replication.md, section 5.3);
 * undefined where there is none.
 */
export function readBootId(): string | undefined {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return undefined
  }
}
