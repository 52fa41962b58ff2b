/**
 * Produce (0), versions 3 to 12. One batch for each partition, appended before this returns; the answer waits until the
 * high watermark has passed all of them; with acks=1 until the leader's own copy is safe, which with one replica is the
 * same. acks=0 has no answer. A partition that fails fails alone (P13).
 *
 * Errors: 2, 10, 18, 32, 43, 76, 87 (the batch), 45, 46, 47, 48 (the producer's state), 3, 6, 19, 20, 56, 7 (outcome
 * unknown), 17 (a coordinator's topic), 21, 49, 53, 120 (transactions). A duplicate is answered with its first offset,
 * once that is committed (P14).
 *
 * A transactional batch waits until its transaction is open, with this partition in it; from version 12 on that is done
 * here, at its first batch (KIP-890).
 */

import { assert } from '../../src/base/assert.ts'
import { isStreamError } from '../../src/base/errors.ts'
import type { Timer } from '../../src/ports/time.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import {
  attributesAt,
  isTransactional,
  producerEpochAt,
  producerIdAt,
  readBatchHeader,
} from '../../src/record/batch-layout.ts'
import { isCoordinatorTopic } from '../metadata/topic-names.ts'
import type { CommitWaiter, NotServing, Partition } from '../replica/partition.ts'
import {
  type BatchRefusal,
  findBatchRefusal,
  needsRewrite,
  rewriteBatch,
} from './batch-validation.ts'
import type { Handler, RequestContext, Services } from './handler.ts'
import {
  codeOfError,
  codeOfNotServing,
  findLeader,
  leaderElsewhere,
  messageOfError,
} from './kafka-codes.ts'
import { readOnlyReason } from './read-only.ts'
import { UnansweredFailure } from './unanswered-failure.ts'

type PartitionAnswer = ResponseInput<'Produce'>['responses'][number]['partitionResponses'][number]

type ProduceRequest = Pick<Request<'Produce'>, 'acks' | 'timeoutMs' | 'transactionalId'> & {
  readonly topicData: readonly Pick<
    Request<'Produce'>['topicData'][number],
    'name' | 'partitionData'
  >[]
}

const ACKS_ALL = -1
/** From here on the broker adds partitions to transactions, and each transaction has an epoch of its own. */
const IMPLICIT_VERSION = 12

export const produce: Handler<'Produce'> = (services, context, request) => {
  const run = new ProduceRun(services, context, request)
  return run.start()
}

/** One partition's part of the answer; a commit waiter while it is pending. */
class PartitionRun implements CommitWaiter {
  readonly #run: ProduceRun
  readonly #partition: Partition
  readonly index: number
  errorCode = 0
  errorMessage: string | null = null
  baseOffset = -1
  endOffset = -1
  logAppendTimeMs = -1
  recordErrors: NonNullable<BatchRefusal['recordErrors']> = []
  isPending = false
  #logStartOffset = -1

  constructor(run: ProduceRun, partition: Partition | undefined, index: number) {
    this.#run = run
    this.#partition = partition as Partition
    this.index = index
  }

  refuse(refusal: BatchRefusal): void {
    this.errorCode = refusal.code
    this.errorMessage = refusal.message
    this.recordErrors = refusal.recordErrors ?? []
    this.baseOffset = -1
  }

  accepted(baseOffset: number, endOffset: number): void {
    this.baseOffset = baseOffset
    this.endOffset = endOffset
    this.#logStartOffset = this.#partition.log.logStartOffset
    this.isPending = true
  }

  wait(): void {
    if (this.#run.acks === ACKS_ALL) this.#partition.whenCommitted(this)
    else this.#partition.whenSafeHere(this)
  }

  onCommitted(): void {
    if (!this.isPending) return
    this.isPending = false
    if (this.#run.acks === ACKS_ALL && this.#partition.isUnderMinInSyncAfterAppend) {
      this.refuse({ code: KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, message: 'too few in sync' })
    }
    this.#run.settled()
  }

  onLost(why: NotServing): void {
    if (!this.isPending) return
    this.isPending = false
    this.refuse({ code: codeOfNotServing(why), message: 'the outcome is not known' })
    this.#run.settled()
  }

  /** The wait has run out: the batch may still commit. */
  expire(): void {
    if (!this.isPending) return
    this.isPending = false
    this.refuse({ code: KafkaError.REQUEST_TIMED_OUT, message: 'the outcome is not known' })
  }

  answer(): PartitionAnswer {
    return {
      index: this.index,
      errorCode: this.errorCode,
      baseOffset: this.baseOffset,
      logAppendTimeMs: this.errorCode === 0 ? this.logAppendTimeMs : -1,
      logStartOffset: this.#logStartOffset,
      recordErrors: this.recordErrors,
      errorMessage: this.errorMessage,
    }
  }
}

/** Also of AppendAt (1002), which expects the log's end to be at an offset. */
export class ProduceRun {
  readonly acks: number
  readonly #services: Services
  readonly #context: RequestContext
  readonly #request: ProduceRequest
  readonly #expectedEndOffset: number | undefined
  readonly #topics: { readonly name: string; readonly partitions: PartitionRun[] }[] = []
  /** Batches that wait to be let into their transaction. */
  readonly #entering: Promise<void>[] = []
  #pending = 0
  #resolve: ((answer: ResponseInput<'Produce'>) => void) | undefined
  #timer: Timer | undefined

