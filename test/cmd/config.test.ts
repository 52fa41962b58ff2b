import { describe, expect, it } from 'vitest'
import { StreamError } from '../../src/base/errors.ts'
import { World } from './fake-world.ts'

const USER_FILE = '/config/stream/stream.conf'
const CONTEXTS = '/config/stream/contexts.json'

function world(files: Record<string, string> = {}): World {
  const made = new World()
  for (const [path, text] of Object.entries(files)) made.files.set(path, Buffer.from(text))
  return made
}

const text = (w: World, path: string): string =>
  Buffer.from(w.files.get(path) ?? new Uint8Array()).toString()

async function run(w: World, ...words: string[]) {
  w.output.chunks.length = 0
  return w.run(...words)
}

const rows = (stdout: string): string[][] =>
  stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split('\t'))

describe('config list', () => {
  it('every client key with the place that counts', async () => {
    const w = world({ [USER_FILE]: 'linger.ms = 9\nacks=1\n', './.stream.conf': 'acks = all\n' })
    w.environment['STREAM_CONF_BATCH_SIZE'] = '2048'
    const { stdout, exit } = await run(w, 'config', 'list', '-X', 'client.id=me')
    expect(exit).toBe(0)
    const found = new Map(rows(stdout).map(([key, ...rest]) => [key, rest]))
    expect(found.get('linger.ms')).toEqual(['9', `${USER_FILE}:1`])
    expect(found.get('acks')).toEqual(['all', './.stream.conf:1'])
    expect(found.get('batch.size')).toEqual(['2048', 'STREAM_CONF_BATCH_SIZE'])
    expect(found.get('client.id')).toEqual(['me', '-X'])
    expect(found.get('fetch.min.bytes')).toEqual(['1', 'default'])
    expect(found.get('broker')).toEqual(['ipc:///run/me/stream/daemon.sock', 'default'])
  })

  it('--origin has a row for each place, the one that counts first; a glob chooses keys', async () => {
    const w = world({ [USER_FILE]: 'linger.ms = 9\n', './.stream.conf': 'linger.ms = 8\n' })
    expect(rows((await run(w, 'config', 'list', 'linger*', '--origin')).stdout)).toEqual([
      ['linger.ms', '8', './.stream.conf:1'],
      ['linger.ms', '9', `${USER_FILE}:1`],
      ['linger.ms', '5', 'default'],
    ])
    expect((await run(w, 'config', 'list', 'nope*')).stdout).toBe('')
    expect((await run(w, 'config', 'list', 'nope*', '--fail-empty')).exit).toBe(3)
  })

  it('keys of the daemon are listed when they are set', async () => {
    const w = world({ [USER_FILE]: 'num.partitions = 3\n' })
    w.environment['STREAM_CONF_LOG_CLEANER_THREADS'] = '2'
    const { stdout } = await run(w, 'config', 'list')
    expect(stdout).toContain(`num.partitions\t3\t${USER_FILE}:1\n`)
    expect(stdout).toContain('log.cleaner.threads\t2\tSTREAM_CONF_LOG_CLEANER_THREADS\n')
    expect(stdout).not.toContain('max.connections')
  })

  it('a context’s settings and secrets, the secrets as ***', async () => {
    const w = world({
      [CONTEXTS]: JSON.stringify({
        v: 1,
        current: 'east',
        contexts: {
          east: {
            broker: 'kafka://east',
            options: { 'sasl.username': 'etl' },
            secrets: { 'sasl.password': { file: '/etc/pw' } },
          },
        },
      }),
      '/etc/pw': 's3cret\n',
    })
    const { stdout } = await run(w, 'config', 'list', '--json')
    const objects = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    const find = (key: string) => objects.find((object) => object.key === key)
    expect(find('sasl.password')).toEqual({
      v: 1,
      kind: 'config',
      key: 'sasl.password',
      value: '***',
      origin: 'context east, file:/etc/pw',
    })
    expect(find('sasl.username').origin).toBe('context east')
    expect(find('broker')).toMatchObject({ value: 'kafka://east:9092', origin: 'context east' })
    expect(find('context')).toMatchObject({ value: 'east', origin: 'contexts.json' })
    expect(stdout).not.toContain('s3cret')
  })
})

