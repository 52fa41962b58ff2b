import { describe, expect, it } from 'vitest'
import { World } from './fake-world.ts'

const cursorOf = (w: World, path = 'p'): Record<string, unknown> =>
  JSON.parse(Buffer.from(w.files.get(path) ?? '{}').toString())

function world(...values: string[]): World {
  const made = new World()
  made.broker.addTopic('t')
  made.broker.add('t', 0, ...values)
  return made
}

async function printed(w: World, ...words: string[]): Promise<string> {
  w.output.chunks.length = 0
  const { stdout } = await w.run(...words)
  return stdout.replaceAll('\n', '')
}

describe('cursor files', () => {
  it('a second run goes on where the first ended', async () => {
    const w = world('a', 'b')
    expect(await printed(w, 'consume', 't', '--cursor-file', 'p', '--until-end')).toBe('ab')
    w.broker.add('t', 0, 'new')
    expect(await printed(w, 'consume', 't', '--cursor-file', 'p', '--until-end')).toBe('new')
    expect(await printed(w, 'cat', 't', '--cursor-file', 'p', '--from', 'start')).toBe('')
    expect(cursorOf(w)).toEqual({
      v: 1,
      kind: 'cursor',
      cluster: 'CCCC',
      topics: { t: { id: 'TTTTTTTTTTTTTTTTTTTTTT', partitions: { 0: 3 } } },
    })
    expect(w.locks.size).toBe(0)
  })

  it('positions of another cluster are refused, 8', async () => {
    const w = world('a')
    await w.run('consume', 't', '--cursor-file', 'p', '--until-end')
    w.broker.clusterId = 'DDDD'
    const { exit, stderr } = await w.run('consume', 't', '--cursor-file', 'p', '--until-end')
    expect(exit).toBe(8)
    expect(stderr).toContain('its positions are of cluster CCCC, not DDDD')
    expect(w.locks.size).toBe(0)
  })

  it('-n ends in the middle of a batch, and nothing is lost or repeated', async () => {
    const w = world('0', '1', '2', '3', '4', '5', '6')
    const step = () => printed(w, 'cat', 't', '--cursor-file', 'p', '-n', '3')
    expect([await step(), await step(), await step()]).toEqual(['012', '345', '6'])
  })

  it('filters do not hold the position back', async () => {
    const w = world('a1', 'b1', 'a2', 'b2')
    const step = () => printed(w, 'cat', 't', '--cursor-file', 'p', '--grep', 'v:/a/')
    expect([await step(), await step()]).toEqual(['a1a2', ''])
    expect(cursorOf(w)).toMatchObject({ topics: { t: { partitions: { 0: 4 } } } })
  })

  it('--order time stores how far each partition came', async () => {
    const w = new World()
    w.broker.addTopic('t', 2)
    w.broker.add('t', 0, { value: 'a', timestampMs: 1 }, { value: 'c', timestampMs: 3 })
    w.broker.add('t', 1, { value: 'b', timestampMs: 2 })
    const step = () => printed(w, 'cat', 't', '--cursor-file', 'p', '--order', 'time', '-n', '2')
    expect([await step(), await step(), await step()]).toEqual(['ab', 'c', ''])
  })

  it('with eof nothing is stored when the run was cut short, with written what was written is', async () => {
    for (const [mode, expected] of [
      ['eof', undefined],
      ['written', { 0: 2 }],
      ['none', undefined],
    ] as const) {
      const w = world('a', 'b')
      w.time.setTimer(50, () => w.interruption.raise('SIGINT'))
      const result = await w.run(
        ...['consume', 't', '--cursor-file', 'p', '--from', 'start', '--commit', mode],
        ...['--idle', '1h'],
      )
      expect(result).toMatchObject({ exit: 'SIGINT', stdout: 'a\nb\n' })
      const { topics } = cursorOf(w) as { topics?: { t: { partitions: unknown } } }
      expect(topics?.t.partitions).toEqual(expected)
    }
  })

  it('a run that saw no record stores where it stood, and the next one misses nothing', async () => {
    for (const words of [
      ['--idle', '1s'],
      ['--idle', '1s', '--commit', 'eof'],
    ]) {
      const w = world('old')
      expect(await printed(w, 'consume', 't', '--cursor-file', 'p', ...words)).toBe('')
      expect(cursorOf(w)).toMatchObject({ topics: { t: { partitions: { 0: 1 } } } })
      w.broker.add('t', 0, 'new')
      expect(await printed(w, 'consume', 't', '--cursor-file', 'p', ...words)).toBe('new')
    }
  })

  it('where a run begins is stored before the first record comes, unless nothing is to be', async () => {
    for (const [mode, expected] of [
      ['written', { 0: 1 }],
      ['none', undefined],
    ] as const) {
      const w = world('old')
      let early: Record<string, unknown> = {}
      w.time.setTimer(50, () => {
        early = cursorOf(w)
        w.interruption.raise('SIGTERM')
      })
      const words = ['consume', 't', '--cursor-file', 'p', '--commit', mode, '--idle', '1h']
      expect(await w.run(...words)).toMatchObject({ exit: 'SIGTERM', stdout: '' })
      for (const { topics } of [early, cursorOf(w)] as { topics?: { t: object } }[]) {
        expect(topics?.t).toEqual(expected && { id: 'T'.repeat(22), partitions: expected })
      }
    }
  })

  it('a reader that goes away: nothing beyond what was wholly written', async () => {
    const w = world(...Array.from({ length: 40 }, (_, index) => `${index}`.repeat(30_000)))
    w.output.brokenAfter = 400_000
    const result = await w.run('cat', 't', '--cursor-file', 'p', '--commit', 'written')
    expect(result.exit).toBe('SIGPIPE')
    const { topics } = cursorOf(w) as { topics: { t: { partitions: Record<string, number> } } }
    const written = result.stdout.split('\n').length - 1
    expect(topics.t.partitions['0']).toBe(written)
  })

  it('while following, the position is stored each interval', async () => {
    const w = world('a')
    let between: unknown
    w.time.setTimer(3000, () => {
      between = cursorOf(w)['topics']
    })
    await w.run(
      ...['consume', 't', '--cursor-file', 'p', '--from', 'start', '--commit-interval', '1s'],
      ...['--idle', '10s'],
    )
    expect(between).toMatchObject({ t: { partitions: { 0: 1 } } })
  })

  it('conflicts: a second run, a recreated topic, another file, are 8, 8 and 2', async () => {
    const w = world('a')
    w.locks.add('p.lock')
    expect(await w.run('cat', 't', '--cursor-file', 'p')).toMatchObject({ exit: 8, stdout: '' })
    w.locks.clear()
    const other = {
      v: 1,
      kind: 'cursor',
      cluster: 'CCCC',
      topics: { t: { id: 'B', partitions: {} } },
    }
    w.files.set('p', Buffer.from(JSON.stringify(other)))
    const recreated = await w.run('cat', 't', '--cursor-file', 'p')
    expect(recreated.exit).toBe(8)
    expect(recreated.stderr).toMatch(
      /p: topic t was deleted and created again since; to begin anew/,
    )
    w.files.set('p', Buffer.from('my diary'))
    expect((await w.run('cat', 't', '--cursor-file', 'p')).exit).toBe(2)
    expect(Buffer.from(w.files.get('p') ?? '').toString()).toBe('my diary')
  })

  it('a position that is gone is told, 5, and the next run is clean', async () => {
    const w = world('a', 'b', 'c')
    await w.run('cat', 't', '--cursor-file', 'p', '-n', '1')
    const partition = w.broker.partition('t', 0)
    partition.start = 2
    w.output.chunks.length = 0
    expect(await w.run('cat', 't', '--cursor-file', 'p')).toMatchObject({ exit: 5, stdout: 'c\n' })
    expect((await w.run('cat', 't', '--cursor-file', 'p')).exit).toBe(0)
  })

  it('flags that contradict each other are refused', async () => {
    const refused = async (...words: string[]) => (await world().run('consume', 't', ...words)).exit
    expect(await refused('--commit', 'written')).toBe(2)
    expect(await refused('--cursor-file', 'p', '--commit', 'eof')).toBe(2)
    expect(await refused('--cursor-file', 'p', '--commit', 'ack')).toBe(2)
    expect(await refused('--cursor-file', 'p', '--ack-fd', '3')).toBe(2)
    expect(await refused('--cursor-file', 'p', '--group', 'g')).toBe(2)
    expect(await refused('--instance-id', 'i')).toBe(2)
    expect(await refused('--group', 'g', '--partition', '0')).toBe(2)
    expect(await refused('--group', 'g', '--order', 'time', '--until-end')).toBe(2)
    expect(await refused('--group', 'g', '--commit', 'ack')).toBe(2)
  })
})

