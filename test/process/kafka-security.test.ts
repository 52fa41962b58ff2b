/**
 * The Kafka door with TLS and logins, and our own client at it, as users have them; kcat and kafkajs as witnesses. Every refusal is
 * one line with exit 6, and no password is in any output, log or list of processes.
 */
import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect as connectPlain } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { Kafka, logLevel } from 'kafkajs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type * as Library from '../../src/library/index.ts'
import { KafkaCertificates } from '../support/kafka-certificates.ts'
import { type KafkaDoor, startKafkaDoor } from '../support/kafka-door.ts'
import { ended, eventually, hasProgram, type Outcome, Program } from '../support/program.ts'

const PASSWORD = 'correct=horse,battery staple'
const OTHER = 'wr0ng-passw0rd'
const mechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'] as const

let program: Program
let certificates: KafkaCertificates
let door: KafkaDoor
/** All that was printed by anything here. */
const heard: string[] = []

const tlsOf = (files: { certificate: string; key: string }): string[] => [
  `stream.kafka.tls.certificate.file=${files.certificate}`,
  `stream.kafka.tls.key.file=${files.key}`,
]

beforeAll(async () => {
  program = new Program()
  certificates = new KafkaCertificates(program.directory)
  program.ok('mkdir -p config')
  writeFileSync(program.path('pw'), `${PASSWORD}\n`, { mode: 0o600 })
  writeFileSync(program.path('wrong'), OTHER, { mode: 0o600 })
  door = await startKafkaDoor(program, 'both', [
    ...tlsOf(certificates.issue('server')),
    `sasl.enabled.mechanisms=${mechanisms.join(',')}`,
    'auto.create.topics.enable=true',
  ])
  program.ok(`stream users set etl --password-file pw -b ${door.native}`)
}, 60_000)
afterAll(() => program?.stop())

function run(line: string, options: Parameters<Program['shell']>[1] = {}): Outcome {
  const outcome = program.shell(line, options)
  heard.push(outcome.stdout, outcome.stderr)
  return outcome
}

interface Asked {
  readonly address?: string
  readonly user?: string
  readonly password?: string
  readonly options?: Readonly<Record<string, string>>
}

let contexts = 0
/** The context of the last command. */
let context = ''

/** A command in a context of its own. */
function stream(words: string, asked: Asked = {}): Outcome {
  const { address = door.address, user = 'etl', password = 'pw' } = asked
  const settings = { 'ssl.ca.location': certificates.ca, ...asked.options }
  const options = Object.entries({ ...(user === '' ? {} : { 'sasl.username': user }), ...settings })
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `-X ${key}=${value}`)
    .join(' ')
  const secret = user === '' ? '' : `--secret sasl.password=file:${program.path(password)}`
  contexts += 1
  context = `c${contexts}`
  const made = run(`stream context set ${context} --broker kafka://${address} ${options} ${secret}`)
  if (made.status !== 0) throw new Error(made.stderr)
  return run(`stream --context ${context} ${words}`, { timeoutMs: 30_000 })
}

function expectRefused(outcome: Outcome, ...words: readonly RegExp[]): void {
  expect(outcome.stdout).toBe('')
  expect(outcome.stderr.trimEnd().split('\n'), outcome.stderr).toHaveLength(1)
  for (const word of words) expect(outcome.stderr).toMatch(word)
  expect(outcome.status, outcome.stderr).toBe(6)
}

