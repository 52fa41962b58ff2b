/**
 * Links whose source asks for TLS and a login: the daemon takes what it needs from the context of that name of its own user. Refusals are
 * one line, and no password is in any output, log, metadata or list of processes.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePorts } from '../support/etcd.ts'
import { KafkaCertificates } from '../support/kafka-certificates.ts'
import { type KafkaDoor, startKafkaDoor } from '../support/kafka-door.ts'
import { daemonBundle, ended, eventually, type Outcome, Program } from '../support/program.ts'

const PASSWORD = 'correct=horse,battery staple'
const OTHER = 'wr0ng-passw0rd'

let program: Program
let certificates: KafkaCertificates
let door: KafkaDoor
/** All that was printed by anything here. */
const heard: string[] = []

beforeAll(async () => {
  program = new Program()
  certificates = new KafkaCertificates(program.directory)
  writeFileSync(program.path('pw'), `${PASSWORD}\n`, { mode: 0o600 })
  writeFileSync(program.path('wrong'), OTHER, { mode: 0o600 })
  const { certificate, key } = certificates.issue('server')
  door = await startKafkaDoor(program, 'source', [
    `stream.kafka.tls.certificate.file=${certificate}`,
    `stream.kafka.tls.key.file=${key}`,
    'sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512',
    'connections.max.reauth.ms=1000',
  ])
  program.ok(`stream users set etl --password-file pw -b ${door.native}`)
  program.ok('stream daemon start')
}, 60_000)
afterAll(() => program?.stop())

function run(line: string, environment: Record<string, string> = {}): Outcome {
  const outcome = program.shell(line, { environment: { N: door.native, ...environment } })
  heard.push(outcome.stdout, outcome.stderr)
  return outcome
}

function ok(line: string): string {
  const { status, stdout, stderr } = run(line)
  expect([line, status, stderr]).toEqual([line, 0, expect.anything()])
  return stdout
}

function context(
  name: string,
  options: Readonly<Record<string, string>> = {},
  password = 'pw',
  environment: Record<string, string> = {},
): void {
  const words = Object.entries({
    'ssl.ca.location': certificates.ca,
    'sasl.username': 'etl',
    ...options,
  })
    .map(([key, text]) => `-X ${key}=${text}`)
    .join(' ')
  const secret = `--secret sasl.password=file:${program.path(password)}`
  const { status, stderr } = run(
    `stream context set ${name} --broker kafka://${door.address} ${words} ${secret}`,
    environment,
  )
  expect([status, stderr]).toEqual([0, ''])
}

function refused(line: string, environment: Record<string, string> = {}) {
  const { status, stdout, stderr } = run(line, environment)
  expect(stdout).toBe('')
  expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  return { status, stderr }
}

