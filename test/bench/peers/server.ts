/** A server of a peer: started on a loopback port of its own, in the foreground, stopped by its process id. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'

export async function freePort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return address !== null && typeof address === 'object' ? address.port : 0
}

export class Server {
  readonly port: number
  readonly #child: ChildProcess

  private constructor(port: number, child: ChildProcess) {
    this.port = port
    this.#child = child
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** @throws Error with the end of its log when it does not listen within 20 seconds */
  static async start(
    command: string,
    args: readonly string[],
    options: { readonly port: number; readonly log: string; readonly cwd: string },
  ): Promise<Server> {
    const log = openSync(options.log, 'a')
    const child = spawn(command, args, { cwd: options.cwd, stdio: ['ignore', log, log] })
    closeSync(log)
    const server = new Server(options.port, child)
    const deadline = performance.now() + 20_000
    while (!(await accepts(options.port))) {
      if (child.exitCode !== null || performance.now() > deadline) {
        await server.stop()
        throw new Error(
          `${command} did not come up\n${readFileSync(options.log, 'utf8').slice(-2000)}`,
        )
      }
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    return server
  }

  /** SIGTERM; after ten seconds SIGKILL. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000)
    await ended
    clearTimeout(timer)
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** Most resident memory of a process so far, in MB of 10^6 bytes; 0 when it is gone. */
export function peakMegabytes(pid: number): number {
  try {
    const line = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
    return (Number(line?.[1] ?? 0) * 1024) / 1e6
  } catch {
    return 0
  }
}

/** Process ids below `pid`, with their program's name. */
export function descendants(pid: number): { readonly pid: number; readonly name: string }[] {
  const found: { pid: number; name: string }[] = []
  try {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim()
      for (const child of children === '' ? [] : children.split(' ').map(Number)) {
        found.push({ pid: child, name: readFileSync(`/proc/${child}/comm`, 'utf8').trim() })
        found.push(...descendants(child))
      }
    }
  } catch {
    // It ended while it was looked at.
  }
  return found
}

/** The path of a program, or undefined. */
export function findProgram(name: string): string | undefined {
  const found = spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' })
  return found.status === 0 ? found.stdout.trim() : undefined
}
