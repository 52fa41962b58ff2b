/**
 * Messages to frames and back: header and body of requests and responses, and the notice of the ZeroMQ door.
 *
 *     request  = api_key i16, api_version i16, correlation_id i32, client_id nullable string (classic, always),
 *                [tags, if the request version is flexible], body
 *     response = correlation_id i32, [tags, if the response version is flexible; never for ApiVersions], body
 *     notice   = correlation_id i32 = −1, error_code i16, correlation_id i32 of the refused request or −1, message string
 *
 * These layouts are permanent (kafka-protocol.md, section 1). A message is the concatenation of its frames; it may be
 * cut anywhere. Frames written are never changed afterwards; values read are views of the frames.
 */
import { assert } from '../base/assert.ts'
import { StreamError } from '../base/errors.ts'
import {
  type ApiName,
  apiTable,
  codecRange,
  findApi,
  type Request,
  type RequestInput,
  type Response,
  type ResponseInput,
} from './api-table.ts'
import { readBody, writeBody } from './body.ts'
import { planOf } from './plan.ts'
import { WireReader } from './wire-reader.ts'
import { WireWriter } from './wire-writer.ts'

export interface RequestHeader {
  readonly apiKey: number
  readonly apiVersion: number
  readonly correlationId: number
  readonly clientId: string | null
}

export interface DecodedRequestOf<A extends ApiName> extends RequestHeader {
  readonly api: A
  readonly body: Request<A>
  /** Bytes after the body: no error, but worth a line in the log. */
  readonly trailingBytes: number
}

/** A union over `api`: switching on it types the body. */
export type DecodedRequest = { [A in ApiName]: DecodedRequestOf<A> }[ApiName]

export interface DecodedResponse<A extends ApiName> {
  readonly correlationId: number
  readonly body: Response<A>
  readonly trailingBytes: number
}

export interface Notice {
  readonly errorCode: number
  /** Of the refused request; −1: of all that are in flight. */
  readonly correlationId: number
  readonly message: string
}

/** Where a response has its request's id, a notice has this. */
export const NOTICE_CORRELATION_ID = -1

// One writer serves all messages: writing is synchronous, and finished messages are never touched again.
const writer = new WireWriter()

/**
 * @param version  inside codecRange(api)
 * @returns the frames of one message, without size prefix
 * @throws  StreamError UNSUPPORTED_BY_BROKER when the body sets a field that this version cannot carry and must not
 *   drop; MALFORMED_MESSAGE when a string is longer than 32767 bytes
 */
export function encodeRequest<A extends ApiName>(
  api: A,
  version: number,
  header: { readonly correlationId: number; readonly clientId: string | null },
  body: RequestInput<A>,
): Uint8Array[] {
  const plan = planOf(api, version, 'request')
  writer.begin()
  writer.int16(apiTable[api].key)
  writer.int16(version)
  writer.int32(header.correlationId)
  writer.string(header.clientId, false)
  if (plan.isHeaderFlexible) writer.uvarint(0)
  writeBody(writer, plan, body)
  return writer.finish()
}

/**
 * Error codes that the version does not know are translated (error-translation.ts).
 * @param version  inside codecRange(api)
 * @returns the frames of one message; records of 1 KiB and more are frames of their own, not copied
 * @throws  StreamError MALFORMED_MESSAGE when a string is longer than 32767 bytes
 */
export function encodeResponse<A extends ApiName>(
  api: A,
  version: number,
  correlationId: number,
  body: ResponseInput<A>,
): Uint8Array[] {
  const plan = planOf(api, version, 'response')
  writer.begin()
  writer.int32(correlationId)
  if (plan.isHeaderFlexible) writer.uvarint(0)
  writeBody(writer, plan, body)
  return writer.finish()
}

/**
 * Reads only what every request version begins with, so it works for unknown keys and versions too.
 * @throws StreamError MALFORMED_MESSAGE
 */
