/** `stream daemon stop`: asks it to end cleanly, and waits until it has. */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import { sleep } from '../src/ports/time.ts'
import { reachDaemon } from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'

const STOP_MS_MAX = 60_000
const POLL_MS = 10

export const spec: CommandSpec = {
  name: 'daemon stop',
  summary: 'Stop the daemon',
  description: ['Returns when it has closed everything. Fine when none is running.'],
  operands: [],
  options: [],
  examples: [{ line: 'stream daemon stop' }],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  const link = await reachDaemon(deps, args)
  if (link === undefined) return 0
  try {
    await link.admin.daemonStop()
  } catch (error) {
    // It may be gone before its answer is.
    if (!isStreamError(error, 'CONNECTION_LOST')) throw error
  } finally {
    link.cluster.close()
  }
  const limitMs = args.flags.durationMs('timeout') ?? STOP_MS_MAX
  const deadlineMs = deps.time.monotonicMs() + limitMs
  while (await deps.launcher.isAnswering(link.address)) {
    if (deps.time.monotonicMs() >= deadlineMs) {
      throw new StreamError('TIMED_OUT', `the daemon has not ended within ${limitMs} ms`)
    }
    await sleep(deps.time, POLL_MS)
  }
  return 0
}
