/**
 * A door: one listener, its connections, and the rules by which they differ. Both doors share the session below;
 * kafka.ts and zmq.ts say what each does where the two differ (kafka-protocol.md sections 1.3 and 1.4).
 */

import type { Log } from '../../src/ports/log.ts'
import type { Link } from '../../src/ports/net.ts'
import type { Door, ServedRange } from '../../src/protocol/served.ts'
import type { Endpoint, Services } from '../apis/handler.ts'
import type { Admission } from './admission.ts'
import type { Complaints } from './complaints.ts'
import type { Logins } from './login.ts'

export interface DoorRules {
  readonly door: Door
  /** Answers leave in the order of the requests; a request that waits for more than a sync holds the next ones back. */
  readonly isOrdered: boolean
  /** Negative correlation ids are refused: a notice has one in the place of a request's. */
  readonly refusesNegativeIds: boolean
  /** What becomes of a request that cannot be answered. */
  refuse(link: Link, refusal: Refusal): void
}

export interface Refusal {
  readonly code: number
  /** −1: unreadable. */
  readonly correlationId: number
  readonly message: string
}

export interface DoorOptions {
  readonly services: Services
  readonly endpoint: () => Endpoint
  readonly admission: Admission
  readonly complaints: Complaints
  readonly log: Log
  /** By API key. */
  readonly listed: ReadonlyMap<number, ServedRange>
  /** Answers queued for a client that does not read, above which its requests wait. */
  readonly queuedBytesMax: number
  /** Requests of one connection in work or waiting. */
  readonly requestsMax: number
  /** undefined: nobody has to log in. */
  readonly logins?: Logins | undefined
}
