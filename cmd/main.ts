/**
 * The `stream` command: wires the real ports, takes the signals, prints the error that ended the run, and sets the exit
 * code. The only file of cmd that touches the process.
 *
 * A signal or a broken pipe ends the process by that very signal, so that shells see what happened.
 */

import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { adoptError } from '../src/base/errors.ts'
import { requireFrom } from '../src/io/lazy-modules.ts'
import { RealHost } from '../src/io/real-host.ts'
import { RealNet } from '../src/io/real-net.ts'
import { RealRandom } from '../src/io/real-random.ts'
import { RealTime } from '../src/io/real-time.ts'
import { RealStdio } from '../src/io/stdio.ts'
import type { Adoption } from '../src/ports/adoption.ts'
import type { Children } from '../src/ports/children.ts'
import type { DaemonLauncher } from '../src/ports/daemon-launcher.ts'
import type { Disk } from '../src/ports/disk.ts'
import type { Offline } from '../src/ports/offline.ts'
import type { Screens } from '../src/ports/screen.ts'
import type { Servers } from '../src/ports/servers.ts'
import { RealClients } from './clients.ts'
import { commands } from './commands.ts'
import { Console } from './console.ts'
import type { CommandDeps } from './deps.ts'
import { dispatch } from './dispatch.ts'
import { BrokenPipe, exitCodeOf } from './exit-code.ts'
import { Interruption } from './interruption.ts'

/** Where this file, or the bundle that holds it, is: dist/ has the daemon's bundle and VERSION beside it. */
const here = import.meta.dirname
const isBundle = here.endsWith('dist')
const daemonScript = isBundle ? `${here}/daemon.cjs` : `${dirname(here)}/daemon/main.ts`
const childrenScript = isBundle
  ? `${here}/children.cjs`
  : `${dirname(here)}/src/io/real-children.ts`
const screenScript = isBundle ? `${here}/screen.js` : `${dirname(here)}/src/io/ink-screen.ts`
const adoptScript = isBundle ? `${here}/adopt.cjs` : `${dirname(here)}/daemon/offline/adopt-main.ts`
const offlineScript = isBundle ? `${here}/offline.cjs` : `${dirname(here)}/daemon/offline/main.ts`

async function main(): Promise<void> {
  // With a listener of ours the runtime no longer opens its debugger at this signal. Its own switch for that,
  // --disable-sigusr1, leaves the signal blocked, and no listener would ever hear it.
  process.on('SIGUSR1', () => undefined)
  const time = new RealTime()
  const random = new RealRandom()
  const net = new RealNet()
  const host = new RealHost()
  const stdio = new RealStdio()
  const console = new Console(stdio, { isTerminal: host.isTerminal('error') })
  const interruption = new Interruption()
  interruption.attach(host, time)
  const deps: CommandDeps = {
    time,
    random,
    net,
    host,
    stdio,
    launcher: lazyLauncher(),
    clients: new RealClients(time, random, net),
    console,
    interruption,
    loadDisk,
    commands,
    runDaemon,
    openOffline,
    openAdoption,
    loadServers,
    openChildren,
    loadScreens,
    runProgram: async (words, options) =>
      (await import('../src/io/child-program.ts')).runProgram(words, options),
    makeCurveKeyPair: async () =>
      (await import('../src/io/zeromq-addon.ts')).loadZeromq().curveKeyPair(),
    makeTls: async (options) =>
      new (await import('../src/io/tls-client.ts')).RealTlsClient(options),
    loadHashes: async () => new (await import('../src/io/real-hashes.ts')).RealHashes(),
    readVersion,
  }
  const exit = await dispatch(deps, host.arguments).catch((error: unknown) => {
    if (error instanceof BrokenPipe) host.dieBySignal('SIGPIPE')
    if (interruption.signal === undefined) console.error(error)
    return exitCodeOf(error)
  })
  if (interruption.signal !== undefined) host.dieBySignal(interruption.signal)
  host.exit(exit)
}

/** Most runs start no daemon, and need no child processes. */
function lazyLauncher(): DaemonLauncher {
  const load = async (): Promise<DaemonLauncher> => {
    const { ProcessLauncher } = await import('../src/io/daemon-process.ts')
    return new ProcessLauncher({ scriptPath: daemonScript })
  }
  return {
    isAnswering: async (address) => (await load()).isAnswering(address),
    launch: async (options) => (await load()).launch(options),
  }
}

/** The daemon in this process's place: same process id, same descriptors, so that service managers know it. */
async function runDaemon(args: readonly string[]): Promise<number> {
  const { daemonMemoryEnvironment, daemonNodeFlags } = await import('../src/io/daemon-process.ts')
  const environment = { ...process.env, ...daemonMemoryEnvironment }
  const words = [process.execPath, ...daemonNodeFlags, daemonScript, ...args]
  if (process.execve !== undefined && process.platform !== 'win32') {
    process.execve(process.execPath, words, environment as Record<string, string>)
  }
  const { spawn } = await import('node:child_process')
  const child = spawn(process.execPath, words.slice(1), { stdio: 'inherit', env: environment })
  return new Promise((resolve) => {
    child.once('exit', (code) => resolve(code ?? 1))
  })
}

/** By its path: a bundle of its own, with error classes of its own. */
function openOffline(): Offline {
  const module = requireFrom(import.meta.url)(offlineScript) as { openOffline(): Offline }
  const offline = module.openOffline()
  const adopting = <Result>(result: Promise<Result>): Promise<Result> =>
    result.catch((error: unknown) => {
      throw adoptError(error)
    })
  return {
    dump: (request, sink) => adopting(offline.dump(request, sink)),
    check: (path, onFinding) => adopting(offline.check(path, onFinding)),
    repair: (path, onFinding) => adopting(offline.repair(path, onFinding)),
  }
}

/** By its path, as the offline part. */
function openAdoption(): Adoption {
  const module = requireFrom(import.meta.url)(adoptScript) as { openAdoption(): Adoption }
  const adoption = module.openAdoption()
  const adopting = <Result>(result: Promise<Result>): Promise<Result> =>
    result.catch((error: unknown) => {
      throw adoptError(error)
    })
  return {
    look: (request) => adopting(adoption.look(request)),
    adopt: (request) => adopting(adoption.adopt(request)),
  }
}

async function loadServers(): Promise<Servers> {
  const { RealServers } = await import('../src/io/real-servers.ts')
  return new RealServers(daemonScript)
}

/** By its path: only what runs programs pays for the package that starts them. */
function openChildren(): Children {
  const module = requireFrom(import.meta.url)(childrenScript) as { openChildren(): Children }
  return module.openChildren()
}

async function loadScreens(): Promise<Screens> {
  if (!isBundle) return import(screenScript)
  const load = requireFrom(import.meta.url)(`${here}/import.cjs`) as (
    path: string,
  ) => Promise<Screens>
  return load(screenScript)
}

async function loadDisk(): Promise<Pick<Disk, 'open'>> {
  const { RealDisk } = await import('../src/io/real-disk.ts')
  return new RealDisk()
}

function readVersion(): string {
  try {
    return readFileSync(`${here}/VERSION`, 'utf8').trim()
  } catch {
    const manifest: unknown = JSON.parse(readFileSync(`${dirname(here)}/package.json`, 'utf8'))
    return String((manifest as { readonly version?: unknown }).version)
  }
}

void main()
