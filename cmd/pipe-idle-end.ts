/** The end of a long-lived child of `pipe` that owes nothing: alike for all barriers that have one. */

import type { ChildEnd } from '../src/ports/children.ts'
import { childFailed, failedBecause } from './pipe-child.ts'
import type { LaneEvents } from './pipe-lane.ts'
import type { PipePlan } from './pipe-plan.ts'
import { describeFailure, judgeEnd } from './retry-policy.ts'

/**
 * A long-lived child has ended that had answered all that it was given: only what ends everything ends the job, for whatever its
 * exit code says is of no record.
 */
export function tellIdleEnd(
  end: ChildEnd,
  plan: PipePlan,
  { onFailed, onIdleEnd }: Pick<LaneEvents, 'onFailed' | 'onIdleEnd'>,
): void {
  const verdict = judgeEnd(end, plan.success)
  if (verdict === 'done') return
  const words = describeFailure(end)
  if (verdict === 'stop') onFailed(childFailed(plan, failedBecause(words, undefined), ''))
  else onIdleEnd(`${plan.words[0] ?? ''}: ${words}, after it had answered everything`)
}
