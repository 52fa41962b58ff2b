/**
 * Whether a broker that hangs up on a first request wants a login: it answers a handshake for no mechanism with those that it
 * offers, where a listener without logins says that there are none. Loaded only then; nothing secret is told.
 */
import { StreamError } from '../base/errors.ts'
import type { LinkSecurity, Net } from '../ports/net.ts'
import type { Time } from '../ports/time.ts'
import { decodeResponse, encodeRequest } from '../protocol/codec.ts'
import { KafkaError } from '../protocol/errors.ts'

const WAIT_MS = 2000
const VERSION = 1

export interface LoginQuestion {
  readonly address: string
  readonly clientId: string
  readonly security: LinkSecurity | undefined
}

/** @returns NOT_ALLOWED with what is offered; undefined: it wants none, or does not say */
export function wantsLogin(
  time: Time,
  net: Net,
  { address, clientId, security }: LoginQuestion,
): Promise<StreamError | undefined> {
  return new Promise((resolve) => {
    const done = (failure: StreamError | undefined): void => {
      timer.cancel()
      resolve(failure)
      link.close()
    }
    const timer = time.setTimer(WAIT_MS, () => done(undefined))
    const link = net.connect(
      address,
      {
        onMessage: (frames) => {
          try {
            const { body } = decodeResponse('SaslHandshake', VERSION, frames)
            const isAsked = body.errorCode === KafkaError.UNSUPPORTED_SASL_MECHANISM
            done(isAsked ? lacksLogin(address, body.mechanisms) : undefined)
          } catch {
            done(undefined)
          }
        },
        onClose: () => done(undefined),
      },
      security,
    )
    const header = { correlationId: 0, clientId }
    link.send(encodeRequest('SaslHandshake', VERSION, header, { mechanism: '' }))
  })
}

function lacksLogin(address: string, offered: readonly string[]): StreamError {
  const list = offered.map((name) => name.replace(/[^\x20-\x7e]/g, '?').slice(0, 40)).join(', ')
  return new StreamError(
    'NOT_ALLOWED',
    `${address}: the broker lets in only who logs in (it offers ${list})`,
    {
      target: address,
      hint: 'name the user, and where its password is, in a context: stream context set NAME --broker ADDRESS -X sasl.username=USER --secret sasl.password=file:PATH',
    },
  )
}
