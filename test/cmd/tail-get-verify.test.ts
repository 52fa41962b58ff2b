import { describe, expect, it } from 'vitest'
import { compareMultisets } from '../../cmd/verify-multiset.ts'
import type { ComparedRecord } from '../../cmd/verify-record.ts'
import type { VerifySide } from '../../cmd/verify-side.ts'
import { RecordFields } from '../../src/text/record-fields.ts'
import { type StoredRecord, World } from './fake-world.ts'

/** Thirty records over three partitions, their times rising with their values. */
function spread(): World {
  const w = new World()
  w.broker.addTopic('t', 3)
  for (let index = 0; index < 30; index += 1) {
    w.broker.add('t', (index * 7) % 3, { value: String(index), timestampMs: 1000 + index })
  }
  return w
}

async function printed(w: World, ...words: string[]): Promise<string> {
  w.output.chunks.length = 0
  const result = await w.run(...words)
  expect(result.exit, result.stderr).toBe(0)
  return result.stdout.trim().split('\n').join(' ')
}

describe('tail', () => {
  it('the last N of all partitions together, by time', async () => {
    const w = spread()
    expect(await printed(w, 'tail', 't')).toBe('20 21 22 23 24 25 26 27 28 29')
    expect(await printed(w, 'tail', 't', '-n', '3')).toBe('27 28 29')
    expect(await printed(w, 'tail', 't', '-n', '100')).toMatch(/^0 1 2 .* 29$/)
    expect(await printed(w, 'tail', 't', '-n', '0')).toBe('')
  })

  it('one partition may have all of the last', async () => {
    const w = new World()
    w.broker.addTopic('t', 2)
    for (let index = 0; index < 50; index += 1) {
      w.broker.add('t', 0, { value: `a${index}`, timestampMs: 1000 + index })
      w.broker.add('t', 1, { value: `b${index}`, timestampMs: 5000 + index })
    }
    expect(await printed(w, 'tail', 't', '-n', '3')).toBe('b47 b48 b49')
  })

  it('filters are applied before records are counted, however far back they lie', async () => {
    const w = spread()
    expect(await printed(w, 'tail', 't', '-n', '3', '--grep', 'v:/^[0-9]$/')).toBe('7 8 9')
    expect(await printed(w, 'tail', 't', '-n', '1', '--grep', 'v:/^0$/')).toBe('0')
  })

  it('-n +N prints from offset N on, from where there is something', async () => {
    const w = spread()
    expect(await printed(w, 'tail', 't', '-n', '+9')).toBe('27 28 29')
    expect(await printed(w, 'tail', 't', '-n', '+99')).toBe('')
    expect((await w.run('tail', 't', '-n', 'x')).exit).toBe(2)
  })

  it('-f goes on at the end, and new records are printed once', async () => {
    const w = spread()
    w.time.setTimer(50, () => w.broker.add('t', 0, 'new'))
    expect(await printed(w, 'tail', 't', '-f', '-n', '2', '--idle', '1s')).toBe('28 29 new')
  })

  it('on a terminal a record is one line, cut to the width, coloured, and harmless', async () => {
    const w = new World()
    w.terminals = ['output']
    w.broker.add('t', 0, {
      key: 'k\x1b[31m',
      value: `\x1b[2J${'x'.repeat(200)}`,
      timestampMs: w.time.wallMs(),
    })
    w.broker.add('t', 0, { value: null })
    const { stdout } = await w.run('tail', 't')
    const [first = '', second = ''] = stdout.split('\n')
    // Without its colours.
    const parts = Buffer.from(first, 'latin1').toString('utf8').split('\x1b[')
    const plain = parts
      .map((part, index) => (index === 0 ? part : part.replace(/^\d*m/, '')))
      .join('')
    expect(plain).toMatch(/^\d\d:\d\d:\d\d\.\d{3} 0@0 k\\x1b\[31m \\x1b\[2Jx+…$/)
    expect([...plain]).toHaveLength(80)
    expect(second).toContain('null')
    w.environment['NO_COLOR'] = '1'
    w.output.chunks.length = 0
    expect((await w.run('tail', 't')).stdout).not.toContain('\x1b')
    w.output.chunks.length = 0
    expect((await w.run('tail', 't', '-F', '%v\\n', '-n', '1')).stdout).toBe('\n')
  })

  it('no such topic is 3', async () => {
    expect(await new World().run('tail', 'nowhere')).toMatchObject({ exit: 3, stdout: '' })
  })
})

describe('get', () => {
  function users(): World {
    const w = new World()
    w.broker.addTopic('u', 1)
    w.broker.add(
      'u',
      0,
      { key: 'a', value: '1' },
      { key: 'b', value: '2' },
      { key: 'a', value: '3' },
    )
    w.broker.add('u', 0, { key: 'gone', value: 'x' }, { key: 'gone', value: null })
    return w
  }

  it('prints the latest value of a key, in any form', async () => {
    expect(await printed(users(), 'get', 'u', 'a')).toBe('3')
    expect(await printed(users(), 'get', 'u', 'b', '-F', '%o:%k=%v')).toBe('1:b=2')
    expect(await printed(users(), 'get', 'u', 'a', '--grep', 'v:/1/')).toBe('1')
  })

  it('absent, and deleted: nothing, 3', async () => {
    for (const key of ['nokey', 'gone']) {
      expect(await users().run('get', 'u', key)).toEqual({ exit: 3, stdout: '', stderr: '' })
    }
    expect((await users().run('get', 'nowhere', 'a')).exit).toBe(3)
  })

  it('--history prints all, the oldest first, tombstones too', async () => {
    expect(await printed(users(), 'get', 'u', 'a', '--history')).toBe('1 3')
    const history = await users().run('get', 'u', 'gone', '--history', '-F', '%v{null=deleted},')
    expect(history).toMatchObject({ exit: 0, stdout: 'x,deleted,' })
    expect((await users().run('get', 'u', 'nokey', '--history')).exit).toBe(3)
  })

  it('looks where the key belongs, or in all partitions by time', async () => {
    const w = new World()
    w.broker.addTopic('u', 4)
    for (let partition = 0; partition < 4; partition += 1) {
      w.broker.add('u', partition, {
        key: 'k',
        value: `in ${partition}`,
        timestampMs: 9000 - partition,
      })
    }
    expect(await printed(w, 'get', 'u', 'k', '--all-partitions')).toBe('in 0')
    expect(await printed(w, 'get', 'u', 'k', '--all-partitions', '--history')).toBe(
      'in 3 in 2 in 1 in 0',
    )
    const murmur = await printed(w, 'get', 'u', 'k')
    const crc = await printed(w, 'get', 'u', 'k', '--partitioner', 'crc32')
    expect(new Set([murmur, crc]).size).toBe(2)
  })

  it('needs a topic and a key, and no pattern', async () => {
    expect((await users().run('get', 'u')).exit).toBe(2)
    expect((await users().run('get', 'u', 'a', 'b')).exit).toBe(2)
    expect((await users().run('get', 'u*', 'a')).exit).toBe(2)
  })
})

describe('verify', () => {
  const rows = (text: string): string => text.replaceAll('\t', ' ').trim().replaceAll('\n', '; ')

  function two(changeB: (records: StoredRecord[]) => void = () => undefined): World {
    const w = new World()
    for (const name of ['a', 'b']) {
      w.broker.addTopic(name, 2)
      for (let index = 0; index < 10; index += 1) {
        w.broker.add(name, index % 2, {
          key: index % 3 === 0 ? null : `k${index}`,
          value: index === 4 ? null : `\xff${index}`,
          headers:
            index === 5
              ? [
                  ['h', '1'],
                  ['h', null],
                ]
              : [],
          timestampMs: 1000 + index,
        })
      }
    }
    changeB(w.broker.topics.get('b')?.partitions[1]?.records ?? [])
    return w
  }

  it('equal topics: rows, 0', async () => {
    const result = await two().run('verify', 'a', 'b', '--offsets')
    expect(result).toMatchObject({ exit: 0, stderr: '' })
    expect(rows(result.stdout)).toBe('0 5 5 5; 1 5 5 5')
    const any = await two().run('verify', 'a', 'b', '--any-order')
    expect(rows(any.stdout)).toBe('- 10 10 10')
  })

  it('the first difference as two envelopes on standard error, 1', async () => {
    const w = two((records) => {
      records[2] = { ...records[2]!, value: 'other' }
    })
    const result = await w.run('verify', 'a', 'b')
    expect(result.exit).toBe(1)
    expect(rows(result.stdout)).toBe('0 5 5 5; 1 5 5 4')
    const [words, a, b] = result.stderr.trim().split('\n')
    expect(words).toBe('stream: verify: a and b differ: partition 1, record 3')
    expect(JSON.parse(a ?? '')).toMatchObject({ topic: 'a', partition: 1, offset: 2, key: 'k5' })
    expect(JSON.parse(a ?? '').headers).toEqual([
      ['h', '1'],
      ['h', null],
    ])
    expect(JSON.parse(b ?? '')).toMatchObject({ topic: 'b', value: 'other' })
    expect((await w.run('verify', 'a', 'b', '--any-order')).exit).toBe(1)
  })

  it('a record that one side lacks', async () => {
    const w = two((records) => {
      records.pop()
    })
    const result = await w.run('verify', 'a', 'b')
    expect(result.exit).toBe(1)
    expect(rows(result.stdout)).toBe('0 5 5 5; 1 5 4 4')
    expect(result.stderr.trim().endsWith('null')).toBe(true)
    w.output.chunks.length = 0
    const any = await w.run('verify', 'a', 'b', '--any-order')
    expect(rows(any.stdout)).toBe('- 10 9 9')
  })

  it('--ignore lets times, keys and headers differ; order and offsets matter unless said otherwise', async () => {
    const w = two((records) => {
      records[0] = { ...records[0]!, timestampMs: 7, key: 'other', headers: [['x', 'y']] }
    })
    expect((await w.run('verify', 'a', 'b')).exit).toBe(1)
    expect((await w.run('verify', 'a', 'b', '--ignore', 'ts,key')).exit).toBe(1)
    expect((await w.run('verify', 'a', 'b', '--ignore', 'ts,key,headers')).exit).toBe(0)
    const swapped = () =>
      two((records) => {
        records.push(records.shift()!)
      })
    expect((await swapped().run('verify', 'a', 'b')).exit).toBe(1)
    expect((await swapped().run('verify', 'a', 'b', '--any-order')).exit).toBe(0)
    expect((await swapped().run('verify', 'a', 'b', '--any-order', '--offsets')).exit).toBe(1)
    expect((await w.run('verify', 'a', 'b', '--ignore', 'value')).exit).toBe(2)
  })

  it('files of envelopes, standard input, and what is wrong with them', async () => {
    const w = two()
    const lines = (await w.run('cat', 'a', '--json')).stdout
    w.files.set('a.ndjson', Buffer.from(lines, 'latin1'))
    w.output.chunks.length = 0
    const file = await w.run('verify', 'b', 'file:a.ndjson', '--offsets')
    expect(file).toMatchObject({ exit: 0, stderr: '' })
    expect(rows(file.stdout)).toBe('0 5 5 5; 1 5 5 5')
    w.input = [lines]
    expect((await w.run('verify', '-', 'b')).exit).toBe(0)
    w.input = [lines]
    expect((await w.run('verify', '-', 'b', '--any-order')).exit).toBe(0)
    expect([...w.files.keys()]).toEqual(['a.ndjson'])
    w.files.set('bad', Buffer.from('{"value":1,"partition":0}\nno\n'))
    const bad = await w.run('verify', 'a', 'file:bad')
    expect(bad.exit).toBe(5)
    expect(bad.stderr).toMatch(/file:bad: line 2: no JSON object/)
    expect((await w.run('verify', 'a', 'file:none')).exit).toBe(3)
    expect((await w.run('verify', '-', '-')).exit).toBe(2)
    expect((await w.run('verify', 'a')).exit).toBe(2)
    expect((await w.run('verify', 'a', 'nowhere')).exit).toBe(3)
    expect((await w.run('verify', 'a', 'kafka://h:9092')).exit).toBe(2)
  })

  it('other brokers by address and context', async () => {
    const w = two()
    w.files.set(
      '/config/stream/contexts.json',
      Buffer.from('{"v":1,"contexts":{"east":{"broker":"kafka://east:1"}}}'),
    )
    expect((await w.run('verify', 'a', 'tcp://other:7/b')).exit).toBe(0)
    expect((await w.run('verify', '@east/a', 'b', '-b', 'ipc:///run/x')).exit).toBe(0)
    expect(w.clients.addresses).toEqual([
      'ipc:///run/me/stream/daemon.sock',
      'tcp://other:7',
      'kafka://east:1',
      'ipc:///run/x',
    ])
    expect((await w.run('verify', '@nowhere/a', 'b')).exit).toBe(2)
  })

  it('multisets that do not fit the table are compared in passes', async () => {
    const side = (values: readonly number[]): VerifySide => ({
      partitions: [0],
      read: async () => {
        let at = 0
        const fields = new RecordFields()
        return {
          next: (record: ComparedRecord) => {
            const value = values[at++]
            if (value === undefined) return false
            const bytes = Buffer.from(String(value))
            fields.reset()
            fields.valueSlot.set(bytes, 0, bytes.length)
            record.setFromFields(fields)
            return true
          },
          close: () => undefined,
        }
      },
    })
    const what = { key: true, headers: true, timestamp: true, offset: false }
    const some = Array.from({ length: 500 }, (_, index) => index % 200)
    const equal = await compareMultisets(side(some), side([...some].reverse()), what, 64)
    expect(equal).toMatchObject({ a: 500, b: 500, equal: 500, onlyInA: undefined })
    const other = await compareMultisets(side([...some, 7]), side([...some, 900]), what, 64)
    expect(other).toMatchObject({ a: 501, b: 501, equal: 500 })
    expect(other.onlyInA?.envelope()).toContain('"value":"7"')
    expect(other.onlyInB?.envelope()).toContain('"value":"900"')
  })
})
