/** `stream mirror lag` of links: how far links are behind their sources, also as a test for scripts. */

import { StreamError } from '../src/base/errors.ts'
import type { LinkDescription, MirrorTopic } from '../src/client/link-admin.ts'
import { sleep } from '../src/ports/time.ts'
import type { Row, RowShape } from '../src/text/rows.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import {
  allPartitions,
  chosenTopics,
  isHeard,
  isWhole,
  lagOf,
  troubleWords,
  withLinks,
} from './mirror-shared.ts'
import { printRows } from './row-output.ts'

const WAIT_PAUSE_MS = 500

export function linkLag(
  deps: CommandDeps,
  args: CommandArgs,
  name: string,
  shape: RowShape,
): Promise<number> {
  const { flags } = args
  const failAbove = flags.wholeNumber('fail-above')
  const waitUntil = flags.wholeNumber('wait-until')
  const timeoutMs = flags.durationMs('timeout')
  const startMs = deps.time.monotonicMs()
  const deadlineMs = deps.time.monotonicMs() + (timeoutMs ?? Number.POSITIVE_INFINITY)
  return withLinks(deps, args, async ({ links }) => {
    for (;;) {
      const link = await links.describeOne(name)
      const topics = chosenTopics(link, args).filter(({ state }) => state !== 'promoted')
      const lag = topicsLag(topics)
      const sinceMs = deps.time.monotonicMs() - startMs
      const isFresh =
        isWhole(link) && allPartitions(topics, (partition) => isHeard(partition, sinceMs))
      const isReached =
        waitUntil === undefined || (isFresh && lag !== undefined && lag <= waitUntil)
      if (!isReached && deps.time.monotonicMs() + WAIT_PAUSE_MS <= deadlineMs) {
        await sleep(deps.time, WAIT_PAUSE_MS)
        continue
      }
      await printRows(deps, flags, shape, rowsOf(link, topics, flags.has('total')))
      if (!isReached) {
        const left = `${lag ?? 'an unknown number of'} records are left`
        const why = troubleWords(
          topics,
          (partition) => lagOf(partition) === 0 && isHeard(partition, sinceMs),
        )
        throw new StreamError('TIMED_OUT', `timed out: ${left}; ${why}`, { target: name })
      }
      return failAbove !== undefined && (lag === undefined || lag > failAbove) ? 1 : 0
    }
  })
}

/** undefined: of some partition it is not known. */
export function topicsLag(topics: readonly MirrorTopic[]): number | undefined {
  let sum = 0
  for (const { partitions, partitionCount } of topics) {
    if (partitionCount === 0 || partitions.length < partitionCount) return undefined
    for (const partition of partitions) {
      const lag = lagOf(partition)
      if (lag === undefined && partition.state !== 'promoted') return undefined
      sum += lag ?? 0
    }
  }
  return sum
}

function rowsOf(link: LinkDescription, topics: readonly MirrorTopic[], isTotal: boolean): Row[] {
  const row = (topic: string | null, rows: readonly MirrorTopic[]): Row => {
    const lag = topicsLag(rows)
    const behind = rows.flatMap(({ partitions }) => partitions.map(({ behindMs }) => behindMs))
    const seconds = lag === 0 ? 0 : Math.round(Math.max(0, ...behind) / 1000)
    return [link.name, topic, lag ?? null, lag === undefined ? null : seconds]
  }
  return isTotal ? [row(null, topics)] : topics.map((topic) => row(topic.name, [topic]))
}
