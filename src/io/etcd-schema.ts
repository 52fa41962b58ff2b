/**
 * The part of etcd's v3 API that the store uses, as protobuf descriptions: names and numbers of rpc.proto, kv.proto and
 * auth.proto of etcd 3.4; later versions only add to them. These numbers are permanent.
 *
 * 64-bit integers are texts of decimal digits here: lease ids do not fit into a number.
 */
import type { MethodDefinition } from '@grpc/grpc-js'

export type GrpcModule = typeof import('./grpc.ts')

export interface EtcdHeader {
  readonly revision?: string
}

export interface EtcdKeyValue {
  readonly key: Uint8Array
  readonly createRevision?: string
  readonly modRevision?: string
  readonly value?: Uint8Array
}

export interface RangeRequest {
  readonly key: Uint8Array
  readonly rangeEnd?: Uint8Array
  readonly limit?: number
  readonly revision?: number
}

export interface RangeResponse {
  readonly header?: EtcdHeader
  readonly kvs?: readonly EtcdKeyValue[]
  readonly more?: boolean
}

export interface EtcdCompare {
  readonly result: number
  readonly target: number
  readonly key: Uint8Array
  readonly createRevision?: number
  readonly modRevision?: number
}

export interface RequestOp {
  readonly requestRange?: { readonly key: Uint8Array }
  readonly requestPut?: {
    readonly key: Uint8Array
    readonly value: Uint8Array
    readonly lease?: string
  }
  readonly requestDeleteRange?: { readonly key: Uint8Array }
}

export interface TxnRequest {
  readonly compare: readonly EtcdCompare[]
  readonly success: readonly RequestOp[]
  readonly failure: readonly RequestOp[]
}

export interface TxnResponse {
  readonly header?: EtcdHeader
  readonly succeeded?: boolean
  readonly responses?: readonly { readonly responseRange?: RangeResponse }[]
}

export interface WatchRequest {
  readonly createRequest: {
    readonly key: Uint8Array
    readonly rangeEnd: Uint8Array
    readonly startRevision: number
    readonly progressNotify: boolean
    readonly fragment: boolean
  }
}

export interface WatchResponse {
  readonly header?: EtcdHeader
  readonly created?: boolean
  readonly canceled?: boolean
  readonly compactRevision?: string
  readonly cancelReason?: string
  readonly fragment?: boolean
  readonly events?: readonly { readonly type?: number; readonly kv?: EtcdKeyValue }[]
}

export interface LeaseResponse {
  readonly ID?: string
  readonly TTL?: string
}

export interface StatusResponse {
  readonly version?: string
  readonly leader?: string
  readonly errors?: readonly string[]
}

export const EVENT_DELETE = 1
export const COMPARE_EQUAL = 0
export const COMPARE_CREATE = 1
export const COMPARE_MOD = 2

type Method<Request, Response> = Pick<
  MethodDefinition<Request, Response>,
  'path' | 'requestSerialize' | 'responseDeserialize'
>

export interface EtcdMethods {
  readonly range: Method<RangeRequest, RangeResponse>
  readonly txn: Method<TxnRequest, TxnResponse>
  readonly watch: Method<WatchRequest, WatchResponse>
  readonly leaseGrant: Method<{ readonly TTL: number }, LeaseResponse>
  readonly leaseRevoke: Method<{ readonly ID: string }, object>
  readonly leaseKeepAlive: Method<{ readonly ID: string }, LeaseResponse>
  readonly authenticate: Method<
    { readonly name: string; readonly password: string },
    { readonly token?: string }
  >
  readonly status: Method<object, StatusResponse>
}

type FieldType = 'bytes' | 'string' | 'bool' | 'int32' | 'int64' | 'uint64' | (string & {})
/** Type and number; a type in brackets is repeated. */
type Fields = Readonly<Record<string, readonly [FieldType | readonly [FieldType], number]>>

