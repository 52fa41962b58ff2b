/**
 * What `stream txn` and the commands in its pipeline say to each other, over the socket that STREAM_TXN names: JSON
 * objects, each one message. A command asks, one question at a time, and is answered; how a command ended is told by
 * `done`, or by its link going away without it.
 */

import { type ErrorCode, errorTable, StreamError, UsageError } from '../src/base/errors.ts'

export interface TxnRange {
  readonly topic: string
  readonly partition: number
  readonly start: number
  /** Exclusive. */
  readonly end: number
}

export interface TxnOffset {
  readonly topic: string
  /** Of the topic that was read, as far as it is known. */
  readonly topicId?: string
  readonly partition: number
  readonly offset: number
  /** Of the record before it, as far as it is known. */
  readonly leaderEpoch?: number
}

export type TxnQuestion =
  /** A group's partitions are wanted. */
  | {
      readonly kind: 'consume'
      readonly cluster: string
      readonly group: string
      readonly partitions: readonly { readonly topic: string; readonly partition: number }[]
    }
  /** They will be read from here to there. */
  | { readonly kind: 'ranges'; readonly ranges: readonly TxnRange[] }
  | { readonly kind: 'produce'; readonly cluster: string }
  /** So many bytes are spooled by now. */
  | { readonly kind: 'grew'; readonly bytes: number }
  /** It has come to its proper end. */
  | {
      readonly kind: 'done'
      /** Of a consumer: the next ones to read. */
      readonly offsets?: readonly TxnOffset[]
      /** Of a producer: by the numbers in its spool. */
      readonly topics?: readonly string[]
    }
  /** Its reader went away before all was written. */
  | { readonly kind: 'hungUp' }
  /** It cannot be a part of a transaction, as it was called. The answer is that refusal. */
  | { readonly kind: 'refused'; readonly message: string; readonly hint?: string }

export interface TxnAnswers {
  readonly consume: {
    readonly committed: readonly TxnOffset[]
    /** Of a run that did not commit. */
    readonly fixed: readonly TxnRange[] | null
    readonly isPartial: boolean
  }
  readonly ranges: Record<string, never>
  readonly produce: { readonly spool: string }
  readonly grew: Record<string, never>
  readonly done: Record<string, never>
  readonly hungUp: Record<string, never>
  readonly refused: never
}

interface Refusal {
  readonly code: ErrorCode | 'USAGE'
  readonly message: string
  readonly hint?: string
}

export type TxnMessage = { readonly answer: object } | { readonly refusal: Refusal }

export function encodeMessage(message: object): Uint8Array {
  return Buffer.from(JSON.stringify(message))
}

/** @throws StreamError MALFORMED_MESSAGE */
export function decodeMessage<T>(frames: readonly Uint8Array[]): T {
  try {
    return JSON.parse(Buffer.concat(frames).toString('utf8')) as T
  } catch (cause) {
    throw new StreamError('MALFORMED_MESSAGE', 'nonsense on the socket of stream txn', { cause })
  }
}

export function refusalOf(error: unknown): Refusal {
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof UsageError) return { code: 'USAGE', message, ...hintOf(error.hint) }
  if (error instanceof StreamError) return { code: error.code, message, ...hintOf(error.hint) }
  return { code: 'BROKER_ERROR', message }
}

export function errorOfRefusal({ code, message, hint }: Refusal): Error {
  if (code === 'USAGE') return new UsageError(message, hint)
  const known: ErrorCode = code in errorTable ? code : 'BROKER_ERROR'
  return new StreamError(known, message, hintOf(hint))
}

function hintOf(hint: string | undefined): { readonly hint?: string } {
  return hint === undefined ? {} : { hint }
}