describe('a file of contexts that others may write', () => {
  const command = ['touch', '/tmp/run-as-you']
  const east = { broker: 'kafka://east', secrets: { 'sasl.password': { command } } }
  const contexts = JSON.stringify({ v: 1, current: 'east', contexts: { east } })

  it.each(
    [0o620, 0o602, 0o666].flatMap((mode) =>
      ['topics list', 'context list', 'config list'].map((words) => ({ mode, words })),
    ),
  )('is not followed: $words, mode $mode', async ({ mode, words }) => {
    const w = world({ [CONTEXTS]: contexts })
    w.modes.set(CONTEXTS, mode)
    const { stdout, stderr, exit } = await run(w, ...words.split(' '))
    expect([stdout, exit]).toEqual(['', 6])
    expect(stderr).toBe(
      `stream: ${words}: ${CONTEXTS}: others may write it (mode 0${mode.toString(8)}); look through it, then: chmod 600 ${CONTEXTS}\n`,
    )
  })

  it('may be read by all', async () => {
    const w = world({ [CONTEXTS]: contexts })
    w.modes.set(CONTEXTS, 0o644)
    expect((await run(w, 'context', 'list')).exit).toBe(0)
  })
})

describe('config get', () => {
  it('the value alone, or the row; 3 for what is not there', async () => {
    const w = world({ [USER_FILE]: 'linger.ms = 9\nnum.partitions = 4\n' })
    expect((await run(w, 'config', 'get', 'linger.ms')).stdout).toBe('9\n')
    expect((await run(w, 'config', 'get', 'num.partitions')).stdout).toBe('4\n')
    expect((await run(w, 'config', 'get', 'max.connections')).stdout).toBe('10000\n')
    expect(JSON.parse((await run(w, 'config', 'get', 'acks', '--json')).stdout)).toMatchObject({
      key: 'acks',
      value: 'all',
      origin: 'default',
    })
    const unknown = await run(w, 'config', 'get', 'lingr.ms')
    expect(unknown).toMatchObject({ exit: 3, stdout: '' })
    expect(unknown.stderr).toContain('did you mean linger.ms?')
    expect(await run(w, 'config', 'get', 'sasl.username')).toMatchObject({ exit: 3, stdout: '' })
    expect((await run(w, 'config', 'get', 'retention.bytes')).stderr).toContain('topics alter')
    expect((await run(w, 'config', 'get')).exit).toBe(2)
  })
})

