/** The way from the topics that a broker has to those that a file wants: what `apply` does and `diff` prints. */

import type { ConfigEntry } from '../src/client/admin.ts'
import type { TopicInfo } from '../src/client/metadata-cache.ts'
import type { Cell, Row, RowShape } from '../src/text/rows.ts'
import type { AdminClient } from './clients.ts'
import type { WantedTopic } from './topics-file.ts'
import { isInternalTopic } from './topics-shared.ts'

export const planShape: RowShape = {
  kind: 'change',
  columns: ['ACTION', 'NAME', 'KEY', 'OLD', 'NEW'],
}

export type TopicStep =
  | { readonly action: 'create'; readonly name: string; readonly topic: WantedTopic }
  | {
      readonly action: 'alter'
      readonly name: string
      /** From and to; undefined: they stay. */
      readonly partitions: readonly [number, number] | undefined
      readonly replicas: readonly [number, number] | undefined
      /** New texts by key; undefined: unset. */
      readonly configs: ReadonlyMap<string, string | undefined>
      /** Texts in force by key. */
      readonly before: ReadonlyMap<string, string | null>
    }
  | { readonly action: 'delete'; readonly name: string }

/**
 * @param prunes  topics that the file lacks are to be deleted, internal ones never
 * @returns  creations, changes and deletions, in the order in which they are done
 */
export async function planTopics(
  admin: AdminClient,
  wanted: readonly WantedTopic[],
  prunes: boolean,
): Promise<TopicStep[]> {
  const existing = new Map((await admin.listTopics()).map((topic) => [topic.name, topic]))
  const kept = wanted.filter(({ name }) => existing.has(name))
  const described =
    kept.length === 0
      ? []
      : await admin.describeConfigs(kept.map(({ name }) => ({ kind: 'topic', name })))
  const creations = wanted
    .filter(({ name }) => !existing.has(name))
    .map((topic): TopicStep => ({ action: 'create', name: topic.name, topic }))
  const changes = kept.flatMap((topic, index) => {
    const { configs, error } = described[index] ?? { configs: [], error: undefined }
    if (error !== undefined) throw error
    const info = existing.get(topic.name)
    return info === undefined ? [] : changeOf(topic, info, configs)
  })
  const names = new Set(wanted.map(({ name }) => name))
  const deletions = prunes
    ? [...existing.values()]
        .filter((topic) => !names.has(topic.name) && !isInternalTopic(topic))
        .map(({ name }): TopicStep => ({ action: 'delete', name }))
    : []
  return [...creations, ...changes, ...deletions]
}

function changeOf(
  wanted: WantedTopic,
  info: TopicInfo,
  entries: readonly ConfigEntry[],
): TopicStep[] {
  const configs = new Map<string, string | undefined>()
  for (const [name, text] of wanted.configs ?? []) {
    if (entries.find((entry) => entry.name === name)?.value !== text) configs.set(name, text)
  }
  for (const { name, origin, isSensitive } of entries) {
    const isOwn = origin === 'topic' && !isSensitive
    if (isOwn && wanted.configs?.has(name) === false) configs.set(name, undefined)
  }
  const partitions = pair(info.partitions.length, wanted.partitions)
  const replicas = pair(info.partitions[0]?.replicas.length ?? 0, wanted.replicas)
  if (configs.size === 0 && partitions === undefined && replicas === undefined) return []
  const before = new Map(entries.map(({ name, value }) => [name, value]))
  return [{ action: 'alter', name: wanted.name, partitions, replicas, configs, before }]
}

function pair(from: number, to: number | undefined): readonly [number, number] | undefined {
  return to === undefined || to === from ? undefined : [from, to]
}

/** What a step changes, a row for each key. */
export function stepRows(step: TopicStep): Row[] {
  const { action, name } = step
  const row = (key: string | null, from: Cell, to: Cell): Row => [action, name, key, from, to]
  switch (step.action) {
    case 'create': {
      const { partitions, replicas, configs } = step.topic
      return [
        row('partitions', null, partitions ?? 1),
        ...(replicas === undefined ? [] : [row('replicas', null, replicas)]),
        ...[...(configs ?? [])].map(([key, text]) => row(key, null, text)),
      ]
    }
    case 'alter':
      return [
        ...(step.partitions === undefined ? [] : [row('partitions', ...step.partitions)]),
        ...(step.replicas === undefined ? [] : [row('replicas', ...step.replicas)]),
        ...[...step.configs].map(([key, text]) =>
          row(key, step.before.get(key) ?? null, text ?? null),
        ),
      ]
    case 'delete':
      return [row(null, null, null)]
  }
}
