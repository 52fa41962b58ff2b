/**
 * One run of a name at a time, on all hosts: a membership in a group of that name, which ends with its process, or some
 * seconds after it; on this host a file lock, which ends at once. Members that a killed run has left behind on this host, in
 * that group or in those that it read for, are known by their ids and waited out.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import { sleep } from '../src/ports/time.ts'
import type { Broker } from './broker.ts'
import type { ClusterClient, GroupAdminClient, GroupMemberClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { runtimeDirectory } from './settings.ts'
import { transactionalIdOf } from './txn-state.ts'

/** Short, so that whoever comes after a killed run need not wait for long. */
const SESSION_MS_MAX = 10_000
const POLL_MS = 100
const MEMBER_MS_MAX = 10_000

export class TxnLock {
  readonly #member: GroupMemberClient
  readonly #cluster: ClusterClient | undefined
  readonly #unlock: () => void
  readonly #remember: (ids: readonly string[]) => void
  readonly #ids: string[] = []
  /** Of the last run of the name on this host: it has ended, for the lock is ours. */
  readonly leftBehind: ReadonlySet<string>

  private constructor(
    member: GroupMemberClient,
    cluster: ClusterClient | undefined,
    leftBehind: ReadonlySet<string>,
    unlock: () => void,
    remember: (ids: readonly string[]) => void,
  ) {
    this.#member = member
    this.#cluster = cluster
    this.leftBehind = leftBehind
    this.#unlock = unlock
    this.#remember = remember
  }

  /** A membership of this run. @throws StreamError of the file */
  remember(memberId: string): void {
    this.#ids.push(memberId)
    this.#remember(this.#ids)
  }

  /** @throws StreamError CONFLICT: it runs already; of the broker */
  static async take(
    deps: CommandDeps,
    broker: Broker,
    groups: GroupAdminClient,
    name: string,
  ): Promise<TxnLock> {
    const { host, time } = deps
    const directory = runtimeDirectory(host)
    host.makeDirectory(directory, 0o700)
    const path = `${directory}/txn-${Buffer.from(name).toString('base64url').slice(0, 80)}`
    const unlock = lockHere(deps, `${path}.lock`, name)
    let cluster: ClusterClient | undefined
    try {
      const group = transactionalIdOf(name)
      const text = Buffer.from(host.readFile(`${path}.members`) ?? []).toString('utf8')
      const leftBehind = new Set(text.split('\n'))
      const sessionMs = sessionMsOf(broker)
      if (!(await waitOut(deps, groups, group, leftBehind, sessionMs))) throw taken(name)
      // A Kafka door answers in order: a join that waits would hold up what comes behind it.
      cluster = broker.scheme === 'kafka' ? await broker.openAnother() : undefined
      const member = await deps.clients.groupMember(cluster ?? broker.cluster, {
        groupId: group,
        topics: [],
        sessionTimeoutMs: sessionMs,
        heartbeatIntervalMs: Math.floor(sessionMs / 3),
      })
      member.start()
      const lock = new TxnLock(member, cluster, leftBehind, unlock, (ids) =>
        host.writeFile(`${path}.members`, Buffer.from(ids.join('\n'))),
      )
      const deadlineMs = time.monotonicMs() + MEMBER_MS_MAX
      for (;;) {
        const members = (await groups.describe(group))?.members ?? []
        if (members.length > 1) {
          await lock.release()
          throw taken(name)
        }
        if (member.memberId !== '' && members[0]?.memberId === member.memberId) break
        if (time.monotonicMs() > deadlineMs) {
          await lock.release()
          throw new StreamError(
            'TIMED_OUT',
            `${name}: the group that guards the name is not served`,
          )
        }
        await sleep(time, POLL_MS / 10)
      }
      lock.remember(member.memberId)
      return lock
    } catch (error) {
      unlock()
      throw error
    }
  }

  async release(): Promise<void> {
    await this.#member.leave()
    this.#cluster?.close()
    this.#unlock()
  }
}

function lockHere({ host }: CommandDeps, path: string, name: string): () => void {
  try {
    return host.lockFile(path)
  } catch (error) {
    if (isStreamError(error, 'CONFLICT')) throw taken(name)
    throw error
  }
}

/**
 * Waits while a group has no members but those that a killed run has left behind.
 * @returns whether it is empty; false: somebody else is in it
 */
export async function waitOut(
  deps: CommandDeps,
  groups: GroupAdminClient,
  group: string,
  leftBehind: ReadonlySet<string>,
  sessionMs: number,
): Promise<boolean> {
  const { time } = deps
  const startMs = time.monotonicMs()
  for (let hasSaid = false; ; ) {
    const members = (await groups.describe(group))?.members ?? []
    if (members.length === 0) return true
    const isOurs = members.every(({ memberId }) => leftBehind.has(memberId))
    if (!isOurs || time.monotonicMs() - startMs > 2 * sessionMs) return false
    if (!hasSaid) {
      hasSaid = true
      deps.console.warn(
        `group ${group}: the last run was killed; waiting up to ${sessionMs / 1000} s until the broker has noticed`,
      )
    }
    await sleep(time, POLL_MS)
  }
}

/** How long a member of a transaction may be silent. */
export function sessionMsOf({ settings }: Broker): number {
  return Math.min(SESSION_MS_MAX, settings.number('session.timeout.ms'))
}

function taken(name: string): StreamError {
  return new StreamError('CONFLICT', `${name}: a transaction of this name is running`, {
    target: name,
    hint: 'wait for it, or use another name: -j NAME',
  })
}
