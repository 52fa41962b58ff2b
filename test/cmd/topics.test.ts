import { describe, expect, it } from 'vitest'
import { chooseTopics, globPattern } from '../../cmd/topic-names.ts'
import { World } from './fake-world.ts'

function world(): World {
  const made = new World()
  made.broker.addTopic('orders', 2)
  made.broker.addTopic('orders.big')
  made.broker.addTopic('users')
  made.broker.addTopic('__state')
  made.broker.add('orders', 0, 'a', 'b')
  made.broker.add('orders', 1, 'c')
  return made
}

describe('a partition whose leader does not answer', () => {
  const silent = (): World => {
    const w = world()
    w.broker.unanswered.add('orders/1')
    return w
  }

  it('topics list: the other rows, a dash for what is unknown, one line, exit 7', async () => {
    const result = await silent().run('topics', 'list')
    expect(result.exit).toBe(7)
    expect(result.stdout).toBe(
      'orders\t2\t1\t-\t30\tdelete\norders.big\t1\t1\t0\t0\tdelete\nusers\t1\t1\t0\t0\tdelete\n',
    )
    expect(result.stderr.split('\n')).toEqual([
      'stream: topics list: broker 1 does not answer: the offsets of 1 partition are unknown: orders',
      '',
    ])
  })

  it('topics list: is not taken for empty, nor for inactive', async () => {
    const lists = async (...words: string[]): Promise<string> =>
      (await silent().run('topics', 'list', 'orders', ...words)).stdout
    expect(await lists('--empty')).toBe('')
    expect(await lists('--inactive', '1ms')).toBe('')
  })

  it('topics describe: its row has what the metadata tell', async () => {
    const result = await silent().run('topics', 'describe', 'orders')
    expect(result.exit).toBe(7)
    const rows = result.stdout.split('\n').map((line) => line.split('\t').slice(0, 9).join(' '))
    expect(rows).toEqual(['orders 0 1 0 1 1 0 2 2', 'orders 1 1 0 1 1 - - -', ''])
    expect(result.stderr.split('\n').length).toBe(2)
    const json = await silent().run('topics', 'describe', 'orders', '--json')
    expect(JSON.parse(json.stdout).detail[1]).toMatchObject({
      start: null,
      stable: null,
      end: null,
    })
  })

  it('check topic: it counts as unavailable, and the span is unknown', async () => {
    const result = await silent().run('check', 'topic', 'orders')
    expect(result.exit).toBe(1)
    expect(result.stdout).toContain('crit\tunavailable\torders\t1\t0\n')
    expect(result.stdout).toContain('ok\tspan\torders\t-\t-\n')
  })
})

