/**
 * The ZeroMQ door: one multipart message each way, answers in any order. Where the Kafka door would close, a notice is
 * sent, because ROUTER cannot close one peer (kafka-protocol.md section 1.4).
 */

import { encodeNotice } from '../../src/protocol/codec.ts'
import type { DoorRules } from './door.ts'

export const zmqRules: DoorRules = {
  door: 'zmq',
  isOrdered: false,
  refusesNegativeIds: true,
  refuse(link, { code, correlationId, message }) {
    const refused = correlationId >= 0 ? correlationId : -1
    link.send(encodeNotice({ errorCode: code, correlationId: refused, message }))
  },
}
