/**
 * The values of the metadata store (replication.md sections 5.2 and 5.3), JSON objects in UTF-8. Field names are
 * permanent. A value can not hold its own revision: session epoch E, data epoch D and controller epoch C are read from
 * the revisions of their keys.
 *
 * What is read here may be damaged or of a later version, so every decoder checks shapes and throws STORE_DAMAGED with
 * the key; unknown fields are ignored.
 */

import { StreamError } from '../../src/base/errors.ts'

export interface MetaValue {
  readonly clusterId: string
  readonly formatVersion: number
  readonly features: Readonly<Record<string, number>>
}

export interface ControllerValue {
  readonly brokerId: number
  readonly sessionEpoch: number
}

/** The disk of a broker is full; of an earlier session it says nothing. */
export interface FullValue {
  readonly sessionEpoch: number
}

export interface LiveValue {
  readonly incarnation: string
}

export type BrokerState = 'FENCED' | 'ACTIVE' | 'DRAINING'

export interface RegistrationValue {
  readonly incarnation: string
  readonly endpoints: readonly string[]
  readonly rack: string | null
  readonly directories: readonly string[]
  readonly state: BrokerState
}

export interface DataValue {
  readonly incarnation: string
  readonly reason: string
}

export type TopicState = 'CREATING' | 'READY'

export interface TopicValue {
  readonly topicId: string
  readonly partitions: number
  readonly config: Readonly<Record<string, string>>
  readonly state: TopicState
}

export interface DeletedValue {
  readonly name: string
  /** Wall clock, milliseconds since 1970. */
  readonly at: number
}

export interface RestoredValue {
  /** Names this decision: a directory remembers the last one that it has followed. */
  readonly id: string
  /** Wall clock, milliseconds since 1970. */
  readonly at: number
}

export type ConfigValue = Readonly<Record<string, string>>

/** A replica together with the data epoch in which it holds what the membership claims. */
export interface Member {
  readonly broker: number
  readonly dataEpoch: number
}

/** Recognises one's own write after an unknown outcome. */
export interface Writer {
  /** Session epoch of a leader, or controller epoch. */
  readonly epoch: number
  readonly counter: number
}

export interface PartitionValue {
  readonly replicas: readonly number[]
  readonly adding: readonly number[]
  readonly removing: readonly number[]
  /**
   * Partition epoch at which a replica was given to a broker, for those that were not there from the beginning. A log from an
   * earlier time is none of this partition any more: what deleted its records may be gone from all others (section 11).
   */
  readonly since?: Readonly<Record<string, number>>
  /** -1: none. */
  readonly leader: number
  /** Incarnation of the leader when it was elected; empty without leader. */
  readonly leaderIncarnation: string
  readonly leaderEpoch: number
  readonly partitionEpoch: number
  readonly inSyncReplicas: readonly Member[]
  readonly eligibleReplicas: readonly Member[]
  /** Former members whose data epoch went stale while the in-sync replicas were fewer than minInSync. */
  readonly known: readonly Member[]
  readonly lastLeader: Member | null
  readonly minInSync: number
  /** Leader epoch of the last election that could lose data; 0: never. */
  readonly uncleanEpoch: number
  readonly recovering: boolean
  readonly writer: Writer
}

export function encodeMeta(value: MetaValue): Uint8Array {
  return encodeObject(value)
}

export function decodeMeta(key: string, bytes: Uint8Array): MetaValue {
  const object = decodeObject(key, bytes)
  const features: Record<string, number> = {}
  for (const [name, level] of Object.entries(asObject(key, object['features'] ?? {}))) {
    features[name] = asInteger(key, name, level)
  }
  return {
    clusterId: text(key, object, 'clusterId'),
    formatVersion: integer(key, object, 'formatVersion'),
    features,
  }
}

export function encodeController(value: ControllerValue): Uint8Array {
  return encodeObject({ brokerId: value.brokerId, E: value.sessionEpoch })
}

export function decodeController(key: string, bytes: Uint8Array): ControllerValue {
  const object = decodeObject(key, bytes)
  return { brokerId: integer(key, object, 'brokerId'), sessionEpoch: integer(key, object, 'E') }
}

