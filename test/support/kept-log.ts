/** A log whose lines tests read: `LEVEL MESSAGE key=value …`. */
import type { Log, LogFields } from '../../src/ports/log.ts'

export class KeptLog implements Log {
  readonly lines: string[] = []

  debug(message: string, fields?: LogFields): void {
    this.keep('debug', message, fields)
  }

  info(message: string, fields?: LogFields): void {
    this.keep('info', message, fields)
  }

  warn(message: string, fields?: LogFields): void {
    this.keep('warn', message, fields)
  }

  error(message: string, fields?: LogFields): void {
    this.keep('error', message, fields)
  }

  private keep(level: string, message: string, fields: LogFields = {}): void {
    const pairs = Object.entries(fields).map(([name, value]) => ` ${name}=${value}`)
    this.lines.push(`${level} ${message}${pairs.join('')}`)
  }
}
