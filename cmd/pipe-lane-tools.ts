/** What the runners of all barriers are made with, and do alike. */

import { isStreamError } from '../src/base/errors.ts'
import type { Children } from '../src/ports/children.ts'
import { OutputBuffer } from '../src/record/output-buffer.ts'
import type { CommandDeps } from './deps.ts'
import { type Environment, type EpochFailure, failedBecause } from './pipe-child.ts'
import type { Epoch } from './pipe-epochs.ts'
import type { PipePlan } from './pipe-plan.ts'
import { PiecePrinter } from './pipe-printer.ts'

export interface LaneTools {
  readonly deps: CommandDeps
  readonly plan: PipePlan
  readonly children: Children
  readonly printer: PiecePrinter
}

export async function openLaneTools(deps: CommandDeps, plan: PipePlan): Promise<LaneTools> {
  const printer = await PiecePrinter.open(plan.childIn, plan.delimiter)
  return { deps, plan, children: deps.openChildren(), printer }
}

const PRINT_BYTES = 64 * 1024

/** @returns what a long-lived child reads of it, or why it cannot be told to a child */
export function printEpoch(
  { printer }: LaneTools,
  { pieces, topic, partition }: Pick<Epoch, 'pieces' | 'topic' | 'partition'>,
): Uint8Array | EpochFailure {
  const input = new OutputBuffer(PRINT_BYTES)
  try {
    for (const piece of pieces) printer.print(piece, topic, partition, input)
  } catch (error) {
    if (!isStreamError(error, 'RECORD_INVALID')) throw error
    return failedBecause(error.message, error.hint, { isCertain: true })
  }
  return input.filled()
}

/** @param fence  the group's generation */
export function laneEnvironment(
  environment: Environment,
  lane: number,
  { attempt }: Epoch,
  fence: number,
): Environment {
  return {
    ...environment,
    STREAM_LANE: String(lane),
    STREAM_ATTEMPT: String(attempt),
    STREAM_FENCE: String(fence),
  }
}