describe('our client at our door', () => {
  it.each(mechanisms)('%s over TLS: what was produced is read', (mechanism) => {
    const options = { 'sasl.mechanism': mechanism }
    const topic = `own-${mechanism.toLowerCase()}`
    expect(stream(`topics create ${topic}`, { options }).stderr).toBe('')
    expect(run(`seq 1000 | stream --context ${context} produce ${topic}`).stderr).toBe('')
    expect(run(`stream --context ${context} cat ${topic} | cmp - <(seq 1000)`)).toMatchObject({
      status: 0,
    })
    expect(
      run(`stream --context ${context} consume ${topic} -g g --from start --until-end | wc -l`)
        .stdout,
    ).toBe('1000\n')
  })

  it('SCRAM-SHA-512 where no mechanism is named', () => {
    expect(stream('topics list').status).toBe(0)
  })

  it('a wrong password, an unknown user: the same words, whatever the mechanism', () => {
    for (const mechanism of mechanisms) {
      const options = { 'sasl.mechanism': mechanism }
      for (const asked of [
        { password: 'wrong', options },
        { user: 'nobody', options },
      ]) {
        expectRefused(
          stream('topics list', asked),
          /does not let "\w+" in with/,
          /the user or the password is wrong \(SASL_AUTHENTICATION_FAILED\)/,
          /; check sasl\.username/,
        )
      }
    }
  })

  it('no login where one is wanted', () => {
    expectRefused(stream('topics list', { user: '' }), /lets in only who logs in \(it offers PLAIN/)
    expectRefused(stream('cat own-plain', { user: '' }), /lets in only who logs in/)
    expect(run(`echo x | stream --context ${context} produce own-plain`).status).toBe(6)
  })

  it('an authority that is not trusted, another name, clear text', () => {
    const options = { 'ssl.ca.location': certificates.otherCa }
    expectRefused(
      stream('topics list', { options }),
      /authority that is not trusted.*ssl\.ca\.location/,
    )
    const named = { 'ssl.server.name': 'other.example' }
    expectRefused(
      stream('topics list', { options: named }),
      /of another name: localhost, 127\.0\.0\.1/,
    )
    const clear = { 'security.protocol': 'SASL_PLAINTEXT' }
    expectRefused(stream('topics list', { options: clear }), /speaks only TLS/)
    const bare = { 'security.protocol': 'PLAINTEXT' }
    expectRefused(stream('topics list', { options: bare }), /speaks only TLS/)
  })

  it('the checks can be left out, one by one, and then it works', () => {
    const named = {
      'ssl.server.name': 'other.example',
      'ssl.endpoint.identification.algorithm': 'none',
    }
    expect(stream('topics list', { options: named }).status).toBe(0)
    const none = {
      'ssl.ca.location': certificates.otherCa,
      'enable.ssl.certificate.verification': 'false',
    }
    const { status, stderr } = stream('topics list', { options: none })
    expect({ status, stderr }).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('pose as the broker'),
    })
  })

  it('several bootstrap addresses: one that is down is passed over', () => {
    expect(stream('topics list', { address: `127.0.0.1:1,${door.address}` }).status).toBe(0)
  })
})

describe('the library', () => {
  it('logs in over TLS; a wrong password is NOT_ALLOWED', async () => {
    const { connect } = (await import('../../src/library/index.ts')) as typeof Library
    const options = {
      broker: `kafka://${door.address}`,
      tls: { ca: readFileSync(certificates.ca) },
    }
    const login = { mechanism: 'SCRAM-SHA-256', username: 'etl' } as const
    const connection = await connect({ ...options, login: { ...login, password: () => PASSWORD } })
    await connection.producer({ create: true }).send('by-library', 'hello')
    await connection.close()
    expect(stream('cat by-library').stdout).toBe('hello\n')
    await expect(
      connect({ ...options, login: { ...login, password: OTHER } }),
    ).rejects.toMatchObject({ code: 'NOT_ALLOWED' })
    await expect(connect({ broker: door.native, tls: true })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    })
  })
})

