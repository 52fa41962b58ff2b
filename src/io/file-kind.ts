/** What is behind a descriptor, told from its file status alone: asking node:tty would cost its loading. */
import { fstatSync, type Stats } from 'node:fs'
import type { InputKind } from '../ports/stdio.ts'
import { ttyModule } from './lazy-modules.ts'

export function kindOfFile(descriptor: number, stat: Stats | undefined): InputKind {
  if (stat === undefined) return 'other'
  if (stat.isFIFO()) return 'pipe'
  if (stat.isFile()) return 'file'
  if (stat.isSocket()) return 'socket'
  // /dev/null and its kind are read and written like files.
  return stat.isCharacterDevice() && isTerminalDevice(descriptor, stat) ? 'terminal' : 'other'
}

export function isTerminal(descriptor: number): boolean {
  try {
    const stat = fstatSync(descriptor)
    return stat.isCharacterDevice() && isTerminalDevice(descriptor, stat)
  } catch {
    return false
  }
}

/** Major device numbers of Linux (admin-guide/devices.txt): 4 consoles and serial lines, 5 /dev/tty, 136–143 pseudo-terminals. */
function isTerminalDevice(descriptor: number, stat: Stats): boolean {
  if (process.platform !== 'linux') return ttyModule().isatty(descriptor)
  const major = (stat.rdev >>> 8) & 0xfff
  return major === 4 || major === 5 || (major >= 136 && major <= 143)
}
