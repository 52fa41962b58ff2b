/**
 * The README's page on growing: its lines as they stand there, on hosts that are directories of one scratch home, each with a daemon
 * of its own on free ports.
 */
import assert from 'node:assert/strict'
import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePorts } from './etcd.ts'
import { KafkaCertificates } from './kafka-certificates.ts'
import { type Program, repository } from './program.ts'

const HOSTS = ['h1', 'h2', 'h3'] as const
/** The machine of the user. */
const CLIENT = 'client'
const PORTS = ['9092', '9393'] as const

export interface GrowingStep {
  /** In bold before it. */
  readonly title: string
  readonly host: string
  readonly line: string
  /** As the page shows it; '': it shows none. */
  readonly output: string
}

/** The part of the README under a heading of the second level. */
export function readmeSection(heading: string): string {
  const text = readFileSync(join(repository, 'README.md'), 'utf8')
  const found = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`))
  assert.ok(found !== undefined, `the README has no ${heading}`)
  return found
}

export function growingSteps(): readonly GrowingStep[] {
  const steps: { title: string; host: string; line: string; output: string }[] = []
  let title = ''
  let isBlock = false
  for (const text of readmeSection('Growing').split('\n')) {
    title = /^\*\*(.+?)\.\*\*/.exec(text)?.[1] ?? title
    if (text.startsWith('```')) {
      isBlock = text === '```console'
      continue
    }
    if (!isBlock) continue
    const match = /^(h\d)?\$ (.+)$/.exec(text)
    const last = steps.at(-1)
    if (match !== null) {
      steps.push({ title, host: match[1] ?? CLIENT, line: match[2] ?? '', output: '' })
    } else if (last !== undefined) last.output += `${text}\n`
  }
  return steps
}

export class GrowingHosts {
  readonly #program: Program
  readonly #etcdUrl: string
  readonly #kafka: string
  readonly #ports = new Map<string, number>()

  private constructor(program: Program, etcdUrl: string, kafka: string) {
    this.#program = program
    this.#etcdUrl = etcdUrl
    this.#kafka = kafka
  }

  /** @param kafka  `HOST:PORT` of the Kafka cluster that the page ends with */
  static async make(program: Program, etcdUrl: string, kafka: string): Promise<GrowingHosts> {
    const hosts = new GrowingHosts(program, etcdUrl, kafka)
    const free = await freePorts(HOSTS.length * PORTS.length)
    for (const host of HOSTS)
      for (const port of PORTS) hosts.#ports.set(`${host}:${port}`, free.pop() ?? 0)
    const certificates = new KafkaCertificates(program.directory)
    for (const host of [...HOSTS, CLIENT]) {
      mkdirSync(program.path(host))
      mkdirSync(program.path(host, 'run'), { mode: 0o700 })
    }
    for (const host of HOSTS) {
      const { certificate, key } = certificates.issue(host)
      copyFileSync(certificate, program.path(host, 'door.pem'))
      copyFileSync(key, program.path(host, 'door.key'))
    }
    copyFileSync(certificates.ca, program.path(CLIENT, 'ca.pem'))
    for (const host of ['h1', CLIENT])
      writeFileSync(program.path(host, 'etl.pw'), 'correct-horse\n', { mode: 0o600 })
    return hosts
  }

  /** @throws AssertionError for another exit code than 0, or another output than the page has */
  run({ host, line, output }: GrowingStep): void {
    if (host !== 'h1') this.#bring(host)
    const outcome = this.#program.shell(`cd ${this.#program.path(host)}; ${this.#here(line)}`, {
      environment: this.#homeOf(host),
      timeoutMs: 90_000,
    })
    const said = `${line}\nexit ${outcome.status}\n${outcome.stdout}${outcome.stderr}`
    assert.equal(outcome.status, 0, said)
    if (output !== '') assert.equal(outcome.stdout, output, said)
  }

  stop(): void {
    for (const host of HOSTS)
      this.#program.shell('stream daemon stop', { environment: this.#homeOf(host) })
  }

  /** What the page says that a host has. */
  #bring(host: string): void {
    const { directory } = this.#program
    const from = (name: string): string => join(directory, 'h1', name)
    const to = (name: string): string => join(directory, host, name)
    try {
      if (host === CLIENT) cpSync(from('laptop.key'), to('laptop.key'))
      else {
        cpSync(from('cluster.key'), to('cluster.key'))
        mkdirSync(to('.config/stream'), { recursive: true })
        const settings = readFileSync(from('.config/stream/stream.conf'), 'utf8')
        writeFileSync(to('.config/stream/stream.conf'), settings.replaceAll('/h1/', `/${host}/`))
      }
    } catch (error) {
      // The page has not come so far yet.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }

  #homeOf(host: string): Record<string, string> {
    const home = this.#program.path(host)
    return {
      HOME: home,
      XDG_DATA_HOME: join(home, '.local/share'),
      XDG_CONFIG_HOME: join(home, '.config'),
      XDG_STATE_HOME: join(home, 'state'),
      XDG_RUNTIME_DIR: join(home, 'run'),
      ETCD: this.#etcdUrl,
    }
  }

  #here(text: string): string {
    return text
      .replaceAll('k1:9092', this.#kafka)
      .replace(/h\d:(9092|9393)/g, (place) => `127.0.0.1:${this.#ports.get(place)}`)
  }
}
