/**
 * A broker's session in the metadata store and the controller's election: transactions T1, T1f, T2, T6, T7 of
 * replication.md section 5.4.
 *
 * Invariants:
 * - The lease and the incarnation exist, the latter fsynced in the data directory, before T1 is sent.
 * - `data/<b>` is written only together with the session (T7), never by an unguarded write of its own.
 * - Session epoch E is the create revision of `live/<b>`, controller epoch C that of `controller`, data epoch D the mod
 *   revision of `data/<b>`.
 */

import { assert } from '../../src/base/assert.ts'
import { StreamError } from '../../src/base/errors.ts'
import type { StoreLease, StoreOperation } from '../../src/ports/metadata-store.ts'
import { commit, type Store } from './commit.ts'
import type { MetadataKeys } from './metadata-keys.ts'
import {
  decodeController,
  decodeLive,
  decodeRegistration,
  encodeController,
  encodeData,
  encodeLive,
  encodeMeta,
  encodeRegistration,
  type RegistrationValue,
} from './metadata-values.ts'

export interface Session {
  readonly nodeId: number
  readonly incarnation: string
  /** E */
  readonly sessionEpoch: number
  /** D */
  readonly dataEpoch: number
  /** mod revision of `reg/<b>` */
  readonly registrationRevision: number
  readonly registration: RegistrationValue
}

export interface SessionRequest {
  readonly nodeId: number
  readonly incarnation: string
  readonly endpoints: readonly string[]
  readonly rack: string | null
  readonly directories: readonly string[]
  readonly lease: StoreLease
  /** Given: T7, a lossy start; the data epoch rises. */
  readonly lossyReason: string | undefined
}

/** Creates `meta` of a new cluster; keeps the one that is there. */
export async function ensureMeta(store: Store, keys: MetadataKeys): Promise<void> {
  const key = keys.meta()
  await commit(store, {
    compare: [{ kind: 'createRevision', key, equals: 0 }],
    writes: [
      {
        kind: 'put',
        key,
        value: encodeMeta({ clusterId: keys.clusterId, formatVersion: 1, features: {} }),
      },
    ],
  })
}

/**
 * T1, or T7 with `lossyReason`.
 * @throws StreamError FENCED while another incarnation holds the session
 */
export async function registerSession(
  store: Store,
  keys: MetadataKeys,
  request: SessionRequest,
): Promise<Session> {
  const { nodeId, incarnation, lease } = request
  const liveKey = keys.live(nodeId)
  const dataKey = keys.data(nodeId)
  const registrationKey = keys.registration(nodeId)
  const registration: RegistrationValue = {
    incarnation,
    endpoints: request.endpoints,
    rack: request.rack,
    directories: request.directories,
    state: 'FENCED',
  }
  const writes: StoreOperation[] = [
    { kind: 'put', key: liveKey, value: encodeLive({ incarnation }), lease },
    { kind: 'put', key: registrationKey, value: encodeRegistration(registration) },
  ]
  if (request.lossyReason !== undefined) {
    const value = encodeData({ incarnation, reason: request.lossyReason })
    writes.push({ kind: 'put', key: dataKey, value })
  }
  const result = await commit(store, {
    compare: [{ kind: 'createRevision', key: liveKey, equals: 0 }],
    writes,
    otherwise: [
      { kind: 'get', key: liveKey },
      { kind: 'get', key: registrationKey },
    ],
  })
  let sessionEpoch = result.revision
  let registrationRevision = result.revision
  if (!result.succeeded) {
    const live = result.gets[0]
    const ours = live !== undefined && decodeLive(liveKey, live.value).incarnation === incarnation
    if (!ours) {
      throw new StreamError('FENCED', `another daemon with node id ${nodeId} holds the session`, {
        target: liveKey,
        hint: 'stop it, or give this one another --node-id',
      })
    }
    sessionEpoch = live.createRevision
    registrationRevision = result.gets[1]?.modRevision ?? live.createRevision
  }
  const data = await store.store.get(dataKey)
  assert(data !== undefined, 'a broker has a data epoch from its first session on')
  return {
    nodeId,
    incarnation,
    sessionEpoch,
    dataEpoch: data.modRevision,
    registrationRevision,
    registration,
  }
}

/**
 * T1f: the same process has lost its lease; memory and log are intact, so only E changes.
 * @throws StreamError FENCED when another incarnation has registered meanwhile
 */
export async function registerAgain(
  store: Store,
  keys: MetadataKeys,
  session: Session,
  lease: StoreLease,
): Promise<Session> {
  const liveKey = keys.live(session.nodeId)
  const registrationKey = keys.registration(session.nodeId)
  const result = await commit(store, {
    compare: [
      { kind: 'createRevision', key: liveKey, equals: 0 },
      { kind: 'modRevision', key: registrationKey, equals: session.registrationRevision },
    ],
    writes: [
      {
        kind: 'put',
        key: liveKey,
        value: encodeLive({ incarnation: session.incarnation }),
        lease,
      },
    ],
    otherwise: [{ kind: 'get', key: liveKey }],
  })
  if (result.succeeded) return { ...session, sessionEpoch: result.revision }
  const live = result.gets[0]
  if (live === undefined || decodeLive(liveKey, live.value).incarnation !== session.incarnation) {
    throw new StreamError('FENCED', `the registration of node ${session.nodeId} has changed`)
  }
  return { ...session, sessionEpoch: live.createRevision }
}

/**
 * T2.
 * @returns the controller epoch C
 * @throws StreamError CONFLICT while another session is the controller
 */
export async function becomeController(
  store: Store,
  keys: MetadataKeys,
  session: Session,
  lease: StoreLease,
): Promise<number> {
  const key = keys.controller()
  const result = await commit(store, {
    compare: [
      { kind: 'createRevision', key, equals: 0 },
      {
        kind: 'createRevision',
        key: keys.live(session.nodeId),
        equals: session.sessionEpoch,
      },
    ],
    writes: [
      {
        kind: 'put',
        key,
        value: encodeController({
          brokerId: session.nodeId,
          sessionEpoch: session.sessionEpoch,
        }),
        lease,
      },
    ],
    otherwise: [{ kind: 'get', key }],
  })
  if (result.succeeded) return result.revision
  const holder = result.gets[0]
  if (holder !== undefined) {
    const value = decodeController(key, holder.value)
    if (value.brokerId === session.nodeId && value.sessionEpoch === session.sessionEpoch) {
      return holder.createRevision
    }
  }
  throw new StreamError('CONFLICT', 'another broker is the controller', { target: key })
}

/**
 * T6, drain: the broker says that it is going. Fine when its registration has changed meanwhile: then there is nothing
 * left to hand over.
 */
export async function drain(store: Store, keys: MetadataKeys, session: Session): Promise<void> {
  const key = keys.registration(session.nodeId)
  const current = await store.store.get(key)
  if (current === undefined) return
  const registration = decodeRegistration(key, current.value)
  if (registration.incarnation !== session.incarnation) return
  await commit(store, {
    compare: [
      {
        kind: 'createRevision',
        key: keys.live(session.nodeId),
        equals: session.sessionEpoch,
      },
      { kind: 'modRevision', key, equals: current.modRevision },
    ],
    writes: [
      { kind: 'put', key, value: encodeRegistration({ ...registration, state: 'DRAINING' }) },
    ],
  })
}
