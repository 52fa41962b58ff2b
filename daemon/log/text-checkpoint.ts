/**
 * Kafka's text checkpoints (kafka-protocol.md section 7.7): line 1 the version 0, line 2 the count, then one entry a
 * line. A file that does not hold exactly what its count says is refused as a whole.
 */
import { Buffer } from 'node:buffer'

export interface OffsetEntry {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

export interface EpochEntry {
  readonly epoch: number
  readonly startOffset: number
}

export function encodeOffsetFile(entries: readonly OffsetEntry[]): Uint8Array {
  return encodeLines(entries.map((entry) => `${entry.topic} ${entry.partition} ${entry.offset}`))
}

/** @returns undefined when any line is not as it must be */
export function parseOffsetFile(text: string): readonly OffsetEntry[] | undefined {
  const rows = parseLines(text, 3)
  if (rows === undefined) return undefined
  const entries: OffsetEntry[] = []
  for (const [topic, partitionText, offsetText] of rows) {
    const partition = parseCount(partitionText)
    const offset = parseCount(offsetText)
    if (topic === undefined || partition === undefined || offset === undefined) return undefined
    entries.push({ topic, partition, offset })
  }
  return entries
}

export function encodeEpochFile(entries: readonly EpochEntry[]): Uint8Array {
  return encodeLines(entries.map((entry) => `${entry.epoch} ${entry.startOffset}`))
}

/** @returns undefined when any line is not as it must be, or epochs and offsets do not rise */
export function parseEpochFile(text: string): readonly EpochEntry[] | undefined {
  const rows = parseLines(text, 2)
  if (rows === undefined) return undefined
  const entries: EpochEntry[] = []
  for (const [epochText, offsetText] of rows) {
    const epoch = parseCount(epochText)
    const startOffset = parseCount(offsetText)
    const before = entries.at(-1)
    if (epoch === undefined || startOffset === undefined || epoch > 0x7fffffff) return undefined
    if (before !== undefined && (epoch <= before.epoch || startOffset < before.startOffset)) {
      return undefined
    }
    entries.push({ epoch, startOffset })
  }
  return entries
}

function encodeLines(lines: readonly string[]): Uint8Array {
  return Buffer.from(`0\n${lines.length}\n${lines.map((line) => `${line}\n`).join('')}`)
}

function parseLines(text: string, fields: number): readonly (readonly string[])[] | undefined {
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  if (lines[0] !== '0' || parseCount(lines[1]) !== lines.length - 2) return undefined
  const rows = lines.slice(2).map((line) => line.split(' '))
  return rows.every((row) => row.length === fields) ? rows : undefined
}

function parseCount(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,16}$/.test(text)) return undefined
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : undefined
}
