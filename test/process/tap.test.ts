/** `stream tap` in real pipes: bytes unchanged, lines copied, and neither harms the other. */
import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ended, eventually, Program } from '../support/program.ts'

describe('stream tap', () => {
  let program: Program
  beforeAll(() => {
    program = new Program()
    program.ok('stream daemon start')
  })
  afterAll(() => program.stop())

  it('passes every byte on and copies every line', () => {
    const input = Buffer.concat([
      Buffer.from('a\n\nb\r\n\0\xff\xfe\n', 'latin1'),
      Buffer.alloc(300_000, 'x'),
      Buffer.from('\nlast without end'),
    ])
    const { status, stdoutBytes, stderr } = program.shell('stream tap bytes', { input })
    expect([status, stderr]).toEqual([0, ''])
    expect(stdoutBytes.equals(input)).toBe(true)
    const back = program.shell('stream cat bytes').stdoutBytes
    expect(back.equals(Buffer.concat([input, Buffer.from('\n')]))).toBe(true)
  })

  it('a million lines in the middle of a pipe', () => {
    expect(
      program.ok(
        'seq 1000000 | stream tap many --report r | tail -1; stream cat many | sha1sum; seq 1000000 | sha1sum',
      ),
    ).toMatch(/^1000000\n(\w+) .*\n\1 /)
    expect(JSON.parse(readFileSync(program.path('r'), 'utf8'))).toMatchObject({
      command: 'tap',
      records: 1_000_000,
      errors: 0,
      through_line: 1_000_000,
      exit: 0,
    })
  })

  it('a reader that goes away: 141, no message, and what was read is in the topic', () => {
    const { stdout, stderr } = program.shell(
      'set -o pipefail; seq 200000 | stream tap gone | head -1; echo "${PIPESTATUS[1]}"; stream cat gone | head -3',
    )
    expect(stderr).toBe('')
    expect(stdout).toBe('1\n141\n1\n2\n3\n')
  })

  it('empty input is no record and exit 0', () => {
    expect(
      program.shell('stream tap empty < /dev/null; echo $?; stream cat empty | wc -l').stdout,
    ).toBe('0\n0\n')
  })

  it('refuses what is wrong before it reads anything', () => {
    const fails = (line: string) => program.shell(`echo x | stream tap ${line}`)
    expect(fails('nix --no-create')).toMatchObject({ status: 3, stdout: '' })
    expect(fails('')).toMatchObject({ status: 2, stdout: '' })
    expect(fails("'a*'")).toMatchObject({ status: 2, stdout: '' })
    expect(fails('bytes -p 7')).toMatchObject({ status: 3, stdout: '' })
    expect(fails('bytes -b ipc:///tmp/none.sock')).toMatchObject({ status: 4, stdout: '' })
    expect(fails('bytes -D ab')).toMatchObject({ status: 2, stdout: '' })
  })

  it('a line too long for a record is passed on, not copied, and exit 5', () => {
    const input = `a\n${'x'.repeat(3_000_000)}\nb\n`
    const outcome = program.shell('stream tap long', { input })
    expect(outcome.status).toBe(5)
    expect(outcome.stdout === input).toBe(true)
    expect(outcome.stderr).toMatch(/line 2: /)
    expect(outcome.stderr.trimEnd().split('\n')).toHaveLength(1)
    expect(program.ok('stream cat long')).toBe('a\nb\n')
  })

  it('--drop-slow: no broker, no delay; everything passes, the loss is said, exit 5', () => {
    const started = performance.now()
    const outcome = program.shell('seq 5 | stream tap t --drop-slow -b ipc:///tmp/none.sock')
    expect(performance.now() - started).toBeLessThan(5000)
    expect(outcome).toMatchObject({ status: 5, stdout: '1\n2\n3\n4\n5\n' })
    expect(outcome.stderr).toContain('5 of 5 lines were not copied')
  })

  it('--drop-slow: with a broker that keeps up nothing of a slow input is lost', () => {
    program.ok('stream topics create kept')
    const outcome = program.shell(
      '(sleep 1; echo a; sleep .2; echo b) | stream tap kept --drop-slow',
    )
    expect(outcome).toMatchObject({ status: 0, stdout: 'a\nb\n', stderr: '' })
    expect(program.ok('stream cat kept')).toBe('a\nb\n')
  })

  it('--drop-slow: a stopped daemon does not stop the pipe; only whole lines are missing', async () => {
    program.ok('stream topics create stalled')
    const pid = program.daemonPid()
    const child = program.start('bash', [
      '-c',
      `(sleep 1; seq 1000 1999; sleep .5; kill -STOP ${pid}; seq -f '%0100g' 2000 1002000; echo passed >&2; sleep .5; kill -CONT ${pid}; sleep 2; echo end) | stream tap stalled --drop-slow --report r2 | sha1sum`,
    ])
    let stderr = ''
    child.stderr?.on('data', (chunk) => {
      stderr += chunk
    })
    try {
      await eventually(
        'all passed while the daemon stands still',
        () => stderr.includes('passed') || undefined,
      )
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    expect(await ended(child)).toBe(0)
    expect(stderr).toMatch(/\d+ of 1001002 lines were not copied: the topic was too slow/)
    const { records, errors, exit } = JSON.parse(readFileSync(program.path('r2'), 'utf8'))
    expect(exit).toBe(5)
    expect(records + errors).toBe(1_001_002)
    const lines = program.ok('stream cat stalled').split('\n').slice(0, -1)
    expect(lines).toHaveLength(records)
    expect(lines.at(-1)).toBe('end')
    expect(lines.slice(0, 1000)).toEqual(Array.from({ length: 1000 }, (_, at) => `${1000 + at}`))
    expect(lines.slice(1000, -1).every((line) => line.length === 100)).toBe(true)
  }, 60_000)

  it('a copy that fails for good does not end the pipe', async () => {
    program.ok('stream topics create doomed')
    const child = program.start('bash', [
      '-c',
      '(seq 10; sleep 2; seq 11 20) | stream tap doomed --delivery-timeout 1s; echo "exit ${PIPESTATUS[1]}"',
    ])
    let stdout = ''
    let stderr = ''
    child.stdout?.on('data', (chunk) => {
      stdout += chunk
    })
    child.stderr?.on('data', (chunk) => {
      stderr += chunk
    })
    await eventually('the first lines', () => stdout.includes('10\n') || undefined)
    await eventually(
      'the first copies',
      () => program.ok('stream cat doomed').includes('10\n') || undefined,
    )
    program.ok('stream topics delete doomed -y')
    await ended(child)
    expect(stdout).toBe(`${Array.from({ length: 20 }, (_, at) => `${at + 1}\n`).join('')}exit 5\n`)
    expect(stderr).toContain('10 of 20 lines were not copied')
  })

  it('SIGTERM: what was read is passed on and delivered, then it dies by the signal', async () => {
    program.ok('stream topics create term')
    const child = program.start(program.stream, ['tap', 'term'])
    child.stdin?.write(
      `${Array.from({ length: 100 }, (_, at) => `${at + 1}\n`).join('')}unfinished`,
    )
    let stdout = ''
    child.stdout?.on('data', (chunk) => {
      stdout += chunk
    })
    let stderr = ''
    child.stderr?.on('data', (chunk) => {
      stderr += chunk
    })
    await eventually('all lines', () => stdout.endsWith('100\nunfinished') || undefined)
    child.kill('SIGTERM')
    expect(await ended(child)).toBe(143)
    expect(stderr).toContain('an unfinished last line of 10 bytes is not copied')
    expect(program.ok('stream cat term | wc -l').trim()).toBe('100')
  })

  it('a full disk behind the output: one line, exit 1', () => {
    writeFileSync(program.path('in'), 'a\nb\n')
    const outcome = program.shell('stream tap full < in > /dev/full')
    expect(outcome.status).toBe(1)
    expect(outcome.stderr.trimEnd().split('\n')).toHaveLength(1)
  })
})
