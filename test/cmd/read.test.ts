import { describe, expect, it } from 'vitest'
import { countByte } from '../../cmd/read-output.ts'
import { World } from './fake-world.ts'

function world(...values: string[]): World {
  const made = new World()
  made.broker.addTopic('t')
  made.broker.add('t', 0, ...values)
  return made
}

const ten = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']

describe('cat: what is printed', () => {
  it('every value with its delimiter, byte for byte', async () => {
    const w = world('a', '', 'b\r', '\xff\xfe\0')
    expect(await w.run('cat', 't')).toEqual({
      exit: 0,
      stdout: 'a\n\nb\r\n\xff\xfe\0\n',
      stderr: '',
    })
  })

  it('an empty topic ends at once, 0; with --fail-empty 3', async () => {
    expect((await world().run('cat', 't')).exit).toBe(0)
    expect((await world().run('cat', 't', '--fail-empty')).exit).toBe(3)
  })

  it('forms: delimiters, keys, null values, raw, sized', async () => {
    const w = () => {
      const made = world()
      made.broker.add('t', 0, { key: 'k', value: 'v' }, { key: null, value: null })
      return made
    }
    expect((await w().run('cat', 't', '-0')).stdout).toBe('v\0\0')
    expect((await w().run('cat', 't', '-D', '--')).stdout).toBe('v----')
    expect((await w().run('cat', 't', '-K', ':')).stdout).toBe('k:v\n:\n')
    expect((await w().run('cat', 't', '--null-value', 'NULL')).stdout).toBe('v\nNULL\n')
    expect((await w().run('cat', 't', '--raw')).stdout).toBe('v')
    expect((await w().run('cat', 't', '-o', 'sized')).stdout).toBe('\0\0\0\x01v\xff\xff\xff\xff')
  })

  it('envelopes say where each record is from', async () => {
    const w = new World()
    w.broker.addTopic('a', 2)
    w.broker.add('a', 1, { key: 'k', value: '{"x":1}', timestampMs: 7, headers: [['h', 'x']] })
    expect((await w.run('cat', 'a', '--json', '--embed')).stdout).toBe(
      '{"v":1,"topic":"a","partition":1,"offset":0,"ts":7,"key":"k","value":{"x":1},"headers":[["h","x"]]}\n',
    )
  })

  it('a value with the delimiter is printed as it is, with one warning a run; --strict is 5', async () => {
    const w = world('a\nb', 'c\nd')
    const result = await w.run('cat', 't')
    expect(result).toMatchObject({ exit: 0, stdout: 'a\nb\nc\nd\n' })
    expect(result.stderr.match(/contains the delimiter/g)).toHaveLength(1)
    expect((await world('a\nb').run('cat', 't', '--strict')).exit).toBe(5)
    expect((await world('a\nb').run('cat', 't', '-0')).stderr).toBe('')
    const quiet = await world('a\nb').run('cat', 't', '-q', '-D', '\\n')
    expect(quiet.stderr).toBe('')
  })

  it('control bytes are shown on a terminal only', async () => {
    const w = world('\x1b[2J')
    w.terminals = ['output']
    expect((await w.run('cat', 't')).stdout).toBe('\\x1b[2J\n')
  })

  it('a slow reader loses nothing', async () => {
    const values = Array.from({ length: 200 }, (_, index) => String(index).repeat(500))
    const w = world(...values)
    w.output.isSlow = true
    expect((await w.run('cat', 't')).stdout).toBe(values.map((value) => `${value}\n`).join(''))
  })
})

