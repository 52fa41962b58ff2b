/**
 * What a partition log reads of a topic's config. src/config/topic-config.ts parses it from texts; a TopicConfig is a
 * LogConfig as it stands.
 */
import { parseTopicConfig, type TopicConfig } from '../../src/config/topic-config.ts'

export type LogConfig = Pick<
  TopicConfig,
  | 'cleanupDelete'
  | 'cleanupCompact'
  | 'retentionMs'
  | 'retentionBytes'
  | 'segmentBytes'
  | 'segmentMs'
  | 'segmentJitterMs'
  | 'segmentIndexBytes'
  | 'indexIntervalBytes'
  | 'flushMessages'
  | 'flushMs'
  | 'minCleanableDirtyRatio'
  | 'minCompactionLagMs'
  | 'maxCompactionLagMs'
  | 'deleteRetentionMs'
  | 'fileDeleteDelayMs'
>

export const defaultLogConfig: LogConfig = parseTopicConfig({})
