import { describe, expect, it } from 'vitest'
import { World } from './fake-world.ts'

async function complete(prepare: (w: World) => void, ...words: string[]): Promise<string[]> {
  const w = new World()
  w.broker.addTopic('orders')
  w.broker.addTopic('old')
  w.broker.addTopic('users')
  w.broker.addTopic('__state')
  prepare(w)
  const { exit, stdout, stderr } = await w.run('completion', 'words', '--', ...words)
  expect(exit).toBe(0)
  expect(stderr).toBe('')
  expect(w.launches).toEqual([])
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split('\t')[0] ?? '')
}

const words = (...line: string[]): Promise<string[]> => complete(() => undefined, ...line)

describe('completion', () => {
  it('commands and verbs', async () => {
    expect(await words('')).toEqual(expect.arrayContaining(['produce', 'topics', 'help']))
    expect(await words('to')).toEqual(['topics', 'top'])
    expect(await words('topics', 'de')).toEqual(['describe', 'delete'])
    expect(await words('-v', '-b', 'ipc:///x', 'topics', 'cr')).toEqual(['create'])
    expect(await words('nope', '')).toEqual([])
  })

  it('flags from the tables, those given left out unless they repeat', async () => {
    expect(await words('topics', 'create', '--if')).toEqual(['--if-not-exists'])
    expect(await words('topics', 'create', 'x', '--compact', '--comp')).toEqual([])
    expect(await words('topics', 'create', '--set', 'a=1', '--se')).toEqual(['--set'])
    expect(await words('topics', 'list', '--', '--o')).toEqual([])
  })

  it('values of flags: choices, keys, files', async () => {
    expect(await words('topics', 'list', '-o', 't')).toEqual(['table', 'tsv'])
    expect(await words('topics', 'list', '--output=js')).toEqual(['--output=json'])
    expect(await words('topics', 'create', 'x', '--set', 'retention.')).toEqual([
      'retention.ms=',
      'retention.bytes=',
    ])
    expect(await words('produce', 't', '-X', 'linger')).toEqual(['linger.ms='])
    expect(await words('topics', 'list', '--config-file', '')).toEqual([':files'])
    expect(await words('topics', 'apply', '')).toEqual([':files'])
    expect(await words('config', 'get', 'batch')).toEqual(['batch.size'])
    expect(await words('config', 'set', 'acks', '')).toEqual(['all', '-1', '1', '0'])
    expect(await words('completion', '')).toEqual(['bash', 'zsh', 'fish'])
    expect(await words('help', 'pos')).toEqual(['positions'])
    expect(await words('explain', 'REBAL')).toEqual(['REBALANCE_IN_PROGRESS'])
  })

  it('topics and contexts live', async () => {
    expect(await words('consume', 'o')).toEqual(['old', 'orders'])
    expect(await words('topics', 'delete', 'users', 'o')).toEqual(['old', 'orders'])
    expect(await words('topics', 'create', 'o')).toEqual([])
    expect(await words('cluster', 'reassign', '--topics', 'o')).toEqual(['old', 'orders'])
    const withBrokers = (w: World) => w.broker.nodes.add(12)
    expect(await complete(withBrokers, 'cluster', 'drain', '')).toEqual(['1', '12'])
    expect(await complete(withBrokers, 'cluster', 'reassign', '--brokers', '')).toEqual(['1', '12'])
    const withContexts = (w: World) => {
      w.files.set(
        '/config/stream/contexts.json',
        Buffer.from('{"contexts":{"east":{"broker":"kafka://e"},"west":{"broker":"tcp://w:1"}}}'),
      )
    }
    expect(await complete(withContexts, 'context', 'use', '')).toEqual(['east', 'west'])
    expect(await complete(withContexts, 'cat', '--context', 'w')).toEqual(['west'])
  })

  it('says nothing where nobody answers, or too late, or the user’s files are wrong', async () => {
    expect(
      await complete(
        (w) => {
          w.sockets = []
        },
        'cat',
        '',
      ),
    ).toEqual([])
    expect(
      await complete(
        (w) => {
          w.broker.isReachable = false
        },
        'cat',
        '',
      ),
    ).toEqual([])
    expect(
      await complete(
        (w) => {
          w.clients.cluster = () => new Promise(() => undefined)
        },
        'cat',
        '',
      ),
    ).toEqual([])
    expect(
      await complete(
        (w) => {
          w.files.set('/config/stream/stream.conf', Buffer.from('nonsense'))
        },
        'cat',
        '',
      ),
    ).toEqual([])
  })

  it('prints a script for each shell, and knows no others', async () => {
    for (const shell of ['bash', 'zsh', 'fish']) {
      expect((await new World().run('completion', shell)).stdout).toContain('completion words --')
    }
    expect((await new World().run('completion', 'bas')).stderr).toContain('did you mean bash?')
    expect((await new World().run('completion')).exit).toBe(2)
  })
})