describe('cat: ranges', () => {
  const printed = async (...flags: string[]): Promise<string> =>
    (await world(...ten).run('cat', 't', ...flags)).stdout.replaceAll('\n', '')

  it('offsets, from start and end, and both ends', async () => {
    expect(await printed('--from', '7')).toBe('789')
    expect(await printed('--from', '+8')).toBe('89')
    expect(await printed('--from', '-4')).toBe('6789')
    expect(await printed('--until', '4')).toBe('0123')
    expect(await printed('--from', '2', '--until', '+3')).toBe('234')
    expect(await printed('--from', '2', '--until', '-6')).toBe('23')
    expect(await printed('--from', '5', '--until', '2')).toBe('')
    expect(await printed('--from', '10')).toBe('')
    expect(await printed('--from', '0=8')).toBe('89')
  })

  it('-n is exact, with and without filters', async () => {
    expect(await printed('-n', '4')).toBe('0123')
    expect(await printed('-n', '0')).toBe('')
    expect(await printed('-n', '2', '--from', '5')).toBe('56')
    expect(await printed('-n', '2', '--grep', 'v:/[13579]/')).toBe('13')
    expect(await printed('--bytes', '5')).toBe('012')
  })

  it('times are a place in each partition', async () => {
    const w = world()
    for (let index = 0; index < 6; index += 1) {
      w.broker.add('t', 0, { value: String(index), timestampMs: 1_700_000_000_000 + index * 1000 })
    }
    const result = await w.run('cat', 't', '--since', '@1700000002', '--until', '@1700000004')
    expect(result.stdout).toBe('2\n3\n')
  })

  it('filters: keys, headers, regular expressions', async () => {
    const w = world()
    w.broker.add('t', 0, { key: 'a', value: '1', headers: [['h', 'x']] }, { key: 'b', value: '2' })
    expect((await w.run('cat', 't', '-k', 'b')).stdout).toBe('2\n')
    const header = world()
    header.broker.add('t', 0, { value: '1', headers: [['h', 'x']] }, { value: '2' })
    expect((await header.run('cat', 't', '-H', 'h=x', '--grep', '!v:/2/')).stdout).toBe('1\n')
  })

  it('partitions, and topics by glob and by regular expression', async () => {
    const w = new World()
    w.broker.addTopic('a.1', 2)
    w.broker.addTopic('a.2')
    w.broker.addTopic('__internal')
    w.broker.add('a.1', 0, 'p0')
    w.broker.add('a.1', 1, 'p1')
    w.broker.add('a.2', 0, 'q')
    w.broker.add('__internal', 0, 'hidden')
    expect((await w.run('cat', 'a.1', '-p', '1')).stdout).toBe('p1\n')
    w.output.chunks.length = 0
    expect((await w.run('cat', '*')).stdout).toBe('p0\np1\nq\n')
    w.output.chunks.length = 0
    expect((await w.run('cat', '--regex', 'a\\.[2-9]')).stdout).toBe('q\n')
    expect((await w.run('cat', 'a.1', '-p', '5')).exit).toBe(3)
    expect((await w.run('cat', 'zzz*')).exit).toBe(3)
  })

  it('--order time merges the partitions', async () => {
    const w = new World()
    w.broker.addTopic('t', 3)
    for (let index = 0; index < 30; index += 1) {
      w.broker.add('t', (index * 7) % 3, { value: String(index), timestampMs: 1000 + index })
    }
    const { stdout } = await w.run('cat', 't', '--order', 'time')
    expect(stdout).toBe(Array.from({ length: 30 }, (_, index) => `${index}\n`).join(''))
    w.output.chunks.length = 0
    expect((await w.run('cat', 't', '--order', 'time', '-n', '3')).stdout).toBe('0\n1\n2\n')
    expect((await w.run('consume', 't', '--order', 'time')).exit).toBe(2)
  })
})

describe('cat: when it does not go well', () => {
  it('an unknown topic is 3, with what to do', async () => {
    const result = await new World().run('cat', 'nope')
    expect(result.exit).toBe(3)
    expect(result.stderr).toContain(
      'nope: no such topic (UNKNOWN_TOPIC_OR_PARTITION); to wait for it: --wait-topic',
    )
  })

  it('what is gone is told, counted, and 5 in a bounded read', async () => {
    const w = world(...ten)
    w.broker.partition('t', 0).start = 4
    const result = await w.run('cat', 't', '--from', '1', '--report', 'r')
    expect(result).toMatchObject({ exit: 5, stdout: '4\n5\n6\n7\n8\n9\n' })
    expect(result.stderr).toContain('offsets 1 to 3 are gone')
    expect(JSON.parse(w.fileText('r'))).toMatchObject({
      records: 6,
      gap: 3,
      exit: 5,
      partitions: [{ topic: 't', partition: 0, first: 4, last: 9 }],
    })
    const failing = world(...ten)
    failing.broker.partition('t', 0).start = 4
    const stopped = await failing.run('cat', 't', '--from', '1', '--on-gap', 'fail')
    expect(stopped).toMatchObject({ exit: 5, stdout: '' })
  })

  it('a reader that goes away ends it by SIGPIPE, silently', async () => {
    const w = world(...ten)
    w.output.brokenAfter = 0
    expect(await w.run('cat', 't')).toMatchObject({ exit: 'SIGPIPE', stderr: '' })
    const slow = world(...ten)
    slow.output.brokenAfter = 0
    slow.output.isSlow = true
    expect(await slow.run('cat', 't', '-f')).toMatchObject({ exit: 'SIGPIPE', stderr: '' })
  })

  it('a full disk is one line and 1', async () => {
    const { StreamError } = await import('../../src/base/errors.ts')
    const w = world(...ten)
    w.output.failure = new StreamError('OUTPUT_FAILED', 'cannot write to standard output: ENOSPC')
    const result = await w.run('cat', 't')
    expect(result.exit).toBe(1)
    expect(result.stderr.trim().split('\n')).toHaveLength(1)
  })

  it('a bare number of seconds as a time has a hint', async () => {
    const w = world(...ten)
    const result = await w.run('cat', 't', '--since', '1700000000')
    expect(result.exit).toBe(2)
    expect(result.stderr).toContain('seconds since 1970 are @1700000000')
  })

  it('contradictions are 2', async () => {
    for (const flags of [
      ['--json', '--raw'],
      ['-f', '--until-end'],
      ['--from', '1', '--since', '1h'],
      ['--from', 'nowhere'],
      ['--from', 'committed'],
      ['--embed'],
      ['--json', '-K', ':'],
      ['--grep', 'x'],
      ['-p', 'a'],
      ['-n', '-1'],
    ]) {
      expect((await world('x').run('cat', 't', ...flags)).exit, flags.join(' ')).toBe(2)
    }
    expect((await new World().run('cat')).exit).toBe(2)
  })
})

