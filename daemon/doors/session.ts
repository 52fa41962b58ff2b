/**
 * One connection: requests in, answers out. Bytes come from anybody: whatever they are, the outcome is an answer, a
 * refusal (close or notice), never an exception, and never more memory than the bounds allow.
 *
 * Invariants:
 * - Requests start in the order of their arrival; Produce requests are appended in that order.
 * - On an ordered door answers leave in the order of the requests. While a request waits for anything but the commit of
 *   a Produce, the requests behind it have not started.
 * - A client that does not take its answers gets no further work done: its requests wait, and above the bound of those
 *   the connection ends.
 * - Every request that began is ended once in the books of the admission.
 * - Where logins are asked for, who has not logged in gets nothing else served, little memory, and not much time.
 */

import { isStreamError } from '../../src/base/errors.ts'
import type { Link, LinkEvents } from '../../src/ports/net.ts'
import type { Timer } from '../../src/ports/time.ts'
import type { Request } from '../../src/protocol/api-table.ts'
import { decodeRequest, encodeResponse, readRequestHeader } from '../../src/protocol/codec.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { ServedApi } from '../../src/protocol/served.ts'
import { apiKeysOf } from '../apis/18-api-versions.ts'
import type { Answer, RequestContext } from '../apis/handler.ts'
import { type HandledApi, isHandled } from '../apis/listed-ranges.ts'
import { handle } from '../apis/registry.ts'
import { UnansweredFailure } from '../apis/unanswered-failure.ts'
import { audit, isAudited } from './audit.ts'
import type { DoorOptions, DoorRules } from './door.ts'
import { DoorLogin, type Logins } from './login.ts'

const API_VERSIONS_KEY = 18
const CLIENT_ID_SHOWN_MAX = 80
/** Messages that wait, of a connection that has not logged in. */
const NEWCOMER_HELD_MAX = 4

/** A place in the order of answers. */
interface Slot {
  /** undefined: not answered yet; null: no answer is sent. */
  frames: readonly Uint8Array[] | null | undefined
}

interface Held {
  readonly frames: readonly Uint8Array[]
  readonly bytes: number
}

export class Session implements LinkEvents {
  readonly #link: Link
  readonly #rules: DoorRules
  readonly #options: DoorOptions
  readonly #slots: Slot[] = []
  readonly #work = new Set<Work>()
  #held: Held[] = []
  #blocking = 0
  #isOpen = true
  readonly #onEnd: (session: Session) => void
  readonly #login: DoorLogin | undefined
  #loginTimer: Timer | undefined

  constructor(
    link: Link,
    rules: DoorRules,
    options: DoorOptions,
    onEnd: (session: Session) => void = () => undefined,
  ) {
    this.#link = link
    this.#rules = rules
    this.#options = options
    this.#onEnd = onEnd
    options.admission.addQueue(link)
    if (options.logins === undefined) return
    this.#login = new DoorLogin(options.logins, link.peer)
    this.#awaitLogin(options.logins)
  }

  /** Nothing is in work, and nothing waits to be. */
  get isIdle(): boolean {
    return this.#work.size === 0 && this.#held.length === 0 && this.#slots.length === 0
  }

