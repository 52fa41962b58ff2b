/**
 * Offsets of the source's groups, for the groups that this broker coordinates: copied for mirrored topics, as they are at the
 * source, where the group has no live members here.
 *
 * Invariants:
 * - Nothing is committed beyond what is mirrored and committed here: a group that is moved here finds its next record.
 * - The offsets of a topic are copied only while it is a mirror: from its promotion on they are the group's own.
 */

import { isStreamError, type StreamError } from '../../src/base/errors.ts'
import { GroupAdmin } from '../../src/client/group-admin.ts'
import { GroupLink } from '../../src/client/group-link.ts'
import { fetchGroupOffsets, type GroupOffset } from '../../src/client/group-offsets.ts'
import type { Timer } from '../../src/ports/time.ts'
import type { GroupCoordinator } from '../coordinator/group-coordinator.ts'
import { checkCommit } from '../coordinator/group-entry.ts'
import { encodeOffset } from '../coordinator/group-records.ts'
import type { GroupShard } from '../coordinator/group-shard.ts'
import type { Broker } from '../replica/broker.ts'
import type { LinkRun } from './link-run.ts'

const PAUSE_MS = 5000
const PEER_MS = 5000
const LIST_OFFSETS_VERSION = 5
const NOBODY = { memberId: '', groupInstanceId: null } as const

export class GroupSync {
  readonly #broker: Broker
  readonly #groups: GroupCoordinator
  readonly #runs: ReadonlyMap<string, LinkRun>
  /** What was said last of a link's groups, until it goes well again. */
  readonly #told = new Map<string, string>()
  /** Asking their sources: one that does not answer holds up its own link alone. */
  readonly #busy = new Set<LinkRun>()
  #timer: Timer | undefined
  #isStopped = false

  constructor(broker: Broker, groups: GroupCoordinator, runs: ReadonlyMap<string, LinkRun>) {
    this.#broker = broker
    this.#groups = groups
    this.#runs = runs
  }

  start(): void {
    this.#timer = this.#broker.time.setTimer(PAUSE_MS, () => {
      for (const [name, run] of [...this.#runs]) void this.#pass(name, run)
      this.start()
    })
  }

  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
  }

  async #pass(name: string, run: LinkRun): Promise<void> {
    const { syncGroups, state } = run.value
    if (!syncGroups || state !== 'ACTIVE' || this.#busy.has(run)) return
    this.#busy.add(run)
    try {
      await this.#sync(run)
      this.#told.delete(name)
    } catch (error) {
      if (!isStreamError(error)) throw error
      if (this.#isStopped || this.#told.get(name) === error.message) return
      this.#told.set(name, error.message)
      const words = 'offsets of groups could not be copied; it is tried again'
      this.#broker.log.warn(words, { link: name, error: error.message })
    } finally {
      this.#busy.delete(run)
    }
  }

  async #sync(run: LinkRun): Promise<void> {
    const { time, random, nodeId } = this.#broker
    const { cluster } = run
    const isMirrored = ({ topic }: GroupOffset): boolean => {
      const mirror = this.#broker.image.links.mirror(topic)?.value
      return mirror?.linkId === run.value.id && mirror.state === 'MIRROR'
    }
    let failed: StreamError | undefined
    for (const { groupId } of await new GroupAdmin(time, random, cluster).list()) {
      const place = await this.#groups.locate(groupId)
      if (place.errorCode !== 0 || place.nodeId !== nodeId || this.#isStopped) continue
      const found = this.#groups.find(groupId)
      if (found.shard === undefined) continue
      let offsets: readonly GroupOffset[]
      try {
        const link = new GroupLink(time, random, cluster, groupId)
        offsets = (await fetchGroupOffsets(link, undefined, { requireStable: false })).filter(
          isMirrored,
        )
      } catch (error) {
        // It may be hidden from us, or of a kind that has no such offsets: the others go on.
        if (!isStreamError(error) || error.kafkaError === undefined) throw error
        failed ??= error
        continue
      }
      const news = offsets.filter(({ topic, partition, offset }) => {
        const known = this.#groups.find(groupId).entry?.offsets.get(topic, partition)
        return known?.offset !== offset
      })
      if (news.length > 0) await this.#commit(groupId, found.shard, news)
    }
    if (failed !== undefined) throw failed
  }

  async #commit(
    groupId: string,
    shard: GroupShard,
    offsets: readonly GroupOffset[],
  ): Promise<void> {
    const ends = await Promise.all(offsets.map((each) => this.#endOf(each.topic, each.partition)))
    const { time, image } = this.#broker
    // Somebody may have joined meanwhile, or a topic been promoted.
    const { shard: stillThere } = this.#groups.find(groupId)
    if (stillThere !== shard) return
    const entry = this.#groups.entryIn(shard, groupId)
    const isFree = checkCommit(entry, time.monotonicMs(), NOBODY, -1, 9) === 0
    const rows = offsets.flatMap(({ topic, partition, offset, metadata }, index) => {
      const end = ends[index]
      const isMirror = image.links.mirror(topic)?.value.state === 'MIRROR'
      if (!isFree || end === undefined || !isMirror) return []
      const value = {
        offset: Math.min(offset, end),
        leaderEpoch: -1,
        metadata: metadata ?? '',
        commitTimestampMs: time.wallMs(),
        expireTimestampMs: -1,
      }
      const isKnown = entry.offsets.get(topic, partition)?.offset === value.offset
      return isKnown ? [] : [{ topic, partition, value }]
    })
    if (rows.length === 0) {
      this.#groups.dropIfNothing(entry)
      return
    }
    const records = rows.map((row) => encodeOffset(groupId, row.topic, row.partition, row.value))
    const apply = (position: number): void => {
      const { offsets: table } = this.#groups.entryIn(shard, groupId)
      for (const { topic, partition, value } of rows) table.set(topic, partition, value, position)
    }
    await new Promise<void>((resolve) => {
      this.#groups.append(shard, records, apply, () => resolve())
    })
  }

  /** What is mirrored and committed; undefined: not known now. */
  async #endOf(topic: string, partition: number): Promise<number | undefined> {
    const { table, image, peers, nodeId } = this.#broker
    const found = table.find(topic, partition)
    if (found !== undefined && found.notServing === undefined) return found.lastStableOffset
    const leader = image.partition(image.topic(topic)?.topicId ?? '', partition)?.value.leader ?? -1
    if (peers === undefined || leader < 0 || leader === nodeId) return undefined
    try {
      const partitions = [{ partitionIndex: partition, currentLeaderEpoch: -1, timestamp: -1 }]
      const body = { replicaId: -1, isolationLevel: 1, topics: [{ name: topic, partitions }] }
      const answer = await peers.call(leader, 'ListOffsets', LIST_OFFSETS_VERSION, body, {
        timeoutMs: PEER_MS,
      })
      const row = answer.topics[0]?.partitions[0]
      return row?.errorCode === 0 ? row.offset : undefined
    } catch (error) {
      if (!isStreamError(error)) throw error
      return undefined
    }
  }
}
