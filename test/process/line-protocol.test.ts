/** The line protocol as programs use it: real sockets, socat and python3, and a daemon that is killed. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { helpTopics } from '../../cmd/help-topics.ts'
import { ended, eventually, hasProgram, Program } from '../support/program.ts'

describe('the line protocol of a real daemon', () => {
  let program: Program
  let socketPath: string
  beforeAll(() => {
    program = new Program()
    program.ok('stream daemon start && stream topics create clicks app')
    socketPath = program.path('run', 'stream', 'line.sock')
  })
  afterAll(() => program.stop())

  it("stands beside the daemon's socket, the user's alone, and is listed", () => {
    expect(statSync(socketPath).mode & 0o777).toBe(0o600)
    expect(program.ok('stream daemon status')).toContain(`line://${socketPath}`)
  })

  it.skipIf(!hasProgram('socat'))('socat: a line in, an acknowledgement out', () => {
    const offset = Number(program.ok('stream topics describe clicks -o tsv').split('\t')[8])
    expect(program.ok(`echo 'LINE clicks hello' | socat -t 30 - UNIX-CONNECT:${socketPath}`)).toBe(
      `+OK 0 ${offset}\n`,
    )
    expect(program.ok('stream cat clicks')).toContain('hello\n')
  })

  it.skipIf(!hasProgram('nc'))('nc: bytes with a key', () => {
    const said = program.shell(
      `printf 'PUB clicks 5 key=2\\nk1world' | timeout 20 nc -N -U ${socketPath}`,
    )
    // Not every nc has -N.
    if (said.status !== 0 && said.stdout === '') return
    expect(said.stdout).toMatch(/^\+OK 0 \d+\n$/)
    expect(program.ok('stream cat clicks --json')).toContain('"key":"k1","value":"world"')
  })

  it.skipIf(!hasProgram('python3'))(
    "python3: the manual's own lines, and bytes of any kind",
    () => {
      const text = helpTopics.find(({ name }) => name === 'line-protocol')?.text ?? ''
      const lines = text.slice(text.indexOf('  import socket')).split('\n')
      const script = [
        `path = ${JSON.stringify(socketPath)}`,
        'value = bytes(range(256)) * 300',
        ...lines.map((line) => line.slice(2)),
        'print(answer.decode(), end="")',
        'assert got == value',
      ].join('\n')
      expect(program.ok('python3 -', { input: script })).toMatch(/^\+OK 0 \d+\n$/)
      const expected = Buffer.concat(
        Array.from({ length: 300 }, () => Buffer.from(Array.from({ length: 256 }, (_, at) => at))),
      )
      const last = program.shell('stream consume clicks --from -1 --until-end --raw').stdoutBytes
      expect(last.equals(expected)).toBe(true)
    },
  )

  it.skipIf(!hasProgram('socat'))('socat: all records to the end, then those to come', async () => {
    program.ok('stream topics create read && printf "a\\nb\\n" | stream produce read')
    const whole = program.ok(
      `echo 'SUB read from=start until=end' | socat -t 30 - UNIX-CONNECT:${socketPath}`,
    )
    expect(whole.replaceAll(/ \d{13} /g, ' ')).toBe(
      '+SUB read 1\nMSG read 0 0 -1 1\na\nMSG read 0 1 -1 1\nb\n+END read\n',
    )
    const follower = spawn('socat', ['-,ignoreeof', `UNIX-CONNECT:${socketPath}`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    follower.stdin.end('SUB read\n')
    let text = ''
    follower.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString()
    })
    await eventually('its greeting', () => text === '+SUB read 1\n' || undefined)
    program.ok('echo c | stream produce read')
    await eventually('the record', () => / -1 1\nc\n$/.test(text) || undefined)
    follower.kill('SIGTERM')
    await ended(follower)
  })

  it('a reader that takes nothing costs little, and gets all of it later', async () => {
    program.ok(
      'stream topics create large && head -c 60000000 /dev/zero | tr "\\0" x | fold -w 999 | stream produce large',
    )
    const before = program.ok("stream cat large | md5sum | cut -d' ' -f1")
    const bytesBefore = residentBytes(program.daemonPid())
    const slow = connect(socketPath)
    slow.pause()
    slow.write('SUB large from=start until=end\n')
    await new Promise((resolve) => setTimeout(resolve, 2000))
    expect(residentBytes(program.daemonPid()) - bytesBefore).toBeLessThan(40e6)
    expect(await talk(socketPath, 'PING\n')).toEqual(['+PONG'])
    const hash = createHash('md5')
    let isOver = false
    let rest = ''
    slow.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString('latin1')).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        if (line.startsWith('x')) hash.update(`${line}\n`)
        else if (line === '+END large') isOver = true
      }
    })
    slow.resume()
    await eventually('its end', () => isOver || undefined)
    slow.destroy()
    expect(hash.digest('hex')).toBe(before.trim())
  }, 60_000)

  it('a hundred thousand records, pipelined, each acknowledged once and in order', async () => {
    const count = 100_000
    const lines = Array.from({ length: count }, (_, at) => `LINE app ${at}\n`).join('')
    const answers = await talk(socketPath, lines)
    const offsets = answers.map((line) => Number(/^\+OK 0 (\d+)$/.exec(line)?.[1]))
    expect(offsets).toEqual(Array.from({ length: count }, (_, at) => at))
    expect(program.ok('stream cat app')).toBe(
      Array.from({ length: count }, (_, at) => `${at}\n`).join(''),
    )
  }, 60_000)

  it('a client that does not read its answers is waited for, and others go on', async () => {
    const slow = connect(socketPath)
    slow.pause()
    const lines = 'LINE app x\n'.repeat(20_000)
    let isDrained = true
    for (let at = 0; at < 100 && isDrained; at += 1) {
      isDrained = slow.write(lines)
      if (!isDrained) {
        isDrained = await Promise.race([
          new Promise<boolean>((resolve) => slow.once('drain', () => resolve(true))),
          new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 1000)),
        ])
      }
    }
    expect(isDrained).toBe(false)
    expect(await talk(socketPath, 'PING\n')).toEqual(['+PONG'])
    slow.destroy()
    expect(await talk(socketPath, 'PING\n')).toEqual(['+PONG'])
  }, 60_000)

  it('every acknowledged record is there after kill -9, in its place', async () => {
    program.ok('stream topics create killed')
    for (let round = 0; round < 3; round += 1) {
      const socket = connect(socketPath)
      const acknowledged: string[] = []
      let sent = 0
      const isGone = collect(socket, acknowledged)
      const send = (): void => {
        for (let at = 0; at < 50; at += 1) socket.write(`LINE killed r${round}-${sent++}\n`)
      }
      send()
      const timer = setInterval(send, 2)
      await eventually('some answers', () => acknowledged.length > 200 || undefined)
      process.kill(program.daemonPid(), 'SIGKILL')
      await isGone
      clearInterval(timer)
      program.ok('stream daemon start')
      const rows = program
        .ok('stream cat killed --json')
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line) as { offset: number; value: string })
      const values = new Map(rows.map(({ offset, value }) => [offset, value]))
      for (const [index, line] of acknowledged.entries()) {
        const offset = Number(/^\+OK 0 (\d+)$/.exec(line)?.[1])
        expect(values.get(offset), line).toBe(`r${round}-${index}`)
      }
    }
  }, 60_000)

  it('stream.line.enable=false leaves it out; --listen line:// puts it elsewhere', async () => {
    const other = program.path('other')
    const child = spawn(
      'stream',
      [
        'daemon',
        'run',
        '--data',
        other,
        '--listen',
        `ipc://${other}.sock`,
        '--listen',
        `line://${other}.line`,
      ],
      { env: program.environment, stdio: 'ignore' },
    )
    try {
      await eventually('the socket', () => statSync(`${other}.line`, { throwIfNoEntry: false }))
      // Its name is there a moment before it takes connections.
      await vi.waitFor(
        async () => expect(await talk(`${other}.line`, 'PING\n')).toEqual(['+PONG']),
        5000,
      )
    } finally {
      child.kill('SIGTERM')
      await ended(child)
    }
    expect(program.shell(`stream topics list -b line://${socketPath}`).status).toBe(2)
    const plain = program.ok(
      `stream daemon run --ephemeral -X stream.line.enable=false > addr & p=$!
       until [ -s addr ]; do sleep .05; done
       ls $(dirname $(sed s,ipc://,, addr)); kill $p; wait $p`,
    )
    expect(plain).toContain('daemon.sock')
    expect(plain).not.toContain('line.sock')
  })
})

/** Sends all, then the end; the answers until the daemon closes. */
async function talk(path: string, text: string): Promise<string[]> {
  const socket = connect({ path, allowHalfOpen: true })
  const lines: string[] = []
  const gone = collect(socket, lines)
  socket.end(text)
  await gone
  return lines
}

function collect(socket: Socket, lines: string[]): Promise<void> {
  let rest = ''
  socket.on('data', (chunk) => {
    const parts = (rest + chunk.toString('latin1')).split('\n')
    rest = parts.pop() ?? ''
    for (const part of parts) lines.push(part)
  })
  return new Promise((resolve) => {
    socket.on('error', () => undefined)
    socket.once('end', () => socket.end())
    socket.once('close', () => resolve())
  })
}

function residentBytes(pid: number): number {
  const [, pages] = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')
  return Number(pages) * 4096
}
