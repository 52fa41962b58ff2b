/**
 * TLS and logins: our commands at a real Kafka broker that asks for them, and Kafka's own clients and tools at our door. Refusals are
 * one line and exit 6; a login is renewed on the connection that stands.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { KafkaCertificates } from '../support/kafka-certificates.ts'
import { startKafkaDoor } from '../support/kafka-door.ts'
import { ended, eventually, type Outcome, type Program } from '../support/program.ts'
import { assertThat, type Checks } from './jvm-checks.ts'
import { freePorts, KafkaBroker } from './jvm-kafka.ts'
import type { Stage } from './jvm-stage.ts'

export const PASSWORD = 'correct-horse'
const LINES = 1000
const security = 'org.apache.kafka.common.security'
const scrams = ['SCRAM-SHA-256', 'SCRAM-SHA-512'] as const

export interface Doors {
  readonly plain: string
  readonly saslSsl: string
  readonly ssl: string
  readonly saslPlain: string
}

export async function checkSecurity(stage: Stage, checks: Checks): Promise<void> {
  const certificates = new KafkaCertificates(stage.program.directory)
  writeFileSync(stage.program.path('pw'), PASSWORD, { mode: 0o600 })
  writeFileSync(stage.program.path('wrong'), 'wr0ng', { mode: 0o600 })
  await checkBroker(stage, checks, certificates)
  await checkDoor(stage, checks, certificates)
}

/** A broker whose doors ask for TLS, a certificate or a login: user `etl` with the password in the file `pw`. */
export async function startSecureBroker(
  { kafka, program }: Stage,
  certificates: KafkaCertificates,
): Promise<{ readonly broker: KafkaBroker; readonly doors: Doors }> {
  const { key, certificate } = certificates.issue('kafka')
  const store = program.path('kafka-store.pem')
  writeFileSync(store, readFileSync(key, 'utf8') + readFileSync(certificate, 'utf8'))
  const [[saslSsl, ssl], [saslPlain]] = [await freePorts(), await freePorts()]
  const places = `SASL_SSL://127.0.0.1:${saslSsl},SSL://127.0.0.1:${ssl},SASL_PLAINTEXT://127.0.0.1:${saslPlain}`
  const jaas = ['sasl_ssl', 'sasl_plaintext'].flatMap((name) => [
    `listener.name.${name}.plain.sasl.jaas.config=${security}.plain.PlainLoginModule required user_etl="${PASSWORD}";`,
    ...scrams.map(
      (each) =>
        `listener.name.${name}.${each.toLowerCase()}.sasl.jaas.config=${security}.scram.ScramLoginModule required;`,
    ),
    `listener.name.${name}.oauthbearer.sasl.jaas.config=${security}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="admin";`,
  ])
  const settings = ({ plain, controller }: { plain: number; controller: number }): string =>
    [
      `listeners=PLAINTEXT://127.0.0.1:${plain},CONTROLLER://127.0.0.1:${controller},${places}`,
      `advertised.listeners=PLAINTEXT://127.0.0.1:${plain},${places}`,
      'listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT',
      'ssl.keystore.type=PEM',
      `ssl.keystore.location=${store}`,
      'ssl.truststore.type=PEM',
      `ssl.truststore.location=${certificates.ca}`,
      'listener.name.ssl.ssl.client.auth=required',
      `sasl.enabled.mechanisms=PLAIN,${scrams.join(',')},OAUTHBEARER`,
      'connections.max.reauth.ms=2000',
      ...jaas,
    ].join('\n')
  const format = scrams.flatMap((each) => [
    '--add-scram',
    `${each}=[name=etl,password=${PASSWORD}]`,
  ])
  const directory = program.path('kafka-secure')
  const broker = await KafkaBroker.start(kafka, directory, undefined, { settings, format })
  const doors = {
    plain: broker.address,
    saslSsl: `127.0.0.1:${saslSsl}`,
    ssl: `127.0.0.1:${ssl}`,
    saslPlain: `127.0.0.1:${saslPlain}`,
  }
  return { broker, doors }
}

type Options = Readonly<Record<string, string>>

/** Commands in a context of these options and secrets (by their files). */
export function contextOf(
  program: Program,
  name: string,
  address: string,
  options: Options,
  secrets: Options = {},
): void {
  const words = [
    ...Object.entries(options).map(([key, value]) => `-X ${key}=${value}`),
    ...Object.entries(secrets).map(([key, file]) => `--secret ${key}=file:${program.path(file)}`),
  ]
  program.ok(`stream context set ${name} --broker kafka://${address} ${words.join(' ')}`)
}

