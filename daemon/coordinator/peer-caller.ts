import type { ApiName, RequestInput, Response } from '../../src/protocol/api-table.ts'

/** Requests to the other daemons of the cluster. The single daemon has none. */
export interface PeerCaller {
  /**
   * @param timeoutMs  for the whole call, with the time to connect
   * @throws StreamError UNREACHABLE, CONNECTION_LOST (outcome unknown), TIMED_OUT (outcome unknown), UNSUPPORTED_BY_BROKER
   */
  call<A extends ApiName>(
    nodeId: number,
    api: A,
    version: number,
    body: RequestInput<A>,
    options: { readonly timeoutMs: number },
  ): Promise<Response<A>>
}
