/** The topics as groups of the consumer protocol see them: names, ids, partition counts, and what has changed in them. */

import type { MemberMetadata } from './consumer-group-records.ts'
import { TopicPattern } from './topic-pattern.ts'

/** Topics that can be read now. */
export interface TopicsView {
  find(name: string): { readonly topicId: string; readonly partitions: number } | undefined
  nameOf(topicId: string): string | undefined
  names(): Iterable<string>
}

/** What one group reads. Patterns are kept as long as one of its members has them. */
export class GroupTopics {
  readonly #view: TopicsView
  readonly #patterns = new Map<string, TopicPattern>()

  constructor(view: TopicsView) {
    this.#view = view
  }

  /** @returns why it is none, in words; undefined: it can be used */
  learn(source: string): string | undefined {
    if (this.#patterns.has(source)) return undefined
    const pattern = TopicPattern.parse(source)
    if (typeof pattern === 'string') return pattern
    this.#patterns.set(source, pattern)
    return undefined
  }

  forgetAllBut(sources: ReadonlySet<string>): void {
    for (const source of this.#patterns.keys()) {
      if (!sources.has(source)) this.#patterns.delete(source)
    }
  }

  nameOf(topicId: string): string | undefined {
    return this.#view.nameOf(topicId)
  }

  /** Names, also of topics that do not exist (yet). */
  namesOf({ topicNames, topicRegex }: MemberMetadata): ReadonlySet<string> {
    const names = new Set(topicNames)
    if (topicRegex === null) return names
    for (const name of this.#view.names()) if (this.#matches(topicRegex, name)) names.add(name)
    return names
  }

  /** Ids of those that exist. */
  idsOf(metadata: MemberMetadata): ReadonlySet<string> {
    const ids = new Set<string>()
    for (const name of this.namesOf(metadata)) {
      const topic = this.#view.find(name)
      if (topic !== undefined) ids.add(topic.topicId)
    }
    return ids
  }

  partitionsOf(topicId: string): number {
    const name = this.#view.nameOf(topicId)
    return name === undefined ? 0 : (this.#view.find(name)?.partitions ?? 0)
  }

  /** Another one as soon as a topic that is read comes, goes, is another one of that name or grows. 16 hex digits. */
  hashOf(all: Iterable<MemberMetadata>): string {
    const ids = new Set<string>()
    for (const metadata of all) for (const topicId of this.idsOf(metadata)) ids.add(topicId)
    const lines = [...ids].sort().map((topicId) => `${topicId} ${this.partitionsOf(topicId)}\n`)
    return hashOf(lines.join(''))
  }

  #matches(source: string, name: string): boolean {
    if (!this.#patterns.has(source)) this.learn(source)
    return this.#patterns.get(source)?.matches(name) ?? false
  }
}

/** 64 bits of two hashes with different multipliers (MurmurHash3's finalizers). */
function hashOf(text: string): string {
  let first = 0x9e3779b9
  let second = 0x85ebca6b
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index)
    first = Math.imul(first ^ code, 0xcc9e2d51)
    first = (first << 13) | (first >>> 19)
    second = Math.imul(second ^ code, 0x1b873593)
    second = (second << 15) | (second >>> 17)
  }
  return hex(mixed(first ^ text.length)) + hex(mixed(second ^ first))
}

function mixed(word: number): number {
  let bits = Math.imul(word ^ (word >>> 16), 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35)
  return bits ^ (bits >>> 16)
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, '0')
}