function refused(outcome: Outcome, ...words: readonly RegExp[]): string {
  const said = outcome.stderr.trimEnd()
  assertThat(outcome.status === 6, `exit ${outcome.status}: ${said}`)
  assertThat(outcome.stdout === '' && said.split('\n').length === 1, `not one line: ${said}`)
  for (const word of words) assertThat(word.test(said), `not ${word}: ${said}`)
  assertThat(!said.includes(PASSWORD), 'the password is told')
  return said.replace(/127\.0\.0\.1:\d+/g, 'broker')
}

function roundTrip(program: Program, context: string, topic: string): string {
  program.ok(`stream --context ${context} topics create ${topic}`)
  program.ok(`seq ${LINES} | stream --context ${context} produce ${topic}`)
  program.ok(`stream --context ${context} cat ${topic} | cmp - <(seq ${LINES})`)
  return `${LINES} records there and back`
}

async function checkBroker(
  stage: Stage,
  checks: Checks,
  certificates: KafkaCertificates,
): Promise<void> {
  const { program } = stage
  const { broker, doors } = await startSecureBroker(stage, certificates)
  const ca = { 'ssl.ca.location': certificates.ca }
  const etl = { ...ca, 'sasl.username': 'etl' }
  const password = { 'sasl.password': 'pw' }
  const list = (name: string, flags = ''): Outcome =>
    program.shell(`stream --context ${name} topics list ${flags}`, { timeoutMs: 30_000 })
  try {
    for (const mechanism of ['PLAIN', ...scrams]) {
      await checks.check(`${mechanism} over TLS at Kafka`, () => {
        const name = mechanism.toLowerCase()
        contextOf(program, name, doors.saslSsl, { ...etl, 'sasl.mechanism': mechanism }, password)
        return roundTrip(program, name, name)
      })
      await checks.check(`${mechanism}, a wrong password`, () => {
        const options = { ...etl, 'sasl.mechanism': mechanism }
        contextOf(program, 'wrong', doors.saslSsl, options, { 'sasl.password': 'wrong' })
        return refused(list('wrong'), /SASL_AUTHENTICATION_FAILED/)
      })
    }
    await checks.check('OAUTHBEARER over TLS at Kafka', () => {
      writeFileSync(program.path('token'), unsecuredToken(3600))
      contextOf(
        program,
        'bearer',
        doors.saslSsl,
        { ...ca, 'security.protocol': 'SASL_SSL' },
        {
          'sasl.oauthbearer.token': 'token',
        },
      )
      return roundTrip(program, 'bearer', 'bearer')
    })
    await checks.check('OAUTHBEARER, a token that has expired', () => {
      writeFileSync(program.path('token'), unsecuredToken(-3600))
      return refused(list('bearer'), /does not accept the token/)
    })
    await checks.check('OAUTHBEARER, renewed in time on the connection that stands', () => {
      writeFileSync(program.path('token'), unsecuredToken(3600))
      program.ok('stream --context bearer topics create bearer-renewed')
      const outcome = program.shell(
        '(for n in $(seq 1 12); do echo $n; sleep .5; done) | stream --context bearer produce bearer-renewed -v && stream --context bearer cat bearer-renewed | wc -l',
        { timeoutMs: 40_000 },
      )
      assertThat(outcome.stdout === '12\n', outcome.stdout + outcome.stderr)
      assertThat(!/lost|refused/.test(outcome.stderr), outcome.stderr)
      return '6 s of records over logins of 2 s, no connection lost'
    })
    await checks.check('SCRAM in clear text at Kafka', () => {
      contextOf(program, 'clear', doors.saslPlain, { 'sasl.username': 'etl' }, password)
      return roundTrip(program, 'clear', 'clear')
    })
    await checks.check('a client certificate at Kafka', () => {
      const { certificate, key } = certificates.issue('our-client')
      const own = { 'ssl.certificate.location': certificate, 'ssl.key.location': key }
      contextOf(program, 'mutual', doors.ssl, { ...ca, ...own })
      return roundTrip(program, 'mutual', 'mutual')
    })
    await checks.check('no client certificate', () => {
      contextOf(program, 'bare', doors.ssl, ca)
      return refused(list('bare'), /certificate/)
    })
    await checks.check('an authority that is not trusted', () => {
      contextOf(
        program,
        'unknown',
        doors.saslSsl,
        { ...etl, 'ssl.ca.location': certificates.otherCa },
        password,
      )
      return refused(list('unknown'), /not trusted/)
    })
    await checks.check('another host name', () =>
      refused(list('scram-sha-512', '-X ssl.server.name=other.example'), /of another name/),
    )
    await checks.check('TLS at a listener in clear text', () => {
      contextOf(program, 'tls-at-plain', doors.plain, ca)
      return refused(list('tls-at-plain'), /does not speak TLS/)
    })
    await checks.check('clear text at a TLS listener', () => {
      contextOf(program, 'plain-at-tls', doors.ssl, {})
      return refused(list('plain-at-tls'), /speaks only TLS/)
    })
    await checks.check('no login where one is wanted', () => {
      contextOf(program, 'no-login', doors.saslPlain, {})
      return refused(list('no-login'), /lets in only who logs in \(it offers .*SCRAM-SHA-512/)
    })
    await checks.check('a login where none is taken', () => {
      contextOf(program, 'login-at-plain', doors.plain, { 'sasl.username': 'etl' }, password)
      return refused(list('login-at-plain'), /takes no logins/)
    })
    await checks.check('a login is renewed in time on the connection that stands', () => {
      program.ok('stream --context scram-sha-512 topics create renewed')
      const outcome = program.shell(
        '(for n in $(seq 1 14); do echo $n; sleep .5; done) | stream --context scram-sha-512 produce renewed -v & stream --context scram-sha-512 consume renewed --from start -n 14 --timeout 20s; wait',
        { timeoutMs: 40_000 },
      )
      assertThat(outcome.stdout.split('\n').length === 15, outcome.stdout + outcome.stderr)
      assertThat(!/lost|refused/.test(outcome.stderr), outcome.stderr)
      return '7 s of records over logins of 2 s, no connection lost'
    })
    await checks.check('stream users at Kafka: set, log in, list, delete', () => {
      const at = `-b kafka://${doors.plain}`
      program.ok(`stream users set made ${at} --password-file pw`)
      const listed = program.ok(`stream users list made ${at} | cut -f1-2`)
      assertThat(listed === 'made\tSCRAM-SHA-256\nmade\tSCRAM-SHA-512\n', listed)
      contextOf(program, 'made', doors.saslSsl, { ...ca, 'sasl.username': 'made' }, password)
      assertThat(list('made').status === 0, list('made').stderr)
      program.ok(`stream users delete made -y ${at}`)
      refused(list('made'), /SASL_AUTHENTICATION_FAILED/)
      return listed
    })
    await checks.check(
      'a reader, a member of a group and a writer whose user is deleted end with 6',
      async () => {
        const at = `-b kafka://${doors.plain}`
        program.ok(`stream users set brief ${at} --password-file pw`)
        contextOf(program, 'brief', doors.saslSsl, { ...ca, 'sasl.username': 'brief' }, password)
        program.ok('stream --context brief topics create brief')
        const running = [
          'consume brief --from start',
          'consume brief --from start -g brief',
          'produce brief --receipts -',
        ].map((words) => {
          const child = program.start('bash', ['-c', `exec stream --context brief ${words}`])
          const seen = { words, stdout: '', stderr: '', over: ended(child) }
          child.stdout?.on('data', (text) => {
            seen.stdout += text
          })
          child.stderr?.on('data', (text) => {
            seen.stderr += text
          })
          child.stdin?.on('error', () => undefined)
          child.stdin?.write('one\n')
          return seen
        })
        for (const seen of running)
          await eventually(`it has begun: ${seen.words}`, () => seen.stdout !== '' || undefined)
        program.ok(`stream users delete brief -y ${at}`)
        for (const seen of running) {
          const status = await seen.over
          assertThat(status === 6, `${seen.words}: exit ${status}: ${seen.stderr}`)
          assertThat(/SASL_AUTHENTICATION_FAILED/.test(seen.stderr), seen.stderr)
        }
        return 'once their logins had to be renewed'
      },
    )
  } finally {
    await broker.stop()
  }
}

async function checkDoor(
  { kafka, program }: Stage,
  checks: Checks,
  certificates: KafkaCertificates,
): Promise<void> {
  const files = certificates.issue('our-door')
  const door = await startKafkaDoor(program, 'secure', [
    `stream.kafka.tls.certificate.file=${files.certificate}`,
    `stream.kafka.tls.key.file=${files.key}`,
    `sasl.enabled.mechanisms=PLAIN,${scrams.join(',')}`,
    'connections.max.reauth.ms=2000',
  ])
  program.ok(`stream users set etl --password-file pw -b ${door.native}`)
  const config = (mechanism: string, password = PASSWORD): string => {
    const module = mechanism === 'PLAIN' ? 'plain.Plain' : 'scram.Scram'
    const path = program.path('client.properties')
    writeFileSync(
      path,
      `security.protocol=SASL_SSL
sasl.mechanism=${mechanism}
sasl.jaas.config=${security}.${module}LoginModule required username="etl" password="${password}";
ssl.truststore.type=PEM
ssl.truststore.location=${certificates.ca}
`,
    )
    return path
  }
  const at = ['--bootstrap-server', door.address]
  try {
    for (const mechanism of ['PLAIN', ...scrams])
      await checks.check(`Kafka's clients at our door: ${mechanism} over TLS`, () => {
        const path = config(mechanism)
        const topic = `jvm-${mechanism.toLowerCase()}`
        program.ok(`stream -b ${door.native} topics create ${topic}`)
        const input = `${Array.from({ length: LINES }, (_, index) => index).join('\n')}\n`
        kafka.ok('ConsoleProducer', [...at, '--topic', topic, '--producer.config', path], input)
        const read = kafka.run('consumer.ConsoleConsumer', [
          ...[...at, '--topic', topic, '--from-beginning', '--max-messages', `${LINES}`],
          ...['--consumer.config', path, '--timeout-ms', '20000'],
        ])
        assertThat(
          read.stdout === input,
          `${read.stdout.length} bytes: ${read.stderr.slice(-2000)}`,
        )
        return `${LINES} records there and back`
      })
    await checks.check("Kafka's clients at our door: a login is renewed", () => {
      const path = config('SCRAM-SHA-512')
      program.ok(`stream -b ${door.native} topics create jvm-renewed`)
      const sent = kafka.run('ProducerPerformance', [
        ...['--topic', 'jvm-renewed', '--num-records', '3500', '--record-size', '100'],
        ...['--throughput', '500', '--producer.config', path],
        ...['--producer-props', `bootstrap.servers=${door.address}`, 'acks=all'],
      ])
      assertThat(/3500 records sent/.test(sent.stdout), sent.stdout + sent.stderr)
      const count = program.ok(`stream -b ${door.native} cat jvm-renewed | wc -l`).trim()
      assertThat(count === '3500', count)
      assertThat(!/before a login/.test(door.said()), door.said())
      return '7 s of records over logins of 2 s'
    })
    await checks.check('kafka-configs at our door: users made, described, deleted', () => {
      const path = config('SCRAM-SHA-256')
      const users = [...at, '--command-config', path, '--entity-type', 'users']
      const one = [...users, '--entity-name', 'jvm']
      const scram = 'SCRAM-SHA-256=[iterations=4096,password=by-kafka]'
      kafka.ok('kafka.admin.ConfigCommand', [...one, '--alter', '--add-config', scram])
      const listed = program.ok(`stream users list jvm -b ${door.native}`)
      assertThat(listed === 'jvm\tSCRAM-SHA-256\t4096\n', listed)
      writeFileSync(program.path('by-kafka'), 'by-kafka')
      contextOf(
        program,
        'jvm',
        door.address,
        { 'ssl.ca.location': certificates.ca, 'sasl.username': 'jvm', 'sasl.mechanism': 'PLAIN' },
        { 'sasl.password': 'by-kafka' },
      )
      program.ok('stream --context jvm topics list')
      kafka.ok('kafka.admin.ConfigCommand', [...one, '--alter', '--delete-config', 'SCRAM-SHA-256'])
      refused(program.shell('stream --context jvm topics list'), /is wrong/)
      return listed
    })
    await checks.check("Kafka's clients at our door: a wrong password", () => {
      const path = config('SCRAM-SHA-512', 'wrong')
      const failed = kafka.run('TopicCommand', [...at, '--command-config', path, '--list'])
      const said = failed.stdout + failed.stderr
      assertThat(/SaslAuthenticationException/.test(said), said.slice(-2000))
      return 'SaslAuthenticationException'
    })
  } finally {
    door.process.kill('SIGTERM')
    await ended(door.process)
  }
}

/** As Kafka's own test mechanism takes it: a JWT that nobody has signed. */
export function unsecuredToken(lifeSeconds: number): string {
  const part = (object: object): string => Buffer.from(JSON.stringify(object)).toString('base64url')
  const now = Math.floor(Date.now() / 1000)
  const claims = { sub: 'etl', iat: now - 7200, exp: now + lifeSeconds }
  return `${part({ alg: 'none' })}.${part(claims)}.`
}
