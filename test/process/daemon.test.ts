/** The daemon as an operator runs it: start, stop, service managers, throw-away and restored data. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ended, eventually, hasProgram, Program, repository } from '../support/program.ts'

let program: Program
beforeAll(() => {
  program = new Program()
})
afterAll(() => program?.stop())

/** One that has ended and waits for its parent is gone: nobody reaps orphans here in a hurry. */
function isRunning(pid: number): boolean {
  const { stdout } = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' })
  return stdout.trim() !== '' && !stdout.startsWith('Z')
}

describe('daemon stop', () => {
  it('returns when the process is gone and its data are free', () => {
    program.ok('stream topics create t --partitions 8; seq 100000 | stream produce t')
    for (let round = 0; round < 3; round += 1) {
      program.ok('stream daemon start')
      const pid = program.daemonPid()
      program.ok('seq 1000 | stream produce t; stream daemon stop')
      expect(isRunning(pid)).toBe(false)
      expect(program.ok('ls $XDG_RUNTIME_DIR/stream')).toBe('')
      expect(program.shell(`flock -n ${program.path('data/stream/.lock')} true`).status).toBe(0)
      expect(program.shell('stream daemon status').status).toBe(4)
    }
    expect(program.shell('stream daemon stop').status).toBe(0)
  })

  it('does not wait for the parent of a daemon in the foreground to notice', async () => {
    const child = program.start(program.stream, ['daemon', 'run'])
    const pid = child.pid ?? 0
    await eventually('the daemon answers', () =>
      program.shell('stream daemon status').status === 0 ? true : undefined,
    )
    expect(program.daemonPid()).toBe(pid)
    // This process reaps its children only when its loop runs: until then the daemon is a zombie.
    expect(program.shell('stream daemon stop', { timeoutMs: 20_000 }).status).toBe(0)
    expect(await ended(child)).toBe(0)
  })
})

