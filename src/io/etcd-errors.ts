/**
 * What etcd's and gRPC's failures mean for the store. etcd tells its own by the text behind `etcdserver: ` (rpctypes/error.go),
 * which is part of its API: its own clients compare it.
 *
 * Whatever is not known to have been refused is STORE_UNAVAILABLE: of a transaction the outcome is unknown then.
 */
import { StreamError } from '../base/errors.ts'

/** What gRPC throws. */
export interface GrpcError extends Error {
  readonly code: number
  readonly details: string
}

const CODE_RESOURCE_EXHAUSTED = 8
const CODE_PERMISSION_DENIED = 7
const CODE_UNAUTHENTICATED = 16

export function isGrpcError(error: unknown): error is GrpcError {
  return error instanceof Error && typeof (error as Partial<GrpcError>).code === 'number'
}

const says = (error: GrpcError, text: string): boolean => error.details.includes(text)

/** The token has expired, or the rules have changed since it was given: a new one helps. Nothing was applied. */
export function isTokenRefused(error: unknown): boolean {
  if (!isGrpcError(error)) return false
  return (
    (error.code === CODE_UNAUTHENTICATED && says(error, 'invalid auth token')) ||
    says(error, 'revision of auth store is old')
  )
}

/** The server has passwords switched off. */
export function isAuthOff(error: unknown): boolean {
  return isGrpcError(error) && says(error, 'authentication is not enabled')
}

export function isCompacted(error: unknown): boolean {
  return isGrpcError(error) && says(error, 'required revision has been compacted')
}

/** etcd does not serve now, but may again: it is not reached, or its quota is used up. */
export function isEtcdAway(error: unknown): boolean {
  if (!(error instanceof StreamError)) return false
  if (error.code === 'STORE_UNAVAILABLE') return true
  return error.code === 'DISK_FULL' && isGrpcError(error.cause)
}

/** Why a connection is not to be had, in a few words: what gRPC says around them is taken off. */
export function connectionDefect(error: unknown): string {
  const text = isGrpcError(error) ? error.details : error instanceof Error ? error.message : ''
  if (text.startsWith('Deadline exceeded')) return 'it does not answer'
  const last = /Last error: (.*?)(?:\. Resolution note:.*)?$/s.exec(text)?.[1] ?? text
  // OpenSSL's own line names its source files.
  const alert = /(?:ssl\/tls|tlsv1\d*) alert ([a-z ]+):/.exec(last)?.[1]
  if (alert !== undefined) return `it ends the TLS handshake (alert: ${alert})`
  const plain = last
    .replace(/^Error(?: \[\w+\])?: /, '')
    .replace(/ \(\d{4}-\d\d-\d\dT[^)]*\)$/, '')
    .replace(/; if the root CA is installed locally.*$/s, ', from nobody who is trusted here')
    .trim()
  return plain || 'no connection'
}

/** What etcd says of itself by its alarm, or by refusing a write. */
export function spaceExceeded(
  who: string,
  details: { readonly target?: string; readonly cause?: unknown } = {},
): StreamError {
  const words = `${who} takes no writes: its database has reached its quota (NOSPACE)`
  const hint =
    'compact and defragment etcd or raise its --quota-backend-bytes, then: etcdctl alarm disarm'
  return new StreamError('DISK_FULL', words, { ...details, hint })
}

/** @param target  the endpoint that answered, or did not */
export function storeError(error: unknown, target: string): StreamError {
  if (error instanceof StreamError) return error
  if (!isGrpcError(error)) {
    return new StreamError('STORE_UNAVAILABLE', `etcd at ${target}: ${String(error)}`, {
      target,
      cause: error,
    })
  }
  const details = { target, cause: error }
  if (says(error, 'requested lease not found')) {
    return new StreamError('FENCED', 'the lease has ended', details)
  }
  if (says(error, 'database space exceeded')) {
    return spaceExceeded(`etcd at ${target}`, details)
  }
  if (says(error, 'request is too large')) {
    return new StreamError('CONFIG_INVALID', `etcd at ${target}: the request is too large`, {
      ...details,
      hint: 'raise --max-request-bytes of etcd',
    })
  }
  if (says(error, 'authentication failed') || says(error, 'invalid user ID or password')) {
    return notAllowed('it refuses the user or the password', 'check user and password', details)
  }
  if (says(error, 'user name is empty')) {
    return notAllowed('it asks for a user', 'give a user and a password for etcd', details)
  }
  if (error.code === CODE_PERMISSION_DENIED || says(error, 'permission denied')) {
    return notAllowed(
      'permission denied',
      'grant the user a role with the keys of this cluster: etcdctl role grant-permission',
      details,
    )
  }
  if (error.code === CODE_RESOURCE_EXHAUSTED && says(error, 'too many requests')) {
    return new StreamError('STORE_UNAVAILABLE', `etcd at ${target} is overloaded`, details)
  }
  return new StreamError(
    'STORE_UNAVAILABLE',
    `etcd at ${target}: ${error.details || error.message}`,
    details,
  )
}

function notAllowed(
  what: string,
  hint: string,
  details: { readonly target: string; readonly cause: unknown },
): StreamError {
  return new StreamError('NOT_ALLOWED', `etcd at ${details.target}: ${what}`, { ...details, hint })
}
