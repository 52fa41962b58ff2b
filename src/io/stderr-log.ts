/** Diagnostic lines on a descriptor: `2026-11-02T10:00:00.000Z warn message key=value`. */
import { writeSync } from 'node:fs'
import type { Log, LogFields } from '../ports/log.ts'

export const logLevels = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof logLevels)[number]

export class StderrLog implements Log {
  private readonly level: number
  private readonly descriptor: number

  constructor(level: LogLevel = 'info', descriptor = 2) {
    this.level = logLevels.indexOf(level)
    this.descriptor = descriptor
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
    try {
      writeSync(this.descriptor, `${line}\n`)
    } catch {
      // A diagnostic that cannot be written has nobody to be told to, and must not stop the work it is about.
    }
  }
}

/** Keeps foreign text from forging lines. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (character) => JSON.stringify(character).slice(1, -1))
}

function quoted(value: string): string {
  return value === '' || /[\s="\p{Cc}]/u.test(value) ? JSON.stringify(value) : value
}