describe('config set and unset', () => {
  it('change one line and keep the others', async () => {
    const w = world({ [USER_FILE]: '# mine\nlinger.ms = 9\n\nacks = 1\n' })
    expect(await run(w, 'config', 'set', 'linger.ms', '20')).toMatchObject({ exit: 0, stdout: '' })
    await run(w, 'config', 'set', 'client.id', 'etl')
    expect(text(w, USER_FILE)).toBe('# mine\nlinger.ms = 20\n\nacks = 1\nclient.id = etl\n')
    await run(w, 'config', 'unset', 'acks')
    expect(text(w, USER_FILE)).toBe('# mine\nlinger.ms = 20\n\nclient.id = etl\n')
    expect((await run(w, 'config', 'unset', 'acks')).exit).toBe(0)
  })

  it('--config-file names another file', async () => {
    const w = world()
    await run(w, 'config', 'set', 'acks', '1', '--config-file', '/else/f.conf')
    expect(text(w, '/else/f.conf')).toBe('acks = 1\n')
  })

  it('refuse what the file cannot mean, and write nothing', async () => {
    const w = world()
    expect((await run(w, 'config', 'set', 'linger.ms', 'soon')).exit).toBe(2)
    expect((await run(w, 'config', 'set', 'broker', 'http://x')).exit).toBe(2)
    expect((await run(w, 'config', 'set', 'client.id', 'a #b')).exit).toBe(2)
    expect((await run(w, 'config', 'set', 'context', 'nope')).exit).toBe(3)
    expect((await run(w, 'config', 'set', 'nope.key', '1')).exit).toBe(3)
    expect((await run(w, 'config', 'set', 'acks')).exit).toBe(2)
    expect(w.files.has(USER_FILE)).toBe(false)
  })

  it('a secret is refused and never repeated', async () => {
    const w = world()
    for (const words of [
      ['sasl.password', 's3cret'],
      ['sasl.password', 's3', 's3cret'],
    ]) {
      const result = await run(w, 'config', 'set', ...words)
      expect(result.exit).toBe(2)
      expect(result.stderr).not.toContain('s3')
      expect(result.stderr).toMatch(/^stream: config set: sasl.password is a secret.*context set/)
    }
    expect(w.files.has(USER_FILE)).toBe(false)
  })

  it('says when something stands over what was set', async () => {
    const w = world()
    w.environment['STREAM_CONF_LINGER_MS'] = '1'
    expect((await run(w, 'config', 'set', 'linger.ms', '2')).stderr).toContain('stands over it')
  })

  it('unset takes out even what this version does not know', async () => {
    const w = world({ [USER_FILE]: 'old.key = 1\nacks = 1\n' })
    expect((await run(w, 'config', 'list')).exit).toBe(2)
    expect((await run(w, 'config', 'unset', 'old.key')).exit).toBe(0)
    expect(text(w, USER_FILE)).toBe('acks = 1\n')
    expect((await run(w, 'config', 'unset', 'other.key')).exit).toBe(3)
  })
})

describe('config keys', () => {
  it('the table with limits and scope', async () => {
    const w = world()
    const all = rows((await run(w, 'config', 'keys')).stdout)
    expect(all.find(([key]) => key === 'acks')).toEqual([
      'acks',
      'enum',
      '-',
      'all',
      'all|-1|1|0',
      'how many replicas must have a record before it counts as delivered',
      'client',
    ])
    const topic = rows((await run(w, 'config', 'keys', 'retention.*', '--scope', 'topic')).stdout)
    expect(topic.map(([key]) => key)).toEqual(['retention.ms', 'retention.bytes'])
    expect(topic[0]?.[4]).toBe('>=-1')
    expect(all.some(([key]) => key === 'internal.segment.bytes')).toBe(false)
  })

  it('fits the terminal', async () => {
    const w = world()
    w.terminals = ['output']
    const { stdout } = await run(w, 'config', 'keys', '--color', 'never')
    for (const line of Buffer.from(stdout, 'latin1').toString().split('\n')) {
      expect(line.length).toBeLessThanOrEqual(80)
    }
  })
})

