import { describe, expect, it } from 'vitest'
import { fitTable } from '../../cmd/table-fit.ts'
import { World } from './fake-world.ts'

function world(): World {
  const made = new World()
  made.broker.addTopic('orders', 2).configs.set('retention.ms', '5')
  made.broker.addTopic('users')
  made.broker.addTopic('__state')
  return made
}

async function run(w: World, ...words: string[]) {
  w.output.chunks.length = 0
  return w.run(...words)
}

function file(w: World, ...topics: (object | string)[]): World {
  const lines = topics.map((topic) => (typeof topic === 'string' ? topic : JSON.stringify(topic)))
  w.files.set('f', Buffer.from(lines.map((line) => `${line}\n`).join('')))
  return w
}

describe('topics diff', () => {
  it('what describe wrote differs in nothing, exit 0', async () => {
    const w = world()
    const { stdout } = await run(w, 'topics', 'describe', '*', '--json')
    w.files.set('f', Buffer.from(stdout))
    expect(await run(w, 'topics', 'diff', 'f')).toMatchObject({ exit: 0, stdout: '' })
    w.files.set('f', Buffer.from(`[${stdout.trim().split('\n').join(',')}]`))
    expect(await run(w, 'topics', 'diff', 'f', '--prune')).toMatchObject({ exit: 0, stdout: '' })
  })

  it('a row for each difference, exit 1', async () => {
    const w = file(
      world(),
      { name: 'orders', partitions: 4, config: { 'segment.ms': 1000 } },
      { name: 'new', config: { 'retention.ms': '7' } },
    )
    const { exit, stdout } = await run(w, 'topics', 'diff', 'f', '--prune')
    expect(exit).toBe(1)
    expect(stdout).toBe(
      [
        'create\tnew\tpartitions\t-\t1',
        'create\tnew\tretention.ms\t-\t7',
        'alter\torders\tpartitions\t2\t4',
        'alter\torders\tsegment.ms\t-\t1000',
        'alter\torders\tretention.ms\t5\t-',
        'delete\tusers\t-\t-\t-',
        '',
      ].join('\n'),
    )
    expect(w.broker.topics.has('new')).toBe(false)
  })

  it('what apply would refuse is told, 2', async () => {
    const w = file(world(), { name: 'orders', partitions: 1 }, { name: 'new' })
    const { exit, stdout, stderr } = await run(w, 'topics', 'diff', 'f')
    expect(exit).toBe(2)
    expect(stdout).toContain('alter\torders\tpartitions\t2\t1\n')
    expect(stderr).toContain('orders: it has 2 partitions, and they can only become more')
  })

  it('standard input is a file too; without config settings stay', async () => {
    const w = world()
    w.input = ['{"name":"orders"}\n']
    expect(await run(w, 'topics', 'diff', '-')).toMatchObject({ exit: 0, stdout: '' })
  })
})

