/**
 * Where partitions are, as a file: the form of Kafka's own tool for moving them, which reads what is written here.
 *
 *     {"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[1,2,3]}]}
 */

import { StreamError } from '../src/base/errors.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { PlannedPartition, PlanPartition } from '../src/client/replica-plan.ts'

const VERSION = 1

export function formatReplicaFile(topics: readonly TopicInfo[]): string {
  const partitions = topics.flatMap(({ name: topic, partitions: rows }) =>
    rows.map(({ partition, replicas }) => ({ topic, partition, replicas })),
  )
  return `${JSON.stringify({ version: VERSION, partitions }, null, 1)}\n`
}

/**
 * @param known  all partitions there are
 * @throws StreamError CONFIG_INVALID naming the file and what is wrong in it; TOPIC_UNKNOWN
 */
export function parseReplicaFile(
  text: string,
  path: string,
  known: readonly PlanPartition[],
): PlannedPartition[] {
  const byName = new Map(known.map((row) => [`${row.topic}/${row.partition}`, row]))
  const seen = new Set<string>()
  return readRows(text, path).map((row, index) => {
    const { topic, partition, replicas } = checkRow(row, `${path}: partitions[${index}]`)
    const name = `${topic}/${partition}`
    const source = byName.get(name)
    if (source === undefined) {
      const words = `${path}: ${topic} has no partition ${partition} here`
      throw new StreamError('TOPIC_UNKNOWN', words, { target: path })
    }
    if (seen.has(name)) throw defect(path, `${topic} partition ${partition} stands in it twice`)
    seen.add(name)
    return { ...source, planned: replicas }
  })
}

function readRows(text: string, path: string): readonly unknown[] {
  let content: unknown
  try {
    content = JSON.parse(text.replace(/^\ufeff/, ''))
  } catch (cause) {
    throw defect(path, `not JSON: ${(cause as Error).message}`)
  }
  const { version, partitions } = (content ?? {}) as { version?: unknown; partitions?: unknown }
  if (version !== VERSION) throw defect(path, `"version" must be ${VERSION}`)
  if (!Array.isArray(partitions)) throw defect(path, '"partitions" must be an array')
  return partitions
}

function checkRow(
  row: unknown,
  place: string,
): { readonly topic: string; readonly partition: number; readonly replicas: readonly number[] } {
  const { topic, partition, replicas } = (row ?? {}) as Readonly<Record<string, unknown>>
  if (typeof topic !== 'string') throw defect(place, '"topic" must be a string')
  if (!isCount(partition)) throw defect(place, '"partition" must be a number from 0 up')
  if (!Array.isArray(replicas) || replicas.length === 0 || !replicas.every(isCount)) {
    throw defect(place, '"replicas" must be broker ids')
  }
  if (new Set(replicas).size < replicas.length) throw defect(place, 'a broker stands in it twice')
  return { topic, partition, replicas }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function defect(place: string, words: string): StreamError {
  return new StreamError('CONFIG_INVALID', `${place}: ${words}`, { target: place })
}
