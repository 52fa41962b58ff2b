/** Groups of which a partition has no leader that answers: what is known is told, and nothing is taken for read. */
import { describe, expect, it } from 'vitest'
import type { GroupAdminClient } from '../../cmd/clients.ts'
import { World } from './fake-world.ts'

/** `nightly` has read one of two records of the first partition, and all of the second. */
function world(): World {
  const w = new World()
  w.broker.addTopic('orders', 2)
  w.broker.add('orders', 0, 'a', 'b')
  w.broker.add('orders', 1, 'c')
  const group = { groupId: 'nightly', state: 'Empty', protocolType: 'consumer', members: [] }
  const groups: Partial<GroupAdminClient> = {
    list: async () => [group],
    describe: async () => group,
    offsets: async () => [
      { topic: 'orders', partition: 0, offset: 1, leaderEpoch: -1, metadata: '' },
      { topic: 'orders', partition: 1, offset: 1, leaderEpoch: -1, metadata: '' },
    ],
  }
  w.clients.groupAdmin = async () => groups as GroupAdminClient
  return w
}

function silent(): World {
  const w = world()
  w.broker.unanswered.add('orders/1')
  return w
}

const told = 'broker 1 does not answer: the offsets of 1 partition are unknown: orders'

describe('groups, with a partition whose leader does not answer', () => {
  it('describe: the other rows, a dash for what is unknown, exit 7', async () => {
    const result = await silent().run('groups', 'describe', 'nightly')
    expect(result.stdout.split('\n').map((row) => row.split('\t').slice(0, 6).join(' '))).toEqual([
      'nightly orders 0 1 2 1',
      'nightly orders 1 1 - -',
      '',
    ])
    expect(result.stderr).toContain(told)
    expect(result.exit).toBe(7)
  })

  it('lag and list: no sum of what is only a part', async () => {
    for (const words of [['lag', 'nightly', '--fail-above', '5'], ['list']]) {
      const whole = await world().run('groups', ...words)
      expect(whole).toMatchObject({ exit: 0, stderr: '' })
      expect(whole.stdout).toMatch(/\t1(\t|\n)/)
      const result = await silent().run('groups', ...words)
      expect(result.stdout).toMatch(/^nightly\t.*\t-/)
      expect(result.stdout).not.toMatch(/\t1(\t|\n)/)
      expect(result.stderr).toContain(told)
      expect(result.exit).toBe(7)
    }
  })

  it('lag --wait-until goes on until it is known', async () => {
    const w = silent()
    const run = w.run('groups', 'lag', 'nightly', '--wait-until', '1', '--timeout', '1m')
    w.time.setTimer(5000, () => w.broker.unanswered.clear())
    expect(await run).toMatchObject({ exit: 0, stderr: '' })
    const late = await silent().run('groups', 'lag', 'nightly', '--wait-until=1', '--timeout=2s')
    expect(late.exit).toBe(7)
    expect(late.stderr).toContain(told)
  })

  it('nobody leads: the same, in its words', async () => {
    const w = world()
    w.broker.leaderless.add('orders')
    const result = await w.run('groups', 'lag', 'nightly')
    expect(result.stdout).toBe('nightly\torders\t-\t-\n')
    expect(result.stderr).toContain(
      'nobody leads them: the offsets of 2 partitions are unknown: orders',
    )
    expect(result.exit).toBe(7)
  })

  it('check group: critical, and no lag that is only a part', async () => {
    const result = await silent().run('check', 'group', 'nightly', '--warn', '0')
    expect(result.exit).toBe(1)
    expect(result.stdout).toContain('ok\tlag\tnightly\t-\t-\n')
    expect(result.stdout).toContain('crit\tunavailable\tnightly\t1\t0\n')
    expect(result.stderr).toContain(told)
  })
})