describe('acknowledgements', () => {
  async function run(acks: string, ...words: string[]) {
    const w = new World()
    w.broker.addTopic('t', 2)
    w.broker.add('t', 0, 'a', 'b', 'c')
    w.broker.add('t', 1, 'd')
    w.files.set('/dev/fd/3', Buffer.from(acks))
    // Nothing can be acknowledged before it was printed: the input is opened, and read, later.
    w.delayed.add('/dev/fd/3')
    const result = await w.run(
      ...['cat', 't', '--cursor-file', 'p', '--commit', 'ack', '--ack-fd', '3', ...words],
    )
    const { topics } = cursorOf(w) as { topics?: { t: { partitions: Record<string, number> } } }
    return { ...result, partitions: topics?.t.partitions }
  }

  it('all by number', async () => {
    const result = await run('2\n4\n')
    expect(result).toMatchObject({ exit: 0, stdout: 'a\nb\nc\nd\n', partitions: { 0: 3, 1: 1 } })
  })

  it('by partition and offset, and all before', async () => {
    const result = await run('t 0 1\nt 1 0\n')
    expect(result.exit).toBe(5)
    expect(result.stderr).toContain('1 records were not acknowledged')
    expect(result.partitions).toEqual({ 0: 2, 1: 1 })
  })

  it('both ways together', async () => {
    expect(await run('t 0 0\n3\nt 1 0\n')).toMatchObject({ exit: 0, partitions: { 0: 3, 1: 1 } })
  })

  it('what was not printed cannot be acknowledged', async () => {
    for (const line of ['9', 't 0 7', 't 5 0', 'yes']) {
      const result = await run(`${line}\n`)
      expect(result.exit).toBe(5)
      expect(result.stderr).toContain('acknowledgement')
    }
  })
})
