import { describe, expect, it } from 'vitest'
import { StreamError } from '../../src/base/errors.ts'
import { World } from './fake-world.ts'

function world(...input: string[]): World {
  const w = new World()
  w.broker.addTopic('t')
  w.input = input
  return w
}

describe('produce -F', () => {
  it('reads keys, values, headers, times and partitions, across chunks', async () => {
    const w = new World()
    w.broker.addTopic('t', 3)
    w.input = ['2 170', '0000000000 k=v', '\n1 -1 x=y\n']
    expect((await w.run('produce', 't', '-F', '%p %d %k=%v\\n')).exit).toBe(0)
    expect(w.broker.partition('t', 2).records).toMatchObject([
      { key: 'k', value: 'v', timestampMs: 1_700_000_000_000 },
    ])
    expect(w.broker.partition('t', 1).records).toMatchObject([{ key: 'x', timestampMs: -1 }])
  })

  it('-k, --ts and -H stand in for what the format does not say', async () => {
    const w = world('a\nb\n')
    await w.run('produce', 't', '-F', '%v\\n', '-k', 'key', '-H', 'h=1', '--ts', '@1700000000')
    expect(w.broker.records('t')).toMatchObject([
      { key: 'key', value: 'a', headers: [['h', '1']], timestampMs: 1_700_000_000_000 },
      { value: 'b' },
    ])
  })

  it('%t names the topic, among those that TOPIC allows', async () => {
    const w = new World()
    w.broker.addTopic('app.a')
    w.broker.addTopic('app.b')
    w.broker.addTopic('other')
    w.input = ['app.a 1\napp.b 2\nother 3\napp.b 4\n']
    const result = await w.run('produce', 'app.*', '-F', '%t %v\\n', '--on-error', 'skip')
    expect(result.exit).toBe(5)
    expect(result.stderr).toContain('line 3: topic other is not among those allowed')
    expect([w.broker.values('app.a'), w.broker.values('app.b')]).toEqual([['1'], ['2', '4']])
    expect(w.broker.values('other')).toEqual([])
  })

  it('what does not match stops, is skipped, or goes to the dead letters as it was', async () => {
    const input = '1:a\nno\n2:b\n'
    const stopped = world(input)
    const result = await stopped.run('produce', 't', '-F', '%p{ascii}:%v\\n', '--fail-empty')
    expect(result.exit).toBe(5)
    expect(result.stderr).toContain('line 1')
    const w = world('5:a\n0:b\nno\n0:c\n')
    const flags = ['-F', '%p:%v\\n', '--on-error', 'dead-letter=dead']
    expect((await w.run('produce', 't', ...flags)).exit).toBe(5)
    expect(w.broker.values('t')).toEqual(['b', 'c'])
    expect(w.fileText('dead')).toBe('5:a\nno\n')
  })

  it('without a final literal the rest cannot be read, whatever --on-error says', async () => {
    const w = world('1;a', 'x;b1;c')
    const result = await w.run('produce', 't', '-F', '%V;%v', '--on-error', 'skip')
    expect(result.exit).toBe(5)
    expect(result.stderr).toContain('nothing tells where the next record begins')
    expect(w.broker.values('t')).toEqual(['a'])
  })

  it('is refused with the place, before anything is read', async () => {
    const refused = async (...words: string[]) => {
      const result = await world('x\n').run('produce', 't', ...words)
      expect(result).toMatchObject({ exit: 2, stdout: '' })
      return result.stderr
    }
    expect(await refused('-F', '%v')).toContain('--format: character 1:')
    expect(await refused('-F', '%q')).toContain('%q: no such token')
    expect(await refused('-F', '%v\\n', '--json')).toContain('cannot be used together')
    expect(await refused('-F', '%v\\n', '-K', ':')).toContain('--key-sep is of lines, not of -F')
    expect(await refused('-F', '%v\\n', '--value', 'x')).toContain('cannot be used together')
    expect(await refused('--tee', '--receipts', '-')).toContain('standard output')
  })
})