describe('other doors', () => {
  it('in clear text with SCRAM alone: our client, TLS at it, a mechanism that it does not offer', async () => {
    const scram = await startKafkaDoor(program, 'scram', ['sasl.enabled.mechanisms=SCRAM-SHA-256'])
    program.ok(`stream users set etl --password-file pw -b ${scram.native}`)
    const { address } = scram
    const clear = { 'ssl.ca.location': '' }
    const options = { ...clear, 'sasl.mechanism': 'SCRAM-SHA-256' }
    expect(stream('topics list', { address, options }).status).toBe(0)
    expectRefused(
      stream('topics list', { address, options: clear }),
      /does not offer SCRAM-SHA-512; it offers SCRAM-SHA-256/,
    )
    const plain = { ...clear, 'sasl.mechanism': 'PLAIN' }
    expectRefused(
      stream('topics list', { address, options: plain }),
      /does not offer PLAIN; it offers SCRAM-SHA-256/,
    )
    expectRefused(stream('topics list', { address }), /does not speak TLS there/)
    scram.process.kill('SIGTERM')
    await ended(scram.process)
    heard.push(scram.said())
  })

  it('without logins: a client that has one is told so', async () => {
    const open = await startKafkaDoor(program, 'open', [])
    const options = { 'ssl.ca.location': '' }
    expectRefused(
      stream('topics list', { address: open.address, options }),
      /takes no logins there/,
    )
    open.process.kill('SIGTERM')
    await ended(open.process)
  })

  it('a certificate that has expired', async () => {
    const expired = await startKafkaDoor(
      program,
      'expired',
      tlsOf(certificates.issue('expired', { days: -1 })),
    )
    expect(expired.said()).toContain('has expired: clients refuse it')
    expect(expired.said()).toContain('lets everybody in')
    expectRefused(
      stream('topics list', { address: expired.address, user: '' }),
      /its certificate has expired/,
    )
    expired.process.kill('SIGTERM')
    await ended(expired.process)
  })

  it('certificates of clients: who shows none is told so; the key may have a password', async () => {
    const mutual = await startKafkaDoor(program, 'mutual', [
      ...tlsOf(certificates.issue('mutual')),
      `stream.kafka.tls.client.ca.file=${certificates.ca}`,
    ])
    const { address } = mutual
    const own = certificates.issue('client')
    expectRefused(
      stream('topics list', { address, user: '' }),
      /only who shows a certificate.*ssl\.certificate\.location/,
    )
    const options = { 'ssl.certificate.location': own.certificate, 'ssl.key.location': own.key }
    expect(stream('topics list', { address, user: '', options })).toMatchObject({
      status: 0,
      stderr: '',
    })
    const locked = { ...options, 'ssl.key.location': certificates.lockKey(own, PASSWORD) }
    expectRefused(
      stream('topics list', { address, user: '', options: locked }),
      /password does not fit, or is missing/,
    )
    const set = run(
      `stream context set locked --broker kafka://${address} ${Object.entries({
        ...locked,
        'ssl.ca.location': certificates.ca,
      })
        .map(([k, v]) => `-X ${k}=${v}`)
        .join(' ')} --secret ssl.key.password=file:${program.path('pw')}`,
    )
    expect(set.status).toBe(0)
    expect(run('stream --context locked topics list')).toMatchObject({ status: 0, stderr: '' })
    mutual.process.kill('SIGTERM')
    await ended(mutual.process)
    heard.push(mutual.said())
  })

  it('a new certificate counts with the next connection; a bad one changes nothing', async () => {
    const first = certificates.issue('first')
    const [certificate, key] = [program.path('rotated.pem'), program.path('rotated.key')]
    copyFileSync(first.certificate, certificate)
    copyFileSync(first.key, key)
    const rotated = await startKafkaDoor(program, 'rotated', tlsOf({ certificate, key }))
    const serial = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const [host, port] = rotated.address.split(':')
        const socket = connectTls({ host, port: Number(port), rejectUnauthorized: false }, () => {
          resolve(socket.getPeerCertificate().subject.CN as string)
          socket.destroy()
        })
        socket.once('error', reject)
      })
    expect(await serial()).toBe('first')
    writeFileSync(certificate, 'nonsense')
    expect(await serial()).toBe('first')
    expect(rotated.said()).toContain('the former still is')
    const second = certificates.issue('second')
    copyFileSync(second.certificate, certificate)
    copyFileSync(second.key, key)
    expect(await serial()).toBe('second')
    rotated.process.kill('SIGTERM')
    await ended(rotated.process)
  })

  it('what is not protected does not listen beyond this host, and files of others are refused', () => {
    const daemon = (...words: string[]): Outcome =>
      run(`stream daemon run --ephemeral ${words.join(' ')}`, { timeoutMs: 20_000 })
    for (const words of [
      ['--listen kafka://0.0.0.0:0'],
      ['--listen kafka://0.0.0.0:0', '-X sasl.enabled.mechanisms=PLAIN'],
    ]) {
      const refused = daemon(...words)
      expect(refused).toMatchObject({ status: 2, stdout: '' })
      expect(refused.stderr).toMatch(
        /reachable from other hosts.*clear text.*allow\.plaintext=true/,
      )
    }
    const files = certificates.issue('shown')
    chmodSync(files.key, 0o644)
    const shown = daemon(
      '--listen kafka://127.0.0.1:0',
      ...tlsOf(files).map((each) => `-X ${each}`),
    )
    expect(shown).toMatchObject({ status: 6, stdout: '' })
    expect(shown.stderr).toMatch(/others may read or write it/)
    const half = daemon('-X stream.kafka.tls.certificate.file=x')
    expect(half).toMatchObject({ status: 2, stdout: '' })
    const unfit = daemon(
      ...tlsOf({ certificate: files.certificate, key: certificates.issue('unfit').key }).map(
        (each) => `-X ${each}`,
      ),
    )
    expect(unfit.stderr).toMatch(/not the key of/)
  })
})

