/** The lines by which a child of the ack barrier says what is done (commands.md, section 5 pipe). */

/** Everything of a partition up to an offset, that one included. */
export interface OffsetAck {
  /** Undefined: of the only input topic. */
  readonly topic: string | undefined
  readonly partition: number
  readonly offset: number
}

export type AckWord =
  | { readonly kind: 'lines'; readonly count: number }
  | { readonly kind: 'offsets'; readonly offsets: readonly OffsetAck[] }
  | {
      readonly kind: 'nack'
      readonly line: number
      readonly isDead: boolean
      readonly reason: string
    }
  | { readonly kind: 'state'; readonly json: string }
  /** `offset`: the next one that the child wants. */
  | { readonly kind: 'ready'; readonly resume: readonly OffsetAck[] }
  | { readonly kind: 'error'; readonly isFatal: boolean; readonly text: string }
  | { readonly kind: 'beat' }

/** @returns undefined for a line that is none of them */
export function parseAckWord(line: string): AckWord | undefined {
  const [, word = '', rest = ''] = /^([a-z]+)(?: (.*))?$/s.exec(line) ?? []
  switch (word) {
    case 'ack':
      return parseAck(rest)
    case 'nack': {
      const match = /^(\d{1,15}) (retry|dead)(?: (.*))?$/s.exec(rest)
      if (match === null) return undefined
      const [, count, what, reason = ''] = match
      return { kind: 'nack', line: Number(count), isDead: what === 'dead', reason }
    }
    case 'state':
      return parseJson(rest) === undefined ? undefined : { kind: 'state', json: rest }
    case 'ready':
      return parseReady(rest)
    case 'error': {
      const match = /^(fatal|retry)(?: (.*))?$/s.exec(rest)
      if (match === null) return undefined
      return { kind: 'error', isFatal: match[1] === 'fatal', text: match[2] ?? '' }
    }
    case 'beat':
      return { kind: 'beat' }
    default:
      return undefined
  }
}

function parseAck(rest: string): AckWord | undefined {
  if (/^\d{1,15}$/.test(rest)) return { kind: 'lines', count: Number(rest) }
  const offsets: OffsetAck[] = []
  for (const part of rest.split(/ +/)) {
    const match = /^(?:(.+)\/)?(\d{1,9}):(\d{1,15})$/.exec(part)
    if (match === null) return undefined
    offsets.push({ topic: match[1], partition: Number(match[2]), offset: Number(match[3]) })
  }
  return { kind: 'offsets', offsets }
}

function parseReady(rest: string): AckWord | undefined {
  const body = rest === '' ? {} : parseJson(rest)
  if (typeof body !== 'object' || body === null) return undefined
  const { resume = {} } = body as { resume?: unknown }
  if (typeof resume !== 'object' || resume === null) return undefined
  const found: OffsetAck[] = []
  for (const [name, offset] of Object.entries(resume)) {
    const match = /^(?:(.+)\/)?(\d{1,9})$/.exec(name)
    if (match === null || !Number.isSafeInteger(offset)) return undefined
    found.push({ topic: match[1], partition: Number(match[2]), offset: Number(offset) })
  }
  return { kind: 'ready', resume: found }
}

/** @returns undefined if it is none; the JSON `null` as null */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
