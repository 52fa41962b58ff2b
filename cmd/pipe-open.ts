/** From a plan to the lanes of its barrier; only the one that is asked for is loaded. */

import type { Broker } from './broker.ts'
import type { CommandDeps } from './deps.ts'
import type { Flags } from './flags.ts'
import { commonEnvironment } from './pipe-child.ts'
import type { LaneEvents, LaneRunner } from './pipe-lane.ts'
import type { PipeOutput } from './pipe-output.ts'
import type { PipePlan } from './pipe-plan.ts'
import { SourceState } from './pipe-state.ts'
import { absolutePath } from './settings.ts'
import { spoolDirectory } from './spool.ts'

export interface RunnerParts {
  readonly output: PipeOutput | undefined
  readonly lanes: number
  /** Begins the names of its files in the spool. */
  readonly filePrefix: string
  readonly events: LaneEvents
}

/** @throws StreamError of the spool's directory */
export async function openRunner(
  deps: CommandDeps,
  flags: Flags,
  broker: Broker,
  plan: PipePlan,
  parts: RunnerParts,
): Promise<LaneRunner> {
  const { output, lanes, filePrefix } = parts
  const environment = commonEnvironment(deps, flags, broker, plan)
  if (plan.barrier === 'line') {
    const { LineRunner } = await import('./pipe-line.ts')
    return LineRunner.open(deps, plan, {
      environment,
      answers: output?.answerReader(),
      events: parts.events,
    })
  }
  if (plan.barrier === 'none') {
    const { FreeRunner } = await import('./pipe-none.ts')
    return FreeRunner.open(deps, plan, { ...parts, environment })
  }
  if (plan.barrier === 'ack') {
    const { AckRunner } = await import('./pipe-ack.ts')
    const mayKeepState = plan.job !== undefined && plan.isSingleton && lanes === 1
    const state = mayKeepState ? new SourceState(deps, broker, plan.job) : undefined
    return AckRunner.open(deps, plan, { ...parts, environment, state })
  }
  const directory = flags.text('spool-dir') ?? spoolDirectory(deps.host)
  deps.host.makeDirectory(directory)
  const { ExitRunner } = await import('./pipe-exit.ts')
  const { carry } = plan
  return ExitRunner.open(deps, plan, {
    environment,
    filePrefix: absolutePath(deps.host, `${directory}/${filePrefix}`),
    output,
    carryPath: carry === undefined ? undefined : carryPaths(deps, carry.path, lanes),
  })
}

/** The file itself where there is one lane; several lanes have one each. */
function carryPaths(deps: CommandDeps, path: string, lanes: number): (lane: number) => string {
  const own = absolutePath(deps.host, path)
  return (lane) => (lanes === 1 ? own : `${own}.${lane}`)
}
