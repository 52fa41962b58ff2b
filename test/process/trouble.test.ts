/** Bad input and trouble, seen by a user of the built program: one line, the right exit code, a clean standard output. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { daemonBundle, ended, eventually, type Outcome, Program } from '../support/program.ts'

let program: Program
beforeAll(() => {
  program = new Program()
  program.ok('stream topics create orders; seq 10 | stream produce orders')
})
afterAll(() => program?.stop())

function expectRefusal(outcome: Outcome, exit: number, ...words: (string | RegExp)[]): void {
  expect(outcome.status, outcome.stderr).toBe(exit)
  expect(outcome.stdout).toBe('')
  const lines = outcome.stderr.trimEnd().split('\n')
  expect(lines, outcome.stderr).toHaveLength(1)
  for (const word of words) expect(lines[0]).toMatch(word)
}

describe('what a user may type wrong', () => {
  it('an unknown topic names the nearest one, and how to wait for it', () => {
    expectRefusal(
      program.shell('stream consume ordres --until-end'),
      3,
      /ordres/,
      /orders/,
      /UNKNOWN_TOPIC_OR_PARTITION/,
    )
  })

  it('an invalid topic name is refused before anything is sent', () => {
    for (const name of ["'a b'", '..', "'ä'", 'x'.repeat(250)]) {
      const outcome = program.shell(`echo x | stream produce ${name}`)
      expect(outcome.status, outcome.stderr).toBe(2)
      expect(outcome.stdout).toBe('')
    }
  })

  it('a line over the limit is an error of that line; what stood before it is delivered', () => {
    program.ok('stream topics create long')
    const outcome = program.shell(
      `(echo first; head -c 2000000 /dev/zero | tr '\\0' x; echo; echo last) | stream produce long`,
    )
    expectRefusal(outcome, 5, /line 2/)
    expect(program.ok('stream cat long')).toBe('first\n')
  })

  it('the same line is left out with --on-error skip, and the exit code still says so', () => {
    program.ok('stream topics create skipped')
    const outcome = program.shell(
      `(echo first; head -c 2000000 /dev/zero | tr '\\0' x; echo; echo last) | stream produce skipped --on-error skip`,
    )
    expect(outcome.status).toBe(5)
    expect(program.ok('stream cat skipped')).toBe('first\nlast\n')
  })

  it('invalid JSON in an envelope names its line', () => {
    program.ok('stream topics create json')
    expectRefusal(
      program.shell(`printf '{"value":"a"}\\n{"value":\\n' | stream produce json --json`),
      5,
      /line 2/,
    )
    expect(program.ok('stream cat json')).toBe('a\n')
  })

  it('--key-json without that field names the line', () => {
    program.ok('stream topics create keys')
    expectRefusal(
      program.shell(`printf '{"id":1}\\n{"no":1}\\n' | stream produce keys --key-json .id`),
      5,
      /line 2/,
    )
  })

  it('an unknown flag and an unknown command name the nearest one, exit 2', () => {
    const flag = program.shell('stream produce orders --compres zstd')
    expect(flag.status).toBe(2)
    const command = program.shell('stream prodce orders')
    expect(command.status).toBe(2)
    expect(command.stderr).toMatch(/produce/)
  })

  it('no arguments print a short help on standard error, exit 2', () => {
    const outcome = program.shell('stream')
    expect(outcome.status).toBe(2)
    expect(outcome.stdout).toBe('')
    expect(outcome.stderr).toMatch(/produce/)
  })
})

describe('what the machine may do', () => {
  it('a second daemon on the same data is refused, 8', () => {
    const data = program.path('data', 'stream')
    const outcome = program.shell(
      `${process.execPath} ${daemonBundle} --data ${data} --listen ipc://${program.path('run', 'second.sock')}`,
    )
    expectRefusal(outcome, 8, data)
  })

  it('a port in use is named', () => {
    const listener = spawnSync('true')
    expect(listener.status).toBe(0)
    const first = program.start(process.execPath, [
      daemonBundle,
      '--ephemeral',
      '--listen',
      'kafka://127.0.0.1:0',
    ])
    return new Promise<string>((resolve) =>
      first.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString())),
    ).then(async (said) => {
      const line = said.trim().split('\n')[0] ?? ''
      const status = JSON.parse(program.ok(`stream daemon status --json -b ${line}`)) as {
        addresses: string[]
      }
      const taken = status.addresses.find((each) => each.startsWith('kafka://')) ?? ''
      const outcome = program.shell(
        `${process.execPath} ${daemonBundle} --ephemeral --listen ${taken}`,
      )
      expectRefusal(outcome, 1, taken.slice('kafka://'.length))
      first.kill('SIGTERM')
      await ended(first)
    })
  })

  it('a directory that cannot be written is named', () => {
    const outcome = program.shell(
      `${process.execPath} ${daemonBundle} --data /proc/nowhere --listen ipc://${program.path('run', 'x.sock')}`,
    )
    expect([1, 6]).toContain(outcome.status)
    expect(outcome.stderr).toContain('/proc/nowhere')
    expect(outcome.stdout).toBe('')
  })

  it.runIf(process.getuid?.() === 0)(
    'a full disk refuses produce, keeps serving, loses nothing, and recovers when space returns',
    async () => {
      const small = program.path('small')
      mkdirSync(small)
      expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', small]).status).toBe(0)
      const address = `ipc://${program.path('run', 'small.sock')}`
      const daemon = program.start(process.execPath, [
        daemonBundle,
        '--data',
        `${small}/data`,
        '--listen',
        address,
        '-X',
        'log.dir.reserve.bytes=0',
      ])
      let said = ''
      daemon.stderr?.on('data', (chunk: Buffer) => {
        said += chunk.toString()
      })
      try {
        await eventually(
          'the daemon answers',
          () => program.shell(`stream topics list -b ${address}`).status === 0,
        )
        program.ok(`stream topics create full -b ${address}`)
        const outcome = program.shell(
          `yes 'a line that fills the disk, a line that fills the disk' | head -c 40000000 | stream produce full -b ${address} -z none --delivery-timeout 3s --report ${program.path('full.report')}`,
        )
        expect(outcome.status, outcome.stderr).toBe(5)
        expect(outcome.stdout).toBe('')
        const through = (
          JSON.parse(readFileSync(program.path('full.report'), 'utf8')) as { through_line: number }
        ).through_line
        const kept = Number(program.ok(`stream cat full -b ${address} | wc -l`))
        expect(through).toBeGreaterThan(0)
        expect(kept).toBeGreaterThanOrEqual(through)
        program.ok(`mount -o remount,size=64m ${small}`)
        program.ok(`echo again | stream produce full -b ${address} -z none --delivery-timeout 20s`)
        expect(program.ok(`stream cat full --from -1 -b ${address}`)).toBe('again\n')
        expect(said).not.toMatch(/invariant broken/)
      } finally {
        daemon.kill('SIGKILL')
        await ended(daemon)
        spawnSync('umount', ['-l', small])
      }
    },
    60_000,
  )
})

describe('foreign bytes and crowds at the Kafka door', () => {
  let address: string
  let port: number
  let crowded: Program
  beforeAll(() => {
    crowded = new Program()
    crowded.ok('stream daemon start --listen kafka://127.0.0.1:0')
    const addresses = (
      JSON.parse(crowded.ok('stream daemon status --json')) as { addresses: string[] }
    ).addresses
    address = addresses.find((each) => each.startsWith('kafka://')) ?? ''
    port = Number(address.split(':').at(-1))
    crowded.ok('seq 1000 | stream produce crowd')
  })
  afterAll(() => crowded?.stop())

  const open = () =>
    new Promise<Socket>((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => resolve(socket))
      socket.once('error', reject)
    })
  const closed = (socket: Socket) =>
    new Promise<void>((resolve) => {
      socket.once('close', () => resolve())
      socket.on('error', () => undefined)
      socket.resume()
    })

  it('an oversized or negative frame closes its connection only', async () => {
    for (const size of [0x7fffffff, -1]) {
      const socket = await open()
      const end = closed(socket)
      const head = Buffer.alloc(4)
      head.writeInt32BE(size)
      socket.write(head)
      await end
    }
    expect(crowded.ok('stream cat crowd | wc -l').trim()).toBe('1000')
  })

  it('random bytes close their connection only', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const socket = await open()
      const end = closed(socket)
      const body = Buffer.alloc(64, seed * 7 + 1)
      const head = Buffer.alloc(4)
      head.writeInt32BE(body.length)
      socket.write(Buffer.concat([head, body]))
      await end
    }
    expect(crowded.ok('stream cat crowd | wc -l').trim()).toBe('1000')
  })

  it('a frame cut in the middle is forgotten with its connection', async () => {
    const socket = await open()
    socket.write(Buffer.from([0, 0, 0, 50, 0, 18]))
    socket.destroy()
    expect(crowded.ok('stream cat crowd | wc -l').trim()).toBe('1000')
  })

  it('1,000 idle and 100 slow connections keep nobody from working', async () => {
    const sockets = await Promise.all(Array.from({ length: 1000 }, open))
    const slow = await Promise.all(Array.from({ length: 100 }, open))
    // A drip of one byte a time of a frame that never ends.
    for (const socket of slow) socket.write(Buffer.from([0, 0, 1, 0]))
    const drip = setInterval(() => {
      for (const socket of slow) socket.write(Buffer.from([0]))
    }, 50)
    try {
      crowded.ok('seq 100000 | stream produce crowd')
      expect(crowded.ok('stream cat crowd | wc -l').trim()).toBe('101000')
    } finally {
      clearInterval(drip)
      for (const socket of [...sockets, ...slow]) socket.destroy()
    }
    const status = JSON.parse(crowded.ok('stream daemon status --json')) as {
      pid: number
      state: string
    }
    expect(readFileSync(`/proc/${status.pid}/status`, 'utf8')).toContain('State')
    writeFileSync(crowded.path('done'), status.state)
  })
})

describe('an outage in the middle of a read', () => {
  it('is no idleness: what comes after it is read, by lines and by a command each', () => {
    const script = (read: string) => `
      stream topics create waited --if-not-exists > /dev/null
      ${read} > got 2> said & pid=$!
      sleep 2
      kill -9 $(stream daemon status --json | jq .pid)
      sleep 8
      echo late | stream produce waited
      wait $pid; echo "exit $?"; cat got`
    const read = 'stream consume waited --idle 5s'
    expect(program.ok(script(read))).toBe('exit 0\nlate\n')
    const each = `stream consume waited -g each --from end --idle 5s --exec cat`
    expect(program.ok(script(each))).toBe('exit 0\nlate\n')
  }, 60_000)
})
