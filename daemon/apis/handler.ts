/**
 * What an API handler is given and what it returns. A handler knows nothing of framing, doors or connections: it gets a
 * decoded body and a context, and returns the answer's body.
 */

import type { Hashes } from '../../src/ports/hashes.ts'
import type { ApiName, Request, ResponseInput } from '../../src/protocol/api-table.ts'
import type { Door, Phase } from '../../src/protocol/served.ts'
import type { GroupCoordinator } from '../coordinator/group-coordinator.ts'
import type { PeerCaller } from '../coordinator/peer-caller.ts'
import type { TransactionCoordinator } from '../coordinator/transaction-coordinator.ts'
import type { LinkService } from '../links/link-service.ts'
import type { Broker } from '../replica/broker.ts'
import type { ParkedFetches } from './parked-fetches.ts'

/** Where clients of one listener reach this broker, as Metadata says it. */
export interface Endpoint {
  readonly host: string
  readonly port: number
}

/** What all handlers share. */
export interface Services {
  readonly broker: Broker
  readonly phase: Phase
  readonly parkedFetches: ParkedFetches
  readonly groups: GroupCoordinator
  readonly transactions: TransactionCoordinator
  readonly links: LinkService
  /** undefined: the single daemon. */
  readonly peers: PeerCaller | undefined
  readonly host: DaemonHost
  /** undefined: this daemon keeps no users. */
  readonly hashes?: Hashes | undefined
}

/** What only the daemon's main knows. */
export interface DaemonHost {
  readonly pid: number
  readonly version: string
  readonly addresses: () => readonly string[]
  readonly residentBytes: () => number
  readonly space: () => { readonly freeBytes: number; readonly totalBytes: number }
  /** Begins the daemon's end; returns at once. */
  readonly requestStop: () => void
}

/** One request, as far as a handler may know. Made by the door. */
export interface RequestContext {
  readonly door: Door
  readonly endpoint: Endpoint
  readonly apiVersion: number
  readonly clientId: string | null
  /** For operators: the remote address where it is known. */
  readonly peer: string
  /**
   * Asks for room for an answer of `wantedBytes`, in place of what was asked for before.
   * @returns what it may hold, given what is queued for clients already; a single batch may be larger
   */
  reserveAnswer(wantedBytes: number): number
  /** The answer is not made yet: gives the room back for the time being. */
  releaseAnswer(): void
  /** The request only waits from now on and counts no longer as work. */
  park(): void
  /** Set by a handler that waits: ends the wait with what there is. Nobody may be left to take the answer. */
  answerNow: (() => void) | undefined
}

/** undefined: no answer is sent (Produce with acks=0). */
export type Answer<A extends ApiName> = ResponseInput<A> | undefined

/**
 * Requests of one connection start in order of arrival: what a handler does before it returns (or first awaits) is done
 * in that order. It throws nothing but programmer errors: failures are error codes of the answer.
 */
export type Handler<A extends ApiName> = (
  services: Services,
  context: RequestContext,
  request: Request<A>,
) => Answer<A> | Promise<Answer<A>>
