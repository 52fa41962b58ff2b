import { describe, expect, it } from 'vitest'
import { type RunResult, World } from './fake-world.ts'

/** Three brokers; `orders` has six replicas on them, `users` one. */
function world(): World {
  const made = new World()
  const { nodes } = made.broker
  nodes.add(2)
  nodes.add(3)
  made.broker.addTopic('orders', 3)
  made.broker.addTopic('users')
  nodes.place('orders', 0, [1, 2])
  nodes.place('orders', 1, [2, 3])
  nodes.place('orders', 2, [3, 1])
  nodes.place('users', 0, [2])
  return made
}

const lines = ({ stdout }: RunResult): string[] => stdout.split('\n').slice(0, -1)

describe('cluster status', () => {
  it('one row of numbers, exit 0 while everything is led', async () => {
    const w = world()
    const result = await w.run('cluster', 'status')
    expect(result).toMatchObject({ exit: 0, stderr: '' })
    expect(result.stdout).toBe('CCCC\t1\t3\t2\t0\t0\t3\t4\t0\t0\t0\n')
  })

  it('JSON has the columns; under-replicated alone is exit 0', async () => {
    const w = world()
    w.broker.nodes.place('orders', 0, [1, 2], { inSync: [1] })
    w.broker.nodes.place('orders', 1, [2, 3], { leaderId: 3 })
    const result = await w.run('cluster', 'status', '--json')
    expect(result.exit).toBe(0)
    expect(JSON.parse(result.stdout)).toMatchObject({
      v: 1,
      kind: 'cluster',
      id: 'CCCC',
      controller: 1,
      brokers: 3,
      topics: 2,
      under_replicated: 1,
      unavailable: 0,
      not_preferred: 1,
    })
  })

  it('exit 1 where a partition has no leader, or refuses records', async () => {
    const lost = world()
    lost.broker.nodes.place('users', 0, [2], { leaderId: -1 })
    expect((await lost.run('cluster', 'status')).exit).toBe(1)
    const tight = world()
    tight.broker.topics.get('orders')?.configs.set('min.insync.replicas', '2')
    tight.broker.nodes.place('orders', 0, [1, 2], { inSync: [1] })
    expect((await tight.run('cluster', 'status')).exit).toBe(1)
  })

  it('check: partitions that refuse records are critical, of a cluster and of a topic', async () => {
    const tight = world()
    tight.broker.topics.get('orders')?.configs.set('min.insync.replicas', '2')
    tight.broker.nodes.place('orders', 0, [1, 2], { inSync: [1] })
    const cluster = await tight.run('check', 'cluster', '--nagios')
    expect(cluster.exit).toBe(2)
    expect(cluster.stdout).toContain('under_min_isr of CCCC is 1 (limit 0)')
    const topic = await tight.run('check', 'topic', 'orders')
    expect(topic.exit).toBe(1)
    expect(topic.stdout).toContain('warn\tunder_replicated\torders\t1\t0\n')
    expect(topic.stdout).toContain('crit\tunder_min_isr\torders\t1\t0\n')
    const well = world()
    well.broker.nodes.place('orders', 0, [1, 2], { inSync: [1] })
    expect((await well.run('check', 'cluster')).stdout).toContain('ok\tunder_min_isr\tCCCC\t0\t0\n')
  })

  it('on a terminal one screen, which names what is missing', async () => {
    const w = world()
    w.terminals = ['output']
    w.environment['NO_COLOR'] = '1'
    w.broker.nodes.add(3, { state: 'fenced' })
    const { stdout } = await w.run('cluster', 'status')
    expect(stdout).toContain('2 of 3')
    expect(stdout).toContain('broker 3 is fenced')
  })
})

