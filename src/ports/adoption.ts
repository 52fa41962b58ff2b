/**
 * Moves the metadata of a single daemon's data directory into etcd, so that the directory becomes the first broker of a cluster: what
 * `stream cluster adopt` works with. Real: daemon/offline/adopt-main.ts, which cmd/main.ts loads by its path when it runs.
 */
export interface Adoption {
  /**
   * What would be moved; changes nothing.
   * @throws StreamError DIRECTORY_LOCKED, DATA_DIRECTORY_INVALID, CONFLICT, STORE_UNAVAILABLE, STORE_DAMAGED, CONFIG_INVALID; UsageError
   */
  look(request: AdoptionRequest): Promise<AdoptionSummary>
  /** Killed at any point it may be run again. @throws as look */
  adopt(request: AdoptionRequest): Promise<AdoptionSummary>
}

export interface AdoptionRequest {
  /** Absolute. */
  readonly dataDirectory: string
  /** Addresses, `http://h1:2379,…`. */
  readonly etcd: string
  /** The broker's keys `stream.etcd.*` that are set. */
  readonly etcdConfig: ReadonlyMap<string, string>
  /** Name of the cluster. */
  readonly cluster: string
}

export interface AdoptionSummary {
  readonly clusterId: string
  readonly nodeId: number
  /** Internal ones too. */
  readonly topics: number
  readonly partitions: number
}
