/**
 * SaslHandshake (17) and SaslAuthenticate (36) at a door without logins: error 34, as Kafka's own plain listeners answer. Where
 * there are logins the door itself takes both (daemon/doors/login.ts).
 */

import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'

export const saslHandshake: Handler<'SaslHandshake'> = () => ({
  errorCode: KafkaError.ILLEGAL_SASL_STATE,
  mechanisms: [],
})

export const saslAuthenticate: Handler<'SaslAuthenticate'> = () => ({
  errorCode: KafkaError.ILLEGAL_SASL_STATE,
  errorMessage: 'this listener takes no logins',
  authBytes: new Uint8Array(0),
})