describe('produce: dead letters of what the broker refused', () => {
  const forms: readonly (readonly [readonly string[], string])[] = [
    [['-K', ':'], 'k:v\n'],
    [['-0', '-K', ':'], 'k:v\0'],
    [['-F', '%k:%v\\n'], 'k:v\n'],
  ]
  it.each(forms)('in the form of the input: %j', async (flags, expected) => {
    const w = world(flags[0] === '-0' ? 'a:1\0k:v\0b:2\0' : 'a:1\nk:v\nb:2\n')
    w.broker.refuse = (value) =>
      value === 'v' ? new StreamError('RECORD_INVALID', 'not today') : undefined
    const result = await w.run('produce', 't', ...flags, '--on-error', 'dead-letter=dead')
    expect(result.exit).toBe(5)
    expect(result.stderr).toContain('line 2')
    expect(w.broker.values('t')).toEqual(['1', '2'])
    expect(w.fileText('dead')).toBe(expected)
  })

  it('envelopes and sized values can be read again as well', async () => {
    const refuse = (): StreamError => new StreamError('RECORD_INVALID', 'not today')
    const w = world('{"key":"k","value":"v","headers":[["h","1"]],"ts":5}\n')
    w.broker.refuse = refuse
    await w.run('produce', 't', '--json', '--on-error', 'dead-letter=dead')
    expect(JSON.parse(w.fileText('dead'))).toMatchObject({ key: 'k', value: 'v', ts: 5 })
    const sized = world('\0\0\0\x01v')
    sized.broker.refuse = refuse
    await sized.run('produce', 't', '-i', 'sized', '--on-error', 'dead-letter=dead')
    expect(sized.fileText('dead')).toBe('\0\0\0\x01v')
  })
})

describe('produce --expect-offset', () => {
  it('appends where the partition ends there, else 8 and nothing', async () => {
    const w = world('a\nb\n')
    expect((await w.run('produce', 't', '-p', '0', '--expect-offset', '0')).exit).toBe(0)
    const late = await w.run('produce', 't', '-p', '0', '--expect-offset', '0')
    expect(late.exit).toBe(8)
    expect(late.stderr).toContain('ends at 2')
    expect(w.broker.values('t')).toEqual(['a', 'b'])
  })

  it('a record in error, or a signal: nothing is appended', async () => {
    const w = world('k:a\nbad\n')
    expect((await w.run('produce', 't', '-K', ':', '--expect-offset', '0')).exit).toBe(5)
    expect(w.broker.values('t')).toEqual([])
    const stopped = world('a\nb\n')
    stopped.inputStaysOpen = true
    stopped.onInputEmpty = () => stopped.interruption.raise('SIGTERM')
    expect((await stopped.run('produce', 't', '--expect-offset', '0')).exit).toBe('SIGTERM')
    expect(stopped.broker.values('t')).toEqual([])
  })

  it('contradictions are refused', async () => {
    for (const words of [
      ['--expect-offset', 'x'],
      ['--expect-offset', '0', '--acks', '1'],
      ['--expect-offset', '0', '--json', '--keep-topic'],
      ['--expect-offset', '0', '--json', '--keep-partition'],
    ]) {
      expect((await world('a\n').run('produce', 't', ...words)).exit).toBe(2)
    }
  })
})

describe('reads: -F and --timeout', () => {
  it('cat -F prints by the format, and a bad one is refused before anything happens', async () => {
    const w = world()
    w.broker.add('t', 0, { key: 'k', value: 'v' }, 'w')
    expect((await w.run('cat', 't', '-F', '%o/%] %k=%v\\n')).stdout).toBe('0/2 k=v\n1/2 =w\n')
    w.broker.isReachable = false
    expect((await w.run('cat', 't', '-F', '%zz')).exit).toBe(2)
  })

  it('envelopes and sized values on a terminal cannot steer it', async () => {
    const w = world()
    w.terminals = ['output']
    w.broker.add('t', 0, '\x1b\x7f\xc2\x9b1m')
    const json = (await w.run('cat', 't', '--json')).stdout
    expect(json).toContain('"value":"\\u001b\\u007f\\u009b1m"')
    w.output.chunks.length = 0
    expect((await w.run('cat', 't', '-o', 'sized')).stdout).toBe(
      '\\x00\\x00\\x00\\x06\\x1b\\x7f\\x9b1m',
    )
  })

  it('--timeout counts first contact', async () => {
    const w = world()
    w.broker.isSilent = true
    const result = await w.run('consume', 't', '--timeout', '1s')
    expect(result).toMatchObject({ exit: 7, stdout: '' })
    expect(result.stderr).toContain('not done within 1000 ms')
  })
})