describe('topics list', () => {
  it('rows in TSV, internal topics only when asked for', async () => {
    const { stdout } = await world().run('topics', 'list')
    expect(stdout).toBe(
      'orders\t2\t1\t3\t30\tdelete\norders.big\t1\t1\t0\t0\tdelete\nusers\t1\t1\t0\t0\tdelete\n',
    )
    expect((await world().run('topics', 'list', '--internal')).stdout).toContain('__state')
    expect((await world().run('topics', 'list', 'orders*')).stdout).not.toContain('users')
  })

  it('JSON has the columns in lower case; -o table a line of titles', async () => {
    const { stdout } = await world().run('topics', 'list', 'orders', '--json')
    expect(JSON.parse(stdout)).toEqual({
      v: 1,
      kind: 'topic',
      name: 'orders',
      partitions: 2,
      replicas: 1,
      span: 3,
      bytes: 30,
      policy: 'delete',
    })
    const table = await world().run('topics', 'list', '-o', 'table')
    expect(table.stdout.split('\n')[0]).toBe(
      'NAME        PARTITIONS  REPLICAS  SPAN  BYTES  POLICY',
    )
    const titled = await world().run('topics', 'list', '--titles')
    expect(titled.stdout.split('\n')[0]).toBe('NAME\tPARTITIONS\tREPLICAS\tSPAN\tBYTES\tPOLICY')
  })

  it('is coloured on a terminal, unless somebody minds', async () => {
    const list = async (environment: Record<string, string>, ...flags: string[]) => {
      const w = world()
      w.terminals = ['output']
      Object.assign(w.environment, environment)
      return (await w.run('topics', 'list', ...flags)).stdout
    }
    expect(await list({})).toContain('\x1b[1m')
    expect(await list({ NO_COLOR: '1' })).not.toContain('\x1b')
    expect(await list({ TERM: 'dumb' })).not.toContain('\x1b')
    expect(await list({}, '--color', 'never')).not.toContain('\x1b')
  })

  it('filters: --empty, --overrides, --inactive', async () => {
    const w = world()
    w.broker.topics.get('users')?.configs.set('retention.ms', '5')
    w.broker.add('orders.big', 0, { value: 'x', timestampMs: 1000 })
    const names = async (...flags: string[]): Promise<string[]> => {
      w.output.chunks.length = 0
      const { stdout } = await w.run('topics', 'list', ...flags)
      return stdout.split('\n').flatMap((line) => line.split('\t')[0] || [])
    }
    expect(await names('--empty')).toEqual(['users'])
    expect(await names('--overrides')).toEqual(['users'])
    expect(await names('--inactive', '1d')).toEqual(['orders.big', 'users'])
    expect(await names('--unavailable')).toEqual([])
  })

  it('filters by health: --under-replicated, --unavailable, --under-min-isr', async () => {
    const w = world()
    w.broker.nodes.place('orders', 0, [1, 2], { inSync: [1] })
    w.broker.nodes.place('orders.big', 0, [2], { leaderId: -1, inSync: [2] })
    for (const name of ['orders', 'users']) {
      w.broker.topics.get(name)?.configs.set('min.insync.replicas', '2')
    }
    const names = async (flag: string): Promise<string[]> => {
      w.output.chunks.length = 0
      const { stdout } = await w.run('topics', 'list', flag)
      return stdout.split('\n').flatMap((line) => line.split('\t')[0] || [])
    }
    expect(await names('--under-replicated')).toEqual(['orders'])
    expect(await names('--unavailable')).toEqual(['orders.big'])
    // With one replica all that can be in sync are.
    expect(await names('--under-min-isr')).toEqual(['orders'])
  })

  it('a pattern that matches nothing is an empty list; with --fail-empty 3', async () => {
    expect(await world().run('topics', 'list', 'x*')).toMatchObject({
      exit: 0,
      stdout: '',
      stderr: '',
    })
    expect((await world().run('topics', 'list', 'x*', '--fail-empty')).exit).toBe(3)
  })

  it('a name that is unknown is 3, with the nearest one', async () => {
    const result = await world().run('topics', 'list', 'order', 'users')
    expect(result.exit).toBe(3)
    expect(result.stdout).toContain('users')
    expect(result.stderr).toContain(
      'order: no such topic (UNKNOWN_TOPIC_OR_PARTITION); did you mean orders?',
    )
  })
})

describe('topics describe', () => {
  it('one row a partition; with --json one object a topic', async () => {
    expect((await world().run('topics', 'describe', 'orders')).stdout).toBe(
      'orders\t0\t1\t0\t1\t1\t0\t2\t2\t20\t-\t-\norders\t1\t1\t0\t1\t1\t0\t1\t1\t10\t-\t-\n',
    )
    const { stdout } = await world().run('topics', 'describe', '*', '--json')
    const objects = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(
      objects.map((object) => [object.v, object.kind, object.name, object.partitions]),
    ).toEqual([
      [1, 'topic', 'orders', 2],
      [1, 'topic', 'orders.big', 1],
      [1, 'topic', 'users', 1],
    ])
    expect(objects[0].detail[1]).toMatchObject({ partition: 1, leader: 1, start: 0, end: 1 })
  })

  it('tells the eligible leaders, and which replicas are down', async () => {
    const w = world()
    w.broker.nodes.add(2, { state: 'fenced' })
    w.broker.nodes.place('users', 0, [1, 2], { inSync: [1], elr: [2] })
    expect((await w.run('topics', 'describe', 'users')).stdout).toBe(
      'users\t0\t1\t0\t1,2\t1\t0\t0\t0\t0\t2\t2\n',
    )
    w.output.chunks.length = 0
    const { stdout } = await w.run('topics', 'describe', 'users', '--json')
    expect(JSON.parse(stdout).detail[0]).toMatchObject({ isr: [1], elr: [2], offline: [2] })
  })

  it('--config has every setting with its origin', async () => {
    const w = world()
    w.broker.topics.get('users')?.configs.set('retention.ms', '5')
    expect((await w.run('topics', 'describe', 'users', '--config')).stdout).toBe(
      'users\tretention.ms\t5\ttopic\nusers\tcleanup.policy\tdelete\tdefault\n',
    )
  })
})

