/**
 * One run of `stream txn`: (1) becomes the owner of the name, (2) runs the pipeline and answers the commands in it, (3) judges
 * how all of them ended, (4) commits, or leaves everything as it was.
 *
 * Invariants:
 * - Nothing is sent to the broker's topics before the pipeline has ended with 0 and each command in it properly.
 * - A spool has no name while it is written: nothing of it stays behind, however this process ends (of one that nobody has opened yet, an
 *   empty file).
 */

import { StreamError, UsageError } from '../src/base/errors.ts'
import type { ChildEnd } from '../src/ports/children.ts'
import type { Disk, DiskFile } from '../src/ports/disk.ts'
import type { Timer } from '../src/ports/time.ts'
import { KafkaError } from '../src/protocol/errors.ts'
import type { Broker } from './broker.ts'
import type { TransactionClient } from './clients.ts'
import type { CommandDeps } from './deps.ts'
import { describeEnd } from './retry-policy.ts'
import { runtimeDirectory } from './settings.ts'
import { spoolDirectory } from './spool.ts'
import { commitContent, OutcomeUnknown, type TxnContent, timeoutFor } from './txn-commit.ts'
import { TxnGroups } from './txn-groups.ts'
import { TxnLock } from './txn-lock.ts'
import type { TxnPlan } from './txn-plan.ts'
import type { TxnOffset, TxnQuestion, TxnRange } from './txn-protocol.ts'
import { TxnRanges } from './txn-ranges.ts'
import { type TxnParty, TxnServer } from './txn-server.ts'
import { readTxnState, type TxnState, transactionalIdOf } from './txn-state.ts'

/** Commands whose process has ended need no longer for their last words. */
const QUIET_MS = 2000

/** How it ends when the time of the transaction is over. */
const lateCodes: ReadonlySet<string> = new Set(['TIMED_OUT', 'NOT_DELIVERED', 'FENCED'])

export class TxnRun {
  readonly #deps: CommandDeps
  readonly #broker: Broker
  readonly #plan: TxnPlan
  readonly #server: TxnServer
  readonly #files = new Map<TxnParty, DiskFile>()
  #groups: TxnGroups | undefined
  #transaction: TransactionClient | undefined
  #disk: Pick<Disk, 'open'> | undefined
  #state: TxnState = { v: 1, commits: 0, ranges: [] }
  /** With --fixed. */
  #fixed: TxnRanges | undefined
  #spooledBytes = 0
  #stop: () => void = () => undefined
  /** What a command was told, or has told, when it could not be a part of it. */
  #refusal: StreamError | UsageError | undefined
  /** Why the pipeline was ended. */
  #failure: StreamError | undefined

