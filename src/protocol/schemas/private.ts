/**
 * Private APIs: keys from 1000, flexible from version 0, on the ZeroMQ door only. Append fields with a higher `since`;
 * these numbers are permanent.
 */

export const daemonStatus = {
  key: 1000,
  min: 0,
  max: 4,
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
    ['damagedRanges', 'int32', 1],
    ['scrubbedMs', 'int64', 1],
    ['scrubPercent', 'int32', 1],
    ['differingBatches', 'int32', 2],
    ['storeState', 'string', 3],
    ['storeSilentMs', 'int64', 3],
    ['storeTrouble', 'string', 3, { nullable: 3 }],
    ['wallMs', 'int64', 4],
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
    // The spans are of this topic; zeros: the broker is too old to tell.
    ['topicId', 'uuid', 0, { tag: 0, ignorable: true }],
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
 *
 * From version 1 on what is answered comes from the files, never from memory, and with `hashOnly` no records do: then
 * sizeBytes and checksum are those of the batches that lie wholly in [startOffset, endOffset), and `nextOffset` is how
 * far that could be told; where it is endOffset, of the whole range.
 */
export const segmentSync = {
  key: 1005,
  min: 0,
  max: 1,
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
    ['hashOnly', 'bool', 1],
  ],
  response: [
    ['errorCode', 'int16', 0],
    ['highWatermark', 'int64', 0],
    ['logStartOffset', 'int64', 0],
    ['nextOffset', 'int64', 0],
    ['checksum', 'int64', 0],
    ['records', 'records', 0, { nullable: 0 }],
    ['sizeBytes', 'int64', 1],
  ],
} as const

/**
 * Makes a link: topics of another cluster that match `topics` are mirrored here (daemon/links). Carried out by the controller,
 * which looks at the source first. `failure` names the StreamError; null: done.
 */
export const createLink = {
  key: 1006,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [
    ['name', 'string', 0],
    ['source', 'string[]', 0],
    ['topics', 'string[]', 0],
    ['syncConfigs', 'bool', 0],
    ['syncGroups', 'bool', 0],
    // `bytes` or `records` a second; 0: no limit.
    ['rateKind', 'string', 0],
    ['ratePerSecond', 'int64', 0],
    ['timeoutMs', 'int32', 0],
    // Topics that are there already, and follow from these offsets (by partition) on; they are fenced, and wait for `resume`.
    [
      'failback',
      {
        array: [
          ['topic', 'string', 0],
          // What this cluster's topic must be.
          ['topicId', 'uuid', 0],
          // Of the topic to be followed.
          ['sourceTopicId', 'uuid', 0],
          ['cutAt', 'int64[]', 0],
        ],
      },
      0,
    ],
    // Of the daemon's own user: how the source is spoken to.
    ['context', 'string', 0, { tag: 0, nullable: 0, default: null }],
  ],
  response: [
    ['failure', 'string', 0, { nullable: 0, default: null }],
    ['message', 'string', 0, { nullable: 0, default: null }],
    ['topics', 'string[]', 0],
  ],
} as const

/** `action`: pause, resume, promote, unlink. Of some topics (null: all, and the link itself). By the controller. */
export const alterLink = {
  key: 1007,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  request: [
    ['name', 'string', 0],
    ['action', 'string', 0],
    ['topics', 'string[]', 0, { nullable: 0, default: null }],
  ],
  response: [
    ['failure', 'string', 0, { nullable: 0, default: null }],
    ['message', 'string', 0, { nullable: 0, default: null }],
    ['topics', 'string[]', 0],
  ],
} as const

/**
 * Links and what they have made of their topics, as every broker knows it, and how the partitions do that this broker leads.
 * A topic that has trouble as a whole is told of by the controller.
 */
export const describeLinks = {
  key: 1008,
  min: 0,
  max: 0,
  flexibleFrom: 0,
  // null: all links.
  request: [['names', 'string[]', 0, { nullable: 0, default: null }]],
  response: [
    ['clusterId', 'string', 0],
    [
      'links',
      {
        array: [
          ['name', 'string', 0],
          ['state', 'string', 0],
          ['source', 'string[]', 0],
          ['sourceClusterId', 'string', 0],
          ['globs', 'string[]', 0],
          ['syncConfigs', 'bool', 0],
          ['syncGroups', 'bool', 0],
          ['rateKind', 'string', 0],
          ['ratePerSecond', 'int64', 0],
          ['problem', 'string', 0, { nullable: 0, default: null }],
          ['context', 'string', 0, { tag: 0, nullable: 0, default: null }],
          // Whether the controller has seen what there is at the source, and lists what matches; false of all other brokers.
          ['isTakenUp', 'bool', 0, { tag: 1, default: true }],
          [
            'topics',
            {
              array: [
                ['name', 'string', 0],
                ['state', 'string', 0],
                ['sourceTopicId', 'uuid', 0],
                // Ids of the clusters it comes through; empty once it is promoted.
                ['path', 'string[]', 0],
                ['problem', 'string', 0, { nullable: 0, default: null }],
                ['partitionCount', 'int32', 0],
                [
                  'partitions',
                  {
                    array: [
                      ['partition', 'int32', 0],
                      ['state', 'string', 0],
                      ['sourceEnd', 'int64', 0],
                      ['logStart', 'int64', 0],
                      ['logEnd', 'int64', 0],
                      ['highWatermark', 'int64', 0],
                      // For so long there has been something that is not here.
                      ['behindMs', 'int64', 0],
                      // How long ago the source was heard of it; −1: never.
                      ['heardMs', 'int64', 0],
                      ['promotedOffset', 'int64', 0],
                      ['promotedEpoch', 'int32', 0],
                      ['error', 'string', 0, { nullable: 0, default: null }],
                      // Of the source's offsets; from logEnd on transactions are not whole yet. −1: not told.
                      ['received', 'int64', 0, { tag: 0, default: -1 }],
                      // From here to promotedOffset transactions were aborted that were open; −1: not told, or not promoted.
                      ['settledOffset', 'int64', 0, { tag: 1, default: -1 }],
                    ],
                  },
                  0,
                ],
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
