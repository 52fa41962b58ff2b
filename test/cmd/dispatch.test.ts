import { describe, expect, it } from 'vitest'
import { commands } from '../../cmd/commands.ts'
import { parseConfigFile } from '../../cmd/config-layers.ts'
import { lastLinesStart } from '../../cmd/daemon-logs.ts'
import { commonExitCode, joinExitCodes } from '../../cmd/exit-code.ts'
import { allOptions } from '../../cmd/option-table.ts'
import { splitAddress } from '../../cmd/settings.ts'
import { World } from './fake-world.ts'

describe('finding the command', () => {
  it('no arguments: short help on standard error, 2', async () => {
    const result = await new World().run()
    expect(result).toMatchObject({ exit: 2, stdout: '' })
    expect(result.stderr).toContain('produce')
    const noun = await new World().run('topics')
    expect(noun).toMatchObject({ exit: 2, stdout: '' })
    expect(noun.stderr).toContain('describe')
  })

  it('a typo gets the nearest name, never a run', async () => {
    expect((await new World().run('prodcue', 't')).stderr).toContain('did you mean produce?')
    const verb = await new World().run('topics', 'lits')
    expect(verb.exit).toBe(2)
    expect(verb.stderr).toContain('did you mean list?')
    const flag = await new World().run('cat', 't', '--untl-end')
    expect(flag.stderr).toContain('did you mean --until-end?')
    expect((await new World().run('cat', 't', '--color', 'sometimes')).exit).toBe(2)
  })

  it('common flags may stand before the command and the verb', async () => {
    const w = new World()
    w.broker.addTopic('t')
    const { stdout } = await w.run('-b', 'ipc:///x.sock', 'topics', '-q', 'list')
    expect(stdout).toContain('t\t1')
    expect(w.clients.addresses).toEqual(['ipc:///x.sock'])
  })

  it('help of every command names all its flags, and fits its width', async () => {
    for (const entry of commands) {
      const { spec } = await entry.load()
      const { exit, stdout } = await new World().run(...entry.name.split(' '), '--help')
      expect(exit).toBe(0)
      for (const option of allOptions(spec))
        expect(stdout, entry.name).toContain(`--${option.long}`)
      for (const example of spec.examples) expect(stdout).toContain(`$ ${example.line}`)
      const flagLines = stdout.split('\n').filter((line) => line.startsWith('  -'))
      for (const line of flagLines) expect(line.length, line).toBeLessThanOrEqual(80)
      expect(await new World().run('help', ...entry.name.split(' '))).toMatchObject({
        exit,
        stdout,
      })
    }
    expect((await new World().run('--help')).stdout).toContain('Commands:')
    expect((await new World().run('topics', '-h')).stdout).toContain('Verbs:')
  })

  it('the flags of a command that runs a program stand before it', async () => {
    const usage = async (name: string) =>
      (await new World().run(name, '--help')).stdout.split('\n').find((line) => /^Usage/.test(line))
    expect(await usage('pipe')).toMatch(/^Usage: stream pipe \[flags\] -- CMD \[ARG/)
    expect(await usage('txn')).toMatch(/^Usage: stream txn \[flags\] -- PIPELINE/)
    expect(await usage('consume')).toMatch(/^Usage: stream consume TOPIC.* \[flags\]$/)
  })

  it('help topics, and what is none', async () => {
    for (const topic of ['formats', 'positions', 'guarantees', 'exit-codes', 'signals']) {
      expect((await new World().run('help', topic)).stdout.length).toBeGreaterThan(200)
    }
    expect((await new World().run('help', 'postions')).stderr).toContain('did you mean positions?')
  })

  it('--help-json is the table', async () => {
    const { stdout } = await new World().run('produce', '--help-json')
    const object = JSON.parse(stdout) as { flags: { long: string }[] }
    expect(object.flags.some(({ long }) => long === 'key-json')).toBe(true)
    const all = await new World().run('--help-json')
    expect(all.stdout.trim().split('\n')).toHaveLength(commands.length)
  })

  it('the version', async () => {
    for (const words of [['-V'], ['version'], ['cat', '--version']]) {
      expect((await new World().run(...words)).stdout).toBe('stream 1.2.3\n')
    }
  })

  it('--timeout ends any command with 7', async () => {
    const w = new World()
    w.clients.cluster = () => new Promise(() => undefined)
    expect((await w.run('topics', 'list', '--timeout', '3s')).exit).toBe(7)
  })
})

describe('which broker', () => {
  async function addresses(prepare: (w: World) => void, ...words: string[]): Promise<unknown> {
    const w = new World()
    w.broker.addTopic('t')
    prepare(w)
    const result = await w.run('topics', 'list', ...words)
    return result.exit === 0 ? w.clients.addresses.join(' ') : `${result.exit} ${result.stderr}`
  }
  const contexts = Buffer.from(
    JSON.stringify({
      v: 1,
      current: 'prod',
      contexts: {
        prod: { broker: 'kafka://k1:9092,k2', options: { 'linger.ms': '50' } },
        dev: { broker: 'tcp://d:7100' },
        locked: { broker: 'kafka://x', secrets: { 'sasl.password': { file: 'f' } } },
      },
    }),
  )

  it('flag over environment over files over the current context over the sockets', async () => {
    const file = (text: string) => (w: World) => {
      w.files.set('/config/stream/stream.conf', Buffer.from(text))
    }
    expect(await addresses(() => undefined)).toBe('ipc:///run/me/stream/daemon.sock')
    expect(await addresses(file('broker = tcp://f:1\n'))).toBe('tcp://f:1')
    const withContexts = (w: World) => {
      w.files.set('/config/stream/contexts.json', contexts)
    }
    expect(await addresses(withContexts)).toBe('kafka://k1:9092 kafka://k2:9092')
    expect(await addresses(withContexts, '--context', 'dev')).toBe('tcp://d:7100')
    const all = (w: World) => {
      withContexts(w)
      file('broker = tcp://f:1')(w)
      w.files.set('./.stream.conf', Buffer.from('broker = tcp://project:1'))
      w.environment['STREAM_BROKER'] = 'tcp://variable:1'
    }
    expect(await addresses(all, '-b', 'tcp://flag:1')).toBe('tcp://flag:1')
    expect(await addresses(all)).toBe('tcp://variable:1')
    const withoutVariable = (w: World) => {
      all(w)
      delete w.environment['STREAM_BROKER']
    }
    expect(await addresses(withoutVariable)).toBe('tcp://project:1')
  })

  it('contradictions and unknown names are 2', async () => {
    expect(await addresses(() => undefined, '-b', 'tcp://a:1', '--context', 'x')).toMatch(/^2 /)
    expect(await addresses(() => undefined, '--context', 'x')).toContain('no such context')
    expect(await addresses(() => undefined, '-b', 'http://x')).toMatch(/^2 .*not an address/)
    expect(await addresses(() => undefined, '-X', 'lingr.ms=5')).toContain(
      'did you mean linger.ms?',
    )
    expect(await addresses(() => undefined, '-X', 'linger.ms=soon')).toMatch(/^2 /)
    expect(await addresses(() => undefined, '--config-file', '/nowhere')).toMatch(/^2 /)
    const variable = (w: World) => {
      w.environment['STREAM_CONF_LINGR_MS'] = '5'
    }
    expect(await addresses(variable)).toContain('did you mean STREAM_CONF_LINGER_MS?')
    const locked = (w: World) => {
      w.files.set('/config/stream/contexts.json', contexts)
    }
    expect(await addresses(locked, '--context', 'locked')).toMatch(/^2 /)
  })

  it('a secret is refused wherever it is, and shown nowhere', async () => {
    for (const [prepare, ...words] of [
      [() => undefined, '-X', 'sasl.password=s3cret'],
      [(w: World) => w.files.set('./.stream.conf', Buffer.from('sasl.password = s3cret'))],
      [
        (w: World) => {
          w.environment['STREAM_CONF_SASL_PASSWORD'] = 's3cret'
        },
      ],
      [() => undefined, '-b', 'kafka://me:s3cret@host'],
    ] as [(w: World) => void, ...string[]][]) {
      const outcome = await addresses(prepare, ...words)
      expect(outcome).toMatch(/^2 /)
      expect(outcome).not.toContain('s3cret')
    }
  })

  it('the daemon is started only when no broker was named, and not against the user’s wish', async () => {
    const w = new World()
    w.sockets = []
    await w.run('topics', 'list')
    expect(w.launches).toMatchObject([
      {
        address: 'ipc:///run/me/stream/daemon.sock',
        arguments: ['--data', '/share/stream', '--listen', 'ipc:///run/me/stream/daemon.sock'],
        logPath: '/state/stream/daemon.log',
      },
    ])
    const named = new World()
    named.broker.isReachable = false
    expect((await named.run('topics', 'list', '-b', 'ipc:///none')).exit).toBe(4)
    expect(named.launches).toEqual([])
    const unwanted = new World()
    unwanted.sockets = []
    unwanted.environment['STREAM_AUTOSTART'] = '0'
    expect((await unwanted.run('topics', 'list')).exit).toBe(4)
    expect(unwanted.launches).toEqual([])
  })

  it('a socket nobody answers at is passed over', async () => {
    const w = new World()
    w.broker.isReachable = false
    expect((await w.run('topics', 'list')).exit).toBe(0)
    expect(w.launches).toHaveLength(1)
  })

  it('addresses', () => {
    expect(splitAddress('kafka://a,b:1', 'x')).toEqual(['kafka://a:9092', 'kafka://b:1'])
    expect(splitAddress('ipc:///a,b', 'x')).toEqual(['ipc:///a,b'])
    expect(() => splitAddress('tcp://a', 'x')).toThrow('port')
  })

  it('config files have comments, and say where they are wrong', () => {
    const texts = parseConfigFile('# c\n\nlinger.ms = 5 # why\n acks=1\nnum.partitions = 3\n', 'f')
    expect([...texts]).toEqual([
      ['linger.ms', { text: '5', place: 'f:3' }],
      ['acks', { text: '1', place: 'f:4' }],
    ])
    expect(() => parseConfigFile('x\n', 'f')).toThrow('f:1: must be key = value')
    expect(() => parseConfigFile('\nlingr.ms = 5\n', 'f')).toThrow(
      'f:2: lingr.ms: no such client key; did you mean linger.ms?',
    )
    expect(() => parseConfigFile('linger.ms = x\n', 'f')).toThrow('f:1')
  })
})

describe('daemon', () => {
  it('run takes this process’s place with absolute paths', async () => {
    const w = new World()
    await w.run(
      'daemon',
      'run',
      '--data',
      'd',
      '--listen',
      'kafka://0.0.0.0:9092',
      '--listen',
      'ipc://s',
      '--node-id',
      '3',
      '-X',
      'num.partitions=2',
    )
    expect(w.daemonRuns).toEqual([
      [
        '--node-id',
        '3',
        '-X',
        'num.partitions=2',
        '--data',
        '/here/d',
        '--listen',
        'kafka://0.0.0.0:9092',
        '--listen',
        'ipc:///here/s',
      ],
    ])
    const ephemeral = new World()
    await ephemeral.run('daemon', 'run', '--ephemeral')
    expect(ephemeral.daemonRuns).toEqual([['--ephemeral']])
    expect((await new World().run('daemon', 'run', '--ephemeral', '--data', 'x')).exit).toBe(2)
    expect((await new World().run('daemon', 'run', 'x')).exit).toBe(2)
  })

  it('start launches where none is running; ephemeral ones print their address', async () => {
    const w = new World()
    w.sockets = []
    expect((await w.run('daemon', 'start', '--data', '/d')).exit).toBe(0)
    expect(w.launches[0]?.arguments).toEqual([
      '--data',
      '/d',
      '--listen',
      'ipc:///run/me/stream/daemon.sock',
    ])
    const ephemeral = new World()
    const { stdout } = await ephemeral.run('daemon', 'start', '--ephemeral')
    expect(stdout).toBe('ipc:///tmp/stream-000000000000.sock\n')
    expect(ephemeral.launches[0]?.arguments).toContain('--ephemeral')
  })

  it('stop of none is 0, status of none is 4', async () => {
    const w = new World()
    w.sockets = []
    expect((await w.run('daemon', 'stop')).exit).toBe(0)
    expect((await w.run('daemon', 'status')).exit).toBe(4)
    expect(w.launches).toEqual([])
  })

  it('logs prints the last lines', async () => {
    const w = new World()
    w.files.set('/state/stream/daemon.log', Buffer.from('1\n2\n3\n'))
    expect((await w.run('daemon', 'logs', '-n', '2')).stdout).toBe('2\n3\n')
    expect((await new World().run('daemon', 'logs')).exit).toBe(3)
    const start = (text: string, count: number) => lastLinesStart(Buffer.from(text), count)
    expect(start('1\n2\n3', 1)).toBe(4)
    expect(start('1\n2\n', 5)).toBe(0)
    expect(start('1\n2\n', 0)).toBe(4)
    expect(start('', 1)).toBe(0)
  })
})

describe('exit codes', () => {
  it('the order of several', () => {
    expect(joinExitCodes([])).toBe(0)
    expect(joinExitCodes([7, 5])).toBe(5)
    expect(joinExitCodes([1, 3])).toBe(3)
    expect(joinExitCodes([8, 5])).toBe(8)
    expect(joinExitCodes([5, 2])).toBe(2)
  })

  it('several targets: their common code, or 1', () => {
    expect(commonExitCode([0, 3, 3])).toBe(3)
    expect(commonExitCode([3, 8])).toBe(1)
    expect(commonExitCode([])).toBe(0)
  })
})