describe('consume', () => {
  it('starts at the end, and prints what comes', async () => {
    const w = world('old')
    w.time.setTimer(100, () => w.broker.add('t', 0, 'new'))
    const result = await w.run('consume', 't', '-n', '1')
    expect(result).toMatchObject({ exit: 0, stdout: 'new\n' })
  })

  it('flushes whenever nothing further is at hand', async () => {
    const w = world()
    const seen: string[] = []
    w.time.setTimer(100, () => w.broker.add('t', 0, 'a'))
    w.time.setTimer(200, () => {
      seen.push(w.output.text)
      w.broker.add('t', 0, 'b')
    })
    await w.run('consume', 't', '-n', '2')
    expect(seen).toEqual(['a\n'])
  })

  it('--idle ends with 0, --timeout with 7', async () => {
    expect((await world('x').run('consume', 't', '--idle', '1s')).exit).toBe(0)
    expect((await world('x').run('consume', 't', '--timeout', '1s')).exit).toBe(7)
    const both = await world('x').run(
      'consume',
      't',
      '--from',
      'start',
      '--idle',
      '1s',
      '--timeout',
      '9s',
    )
    expect(both).toMatchObject({ exit: 0, stdout: 'x\n' })
  })

  it('bounded reads start at the start', async () => {
    expect((await world('a', 'b').run('consume', 't', '--until-end')).stdout).toBe('a\nb\n')
  })

  it('an end in the future follows, and ends by the clock or by a record stamped so late', async () => {
    const byClock = world('old')
    byClock.time.setTimer(100, () => byClock.broker.add('t', 0, 'new'))
    const clock = await byClock.run('consume', 't', '--until', '+10s')
    expect(clock).toMatchObject({ exit: 0, stdout: 'new\n' })
    expect(byClock.time.monotonicMs()).toBeGreaterThanOrEqual(10_000)
    const byRecord = world()
    byRecord.time.setTimer(100, () => {
      const late = byRecord.time.wallMs() + 60_000
      byRecord.broker.add('t', 0, 'in time', { value: 'too late', timestampMs: late }, 'after it')
    })
    const record = await byRecord.run('consume', 't', '--until', '+30s')
    expect(record).toMatchObject({ exit: 0, stdout: 'in time\n' })
    expect(byRecord.time.monotonicMs()).toBeLessThan(10_000)
  })

  it('--wait-topic waits for a topic', async () => {
    const w = new World()
    w.time.setTimer(3000, () => w.broker.add('later', 0, 'x'))
    const result = await w.run('consume', 'later', '--wait-topic', '-n', '1', '--from', 'start')
    expect(result).toMatchObject({ exit: 0, stdout: 'x\n' })
    const never = await new World().run('consume', 'never', '--wait-topic', '--timeout', '2s')
    expect(never.exit).toBe(7)
  })

  it('new topics that match a glob are read from their start', async () => {
    const w = new World()
    w.broker.add('a.1', 0, 'old')
    w.time.setTimer(1000, () => w.broker.add('a.2', 0, 'first', 'second'))
    const result = await w.run('consume', 'a.*', '-n', '2')
    expect(result).toMatchObject({ exit: 0, stdout: 'first\nsecond\n' })
  })

  it('a signal ends it after what was taken is written', async () => {
    const w = world('a', 'b')
    w.time.setTimer(500, () => w.interruption.raise('SIGTERM'))
    const result = await w.run('consume', 't', '--from', 'start')
    expect(result).toMatchObject({ exit: 'SIGTERM', stdout: 'a\nb\n', stderr: '' })
  })

  it('--rate takes its time', async () => {
    const w = world(...ten)
    const result = await w.run('consume', 't', '--until-end', '--rate', '5/s')
    expect(result.stdout).toBe(ten.map((value) => `${value}\n`).join(''))
    expect(w.time.monotonicMs()).toBeGreaterThan(1000)
  })
})

describe('countByte', () => {
  it('counts at every alignment', () => {
    const bytes = new Uint8Array(300)
    for (let index = 0; index < bytes.length; index += 1) bytes[index] = (index * index) % 11
    for (let start = 0; start < 9; start += 1) {
      for (let end = start; end < bytes.length; end += 7) {
        const expected = bytes.subarray(start, end).filter((byte) => byte === 10 % 11).length
        expect(countByte(bytes, start, end, 10)).toBe(expected)
      }
    }
    expect(countByte(new Uint8Array(64).fill(0xff), 0, 64, 0xff)).toBe(64)
    expect(countByte(new Uint8Array(64), 0, 64, 0)).toBe(64)
    expect(countByte(new Uint8Array(64).fill(0x80), 0, 64, 0)).toBe(0)
  })
})
