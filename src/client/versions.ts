/**
 * Which versions this client's own code can mean. The codec knows all of Kafka's; the client stops where a version
 * changes what a field stands for and the code here does not follow.
 */
import { type ApiName, apiTable } from '../protocol/api-table.ts'

const limits: Partial<Record<ApiName, number>> = {
  // Later versions name topics by id, which no caller here keeps.
  Produce: 12,
  OffsetFetch: 9,
  // The first that names topics by id; the later ones have nothing for readers.
  Fetch: 13,
  // Later versions are for brokers.
  AddPartitionsToTxn: 3,
  // Version 6 is the unstable two-phase commit.
  InitProducerId: 5,
  // Version 4 only adds ranges of features that nobody here asks for.
  ApiVersions: 3,
  // -3 (largest timestamp) is the newest question asked; version 8 on is about tiered storage.
  ListOffsets: 7,
}

export interface VersionRange {
  readonly min: number
  readonly max: number
}

/** The range of `api` this client can speak, before anything is known of the broker. */
export function clientVersions(api: ApiName): VersionRange {
  const { min, max } = apiTable[api]
  return { min, max: Math.min(max, limits[api] ?? max) }
}

/** Highest version inside both ranges, or undefined when they do not meet. */
export function commonVersion(ours: VersionRange, theirs: VersionRange): number | undefined {
  const version = Math.min(ours.max, theirs.max)
  return version >= Math.max(ours.min, theirs.min) ? version : undefined
}