describe('cluster brokers', () => {
  it('leads, replicas and bytes of each; what is only in replica lists is gone', async () => {
    const w = world()
    w.broker.nodes.add(2, { rack: 'b' })
    w.broker.nodes.place('users', 0, [2, 9], { inSync: [2] })
    expect(lines(await w.run('cluster', 'brokers'))).toEqual([
      '1\tkafka://broker1:9092\t-\tlive\t1\t2\t200',
      '2\tkafka://broker2:9092\tb\tlive\t2\t3\t300',
      '3\tkafka://broker3:9092\t-\tlive\t1\t2\t200',
      '9\t-\t-\tgone\t0\t1\t-',
    ])
  })
})

describe('a daemon without its metadata store', () => {
  const trouble = 'no endpoint of etcd is reached: http://127.0.0.1:1: connection refused'
  const without = (storeState: 'ANSWERS' | 'READ_ONLY' | 'SILENT' | 'LOST'): World => {
    const w = world()
    w.broker.nodes.place('users', 0, [2, 1])
    const isAnswered = storeState === 'ANSWERS'
    w.broker.store = {
      storeState,
      storeSilentMs: 23_400,
      storeTrouble: isAnswered ? null : trouble,
    }
    if (storeState === 'LOST') w.broker.nodes.controllerId = -1
    return w
  }

  it('session over: status is 1 and says so, names no controller', async () => {
    const result = await without('LOST').run('cluster', 'status')
    expect(result.exit).toBe(1)
    expect(result.stdout).toMatch(/^CCCC\t-\t/)
    expect(result.stderr).toContain(
      `the metadata store is silent for 23s: ${trouble}; what is shown may be old`,
    )
    const w = without('LOST')
    w.terminals = ['output']
    w.environment['NO_COLOR'] = '1'
    expect((await w.run('cluster', 'status')).stdout).toMatch(/store +lost +silent for 23s/)
  })

  it('no controller: status is 1 where the broker tells nothing of a store either', async () => {
    const w = world()
    w.broker.nodes.controllerId = -1
    const result = await w.run('cluster', 'status')
    expect(result.stdout).toMatch(/^CCCC\t-\t/)
    expect(result.exit).toBe(1)
  })

  it('session over: check cluster is critical with a line, and so is a plugin', async () => {
    const result = await without('LOST').run('check', 'cluster')
    expect(result.exit).toBe(1)
    expect(result.stdout).toContain(`crit\tstore\tCCCC\tsilent for 23s: ${trouble}\t-\n`)
    const plugin = await without('LOST').run('check', 'cluster', '--nagios')
    expect(plugin.exit).toBe(2)
    expect(plugin.stdout).toContain('store of CCCC is silent for 23s: no endpoint of etcd')
    const text = (await without('LOST').run('check', 'cluster', '--prometheus')).stdout
    expect(text).toContain('stream_check_state{check="store",target="CCCC"} 2\n')
  })

  it('a broker whose disk is full is named by check cluster, and by a plugin', async () => {
    const full = (): World => {
      const w = world()
      w.broker.nodes.introductions.set(1, { version: '1', aheadMs: 0, state: 'DISK_FULL' })
      return w
    }
    const result = await full().run('check', 'cluster')
    expect(result.exit).toBe(1)
    expect(result.stdout).toContain('crit\tstate\tbroker 1\tDISK_FULL\tRUNNING\n')
    const plugin = await full().run('check', 'cluster', '--nagios')
    expect(plugin.exit).toBe(2)
    expect(plugin.stdout).toContain('state of broker 1 is DISK_FULL (limit RUNNING)')
  })

  it('session over: the doctor names the store, not the missing controller', async () => {
    const { exit, stdout } = await without('LOST').run('cluster', 'doctor')
    expect(exit).toBe(1)
    expect(lines({ stdout } as RunResult).map((line) => line.split('\t')[1])).toEqual(['store'])
  })

  it('a store that takes no writes is a warning everywhere, with its own cure', async () => {
    const status = await without('READ_ONLY').run('cluster', 'status')
    expect(status.exit).toBe(0)
    const words = `the metadata store is read-only: ${trouble}; no topic can be made, no lead can move`
    expect(status.stderr).toContain(words)
    const check = await without('READ_ONLY').run('check', 'cluster', '--nagios')
    expect(check.exit).toBe(1)
    expect(check.stdout).toContain('store of CCCC is read-only: ')
    const doctor = await without('READ_ONLY').run('cluster', 'doctor')
    expect(doctor.stdout).toMatch(/^warn\tstore\tcluster\t.*read-only.*etcdctl alarm disarm/m)
  })

  it('session alive: a silent store is a warning, one that answers is well', async () => {
    const silent = without('SILENT')
    const status = await silent.run('cluster', 'status')
    expect(status.exit).toBe(0)
    expect(status.stderr).toContain('what is shown may be late')
    expect((await without('SILENT').run('check', 'cluster')).stdout).toContain('warn\tstore\tCCCC')
    expect((await without('SILENT').run('cluster', 'doctor')).stdout).toContain('warn\tstore')
    expect(await without('ANSWERS').run('check', 'cluster')).toMatchObject({ exit: 0, stderr: '' })
    expect(await without('ANSWERS').run('cluster', 'doctor')).toMatchObject({ exit: 0, stdout: '' })
  })

  it('brokers that do not answer are not called live', async () => {
    const w = without('LOST')
    w.broker.nodes.add(3, { isReachable: false })
    const result = await w.run('cluster', 'brokers')
    const states = lines(result).map((line) => line.split('\t')[3])
    expect(states).toEqual(['live', 'live', 'silent'])
    expect(result.stderr).toContain('BYTES unknown: broker 3 does not answer')
    expect(result.stderr).toContain('what is shown may be old')
  })
})

