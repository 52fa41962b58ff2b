/**
 * `--cursor-file`: positions in a file, without a group (commands.md, sections 5 and 6).
 *
 *     {"v":1,"kind":"cursor","cluster":"…","topics":{"orders":{"id":"…","partitions":{"0":42}}}}
 *
 * Invariants: one run at a time has the file (a lock on FILE.lock, for FILE itself is replaced); a position belongs to
 * one cluster and one topic id, so that a recreated topic is never read from where another one ended; the file is
 * replaced whole. Positions of topics and partitions that a run does not read are kept.
 */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { Host } from '../src/ports/host.ts'

interface TopicCursor {
  readonly id: string
  readonly partitions: Map<number, number>
}

/** What a broker that is too old to tell says for an id. */
const NO_TOPIC_ID = 'A'.repeat(22)

export class CursorFile {
  readonly #host: Host
  readonly #path: string
  readonly #release: () => void
  #cluster: string | undefined
  readonly #topics = new Map<string, TopicCursor>()

  /** @throws StreamError CONFLICT: another run has it; UsageError: not a cursor file */
  constructor(host: Host, path: string) {
    this.#host = host
    this.#path = path
    this.#release = host.lockFile(`${path}.lock`)
    try {
      this.#read()
    } catch (error) {
      this.#release()
      throw error
    }
  }

  close(): void {
    this.#release()
  }

  /** @throws StreamError CONFLICT: the positions are of another cluster */
  useCluster(clusterId: string | undefined): void {
    if (this.#cluster !== undefined && clusterId !== undefined && this.#cluster !== clusterId) {
      throw this.#conflict(`its positions are of cluster ${this.#cluster}, not ${clusterId}`)
    }
    this.#cluster = clusterId ?? this.#cluster
  }

  /** @throws StreamError CONFLICT: the positions are of a topic of the same name that is gone */
  useTopic(name: string, id: string): void {
    const known = this.#topics.get(name)
    if (known === undefined) {
      this.#topics.set(name, { id, partitions: new Map() })
      return
    }
    if (known.id !== id && known.id !== NO_TOPIC_ID && id !== NO_TOPIC_ID) {
      throw this.#conflict(`topic ${name} was deleted and created again since`)
    }
  }

  position(topic: string, partition: number): number | undefined {
    return this.#topics.get(topic)?.partitions.get(partition)
  }

  /** Held in memory until store(). */
  setPosition(topic: string, partition: number, offset: number): void {
    this.#topics.get(topic)?.partitions.set(partition, offset)
  }

  /** @throws StreamError DISK_FULL, PERMISSION_DENIED … */
  store(): void {
    const topics = Object.fromEntries(
      [...this.#topics].map(([name, { id, partitions }]) => [
        name,
        { id, partitions: Object.fromEntries([...partitions].sort(([a], [b]) => a - b)) },
      ]),
    )
    const object = { v: 1, kind: 'cursor', cluster: this.#cluster ?? null, topics }
    this.#host.writeFile(this.#path, Buffer.from(`${JSON.stringify(object)}\n`))
  }

  #read(): void {
    const bytes = this.#host.readFile(this.#path)
    if (bytes === undefined || bytes.length === 0) return
    const parsed = parseObject(Buffer.from(bytes).toString('utf8'))
    const topics = parsed === undefined ? undefined : asObject(parsed['topics'])
    if (parsed?.['kind'] !== 'cursor' || parsed['v'] !== 1 || topics === undefined) {
      throw this.#malformed()
    }
    const cluster = parsed['cluster']
    if (typeof cluster === 'string') this.#cluster = cluster
    for (const [name, value] of Object.entries(topics)) {
      const topic = asObject(value)
      const offsets = asObject(topic?.['partitions'])
      const id = topic?.['id']
      if (offsets === undefined || typeof id !== 'string') throw this.#malformed()
      const partitions = new Map<number, number>()
      for (const [partition, offset] of Object.entries(offsets)) {
        if (!/^\d{1,9}$/.test(partition) || !Number.isSafeInteger(offset)) throw this.#malformed()
        partitions.set(Number(partition), offset as number)
      }
      this.#topics.set(name, { id, partitions })
    }
  }

  #malformed(): UsageError {
    return new UsageError(
      `${this.#path}: not a cursor file, so it is left alone`,
      'name another file, or delete it to begin anew',
    )
  }

  #conflict(words: string): StreamError {
    return new StreamError('CONFLICT', `${this.#path}: ${words}`, {
      target: this.#path,
      hint: 'to begin anew delete the file, or name another one',
    })
  }
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    return asObject(JSON.parse(text) as unknown)
  } catch {
    return undefined
  }
}

function asObject(value: unknown): Record<string, unknown> | undefined {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  return isObject ? (value as Record<string, unknown>) : undefined
}