describe('users', () => {
  it('are kept over a restart, and never shown', async () => {
    const kept = await startKafkaDoor(program, 'kept', ['sasl.enabled.mechanisms=SCRAM-SHA-512'])
    program.ok(`stream users set keeper --password-file pw -b ${kept.native}`)
    kept.process.kill('SIGKILL')
    await ended(kept.process)
    const again = await startKafkaDoor(program, 'kept', ['sasl.enabled.mechanisms=SCRAM-SHA-512'])
    expect(run(`stream users list -b ${again.native}`).stdout).toBe(
      'keeper\tSCRAM-SHA-256\t8192\nkeeper\tSCRAM-SHA-512\t8192\n',
    )
    const options = { 'ssl.ca.location': '' }
    expect(stream('topics list', { address: again.address, user: 'keeper', options }).status).toBe(
      0,
    )
    again.process.kill('SIGTERM')
    await ended(again.process)
  })

  let brief: KafkaDoor
  beforeAll(async () => {
    // Without delays: many are refused here at once.
    brief = await startKafkaDoor(program, 'brief', [
      ...tlsOf(certificates.issue('brief')),
      'sasl.enabled.mechanisms=SCRAM-SHA-512',
      'connection.failed.authentication.delay.ms=0',
    ])
  }, 60_000)

  /** Writers have an input that stays open, and perhaps goes on. */
  const running = [
    { words: 'consume watched --from start' },
    { words: 'consume watched --from start -g watchers-ROUND' },
    { words: 'consume watched --from start -g workers-ROUND --exec cat' },
    { words: "pipe --in watched --from start -j watching-ROUND -- sh -c 'cat >&2'" },
    { words: 'tail watched -f' },
    { words: 'produce watched --receipts -', everyMs: 60_000 },
    { words: 'produce watched --receipts -', everyMs: 200 },
  ] as const

  it.each(['users set gone --password-file wrong', 'users delete gone -y'])(
    '%s: who has logged in is cut off at once, and ends with 6',
    async (change) => {
      run(`stream users set gone --password-file pw -b ${brief.native}`)
      expect(
        stream('topics create watched --if-not-exists --partitions 3', {
          user: 'gone',
          address: brief.address,
        }).status,
      ).toBe(0)
      run(`stream --context ${context} produce watched --value first`)
      // Whoever is refused cannot say goodbye to its group either.
      const round = change.split(' ')[1] ?? ''
      const started = running.map(({ words: template, ...rest }) => {
        const words = template.replace('ROUND', round)
        const child = program.start('bash', ['-c', `exec stream --context ${context} ${words}`])
        const seen = { words, stdout: '', stderr: '', over: ended(child) }
        child.stdout?.on('data', (text) => {
          seen.stdout += text
        })
        child.stderr?.on('data', (text) => {
          seen.stderr += text
        })
        child.stdin?.on('error', () => undefined)
        if ('everyMs' in rest) {
          child.stdin?.write('x\n')
          const timer = setInterval(() => child.stdin?.write('x\n'), rest.everyMs)
          void seen.over.then(() => clearInterval(timer))
        }
        return seen
      })
      for (const seen of started)
        await eventually(
          `it has begun: ${seen.words}`,
          () => /first|^x$|watched\t\d/m.test(seen.stdout + seen.stderr) || undefined,
          60_000,
        )
      const before = brief.said().length
      expect(run(`stream ${change} -b ${brief.native}`).status).toBe(0)
      await eventually('its connections end', () =>
        brief.said().slice(before).includes('its user was deleted, or its password set again')
          ? true
          : undefined,
      )
      for (const seen of started) {
        const { words } = seen
        const status = await seen.over
        expect({ words, status }, seen.stderr).toEqual({ words, status: 6 })
        expect(seen.stderr).toMatch(/the user or the password is wrong/)
        // However many partitions there are; before it there may be a notice that it is tried once more.
        const ends = seen.stderr.match(/; check sasl.username/g)
        expect({ words, ends: ends?.length }, seen.stderr).toEqual({ words, ends: 1 })
        heard.push(seen.stdout, seen.stderr)
      }
      expectRefused(stream('topics list', { user: 'gone', address: brief.address }), /is wrong/)
    },
    90_000,
  )

  it('a password that is exchanged while a reader runs: it goes on with the new one', async () => {
    run(`stream users set kept --password-file pw -b ${brief.native}`)
    writeFileSync(program.path('exchanged'), PASSWORD, { mode: 0o600 })
    const asked = { address: brief.address, user: 'kept', password: 'exchanged' }
    expect(stream('topics create exchanged --if-not-exists', asked).status).toBe(0)
    const reader = program.start('bash', [
      '-c',
      `exec stream --context ${context} consume exchanged --from start -n 2`,
    ])
    let [said, stderr] = ['', '']
    reader.stdout?.on('data', (text) => {
      said += text
    })
    reader.stderr?.on('data', (text) => {
      stderr += text
    })
    const over = ended(reader)
    run(`stream --context ${context} produce exchanged --value one`)
    await eventually('it reads', () => said === 'one\n' || undefined)
    // First at the broker, so that it is refused once.
    run(`stream users set kept --password-file wrong -b ${brief.native}`)
    await eventually('it is refused', () => /is wrong/.test(stderr) || undefined)
    writeFileSync(program.path('exchanged'), OTHER, { mode: 0o600 })
    run(`stream --context ${context} produce exchanged --value two`)
    expect(await over, stderr).toBe(0)
    expect(said).toBe('one\ntwo\n')
    heard.push(stderr)
  }, 60_000)
})