describe('cluster elect', () => {
  it('touches only what another than the preferred replica leads', async () => {
    const w = world()
    w.broker.nodes.place('orders', 0, [1, 2], { leaderId: 2 })
    const dry = await w.run('cluster', 'elect', '--dry-run')
    expect(lines(dry)).toEqual(['orders\t0\t2\t1'])
    expect(w.broker.nodes.orders).toEqual([])
    w.output.chunks.length = 0
    const result = await w.run('cluster', 'elect')
    expect(result).toMatchObject({ exit: 0, stdout: 'orders\t0\t2\t1\n' })
    expect(w.broker.nodes.orders).toEqual(['elect preferred orders/0'])
  })

  it('each failure is a line; the others are elected', async () => {
    const w = world()
    w.broker.nodes.place('orders', 0, [1, 2], { leaderId: 2, inSync: [2] })
    w.broker.nodes.place('orders', 2, [3, 1], { leaderId: 1 })
    const result = await w.run('cluster', 'elect', '--topics', 'orders')
    expect(result.exit).toBe(1)
    expect(result.stdout).toBe('orders\t2\t1\t3\n')
    expect(result.stderr).toContain('orders partition 0: the preferred replica is not in sync')
    expect(result.stderr).toContain('PREFERRED_LEADER_NOT_AVAILABLE')
  })

  it('--unclean asks, and without a terminal is refused', async () => {
    const w = world()
    w.broker.nodes.place('orders', 0, [1, 2], { leaderId: -1, inSync: [] })
    const refused = await w.run('cluster', 'elect', '--unclean')
    expect(refused.exit).toBe(2)
    expect(w.broker.nodes.orders).toEqual([])
    const agreed = await w.run('cluster', 'elect', '--unclean', '-y')
    expect(agreed).toMatchObject({ exit: 0, stdout: 'orders\t0\t-\t1\n' })
  })

  it('an unknown topic is 3, with the nearest name', async () => {
    const result = await world().run('cluster', 'elect', '--topics', 'order')
    expect(result.exit).toBe(3)
    expect(result.stderr).toContain('did you mean orders?')
  })
})

