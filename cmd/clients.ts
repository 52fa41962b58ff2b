/**
 * The client as commands use it, behind interfaces so that tests can stand in for it. The real one loads each part
 * when it is first asked for: a producing command never loads the consumer.
 */

import type { Admin } from '../src/client/admin.ts'
import type { Cluster, ClusterOptions } from '../src/client/cluster.ts'
import type { ClusterAdmin } from '../src/client/cluster-admin.ts'
import type { Consumer } from '../src/client/consumer.ts'
import type { ConsumerOptions } from '../src/client/consumer-events.ts'
import type { GroupAdmin } from '../src/client/group-admin.ts'
import type { GroupMember, GroupMemberOptions } from '../src/client/group-member.ts'
import type { LinkAdmin } from '../src/client/link-admin.ts'
import type { ListOffsetsOptions, OffsetAnswer, OffsetQuestion } from '../src/client/offsets.ts'
import type { Producer, ProducerOptions } from '../src/client/producer.ts'
import type { TransactionAdmin } from '../src/client/transaction-admin.ts'
import type {
  TransactionalProducer,
  TransactionOptions,
} from '../src/client/transactional-producer.ts'
import type { UserAdmin } from '../src/client/user-admin.ts'
import type { Hashes } from '../src/ports/hashes.ts'
import type { Log } from '../src/ports/log.ts'
import type { Net } from '../src/ports/net.ts'
import type { Random } from '../src/ports/random.ts'
import type { Time } from '../src/ports/time.ts'

export type ClusterClient = Pick<
  Cluster,
  'connect' | 'close' | 'metadata' | 'describeTopics' | 'awaitTopic' | 'requestTimeoutMs'
>
export type ProducerClient = Pick<
  Producer,
  | 'prepare'
  | 'partitionCount'
  | 'partitionForKey'
  | 'isFull'
  | 'appendedCount'
  | 'failure'
  | 'deliveredThrough'
  | 'appendLines'
  | 'consumedBytes'
  | 'append'
  | 'flushSoon'
  | 'writable'
  | 'flush'
  | 'close'
> &
  Partial<Pick<Producer, 'takesKeyedLines' | 'appendKeyedLines'>>
/** Takes batches that were made before, too. */
export type BatchProducerClient = ProducerClient & Pick<Producer, 'appendBatch'>
/** One transaction after the other. */
export interface TransactionClient
  extends Pick<TransactionalProducer, 'init' | 'allow' | 'sendOffsets' | 'commit' | 'abort'> {
  begin(): Promise<ProducerClient>
}
export type ConsumerClient = Pick<
  Consumer,
  | 'assign'
  | 'unassign'
  | 'position'
  | 'epochBefore'
  | 'isTopicLost'
  | 'isDone'
  | 'poll'
  | 'wait'
  | 'close'
  | 'pause'
  | 'resume'
  | 'prefetchedBytes'
  | 'isOutOfTouch'
>
export type TransactionAdminClient = Pick<TransactionAdmin, keyof TransactionAdmin>
export type AdminClient = Pick<Admin, keyof Admin>
export type UserAdminClient = Pick<UserAdmin, keyof UserAdmin>
export type ClusterAdminClient = Pick<ClusterAdmin, keyof ClusterAdmin>
export type LinkAdminClient = Pick<LinkAdmin, keyof LinkAdmin>
export type GroupAdminClient = Pick<GroupAdmin, keyof GroupAdmin>
export type GroupMemberClient = Pick<
  GroupMember,
  | 'start'
  | 'poll'
  | 'hasEvents'
  | 'isSettled'
  | 'hasHadCompany'
  | 'owned'
  | 'changed'
  | 'released'
  | 'setTopics'
  | 'fetchOffsets'
  | 'commit'
  | 'leave'
  | 'memberId'
  | 'generation'
>

/** A part of the client that takes a millisecond to load. */
export type ClientPart = 'producer' | 'consumer'

export interface Clients {
  /** Begins to load what is asked for soon: the wait for a broker's first answer is time enough. */
  preload(part: ClientPart): void
  cluster(log: Log, options: ClusterOptions): Promise<ClusterClient>
  producer(cluster: ClusterClient, options: ProducerOptions): Promise<ProducerClient>
  /** One batch, appended only if its partition ends at `expectedEndOffset`. */
  conditionalProducer(
    cluster: ClusterClient,
    options: ProducerOptions,
    expectedEndOffset: number,
  ): Promise<ProducerClient>
  transactionalProducer(
    cluster: ClusterClient,
    transaction: TransactionOptions,
    options: ProducerOptions,
  ): Promise<TransactionClient>
  consumer(cluster: ClusterClient, options: ConsumerOptions): Promise<ConsumerClient>
  admin(cluster: ClusterClient): Promise<AdminClient>
  clusterAdmin(cluster: ClusterClient): Promise<ClusterAdminClient>
  groupMember(cluster: ClusterClient, options: GroupMemberOptions): Promise<GroupMemberClient>
  groupAdmin(cluster: ClusterClient): Promise<GroupAdminClient>
  linkAdmin(cluster: ClusterClient): Promise<LinkAdminClient>
  transactionAdmin(cluster: ClusterClient): Promise<TransactionAdminClient>
  userAdmin(cluster: ClusterClient, hashes: Hashes): Promise<UserAdminClient>
  listOffsets(
    cluster: ClusterClient,
    questions: readonly OffsetQuestion[],
    options?: ListOffsetsOptions,
  ): Promise<readonly OffsetAnswer[]>
}

