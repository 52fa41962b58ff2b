/**
 * The package as others get it: packed, unpacked beside its dependencies in a scratch project, used from there. (The
 * dependencies are this checkout's own, so that no registry is asked.)
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { libraryText } from '../../cmd/help-library.ts'
import { Program, repository } from '../support/program.ts'

interface Ran {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

describe('the packed library', () => {
  let program: Program
  let project: string

  beforeAll(() => {
    program = new Program()
    project = program.path('project')
    const modules = join(project, 'node_modules')
    mkdirSync(modules, { recursive: true })
    execFileSync(
      'npm',
      ['pack', '--silent', '--ignore-scripts', '--pack-destination', program.directory],
      {
        cwd: repository,
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, npm_config_cache: program.path('npm') },
      },
    )
    const [tarball = ''] = readdirSync(program.directory).filter((name) => name.endsWith('.tgz'))
    execFileSync('tar', ['xzf', program.path(tarball), '-C', project])
    execFileSync('mv', [join(project, 'package'), join(modules, 'stream-hub')])
    for (const name of readdirSync(join(repository, 'node_modules'))) {
      if (!name.startsWith('.'))
        symlinkSync(join(repository, 'node_modules', name), join(modules, name))
    }
    writeFileSync(join(project, 'package.json'), '{"type":"module"}')
    program.ok('stream daemon start')
  })
  afterAll(() => program.stop())

  const run = (name: string, code: string, environment: Record<string, string> = {}): Ran => {
    writeFileSync(join(project, name), code)
    return spawnSync(process.execPath, [name], {
      cwd: project,
      env: { ...program.environment, ...environment },
      encoding: 'utf8',
      timeout: 30_000,
    })
  }

  it('`stream` from its bin works', () => {
    const bin = join(project, 'node_modules/stream-hub/dist/stream.cjs')
    const command = `echo hello | ${process.execPath} ${bin} produce packed && ${process.execPath} ${bin} cat packed`
    expect(program.ok(command)).toBe('hello\n')
    expect(program.ok(`${process.execPath} ${bin} dump data/stream/packed-0 | jq -r .value`)).toBe(
      'hello\n',
    )
  })

  const examples = libraryText
    .split(/\n\n(?=\S)/)
    .flatMap((part) =>
      (part.match(/(?:^ {4}.*\n?|^\n)+/gm) ?? []).filter((block) => block.includes('import')),
    )
  const outputs = [
    /^first at \d \d+\n$/,
    /^(\d \d+ .*\n){5}$/,
    /^left \d\n$/,
    /^TOPIC_EXISTS 8 false\npartitions 3\n$/,
  ]

  it('the manual has as many examples as are run here', () => {
    expect(examples).toHaveLength(outputs.length)
  })
  for (const [index, output] of outputs.entries()) {
    it(`example ${index + 1} of stream help library does what it says, and its process ends by itself`, () => {
      const ran = run(`example${index}.mjs`, (examples[index] ?? '').replaceAll(/^ {4}/gm, ''))
      expect(ran.stderr).toBe('')
      expect(ran.stdout).toMatch(output)
      expect(ran.status).toBe(0)
    })
  }

  it('the process is left alone: no signal handlers, no exit, nothing printed', () => {
    const ran = run(
      'alone.mjs',
      `import { connect } from 'stream-hub'
       const before = process.eventNames().length
       const stream = await connect()
       await stream.producer({ create: true }).send('alone', 'x')
       for await (const message of stream.consumer({ topics: 'alone', until: 'end' })) message.json
       if (process.eventNames().length !== before) throw new Error(process.eventNames().join())
       await stream.close()
       process.on('exit', () => process.stdout.write('ended'))`,
    )
    expect(ran).toMatchObject({ status: 0, stdout: 'ended', stderr: '' })
  })

  it('keys, headers, times, null, bytes; order; many at once; two connections', () => {
    const ran = run(
      'all.mjs',
      `import { connect } from 'stream-hub'
       import assert from 'node:assert/strict'
       await using one = await connect()
       await using two = await connect({ broker: one.broker })
       await one.admin.createTopic('all', { partitions: 4, config: { 'max.message.bytes': 2000000 } })
       const producer = one.producer()
       const receipts = await Promise.all(
         Array.from({ length: 1000 }, (_, at) => producer.send('all', { key: 'k' + (at % 10), value: String(at) })),
       )
       const seen = new Map()
       for (const { partition, offset } of receipts) {
         assert.equal(offset, seen.get(partition) ?? 0)
         seen.set(partition, offset + 1)
       }
       await producer.send('all', { key: Uint8Array.of(0xff, 0), value: null, headers: [['h', 'x'], ['h', null]], timestampMs: 5, partition: 2 })
       assert.equal(await producer.sendAll('all', (function* () { for (let at = 0; at < 50000; at += 1) yield 'm' + at })()), 50000)
       let count = 0
       let special
       const consumer = two.consumer({ topics: ['all'], until: 'end' })
       for await (const message of consumer) {
         count += 1
         if (message.value === null) special = message
       }
       assert.equal(count, 51001)
       assert.deepEqual([special.partition, special.timestampMs, [...special.key], special.text()], [2, 5, [255, 0], null])
       assert.deepEqual(special.headers, [['h', new Uint8Array(Buffer.from('x'))], ['h', null]])
       assert.equal(consumer.positions().reduce((sum, { offset }) => sum + offset, 0), 51001)
       const last = []
       for await (const message of two.consumer({ topics: 'all', partitions: [2], from: -1, until: 'end' })) last.push(message)
       assert.equal(last.length, 1)
       const follow = two.consumer({ topics: 'all' })
       const next = follow[Symbol.asyncIterator]().next()
       setTimeout(() => one.producer().send('all', '{"late":true}'), 300)
       assert.deepEqual((await next).value.json(), { late: true })
       await follow.close()
       const [{ offset }] = await one.admin.offsets('all', 'end')
       assert.equal(await one.admin.trim('all', 0, offset), offset)
       await one.admin.setTopicConfig('all', { 'retention.ms': 1000 })
       assert.deepEqual((await one.admin.topicConfig('all'))['retention.ms'], { value: '1000', origin: 'topic' })
       await one.admin.setTopicConfig('all', { 'retention.ms': null })
       await one.admin.addPartitions('all', 5)
       assert.equal((await one.admin.describeTopic('all')).partitions.length, 5)
       assert.ok((await one.admin.listTopics()).some(({ name }) => name === 'all'))
       assert.equal((await one.admin.cluster()).brokers.length, 1)
       await one.admin.deleteTopic('all')
       await one.admin.deleteTopic('all', { ifExists: true })
       console.log('fine')`,
    )
    expect(ran).toMatchObject({ stdout: 'fine\n', stderr: '', status: 0 })
  })

  it('partitions that another connection adds are written to at once, and read within seconds', () => {
    const ran = run(
      'added.mjs',
      `import { connect } from 'stream-hub'
       import assert from 'node:assert/strict'
       await using one = await connect()
       await using two = await connect()
       await one.admin.createTopic('added')
       const producer = one.producer()
       await producer.send('added', 'a')
       const consumer = one.consumer({ topics: 'added', from: 'start' })
       const messages = consumer[Symbol.asyncIterator]()
       assert.equal((await messages.next()).value.text(), 'a')
       const next = messages.next()
       await two.admin.addPartitions('added', 3)
       const { partition, offset } = await producer.send('added', { value: 'b', partition: 2 })
       assert.deepEqual([partition, offset], [2, 0])
       assert.equal((await next).value.text(), 'b')
       assert.equal(consumer.positions().length, 3)
       await messages.return()
       console.log('fine')`,
    )
    expect(ran).toMatchObject({ stdout: 'fine\n', stderr: '', status: 0 })
  })

  it('failures are StreamErrors with a code, and end nothing', () => {
    const ran = run(
      'errors.mjs',
      `import { connect, StreamError } from 'stream-hub'
       import assert from 'node:assert/strict'
       const code = async (promise) => {
         const error = await promise.then(() => { throw new Error('no error') }, (error) => error)
         assert.ok(error instanceof StreamError, String(error))
         return [error.code, error.exit, error.kafkaError ?? null]
       }
       assert.deepEqual(await code(connect({ broker: 'ipc:///tmp/nobody.sock' })), ['UNREACHABLE', 4, null])
       const stream = await connect()
       const producer = stream.producer()
       assert.deepEqual(await code(producer.send('nowhere', 'x')), ['TOPIC_UNKNOWN', 3, 3])
       await stream.admin.createTopic('small', { config: { 'max.message.bytes': 1000 } })
       assert.equal((await code(producer.send('small', 'x'.repeat(5000))))[0], 'RECORD_TOO_LARGE')
       assert.equal((await producer.send('small', 'fits')).offset, 0)
       assert.equal((await code(producer.send('small', { value: 7 })))[0], 'RECORD_INVALID')
       assert.equal((await code(producer.send('small', { value: 'x', partition: 9 })))[0], 'TOPIC_UNKNOWN')
       assert.equal((await code(producer.send('small', { value: 'x', timestampMs: -1 })))[0], 'RECORD_INVALID')
       assert.throws(() => stream.producer({ compression: 'brotli' }), { code: 'CONFIG_INVALID' })
       assert.throws(() => stream.consumer({ topics: 'small', from: 1.5 }), { code: 'CONFIG_INVALID' })
       assert.equal((await code(stream.admin.trim('small', 0, NaN)))[0], 'CONFIG_INVALID')
       const read = async () => { for await (const _ of stream.consumer({ topics: 'nowhere' })); }
       assert.equal((await code(read()))[0], 'TOPIC_UNKNOWN')
       await stream.close()
       assert.equal((await code(producer.send('small', 'x')))[0], 'CLOSED')
       console.log('fine')`,
    )
    expect(ran).toMatchObject({ stdout: 'fine\n', stderr: '', status: 0 })
  })

  it('a daemon is started only when asked for', () => {
    const environment = {
      XDG_RUNTIME_DIR: program.path('other'),
      XDG_DATA_HOME: program.path('otherdata'),
    }
    mkdirSync(environment.XDG_RUNTIME_DIR, { mode: 0o700 })
    const code = (options: string) =>
      `import { connect } from 'stream-hub'
       const stream = await connect(${options})
       await stream.producer({ create: true }).send('t', 'x')
       await stream.close()`
    const refused = run('none.mjs', code(''), environment)
    expect(refused.status).toBe(1)
    expect(refused.stderr).toContain('no daemon is running')
    expect(Math.max(...refused.stderr.split('\n').map((line) => line.length))).toBeLessThan(2000)
    try {
      expect(run('start.mjs', code('{ autostart: true }'), environment)).toMatchObject({
        status: 0,
        stderr: '',
      })
    } finally {
      program.shell(
        `XDG_RUNTIME_DIR=${environment.XDG_RUNTIME_DIR} XDG_DATA_HOME=${environment.XDG_DATA_HOME} stream daemon stop`,
      )
    }
  })

  it('its types check a script, and refuse a wrong one', () => {
    const check = (code: string): Ran => {
      writeFileSync(join(project, 'typed.ts'), code)
      return spawnSync(
        process.execPath,
        [
          join(repository, 'node_modules/typescript/bin/tsc'),
          '--noEmit',
          '--strict',
          '--module',
          'nodenext',
          '--target',
          'es2024',
          '--types',
          'node',
          'typed.ts',
        ],
        { cwd: project, encoding: 'utf8' },
      )
    }
    const script = `import { connect, StreamError, type Message } from 'stream-hub'
      await using stream = await connect({ onWarning: (warning) => console.error(warning.kind) })
      const { offset }: { offset: number } = await stream.producer().send('t', { value: null, key: 'k' })
      for await (const message of stream.consumer({ topics: 't', from: new Date(offset) })) {
        const each: Message = message
        console.log(each.text()?.length, each.headers[0]?.[1])
      }
      try {} catch (error) { if (error instanceof StreamError) console.log(error.code) }`
    expect(check(script)).toMatchObject({ status: 0, stdout: '' })
    const wrong = check(
      `import { connect } from 'stream-hub'; (await connect()).producer().send('t', 7)`,
    )
    expect(wrong.status).not.toBe(0)
  })
})