describe.runIf(hasProgram('kcat'))('kcat', () => {
  it.each(mechanisms)('%s over TLS, both directions', (mechanism) => {
    const settings = [
      'security.protocol=SASL_SSL',
      `sasl.mechanism=${mechanism}`,
      'sasl.username=etl',
      `sasl.password=${PASSWORD}`,
      `ssl.ca.location=${certificates.ca}`,
    ]
    // By a file: on its command line everybody would see it.
    writeFileSync(program.path('kcat.conf'), `${settings.join('\n')}\n`, { mode: 0o600 })
    const kcat = `kcat -F kcat.conf -b ${door.address}`
    const topic = `kcat-${mechanism.toLowerCase()}`
    expect(run(`seq 500 | ${kcat} -P -t ${topic}`)).toMatchObject({ status: 0 })
    expect(run(`${kcat} -C -t ${topic} -o beginning -e -q | cmp - <(seq 500)`).status).toBe(0)
    expect(run(`stream -b ${door.native} cat ${topic} | wc -l`).stdout).toBe('500\n')
    writeFileSync(program.path('kcat.conf'), `${settings.join('\n').replace(PASSWORD, OTHER)}\n`)
    const refused = run(`timeout 5 ${kcat} -L -m 3`)
    expect(refused.status).not.toBe(0)
    expect(refused.stderr).toMatch(/the user or the password is wrong/)
  })
})