describe('daemon start and run', () => {
  it('start twice is fine, with other data 8', () => {
    program.ok('stream daemon start; stream daemon start')
    const other = program.shell('stream daemon start --data other')
    expect(other.status).toBe(8)
    expect(other.stderr).toContain('running already with the data in')
    expect(program.shell('stream daemon run --listen ipc://x.sock').status).toBe(8)
    program.ok('stream daemon stop')
  })

  it('start says what a running daemon does not heed, and nothing else', () => {
    const socket = `ipc://${program.path('run/stream/daemon.sock')}`
    expect(program.ok(`stream daemon start --listen ${socket} 2>&1`)).toBe('')
    expect(program.ok(`stream daemon start --listen ${socket} 2>&1`)).toBe('')
    const again = program.shell(
      `stream daemon start --listen ${socket} --listen kafka://127.0.0.1:1 -X sasl.enabled.mechanisms=PLAIN`,
    )
    expect(again.status).toBe(0)
    expect(again.stderr).toBe(
      'stream: daemon start: running already, so this counts only from its next start: --listen kafka://127.0.0.1:1, -X sasl.enabled.mechanisms=PLAIN; for that: stream daemon stop, then start\n',
    )
    program.ok('stream daemon stop')
  })

  it.each([
    ['-X sasl.enabled.mechanisms=GSSAPI', 2, 'sasl.enabled.mechanisms: GSSAPI'],
    ['--listen kafka://0.0.0.0:1', 2, 'in clear text'],
    ['-X stream.curve.key.file=open.key --listen tcp://127.0.0.1:0', 6, 'others may read'],
  ])('a start that cannot be has the exit code of its cause: %s', (words, exit, why) => {
    program.ok('stream cluster keys --out open.key; chmod 644 open.key')
    const start = program.shell(`stream daemon start ${words}; e=$?; rm open.key; exit $e`)
    expect(start.stderr).toContain(why)
    expect(start.status).toBe(exit)
  })

  it('start asks the daemon at the socket that it was told to listen at', () => {
    const socket = `ipc://${program.path('a.sock')}`
    const start = `stream daemon start --listen ${socket}`
    program.ok('stream daemon start')
    program.ok(`${start} --data a; ${start} --data a; ${start}`)
    expect(JSON.parse(program.ok(`stream daemon status -b ${socket} --json`))).toMatchObject({
      data: program.path('a'),
    })
    const other = program.shell(`${start} --data b`)
    expect(other.status).toBe(8)
    expect(other.stderr).toContain(`running already with the data in ${program.path('a')}`)
    expect(existsSync(program.path('b'))).toBe(false)
    program.ok(`stream daemon stop -b ${socket}; stream daemon stop`)
  })

  it('start returns when every listener is open, and fails where one cannot be', async () => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    const { port } = taken.address() as AddressInfo
    const start = `stream daemon start --listen ipc://${program.path('run/stream/daemon.sock')} --listen kafka://127.0.0.1:${port}`
    const refused = program.shell(start)
    expect(refused.status).not.toBe(0)
    expect(refused.stderr).toContain(`127.0.0.1:${port} is in use`)
    await new Promise((resolve) => taken.close(resolve))
    for (let round = 0; round < 5; round += 1) {
      program.ok(`${start} && exec 3<>/dev/tcp/127.0.0.1/${port}`)
      program.ok('stream daemon stop')
    }
  })

  it('with few descriptors it says so, and keeps some of them for the next command', async () => {
    const child = program.start('sh', ['-c', `ulimit -n 200; exec ${program.stream} daemon run`])
    let said = ''
    child.stderr?.on('data', (chunk) => {
      said += chunk
    })
    await eventually('the daemon answers', () =>
      program.shell('stream daemon status').status === 0 ? true : undefined,
    )
    expect(said).toMatch(/at most 200 files can be open.*ulimit -Hn/s)
    program.ok(
      'stream topics create many --partitions 120; seq 10000 | sed "s/.*/&:&/" | stream produce many -K :',
    )
    const path = program.path('run/stream/line.sock')
    const sockets = Array.from({ length: 150 }, () => connect(path).on('error', () => undefined))
    const closed = await eventually('some are refused', () => {
      const gone = sockets.filter((socket) => socket.closed).length
      return gone > 0 ? gone : undefined
    })
    expect(closed).toBeLessThan(60)
    expect(program.ok('stream consume many --until-end | wc -l').trim()).toBe('10000')
    for (const socket of sockets) socket.destroy()
    program.ok('stream daemon stop')
    expect(await ended(child)).toBe(0)
  })

  it('--ephemeral prints its address once it answers, and leaves nothing behind', async () => {
    const child = program.start(program.stream, ['daemon', 'run', '--ephemeral'])
    let said = ''
    child.stdout?.on('data', (chunk) => {
      said += chunk
    })
    const address = await eventually('an address', () =>
      said.endsWith('\n') ? said.trim() : undefined,
    )
    const directory = address.replace(/^ipc:\/\/(.*)\/daemon\.sock$/, '$1')
    program.ok(`seq 10 | stream produce t -b ${address}`)
    expect(program.ok(`stream cat t -b ${address} | wc -l`).trim()).toBe('10')
    program.ok(`stream daemon stop -b ${address}`)
    expect(await ended(child)).toBe(0)
    expect(existsSync(directory)).toBe(false)
    const started = program.ok('stream daemon start --ephemeral').trim()
    program.ok(`stream topics create x -b ${started}; stream daemon stop -b ${started}`)
    expect(existsSync(started.slice('ipc://'.length))).toBe(false)
  })

  it('--ephemeral that is refused leaves nothing behind either', () => {
    program.ok('mkdir temporary')
    const refused = program.shell(
      'TMPDIR=$PWD/temporary stream daemon run --ephemeral --listen tcp://0.0.0.0:0',
    )
    expect(refused).toMatchObject({ status: 2, stdout: '' })
    // Nor does it take away the socket of the daemon that has the address.
    program.ok('stream daemon start')
    const taken = program.shell(
      'TMPDIR=$PWD/temporary stream daemon run --ephemeral --listen ipc://$XDG_RUNTIME_DIR/stream/daemon.sock',
    )
    expect(taken).toMatchObject({ status: 1, stdout: '' })
    expect(readdirSync(program.path('temporary'))).toEqual([])
    program.ok('stream daemon status; stream daemon stop')
  })

  it('--restored data are served, and what they held counts as old', () => {
    program.ok('seq 10 | stream produce kept; stream daemon stop')
    program.ok(`cp -r data restored; stream daemon start --data restored/stream --restored`)
    expect(program.ok('stream cat kept | wc -l').trim()).toBe('10')
    program.ok('stream daemon stop')
  })

  it('logs -n prints the last lines of the background daemon', () => {
    program.ok('stream daemon start; stream daemon stop')
    expect(program.ok('stream daemon logs -n 1')).toMatch(/stopped\n$/)
  })
})