describe('topics apply', () => {
  it('creates and alters, and a second time does nothing', async () => {
    const w = file(
      world(),
      { name: 'new', partitions: 3, config: { 'cleanup.policy': 'compact' } },
      { name: 'orders', partitions: 3, config: {} },
    )
    const { exit, stdout } = await run(w, 'topics', 'apply', 'f')
    expect(exit).toBe(0)
    expect(stdout.split('\n')).toHaveLength(5)
    expect(w.broker.topics.get('new')?.partitions).toHaveLength(3)
    expect(w.broker.topics.get('orders')?.partitions).toHaveLength(3)
    expect(w.broker.topics.get('orders')?.configs.size).toBe(0)
    expect(await run(w, 'topics', 'apply', 'f')).toMatchObject({ exit: 0, stdout: '' })
    expect(w.broker.topics.has('users')).toBe(true)
  })

  it('--dry-run prints the plan and stops', async () => {
    const w = file(world(), { name: 'new' })
    expect((await run(w, 'topics', 'apply', 'f', '--dry-run', '--prune')).stdout).toContain(
      'delete\tusers',
    )
    expect(w.broker.topics.has('new')).toBe(false)
    expect(w.broker.topics.size).toBe(3)
  })

  it('--prune asks, spares internal topics, and changes nothing without a yes', async () => {
    const w = file(world(), { name: 'new' })
    const refused = await run(w, 'topics', 'apply', 'f', '--prune')
    expect(refused).toMatchObject({ exit: 2, stdout: '' })
    expect(w.broker.topics.has('new')).toBe(false)
    w.terminals = ['input', 'error']
    w.input = ['n\n']
    const no = await run(w, 'topics', 'apply', 'f', '--prune')
    expect(no.exit).toBe(1)
    expect(no.stderr).toContain('delete  orders')
    expect(w.broker.topics.has('new')).toBe(false)
    w.input = ['yes\n']
    expect((await run(w, 'topics', 'apply', 'f', '--prune')).exit).toBe(0)
    expect([...w.broker.topics.keys()].sort()).toEqual(['__state', 'new'])
  })

  it('what cannot be done is an error of its topic; the others are done', async () => {
    const w = file(
      world(),
      { name: 'orders', partitions: 1 },
      { name: 'users', replicas: 3 },
      { name: 'new' },
    )
    const { exit, stdout, stderr } = await run(w, 'topics', 'apply', 'f')
    expect(exit).toBe(2)
    expect(stdout).toBe('create\tnew\tpartitions\t-\t1\n')
    expect(stderr).toContain('orders: it has 2 partitions')
    expect(stderr).toContain('users: it has 1 replicas')
  })

  it('a topic whose settings are refused gets no partitions', async () => {
    const w = file(world(), { name: 'orders', partitions: 9, config: { 'segment.ms': '1000' } })
    w.broker.refusedConfigs.add('orders')
    expect((await run(w, 'topics', 'apply', 'f')).exit).toBe(2)
    expect(w.broker.topics.get('orders')?.partitions).toHaveLength(2)
  })

  it('a file that makes no sense is one line with its place, and nothing happens', async () => {
    for (const [text, words] of [
      ['{"name":"a"}\n{"name":', 'f: line 2: no JSON'],
      ['{"name":"a"}\n\n{"name":"a"}', 'f: line 3: a stands in f: line 1 already'],
      ['[{"name":"a"},{}]', 'f: element 2: name is missing'],
      ['[1]', 'f: element 1: must be an object'],
      ['{"name":"a","partitions":0}', 'partitions: must be a whole number from 1'],
      ['{"name":"a","config":{"retention.ms":"x"}}', 'config retention.ms: x must be'],
      ['{"name":"a","config":{"retention.mss":"1"}}', 'did you mean retention.ms?'],
      ['{"name":"a","config":{"retention.ms":null}}', 'must be a text, a number or a boolean'],
      ['{"v":2,"name":"a"}', 'v is 2'],
      ['{"kind":"partition","name":"a"}', 'kind is "partition"'],
    ] as const) {
      const w = world()
      w.files.set('f', Buffer.from(text))
      const result = await run(w, 'topics', 'apply', 'f')
      expect(result, text).toMatchObject({ exit: 2, stdout: '' })
      expect(result.stderr).toContain(words)
      expect(result.stderr.trimEnd().split('\n')).toHaveLength(1)
      expect(w.broker.topics.has('a')).toBe(false)
    }
    expect((await run(world(), 'topics', 'apply', 'nowhere')).exit).toBe(3)
    expect((await run(world(), 'topics', 'apply')).exit).toBe(2)
  })
})