describe('kafkajs', () => {
  it.each(mechanisms)('%s over TLS, both directions; a wrong password', async (mechanism) => {
    const client = (password: string) =>
      new Kafka({
        brokers: [door.address],
        ssl: { ca: [readFileSync(certificates.ca, 'utf8')] },
        sasl: { mechanism: mechanism.toLowerCase() as 'plain', username: 'etl', password },
        logLevel: logLevel.NOTHING,
        retry: { retries: 0 },
      })
    const kafka = client(PASSWORD)
    const topic = `kafkajs-${mechanism.toLowerCase()}`
    const producer = kafka.producer()
    await producer.connect()
    await producer.send({ topic, messages: [{ value: 'one' }, { value: 'two' }] })
    await producer.disconnect()
    const consumer = kafka.consumer({ groupId: topic })
    const values: string[] = []
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      eachMessage: async ({ message }) => {
        values.push(String(message.value))
      },
    })
    await eventually('both are read', () => (values.length === 2 ? true : undefined))
    await consumer.disconnect()
    expect(values).toEqual(['one', 'two'])
    await expect(client(OTHER).admin().connect()).rejects.toThrow(/is wrong/)
  })
})

describe('who has not logged in', () => {
  const place = (): { host: string; port: number } => {
    const [host = '', port] = door.address.split(':')
    return { host, port: Number(port) }
  }

  it('half handshakes of TLS shut nobody out, and end', async () => {
    const sockets = Array.from({ length: 700 }, () => connectPlain(place()))
    const closed = Promise.all(
      sockets
        .slice(0, 100)
        .map((socket) => new Promise((resolve) => socket.once('close', resolve))),
    )
    for (const socket of sockets) socket.on('error', () => undefined)
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(stream('topics list').status).toBe(0)
    await closed
    for (const socket of sockets) socket.destroy()
  }, 30_000)

  it('a message that is too long, or anything else, ends the connection', async () => {
    for (const bytes of [
      Buffer.from('7fffffff00120000', 'hex'),
      // 100 KiB are announced.
      Buffer.from('0001900000120000', 'hex'),
      // Metadata.
      Buffer.from('0000000e0003000000000001ffff00000000', 'hex'),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    ]) {
      const socket = connectTls({ ...place(), rejectUnauthorized: false }, () =>
        socket.write(bytes),
      )
      await new Promise((resolve) => {
        socket.once('close', resolve)
        socket.once('error', resolve)
        socket.resume()
      })
    }
    expect(stream('topics list').status).toBe(0)
  })
})

describe('no secret', () => {
  it('is in any output, log, list of processes, or file but those that were given', async () => {
    const slow = spawn('bash', ['-c', `exec stream --context ${context} consume own-plain`], {
      cwd: program.directory,
      env: program.environment,
    })
    await new Promise((resolve) => setTimeout(resolve, 800))
    heard.push(execFileSync('ps', ['-eww', '-o', 'args']).toString(), door.said())
    slow.kill('SIGTERM')
    await ended(slow)
    const verbose = stream('topics list -vv', { password: 'wrong' })
    expect(verbose.status).toBe(6)
    heard.push(
      run(`stream context show ${context}; stream context list; stream config list`).stdout,
    )
    const all = heard.join('\n')
    for (const secret of [PASSWORD, OTHER, Buffer.from(PASSWORD).toString('base64')]) {
      expect(all).not.toContain(secret)
    }
    // Nor does the daemon keep it.
    for (const name of readdirSync(program.path('data-both/metadata'))) {
      expect(readFileSync(program.path('data-both/metadata', name), 'latin1')).not.toContain(
        PASSWORD,
      )
    }
  })
})