describe('topics create', () => {
  it('makes them, with what the flags stand for', async () => {
    const w = world()
    const result = await w.run(
      'topics',
      'create',
      'new',
      'newer',
      '--partitions',
      '3',
      '--compact',
      '--retention',
      '7d',
      '--set',
      'segment.ms=1000',
    )
    expect(result).toMatchObject({ exit: 0, stdout: 'new\nnewer\n' })
    expect(w.broker.topics.get('newer')?.partitions).toHaveLength(3)
    expect(Object.fromEntries(w.broker.topics.get('new')?.configs ?? [])).toEqual({
      'cleanup.policy': 'compact,delete',
      'retention.ms': '604800000',
      'segment.ms': '1000',
    })
    await w.run('topics', 'create', 'sized', '--retention', '1GiB')
    expect(w.broker.topics.get('sized')?.configs.get('retention.bytes')).toBe('1073741824')
  })

  it('what exists is 8, unless that is fine; others are made nevertheless', async () => {
    const w = world()
    const result = await w.run('topics', 'create', 'orders', 'other')
    expect(result.exit).toBe(8)
    expect(w.broker.topics.has('other')).toBe(true)
    expect((await w.run('topics', 'create', 'orders', '--if-not-exists')).exit).toBe(0)
  })

  it('--dry-run changes nothing; slips in keys are caught', async () => {
    const w = world()
    expect((await w.run('topics', 'create', 'x', '--dry-run')).stdout).toBe('x\n')
    expect(w.broker.topics.has('x')).toBe(false)
    const slip = await w.run('topics', 'create', 'x', '--set', 'retention.mss=5')
    expect(slip.exit).toBe(2)
    expect(slip.stderr).toContain('did you mean retention.ms?')
    expect((await w.run('topics', 'create', 'x', '--retention', 'long')).exit).toBe(2)
    expect((await w.run('topics', 'create')).exit).toBe(2)
  })
})

describe('topics alter', () => {
  it('sets, unsets and adds partitions, telling old and new', async () => {
    const w = world()
    w.broker.topics.get('users')?.configs.set('retention.ms', '5')
    const result = await w.run(
      'topics',
      'alter',
      'users',
      '--set',
      'retention.ms=9',
      '--partitions',
      '4',
    )
    expect(result.stdout).toBe('users\tretention.ms\t5\t9\nusers\tpartitions\t1\t4\n')
    expect(result.stderr).toContain('keys move')
    expect(w.broker.topics.get('users')?.partitions).toHaveLength(4)
    await w.run('topics', 'alter', 'users', '--unset', 'retention.ms')
    expect(w.broker.topics.get('users')?.configs.size).toBe(0)
    expect((await w.run('topics', 'alter', 'users')).exit).toBe(2)
    expect((await w.run('topics', 'alter', 'nope', '--set', 'retention.ms=9')).exit).toBe(3)
  })

  it('adds no partitions where the settings are refused: they could not be taken back', async () => {
    const w = world()
    w.broker.refusedConfigs.add('users')
    const words = ['topics', 'alter', 'users', 'orders', '--set', 'retention.ms=9']
    const result = await w.run(...words, '--partitions', '4')
    expect(result.exit).toBe(2)
    expect(result.stderr).toContain('users: the settings are refused')
    expect(w.broker.topics.get('users')?.partitions).toHaveLength(1)
    expect(w.broker.topics.get('orders')?.partitions).toHaveLength(4)
  })
})