  /** Users have changed: whose login counts no more is cut off. */
  endIfRevoked(): void {
    if (this.#login?.isRevoked !== true) return
    this.#options.log.info('a connection ends: its user was deleted, or its password set again', {
      user: this.#login.user,
      peer: this.#link.peer,
    })
    this.#cutOff()
  }

  #awaitLogin({ time, newcomers, timeoutMs, messageBytesMax }: Logins): void {
    this.#link.limitMessages?.(messageBytesMax)
    newcomers.add(this, () => this.#cutOff())
    this.#loginTimer = time.setTimer(timeoutMs, () => {
      this.#options.logins?.onRefused('no login in time', peerHost(this.#link.peer))
      this.#cutOff()
    })
  }

  #welcome({ newcomers, requestBytesMax }: Logins): void {
    this.#loginTimer?.cancel()
    this.#loginTimer = undefined
    newcomers.remove(this)
    this.#link.limitMessages?.(requestBytesMax)
  }

  #cutOff(): void {
    this.#end()
    this.#link.close()
  }

  /** Answers what only waits for records, so that the daemon can stop. */
  releaseParked(): void {
    for (const work of [...this.#work]) work.context.answerNow?.()
  }

  onMessage(frames: readonly Uint8Array[]): void {
    if (!this.#isOpen) return
    let bytes = 0
    for (const frame of frames) bytes += frame.length
    this.#options.admission.received(bytes)
    if (this.#held.length === 0 && this.#mayStart()) this.#start({ frames, bytes })
    else this.#hold({ frames, bytes })
  }

  onDrain(): void {
    this.#startHeld()
  }

  onClose(reason?: Error): void {
    if (isStreamError(reason, 'MALFORMED_MESSAGE') && this.#login?.isIn === false) {
      const why = `what it sends before a login is no greeting: ${reason.message}`
      this.#options.logins?.onRefused(why, peerHost(this.#link.peer))
    }
    this.#options.admission.removeQueue(this.#link)
    this.#end()
    this.#onEnd(this)
  }

  /** Nothing more is read or sent; what is in work goes on unheard. */
  #end(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#loginTimer?.cancel()
    this.#options.logins?.newcomers.remove(this)
    for (const held of this.#held) this.#options.admission.release(held.bytes)
    this.#held = []
    this.#slots.length = 0
    for (const work of [...this.#work]) work.context.answerNow?.()
  }

  #mayStart(): boolean {
    return (
      this.#blocking === 0 && this.#work.size < this.#options.requestsMax && !this.#isBackedUp()
    )
  }

  /** The client has answers to take first. */
  #isBackedUp(): boolean {
    const { queuedBytes } = this.#link
    if (queuedBytes === 0) return false
    const { admission, queuedBytesMax } = this.#options
    return queuedBytes > Math.min(queuedBytesMax, admission.shareBytes)
  }

  #hold(held: Held): void {
    const count = this.#held.length + this.#work.size
    const isSlow = this.#isBackedUp()
    const isNewcomer = this.#login?.isIn === false
    const countMax = isNewcomer ? NEWCOMER_HELD_MAX : this.#options.requestsMax
    if (count >= countMax || !this.#options.admission.hold(held.bytes)) {
      const message = isSlow ? 'answers are not taken' : 'too many requests at once'
      this.#complain('overload', `a connection ends: ${message}`, null)
      this.#rules.refuse(this.#link, {
        code: KafkaError.REQUEST_TIMED_OUT,
        correlationId: correlationIdOf(held.frames),
        message,
      })
      if (this.#rules.isOrdered) this.#end()
      return
    }
    this.#held.push(held)
    if (isSlow) this.#options.admission.whenRoom(this.#look)
  }

  readonly #look = (): void => {
    this.#startHeld()
    if (this.#held.length > 0 && this.#isBackedUp()) this.#options.admission.whenRoom(this.#look)
  }

  #startHeld(): void {
    while (this.#isOpen && this.#held.length > 0) {
      if (!this.#mayStart()) return
      const held = this.#held.shift() as Held
      this.#options.admission.release(held.bytes)
      this.#start(held)
    }
  }

  #start({ frames, bytes }: Held): void {
    let header: ReturnType<typeof readRequestHeader>
    try {
      header = readRequestHeader(frames)
    } catch (error) {
      this.#refuseUnreadable(error, -1, null)
      return
    }
    const { apiKey, apiVersion, correlationId, clientId } = header
    if (correlationId < 0 && this.#rules.refusesNegativeIds) {
      const message = `correlation id ${correlationId}: must not be negative`
      this.#complain('negative id', message, clientId)
      this.#refuse({ code: KafkaError.INVALID_REQUEST, correlationId: -1, message })
      return
    }
    if (this.#login?.admits(apiKey) === false) {
      this.#refuseBeforeLogin(apiKey, correlationId, clientId)
      return
    }
    const range = this.#options.listed.get(apiKey)
    if (range === undefined || apiVersion < range.acceptedMin || apiVersion > range.acceptedMax) {
      if (apiKey === API_VERSIONS_KEY && range !== undefined) this.#answerTooNew(correlationId)
      else this.#refuseUnknown(apiKey, apiVersion, correlationId, clientId)
      return
    }
    let request: ReturnType<typeof decodeRequest>
    try {
      request = decodeRequest(frames)
    } catch (error) {
      this.#refuseUnreadable(error, correlationId, clientId)
      return
    }
    if (request.trailingBytes > 0) {
      const where = `${request.api} v${apiVersion}`
      this.#complain(`trailing ${apiKey} ${apiVersion}`, `bytes after a ${where} request`, clientId)
    }
    const api = request.api as ServedApi
    if (!isHandled(api)) {
      this.#refuseUnknown(apiKey, apiVersion, correlationId, clientId)
      return
    }
    this.#run(api, request.body as Parameters<typeof handle>[3], header, bytes)
  }

  #run(
    api: HandledApi,
    body: Parameters<typeof handle>[3],
    header: ReturnType<typeof readRequestHeader>,
    bytes: number,
  ): void {
    const { admission } = this.#options
    const context = new Context(this.#rules, this.#options, this.#link.peer, header, () =>
      admission.end(bytes),
    )
    const slot: Slot = { frames: undefined }
    if (this.#rules.isOrdered) this.#slots.push(slot)
    admission.begin(bytes)
    let answer: ReturnType<typeof handle>
    try {
      answer = this.#ofLogin(api, body) ?? handle(api, this.#options.services, context, body)
    } catch (error) {
      context.finish()
      this.#failed(error, slot, header)
      return
    }
    if (!(answer instanceof Promise)) {
      context.finish()
      this.#answered(api, body, header, slot, answer)
      return
    }
    const work: Work = { context }
    this.#work.add(work)
    // Only a Produce has done all that is done in order when it returns.
    const blocks = this.#rules.isOrdered && api !== 'Produce'
    if (blocks) this.#blocking += 1
    const done = (): void => {
      context.finish()
      this.#work.delete(work)
      if (blocks) this.#blocking -= 1
    }
    answer.then(
      (made: Answer<HandledApi>) => {
        done()
        this.#answered(api, body, header, slot, made)
        this.#startHeld()
      },
      (error: unknown) => {
        done()
        this.#failed(error, slot, header)
        this.#startHeld()
      },
    )
  }

  #ofLogin(
    api: HandledApi,
    body: Parameters<typeof handle>[3],
  ): ReturnType<typeof handle> | undefined {
    if (this.#login === undefined) return undefined
    if (api === 'SaslHandshake') return this.#login.handshake(body as Request<'SaslHandshake'>)
    if (api !== 'SaslAuthenticate') return undefined
    return this.#login.authenticate(body as Request<'SaslAuthenticate'>)
  }

  /** After each answer of the door itself: the login may have come about, or failed. */
  #afterLogin(api: HandledApi): void {
    const { logins } = this.#options
    if (this.#login === undefined || logins === undefined) return
    if (api !== 'SaslAuthenticate' && api !== 'SaslHandshake') return
    if (this.#login.isRefused) this.#cutOff()
    else if (this.#login.isIn && this.#loginTimer !== undefined) this.#welcome(logins)
  }

  #answered(
    api: HandledApi,
    request: Parameters<typeof handle>[3],
    header: ReturnType<typeof readRequestHeader>,
    slot: Slot,
    answer: Answer<HandledApi>,
  ): void {
    if (isAudited(api)) {
      audit(this.#options.log, api, request, answer, {
        user: this.#login?.user,
        clientId: header.clientId,
        peer: this.#link.peer,
      })
    }
    if (!this.#isOpen) return
    if (answer === undefined) {
      this.#send(slot, null)
      return
    }
    let frames: readonly Uint8Array[]
    try {
      frames = encodeResponse(api, header.apiVersion, header.correlationId, answer)
    } catch (error) {
      this.#failed(error, slot, header)
      return
    }
    this.#send(slot, frames)
    this.#afterLogin(api)
  }

  #send(slot: Slot, frames: readonly Uint8Array[] | null): void {
    if (!this.#rules.isOrdered) {
      if (frames !== null) this.#transmit(frames)
      return
    }
    slot.frames = frames
    while (this.#isOpen) {
      const first = this.#slots[0]
      if (first === undefined || first.frames === undefined) return
      this.#slots.shift()
      if (first.frames !== null) this.#transmit(first.frames)
    }
  }

  #transmit(frames: readonly Uint8Array[]): void {
    let bytes = 0
    for (const frame of frames) bytes += frame.length
    this.#options.admission.sent(bytes)
    this.#link.send(frames)
  }

  #answerTooNew(correlationId: number): void {
    const { door } = this.#rules
    const slot: Slot = { frames: undefined }
    if (this.#rules.isOrdered) this.#slots.push(slot)
    const apiKeys = apiKeysOf(door, this.#options.services.phase)
    const answer = { errorCode: KafkaError.UNSUPPORTED_VERSION, apiKeys }
    this.#send(slot, encodeResponse('ApiVersions', 0, correlationId, answer))
  }

  /** A failure that no error code can carry: the client must take the outcome as unknown. */
  #failed(error: unknown, slot: Slot, header: ReturnType<typeof readRequestHeader>): void {
    const isExpected = error instanceof UnansweredFailure
    if (!isExpected) {
      this.#options.log.error('a request failed', {
        apiKey: header.apiKey,
        apiVersion: header.apiVersion,
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      })
    }
    if (!this.#isOpen) return
    const code = isExpected ? KafkaError.NOT_LEADER_OR_FOLLOWER : KafkaError.UNKNOWN_SERVER_ERROR
    const { correlationId } = header
    const isTold = isExpected || isStreamError(error)
    this.#refuse({ code, correlationId, message: isTold ? error.message : 'internal error' })
    this.#send(slot, null)
  }

  #refuseUnreadable(error: unknown, correlationId: number, clientId: string | null): void {
    if (!isStreamError(error)) throw error
    this.#complain('unreadable', `an unreadable request: ${error.message}`, clientId)
    this.#refuse({ code: KafkaError.INVALID_REQUEST, correlationId, message: error.message })
  }

  #refuseUnknown(
    apiKey: number,
    apiVersion: number,
    correlationId: number,
    clientId: string | null,
  ): void {
    const message = `API ${apiKey} version ${apiVersion} is not served here`
    this.#complain(`${apiKey} ${apiVersion}`, message, clientId)
    this.#refuse({ code: KafkaError.UNSUPPORTED_VERSION, correlationId, message })
  }

  #refuseBeforeLogin(apiKey: number, correlationId: number, clientId: string | null): void {
    const message = `API ${apiKey} before a login, or after its end`
    this.#complain('login', `a connection ends: ${message}`, clientId)
    this.#refuse({ code: KafkaError.ILLEGAL_SASL_STATE, correlationId, message })
  }

  #refuse(refusal: Parameters<DoorRules['refuse']>[1]): void {
    this.#rules.refuse(this.#link, refusal)
    if (this.#rules.isOrdered) this.#end()
  }

  #complain(kind: string, message: string, clientId: string | null): void {
    const client = (clientId ?? '').slice(0, CLIENT_ID_SHOWN_MAX)
    const { door } = this.#rules
    this.#options.complaints.once(`${door} ${kind} ${client}`, message, {
      door,
      client,
      peer: this.#link.peer,
    })
  }
}

