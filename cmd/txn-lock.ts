/**
 * One run of a name at a time, on all hosts: a membership in a group of that name, which ends with its process, or some
 * seconds after it; on this host a file lock, which ends at once. A member that this host has left behind is waited out.
 */

import { isStreamError, StreamError } from '../src/base/errors.ts'
import { sleep } from '../src/ports/time.ts'
import type { Broker } from './broker.ts'
import type { ClusterClient, GroupAdminClient, GroupMemberClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { runtimeDirectory } from './settings.ts'
import { transactionalIdOf } from './txn-state.ts'

const SESSION_MS = 10_000
const HEARTBEAT_MS = 3000
const POLL_MS = 100
const MEMBER_MS_MAX = 10_000

export class TxnLock {
  readonly #member: GroupMemberClient
  readonly #cluster: ClusterClient | undefined
  readonly #unlock: () => void

  private constructor(
    member: GroupMemberClient,
    cluster: ClusterClient | undefined,
    unlock: () => void,
  ) {
    this.#member = member
    this.#cluster = cluster
    this.#unlock = unlock
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
      const before = Buffer.from(host.readFile(`${path}.member`) ?? []).toString('utf8')
      await waitOut(deps, groups, group, before, name)
      // A Kafka door answers in order: a join that waits would hold up what comes behind it.
      cluster = broker.scheme === 'kafka' ? await broker.openAnother() : undefined
      const member = await deps.clients.groupMember(cluster ?? broker.cluster, {
        groupId: group,
        topics: [],
        sessionTimeoutMs: SESSION_MS,
        heartbeatIntervalMs: HEARTBEAT_MS,
      })
      member.start()
      const lock = new TxnLock(member, cluster, unlock)
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
      host.writeFile(`${path}.member`, Buffer.from(member.memberId))
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

/** @param before  the member id of the last run on this host, which has ended: its lock is ours */
async function waitOut(
  deps: CommandDeps,
  groups: GroupAdminClient,
  group: string,
  before: string,
  name: string,
): Promise<void> {
  const { time } = deps
  const startMs = time.monotonicMs()
  for (let hasSaid = false; ; ) {
    const members = (await groups.describe(group))?.members ?? []
    if (members.length === 0) return
    const isLeftBehind = members.every(({ memberId }) => memberId === before)
    if (!isLeftBehind || time.monotonicMs() - startMs > 2 * SESSION_MS) throw taken(name)
    if (!hasSaid) {
      hasSaid = true
      deps.console.warn(
        `${name}: its last run was killed; waiting up to ${SESSION_MS / 1000} s for the broker to notice`,
      )
    }
    await sleep(time, POLL_MS)
  }
}

function taken(name: string): StreamError {
  return new StreamError('CONFLICT', `${name}: a transaction of this name is running`, {
    target: name,
    hint: 'wait for it, or use another name: -j NAME',
  })
}
