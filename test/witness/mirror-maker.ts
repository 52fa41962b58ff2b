/** Kafka's MirrorMaker 2 as a process of its own (what connect-mirror-maker.sh starts), from one cluster to another. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Kafka } from './jvm-kafka.ts'

export interface MirrorMakerOptions {
  /** host:port */
  readonly source: string
  readonly target: string
  /** Regular expressions, joined by commas. */
  readonly topics: string
  /** Before `source` and `target` as names of the clusters: those that share a target must differ. */
  readonly prefix?: string
  /** More lines of its properties, with `source` and `target` at their beginning; they stand over those here. */
  readonly more?: readonly string[]
}

export class MirrorMaker {
  readonly #child: ChildProcess
  readonly #log: string

  /** @param directory  made where it is not there */
  constructor(kafka: Kafka, directory: string, options: MirrorMakerOptions) {
    mkdirSync(directory, { recursive: true })
    const properties = join(directory, 'mm2.properties')
    this.#log = join(directory, 'mm2.out')
    writeFileSync(properties, propertiesOf(options))
    writeFileSync(this.#log, '')
    this.#child = kafka.spawn(
      'org.apache.kafka.connect.mirror.MirrorMaker',
      [properties],
      this.#log,
    )
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  said(): string {
    return readFileSync(this.#log, 'utf8')
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  async stop(): Promise<void> {
    if (this.hasEnded) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGCONT')
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 30_000)
    await ended
    clearTimeout(timer)
  }
}

function propertiesOf({
  source,
  target,
  topics,
  prefix = '',
  more = [],
}: MirrorMakerOptions): string {
  const internal = ['offset.storage', 'status.storage', 'config.storage']
  const lines = [
    `source.bootstrap.servers = ${source}`,
    `target.bootstrap.servers = ${target}`,
    'source->target.enabled = true',
    'target->source.enabled = false',
    `source->target.topics = ${topics}`,
    'source->target.groups = .*',
    'replication.factor = 1',
    ...['checkpoints', 'heartbeats', 'offset-syncs'].map(
      (name) => `${name}.topic.replication.factor = 1`,
    ),
    ...internal.map((name) => `${name}.replication.factor = 1`),
    'refresh.topics.interval.seconds = 2',
    'refresh.groups.interval.seconds = 2',
    'sync.group.offsets.enabled = true',
    'sync.group.offsets.interval.seconds = 2',
    'emit.checkpoints.interval.seconds = 2',
    'sync.topic.configs.interval.seconds = 5',
    'tasks.max = 2',
    ...more,
  ]
  const named = lines.map((line) => {
    return line.replace(/^(source|target)(?=[.-])/, `${prefix}$1`).replace(/->/, `->${prefix}`)
  })
  return `clusters = ${prefix}source, ${prefix}target\n${named.join('\n')}\n`
}
