/**
 * The Kafka door: TCP with int32 sizes. Answers leave strictly in the order of the requests; what cannot be answered
 * ends the connection, since a wrong guess at a body would desynchronise the stream (kafka-protocol.md section 1.3).
 */

import type { DoorRules } from './door.ts'

export const kafkaRules: DoorRules = {
  door: 'kafka',
  isOrdered: true,
  refusesNegativeIds: false,
  refuse(link) {
    link.close()
  },
}