interface Work {
  readonly context: Context
}

/** The request as handlers see it, with its place in the books. */
class Context implements RequestContext {
  readonly door
  readonly endpoint
  readonly apiVersion: number
  readonly clientId: string | null
  readonly peer: string
  answerNow: (() => void) | undefined
  readonly #options: DoorOptions
  #end: (() => void) | undefined
  #reservedBytes = 0

  constructor(
    rules: DoorRules,
    options: DoorOptions,
    peer: string,
    header: ReturnType<typeof readRequestHeader>,
    end: () => void,
  ) {
    this.door = rules.door
    this.endpoint = options.endpoint()
    this.apiVersion = header.apiVersion
    this.clientId = header.clientId
    this.peer = peer
    this.#options = options
    this.#end = end
  }

  reserveAnswer(wantedBytes: number): number {
    const { admission, queuedBytesMax } = this.#options
    this.releaseAnswer()
    this.#reservedBytes = Math.min(wantedBytes, queuedBytesMax, Math.floor(admission.shareBytes))
    admission.reserve(this.#reservedBytes)
    return this.#reservedBytes
  }

  releaseAnswer(): void {
    this.#options.admission.unreserve(this.#reservedBytes)
    this.#reservedBytes = 0
  }

  park(): void {
    this.finish()
  }

  finish(): void {
    this.releaseAnswer()
    const end = this.#end
    this.#end = undefined
    end?.()
  }
}

function peerHost(peer: string): string {
  return peer.replace(/^kafka:\/\//, '').replace(/:\d+$/, '')
}

function correlationIdOf(frames: readonly Uint8Array[]): number {
  try {
    return readRequestHeader(frames).correlationId
  } catch {
    return -1
  }
}
