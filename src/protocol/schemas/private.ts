/**
 * Private APIs: keys from 1000, flexible from version 0, on the ZeroMQ door only. Append fields with a higher `since`;
 * these numbers are permanent.
 */

export const daemonStatus = {
  key: 1000,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [],
  response: [
    ['errorCode', 'int16', 0],
    ['pid', 'int32', 0],
    ['version', 'string', 0],
    ['nodeId', 'int32', 0],
    ['clusterId', 'string', 0],
    ['addresses', 'string[]', 0],
    ['dataDirectory', 'string', 0],
    ['uptimeMs', 'int64', 0],
    ['topics', 'int32', 0],
    ['partitions', 'int32', 0],
    ['bytes', 'int64', 0],
    ['state', 'string', 0],
    ['residentBytes', 'int64', 0],
  ],
} as const

export const daemonStop = {
  key: 1001,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [],
  response: [['errorCode', 'int16', 0]],
} as const