describe('cluster reassign', () => {
  it('--dry-run prints the plan with its bytes and changes nothing', async () => {
    const w = world()
    const result = await w.run(
      'cluster',
      'reassign',
      '--topics',
      'users',
      '--replicas',
      '3',
      '--dry-run',
    )
    expect(result).toMatchObject({ exit: 0, stdout: 'users\t0\t2\t2,1,3\t200\n' })
    expect(w.broker.nodes.orders).toEqual([])
  })

  it('is refused without a terminal and -y; asks on one, with the plan', async () => {
    const w = world()
    const words = ['cluster', 'reassign', '--topics', 'users', '--brokers', '1']
    expect((await w.run(...words)).exit).toBe(2)
    w.terminals = ['input', 'error']
    w.input = ['y\n']
    const asked = await w.run(...words)
    expect(asked.exit).toBe(0)
    expect(asked.stderr).toContain('move: 1 partitions, 100 B to copy?')
    expect(w.broker.nodes.orders).toEqual(['users/0 1'])
  })

  it('no is nothing, exit 1', async () => {
    const w = world()
    w.terminals = ['input', 'error']
    w.input = ['\n']
    const result = await w.run('cluster', 'reassign', '--topics', 'users', '--brokers', '1')
    expect(result.exit).toBe(1)
    expect(result.stderr).toContain('nothing moved')
    expect(w.broker.nodes.orders).toEqual([])
  })

  it('what does not fit is 8: brokers, disk, a broker that does not live', async () => {
    const few = await world().run('cluster', 'reassign', '--topics', '*', '--replicas', '4', '-y')
    expect(few.exit).toBe(8)
    expect(few.stderr).toContain('4 replicas do not fit on 3 brokers')
    const full = world()
    full.broker.nodes.add(3, { usableBytes: 50 })
    const disk = await full.run('cluster', 'reassign', '--topics', 'users', '--brokers', '3', '-y')
    expect(disk.exit).toBe(8)
    expect(disk.stderr).toContain('broker 3: 100 B do not fit into 50 B')
    const down = world()
    down.broker.nodes.add(3, { state: 'fenced' })
    const dead = await down.run('cluster', 'reassign', '--topics', '*', '--brokers', '1,3', '-y')
    expect(dead.exit).toBe(8)
    expect(dead.stderr).toContain('broker 3 is not alive')
    const unknown = await world().run('cluster', 'reassign', '--topics', '*', '--brokers', '1,7')
    expect(unknown.exit).toBe(3)
    expect(unknown.stderr).toContain('broker 7: no such broker; there are 1, 2, 3')
  })

  it('a move under way is 8; --cancel goes back from it', async () => {
    const w = world()
    w.broker.nodes.holdsMoves = true
    expect(
      (await w.run('cluster', 'reassign', '--topics', 'users', '--brokers', '1', '-y')).exit,
    ).toBe(0)
    const again = await w.run('cluster', 'reassign', '--topics', 'users', '--brokers', '3', '-y')
    expect(again.exit).toBe(8)
    expect(again.stderr).toContain('REASSIGNMENT_IN_PROGRESS')
    w.output.chunks.length = 0
    const back = await w.run('cluster', 'reassign', '--topics', 'users', '--cancel', '-y')
    expect(back).toMatchObject({ exit: 0, stdout: 'users\t0\t1,2\t2\t0\n' })
    expect(w.broker.nodes.placeOf('users', 0).replicas).toEqual([2])
  })

  it('--wait returns when all is moved, and lifts the limit of --rate', async () => {
    const w = world()
    const { nodes, topics } = w.broker
    nodes.holdsMoves = true
    w.time.setTimer(3000, () => {
      expect(nodes.configsOf('1')?.get('leader.replication.throttled.rate')).toBe('1048576')
      expect(topics.get('users')?.configs.get('follower.replication.throttled.replicas')).toBe(
        '0:1,0:3',
      )
      nodes.finishMoves()
    })
    const words = ['--topics', 'users', '--replicas', '3', '--rate', '1MiB/s', '--wait', '-y']
    expect((await w.run('cluster', 'reassign', ...words)).exit).toBe(0)
    expect(nodes.placeOf('users', 0).replicas).toEqual([2, 1, 3])
    expect(nodes.configsOf('1')?.size).toBe(0)
    expect(topics.get('users')?.configs.size).toBe(0)
  })

  it('--timeout with --wait is 7, and the moves go on', async () => {
    const w = world()
    w.broker.nodes.holdsMoves = true
    const words = ['--topics', 'users', '--brokers', '1', '--wait', '-y', '--timeout', '5s']
    expect((await w.run('cluster', 'reassign', ...words)).exit).toBe(7)
    expect(w.broker.nodes.moves.size).toBe(1)
  })

  it('a move that somebody stopped is 8', async () => {
    const w = world()
    const { nodes } = w.broker
    nodes.holdsMoves = true
    w.time.setTimer(3000, () => {
      nodes.moves.clear()
      nodes.placeOf('users', 0).replicas = [2]
    })
    const words = ['--topics', 'users', '--brokers', '1', '--wait', '-y']
    const result = await w.run('cluster', 'reassign', ...words)
    expect(result.exit).toBe(8)
    expect(result.stderr).toContain('users partition 0: the move was stopped or changed')
  })

  it('--export writes what --from-file takes, and a slip in it is told by its place', async () => {
    const w = world()
    const file = (text: string) => {
      w.files.set('f', Buffer.from(text))
      return w.run('cluster', 'reassign', '--from-file', 'f', '-y')
    }
    expect((await w.run('cluster', 'reassign', '--topics', 'orders', '--export', 'out')).exit).toBe(
      0,
    )
    const text = w.fileText('out')
    expect(JSON.parse(text).partitions[1]).toEqual({
      topic: 'orders',
      partition: 1,
      replicas: [2, 3],
    })
    expect((await file(text)).exit).toBe(0)
    expect(w.broker.nodes.orders).toEqual([])
    for (const [bad, words] of [
      ['{', 'f: not JSON'],
      ['{"version":2}', 'f: "version" must be 1'],
      ['{"version":1,"partitions":[{"topic":"orders"}]}', 'f: partitions[0]: "partition" must be'],
      [
        '{"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[1,1]}]}',
        'a broker stands in it twice',
      ],
      [
        '{"version":1,"partitions":[{"topic":"nope","partition":0,"replicas":[1]}]}',
        'f: nope has no partition 0 here',
      ],
      [
        '{"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[8]}]}',
        'broker 8: no such broker',
      ],
    ] as const) {
      const result = await file(bad)
      expect(result.exit).not.toBe(0)
      expect(result.stderr).toContain(words)
    }
    expect(w.broker.nodes.orders).toEqual([])
  })

  it('says what goes with what', async () => {
    const words = async (...flags: string[]) =>
      (await world().run('cluster', 'reassign', ...flags)).stderr
    expect(await words('--brokers', '1')).toContain('give --topics GLOB or --from-file FILE')
    expect(await words('--topics', 'x', '--cancel', '--replicas', '2')).toContain(
      'cannot be used together',
    )
    expect(await words('--topics', 'x', '--rate', '5/s')).toContain('must be bytes')
    expect(await words('--topics', 'x', '--brokers', 'a')).toContain('must be broker ids')
  })
})

