/** A second broker of a command: an address or `@CONTEXT` (commands.md, section 2). */

import type { Flags } from './flags.ts'

export function isBrokerName(text: string): boolean {
  return /^@[^/]+$/.test(text) || /^(ipc|tcp|kafka):\/\/./.test(text)
}

/** The same flags for another broker; '' is the broker in force. */
export function flagsForBroker(flags: Flags, place: string): Flags {
  if (place === '') return flags
  const others = flags.without('broker').without('context')
  return place.startsWith('@')
    ? others.with('context', place.slice(1))
    : others.with('broker', place)
}
