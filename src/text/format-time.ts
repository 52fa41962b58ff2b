/** Times as `%d{s}`, `%d{iso}` and `%d{strftime[…]}` print them: UTC, or local time. Pure: formats a given moment. */

export type TimePattern =
  | { readonly kind: 'seconds' }
  | { readonly kind: 'iso'; readonly isLocal: boolean }
  | { readonly kind: 'strftime'; readonly isLocal: boolean; readonly parts: readonly TimePart[] }

/** A literal, or a letter of strftime. */
type TimePart = { readonly literal: string } | { readonly letter: string }

/** Letters that stand for others. */
const composed: Readonly<Record<string, string>> = {
  F: '%Y-%m-%d',
  T: '%H:%M:%S',
  R: '%H:%M',
  D: '%m/%d/%y',
  c: '%a %b %e %H:%M:%S %Y',
  x: '%m/%d/%y',
  X: '%H:%M:%S',
  r: '%I:%M:%S %p',
  h: '%b',
}
const letters = 'YmdHMSyjeIpaAbBsLfzZunwGVCt'

/**
 * @param refuse  called with the place, from 0, of a letter that is not known; does not return
 */
export function parseTimePattern(
  text: string,
  refuse: (at: number, message: string) => never,
): TimePattern {
  const parts: TimePart[] = []
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at] as string
    if (character !== '%') {
      parts.push({ literal: character })
      continue
    }
    at += 1
    const letter = text[at]
    if (letter === undefined) refuse(at - 1, 'strftime: a % at the end')
    else if (letter === '%') parts.push({ literal: '%' })
    else if (Object.hasOwn(composed, letter)) {
      const inner = parseTimePattern(composed[letter] ?? '', refuse)
      if (inner.kind === 'strftime') parts.push(...inner.parts)
    } else if (letters.includes(letter)) parts.push({ letter })
    else refuse(at - 1, `strftime: no %${letter}`)
  }
  return { kind: 'strftime', isLocal: false, parts }
}

/** @param ms  milliseconds since 1970; below 0: the record has none, which prints as `-` (seconds: `-1`) */
export function formatMoment(pattern: TimePattern, ms: number): string {
  if (ms < 0 || ms > 8.64e15) return pattern.kind === 'seconds' ? '-1' : '-'
  switch (pattern.kind) {
    case 'seconds':
      return `${Math.floor(ms / 1000)}.${digits(ms % 1000, 3)}`
    case 'iso':
      return pattern.isLocal ? localIso(ms) : new Date(ms).toISOString()
    case 'strftime': {
      const moment = new Moment(ms, pattern.isLocal)
      return pattern.parts
        .map((part) => ('literal' in part ? part.literal : moment.letter(part.letter)))
        .join('')
    }
  }
}

function localIso(ms: number): string {
  const moment = new Moment(ms, true)
  const zone = moment.zone
  return `${moment.date.toISOString().slice(0, -1)}${zone.slice(0, 3)}:${zone.slice(3)}`
}

function digits(value: number, count: number): string {
  return String(value).padStart(count, '0')
}

const dayNames = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const monthNames = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
]
const DAY_MS = 86_400_000

class Moment {
  /** The wall clock of the zone, read through the UTC methods. */
  readonly date: Date
  /** `+0100` */
  readonly zone: string
  readonly #ms: number

  constructor(ms: number, isLocal: boolean) {
    this.#ms = ms
    const offsetMinutes = isLocal ? -new Date(ms).getTimezoneOffset() : 0
    this.date = new Date(ms + offsetMinutes * 60_000)
    const size = Math.abs(offsetMinutes)
    const sign = offsetMinutes < 0 ? '-' : '+'
    this.zone = `${sign}${digits(Math.floor(size / 60), 2)}${digits(size % 60, 2)}`
  }

  letter(letter: string): string {
    const { date } = this
    switch (letter) {
      case 'Y':
        return String(date.getUTCFullYear())
      case 'C':
        return digits(Math.floor(date.getUTCFullYear() / 100), 2)
      case 'y':
        return digits(date.getUTCFullYear() % 100, 2)
      case 'm':
        return digits(date.getUTCMonth() + 1, 2)
      case 'd':
        return digits(date.getUTCDate(), 2)
      case 'e':
        return String(date.getUTCDate()).padStart(2, ' ')
      case 'H':
        return digits(date.getUTCHours(), 2)
      case 'I':
        return digits(date.getUTCHours() % 12 || 12, 2)
      case 'p':
        return date.getUTCHours() < 12 ? 'AM' : 'PM'
      case 'M':
        return digits(date.getUTCMinutes(), 2)
      case 'S':
        return digits(date.getUTCSeconds(), 2)
      case 'L':
        return digits(date.getUTCMilliseconds(), 3)
      case 'f':
        return digits(date.getUTCMilliseconds() * 1000, 6)
      case 's':
        return String(Math.floor(this.#ms / 1000))
      case 'j':
        return digits(this.#dayOfYear() + 1, 3)
      case 'a':
        return (dayNames[date.getUTCDay()] ?? '').slice(0, 3)
      case 'A':
        return dayNames[date.getUTCDay()] ?? ''
      case 'b':
        return (monthNames[date.getUTCMonth()] ?? '').slice(0, 3)
      case 'B':
        return monthNames[date.getUTCMonth()] ?? ''
      case 'u':
        return String(date.getUTCDay() || 7)
      case 'w':
        return String(date.getUTCDay())
      case 'G':
        return String(this.#isoWeek().year)
      case 'V':
        return digits(this.#isoWeek().week, 2)
      case 'z':
        return this.zone
      case 'Z':
        return this.zone === '+0000' ? 'UTC' : this.zone
      case 'n':
        return '\n'
      case 't':
        return '\t'
      default:
        return ''
    }
  }

  #dayOfYear(): number {
    const startMs = Date.UTC(this.date.getUTCFullYear(), 0, 1)
    return Math.floor((this.date.getTime() - startMs) / DAY_MS)
  }

  /** A week belongs to the year that has its Thursday. */
  #isoWeek(): { readonly year: number; readonly week: number } {
    const daysToThursday = 4 - (this.date.getUTCDay() || 7)
    const thursday = new Date(this.date.getTime() + daysToThursday * DAY_MS)
    const year = thursday.getUTCFullYear()
    const days = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / DAY_MS)
    return { year, week: Math.floor(days / 7) + 1 }
  }
}