describe('context', () => {
  it('set, use, use -, show, list, delete', async () => {
    const w = world()
    await run(w, 'context', 'set', 'dev', '--broker', 'tcp://dev:7100', '-X', 'linger.ms=0')
    await run(w, 'context', 'set', 'prod', '--broker', 'kafka://k1:9092')
    expect((await run(w, 'context', 'use', 'dev')).exit).toBe(0)
    await run(w, 'context', 'use', 'prod')
    expect((await run(w, 'context', 'list')).stdout).toBe(
      'dev\tfalse\ttcp://dev:7100\nprod\ttrue\tkafka://k1:9092\n',
    )
    await run(w, 'context', 'use', '-')
    expect((await run(w, 'context', 'show')).stdout).toBe(
      'dev\tbroker\ttcp://dev:7100\t-\ndev\tlinger.ms\t0\t-\n',
    )
    await run(w, 'context', 'set', 'dev', '-X', 'acks=1', '--unset', 'linger.ms')
    expect(JSON.parse(text(w, CONTEXTS))).toEqual({
      v: 1,
      current: 'dev',
      previous: 'prod',
      contexts: {
        dev: { broker: 'tcp://dev:7100', options: { acks: '1' }, secrets: {} },
        prod: { broker: 'kafka://k1:9092', options: {}, secrets: {} },
      },
    })
    expect((await run(w, 'topics', 'list')).exit).toBe(0)
    expect(w.clients.addresses).toEqual(['tcp://dev:7100'])
    await run(w, 'context', 'delete', 'dev')
    expect(JSON.parse(text(w, CONTEXTS))).not.toHaveProperty('current')
    expect((await run(w, 'context', 'show')).exit).toBe(3)
  })

  it('what is unknown is 3 with the nearest name; what makes no sense is 2', async () => {
    const w = world()
    await run(w, 'context', 'set', 'east', '--broker', 'kafka://east')
    for (const words of [
      ['use', 'eest'],
      ['show', 'eest'],
      ['delete', 'eest'],
    ]) {
      const result = await run(w, 'context', ...words)
      expect(result).toMatchObject({ exit: 3, stdout: '' })
      expect(result.stderr).toContain('did you mean east?')
    }
    expect((await run(w, 'context', 'use', '-')).exit).toBe(3)
    expect((await run(w, 'context', 'set', 'new')).exit).toBe(2)
    expect((await run(w, 'context', 'set', 'new', '--broker', 'x')).exit).toBe(2)
    expect((await run(w, 'context', 'set', 'new', '--broker', 'kafka://me:pw@h')).exit).toBe(2)
    expect((await run(w, 'context', 'set', 'east', '-X', 'lingr.ms=1')).stderr).toContain(
      'linger.ms',
    )
    expect((await run(w, 'context', 'set', 'east', '--unset', 'acks')).exit).toBe(2)
    expect((await run(w, 'context', 'use')).exit).toBe(2)
  })

  it('a damaged file is one line without its content', async () => {
    const w = world({ [CONTEXTS]: '{"contexts": s3cret' })
    const result = await run(w, 'context', 'list')
    expect(result).toMatchObject({ exit: 2, stdout: '' })
    expect(result.stderr).not.toContain('s3cret')
    const newer = await run(world({ [CONTEXTS]: '{"v":2}' }), 'context', 'list')
    expect(newer).toMatchObject({ exit: 2 })
  })

  it('keeps what it does not know in the file', async () => {
    const w = world({
      [CONTEXTS]: '{"v":1,"later":1,"contexts":{"a":{"broker":"tcp://a:1","note":"x"}}}',
    })
    await run(w, 'context', 'set', 'a', '-X', 'acks=1')
    expect(JSON.parse(text(w, CONTEXTS))).toMatchObject({
      later: 1,
      contexts: { a: { note: 'x', options: { acks: '1' } } },
    })
  })
})