describe('cluster drain', () => {
  it('--leaders-only changes the order and elects; nothing is copied', async () => {
    const w = world()
    const result = await w.run('cluster', 'drain', '3', '--leaders-only', '-y', '--wait')
    expect(result).toMatchObject({ exit: 0, stdout: 'orders\t2\t3,1\t1,3\t0\n' })
    expect(w.broker.nodes.orders).toEqual(['orders/2 1,3', 'elect preferred orders/2'])
    expect(w.broker.nodes.placeOf('orders', 2).leaderId).toBe(1)
  })

  it('--leaders-only tells what nobody else could lead, and does the rest', async () => {
    const w = world()
    const result = await w.run('cluster', 'drain', '2', '--leaders-only', '-y')
    expect(result.exit).toBe(8)
    expect(result.stdout).toBe('orders\t1\t2,3\t3,2\t0\n')
    expect(result.stderr).toContain('users: partition 0: no other replica in sync could lead')
  })

  it('takes all replicas off, the lead at once', async () => {
    const w = world()
    w.broker.nodes.holdsMoves = true
    w.time.setTimer(2000, () => w.broker.nodes.finishMoves())
    const result = await w.run('cluster', 'drain', '2', '-y', '--wait')
    expect(result.exit).toBe(0)
    expect(lines(result)).toEqual([
      'orders\t0\t1,2\t1,3\t100',
      'orders\t1\t2,3\t3,1\t100',
      'users\t0\t2\t3\t100',
    ])
    expect(w.broker.nodes.orders).toContain('elect preferred orders/1')
    expect(w.broker.nodes.orders).not.toContain('elect preferred users/0')
    expect([...w.broker.nodes.replicas.values()].flatMap((row) => row.replicas)).not.toContain(2)
  })

  it('--wait does not wait for a lead that was refused', async () => {
    const w = world()
    w.broker.nodes.place('orders', 2, [1, 3], { leaderId: 3, inSync: [3] })
    const result = await w.run('cluster', 'drain', '3', '--leaders-only', '-y', '--wait')
    expect(result.exit).toBe(1)
    expect(result.stderr).toContain('orders partition 2: the preferred replica is not in sync')
    expect(w.broker.nodes.placeOf('orders', 2).leaderId).toBe(3)
  })

  it('goes on where the way back cannot be noted, and says so', async () => {
    const w = world()
    w.broker.addTopic('__stream_state')
    w.broker.unanswered.add('__stream_state/0')
    const result = await w.run('cluster', 'drain', '2', '-y', '--wait')
    expect(result.exit).toBe(0)
    expect(result.stderr).toContain('--undo will not know what this drain moves')
    expect([...w.broker.nodes.replicas.values()].flatMap((row) => row.replicas)).not.toContain(2)
  })

  it('--undo puts back what was moved, once', async () => {
    const w = world()
    const placed = () => {
      const { nodes } = w.broker
      return ['orders/0', 'orders/1', 'orders/2', 'users/0'].map((name) =>
        nodes.replicas.get(name)?.replicas.join(),
      )
    }
    const first = placed()
    expect((await w.run('cluster', 'drain', '2', '--leaders-only', '-y')).exit).toBe(8)
    expect((await w.run('cluster', 'drain', '2', '-y')).exit).toBe(0)
    expect(placed()).not.toEqual(first)
    const drained = placed()
    w.broker.nodes.introductions.set(2, { version: '1', aheadMs: 0, state: 'DISK_FULL' })
    const refused = await w.run('cluster', 'drain', '2', '--undo', '-y')
    expect(refused.exit).toBe(8)
    expect(refused.stderr).toContain('broker 2: its disk is still full')
    expect(placed()).toEqual(drained)
    w.broker.nodes.introductions.delete(2)
    expect((await w.run('cluster', 'drain', '2', '--undo', '-y')).exit).toBe(0)
    expect(placed()).toEqual(first)
    const again = await w.run('cluster', 'drain', '2', '--undo', '-y')
    expect(again.exit).toBe(3)
    expect(again.stderr).toContain('broker 2: nothing was moved off it')
  })

  it('too few other brokers: 8, nothing changed; unknown: 3; no answer to ask: 2', async () => {
    const w = world()
    w.broker.nodes.place('orders', 0, [1, 2, 3])
    const full = await w.run('cluster', 'drain', '3', '-y')
    expect(full.exit).toBe(8)
    expect(full.stderr).toContain('orders: 3 replicas do not fit on the 2 other brokers that live')
    expect((await w.run('cluster', 'drain', '9', '-y')).exit).toBe(3)
    expect((await w.run('cluster', 'drain', '1', '--leaders-only')).exit).toBe(2)
    expect((await w.run('cluster', 'drain')).exit).toBe(2)
    expect((await w.run('cluster', 'drain', 'x')).exit).toBe(2)
    expect(w.broker.nodes.orders).toEqual([])
  })
})