export function readRequestHeader(frames: readonly Uint8Array[]): RequestHeader {
  return readHeader(new WireReader(frames, 'request'))
}

function readHeader(reader: WireReader): RequestHeader {
  reader.field = 'header'
  const apiKey = reader.int16()
  const apiVersion = reader.int16()
  const correlationId = reader.int32()
  const clientId = reader.string(false)
  return { apiKey, apiVersion, correlationId, clientId }
}

/**
 * @throws StreamError MALFORMED_MESSAGE; UNSUPPORTED_BY_BROKER for a key or version outside the catalogue (a door looks
 *   at readRequestHeader first and knows what it serves)
 */
export function decodeRequest(frames: readonly Uint8Array[]): DecodedRequest {
  const reader = new WireReader(frames, 'request')
  const header = readHeader(reader)
  const { apiKey, apiVersion } = header
  const api = findApi(apiKey)
  if (api === undefined) throw unsupported(`API ${apiKey}`, apiVersion)
  const range = codecRange(api)
  if (apiVersion < range.min || apiVersion > range.max) throw unsupported(api, apiVersion)
  const plan = planOf(api, apiVersion, 'request')
  reader.message = plan.title
  if (plan.isHeaderFlexible) reader.skipTags()
  const body = readBody(reader, plan)
  return {
    api,
    apiKey,
    apiVersion,
    correlationId: header.correlationId,
    clientId: header.clientId,
    body,
    trailingBytes: reader.remaining,
    // The plan of `api` has just read the body, so the two belong together.
  } as DecodedRequest
}

function unsupported(what: string, version: number): StreamError {
  return new StreamError('UNSUPPORTED_BY_BROKER', `${what} version ${version} is not known here`, {
    kafkaError: 35,
  })
}

/**
 * The first field of every response and notice: which request it answers; NOTICE_CORRELATION_ID for a notice.
 * @throws StreamError MALFORMED_MESSAGE when there are fewer than four bytes
 */
export function readCorrelationId(frames: readonly Uint8Array[]): number {
  const reader = new WireReader(frames, 'response')
  reader.field = 'correlationId'
  return reader.int32()
}

/**
 * @param version  of the request that is answered, inside codecRange(api)
 * @throws StreamError MALFORMED_MESSAGE
 */
export function decodeResponse<A extends ApiName>(
  api: A,
  version: number,
  frames: readonly Uint8Array[],
): DecodedResponse<A> {
  const plan = planOf(api, version, 'response')
  const reader = new WireReader(frames, plan.title)
  const correlationId = reader.int32()
  if (plan.isHeaderFlexible) reader.skipTags()
  const body = readBody(reader, plan) as Response<A>
  return { correlationId, body, trailingBytes: reader.remaining }
}

/** What the ZeroMQ door sends where the Kafka door closes the connection (kafka-protocol.md, section 1.4). */
export function encodeNotice(notice: Notice): Uint8Array[] {
  assert(notice.correlationId >= -1, 'a notice is about one request (≥ 0) or about all (−1)')
  writer.begin()
  writer.int32(NOTICE_CORRELATION_ID)
  writer.int16(notice.errorCode)
  writer.int32(notice.correlationId)
  writer.string(notice.message, false)
  return writer.finish()
}

/** @throws StreamError MALFORMED_MESSAGE, also when the message is no notice */
export function decodeNotice(frames: readonly Uint8Array[]): Notice {
  const reader = new WireReader(frames, 'notice')
  reader.field = 'correlationId'
  if (reader.int32() !== NOTICE_CORRELATION_ID) throw reader.malformed('not a notice')
  reader.field = 'errorCode'
  const errorCode = reader.int16()
  reader.field = 'refused correlationId'
  const correlationId = reader.int32()
  reader.field = 'message'
  const message = reader.string(false)
  if (message === null) throw reader.malformed('null is not allowed here')
  return { errorCode, correlationId, message }
}
