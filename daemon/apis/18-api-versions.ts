/**
 * ApiVersions (18), versions 0 to 4: what this door lists. A newer version than 4 is answered by the door in a v0 body
 * with error 35, so that the client asks again (kafka-protocol.md section 1.2).
 *
 * Clients take transaction protocol 2 (KIP-890) by its feature, not by versions. A supported range that begins at 0
 * breaks Java clients that ask with version 3, so it is listed from 4 on (P2).
 */

import type { ResponseInput } from '../../src/protocol/api-table.ts'
import { KafkaError } from '../../src/protocol/errors.ts'
import type { Handler } from './handler.ts'
import { listedRanges } from './listed-ranges.ts'

const SOFTWARE_NAME_VERSION = 3
const MIN_ZERO_VERSION = 4
/** The consumer protocol of groups (KIP-848), and transaction protocol 2. */
const features = [
  ['group.version', 1],
  ['transaction.version', 2],
] as const
const softwareName = /^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$/

export const apiVersions: Handler<'ApiVersions'> = (services, context, request) => {
  if (context.apiVersion >= SOFTWARE_NAME_VERSION) {
    const { clientSoftwareName, clientSoftwareVersion } = request
    if (!softwareName.test(clientSoftwareName) || !softwareName.test(clientSoftwareVersion)) {
      return { errorCode: KafkaError.INVALID_REQUEST, apiKeys: [], throttleTimeMs: 0 }
    }
  }
  return {
    errorCode: 0,
    apiKeys: apiKeysOf(context.door, services.phase),
    throttleTimeMs: 0,
    supportedFeatures:
      context.apiVersion >= MIN_ZERO_VERSION
        ? features.map(([name, maxVersion]) => ({ name, minVersion: 0, maxVersion }))
        : [],
    finalizedFeaturesEpoch: 0,
    finalizedFeatures: features.map(([name, level]) => ({
      name,
      maxVersionLevel: level,
      minVersionLevel: level,
    })),
  }
}

export function apiKeysOf(
  ...[door, phase]: Parameters<typeof listedRanges>
): ResponseInput<'ApiVersions'>['apiKeys'] {
  return listedRanges(door, phase).map(({ apiKey, min, max }) => ({
    apiKey,
    minVersion: min,
    maxVersion: max,
  }))
}