describe('cluster forget', () => {
  it('takes out what is down and empty, after asking', async () => {
    const w = world()
    w.broker.nodes.add(4, { state: 'fenced', rack: 'b' })
    const refused = await w.run('cluster', 'forget', '4')
    expect(refused.exit).toBe(2)
    expect(refused.stderr).toContain('nobody can be asked here')
    const dry = await w.run('cluster', 'forget', '4', '--dry-run')
    expect(dry).toMatchObject({ exit: 0, stdout: '4\tkafka://broker4:9092\tb\n' })
    expect(w.broker.nodes.orders).toEqual([])
    w.output.chunks.length = 0
    const done = await w.run('cluster', 'forget', '4', '4', '-y')
    expect(done).toMatchObject({ exit: 0, stdout: '4\tkafka://broker4:9092\tb\n' })
    expect(w.broker.nodes.orders).toEqual(['forget 4'])
    expect(w.broker.nodes.all.has(4)).toBe(false)
  })

  it('holds replicas, lives: 8; unknown: 3; no id: 2; nothing is changed', async () => {
    const w = world()
    w.broker.nodes.add(3, { state: 'fenced' })
    const held = await w.run('cluster', 'forget', '3', '-y')
    expect(held.exit).toBe(8)
    expect(held.stderr).toContain('broker 3 holds 2 replicas')
    expect(held.stderr).toContain('stream cluster drain 3')
    w.broker.nodes.add(4)
    const alive = await w.run('cluster', 'forget', '4', '-y')
    expect(alive.exit).toBe(8)
    expect(alive.stderr).toContain('broker 4 is alive')
    expect((await w.run('cluster', 'forget', '9', '-y')).exit).toBe(3)
    expect((await w.run('cluster', 'forget')).exit).toBe(2)
    expect((await w.run('cluster', 'forget', 'x')).exit).toBe(2)
    expect(w.broker.nodes.orders).toEqual([])
  })
})