describe('a link to a source that asks for TLS and a login', () => {
  it.each(['PLAIN', 'SCRAM-SHA-512'])(
    'follows with %s, and logs in again when it must',
    async (mechanism) => {
      const name = mechanism.toLowerCase()
      context(name, { 'sasl.mechanism': mechanism })
      ok(
        `seq 1000 | stream produce ${name} -b $N --create; stream consume ${name} -g g-${name} --from start -n 300 -b $N`,
      )
      expect(
        ok(`stream mirror link ${name} --source @${name} --topics ${name} --sync groups,configs`),
      ).toBe(`${name}\t${name}\n`)
      ok(`stream mirror lag ${name} --wait-until 0 --timeout 30s`)
      // Beyond the life of the first login.
      await new Promise((resolve) => setTimeout(resolve, 2500))
      ok(
        `seq 1001 1500 | stream produce ${name} -b $N; stream mirror lag ${name} --wait-until 0 --timeout 30s`,
      )
      expect(ok(`stream cat ${name}`)).toBe(ok('seq 1500'))
      ok(`stream mirror verify ${name}`)
      await eventually(
        'the group',
        () =>
          run(`stream groups describe g-${name} -o tsv`).stdout.includes('\t300\t') || undefined,
      )
    },
    60_000,
  )

  it('is refused in one line that says why', () => {
    context('wrong', {}, 'wrong')
    context('stranger', { 'ssl.ca.location': certificates.otherCa })
    context('nothing', {}, 'no-such-file')
    const link = (name: string) => `stream mirror link ${name} --source @${name} --topics x`
    expect(refused(link('wrong'))).toEqual({
      status: 6,
      stderr: expect.stringMatching(/does not let "etl" in with SCRAM-SHA-512/),
    })
    expect(refused(link('stranger'))).toEqual({
      status: 6,
      stderr: expect.stringMatching(/certificate/),
    })
    expect(refused(link('nothing'))).toEqual({
      status: 6,
      stderr: expect.stringMatching(/sasl.password: file:.*: no such file/),
    })
    expect(ok('stream mirror status -o json')).not.toMatch(/wrong|stranger|nothing/)
  })

  it('takes nothing but the daemon’s own context, and only for its own address', () => {
    // The command's user has one, and the daemon's has none.
    const mine = { XDG_CONFIG_HOME: program.path('mine') }
    mkdirSync(program.path('mine'))
    context('private', {}, 'pw', mine)
    expect(refused('stream mirror link private --source @private --topics x', mine)).toEqual({
      status: 2,
      stderr: expect.stringMatching(
        /the daemon has no context private: it looks in .*contexts.json/,
      ),
    })
    // One of that name is the daemon's, and would take its password to another address.
    context('private')
    ok('true')
    run('stream context set private --broker kafka://127.0.0.1:1', mine)
    expect(refused('stream mirror link private --source @private --topics x', mine)).toEqual({
      status: 8,
      stderr: expect.stringMatching(/context private of the daemon is kafka:.*127.0.0.1:1/),
    })
  })

  it('waits for a secret that is not there when the daemon starts, and says so', async () => {
    context('late')
    ok('seq 100 | stream produce late -b $N --create')
    ok('stream mirror link late --source @late --topics late')
    ok('stream mirror lag late --wait-until 0 --timeout 30s')
    ok('stream daemon stop')
    renameSync(program.path('pw'), program.path('away'))
    ok('stream daemon start')
    await eventually(
      'it is told',
      () =>
        /sasl.password: .*no such file/.test(run('stream mirror status late').stdout) || undefined,
    )
    renameSync(program.path('away'), program.path('pw'))
    ok(
      'seq 101 200 | stream produce late -b $N; stream mirror lag late --wait-until 0 --timeout 40s',
    )
    expect(ok('stream cat late')).toBe(ok('seq 200'))
  }, 90_000)

  it('reads its context and certificates anew for each connection: all of it is exchanged while it runs', async () => {
    const [port] = await freePorts(1)
    const native = `ipc://${program.path('exchanged.sock')}`
    const file = (name: string): string => program.path(`exchanged.${name}`)
    /** Of the source, which takes clients of the same authority only. */
    const start = async (by: 'ca' | 'other') => {
      const { certificate, key } = certificates.issue(`exchanged-source-${by}`, { by })
      const settings = [
        `stream.kafka.tls.certificate.file=${certificate}`,
        `stream.kafka.tls.key.file=${key}`,
        `stream.kafka.tls.client.ca.file=${by === 'ca' ? certificates.ca : certificates.otherCa}`,
      ]
      const child = program.start(
        process.execPath,
        [
          ...[daemonBundle, '--data', program.path('data-exchanged'), '--listen', native],
          ...['--listen', `kafka://127.0.0.1:${port}`],
          ...settings.flatMap((setting) => ['-X', setting]),
        ],
        { stdio: 'ignore' },
      )
      await eventually('the source serves', () =>
        run(`stream topics list -b ${native}`).status === 0 ? true : undefined,
      )
      return async (): Promise<void> => {
        const over = ended(child)
        child.kill('SIGTERM')
        await over
      }
    }
    const exchange = (by: 'ca' | 'other'): void => {
      const { certificate, key } = certificates.issue(`exchanged-${by}`, { by })
      copyFileSync(by === 'ca' ? certificates.ca : certificates.otherCa, file('ca'))
      copyFileSync(certificate, file('pem'))
      copyFileSync(key, file('key'))
    }
    const name = (broker: string): void => {
      ok(
        `stream context set exchanged --broker ${broker} -X ssl.ca.location=${file('ca')} -X ssl.certificate.location=${file('pem')} -X ssl.key.location=${file('key')}`,
      )
    }
    const told = (words: RegExp): Promise<true> =>
      eventually(`it is told: ${words}`, () =>
        words.test(run('stream mirror status exchanged').stdout) ? true : undefined,
      )
    const level = 'stream mirror lag exchanged --wait-until 0 --timeout 60s'
    const pid = program.daemonPid()
    let stop = await start('ca')
    exchange('ca')
    name(`kafka://127.0.0.1:${port}`)
    ok(`seq 100 | stream produce exchanged -b ${native} --create`)
    ok(`stream mirror link exchanged --source @exchanged --topics exchanged; ${level}`)

    await stop()
    stop = await start('other')
    await told(/certificate/)
    exchange('other')
    ok(`seq 101 200 | stream produce exchanged -b ${native}; ${level}`)
    expect(ok('stream cat exchanged')).toBe(ok('seq 200'))

    await stop()
    name('kafka://127.0.0.1:1')
    stop = await start('other')
    await told(/context exchanged of the daemon is kafka:\/\/127.0.0.1:1, and the link's source/)
    name(`kafka://127.0.0.1:${port}`)
    ok(`seq 201 300 | stream produce exchanged -b ${native}; ${level}`)
    expect(ok('stream cat exchanged')).toBe(ok('seq 300'))
    expect(program.daemonPid()).toBe(pid)
    await stop()
  }, 150_000)

  it('has no secret anywhere', () => {
    const processes = execFileSync('ps', ['axww', '-o', 'args'], { encoding: 'utf8' })
    const kept = program.ok(
      'cat data/stream/metadata/* state/stream/daemon.log; find data -name "*.json" -exec cat {} +',
    )
    for (const text of [
      ...heard,
      processes,
      kept,
      door.said(),
      readFileSync(program.path('config/stream/contexts.json'), 'utf8'),
    ]) {
      expect(text).not.toContain(PASSWORD)
      expect(text).not.toContain(OTHER)
    }
  })
})
