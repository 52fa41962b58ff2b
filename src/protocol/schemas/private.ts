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

/**
 * A produce of one batch that is appended only if the partition's log ends at `expectedEndOffset`. The batch has a
 * producer id and a sequence, so that it can be sent again: a duplicate is answered with its first offset.
 */
export const appendAt = {
  key: 1002,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [
    ['topic', 'string', 0],
    ['partition', 'int32', 0],
    ['expectedEndOffset', 'int64', 0],
    ['timeoutMs', 'int32', 0],
    ['records', 'records', 0, { nullable: 0 }],
  ],
  response: [
    ['errorCode', 'int16', 0],
    ['errorMessage', 'string', 0, { nullable: 0, default: null }],
    ['baseOffset', 'int64', 0],
    ['logEndOffset', 'int64', 0],
  ],
} as const

/**
 * Where the whole batches of a partition lie, for a consumer on the same machine that reads them itself: those that a
 * Fetch at the same offset would give, as far as they are in files, and none of a damaged range. Positions and sizes
 * count bytes of the file; fileId names the file itself (device and inode), whatever stands at the path later.
 */
export const localSpans = {
  key: 1003,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [
    ['topic', 'string', 0],
    ['partition', 'int32', 0],
    ['currentLeaderEpoch', 'int32', 0],
    ['fetchOffset', 'int64', 0],
    ['isolationLevel', 'int8', 0],
    ['maxBytes', 'int32', 0],
  ],
  response: [
    ['errorCode', 'int16', 0],
    ['highWatermark', 'int64', 0],
    ['lastStableOffset', 'int64', 0],
    ['logStartOffset', 'int64', 0],
    ['leaderEpoch', 'int32', 0],
    // Below it offsets follow one another without gaps.
    ['denseEndOffset', 'int64', 0],
    [
      'abortedTransactions',
      {
        array: [
          ['producerId', 'int64', 0],
          ['firstOffset', 'int64', 0],
        ],
      },
      0,
    ],
    [
      'spans',
      {
        array: [
          ['path', 'string', 0],
          ['fileId', 'string', 0],
          ['position', 'int64', 0],
          ['sizeBytes', 'int64', 0],
          // Behind the last batch of the span.
          ['nextOffset', 'int64', 0],
        ],
      },
      0,
    ],
  ],
} as const

/**
 * What a replica's log holds, for the controller that looks for the best copy (replication.md section 5.6). Only
 * partitions that this broker hosts are answered. `lastEpoch` is that of the last batch, −1 without one.
 */
export const logInfo = {
  key: 1004,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [
    [
      'topics',
      {
        array: [
          ['topicId', 'uuid', 0],
          ['partitions', 'int32[]', 0],
        ],
      },
      0,
    ],
  ],
  response: [
    ['errorCode', 'int16', 0],
    ['dataEpoch', 'int64', 0],
    [
      'topics',
      {
        array: [
          ['topicId', 'uuid', 0],
          [
            'partitions',
            {
              array: [
                ['partition', 'int32', 0],
                ['lastEpoch', 'int32', 0],
                ['logEndOffset', 'int64', 0],
                ['durableOffset', 'int64', 0],
                ['latestEpoch', 'int32', 0, { default: -1 }],
              ],
            },
            0,
          ],
        ],
      },
      0,
    ],
  ],
} as const

/**
 * Whole batches of a range, from a replica that is in sync to one whose copy of it is damaged (replication.md section
 * 7.3): as many as fit into maxBytes, at least one, none at or beyond endOffset or the high watermark. `nextOffset` is
 * where the next piece begins, `checksum` the CRC-32C of the records.
 */
export const segmentSync = {
  key: 1005,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [
    ['clusterId', 'string', 0],
    ['replicaId', 'int32', 0],
    ['topicId', 'uuid', 0],
    ['partition', 'int32', 0],
    ['currentLeaderEpoch', 'int32', 0],
    ['startOffset', 'int64', 0],
    ['endOffset', 'int64', 0],
    ['maxBytes', 'int32', 0],
  ],
  response: [
    ['errorCode', 'int16', 0],
    ['highWatermark', 'int64', 0],
    ['logStartOffset', 'int64', 0],
    ['nextOffset', 'int64', 0],
    ['checksum', 'int64', 0],
    ['records', 'records', 0, { nullable: 0 }],
  ],
} as const
