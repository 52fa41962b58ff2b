/** What a read needs of the broker: first contact in time, a consumer, answers about offsets. */

import { StreamError } from '../src/base/errors.ts'
import type { LocalReadOptions } from '../src/client/local-reads.ts'
import type { Isolation, OffsetAnswer, OffsetQuestion } from '../src/client/offsets.ts'
import type { Timer } from '../src/ports/time.ts'
import { type Broker, openBroker } from './broker.ts'
import type { ConsumerClient } from './clients.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { ReadPlan } from './read-options.ts'

/** A format that is none is said before anything is done. @throws UsageError */
export async function checkFormat({ formatText }: ReadPlan): Promise<void> {
  if (formatText === undefined) return
  const { parseFormat } = await import('../src/text/format-plan.ts')
  parseFormat(formatText)
}

/** `--timeout` is of the whole command: first contact counts. @throws as openBroker; StreamError TIMED_OUT */
export async function openInTime(
  deps: CommandDeps,
  args: CommandArgs,
  plan: ReadPlan,
): Promise<Broker> {
  const { timeoutMs } = plan
  const options = { needs: 'consumer' } as const
  if (timeoutMs === undefined) return openBroker(deps, args, options)
  let timer: Timer | undefined
  let isLate = false
  const late = new Promise<never>((_resolve, reject) => {
    timer = deps.time.setTimer(timeoutMs, () => {
      isLate = true
      reject(timedOut(timeoutMs))
    })
  })
  const opening = openBroker(deps, args, options)
  // Contact that comes too late is ended; what it failed with is no longer of interest.
  opening.then(
    (broker) => {
      if (isLate) broker.cluster.close()
    },
    () => undefined,
  )
  try {
    return await Promise.race([opening, late])
  } finally {
    timer?.cancel()
  }
}

export function timedOut(timeoutMs: number | undefined): StreamError {
  return new StreamError('TIMED_OUT', `not done within ${timeoutMs} ms`)
}

/** Of records and of ends: what is read to the end must be read as that end was asked for. */
export function isolationOf(
  plan: Pick<ReadPlan, 'isUncommitted'>,
  settings: Broker['settings'],
): Isolation {
  const isOpen = plan.isUncommitted || settings.text('isolation.level') === 'read_uncommitted'
  return isOpen ? 'read_uncommitted' : 'read_committed'
}

export function openConsumer(
  deps: CommandDeps,
  { settings, cluster }: Broker,
  plan: ReadPlan,
  partitionCount: number,
  localReads?: LocalReadOptions,
  partitionBytes = settings.number('max.partition.fetch.bytes'),
): Promise<ConsumerClient> {
  const { isByTime } = plan
  // Who reads whatever matches, or waits for a topic, goes on without one that is deleted.
  const goesOnWithout = plan.isRegex || plan.waitTopic
  const fetchBytesMax = settings.number('fetch.max.bytes')
  const rack = settings.text('client.rack')
  return deps.clients.consumer(cluster, {
    isolation: isolationOf(plan, settings),
    maxWaitMs: settings.number('fetch.max.wait.ms'),
    minBytes: settings.number('fetch.min.bytes'),
    fetchBytesMax,
    partitionBytesMax: isByTime ? Math.min(1_048_576, partitionBytes) : partitionBytes,
    // Merging holds every partition's next records; none of them may be kept from coming by the others.
    ...(isByTime ? { prefetchBytesMax: fetchBytesMax * 2 + partitionCount * 2_097_152 } : {}),
    ...(goesOnWithout ? { unknownTopicMs: Number.POSITIVE_INFINITY } : {}),
    ...(rack === null || rack === undefined ? {} : { rack }),
    ...(localReads === undefined ? {} : { localReads }),
  })
}

export function askOffsets(
  deps: CommandDeps,
  broker: Broker,
  plan: ReadPlan,
  questions: readonly OffsetQuestion[],
  isUncommitted = false,
): Promise<readonly OffsetAnswer[]> {
  return deps.clients.listOffsets(broker.cluster, questions, {
    isolation: isUncommitted ? 'read_uncommitted' : isolationOf(plan, broker.settings),
  })
}
