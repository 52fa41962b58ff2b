/**
 * Who a run of `pipe` is: the transactional id and the member's instance id under which it works. A run after a crash
 * takes the slot of the one that died, so it fences what that left open and has its partitions at once, instead of
 * waiting for sessions and transactions to time out.
 *
 * Slot N of a job on this host and for this user is locked by a file; ids hold a random name of this state directory, so that other
 * hosts never have the same.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import { murmur2 } from '../src/record/partitioner.ts'
import type { CommandDeps } from './deps.ts'

const SLOTS_MAX = 4096
const NAME_CHARACTERS_MAX = 80

export class PipeSlot {
  readonly transactionalId: string
  /** Undefined without a job. */
  readonly instanceId: string | undefined
  /** Begins the names of this slot's files; no other run has files of such names. */
  readonly filePrefix: string
  readonly #release: () => void

  private constructor(
    transactionalId: string,
    instanceId: string | undefined,
    filePrefix: string,
    release: () => void,
  ) {
    this.transactionalId = transactionalId
    this.instanceId = instanceId
    this.filePrefix = filePrefix
    this.#release = release
  }

  /** @throws StreamError CONFLICT when a singleton runs already; of the state directory */
  static open(
    deps: CommandDeps,
    job: string | undefined,
    options: { readonly clusterId: string; readonly isSingleton: boolean },
  ): PipeSlot {
    if (job === undefined) {
      const name = Buffer.from(deps.random.bytes(12)).toString('hex')
      return new PipeSlot(`stream.pipe.${name}`, undefined, `pipe-${name}`, () => undefined)
    }
    const { host } = deps
    const directory = stateDirectory(deps)
    host.makeDirectory(directory)
    const hostName = ownName(deps, directory)
    const place = `${job}\n${options.clusterId}`
    const hash = murmur2(Buffer.from(place, 'utf8')).toString(16)
    const name = `${encodeURIComponent(job).slice(0, NAME_CHARACTERS_MAX)}-${hash}`
    for (let number = 1; number <= (options.isSingleton ? 1 : SLOTS_MAX); number += 1) {
      try {
        const release = host.lockFile(`${directory}/${name}.${number}.lock`)
        return new PipeSlot(
          `stream.pipe.${job}.${hostName}.${number}`,
          `pipe-${hostName}-${number}`,
          `pipe-${name}.${number}`,
          release,
        )
      } catch (error) {
        if (!isStreamError(error, 'CONFLICT')) throw error
      }
    }
    throw alreadyRuns(job)
  }

  release(): void {
    this.#release()
  }
}

export function alreadyRuns(job: string, hint?: string): StreamError {
  return new StreamError('CONFLICT', `${job}: another run of this job is under way`, {
    target: job,
    hint: hint ?? 'wait for it, or end it; several runs need a job without --singleton',
  })
}

function stateDirectory({ host }: CommandDeps): string {
  const home = host.environment['XDG_STATE_HOME']
  const base = home === undefined || home === '' ? `${host.homeDirectory}/.local/state` : home
  return `${base}/stream/pipe`
}

/** Of two runs that make it at once one may keep a name that is not kept: its slot is then cleared by timeouts only. */
function ownName({ host, random }: CommandDeps, directory: string): string {
  const path = `${directory}/name`
  const known = host.readFile(path)
  if (known !== undefined && known.length > 0) return Buffer.from(known).toString('utf8').trim()
  host.writeFile(path, Buffer.from(`${Buffer.from(random.bytes(8)).toString('hex')}\n`))
  return Buffer.from(host.readFile(path) ?? new Uint8Array(0))
    .toString('utf8')
    .trim()
}