describe('secrets of a context', () => {
  const set = (w: World, source: string) =>
    run(w, 'context', 'set', 'c', '--broker', 'kafka://c', '--secret', `sasl.password=${source}`)

  it('are named, not given; what was given by mistake is not repeated', async () => {
    const w = world()
    const given = await set(w, 's3cret')
    expect(given.exit).toBe(2)
    expect(given.stderr).not.toContain('s3cret')
    const byOption = await run(
      w,
      'context',
      'set',
      'c',
      '--broker',
      'kafka://c',
      '-X',
      'sasl.password=s3cret',
    )
    expect(byOption.exit).toBe(2)
    expect(byOption.stderr).not.toContain('s3cret')
    expect(w.files.has(CONTEXTS)).toBe(false)
    expect(
      (
        await run(
          w,
          'context',
          'set',
          'c',
          '--broker',
          'kafka://c',
          '--secret',
          'sasl.pasword=file:f',
        )
      ).stderr,
    ).toContain('did you mean sasl.password?')
    expect(
      (await run(w, 'context', 'set', 'c', '--broker', 'kafka://c', '--secret', 'acks=file:f'))
        .stderr,
    ).toContain('not a secret')
  })

  it('show prints *** and where they are; --check gets them', async () => {
    const w = world({ '/etc/pw': 's3cret\n' })
    await set(w, 'file:/etc/pw')
    const shown = await run(w, 'context', 'show', 'c', '--check')
    expect(shown).toMatchObject({ exit: 0 })
    expect(shown.stdout).toContain('c\tsasl.password\t***\tfile:/etc/pw\n')
    expect(shown.stdout + shown.stderr).not.toContain('s3cret')
    w.files.delete('/etc/pw')
    const gone = await run(w, 'context', 'show', 'c', '--check')
    expect(gone.exit).toBe(6)
    expect(gone.stderr).toContain('sasl.password: file:/etc/pw: no such file')
    expect((await run(w, 'context', 'show', 'c')).exit).toBe(0)

    await set(w, 'env:MY_PW')
    expect((await run(w, 'context', 'show', 'c', '--check')).stderr).toContain('not set')
    w.environment['MY_PW'] = 's3cret'
    expect((await run(w, 'context', 'show', 'c', '--check')).exit).toBe(0)

    await set(w, 'command:pass show s3cret-name')
    const commands: (readonly string[])[] = []
    w.runProgram = async (words) => {
      commands.push(words)
      return { exit: commands.length === 1 ? 0 : 1, stdout: 'pw\n' }
    }
    const byCommand = await run(w, 'context', 'show', 'c', '--check')
    expect(byCommand.exit).toBe(0)
    expect(commands).toEqual([['sh', '-c', 'pass show s3cret-name']])
    expect(byCommand.stdout).not.toContain('s3cret-name')
    expect((await run(w, 'context', 'show', 'c', '--check')).exit).toBe(6)
  })

  it('a command that hangs or cannot be run is named with its key', async () => {
    const w = world()
    await set(w, 'command:pass show s3cret-name')
    w.runProgram = async (_words, { onSlow }) => {
      onSlow?.()
      throw new StreamError('TIMED_OUT', 'sh: not done')
    }
    const hung = await run(w, 'context', 'show', 'c', '--check')
    expect(hung.exit).toBe(6)
    expect(hung.stderr).toContain(
      'sasl.password: command:pass: it has not ended yet; waiting for it\n',
    )
    expect(hung.stderr).toContain('sasl.password: command:pass: it has not ended within 30 s')
    expect(hung.stderr).not.toContain('s3cret-name')
    w.runProgram = async () => {
      throw new StreamError('RUNTIME_MISSING', 'sh: cannot be run')
    }
    const missing = await run(w, 'context', 'show', 'c', '--check')
    expect(missing.stderr).toContain('sasl.password: command:pass: it cannot be run')
  })

  it('a login that is not all there is refused, naming what is missing', async () => {
    const w = world()
    await set(w, 'file:/etc/pw')
    const refused = await run(w, 'topics', 'list', '--context', 'c')
    expect(refused).toMatchObject({ exit: 2, stdout: '' })
    expect(refused.stderr).toContain('sasl.username is missing')
    expect(w.clients.addresses).toEqual([])
    const curve = await run(w, 'topics', 'list', '-b', 'tcp://x:1', '-X', 'curve.server.key=k')
    expect(curve.stderr).toContain('curve.server.key: not a key of 40 characters in Z85')
  })

  it('where nothing asks for them they do no harm', async () => {
    const w = world()
    await set(w, 'file:/etc/pw')
    await run(w, 'context', 'set', 'c', '--broker', 'ipc:///run/x.sock')
    w.sockets = ['/run/x.sock']
    expect((await run(w, 'topics', 'list', '--context', 'c')).exit).toBe(0)
    const plain = await run(
      w,
      'context',
      'set',
      'c',
      '--broker',
      'kafka://c',
      '-X',
      'security.protocol=PLAINTEXT',
    )
    expect(plain.exit).toBe(0)
    expect((await run(w, 'topics', 'list', '--context', 'c')).exit).toBe(0)
  })
})
