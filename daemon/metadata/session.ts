/**
 * A broker's session in the metadata store and the controller's election: transactions T1, T1f, T2, T6, T7 of
 * replication.md section 5.4.
 *
 * Invariants:
 * - The lease and the incarnation exist, the latter fsynced in the data directory, before T1 is sent.
 * - `data/<b>` is written only together with the session (T7), or guarded by it, never by an unguarded write of its own.
 * - Session epoch E is the create revision of `live/<b>`, controller epoch C that of `controller`, data epoch D the mod
 *   revision of `data/<b>`.
 */

import { assert } from '../../src/base/assert.ts'
import { StreamError } from '../../src/base/errors.ts'
import type {
  StoreCompare,
  StoreLease,
  StoreOperation,
  StoreTxnResult,
} from '../../src/ports/metadata-store.ts'
import { type CommitOptions, commit, type GuardedWrite, type Store } from './commit.ts'
import type { MetadataKeys } from './metadata-keys.ts'
import {
  decodeController,
  decodeLive,
  decodeRegistration,
  encodeController,
  encodeData,
  encodeFull,
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
  /** What the start was judged by; when it has changed meanwhile nothing is written. */
  readonly judged?: { readonly dataEpoch: number; readonly registrationRevision: number }
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
 * @throws StreamError FENCED while another incarnation holds the session, or when the lease has ended; CONFLICT when what the
 *   start was judged by has changed
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
  const { judged } = request
  const compare: StoreCompare[] = [{ kind: 'createRevision', key: liveKey, equals: 0 }]
  if (judged !== undefined) {
    compare.push(
      { kind: 'modRevision', key: dataKey, equals: judged.dataEpoch },
      { kind: 'modRevision', key: registrationKey, equals: judged.registrationRevision },
    )
  }
  const result = await commit(store, {
    compare,
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
    if (live === undefined) {
      throw new StreamError('CONFLICT', `the registration of node ${nodeId} has changed`, {
        target: liveKey,
      })
    }
    const ours = decodeLive(liveKey, live.value).incarnation === incarnation
    if (!ours) {
      throw numberTaken(liveKey, nodeId)
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

/** @param endpoint  where the other daemon answers, if it does */
export function numberTaken(liveKey: string, nodeId: number, endpoint?: string): StreamError {
  const where = endpoint === undefined ? '' : `, and answers at ${endpoint}`
  const message = `another daemon with node id ${nodeId} holds the session${where}`
  const hint = 'stop it, or give this one another --node-id'
  return new StreamError('FENCED', message, { target: liveKey, hint })
}

/**
 * What this broker's disk is said to hold counts no more, from now on: a sync has failed. It is what the lossy start after it
 * would do (T7), guarded by the session; a disk that fails may not keep the mark that makes the next start a lossy one, and
 * the last sync before may have been reported untruly (ext4 whose journal is given up while an fdatasync waits for it).
 * @returns whether it was applied
 */
export async function giveUpDataEpoch(
  store: Store,
  keys: MetadataKeys,
  session: Session,
  reason: string,
): Promise<boolean> {
  const { nodeId, incarnation, sessionEpoch } = session
  const result = await commit(store, {
    compare: [{ kind: 'createRevision', key: keys.live(nodeId), equals: sessionEpoch }],
    writes: [{ kind: 'put', key: keys.data(nodeId), value: encodeData({ incarnation, reason }) }],
  })
  return result.succeeded
}

/**
 * T1f: the same process has lost its lease; memory and log are intact, so only E changes.
 * @throws StreamError FENCED when another incarnation has registered meanwhile, or when the lease has ended
 */
export async function registerAgain(
  store: Store,
  keys: MetadataKeys,
  session: Session,
  lease: StoreLease,
): Promise<Session> {
  const { nodeId, incarnation } = session
  const liveKey = keys.live(nodeId)
  const registrationKey = keys.registration(nodeId)
  const changed = (): StreamError =>
    new StreamError('FENCED', `another daemon with node id ${nodeId} has registered`, {
      target: registrationKey,
      hint: 'stop it, or give this one another --node-id',
    })
  for (;;) {
    // The controller may have written the state of this very registration.
    const found = await store.store.get(registrationKey)
    if (found === undefined) {
      throw new StreamError(
        'FENCED',
        `the cluster has forgotten broker ${nodeId} while it was away`,
        {
          target: registrationKey,
          hint: 'start it again to join as a new broker',
        },
      )
    }
    const registration = decodeRegistration(registrationKey, found.value)
    if (registration.incarnation !== incarnation) throw changed()
    const result = await commit(store, {
      compare: [
        { kind: 'createRevision', key: liveKey, equals: 0 },
        { kind: 'modRevision', key: registrationKey, equals: found.modRevision },
      ],
      writes: [{ kind: 'put', key: liveKey, value: encodeLive({ incarnation }), lease }],
      otherwise: [{ kind: 'get', key: liveKey }],
    })
    const again = { ...session, registration, registrationRevision: found.modRevision }
    if (result.succeeded) return { ...again, sessionEpoch: result.revision }
    const live = result.gets[0]
    if (live === undefined) continue
    if (decodeLive(liveKey, live.value).incarnation !== incarnation) throw changed()
    return { ...again, sessionEpoch: live.createRevision }
  }
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
 * Ends the controllership of a former session of this broker: only one process has its identity, and that is this one.
 * Waiting for its lease would leave the cluster without controller.
 */
export async function endFormerControl(
  store: Store,
  keys: MetadataKeys,
  session: Session,
  controllerEpoch: number,
): Promise<void> {
  const key = keys.controller()
  await commit(store, {
    compare: [
      { kind: 'createRevision', key, equals: controllerEpoch },
      {
        kind: 'createRevision',
        key: keys.live(session.nodeId),
        equals: session.sessionEpoch,
      },
    ],
    writes: [{ kind: 'delete', key }],
  })
}

/**
 * T6: the controller lets a registered broker in. Only after every partition that mentions it has been evaluated, and
 * written where that changes it, against this registration.
 * @returns whether it was applied
 */
export async function activateBroker(
  store: Store,
  keys: MetadataKeys,
  controllerEpoch: number,
  broker: {
    readonly nodeId: number
    readonly sessionEpoch: number
    readonly registrationRevision: number
    readonly registration: RegistrationValue
  },
  options: CommitOptions = {},
): Promise<StoreTxnResult> {
  const key = keys.registration(broker.nodeId)
  const write: GuardedWrite = {
    compare: [
      { kind: 'createRevision', key: keys.controller(), equals: controllerEpoch },
      { kind: 'createRevision', key: keys.live(broker.nodeId), equals: broker.sessionEpoch },
      { kind: 'modRevision', key, equals: broker.registrationRevision },
    ],
    writes: [
      {
        kind: 'put',
        key,
        value: encodeRegistration({ ...broker.registration, state: 'ACTIVE' }),
      },
    ],
  }
  return commit(store, write, options)
}

/** The controller forgets a broker that has no session any more: its registration, its data epoch, its configs. */
export function removeBroker(
  store: Store,
  keys: MetadataKeys,
  controllerEpoch: number,
  broker: { readonly nodeId: number; readonly revision: number },
): Promise<StoreTxnResult> {
  const { nodeId, revision } = broker
  const registrationKey = keys.registration(nodeId)
  return commit(store, {
    compare: [
      { kind: 'createRevision', key: keys.controller(), equals: controllerEpoch },
      { kind: 'createRevision', key: keys.live(nodeId), equals: 0 },
      { kind: 'modRevision', key: registrationKey, equals: revision },
    ],
    writes: [
      { kind: 'delete', key: registrationKey },
      { kind: 'delete', key: keys.data(nodeId) },
      { kind: 'delete', key: keys.full(nodeId) },
      { kind: 'delete', key: keys.config(`broker/${nodeId}`) },
    ],
  })
}

/**
 * Says that this broker's disk is full, or has room again, as long as the session lasts.
 * @throws StreamError STORE_UNAVAILABLE
 */
export async function tellFull(
  store: Store,
  keys: MetadataKeys,
  { nodeId, sessionEpoch }: Pick<Session, 'nodeId' | 'sessionEpoch'>,
  isFull: boolean,
): Promise<void> {
  const key = keys.full(nodeId)
  const write: StoreOperation = isFull
    ? { kind: 'put', key, value: encodeFull({ sessionEpoch }) }
    : { kind: 'delete', key }
  await commit(store, {
    compare: [{ kind: 'createRevision', key: keys.live(nodeId), equals: sessionEpoch }],
    writes: [write],
  })
}

/**
 * T6, drain: the broker says that it is going. Fine when its registration has changed meanwhile: then there is nothing
 * left to hand over.
 * @returns the revision from which on it is known; 0: it was not written
 */
export async function drain(store: Store, keys: MetadataKeys, session: Session): Promise<number> {
  const key = keys.registration(session.nodeId)
  const current = await store.store.get(key)
  if (current === undefined) return 0
  const registration = decodeRegistration(key, current.value)
  if (registration.incarnation !== session.incarnation) return 0
  const result = await commit(store, {
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
  return result.succeeded ? result.revision : 0
}