  constructor(deps: CommandDeps, broker: Broker, plan: TxnPlan) {
    this.#deps = deps
    this.#broker = broker
    this.#plan = plan
    this.#server = new TxnServer(async (party, question) => {
      try {
        return await this.#answer(party, question)
      } catch (error) {
        // Why the pipeline will fail: more to the point than that it did.
        if (error instanceof StreamError || error instanceof UsageError) this.#refusal ??= error
        throw error
      }
    })
  }

  /** @returns the exit code @throws StreamError */
  async run(): Promise<number> {
    const { clients } = this.#deps
    const { cluster } = this.#broker
    const admin = await clients.groupAdmin(cluster)
    // Who is asked for topics tells the id of the cluster too.
    await cluster.describeTopics([])
    const lock = this.#plan.isNamed
      ? await TxnLock.take(this.#deps, this.#broker, admin, this.#plan.name)
      : undefined
    this.#groups = new TxnGroups(this.#deps, this.#broker, admin, lock, (error) => {
      this.#fail(error)
    })
    try {
      this.#disk = await this.#deps.loadDisk()
      this.#transaction = await this.#openTransaction()
      if (this.#plan.isNamed) {
        this.#state = await readTxnState(this.#deps, this.#broker, this.#plan.name)
      }
      if (this.#plan.isFixed) {
        const { name } = this.#plan
        const parts = { transaction: this.#transaction, admin, name, state: this.#state }
        this.#fixed = new TxnRanges(this.#deps, this.#broker, parts)
      }
      return await this.#runPipeline()
    } finally {
      for (const file of this.#files.values()) file.close()
      await this.#groups.close()
      await lock?.release()
    }
  }

  /** Whoever had the name is fenced, and what it left open is settled. */
  async #openTransaction(): Promise<TransactionClient> {
    const { settings } = this.#broker
    const client = await this.#deps.clients.transactionalProducer(
      this.#broker.cluster,
      {
        transactionalId: transactionalIdOf(this.#plan.name),
        timeoutMs: this.#firstTimeoutMs,
        coordinationTimeoutMs: this.#plan.transactionTimeoutMs,
      },
      {
        deliveryTimeoutMs: Math.min(
          settings.number('delivery.timeout.ms'),
          this.#plan.transactionTimeoutMs,
        ),
        requestTimeoutMs: settings.number('request.timeout.ms'),
        bufferBytesMax: settings.number('buffer.memory'),
      },
    )
    try {
      await client.init()
    } catch (error) {
      throw this.#explain(error)
    }
    return client
  }

  /** Before anything runs the broker is asked for what the user has named, so that it refuses then. */
  get #firstTimeoutMs(): number {
    const { isTransactionTimeoutGiven, transactionTimeoutMs } = this.#plan
    return isTransactionTimeoutGiven ? transactionTimeoutMs : timeoutFor(0, transactionTimeoutMs)
  }

  /** What --txn-timeout has to do with it. */
  #explain(error: unknown, hasPassed = false): unknown {
    if (!(error instanceof StreamError)) return error
    const { transactionTimeoutMs } = this.#plan
    if (error.kafkaError === KafkaError.INVALID_TRANSACTION_TIMEOUT) {
      return withHint(
        error,
        'ask for less by --txn-timeout, or raise transaction.max.timeout.ms of the broker',
      )
    }
    // The broker has ended what was open for too long, or this side has given it up.
    if (!hasPassed || !lateCodes.has(error.code)) return error
    return withHint(error, `to allow more than ${transactionTimeoutMs} ms: --txn-timeout`)
  }

  // --- the pipeline

  async #runPipeline(): Promise<number> {
    const { host, interruption, net, random, time } = this.#deps
    const directory = runtimeDirectory(host)
    host.makeDirectory(directory, 0o700)
    const path = `${directory}/txn-${Buffer.from(random.bytes(6)).toString('hex')}`
    const address = `ipc://${path}`
    await this.#server.listen(net, address)
    const { timeoutMs } = this.#plan
    let timer: Timer | undefined
    let stopListening = (): void => undefined
    try {
      const child = this.#deps.openChildren().start({
        words: this.#plan.words,
        environment: {
          ...this.#plan.environment,
          STREAM_TXN: address,
          STREAM_BATCH_ID: this.#batchId(),
        },
        input: 'inherit',
        output: 'inherit',
        error: 'inherit',
        graceMs: this.#plan.graceMs,
      })
      this.#stop = () => child.stop()
      stopListening = interruption.onRaised(() => child.stop())
      if (interruption.signal !== undefined) child.stop()
      if (timeoutMs !== undefined) {
        timer = time.setTimer(timeoutMs, () => {
          this.#fail(
            new StreamError('TIMED_OUT', `not done within ${timeoutMs} ms; nothing was committed`),
          )
        })
      }
      const end = await child.ended
      await this.#server.quiet(new Promise((resolve) => time.setTimer(QUIET_MS, resolve)))
      await this.#fixed?.stored()
      this.#judge(end)
      return await this.#commit()
    } finally {
      timer?.cancel()
      stopListening()
      await this.#server.close()
      // Of stages that ended before they wrote anything.
      for (const { spool } of this.#server.parties) {
        if (spool !== undefined) host.removeFile(spool.path)
      }
      host.removeFile(path)
    }
  }

  #batchId(): string {
    const { name, isFixed } = this.#plan
    if (isFixed) return `${name}/${this.#state.commits + 1}`
    return `${name}/${Buffer.from(this.#deps.random.bytes(9)).toString('base64url')}`
  }

  #fail(error: StreamError): void {
    this.#failure ??= error
    this.#stop()
  }

  /** @throws StreamError unless everything has come to its proper end */
  #judge(end: ChildEnd): void {
    const { interruption } = this.#deps
    if (this.#failure !== undefined) throw this.#failure
    if (interruption.signal !== undefined) {
      throw new StreamError('CHILD_FAILED', 'interrupted; nothing was committed')
    }
    if (this.#refusal !== undefined) throw this.#refusal
    if (end.exit !== 0) {
      const [program = ''] = this.#plan.words
      const isNone = end.cannotStart !== undefined
      const words = isNone
        ? `${program}: ${describeEnd(end)}`
        : `the pipeline ended with ${describeEnd(end)}`
      throw new StreamError('CHILD_FAILED', `${words}; nothing was committed`)
    }
    for (const party of this.#server.parties) {
      if (party.kind === undefined || party.isDone) continue
      if (party.hasHungUp) {
        if (this.#plan.isPartial) continue
        throw new StreamError(
          'CHILD_FAILED',
          `a reader of stream consume -g ${party.group} hung up before it had read all; nothing was committed`,
          { hint: 'if that is how it is meant: --partial' },
        )
      }
      const command = party.kind === 'consumer' ? `consume -g ${party.group}` : 'produce'
      throw new StreamError(
        'CHILD_FAILED',
        `a stream ${command} in the pipeline did not come to its proper end; nothing was committed`,
      )
    }
  }

  // --- what the commands ask

  #answer(party: TxnParty, question: TxnQuestion): Promise<object> {
    switch (question.kind) {
      case 'consume':
        return this.#onConsume(party, question)
      case 'ranges':
        return this.#onRanges(party, question.ranges)
      case 'produce':
        return this.#onProduce(party, question.cluster)
      case 'grew':
        return this.#onGrew(party, question.bytes)
      case 'done':
        party.isDone = true
        party.offsets = question.offsets ?? []
        party.topics = question.topics ?? []
        return Promise.resolve({})
      case 'hungUp':
        party.hasHungUp = true
        return Promise.resolve({})
      case 'refused':
        return Promise.reject(new UsageError(question.message, question.hint))
    }
  }

  async #onConsume(
    party: TxnParty,
    { cluster, group, partitions }: Extract<TxnQuestion, { kind: 'consume' }>,
  ): Promise<object> {
    this.#checkCluster(cluster, `group ${group}`)
    party.kind = 'consumer'
    party.group = group
    const committed = (await this.#groups?.join(group, partitions)) ?? []
    return {
      committed,
      fixed: (await this.#fixed?.known(group, partitions, committed)) ?? null,
      isPartial: this.#plan.isPartial,
    }
  }

  async #onRanges(party: TxnParty, ranges: readonly TxnRange[]): Promise<object> {
    party.ranges = ranges
    await this.#fixed?.freeze(party.group, ranges)
    return {}
  }

  async #onProduce(party: TxnParty, cluster: string): Promise<object> {
    this.#checkCluster(cluster, 'the topic')
    const { host, random, stdio } = this.#deps
    const directory = this.#plan.spoolDirectory ?? spoolDirectory(host)
    host.makeDirectory(directory)
    const path = `${directory}/txn-${Buffer.from(random.bytes(8)).toString('hex')}`
    stdio.openOutput(path).close()
    const file = this.#disk?.open(path, 'read')
    if (file === undefined) throw new StreamError('CLOSED', 'the transaction has ended')
    this.#files.set(party, file)
    party.kind = 'producer'
    party.spool = { path, bytes: 0 }
    return { spool: path }
  }

  /** The spool is open at both ends: its name is not needed any more. */
  async #onGrew(party: TxnParty, bytes: number): Promise<object> {
    const { spool } = party
    if (spool === undefined) return {}
    this.#deps.host.removeFile(spool.path)
    this.#spooledBytes += bytes - spool.bytes
    spool.bytes = bytes
    if (this.#spooledBytes <= this.#plan.spoolBytesMax) return {}
    const failure = new StreamError(
      'OUTPUT_FAILED',
      `the spool is larger than ${this.#plan.spoolBytesMax} bytes; nothing was committed`,
      { hint: 'allow more: --spool-max SIZE' },
    )
    this.#fail(failure)
    throw failure
  }

  #checkCluster(cluster: string, what: string): void {
    const own = this.#broker.cluster.metadata.clusterId ?? ''
    if (cluster === own) return
    throw new UsageError(
      `${what} is of another broker than the transaction`,
      'a transaction spans one broker or cluster: --broker of stream txn',
    )
  }

  // --- the end

  async #commit(): Promise<number> {
    const { console, time } = this.#deps
    const content = this.#content()
    const isEmpty =
      [...content.offsets.values()].every((offsets) => offsets.length === 0) &&
      this.#spooledBytes === 0 &&
      content.state === undefined
    const hasRead = this.#server.parties.some(
      (party) => party.kind === 'consumer' && hasMoved(party),
    )
    let records = 0
    if (!isEmpty) {
      const deadlineMs = time.monotonicMs() + this.#plan.transactionTimeoutMs
      records = await this.#commitOrTell(content, deadlineMs)
    }
    if (console.wantsSummary) {
      const ranges = [...content.offsets.values()].flat().length
      console.print(`stream: ${records} records and ${ranges} offsets committed\n`)
    }
    return this.#plan.failsEmpty && !hasRead ? 3 : 0
  }

  async #commitOrTell(content: TxnContent, deadlineMs: number): Promise<number> {
    const groups = this.#groups as TxnGroups
    const transaction = this.#transaction as TransactionClient
    // A run that is killed while it commits holds readers back for no longer than this.
    const timeoutMs = timeoutFor(this.#spooledBytes, this.#plan.transactionTimeoutMs)
    try {
      if (timeoutMs !== this.#firstTimeoutMs) await transaction.allow(timeoutMs)
      return await commitContent(this.#deps, this.#broker, transaction, groups, content, deadlineMs)
    } catch (error) {
      const hasPassed = this.#deps.time.monotonicMs() >= deadlineMs
      if (error instanceof StreamError) throw this.#explain(nothingCommitted(error), hasPassed)
      if (!(error instanceof OutcomeUnknown)) throw error
      throw new StreamError(
        'TIMED_OUT',
        `contact lost in the commit, outcome unknown: stream txn describe ${this.#plan.name}`,
        { target: this.#plan.name, cause: error },
      )
    }
  }

  #content(): TxnContent {
    const offsets = new Map<string, TxnOffset[]>()
    for (const party of this.#server.parties) {
      if (party.kind !== 'consumer') continue
      const rows = offsets.get(party.group) ?? []
      offsets.set(party.group, rows)
      const reached = party.isDone
        ? party.offsets
        : party.ranges.map(({ topic, partition, end }) => ({ topic, partition, offset: end }))
      rows.push(...reached)
    }
    const spools = this.#server.parties.flatMap((party) => {
      const file = this.#files.get(party)
      return file === undefined ? [] : { file, topics: party.topics }
    })
    const { name, isNamed } = this.#plan
    const value: TxnState = { v: 1, commits: this.#state.commits + 1, ranges: [] }
    return { spools, offsets, state: isNamed ? { name, value } : undefined }
  }
}

function nothingCommitted(error: StreamError): StreamError {
  if (error.message.includes('nothing was committed')) return error
  return remade(error, `${error.message}; nothing was committed`, error.hint)
}

function withHint(error: StreamError, hint: string): StreamError {
  return remade(error, error.message, hint)
}

function remade(error: StreamError, message: string, hint: string | undefined): StreamError {
  const { code, kafkaError, target } = error
  return new StreamError(code, message, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
    ...(kafkaError === undefined ? {} : { kafkaError }),
    ...(target === undefined ? {} : { target }),
  })
}

function hasMoved(party: TxnParty): boolean {
  if (!party.isDone) return party.ranges.some(({ start, end }) => end > start)
  return party.offsets.some(({ topic, partition, offset }) =>
    party.ranges.some(
      (range) => range.topic === topic && range.partition === partition && offset > range.start,
    ),
  )
}
