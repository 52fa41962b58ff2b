/** How a command joins a consumer group. */

import type { GroupMemberOptions } from '../src/client/group-member.ts'
import type { Broker } from './broker.ts'
import type { ClusterClient, GroupMemberClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'

export interface Membership {
  readonly member: GroupMemberClient
  /** Connections of the membership alone; undefined: it shares those of the records. */
  readonly ownCluster: ClusterClient | undefined
}

type MembershipOptions = Pick<GroupMemberOptions, 'groupId' | 'leavesForGood' | 'startsAnew'> & {
  readonly instanceId: string | undefined
}

/** Not joined yet, and of no topics. @throws StreamError as first contact */
export async function openMembership(
  deps: CommandDeps,
  broker: Broker,
  { instanceId, ...options }: MembershipOptions,
): Promise<Membership> {
  // A Kafka door answers in order: a join that waits for others would hold up the records behind it.
  const ownCluster = broker.scheme === 'kafka' ? await broker.openAnother() : undefined
  const { settings } = broker
  const member = await deps.clients.groupMember(ownCluster ?? broker.cluster, {
    ...options,
    topics: [],
    ...(instanceId === undefined ? {} : { instanceId }),
    sessionTimeoutMs: settings.number('session.timeout.ms'),
    heartbeatIntervalMs: settings.number('heartbeat.interval.ms'),
    rebalanceTimeoutMs: settings.number('max.poll.interval.ms'),
  })
  return { member, ownCluster }
}
