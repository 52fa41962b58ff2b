/** Servers that live as long as the command that starts them (src/ports/servers.ts). */
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { StreamError } from '../base/errors.ts'
import type { Server, ServerOptions, Servers } from '../ports/servers.ts'
import { daemonMemoryEnvironment, daemonNodeFlags } from './daemon-process.ts'
import { childProcessModule, netModule } from './lazy-modules.ts'
import { diskError } from './system-errors.ts'

const LOG_LINES_SHOWN = 5

export class RealServers implements Servers {
  private readonly daemonScript: string

  constructor(daemonScript: string) {
    this.daemonScript = daemonScript
  }

  start(words: readonly string[], options: ServerOptions): Promise<Server> {
    return spawnServer(words, options, process.env)
  }

  startDaemon(args: readonly string[], options: ServerOptions): Promise<Server> {
    const words = [process.execPath, ...daemonNodeFlags, this.daemonScript, ...args]
    const environment = { ...process.env, ...daemonMemoryEnvironment, NOTIFY_SOCKET: undefined }
    return spawnServer(words, options, environment)
  }

  async freePorts(count: number): Promise<readonly number[]> {
    const servers = Array.from({ length: count }, () => netModule().createServer())
    const ports = await Promise.all(
      servers.map(
        (server) =>
          new Promise<number>((resolve, reject) => {
            server.once('error', reject)
            server.listen(0, '127.0.0.1', () => {
              const address = server.address()
              resolve(typeof address === 'object' && address !== null ? address.port : 0)
            })
          }),
      ),
    )
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
    return ports
  }

  makeScratch(prefix: string): string {
    try {
      return mkdtempSync(join(tmpdir(), prefix))
    } catch (error) {
      throw diskError(error, 'create', tmpdir())
    }
  }

  removeTree(path: string): void {
    rmSync(path, { recursive: true, force: true })
  }
}

function spawnServer(
  words: readonly string[],
  { logPath }: ServerOptions,
  environment: NodeJS.ProcessEnv,
): Promise<Server> {
  const [program = '', ...args] = words
  const descriptor = openLog(logPath)
  const child = childProcessModule().spawn(program, args, {
    // A session of its own: Ctrl-C reaches the command alone.
    detached: true,
    stdio: ['ignore', descriptor, descriptor],
    env: environment,
  })
  closeSync(descriptor)
  let isRunning = true
  const ended = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => {
      isRunning = false
      resolve(signal ?? `code ${code}`)
    })
  })
  return new Promise((resolve, reject) => {
    child.once('error', (cause) => {
      isRunning = false
      reject(
        new StreamError('RUNTIME_MISSING', `${program}: cannot be run`, { target: program, cause }),
      )
    })
    child.once('spawn', () => {
      resolve({
        processId: child.pid ?? 0,
        ended,
        get isRunning() {
          return isRunning
        },
        signal: (name) => {
          child.kill(name)
        },
        lastLines: () =>
          readFileSync(logPath, 'utf8').trimEnd().split('\n').slice(-LOG_LINES_SHOWN).join('\n'),
      })
    })
  })
}

function openLog(path: string): number {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    return openSync(path, 'a', 0o600)
  } catch (error) {
    throw diskError(error, 'open', path)
  }
}
