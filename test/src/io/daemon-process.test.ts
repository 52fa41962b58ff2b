import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { ProcessLauncher } from '../../../src/io/daemon-process.ts'

const diskModule = join(import.meta.dirname, '../../../src/io/real-disk.ts')
const roots: string[] = []
const started: number[] = []

afterEach(() => {
  for (const pid of started.splice(0)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // Gone already.
    }
  }
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true })
})

/** A stand-in for the daemon: takes the lock, says what it was given, listens. */
const daemon = `
import { createServer } from 'node:net'
import { appendFileSync } from 'node:fs'
import { RealDisk } from ${JSON.stringify(diskModule)}
const [directory, socket] = process.argv.slice(2)
try { new RealDisk().lock(directory + '/.lock') } catch (error) { console.error(error.code); process.exit(8) }
appendFileSync(directory + '/pids', process.pid + '\\n')
console.log('arena', process.env.MALLOC_ARENA_MAX, process.env.EXTRA)
createServer().listen(socket)
`

function prepare(script = daemon): {
  root: string
  launcher: ProcessLauncher
  options: { address: string; arguments: string[]; logPath: string; readyMsMax: number }
} {
  const root = mkdtempSync(join(tmpdir(), 'stream-launch-'))
  roots.push(root)
  const scriptPath = join(root, 'daemon.mts')
  writeFileSync(scriptPath, script)
  const socket = join(root, 'socket')
  return {
    root,
    launcher: new ProcessLauncher({ scriptPath }),
    options: {
      address: `ipc://${socket}`,
      arguments: [root, socket],
      logPath: join(root, 'state', 'daemon.log'),
      readyMsMax: 10_000,
    },
  }
}

describe('ProcessLauncher', () => {
  it('starts a daemon, waits for its socket, gives it its environment and its log', async () => {
    const { root, launcher, options } = prepare()
    expect(await launcher.isAnswering(options.address)).toBe(false)
    const { processId } = await launcher.launch({ ...options, environment: { EXTRA: 'yes' } })
    started.push(processId!)
    expect(await launcher.isAnswering(options.address)).toBe(true)
    expect(readFileSync(join(root, 'pids'), 'utf8')).toBe(`${processId}\n`)
    expect(readFileSync(options.logPath, 'utf8')).toBe('arena 1 yes\n')
  })

  it('P8: however many start at once, one daemon comes up and all find it', async () => {
    const { root, launcher, options } = prepare()
    const results = await Promise.all(Array.from({ length: 4 }, () => launcher.launch(options)))
    const pids = readFileSync(join(root, 'pids'), 'utf8').trim().split('\n')
    started.push(...pids.map(Number))
    expect(pids).toHaveLength(1)
    expect(results).toHaveLength(4)
  })

  it('a daemon that ends is an error with what it said last, of this start only', async () => {
    const { launcher, options } = prepare('console.error("port taken"); process.exit(3)')
    const first = await launcher.launch(options).catch((error: unknown) => error)
    expect(first).toMatchObject({ code: 'UNREACHABLE', hint: 'it said:\nport taken' })
    const second = await launcher.launch(options).catch((error: unknown) => error)
    expect(second).toMatchObject({ hint: 'it said:\nport taken' })
  })

  it('a daemon whose place is another one’s is a conflict, in a cluster at once', async () => {
    const { launcher, options } = prepare('console.error("taken"); process.exit(8)')
    const failure = { code: 'CONFLICT', exit: 8, hint: 'it said:\ntaken' }
    const alone = launcher.launch({ ...options, readyMsMax: 2500 })
    await expect(alone).rejects.toMatchObject(failure)
    const words = [...options.arguments, '--etcd', 'http://etcd']
    const beganMs = performance.now()
    const inCluster = launcher.launch({ ...options, arguments: words, readyMsMax: 60_000 })
    await expect(inCluster).rejects.toMatchObject(failure)
    expect(performance.now() - beganMs).toBeLessThan(30_000)
  }, 60_000)

  it('a daemon that never answers is an error in time', async () => {
    const { root, launcher, options } = prepare(
      'import { writeFileSync } from "node:fs"; writeFileSync(process.argv[2] + "/pids", String(process.pid)); setInterval(() => undefined, 1000)',
    )
    const failure = launcher.launch({ ...options, readyMsMax: 400 })
    await expect(failure).rejects.toMatchObject({ code: 'UNREACHABLE' })
    // On a busy machine it has not even begun.
    const pids = join(root, 'pids')
    await vi.waitFor(
      () => expect(existsSync(pids) && readFileSync(pids, 'utf8')).toBeTruthy(),
      20_000,
    )
    started.push(Number(readFileSync(pids, 'utf8')))
  })
})