export function encodeLive(value: LiveValue): Uint8Array {
  return encodeObject(value)
}

export function decodeLive(key: string, bytes: Uint8Array): LiveValue {
  return { incarnation: text(key, decodeObject(key, bytes), 'incarnation') }
}

export function encodeFull({ sessionEpoch }: FullValue): Uint8Array {
  return encodeObject({ E: sessionEpoch })
}

export function decodeFull(key: string, bytes: Uint8Array): FullValue {
  return { sessionEpoch: integer(key, decodeObject(key, bytes), 'E') }
}

export function encodeRegistration(value: RegistrationValue): Uint8Array {
  return encodeObject({
    incarnation: value.incarnation,
    endpoints: value.endpoints,
    rack: value.rack,
    dirs: value.directories,
    state: value.state,
  })
}

export function decodeRegistration(key: string, bytes: Uint8Array): RegistrationValue {
  const object = decodeObject(key, bytes)
  const state = text(key, object, 'state')
  if (state !== 'FENCED' && state !== 'ACTIVE' && state !== 'DRAINING') {
    throw damaged(key, `unknown state ${state}`)
  }
  return {
    incarnation: text(key, object, 'incarnation'),
    endpoints: texts(key, object, 'endpoints'),
    rack: object['rack'] === null ? null : text(key, object, 'rack'),
    directories: texts(key, object, 'dirs'),
    state,
  }
}

export function encodeData(value: DataValue): Uint8Array {
  return encodeObject(value)
}

export function decodeData(key: string, bytes: Uint8Array): DataValue {
  const object = decodeObject(key, bytes)
  return { incarnation: text(key, object, 'incarnation'), reason: text(key, object, 'reason') }
}

export function encodeTopic(value: TopicValue): Uint8Array {
  return encodeObject(value)
}

export function decodeTopic(key: string, bytes: Uint8Array): TopicValue {
  const object = decodeObject(key, bytes)
  const state = text(key, object, 'state')
  if (state !== 'CREATING' && state !== 'READY') throw damaged(key, `unknown state ${state}`)
  const partitions = integer(key, object, 'partitions')
  if (partitions < 1) throw damaged(key, 'a topic without partitions')
  return {
    topicId: text(key, object, 'topicId'),
    partitions,
    config: textMap(key, object['config']),
    state,
  }
}

export function encodeDeleted(value: DeletedValue): Uint8Array {
  return encodeObject(value)
}

export function decodeDeleted(key: string, bytes: Uint8Array): DeletedValue {
  const object = decodeObject(key, bytes)
  return { name: text(key, object, 'name'), at: integer(key, object, 'at') }
}

export function encodeRestored(value: RestoredValue): Uint8Array {
  return encodeObject(value)
}

export function decodeRestored(key: string, bytes: Uint8Array): RestoredValue {
  const object = decodeObject(key, bytes)
  return { id: text(key, object, 'id'), at: integer(key, object, 'at') }
}

export function encodeConfig(value: ConfigValue): Uint8Array {
  return encodeObject(value)
}

export function decodeConfig(key: string, bytes: Uint8Array): ConfigValue {
  return textMap(key, decodeObject(key, bytes))
}

export function encodeProducerIds(next: number): Uint8Array {
  return encodeObject({ next })
}

export function decodeProducerIds(key: string, bytes: Uint8Array): number {
  return integer(key, decodeObject(key, bytes), 'next')
}

export function encodePartition(value: PartitionValue): Uint8Array {
  return encodeObject({
    replicas: value.replicas,
    adding: value.adding,
    removing: value.removing,
    ...(value.since === undefined ? {} : { since: value.since }),
    leader: value.leader,
    leaderInc: value.leaderIncarnation,
    leaderEpoch: value.leaderEpoch,
    partitionEpoch: value.partitionEpoch,
    isr: value.inSyncReplicas.map(fromMember),
    elr: value.eligibleReplicas.map(fromMember),
    known: value.known.map(fromMember),
    lastLeader: value.lastLeader === null ? null : fromMember(value.lastLeader),
    minIsr: value.minInSync,
    uncleanEpoch: value.uncleanEpoch,
    recovering: value.recovering,
    writer: value.writer,
  })
}

