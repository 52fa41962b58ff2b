/**
 * DescribeUserScramCredentials (50) and AlterUserScramCredentials (51), version 0: the users that may log in at the Kafka door.
 * What is stored proves a password and is no password; nothing of it is ever answered but mechanisms and iterations.
 *
 * Errors, by user: 91 (no such user or mechanism), 92 (one user twice in a request), 33 (unknown mechanism), 93 (iterations, salt,
 * name), 41, 7.
 */

import { isStreamError, StreamError } from '../../src/base/errors.ts'
import type { Hashes } from '../../src/ports/hashes.ts'
import type { Request, ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import {
  credentialOf,
  SCRAM_ITERATIONS_MAX,
  SCRAM_ITERATIONS_MIN,
  type ScramCredential,
  type ScramMechanism,
  scramKinds,
  scramMechanismOf,
} from '../../src/protocol/scram.ts'
import { findUserNameDefect, type UserValue } from '../metadata/user-values.ts'
import type { Handler } from './handler.ts'
import { codeOfError, messageOfError } from './kafka-codes.ts'

type Described = ResponseInput<'DescribeUserScramCredentials'>['results'][number]
type Altered = ResponseInput<'AlterUserScramCredentials'>['results'][number]
type AlterRequest = Request<'AlterUserScramCredentials'>

const SALT_BYTES_MAX = 64

export const describeUserScramCredentials: Handler<'DescribeUserScramCredentials'> = (
  { broker },
  _context,
  { users },
) => {
  const names =
    users === null || users.length === 0
      ? [...broker.image.users()].map(({ name }) => name).sort()
      : users.map(({ name }) => name)
  const twice = new Set(names.filter((name, at) => names.indexOf(name) !== at))
  return {
    throttleTimeMs: 0,
    errorCode: 0,
    errorMessage: null,
    results: [...new Set(names)].map((user): Described => {
      const failure = (errorCode: number, errorMessage: string): Described => ({
        user,
        errorCode,
        errorMessage,
        credentialInfos: [],
      })
      if (twice.has(user)) {
        return failure(KafkaError.DUPLICATE_RESOURCE, 'it stands in the request twice')
      }
      const found = broker.image.user(user)
      if (found === undefined) return failure(KafkaError.RESOURCE_NOT_FOUND, 'no such user')
      const credentialInfos = entriesOf(found.value).map(([mechanism, { iterations }]) => ({
        mechanism: scramKinds[mechanism].number,
        iterations,
      }))
      return { user, errorCode: 0, errorMessage: null, credentialInfos }
    }),
  }
}

export const alterUserScramCredentials: Handler<'AlterUserScramCredentials'> = async (
  { broker, hashes },
  _context,
  request,
) => {
  const names = [...request.deletions, ...request.upsertions].map(({ name }) => name)
  const results: Altered[] = []
  for (const user of new Set(names)) {
    try {
      if (hashes === undefined) throw new Refusal(KafkaError.SECURITY_DISABLED, 'no users here')
      const edit = checkedEdit(hashes, user, request)
      await broker.topics.changeUser(user, edit)
      results.push({ user, errorCode: 0, errorMessage: null })
    } catch (error) {
      results.push({ user, errorCode: codeOf(error), errorMessage: messageOfError(error) })
    }
  }
  return { throttleTimeMs: 0, results }
}

/** Everything of one user is checked before anything is written. @throws Refusal */
function checkedEdit(
  hashes: Hashes,
  user: string,
  { deletions, upsertions }: AlterRequest,
): (before: UserValue | undefined) => UserValue {
  const defect = findUserNameDefect(user)
  if (defect !== undefined) throw new Refusal(KafkaError.UNACCEPTABLE_CREDENTIAL, defect)
  const removed = deletions.filter(({ name }) => name === user).map(knownMechanism)
  const added = new Map<ScramMechanism, ScramCredential>()
  const mechanisms = [...removed]
  for (const upsertion of upsertions) {
    if (upsertion.name !== user) continue
    const mechanism = knownMechanism(upsertion)
    mechanisms.push(mechanism)
    added.set(mechanism, checkedCredential(hashes, mechanism, upsertion))
  }
  if (new Set(mechanisms).size < mechanisms.length) {
    throw new Refusal(KafkaError.DUPLICATE_RESOURCE, 'a mechanism stands in the request twice')
  }
  return (before) => {
    const after = new Map(entriesOf(before ?? {}))
    for (const mechanism of removed) {
      if (!after.delete(mechanism)) {
        throw new Refusal(KafkaError.RESOURCE_NOT_FOUND, `no such user with ${mechanism}`)
      }
    }
    for (const [mechanism, credential] of added) after.set(mechanism, credential)
    return Object.fromEntries(after)
  }
}

function checkedCredential(
  hashes: Hashes,
  mechanism: ScramMechanism,
  { salt, iterations, saltedPassword }: AlterRequest['upsertions'][number],
): ScramCredential {
  const unacceptable = (why: string): Refusal =>
    new Refusal(KafkaError.UNACCEPTABLE_CREDENTIAL, why)
  if (iterations < SCRAM_ITERATIONS_MIN || iterations > SCRAM_ITERATIONS_MAX) {
    throw unacceptable(`iterations: ${SCRAM_ITERATIONS_MIN} to ${SCRAM_ITERATIONS_MAX}`)
  }
  if (salt.length === 0 || salt.length > SALT_BYTES_MAX) {
    throw unacceptable(`salt: 1 to ${SALT_BYTES_MAX} bytes`)
  }
  if (saltedPassword.length !== scramKinds[mechanism].hashBytes) {
    throw unacceptable(`salted password: ${scramKinds[mechanism].hashBytes} bytes`)
  }
  return credentialOf(hashes, mechanism, saltedPassword, { salt: salt.slice(), iterations })
}

function knownMechanism({ mechanism }: { readonly mechanism: number }): ScramMechanism {
  const found = scramMechanismOf(mechanism)
  if (found !== undefined) return found
  throw new Refusal(KafkaError.UNSUPPORTED_SASL_MECHANISM, `unknown mechanism ${mechanism}`)
}

function entriesOf(value: UserValue): readonly (readonly [ScramMechanism, ScramCredential])[] {
  return Object.entries(value) as [ScramMechanism, ScramCredential][]
}

/** A change that is refused with one of the codes above. */
class Refusal extends StreamError {
  readonly errorCode: number

  constructor(errorCode: number, message: string) {
    super('CONFIG_INVALID', message)
    this.errorCode = errorCode
  }
}

function codeOf(error: unknown): number {
  if (error instanceof Refusal) return error.errorCode
  if (!isStreamError(error)) throw error
  return codeOfError(error)
}