describe('cluster doctor', () => {
  const found = async (change: (w: World) => void): Promise<string> => {
    const w = world()
    w.broker.nodes.place('users', 0, [2, 1])
    change(w)
    const { stdout, exit } = await w.run('cluster', 'doctor')
    return `${exit}\n${stdout}`
  }

  it('says nothing where nothing is wrong', async () => {
    expect(await found(() => undefined)).toBe('0\n')
  })

  it('brokers: down, not reachable at what they advertise', async () => {
    const text = await found((w) => {
      w.broker.nodes.add(2, { state: 'fenced' })
      w.broker.nodes.add(3, { isReachable: false })
      w.broker.nodes.place('orders', 1, [2, 3], { leaderId: -1, inSync: [2] })
    })
    expect(text).toMatch(/^1\n/)
    expect(text).toContain('crit\tbroker\tbroker 2\tdown, or still starting, and has 3 replicas\t')
    expect(text).toContain('kafka://broker3:9092 does not answer from here')
    expect(text).toContain('nobody leads partition 1\tstart broker 2; if it is lost for good')
  })

  it('a leader that does not answer is a finding, and the others are told as well', async () => {
    const text = await found((w) => {
      w.broker.nodes.add(3, { isReachable: false })
      w.broker.unanswered.add('orders/0')
    })
    expect(text).toMatch(/^1\n/)
    expect(text).toContain(
      'does not answer from here; it leads 1 partition\tstart it if it is down',
    )
    expect(text).toContain('crit\tleader\tbroker 1\t1 partition of orders: does not answer')
  })

  it('replicas: behind, too few for acks=all, tight, single', async () => {
    const text = await found((w) => {
      w.broker.topics.get('orders')?.configs.set('min.insync.replicas', '2')
      w.broker.nodes.place('orders', 0, [1, 2], { inSync: [1] })
      w.broker.nodes.place('users', 0, [2])
    })
    expect(text).toContain('crit\tmin_isr\torders\tpartition 0 refuses records with acks=all')
    expect(text).toContain('lacks broker 2 in sync, 7 records behind, and nothing comes in there')
    expect(text).toContain('has lost records: start it anew with --restored')
    expect(text).toContain('it takes no records while any broker restarts')
    expect(text).toContain('1 topics with one replica')
  })

  it('only brokers that are down are to be started, not those that are being copied to', async () => {
    const text = await found((w) => {
      w.broker.nodes.add(2, { state: 'fenced' })
      w.broker.nodes.place('orders', 0, [1, 2, 3], { inSync: [1] })
    })
    expect(text).toMatch(/partition 0 lacks broker 2, 3 in sync[^\t]*\tstart broker 2\n/)
  })

  it('a full disk whose broker leads what others could: the cure lets them', async () => {
    const text = await found((w) => {
      w.broker.nodes.add(1, { usableBytes: 20 })
      w.broker.nodes.add(2, { usableBytes: 20 })
      w.broker.nodes.add(3, { usableBytes: 100 })
      w.broker.nodes.place('users', 0, [1, 2, 3])
      w.broker.nodes.place('users', 1, [3, 1, 2])
      for (const partition of [0, 1, 2]) w.broker.nodes.place('orders', partition, [2])
    })
    expect(text).toMatch(
      /disk\tbroker 1\t.*; until then .*: stream cluster drain 1 --leaders-only\n/,
    )
    expect(text).toMatch(/disk\tbroker 2\t.*or add disk or brokers\n/)
    expect(text).toMatch(/disk\tbroker 3\t.*or add disk or brokers\n/)
  })

  it('disks, clocks, versions', async () => {
    const text = await found((w) => {
      w.broker.nodes.add(1, { usableBytes: 20 })
      w.broker.nodes.add(2, { usableBytes: 100, signature: 'b' })
      w.broker.add('users', 0, { value: 'x', timestampMs: w.time.wallMs() + 600_000 })
    })
    expect(text).toContain('crit\tdisk\tbroker 1\t20 B of 1000 B left at /data')
    expect(text).toContain('warn\tdisk\tbroker 2')
    expect(text).toContain('warn\tclock\tusers\tits newest record is stamped 600 s in the future')
    expect(text).toContain('warn\tversion\tbrokers')
  })

  it('a clock that is wrong, whatever the stamps of the records', async () => {
    const text = await found((w) => {
      w.broker.nodes.add(2)
      w.broker.nodes.introductions.set(1, { version: '1', aheadMs: -7_200_000 })
      w.broker.nodes.introductions.set(2, { version: '1', aheadMs: 7_200_000 })
      w.broker.nodes.introductions.set(3, { version: '1', aheadMs: 900 })
      w.broker.nodes.introductions.set(4, { version: '1', aheadMs: undefined })
    })
    expect(text).toContain(
      '1\nwarn\tclock\tbroker 1\tits clock is 7200 s behind that of this machine',
    )
    expect(text).toContain(
      'warn\tclock\tbroker 2\tits clock is 7200 s ahead of that of this machine',
    )
    expect(text).not.toMatch(/broker [34]\t/)
  })

  it('a note alone does not count', async () => {
    const text = await found((w) => {
      w.broker.nodes.place('orders', 0, [1, 2], { leaderId: 2 })
    })
    expect(text).toBe(
      '0\nnote\tpreferred\tpartitions\t1 of 4 are led by another than their preferred replica\tstream cluster elect\n',
    )
  })
})
