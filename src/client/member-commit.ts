/**
 * Commits of a member that reads several topics, of which some may be gone by now: nothing can be stored for them, and the others must
 * not suffer for it. The coordinator says of both, a topic that is gone and one that another has the name of, that it knows no
 * such id; which it is the brokers tell.
 */
import { isStreamError } from '../base/errors.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time } from '../ports/time.ts'
import { KafkaError } from '../protocol/errors.ts'
import { backoffMs } from './backoff.ts'
import type { Cluster } from './cluster.ts'
import type { GroupLink } from './group-link.ts'
import { type CommitIdentity, commitGroupOffsets, type GroupOffset } from './group-offsets.ts'
import { knownTopicId, recreatedTopic } from './topic-identity.ts'

/** The broker that is asked may know of it later than the coordinator. */
const LOOKS_MAX = 5

export interface MemberCommitTools {
  readonly time: Time
  readonly random: Random
  readonly cluster: Cluster
  readonly link: GroupLink
}

/**
 * Offsets of topics that are gone are left out.
 * @throws StreamError as commitGroupOffsets; CONFLICT: another topic has the name of one
 */
export async function commitAsMember(
  tools: MemberCommitTools,
  offsets: readonly GroupOffset[],
  identity: CommitIdentity,
): Promise<void> {
  for (let left = offsets; ; ) {
    try {
      await commitGroupOffsets(tools.link, left, identity)
      return
    } catch (error) {
      if (!isStreamError(error) || error.kafkaError !== KafkaError.UNKNOWN_TOPIC_ID) throw error
      const present = await withoutGone(tools, left)
      // Without the number, which callers take for a reason to try again.
      if (present === undefined) throw recreatedTopic(error.target ?? '')
      left = present
    }
  }
}

/** @returns fewer than there were; undefined: none of the topics is gone */
async function withoutGone(
  { time, random, cluster }: MemberCommitTools,
  offsets: readonly GroupOffset[],
): Promise<readonly GroupOffset[] | undefined> {
  const ids = new Map(offsets.map(({ topic, topicId }) => [topic, topicId]))
  for (let look = 1; look <= LOOKS_MAX; look++) {
    const gone = new Set<string>()
    for (const { name, topicId, errorCode } of await cluster.describeTopics([...ids.keys()])) {
      if (errorCode === KafkaError.UNKNOWN_TOPIC_OR_PARTITION) gone.add(name)
      const isOther = errorCode === 0 && knownTopicId(topicId) !== knownTopicId(ids.get(name))
      if (isOther) return undefined
    }
    if (gone.size > 0) return offsets.filter(({ topic }) => !gone.has(topic))
    if (look < LOOKS_MAX) await sleep(time, backoffMs(random, cluster.backoff, look))
  }
  return undefined
}
