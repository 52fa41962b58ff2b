/** What follows from a failed epoch: --retry, --on-fail and --dlq-max (commands.md, section 5 pipe). */

import type { StreamError } from '../src/base/errors.ts'
import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import type { DeadFailure } from './dlq-records.ts'
import { batchIdOf, childFailed, deadFailureOf, type EpochFailure } from './pipe-child.ts'
import type { Epoch } from './pipe-epochs.ts'
import { DeadShare } from './pipe-limits.ts'
import type { PipePlan } from './pipe-plan.ts'
import type { PartitionName } from './read-range.ts'
import { Attempts, type RetryPolicy } from './retry-policy.ts'

export type NextStep =
  | { readonly kind: 'retry'; readonly pauseMs: number }
  | { readonly kind: 'bisect' }
  /** `error`: and the job stops then, for there are too many. */
  | { readonly kind: 'dead'; readonly dead: DeadFailure; readonly error: StreamError | undefined }
  | { readonly kind: 'stop'; readonly error: StreamError }

export class EpochJudge {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #plan: PipePlan
  readonly #sources: readonly string[]
  readonly #attempts = new WeakMap<Epoch, Attempts>()
  readonly #share: DeadShare
  #hasDeadTopic = false

  constructor(
    deps: CommandDeps,
    broker: Broker,
    plan: PipePlan,
    partitions: readonly PartitionName[],
  ) {
    this.#deps = deps
    this.#broker = broker
    this.#plan = plan
    this.#sources = [...new Set(partitions.map(({ topic }) => topic))]
    this.#share = new DeadShare(deps.time, plan.dlqLimit)
  }

  /** Records that are tried for the first time. */
  addRecords(count: number): void {
    this.#share.addRecords(count)
  }

  /** @throws StreamError of making the topic of dead letters */
  async judge(epoch: Epoch, failure: EpochFailure): Promise<NextStep> {
    const { verdict, isCertain } = failure
    if (verdict === 'stop') return { kind: 'stop', error: this.#failed(epoch, failure) }
    const pauseMs = isCertain ? undefined : this.#pauseMs(epoch, verdict)
    if (pauseMs !== undefined) {
      if (epoch.attempt === 1 || verdict === 'later') this.#tell(epoch, failure, pauseMs)
      return { kind: 'retry', pauseMs }
    }
    const { onFail, dlq } = this.#plan
    if (onFail === 'stop' || dlq === undefined) {
      return { kind: 'stop', error: this.#failed(epoch, failure) }
    }
    if (onFail === 'bisect' && epoch.records > 1) return { kind: 'bisect' }
    return this.bury(epoch, failure, dlq)
  }

  /** @throws StreamError of making the topic of dead letters */
  async bury(
    epoch: Epoch,
    failure: EpochFailure,
    dlq: string,
  ): Promise<Extract<NextStep, { kind: 'dead' }>> {
    await this.#prepareDeadTopic(dlq)
    const words = `${this.#name(epoch)}: ${failure.words}; dead-lettered in ${dlq}`
    this.#deps.console.warn(words)
    const dead = deadFailureOf(this.#plan.job, epoch, failure)
    const tooMany = this.#share.addDead(epoch.records)
    return { kind: 'dead', dead, error: tooMany ? this.#tooMany(failure) : undefined }
  }

  #pauseMs(epoch: Epoch, verdict: 'failed' | 'later'): number | undefined {
    let attempts = this.#attempts.get(epoch)
    if (attempts === undefined) {
      attempts = new Attempts(this.#policyOf(epoch), this.#deps.random)
      this.#attempts.set(epoch, attempts)
    }
    return attempts.next(verdict)
  }

  /** Halves are of an epoch that was tried often enough; a record alone gets a second chance. */
  #policyOf({ parent, records }: Epoch): RetryPolicy {
    const { retry } = this.#plan
    if (parent === undefined) return retry
    return { ...retry, times: records === 1 ? Math.min(1, retry.times) : 0 }
  }

  #tell(epoch: Epoch, { words }: EpochFailure, pauseMs: number): void {
    const seconds = (pauseMs / 1000).toFixed(1)
    this.#deps.console.warn(`${this.#name(epoch)}: ${words}; trying again in ${seconds}s`)
  }

  #failed(epoch: Epoch, failure: EpochFailure): StreamError {
    return childFailed(this.#plan, failure, this.#name(epoch))
  }

  #tooMany({ words }: EpochFailure): StreamError {
    const { share, windowMs } = this.#plan.dlqLimit
    const limit = `${share * 100}%/${windowMs / 60_000}m`
    return childFailed(
      this.#plan,
      {
        verdict: 'stop',
        isCertain: true,
        words: `too many dead letters (--dlq-max ${limit}), the last one: ${words}`,
        cure: `look at them: stream dlq show ${this.#plan.job ?? ''}; to allow more: --dlq-max`,
        exit: '',
        stderr: new Uint8Array(0),
      },
      '',
    )
  }

  #name(epoch: Epoch): string {
    return batchIdOf(this.#plan.job, epoch)
  }

  async #prepareDeadTopic(name: string): Promise<void> {
    if (this.#hasDeadTopic) return
    const { prepareDeadTopic } = await import('./dlq-records.ts')
    await prepareDeadTopic(this.#deps, this.#broker, name, this.#sources)
    this.#hasDeadTopic = true
  }
}
