/**
 * The users that may log in at a Kafka door, of our daemons and of Kafka (KIP-554). The broker is never told a password: it gets
 * what SCRAM stores, which proves one.
 */
import { isStreamError, type StreamError } from '../base/errors.ts'
import type { Hashes } from '../ports/hashes.ts'
import type { Random } from '../ports/random.ts'
import { sleep, type Time } from '../ports/time.ts'
import type { RequestInput } from '../protocol/api-table.ts'
import { KafkaError } from '../protocol/errors.ts'
import { type ScramMechanism, scramKinds, scramMechanismOf } from '../protocol/scram.ts'
import type { Cluster } from './cluster.ts'
import { kafkaFailure } from './kafka-failure.ts'

type Alteration = RequestInput<'AlterUserScramCredentials'>

const SALT_BYTES = 24
const RETRY_MS = 200

export interface UserCredential {
  readonly mechanism: string
  readonly iterations: number
}

export interface UserInfo {
  readonly name: string
  readonly credentials: readonly UserCredential[]
  /** NAME_UNKNOWN … */
  readonly error: StreamError | undefined
}

export interface NewPassword {
  readonly password: string
  readonly mechanisms: readonly ScramMechanism[]
  readonly iterations: number
}

export class UserAdmin {
  readonly #time: Time
  readonly #random: Random
  readonly #cluster: Cluster
  readonly #hashes: Hashes

  constructor(time: Time, random: Random, cluster: Cluster, hashes: Hashes) {
    this.#time = time
    this.#random = random
    this.#cluster = cluster
    this.#hashes = hashes
  }

  /** @param names  undefined: all. @throws StreamError UNSUPPORTED_BY_BROKER, NOT_ALLOWED; as Cluster.call */
  async list(names?: readonly string[]): Promise<readonly UserInfo[]> {
    const users = names?.map((name) => ({ name })) ?? null
    const response = await this.#cluster.call('any', 'DescribeUserScramCredentials', { users })
    if (response.errorCode !== 0) {
      throw kafkaFailure(response.errorCode, {
        target: 'users',
        brokerMessage: response.errorMessage,
      })
    }
    return response.results.map(({ user, errorCode, errorMessage, credentialInfos }) => ({
      name: user,
      // Kafka tells them in any order.
      credentials: sortedByMechanism(credentialInfos).map(({ mechanism, iterations }) => ({
        mechanism: scramMechanismOf(mechanism) ?? `mechanism ${mechanism}`,
        iterations,
      })),
      error: errorCode === 0 ? undefined : failureOf(errorCode, errorMessage, user),
    }))
  }

  /** Makes a user, or gives one another password. @throws StreamError CONFIG_INVALID, NOT_ALLOWED; as Cluster.call */
  async set(name: string, { password, mechanisms, iterations }: NewPassword): Promise<void> {
    const upsertions = []
    for (const mechanism of mechanisms) {
      const { hash, number } = scramKinds[mechanism]
      const salt = this.#random.bytes(SALT_BYTES)
      const bytes = Buffer.from(password)
      const saltedPassword = await this.#hashes.stretch(hash, bytes, salt, iterations)
      upsertions.push({ name, mechanism: number, iterations, salt, saltedPassword })
    }
    await this.#alterEach(
      name,
      upsertions.map((upsertion) => ({ deletions: [], upsertions: [upsertion] })),
    )
  }

  /** @throws StreamError NAME_UNKNOWN, NOT_ALLOWED; as Cluster.call */
  async delete(name: string, mechanisms: readonly ScramMechanism[]): Promise<void> {
    const deletions = mechanisms.map((each) => ({ name, mechanism: scramKinds[each].number }))
    await this.#alterEach(
      name,
      deletions.map((deletion) => ({ deletions: [deletion], upsertions: [] })),
    )
  }

  /** At once where the broker takes it so; Kafka takes one mechanism of a user in a request. */
  async #alterEach(name: string, changes: readonly Alteration[]): Promise<void> {
    const whole: Alteration = {
      deletions: changes.flatMap(({ deletions }) => deletions),
      upsertions: changes.flatMap(({ upsertions }) => upsertions),
    }
    try {
      await this.#alter(name, whole)
    } catch (error) {
      const isSplit = isStreamError(error) && error.kafkaError === KafkaError.DUPLICATE_RESOURCE
      if (!isSplit || changes.length < 2) throw error
      for (const change of changes) await this.#alter(name, change)
    }
  }

  /** What is wanted is named whole, so an order whose answer is lost goes again; so does one that met a former controller. */
  async #alter(name: string, body: Alteration): Promise<void> {
    const deadlineMs = this.#time.monotonicMs() + this.#cluster.requestTimeoutMs
    for (;;) {
      await this.#cluster.describeTopics([], { deadlineMs })
      const { results } = await this.#cluster.call(
        'controller',
        'AlterUserScramCredentials',
        body,
        {
          deadlineMs,
        },
      )
      const [result] = results
      if (result === undefined || result.errorCode === 0) return
      const isFormer = result.errorCode === KafkaError.NOT_CONTROLLER
      if (!isFormer || this.#time.monotonicMs() + RETRY_MS > deadlineMs) {
        throw failureOf(result.errorCode, result.errorMessage, name)
      }
      await sleep(this.#time, RETRY_MS)
    }
  }
}

function failureOf(code: number, message: string | null, name: string): StreamError {
  const isUnknown = code === KafkaError.RESOURCE_NOT_FOUND
  return kafkaFailure(code, {
    target: name,
    brokerMessage: isUnknown ? 'no such user' : message,
    ...(isUnknown ? { hint: 'to see who there is: stream users list' } : {}),
  })
}

function sortedByMechanism<T extends { readonly mechanism: number }>(rows: readonly T[]): T[] {
  return rows.toSorted((a, b) => a.mechanism - b.mechanism)
}