export class RealClients implements Clients {
  readonly #time: Time
  readonly #random: Random
  readonly #net: Net

  constructor(time: Time, random: Random, net: Net) {
    this.#time = time
    this.#random = random
    this.#net = net
  }

  preload(part: ClientPart): void {
    // What cannot be loaded is told to who asks for it.
    const loading =
      part === 'producer'
        ? import('../src/client/producer.ts')
        : import('../src/client/consumer.ts')
    loading.catch(() => undefined)
  }

  async cluster(log: Log, options: ClusterOptions): Promise<ClusterClient> {
    const client = await import('../src/client/cluster.ts')
    return new client.Cluster(this.#time, this.#random, this.#net, log, options)
  }

  async producer(cluster: ClusterClient, options: ProducerOptions): Promise<ProducerClient> {
    const client = await import('../src/client/producer.ts')
    return new client.Producer(this.#time, this.#random, cluster as Cluster, options)
  }

  async conditionalProducer(
    cluster: ClusterClient,
    options: ProducerOptions,
    expectedEndOffset: number,
  ): Promise<ProducerClient> {
    const client = await import('../src/client/conditional-producer.ts')
    return new client.ConditionalProducer(
      this.#time,
      this.#random,
      cluster as Cluster,
      options,
      expectedEndOffset,
    )
  }

  async transactionalProducer(
    cluster: ClusterClient,
    transaction: TransactionOptions,
    options: ProducerOptions,
  ): Promise<TransactionClient> {
    const client = await import('../src/client/transactional-producer.ts')
    return new client.TransactionalProducer(
      this.#time,
      this.#random,
      cluster as Cluster,
      transaction,
      options,
    )
  }

  async consumer(cluster: ClusterClient, options: ConsumerOptions): Promise<ConsumerClient> {
    const client = await import('../src/client/consumer.ts')
    return new client.Consumer(this.#time, this.#random, cluster as Cluster, options)
  }

  async admin(cluster: ClusterClient): Promise<AdminClient> {
    const client = await import('../src/client/admin.ts')
    return new client.Admin(this.#time, this.#random, cluster as Cluster)
  }

  async clusterAdmin(cluster: ClusterClient): Promise<ClusterAdminClient> {
    const client = await import('../src/client/cluster-admin.ts')
    return new client.ClusterAdmin(this.#time, this.#random, cluster as Cluster)
  }

  async groupMember(
    cluster: ClusterClient,
    options: GroupMemberOptions,
  ): Promise<GroupMemberClient> {
    const client = await import('../src/client/group-member.ts')
    return new client.GroupMember(this.#time, this.#random, cluster as Cluster, options)
  }

  async linkAdmin(cluster: ClusterClient): Promise<LinkAdminClient> {
    const client = await import('../src/client/link-admin.ts')
    return new client.LinkAdmin(cluster as Cluster)
  }

  async groupAdmin(cluster: ClusterClient): Promise<GroupAdminClient> {
    const client = await import('../src/client/group-admin.ts')
    return new client.GroupAdmin(this.#time, this.#random, cluster as Cluster)
  }

  async transactionAdmin(cluster: ClusterClient): Promise<TransactionAdminClient> {
    const client = await import('../src/client/transaction-admin.ts')
    return new client.TransactionAdmin(this.#time, this.#random, cluster as Cluster)
  }

  async userAdmin(cluster: ClusterClient, hashes: Hashes): Promise<UserAdminClient> {
    const client = await import('../src/client/user-admin.ts')
    return new client.UserAdmin(this.#time, this.#random, cluster as Cluster, hashes)
  }

  async listOffsets(
    cluster: ClusterClient,
    questions: readonly OffsetQuestion[],
    options?: ListOffsetsOptions,
  ): Promise<readonly OffsetAnswer[]> {
    const client = await import('../src/client/offsets.ts')
    return client.listOffsets(this.#time, this.#random, cluster as Cluster, questions, options)
  }
}
