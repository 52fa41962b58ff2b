/** What all children of `pipe` have in common: their environment, and what their end is called. */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import type { DeadFailure } from './dlq-records.ts'
import type { Flags } from './flags.ts'
import type { Epoch } from './pipe-epochs.ts'
import type { PipePlan } from './pipe-plan.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** Why an epoch was not done, and what that asks for. */
export interface EpochFailure {
  /** `failed`: as --retry and --on-fail say; `later`: again, without end; `stop`: the job ends. */
  readonly verdict: 'failed' | 'later' | 'stop'
  /** Nothing is gained by trying the same again. */
  readonly isCertain: boolean
  /** One line. */
  readonly words: string
  readonly cure: string | undefined
  readonly exit: string
  readonly stderr: Uint8Array
}

export function failedBecause(
  words: string,
  cure: string | undefined,
  more: Partial<EpochFailure> = {},
): EpochFailure {
  return {
    verdict: 'failed',
    isCertain: false,
    words,
    cure,
    exit: '',
    stderr: new Uint8Array(0),
    ...more,
  }
}

/** `JOB/TOPIC/PARTITION/FIRST-LAST`. */
export function batchIdOf(job: string | undefined, epoch: Epoch): string {
  const { topic, partition, first, last } = epoch
  return `${job ?? 'pipe'}/${topic}/${partition}/${first}-${last}`
}

export function deadFailureOf(
  job: string | undefined,
  epoch: Epoch,
  failure: EpochFailure,
): DeadFailure {
  const { words: error, exit, stderr } = failure
  const batch = batchIdOf(job, epoch)
  return { job: job ?? 'pipe', batch, attempts: epoch.attempt, error, exit, stderr }
}

/** The end of the run that a failure is: exit 9. */
export function childFailed(plan: PipePlan, failure: EpochFailure, where: string): StreamError {
  const program = plan.words[0] ?? ''
  const place = where === '' ? '' : `${where}: `
  return new StreamError('CHILD_FAILED', `${place}${program}: ${failure.words}`, {
    ...(failure.cure === undefined ? {} : { hint: failure.cure }),
  })
}

/** A producer that was fenced says so in the words of a run. */
export function takenOver(error: unknown, { job }: PipePlan): unknown {
  if (!isStreamError(error, 'FENCED')) return error
  const subject = job === undefined ? 'the transaction' : `${job}: this run`
  return new StreamError('FENCED', `${subject} was fenced: ${error.message}`, {
    cause: error,
    hint: 'a newer run has taken over, or it was silent for too long; what it had not committed is dropped',
    ...(error.kafkaError === undefined ? {} : { kafkaError: error.kafkaError }),
  })
}

/** What a child knows of the run: which broker, which job. Ours of these names never reach it. */
export function commonEnvironment(
  { host }: CommandDeps,
  flags: Flags,
  broker: Broker,
  plan: PipePlan,
): Environment {
  const context = flags.text('context')
  const address = flags.text('broker')
  const inherits = ['STREAM_BROKER', 'STREAM_CONTEXT'].some((name) => {
    const value = host.environment[name]
    return value !== undefined && value !== ''
  })
  const place =
    context !== undefined
      ? { STREAM_CONTEXT: context, STREAM_BROKER: undefined }
      : address !== undefined
        ? { STREAM_BROKER: address, STREAM_CONTEXT: undefined }
        : inherits
          ? {}
          : { STREAM_BROKER: broker.address }
  const none = Object.fromEntries(
    [
      'TOPIC',
      'PARTITION',
      'FIRST',
      'LAST',
      'COUNT',
      'BATCH_ID',
      'PARENT_BATCH_ID',
      'CARRY_FILE',
      'OFFSET',
      'TS',
      'KEY',
      'KEY_B64',
      'HEADERS',
    ].map((name) => [`STREAM_${name}`, undefined]),
  )
  return { ...none, ...place, STREAM_JOB: plan.job ?? '', STREAM_BARRIER: plan.barrier }
}

/** What a child of the exit barrier knows of its epoch. */
export function epochEnvironment(job: string | undefined, epoch: Epoch): Environment {
  const { topic, partition, first, last, records, parent } = epoch
  return {
    STREAM_TOPIC: topic,
    STREAM_PARTITION: String(partition),
    STREAM_FIRST: String(first),
    STREAM_LAST: String(last),
    STREAM_COUNT: String(records),
    STREAM_BATCH_ID: batchIdOf(job, epoch),
    STREAM_PARENT_BATCH_ID: parent === undefined ? undefined : batchIdOf(job, parent),
    STREAM_ATTEMPT: String(epoch.attempt),
  }
}

/** Against what makes no record. */
export function cureOf(error: StreamError, { out }: PipePlan): string | undefined {
  if (error.code !== 'RECORD_TOO_LARGE') return error.hint
  return `raise the limit: stream topics alter ${out?.topic ?? ''} --set max.message.bytes=N`
}
