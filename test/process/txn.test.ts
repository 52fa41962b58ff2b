/** `stream txn` on the built program: what commits, what does not, and what is left behind, at both doors and over kills. */
import { readdirSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ended, eventually, Program } from '../support/program.ts'

let program: Program
let port: number

beforeAll(async () => {
  program = new Program({
    environment: {
      STREAM_CONF_PRODUCE_CREATE: 'yes',
      // A killed run is waited out: not for so long here.
      STREAM_CONF_SESSION_TIMEOUT_MS: '2000',
    },
  })
  port = await new Promise<number>((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const found = (server.address() as { port: number }).port
      server.close(() => resolve(found))
    })
  })
  start()
  program.ok('seq 1000 > thousand; stream topics create t; stream produce t < thousand')
})
afterAll(() => program?.stop())

function start(): void {
  program.ok(
    `stream daemon start --listen kafka://127.0.0.1:${port} -X group.initial.rebalance.delay.ms=50 -X group.min.session.timeout.ms=1000`,
  )
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const lag = (group: string): string =>
  program.shell(`stream groups lag ${group} -o tsv | cut -f3`).stdout.trim()
const isMember = (group: string): boolean =>
  program.shell(`stream groups describe ${group} --members`).stdout.trim() !== ''
const count = (topic: string): number =>
  Number(program.shell(`stream cat ${topic} | wc -l`).stdout.trim())
const spools = (): string[] => {
  try {
    return readdirSync(program.path('state/stream/spool'))
  } catch {
    return []
  }
}

const doors = [
  ['ipc', ''],
  ['kafka', 'kafka'],
] as const

describe.each(doors)('at the %s door', (name, door) => {
  const broker = (): string => (door === '' ? '' : `-b kafka://127.0.0.1:${port}`)
  const g = (base: string): string => `${base}-${name}`

  it('commits what was read and produced, once', () => {
    const line = `stream txn ${broker()} -j ${g('daily')} -- 'stream consume t -g ${g('one')} | sed s/^/a/ | stream produce ${g('out')}'`
    program.ok(line)
    expect(program.ok(`stream cat ${g('out')}`)).toBe(program.ok('sed s/^/a/ thousand'))
    expect(lag(g('one'))).toBe('0')
    // Nothing new: nothing is read.
    program.ok(line)
    expect(count(g('out'))).toBe(1000)
    expect(program.shell(`${line.replace(' -- ', ' --fail-empty -- ')}`).status).toBe(3)
    expect(spools()).toEqual([])
  })

  it('acceptance 26: a failing stage commits nothing', () => {
    const run = program.shell(
      `stream txn ${broker()} -j ${g('x')} -- 'stream consume t -g ${g('x')} | false | stream produce ${g('y')}'`,
    )
    expect(run.status).toBe(9)
    expect(run.stdout).toBe('')
    expect(run.stderr).toContain('the pipeline ended with exit 1; nothing was committed')
    expect(count(g('y'))).toBe(0)
    expect(program.shell(`stream groups describe ${g('x')}`).stdout).not.toMatch(/\t1000\t1000\t/)
    expect(spools()).toEqual([])
  })

  it('acceptance 27: a name runs once', async () => {
    const first = program.start('bash', [
      '-c',
      `exec stream txn ${broker()} -j ${g('l')} -- 'sleep 4'`,
    ])
    const status = ended(first)
    await pause(2000)
    const second = program.shell(`stream txn ${broker()} -j ${g('l')} -- true`)
    expect(second.status).toBe(8)
    expect(second.stderr).toContain('is running')
    expect(await status).toBe(0)
    program.ok(`stream txn ${broker()} -j ${g('l')} -- true`)
  })

  it('carries several groups, topics and producers, keyed and compressed', () => {
    program.ok(`seq 10 | sed 's/.*/k&\\tv&/' | stream produce ${g('keyed')} -K '\\t'`)
    program.ok(`stream topics create ${g('many')} --partitions 3`)
    program.ok(
      `stream txn ${broker()} -- 'stream consume t -g ${g('two')} | stream produce ${g('m1')} -z zstd; stream consume ${g('keyed')} -g ${g('three')} --json | stream produce ${g('many')} --json; stream produce ${g('m1')} --value last'`,
    )
    expect(program.ok(`stream cat ${g('m1')}`)).toBe(`${program.ok('cat thousand')}last\n`)
    expect(
      program.shell(`stream verify ${g('keyed')} ${g('many')} --any-order --ignore ts; echo $?`)
        .stdout,
    ).toContain('0')
    expect(count(g('many'))).toBe(10)
    expect([lag(g('two')), lag(g('three'))]).toEqual(['0', '0'])
  })

  it('a member of the group in the way: 8, also where it comes later', async () => {
    const member = program.start('bash', [
      '-c',
      `exec stream consume t ${broker()} -g ${g('busy')} --from start`,
    ])
    let isReading = false
    member.stdout?.on('data', () => {
      isReading = true
    })
    await eventually('the member reads', () => isReading || undefined)
    const refused = program.shell(
      `stream txn ${broker()} -- 'stream consume t -g ${g('busy')} | stream produce ${g('no')}'`,
    )
    expect(refused.status).toBe(8)
    expect(refused.stderr).toContain('has live members')
    member.kill('SIGTERM')
    await ended(member)

    const run = program.start('bash', [
      '-c',
      `exec stream txn ${broker()} -- 'stream consume t -g ${g('late')} | (sleep 60; cat) | stream produce ${g('no')}'`,
    ])
    let said = ''
    run.stderr?.on('data', (text: Buffer) => {
      said += text.toString()
    })
    const startMs = performance.now()
    const status = ended(run)
    await eventually('the run is a member', () => isMember(g('late')) || undefined)
    const later = program.start('bash', ['-c', `exec stream consume t ${broker()} -g ${g('late')}`])
    later.stdout?.resume()
    expect(await status, said).toBe(8)
    expect(said).toContain('another member has joined')
    // Not only at the end of the pipeline: what it does is for nothing.
    expect(performance.now() - startMs).toBeLessThan(30_000)
    later.kill('SIGTERM')
    await ended(later)
    expect(count(g('no'))).toBe(0)
  }, 60_000)

  it('a member that joins and goes again before the end: 8 too', () => {
    const join = `env -u STREAM_TXN stream consume t ${broker()} -g ${g('guest')} --idle 1s -n 1 > /dev/null`
    const run = program.shell(
      `stream txn ${broker()} -- 'stream consume t -g ${g('guest')} > all; ${join}; stream groups describe ${g('guest')} --members | wc -l > left; sleep 2; stream produce ${g('no')} < all'`,
    )
    expect(run.status, run.stderr).toBe(8)
    expect(run.stderr).toContain('another member has joined, so nothing was committed')
    expect(run.stderr.split('\n').filter((line) => line.startsWith('stream: txn:'))).toHaveLength(1)
    expect(count(g('no'))).toBe(0)
  }, 60_000)

  it('every record once, though the run and the daemon are killed again and again', async () => {
    const input = g('endless')
    const out = g('exact')
    program.ok(`stream topics create ${input} ${out}`)
    let kills = 0
    let sent = 0
    for (let round = 0; round < 9; round++) {
      program.ok(`seq ${sent + 1} ${sent + 5000} | stream produce ${input}`)
      sent += 5000
      // Some are held up, for a run that is left alone may be over before the kill; the others are killed at their ends too.
      const filter = round % 2 === 0 ? 'sed s/x/y/' : '(sed s/x/y/; sleep 0.5)'
      const run = program.start('bash', [
        '-c',
        `exec stream txn ${broker()} -j ${g('loop')} -- 'stream consume ${input} -g ${g('loop')} | ${filter} | stream produce ${out}'`,
      ])
      run.stdin?.end()
      run.stdout?.resume()
      run.stderr?.resume()
      const done = ended(run)
      await pause(60 + Math.random() * 400)
      if (round % 3 === 2) {
        process.kill(program.daemonPid(), 'SIGKILL')
        start()
      } else if (run.kill('SIGKILL')) kills += 1
      await done
    }
    program.ok(
      `stream txn ${broker()} -j ${g('loop')} -- 'stream consume ${input} -g ${g('loop')} | sed s/x/y/ | stream produce ${out}'`,
    )
    expect(kills).toBeGreaterThan(0)
    expect(program.ok(`stream cat ${out}`)).toBe(program.ok(`seq ${sent}`))
    expect(lag(g('loop'))).toBe('0')
    // Who is killed between the making of a spool and its opening leaves its name behind, and nothing in it.
    for (const name of spools()) {
      const path = program.path('state/stream/spool', name)
      expect(statSync(path).size).toBe(0)
      rmSync(path)
    }
  }, 180_000)
})

describe('a reader that hangs up', () => {
  const line = (flags: string, group: string): string =>
    `stream txn ${flags} -- '{ stream consume t -g ${group}; true; } 2>/dev/null | head -1 | stream produce heads'`

  it('aborts', () => {
    // The shell hides how consume died: only consume itself can tell.
    const run = program.shell(
      `seq 200000 | stream produce long; stream txn -- '{ stream consume long -g h1; true; } | head -1'`,
    )
    expect(run.status).toBe(9)
    expect(run.stderr).toContain('hung up')
    expect(lag('h1')).not.toBe('0')
  })

  it('commits the whole range with --partial', () => {
    const run = program.shell(`stream txn --partial -- 'stream consume long -g h2 | head -1'`)
    expect(run.status, run.stderr).toBe(0)
    expect(run.stdout).toBe('1\n')
    expect(lag('h2')).toBe('0')
    program.ok(line('--partial', 'h3'))
    expect(program.ok('stream cat heads')).toBe('1\n')
  })
})

describe('--fixed', () => {
  it('keeps the range and the id of a run that did not commit', () => {
    program.ok('seq 5 | stream produce fixed')
    const run = (tail: string) =>
      program.shell(
        `stream txn -j fix --fixed -- 'echo "$STREAM_BATCH_ID"; stream consume fixed -g fix; ${tail}'`,
      )
    const first = run('exit 3')
    expect(first.status).toBe(9)
    expect(first.stdout).toBe(`fix/1\n${program.ok('seq 5')}`)
    program.ok('seq 6 10 | stream produce fixed')
    const described = JSON.parse(program.ok('stream txn describe fix --json')) as {
      commits: number
      ranges: string[]
    }
    expect(described).toMatchObject({ commits: 0, ranges: ['fix:fixed/0=0-5'] })
    expect(run('true').stdout).toBe(`fix/1\n${program.ok('seq 5')}`)
    expect(lag('fix')).toBe('5')
    expect(run('true').stdout).toBe(`fix/2\n${program.ok('seq 6 10')}`)
    expect(JSON.parse(program.ok('stream txn describe fix --json'))).toMatchObject({
      commits: 2,
      ranges: [],
    })
  })

  it('refuses where the group has been moved since', () => {
    program.ok('seq 5 | stream produce moved')
    const line = `stream txn -j mov --fixed -- 'stream consume moved -g mov; exit $CODE'`
    expect(program.shell(line, { environment: { CODE: '3' } }).status).toBe(9)
    program.ok('stream consume moved -g mov --until-end > /dev/null')
    const run = program.shell(line, { environment: { CODE: '0' } })
    expect(run.status).toBe(8)
    expect(run.stderr).toContain('has moved')
  })

  it('without it every run has a new id', () => {
    const id = (): string => program.ok(`stream txn -j ids -- 'echo "$STREAM_BATCH_ID"'`)
    const ids = [id(), id()]
    expect(ids[0]).toMatch(/^ids\//)
    expect(ids[0]).not.toBe(ids[1])
  })
})

describe('what is refused inside', () => {
  it.each([
    [`stream consume t -g r1 --exec 'cat'`, '--exec'],
    ['stream consume t --cursor-file p --until-end', '--cursor-file'],
    ['stream consume t -g r1 --until 2099-01-01', 'has an end'],
    ['stream produce t --atomic < /dev/null', '--atomic'],
    ['stream produce t --resume r < /dev/null', '--resume'],
    ['stream produce t --receipts r < /dev/null', '--receipts'],
    ['stream consume t -g r2 > /dev/null; stream consume t -g r2', 'already'],
    [`stream txn -- true`, 'stream txn'],
    ['stream pipe --in t --out o -j p --until-end -- cat', 'stream pipe'],
  ])('%s', (line, words) => {
    const run = program.shell(`stream txn -- ${JSON.stringify(line)}`)
    expect(run.status, run.stderr).toBe(2)
    expect(run.stderr).toContain(words)
  })

  it('another broker', () => {
    const other = new Program()
    try {
      other.ok('stream daemon start; stream topics create t')
      const address = `ipc://${other.path('run/stream/daemon.sock')}`
      for (const line of [
        `stream produce t -b ${address} --value x`,
        `stream consume t -b ${address} -g o`,
      ]) {
        const run = program.shell(`stream txn -- '${line}'`)
        expect(run.status, run.stderr).toBe(2)
        expect(run.stderr).toContain('another broker')
      }
      expect(other.ok('stream cat t')).toBe('')
    } finally {
      other.stop()
    }
  })

  it('but a consume without a group just reads', () => {
    expect(program.ok(`stream txn -- 'stream cat t | wc -l'`).trim()).toBe('1000')
    expect(program.ok(`seq 3 | stream txn -- 'stream produce stdin'; stream cat stdin`)).toBe(
      '1\n2\n3\n',
    )
  })
})

describe('trouble', () => {
  it('several words run as they are; a program that is not there', () => {
    expect(program.ok(`stream txn -- echo 'a  b' c`)).toBe('a  b c\n')
    const none = program.shell('stream txn -- no-such-program at all')
    expect(none.status).toBe(9)
    expect(none.stderr).toContain('no-such-program: not found')
    expect(program.shell('stream txn').status).toBe(2)
    expect(program.shell('stream txn --fixed -- true').status).toBe(2)
  })

  it('--timeout ends the whole pipeline, SIGTERM or not', () => {
    const run = program.shell(
      `stream txn --timeout 1s --grace 500ms -- 'trap "" TERM; stream consume t -g slow > /dev/null; sleep 61.7'`,
    )
    expect(run.status).toBe(7)
    expect(lag('slow')).not.toBe('0')
    expect(program.shell('pgrep -f "sleep 61.7"').stdout).toBe('')
  })

  it('a signal aborts', async () => {
    const run = program.start('bash', [
      '-c',
      `exec stream txn -- 'stream consume t -g sig | (sleep 62.7; cat)'`,
    ])
    await pause(1000)
    run.kill('SIGINT')
    expect(await ended(run)).toBe(130)
    expect(lag('sig')).not.toBe('0')
    expect(program.shell('pgrep -f "sleep 62.7"').stdout).toBe('')
    expect(spools()).toEqual([])
  })

  it('a stage that is killed before it wrote anything leaves no spool behind', () => {
    const run = program.shell(
      `stream txn -j spooled -- 'sleep 2 | timeout -s KILL 1 stream produce nothing'`,
    )
    expect(run.status).not.toBe(0)
    expect(spools()).toEqual([])
  })

  it('--spool-max', () => {
    const run = program.shell(
      `stream txn --spool-max 2MiB -- 'seq 2000000 | stream produce toomuch'`,
    )
    expect(run.status).toBe(1)
    expect(run.stderr).toContain('--spool-max')
    expect(count('toomuch')).toBe(0)
    expect(spools()).toEqual([])
  })

  it('list, describe, abort', async () => {
    const run = program.start('bash', ['-c', `exec stream txn -j held -- 'sleep 3'`])
    const status = ended(run)
    await pause(1000)
    expect(program.ok('stream txn list')).toContain('stream.txn.held\tEmpty\t')
    expect(program.shell('stream txn abort held').status).toBe(2)
    program.ok('stream txn abort held -y')
    // Its owner has nothing to commit with any more.
    expect(await status).toBe(8)
    expect(program.shell('stream txn describe nosuch').status).toBe(3)
    expect(program.shell('stream txn abort nosuch -y').status).toBe(3)
    expect(program.shell('stream txn list --state Ongoing --fail-empty').status).toBe(3)
  })
})
