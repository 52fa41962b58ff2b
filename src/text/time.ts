/**
 * Times as flags spell them (commands.md, section 4), and as output shows them.
 *
 *     TIME = now | today | yesterday | @SECONDS[.frac] | @MILLIS | 2026-03-01[T09:30[:00[.5]][Z|±hh:mm]] | 09:30
 *          | -DUR | +DUR
 *
 * Dates without a zone are local; of an hour that occurs twice the earlier one is meant. `now` is always given: no
 * function here reads a clock.
 */

import { parseDuration } from './units.ts'

/** From here on a number after `@` counts milliseconds, below it seconds. */
const MILLIS_FROM = 1e11

/**
 * @param text  a TIME
 * @param nowMs  milliseconds since 1970
 * @returns milliseconds since 1970, whole; undefined if `text` is no TIME
 */
export function parseTime(text: string, nowMs: number): number | undefined {
  switch (text) {
    case 'now':
      return nowMs
    case 'today':
      return localMidnight(nowMs, 0)
    case 'yesterday':
      return localMidnight(nowMs, -1)
    default:
  }
  switch (text[0]) {
    case '@':
      return parseEpoch(text.slice(1))
    case '-':
    case '+': {
      const durationMs = parseDuration(text.slice(1))
      if (durationMs === undefined) return undefined
      return text[0] === '-' ? nowMs - durationMs : nowMs + durationMs
    }
    default:
      return parseClock(text, nowMs) ?? parseDate(text)
  }
}

function parseEpoch(text: string): number | undefined {
  if (!/^\d{1,16}(\.\d{1,9})?$/.test(text)) return undefined
  const value = Number(text)
  const ms = value >= MILLIS_FROM ? value : value * 1000
  return Math.round(ms)
}

function localMidnight(nowMs: number, days: number): number {
  const now = new Date(nowMs)
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() + days).getTime()
}

/** `09:30`, `09:30:15`: today, local. */
function parseClock(text: string, nowMs: number): number | undefined {
  const match = /^(\d{2}):(\d{2})(?::(\d{2}))?$/.exec(text)
  if (match === null) return undefined
  const [hour, minute, second] = [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)]
  if (hour > 23 || minute > 59 || second > 59) return undefined
  const now = new Date(nowMs)
  return new Date(now.getFullYear(), now.getMonth(), now.getDate(), hour, minute, second).getTime()
}

const datePattern =
  /^(\d{4})-(\d{2})-(\d{2})(?:T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(Z|[+-]\d{2}:\d{2})?)?$/

function parseDate(text: string): number | undefined {
  const match = datePattern.exec(text)
  if (match === null) return undefined
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])]
  const [hour, minute, second] = [match[4], match[5], match[6]].map((part) => Number(part ?? 0))
  if (hour === undefined || minute === undefined || second === undefined) return undefined
  const fractionMs = Math.floor(Number(`0.${match[7] ?? '0'}`) * 1000)
  if (month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59) {
    return undefined
  }
  // Years below 100 mean the twentieth century to Date; nobody stamps records there.
  if (year < 1000 || day > new Date(Date.UTC(year, month, 0)).getUTCDate()) return undefined
  const zone = match[8]
  if (zone === undefined) {
    return new Date(year, month - 1, day, hour, minute, second, fractionMs).getTime()
  }
  const utcMs = Date.UTC(year, month - 1, day, hour, minute, second, fractionMs)
  if (zone === 'Z') return utcMs
  const [zoneHour, zoneMinute] = [Number(zone.slice(1, 3)), Number(zone.slice(4, 6))]
  if (zoneHour > 23 || zoneMinute > 59) return undefined
  const zoneMs = (zoneHour * 60 + zoneMinute) * 60_000
  return zone[0] === '+' ? utcMs - zoneMs : utcMs + zoneMs
}

/** UTC with `Z`; `-` where there is no time. */
export function formatTime(ms: number): string {
  return Number.isFinite(ms) && Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : '-'
}
