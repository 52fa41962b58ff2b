/**
 * A member of a group of the consumer protocol, as clients are: it sends heartbeats, gives partitions back before it says
 * so, commits in its epoch, and drops everything when it is fenced. For simulations and benchmarks.
 */
import { isStreamError } from '../../../src/base/errors.ts'
import type { Cluster } from '../../../src/client/cluster.ts'
import { Consumer } from '../../../src/client/consumer.ts'
import { GroupLink } from '../../../src/client/group-link.ts'
import type { Random } from '../../../src/ports/random.ts'
import type { Time } from '../../../src/ports/time.ts'
import type { Response } from '../../../src/protocol/api-table.ts'
import { KafkaError } from '../../../src/protocol/errors.ts'
import { RecordCursor } from '../../../src/record/record-cursor.ts'

export interface MemberPorts {
  readonly time: Time
  readonly random: Random
  readonly cluster: Cluster
  /** Ends its process, as a crash does. */
  readonly crash: () => void
}

export interface MemberOptions {
  readonly groupId: string
  readonly topic: string
  readonly topicId: string
  readonly instanceId?: string
  /** false: it only takes part. */
  readonly reads?: boolean
  /** Added to what it commits: a bug to plant. */
  readonly commitsAhead?: number
}

/** What happens to partitions, in order. */
export interface MemberListener {
  claim(member: ConsumerProtocolMember, partition: number): void
  release(member: ConsumerProtocolMember, partition: number): void
  read(partition: number, offset: number): void
}

const REBALANCE_TIMEOUT_MS = 60_000
const COMMIT_EVERY_MS = 300

export class ConsumerProtocolMember {
  readonly name: string
  readonly owned = new Set<number>()
  epoch = 0
  /** When the last heartbeat was sent that the group has accepted. */
  beatMs = Number.NEGATIVE_INFINITY
  pausedUntilMs = 0
  isGone = false
  /** How many partitions it was given, and how many it gave back. */
  taken = 0
  gaveBack = 0
  readonly isDone: Promise<void>
  readonly #time: Time
  readonly #cluster: Cluster
  readonly #crash: () => void
  readonly #link: GroupLink
  readonly #consumer: Consumer
  readonly #options: MemberOptions
  readonly #listener: MemberListener
  readonly #positions = new Map<number, number>()
  #mustTell = true
  /** As the group says. */
  #intervalMs = 500

  constructor(ports: MemberPorts, name: string, options: MemberOptions, listener: MemberListener) {
    const { time, random, cluster } = ports
    this.name = name
    this.#options = options
    this.#listener = listener
    this.#time = time
    this.#cluster = cluster
    this.#crash = ports.crash
    this.#link = new GroupLink(time, random, cluster, options.groupId)
    this.#consumer = new Consumer(time, random, cluster, { maxWaitMs: 100 })
    this.isDone = cluster.connect().then(async () => {
      await Promise.all([this.#beatAlways(), options.reads === false ? null : this.#readAlways()])
    })
  }

  /** Commits, gives everything back, and says that it goes: for good, or (static) for a while. */
  async leave(isForAWhile = false): Promise<void> {
    this.isGone = true
    await this.#commit()
    this.#drop([...this.owned])
    await this.#send(isForAWhile ? -2 : -1).catch(() => undefined)
    this.#consumer.close()
    this.#cluster.close()
  }

  die(): void {
    this.isGone = true
    this.#crash()
  }

  // --- heartbeats

  async #beatAlways(): Promise<void> {
    while (!this.isGone) {
      await this.#awake()
      const told = await this.#beat()
      if (!told) await this.#sleep(this.#intervalMs)
    }
  }

  /** @returns whether there is something to tell at once */
  async #beat(): Promise<boolean> {
    const sentMs = this.#time.monotonicMs()
    let answer: Response<'ConsumerGroupHeartbeat'>
    try {
      answer = await this.#send(this.epoch)
    } catch (error) {
      if (!isStreamError(error) || this.isGone) return false
      this.#mustTell = true
      return false
    }
    if (this.isGone) return false
    const code = answer.errorCode
    const isFenced =
      code === KafkaError.UNKNOWN_MEMBER_ID ||
      code === KafkaError.FENCED_MEMBER_EPOCH ||
      code === KafkaError.GROUP_ID_NOT_FOUND
    if (isFenced) {
      this.#drop([...this.owned])
      this.epoch = 0
    }
    if (code !== 0) {
      this.#mustTell = true
      return isFenced
    }
    this.beatMs = sentMs
    this.#intervalMs = answer.heartbeatIntervalMs
    this.#mustTell = false
    this.epoch = answer.memberEpoch
    return answer.assignment === null ? false : this.#follow(answer.assignment.topicPartitions)
  }