describe('topics delete', () => {
  it('is refused where nobody can be asked, and nothing happens', async () => {
    const w = world()
    const result = await w.run('topics', 'delete', 'orders')
    expect(result.exit).toBe(2)
    expect(result.stderr).toContain('-y')
    expect(w.broker.topics.has('orders')).toBe(true)
  })

  it('-y agrees; --dry-run only tells', async () => {
    const w = world()
    expect((await w.run('topics', 'delete', 'orders*', '--dry-run')).stdout).toBe(
      'orders\norders.big\n',
    )
    expect(w.broker.topics.size).toBe(4)
    await w.run('topics', 'delete', 'orders', '-y')
    expect(w.broker.topics.has('orders')).toBe(false)
    expect((await w.run('topics', 'delete', 'orders', '-y')).exit).toBe(3)
    expect((await w.run('topics', 'delete', 'orders', '-y', '--if-exists')).exit).toBe(0)
  })

  it('asks on a terminal; a glob asks for the number', async () => {
    const answer = async (line: string, ...words: string[]) => {
      const w = world()
      w.terminals = ['input', 'error']
      w.input = [line]
      const { exit, stderr } = await w.run('topics', 'delete', ...words)
      return { exit, stderr, left: w.broker.topics.size }
    }
    expect(await answer('\n', 'orders')).toMatchObject({ exit: 1, left: 4 })
    expect(await answer('y\n', 'orders')).toMatchObject({ exit: 0, left: 3 })
    expect(await answer('y\n', 'orders*')).toMatchObject({ exit: 1, left: 4 })
    expect(await answer('2\n', 'orders*')).toMatchObject({ exit: 0, left: 2 })
    expect((await answer('y\n', 'orders', '--no-input')).exit).toBe(2)
  })

  it('internal topics are safe without --internal', async () => {
    const w = world()
    const result = await w.run('topics', 'delete', '__state', '-y')
    expect(result.exit).toBe(2)
    expect(w.broker.topics.has('__state')).toBe(true)
    expect((await w.run('topics', 'delete', '__state', '-y', '--internal')).exit).toBe(0)
  })
})

describe('topics trim', () => {
  it('to a position, or all but the last; in some partitions', async () => {
    const w = world()
    w.broker.add('users', 0, '0', '1', '2', '3', '4')
    expect((await w.run('topics', 'trim', 'users', '--keep', '2', '--dry-run')).stdout).toBe(
      'users\t0\t0\t3\n',
    )
    expect(w.broker.partition('users', 0).start).toBe(0)
    w.output.chunks.length = 0
    expect((await w.run('topics', 'trim', 'users', '--to', '2', '-y')).stdout).toBe(
      'users\t0\t0\t2\n',
    )
    expect(w.broker.partition('users', 0).start).toBe(2)
    w.output.chunks.length = 0
    expect((await w.run('topics', 'trim', 'orders', '--to', 'end', '-p', '1', '-y')).stdout).toBe(
      'orders\t1\t0\t1\n',
    )
    expect(w.broker.partition('orders', 0).start).toBe(0)
    expect((await w.run('topics', 'trim', 'users')).exit).toBe(2)
    expect((await w.run('topics', 'trim', 'users', '--to', '4')).exit).toBe(2)
  })

  it('a partition that is not there is an error, and nothing is deleted', async () => {
    const w = world()
    w.broker.add('users', 0, '0', '1')
    for (const words of [
      ['--to', 'end', '-p', '0,9'],
      ['--to', '0=1,9=1'],
      ['--to', 'users/9=1'],
    ]) {
      const result = await w.run('topics', 'trim', 'users', '-y', ...words)
      expect(result).toMatchObject({ exit: 3, stdout: '' })
      expect(result.stderr).toContain('users: no partition 9, only 1')
    }
    expect(w.broker.partition('users', 0).start).toBe(0)
  })
})

describe('topic arguments', () => {
  it('globs match whole names', () => {
    const matching = (glob: string): string[] =>
      ['a', 'ab', 'a.b', 'b', 'a-1', 'a]'].filter((name) => globPattern(glob).test(name))
    expect(matching('a*')).toEqual(['a', 'ab', 'a.b', 'a-1', 'a]'])
    expect(matching('a?')).toEqual(['ab', 'a]'])
    expect(matching('a.*')).toEqual(['a.b'])
    expect(matching('[ab]')).toEqual(['a', 'b'])
    expect(matching('[!a]')).toEqual(['b'])
    expect(() => globPattern('[a')).toThrow('[')
  })

  it('names are taken as they are, patterns ask for the list once', async () => {
    let asked = 0
    const list = async (): Promise<string[]> => {
      asked += 1
      return ['a', 'b', '__x']
    }
    const choice = await chooseTopics(['z', '*', 'c*', '__*'], { isRegex: false }, list)
    expect(choice).toEqual({ names: ['z', 'a', 'b', '__x'], empty: ['c*'] })
    expect(asked).toBe(1)
  })
})
