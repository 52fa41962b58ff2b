import { describe, expect, it } from 'vitest'
import { parseClientKeys, parseClusterKeys } from '../../src/base/curve-keys.ts'
import { World as FakeWorld, type RunResult } from './fake-world.ts'

const publicOf = (letter: string): string => letter.repeat(40)
const pair = (letter: string, secret: string) => ({
  publicKey: publicOf(letter),
  secretKey: publicOf(secret),
})

/** Each run has its own output. */
class World extends FakeWorld {
  #seen = { stdout: 0, stderr: 0 }

  override async run(...words: string[]): Promise<RunResult> {
    const { exit, stdout, stderr } = await super.run(...words)
    const before = this.#seen
    this.#seen = { stdout: stdout.length, stderr: stderr.length }
    return { exit, stdout: stdout.slice(before.stdout), stderr: stderr.slice(before.stderr) }
  }
}

/** In `/here`: `c.key` of a cluster, made by the command. */
async function world(): Promise<World> {
  const made = new World()
  made.keyPairs = [pair('a', '1'), pair('b', '2'), pair('c', '3')]
  expect(await made.run('cluster', 'keys', '--out', 'c.key')).toMatchObject({
    exit: 0,
    stdout: `cluster\t${publicOf('a')}\t/here/c.key\n`,
  })
  return made
}

const textOf = (w: World, path: string): string => Buffer.from(w.files.get(path) ?? []).toString()

describe('cluster keys', () => {
  it('makes the file of a cluster, which is its owner’s alone', async () => {
    const w = await world()
    expect(w.modes.get('/here/c.key')).toBe(0o600)
    expect(parseClusterKeys(textOf(w, '/here/c.key'), 'c.key')).toEqual({
      server: pair('a', '1'),
      clients: [],
    })
    const usual = new World()
    usual.keyPairs = [pair('a', '1')]
    expect((await usual.run('cluster', 'keys')).stdout).toContain('/config/stream/cluster.key')
  })

  it('never overwrites a key file', async () => {
    const w = await world()
    const before = textOf(w, '/here/c.key')
    const again = await w.run('cluster', 'keys', '--out', 'c.key')
    expect(again).toMatchObject({ exit: 8, stdout: '' })
    expect(again.stderr).toContain('keys are never overwritten')
    w.files.set('/here/etl.key', Buffer.from('something of mine'))
    expect((await w.run('cluster', 'keys', 'add', 'etl', '--file', 'c.key')).exit).toBe(8)
    expect(textOf(w, '/here/c.key')).toBe(before)
  })

  it('add makes the file of a client and puts it on the list; list shows no secret', async () => {
    const w = await world()
    const added = await w.run('cluster', 'keys', 'add', 'etl', '--file', 'c.key')
    expect(added).toMatchObject({ exit: 0, stdout: `etl\t${publicOf('b')}\t/here/etl.key\n` })
    expect(w.modes.get('/here/etl.key')).toBe(0o600)
    expect(parseClientKeys(textOf(w, '/here/etl.key'), 'etl.key')).toEqual({
      ...pair('b', '2'),
      serverKey: publicOf('a'),
    })
    const list = await w.run('cluster', 'keys', 'list', '--file', 'c.key', '--json')
    const rows = list.stdout.split('\n').slice(0, -1)
    expect(rows.map((row) => JSON.parse(row))).toEqual([
      { v: 1, kind: 'cluster-key', name: 'cluster', key: publicOf('a'), file: '/here/c.key' },
      { v: 1, kind: 'cluster-key', name: 'etl', key: publicOf('b'), file: null },
    ])
    expect(`${list.stdout}${list.stderr}`).not.toMatch(/1{40}|2{40}/)
    expect((await w.run('cluster', 'keys', 'add', 'etl', '--file', 'c.key')).exit).toBe(8)
  })

  it('revoke takes one client off and leaves all other lines as they are', async () => {
    const w = await world()
    await w.run('cluster', 'keys', 'add', 'etl', '--file', 'c.key')
    await w.run('cluster', 'keys', 'add', 'etl.2', '--file', 'c.key')
    const before = textOf(w, '/here/c.key')
    w.files.set('/here/c.key', Buffer.from(`# mine\n${before}`))
    expect(await w.run('cluster', 'keys', 'revoke', 'etl', '--file', 'c.key')).toMatchObject({
      exit: 0,
      stdout: `etl\t${publicOf('b')}\t-\n`,
    })
    expect(textOf(w, '/here/c.key')).toBe(
      `# mine\n${before.replace(`client.etl = ${publicOf('b')}\n`, '')}`,
    )
    expect(w.modes.get('/here/c.key')).toBe(0o600)
    const unknown = await w.run('cluster', 'keys', 'revoke', 'etl.3', '--file', 'c.key')
    expect(unknown).toMatchObject({ exit: 3, stdout: '' })
    expect(unknown.stderr).toContain('did you mean etl.2?')
  })

  it('a file that others may read is refused, and one that is not there says how to make it', async () => {
    const w = await world()
    w.modes.set('/here/c.key', 0o644)
    const open = await w.run('cluster', 'keys', 'add', 'etl', '--file', 'c.key')
    expect(open).toMatchObject({ exit: 6, stdout: '' })
    expect(open.stderr).toContain('(mode 0644); chmod 600 /here/c.key')
    expect(w.files.has('/here/etl.key')).toBe(false)
    const none = await w.run('cluster', 'keys', 'list')
    expect(none).toMatchObject({ exit: 3, stdout: '' })
    expect(none.stderr).toContain('make the keys of a cluster: stream cluster keys')
  })

  it('what makes no sense is a usage error', async () => {
    const w = await world()
    for (const words of [
      ['lst'],
      ['add'],
      ['revoke'],
      ['list', 'x'],
      ['add', 'a', 'b'],
      ['add', '../x', '--file', 'c.key'],
      ['add', 'cluster', '--file', 'c.key'],
      ['list', '--out', 'x'],
      ['--file', 'c.key'],
    ]) {
      const result = await w.run('cluster', 'keys', ...words)
      expect(result, words.join(' ')).toMatchObject({ exit: 2, stdout: '' })
    }
  })
})