describe('service managers', () => {
  const listener = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True:
    message = s.recv(4096).decode()
    print(message.replace('\\n', ' '), flush=True)
`
  it.skipIf(!hasProgram('systemd-notify') || !hasProgram('python3'))(
    'systemd is told when the daemon is ready, and when it stops',
    async () => {
      writeFileSync(program.path('listen.py'), listener)
      const socket = program.path('notify.sock')
      const told = program.start('python3', [program.path('listen.py'), socket])
      let said = ''
      told.stdout?.on('data', (chunk) => {
        said += chunk
      })
      await eventually('the listener', () => (said.includes('bound') ? true : undefined))
      const child = program.start(program.stream, ['daemon', 'run'], {
        env: { ...program.environment, NOTIFY_SOCKET: socket },
      })
      await eventually('READY', () => (said.includes('READY=1') ? true : undefined))
      // Ready means just that: the first command that comes is served.
      expect(program.shell('stream daemon status').status).toBe(0)
      child.kill('SIGTERM')
      await eventually('STOPPING', () => (said.includes('STOPPING=1') ? true : undefined))
      expect(await ended(child)).toBe(0)
      told.kill('SIGTERM')
      await ended(told)
    },
  )

  it('without systemd-notify the daemon says so and serves', async () => {
    program.ok('mkdir tools; ln -s "$(command -v flock)" tools/flock')
    const child = program.start(program.stream, ['daemon', 'run'], {
      env: {
        ...program.environment,
        PATH: program.path('tools'),
        NOTIFY_SOCKET: program.path('none.sock'),
      },
    })
    let said = ''
    child.stderr?.on('data', (chunk) => {
      said += chunk
    })
    await eventually('a warning', () => (said.includes('systemd was not told') ? true : undefined))
    expect(program.shell('stream daemon status').status).toBe(0)
    child.kill('SIGTERM')
    expect(await ended(child)).toBe(0)
  })

  it('one signal that comes twice within a moment, as timeout(1) sends it, is one', async () => {
    const child = program.start(program.stream, ['daemon', 'run'], { env: program.environment })
    let said = ''
    let isRepeated = false
    child.stderr?.on('data', (chunk) => {
      said += chunk
      // Once more, in the moment in which it says that it stops; on a busy machine a third would come too late to be the same.
      if (isRepeated || !said.includes('stopping why=SIGTERM')) return
      isRepeated = true
      child.kill('SIGTERM')
    })
    await eventually('serving', () => (said.includes(' serving ') ? true : undefined))
    child.kill('SIGTERM')
    expect(await ended(child), said).toBe(0)
    expect(said).toContain(' info stopped')
  })

  it.skipIf(!hasProgram('systemd-analyze'))('the units are well-formed', () => {
    for (const name of ['stream.service', 'stream.user.service']) {
      const unit = readFileSync(`${repository}/install/${name}`, 'utf8')
      const path = program.path(name.replace('.user', '-user'))
      writeFileSync(path, unit.replaceAll('@STREAM@', '/bin/true'))
      const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', path], {
        encoding: 'utf8',
      })
      const about = stderr.split('\n').filter((line) => line.includes(program.directory))
      expect(about, name).toEqual([])
      expect(status, stderr).toBe(0)
    }
  })
})