export function decodePartition(key: string, bytes: Uint8Array): PartitionValue {
  const object = decodeObject(key, bytes)
  const writer = asObject(key, object['writer'])
  const lastLeader = object['lastLeader']
  return {
    replicas: integers(key, object, 'replicas'),
    adding: integers(key, object, 'adding'),
    removing: integers(key, object, 'removing'),
    ...(object['since'] === undefined ? {} : { since: sinceOf(key, object['since']) }),
    leader: integer(key, object, 'leader'),
    leaderIncarnation: text(key, object, 'leaderInc'),
    leaderEpoch: integer(key, object, 'leaderEpoch'),
    partitionEpoch: integer(key, object, 'partitionEpoch'),
    inSyncReplicas: members(key, object, 'isr'),
    eligibleReplicas: members(key, object, 'elr'),
    known: members(key, object, 'known'),
    lastLeader: lastLeader === null ? null : toMember(key, lastLeader),
    minInSync: integer(key, object, 'minIsr'),
    uncleanEpoch: integer(key, object, 'uncleanEpoch'),
    recovering: object['recovering'] === true,
    writer: { epoch: integer(key, writer, 'epoch'), counter: integer(key, writer, 'counter') },
  }
}

function sinceOf(key: string, value: unknown): Readonly<Record<string, number>> {
  const since: Record<string, number> = {}
  for (const [broker, epoch] of Object.entries(asObject(key, value))) {
    since[broker] = asInteger(key, `since ${broker}`, epoch)
  }
  return since
}

export type JsonObject = Readonly<Record<string, unknown>>

export function encodeObject(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value), 'utf8')
}

export function decodeObject(key: string, bytes: Uint8Array): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8'))
  } catch (cause) {
    throw damaged(key, 'not JSON', cause)
  }
  return asObject(key, value)
}

export function damaged(key: string, what: string, cause?: unknown): StreamError {
  return new StreamError('STORE_DAMAGED', `metadata key ${key}: ${what}`, {
    target: key,
    ...(cause === undefined ? {} : { cause }),
  })
}

export function asObject(key: string, value: unknown): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw damaged(key, 'not an object')
  }
  return value as JsonObject
}

export function asInteger(key: string, name: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
    throw damaged(key, `${name} is not an integer`)
  }
  return value
}

export function integer(key: string, object: JsonObject, name: string): number {
  return asInteger(key, name, object[name])
}

export function text(key: string, object: JsonObject, name: string): string {
  const value = object[name]
  if (typeof value !== 'string') throw damaged(key, `${name} is not a string`)
  return value
}

export function array(key: string, object: JsonObject, name: string): readonly unknown[] {
  const value = object[name]
  if (!Array.isArray(value)) throw damaged(key, `${name} is not an array`)
  return value
}

export function integers(key: string, object: JsonObject, name: string): readonly number[] {
  return array(key, object, name).map((value) => asInteger(key, name, value))
}

export function texts(key: string, object: JsonObject, name: string): readonly string[] {
  return array(key, object, name).map((value) => {
    if (typeof value !== 'string') throw damaged(key, `${name} holds something else than strings`)
    return value
  })
}

function textMap(key: string, value: unknown): Readonly<Record<string, string>> {
  const map: Record<string, string> = {}
  for (const [name, entry] of Object.entries(asObject(key, value))) {
    if (typeof entry !== 'string') throw damaged(key, `${name} is not a string`)
    map[name] = entry
  }
  return map
}

function fromMember(member: Member): object {
  return { b: member.broker, D: member.dataEpoch }
}

function toMember(key: string, value: unknown): Member {
  const object = asObject(key, value)
  return { broker: integer(key, object, 'b'), dataEpoch: integer(key, object, 'D') }
}

function members(key: string, object: JsonObject, name: string): readonly Member[] {
  return array(key, object, name).map((value) => toMember(key, value))
}
