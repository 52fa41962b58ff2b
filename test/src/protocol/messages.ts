/** Whole messages in both directions through the public codec, for tests that range over the catalogue. */
import type { RequestInput, ResponseInput } from '../../../src/protocol/api-table.ts'
import {
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
} from '../../../src/protocol/codec.ts'
import type { Body, MessageVersion } from './message-arbitrary.ts'

export const CORRELATION_ID = 77

export function encodeMessage(message: MessageVersion, body: Body): Uint8Array[] {
  const { api, version, direction } = message
  return direction === 'request'
    ? encodeRequest(
        api,
        version,
        { correlationId: CORRELATION_ID, clientId: 'tester' },
        body as unknown as RequestInput<typeof api>,
      )
    : encodeResponse(api, version, CORRELATION_ID, body as unknown as ResponseInput<typeof api>)
}

export function decodeMessage(message: MessageVersion, frames: readonly Uint8Array[]) {
  return message.direction === 'request'
    ? decodeRequest(frames)
    : decodeResponse(message.api, message.version, frames)
}

/** The frames as one, in memory of its own. */
export function joinFrames(frames: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(frames))
}