  #send(epoch: number): Promise<Response<'ConsumerGroupHeartbeat'>> {
    const { groupId, topic, topicId, instanceId } = this.#options
    const isFull = epoch === 0 || (epoch > 0 && this.#mustTell)
    const partitions = [...this.owned]
    const owned = epoch === 0 || partitions.length === 0 ? [] : [{ topicId, partitions }]
    return this.#link.call(
      'ConsumerGroupHeartbeat',
      {
        groupId,
        memberId: this.name,
        memberEpoch: epoch,
        instanceId: instanceId ?? null,
        rebalanceTimeoutMs: isFull ? REBALANCE_TIMEOUT_MS : -1,
        subscribedTopicNames: isFull ? [topic] : null,
        topicPartitions: isFull ? owned : null,
      },
      (response) => response.errorCode,
      { timeoutMs: 2000, resend: false },
    )
  }

  async #follow(rows: readonly { partitions: readonly number[] }[]): Promise<boolean> {
    const assigned = new Set(rows.flatMap(({ partitions }) => partitions))
    const revoked = [...this.owned].filter((partition) => !assigned.has(partition))
    const added = [...assigned].filter((partition) => !this.owned.has(partition))
    if (revoked.length > 0) {
      await this.#commit()
      // Its epoch may have ended meanwhile.
      if (this.isGone) return false
      this.#drop(revoked)
    }
    for (const partition of added) {
      this.owned.add(partition)
      this.taken += 1
      this.#listener.claim(this, partition)
    }
    if (added.length > 0 && this.#options.reads !== false) await this.#begin(added)
    this.#mustTell ||= revoked.length + added.length > 0
    return this.#mustTell
  }

  #drop(partitions: readonly number[]): void {
    for (const partition of partitions) {
      if (!this.owned.delete(partition)) continue
      this.gaveBack += 1
      this.#consumer.unassign(this.#options.topic, partition)
      this.#positions.delete(partition)
      this.#listener.release(this, partition)
    }
  }

  // --- records

  async #begin(partitions: readonly number[]): Promise<void> {
    const { groupId, topic } = this.#options
    for (let attempt = 0; attempt < 100 && !this.isGone; attempt += 1) {
      const answer = await this.#link
        .call(
          'OffsetFetch',
          {
            groups: [
              {
                groupId,
                memberId: this.name,
                memberEpoch: this.epoch,
                topics: [{ name: topic, partitionIndexes: partitions }],
              },
            ],
            requireStable: false,
          },
          (response) => response.groups[0]?.errorCode ?? 0,
        )
        .catch(() => undefined)
      if (answer?.groups[0]?.errorCode === 0) {
        const rows = answer.groups[0].topics[0]?.partitions ?? []
        const startOf = (partition: number): number =>
          Math.max(0, rows.find((row) => row.partitionIndex === partition)?.committedOffset ?? 0)
        this.#consumer.assign(
          partitions
            .filter((partition) => this.owned.has(partition))
            .map((partition) => ({ topic, partition, startOffset: startOf(partition) })),
        )
        return
      }
      // Fenced meanwhile: the next heartbeat says so.
      if (answer !== undefined) return
      await this.#sleep(100)
    }
  }

  async #readAlways(): Promise<void> {
    const cursor = new RecordCursor()
    let committedMs = 0
    while (!this.isGone) {
      await this.#awake()
      const event = this.#consumer.poll()
      if (event?.kind === 'records' && this.owned.has(event.partition)) {
        for (const at of event.batches) {
          cursor.reset(event.bytes, at)
          while (cursor.next()) this.#listener.read(event.partition, cursor.offset)
        }
        this.#positions.set(event.partition, event.nextOffset)
        await this.#sleep(5)
      } else await this.#sleep(20)
      if (this.#time.monotonicMs() - committedMs > COMMIT_EVERY_MS) {
        committedMs = this.#time.monotonicMs()
        await this.#commit()
      }
    }
  }

  async #commit(): Promise<void> {
    const { groupId, topic, commitsAhead } = this.#options
    const rows = [...this.#positions].map(([partitionIndex, offset]) => ({
      partitionIndex,
      committedOffset: offset + (commitsAhead ?? 0),
      committedMetadata: '',
    }))
    if (rows.length === 0) return
    await this.#link
      .call(
        'OffsetCommit',
        {
          groupId,
          generationIdOrMemberEpoch: this.epoch,
          memberId: this.name,
          topics: [{ name: topic, partitions: rows }],
        },
        (response) => response.topics[0]?.partitions[0]?.errorCode ?? 0,
        { timeoutMs: 2000, versionMax: 9 },
      )
      .catch(() => undefined)
  }

  async #awake(): Promise<void> {
    while (this.#time.monotonicMs() < this.pausedUntilMs && !this.isGone) await this.#sleep(50)
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#time.setTimer(ms, resolve)
    })
  }
}
