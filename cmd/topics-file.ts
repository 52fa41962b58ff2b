/**
 * Topics as a file has them (`stream topics describe --json` writes them, `apply` and `diff` read them): objects with
 * `name`, `partitions`, `replicas`, `config`, one a line or in one array. Other fields are ignored.
 *
 * `config` is the whole of a topic's own settings: what it lacks is unset. Without `config` settings stay as they are,
 * and so with the two numbers.
 */

import { StreamError } from '../src/base/errors.ts'
import { findConfigDefect } from '../src/config/config-key.ts'
import { findKey } from '../src/config/keys.ts'
import { checkTopicKey } from './topics-shared.ts'

export interface WantedTopic {
  readonly name: string
  readonly partitions: number | undefined
  readonly replicas: number | undefined
  readonly configs: ReadonlyMap<string, string> | undefined
}

/** @throws StreamError CONFIG_INVALID naming the file, and the line or the element */
export function parseTopicsFile(content: string, path: string): WantedTopic[] {
  const text = content.replace(/^\ufeff/, '')
  const topics = text.trimStart().startsWith('[') ? parseArray(text, path) : parseLines(text, path)
  const seen = new Map<string, string>()
  for (const { topic, place } of topics) {
    const before = seen.get(topic.name)
    if (before !== undefined) throw defect(place, `${topic.name} stands in ${before} already`)
    seen.set(topic.name, place)
  }
  return topics.map(({ topic }) => topic)
}

interface PlacedTopic {
  readonly topic: WantedTopic
  readonly place: string
}

function parseArray(text: string, path: string): PlacedTopic[] {
  const elements = parseJson(text, path)
  if (!Array.isArray(elements))
    throw defect(path, 'must be objects, one a line, or an array of them')
  return elements.map((element: unknown, index) => {
    const place = `${path}: element ${index + 1}`
    return { topic: parseTopic(element, place), place }
  })
}

function parseLines(text: string, path: string): PlacedTopic[] {
  return text.split('\n').flatMap((line, index) => {
    if (line.trim() === '') return []
    const place = `${path}: line ${index + 1}`
    return [{ topic: parseTopic(parseJson(line, place), place), place }]
  })
}

function parseJson(text: string, place: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const [reason = ''] = (cause instanceof Error ? cause.message : '').split('\n')
    throw new StreamError('CONFIG_INVALID', `${place}: no JSON: ${reason}`, { cause })
  }
}

function parseTopic(value: unknown, place: string): WantedTopic {
  if (!isObject(value)) throw defect(place, 'must be an object')
  const { v, kind, name, partitions, replicas, config } = value as {
    v?: unknown
    kind?: unknown
    name?: unknown
    partitions?: unknown
    replicas?: unknown
    config?: unknown
  }
  if (v !== undefined && v !== 1) throw defect(place, `v is ${JSON.stringify(v)}: not known here`)
  if (kind !== undefined && kind !== 'topic') {
    throw defect(place, `kind is ${JSON.stringify(kind)}, not "topic"`)
  }
  if (typeof name !== 'string' || name === '') throw defect(place, 'name is missing')
  return {
    name,
    partitions: parseNumber(partitions, `${place}: partitions`),
    replicas: parseNumber(replicas, `${place}: replicas`),
    configs: config === undefined ? undefined : parseConfigs(config, place),
  }
}

function parseNumber(value: unknown, place: string): number | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value
  throw defect(place, 'must be a whole number from 1')
}

function parseConfigs(config: unknown, place: string): Map<string, string> {
  if (!isObject(config)) throw defect(place, 'config must be an object')
  const texts = new Map<string, string>()
  for (const [name, value] of Object.entries(config)) {
    const where = `${place}: config ${name}`
    const isText =
      typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    if (!isText) throw defect(where, 'must be a text, a number or a boolean')
    const key = findKey('topic', checkTopicKey(name))
    const text = String(value)
    const wrong = key === undefined ? undefined : findConfigDefect(key, text)
    if (wrong !== undefined) throw defect(where, `${text} ${wrong}`)
    texts.set(name, text)
  }
  return texts
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function defect(place: string, what: string): StreamError {
  return new StreamError('CONFIG_INVALID', `${place}: ${what}`)
}
