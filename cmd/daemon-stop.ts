/** `stream daemon stop`: asks it to end cleanly, and waits until its process is gone. */

import { isStreamError, StreamError, UsageError } from '../src/base/errors.ts'
import { sleep } from '../src/ports/time.ts'
import { type DaemonLink, dataOption, findStarting, reachDaemon } from './daemon-shared.ts'
import type { CommandArgs, CommandDeps } from './deps.ts'
import type { CommandSpec } from './option-table.ts'

const STOP_MS_MAX = 60_000
const POLL_MS = 10

export const spec: CommandSpec = {
  name: 'daemon stop',
  summary: 'Stop the daemon',
  description: [
    'Returns when its process is gone and its data are free. Fine when none is running. One that is still starting, or waits for etcd, is ended too.',
  ],
  operands: [],
  options: [dataOption],
  examples: [{ line: 'stream daemon stop' }],
  exits: [[7, 'it has not ended within --timeout, or a minute']],
}

export async function run(deps: CommandDeps, args: CommandArgs): Promise<number> {
  if (args.operands.length > 0) throw new UsageError(`unexpected argument ${args.operands[0]}`)
  const link = await reachDaemon(deps, args)
  const limitMs = args.flags.durationMs('timeout') ?? STOP_MS_MAX
  if (link === undefined) {
    const starting = findStarting(deps, args)
    if (starting === undefined) return 0
    deps.host.terminate(starting.processId)
    await untilGone(
      deps,
      limitMs,
      () => deps.host.processMark(starting.processId) !== starting.mark,
    )
    return 0
  }
  let isGone: () => boolean
  try {
    isGone = await watchProcess(deps, link)
    await link.admin.daemonStop()
  } catch (error) {
    // It may be gone before its answer is.
    if (!isStreamError(error, 'CONNECTION_LOST')) throw error
    isGone = () => true
  } finally {
    link.cluster.close()
  }
  const { address } = link
  await untilGone(
    deps,
    limitMs,
    async () => isGone() && !(await deps.launcher.isAnswering(address)),
  )
  return 0
}

/** @throws StreamError TIMED_OUT */
async function untilGone(
  deps: CommandDeps,
  limitMs: number,
  isGone: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadlineMs = deps.time.monotonicMs() + limitMs
  while (!(await isGone())) {
    if (deps.time.monotonicMs() >= deadlineMs) {
      throw new StreamError('TIMED_OUT', `the daemon has not ended within ${limitMs} ms`, {
        hint: 'what it does: stream daemon logs -n 20',
      })
    }
    await sleep(deps.time, POLL_MS)
  }
}

/**
 * Tells when the daemon's process is gone. Its socket closes earlier: what it does last is to give its data free, and a
 * daemon started before that would find them in use.
 * @returns always true where the process cannot be seen from here (another host, another container)
 */
async function watchProcess(deps: CommandDeps, link: DaemonLink): Promise<() => boolean> {
  if (!link.address.startsWith('ipc://')) return () => true
  const { pid } = await link.admin.daemonStatus()
  const mark = deps.host.processMark(pid)
  if (mark === undefined || !looksLikeDaemon(deps, pid)) return () => true
  return () => deps.host.processMark(pid) !== mark
}

/** Behind a socket that a container shares the number means another process here. */
function looksLikeDaemon({ host }: CommandDeps, pid: number): boolean {
  const words = host.readFile(`/proc/${pid}/cmdline`)
  return words === undefined || /daemon/.test(Buffer.from(words).toString('latin1'))
}
