/**
 * The built program (`dist/`) as a user has it: `stream` on PATH, a scratch home, a daemon of its own.
 * Tests and benchmarks run shell lines in it. Everything started here is stopped by `stop`.
 */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

export const repository = resolve(import.meta.dirname, '../..')
export const streamBundle = join(repository, 'dist/stream.cjs')
export const daemonBundle = join(repository, 'dist/daemon.cjs')

export interface Outcome {
  /** Exit code; 128 + n for a death by signal n, as a shell says it. */
  readonly status: number
  readonly stdout: string
  readonly stderr: string
  readonly stdoutBytes: Buffer
}

export interface ProgramOptions {
  /** Where the scratch directory is made. */
  readonly base?: string
  readonly environment?: Readonly<Record<string, string>>
}

const signalNumbers: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGKILL: 9,
  SIGPIPE: 13,
  SIGTERM: 15,
}

export class Program {
  readonly directory: string
  readonly environment: NodeJS.ProcessEnv
  readonly stream: string
  private readonly children = new Set<ChildProcess>()

  constructor(options: ProgramOptions = {}) {
    if (!existsSync(streamBundle)) throw new Error('no dist/: run `npm run build` first')
    this.directory = mkdtempSync(join(options.base ?? tmpdir(), 'stream-test-'))
    const bin = join(this.directory, 'bin')
    mkdirSync(bin)
    mkdirSync(join(this.directory, 'run'), { mode: 0o700 })
    chmodSync(join(this.directory, 'run'), 0o700)
    this.stream = join(bin, 'stream')
    // The first line is what install.sh writes: one process, no shell in between.
    writeFileSync(
      this.stream,
      `#!${process.execPath} --v8-pool-size=1\nrequire(${JSON.stringify(streamBundle)})\n`,
    )
    chmodSync(this.stream, 0o755)
    this.environment = {
      PATH: `${bin}:${process.env['PATH'] ?? ''}`,
      HOME: this.directory,
      XDG_DATA_HOME: join(this.directory, 'data'),
      XDG_STATE_HOME: join(this.directory, 'state'),
      XDG_CONFIG_HOME: join(this.directory, 'config'),
      XDG_RUNTIME_DIR: join(this.directory, 'run'),
      LC_ALL: 'C.UTF-8',
      TZ: 'UTC',
      ...options.environment,
    }
  }

  /** Path inside the scratch directory. */
  path(...names: string[]): string {
    return join(this.directory, ...names)
  }

  /** Runs a bash line to its end, never throws. */
  shell(
    line: string,
    options: {
      readonly input?: string | Uint8Array
      readonly environment?: Record<string, string>
      readonly timeoutMs?: number
    } = {},
  ): Outcome {
    const result = spawnSync('bash', ['-c', line], {
      cwd: this.directory,
      env: { ...this.environment, ...options.environment },
      input: options.input ?? '',
      maxBuffer: 1 << 29,
      timeout: options.timeoutMs ?? 60_000,
      killSignal: 'SIGKILL',
    })
    if (result.error !== undefined && (result.error as NodeJS.ErrnoException).code === 'ETIMEDOUT')
      throw new Error(
        `still running after its time: ${line}\nstdout: ${result.stdout?.toString().slice(0, 2000)}\nstderr: ${result.stderr?.toString().slice(0, 2000)}`,
      )
    return {
      status: result.status ?? 128 + (signalNumbers[result.signal ?? ''] ?? 0),
      stdout: result.stdout.toString(),
      stderr: result.stderr.toString(),
      stdoutBytes: result.stdout,
    }
  }

  /** Runs a bash line that must exit 0; its standard output. */
  ok(
    line: string,
    options: {
      readonly input?: string | Uint8Array
      readonly environment?: Record<string, string>
      readonly timeoutMs?: number
    } = {},
  ): string {
    const outcome = this.shell(line, options)
    if (outcome.status !== 0)
      throw new Error(
        `exit ${outcome.status}: ${line}\nstdout: ${outcome.stdout.slice(0, 2000)}\nstderr: ${outcome.stderr.slice(0, 2000)}`,
      )
    return outcome.stdout
  }

  /** Starts a process that `stop` will end if it has not ended by itself. */
  start(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawn(command, args, {
      cwd: this.directory,
      env: this.environment,
      stdio: ['pipe', 'pipe', 'pipe'],
      ...options,
    })
    this.children.add(child)
    child.once('close', () => this.children.delete(child))
    return child
  }

  /** The daemon's process id, from its own status. */
  daemonPid(): number {
    return (JSON.parse(this.ok('stream daemon status --json')) as { pid: number }).pid
  }

  stop(): void {
    for (const child of this.children) child.kill('SIGKILL')
    // Its own, whatever broker the test has named.
    const environment = { STREAM_BROKER: '', STREAM_CONTEXT: '' }
    this.shell('stream daemon stop', { timeoutMs: 30_000, environment })
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** Waits for a child's end: exit code, or 128 + signal. */
export function ended(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    if (child.exitCode !== null) resolve(child.exitCode)
    else if (child.signalCode !== null) resolve(128 + (signalNumbers[child.signalCode] ?? 0))
    else
      child.once('close', (code, signal) =>
        resolve(code ?? 128 + (signalNumbers[signal ?? ''] ?? 0)),
      )
  })
}

/** Polls until `probe` gives a value; for what another process does in its own time. */
export async function eventually<T>(
  what: string,
  probe: () => T | undefined,
  limitMs = 20_000,
): Promise<T> {
  const deadline = performance.now() + limitMs
  for (;;) {
    const value = probe()
    if (value !== undefined && value !== false) return value
    if (performance.now() > deadline)
      throw new Error(`did not happen within ${limitMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export function hasProgram(name: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${name}`]).status === 0
}