const messages: Readonly<Record<string, Fields>> = {
  ResponseHeader: { revision: ['int64', 3] },
  KeyValue: {
    key: ['bytes', 1],
    createRevision: ['int64', 2],
    modRevision: ['int64', 3],
    value: ['bytes', 5],
  },
  RangeRequest: {
    key: ['bytes', 1],
    rangeEnd: ['bytes', 2],
    limit: ['int64', 3],
    revision: ['int64', 4],
  },
  RangeResponse: { header: ['ResponseHeader', 1], kvs: [['KeyValue'], 2], more: ['bool', 3] },
  PutRequest: { key: ['bytes', 1], value: ['bytes', 2], lease: ['int64', 3] },
  DeleteRangeRequest: { key: ['bytes', 1] },
  Compare: {
    result: ['int32', 1],
    target: ['int32', 2],
    key: ['bytes', 3],
    createRevision: ['int64', 5],
    modRevision: ['int64', 6],
  },
  RequestOp: {
    requestRange: ['RangeRequest', 1],
    requestPut: ['PutRequest', 2],
    requestDeleteRange: ['DeleteRangeRequest', 3],
  },
  ResponseOp: { responseRange: ['RangeResponse', 1] },
  TxnRequest: {
    compare: [['Compare'], 1],
    success: [['RequestOp'], 2],
    failure: [['RequestOp'], 3],
  },
  TxnResponse: {
    header: ['ResponseHeader', 1],
    succeeded: ['bool', 2],
    responses: [['ResponseOp'], 3],
  },
  WatchRequest: { createRequest: ['WatchCreateRequest', 1] },
  WatchCreateRequest: {
    key: ['bytes', 1],
    rangeEnd: ['bytes', 2],
    startRevision: ['int64', 3],
    progressNotify: ['bool', 4],
    fragment: ['bool', 8],
  },
  WatchResponse: {
    header: ['ResponseHeader', 1],
    created: ['bool', 3],
    canceled: ['bool', 4],
    compactRevision: ['int64', 5],
    cancelReason: ['string', 6],
    fragment: ['bool', 7],
    events: [['Event'], 11],
  },
  Event: { type: ['int32', 1], kv: ['KeyValue', 2] },
  LeaseGrantRequest: { TTL: ['int64', 1], ID: ['int64', 2] },
  LeaseRevokeRequest: { ID: ['int64', 1] },
  LeaseKeepAliveRequest: { ID: ['int64', 1] },
  LeaseGrantResponse: { ID: ['int64', 2], TTL: ['int64', 3] },
  LeaseRevokeResponse: {},
  LeaseKeepAliveResponse: { ID: ['int64', 2], TTL: ['int64', 3] },
  AuthenticateRequest: { name: ['string', 1], password: ['string', 2] },
  AuthenticateResponse: { token: ['string', 2] },
  StatusRequest: {},
  StatusResponse: {
    version: ['string', 2],
    leader: ['uint64', 4],
    errors: [['string'], 8],
  },
}

/** Service, method; its messages are named for the method. */
const methods: Readonly<Record<keyof EtcdMethods, readonly [string, string]>> = {
  range: ['KV', 'Range'],
  txn: ['KV', 'Txn'],
  watch: ['Watch', 'Watch'],
  leaseGrant: ['Lease', 'LeaseGrant'],
  leaseRevoke: ['Lease', 'LeaseRevoke'],
  leaseKeepAlive: ['Lease', 'LeaseKeepAlive'],
  authenticate: ['Auth', 'Authenticate'],
  status: ['Maintenance', 'Status'],
}

export function loadEtcdMethods(grpc: Pick<GrpcModule, 'fromJSON'>): EtcdMethods {
  const nested: Record<string, object> = {}
  for (const [name, fields] of Object.entries(messages)) nested[name] = { fields: fieldsOf(fields) }
  for (const [service, name] of Object.values(methods)) {
    const sibling = nested[service] as { methods: Record<string, object> } | undefined
    const description = { requestType: `${name}Request`, responseType: `${name}Response` }
    nested[service] = { methods: { ...sibling?.methods, [name]: description } }
  }
  const loaded = grpc.fromJSON({ nested: { etcdserverpb: { nested } } }, { longs: String })
  const found: Record<string, unknown> = {}
  for (const [key, [service, name]] of Object.entries(methods)) {
    found[key] = (loaded[`etcdserverpb.${service}`] as Record<string, unknown>)[name]
  }
  return found as unknown as EtcdMethods
}

function fieldsOf(fields: Fields): Record<string, object> {
  const result: Record<string, object> = {}
  for (const [name, [type, id]] of Object.entries(fields)) {
    result[name] = typeof type === 'string' ? { type, id } : { rule: 'repeated', type: type[0], id }
  }
  return result
}
