/**
 * Durations, sizes, rates, counts, partition lists and escaped texts as flags spell them (commands.md, section 2).
 *
 * Every reader returns undefined for a text that is not of its form; the caller names the flag in its error.
 */

const durationMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}

/** `500ms 5s 10m 2h 3d 1w`, joined `1d12h`, with fractions `1.5s`. @returns whole milliseconds */
export function parseDuration(text: string): number | undefined {
  if (!/^(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+$/.test(text)) return undefined
  let totalMs = 0
  for (const [, count, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/g)) {
    totalMs += Number(count) * (durationMs[unit ?? ''] ?? Number.NaN)
  }
  totalMs = Math.round(totalMs)
  return Number.isSafeInteger(totalMs) ? totalMs : undefined
}

const sizeBytes: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  K: 2 ** 10,
  KiB: 2 ** 10,
  M: 2 ** 20,
  MiB: 2 ** 20,
  G: 2 ** 30,
  GiB: 2 ** 30,
  T: 2 ** 40,
  TiB: 2 ** 40,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
}

/** `512 64KiB 8MiB 1GiB`; `K M G T` the same; `kB MB GB TB` decimal. @returns whole bytes */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([A-Za-z]*)$/.exec(text)
  const unit = match === null ? undefined : sizeBytes[match[2] ?? '']
  if (match === null || unit === undefined) return undefined
  const bytes = Math.round(Number(match[1]) * unit)
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

export interface Rate {
  readonly unit: 'records' | 'bytes'
  readonly perSecond: number
}

/** `1000/s` is records, `5MiB/s` bytes; also per `m` and `h`. */
export function parseRate(text: string): Rate | undefined {
  const match = /^(.+)\/([smh])$/.exec(text)
  if (match === null) return undefined
  const seconds = (durationMs[match[2] ?? ''] ?? Number.NaN) / 1000
  const amount = match[1] ?? ''
  const count = parseSize(amount)
  if (count === undefined || count === 0) return undefined
  return { unit: /[A-Za-z]/.test(amount) ? 'bytes' : 'records', perSecond: count / seconds }
}

/** A whole number from 0 up. */
export function parseCount(text: string): number | undefined {
  if (!/^\d+$/.test(text)) return undefined
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : undefined
}

/** `0,2-4`: rising and without repeats, however it was written. At most 100000 numbers. */
export function parsePartitions(text: string): number[] | undefined {
  const partitions = new Set<number>()
  for (const part of text.split(',')) {
    const match = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part)
    if (match === null) return undefined
    const first = Number(match[1])
    const last = match[2] === undefined ? first : Number(match[2])
    if (last < first || last - first >= 100_000) return undefined
    for (let partition = first; partition <= last; partition += 1) partitions.add(partition)
  }
  return [...partitions].sort((left, right) => left - right)
}

/**
 * A delimiter or separator: the text in UTF-8, with `\n \t \r \0 \\ \xHH`.
 * @returns undefined for an unknown escape or an empty text
 */
export function parseEscapes(text: string): Uint8Array | undefined {
  const bytes: number[] = []
  for (let at = 0; at < text.length; ) {
    if (text[at] !== '\\') {
      const character = String.fromCodePoint(text.codePointAt(at) ?? 0)
      bytes.push(...Buffer.from(character, 'utf8'))
      at += character.length
      continue
    }
    const escaped = text[at + 1]
    if (escaped === 'x') {
      const hex = text.slice(at + 2, at + 4)
      if (!/^[0-9A-Fa-f]{2}$/.test(hex)) return undefined
      bytes.push(Number.parseInt(hex, 16))
      at += 4
      continue
    }
    const byte = { n: 10, t: 9, r: 13, '0': 0, '\\': 92 }[escaped ?? '']
    if (byte === undefined) return undefined
    bytes.push(byte)
    at += 2
  }
  return bytes.length === 0 ? undefined : Uint8Array.from(bytes)
}

/** Bytes for a person: `512 B`, `1.5 KiB`. */
export function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1
  return `${value.toFixed(digits)} ${units[unit]}`
}

/** The two largest units of a duration: `1d12h`, `5m3s`, `250ms`. */
export function formatDuration(durationInMs: number): string {
  if (durationInMs < 1000) return `${Math.round(durationInMs)}ms`
  let rest = Math.floor(durationInMs / 1000)
  const parts: string[] = []
  for (const [unit, seconds] of [
    ['d', 86_400],
    ['h', 3_600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(rest / seconds)
    rest -= count * seconds
    if (count > 0) parts.push(`${count}${unit}`)
  }
  return parts.slice(0, 2).join('')
}
