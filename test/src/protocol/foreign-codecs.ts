/** The message codecs inside two Kafka clients that we did not write, as judges of ours. */
import { createRequire } from 'node:module'
import * as platformatic from '@platformatic/kafka'

const require = createRequire(import.meta.url)

export const CORRELATION_ID = 305_419_896
export const CLIENT_ID = 'judge'

interface KafkajsRequest {
  readonly apiKey: number
  readonly apiVersion: number
  readonly encode: () => Promise<unknown>
}

/** A whole request as kafkajs sends it, without the size prefix; only non-flexible versions exist there. */
export async function kafkajsRequest(
  folder: string,
  version: number,
  values: object,
): Promise<Uint8Array> {
  const make = require(`kafkajs/src/protocol/requests/${folder}/v${version}/request`)
  const wrap = require('kafkajs/src/protocol/request')
  const request: KafkajsRequest = make(values)
  const encoder = await wrap({ correlationId: CORRELATION_ID, clientId: CLIENT_ID, request })
  return new Uint8Array(encoder.buffer.subarray(4))
}

/** A response body (after the correlation id) as kafkajs understands it. */
export async function kafkajsResponse(
  folder: string,
  version: number,
  body: Uint8Array,
): Promise<unknown> {
  const { decode } = require(`kafkajs/src/protocol/requests/${folder}/v${version}/response`)
  return decode(Buffer.from(body))
}

type Parse = (correlationId: number, key: number, version: number, reader: object) => unknown
type Api = (connection: object, ...values: unknown[]) => void

interface PlatformaticMessage {
  readonly key: number
  readonly version: number
  readonly body: Uint8Array
  readonly isHeaderFlexible: boolean
  readonly isResponseHeaderFlexible: boolean
  readonly parse: Parse
}

/** What @platformatic/kafka hands to its connection for a call of `name` (`fetchV12`). */
function platformaticMessage(name: string, values: readonly unknown[]): PlatformaticMessage {
  const api = (platformatic as unknown as Record<string, { readonly api: Api }>)[name]?.api
  if (api === undefined) throw new Error(`@platformatic/kafka has no ${name}`)
  const sent: PlatformaticMessage[] = []
  const connection = {
    send(
      key: number,
      version: number,
      create: () => { readonly buffer: Uint8Array },
      parse: Parse,
      isHeaderFlexible: boolean,
      isResponseHeaderFlexible: boolean,
    ) {
      const body = create().buffer
      sent.push({ key, version, body, isHeaderFlexible, isResponseHeaderFlexible, parse })
    },
  }
  api(connection, ...values)
  const [message] = sent
  if (message === undefined) throw new Error(`${name} sent nothing`)
  return message
}

/** A whole request as @platformatic/kafka sends it, without the size prefix. */
export function platformaticRequest(name: string, values: readonly unknown[]): Uint8Array {
  const message = platformaticMessage(name, values)
  const header = Buffer.alloc(8)
  header.writeInt16BE(message.key, 0)
  header.writeInt16BE(message.version, 2)
  header.writeInt32BE(CORRELATION_ID, 4)
  const clientId = Buffer.from([0, CLIENT_ID.length, ...Buffer.from(CLIENT_ID)])
  const tags = Buffer.alloc(message.isHeaderFlexible ? 1 : 0)
  return new Uint8Array(Buffer.concat([header, clientId, tags, message.body]))
}

/** A whole response as @platformatic/kafka understands it; `values` make some request of the same version. */
export function platformaticResponse(
  name: string,
  values: readonly unknown[],
  response: Uint8Array,
): unknown {
  const message = platformaticMessage(name, values)
  const headerBytes = message.isResponseHeaderFlexible ? 5 : 4
  const { Reader } = platformatic as unknown as { Reader: { from(bytes: Buffer): object } }
  const reader = Reader.from(Buffer.from(response.subarray(headerBytes)))
  return message.parse(CORRELATION_ID, message.key, message.version, reader)
}