describe('curve.key.file', () => {
  const run = async (w: World, ...words: string[]) => {
    w.broker.addTopic('t')
    return w.run('topics', 'list', '-b', 'tcp://h:7000', ...words)
  }
  const shown = { ...pair('b', '2'), serverKey: publicOf('a') }

  it('is shown to a broker behind tcp://, from a flag, a variable or a context', async () => {
    const w = await world()
    await w.run('cluster', 'keys', 'add', 'etl', '--file', 'c.key')
    expect((await run(w, '-X', 'curve.key.file=etl.key')).exit).toBe(0)
    expect(w.clients.security).toEqual({ curve: shown })
    await w.run('topics', 'list', '-b', 'kafka://h:9092', '-X', 'curve.key.file=etl.key')
    expect(w.clients.security).toBeUndefined()
    w.environment['STREAM_CONF_CURVE_KEY_FILE'] = '/here/etl.key'
    await run(w)
    expect(w.clients.security).toEqual({ curve: shown })
    delete w.environment['STREAM_CONF_CURVE_KEY_FILE']
    expect((await run(w)).exit).toBe(0)
    expect(w.clients.security).toBeUndefined()
    const context = ['context', 'set', 'prod', '-b', 'tcp://h:7000']
    await w.run(...context, '-X', 'curve.key.file=/here/etl.key')
    expect((await w.run('topics', 'list', '--context', 'prod')).exit).toBe(0)
    expect(w.clients.security).toEqual({ curve: shown })
  })

  it('a file that is not there, open to others, or none of its kind is one line', async () => {
    const w = await world()
    expect(await run(w, '-X', 'curve.key.file=none.key')).toMatchObject({ exit: 3, stdout: '' })
    w.modes.set('/here/c.key', 0o604)
    expect(await run(w, '-X', 'curve.key.file=c.key')).toMatchObject({ exit: 6, stdout: '' })
    w.files.set('/here/bad.key', Buffer.from(`curve.server.key = ${publicOf('a')}\nsecret words\n`))
    const bad = await run(w, '-X', 'curve.key.file=bad.key')
    expect(bad).toMatchObject({ exit: 2, stdout: '' })
    expect(bad.stderr).toContain('/here/bad.key:2: not a line of a key file')
    expect(bad.stderr).not.toContain('secret words')
  })

  it('three keys one by one, the secret one from where the context says', async () => {
    const w = await world()
    const keys = [
      '-X',
      `curve.server.key=${publicOf('a')}`,
      '-X',
      `curve.public.key=${publicOf('b')}`,
    ]
    const missing = await run(w, ...keys)
    expect(missing).toMatchObject({ exit: 2 })
    expect(missing.stderr).toContain('curve.secret.key is missing')
    w.environment['CURVE'] = publicOf('2')
    const context = ['context', 'set', 'prod', '-b', 'tcp://h:7000', ...keys]
    await w.run(...context, '--secret', 'curve.secret.key=env:CURVE')
    expect(await w.run('topics', 'list', '--context', 'prod')).toMatchObject({ exit: 0 })
    expect(w.clients.security).toEqual({ curve: shown })
    const both = await w.run('topics', 'list', '--context', 'prod', '-X', 'curve.key.file=c.key')
    expect(both).toMatchObject({ exit: 2 })
    expect(both.stderr).toContain('cannot be used together')
  })
})
