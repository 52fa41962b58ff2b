import { gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { StreamError } from '../../src/base/errors.ts'
import { World } from './fake-world.ts'

function world(...input: (string | Uint8Array)[]): World {
  const made = new World()
  made.input = input
  made.broker.addTopic('t')
  return made
}

describe('produce: lines', () => {
  it('every byte is kept, over any chunk boundary', async () => {
    const w = world('a\n', '\nb\r', '\n\xff\xfe\0', '\x00\n', 'last')
    const result = await w.run('produce', 't')
    expect(result).toEqual({ exit: 0, stdout: '', stderr: '' })
    expect(w.broker.values('t')).toEqual(['a', '', 'b\r', '\xff\xfe\0\x00', 'last'])
  })

  it('empty input is no record; with --fail-empty 3', async () => {
    expect((await world().run('produce', 't')).exit).toBe(0)
    expect((await world('').run('produce', 't', '--fail-empty')).exit).toBe(3)
    expect((await world('x').run('produce', 't', '--fail-empty')).exit).toBe(0)
  })

  it('a producer without room makes the input wait, and nothing is lost or repeated', async () => {
    for (const flags of [[], ['-k', 'k']]) {
      const w = world('1\n2\n3\n4', '5\n6\n', '7\n8', '9\n')
      w.broker.roomRecords = 1
      expect((await w.run('produce', 't', ...flags)).exit).toBe(0)
      expect(w.broker.values('t')).toEqual(['1', '2', '3', '45', '6', '7', '89'])
    }
  })

  it('other delimiters, of one byte and of several', async () => {
    const nul = world('a\nb\0c')
    await nul.run('produce', 't', '-0')
    expect(nul.broker.values('t')).toEqual(['a\nb', 'c'])
    const long = world('a|', '|b|c||')
    await long.run('produce', 't', '-D', '||')
    expect(long.broker.values('t')).toEqual(['a', 'b|c'])
  })

  it('--strip-cr and --null-value', async () => {
    const w = world('a\r\nNULL\nNULL\r\n\n')
    await w.run('produce', 't', '--strip-cr', '--null-value', 'NULL')
    expect(w.broker.values('t')).toEqual(['a', null, null, ''])
  })

  it('lines longer than --max-bytes are errors of those lines only', async () => {
    for (const flags of [[], ['-k', 'k']]) {
      const w = world('ok\n', 'much', ' too long', ' a line\n', 'fine\n')
      const result = await w.run('produce', 't', '--max-bytes', '8', '--on-error', 'skip', ...flags)
      expect(w.broker.values('t')).toEqual(['ok', 'fine'])
      expect(result.exit).toBe(5)
      expect(result.stderr).toContain('line 2: record longer than 8 bytes')
    }
  })

  it('--max-bytes holds for a line that comes whole, in the middle of a chunk', async () => {
    const w = world('ok\nmuch too long a line\nfine\n')
    const result = await w.run('produce', 't', '--max-bytes', '8', '--on-error', 'skip')
    expect(w.broker.values('t')).toEqual(['ok', 'fine'])
    expect(result.exit).toBe(5)
    expect(result.stderr).toContain('line 2: record longer than 8 bytes')
  })
})

describe('produce: keys, headers, times', () => {
  it('-K splits at the first separator', async () => {
    const w = world('k\tv\n\tempty\nk2\ta\tb\n')
    await w.run('produce', 't', '-K', String.raw`\t`)
    expect(w.broker.records('t').map(({ key, value }) => [key, value])).toEqual([
      ['k', 'v'],
      ['', 'empty'],
      ['k2', 'a\tb'],
    ])
  })

  it('a line without separator stops the run after those before it are delivered', async () => {
    const w = world('k\tv\nbad\nk\tw\n')
    const result = await w.run('produce', 't', '-K', String.raw`\t`, '--report', 'r')
    expect(result.exit).toBe(5)
    expect(result.stderr).toBe('stream: produce: t: line 2: no key separator "\\t"\n')
    expect(w.broker.values('t')).toEqual(['v'])
    expect(JSON.parse(w.fileText('r'))).toMatchObject({
      records: 1,
      errors: 1,
      through_line: 1,
      exit: 5,
    })
  })

  it('--key-json takes a text or its JSON, and refuses what is absent', async () => {
    const w = world('{"id":"a","u":{"n":1.0}}\n{"id":"\\u00e9"}\n{"u":{"n":[1, 2]}}\n')
    await w.run('produce', 't', '--key-json', '.u.n', '--on-error', 'skip')
    expect(w.broker.records('t').map(({ key }) => key)).toEqual(['1.0', '[1, 2]'])
    const escaped = world('{"id":"a\\u00e9\\n"}\n')
    await escaped.run('produce', 't', '--key-json', 'id')
    expect(escaped.broker.records('t')[0]?.key).toBe(Buffer.from('aé\n').toString('latin1'))
    const broken = await world('{"id":1\n').run('produce', 't', '--key-json', '.id')
    expect(broken.stderr).toContain('line 1: value is no JSON')
  })

  it('-k, --ts and -p stand in, -H adds', async () => {
    const w = new World()
    w.broker.addTopic('t', 3)
    w.input = ['x\n']
    await w.run(
      'produce',
      't',
      '-k',
      'key',
      '--ts',
      '@1700000000',
      '-p',
      '2',
      '-H',
      'a=1',
      '-H',
      'n',
    )
    expect(w.broker.topics.get('t')?.partitions[2]?.records).toEqual([
      {
        key: 'key',
        value: 'x',
        headers: [
          ['a', '1'],
          ['n', null],
        ],
        timestampMs: 1_700_000_000_000,
      },
    ])
  })

  it('--ts-json reads numbers and dates', async () => {
    const w = world(
      '{"t":1700000000123}\n{"t":"2023-11-14T22:13:20Z"}\n{"t":1700000000}\n{"t":"?"}\n',
    )
    const result = await w.run('produce', 't', '--ts-json', '.t')
    expect(w.broker.records('t').map(({ timestampMs }) => timestampMs)).toEqual([
      1_700_000_000_123, 1_700_000_000_000, 1_700_000_000_000,
    ])
    expect(result.stderr).toContain('line 4: "?" is no timestamp')
  })

  it('equal keys go to one partition', async () => {
    const w = new World()
    w.broker.addTopic('t', 8)
    w.input = ['a 1\nb 2\na 3\nb 4\n']
    await w.run('produce', 't', '-K', ' ')
    const places = (key: string): number[] =>
      (w.broker.topics.get('t')?.partitions ?? []).flatMap(({ records }, partition) =>
        records.some((record) => record.key === key) ? [partition] : [],
      )
    expect(places('a')).toHaveLength(1)
    expect(places('b')).toHaveLength(1)
  })
})

describe('produce: envelopes, sized, raw', () => {
  it('envelopes carry key, value, headers and time; a byte-order mark is skipped', async () => {
    const w = world(
      Buffer.from(
        '\ufeff{"key":"k","value":"v","ts":5,"headers":[["h",null]],"partition":9,"topic":"other"}\n{"value":null,"key":null}',
      ),
    )
    expect((await w.run('produce', 't', '--json', '-k', 'stand-in')).exit).toBe(0)
    expect(w.broker.records('t')).toMatchObject([
      { key: 'k', value: 'v', timestampMs: 5, headers: [['h', null]] },
      // A null key that was said is no missing key.
      { key: null, value: null },
    ])
  })

  it('errors name their line, as objects with --json, and skipping goes on', async () => {
    const w = world('{"value":1}\nnonsense\n{"value":2}\n\n{"value":3}\n')
    const result = await w.run('produce', 't', '--json', '--on-error', 'skip')
    expect(w.broker.values('t')).toEqual(['1', '2', '3'])
    expect(result.exit).toBe(5)
    const errors = result.stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(errors).toMatchObject([
      { v: 1, kind: 'error', code: 'RECORD_INVALID', exit: 5, line: 2 },
      { line: 4 },
    ])
    const allowed = world('{"value":1}\nnonsense\n')
    const fine = await allowed.run(
      'produce',
      't',
      '-i',
      'json',
      '--on-error',
      'skip',
      '--allow-errors',
      '1',
    )
    expect(fine.exit).toBe(0)
  })

  it('dead letters are kept as they were', async () => {
    const w = world('{"value":1}\n\xff\xfe\n{"value":2}\n')
    const result = await w.run('produce', 't', '--json', '--on-error', 'dead-letter=bad')
    expect(result.exit).toBe(5)
    expect(w.fileText('bad')).toBe('\xff\xfe\n')
    expect(w.broker.values('t')).toEqual(['1', '2'])
  })

  it('--keep-partition and --keep-topic place each record; others are refused', async () => {
    const w = new World()
    w.broker.addTopic('a.1', 2)
    w.broker.addTopic('a.2', 2)
    w.input = [
      '{"topic":"a.1","partition":1,"value":1}\n{"topic":"a.2","partition":0,"value":2}\n',
      '{"topic":"b","partition":0,"value":3}\n{"topic":"a.1","partition":5,"value":4}\n',
    ]
    const result = await w.run(
      'produce',
      'a.*',
      '--json',
      '--keep-topic',
      '--keep-partition',
      '--on-error',
      'skip',
    )
    expect(w.broker.topics.get('a.1')?.partitions[1]?.records.map(({ value }) => value)).toEqual([
      '1',
    ])
    expect(w.broker.topics.get('a.2')?.partitions[0]?.records.map(({ value }) => value)).toEqual([
      '2',
    ])
    expect(result.stderr).toContain('topic b is not among those allowed')
    expect(result.stderr).toContain('a.1 has no partition 5, only 2')
  })

  it('raw is one record per input, sized has lengths', async () => {
    const raw = world('a\n', 'b')
    await raw.run('produce', 't', '--raw')
    expect(raw.broker.values('t')).toEqual(['a\nb'])
    const sized = world('\0\0\0\x02a', '\n\xff\xff\xff\xff\0\0\0\0')
    await sized.run('produce', 't', '-i', 'sized')
    expect(sized.broker.values('t')).toEqual(['a\n', null, ''])
    const cut = await world('\0\0\0\x05ab').run('produce', 't', '-i', 'sized')
    expect(cut.stderr).toContain('the input ends inside a record')
    expect(cut.exit).toBe(5)
  })

  it('--require refuses other values', async () => {
    const w = world('{"a":1}\nx\n[1]\n')
    const result = await w.run('produce', 't', '--require', 'json', '--on-error', 'skip')
    expect(w.broker.values('t')).toEqual(['{"a":1}', '[1]'])
    expect(result.stderr).toContain('line 2: value is no JSON')
  })
})

describe('produce: where input comes from', () => {
  it('files in order, unpacked; a last line without newline ends with its file', async () => {
    const w = world('not read')
    w.files.set('a.gz', gzipSync('1\n2'))
    w.files.set('b.zst', zstdCompressSync('3\n'))
    w.files.set('c', Buffer.from('4'))
    expect((await w.run('produce', 't', 'a.gz', 'b.zst', 'c')).exit).toBe(0)
    expect(w.broker.values('t')).toEqual(['1', '2', '3', '4'])
    const raw = world()
    raw.files.set('x', Buffer.from('1\n'))
    raw.files.set('y', Buffer.from('2'))
    await raw.run('produce', 't', 'x', 'y', '--raw')
    expect(raw.broker.values('t')).toEqual(['1\n', '2'])
  })

  it('a file that is absent or damaged is told; what came before is delivered', async () => {
    const w = world()
    w.files.set('a', Buffer.from('1\n'))
    const absent = await w.run('produce', 't', 'a', 'nothing')
    expect(absent.exit).toBe(3)
    expect(w.broker.values('t')).toEqual(['1'])
    const damaged = world()
    damaged.files.set('x.gz', Buffer.from('not packed'))
    const result = await damaged.run('produce', 't', 'x.gz')
    expect(result.exit).toBe(5)
    expect(result.stderr).toContain('x.gz: cannot be unpacked')
  })

  it('--value never touches standard input; an empty one is a record', async () => {
    const w = world('not read\n')
    await w.run('produce', 't', '--value', 'a\nb')
    expect(w.broker.values('t')).toEqual(['a\nb'])
    const empty = world()
    empty.broker.roomRecords = 1
    await empty.run('produce', 't', '--value', '')
    expect(empty.broker.values('t')).toEqual([''])
  })
})

describe('produce: beside the records', () => {
  it('receipts come in input order, whatever order the acknowledgements have', async () => {
    const w = new World()
    w.broker.addTopic('t', 2)
    w.input = ['{"value":1,"partition":1}\n{"value":2,"partition":0}\n{"value":3,"partition":1}\n']
    const result = await w.run('produce', 't', '--json', '--keep-partition', '--receipts', '-')
    expect(result.stdout).toBe('t\t1\t0\nt\t0\t0\nt\t1\t1\n')
  })

  it('--tee copies the input', async () => {
    const w = world('a\n', 'b\0', '\xff')
    expect((await w.run('produce', 't', '--tee')).stdout).toBe('a\nb\0\xff')
  })

  it('--rate takes its time', async () => {
    const w = world('1\n2\n3\n4\n5\n')
    await w.run('produce', 't', '--rate', '2/s')
    expect(w.broker.values('t')).toHaveLength(5)
    expect(w.time.monotonicMs()).toBeGreaterThan(1500)
  })

  it('the report has everything', async () => {
    const w = world('a\nb\n')
    await w.run('produce', 't', '--report', 'r')
    expect(JSON.parse(w.fileText('r'))).toEqual({
      v: 1,
      kind: 'report',
      command: 'produce',
      records: 2,
      bytes: 4,
      errors: 0,
      through_line: 2,
      gap: 0,
      partitions: [{ topic: 't', partition: 0, first: 0, last: 1 }],
      ms: expect.any(Number),
      exit: 0,
    })
  })
})

describe('produce: the topic', () => {
  it('an unknown one is created over ipc, unless that is not wanted', async () => {
    const w = new World()
    w.input = ['x\n']
    expect((await w.run('produce', 'new')).exit).toBe(0)
    expect(w.broker.values('new')).toEqual(['x'])
    const not = await new World().run('produce', 'new', '--no-create')
    expect(not.exit).toBe(3)
    expect(not.stderr).toContain('to create it: --create')
    const remote = await new World().run('produce', 'new', '-b', 'kafka://k')
    expect(remote.exit).toBe(3)
    const wanted = new World()
    wanted.environment['STREAM_CONF_PRODUCE_CREATE'] = 'yes'
    expect((await wanted.run('produce', 'new', '-b', 'kafka://k')).exit).toBe(0)
  })

  it('a partition that it does not have is told before anything is sent', async () => {
    const result = await world('x').run('produce', 't', '-p', '3')
    expect(result.exit).toBe(3)
    expect(result.stderr).toContain('t: no partition 3, only 1')
  })

  it('compression is off over ipc and lz4 elsewhere', async () => {
    const local = world('x')
    await local.run('produce', 't')
    expect(local.broker.producerOptions?.codec).toBe('none')
    const remote = world('x')
    await remote.run('produce', 't', '-b', 'kafka://k')
    expect(remote.broker.producerOptions?.codec).toBe('lz4')
    const chosen = world('x')
    await chosen.run('produce', 't', '-z', 'zstd', '--acks', '1', '--linger', '0ms')
    expect(chosen.broker.producerOptions).toMatchObject({ codec: 'zstd', acks: 1, lingerMs: 0 })
  })
})

describe('produce: when it does not go well', () => {
  it('records that are not delivered are 5, and the report says how far it is safe', async () => {
    const w = world('a\nb\n')
    w.broker.isStuck = true
    const result = await w.run('produce', 't', '--delivery-timeout', '5s', '--report', 'r')
    expect(result.exit).toBe(5)
    expect(result.stderr).toContain('not acknowledged')
    expect(result.stderr).toContain('2 of 2 records not known to be delivered, safe through line 0')
    expect(JSON.parse(w.fileText('r'))).toMatchObject({ records: 0, through_line: 0, exit: 5 })
  })

  it('records behind the first that is missing are counted as delivered, and are not safe', async () => {
    const w = world('bad\na\nb\n')
    w.broker.refuse = (value) =>
      value === 'bad' ? new StreamError('RECORD_TOO_LARGE', 'too large for the topic') : undefined
    const result = await w.run('produce', 't', '--report', 'r')
    expect(result.exit).toBe(5)
    expect(w.broker.values('t')).toEqual(['a', 'b'])
    expect(result.stderr).toContain('1 of 3 records not known to be delivered, safe through line 0')
    expect(JSON.parse(w.fileText('r'))).toMatchObject({ records: 0, through_line: 0, exit: 5 })
  })

  it('a record that the broker refuses stops the run, or is skipped', async () => {
    const refuse = (value: string | null) =>
      value === 'bad' ? new StreamError('RECORD_TOO_LARGE', 'too large for the topic') : undefined
    const stopping = world('a\nbad\n')
    stopping.broker.refuse = refuse
    const stopped = await stopping.run('produce', 't')
    expect(stopped.exit).toBe(5)
    expect(stopped.stderr).toContain('line 2: too large for the topic')
    const skipping = world('a\nbad\nb\n')
    skipping.broker.refuse = refuse
    const skipped = await skipping.run('produce', 't', '--on-error', 'skip')
    expect(skipping.broker.values('t')).toEqual(['a', 'b'])
    expect(skipped.exit).toBe(5)
    expect(skipped.stderr).not.toContain('not known to be delivered')
  })

  it('a record that was left out is an error of that record, not of the run', async () => {
    for (const policy of ['skip', 'dead-letter=d']) {
      const w = world('a\nbad\nb\n')
      w.broker.refuse = (value) =>
        value === 'bad' ? new StreamError('RECORD_TOO_LARGE', 'too large for the topic') : undefined
      const flags = ['--on-error', policy, '--allow-errors', '1', '--report', 'r']
      const result = await w.run('produce', 't', ...flags)
      expect(result.exit).toBe(0)
      expect(JSON.parse(w.fileText('r'))).toMatchObject({
        records: 2,
        errors: 1,
        through_line: 3,
        exit: 0,
      })
    }
  })

  it('a fenced producer is 8', async () => {
    const w = world('a\n')
    w.broker.refuse = () => new StreamError('FENCED', 'a newer producer has taken over')
    expect((await w.run('produce', 't')).exit).toBe(8)
  })

  it('a signal delivers what was taken, drops an unfinished line and says so', async () => {
    const w = world('a\nb\nhalf')
    w.inputStaysOpen = true
    w.onInputEmpty = () => w.interruption.raise('SIGINT')
    const result = await w.run('produce', 't')
    expect(result.exit).toBe('SIGINT')
    expect(w.broker.values('t')).toEqual(['a', 'b'])
    expect(result.stderr).toContain('dropped an unfinished last line of 4 bytes')
  })

  it('--timeout is 7 when all was delivered', async () => {
    const w = world('a\n')
    w.inputStaysOpen = true
    const result = await w.run('produce', 't', '--timeout', '2s')
    expect(result.exit).toBe(7)
    expect(w.broker.values('t')).toEqual(['a'])
  })

  it('a reader of --tee that goes away ends it by SIGPIPE, with what was taken delivered', async () => {
    const w = world('a\n', 'b\n')
    w.output.brokenAfter = 0
    const result = await w.run('produce', 't', '--tee')
    expect(result.exit).toBe('SIGPIPE')
    expect(result.stderr).toBe('')
    expect(w.broker.values('t')[0]).toBe('a')
  })

  it('flags that contradict each other are refused before anything is read', async () => {
    for (const flags of [
      ['--json', '--raw'],
      ['-K', ':', '--key-json', '.a'],
      ['--json', '-K', ':'],
      ['-i', 'sized', '-0'],
      ['--keep-topic'],
      ['--on-error', 'explode'],
      ['--ts', 'never'],
      ['-p', 'x'],
      ['--value', 'x', 'file'],
      ['-D', ''],
      ['-H', '=x'],
      ['--key-json', '..'],
    ]) {
      const w = world('x\n')
      expect((await w.run('produce', 't', ...flags)).exit, flags.join(' ')).toBe(2)
      expect(w.broker.values('t')).toEqual([])
    }
    expect((await world().run('produce')).exit).toBe(2)
    expect((await world().run('produce', 'a*')).exit).toBe(2)
  })
})