describe('topics wait', () => {
  it('returns at once where all is well, printing nothing', async () => {
    const w = world()
    for (const flags of [[], ['--ready'], ['--in-sync'], ['--end', '0']]) {
      expect(await run(w, 'topics', 'wait', 'orders', 'users', ...flags)).toMatchObject({
        exit: 0,
        stdout: '',
      })
    }
  })

  it('waits for leaders, for records, for times', async () => {
    const w = world()
    w.broker.leaderless.add('users')
    w.time.setTimer(700, () => w.broker.leaderless.delete('users'))
    expect((await run(w, 'topics', 'wait', 'users', '--timeout', '5s')).exit).toBe(0)
    w.time.setTimer(700, () => w.broker.add('users', 0, 'a', 'b'))
    expect((await run(w, 'topics', 'wait', 'users', '--end', '2', '--timeout', '5s')).exit).toBe(0)
    expect(
      (await run(w, 'topics', 'wait', 'users', '--time', 'today', '--timeout', '5s')).exit,
    ).toBe(0)
    const late = await run(w, 'topics', 'wait', 'orders', '--time', 'today', '--timeout', '2s')
    expect(late).toMatchObject({ exit: 7, stdout: '' })
    expect(late.stderr).toContain('orders: partition 0 has no record so late, after 2s')
  })

  it('--wait-topic waits for one that is not there; else 3', async () => {
    const w = world()
    expect((await run(w, 'topics', 'wait', 'nope')).exit).toBe(3)
    w.time.setTimer(300, () => w.broker.addTopic('nope'))
    expect((await run(w, 'topics', 'wait', 'nope', '--wait-topic', '--timeout', '5s')).exit).toBe(0)
    expect((await run(w, 'topics', 'wait', 'x', '--wait-topic', '--timeout', '1s')).exit).toBe(7)
  })

  it('refuses what is no time or number', async () => {
    expect((await run(world(), 'topics', 'wait', 'users', '--time', 'soon')).exit).toBe(2)
    expect((await run(world(), 'topics', 'wait', 'users', '--end', 'x')).exit).toBe(2)
  })
})

describe('tables fit the terminal', () => {
  const long = 'a.rather.long.topic.name.with.many.words'
  const printed = async (columns: number, ...words: string[]) => {
    const w = new World()
    w.broker.addTopic(long, 12)
    for (let at = 0; at < 120; at += 1) w.broker.add(long, at % 12, 'x')
    w.terminals = ['output']
    w.terminalColumns = columns
    const { stdout } = await run(w, ...words, '--color', 'never')
    return Buffer.from(stdout, 'latin1').toString().trimEnd().split('\n')
  }

  it('80 and 40 columns hold every line of list and describe', async () => {
    for (const columns of [80, 40]) {
      for (const verb of [['list'], ['describe', long]]) {
        const lines = await printed(columns, 'topics', ...verb)
        for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(columns)
        if (columns === 40) expect(lines[1]).toContain('…')
      }
    }
    expect((await printed(80, 'topics', 'describe', long))[0]).toMatch(/END +BYTES$/)
    expect((await printed(200, 'topics', 'list'))[1]).toContain('1.2 KiB')
  })

  it('-o wide and other forms show everything as it is', async () => {
    const [titles = '', row = ''] = await printed(40, 'topics', 'list', '-o', 'wide')
    expect(titles).toContain('POLICY')
    expect(row).toContain(long)
    expect(row).toContain('1200')
    expect((await printed(40, 'topics', 'list', '-o', 'tsv'))[0]).toBe(
      `${long}\t12\t1\t120\t1200\tdelete`,
    )
  })

  it('numbers stand right, made readable or not', () => {
    const fitted = fitTable(
      { kind: 'x', columns: ['NAME', 'BYTES', 'UPTIME'] },
      [
        ['a', 1536, 90_000],
        ['b', null, 5],
      ],
      {
        display: { sizes: ['BYTES'], durations: ['UPTIME'] },
        widthMax: undefined,
        hasTitles: true,
      },
    )
    expect(fitted.rows).toEqual([
      ['a', '1.5 KiB', '1m30s'],
      ['b', '-', '5ms'],
    ])
    expect([...fitted.right]).toEqual([1, 2])
  })
})
