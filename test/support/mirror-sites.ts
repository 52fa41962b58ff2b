/** Single daemons beside each other, each a cluster of its own, that can be killed one by one; in one scratch home. */
import type { ChildProcess } from 'node:child_process'
import { daemonBundle, ended, type Outcome, Program } from './program.ts'

export class Sites {
  readonly program = new Program({ environment: { STREAM_AUTOSTART: '0' } })
  readonly #processes = new Map<string, ChildProcess>()
  readonly #words = new Map<string, readonly string[]>()

  /** @param more  words for the daemon */
  start(name: string, more?: readonly string[]): void {
    const words = more ?? this.#words.get(name) ?? []
    this.#words.set(name, words)
    const own = ['--data', this.program.path(name), '--listen', this.address(name)]
    const child = this.program.start(process.execPath, [daemonBundle, ...own, ...words], {
      stdio: ['ignore', 'ignore', 'ignore'],
    })
    this.#processes.set(name, child)
    this.program.ok(
      `for i in $(seq 300); do stream topics list -b ${this.address(name)} >/dev/null 2>&1 && exit; sleep .1; done; exit 1`,
    )
  }

  address(name: string): string {
    return `ipc://${this.program.path(`${name}.sock`)}`
  }

  async end(name: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#processes.get(name)
    if (child === undefined) return
    const end = ended(child)
    child.kill(signal)
    await end
  }

  /** SIGSTOP: it holds its connections and says nothing. */
  freeze(name: string): void {
    this.#processes.get(name)?.kill('SIGSTOP')
  }

  thaw(name: string): void {
    this.#processes.get(name)?.kill('SIGCONT')
  }

  /** As `ok`, with $A the address of the site `a`, and so on. */
  ok(line: string, timeoutMs = 120_000): string {
    return this.program.ok(line, { environment: this.environment, timeoutMs })
  }

  shell(line: string, timeoutMs = 120_000): Outcome {
    return this.program.shell(line, { environment: this.environment, timeoutMs })
  }

  /** Runs beside the test until the file `over` is there, or it is killed. */
  load(line: string): { readonly child: ChildProcess; readonly end: Promise<number> } {
    const child = this.program.start('bash', ['-c', `while [ ! -e over ]; do ${line}; done`], {
      stdio: ['ignore', 'ignore', 'ignore'],
      env: { ...this.program.environment, ...this.environment },
    })
    return { child, end: ended(child) }
  }

  get environment(): Record<string, string> {
    return Object.fromEntries(
      [...this.#words.keys()].map((name) => [name.toUpperCase(), this.address(name)]),
    )
  }

  stop(): void {
    this.program.stop()
  }
}
