/**
 * Diagnostic lines on a descriptor: `2026-11-02T10:00:00.000Z warn message key=value`. A pipe or socket whose reader has
 * stalled holds up nobody: lines wait, and beyond WAITING_BYTES_MAX they are dropped and counted.
 */
import { fstatSync, writeSync } from 'node:fs'
import type { Socket } from 'node:net'
import type { Log, LogFields } from '../ports/log.ts'
import { netModule } from './lazy-modules.ts'

export const logLevels = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof logLevels)[number]

const WAITING_BYTES_MAX = 256 * 1024

export class StderrLog implements Log {
  private readonly level: number
  private readonly write: (line: string) => void

  constructor(level: LogLevel = 'info', descriptor = 2) {
    this.level = logLevels.indexOf(level)
    this.write = hasReader(descriptor) ? readerWriter(descriptor) : plainWriter(descriptor)
  }

  debug(message: string, fields?: LogFields): void {
    this.print(0, message, fields)
  }

  info(message: string, fields?: LogFields): void {
    this.print(1, message, fields)
  }

  warn(message: string, fields?: LogFields): void {
    this.print(2, message, fields)
  }

  error(message: string, fields?: LogFields): void {
    this.print(3, message, fields)
  }

  private print(level: number, message: string, fields: LogFields | undefined): void {
    if (level < this.level) return
    let line = `${new Date().toISOString()} ${logLevels[level]} ${oneLine(message)}`
    if (fields !== undefined) {
      for (const [name, value] of Object.entries(fields)) {
        if (value !== undefined) line += ` ${name}=${quoted(String(value))}`
      }
    }
    this.write(`${line}\n`)
  }
}

function hasReader(descriptor: number): boolean {
  try {
    const stat = fstatSync(descriptor)
    return stat.isFIFO() || stat.isSocket()
  } catch {
    return false
  }
}

function plainWriter(descriptor: number): (line: string) => void {
  return (line) => {
    try {
      writeSync(descriptor, line)
    } catch {
      // A diagnostic that cannot be written has nobody to be told to, and must not stop the work it is about.
    }
  }
}

/** What the pipe takes is written at once, so nothing waits when a process ends whose reader keeps up. */
function readerWriter(descriptor: number): (line: string) => void {
  let socket: Socket | undefined = new (netModule().Socket)({
    fd: descriptor,
    readable: false,
    writable: true,
  })
  let dropped = 0
  socket.unref()
  socket.on('error', () => {
    // Nobody reads any more. libuv leaves descriptors 0 to 2 open, so no file is ever opened in their place.
    socket = undefined
  })
  return (line) => {
    if (socket === undefined) return
    if (socket.writableLength + line.length > WAITING_BYTES_MAX) {
      dropped += 1
      return
    }
    if (dropped > 0 && socket.writableLength === 0) {
      const said = `${dropped} lines of this log were dropped: nobody read it`
      socket.write(`${new Date().toISOString()} warn ${said}\n`)
      dropped = 0
    }
    socket.write(line)
  }
}

/** Keeps foreign text from forging lines. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (character) => JSON.stringify(character).slice(1, -1))
}

function quoted(value: string): string {
  return value === '' || /[\s="\p{Cc}]/u.test(value) ? JSON.stringify(value) : value
}
