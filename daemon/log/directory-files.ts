/**
 * The small files of a data directory: who it is, how the last run ended, in which boot it ran.
 *
 *   meta.properties        Kafka's: version=1, cluster.id, node.id, directory.id
 *   .kafka_cleanshutdown   Kafka's JSON, with ours beside it: written last at a clean end, removed first at a start
 *   stream-boot            `boot <boot id>`, `recovered yes|no`, CRC-32C in hexadecimal of the lines before
 *   stream-failed          there when a sync failed
 *   stream-ballast         nothing: space that is given up on a full disk (ballast.ts)
 *   stream-scrub           `began <ms>`, `ended <ms>`, `at <partition> <offset>`, CRC-32C of the lines before
 *
 * Unreadable means unknown: an unreadable meta.properties stops the start, an unreadable clean marker is none.
 */
import { Buffer } from 'node:buffer'
import { StreamError } from '../../src/base/errors.ts'
import type { Disk } from '../../src/ports/disk.ts'
import { crc32c } from '../../src/record/crc32c.ts'

export const META_NAME = 'meta.properties'
export const CLEAN_NAME = '.kafka_cleanshutdown'
export const BOOT_NAME = 'stream-boot'
export const SCRUB_NAME = 'stream-scrub'
export const FAILED_NAME = 'stream-failed'
export const BALLAST_NAME = 'stream-ballast'

export interface DirectoryMeta {
  readonly clusterId: string
  readonly nodeId: number
  readonly directoryId: string
}

export function encodeMeta(meta: DirectoryMeta): Uint8Array {
  const lines = [
    '#',
    'version=1',
    `cluster.id=${meta.clusterId}`,
    `node.id=${meta.nodeId}`,
    `directory.id=${meta.directoryId}`,
  ]
  return Buffer.from(`${lines.join('\n')}\n`)
}

/** @throws StreamError DATA_DIRECTORY_INVALID */
export function parseMeta(path: string, bytes: Uint8Array): DirectoryMeta {
  const values = new Map<string, string>()
  for (const line of Buffer.from(bytes).toString('utf8').split('\n')) {
    const equals = line.indexOf('=')
    if (!line.startsWith('#') && equals > 0) {
      values.set(line.slice(0, equals).trim(), line.slice(equals + 1).trim())
    }
  }
  const clusterId = values.get('cluster.id')
  const directoryId = values.get('directory.id')
  const nodeText = values.get('node.id') ?? ''
  if (
    values.get('version') !== '1' ||
    clusterId === undefined ||
    directoryId === undefined ||
    !/^\d{1,10}$/.test(nodeText)
  ) {
    throw new StreamError('DATA_DIRECTORY_INVALID', `${path}: cannot be read`, {
      target: path,
      hint: 'restore it from a backup: it says to which cluster these data belong',
    })
  }
  return { clusterId, nodeId: Number(nodeText), directoryId }
}

export interface CleanShutdown {
  /** −1: not known (a Kafka broker wrote it). */
  readonly dataEpoch: number
  readonly bootId: string | undefined
}

export function encodeCleanShutdown(clean: CleanShutdown): Uint8Array {
  const stream = { dataEpoch: clean.dataEpoch, bootId: clean.bootId ?? '' }
  const crc = crcText(JSON.stringify(stream))
  return Buffer.from(`${JSON.stringify({ version: 0, brokerEpoch: -1, stream, crc32c: crc })}\n`)
}

/** @returns undefined for anything but a whole valid marker */
export function parseCleanShutdown(bytes: Uint8Array): CleanShutdown | undefined {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { version, stream, crc32c: crc } = value as Record<string, unknown>
  if (version !== 0) return undefined
  if (stream === undefined) return { dataEpoch: -1, bootId: undefined }
  if (typeof stream !== 'object' || stream === null) return undefined
  if (crc !== crcText(JSON.stringify(stream))) return undefined
  const { dataEpoch, bootId } = stream as Record<string, unknown>
  if (!Number.isSafeInteger(dataEpoch) || typeof bootId !== 'string') return undefined
  return { dataEpoch: dataEpoch as number, bootId: bootId === '' ? undefined : bootId }
}

export interface BootRecord {
  /** Empty: not known. */
  readonly bootId: string
  /** Every log was recovered in this boot; before that, the losses of the boot before may still lie in some. */
  readonly recovered: boolean
}