  constructor(
    services: Services,
    context: RequestContext,
    request: ProduceRequest,
    expectedEndOffset?: number,
  ) {
    this.#services = services
    this.#context = context
    this.#request = request
    this.#expectedEndOffset = expectedEndOffset
    this.acks = request.acks
  }

  start(): ReturnType<Handler<'Produce'>> {
    for (const topic of this.#request.topicData) {
      const partitions: PartitionRun[] = []
      for (const { index, records } of topic.partitionData) {
        partitions.push(this.#append(topic.name, index, records))
      }
      this.#topics.push({ name: topic.name, partitions })
    }
    if (this.#entering.length === 0) return this.#answerAppended()
    return Promise.all(this.#entering).then(() => this.#answerAppended())
  }

  #answerAppended(): ReturnType<Handler<'Produce'>> {
    if (this.acks === 0) {
      // On an error the connection ends, so that the client asks for metadata again.
      const failed = this.#topics.some((topic) => topic.partitions.some((p) => p.errorCode !== 0))
      if (failed) throw new UnansweredFailure('a produce with acks=0 failed')
      return undefined
    }
    for (const topic of this.#topics) {
      for (const partition of topic.partitions) {
        if (partition.isPending) this.#pending += 1
      }
    }
    if (this.#pending === 0) return this.#answer()
    // Waiting begins only now: a partition that is committed at once must not settle a half-counted request.
    for (const topic of this.#topics) {
      for (const partition of topic.partitions) if (partition.isPending) partition.wait()
    }
    if (this.#pending === 0) return this.#answer()
    return this.#wait()
  }

  settled(): void {
    this.#pending -= 1
    assert(this.#pending >= 0, 'each partition of a produce settles once')
    if (this.#pending === 0) this.#finish()
  }

  #wait(): Promise<ResponseInput<'Produce'>> {
    this.#timer = this.#services.broker.time.setTimer(Math.max(0, this.#request.timeoutMs), () => {
      this.#timer = undefined
      this.#pending = 0
      for (const topic of this.#topics) for (const run of topic.partitions) run.expire()
      this.#finish()
    })
    return new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  #finish(): void {
    const resolve = this.#resolve
    if (resolve === undefined) return
    this.#resolve = undefined
    this.#timer?.cancel()
    resolve(this.#answer())
  }

  #append(topic: string, index: number, records: Uint8Array | null): PartitionRun {
    const { broker } = this.#services
    const found = findLeader(broker, topic, index)
    const run = new PartitionRun(this, found.partition, index)
    if (this.acks !== 0 && this.acks !== 1 && this.acks !== ACKS_ALL) {
      run.refuse({ code: KafkaError.INVALID_REQUIRED_ACKS, message: `acks=${this.acks}` })
    } else if (isCoordinatorTopic(topic)) {
      const message = `${topic} is written by the coordinators alone`
      run.refuse({ code: KafkaError.INVALID_TOPIC_EXCEPTION, message })
    } else if (found.code !== 0 || found.partition === undefined) {
      run.refuse({ code: found.code, message: `${topic}-${index} is not served here` })
    } else {
      const message = readOnlyReason(broker, topic, found.partition.topicId, index)
      if (message !== undefined) run.refuse({ code: KafkaError.POLICY_VIOLATION, message })
      else this.#tryAppend(found.partition, run, records)
    }
    return run
  }

  #tryAppend(partition: Partition, run: PartitionRun, records: Uint8Array | null): void {
    try {
      this.#check(partition, run, records)
    } catch (error) {
      if (!isStreamError(error)) throw error
      run.refuse({ code: codeOfError(error), message: messageOfError(error) })
    }
  }

  #check(partition: Partition, run: PartitionRun, records: Uint8Array | null): void {
    const { broker } = this.#services
    const wallMs = broker.time.wallMs()
    const { config } = partition
    const rules = { config, apiVersion: this.#context.apiVersion, wallMs }
    const refusal = findBatchRefusal(records, rules)
    if (refusal !== undefined || records === null) {
      run.refuse(refusal ?? { code: KafkaError.CORRUPT_MESSAGE, message: 'no batch' })
      return
    }
    if (isTransactional(attributesAt(records, 0))) this.#enter(partition, run, records)
    else this.#appendTo(partition, run, records)
  }

  /** A batch of a transaction: appended in the turn in which the transaction is found open. */
  #enter(partition: Partition, run: PartitionRun, records: Uint8Array): void {
    const { transactionalId } = this.#request
    if (transactionalId === null || producerIdAt(records, 0) < 0) {
      const code = KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
      run.refuse({ code, message: 'a batch of a transaction without transactional id' })
      return
    }
    const entering = this.#services.transactions.enter(
      {
        transactionalId,
        producerId: producerIdAt(records, 0),
        epoch: producerEpochAt(records, 0),
        topic: partition.topic,
        partition: partition.partition,
        isImplicit: this.#context.apiVersion >= IMPLICIT_VERSION,
      },
      (code) => this.#appendEntered(partition, run, records, code),
    )
    if (entering !== undefined) this.#entering.push(entering)
  }

  #appendEntered(partition: Partition, run: PartitionRun, records: Uint8Array, code: number): void {
    if (code !== 0) {
      run.refuse({ code, message: 'the batch belongs to no open transaction' })
      return
    }
    // The partition may have been lost while the batch waited.
    const { notServing } = partition
    if (notServing !== undefined) {
      run.refuse({ code: codeOfNotServing(notServing), message: 'it is not served here any more' })
      return
    }
    const { topic, topicId, partition: index } = partition
    const message = readOnlyReason(this.#services.broker, topic, topicId, index)
    if (message !== undefined) {
      run.refuse({ code: KafkaError.POLICY_VIOLATION, message })
      return
    }
    try {
      this.#appendTo(partition, run, records)
    } catch (error) {
      if (!isStreamError(error)) throw error
      run.refuse({ code: codeOfError(error), message: messageOfError(error) })
    }
  }

  #appendTo(partition: Partition, run: PartitionRun, records: Uint8Array): void {
    const { broker } = this.#services
    const { config } = partition
    const wallMs = broker.time.wallMs()
    if (this.acks === ACKS_ALL && partition.isUnderMinInSync) {
      run.refuse({ code: KafkaError.NOT_ENOUGH_REPLICAS, message: 'too few replicas are in sync' })
      return
    }
    if (producerIdAt(records, 0) >= 0) {
      // What is missing may be what this producer sent last: it would be refused for good, or a batch taken twice.
      if (broker.replication?.awaitsRepair(partition) === true) {
        const message = 'a damaged range is being repaired from another replica'
        run.refuse({ code: KafkaError.KAFKA_STORAGE_ERROR, message })
        return
      }
      const hasOwnEpoch = this.#context.apiVersion >= IMPLICIT_VERSION
      const check = partition.checkProducer(
        readBatchHeader(records),
        hasOwnEpoch && isTransactional(attributesAt(records, 0)) ? 2 : 0,
      )
      if (check.kind === 'error') {
        run.refuse({ code: KafkaError[check.code], message: check.detail })
        return
      }
      if (check.kind === 'duplicate') {
        run.accepted(check.baseOffset, check.lastOffset + 1)
        return
      }
    }
    const full = broker.directory.refusesWrites()
    if (full !== undefined) {
      run.refuse({ code: codeOfError(full), message: full.message })
      return
    }
    // Nothing comes between this question and the append.
    const expected = this.#expectedEndOffset
    if (expected !== undefined && partition.log.logEndOffset !== expected) {
      const message = `the partition ends at ${partition.log.logEndOffset}, not at ${expected}`
      run.refuse({ code: KafkaError.OFFSET_OUT_OF_RANGE, message })
      return
    }
    let batch = records
    if (needsRewrite(records, config)) {
      batch = rewriteBatch(records, config, wallMs)
      if (batch.length > config.maxMessageBytes) {
        const message = 'larger than max.message.bytes in the codec of the topic'
        run.refuse({ code: KafkaError.MESSAGE_TOO_LARGE, message })
        return
      }
      if (config.messageTimestampType === 'LogAppendTime') run.logAppendTimeMs = wallMs
    }
    const result = partition.append(batch)
    run.accepted(result.firstOffset, result.nextOffset)
  }

  #answerOf(topic: string, run: PartitionRun): PartitionAnswer {
    const { broker } = this.#services
    const currentLeader = leaderElsewhere(broker, topic, run.index, run.errorCode)
    return currentLeader === undefined ? run.answer() : { ...run.answer(), currentLeader }
  }

  #answer(): ResponseInput<'Produce'> {
    return {
      responses: this.#topics.map((topic) => ({
        name: topic.name,
        partitionResponses: topic.partitions.map((partition) =>
          this.#answerOf(topic.name, partition),
        ),
      })),
    }
  }
}