export function encodeBoot(boot: BootRecord): Uint8Array {
  const text = `boot ${boot.bootId}\nrecovered ${boot.recovered ? 'yes' : 'no'}\n`
  return Buffer.from(`${text}${crcText(text)}\n`)
}

export function parseBoot(bytes: Uint8Array): BootRecord | undefined {
  const text = Buffer.from(bytes).toString('utf8')
  const match = /^(boot (\S*)\nrecovered (yes|no)\n)([0-9a-f]{8})\n$/.exec(text)
  if (match === null || crcText(match[1] ?? '') !== match[4]) return undefined
  return { bootId: match[2] ?? '', recovered: match[3] === 'yes' }
}

/** Where the scrubber stands; lost, it costs reading something twice. */
export interface ScrubRecord {
  /** Wall time at which the pass under way began, or the last one; 0: there was none. */
  readonly beganMs: number
  /** Wall time at which the last whole pass ended; 0: there was none. */
  readonly endedMs: number
  /** The pass under way: name of the partition's directory, and the offset below which it was read. */
  readonly place: { readonly name: string; readonly offset: number } | undefined
}

export function encodeScrub({ beganMs, endedMs, place }: ScrubRecord): Uint8Array {
  const at = place === undefined ? '' : `at ${place.name} ${place.offset}\n`
  const text = `began ${beganMs}\nended ${endedMs}\n${at}`
  return Buffer.from(`${text}${crcText(text)}\n`)
}

/** @returns undefined for anything but a whole valid record */
export function parseScrub(bytes: Uint8Array): ScrubRecord | undefined {
  const text = Buffer.from(bytes).toString('utf8')
  const match =
    /^(began (\d{1,15})\nended (\d{1,15})\n(?:at (\S{1,260}) (\d{1,15})\n)?)([0-9a-f]{8})\n$/.exec(
      text,
    )
  if (match === null || crcText(match[1] ?? '') !== match[6]) return undefined
  const [, , beganMs, endedMs, name, offset] = match
  const place = name === undefined ? undefined : { name, offset: Number(offset) }
  return { beganMs: Number(beganMs), endedMs: Number(endedMs), place }
}

/** @param since  partition epoch at which this replica was given here; 0: with the partition itself */
export function encodePartitionMetadata(topicId: string, since = 0): Uint8Array {
  const given = since === 0 ? '' : `\nstream_since: ${since}`
  return Buffer.from(`version: 0\ntopic_id: ${topicId}${given}`)
}

/** @returns undefined when it is not what it must be */
export function parsePartitionMetadata(bytes: Uint8Array): string | undefined {
  return matchMetadata(bytes)?.[1]
}

/** Partition epoch at which the replica was given here; 0 where it does not say. */
export function parsePartitionSince(bytes: Uint8Array): number {
  return Number(matchMetadata(bytes)?.[2] ?? 0)
}

function matchMetadata(bytes: Uint8Array): RegExpExecArray | null {
  const text = Buffer.from(bytes).toString('utf8')
  return /^version: 0\ntopic_id: ([A-Za-z0-9_-]{21}[AQgw])\n?(?:stream_since: (\d{1,15})\n?)?$/.exec(
    text,
  )
}

export interface PartitionDirectory {
  readonly topic: string
  readonly partition: number
}

/** @returns undefined for every other name, those of deleted and stray partitions among them */
export function parsePartitionDirectory(name: string): PartitionDirectory | undefined {
  const match = /^([a-zA-Z0-9._-]{1,249})-(\d{1,10})$/.exec(name)
  if (match === null) return undefined
  return { topic: match[1] ?? '', partition: Number(match[2]) }
}

/** Leftovers of deleted partitions. */
export function isDeletedDirectory(name: string): boolean {
  return /^.+\.[0-9a-f]{32}-delete$/.test(name)
}

/** Set aside: this broker holds the partition no more. */
export function isStrayDirectory(name: string): boolean {
  return /^.+\.[0-9a-f]{32}-stray$/.test(name)
}

/** Anything that only a used data directory has. */
export function holdsData(disk: Disk, path: string): boolean {
  return disk
    .list(path)
    .some(
      (name) =>
        parsePartitionDirectory(name) !== undefined ||
        name.startsWith('durable-marks.') ||
        name.startsWith('stream-checkpoint.'),
    )
}

function crcText(text: string): string {
  return crc32c(Buffer.from(text)).toString(16).padStart(8, '0')
}
